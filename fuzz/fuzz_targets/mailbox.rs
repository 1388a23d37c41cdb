//! See `lockstep_testkit::fuzz::mailbox`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lockstep_testkit::fuzz;

fuzz_target!(|data: &[u8]| {
    fuzz::mailbox(data);
});
