//! Finding out whether an execution client serves flashblocks.
//!
//! With flashblocks parts of a block are public before the block is asked for, so a list can no longer be put into it.

use std::{sync::OnceLock, time::Duration};

use hyper::StatusCode;
use serde_json::json;

use super::{Refusal, upstream::Upstream};

/// What names clients and modules that serve flashblocks, in lower case.
const MARKS: [&str; 3] = ["flashblocks", "op-rbuilder", "rollup-boost"];

/// What is known of the client. Nothing before it was reached for the first time.
#[derive(Debug, Default)]
pub(super) struct Flashblocks {
    found: OnceLock<Option<&'static str>>,
}

impl Flashblocks {
    /// Asks the client what it is, once.
    ///
    /// # Errors
    /// [`Refusal::Flashblocks`] when it names itself so, and why it could not be asked.
    pub(super) async fn check(&self, engine: &Upstream, limit: Duration) -> Result<(), Refusal> {
        let found = match self.found.get() {
            Some(found) => *found,
            None => {
                let found = ask(engine, limit).await?;
                *self.found.get_or_init(|| found)
            }
        };
        found.map_or(Ok(()), |mark| Err(Refusal::Flashblocks(mark.to_owned())))
    }
}

/// Not every client serves every one of these on its engine port; an error is an answer too, and names nothing.
async fn ask(engine: &Upstream, limit: Duration) -> Result<Option<&'static str>, Refusal> {
    let own = json!({ "code": "LS", "name": "lockstep", "version": env!("CARGO_PKG_VERSION"), "commit": "0x00000000" });
    let questions = [
        ("web3_clientVersion", json!([])),
        ("rpc_modules", json!([])),
        // Execution APIs, engine/identification.
        ("engine_getClientVersionV1", json!([own])),
    ];
    for (method, params) in questions {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let answer = engine.send(body.into(), limit).await?;
        if answer.status == StatusCode::UNAUTHORIZED || answer.status == StatusCode::FORBIDDEN {
            return Err(Refusal::Unauthorized(answer.status.to_string()));
        }
        let text = String::from_utf8_lossy(&answer.body).to_lowercase();
        if let Some(mark) = MARKS.into_iter().find(|mark| text.contains(mark)) {
            return Ok(Some(mark));
        }
    }
    Ok(None)
}
