//! The one verdict: a pure function over both ledgers, the same for every scenario.
//!
//! It is told nothing about how the gateway works, only what a scenario did that may show: how often a process was
//! killed, and how many deliveries could be under way then.

use crate::ledger::{Answer, Delivery, Reply, Request, text};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::time::Duration;

/// What a gateway must never break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Invariant {
    /// I1: what was answered 200 reaches every subscriber, as one event.
    NoLoss,
    /// I2: what reaches a subscriber was sent, and its bytes never change.
    NoInvention,
    /// I3: nothing comes twice, but for what a kill cut.
    BoundedDuplicates,
    /// I4: a lane's deliveries succeed in the order of their sequence, without gaps.
    Order,
    /// I5: every delivery is signed.
    Signed,
    /// I6: the gateway's own books say what the ledgers say.
    Honest,
    /// I7: what was broken works again soon.
    Recovery,
    /// I8: memory stays within bounds.
    Bounds,
    /// I10: the store is intact.
    Intact,
    /// What this one scenario expects on top.
    Expected,
}

/// One thing that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Of what.
    pub(crate) invariant: Invariant,
    /// For whoever has to find the reason.
    pub(crate) what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.invariant, self.what)
    }
}

/// What a scenario did that may show in the ledgers.
#[derive(Clone, Debug)]
pub(crate) struct Allowed {
    /// Everybody who is owed everything.
    pub(crate) subscribers: Vec<String>,
    /// How often a process was killed.
    pub(crate) kills: usize,
    /// When something broke because of which an attempt may not have been recorded, from the beginning of the scenario.
    pub(crate) faults: Vec<Duration>,
    /// Lanes at work at once, per subscriber.
    pub(crate) at_work: usize,
    /// How often a lane may have been taken by a node that then did not know of it: what is listed as an attempt of
    /// unknown outcome was none.
    pub(crate) unseen: usize,
}

/// An attempt that was made longer than this before something broke was recorded: it never comes again.
const REACH: Duration = Duration::from_secs(2);

/// What is wrong, and what was counted on the way.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Everything that is wrong.
    pub(crate) violations: Vec<Violation>,
    /// Deliveries that came again although they had been taken, or cut.
    pub(crate) duplicates: usize,
}

impl Verdict {
    fn add(&mut self, invariant: Invariant, what: String) {
        self.violations.push(Violation { invariant, what });
    }
}

/// Judges a finished scenario.
pub(crate) fn judge(requests: &[Request], deliveries: &[Delivery], allowed: &Allowed) -> Verdict {
    let mut verdict = Verdict::default();
    let sent = Sent::new(requests);
    same_bytes(deliveries, &mut verdict);
    for delivery in deliveries {
        if let Err(why) = &delivery.signed {
            verdict.add(Invariant::Signed, format!("{}: {why}", place(delivery)));
        }
    }
    for subscriber in &allowed.subscribers {
        let received: Vec<(&Delivery, Event)> = deliveries
            .iter()
            .filter(|d| d.subscriber == *subscriber)
            .filter_map(|delivery| match Event::read(delivery, &sent) {
                Ok(event) => Some((delivery, event)),
                Err(why) => {
                    verdict.add(Invariant::NoInvention, format!("{}: {why}", place(delivery)));
                    None
                }
            })
            .collect();
        nothing_lost(subscriber, &sent, &received, &mut verdict);
        duplicates(subscriber, &received, allowed, &mut verdict);
        order(&received, &mut verdict);
    }
    verdict
}

/// What the provider sent, by payload.
struct Sent<'a> {
    messages: HashMap<&'a str, (&'a Request, bool)>,
    dialogs: BTreeMap<&'a str, bool>,
}

impl<'a> Sent<'a> {
    fn new(requests: &'a [Request]) -> Self {
        let mut sent = Self { messages: HashMap::new(), dialogs: BTreeMap::new() };
        for request in requests {
            let taken = request.answer.is_taken();
            sent.messages.entry(&request.payload).or_insert((request, false)).1 |= taken;
            *sent.dialogs.entry(&request.dialog).or_default() |= taken;
        }
        sent
    }
}

