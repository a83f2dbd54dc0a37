//! Commands as an operator runs them, beside the gateway or without one.

use crate::node::PROGRAM;
use crate::verdict::{Listed, ListedEvent};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The command line with a configuration.
#[derive(Clone, Debug)]
pub(crate) struct Beside(PathBuf);

/// A node as the gateway itself lists it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ListedNode {
    /// How it is.
    pub(crate) state: String,
    /// What it alone does.
    pub(crate) duties: Vec<String>,
}

impl Beside {
    /// With this configuration.
    pub(crate) fn new(config: &Path) -> Self {
        Self(config.to_owned())
    }

    /// What `birdwire deliveries list` says.
    pub(crate) fn deliveries(&self) -> Result<Vec<Listed>> {
        self.listing(&["deliveries", "list"])
    }

    /// Ids of the newest that were delivered, so many.
    pub(crate) fn delivered(&self, newest: usize) -> Result<Vec<String>> {
        let newest = newest.to_string();
        let listed: Vec<Listed> = self.listing(&["deliveries", "list", "--state", "delivered", "--limit", &newest])?;
        Ok(listed.iter().map(|delivery| delivery.id.to_string()).collect())
    }

    /// What `birdwire events` says.
    pub(crate) fn events(&self) -> Result<Vec<ListedEvent>> {
        self.listing(&["events"])
    }

    /// What `birdwire nodes` says.
    pub(crate) fn nodes(&self) -> Result<Vec<ListedNode>> {
        self.listing(&["nodes"])
    }

    fn listing<T: DeserializeOwned>(&self, command: &[&str]) -> Result<Vec<T>> {
        let output = self.run(&[command, &["--json"]].concat())?;
        output.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }

    /// Runs a command; says what it printed.
    pub(crate) fn run(&self, command: &[&str]) -> Result<String> {
        let output = Command::new(PROGRAM).args(command).arg("--config").arg(&self.0).env_clear().output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "birdwire {} failed: {said}", command.join(" "));
        Ok(String::from_utf8(output.stdout)?)
    }
}
