//! The one integration test binary: everything that is tested through the crate's public face.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod app;
mod beside;
mod bird_props;
mod cli;
mod conformance;
mod copy;
mod deploy;
mod downstream;
mod fixtures;
mod flows;
mod judged;
mod line_props;
mod mutants;
mod mutation;
mod refused;
mod sample;
mod several;
mod strangers;
mod tidy;