/// What a delivery tells.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Event {
    /// A dialog has begun.
    Conversation { dialog: String },
    /// A message of it.
    Message { payload: String, counter: u64 },
}

#[derive(Deserialize)]
struct Body {
    r#type: String,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    id: String,
    reference_id: String,
    conversation_id: Option<String>,
    text: Option<String>,
}

impl Event {
    fn read(delivery: &Delivery, sent: &Sent<'_>) -> Result<Self, String> {
        let body: Body = serde_json::from_slice(&delivery.body).map_err(|e| format!("unreadable: {e}"))?;
        let Data { id, reference_id: dialog, conversation_id, text: said } = body.data;
        let conversation = conversation_id.as_ref().unwrap_or(&id);
        if *conversation != delivery.lane {
            return Err(format!("is about conversation {conversation}, which is not its lane"));
        }
        match body.r#type.as_str() {
            "conversation_created" if sent.dialogs.contains_key(dialog.as_str()) => Ok(Self::Conversation { dialog }),
            "conversation_message_created" => {
                let Some((request, _)) = sent.messages.get(id.as_str()) else {
                    return Err(format!("message {id} was never sent"));
                };
                if request.dialog != dialog || said.as_deref() != Some(&text(&request.dialog, request.counter)) {
                    return Err(format!("message {id} is not what was sent: {said:?} in {dialog}"));
                }
                Ok(Self::Message { payload: id, counter: request.counter })
            }
            other => Err(format!("nobody caused this {other} about {dialog}")),
        }
    }
}

fn place(delivery: &Delivery) -> String {
    let Delivery { subscriber, id, lane, sequence, at, .. } = delivery;
    format!("{subscriber} got {id} (lane {lane}, sequence {sequence}) at {:.3} s", at.as_secs_f64())
}

/// A repeated delivery, and the same event at another subscriber, have the same bytes.
fn same_bytes(deliveries: &[Delivery], verdict: &mut Verdict) {
    let mut bodies: HashMap<&str, &[u8]> = HashMap::new();
    for delivery in deliveries {
        if *bodies.entry(&delivery.id).or_insert(&delivery.body) != delivery.body.as_slice() {
            verdict.add(Invariant::NoInvention, format!("{}: with other bytes than before", place(delivery)));
        }
    }
}

fn nothing_lost(subscriber: &str, sent: &Sent<'_>, received: &[(&Delivery, Event)], verdict: &mut Verdict) {
    let mut ids: HashMap<&Event, BTreeSet<&str>> = HashMap::new();
    let mut taken: HashSet<&Event> = HashSet::new();
    for (delivery, event) in received {
        ids.entry(event).or_default().insert(&delivery.id);
        if delivery.reply.is_taken() {
            taken.insert(event);
        }
    }
    let owed_dialogs = sent.dialogs.iter().filter(|(_, taken)| **taken);
    let owed_messages = sent.messages.iter().filter(|(_, (_, taken))| *taken);
    let mut owed: Vec<Event> =
        owed_dialogs
            .map(|(dialog, _)| Event::Conversation { dialog: (*dialog).to_owned() })
            .chain(owed_messages.map(|(payload, (request, _))| Event::Message {
                payload: (*payload).to_owned(),
                counter: request.counter,
            }))
            .collect();
    owed.sort();
    for event in owed.iter().filter(|event| !taken.contains(event)) {
        verdict.add(Invariant::NoLoss, format!("{subscriber} never took {event:?}"));
    }
    for (event, ids) in ids.iter().filter(|(_, ids)| ids.len() > 1) {
        verdict.add(Invariant::NoLoss, format!("{subscriber} got {event:?} as several events: {ids:?}"));
    }
}

