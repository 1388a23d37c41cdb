//! Requests that are signed as a whole.

use lockstep_node::keys::Key;
use lockstep_rpc::sign_body;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Posts a JSON-RPC request, signed by a key if there is one.
pub(crate) async fn post(url: &str, body: &str, key: Option<&Key>) -> Value {
    let address = url.strip_prefix("http://").expect("an HTTP URL");
    let signature = key.map(|key| sign_body(key.address(), body.as_bytes(), |digest| key.sign(digest)));
    let signed = signature.map(|header| format!("x-flashbots-signature: {header}\r\n")).unwrap_or_default();
    let length = format!("content-length: {}\r\n", body.len());
    let head = format!("POST / HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\nconnection: close\r\n");
    let mut stream = TcpStream::connect(address).await.expect("the process listens");
    stream.write_all(format!("{head}{length}{signed}\r\n{body}").as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it answers");
    let (begin, end) = (answer.find('{').expect("JSON begins"), answer.rfind('}').expect("and ends"));
    serde_json::from_str(&answer[begin..=end]).expect("the answer is JSON")
}
