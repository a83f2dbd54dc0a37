//! A subscriber's side of a delivery, for `listen`, `demo` and tests: takes any POST and hands it on.

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use std::sync::Arc;

/// One delivery as received.
#[derive(Clone, Debug)]
pub struct Received {
    /// Header names in lower case, and values that are text.
    pub headers: Vec<(String, String)>,
    /// The body, byte for byte.
    pub body: Vec<u8>,
}

impl Received {
    /// The value of a header (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// Routes that hand every POST to `take`, which says the status to answer.
pub fn router(take: impl Fn(Received) -> u16 + Send + Sync + 'static) -> Router {
    let take = Arc::new(take);
    let handler = move |headers: HeaderMap, body: Bytes| {
        let take = take.clone();
        async move {
            let headers = headers
                .iter()
                .filter_map(|(n, v)| Some((n.as_str().to_owned(), v.to_str().ok()?.to_owned())))
                .collect();
            let status = take(Received { headers, body: body.to_vec() });
            StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
        }
    };
    Router::new().route("/", post(handler.clone())).route("/{*path}", post(handler))
}
