//! Plain HTTP beside JSON-RPC: interfaces of others that are not JSON-RPC.

use async_trait::async_trait;

/// What is asked of a [`Rest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestRequest {
    /// Whether something is handed in (`POST`); otherwise something is asked for (`GET`).
    pub post: bool,
    /// The path after the prefix, without a query.
    pub path: String,
    /// What is handed in.
    pub body: Vec<u8>,
}

/// An interface of plain HTTP that answers with JSON.
#[async_trait]
pub trait Rest: Send + Sync + 'static {
    /// What its paths begin with, as `/name/`.
    fn prefix(&self) -> &'static str;

    /// Status and JSON.
    async fn answer(&self, request: RestRequest) -> (u16, String);
}
