//! Against a server that answers as a beacon node does.

use std::time::Duration;

use hyper::StatusCode;
use lockstep_provider::{BeaconClient, ProposerDuty, ValidatorKey};
use serde_json::json;
use tokio::net::TcpListener;

use crate::http::{respond, serve};

#[tokio::test]
async fn duties_are_read_and_what_is_none_is_said_to_be() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(serve(listener, |request| async move {
        match request.uri().path() {
            "/eth/v1/validator/duties/proposer/7" => {
                let duty = |slot: u64, byte: u8| json!({ "pubkey": ValidatorKey::repeat_byte(byte), "validator_index": "1", "slot": slot.to_string() });
                let body = json!({
                    "dependent_root": alloy_primitives::B256::ZERO,
                    "execution_optimistic": false,
                    "data": [duty(224, 1), duty(225, 2)],
                });
                respond(StatusCode::OK, body.to_string().into_bytes())
            }
            "/eth/v1/validator/duties/proposer/8" => {
                respond(StatusCode::OK, br#"{"data":[{"pubkey":"0x00","slot":"256"}]}"#.to_vec())
            }
            "/eth/v1/validator/duties/proposer/9" => {
                let body = json!({ "data": [{ "pubkey": ValidatorKey::ZERO, "slot": "soon" }] });
                respond(StatusCode::OK, body.to_string().into_bytes())
            }
            _ => respond(StatusCode::BAD_REQUEST, br#"{"code":400,"message":"Invalid epoch"}"#.to_vec()),
        }
    }));
    let beacon = BeaconClient::new(&url, Duration::from_secs(5)).unwrap();
    let expected = [(224, 1), (225, 2)].map(|(slot, byte)| ProposerDuty { slot, validator: ValidatorKey::repeat_byte(byte) });
    assert_eq!(beacon.proposers(7).await.unwrap(), expected);
    assert!(beacon.proposers(8).await.unwrap_err().contains("cannot be read"));
    assert!(beacon.proposers(9).await.unwrap_err().contains("soon"));
    assert!(beacon.proposers(10).await.unwrap_err().contains("400"));
    assert!(BeaconClient::new("no address", Duration::from_secs(1)).is_err());
    let nobody = BeaconClient::new("http://127.0.0.1:9", Duration::from_secs(5)).unwrap();
    assert!(nobody.proposers(1).await.is_err());
}
