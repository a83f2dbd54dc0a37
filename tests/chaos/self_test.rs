//! The verdict's own test: a clean pair of ledgers passes, and every way of spoiling it is found, as what it is.
//! Runs before every scenario, because a verdict that finds nothing would pass them all.

use crate::ledger::{Answer, Delivery, Reply, Request, text};
use crate::verdict::{
    Allowed, Invariant, Listed, ListedEvent, Violation, audit, judge, one_at_a_time, prompt, punctual,
};
use anyhow::{Result, ensure};
use std::time::Duration;

type Spoil = fn(&mut Story);

/// A whole scenario on paper.
#[derive(Clone)]
struct Story {
    requests: Vec<Request>,
    deliveries: Vec<Delivery>,
    listed: Vec<Listed>,
    events: Vec<ListedEvent>,
    allowed: Allowed,
}

/// Two dialogs of three messages each, two subscribers, no fault.
fn clean() -> Story {
    let subscribers = vec!["a".to_owned(), "b".to_owned()];
    let mut story = Story {
        requests: Vec::new(),
        deliveries: Vec::new(),
        listed: Vec::new(),
        events: Vec::new(),
        allowed: Allowed {
            subscribers: subscribers.clone(),
            kills: 0,
            faults: vec![Duration::ZERO],
            at_work: 2,
            unseen: 0,
        },
    };
    for dialog in ["d1", "d2"] {
        for counter in 1..=3 {
            story.requests.push(request(dialog, counter));
            story.events.push(ListedEvent { state: "stored".to_owned() });
        }
        for subscriber in &subscribers {
            for sequence in 1..=4 {
                story.deliveries.push(delivery(subscriber, dialog, sequence));
            }
        }
    }
    story.listed = story.deliveries.iter().map(|d| listed(d, 1)).collect();
    story
}

fn request(dialog: &str, counter: u64) -> Request {
    Request {
        payload: format!("{dialog}-{counter}"),
        dialog: dialog.to_owned(),
        counter,
        at: Duration::ZERO,
        took: Duration::ZERO,
        answer: Answer::Status(200, None),
    }
}

/// Sequence 1 is the conversation, sequence n the message n - 1.
fn delivery(subscriber: &str, dialog: &str, sequence: u64) -> Delivery {
    let body = match sequence {
        1 => format!(r#"{{"type":"conversation_created","data":{{"id":"lane-{dialog}","reference_id":"{dialog}"}}}}"#),
        _ => format!(
            r#"{{"type":"conversation_message_created","data":{{"id":"{dialog}-{n}","reference_id":"{dialog}",
                "conversation_id":"lane-{dialog}","text":"{}"}}}}"#,
            text(dialog, sequence - 1),
            n = sequence - 1,
        ),
    };
    Delivery {
        subscriber: subscriber.to_owned(),
        at: Duration::ZERO,
        id: format!("{dialog}/{sequence}"),
        lane: format!("lane-{dialog}"),
        sequence,
        replay: false,
        signed: Ok(()),
        body: body.into_bytes(),
        reply: Reply::Status(200),
    }
}

fn listed(delivery: &Delivery, attempts: usize) -> Listed {
    Listed {
        id: 0,
        subscriber: delivery.subscriber.clone(),
        webhook_id: delivery.id.clone(),
        state: "delivered".to_owned(),
        attempts,
    }
}

/// Delivery `index` comes again, right after itself.
fn again(story: &mut Story, index: usize) {
    story.deliveries.insert(index + 1, story.deliveries[index].clone());
}

/// What may happen: no complaint.
const FINE: &[(&str, Spoil)] = &[
    ("nothing", |_| {}),
    ("a refused webhook that is sent again", |s| {
        let mut refused = s.requests[2].clone();
        refused.answer = Answer::Status(503, Some("1".to_owned()));
        s.requests.insert(2, refused);
    }),
    ("a webhook that was cut, and was kept after all", |s| {
        let mut cut = request("d1", 3);
        cut.answer = Answer::Broken("reset".to_owned());
        s.requests.insert(2, cut);
        s.events.push(ListedEvent { state: "duplicate".to_owned() });
    }),
    ("a delivery that is refused and comes again", |s| {
        again(s, 1);
        s.deliveries[1].reply = Reply::Status(500);
    }),
    ("a delivery that hangs and comes again", |s| {
        again(s, 1);
        s.deliveries[1].reply = Reply::Hung;
    }),
    ("a taken delivery that a kill repeats", |s| {
        s.allowed.kills = 1;
        again(s, 1);
    }),
    ("a cut delivery that a kill repeats", |s| {
        s.allowed.kills = 1;
        again(s, 1);
        s.deliveries[1].reply = Reply::Cut;
    }),
    ("a cut delivery that a kill repeats, and that is refused before it is taken", |s| {
        s.allowed.kills = 1;
        again(s, 1);
        again(s, 1);
        s.deliveries[1].reply = Reply::Cut;
        s.deliveries[2].reply = Reply::Status(503);
    }),
    ("a replay, out of order", |s| {
        let mut replay = s.deliveries[0].clone();
        replay.replay = true;
        s.deliveries.push(replay);
    }),
];

