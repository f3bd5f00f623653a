#![no_main]

#[path = "../../crates/emulator/tests/it/any_log.rs"]
mod any_log;
#[path = "../../crates/emulator/tests/it/any_request.rs"]
#[allow(dead_code, reason = "its own target checks the requests")]
mod any_request;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| any_log::check(input));
