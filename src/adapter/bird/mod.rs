//! Bird's Channels API.
