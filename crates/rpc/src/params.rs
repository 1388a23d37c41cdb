//! Parameters that are parsed by us, so that what is wrong with them has a stable reason.

use jsonrpsee::types::ErrorObjectOwned;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::invalid_params;

/// Parses a parameter object.
///
/// # Errors
/// `unknown_field`, `missing_field` or `invalid_params`, with serde's words for what and where.
pub fn parse<T: DeserializeOwned>(value: Value) -> Result<T, ErrorObjectOwned> {
    serde_json::from_value(value).map_err(|error| {
        let text = error.to_string();
        let (reason, hint) = if text.starts_with("unknown field") {
            ("unknown_field", "nothing is accepted and then ignored: remove the field or mend its name")
        } else if text.starts_with("missing field") {
            ("missing_field", "add the field")
        } else {
            ("invalid_params", "quantities and bytes are 0x-prefixed hex strings, timestamps are plain numbers of seconds")
        };
        invalid_params(reason, text, hint)
    })
}
