//! Where the contenders' files are: an empty folder or schema for every round.

use crate::contender::Who;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Where rounds happen.
pub(crate) struct Place {
    /// On the disk that is measured: the system's folder for temporary files may be in memory.
    pub(crate) folder: PathBuf,
    /// A PostgreSQL database in which schemas may be made.
    pub(crate) postgres: Option<String>,
    /// Another build of the gateway.
    pub(crate) before: Option<PathBuf>,
}

/// A store with nothing in it, removed when this goes.
pub(crate) struct Fresh {
    folder: TempDir,
    schema: Option<Schema>,
}

struct Schema {
    database: String,
    name: String,
    url: String,
}

impl Place {
    /// A new store for a contender.
    pub(crate) fn fresh(&self, who: Who) -> Result<Fresh> {
        let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(&self.folder)?;
        let schema = match &self.postgres {
            Some(database) if who.needs_postgres() => Some(Schema::new(database)?),
            _ => None,
        };
        Ok(Fresh { folder, schema })
    }
}

impl Fresh {
    /// Its folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its URL, when it is no file in the folder.
    pub(crate) fn url(&self) -> Option<&str> {
        self.schema.as_ref().map(|schema| schema.url.as_str())
    }
}

impl Schema {
    fn new(database: &str) -> Result<Self> {
        let name = format!("birdwire_bench_{:032x}", fastrand::u128(..));
        execute(database, &format!("CREATE SCHEMA {name}"))?;
        let sign = if database.contains('?') { '&' } else { '?' };
        let url = format!("{database}{sign}options=-csearch_path%3D{name}");
        Ok(Self { database: database.to_owned(), name, url })
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        // A schema that stays is in nobody's way.
        execute(&self.database, &format!("DROP SCHEMA IF EXISTS {} CASCADE", self.name)).ok();
    }
}

fn execute(database: &str, sql: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(database, tokio_postgres::NoTls)
            .await
            .context("the database of --store does not answer")?;
        let connection = tokio::spawn(connection);
        client.batch_execute(sql).await?;
        drop(client);
        connection.await??;
        Ok(())
    })
}
