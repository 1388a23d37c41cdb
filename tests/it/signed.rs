//! Requests over plain HTTP: signed as a whole, or to a path of their own.

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
    let answer = exchange(address, &format!("{head}{length}{signed}\r\n{body}")).await;
    let (begin, end) = (answer.find('{').expect("JSON begins"), answer.rfind('}').expect("and ends"));
    serde_json::from_str(&answer[begin..=end]).expect("the answer is JSON")
}

/// Asks for something at a URL, or posts something there. The status, and the answer where it is JSON.
pub(crate) async fn request(url: &str, body: Option<&str>) -> (u16, Value) {
    let (address, path) = url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).expect("an HTTP URL with a path");
    let (method, body) = body.map_or(("GET", ""), |body| ("POST", body));
    let length = body.len();
    let head = format!("{method} /{path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    let answer = exchange(address, &(head + body)).await;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line");
    let content = answer.split_once("\r\n\r\n").map_or("", |(_, content)| content);
    (status, serde_json::from_str(content).unwrap_or_default())
}

async fn exchange(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("the process listens");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it answers");
    answer
}
