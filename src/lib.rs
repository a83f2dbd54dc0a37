//! Birdwire: provider webhooks in, VoIPBIN conversation messages out; nothing lost, nothing doubled, in order.

pub mod adapter;
pub mod app;
pub mod cli;
pub mod config;
pub mod delivery;
pub mod domain;
pub mod http;
pub mod ingest;
pub mod lifecycle;
pub mod metrics;
pub mod store;
pub mod telemetry;
pub mod voipbin;
