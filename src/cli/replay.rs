//! `birdwire replay`
