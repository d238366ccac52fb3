#![no_main]
#![doc = "See `fuzz_targets::jwks`."]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz_targets::jwks::check(input));
