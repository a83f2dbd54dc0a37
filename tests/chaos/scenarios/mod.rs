//! The scenarios, one file per kind of fault. The list of all of them is in `main.rs`.

pub(crate) mod database;
pub(crate) mod disk;
pub(crate) mod load;
pub(crate) mod mutations;
pub(crate) mod network;
pub(crate) mod nodes;
pub(crate) mod process;
pub(crate) mod subscriber;
