//! Every way of being wrong, with the exact line that explains it.

use super::*;

#[test]
fn every_wrong_value_has_its_line() {
    let cases: &[(&str, &str)] = &[
        // The file as a whole.
        ("x = ", "birdwire.toml:1:5: string values must be quoted, expected literal string"),
        ("\n[server]\nlisten = \"a\"\nlisten = \"b\"", "birdwire.toml:4:1: duplicate key"),
        ("sever = 1", "birdwire.toml:1: sever: unknown key; did you mean server?"),
        (
            "x.y = 1",
            "birdwire.toml:1: x: unknown key; known here: server, store, voipbin, delivery, retention, log, accounts, subscribers",
        ),
        ("listen = \"127.0.0.1:1\"", "birdwire.toml:1: listen: unknown key here; did you mean server.listen?"),
        ("server = 1", "birdwire.toml:1: server: is one section; write [server]"),
        ("[[server]]", "birdwire.toml:1: server: is one section; write [server]"),
        (
            "[accounts]\nid = \"x\"",
            "birdwire.toml:1: accounts: one block for each is needed; write [[accounts]], with double brackets",
        ),
        (
            "subscribers = [\"x\"]",
            "birdwire.toml:1: subscribers[0]: one block for each is needed; write [[subscribers]], with double brackets",
        ),
        ("accounts = 1", "birdwire.toml:1: accounts: must be a list, such as [\"one\", \"two\"]"),
        (
            "\"a b\\nc\" = 1",
            "birdwire.toml:1: \"a b\\nc\": unknown key; known here: server, store, voipbin, delivery, retention, log, accounts, subscribers",
        ),
        // [server]
        (
            "[server]\nlisten = \"localhost:80\"",
            "birdwire.toml:2: server.listen: \"localhost:80\" is no address; write an IP address and a port, such as \"127.0.0.1:8080\"",
        ),
        ("[server]\nlisten = 80", "birdwire.toml:2: server.listen: must be text in quotes, not a number"),
        (
            "[server]\npublic_url = \"gw.example.com\"",
            "birdwire.toml:2: server.public_url: must be an absolute URL that begins with https:// or http://",
        ),
        (
            "[server]\npublic_url = \"https://h/?a\"",
            "birdwire.toml:2: server.public_url: must not have a query or a fragment; webhook paths are appended to it",
        ),
        (
            "[server]\npublic_url = \"https://h#a\"",
            "birdwire.toml:2: server.public_url: must not have a query or a fragment; webhook paths are appended to it",
        ),
        (
            "[server]\npublic_url = \"https://u@h\"",
            "birdwire.toml:2: server.public_url: must not hold a user name or password",
        ),
        (
            "[server]\nmax_body_bytes = \"1MB\"",
            "birdwire.toml:2: server.max_body_bytes: must be a size above 0: bytes, or text such as \"512KiB\" or \"1MiB\"",
        ),
        (
            "[server]\nmax_body_bytes = \"9MiB\"",
            "birdwire.toml:2: server.max_body_bytes: the queue must hold the largest webhook: queue_bytes >= max_body_bytes",
        ),
        (
            "[server]\nqueue_bytes = 7",
            "birdwire.toml:2: server.queue_bytes: the queue must hold the largest webhook: queue_bytes >= max_body_bytes",
        ),
        (
            "[server]\nmax_connections = 0",
            "birdwire.toml:2: server.max_connections: must be a whole number from 1 to 1000000",
        ),
        ("[server]\ndrain_timeout = \"0s\"", "birdwire.toml:2: server.drain_timeout: must be at least 1ms"),
        (
            "[server]\nbody_timeout = 10",
            "birdwire.toml:2: server.body_timeout: 10 needs a unit, such as \"10s\" (ms, s, m, h or d)",
        ),
        (
            "[server]\nbody_timeout = \"1.5s\"",
            "birdwire.toml:2: server.body_timeout: \"1.5s\" is no duration; write a number and a unit, such as \"30s\" (ms, s, m, h or d)",
        ),
        (
            "[server]\nbody_timeout = \"99999999999999999999d\"",
            "birdwire.toml:2: server.body_timeout: \"99999999999999999999d\" is no duration; write a number and a unit, such as \"30s\" (ms, s, m, h or d)",
        ),
        ("[server]\nbody_timeout = \"36501d\"", "birdwire.toml:2: server.body_timeout: must be at most 36500d"),
        ("[server]\nlistn = 1", "birdwire.toml:2: server.listn: unknown key; did you mean listen?"),
        ("[server]\nlease = \"1s\"", "birdwire.toml:2: server.lease: unknown key here; did you mean delivery.lease?"),
        // [store]
        (
            "[store]\nurl = \"postgres://u:hunter2@/db\"",
            "birdwire.toml:2: store.url: needs a host, such as \"postgres://user:password@host:5432/birdwire\"",
        ),
        (
            "[store]\nurl = \"mysql:x\"",
            "birdwire.toml:2: store.url: must be \"sqlite:PATH\", such as \"sqlite:data/birdwire.db\", or \"postgres://user:password@host/db\"",
        ),
        ("[store]\nurl = \"sqlite:\"", "birdwire.toml:2: store.url: needs a path, such as \"sqlite:data/birdwire.db\""),
        (
            "[store]\nurl = \"sqlite://x.db\"",
            "birdwire.toml:2: store.url: must not have // after sqlite:; write \"sqlite:data/birdwire.db\" or \"sqlite:/var/lib/birdwire.db\"",
        ),
        (
            "[store]\nurl = \"sqlite::memory:\"",
            "birdwire.toml:2: store.url: there is no store in memory; write the path of a file",
        ),
        ("[store]\nurl = \"sqlite:x?mode=rwc\"", "birdwire.toml:2: store.url: takes a path and no options"),
        // [voipbin], [log], [retention]
        (
            "[voipbin]\nrecord_format = \"new\"",
            "birdwire.toml:2: voipbin.record_format: \"new\" is not known here; write \"documented\" or \"current\"",
        ),
        ("[log]\nformat = true", "birdwire.toml:2: log.format: must be text in quotes, not true or false"),
        (
            "[log]\nformat = \"xml\"",
            "birdwire.toml:2: log.format: \"xml\" is not known here; write \"text\" or \"json\"",
        ),
        ("[log]\nfilter = \"\"", "birdwire.toml:2: log.filter: must not be empty; write a level, such as \"info\""),
        ("[retention]\nraw = \"999ms\"", "birdwire.toml:2: retention.raw: must be at least 1s"),
        // [delivery]
        ("[delivery]\nfirst_retry = \"9ms\"", "birdwire.toml:2: delivery.first_retry: must be at least 10ms"),
        (
            "[delivery]\nfirst_retry = \"2h\"",
            "birdwire.toml:2: delivery.first_retry: first_retry (2h) must not exceed max_retry (1h)",
        ),
        (
            "[delivery]\nmax_retry = \"500ms\"",
            "birdwire.toml:2: delivery.max_retry: first_retry (1s) must not exceed max_retry (500ms)",
        ),
        (
            "[delivery]\nlease = \"25s\"",
            "birdwire.toml:2: delivery.lease: lease (25s) must be more than attempt_timeout + 5s (25s)",
        ),
        (
            "[delivery]\n\nattempt_timeout = \"1m\"",
            "birdwire.toml:3: delivery.attempt_timeout: lease (1m) must be more than attempt_timeout + 5s (65s)",
        ),
        (
            "[delivery]\nconcurrency = -1",
            "birdwire.toml:2: delivery.concurrency: must be a whole number from 1 to 10000",
        ),
        (
            "[delivery]\nallow_networks = \"10.0.0.0/8\"",
            "birdwire.toml:2: delivery.allow_networks: must be a list, such as [\"one\", \"two\"]",
        ),
        (
            "[delivery]\nallow_networks = [\n  \"10.0.0.0/8\",\n  \"10.0.0.1\",\n]",
            "birdwire.toml:4: delivery.allow_networks[1]: \"10.0.0.1\" is one address; write \"10.0.0.1/32\"",
        ),
        (
            "[delivery]\nallow_networks = [\"lan\"]",
            "birdwire.toml:2: delivery.allow_networks[0]: \"lan\" is no network; write an address and a prefix length, such as \"10.0.0.0/8\"",
        ),
    ];
    for (text, want) in cases {
        assert_eq!(read(text, ENV).unwrap_err(), [*want], "{text}");
    }
}