/// What may not, and what it is called.
const WRONG: &[(&str, Invariant, Spoil)] = &[
    ("the last message of a lane never comes", Invariant::NoLoss, |s| drop(s.deliveries.remove(3))),
    ("a delivery is refused for ever", Invariant::NoLoss, |s| s.deliveries[3].reply = Reply::Status(500)),
    ("a subscriber gets nothing", Invariant::NoLoss, |s| s.deliveries.retain(|d| d.subscriber == "a")),
    ("a message comes as two events", Invariant::NoLoss, |s| {
        let mut twin = s.deliveries[3].clone();
        twin.id = "twin".into();
        twin.sequence = 5;
        s.deliveries.insert(4, twin);
    }),
    ("a conversation comes as two events", Invariant::NoLoss, |s| {
        let mut twin = s.deliveries[0].clone();
        twin.id = "twin".into();
        twin.sequence = 5;
        s.deliveries.insert(4, twin);
    }),
    ("a message that nobody sent", Invariant::NoInvention, |s| drop(s.requests.remove(2))),
    ("a message with another text", Invariant::NoInvention, |s| {
        for d in s.deliveries.iter_mut().filter(|d| d.id == "d1/4") {
            d.body = String::from_utf8_lossy(&d.body).replace("d1 #3", "d1 #2").into_bytes();
        }
    }),
    ("a message in another lane", Invariant::NoInvention, |s| s.deliveries[3].lane = "lane-d2".into()),
    ("no JSON", Invariant::NoInvention, |s| {
        for d in s.deliveries.iter_mut().filter(|d| d.id == "d1/4") {
            d.body = b"{".to_vec();
        }
    }),
    ("an event of a type that nothing caused", Invariant::NoInvention, |s| {
        let mut odd = delivery("a", "d1", 1);
        odd.id = "odd".into();
        odd.body = String::from_utf8_lossy(&odd.body).replace("_created", "_updated").into_bytes();
        s.deliveries.push(odd);
    }),
    ("a repeat with other bytes", Invariant::NoInvention, |s| {
        again(s, 1);
        s.deliveries[1].reply = Reply::Status(500);
        s.deliveries[2].body.push(b' ');
    }),
    ("a duplicate without a kill", Invariant::BoundedDuplicates, |s| again(s, 1)),
    ("a cut delivery without a kill", Invariant::BoundedDuplicates, |s| {
        again(s, 1);
        s.deliveries[1].reply = Reply::Cut;
    }),
    ("two duplicates in one lane after one kill", Invariant::BoundedDuplicates, |s| {
        s.allowed.kills = 1;
        again(s, 1);
        again(s, 1);
    }),
    ("a duplicate of what was taken long before a kill", Invariant::BoundedDuplicates, |s| {
        s.allowed.kills = 1;
        s.allowed.faults = vec![Duration::from_secs(30)];
        again(s, 1);
        s.deliveries[2].at = Duration::from_secs(31);
    }),
    ("a duplicate before a kill", Invariant::BoundedDuplicates, |s| {
        s.allowed.kills = 1;
        s.allowed.faults = vec![Duration::from_secs(1)];
        again(s, 1);
    }),
    ("more duplicates than lanes at work", Invariant::BoundedDuplicates, |s| {
        s.allowed.kills = 1;
        s.allowed.at_work = 1;
        again(s, 8);
        again(s, 0);
    }),
    ("a gap", Invariant::Order, |s| s.deliveries.swap(1, 2)),
    ("the next before the first was taken", Invariant::Order, |s| {
        again(s, 1);
        s.deliveries[1].reply = Reply::Status(500);
        s.deliveries.swap(2, 3);
    }),
    ("an old delivery after a newer one", Invariant::Order, |s| {
        s.allowed.kills = 1;
        let old = s.deliveries[1].clone();
        s.deliveries.insert(3, old);
    }),
    ("two events in one place", Invariant::Order, |s| {
        s.deliveries[2].sequence = 2;
        s.deliveries[3].sequence = 3;
    }),
    ("messages in another order than they were sent in", Invariant::Order, |s| {
        s.requests[1].counter = 1;
        s.requests[0].counter = 2;
        for d in &mut s.deliveries {
            let body = String::from_utf8_lossy(&d.body).replace("d1 #1", "d1 #x").replace("d1 #2", "d1 #1");
            d.body = body.replace("d1 #x", "d1 #2").into_bytes();
        }
    }),
    ("a signature that does not match", Invariant::Signed, |s| s.deliveries[5].signed = Err("mismatch".to_owned())),
];

/// Where the gateway's books lie.
const LIES: &[(&str, Spoil)] = &[
    ("delivered, which nobody took", |s| s.deliveries[3].reply = Reply::Status(500)),
    ("delivered, which nobody saw", |s| {
        s.deliveries.remove(3);
        s.listed[3].attempts = 0;
    }),
    ("dead, which was taken", |s| s.listed[3].state = "dead".into()),
    ("not listed", |s| drop(s.listed.remove(3))),
    ("more attempts than were seen", |s| s.listed[3].attempts = 2),
    ("fewer attempts than were seen", |s| again(s, 3)),
    ("an event too few", |s| drop(s.events.pop())),
    ("an event too many", |s| s.events.push(ListedEvent { state: "duplicate".to_owned() })),
    ("a message in quarantine", |s| s.events[0].state = "quarantined".into()),
];

