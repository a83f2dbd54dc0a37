//! What strangers can have the gateway write: little, however much they send.

use crate::app::{PATIENCE, exchange};
use crate::cli::{birdwire, start};
use serde_json::Value;
use std::time::Duration;

const ACCOUNT: &str = "6f1f0f4e-2f6c-4d5e-9a51-0a4c5b0c9a01";
const CUSTOMER: &str = "5e4a0680-804e-11ec-8477-2fea5968d85b";

#[test]
fn refused_webhooks_are_logged_now_and_then_and_counted_always() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = birdwire(&["serve"]);
    command.current_dir(folder.path());
    for (name, value) in [
        ("SERVER__LISTEN", "127.0.0.1:0"),
        ("LOG__FORMAT", "json"),
        ("ACCOUNTS__0__ID", ACCOUNT),
        ("ACCOUNTS__0__CUSTOMER_ID", CUSTOMER),
        ("ACCOUNTS__0__NAME", "Shop"),
        ("ACCOUNTS__0__PROVIDER", "bird"),
        ("ACCOUNTS__0__TYPE", "line"),
        ("ACCOUNTS__0__SIGNING_KEYS", "[\"the key\"]"),
    ] {
        command.env(format!("BIRDWIRE_{name}"), value);
    }
    let (line, refused) = std::sync::mpsc::channel::<Value>();
    let gateway = start(command, move |text| {
        let said: Value = serde_json::from_str(text).ok()?;
        if said["message"] == "a webhook was refused" {
            line.send(said.clone()).ok();
        }
        said["listen"].as_str()?.parse().ok()
    });
    let path = format!("/v1.0/conversation/accounts/{ACCOUNT}");
    let refuse = |count: u32| {
        let client = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        client.block_on(async {
            for _ in 0..count {
                let answer = exchange(gateway.addr, "POST", &path, &[], b"{}").await;
                assert_eq!(answer.status, 401);
            }
        });
    };
    refuse(40);
    let first = refused.recv_timeout(PATIENCE).unwrap();
    assert_eq!((first["account.id"].as_str(), first["refused.unlogged"].as_u64()), (Some(ACCOUNT), Some(0)));
    // Whatever comes within the second is not logged; the next line says how many those were.
    let (mut total, mut lines, mut unlogged) = (40, 1, 0);
    while lines < 2 || lines + unlogged < total {
        refuse(1);
        total += 1;
        assert!(total < 1000, "of {total}, {lines} are in the log and {unlogged} are said not to be");
        while let Ok(next) = refused.recv_timeout(Duration::from_millis(50)) {
            lines += 1;
            unlogged += next["refused.unlogged"].as_u64().unwrap();
        }
    }
    assert_eq!(lines + unlogged, total);
    assert!(lines < 20, "{lines} lines");
}