#[test]
fn every_wrong_account_has_its_line() {
    let cases: &[(&str, &str, &str)] = &[
        ("\nid = ", "\n#", "2: accounts[0].id: missing; a UUID of your own making, which names the webhook URL"),
        (
            "6f1f0f4e-",
            "6f1f0f4e",
            "3: accounts[0].id: \"6f1f0f4e2f6c-4d5e-9a51-0a4c5b0c9a01\" is no UUID; write one such as \"6f1f0f4e-2f6c-4d5e-9a51-0a4c5b0c9a01\"",
        ),
        (
            "\"5e4a0680-804e-11ec-8477-2fea5968d85b\"",
            "\"\"",
            "4: accounts[0].customer_id: \"\" is no UUID; write one such as \"6f1f0f4e-2f6c-4d5e-9a51-0a4c5b0c9a01\"",
        ),
        (
            "\"Shop\"",
            "\" \"",
            "5: accounts[0].name: must not be empty; the display name of our own side of a conversation",
        ),
        ("\"bird\"", "\"lin\"", "6: accounts[0].provider: \"lin\" is no provider; known: bird"),
        ("\"bird\"", "\"line\"", "6: accounts[0].provider: \"line\" is no provider; known: bird"),
        ("\"line\"", "\"sms\"", "7: accounts[0].type: type \"sms\" is not supported by provider bird yet; use line"),
        ("\"line\"", "\"fax\"", "7: accounts[0].type: \"fax\" is no type; use line"),
        ("\"line\"", "\"line\"\naddress = 31612", "8: accounts[0].address: must be text in quotes, not a number"),
        (
            "signing_keys = [\"k\"]",
            "signing_keys = []",
            "8: accounts[0].signing_keys: missing; provider bird needs the signing keys of the webhook subscription",
        ),
        (
            "signing_keys = [\"k\"]",
            "",
            "2: accounts[0].signing_keys: missing; provider bird needs the signing keys of the webhook subscription",
        ),
        ("[\"k\"]", "\"hunter2\"", "8: accounts[0].signing_keys: must be a list, such as [\"one\", \"two\"]"),
        (
            "[\"k\"]",
            "[\"k\", \"\"]",
            "8: accounts[0].signing_keys[1]: a secret must not be empty; write its text, env:NAME or file:PATH",
        ),
        ("[\"k\"]", "[\"env:NONE\"]", "8: accounts[0].signing_keys[0]: the environment variable NONE is not set"),
        ("[\"k\"]", "[\"env:EMPTY\"]", "8: accounts[0].signing_keys[0]: the environment variable EMPTY is empty"),
        (
            "[\"k\"]",
            "[\"env:hunter2 oops\"]",
            "8: accounts[0].signing_keys[0]: env: takes the name of an environment variable: letters, digits and _",
        ),
        (
            "[\"k\"]",
            "[\"file:none.txt\"]",
            "8: accounts[0].signing_keys[0]: the file none.txt cannot be read: No such file or directory (os error 2)",
        ),
        ("[\"k\"]", "[\"file:\"]", "8: accounts[0].signing_keys[0]: file: takes the path of a file"),
        ("[\"k\"]", "[7]", "8: accounts[0].signing_keys[0]: must be text in quotes, not a number"),
        (
            "[\"k\"]",
            "[\"k\"]\nwebhook_url = \"ftp://x\"",
            "9: accounts[0].webhook_url: must be an absolute URL that begins with https:// or http://",
        ),
        (
            "[\"k\"]",
            "[\"k\"]\nmax_age = \"2 days\"",
            "9: accounts[0].max_age: \"2 days\" is no duration; write a number and a unit, such as \"30s\" (ms, s, m, h or d)",
        ),
        (
            "[\"k\"]",
            "[\"k\"]\naccess_key = [\"hunter2\"]",
            "9: accounts[0].access_key: must be text in quotes, not a list",
        ),
        ("[\"k\"]", "[\"k\"]\nchanel_id = \"x\"", "9: accounts[0].chanel_id: unknown key; did you mean channel_id?"),
    ];
    for (was, is, want) in cases {
        let text = with(ACCOUNT, was, is);
        assert_eq!(read(&text, ENV).unwrap_err(), [format!("birdwire.toml:{want}")], "{text}");
    }
    assert_eq!(
        read(&format!("{ACCOUNT}{ACCOUNT}"), ENV).unwrap_err(),
        ["birdwire.toml:11: accounts[1].id: the same id as accounts[0]; every account needs its own"]
    );
}

