//! Verifying, reading and mapping a webhook as somebody writes it in an afternoon: axum's handler, serde's types, one shape of
//! message. A field of another form than documented loses the message, nothing is timed, counted or bounded. What Rust on
//! this stack needs for it, to be held beside `map`, which does all of that.

use crate::payload::{KEY, URL};
use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::borrow::Cow;
use std::hint::black_box;

/// Takes webhooks at `path`.
pub(super) fn router(path: &str) -> Router {
    let mac = Hmac::<Sha256>::new_from_slice(KEY.as_bytes());
    Router::new().route(
        path,
        post(move |headers: HeaderMap, body: Bytes| {
            let mac = mac.clone();
            async move {
                let Ok(mac) = mac else { return StatusCode::INTERNAL_SERVER_ERROR };
                if !is_signed(mac, &headers, &body) {
                    return StatusCode::UNAUTHORIZED;
                }
                match serde_json::from_slice::<Message<'_>>(&body).map(|message| record(&message)) {
                    Ok(Ok(record)) => {
                        black_box(record);
                        StatusCode::OK
                    }
                    _ => StatusCode::BAD_REQUEST,
                }
            }
        }),
    )
}

fn is_signed(mut mac: Hmac<Sha256>, headers: &HeaderMap, body: &[u8]) -> bool {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    for part in [header("messagebird-request-timestamp"), "\n", URL, "\n"] {
        mac.update(part.as_bytes());
    }
    mac.update(&Sha256::digest(body));
    let mut tag = [0; 33]; // base64 counts in threes
    let length = STANDARD.decode_slice(header("messagebird-signature"), &mut tag);
    length.is_ok_and(|length| mac.verify_slice(&tag[..length]).is_ok())
}

/// What subscribers get.
fn record(message: &Message<'_>) -> serde_json::Result<Vec<u8>> {
    let address = |party: &Party<'_>| Address {
        kind: "line",
        target: party.identifier_value.clone().into_owned(),
        target_name: party.annotations.as_ref().map_or_else(String::new, |known| known.name.clone().into_owned()),
    };
    serde_json::to_vec(&Event {
        kind: "conversation_message_created",
        data: Record {
            id: &message.id,
            direction: &message.direction,
            source: address(&message.sender.contact),
            destination: address(&message.receiver.connector),
            text: &message.body.text.text,
            tm_create: &message.created_at,
            tm_update: &message.updated_at,
        },
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    sender: Sender<'a>,
    #[serde(borrow)]
    receiver: Receiver<'a>,
    #[serde(borrow)]
    body: Body<'a>,
    #[serde(borrow)]
    direction: Cow<'a, str>,
    #[serde(borrow)]
    created_at: Cow<'a, str>,
    #[serde(borrow)]
    updated_at: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Sender<'a> {
    #[serde(borrow)]
    contact: Party<'a>,
}

#[derive(Deserialize)]
struct Receiver<'a> {
    #[serde(borrow)]
    connector: Party<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Party<'a> {
    #[serde(borrow)]
    identifier_value: Cow<'a, str>,
    #[serde(borrow)]
    annotations: Option<Annotations<'a>>,
}

#[derive(Deserialize)]
struct Annotations<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    text: Text<'a>,
}

#[derive(Deserialize)]
struct Text<'a> {
    #[serde(borrow)]
    text: Cow<'a, str>,
}

#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    data: Record<'a>,
}

#[derive(Serialize)]
struct Record<'a> {
    id: &'a str,
    direction: &'a str,
    source: Address,
    destination: Address,
    text: &'a str,
    tm_create: &'a str,
    tm_update: &'a str,
}

#[derive(Serialize)]
struct Address {
    #[serde(rename = "type")]
    kind: &'static str,
    target: String,
    target_name: String,
}
