//! Both signatures of a delivery, and how a subscriber checks them.
//!
//! VoIPBIN's own covers the body alone and is kept for receivers that already know it. The one of Standard
//! Webhooks covers the event's id and the attempt's time too, so that a copy cannot be sent again later.

use crate::domain::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// What every symmetric secret of Standard Webhooks begins with; base64 of the key follows.
const ENCODED_KEY: &str = "whsec_";

/// Signs the deliveries of one subscriber, with keys that stay prepared.
#[derive(Clone)]
pub struct Signer {
    voipbin: Hmac<Sha256>,
    standard: Vec<Hmac<Sha256>>,
}

/// Why a list of secrets cannot sign. `place` counts from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// There is none.
    #[error("at least one secret is needed")]
    None,
    /// Everybody knows the empty key.
    #[error("secret {place} is empty")]
    Empty {
        /// Which one.
        place: usize,
    },
    /// It says `whsec_`, but what follows is no key.
    #[error("secret {place} begins with whsec_, but what follows is not padded standard base64")]
    NotBase64 {
        /// Which one.
        place: usize,
    },
}

impl Signer {
    /// Prepares `secrets`, the newest first.
    pub fn new(secrets: &[Secret]) -> Result<Self, SecretError> {
        let first = secrets.first().ok_or(SecretError::None)?;
        let mut standard = Vec::with_capacity(secrets.len());
        for (i, secret) in secrets.iter().enumerate() {
            standard.push(keyed(&standard_key(secret, i + 1)?, i + 1)?);
        }
        Ok(Self { voipbin: keyed(first.expose().as_bytes(), 1)?, standard })
    }

    /// The value of `X-VoIPBIN-Signature`: keyed by the first secret as text, whatever it looks like, because
    /// VoIPBIN knows no encoded secrets.
    pub fn voipbin(&self, body: &[u8]) -> String {
        let mut mac = self.voipbin.clone();
        mac.update(body);
        let mut text = String::with_capacity(71);
        text.push_str("sha256=");
        for byte in mac.finalize().into_bytes() {
            text.push(hex_digit(byte >> 4));
            text.push(hex_digit(byte & 15));
        }
        text
    }

    /// The value of `webhook-signature`: one signature for each secret, in their order.
    pub fn standard(&self, id: &str, timestamp_secs: i64, body: &[u8]) -> String {
        let timestamp = timestamp_secs.to_string();
        let mut text = String::with_capacity(48 * self.standard.len());
        for key in &self.standard {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str("v1,");
            STANDARD.encode_string(signed(key, id, &timestamp, body).finalize().into_bytes(), &mut text);
        }
        text
    }
}

/// Whether `header` is VoIPBIN's signature under `body`; takes the same time for every wrong one.
pub fn verify_voipbin(secret: &Secret, body: &[u8], header: &str) -> bool {
    let tag = header.strip_prefix("sha256=").and_then(from_hex);
    let (Some(tag), Ok(mut mac)) = (tag, keyed(secret.expose().as_bytes(), 1)) else { return false };
    mac.update(body);
    mac.verify_slice(&tag).is_ok()
}

/// Why a delivery is not to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// One of the three headers is missing or empty.
    #[error("webhook-id, webhook-timestamp or webhook-signature is missing")]
    Missing,
    /// The id has a dot, which would make the signed text ambiguous.
    #[error("webhook-id holds a dot")]
    Id,
    /// The time is no whole number of seconds.
    #[error("webhook-timestamp is not a number")]
    Timestamp,
    /// The attempt is too long ago.
    #[error("webhook-timestamp is too old")]
    TooOld,
    /// The attempt lies in the future.
    #[error("webhook-timestamp is too new")]
    TooNew,
    /// There is no signature of a version that is known here.
    #[error("webhook-signature holds no v1 signature")]
    NoSignature,
    /// No signature was made with any of the secrets.
    #[error("webhook-signature does not match")]
    Mismatch,
    /// The receiver's own secrets are unusable.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

/// Whether one of `secrets` signed this delivery, at most `tolerance_secs` away from `now_secs`. A header that was
/// not sent is the empty text.
pub fn verify_standard(
    secrets: &[Secret],
    id: &str,
    timestamp: &str,
    signature_header: &str,
    body: &[u8],
    now_secs: i64,
    tolerance_secs: i64,
) -> Result<(), Refused> {
    if id.is_empty() || timestamp.is_empty() || signature_header.is_empty() {
        return Err(Refused::Missing);
    }
    if id.contains('.') {
        return Err(Refused::Id);
    }
    let plain = timestamp.bytes().all(|b| b.is_ascii_digit());
    let sent_at: i64 = timestamp.parse().ok().filter(|_| plain).ok_or(Refused::Timestamp)?;
    let age = now_secs.saturating_sub(sent_at);
    if age > tolerance_secs {
        return Err(Refused::TooOld);
    }
    if age < tolerance_secs.saturating_neg() {
        return Err(Refused::TooNew);
    }
    let mut candidates = signature_header.split(' ').filter_map(|item| item.strip_prefix("v1,")).peekable();
    if candidates.peek().is_none() {
        return Err(Refused::NoSignature);
    }
    let signer = Signer::new(secrets)?;
    let mut tags = candidates.filter_map(|text| STANDARD.decode(text).ok());
    let genuine = tags.any(|tag| {
        let matches = |key| signed(key, id, timestamp, body).verify_slice(&tag).is_ok();
        signer.standard.iter().any(matches)
    });
    if genuine { Ok(()) } else { Err(Refused::Mismatch) }
}

