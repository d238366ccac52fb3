#![no_main]
#![doc = "See `fuzz_targets::payload`."]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz_targets::payload::check(input));
