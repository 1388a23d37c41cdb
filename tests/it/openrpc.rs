//! What is documented is what is served.

use std::collections::BTreeSet;

use jsonrpsee::{core::client::ClientT, http_client::HttpClientBuilder};
use lockstep_node::dev::DevOptions;
use serde_json::Value;

use crate::{
    chain::NONE,
    world::{World, options},
};

/// What OpenRPC itself asks for, which no document lists.
const DISCOVER: &str = "rpc.discover";

fn names(document: &Value, on_rollup: bool) -> BTreeSet<String> {
    let methods = document["methods"].as_array().expect("the document lists methods");
    let of_rollup = |method: &&Value| method.get("servers").is_some() == on_rollup;
    methods.iter().filter(of_rollup).filter_map(|method| method["name"].as_str()).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_document_names_every_method_that_is_served_and_no_other() {
    // With everything that is served only where it is wanted.
    let world = World::start(DevOptions { encrypted: true, ..options() }).await;
    let client = HttpClientBuilder::default().build(world.url()).expect("the URL is one");
    let document: Value = client.request(DISCOVER, NONE).await.expect("the document is served");
    let served: BTreeSet<String> =
        world.methods().iter().filter(|name| **name != DISCOVER).map(|name| (*name).to_owned()).collect();
    assert_eq!(names(&document, false), served);
    for method in names(&document, true) {
        let chain = world.chain(0);
        let refused = chain.refusal_code(&method).await;
        assert_ne!(refused, -32601, "{method} is documented for a rollup and not served there");
    }
}
