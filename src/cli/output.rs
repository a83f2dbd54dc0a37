//! Tables for people, plain lines for pipes, JSON for programs.

use crate::store::StoreError;
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use serde::Serialize;
use std::io::{self, IsTerminal, Write};

/// The form of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Aligned columns with a head, coloured.
    Table,
    /// Tab-separated columns.
    Plain,
    /// One JSON object a line.
    Json,
}

impl Form {
    /// JSON when asked for, a table on a terminal, else plain.
    pub(super) fn choose(json: bool) -> Self {
        match (json, io::stdout().is_terminal()) {
            (true, _) => Self::Json,
            (false, true) => Self::Table,
            (false, false) => Self::Plain,
        }
    }
}

/// Something with columns.
pub(super) trait Columns: Serialize {
    /// The names of the columns.
    const HEAD: &'static [&'static str];
    /// The values of one row, as many as there are names.
    fn cells(&self) -> Vec<String>;
}

/// Prints rows as they come; a table is held back until its widths are known.
pub(super) struct Listing {
    form: Form,
    table: Table,
}

impl Listing {
    pub(super) fn new<R: Columns>(form: Form) -> Self {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_header(R::HEAD.iter().map(|name| Cell::new(name).add_attribute(Attribute::Bold)));
        Self { form, table }
    }

    pub(super) fn print<R: Columns>(&mut self, row: &R) -> anyhow::Result<()> {
        match self.form {
            Form::Table => {
                self.table.add_row(row.cells().into_iter().map(coloured));
                Ok(())
            }
            Form::Plain => line(&row.cells().join("\t")),
            Form::Json => line(&serde_json::to_string(row)?),
        }
    }

    pub(super) fn finish(self) -> anyhow::Result<()> {
        if self.form == Form::Table && self.table.row_count() > 0 { line(&self.table.to_string()) } else { Ok(()) }
    }
}

/// Rows per question to the store: a listing of millions must neither fill the memory nor hold the log.
pub(super) const PAGE: usize = 1000;

/// Lists what `fetch` finds after a row, page by page; with a `limit` its one answer is all there is.
pub(super) async fn list<T, R: Columns>(
    form: Form,
    limit: Option<usize>,
    fetch: impl AsyncFn(i64) -> Result<Vec<T>, StoreError>,
    id: impl Fn(&T) -> i64,
    row: impl Fn(&T) -> R,
) -> anyhow::Result<()> {
    let mut listing = Listing::new::<R>(form);
    let mut after = 0;
    loop {
        let page = fetch(after).await?;
        for found in &page {
            listing.print(&row(found))?;
        }
        match page.last() {
            Some(last) if limit.is_none() && page.len() == PAGE => after = id(last),
            _ => return listing.finish(),
        }
    }
}

/// One line to standard output.
pub(super) fn line(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    Ok(())
}

/// Whether the reader of our output went away, as `head` does.
pub(super) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// A time for people and programs alike.
pub(super) fn time(at: crate::domain::time::Timestamp) -> String {
    at.utc().map_or_else(|| at.micros().to_string(), |utc| utc.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string())
}

fn coloured(text: String) -> Cell {
    let colour = match text.split([' ', ':']).next() {
        Some("stored" | "delivered" | "ok" | "verified" | "enabled" | "equal") => Some(Color::Green),
        Some("pending" | "leased" | "duplicate" | "ignored") => Some(Color::Yellow),
        Some("dead" | "quarantined" | "disabled" | "FAILED" | "DIFFERS") => Some(Color::Red),
        _ => None,
    };
    let cell = Cell::new(text);
    colour.map_or(cell.clone(), |colour| cell.fg(colour))
}
