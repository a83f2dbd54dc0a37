//! LINE's signature: HMAC-SHA256 over the body, keyed with the channel secret as text.
//!
//! It covers no time, so a captured request stays good for ever: only recognising repeats stops it.

use crate::adapter::VerifyError;
use crate::adapter::hmac::{HmacKey, decode_tag};
use crate::domain::secret::Secret;
use crate::domain::time::Timestamp;
use crate::domain::webhook::RawWebhook;

/// Base64 of the HMAC.
pub(crate) const SIGNATURE: &str = "x-line-signature";

/// Checks the webhooks of one account.
pub(crate) struct Verifier {
    keys: Vec<HmacKey>,
}

impl Verifier {
    /// The secret is 32 hex digits, but its text is the key, not what the digits stand for.
    pub(crate) fn new(secrets: &[Secret]) -> Self {
        Self { keys: secrets.iter().map(HmacKey::new).collect() }
    }

    /// Whether LINE signed this webhook with one of the secrets.
    pub(crate) fn verify(&self, webhook: &RawWebhook) -> Result<(), VerifyError> {
        let signature = webhook.sole_header(SIGNATURE).ok_or(VerifyError::Header(SIGNATURE))?;
        let tag = decode_tag(signature).ok_or(VerifyError::Malformed(SIGNATURE))?;
        let good = self.keys.iter().any(|key| key.verifies(&[&webhook.body], &tag));
        if good { Ok(()) } else { Err(VerifyError::Mismatch) }
    }
}

