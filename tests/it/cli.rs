//! The program as its users call it: what it prints where, and how it exits.

use crate::app::{ACCOUNT, PATIENCE, SECRET};
use serde_json::Value;
use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;

pub(crate) const CUSTOMER: &str = "5e4a0680-804e-11ec-8477-2fea5968d85b";
const NIL: &str = "00000000-0000-0000-0000-000000000000";

pub(crate) fn birdwire(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_birdwire"));
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("BIRDWIRE_") {
            command.env_remove(name);
        }
    }
    command
}

/// What a command said, and how it ended.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().expect("an exit code"),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Said {
    /// Standard output as JSON lines, after a good end.
    pub(crate) fn json(&self) -> Vec<Value> {
        assert_eq!((self.code, &*self.err), (0, ""), "{}", self.out);
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

pub(crate) fn say(arguments: &[&str]) -> Said {
    birdwire(arguments).output().unwrap().into()
}

/// The same, told `input` on standard input.
fn tell(arguments: &[&str], input: &[u8]) -> Said {
    let piped = birdwire(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = piped.unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap().into()
}

fn fixture(case: &str, file: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/bird").join(case).join(file).to_str().unwrap().to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn the_version_names_both_parts() {
    let said = &say(&["version", "--json"]).json()[0];
    assert_eq!(said["birdwire"], env!("CARGO_PKG_VERSION"));
    assert!(said["sqlite"].as_str().unwrap().starts_with("3."));
    let plain = say(&["version"]);
    assert_eq!((plain.code, plain.out.starts_with("birdwire ")), (0, true));
}

#[test]
fn wrong_use_is_64_and_help_is_0() {
    for wrong in [&["nonsense"][..], &[], &["convert"], &["send", "--provider", "bird"], &["events", "--state", "odd"]]
    {
        let said = say(wrong);
        assert_eq!((said.code, &*said.out), (64, ""), "{wrong:?}");
        assert!(!said.err.is_empty());
    }
    for right in [&["--help"][..], &["serve", "--help"], &["--version"]] {
        let said = say(right);
        assert_eq!((said.code, &*said.err), (0, ""), "{right:?}");
        assert!(!said.out.is_empty());
    }
}

#[test]
fn convert_prints_what_a_payload_becomes() {
    let request = fixture("text", "request.json");
    let given = ["convert", "--provider", "bird", "--account-id", ACCOUNT, "--customer-id", CUSTOMER];
    let named = [&given[..], &["--name", "LINE through Bird"]].concat();
    for (format, file) in [("documented", "expected.documented.jsonl"), ("current", "expected.current.jsonl")] {
        let expected = read(&fixture("text", file));
        let whole = say(&[&named[..], &["--format", format, "--conversations", &request]].concat());
        assert_eq!((whole.code, &*whole.out, &*whole.err), (0, &*expected, ""));
        let messages = tell(&[&named[..], &["--format", format]].concat(), read(&request).as_bytes());
        assert_eq!((messages.code, messages.out.lines().count()), (0, 1));
        assert!(expected.ends_with(&messages.out), "only the message, and the same");
    }
    // Nobody has to name an account to see what becomes of a payload.
    let bare = &tell(&["convert", "--provider", "bird", "-"], read(&request).as_bytes()).json()[0];
    assert_eq!(bare["type"], "conversation_message_created");
    let current = &say(&["convert", "--provider", "bird", "--format", "current", &request]).json()[0];
    assert_eq!(current["data"]["customer_id"], NIL);
}

#[test]
fn convert_says_what_it_cannot_read() {
    for (input, why) in [("garbage", "unreadable"), (r#"{"event":"whatsapp.inbound","payload":{}}"#, "foreign")] {
        let said = tell(&["convert", "--provider", "bird"], input.as_bytes());
        assert_eq!((said.code, &*said.out), (1, ""));
        assert_eq!(said.err.lines().count(), 1, "{}", said.err);
        assert!(said.err.contains(why) && !said.err.contains("garbage"), "{}", said.err);
    }
    let request = fixture("text", "request.json");
    for wrong in [
        &["convert", "--provider", "pigeon", &request][..],
        &["convert", "--provider", "bird", "--type", "fax", &request],
        &["convert", "--provider", "bird", "--format", "odd", &request],
        &["convert", "--provider", "bird", "--account-id", "1", &request],
    ] {
        let said = say(wrong);
        assert_eq!((said.code, &*said.out), (64, ""), "{wrong:?}");
    }
    let missing = say(&["convert", "--provider", "bird", "/nowhere/at/all.json"]);
    assert_eq!(missing.code, 1);
    assert!(missing.err.contains("/nowhere/at/all.json"), "{}", missing.err);
}

/// The fixtures' own expectations, event by event.
#[test]
fn convert_shows_everything_that_line_can_send() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/line");
    let mut compared = 0;
    for case in std::fs::read_dir(folder).unwrap() {
        let case = case.unwrap().path();
        if case.join("account.json").exists() {
            continue;
        }
        let request = case.join("request.json");
        let named = ["--account-id", ACCOUNT, "--customer-id", CUSTOMER, "--name", "LINE, direct", "--conversations"];
        let said = say(&[&["convert", "--provider", "line", request.to_str().unwrap()][..], &named].concat());
        let quarantine = std::fs::read_to_string(case.join("expected.quarantine.txt")).unwrap_or_default();
        assert_eq!(said.code, i32::from(!quarantine.is_empty()), "{}: {}", case.display(), said.err);
        assert_eq!(said.err.lines().count(), quarantine.lines().count(), "{}", case.display());
        let expected = read(case.join("expected.documented.jsonl").to_str().unwrap());
        // A repeat in the same webhook causes nothing, but is shown once more.
        let mut once: Vec<&str> = Vec::new();
        for line in said.out.lines() {
            if !once.contains(&line) {
                once.push(line);
            }
        }
        assert_eq!(once, expected.lines().collect::<Vec<_>>(), "{}", case.display());
        compared += 1;
    }
    assert!(compared > 50, "{compared}");
}

/// Samples of LINE's own libraries carry one event id and one message id in all their events; each is shown.
#[test]
fn convert_shows_samples_that_share_their_ids() {
    let event = |rest: &str| {
        format!(
            r#"{{"webhookEventId":"testwebhookeventid","timestamp":1462629479859,"mode":"active",
            "deliveryContext":{{"isRedelivery":false}},"source":{{"type":"user","userId":"U206d"}},{rest}}}"#
        )
    };
    let events = [
        event(r#""type":"message","message":{"id":"325708","type":"text","text":"Hello, world"}"#),
        event(r#""type":"message","message":{"id":"325708","type":"image","contentProvider":{"type":"line"}}"#),
        event(r#""type":"follow""#),
        event(r#""type":"postback","postback":{"data":"action=buyItem&itemId=123123"}"#),
        event(r#""type":"postback","postback":{"data":"action=sel","params":{"date":"2013-04-01"}}"#),
        event(r#""type":"undefined""#),
    ];
    let body = format!(r#"{{"destination":"Uaaaabbbb","events":[{}]}}"#, events.join(","));
    let said = tell(&["convert", "--provider", "line"], body.as_bytes());
    assert_eq!(said.code, 0, "{}", said.err);
    let texts: Vec<String> = said.json().iter().map(|e| e["data"]["text"].as_str().unwrap_or("-").to_owned()).collect();
    assert_eq!(texts, ["Hello, world", "", "-", "action=buyItem&itemId=123123", "action=sel", "-"]);
    let twice = format!(r#"{{"destination":"Uaaaabbbb","events":[{},{}]}}"#, events[0], events[0]);
    let shown = tell(&["convert", "--provider", "line"], twice.as_bytes()).json();
    assert_eq!(shown.len(), 2, "every event is shown, a repeat as what it repeats");
    assert_eq!(shown[0], shown[1]);
}

#[test]
fn convert_shows_an_sms_in_both_records() {
    let lines =
        say(&["convert", "--provider", "bird", "--type", "sms", &fixture("sms-inbound", "request.json")]).json();
    let names: Vec<_> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert_eq!(names, ["message_created", "conversation_message_created"]);
    assert_eq!(lines[0]["data"]["id"], lines[1]["data"]["id"]);
    assert_eq!(lines[0]["data"]["targets"][0]["status"], "received");
    let wrong = say(&["convert", "--provider", "line", "--type", "sms", &fixture("sms-inbound", "request.json")]);
    assert_eq!((wrong.code, &*wrong.out), (64, ""));
}

#[test]
fn check_says_everything_that_is_wrong_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("birdwire.toml");
    let wrong = "[server]\nlisten = \"here\"\nmax_connections = 0\nlissten = 1\n[[accounts]]\nid = \"1\"\nprovider = \"pigeon\"\n";
    std::fs::write(&file, wrong).unwrap();
    let file = file.to_str().unwrap();
    for command in ["check", "serve", "trace x", "events"] {
        let command: Vec<&str> = command.split(' ').collect();
        let said = say(&[&command[..], &["--config", file]].concat());
        assert_eq!((said.code, &*said.out), (64, ""), "{command:?}");
        for what in [":2: server.listen", ":3: server.max_connections", "lissten"] {
            assert!(said.err.contains(what), "{what} in {}", said.err);
        }
        // Whoever only looks needs neither accounts nor their secrets.
        let is_looking = matches!(command[0], "trace" | "events");
        for what in ["accounts[0].id", "pigeon"] {
            assert_eq!(said.err.contains(what), !is_looking, "{what} in {}", said.err);
        }
    }
    let missing = say(&["check", "--config", "/nowhere.toml"]);
    assert_eq!(missing.code, 64);
    let none: Said = birdwire(&["check"]).current_dir(folder.path().parent().unwrap()).output().unwrap().into();
    assert_eq!(none.code, 64);
    assert!(none.err.contains("birdwire.toml"), "{}", none.err);
}

/// A child that is ended with its value.
pub(crate) struct Running {
    child: Child,
    pub(crate) addr: SocketAddr,
    _err: std::thread::JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Starts a command that listens, and waits for the line that says where.
pub(crate) fn start(mut command: Command, address: impl Fn(&str) -> Option<SocketAddr> + Send + 'static) -> Running {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let (sender, found) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        // To the end: a child whose pipe is full would wait for us.
        for line in lines.map_while(Result::ok) {
            if let Some(address) = address(&line) {
                sender.send(address).ok();
            }
        }
    });
    let addr = found.recv_timeout(PATIENCE).expect("it never said where it listens");
    Running { child, addr, _err: reader }
}

fn listen(more: &[&str]) -> (Running, std::io::Lines<BufReader<ChildStdout>>) {
    let command = birdwire(&[&["listen", "--addr", "127.0.0.1:0", "--json"], more].concat());
    let address = |line: &str| line.strip_prefix("listening on http://")?.trim_end_matches('/').parse().ok();
    let mut running = start(command, address);
    let lines = BufReader::new(running.child.stdout.take().unwrap()).lines();
    (running, lines)
}

fn next(lines: &mut std::io::Lines<BufReader<ChildStdout>>) -> Value {
    serde_json::from_str(&lines.next().expect("a line").unwrap()).unwrap()
}

/// A served gateway whose deliveries go to `listen`.
struct Served {
    gateway: Running,
    subscriber: Running,
    received: std::io::Lines<BufReader<ChildStdout>>,
    config: String,
    _folder: TempDir,
}

impl Served {
    fn new() -> Self {
        Self::with("")
    }

    /// With another line for its account.
    fn with(line: &str) -> Self {
        let (subscriber, received) = listen(&["--secret", SECRET]);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gateway.toml");
        let text = format!(
            r#"[server]
listen = "127.0.0.1:0"
public_url = "https://gw.example.com"
[store]
url = "sqlite:{}"
[delivery]
allow_networks = ["127.0.0.0/8"]
[log]
format = "json"
[[accounts]]
id = "{ACCOUNT}"
customer_id = "{CUSTOMER}"
name = "Shop"
provider = "bird"
type = "line"
signing_keys = ["env:BIRD_KEY"]
{line}
[[subscribers]]
id = "crm"
url = "http://{}/hook"
secrets = ["{SECRET}"]
"#,
            folder.path().join("data/store.db").display(),
            subscriber.addr
        );
        std::fs::write(&file, text).unwrap();
        let config = file.to_str().unwrap().to_owned();
        let mut command = birdwire(&["serve", "--config", &config]);
        command.env("BIRD_KEY", "the key");
        let gateway = start(command, |line| {
            let line: Value = serde_json::from_str(line).ok()?;
            line["listen"].as_str()?.parse().ok()
        });
        Self { gateway, subscriber, received, config, _folder: folder }
    }

    fn send(&self, key: &str, body: &str) -> Said {
        let path = format!("/v1.0/conversation/accounts/{ACCOUNT}");
        let (url, signed) = (format!("http://{}{path}", self.gateway.addr), format!("https://gw.example.com{path}"));
        tell(&["send", "--provider", "bird", "--url", &url, "--sign-url", &signed, "--key", key], body.as_bytes())
    }

    /// A command beside the gateway, on its configuration.
    fn say(&self, arguments: &[&str]) -> Said {
        let mut command = birdwire(&[arguments, &["--config", &self.config]].concat());
        command.env("BIRD_KEY", "the key").output().unwrap().into()
    }

    /// Ends the gateway as a service manager would; its exit code.
    fn terminate(&mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.gateway.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.gateway.child.wait().unwrap().code()
    }
}

#[test]
fn commands_work_beside_a_gateway_that_serves() {
    let mut served = Served::new();
    let ready = say(&["health", "--url", &format!("http://{}/readyz", served.gateway.addr)]);
    assert_eq!((ready.code, &*ready.out), (0, "ready\n"));
    assert_eq!(served.say(&["events", "--json"]).json(), [] as [Value; 0]);

    let sent = served.send("the key", &read(&fixture("text", "request.json")));
    assert_eq!((sent.code, &*sent.out), (0, "200\n"), "{}", sent.err);
    let refused = served.send("another key", "{}");
    assert_eq!((refused.code, &*refused.out), (1, "401\n"));
    assert_eq!(served.send("the key", "garbage").code, 0);

    let created = next(&mut served.received);
    let message = next(&mut served.received);
    assert_eq!((&created["body"]["type"], &created["sequence"]), (&"conversation_created".into(), &1.into()));
    assert_eq!((&message["body"]["data"]["text"], &message["sequence"]), (&"Incoming message".into(), &2.into()));
    assert!([&created, &message].iter().all(|line| line["signature"] == "verified" && line["replay"] == false));

    let events = served.say(&["events", "--json"]).json();
    assert_eq!(events.iter().map(|e| e["state"].as_str().unwrap()).collect::<Vec<_>>(), ["stored", "quarantined"]);
    assert_eq!(served.say(&["events", "--json", "--state", "quarantined"]).json(), events[1..]);
    assert_eq!(served.say(&["events", "--json", "--account", NIL]).json(), [] as [Value; 0]);

    let deliveries = delivered(&served, 2);
    assert_eq!(deliveries[1]["webhook_id"], message["webhook_id"]);
    let id = deliveries[1]["id"].to_string();
    let shown = &served.say(&["deliveries", "show", &id, "--json"]).json()[0];
    assert_eq!((&shown["body"], &shown["attempts_made"][0]["status"]), (&message["body"], &200.into()));
    assert_eq!(served.say(&["deliveries", "show", "4711"]).code, 1);

    let replayed = &served.say(&["deliveries", "replay", &id, "--json"]).json()[0];
    assert_eq!(replayed["replayed"], serde_json::json!([deliveries[1]["id"]]));
    let again = next(&mut served.received);
    assert_eq!(
        (&again["replay"], &again["body"], &again["signature"]),
        (&true.into(), &message["body"], &"verified".into())
    );
    assert_eq!(again["webhook_id"], message["webhook_id"]);
    let unknown = served.say(&["deliveries", "replay", "4711"]);
    assert_eq!(unknown.code, 1);
    assert!(unknown.err.contains("4711"), "{}", unknown.err);

    let subscribers = served.say(&["subscribers", "list", "--json"]).json();
    assert_eq!((&subscribers[0]["id"], &subscribers[0]["state"]), (&"crm".into(), &"enabled".into()));
    assert_eq!(served.say(&["subscribers", "enable", "crm"]).code, 0);
    assert_eq!(served.say(&["subscribers", "enable", "nobody"]).code, 1);
    let good = served.say(&["check"]);
    assert_eq!((good.code, good.out.contains("good: 1 accounts, 1 subscribers")), (0, true), "{}", good.out);

    // A second one on the same store is refused, and the first does not notice.
    let second = served.say(&["serve"]);
    assert_eq!(second.code, 1);
    assert!(second.err.contains("another birdwire serves"), "{}", second.err);
    assert_eq!(served.terminate(), Some(0));
    let gone = say(&["health", "--url", &format!("http://{}/readyz", served.gateway.addr)]);
    assert_eq!((gone.code, gone.err.lines().count()), (1, 1), "{}", gone.err);
    // What it kept can be read when it is gone.
    assert_eq!(served.say(&["deliveries", "list", "--state", "delivered", "--json"]).json().len(), 2);
    assert!(served.subscriber.child.try_wait().unwrap().is_none());
}

/// The deliveries, once so many of them are delivered.
fn delivered(served: &Served, count: usize) -> Vec<Value> {
    for _ in 0..500 {
        let found = served.say(&["deliveries", "list", "--json", "--state", "delivered", "--subscriber", "crm"]).json();
        if found.len() >= count {
            return found;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("they were never delivered");
}

#[test]
fn a_replay_repairs_what_a_wrong_setting_kept_away() {
    let wrong = "channel_id = \"00000000-0000-4000-8000-000000000001\"";
    let mut served = Served::with(wrong);
    assert_eq!(served.send("the key", &read(&fixture("text-envelope", "request.json"))).code, 0);
    let kept = served.say(&["events", "--json"]).json();
    assert_eq!((kept.len(), &kept[0]["state"]), (1, &"quarantined".into()));
    assert!(kept[0]["reason"].as_str().unwrap().contains("other_channel"), "{kept:?}");
    let conclusion = |said: &Said| said.json().pop().unwrap();
    let vain = conclusion(&served.say(&["replay", "--quarantined", "--json"]));
    assert_eq!((&vain["understood"], &vain["still_quarantined"]), (&0.into(), &1.into()));

    std::fs::write(&served.config, read(&served.config).replace(wrong, "")).unwrap();
    let dry = served.say(&["replay", "--quarantined", "--dry-run", "--json"]);
    assert_eq!((dry.json().len(), &conclusion(&dry)["understood"]), (2, &1.into()), "{}", dry.out);
    assert!(dry.json()[0]["record"].as_str().unwrap().contains("conversation_message_created"), "{}", dry.out);
    assert_eq!(served.say(&["events", "--json"]).json(), kept, "a dry run changes nothing");
    assert_eq!(served.say(&["deliveries", "list", "--json"]).json(), [] as [Value; 0]);

    let plain = served.say(&["replay", "--quarantined"]);
    assert_eq!((plain.code, plain.out.contains("1 were taken out of quarantine")), (0, true), "{}", plain.out);
    let types = [next(&mut served.received), next(&mut served.received)].map(|line| line["body"]["type"].clone());
    assert_eq!(types, ["conversation_created", "conversation_message_created"]);
    let stored = served.say(&["events", "--json"]).json();
    assert_eq!((stored.len(), &stored[0]["state"], &stored[0]["id"]), (1, &"stored".into(), &kept[0]["id"]));
    let again = conclusion(&served.say(&["replay", "--json"]));
    assert_eq!((&again["understood"], &again["repaired"], &again["messages"]), (&0.into(), &0.into(), &1.into()));
    assert_eq!(delivered(&served, 2).len(), 2);
    let wrong_time = served.say(&["replay", "--since", "yesterday"]);
    assert_eq!((wrong_time.code, &*wrong_time.out), (64, ""));
    assert_eq!(served.terminate(), Some(0));
}

#[test]
fn listen_refuses_what_is_not_signed() {
    let (subscriber, mut received) = listen(&["--secret", "a secret"]);
    let url = format!("http://{}/", subscriber.addr);
    let said = tell(&["send", "--provider", "bird", "--url", &url, "--key", "k"], b"{}");
    assert_eq!((said.code, &*said.out), (1, "401\n"));
    assert_eq!(next(&mut received)["signature"], "refused");
    let (subscriber, mut received) = listen(&[]);
    let url = format!("http://{}/", subscriber.addr);
    assert_eq!(tell(&["send", "--provider", "bird", "--url", &url, "--key", "k"], b"{}").out, "200\n");
    assert_eq!(next(&mut received)["signature"], "unchecked");
}

#[test]
fn without_a_store_commands_say_what_makes_one() {
    let folder = tempfile::tempdir().unwrap();
    for command in [&["events"][..], &["deliveries", "list"], &["subscribers", "list"], &["deliveries", "replay", "1"]]
    {
        let said: Said = birdwire(command).current_dir(folder.path()).output().unwrap().into();
        assert_eq!((said.code, &*said.out), (1, ""), "{command:?}");
        assert!(said.err.contains("birdwire serve"), "{}", said.err);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "looking makes nothing");
}

#[test]
fn the_demo_shows_the_whole_way() {
    let shown = say(&["demo", "--once", "--json"]).json();
    let of = |account: &str| shown.iter().filter(|line| line["account"] == account).count();
    assert_eq!([of("LINE through Bird"), of("LINE, direct"), of("SMS through Bird")], [7, 8, 2]);
    assert!(shown.iter().all(|line| line["signature"] == "verified" && line["error"].is_null()), "{shown:?}");
    let events = |line: &Value| -> Vec<String> {
        line["received"].as_array().unwrap().iter().map(|got| got["event"].as_str().unwrap().to_owned()).collect()
    };
    let told: HashSet<String> = shown.iter().flat_map(events).collect();
    for event in [
        "channel_event",
        "message_created",
        "conversation_created",
        "conversation_message_created",
        "conversation_message_updated",
        "conversation_message_deleted",
    ] {
        assert!(told.contains(event), "{event}");
    }
    // Of an SMS, VoIPBIN's own record comes first, under the same id.
    let sms = shown.iter().find(|line| line["sample"] == "SMS").unwrap();
    assert_eq!(events(sms), ["conversation_created", "message_created", "conversation_message_created"]);
    let [_, message, of_conversation] = sms["received"].as_array().unwrap().as_slice() else { panic!("{sms}") };
    assert_eq!(message["record"]["id"], of_conversation["record"]["id"]);

    let plain = say(&["demo", "--once"]);
    assert_eq!(plain.code, 0, "{}", plain.err);
    let everything = plain.out.lines().filter(|line| line.starts_with("  VoIPBIN got")).count();
    assert_eq!(everything, shown.iter().map(|line| events(line).len()).sum::<usize>());
}
