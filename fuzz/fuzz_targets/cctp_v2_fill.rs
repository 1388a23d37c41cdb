//! See `lockstep_testkit::fuzz::cctp_v2_fill`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lockstep_testkit::fuzz;

fuzz_target!(|data: &[u8]| {
    fuzz::cctp_v2_fill(data);
});
