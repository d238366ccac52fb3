#![no_main]
#![doc = "See `fuzz_targets::logout`."]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz_targets::logout::check(input));
