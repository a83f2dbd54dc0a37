//! Proves that right configurations mean what they say and secrets stay secret; `wrong` holds what is explained.

mod wrong;

use super::*;
use crate::domain::account::Channel;
use crate::domain::settings::{SettingKey, SettingKind};
use proptest::prelude::*;
use std::path::PathBuf;

const KEYS: &[SettingKey] = &[
    key("signing_keys", SettingKind::Secrets, true, "the signing keys of the webhook subscription"),
    key("channel_id", SettingKind::Text, false, "the channel's id"),
    key("access_key", SettingKind::Secret, false, "an access key"),
    key("webhook_url", SettingKind::Url, false, "the URL as registered"),
    key("max_age", SettingKind::Duration, false, "the oldest signature, such as \"48h\""),
];
const BIRD: ProviderSchema = ProviderSchema { provider: "bird", channels: &[Channel::Line], keys: KEYS };
const LINE: ProviderSchema = ProviderSchema {
    provider: "line",
    channels: &[Channel::Line],
    keys: &[
        key("channel_secrets", SettingKind::Secrets, true, "the channel secret"),
        key("bot_user_id", SettingKind::Text, false, "the bot's user id"),
    ],
};
const PIGEON: ProviderSchema = ProviderSchema {
    provider: "pigeon",
    channels: &[Channel::Line, Channel::Sms],
    keys: &[key("loft", SettingKind::Text, false, "where it lives")],
};

/// What other parts of the program would say.
const JUDGES: Judges = Judges {
    store_url: |url| if url.contains("bogus") { Err("is bogus".to_owned()) } else { Ok(()) },
    log_filter: |filter| if filter == "inof" { Err("is no level".to_owned()) } else { Ok(()) },
    account: |account| match account.settings.text("channel_id") {
        Some("x") => vec!["channel_id: not a UUID".to_owned(), "two keys contradict each other".to_owned()],
        _ => Vec::new(),
    },
};

const fn key(name: &'static str, kind: SettingKind, required: bool, help: &'static str) -> SettingKey {
    SettingKey { name, kind, required, help }
}

/// A folder with `birdwire.toml` in it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("birdwire.toml"), text).unwrap();
        Self(folder)
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("birdwire.toml")
    }

    fn load(&self, env: &[(&str, &str)], schemas: &[ProviderSchema]) -> Result<Config, Vec<String>> {
        let env = env.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let folder = format!("{}/", self.0.path().display());
        load(&Sources { file: Some(&self.file()), env }, schemas, &JUDGES)
            .map_err(|mistakes| mistakes.to_string().replace(&folder, "").lines().map(str::to_owned).collect())
    }
}

fn read(text: &str, env: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    Folder::new(text).load(env, &[BIRD])
}

const ENV: &[(&str, &str)] = &[("BIRD_SIGNING_KEY", "bird-key"), ("CRM_SECRET", "crm-secret"), ("EMPTY", "")];

const ACCOUNT: &str = r#"
[[accounts]]
id = "6f1f0f4e-2f6c-4d5e-9a51-0a4c5b0c9a01"
customer_id = "5e4a0680-804e-11ec-8477-2fea5968d85b"
name = "Shop"
provider = "bird"
type = "line"
signing_keys = ["k"]
"#;

const SUBSCRIBER: &str = r#"
[[subscribers]]
id = "crm"
url = "https://crm.example.com/hooks"
secrets = ["s"]
"#;

/// The block with `was` replaced; lines keep their numbers.
fn with(block: &str, was: &str, is: &str) -> String {
    assert!(block.contains(was), "{was}");
    block.replace(was, is)
}

