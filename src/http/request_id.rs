//! One id per request, in the log, in the store and in the answer.

use axum::extract::Request;
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::Response;

const HEADER: &str = "x-request-id";

/// The id of a request: the sender's own when it is 1 to 64 characters of `[A-Za-z0-9_-]`, else one of ours.
#[derive(Clone, Debug)]
pub struct RequestId(pub String);

pub(super) async fn attach(mut request: Request, next: Next) -> Response {
    let id = request
        .headers()
        .get(HEADER)
        .and_then(|value| value.to_str().ok())
        .filter(|text| is_usable(text))
        .map_or_else(|| make(fastrand::u128(..)), str::to_owned);
    request.extensions_mut().insert(RequestId(id.clone()));
    let mut response = next.run(request).await;
    if let Ok(value) = HeaderValue::try_from(id) {
        response.headers_mut().insert(HEADER, value);
    }
    response
}

fn is_usable(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// `req_` and 26 base-32 characters.
fn make(random: u128) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let digits = (0..26).map(|place| {
        let index = usize::try_from((random >> (place * 5)) & 31).unwrap_or_default();
        char::from(ALPHABET[index])
    });
    "req_".chars().chain(digits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_the_documented_form() {
        for random in [0, 1, u128::MAX, 0x1234_5678_9abc_def0_1234_5678_9abc_def0] {
            let id = make(random);
            assert_eq!(id.len(), 30);
            assert!(is_usable(&id));
        }
        assert_ne!(make(1), make(2));
        for bad in ["", "a b", "a/b", "é", &"x".repeat(65)] {
            assert!(!is_usable(bad), "{bad}");
        }
    }
}
