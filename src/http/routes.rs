//! Which request goes where.
//!
//! Nearly every request is a webhook, and the way through axum's router, its layers and its boxes costs several times
//! what reading one takes. So webhooks are told by their path and go past it; everything else goes through.

use super::patience::Timer;
use super::request_id::RequestId;
use super::webhook::Intake;
use super::{Gateway, error, health, request_id, webhook};
use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::{Method, Request};
use axum::response::Response;
use axum::routing::{get, post};
use std::sync::Arc;
use tower::ServiceExt as _;

/// Where webhooks arrive: the account's id follows.
const WEBHOOKS: &str = "/v1.0/conversation/accounts/";

/// What a server answers with.
#[derive(Clone)]
pub struct Routes {
    /// Takes webhooks, when there are any.
    intake: Option<Arc<Intake>>,
    /// Takes everything.
    router: Router,
}

impl From<Router> for Routes {
    fn from(router: Router) -> Self {
        Self { intake: None, router }
    }
}

/// The gateway's routes.
pub fn router(gateway: Arc<Gateway>) -> Routes {
    let intake = Arc::new(Intake::new(gateway.clone()));
    let webhooks = Router::new().route(&format!("{WEBHOOKS}{{account_id}}"), post(webhook::receive));
    let router = Router::new()
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .with_state(gateway)
        .merge(webhooks.with_state(intake.clone()))
        .fallback(error::no_route)
        .method_not_allowed_fallback(error::no_method)
        .layer(axum::middleware::from_fn(request_id::attach));
    Routes { intake: Some(intake), router }
}

impl Routes {
    /// What a new connection is answered by.
    pub fn connection(&self) -> Connection {
        Connection { routes: self.clone(), timer: Timer::default() }
    }
}

/// Answers the requests of one connection, one after the other.
pub struct Connection {
    routes: Routes,
    timer: Timer,
}

impl Connection {
    /// The answer to a request.
    pub async fn answer<B>(&self, request: Request<B>) -> Response
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<axum::BoxError>,
    {
        match &self.routes.intake {
            Some(intake) if is_webhook(&request) => {
                let (head, body) = request.into_parts();
                let id = RequestId::of(&head.headers);
                let account = head.uri.path().strip_prefix(WEBHOOKS).unwrap_or_default();
                let mut answer = intake.receive(account, &id, &head.headers, body, &self.timer).await;
                id.put_into(&mut answer);
                answer
            }
            _ => {
                let Ok(answer) = self.routes.router.clone().oneshot(request.map(Body::new)).await;
                answer
            }
        }
    }
}

/// Whether it is surely a webhook. Escapes in a path are the router's to understand, which knows the way to the same
/// place.
fn is_webhook<B>(request: &Request<B>) -> bool {
    let account = request.uri().path().strip_prefix(WEBHOOKS);
    let is_plain = |account: &str| !account.is_empty() && !account.bytes().any(|b| matches!(b, b'/' | b'%'));
    *request.method() == Method::POST && account.is_some_and(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_post_to_a_plain_account_goes_past_the_router() {
        let is = |method: &str, uri: &str| is_webhook(&Request::builder().method(method).uri(uri).body(()).unwrap());
        let account = "/v1.0/conversation/accounts/6f1f0f4e-2f6c-4d5e-9a51-0a4c5b0c9a01";
        assert!(is("POST", account));
        assert!(is("POST", &format!("{account}?a=b/c%64")));
        assert!(is("POST", "/v1.0/conversation/accounts/nobody"));
        assert!(is("POST", &format!("http://host{account}")));
        for (method, uri) in [
            ("GET", account),
            ("HEAD", account),
            ("POST", "/v1.0/conversation/accounts/"),
            ("POST", "/v1.0/conversation/accounts"),
            ("POST", &format!("{account}/")),
            ("POST", &format!("{account}/events")),
            ("POST", "/v1.0/conversation/accounts/%36f1f0f4e-2f6c-4d5e-9a51-0a4c5b0c9a01"),
            ("POST", "/livez"),
        ] {
            assert!(!is(method, uri), "{method} {uri}");
        }
    }
}