#[test]
fn a_key_of_another_provider_is_named_as_such() {
    let text = format!("{ACCOUNT}loft = \"roof\"\n");
    assert_eq!(
        Folder::new(&text).load(&[], &[BIRD, PIGEON]).unwrap_err(),
        ["birdwire.toml:9: accounts[0].loft: is a key of provider pigeon, not of bird"]
    );
    let text = with(ACCOUNT, "\"bird\"\ntype = \"line\"\nsigning_keys = [\"k\"]", "\"pigeon\"\ntype = \"sms\"");
    assert_eq!(
        Folder::new(&text).load(&[], &[BIRD, PIGEON]).unwrap_err(),
        ["birdwire.toml:2: accounts[0].address: missing; accounts of type \"sms\" need our own number"]
    );
    let text = with(ACCOUNT, "\"bird\"", "\"owl\"");
    assert_eq!(
        Folder::new(&text).load(&[], &[BIRD, PIGEON]).unwrap_err(),
        ["birdwire.toml:6: accounts[0].provider: \"owl\" is no provider; known: bird, pigeon"]
    );
}

#[test]
fn every_wrong_subscriber_has_its_line() {
    let url = "\"https://crm.example.com/hooks\"";
    let (short, long) = ("whsec_c2hvcnQ=", format!("whsec_{}", "A".repeat(88)));
    let long = format!("[{long:?}]");
    let short = format!("[\"ok\", {short:?}]");
    let whsec = "a whsec_ secret must be standard base64 of 24 to 64 bytes after the prefix";
    let cases: &[(&str, &str, &str)] = &[
        ("\"crm\"", "\"CRM\"", "3: subscribers[0].id: \"CRM\" is no id; write 1 to 64 of a-z, 0-9, _ and -"),
        ("\"crm\"", "\"\"", "3: subscribers[0].id: \"\" is no id; write 1 to 64 of a-z, 0-9, _ and -"),
        (
            url,
            "\"crm.example.com\"",
            "4: subscribers[0].url: must be an absolute URL that begins with https:// or http://",
        ),
        (
            url,
            "\"https://u:hunter2@h/\"",
            "4: subscribers[0].url: must not hold a user name or password; deliveries are signed instead",
        ),
        (url, "\"https://h/#x\"", "4: subscribers[0].url: must not have a fragment (#...), which is never sent"),
        (
            url,
            "\"http://h/\"",
            "4: subscribers[0].url: plain http is for private networks only; write https, or name the network in delivery.allow_networks",
        ),
        (
            url,
            "\"https://169.254.169.254/x\"",
            "4: subscribers[0].url: 169.254.169.254 is not public and in no network of delivery.allow_networks, so nothing would be sent there",
        ),
        (
            url,
            "\"https://[::ffff:127.0.0.1]:8443/\"",
            "4: subscribers[0].url: 127.0.0.1 is not public and in no network of delivery.allow_networks, so nothing would be sent there",
        ),
        ("secrets = [\"s\"]", "", "2: subscribers[0].secrets: missing; at least one secret, which signs its events"),
        ("[\"s\"]", "[]", "5: subscribers[0].secrets: empty; at least one secret, which signs its events"),
        ("[\"s\"]", &short, &format!("5: subscribers[0].secrets[1]: {whsec}")),
        ("[\"s\"]", &long, &format!("5: subscribers[0].secrets[0]: {whsec}")),
        ("[\"s\"]", "[\"whsec_hunter2!\"]", &format!("5: subscribers[0].secrets[0]: {whsec}")),
        (
            "[\"s\"]",
            "[\"s\"]\nevents = [\"conversation_create\"]",
            "6: subscribers[0].events[0]: \"conversation_create\" is no event; did you mean \"conversation_created\"?",
        ),
        (
            "[\"s\"]",
            "[\"s\"]\nevents = [\"everything\"]",
            "6: subscribers[0].events[0]: \"everything\" is no event; write a name, or a pattern such as \"conversation_*\"",
        ),
        (
            "[\"s\"]",
            "[\"s\"]\naccounts = [\"6f1f0f4e-2f6c-4d5e-9a51-0a4c5b0c9a02\"]",
            "6: subscribers[0].accounts[0]: \"6f1f0f4e-2f6c-4d5e-9a51-0a4c5b0c9a02\" is no configured account; write the id of one of [[accounts]]",
        ),
        (
            "[\"s\"]",
            "[\"s\"]\norder = \"fifo\"",
            "6: subscribers[0].order: \"fifo\" is not known here; write \"strict\" or \"bounded\" or \"none\"",
        ),
        (
            "[\"s\"]",
            "[\"s\"]\norder = \"bounded\"",
            "2: subscribers[0].order_timeout: missing; order = \"bounded\" needs it, such as \"15m\"",
        ),
        ("[\"s\"]", "[\"s\"]\norder_timeout = \"1m\"", "6: subscribers[0].order_timeout: only for order = \"bounded\""),
        (
            "[\"s\"]",
            "[\"s\"]\norder = \"bounded\"\norder_timeout = \"4d\"",
            "7: subscribers[0].order_timeout: must not exceed delivery.give_up_after (3d)",
        ),
        ("[\"s\"]", "[\"s\"]\nsecret = \"hunter2\"", "6: subscribers[0].secret: unknown key; did you mean secrets?"),
    ];
    for (was, is, want) in cases {
        let text = with(SUBSCRIBER, was, is);
        assert_eq!(read(&text, ENV).unwrap_err(), [format!("birdwire.toml:{want}")], "{text}");
    }
    assert_eq!(
        read(&format!("{SUBSCRIBER}{SUBSCRIBER}"), ENV).unwrap_err(),
        ["birdwire.toml:8: subscribers[1].id: the same id as subscribers[0]; every subscriber needs its own"]
    );
}

