#![no_main]
#![doc = "See `fuzz_targets::engine::socket_io`."]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz_targets::engine::socket_io::check(input));
