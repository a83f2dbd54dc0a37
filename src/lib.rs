//! Birdwire: provider webhooks in, VoIPBIN conversation messages out; nothing lost, nothing doubled, in order.
//!
//! The way of an event, with the type that it is at each step:
//!
//! | Step | Where | From | To |
//! |---|---|---|---|
//! | receive | [`http::webhook`] | a request | [`RawWebhook`](domain::webhook::RawWebhook) |
//! | verify | [`adapter::verified`] | `RawWebhook` | [`Verified`](adapter::verified::Verified), which nothing else makes |
//! | parse, map | [`adapter`] | `Verified` | [`InboundEvent`](domain::event::InboundEvent)s |
//! | render | [`voipbin`] | a record | the bytes that every attempt will send |
//! | commit | [`store`] | [`Inbound`](store::inbound::Inbound) | rows, durable, each event once |
//! | answer | [`http::webhook`] | the commit | 200 |
//! | claim | [`delivery::dispatcher`] | due lanes | [`Leased`](store::lane::Leased) |
//! | attempt | [`delivery::sender`] | [`Owed`](store::lane::Owed) | an [`Answer`](delivery::outcome::Answer) |
//! | judge | [`delivery::outcome`] | `Answer` | a [`Verdict`](store::lane::Verdict) |
//! | record | [`store`] | [`Attempt`](store::lane::Attempt) | delivered, due again, or dead |
//!
//! Before verification nothing is kept; after it nothing is refused. [`ingest`] is the way in on one screen,
//! [`delivery`] the way out, and [`app`] the one place that knows everyone. Borders between modules are in
//! `docs/ARCHITECTURE.md`, and a test holds the code to them.

pub mod domain;

pub mod adapter;
pub mod voipbin;

pub mod ingest;
pub mod store;

pub mod delivery;

pub mod http;

pub mod cli;
pub mod config;
pub mod lifecycle;
pub mod metrics;
pub mod telemetry;

pub mod app;
