#![no_main]
#![doc = "See `fuzz_targets::engine::frames`."]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz_targets::engine::frames::check(input));
