//! The whole gateway over real HTTP: signed webhooks in on one side, a subscriber that behaves and misbehaves on the
//! other, a real store between them.

mod client;
mod deliveries;
mod limits;
mod line;
mod mutations;
mod shutdown;
mod stepped;
pub(crate) mod subscriber;
mod webhooks;

use birdwire::app::{self, AppError};
use birdwire::config::{Config, Sources};
use birdwire::domain::secret::Secret;
use birdwire::lifecycle::Shutdown;
use birdwire::metrics::Metrics;
use birdwire::store::listing::{DeliveryDetail, DeliveryQuery, EventQuery, EventRow};
use birdwire::store::{self, Access, Store};
use client::Answer;
pub(crate) use client::exchange;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The account of the tests, and of the fixtures.
pub(crate) const ACCOUNT: &str = "6f1f0f4e-2f6c-4d5e-9a51-0a4c5b0c9a01";
/// Another account at the same provider.
pub(crate) const OTHER: &str = "6f1f0f4e-2f6c-4d5e-9a51-0a4c5b0c9a02";
pub(crate) const KEY: &str = "signing-key";
pub(crate) const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// Whatever happens on this machine happens within that time; what does not is a failure, not a wait.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What a test configures besides the usual.
#[derive(Default)]
pub(crate) struct Setup<'a> {
    /// Keys of `[server]`.
    pub(crate) server: &'a str,
    /// Keys of `[delivery]`.
    pub(crate) delivery: &'a str,
    /// `[[subscribers]]`.
    pub(crate) subscribers: String,
    /// `store.url`; empty is a file of its own.
    pub(crate) store: &'a str,
}

/// A `[[subscribers]]` block.
pub(crate) fn block(id: &str, url: &str, more: &str) -> String {
    format!("[[subscribers]]\nid = \"{id}\"\nurl = \"{url}\"\nsecrets = [\"{SECRET}\", \"older secret\"]\n{more}\n")
}

/// A gateway that serves. It has to be finished, which checks that it ends well.
pub(crate) struct TestApp {
    pub(crate) addr: SocketAddr,
    pub(crate) config: Config,
    pub(crate) shutdown: Shutdown,
    serving: Option<JoinHandle<Result<(), AppError>>>,
    folder: Option<TempDir>,
}

impl TestApp {
    /// Without subscribers and with every default.
    pub(crate) async fn bare() -> Self {
        Self::start(Setup::default()).await
    }

    /// With one strict subscriber that wants everything.
    pub(crate) async fn with(subscriber: &subscriber::FakeSubscriber) -> Self {
        Self::start(Setup { subscribers: block("crm", &subscriber.url("/hook"), ""), ..Setup::default() }).await
    }

    pub(crate) async fn start(setup: Setup<'_>) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), setup).await
    }

