//! What strangers can have the gateway write: little, however much they send.

use crate::app::{ACCOUNT, PATIENCE, exchange};
use crate::cli::{CUSTOMER, Running, birdwire, start};
use serde_json::Value;
use std::sync::mpsc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// A gateway, and its log lines with this message.
fn logging(message: &'static str, more: &[(&str, &str)]) -> (Running, mpsc::Receiver<Value>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = birdwire(&["serve"]);
    command.current_dir(folder.path());
    let usual = [
        ("SERVER__LISTEN", "127.0.0.1:0"),
        ("LOG__FORMAT", "json"),
        ("ACCOUNTS__0__ID", ACCOUNT),
        ("ACCOUNTS__0__CUSTOMER_ID", CUSTOMER),
        ("ACCOUNTS__0__NAME", "Shop"),
        ("ACCOUNTS__0__PROVIDER", "bird"),
        ("ACCOUNTS__0__TYPE", "line"),
        ("ACCOUNTS__0__SIGNING_KEYS", "[\"the key\"]"),
    ];
    for (name, value) in usual.iter().chain(more) {
        command.env(format!("BIRDWIRE_{name}"), value);
    }
    let (line, lines) = mpsc::channel::<Value>();
    let gateway = start(command, move |text| {
        let said: Value = serde_json::from_str(text).ok()?;
        if said["message"] == message {
            line.send(said.clone()).ok();
        }
        said["listen"].as_str()?.parse().ok()
    });
    (gateway, lines, folder)
}

#[tokio::test]
async fn refused_webhooks_are_logged_now_and_then_and_counted_always() {
    let (gateway, refused, _folder) = logging("a webhook was refused", &[]);
    let path = format!("/v1.0/conversation/accounts/{ACCOUNT}");
    let refuse = async |count: u32| {
        for _ in 0..count {
            assert_eq!(exchange(gateway.addr, "POST", &path, &[], b"{}").await.status, 401);
        }
    };
    refuse(40).await;
    let first = refused.recv_timeout(PATIENCE).unwrap();
    assert_eq!((first["account.id"].as_str(), first["refused.unlogged"].as_u64()), (Some(ACCOUNT), Some(0)));
    // Whatever comes within the second is not logged; the next line says how many those were.
    let (mut total, mut lines, mut unlogged) = (40, 1, 0);
    while lines < 2 || lines + unlogged < total {
        refuse(1).await;
        total += 1;
        assert!(total < 1000, "of {total}, {lines} are in the log and {unlogged} are said not to be");
        while let Ok(next) = refused.recv_timeout(Duration::from_millis(50)) {
            lines += 1;
            unlogged += next["refused.unlogged"].as_u64().unwrap();
        }
    }
    assert_eq!(lines + unlogged, total);
    assert!(lines < 20, "{lines} lines");
    let metrics = exchange(gateway.addr, "GET", "/metrics", &[], b"").await;
    let counted = format!("birdwire_webhooks_unverified_total{{reason=\"missing_header\"}} {total}\n");
    assert!(metrics.text().contains(&counted), "{counted}");
}

#[tokio::test]
async fn connections_that_are_used_up_are_logged_once() {
    let (gateway, lines, _folder) =
        logging("all connections are taken: idle ones are closed for new ones", &[("SERVER__MAX_CONNECTIONS", "1")]);
    let mut held = TcpStream::connect(gateway.addr).await.unwrap();
    held.write_all(b"GET /livez HTTP/1.1\r\nhost: gw\r\n\r\n").await.unwrap();
    for _ in 0..2 {
        assert_eq!(exchange(gateway.addr, "GET", "/livez", &[], b"").await.status, 200);
    }
    assert_eq!(lines.recv_timeout(PATIENCE).unwrap()["max_connections"], 1);
    assert!(lines.try_recv().is_err());
}
