//! Gives the errors that the JSON-RPC library answers by itself a stable reason and a hint, as all others have.

use jsonrpsee::{
    core::middleware::{Batch, Notification, RpcServiceT},
    server::MethodResponse,
    types::{ErrorObjectOwned, Request},
};
use serde_json::{Value, value::RawValue};

use crate::{api::most_parameters, error::plain, invalid_params};

/// The layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReasonedLayer;

impl<S> tower::Layer<S> for ReasonedLayer {
    type Service = Reasoned<S>;

    fn layer(&self, inner: S) -> Reasoned<S> {
        Reasoned(inner)
    }
}

/// A service whose refusals of single calls all have a reason.
#[derive(Clone, Debug)]
pub(crate) struct Reasoned<S>(S);

impl<S> RpcServiceT for Reasoned<S>
where
    S: RpcServiceT<MethodResponse = MethodResponse> + Clone + Send + Sync + 'static,
{
    type MethodResponse = MethodResponse;
    type NotificationResponse = S::NotificationResponse;
    type BatchResponse = S::BatchResponse;

    fn call<'a>(&self, request: Request<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let service = self.0.clone();
        let id = request.id.clone().into_owned();
        async move {
            let given = parameters(&request);
            if let Some(most) = most_parameters(request.method_name()).filter(|most| given > *most) {
                let text = format!("{given} parameters are given, {most} are expected");
                let hint = "remove the others: nothing is accepted and then ignored";
                return MethodResponse::error(id, invalid_params("too_many_parameters", text, hint));
            }
            let response = service.call(request).await;
            match reasoned(&response) {
                Some(error) => MethodResponse::error(id, error),
                None => response,
            }
        }
    }

    fn batch<'a>(&self, requests: Batch<'a>) -> impl Future<Output = Self::BatchResponse> + Send + 'a {
        self.0.batch(requests)
    }

    fn notification<'a>(&self, notification: Notification<'a>) -> impl Future<Output = Self::NotificationResponse> + Send + 'a {
        self.0.notification(notification)
    }
}

/// How many positional parameters a request has.
fn parameters(request: &Request<'_>) -> usize {
    let text = request.params.as_ref().map_or("[]", |params| params.get());
    serde_json::from_str::<Vec<&RawValue>>(text).map_or(0, |params| params.len())
}

/// The error with a reason, when it is one of the protocol's own and has none.
fn reasoned(response: &MethodResponse) -> Option<ErrorObjectOwned> {
    let (reason, hint) = match response.as_error_code()? {
        -32601 => ("method_not_found", "rpc.discover lists the methods of /; a rollup's are at /rollup/<chainId>"),
        -32602 => ("invalid_params", "quantities and bytes are 0x-prefixed hex strings; rpc.discover describes the parameters"),
        -32600 => ("invalid_request", "a request is {\"jsonrpc\":\"2.0\",\"id\":..,\"method\":..,\"params\":[..]}"),
        _ => return None,
    };
    let answer: Value = serde_json::from_str(response.as_json().get()).ok()?;
    let error = answer.get("error")?;
    let data = error.get("data");
    if data.is_some_and(Value::is_object) {
        return None;
    }
    let text = error.get("message").and_then(Value::as_str).unwrap_or_default();
    let text = match data.and_then(Value::as_str) {
        Some(detail) => format!("{text}: {detail}"),
        None => text.to_owned(),
    };
    Some(plain(response.as_error_code()?, reason, text, hint))
}
