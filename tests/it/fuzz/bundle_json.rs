//! The parameter of `lockstep_sendBundle`, as arbitrary bytes. A fuzz target shares this file.

use lockstep_primitives::Rejection;
use lockstep_rpc::{RpcError, codes, from_rejection, parse, wire::BundleParams};
use serde_json::Value;

/// Reads bytes as the JSON of a bundle.
///
/// What is read is what is written again, as parameters and as a bundle; what is refused has a stable reason, in JSON. Panics
/// when that does not hold. Returns whether the bytes are a bundle.
pub(crate) fn bundle_json(data: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice::<Value>(data) else { return false };
    let params = match parse::<BundleParams>(value) {
        Ok(params) => params,
        Err(error) => {
            assert_eq!(error.code(), codes::INVALID_PARAMS, "{error}");
            let data = error.data().expect("a refusal has data");
            let told: RpcError = serde_json::from_str(data.get()).expect("the data is JSON");
            assert!(["unknown_field", "missing_field", "invalid_params"].contains(&told.reason.as_str()), "{told:?}");
            return false;
        }
    };
    let written = serde_json::to_value(&params).expect("parameters are JSON");
    assert_eq!(parse::<BundleParams>(written).as_ref().ok(), Some(&params));
    match params.into_bundle(None) {
        Ok(bundle) => {
            let again = BundleParams::from(&bundle).into_bundle(None);
            assert_eq!(again.as_ref(), Ok(&bundle));
            true
        }
        Err(rejection) => {
            check_refusal(&rejection);
            false
        }
    }
}

fn check_refusal(rejection: &Rejection) {
    let error = from_rejection(rejection);
    let data = error.data().expect("a refusal has data");
    let told: RpcError = serde_json::from_str(data.get()).expect("the data is JSON");
    assert_eq!(told.reason, rejection.reason.code());
    assert!(!told.hint.is_empty(), "{told:?}");
}
