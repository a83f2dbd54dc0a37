//! The results for people, as tables, and for programs, as JSON.

use crate::rounds::RowResult;
use serde::Serialize;
use std::fmt::Write as _;

/// Everything that was found.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) version: &'static str,
    pub(crate) cores: usize,
    pub(crate) quick: bool,
    pub(crate) rows: Vec<RowResult>,
    pub(crate) goals: Vec<crate::goals::Judged>,
}

/// Figures in the order in which they are shown, with the decimals worth showing.
const COLUMNS: &[(&str, &str, usize)] = &[
    ("accepted_per_s", "accepted/s", 0),
    ("delivered_per_s", "delivered/s", 0),
    ("deliveries_per_s", "deliveries/s", 0),
    ("backlog", "backlog", 0),
    ("ack_p50_ms", "ack p50", 2),
    ("ack_p99_ms", "p99", 2),
    ("ack_p999_ms", "p999 ms", 1),
    ("e2e_p50_ms", "e2e p50", 2),
    ("e2e_p99_ms", "p99", 2),
    ("e2e_p999_ms", "p999 ms", 1),
    ("disk_p50_ms", "sync p50 ms", 2),
    ("cpu_us", "CPU µs", 1),
    ("disk_kib", "disk KiB", 1),
    ("peak_mib", "peak MiB", 0),
    ("lost", "lost", 0),
    ("doubled", "doubled", 0),
];

/// One table for each suite: medians, how far the rounds lie apart, and what was disturbed.
pub(crate) fn tables(report: &Report) -> String {
    let mut text = String::new();
    let mut suites: Vec<&str> = report.rows.iter().map(|row| row.suite).collect();
    suites.dedup();
    for suite in suites {
        let rows: Vec<&RowResult> = report.rows.iter().filter(|row| row.suite == suite).collect();
        let columns: Vec<_> =
            COLUMNS.iter().filter(|(figure, ..)| rows.iter().any(|row| row.median(figure).is_some())).collect();
        let mut lines = vec![vec![suite.to_owned()]];
        lines[0].extend(columns.iter().map(|(_, title, _)| (*title).to_owned()));
        lines[0].extend(["spread".to_owned(), "rounds".to_owned()]);
        for row in rows {
            let mut line = vec![row.name.clone()];
            if let Some(why) = &row.not_measured {
                line.push(format!("not measured: {why}"));
                lines.push(line);
                continue;
            }
            for (figure, _, decimals) in &columns {
                line.push(row.median(figure).map_or_else(|| "-".to_owned(), |value| format!("{value:.decimals$}")));
            }
            let rate = ["delivered_per_s", "deliveries_per_s", "accepted_per_s"];
            let spread = rate.iter().find_map(|figure| row.spread(figure)).unwrap_or_default();
            line.push(format!("{:.0} %", spread * 100.0));
            let noisy = row.rounds.iter().filter(|round| round.noisy).count();
            line.push(format!(
                "{}{}",
                row.rounds.len(),
                if noisy > 0 { format!(", {noisy} noisy") } else { String::new() }
            ));
            lines.push(line);
        }
        text.push_str(&aligned(&lines));
        text.push('\n');
    }
    for (name, before) in [("accept", "accept-before"), ("deliver", "deliver-before")] {
        let row = |name| report.rows.iter().find(|row| row.name == name);
        let Some((now, before)) = row(name).zip(row(before)) else { continue };
        for figure in ["accepted_per_s", "delivered_per_s", "cpu_us"] {
            if let Some(ratio) = now.ratio(figure, before, figure) {
                writeln!(text, "{name}, {figure}, against the other build: {ratio:.2}").ok();
            }
        }
    }
    for judged in &report.goals {
        writeln!(text, "{judged}").ok();
    }
    text
}

fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column)).filter(|cell| !cell.starts_with("not measured"));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        for (column, cell) in line.iter().enumerate() {
            let width = widths[column];
            let written = if column == 0 { write!(text, "{cell:<width$}") } else { write!(text, "  {cell:>width$}") };
            written.ok();
        }
        text.push('\n');
    }
    text
}