/// A delivery that comes again when it was last taken or cut is a duplicate. After a refusal or a hang it is what
/// was asked for. A crash may repeat what was under way just before: one delivery per lane, as many lanes as may be at
/// work.
fn duplicates(subscriber: &str, received: &[(&Delivery, Event)], allowed: &Allowed, verdict: &mut Verdict) {
    let mut last: HashMap<&str, &Delivery> = HashMap::new();
    let mut by_lane: BTreeMap<&str, Vec<&Delivery>> = BTreeMap::new();
    for (delivery, _) in received.iter().filter(|(d, _)| !d.replay) {
        let Some(before) = last.insert(&delivery.id, delivery) else { continue };
        if before.reply.is_taken() || before.reply == Reply::Cut {
            by_lane.entry(&delivery.lane).or_default().push(delivery);
            if !allowed.faults.iter().any(|fault| before.at + REACH >= *fault && *fault <= delivery.at) {
                let what = format!(
                    "{}: again, at {:.1?} and at {:.1?}, though nothing broke then",
                    place(delivery),
                    before.at,
                    delivery.at
                );
                verdict.add(Invariant::BoundedDuplicates, what);
            }
        }
    }
    for repeats in by_lane.values().filter(|repeats| repeats.len() > allowed.kills) {
        for repeat in &repeats[allowed.kills..] {
            let what = format!("{}: again, more often than {} kills explain", place(repeat), allowed.kills);
            verdict.add(Invariant::BoundedDuplicates, what);
        }
    }
    let all: usize = by_lane.values().map(Vec::len).sum();
    let most = allowed.kills * allowed.at_work;
    if all > most {
        verdict.add(Invariant::BoundedDuplicates, format!("{subscriber} got {all} duplicates, {most} are explained"));
    }
    verdict.duplicates += all;
}

fn order(received: &[(&Delivery, Event)], verdict: &mut Verdict) {
    let mut lanes: HashMap<&str, Lane<'_>> = HashMap::new();
    for (delivery, event) in received.iter().filter(|(d, _)| !d.replay) {
        let lane = lanes.entry(&delivery.lane).or_default();
        if let Err(why) = lane.follow(delivery, event) {
            verdict.add(Invariant::Order, format!("{}: {why}", place(delivery)));
        }
    }
}

/// How far one subscriber is in one lane.
#[derive(Default)]
struct Lane<'a> {
    /// Sequence numbers taken so far: 1 to this one.
    taken: u64,
    /// The newest sequence number seen, and what came under it.
    newest: (u64, &'a str),
    /// Messages taken so far.
    counter: u64,
}

impl<'a> Lane<'a> {
    fn follow(&mut self, delivery: &'a Delivery, event: &Event) -> Result<(), String> {
        let Delivery { sequence, id, .. } = delivery;
        let (newest, known) = self.newest;
        if *sequence > self.taken + 1 {
            return Err(format!("too early, only {} were taken before", self.taken));
        }
        if *sequence < newest {
            return Err(format!("too late, {newest} was sent before"));
        }
        if *sequence == newest && id != known {
            return Err(format!("takes the place of {known}"));
        }
        self.newest = (*sequence, id);
        if !delivery.reply.is_taken() || *sequence == self.taken {
            return Ok(());
        }
        self.taken = *sequence;
        if let Event::Message { counter, .. } = event {
            if *counter != self.counter + 1 {
                return Err(format!("is message #{counter} of its dialog, after #{}", self.counter));
            }
            self.counter = *counter;
        }
        Ok(())
    }
}

/// A delivery as the gateway itself lists it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Listed {
    /// Names it in commands.
    pub(crate) id: i64,
    /// Whose.
    pub(crate) subscriber: String,
    /// Its id.
    pub(crate) webhook_id: String,
    /// Where it stands.
    pub(crate) state: String,
    /// How often it was tried.
    pub(crate) attempts: usize,
}

/// An event as the gateway itself lists it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ListedEvent {
    /// What became of it.
    pub(crate) state: String,
}

