//! Errors as VoIPBIN's API says them: `{"error":{"status","reason","message","request_id"}}`.
//!
//! Only this file knows that envelope. Webhook answers never use it: they are a bare status.

use super::request_id::RequestId;
use axum::Extension;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

/// What a client did wrong or we could not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// No such path.
    RouteNotFound,
    /// The path takes another method.
    MethodNotAllowed,
}

impl Problem {
    const fn parts(self) -> (StatusCode, &'static str, &'static str, &'static str) {
        match self {
            Self::RouteNotFound => {
                (StatusCode::NOT_FOUND, "NOT_FOUND", "ROUTE_NOT_FOUND", "There is nothing at this path.")
            }
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "INVALID_ARGUMENT",
                "METHOD_NOT_ALLOWED",
                "This path takes another method.",
            ),
        }
    }

    /// As an answer to the request of that id.
    pub fn answer(self, request_id: &RequestId) -> Response {
        let (code, status, reason, message) = self.parts();
        let body = format!(
            r#"{{"error":{{"status":"{status}","reason":"{reason}","message":"{message}","request_id":"{}"}}}}"#,
            request_id.as_str()
        );
        (code, [(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}

pub(super) async fn no_route(Extension(request_id): Extension<RequestId>) -> Response {
    Problem::RouteNotFound.answer(&request_id)
}

pub(super) async fn no_method(Extension(request_id): Extension<RequestId>) -> Response {
    Problem::MethodNotAllowed.answer(&request_id)
}
