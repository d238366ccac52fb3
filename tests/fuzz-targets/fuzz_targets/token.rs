#![no_main]
#![doc = "See `fuzz_targets::token`."]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz_targets::token::check(input));
