#![no_main]
#![doc = "See `fuzz_targets::engine::bodies`."]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz_targets::engine::bodies::check(input));
