//! Every metric, declared once with its help text; labels come from closed sets and configured names only.
//!
//! A value, not a global: each gateway in a test has its own.

use crate::domain::event::{Oddity, QuarantineReason};
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

/// The gateway's metrics. Cloning shares them.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    /// Webhook requests, by outcome.
    pub webhooks: IntCounterVec,
    /// Webhooks refused by their signature, by reason.
    pub unverified: IntCounterVec,
    /// Events of authentic webhooks, by end state and quarantine reason.
    pub events: IntCounterVec,
    /// Repeats that carried another time than the first.
    pub conflicts: IntCounter,
    /// Oddities that did not stop an event.
    pub oddities: IntCounterVec,
    /// From the end of a webhook's head to its answer.
    pub webhook_seconds: Histogram,
    /// Commits of the store's writer, by result.
    pub commits: IntCounterVec,
    /// Operations per commit.
    pub batch_size: Histogram,
    /// Duration of a commit.
    pub commit_seconds: Histogram,
    /// Attempts, by subscriber and outcome.
    pub attempts: IntCounterVec,
    /// Duration of an attempt.
    pub attempt_seconds: HistogramVec,
    /// From commit to a subscriber's 2xx.
    pub delivery_seconds: HistogramVec,
    /// Duration of a look for due lanes that found some.
    pub claim_seconds: Histogram,
    /// Leases lost before their attempt was recorded.
    pub leases_lost: IntCounter,
    /// Deliveries owed, by subscriber.
    pub owed: IntGaugeVec,
    /// Dead letters, by subscriber.
    pub dead: IntGaugeVec,
    /// Age of the oldest delivery owed, by subscriber.
    pub oldest_owed: IntGaugeVec,
    /// 1 for a subscriber that is disabled.
    pub disabled: IntGaugeVec,
}

/// What is counted of one subscriber's attempts, found once: looking a series up takes longer than counting.
pub struct Attempts {
    /// Those that ended well.
    pub delivered: IntCounter,
    /// Those that will be made again.
    pub retried: IntCounter,
    /// Those after which the delivery was given up.
    pub dead: IntCounter,
    /// Duration of an attempt.
    pub seconds: Histogram,
    /// From commit to a 2xx.
    pub delivery_seconds: Histogram,
}

const SECONDS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];
const SIZES: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

impl Metrics {
    /// Declares every metric. Fails only when two have one name, which a test would show.
    pub fn new() -> Result<Self, prometheus::Error> {
        let r = Registry::new();
        let m = Self {
            webhooks: counters(&r, "webhooks_total", "Webhook requests by outcome.", &["outcome"])?,
            unverified: counters(&r, "webhooks_unverified_total", "Webhooks refused, by reason.", &["reason"])?,
            events: counters(
                &r,
                "events_total",
                "Events of authentic webhooks by end state (stored, duplicate, quarantined, ignored) and reason.",
                &["state", "reason"],
            )?,
            conflicts: counter(&r, "event_conflicts_total", "Repeated events whose time differs from the first's.")?,
            oddities: counters(&r, "oddities_total", "Oddities that did not stop an event.", &["oddity"])?,
            webhook_seconds: histogram(&r, "webhook_seconds", "Time from a webhook's head to its answer.", &SECONDS)?,
            commits: counters(&r, "store_commits_total", "Commits of the store by result.", &["result"])?,
            batch_size: histogram(&r, "store_batch_size", "Operations in one commit.", &SIZES)?,
            commit_seconds: histogram(&r, "store_commit_seconds", "Duration of one commit.", &SECONDS)?,
            attempts: counters(&r, "attempts_total", "Delivery attempts by outcome.", &["subscriber", "outcome"])?,
            attempt_seconds: histograms(&r, "attempt_seconds", "Duration of a delivery attempt.")?,
            delivery_seconds: histograms(&r, "delivery_seconds", "Time from commit to a subscriber's 2xx.")?,
            claim_seconds: histogram(&r, "claim_seconds", "Duration of a claim that found due lanes.", &SECONDS)?,
            leases_lost: counter(&r, "leases_lost_total", "Leases lost before their attempt was recorded.")?,
            owed: gauges(&r, "owed", "Deliveries owed.")?,
            dead: gauges(&r, "dead_letters", "Deliveries given up.")?,
            oldest_owed: gauges(&r, "oldest_owed_seconds", "Age of the oldest delivery owed.")?,
            disabled: gauges(&r, "subscriber_disabled", "1 while nothing is delivered to the subscriber.")?,
            registry: r,
        };
        // From the start at zero: the first of something must be an increase, not the birth of a series.
        for outcome in WEBHOOK_OUTCOMES {
            m.webhooks.with_label_values(&[outcome]);
        }
        for result in ["ok", "failed"] {
            m.commits.with_label_values(&[result]);
        }
        for oddity in Oddity::ALL {
            m.oddities.with_label_values(&[oddity.as_str()]);
        }
        for state in ["stored", "duplicate"] {
            m.events.with_label_values(&[state, ""]);
        }
        m.events.with_label_values(&["ignored", "empty"]);
        for reason in QuarantineReason::ALL {
            m.events.with_label_values(&["quarantined", reason.as_str()]);
        }
        Ok(m)
    }

    /// A subscriber's series, which start at zero.
    pub fn subscriber(&self, subscriber: &str) -> Attempts {
        let ended = |outcome| self.attempts.with_label_values(&[subscriber, outcome]);
        Attempts {
            delivered: ended("delivered"),
            retried: ended("retried"),
            dead: ended("dead"),
            seconds: self.attempt_seconds.with_label_values(&[subscriber]),
            delivery_seconds: self.delivery_seconds.with_label_values(&[subscriber]),
        }
    }

    /// The text that Prometheus scrapes.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        let mut out = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut out)?;
        String::from_utf8(out).map_err(|e| prometheus::Error::Msg(e.to_string()))
    }
}

/// How a webhook request can end.
pub const WEBHOOK_OUTCOMES: [&str; 8] =
    ["committed", "unknown_account", "unverified", "too_large", "slow", "broken", "overloaded", "unavailable"];

fn counter(r: &Registry, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    let c = IntCounter::new(format!("birdwire_{name}"), help)?;
    r.register(Box::new(c.clone()))?;
    Ok(c)
}

fn counters(r: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
    let c = IntCounterVec::new(Opts::new(format!("birdwire_{name}"), help), labels)?;
    r.register(Box::new(c.clone()))?;
    Ok(c)
}

fn gauges(r: &Registry, name: &str, help: &str) -> Result<IntGaugeVec, prometheus::Error> {
    let g = IntGaugeVec::new(Opts::new(format!("birdwire_{name}"), help), &["subscriber"])?;
    r.register(Box::new(g.clone()))?;
    Ok(g)
}

fn histogram(r: &Registry, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, prometheus::Error> {
    let h = Histogram::with_opts(HistogramOpts::new(format!("birdwire_{name}"), help).buckets(buckets.to_vec()))?;
    r.register(Box::new(h.clone()))?;
    Ok(h)
}

fn histograms(r: &Registry, name: &str, help: &str) -> Result<HistogramVec, prometheus::Error> {
    let opts = HistogramOpts::new(format!("birdwire_{name}"), help).buckets(SECONDS.to_vec());
    let h = HistogramVec::new(opts, &["subscriber"])?;
    r.register(Box::new(h.clone()))?;
    Ok(h)
}
