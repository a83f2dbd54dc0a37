//! Rounds: every row once per round, row after row, so that a slow quarter of an hour is everybody's; and what is said of
//! several rounds.

use crate::machine::Usage;
use anyhow::Result;
use serde::Serialize;
use std::collections::BTreeMap;

/// The figures of one round, by name.
pub(crate) type Figures = BTreeMap<&'static str, f64>;

/// What is done about others that use the machine.
#[derive(Clone, Copy)]
pub(crate) struct Noise {
    /// Cores that they may use in a round that counts.
    pub(crate) tolerance: f64,
    /// How often a round is tried until it counts; then the quietest is taken.
    pub(crate) tries: u32,
}

/// One thing that is measured.
pub(crate) struct Row<'a> {
    /// What it is called.
    pub(crate) name: String,
    /// Why it cannot be measured here, if so.
    pub(crate) missing: Option<String>,
    /// Measures one round.
    pub(crate) run: Box<dyn FnMut() -> Result<Measured> + 'a>,
}

/// What one round gave.
pub(crate) struct Measured {
    pub(crate) figures: Figures,
    /// Processor time before and after.
    pub(crate) usage: (Usage, Usage),
}

/// One round that was kept.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Round {
    pub(crate) figures: Figures,
    /// Cores that others used meanwhile.
    pub(crate) foreign: f64,
    /// Whether that was too much.
    pub(crate) noisy: bool,
}

/// All rounds of a row.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RowResult {
    pub(crate) suite: &'static str,
    pub(crate) name: String,
    pub(crate) not_measured: Option<String>,
    /// Whether it could have been measured, and was tried.
    pub(crate) failed: bool,
    pub(crate) rounds: Vec<Round>,
}

impl RowResult {
    /// Why the run is not a good one, whatever the goals say. Rows of other programs, and of stores and shapes that a busy
    /// machine may be too slow for, may fail without that.
    pub(crate) fn trouble(&self) -> Option<String> {
        let row = format!("{}/{}", self.suite, self.name);
        for figure in ["lost", "doubled"] {
            let count: f64 = self.values(figure).iter().sum();
            if count > 0.0 {
                return Some(format!("{row}: {count} messages were {figure}"));
            }
        }
        let is_ours = self.name.starts_with("accept") || self.name.starts_with("deliver");
        (self.failed && is_ours).then(|| format!("{row}: {}", self.not_measured.as_deref().unwrap_or("it failed")))
    }

    /// The median of a figure over the rounds.
    pub(crate) fn median(&self, figure: &str) -> Option<f64> {
        let mut values = self.values(figure);
        values.sort_by(f64::total_cmp);
        middle(&values)
    }

    /// How far apart the rounds are, relative to their median.
    pub(crate) fn spread(&self, figure: &str) -> Option<f64> {
        let values = self.values(figure);
        let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
        Some((high - low) / self.median(figure).filter(|median| *median > 0.0)?)
    }

    /// The median over the rounds of the quotient of two rows: rounds of one number were neighbours.
    pub(crate) fn ratio(&self, figure: &str, other: &Self, others: &str) -> Option<f64> {
        let mut values: Vec<f64> =
            self.values(figure).iter().zip(other.values(others)).map(|(mine, its)| mine / its).collect();
        values.retain(|value| value.is_finite());
        values.sort_by(f64::total_cmp);
        middle(&values)
    }

    /// The largest over the rounds.
    pub(crate) fn largest(&self, figure: &str) -> Option<f64> {
        self.values(figure).into_iter().max_by(f64::total_cmp)
    }

    fn values(&self, figure: &str) -> Vec<f64> {
        self.rounds.iter().filter_map(|round| round.figures.get(figure).copied()).collect()
    }
}

fn middle(sorted: &[f64]) -> Option<f64> {
    let half = sorted.len() / 2;
    if sorted.is_empty() {
        None
    } else if sorted.len().is_multiple_of(2) {
        Some(f64::midpoint(sorted[half - 1], sorted[half]))
    } else {
        Some(sorted[half])
    }
}

/// A quantile of microseconds, in milliseconds.
pub(crate) fn quantile(micros: &mut [u32], quantile: f64) -> f64 {
    if micros.is_empty() {
        return f64::NAN;
    }
    let index = ((micros.len() as f64 * quantile) as usize).min(micros.len() - 1);
    f64::from(*micros.select_nth_unstable(index).1) / 1_000.0
}

/// Runs `count` rounds of all rows.
pub(crate) fn run(suite: &'static str, count: u32, noise: Noise, mut rows: Vec<Row<'_>>) -> Vec<RowResult> {
    let mut results: Vec<RowResult> = rows
        .iter()
        .map(|row| RowResult {
            suite,
            name: row.name.clone(),
            not_measured: row.missing.clone(),
            failed: false,
            rounds: Vec::new(),
        })
        .collect();
    for number in 1..=count {
        for (row, result) in rows.iter_mut().zip(&mut results) {
            if result.not_measured.is_some() {
                continue;
            }
            match round(row, noise) {
                Ok(round) => {
                    anstream::eprintln!("{suite} {number}/{count} {}: {}", row.name, told(&round));
                    result.rounds.push(round);
                }
                Err(error) => {
                    anstream::eprintln!("{suite} {number}/{count} {}: {error:#}", row.name);
                    result.not_measured = Some(format!("{error:#}"));
                    result.failed = true;
                }
            }
        }
    }
    results
}

fn round(row: &mut Row<'_>, noise: Noise) -> Result<Round> {
    let mut best: Option<Round> = None;
    for _ in 0..noise.tries {
        let Measured { figures, usage: (before, after) } = (row.run)()?;
        let foreign = after.foreign_since(&before);
        let round = Round { figures, foreign, noisy: foreign > noise.tolerance };
        if best.as_ref().is_none_or(|best| round.foreign < best.foreign) {
            best = Some(round);
        }
        if best.as_ref().is_some_and(|best| !best.noisy) {
            break;
        }
    }
    best.ok_or_else(|| anyhow::anyhow!("no round was made"))
}

fn told(round: &Round) -> String {
    let mut text: Vec<String> = round.figures.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
    text.push(format!("foreign {:.2}{}", round.foreign, if round.noisy { " (noisy)" } else { "" }));
    text.join(", ")
}
