//! Keyed HMAC-SHA256 as providers use it to sign webhooks: a base64 header, compared in constant time.

use crate::domain::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

/// Bytes in a SHA-256 block, to which HMAC brings every key.
const BLOCK: usize = 64;

/// The bytes of a signature.
pub(crate) type Tag = [u8; 32];

/// A key that stays prepared: setting one up costs as much as signing a short message.
#[derive(Clone)]
pub(crate) struct HmacKey(Hmac<Sha256>);

impl HmacKey {
    /// Prepares the secret's text, as it is, for use as a key.
    pub(crate) fn new(secret: &Secret) -> Self {
        // Done here rather than by `new_from_slice`, whose error can never happen and would have to be handled.
        let mut block = [0; BLOCK];
        let text = secret.expose().as_bytes();
        if text.len() > BLOCK {
            block[..32].copy_from_slice(&Sha256::digest(text));
        } else {
            block[..text.len()].copy_from_slice(text);
        }
        Self(Hmac::new(&block.into()))
    }

    /// The signature under the concatenation of `parts`.
    pub(crate) fn sign(&self, parts: &[&[u8]]) -> String {
        STANDARD.encode(self.mac(parts).finalize().into_bytes())
    }

    /// Whether `tag` is the signature under the concatenation of `parts`; takes the same time either way.
    pub(crate) fn verifies(&self, parts: &[&[u8]], tag: &Tag) -> bool {
        self.mac(parts).verify_slice(tag).is_ok()
    }

    fn mac(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(part);
        }
        mac
    }
}

/// The SHA-256 of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> Tag {
    Sha256::digest(bytes).into()
}

/// The SHA-256 of `bytes` in hex.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    sha256(bytes).iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}"); // a String takes everything
        hex
    })
}

/// The bytes of a base64 signature; `None` when it is not padded standard base64 of 32 bytes.
pub(crate) fn decode_tag(text: &str) -> Option<Tag> {
    let mut room = [0; 33]; // base64 counts in threes
    let length = STANDARD.decode_slice(text, &mut room).ok()?;
    room[..length].try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_as_rfc_4231_says_over_parts_as_over_the_whole() {
        let key = HmacKey::new(&Secret::new("Jefe"));
        let signature = key.sign(&[b"what do ya want ", b"for nothing?"]);
        assert_eq!(signature, "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=");
        let tag = decode_tag(&signature).unwrap();
        assert!(key.verifies(&[b"what do ya want for nothing?"], &tag));
        assert!(!key.verifies(&[b"what do ya want for nothing!"], &tag));
        assert!(!HmacKey::new(&Secret::new("jefe")).verifies(&[b"what do ya want for nothing?"], &tag));
    }

    #[test]
    fn keys_longer_than_a_block_are_hashed_and_one_of_exactly_a_block_is_not() {
        for length in [0, 1, 63, 64, 65, 131] {
            let text = "k".repeat(length);
            let ours = HmacKey::new(&Secret::new(text.clone())).sign(&[b"message"]);
            let mut theirs = Hmac::<Sha256>::new_from_slice(text.as_bytes()).unwrap();
            theirs.update(b"message");
            assert_eq!(ours, STANDARD.encode(theirs.finalize().into_bytes()), "{length}");
        }
    }

    #[test]
    fn hashes_are_lower_case_hex() {
        let want = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sha256_hex(b""), want);
    }

    #[test]
    fn only_padded_base64_of_32_bytes_is_a_tag() {
        let good = STANDARD.encode([7; 32]);
        assert_eq!(decode_tag(&good), Some([7; 32]));
        for bad in
            ["", "=", "####", &good[..40], &format!("{good} "), good.trim_end_matches('='), &STANDARD.encode([7; 31])]
        {
            assert_eq!(decode_tag(bad), None, "{bad}");
        }
    }
}
