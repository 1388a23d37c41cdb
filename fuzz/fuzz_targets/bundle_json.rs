//! See `bundle_json` in `tests/it/fuzz/bundle_json.rs`: the testkit does not know JSON-RPC.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/it/fuzz/bundle_json.rs"]
mod bundle_json;

fuzz_target!(|data: &[u8]| {
    bundle_json::bundle_json(data);
});
