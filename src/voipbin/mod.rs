//! VoIPBIN's records as VoIPBIN writes them, and the signatures under them.
//!
//! Knows no provider, no store and no HTTP: domain types in, bytes out.

pub mod sign;
