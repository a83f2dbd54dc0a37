//! See the checks in this folder's library.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    birdwire_fuzz::configure(data);
});