fn signed(key: &Hmac<Sha256>, id: &str, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
    let mut mac = key.clone();
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    mac
}

fn standard_key(secret: &Secret, place: usize) -> Result<Vec<u8>, SecretError> {
    let text = secret.expose();
    match text.strip_prefix(ENCODED_KEY) {
        Some(encoded) => STANDARD.decode(encoded).map_err(|_| SecretError::NotBase64 { place }),
        None => Ok(text.as_bytes().to_vec()),
    }
}

fn keyed(key: &[u8], place: usize) -> Result<Hmac<Sha256>, SecretError> {
    if key.is_empty() {
        return Err(SecretError::Empty { place });
    }
    // HMAC takes keys of every length, so only the empty one is ever refused.
    Hmac::new_from_slice(key).map_err(|_| SecretError::Empty { place })
}

fn hex_digit(value: u8) -> char {
    char::from(if value < 10 { b'0' + value } else { b'a' + value - 10 })
}

/// Lower-case hex, as it is sent; anything else is no signature.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(value(*high)? << 4 | value(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Refused::{Id, Mismatch, Missing, NoSignature, Timestamp, TooNew, TooOld};

    const NEW: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const OLD: &str = "whsec_ZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7fH1+f4CBgoM=";
    const SHORT: &str = "whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcY";
    const ID: &str = "msg_0198c0de0000700080000000000000a1";
    const TS: i64 = 1_767_225_600;
    const BODY: &str =
        r#"{"type":"message.received","timestamp":"2026-01-01T00:00:00Z","data":{"id":"m1","text":"hello"}}"#;
    const V1: &str = "v1,tUJKW1l1pF+caF8Zeoor+sGrYD6Q0c30iX+7/O6R1Lo=";
    const V3: &str = "v1,yw+7aoBKktLjtqcDVSt8fa6APB827Yqyr65c4sB0z4I=";

    fn secrets(texts: &[&str]) -> Vec<Secret> {
        texts.iter().map(|text| Secret::new(*text)).collect()
    }

    fn check(keys: &[&str], id: &str, ts: &str, signature: &str, body: &str, now: i64) -> Result<(), Refused> {
        verify_standard(&secrets(keys), id, ts, signature, body.as_bytes(), now, 300)
    }

    #[test]
    fn standard_signatures_are_the_published_ones() {
        let second = r#"{"type":"message.received","timestamp":"2026-01-01T00:00:01Z","data":{"id":"m2","text":"こんにちは 👋"}}"#;
        assert_eq!((BODY.len(), second.len()), (96, 111));
        for (secret, id, ts, body, want) in [
            (NEW, ID, TS, BODY, V1),
            (
                NEW,
                "msg_0198c0de0000700080000000000000a2",
                TS + 1,
                second,
                "v1,7QVRE3jbTiFZ+jK+ZfoIbPpGi8jiuKllueoyY3FExcQ=",
            ),
            (OLD, ID, TS, BODY, V3),
            (
                SHORT,
                "msg_0198c0de0000700080000000000000a3",
                TS + 2,
                "{}",
                "v1,6dJaScKziq7FTeuUdZLmxKs/cwgW4Igr2tukV9h7JzU=",
            ),
            (
                NEW,
                "msg_0198c0de0000700080000000000000a4",
                TS + 3,
                "",
                "v1,ORGfrlbVM5jkr0ekHDXYtebN6dMFkYF2EJi3+V492rc=",
            ),
        ] {
            let signer = Signer::new(&secrets(&[secret])).unwrap();
            assert_eq!(signer.standard(id, ts, body.as_bytes()), want);
            assert_eq!(check(&[secret], id, &ts.to_string(), want, body, ts), Ok(()));
        }
    }

    #[test]
    fn the_library_s_own_vector_verifies() {
        let body = r#"{"email":"test@example.com","username":"test_user"}"#;
        let signature = "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=";
        let secret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
        let checked = check(&[secret], "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", "1649367553", signature, body, 1_649_367_553);
        assert_eq!(checked, Ok(()));
    }

    #[test]
    fn during_rotation_both_secrets_sign_and_either_is_enough() {
        let header = Signer::new(&secrets(&[NEW, OLD])).unwrap().standard(ID, TS, BODY.as_bytes());
        assert_eq!(header, format!("{V1} {V3}"));
        for keys in [&[NEW][..], &[OLD], &[SHORT, OLD]] {
            assert_eq!(check(keys, ID, "1767225600", &header, BODY, TS), Ok(()));
        }
        // The old secret is no longer valid at the receiver, or the new one not yet known to the sender.
        assert_eq!(check(&[NEW], ID, "1767225600", V3, BODY, TS), Err(Mismatch));
        assert_eq!(check(&[SHORT], ID, "1767225600", &header, BODY, TS), Err(Mismatch));
    }

    #[test]
    fn a_plain_secret_is_its_own_key() {
        let signer = Signer::new(&secrets(&["secret"])).unwrap();
        let encoded = Signer::new(&secrets(&["whsec_c2VjcmV0"])).unwrap();
        assert_eq!(signer.standard(ID, TS, b"{}"), encoded.standard(ID, TS, b"{}"));
        assert_ne!(signer.voipbin(b"{}"), encoded.voipbin(b"{}"));
    }

    #[test]
    fn refuses_everything_that_is_not_exactly_right() {
        let ts = "1767225600";
        for (now, want) in [(TS + 300, Ok(())), (TS + 301, Err(TooOld)), (TS - 300, Ok(())), (TS - 301, Err(TooNew))] {
            assert_eq!(check(&[NEW], ID, ts, V1, BODY, now), want);
        }
        for (id, ts, signature, body, want) in [
            (ID, ts, V1, &BODY.replace("hello", "hellp")[..], Mismatch),
            (ID, ts, V1, "", Mismatch),
            (ID, "1767225601", V1, BODY, Mismatch),
            ("msg_0198c0de0000700080000000000000a2", ts, V1, BODY, Mismatch),
            (ID, ts, &V1[..40], BODY, Mismatch),
            (ID, ts, &V1[..V1.len() - 1], BODY, Mismatch),
            (ID, ts, &format!("{V1}="), BODY, Mismatch),
            (ID, ts, "v1,", BODY, Mismatch),
            (ID, ts, &V1.replace("v1,", "v1a,"), BODY, NoSignature),
            (ID, ts, &V1.replace("v1,", "v2,"), BODY, NoSignature),
            (ID, ts, &V1.replace("v1,", ""), BODY, NoSignature),
            (ID, ts, &V1.replace("v1,", "V1,"), BODY, NoSignature),
            ("msg_0198c0de.a1", ts, V1, BODY, Id),
            ("", ts, V1, BODY, Missing),
            (ID, "", V1, BODY, Missing),
            (ID, ts, "", BODY, Missing),
            (ID, "now", V1, BODY, Timestamp),
            (ID, "+1767225600", V1, BODY, Timestamp),
            (ID, "1767225600.0", V1, BODY, Timestamp),
            (ID, "99999999999999999999", V1, BODY, Timestamp),
        ] {
            assert_eq!(check(&[NEW], id, ts, signature, body, TS), Err(want), "{id} {ts} {signature}");
        }
        // Other versions and noise beside a good signature do no harm.
        assert_eq!(check(&[NEW], ID, ts, &format!("v1a,AAAA v1,#### {V1} x"), BODY, TS), Ok(()));
        assert_eq!(check(&[], ID, ts, V1, BODY, TS), Err(Refused::Secret(SecretError::None)));
    }

    #[test]
    fn secrets_that_cannot_sign_are_named() {
        let refused = |texts: &[&str]| Signer::new(&secrets(texts)).err();
        assert_eq!(refused(&[]), Some(SecretError::None));
        assert_eq!(refused(&[""]), Some(SecretError::Empty { place: 1 }));
        assert_eq!(refused(&[NEW, "whsec_"]), Some(SecretError::Empty { place: 2 }));
        for text in ["whsec_#", "whsec_AAE", "whsec_C2FVsBQIhrscChlQIMV-b5sSYspob7oD"] {
            assert_eq!(refused(&[text]), Some(SecretError::NotBase64 { place: 1 }), "{text}");
        }
    }

    #[test]
    fn voipbin_signatures_are_voipbin_s() {
        let body = br#"{"type":"call_updated","data":{"id":"test"}}"#;
        let want = "sha256=c77c37600c8eeecef1e9aa0f06fc8c63866408ca03bc506c9f148f848ce3cbd3";
        let secret = Secret::new("test-secret");
        assert_eq!(Signer::new(&[secret.clone(), Secret::new("old")]).unwrap().voipbin(body), want);
        assert!(verify_voipbin(&secret, body, want));
        for wrong in [
            "",
            "sha256=",
            &want[7..],
            &want[..70],
            &want.to_uppercase(),
            &want.replace('c', "C"),
            &format!("{want}00"),
        ] {
            assert!(!verify_voipbin(&secret, body, wrong), "{wrong}");
        }
        assert!(!verify_voipbin(&secret, b"{}", want));
        assert!(!verify_voipbin(&Secret::new("old"), body, want));
        assert!(!verify_voipbin(&Secret::new(""), body, want));
    }
}
