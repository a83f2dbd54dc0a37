//! Birdwire: provider webhooks in, VoIPBIN conversation messages out; nothing lost, nothing doubled, in order.

pub mod adapter;
pub mod config;
pub mod domain;
pub mod metrics;
pub mod store;
pub mod voipbin;