    async fn start_in(folder: TempDir, setup: Setup<'_>) -> Self {
        let own = format!("sqlite:{}", folder.path().join("store.db").display());
        let text = format!(
            r#"[server]
public_url = "https://gw.example.com"
{server}

[store]
url = "{store}"

[delivery]
allow_networks = ["127.0.0.0/8"]
first_retry = "10ms"
{delivery}

[[accounts]]
id = "{ACCOUNT}"
customer_id = "5e4a0680-804e-11ec-8477-2fea5968d85b"
name = "LINE through Bird"
provider = "bird"
type = "line"
signing_keys = ["{KEY}"]

[[accounts]]
id = "{OTHER}"
customer_id = "5e4a0680-804e-11ec-8477-2fea5968d85b"
name = "Another"
provider = "bird"
type = "line"
signing_keys = ["other-{KEY}"]

{subscribers}"#,
            server = setup.server,
            store = if setup.store.is_empty() { &own } else { setup.store },
            delivery = setup.delivery,
            subscribers = setup.subscribers,
        );
        let file = folder.path().join("birdwire.toml");
        std::fs::write(&file, text).unwrap();
        let sources = Sources { file: Some(&file), env: Vec::new() };
        let config = app::configure_from(&sources).unwrap_or_else(|wrong| panic!("{wrong}"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let shutdown = Shutdown::default();
        let (served, ending) = (config.clone(), shutdown.clone());
        let serving = tokio::spawn(async move { app::serve(&served, listener, app::system_clock(), ending).await });
        Self { addr, config, shutdown, serving: Some(serving), folder: Some(folder) }
    }

    /// Where its configuration is, for commands beside it.
    pub(crate) fn config_file(&self) -> std::path::PathBuf {
        self.folder.as_ref().expect("it has a folder").path().join("birdwire.toml")
    }

    /// The headers with which Bird would sign `body` for the first account now.
    pub(crate) fn signed(&self, body: &[u8]) -> Vec<(String, String)> {
        sign(KEY, &self.config.accounts[0].webhook_url, body, 0)
    }

    /// Posts to the first account with these headers.
    pub(crate) async fn post(&self, headers: &[(String, String)], body: &[u8]) -> Answer {
        exchange(self.addr, "POST", &format!("/v1.0/conversation/accounts/{ACCOUNT}"), headers, body).await
    }

    /// Posts as Bird would; it has to be taken.
    pub(crate) async fn accept(&self, body: &[u8]) {
        let answer = self.post(&self.signed(body), body).await;
        assert_eq!((answer.status, &*answer.body), (200, &b""[..]));
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        exchange(self.addr, "GET", path, &[], b"").await
    }

    /// Every metric that was ever counted, by name and labels.
    pub(crate) async fn metrics(&self) -> BTreeMap<String, f64> {
        let answer = self.get("/metrics").await;
        assert_eq!(answer.status, 200);
        let text = String::from_utf8(answer.body).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| line.rsplit_once(' ').unwrap()).map(|(n, v)| (n.to_owned(), v.parse().unwrap())).collect()
    }

    async fn open(&self, access: Access) -> Arc<dyn Store> {
        let metrics = Metrics::new().unwrap();
        let opening = app::opening(access, (app::system_clock())(), &metrics, 2, "beside");
        store::open(&self.config.store.url, opening).await.unwrap()
    }

    /// The store as a command sees it beside the gateway.
    pub(crate) async fn beside(&self) -> Arc<dyn Store> {
        self.open(Access::Write).await
    }

    pub(crate) async fn events(&self) -> Vec<EventRow> {
        self.open(Access::Read).await.events(EventQuery { limit: 1000, ..EventQuery::default() }).await.unwrap()
    }

    pub(crate) async fn deliveries(&self) -> Vec<DeliveryDetail> {
        let store = self.open(Access::Read).await;
        let mut found = Vec::new();
        for row in store.deliveries(DeliveryQuery { limit: 1000, ..DeliveryQuery::default() }).await.unwrap() {
            found.push(store.delivery(row.id).await.unwrap().unwrap());
        }
        found
    }

    /// Waits until the gateway has recorded what `is_done` looks for.
    pub(crate) async fn until(&self, is_done: impl Fn(&[DeliveryDetail]) -> bool) -> Vec<DeliveryDetail> {
        let wait = async {
            loop {
                let found = self.deliveries().await;
                if is_done(&found) {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("it never happened")
    }

    /// Ends the gateway as a signal would, and checks that it ends well.
    pub(crate) async fn finish(mut self) {
        self.end().await;
    }

    async fn end(&mut self) {
        self.shutdown.drain.cancel();
        let serving = self.serving.take().expect("it serves");
        let ended = tokio::time::timeout(PATIENCE, serving).await.expect("it never ends").expect("it panicked");
        ended.expect("it broke");
    }

    /// Ends the gateway and starts another one on the same store.
    pub(crate) async fn restart(mut self, setup: Setup<'_>) -> Self {
        self.end().await;
        self.again(setup).await
    }

    /// Starts another one on the store of one that has ended.
    async fn again(mut self, setup: Setup<'_>) -> Self {
        let folder = self.folder.take().expect("it has a folder");
        Self::start_in(folder, setup).await
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            assert!(std::thread::panicking(), "a test has to finish its gateway: that is half of what is tested");
        }
    }
}

/// As Bird would sign, so many seconds from now.
pub(crate) fn sign(key: &str, url: &str, body: &[u8], seconds: i64) -> Vec<(String, String)> {
    let provider = birdwire::adapter::provider("bird").unwrap();
    let now = (app::system_clock())();
    let at = birdwire::domain::time::Timestamp::from_micros(now.micros() + seconds * 1_000_000);
    (provider.sign)(&Secret::new(key), url, body, at).into_iter().map(|(n, v)| (n.to_owned(), v)).collect()
}

/// What Bird posts when `dialog` writes `text`.
pub(crate) fn payload(id: &str, dialog: &str, text: &str) -> Vec<u8> {
    format!(
        r#"{{"id":"{id}","sender":{{"contact":{{"identifierValue":"{dialog}","annotations":{{"name":"Mei"}}}}}},
        "receiver":{{"connector":{{"identifierValue":"2005309875"}}}},"direction":"incoming",
        "body":{{"type":"text","text":{{"text":"{text}"}}}},"createdAt":"2026-01-02T03:04:05.678Z"}}"#
    )
    .into_bytes()
}