/// Compares the gateway's own books with the ledgers.
pub(crate) fn audit(
    requests: &[Request],
    deliveries: &[Delivery],
    allowed: &Allowed,
    listed: &[Listed],
    events: &[ListedEvent],
) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut add = |what: String| violations.push(Violation { invariant: Invariant::Honest, what });

    let mut seen: BTreeMap<(&str, &str), (usize, bool)> = BTreeMap::new();
    for delivery in deliveries {
        let (times, taken) = seen.entry((&delivery.subscriber, &delivery.id)).or_default();
        *times += 1;
        *taken |= delivery.reply.is_taken();
    }
    for row in listed {
        let key = (row.subscriber.as_str(), row.webhook_id.as_str());
        let (times, taken) = seen.remove(&key).unwrap_or_default();
        if taken != (row.state == "delivered") {
            let took = if taken { "took" } else { "did not take" };
            add(format!("{} is {} but {} {took} it", row.webhook_id, row.state, row.subscriber));
        }
        // An attempt that a kill cut is counted, whether it had reached the subscriber or not.
        if !(times..=times + allowed.kills + allowed.unseen).contains(&row.attempts) {
            add(format!("{}: {} attempts are listed, {} saw {times}", row.webhook_id, row.attempts, row.subscriber));
        }
    }
    for (subscriber, id) in seen.keys() {
        add(format!("{subscriber} got {id}, which is not listed"));
    }

    let stored = events.iter().filter(|event| event.state == "stored").count();
    let payloads: BTreeSet<&str> = requests.iter().map(|r| r.payload.as_str()).collect();
    let taken: BTreeSet<&str> = requests.iter().filter(|r| r.answer.is_taken()).map(|r| r.payload.as_str()).collect();
    if !(taken.len()..=payloads.len()).contains(&stored) {
        add(format!("{stored} events are stored, of {} webhooks {} were taken", payloads.len(), taken.len()));
    }
    let answered = requests.iter().filter(|r| r.answer.is_taken()).count();
    if !(answered..=requests.len()).contains(&events.len()) {
        add(format!("{} events are listed, {answered} of {} requests were taken", events.len(), requests.len()));
    }
    if let Some(odd) = events.iter().find(|e| e.state != "stored" && e.state != "duplicate") {
        add(format!("an event is {}", odd.state));
    }
    violations
}

/// Every request is answered within `limit`, with 200 or with 503 and `Retry-After`.
pub(crate) fn prompt(requests: &[Request], limit: Duration) -> Vec<Violation> {
    let mut violations = Vec::new();
    for request in requests {
        let right = match &request.answer {
            Answer::Status(200, _) | Answer::Status(503, Some(_)) => request.took <= limit,
            _ => false,
        };
        if !right {
            let Request { payload, took, answer, at, .. } = request;
            let what = format!("{payload} was answered {answer:?} after {took:.0?}, at {:.3} s", at.as_secs_f64());
            violations.push(Violation { invariant: Invariant::Expected, what });
        }
    }
    violations
}

/// What was refused comes again, not before `first` and not after `last`, counted from when it came before.
pub(crate) fn punctual(deliveries: &[Delivery], first: Duration, last: Duration) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut refused: HashMap<(&str, &str), Duration> = HashMap::new();
    for delivery in deliveries {
        let key = (delivery.subscriber.as_str(), delivery.id.as_str());
        if let Some(before) = refused.remove(&key) {
            let waited = delivery.at.saturating_sub(before);
            if !(first..=last).contains(&waited) {
                let what = format!("{}: {waited:.0?} after it was refused", place(delivery));
                violations.push(Violation { invariant: Invariant::Expected, what });
            }
        }
        if matches!(delivery.reply, Reply::Status(status) if !(200..300).contains(&status)) {
            refused.insert(key, delivery.at);
        }
    }
    for (subscriber, id) in refused.keys() {
        let what = format!("{subscriber} never got {id} again, which it refused");
        violations.push(Violation { invariant: Invariant::Expected, what });
    }
    violations
}

/// Work that one node does at a time: who did it, in order. It changes hands only when `handed` says so, and does
/// each time; nobody has it back.
pub(crate) fn one_at_a_time(work: &[String], handed: usize) -> Vec<Violation> {
    let mut holders: Vec<&str> = Vec::new();
    for who in work {
        if holders.last() != Some(&who.as_str()) {
            holders.push(who);
        }
    }
    if holders.len() == handed + 1 && holders.iter().collect::<BTreeSet<_>>().len() == holders.len() {
        return Vec::new();
    }
    let what = format!("done by {holders:?}, and handed on {handed} times");
    vec![Violation { invariant: Invariant::Expected, what }]
}