/// The headers of a webhook as LINE sends it.
pub(crate) fn sign(key: &Secret, _url: &str, body: &[u8], _now: Timestamp) -> Vec<(&'static str, String)> {
    let signature = HmacKey::new(key).sign(&[body]);
    vec![(SIGNATURE, signature), ("content-type", "application/json; charset=utf-8".to_owned())]
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "00112233445566778899aabbccddeeff";
    const PING: &str = r#"{"destination":"U0123456789abcdef0123456789abcdef","events":[]}"#;
    const MESSAGE: &str = r#"{"destination":"U0123456789abcdef0123456789abcdef","events":[{"type":"message","message":{"type":"text","id":"600000000000000001","quoteToken":"qtok-1","text":"hi \uD83D\uDE00"},"webhookEventId":"01KEXAMPLE0000000000000001","deliveryContext":{"isRedelivery":false},"timestamp":1760000000000,"source":{"type":"user","userId":"Ufedcba9876543210fedcba9876543210"},"replyToken":"rtok1","mode":"active"}]}"#;

    fn check(secrets: &[&str], body: &[u8], signatures: &[&str]) -> Result<(), VerifyError> {
        let secrets: Vec<_> = secrets.iter().map(|s| Secret::new(*s)).collect();
        let headers = signatures.iter().map(|s| (SIGNATURE.into(), (*s).to_owned())).collect();
        let webhook = RawWebhook { headers, body: body.to_vec(), received_at: Timestamp::EPOCH };
        Verifier::new(&secrets).verify(&webhook)
    }

    #[test]
    fn takes_what_line_signs() {
        let literal = MESSAGE.replace(r"\uD83D\uDE00", "😀");
        let lower = MESSAGE.replace(r"\uD83D\uDE00", r"\ud83d\ude00");
        let spaced = PING.replace(':', ": ").replace(',', ", ");
        assert_eq!([PING.len(), spaced.len(), MESSAGE.len(), lower.len(), literal.len()], [63, 66, 400, 400, 392]);
        for (secret, body, signature) in [
            // Of LINE's documentation.
            (
                "8c570fa6dd201bb328f1c1eac23a96d8",
                r#"{"destination":"U8e742f61d673b39c7fff3cecb7536ef0","events":[]}"#,
                "GhRKmvmHys4Pi8DxkF4+EayaH0OqtJtaZxgTD9fMDLs=",
            ),
            // Of LINE's SDKs for Node.js and Python.
            ("test_secret", r#"{"hello":"world"}"#, "t7Hn4ZDHqs6e+wdvI5TyQIvzie0DmMUmuXEBqyyE/tM="),
            ("channel_secret", "bodybodybodybody", "/gg9a+LvFevTH1sd7XCQycD7tsWclCsInj7MhBHxN7k="),
            // Every byte counts: a line feed, a space, nothing at all.
            (SECRET, PING, "7/ukKHV+XErKEioPjWySYIt7x+r8vkO9lzdSnbLX+E8="),
            (SECRET, &format!("{PING}\n"), "KHEGVw/dKvLczeI23oSHphnDwxTFO9uU5dQSBhOuJrk="),
            (SECRET, &spaced, "h7C9s9t8uc9rcWZJvGyBOoBT4lXQo2rI5neUC2M0/y8="),
            (SECRET, "", "Sbi/vaStmkbz4q1u2491s1ajckoQntbX1mcNIJeNURM="),
            // One text in three writings: who parses and writes it again breaks on emoji only.
            (SECRET, MESSAGE, "97NrIasp6Ie5ZRmq8xCuKWaVekNKakxyIWlcFdEvNuQ="),
            (SECRET, &lower, "6qfSwLlT8li+z+uYFLTD/AmzYDY7cAv+uHOzR11lD6o="),
            (SECRET, &literal, "0pAKuEvmqz4ONmakP5QDZ2WSIlMqzeOVONB/EZhUsuo="),
        ] {
            assert_eq!(check(&[secret], body.as_bytes(), &[signature]), Ok(()), "{body}");
            let signed = sign(&Secret::new(secret), "https://x.example/", body.as_bytes(), Timestamp::EPOCH);
            assert_eq!(signed[0], (SIGNATURE, signature.to_owned()));
        }
    }

    #[test]
    fn refuses_every_near_miss() {
        let mismatch = Err(VerifyError::Mismatch);
        // The case of base64 is not the case of a header's name.
        let flipped = "T7hN4zdhQS6E+WDVi5tYqiVZIE0dMmuMUXebQYYe/Tm=";
        assert_eq!(
            check(&["test_secret"], br#"{"hello":"world"}"#, &[flipped]),
            Err(VerifyError::Malformed(SIGNATURE))
        );
        let flipped = "T7hN4zdhQS6E+WDVi5tYqiVZIE0dMmuMUXebQYYe/TM=";
        assert_eq!(check(&["test_secret"], br#"{"hello":"world"}"#, &[flipped]), mismatch);
        let good = "7/ukKHV+XErKEioPjWySYIt7x+r8vkO9lzdSnbLX+E8=";
        assert_eq!(check(&["0011"], PING.as_bytes(), &[good]), mismatch);
        assert_eq!(check(&[&SECRET.to_uppercase()], PING.as_bytes(), &[good]), mismatch);
        assert_eq!(check(&[SECRET], format!("{PING} ").as_bytes(), &[good]), mismatch);
        assert_eq!(check(&[], PING.as_bytes(), &[good]), mismatch);
    }

    #[test]
    fn refuses_headers_that_are_not_there_once_or_are_no_signature() {
        let good = "7/ukKHV+XErKEioPjWySYIt7x+r8vkO9lzdSnbLX+E8=";
        let body = PING.as_bytes();
        assert_eq!(check(&[SECRET], body, &[]), Err(VerifyError::Header(SIGNATURE)));
        assert_eq!(check(&[SECRET], body, &[good, good]), Err(VerifyError::Header(SIGNATURE)));
        let hex = "fbfba428757e5c4aca122a0f8d6c92608b7bc7eafcbe43bd9737529db2d7f84f";
        for bad in [
            "",
            "=",
            "not base64!",
            "AAAA",
            &good[..43],
            &format!("{good}AAAA"),
            hex,
            "7_ukKHV-XErKEioPjWySYIt7x-r8vkO9lzdSnbLX-E8=",
        ] {
            assert_eq!(check(&[SECRET], body, &[bad]), Err(VerifyError::Malformed(SIGNATURE)), "{bad}");
        }
    }

    #[test]
    fn takes_any_of_several_secrets() {
        for secret in ["old", "new"] {
            let signed = sign(&Secret::new(secret), "", b"{}", Timestamp::EPOCH);
            assert_eq!(check(&["old", "new"], b"{}", &[&signed[0].1]), Ok(()));
        }
    }
}
