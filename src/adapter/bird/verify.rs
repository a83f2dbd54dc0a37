//! Bird's signature: HMAC-SHA256 over the time, the URL as registered, and the SHA-256 of the body.

use crate::adapter::VerifyError;
use crate::adapter::hmac::{HmacKey, decode_tag, sha256};
use crate::domain::secret::Secret;
use crate::domain::time::Timestamp;
use crate::domain::webhook::RawWebhook;
use std::time::Duration;

/// Base64 of the HMAC.
pub(crate) const SIGNATURE: &str = "messagebird-signature";
/// The signed time, in Unix seconds.
pub(crate) const TIMESTAMP: &str = "messagebird-request-timestamp";
/// Bird's own reference of the request; not signed.
pub(crate) const REQUEST_ID: &str = "messagebird-request-id";

/// Checks the webhooks of one account.
pub(crate) struct Verifier {
    keys: Vec<HmacKey>,
    url: String,
    max_age: Duration,
}

impl Verifier {
    /// `url` is the text that was registered at Bird: it is signed, and rebuilding it from a request's headers
    /// would let proxies change it and senders choose it.
    pub(crate) fn new(keys: &[Secret], url: &str, max_age: Duration) -> Self {
        Self { keys: keys.iter().map(HmacKey::new).collect(), url: url.to_owned(), max_age }
    }

    /// Whether Bird signed this webhook with one of the keys, not too far from its arrival.
    pub(crate) fn verify(&self, webhook: &RawWebhook) -> Result<(), VerifyError> {
        let signature = webhook.sole_header(SIGNATURE).ok_or(VerifyError::Header(SIGNATURE))?;
        let signed_at = webhook.sole_header(TIMESTAMP).ok_or(VerifyError::Header(TIMESTAMP))?;
        let tag = decode_tag(signature).ok_or(VerifyError::Malformed(SIGNATURE))?;
        let seconds = unix_seconds(signed_at).ok_or(VerifyError::Malformed(TIMESTAMP))?;

        let hash = sha256(&webhook.body);
        let parts = signed_parts(signed_at, &self.url, &hash);
        if !self.keys.iter().any(|key| key.verifies(&parts, &tag)) {
            return Err(VerifyError::Mismatch);
        }
        // Only now: a wrong time under a wrong signature says nothing about the clock.
        let signed_at = Timestamp::from_micros(seconds.saturating_mul(1_000_000));
        let skew = webhook.received_at.since(signed_at).max(signed_at.since(webhook.received_at));
        if skew > self.max_age {
            let started = u64::from(skew.subsec_nanos() > 0);
            return Err(VerifyError::Stale { skew_seconds: skew.as_secs().saturating_add(started) });
        }
        Ok(())
    }
}

/// The headers of a webhook as Bird sends it.
pub(crate) fn sign(key: &Secret, url: &str, body: &[u8], now: Timestamp) -> Vec<(&'static str, String)> {
    let signed_at = now.seconds().to_string();
    let signature = HmacKey::new(key).sign(&signed_parts(&signed_at, url, &sha256(body)));
    vec![(SIGNATURE, signature), (TIMESTAMP, signed_at), ("content-type", "application/json".to_owned())]
}

/// The hash goes in as its 32 bytes, not as hex or base64.
fn signed_parts<'a>(signed_at: &'a str, url: &'a str, hash: &'a [u8]) -> [&'a [u8]; 5] {
    [signed_at.as_bytes(), b"\n", url.as_bytes(), b"\n", hash]
}

