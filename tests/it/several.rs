//! Several nodes on one database: what only they can do, or do to each other.

use crate::conformance::Engine;
use crate::conformance::handing::Hands;
use crate::conformance::servers::{Postgres, run, schema, server};
use crate::conformance::world::{LEASE, World, account, at, attempt, messages, note, open, open_with, refused};
use birdwire::domain::delivery::{Order, State};
use birdwire::domain::event::End;
use birdwire::domain::route::SubscriberId;
use birdwire::domain::time::Timestamp;
use birdwire::metrics::Metrics;
use birdwire::store::lane::{Advance, Claim, Claimed, Verdict};
use birdwire::store::listing::{NodeState, Retained};
use birdwire::store::{self, Access, LeaseClock, Opening, Store, StoreError};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// A world and further nodes on its store.
async fn nodes(count: usize, order: Order) -> (World, Vec<Arc<dyn Store>>) {
    let world = World::new(&Postgres, &[messages("crm", order)]).await;
    let mut stores = vec![world.store.clone()];
    for _ in 1..count {
        stores.push(open(&world.place, Access::Serve).await.unwrap());
    }
    (world, stores)
}

async fn end(world: World, stores: Vec<Arc<dyn Store>>) {
    for store in &stores[1..] {
        store.close().await;
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_webhook_at_every_node_is_one_message() {
    let (world, stores) = nodes(3, Order::Strict).await;
    for round in 0..5 {
        let mut answers = JoinSet::new();
        for number in 0..30 {
            let inbound = world.inbound(account(1), at(0), vec![note("U1", &format!("m{round}")).event()]);
            let store = stores[number % 3].clone();
            answers.spawn(async move { store.commit_inbound(inbound).await.unwrap().ends.remove(0) });
        }
        let ends = answers.join_all().await;
        assert_eq!(ends.iter().filter(|end| **end == End::Stored).count(), 1, "{ends:?}");
    }
    let rows = world.deliveries().await;
    assert_eq!(rows.iter().map(|row| row.sequence).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    end(world, stores).await;
}

/// Webhooks that speak of the same people in any order, at several nodes at once: nobody waits for ever, every lane
/// is numbered without gaps, and in the order in which its messages were told of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_do_not_get_in_each_other_s_way() {
    let (world, stores) = nodes(3, Order::Strict).await;
    let mut answers = JoinSet::new();
    for number in 0..90usize {
        let mut dialogs = ["U1", "U2", "U3", "U4", "U5"];
        dialogs.rotate_left(number % 5);
        if number % 2 == 0 {
            dialogs.reverse();
        }
        let events = dialogs.iter().map(|dialog| note(dialog, &format!("{dialog}-{number}")).event()).collect();
        let inbound = world.inbound(account(1), at(0), events);
        let store = stores[number % 3].clone();
        answers.spawn(async move { store.commit_inbound(inbound).await });
    }
    for answer in answers.join_all().await {
        assert!(answer.unwrap().ends.iter().all(|end| *end == End::Stored));
    }
    let mut lanes: BTreeMap<_, Vec<i64>> = BTreeMap::new();
    for row in world.deliveries().await {
        lanes.entry(row.conversation).or_default().push(row.sequence);
    }
    assert_eq!(lanes.len(), 5);
    for sequences in lanes.values_mut() {
        sequences.sort_unstable();
        assert_eq!(*sequences, (1..=90).collect::<Vec<i64>>());
    }
    end(world, stores).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_is_claimed_by_one_node() {
    let (world, stores) = nodes(4, Order::Strict).await;
    for number in 0..40 {
        world.write(&format!("U{number}"), &[&format!("m{number}")]).await;
    }
    let mut claims = JoinSet::new();
    for store in &stores {
        let store = store.clone();
        claims.spawn(async move {
            let mut mine = Vec::new();
            loop {
                let claim = Claim { subscriber: SubscriberId("crm".to_owned()), lanes: 3 };
                let claimed = store.claim_lanes(vec![claim], at(1), LEASE).await.unwrap().leased;
                if claimed.is_empty() {
                    return mine;
                }
                mine.extend(claimed.into_iter().map(|lane| lane.owed.delivery));
            }
        });
    }
    let mut claimed: Vec<i64> = claims.join_all().await.concat();
    // What somebody else was just busy with is found by the next look.
    claimed.extend(world.claim(at(1)).await.into_iter().map(|lane| lane.owed.delivery));
    claimed.sort_unstable();
    let owed: Vec<i64> = world.deliveries().await.iter().map(|row| row.id).collect();
    assert_eq!(claimed, owed, "each once");
    end(world, stores).await;
}

/// Webhooks of five people at two nodes at once: whoever commits first for a lane gets it, and the other adds to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_is_handed_to_one_node() {
    let (world, stores) = nodes(2, Order::Strict).await;
    let hands = [Hands::at(&*stores[0], 64), Hands::at(&*stores[1], 64)];
    let mut answers = JoinSet::new();
    for number in 0..60 {
        let inbound =
            world.inbound(account(1), at(0), vec![note(&format!("U{}", number % 5), &format!("m{number}")).event()]);
        let store = stores[number % 2].clone();
        answers.spawn(async move { store.commit_inbound(inbound).await.unwrap().ends.remove(0) });
    }
    assert!(answers.join_all().await.iter().all(|end| *end == End::Stored));
    let (first, second) = (hands[0].so_far(), hands[1].so_far());
    let mut lanes: Vec<_> = first.iter().chain(&second).map(|(leased, _)| leased).collect();
    lanes.sort_unstable_by_key(|leased| leased.conversation.0);
    lanes.dedup_by_key(|leased| leased.conversation);
    assert_eq!((lanes.len(), first.len() + second.len()), (5, 5), "each to one of them");
    assert!(lanes.iter().all(|leased| leased.owed.sequence == 1), "from its beginning");
    assert_eq!(world.claim(at(1)).await, [], "and nothing is left to be claimed");

    // The other node goes on where the first one stopped.
    let lane = lanes[0].clone();
    let mut held = lane.clone();
    for sequence in 1..=12 {
        let mut done = attempt(&held, Verdict::Delivered, at(2));
        done.extend = Some(LEASE);
        match stores[0].record_attempt(done).await.unwrap() {
            Advance::Next(next) => held.owed = *next,
            advance => assert_eq!((advance, sequence), (Advance::Released, 12)),
        }
    }
    let dialog = (0..5)
        .map(|n| format!("U{n}"))
        .find(|dialog| note(dialog, "m").event().content.conversation_id(&account(1)) == lane.conversation);
    let more = world.inbound(account(1), at(3), vec![note(&dialog.unwrap(), "more").event()]);
    stores[1].commit_inbound(more).await.unwrap();
    let (leased, _place) = hands[1].so_far().remove(0);
    assert_eq!((leased.conversation, leased.owed.sequence), (lane.conversation, 13));
    assert!(leased.lease.token > lane.lease.token);
    assert!(hands.iter().all(|hands| hands.are_settled()), "places that were not needed");
    drop((first, second));
    end(world, stores).await;
}

async fn claim_by(store: &dyn Store, now: Timestamp, lease: Duration) -> Claimed {
    let claim = Claim { subscriber: SubscriberId("crm".to_owned()), lanes: 10 };
    store.claim_lanes(vec![claim], now, lease).await.unwrap()
}

/// A node whose clock is wrong by an hour takes nothing before its time and holds nothing beyond it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_go_by_the_database_s_clock() {
    let world = World::simple(&Postgres).await;
    let late = open_with(&world.place, Access::Serve, LeaseClock::Store).await.unwrap();
    let early = open_with(&world.place, Access::Serve, LeaseClock::Store).await.unwrap();
    let right: Timestamp = (birdwire::app::system_clock())();
    let (behind, ahead) = (right.minus(Duration::from_hours(1)), right.plus(Duration::from_hours(1)));
    let inbound = world.inbound(account(1), ahead, vec![note("U1", "a").event(), note("U1", "b").event()]);
    early.commit_inbound(inbound).await.unwrap();

    let mut held = claim_by(&*late, behind, Duration::from_secs(3)).await.leased;
    assert_eq!(held.len(), 1, "committed by a clock that is ahead, due all the same");
    let found = claim_by(&*early, ahead, LEASE).await;
    assert_eq!(found.leased, [], "its lease has not run out, whatever time it is here");
    let wait = found.next_due.expect("the lease's end").since(ahead);
    assert!(wait <= Duration::from_secs(3), "told in the caller's own time: {wait:?}");
    let began = Instant::now();
    let taken = loop {
        let mut found = claim_by(&*early, ahead, LEASE).await.leased;
        if let Some(taken) = found.pop() {
            break taken;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "the lease never runs out");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(began.elapsed() > Duration::from_millis(500), "it was respected");
    let slow = held.remove(0);
    assert_eq!(taken.owed.delivery, slow.owed.delivery);
    let stale = crate::conformance::world::attempt(&slow, Verdict::Delivered, behind);
    assert_eq!(late.record_attempt(stale).await.unwrap(), birdwire::store::lane::Advance::Lost);
    // A retry in two seconds is one in two seconds by everybody's clock.
    let mut failed = crate::conformance::world::attempt(&taken, Verdict::Delivered, ahead);
    failed.verdict = Verdict::Retry { due: failed.ended_at.plus(Duration::from_secs(2)) };
    early.record_attempt(failed).await.unwrap();
    let wait = claim_by(&*late, behind, LEASE).await.next_due.expect("the retry").since(behind);
    assert!(wait <= Duration::from_secs(2), "{wait:?}");
    late.close().await;
    early.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_nodes_may_start_at_once() {
    let place = Arc::new(Postgres.place());
    let mut starts = JoinSet::new();
    for _ in 0..8 {
        let place = place.clone();
        starts.spawn(async move { open(&place, Access::Serve).await.unwrap() });
    }
    let stores = starts.join_all().await;
    let rows = run(&schema(&place), "SELECT count(*), count(DISTINCT version) FROM migrations");
    assert_eq!(rows[0][0], rows[0][1], "each migration once");
    let listed = stores[0].nodes().await.unwrap();
    assert!(listed.len() <= 8 && listed.iter().all(|node| node.state == NodeState::Alive), "{listed:?}");
    for store in stores {
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_keeps_house_until_it_ends() {
    let (world, stores) = nodes(2, Order::Strict).await;
    for node in &stores {
        // A heartbeat, so that both are known.
        node.probe(at(0)).await.unwrap();
    }
    world.write("U1", &["a"]).await;
    let later = at(9 * crate::conformance::world::DAY);
    assert_eq!(stores[1].retain(at(0), at(0), 10).await.unwrap(), Retained::default(), "takes the duty");
    let listed = world.store.nodes().await.unwrap();
    assert_eq!(listed.len(), 2);
    assert_eq!(listed.iter().filter(|node| node.duties == ["retention"]).count(), 1);
    assert_eq!(stores[0].retain(later, later, 10).await.unwrap(), Retained::default(), "it is the other's");
    stores[1].close().await;
    assert_eq!(stores[0].retain(later, later, 10).await.unwrap().raw, 1);
    let listed = world.store.nodes().await.unwrap();
    let states: Vec<_> = listed.iter().map(|node| (node.state, node.duties.len())).collect();
    assert!(states.contains(&(NodeState::Stopped, 0)) && states.contains(&(NodeState::Alive, 1)), "{states:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_text_cannot_hold_is_kept() {
    let world = World::simple(&Postgres).await;
    let mut odd = note("U\u{0}1", "key\u{0}");
    odd.text = "before\u{0}after \\ \u{10ffff}".to_owned();
    assert_eq!(world.commit(&[odd.clone()]).await, [End::Stored]);
    let events = world.events().await;
    assert_eq!(events[0].provider_key.as_deref(), Some("key\u{0}"));
    let leased = world.claim_one(at(1)).await;
    let body: serde_json::Value = serde_json::from_slice(&leased.owed.body).unwrap();
    assert_eq!(body["data"]["text"], odd.text);
    let id = events[0].message.unwrap();
    let history = world.store.history(account(1), id).await.unwrap().unwrap();
    assert_eq!((history.known.message.text, history.known.message.dialog_id), (odd.text, odd.dialog));
    world.end().await;
}

/// Whether the way to the server is encrypted depends on the server; what is asked for is never quietly given up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encryption_is_as_asked_for() {
    let place = Postgres.place();
    let with =
        |mode: &str| crate::conformance::Place { url: format!("{}&sslmode={mode}", place.url), _hold: Box::new(()) };
    let encrypted = "SELECT count(*) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid)
                     WHERE s.ssl AND a.application_name = 'birdwire'";
    if run("public", "SHOW ssl")[0][0].as_deref() == Some("on") {
        let store = open(&with("require"), Access::Serve).await.unwrap();
        let before: usize = run("public", encrypted)[0][0].as_ref().unwrap().parse().unwrap();
        assert!(before > 0, "the connection is encrypted");
        store.close().await;
        // Its certificate is nobody's that the system trusts.
        let why = refused_or_away(open(&with("verify-full"), Access::Read).await);
        assert!(why.contains("certificate"), "{why}");
    } else {
        let why = refused_or_away(open(&with("require"), Access::Read).await);
        assert!(why.contains("TLS"), "{why}");
    }
    let store = open(&with("disable"), Access::Serve).await.unwrap();
    store.close().await;
    assert!(server().starts_with("postgres"));
}

fn refused_or_away(opened: Result<Arc<dyn Store>, StoreError>) -> String {
    refused(opened)
}

/// A way to the server that can be opened and shut.
async fn gate(listener: TcpListener, target: String) {
    while let Ok((mut near, _)) = listener.accept().await {
        let target = target.clone();
        tokio::spawn(async move {
            if let Ok(mut far) = TcpStream::connect(target).await {
                tokio::io::copy_bidirectional(&mut near, &mut far).await.ok();
            }
        });
    }
}

/// A node starts without its database, says so to whoever asks, and is there when the database is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_waits_for_its_database() {
    let place = Postgres.place();
    let config: tokio_postgres::Config = place.url.parse().unwrap();
    let (Some(tokio_postgres::config::Host::Tcp(host)), Some(&port)) =
        (config.get_hosts().first(), config.get_ports().first())
    else {
        panic!("the server under test is reached by TCP")
    };
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = closed.local_addr().unwrap();
    drop(closed);
    let url = place.url.replacen(&format!("{host}:{port}"), &own.to_string(), 1);
    assert_ne!(url, place.url, "the URL names host and port");
    let metrics = Metrics::new().unwrap();
    let opening = Opening {
        access: Access::Serve,
        now: at(0),
        metrics: &metrics,
        connections: 4,
        node: "late",
        chance: || fastrand::u128(..),
        clock: LeaseClock::Caller,
    };
    let store = store::open(&url, opening.clone()).await.unwrap();
    store.register_subscribers(&[(SubscriberId("crm".to_owned()), Order::Strict)]).await.unwrap();
    let began = Instant::now();
    assert!(matches!(store.probe(at(0)).await, Err(StoreError::Unavailable { .. })));
    let world = World::simple(&Postgres).await;
    let inbound = || world.inbound(account(1), at(0), vec![note("U1", "a").event()]);
    assert!(matches!(store.commit_inbound(inbound()).await, Err(StoreError::Unavailable { .. })));
    assert!(began.elapsed() < Duration::from_secs(1), "nobody waits for a database that is away");
    // Whoever only looks is told at once.
    let why = refused(store::open(&url, Opening { access: Access::Read, ..opening }).await);
    assert!(why.contains("cannot be reached"), "{why}");

    let listener = TcpListener::bind(own).await.unwrap();
    let gate = tokio::spawn(gate(listener, format!("{host}:{port}")));
    let committed = async {
        loop {
            match store.commit_inbound(inbound()).await {
                Ok(receipt) => return receipt.ends,
                Err(StoreError::Unavailable { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(other) => panic!("{other:?}"),
            }
        }
    };
    let ends = tokio::time::timeout(Duration::from_secs(20), committed).await.expect("it comes back");
    assert!(ends == [End::Stored] || ends == [End::Duplicate { conflict: false }], "{ends:?}");
    let known = async {
        while store.subscribers().await.is_ok_and(|all| !all.iter().any(|s| s.configured)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), known).await.expect("its subscribers are made known");
    let rows = store.deliveries(birdwire::store::listing::DeliveryQuery { limit: 9, ..Default::default() }).await;
    assert_eq!(rows.unwrap().iter().map(|row| row.state).collect::<Vec<_>>(), [State::Pending]);
    gate.abort();
    store.close().await;
    world.end().await;
}
