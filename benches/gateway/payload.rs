//! What is sent: Bird's text messages of about 1 KiB with ids of their own, signed and written out before the clock starts.
//!
//! A message's id holds its number, so that the sink can tell from a delivery which message it is without a look-up.

use anyhow::{Context, Result};
use birdwire::adapter;
use birdwire::app::system_clock;
use birdwire::domain::secret::Secret;
use birdwire::domain::time::Timestamp;
use std::io::Write as _;

/// The account of every run.
pub(crate) const ACCOUNT: &str = "6f1f0f4e-2f6c-4d5e-9a51-0a4c5b0c9a01";
/// Where webhooks are posted to, at every contender.
pub(crate) const PATH: &str = "/v1.0/conversation/accounts/6f1f0f4e-2f6c-4d5e-9a51-0a4c5b0c9a01";
/// What Bird signs, which is not where the contender listens: so one signature fits all of them.
pub(crate) const URL: &str = "https://hooks.example.com/bird";
/// The account's signing key.
pub(crate) const KEY: &str = "bench-signing-key-0123456789abcdef";
/// The secret of every subscriber.
pub(crate) const SECRET: &str = "whsec_YmVuY2gtc2VjcmV0LWJlbmNoLXNlY3JldC0xMjM0NTY=";

/// How far apart the times of two messages are that follow each other.
const SPACING_MICROS: i64 = 100;
/// How much a provider's clock and its queues stir that order, in milliseconds.
const JITTER_MILLIS: u64 = 2_000;

const TEXT: &str = "Good morning! I ordered the blue one on Monday and was told that it would be here by Thursday. \
    Today the tracking page says that it went back to the warehouse, and nobody rang the bell. Could you please look \
    into it and tell me whether it will be sent again?";

/// Who says what, and how much of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Talk {
    /// Tells the messages of one round from those of another on the same store.
    pub(crate) round: u64,
    /// How many people write.
    pub(crate) conversations: u64,
    /// When the message with the number 0 was written.
    pub(crate) began: Timestamp,
}

impl Talk {
    /// A new round of messages that are written from now on.
    pub(crate) fn new(conversations: u64) -> Self {
        Self { round: fastrand::u64(..), conversations, began: (system_clock())() }
    }

    /// The requests of the messages `first`, `first + 1`, ...
    pub(crate) fn requests(&self, first: u64, count: usize) -> Result<Requests> {
        let bird = adapter::provider("bird").context("Bird is no provider any more")?;
        let key = Secret::new(KEY);
        let now = (system_clock())();
        let mut requests = Requests { bytes: Vec::with_capacity(count * 1_400), ends: Vec::with_capacity(count) };
        let mut body = Vec::with_capacity(1_400);
        for number in first..first + count as u64 {
            body.clear();
            self.write(number, &mut body)?;
            let bytes = &mut requests.bytes;
            write!(bytes, "POST {PATH} HTTP/1.1\r\nhost: 127.0.0.1\r\n")?;
            for (name, value) in (bird.sign)(&key, URL, &body, now) {
                write!(bytes, "{name}: {value}\r\n")?;
            }
            write!(bytes, "content-length: {}\r\n\r\n", body.len())?;
            bytes.extend_from_slice(&body);
            requests.ends.push(bytes.len());
        }
        Ok(requests)
    }

    fn write(&self, number: u64, out: &mut Vec<u8>) -> Result<()> {
        let chance = mix(self.round ^ number.rotate_left(32));
        let (high, low) = ((chance & !0xf000) | 0x4000, (0b10 << 62) | number);
        // Everybody writes once, then whoever likes to.
        let dialog = if number < self.conversations { number } else { mix(chance) % self.conversations };
        let micros = self.began.micros() + i64::try_from(number)? * SPACING_MICROS;
        let at = Timestamp::from_micros(micros + i64::try_from(mix(chance ^ 1) % JITTER_MILLIS)? * 1_000);
        let at = at.utc().context("a time out of the calendar")?.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        write!(
            out,
            r#"{{"id":"{:08x}-{:04x}-{:04x}-{:04x}-{:012x}","channelId":"a1d50881-64f5-456c-a8ae-da18c0f203da","sender":{{"contact":{{"id":"fb4bed31-cd9e-441b-b56d-6571c7ca8c30","identifierKey":"line-2005309875","identifierValue":"U{:032x}","annotations":{{"name":"Test user {dialog}"}}}}}},"receiver":{{"connector":{{"id":"e2bf1441-2edd-483f-bfa3-6d30106177c0","identifierValue":"2005309875"}}}},"body":{{"type":"text","text":{{"text":"{number}. {TEXT}"}}}},"meta":{{}},"reference":"","parts":[{{"platformReference":"518665685510651928"}}],"status":"delivered","reason":"","direction":"incoming","chargeableUnits":1,"lastStatusAt":"{at}","createdAt":"{at}","updatedAt":"{at}"}}"#,
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff,
            u128::from(mix(dialog)) << 64 | u128::from(dialog),
        )?;
        Ok(())
    }
}

/// The number of the message with this id; `None` when it is none of ours.
pub(crate) fn number(id: &[u8]) -> Option<u64> {
    let (high, low) = (std::str::from_utf8(id.get(19..23)?).ok()?, std::str::from_utf8(id.get(24..36)?).ok()?);
    let low = u64::from_str_radix(low, 16).ok()? | u64::from_str_radix(high, 16).ok()? << 48;
    (low >> 62 == 0b10).then_some(low & !(0b11 << 62))
}

/// The finalizer of SplitMix64: the same number gives the same chance.
fn mix(number: u64) -> u64 {
    let z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Requests byte for byte, one behind the other.
pub(crate) struct Requests {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Requests {
    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// One of them.
    pub(crate) fn get(&self, index: usize) -> Option<&[u8]> {
        let start = if index == 0 { 0 } else { *self.ends.get(index - 1)? };
        self.bytes.get(start..*self.ends.get(index)?)
    }
}