#[test]
fn everything_wrong_is_said_at_once_and_in_the_order_of_the_file() {
    let account = with(&with(ACCOUNT, "\"bird\"", "\"lin\""), "\"Shop\"", "\"\"");
    let subscriber = with(SUBSCRIBER, "\"crm\"", "\"C\"");
    let text = format!("{subscriber}{account}[server]\nlisten = \"x\"\nport = 1\n[delivery]\nlease = \"1s\"\n");
    let env: &[(&str, &str)] = &[("BIRDWIRE_LOG__FORMAT", "xml"), ("BIRDWIRE_RETENTION__RAW", "x")];
    assert_eq!(
        read(&text, env).unwrap_err(),
        [
            "birdwire.toml:3: subscribers[0].id: \"C\" is no id; write 1 to 64 of a-z, 0-9, _ and -",
            "birdwire.toml:10: accounts[0].name: must not be empty; the display name of our own side of a conversation",
            "birdwire.toml:11: accounts[0].provider: \"lin\" is no provider; known: bird",
            "birdwire.toml:15: server.listen: \"x\" is no address; write an IP address and a port, such as \"127.0.0.1:8080\"",
            "birdwire.toml:16: server.port: unknown key; known here: listen, public_url, max_body_bytes, queue_bytes, header_timeout, body_timeout, max_connections, commit_timeout, drain_delay, drain_timeout",
            "birdwire.toml:18: delivery.lease: lease (1s) must be more than attempt_timeout + 5s (25s)",
            "BIRDWIRE_RETENTION__RAW: \"x\" is no duration; write a number and a unit, such as \"30s\" (ms, s, m, h or d)",
            "BIRDWIRE_LOG__FORMAT: \"xml\" is not known here; write \"text\" or \"json\"",
        ]
    );
}