fn unix_seconds(text: &str) -> Option<i64> {
    // `parse` alone would also take a sign.
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "test-signing-key-0001";
    const HOOK: &str = "https://example.com/webhook";
    const TS: &str = "1700000000";
    const V1_URL: &str = "https://gw.example.com/hooks/bird/line?tenant=42";
    const V1_TS: &str = "1722239347";
    const V1_SIGNATURE: &str = "Wdz/XLTJ2GyePqCGXxUAvfiDP/NUeZ+Fi+i506DGE00=";
    const V1_BODY: &str = r#"{"service":"channels","event":"line.inbound","payload":{"id":"0b7f2b0e-6a1c-4a53-9d0b-2f6f4f9b1a01","channelId":"5e2c9d4a-1b7e-4c38-8f11-7a9be0c3d002","direction":"incoming","status":"delivered","body":{"type":"text","text":{"text":"こんにちは"}}}}"#;
    const V2_KEY: &str = "Zm9vYmFyYmF6cXV4MDEyMzQ1Njc4OWFiY2RlZg==";
    const V2_SIGNATURE: &str = "NHFs5SEZcFGNeo8pO+A1Onz+s29bQXheglg8xTj56eA=";

    fn verifier(keys: &[&str], url: &str) -> Verifier {
        let keys: Vec<_> = keys.iter().map(|k| Secret::new(*k)).collect();
        Verifier::new(&keys, url, Duration::from_hours(48))
    }

    fn webhook(headers: &[(&str, &str)], body: &[u8], received_at: i64) -> RawWebhook {
        RawWebhook {
            headers: headers.iter().map(|&(n, v)| (n.to_owned().into(), v.to_owned())).collect(),
            body: body.to_vec(),
            received_at: Timestamp::from_micros(received_at),
        }
    }

    fn check(key: &str, url: &str, ts: &str, body: &[u8], signature: &str) -> Result<(), VerifyError> {
        let at = unix_seconds(ts).unwrap_or(0) * 1_000_000;
        verifier(&[key], url).verify(&webhook(&[(SIGNATURE, signature), (TIMESTAMP, ts)], body, at))
    }

    #[test]
    fn takes_what_bird_signs() {
        assert_eq!(V1_BODY.len(), 253);
        assert_eq!(check(KEY, V1_URL, V1_TS, V1_BODY.as_bytes(), V1_SIGNATURE), Ok(()));
        assert_eq!(check(V2_KEY, HOOK, TS, b"{}", V2_SIGNATURE), Ok(()));
        for (body, signature) in [
            ("", "IGvYxA4VE2sCxmwKpbDX4gwF/ERF/+WK7E64E6aSoSk="),
            ("{}\n", "lfeuWQnWyZOoeKg+hNvkKzUpCS5idraxN5F4SnXames="),
            // A hash with a zero byte that ends in a line feed: spoils whoever builds the message as text.
            (r#"{"n":923}"#, "QNDldrnMld8W5naCp2kPv/dx1SMkKeGbWeabIRiGMio="),
        ] {
            assert_eq!(check(KEY, HOOK, TS, body.as_bytes(), signature), Ok(()), "{body}");
        }
    }

    #[test]
    fn refuses_every_near_miss() {
        let mismatch = Err(VerifyError::Mismatch);
        let body = V1_BODY.as_bytes();
        // Made over the hash in hex.
        assert_eq!(check(KEY, V1_URL, V1_TS, body, "2etlNkJ0ei+QKphzpz9/bCVeJ/A8XDbeucx++3xTmsM="), mismatch);
        // Made with the key decoded from base64.
        assert_eq!(check(V2_KEY, HOOK, TS, b"{}", "eVmaFwbLCn6fU+C5qsKbidoQOr7Lf0lv6PlvPnN4SDc="), mismatch);
        assert_eq!(check(KEY, HOOK, TS, b"{}", "lfeuWQnWyZOoeKg+hNvkKzUpCS5idraxN5F4SnXames="), mismatch);
        assert_eq!(check(V2_KEY, HOOK, TS, b"{}\n", V2_SIGNATURE), mismatch);
        assert_eq!(check(V2_KEY, HOOK, TS, b"{ }", V2_SIGNATURE), mismatch);
        assert_eq!(check(V2_KEY, HOOK, "1700000001", b"{}", V2_SIGNATURE), mismatch);
        assert_eq!(check(V2_KEY, HOOK, "01700000000", b"{}", V2_SIGNATURE), mismatch);
        assert_eq!(check(KEY, HOOK, TS, b"{}", V2_SIGNATURE), mismatch);
        for url in [
            "https://gw.example.com/hooks/bird/line",
            "https://gw.example.com/hooks/bird/line?tenant=43",
            "https://gw.example.com/hooks/bird/line/?tenant=42",
            "https://GW.example.com/hooks/bird/line?tenant=42",
            "http://gw.example.com/hooks/bird/line?tenant=42",
        ] {
            assert_eq!(check(KEY, url, V1_TS, body, V1_SIGNATURE), mismatch, "{url}");
        }
        let mut changed = body.to_vec();
        changed[100] ^= 1;
        assert_eq!(check(KEY, V1_URL, V1_TS, &changed, V1_SIGNATURE), mismatch);
    }

    #[test]
    fn refuses_headers_that_are_not_there_once() {
        let verifier = verifier(&[V2_KEY], HOOK);
        let refused = |headers: &[(&str, &str)]| verifier.verify(&webhook(headers, b"{}", 0)).unwrap_err();
        let (signature, ts) = ((SIGNATURE, V2_SIGNATURE), (TIMESTAMP, TS));
        assert_eq!(refused(&[]), VerifyError::Header(SIGNATURE));
        assert_eq!(refused(&[ts]), VerifyError::Header(SIGNATURE));
        assert_eq!(refused(&[signature]), VerifyError::Header(TIMESTAMP));
        assert_eq!(refused(&[signature, signature, ts]), VerifyError::Header(SIGNATURE));
        assert_eq!(refused(&[signature, ts, ts]), VerifyError::Header(TIMESTAMP));
    }

    #[test]
    fn refuses_headers_that_are_not_what_they_should_be() {
        for signature in ["", "not base64!", "AAAA", &V2_SIGNATURE[..43], &format!("{V2_SIGNATURE}AAAA")] {
            let refused = check(V2_KEY, HOOK, TS, b"{}", signature);
            assert_eq!(refused, Err(VerifyError::Malformed(SIGNATURE)), "{signature}");
        }
        for ts in ["", "soon", "+1700000000", "-1", "1700000000.5", " 1700000000", "0x10", "99999999999999999999"] {
            assert_eq!(check(V2_KEY, HOOK, ts, b"{}", V2_SIGNATURE), Err(VerifyError::Malformed(TIMESTAMP)), "{ts}");
        }
    }

    #[test]
    fn refuses_what_is_older_or_newer_than_allowed() {
        let verifier = verifier(&[V2_KEY], HOOK);
        let headers = [(SIGNATURE, V2_SIGNATURE), (TIMESTAMP, TS)];
        let signed = 1_700_000_000_000_000;
        let limit = 48 * 3600 * 1_000_000;
        for at in [signed, signed - limit, signed + limit] {
            assert_eq!(verifier.verify(&webhook(&headers, b"{}", at)), Ok(()));
        }
        for at in [signed - limit - 1, signed + limit + 1] {
            let stale = VerifyError::Stale { skew_seconds: 48 * 3600 + 1 };
            assert_eq!(verifier.verify(&webhook(&headers, b"{}", at)), Err(stale));
        }
        // The signature comes first: nobody without the key learns about the clock.
        assert_eq!(verifier.verify(&webhook(&headers, b"[]", signed + 2 * limit)), Err(VerifyError::Mismatch));
    }

    #[test]
    fn takes_any_of_several_keys_and_what_it_signs_itself() {
        let both = verifier(&[KEY, V2_KEY], HOOK);
        for key in [KEY, V2_KEY] {
            let now = Timestamp::from_micros(1_800_000_000_999_999);
            let headers = sign(&Secret::new(key), HOOK, b"{}", now);
            assert_eq!(headers[1], (TIMESTAMP, "1800000000".to_owned()));
            let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
            assert_eq!(both.verify(&webhook(&headers, b"{}", now.micros())), Ok(()));
        }
        let other = sign(&Secret::new("other"), HOOK, b"{}", Timestamp::EPOCH);
        let headers: Vec<_> = other.iter().map(|(n, v)| (*n, v.as_str())).collect();
        assert_eq!(both.verify(&webhook(&headers, b"{}", 0)), Err(VerifyError::Mismatch));
    }
}
