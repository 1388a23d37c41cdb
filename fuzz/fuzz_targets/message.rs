//! See `lockstep_testkit::fuzz::message`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use lockstep_testkit::fuzz;

fuzz_target!(|data: &[u8]| {
    fuzz::message(data);
});
