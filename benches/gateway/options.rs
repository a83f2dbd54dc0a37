//! What was asked for on the command line.

use crate::rounds::Noise;
use anyhow::{Context, Result, bail};
use std::path::PathBuf;

/// How others may disturb a round: a quarter of a core.
const TOLERANCE: f64 = 0.25;

pub(crate) const HELP: &str = "\
scripts/bench [OPTIONS]

  --quick           small rounds and no large stores, for CI: a few minutes
  --check           fail when a goal is missed
  --json            the results as JSON on standard output, instead of tables
  --plot FOLDER     draw latency.svg and growth.svg there
  --only NAME       only suites and rows with NAME in `suite/row`; again for more
  --list            say which those are
  --rounds N        rounds of every row
  --against PROGRAM another build of birdwire: its throughput rows take turns with those of this one
  --store URL       measure a PostgreSQL too, postgres://USER@HOST/DATABASE; schemas are made and removed in it
  --foreign CORES   how much others may use of the machine in a round that counts (0.25)
  --folder PATH     where stores are made; on the disk that is to be measured. A run that is broken off leaves folders
                    there, in the build folder's tmp if nothing else was said: bench-*
";

/// The options.
#[expect(clippy::struct_excessive_bools, reason = "switches on a command line are that")]
pub(crate) struct Options {
    pub(crate) quick: bool,
    pub(crate) check: bool,
    pub(crate) json: bool,
    pub(crate) list: bool,
    pub(crate) help: bool,
    pub(crate) plot: Option<PathBuf>,
    pub(crate) only: Vec<String>,
    pub(crate) rounds: Option<u32>,
    pub(crate) store: Option<String>,
    /// Another build, to compare this one with.
    pub(crate) against: Option<PathBuf>,
    pub(crate) foreign: f64,
    pub(crate) folder: PathBuf,
    /// Be this baseline, configured by this file, and nothing else.
    pub(crate) baseline: Option<(String, String)>,
}

impl Options {
    /// Reads them.
    pub(crate) fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            quick: false,
            check: false,
            json: false,
            list: false,
            help: false,
            plot: None,
            only: Vec::new(),
            rounds: None,
            store: None,
            against: None,
            foreign: TOLERANCE,
            folder: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
            baseline: None,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--quick" => options.quick = true,
                "--check" => options.check = true,
                "--json" => options.json = true,
                "--list" => options.list = true,
                "--help" | "-h" => options.help = true,
                "--plot" => options.plot = Some(value()?.into()),
                "--only" => options.only.push(value()?),
                "--rounds" => options.rounds = Some(value()?.parse().context("--rounds needs a number")?),
                "--against" => options.against = Some(value()?.into()),
                "--store" => options.store = Some(value()?),
                "--foreign" => options.foreign = value()?.parse().context("--foreign needs a number")?,
                "--folder" => options.folder = value()?.into(),
                "--baseline" => options.baseline = Some((value()?, value()?)),
                // Cargo says this to every benchmark.
                "--bench" => {}
                _ => bail!("what is {argument}?\n\n{HELP}"),
            }
        }
        Ok(options)
    }

    /// What is done about others that use the machine.
    pub(crate) fn noise(&self) -> Noise {
        Noise { tolerance: self.foreign, tries: if self.quick { 2 } else { 3 } }
    }

    /// Whether a row is to be measured.
    pub(crate) fn wants(&self, suite: &str, row: &str) -> bool {
        let name = format!("{suite}/{row}");
        self.only.is_empty() || self.only.iter().any(|only| name.contains(only.as_str()))
    }

    /// How many rounds: as asked, or this.
    pub(crate) fn rounds(&self, usual: u32) -> u32 {
        self.rounds.unwrap_or(if self.quick { usual.min(2) } else { usual })
    }
}
