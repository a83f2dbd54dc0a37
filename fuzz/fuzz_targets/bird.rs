//! See the checks in this folder's library.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    birdwire_fuzz::parse("bird", birdwire::domain::account::Channel::Line, data);
    birdwire_fuzz::parse("bird", birdwire::domain::account::Channel::Sms, data);
});
