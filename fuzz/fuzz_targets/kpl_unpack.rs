#![no_main]

#[path = "../../crates/kpl/tests/it/any_bytes.rs"]
mod any_bytes;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| any_bytes::check(input));