#[test]
fn defaults_alone_are_a_configuration_and_hold_every_key() {
    let config = load(&Sources { file: None, env: Vec::new() }, &[BIRD], &JUDGES).unwrap();
    let seconds = Duration::from_secs;
    let Config { server, store, record_format, delivery, retention, log, accounts, subscribers } = config;
    assert_eq!(server.listen, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(server.public_url, "http://127.0.0.1:8080");
    assert_eq!((server.max_body_bytes, server.queue_bytes, server.max_connections), (1 << 20, 8 << 20, 1024));
    assert_eq!((server.header_timeout, server.body_timeout), (seconds(10), seconds(10)));
    assert_eq!((server.commit_timeout, server.drain_timeout), (seconds(5), seconds(20)));
    assert_eq!(server.drain_delay, Duration::ZERO);
    assert_eq!(store.url, "sqlite:data/birdwire.db");
    assert_eq!(record_format, RecordFormat::Documented);
    assert_eq!((delivery.first_retry, delivery.max_retry), (seconds(1), Duration::from_hours(1)));
    assert_eq!(delivery.give_up_after, Duration::from_hours(72));
    assert_eq!((delivery.attempt_timeout, delivery.lease, delivery.concurrency), (seconds(20), seconds(60), 64));
    assert!(delivery.allow_networks.is_empty());
    assert_eq!((retention.raw, retention.finished), (Duration::from_hours(720), Duration::from_hours(720)));
    assert_eq!((log.format, log.filter.as_str()), (LogFormat::Text, "info"));
    assert!(accounts.is_empty() && subscribers.is_empty());
}

#[test]
fn the_commented_blocks_of_the_defaults_are_right() {
    let (_, blocks) = DEFAULTS.split_once("# [[accounts]]").unwrap();
    let lines = blocks.lines().map(|line| line.strip_prefix("# ").unwrap_or(line));
    let prose = |line: &&str| !line.starts_with("One block");
    let text = format!("[[accounts]]{}", lines.filter(prose).collect::<Vec<_>>().join("\n"));
    let env = [ENV, &[("LINE_CHANNEL_SECRET", "line-secret")]].concat();
    let config = Folder::new(&text).load(&env, &[BIRD, LINE]).unwrap();
    assert_eq!((config.accounts.len(), config.subscribers.len()), (2, 1));
    assert_eq!(config.accounts[1].settings.secrets("channel_secrets"), [Secret::new("line-secret")]);
    assert_eq!(config.subscribers[0].order, Order::Bounded);
}

#[test]
fn the_example_is_right() {
    let config = read(include_str!("../../config/example.toml"), ENV).unwrap();
    let account = &config.accounts[0];
    assert_eq!(account.account.name, "LINE through Bird");
    assert_eq!((account.provider, account.account.channel, &account.account.address), ("bird", Channel::Line, &None));
    assert_eq!(
        account.webhook_url,
        "https://gateway.example.com/v1.0/conversation/accounts/6f1f0f4e-2f6c-4d5e-9a51-0a4c5b0c9a01"
    );
    assert_eq!(account.settings.secrets("signing_keys"), [Secret::new("bird-key")]);
    let subscriber = &config.subscribers[0];
    assert_eq!(subscriber.interest.subscriber.0, "crm");
    assert_eq!(subscriber.secrets, [Secret::new("crm-secret")]);
    assert_eq!((subscriber.order, subscriber.order_timeout), (Order::Strict, None));
    assert!(subscriber.interest.events.is_empty() && subscriber.interest.accounts.is_empty());
}

#[test]
fn addresses_are_taken_that_a_delivery_may_go_to() {
    let allow = "[delivery]\nallow_networks = [\"127.0.0.0/8\", \"fd00::/8\"]\n";
    let text = |url: &str| format!("{allow}{}", with(SUBSCRIBER, "https://crm.example.com/hooks", url));
    for url in [
        "http://127.0.0.1:9/x",
        "http://[::ffff:127.0.0.1]/",
        "http://[fd00::1]/",
        "http://localhost/",
        "https://8.8.8.8/",
        "https://127.0.0.1/",
        "https://[::ffff:127.0.0.1]/",
        "https://localhost/",
    ] {
        assert_eq!(read(&text(url), ENV).unwrap().subscribers[0].url, url);
    }
    assert_eq!(
        read(&text("http://8.8.8.8/"), ENV).unwrap_err(),
        [
            "birdwire.toml:6: subscribers[0].url: plain http to 8.8.8.8, which is in no network of delivery.allow_networks; write https, or add its network"
        ]
    );
    for url in
        ["https://10.0.0.1/", "https://[fe80::1]/", "https://[::1]/", "https://169.254.169.254/", "http://10.0.0.1/"]
    {
        let refused = read(&text(url), ENV).unwrap_err();
        assert!(refused[0].contains("url") && refused[0].contains("not public"), "{refused:?}");
    }
    // When nobody can tell which networks are allowed, that is all that is wrong.
    let unknown = text("https://10.0.0.1/").replace("fd00::/8", "lan");
    assert_eq!(read(&unknown, ENV).unwrap_err().len(), 1);
}

#[test]
fn the_environment_overlays_the_file() {
    let text = format!("[server]\nlisten = \"127.0.0.1:1\"\n{ACCOUNT}{SUBSCRIBER}");
    let config = read(
        &text,
        &[
            ("BIRDWIRE_CONFIG", "elsewhere.toml"),
            ("BIRDWIRE_SERVICE_HOST", "10.0.0.1"),
            ("BIRDWIRE_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
            ("OTHER__KEY", "x"),
            ("BIRDWIRE_SERVER__LISTEN", "[::]:8080"),
            ("BIRDWIRE_SERVER__PUBLIC_URL", "https://gw.example.com/in//"),
            ("BIRDWIRE_SERVER__MAX_BODY_BYTES", "2048"),
            ("BIRDWIRE_SERVER__MAX_CONNECTIONS", "7"),
            ("BIRDWIRE_DELIVERY__ALLOW_NETWORKS", "[\"10.0.0.0/8\"]"),
            ("BIRDWIRE_ACCOUNTS__0__NAME", "42"),
            ("BIRDWIRE_ACCOUNTS__0__SIGNING_KEYS", "[\"env:NEW\", \"env:OLD\"]"),
            ("BIRDWIRE_ACCOUNTS__0__WEBHOOK_URL", "https://gw.example.com/exact?a=b"),
            ("BIRDWIRE_ACCOUNTS__0__MAX_AGE", "2d"),
            ("BIRDWIRE_ACCOUNTS__0__ACCESS_KEY", "literal"),
            ("BIRDWIRE_SUBSCRIBERS__0__EVENTS__0", "message_created"),
            ("NEW", "n"),
            ("OLD", "o"),
        ],
    );
    let events = "BIRDWIRE_SUBSCRIBERS__0__EVENTS__0";
    let Config { server, delivery, accounts, subscribers, .. } = config.unwrap();
    assert_eq!(server.listen, "[::]:8080".parse().unwrap());
    assert_eq!((server.max_body_bytes, server.max_connections), (2048, 7));
    assert_eq!(delivery.allow_networks.len(), 1);
    let AccountConfig { account, settings, webhook_url, .. } = &accounts[0];
    assert_eq!(account.name, "42");
    assert_eq!(settings.secrets("signing_keys"), [Secret::new("n"), Secret::new("o")]);
    assert_eq!(settings.secrets("access_key"), [Secret::new("literal")]);
    assert_eq!(settings.text("webhook_url"), Some("https://gw.example.com/exact?a=b"));
    assert_eq!(settings.duration("max_age"), Some(Duration::from_hours(48)));
    assert!(webhook_url.starts_with("https://gw.example.com/in/v1.0/"), "{webhook_url}");
    assert_eq!(subscribers[0].interest.events, ["message_created"], "{events}");
}

#[test]
fn whole_blocks_can_come_from_the_environment() {
    let mut env: Vec<(String, String)> = Vec::new();
    let mut set = |name: String, value: &str| env.push((name, value.to_owned()));
    for index in (0..11).rev() {
        set(format!("BIRDWIRE_SUBSCRIBERS__{index}__ID"), &format!("s{index}"));
        set(format!("BIRDWIRE_SUBSCRIBERS__{index}__URL"), "https://h/");
        set(format!("BIRDWIRE_SUBSCRIBERS__{index}__SECRETS"), "[\"x\"]");
    }
    let config = load(&Sources { file: None, env }, &[BIRD], &JUDGES).unwrap();
    let ids: Vec<_> = config.subscribers.iter().map(|s| s.interest.subscriber.0.as_str()).collect();
    assert_eq!(ids, ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10"]);
}

#[test]
fn secrets_come_from_files_beside_the_configuration() {
    let text = with(ACCOUNT, "[\"k\"]", "[\"file:key.txt\", \"file:keys/other\"]\naccess_key = \"\"");
    let folder = Folder::new(&text);
    std::fs::create_dir(folder.0.path().join("keys")).unwrap();
    std::fs::write(folder.0.path().join("key.txt"), " spaces count \r\n").unwrap();
    std::fs::write(folder.0.path().join("keys/other"), "other").unwrap();
    let config = folder.load(&[], &[BIRD]).unwrap();
    let settings = &config.accounts[0].settings;
    assert_eq!(settings.secrets("signing_keys"), [Secret::new(" spaces count "), Secret::new("other")]);
    assert!(settings.secrets("access_key").is_empty(), "an empty one counts as absent");
    std::fs::write(folder.0.path().join("key.txt"), "\n").unwrap();
    std::fs::write(folder.0.path().join("keys/other"), "x".repeat(100_000)).unwrap();
    let path = |name: &str| format!("birdwire.toml:8: accounts[0].signing_keys{name}");
    assert_eq!(
        folder.load(&[], &[BIRD]).unwrap_err(),
        [
            path("[0]: the file key.txt is empty"),
            path("[1]: the file keys/other cannot be read: it is larger than any secret"),
        ]
    );
}

#[test]
fn no_secret_is_ever_shown() {
    let shown =
        format!("{:?}", read(&with(ACCOUNT, "[\"k\"]", "[\"hunter2\"]\naccess_key = \"hunter2\""), &[]).unwrap());
    assert!(shown.contains("Secret(***)") && !shown.contains("hunter2"), "{shown}");
    for text in [
        "secret = \"hunter2\" hunter2".to_owned(),
        "secret = \"hunter2".to_owned(),
        "[store]\nurl = \"postgres://me:hunter2@/db\"".to_owned(),
        "[server]\npublic_url = \"me:hunter2@h\"".to_owned(),
        with(ACCOUNT, "[\"k\"]", "\"hunter2\""),
        with(ACCOUNT, "signing_keys", "signing_key"),
        with(ACCOUNT, "[\"k\"]", "{ hunter2 = \"hunter2\" }"),
        with(SUBSCRIBER, "[\"s\"]", "[\"whsec_hunter2\"]"),
        with(SUBSCRIBER, "https://", "https://me:hunter2@"),
    ] {
        let mistakes = read(&text, &[("BIRDWIRE_ACCOUNTS__5__ACCESS_KEY", "hunter2")]).unwrap_err();
        assert!(!mistakes.iter().any(|line| line.contains("hunter2")), "{mistakes:?}");
    }
}

#[test]
fn a_file_that_is_none_is_one_mistake() {
    let folder = Folder::new("");
    let load = |name: &str| {
        let file = folder.0.path().join(name);
        load(&Sources { file: Some(&file), env: Vec::new() }, &[BIRD], &JUDGES).unwrap_err().0
    };
    assert_eq!(load("none.toml")[0].message, "cannot be read: No such file or directory (os error 2)");
    std::fs::write(folder.0.path().join("bytes.toml"), b"\xff\xfe").unwrap();
    let mistakes = load("bytes.toml");
    assert_eq!((mistakes.len(), mistakes[0].message.as_str()), (1, "is not UTF-8 text"));
    assert!(mistakes[0].place.ends_with("bytes.toml"));
}

#[test]
fn sizes_and_durations_have_units() {
    for (text, want) in
        [("1", 1), ("\"1\"", 1), ("\"3B\"", 3), ("\"2 KiB\"", 2048), ("\"1MiB\"", 1 << 20), ("1_000", 1000)]
    {
        assert_eq!(read(&format!("[server]\nmax_body_bytes = {text}"), &[]).unwrap().server.max_body_bytes, want);
    }
    for (text, want) in [("500ms", 500), ("30s", 30_000), ("15m", 900_000), ("72h", 259_200_000), ("7d", 604_800_000)] {
        let config = read(&format!("[server]\nbody_timeout = \"{text}\""), &[]).unwrap();
        assert_eq!(config.server.body_timeout, Duration::from_millis(want), "{text}");
    }
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}", name in "BIRDWIRE_[A-Z_0-9]{0,30}", value in ".{0,40}") {
        if let Err(mistakes) = read(&text, &[(&name, &value)]) {
            prop_assert!(!mistakes.is_empty());
        }
    }

    #[test]
    fn toml_of_any_shape_never_panics(
        lines in prop::collection::vec("(\\[\\[?(server|accounts|subscribers|x)\\]\\]?|(id|url|listen|secrets|lease|provider|order)(\\.a)? = (1|-9|\"[!-~]{0,5}\"|\\[\"x\", 1\\]|\\{ a = 1 \\}|true|1\\.5|2026-01-01))", 0..12),
    ) {
        if let Err(mistakes) = read(&lines.join("\n"), &[]) {
            prop_assert!(!mistakes.is_empty());
        }
    }
}