#[test]
fn wrong_variables_are_named() {
    let cases: &[(&str, &str, &str)] = &[
        ("BIRDWIRE_SERVER__LISTN", "x", "unknown key; did you mean listen?"),
        ("BIRDWIRE_SERVER_LISTEN", "x", "is no setting; did you mean BIRDWIRE_SERVER__LISTEN?"),
        ("BIRDWIRE_SERVER", "x", "is a whole section; set its keys, as in BIRDWIRE_SERVER__KEY"),
        ("BIRDWIRE_SERVER__LISTEN__PORT", "x", "BIRDWIRE_SERVER__LISTEN holds one value and has no parts"),
        ("BIRDWIRE_SEVER__LISTEN", "x", "sever: unknown key; did you mean server?"),
        ("BIRDWIRE___LISTEN", "x", "is no setting: a key is missing between the underscores"),
        ("BIRDWIRE_SERVER__1", "x", "is no setting: a number stands where a key should"),
        ("BIRDWIRE_A__B__C__D__E__F__G", "x", "is no setting"),
        ("BIRDWIRE_SERVER__MAX_CONNECTIONS", "many", "must be a whole number from 1 to 1000000"),
        (
            "BIRDWIRE_SERVER__MAX_BODY_BYTES",
            "0",
            "must be a size above 0: bytes, or text such as \"512KiB\" or \"1MiB\"",
        ),
        ("BIRDWIRE_DELIVERY__ALLOW_NETWORKS", "10.0.0.0/8", "must be a list, such as [\"one\", \"two\"]"),
        (
            "BIRDWIRE_DELIVERY__ALLOW_NETWORKS",
            "[\"lan\"]",
            "delivery.allow_networks[0]: \"lan\" is no network; write an address and a prefix length, such as \"10.0.0.0/8\"",
        ),
        ("BIRDWIRE_SUBSCRIBERS", "hunter2", "must be a list, such as [\"one\", \"two\"]"),
        ("BIRDWIRE_SUBSCRIBERS__NAME", "x", "BIRDWIRE_SUBSCRIBERS takes a number, 0 for the first"),
        ("BIRDWIRE_SUBSCRIBERS__2__ID", "x", "there are only 1 before it; the next number is 1"),
        ("BIRDWIRE_SUBSCRIBERS__0__ID", "X", "\"X\" is no id; write 1 to 64 of a-z, 0-9, _ and -"),
    ];
    for (name, value, want) in cases {
        assert_eq!(read(SUBSCRIBER, &[(name, value)]).unwrap_err(), [format!("{name}: {want}")]);
    }
    assert_eq!(
        read("", &[("BIRDWIRE_SUBSCRIBERS__0__ID", "crm")]).unwrap_err(),
        [
            "BIRDWIRE_SUBSCRIBERS__0__URL: missing; where its events go",
            "BIRDWIRE_SUBSCRIBERS__0__SECRETS: missing; at least one secret, which signs its events",
        ]
    );
}

