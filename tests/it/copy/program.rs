//! The command itself: what it prints, how it exits, and that it may be killed at any moment.

use super::grown::grown;
use super::left;
use crate::cli::{Said, birdwire, say};
use crate::conformance::Engine;
use crate::conformance::engines::Sqlite;
use crate::conformance::servers::{Postgres, run as sql, schema};
use std::process::Stdio;
use std::time::Duration;

fn copy(from: &str, to: &str) -> Said {
    say(&["store", "copy", "--from", from, "--to", to, "--json"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_copy_is_gone_on_with() {
    let (from, to) = (left(grown(&Sqlite).await).await, Postgres.place());
    let shown = |arguments: &[&str], url: &str| -> Said {
        birdwire(arguments).env("BIRDWIRE_STORE__URL", url).output().unwrap().into()
    };
    // How many rows the mark of an unfinished copy says, if there is one.
    let mark = || -> Option<u64> {
        let is_there = &sql(&schema(&to), "SELECT to_regclass('copies') IS NOT NULL")[0][0];
        let marks = (is_there.as_deref() == Some("t"))
            .then(|| sql(&schema(&to), "SELECT rows FROM copies WHERE verified_at IS NULL"));
        marks?.first()?[0].as_deref()?.parse().ok()
    };
    let (mut kills, mut rows) = (0, None);
    loop {
        let mut copy = birdwire(&["store", "copy", "--from", &from.url]);
        let mut child =
            copy.env("BIRDWIRE_STORE__URL", &to.url).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Killed as soon as it is further than the one before, or ends.
        while child.try_wait().unwrap().is_none() && mark() <= rows {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let has_ended = child.try_wait().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        if let Some(status) = has_ended {
            assert!(status.success());
            break;
        }
        rows = mark().or(rows);
        kills += 1;
        let listed = shown(&["subscribers", "list"], &to.url);
        assert!(mark().is_none() || (listed.code == 1 && listed.err.contains("unfinished copy")), "{}", listed.err);
    }
    assert!(kills > 0 && rows.is_some(), "{kills} kills, the last at {rows:?} rows");
    let again = &copy(&from.url, &to.url);
    assert_eq!((again.code, again.err.as_str()), (0, ""), "{}", again.out);
    assert!(again.out.contains("\"before\":true"), "{}", again.out);
    for command in [
        &["events", "--json"][..],
        &["deliveries", "list", "--json"],
        &["subscribers", "list", "--json"],
        &["trace", "secret", "--json"],
    ] {
        let (ours, theirs) = (shown(command, &from.url), shown(command, &to.url));
        assert_eq!((ours.code, &*ours.err), (theirs.code, &*theirs.err));
        assert!(ours.out == theirs.out, "{command:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_says_what_it_did_and_what_is_wrong() {
    let (from, to) = (left(grown(&Sqlite).await).await, Postgres.place());
    for wrong in [
        &["store", "copy", "--from", &to.url, "--to", &from.url][..],
        &["store", "copy", "--from", &from.url, "--to", &from.url],
        &["store", "copy", "--from", &from.url],
        &["store", "copy", "--to", &to.url, "--from", &from.url, "--abandon"],
        &["store"],
    ] {
        let said = say(wrong);
        assert_eq!((said.code, &*said.out), (64, ""), "{}", said.err);
    }
    let none = say(&["store", "copy", "--to", &to.url, "--abandon"]);
    assert_eq!(none.code, 1, "{}", none.out);
    let said = say(&["store", "copy", "--from", &from.url, "--to", &to.url]);
    assert_eq!((said.code, said.out.lines().count()), (0, 13), "{}", said.err);
    assert!(said.out.lines().all(|line| line.split('\t').nth(1) == Some("equal")), "{}", said.out);
    assert!(said.err.contains("both stores are equal"), "{}", said.err);
    // A copy whose rows somebody changed meanwhile.
    sql(&schema(&to), "UPDATE copies SET verified_at = NULL, part = 'subscribers', after = NULL WHERE id = 1");
    sql(&schema(&to), "DELETE FROM subscribers; UPDATE events SET place = 7 WHERE id = 4");
    let differs = copy(&from.url, &to.url);
    let outcome: serde_json::Value = serde_json::from_str(&differs.out).unwrap();
    assert_eq!((differs.code, &outcome["verified"]), (1, &false.into()), "{}", differs.err);
    let events = outcome["tables"].as_array().unwrap().iter().find(|table| table["table"] == "events").unwrap();
    assert_eq!((&events["equal"], &events["difference"]), (&false.into(), &"row 4 differs in place".into()));
    assert!(
        differs.err.contains("events: row 4 differs in place") && differs.err.contains("--abandon"),
        "{}",
        differs.err
    );
    assert_eq!(say(&["store", "copy", "--to", &to.url, "--abandon"]).code, 0);
    let last = birdwire(&["store", "copy", "--to", &to.url]).env("BIRDWIRE_STORE__URL", &from.url).output().unwrap();
    assert_eq!(Said::from(last).code, 0);
}
