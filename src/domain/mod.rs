//! The words of the gateway as plain types and pure rules: no I/O, no clock, no JSON, no SQL.
//!
//! Everything else may use this module; it uses nothing but `std`, `uuid` and `chrono`.

pub mod account;
pub mod address;
pub mod backoff;
pub mod conversation;
pub mod delivery;
pub mod event;
pub mod format;
pub mod ids;
pub mod merge;
pub mod message;
pub mod network;
pub mod route;
pub mod secret;
pub mod settings;
pub mod sms;
pub mod time;
pub mod webhook;
