//! What only one part of the program understands of the configuration is reported like everything else: with its place,
//! all at once, before anything is opened.

use crate::app::ACCOUNT;
use crate::cli::{CUSTOMER, Said, birdwire, say};

#[test]
fn check_has_every_part_look_at_its_own() {
    let (folder, empty) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = folder.path().join("birdwire.toml");
    let text = format!(
        r#"[server]
max_connections = 0
[store]
url = "postgres://me:hunter2@h:99999/db"
[log]
filter = "inof"
[[accounts]]
id = "{ACCOUNT}"
customer_id = "{CUSTOMER}"
name = "Shop"
provider = "bird"
type = "line"
signing_keys = ["k"]
channel_id = "x"
"#
    );
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    for command in ["check", "serve"] {
        let said = say(&[command, "--config", file]);
        assert_eq!((said.code, &*said.out), (64, ""), "{command}: {}", said.err);
        let lines: Vec<&str> = said.err.lines().collect();
        assert_eq!(lines.len(), 4, "{}", said.err);
        for (line, what) in lines.iter().zip([
            ":2: server.max_connections: ",
            ":4: store.url: ",
            ":6: log.filter: \"inof\" is no level; write error, warn, info, debug, trace or off",
            ":14: accounts[0].channel_id: ",
        ]) {
            assert!(line.contains(what), "{what} in {line}");
        }
        assert!(lines[1].contains("port") && !said.err.contains("hunter2"), "{}", said.err);
    }
    // Whoever needs nothing but the store looks at nothing else.
    let looking = say(&["events", "--config", file]);
    assert_eq!((looking.code, looking.err.lines().count()), (64, 2), "{}", looking.err);
    for (name, value, what) in [
        ("BIRDWIRE_LOG__FILTER", "inof", "is no level"),
        ("BIRDWIRE_LOG__FILTER", "birdwire=inof", "level filter"),
        ("BIRDWIRE_STORE__URL", "postgres://me:hunter2@h/db?sslmode=bogus", "sslmode"),
        ("BIRDWIRE_STORE__URL", "postgres://me:hunter2@h/db?foo=bar", "foo"),
        ("BIRDWIRE_STORE__URL", "postgres://me:hun?ter2@h/db", "%3F"),
    ] {
        for command in ["check", "serve"] {
            let said: Said = birdwire(&[command]).current_dir(empty.path()).env(name, value).output().unwrap().into();
            assert_eq!((said.code, said.err.lines().count()), (64, 1), "{value}: {}", said.err);
            assert!(said.err.starts_with(&format!("{name}: ")) && said.err.contains(what), "{}", said.err);
            assert!(!said.err.contains("hunter2") && !said.err.contains("ter2"), "{}", said.err);
        }
    }
}
