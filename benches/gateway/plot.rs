//! Two pictures for the documentation, written as SVG by hand: latency by rate, and speed by what is stored or owed.

use crate::rounds::RowResult;
use anyhow::{Context, Result};
use std::fmt::Write as _;
use std::path::Path;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = 50.0;
const COLOURS: [&str; 6] = ["#9ecae1", "#4292c6", "#08519c", "#fdd0a2", "#fd8d3c", "#a63603"];

/// Bars beside each other, in groups.
struct Chart<'a> {
    title: &'a str,
    /// The names of a group's bars.
    series: Vec<&'a str>,
    /// Groups with the heights of their bars.
    groups: Vec<(String, Vec<Option<f64>>)>,
    /// Whether each line of the scale is ten times the one before.
    logarithmic: bool,
}

/// Draws what there are figures for.
pub(crate) fn draw(rows: &[RowResult], folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let figures = ["ack_p50_ms", "ack_p99_ms", "ack_p999_ms", "e2e_p50_ms", "e2e_p99_ms", "e2e_p999_ms"];
    let latency = Chart {
        title: "Latency from the intended send time, ms",
        series: vec!["answer p50", "p99", "p999", "end to end p50", "p99", "p999"],
        groups: groups(rows, "latency", &figures),
        logarithmic: true,
    };
    let growth = Chart {
        title: "Durable accept, webhooks a second, by what is stored or owed before",
        series: vec!["accepted/s"],
        groups: groups(rows, "growth", &["accepted_per_s"]),
        logarithmic: false,
    };
    for (name, chart) in [("latency.svg", latency), ("growth.svg", growth)] {
        if !chart.groups.is_empty() {
            let path = folder.join(name);
            std::fs::write(&path, chart.svg()?).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(())
}

/// The rows of a suite that have any of the figures.
fn groups(rows: &[RowResult], suite: &str, figures: &[&str]) -> Vec<(String, Vec<Option<f64>>)> {
    rows.iter()
        .filter(|row| row.suite == suite)
        .map(|row| (row.name.clone(), figures.iter().map(|figure| row.median(figure)).collect::<Vec<_>>()))
        .filter(|(_, values)| values.iter().any(Option::is_some))
        .collect()
}

impl Chart<'_> {
    fn svg(&self) -> Result<String> {
        let values = || self.groups.iter().flat_map(|(_, values)| values).flatten().copied().filter(|v| *v > 0.0);
        let (low, high) = values().fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
        let ticks = self.ticks(low, high);
        let (first, last) = (ticks.first().copied().unwrap_or(0.0), ticks.last().copied().unwrap_or(1.0));
        let height = |value: f64| {
            let share = if self.logarithmic {
                (value / first).log10() / (last / first).log10()
            } else {
                (value - first) / (last - first)
            };
            share.clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM)
        };
        let mut svg = String::new();
        writeln!(
            svg,
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12" role="img">
<title>{title}</title>
<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>
<text x="{LEFT}" y="22" font-size="15">{title}</text>"##,
            title = self.title
        )?;
        for (index, name) in self.series.iter().enumerate() {
            let x = LEFT + 110.0 * index as f64;
            writeln!(
                svg,
                r#"<rect x="{x}" y="34" width="10" height="10" fill="{}"/><text x="{}" y="43">{name}</text>"#,
                COLOURS[index % COLOURS.len()],
                x + 14.0
            )?;
        }
        let ground = HEIGHT - BOTTOM;
        for tick in &ticks {
            let y = ground - height(*tick);
            writeln!(
                svg,
                r##"<line x1="{LEFT}" x2="{WIDTH}" y1="{y:.1}" y2="{y:.1}" stroke="#dddddd"/><text x="{}" y="{:.1}" text-anchor="end">{tick}</text>"##,
                LEFT - 6.0,
                y + 4.0
            )?;
        }
        let group = (WIDTH - LEFT) / self.groups.len() as f64;
        let bar = group * 0.8 / self.series.len() as f64;
        for (place, (name, values)) in self.groups.iter().enumerate() {
            let x = LEFT + group * (place as f64 + 0.1);
            for (index, value) in values.iter().enumerate() {
                let Some(value) = value.filter(|value| *value > 0.0) else { continue };
                let height = height(value);
                writeln!(
                    svg,
                    r#"<rect x="{:.1}" y="{:.1}" width="{:.1}" height="{height:.1}" fill="{}"><title>{value:.2}</title></rect>"#,
                    x + bar * index as f64,
                    ground - height,
                    bar * 0.9,
                    COLOURS[index % COLOURS.len()]
                )?;
            }
            writeln!(
                svg,
                r#"<text x="{:.1}" y="{}" text-anchor="middle">{name}</text>"#,
                x + group * 0.4,
                ground + 18.0
            )?;
        }
        svg.push_str("</svg>\n");
        Ok(svg)
    }

    /// The lines of the scale.
    fn ticks(&self, low: f64, high: f64) -> Vec<f64> {
        if self.logarithmic {
            let (from, to) = (low.log10().floor() as i32, high.log10().ceil() as i32);
            return (from..=to.max(from + 1)).map(|power| 10_f64.powi(power)).collect();
        }
        let step = 10_f64.powf(high.log10().floor());
        let step = if high / step < 3.0 { step / 2.0 } else { step };
        (0..=(high / step).ceil() as u32).map(|tick| f64::from(tick) * step).collect()
    }
}