/// What of an answer is too late, or wrong: `true` for those that must be found.
const ANSWERS: &[(&str, bool, Spoil)] = &[
    ("at once", false, |_| {}),
    ("in time", false, |s| s.requests[0].took = SECOND),
    ("refused in time, and told when to come again", false, |s| {
        s.requests[0].answer = Answer::Status(503, Some("1".to_owned()));
    }),
    ("too late", true, |s| s.requests[0].took = SECOND * 2),
    ("refused too late", true, |s| {
        s.requests[0].took = SECOND * 2;
        s.requests[0].answer = Answer::Status(503, Some("1".to_owned()));
    }),
    ("not told when to come again", true, |s| s.requests[0].answer = Answer::Status(503, None)),
    ("another refusal", true, |s| s.requests[0].answer = Answer::Status(500, Some("1".to_owned()))),
    ("no answer", true, |s| s.requests[0].answer = Answer::Broken("reset".to_owned())),
];

/// The same of what is tried again, which has a second's time after the first second.
const RETRIES: &[(&str, bool, Spoil)] = &[
    ("nothing to try again", false, |_| {}),
    ("in its time", false, |s| refused_until(s, SECOND)),
    ("at the last moment", false, |s| refused_until(s, SECOND * 2)),
    ("too soon", true, |s| refused_until(s, SECOND / 2)),
    ("too late", true, |s| refused_until(s, SECOND * 3)),
    ("never", true, |s| s.deliveries[3].reply = Reply::Status(503)),
];

/// Who did what one does at a time, how often it was handed on, and whether that is right.
const SHIFTS: &[(&[&str], usize, bool)] = &[
    (&["a", "a", "a"], 0, true),
    (&["a", "a", "b", "b"], 1, true),
    (&["a", "b"], 0, false),
    (&["a", "a"], 1, false),
    (&["a", "b", "a"], 1, false),
    (&["a", "b", "a"], 2, false),
    (&[], 0, false),
];

const SECOND: Duration = Duration::from_secs(1);

/// Delivery 3 is refused, and comes again after a while.
fn refused_until(story: &mut Story, after: Duration) {
    again(story, 3);
    story.deliveries[3].reply = Reply::Status(503);
    story.deliveries[4].at = after;
}

/// Whether each story is judged as it must be.
fn sorted(cases: &[(&str, bool, Spoil)], judgement: impl Fn(&Story) -> Vec<Violation>) -> Result<()> {
    for (name, wrong, spoil) in cases {
        let found = judgement(&spoilt(*spoil));
        ensure!(found.is_empty() != *wrong, "{name}: should be wrong: {wrong}; the verdict says {found:?}");
    }
    Ok(())
}

/// Fails with the first case that is not judged as it must be.
pub(crate) fn run() -> Result<usize> {
    for (name, spoil) in FINE {
        let story = spoilt(*spoil);
        let found = judge(&story.requests, &story.deliveries, &story.allowed).violations;
        ensure!(found.is_empty(), "{name} is fine, but the verdict says: {found:?}");
    }
    for (name, invariant, spoil) in WRONG {
        let story = spoilt(*spoil);
        let found = judge(&story.requests, &story.deliveries, &story.allowed).violations;
        let right = found.iter().any(|violation| violation.invariant == *invariant);
        ensure!(right, "{name} is against {invariant:?}, but the verdict says: {found:?}");
    }
    let lies = |s: &Story| audit(&s.requests, &s.deliveries, &s.allowed, &s.listed, &s.events);
    let found = lies(&clean());
    ensure!(found.is_empty(), "honest books, but the audit says: {found:?}");
    for (name, spoil) in LIES {
        ensure!(!lies(&spoilt(*spoil)).is_empty(), "{name}, and the audit says nothing");
    }
    let mut unseen = spoilt(|s| s.listed[3].attempts = 2);
    unseen.allowed.unseen = 1;
    let found = lies(&unseen);
    ensure!(found.is_empty(), "an attempt that was none may be listed, but the audit says: {found:?}");
    sorted(ANSWERS, |s| prompt(&s.requests, SECOND))?;
    sorted(RETRIES, |s| punctual(&s.deliveries, SECOND, SECOND * 2))?;
    for (work, handed, right) in SHIFTS {
        let work: Vec<String> = work.iter().map(|who| (*who).to_owned()).collect();
        let found = one_at_a_time(&work, *handed);
        ensure!(found.is_empty() == *right, "{work:?}, handed on {handed} times: the verdict says {found:?}");
    }
    Ok(SHIFTS.len() + FINE.len() + WRONG.len() + LIES.len() + 2 + ANSWERS.len() + RETRIES.len())
}

fn spoilt(spoil: Spoil) -> Story {
    let mut story = clean();
    spoil(&mut story);
    story
}