#[test]
fn what_other_parts_say_has_its_line_beside_everything_else() {
    let text = format!("[store]\nurl = \"postgres://me@h/bogus\"\nconections = 2\n[log]\nfilter = \"inof\"\n{ACCOUNT}");
    assert_eq!(
        read(&format!("{text}channel_id = \"x\""), ENV).unwrap_err(),
        [
            "birdwire.toml:2: store.url: is bogus",
            "birdwire.toml:3: store.conections: unknown key; did you mean connections?",
            "birdwire.toml:5: log.filter: is no level",
            "birdwire.toml:7: accounts[0]: two keys contradict each other",
            "birdwire.toml:14: accounts[0].channel_id: not a UUID",
        ]
    );
    let variables = [
        ("BIRDWIRE_STORE__URL", "postgres://me@h/bogus"),
        ("BIRDWIRE_LOG__FILTER", "inof"),
        ("BIRDWIRE_ACCOUNTS__0__CHANNEL_ID", "x"),
    ];
    assert_eq!(
        read(ACCOUNT, &variables).unwrap_err(),
        [
            "birdwire.toml:2: accounts[0]: two keys contradict each other",
            "BIRDWIRE_STORE__URL: is bogus",
            "BIRDWIRE_LOG__FILTER: is no level",
            "BIRDWIRE_ACCOUNTS__0__CHANNEL_ID: not a UUID",
        ]
    );
}
