//! One id per request, in the log, in the store and in the answer.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;

const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// The id of a request: the sender's own when it is 1 to 64 characters of `[A-Za-z0-9_-]`, else one of ours. Kept as
/// what it ends as, a header.
#[derive(Clone, Debug)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// Of a request with these headers.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(HEADER).filter(|value| is_usable(value.as_bytes()));
        Self(given.cloned().unwrap_or_else(|| make(fastrand::u128(..))))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default() // there is nothing but ASCII in it
    }

    /// Into the answer.
    pub(super) fn put_into(self, answer: &mut Response) {
        answer.headers_mut().insert(HEADER, self.0);
    }
}

pub(super) async fn attach(mut request: Request, next: Next) -> Response {
    let id = RequestId::of(request.headers());
    request.extensions_mut().insert(id.clone());
    let mut response = next.run(request).await;
    id.put_into(&mut response);
    response
}

fn is_usable(text: &[u8]) -> bool {
    (1..=64).contains(&text.len()) && text.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// `req_` and 26 base-32 characters.
fn make(mut random: u128) -> HeaderValue {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut id = *b"req_aaaaaaaaaaaaaaaaaaaaaaaaaa";
    for digit in &mut id[4..] {
        *digit = ALPHABET[usize::from(random.to_le_bytes()[0] & 31)];
        random >>= 5;
    }
    HeaderValue::from_bytes(&id).unwrap_or(HeaderValue::from_static("req_")) // it is ASCII
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_the_documented_form() {
        for random in [0, 1, u128::MAX, 0x1234_5678_9abc_def0_1234_5678_9abc_def0] {
            let id = RequestId(make(random));
            assert_eq!((id.as_str().len(), &id.as_str()[..4]), (30, "req_"));
            assert!(is_usable(id.as_str().as_bytes()));
        }
        assert_ne!(make(1), make(2));
        for bad in ["", "a b", "a/b", "é", &"x".repeat(65)] {
            assert!(!is_usable(bad.as_bytes()), "{bad}");
        }
    }
}
