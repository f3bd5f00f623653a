#![no_main]

#[path = "../../crates/emulator/tests/it/any_request.rs"]
mod any_request;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| any_request::check(input));
