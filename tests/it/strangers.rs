//! The fuzzer's checks over what is at hand: every fixture, whole and cut, for every provider. The fuzzer itself needs
//! tools that not every machine has; these checks run everywhere.

#[expect(unreachable_pub, reason = "public for the fuzzer")]
#[path = "../../fuzz/src/lib.rs"]
mod checks;

use birdwire::domain::account::Channel;
use proptest::prelude::*;
use std::fs;
use std::path::Path;

/// The bodies of all fixtures, of both providers: each is put to the other, too.
fn bodies() -> Vec<Vec<u8>> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let providers = fs::read_dir(fixtures).unwrap();
    let cases = providers.flat_map(|provider| fs::read_dir(provider.unwrap().path()).unwrap());
    let bodies: Vec<_> = cases.map(|case| fs::read(case.unwrap().path().join("request.json")).unwrap()).collect();
    assert!(bodies.len() > 100, "{} fixtures", bodies.len());
    bodies
}

fn parse(body: &[u8]) {
    checks::parse("bird", Channel::Line, body);
    checks::parse("bird", Channel::Sms, body);
    checks::parse("line", Channel::Line, body);
}

#[test]
fn every_fixture_whole_and_cut() {
    for body in bodies() {
        parse(&body);
        for part in 1..8 {
            parse(&body[..body.len() * part / 8]);
        }
        for provider in ["bird", "line"] {
            checks::verify(provider, &body);
        }
    }
}

#[test]
fn every_configuration_whole_and_cut() {
    for text in [include_str!("../../config/default.toml"), include_str!("../../config/example.toml")] {
        for end in (0..=text.len()).step_by(97).chain([text.len()]) {
            checks::configure(text.get(..end).unwrap_or_default().as_bytes());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn anything(data: Vec<u8>) {
        parse(&data);
        checks::configure(&data);
        for provider in ["bird", "line"] {
            checks::verify(provider, &data);
        }
    }
}
