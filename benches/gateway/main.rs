//! The benchmark: the gateway as a process beside what it is compared with, round after round, on one machine.
//!
//! `scripts/bench --help` says how to run it, docs/PERFORMANCE.md what the figures mean.
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures are rounded for people anyway"
)]

mod baseline;
mod contender;
mod goals;
mod growth;
mod load;
mod machine;
mod measure;
mod options;
mod payload;
mod plot;
mod report;
mod rounds;
mod sink;
mod store;
mod suites;
mod wire;

use anyhow::{Context, Result};
use options::Options;
use report::Report;
use std::process::ExitCode;
use store::Place;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            anstream::eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all is as asked.
fn run() -> Result<bool> {
    let options = Options::read(std::env::args().skip(1))?;
    if options.help {
        anstream::print!("{}", options::HELP);
        return Ok(true);
    }
    if let Some((mode, config)) = &options.baseline {
        baseline::run(mode, config)?;
        return Ok(true);
    }
    if options.list {
        for suite in suites::SUITES {
            for name in suites::names(suite, &options) {
                anstream::println!("{suite}/{name}");
            }
        }
        return Ok(true);
    }
    wire::self_test().and_then(|()| sink::self_test()).context("the benchmark itself is wrong")?;
    std::fs::create_dir_all(&options.folder)?;
    let place =
        Place { folder: options.folder.clone(), postgres: options.store.clone(), before: options.against.clone() };
    let mut rows = Vec::new();
    for suite in suites::SUITES {
        rows.extend(suites::run(suite, &options, &place)?);
    }
    let goals = goals::judge(&rows);
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        quick: options.quick,
        rows,
        goals,
    };
    if let Some(folder) = &options.plot {
        plot::draw(&report.rows, folder)?;
    }
    if options.json {
        anstream::println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        anstream::print!("{}", report::tables(&report));
    }
    let troubles: Vec<String> = report.rows.iter().filter_map(rounds::RowResult::trouble).collect();
    for trouble in &troubles {
        anstream::eprintln!("bench: {trouble}");
    }
    let is_met = !options.check || report.goals.iter().all(|goal| goal.met == Some(true));
    Ok(troubles.is_empty() && is_met)
}
