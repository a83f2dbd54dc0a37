//! The rules of the tree, checked: who may know whom, and the form of every file.
//!
//! A rule that no test checks is only a wish. When one of these fails, either the code crossed a border by accident,
//! or a border has to move on purpose: then change the table here, where everybody sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Longest file, in lines.
const LONGEST: usize = 600;

/// Each module and the modules of this crate that it may use besides itself.
const MAY_USE: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("adapter", &["domain"]),
    ("voipbin", &["domain"]),
    ("metrics", &["domain"]),
    ("telemetry", &["domain"]),
    ("lifecycle", &["domain"]),
    ("config", &["domain"]),
    ("store", &["domain", "metrics"]),
    ("ingest", &["domain", "adapter", "voipbin", "store"]),
    ("delivery", &["domain", "voipbin", "store", "metrics"]),
    ("http", &["domain", "ingest", "store", "metrics"]),
    (
        "app",
        &[
            "domain",
            "adapter",
            "voipbin",
            "metrics",
            "telemetry",
            "lifecycle",
            "config",
            "store",
            "ingest",
            "delivery",
            "http",
        ],
    ),
    ("cli", &["domain", "adapter", "voipbin", "metrics", "lifecycle", "config", "store", "http", "ingest", "app"]),
];

/// Crates that only some places may name: a path is a module, or a module in one.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("axum", &["http"]),
    ("rusqlite", &["store::sqlite"]),
    ("hyper", &["http", "delivery"]),
    ("hyper_util", &["http", "delivery"]),
    ("http_body_util", &["http", "delivery"]),
    ("tokio_rustls", &["delivery"]),
    ("rustls", &["delivery", "store::postgres", "app", "cli"]),
    ("tower", &["http"]),
    ("reqwest", &["cli"]),
    ("tokio", &["store", "delivery", "http", "cli", "lifecycle", "app"]),
    ("tokio_util", &["delivery", "store::postgres", "http", "cli", "lifecycle", "app"]),
    ("tokio_postgres", &["store::postgres"]),
    ("tokio_postgres_rustls", &["store::postgres"]),
    ("deadpool_postgres", &["store::postgres"]),
    ("rustls_platform_verifier", &["store::postgres", "delivery", "cli"]),
    ("futures_util", &["store::postgres", "http"]),
    ("async_trait", &["store"]),
    ("prometheus", &["metrics", "http", "app"]),
    ("tracing_subscriber", &["telemetry"]),
    ("toml", &["config"]),
    ("ipnet", &["config", "delivery"]),
    ("clap", &["cli"]),
    ("anyhow", &["cli"]),
    ("anstream", &["cli"]),
    ("comfy_table", &["cli"]),
    ("tempfile", &["cli"]),
];

/// The only crates that `domain` may name.
const OF_DOMAIN: [&str; 2] = ["uuid", "chrono"];

/// The files of every adapter's folder.
const OF_ADAPTER: [&str; 5] = ["mod.rs", "settings.rs", "verify.rs", "wire.rs", "map.rs"];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 3] = ["utils", "common", "helpers"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
}

/// One source file: its name below the root, its module path, and its text.
struct Source {
    name: String,
    module: Vec<String>,
    text: String,
}

impl Source {
    fn new(name: &str, text: &str) -> Self {
        let mut module: Vec<String> =
            name.trim_start_matches("src/").trim_end_matches(".rs").split('/').map(str::to_owned).collect();
        if matches!(module.last().map(String::as_str), Some("mod" | "lib" | "main")) {
            module.pop();
        }
        Self { name: name.to_owned(), module, text: text.to_owned() }
    }

    /// Whether the whole file is a test.
    fn is_test(&self) -> bool {
        !self.name.starts_with("src/") || self.module.iter().any(|part| part == "tests")
    }

    /// What the program consists of: no comments and no tests, which are the last thing of a file.
    fn code(&self) -> String {
        let mut code = String::new();
        let mut lines = self.text.lines().peekable();
        while let Some(line) = lines.next() {
            if line.trim() == "#[cfg(test)]" {
                match lines.next() {
                    Some(module) if module.trim_end().ends_with('{') => break,
                    _ => continue,
                }
            }
            let line = line.trim_start();
            code.push_str(if line.starts_with("//") { "" } else { line.split(" // ").next().unwrap_or_default() });
            code.push('\n');
        }
        code
    }

    /// The absolute paths below this crate that the code names, as far as they go without braces.
    fn own_paths(&self) -> BTreeSet<Vec<String>> {
        let code = self.code();
        let mut found = BTreeSet::new();
        for (base, rest) in occurrences(&code, "crate::") {
            assert!(!rest.starts_with('{'), "{}: one `use crate::` per module: {base}{rest:.40}", self.name);
            found.insert(segments(rest));
        }
        for (_, rest) in occurrences(&code, "super::") {
            let mut rest = rest;
            let mut up = 1;
            while let Some(more) = rest.strip_prefix("super::") {
                rest = more;
                up += 1;
            }
            if let Some(depth) = self.module.len().checked_sub(up) {
                let mut path = self.module[..depth].to_vec();
                path.extend(segments(rest));
                found.insert(path);
            }
        }
        found
    }

    /// The crates that the code names, of those that the manifest has.
    fn crates<'a>(&self, manifest: &'a [String]) -> Vec<&'a str> {
        let code = self.code();
        let named = |name: &&str| {
            occurrences(&code, &format!("{name}::")).next().is_some()
                || occurrences(&code, &format!("use {name};")).next().is_some()
                || occurrences(&code, &format!("use {name} as ")).next().is_some()
        };
        manifest.iter().map(String::as_str).filter(named).collect()
    }

    fn is_in(&self, place: &str) -> bool {
        let place: Vec<&str> = place.split("::").collect();
        self.module.len() >= place.len() && self.module.iter().zip(&place).all(|(a, b)| a == b)
    }
}

/// Every place where `needle` begins a path, with what follows.
fn occurrences<'a>(code: &'a str, needle: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    code.match_indices(needle).filter_map(move |(at, found)| {
        let before = code[..at].chars().next_back();
        let begins = before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':');
        begins.then(|| (found, &code[at + needle.len()..]))
    })
}

fn segments(path: &str) -> Vec<String> {
    path.split("::")
        .map_while(|part| {
            let end = part.find(|c: char| !c.is_alphanumeric() && c != '_');
            let name = &part[..end.unwrap_or(part.len())];
            (!name.is_empty()).then_some((name.to_owned(), end.is_some()))
        })
        .scan(false, |over, (name, last)| {
            let out = (!*over).then_some(name);
            *over |= last;
            out
        })
        .collect()
}

fn sources() -> Vec<Source> {
    let root = root();
    let mut files = Vec::new();
    walk(&root.join("src"), &mut files);
    walk(&root.join("tests"), &mut files);
    walk(&root.join("benches"), &mut files);
    files.sort();
    let read = |path: &PathBuf| {
        let name = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
        Source::new(&name, &fs::read_to_string(path).unwrap())
    };
    files.iter().map(read).collect()
}

fn program() -> Vec<Source> {
    sources().into_iter().filter(|source| !source.is_test() && !source.module.is_empty()).collect()
}

/// The dependencies of the program, as the code spells them.
fn manifest() -> Vec<String> {
    let text = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let mut names = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with('[') {
            inside = line == "[dependencies]";
        } else if let Some((name, _)) = line.split_once(" = ").filter(|_| inside) {
            names.push(name.replace('-', "_"));
        }
    }
    names
}

fn wrong_uses(source: &Source) -> Vec<String> {
    let Some((_, allowed)) = MAY_USE.iter().find(|(module, _)| *module == source.module[0]) else {
        return vec![format!("{}: the table has no line for it", source.name)];
    };
    let uses = source.own_paths();
    let strangers = uses.iter().filter(|path| {
        // Values of the crate root are none: whatever follows `crate::` is a module.
        path.first().is_some_and(|module| *module != source.module[0] && !allowed.contains(&module.as_str()))
    });
    strangers.map(|path| format!("{} uses {}", source.name, path.join("::"))).collect()
}

/// Folders of one kind side by side, such as adapters and engines, that must not know each other.
fn siblings(inside: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(root().join("src").join(inside))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn knows_sibling(source: &Source, inside: &str, folders: &[String]) -> Vec<String> {
    let Some(own) = source.module.get(1).filter(|own| source.module[0] == inside && folders.contains(own)) else {
        return Vec::new();
    };
    let uses = source.own_paths();
    let others = uses.iter().filter(|path| {
        path.first().is_some_and(|m| m == inside) && path.get(1).is_some_and(|m| m != own && folders.contains(m))
    });
    others.map(|path| format!("{} uses {}", source.name, path.join("::"))).collect()
}

fn check(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn modules_know_only_whom_they_may() {
    check(&program().iter().flat_map(wrong_uses).collect::<Vec<_>>());
}

#[test]
fn the_table_names_every_module() {
    let modules: BTreeSet<String> = program().into_iter().map(|source| source.module[0].clone()).collect();
    let named: BTreeSet<String> = MAY_USE.iter().map(|(module, _)| (*module).to_owned()).collect();
    assert_eq!(modules, named);
}

#[test]
fn adapters_and_engines_do_not_know_each_other() {
    for inside in ["adapter", "store"] {
        let folders = siblings(inside);
        assert!(!folders.is_empty());
        check(&program().iter().flat_map(|source| knows_sibling(source, inside, &folders)).collect::<Vec<_>>());
    }
}

#[test]
fn only_its_own_store_knows_an_engine() {
    let engines = siblings("store");
    let knows = |source: &Source| -> Vec<String> {
        let uses = source.own_paths();
        let engine = |path: &&Vec<String>| {
            path.first().is_some_and(|m| m == "store") && path.get(1).is_some_and(|m| engines.contains(m))
        };
        uses.iter().filter(engine).map(|path| format!("{} uses {}", source.name, path.join("::"))).collect()
    };
    check(&program().iter().filter(|source| source.module[0] != "store").flat_map(knows).collect::<Vec<_>>());
}

#[test]
fn crates_stay_where_they_belong() {
    let manifest = manifest();
    for (name, _) in ONLY_IN {
        assert!(manifest.iter().any(|known| known == name), "{name} is no dependency any more");
    }
    let wrong = |source: &Source| -> Vec<String> {
        let mut wrong = Vec::new();
        for name in source.crates(&manifest) {
            let places = ONLY_IN.iter().find(|(only, _)| *only == name).map(|(_, places)| *places);
            let domain = source.module[0] == "domain";
            if places.is_some_and(|places| !places.iter().any(|place| source.is_in(place)))
                || (domain && !OF_DOMAIN.contains(&name))
            {
                wrong.push(format!("{} names {name}", source.name));
            }
        }
        wrong
    };
    check(&program().iter().flat_map(wrong).collect::<Vec<_>>());
}

#[test]
fn every_adapter_is_registered_and_has_every_file() {
    let registry = fs::read_to_string(root().join("src/adapter/mod.rs")).unwrap();
    let listed = registry.lines().find(|line| line.starts_with("pub const PROVIDERS")).expect("the visible list");
    for folder in siblings("adapter") {
        assert!(registry.contains(&format!("\nmod {folder};")), "adapter/{folder} is no module");
        assert!(listed.contains(&format!("{folder}::PROVIDER")), "adapter/{folder} is not registered");
        for file in OF_ADAPTER {
            let path = root().join("src/adapter").join(&folder).join(file);
            assert!(path.exists(), "adapter/{folder}/{file} is missing");
        }
    }
    assert_eq!(listed.matches("::PROVIDER").count(), siblings("adapter").len());
}

fn wrong_form(source: &Source) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut note = |what: &str| wrong.push(format!("{}: {what}", source.name));
    if !source.text.starts_with("//! ") {
        note("does not begin with //! and why it is there");
    }
    let lines = source.text.lines().count();
    if lines > LONGEST {
        note(&format!("{lines} lines are too many"));
    }
    if source.module.iter().any(|part| EMPTY_NAMES.contains(&part.as_str())) {
        note("its name says nothing");
    }
    wrong
}

fn wrong_words(source: &Source) -> Vec<String> {
    let code = source.code();
    let mut wrong = Vec::new();
    for word in ["todo!", "unimplemented!", "unsafe ", "dbg!", "thread_local!"] {
        if occurrences(&code, word).next().is_some() {
            wrong.push(format!("{}: {word}", source.name));
        }
    }
    for line in code.lines() {
        let item = line.trim_start_matches("pub ").trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ");
        if item.starts_with("static ") {
            wrong.push(format!("{}: {line}: state is a value that is handed on", source.name));
        }
    }
    for (_, rest) in occurrences(&code, "[allow(") {
        let end = rest.find(")]").unwrap_or(rest.len());
        if !rest[..end].contains("reason =") {
            wrong.push(format!("{}: #[allow({}): say why", source.name, &rest[..end]));
        }
    }
    wrong
}

#[test]
fn every_file_says_why_it_is_there_and_is_short() {
    check(&sources().iter().flat_map(wrong_form).collect::<Vec<_>>());
}

#[test]
fn nothing_is_left_undone_or_global() {
    check(&program().iter().flat_map(wrong_words).collect::<Vec<_>>());
}

#[test]
fn tests_are_the_last_thing_of_a_file() {
    // Whatever follows them would not be looked at here.
    let wrong = |source: &Source| {
        let after = source.text.split("\n#[cfg(test)]\nmod tests {\n").nth(1)?;
        let items = after.split("\n}\n").nth(1)?;
        (!items.trim().is_empty()).then(|| source.name.clone())
    };
    check(&program().iter().filter_map(wrong).collect::<Vec<_>>());
}

/// These rules look at text: a rule that cannot see is worse than none.
#[test]
fn violations_are_seen() {
    let uses = |name: &str, text: &str| wrong_uses(&Source::new(name, text));
    assert_eq!(uses("src/domain/time.rs", "use crate::store::Store;"), ["src/domain/time.rs uses store::Store"]);
    assert_eq!(uses("src/domain/time.rs", "fn a() { super::super::http::b() }"), ["src/domain/time.rs uses http::b"]);
    assert_eq!(uses("src/voipbin/mod.rs", "use super::store;"), ["src/voipbin/mod.rs uses store"]);
    assert_eq!(
        uses("src/domain/time.rs", "// use crate::store;\n#[cfg(test)]\nmod tests {\nuse crate::store;\n}"),
        [""; 0]
    );
    assert_eq!(uses("src/config/a.rs", "#[cfg(test)]\nmod tests;\nuse crate::app;"), ["src/config/a.rs uses app"]);
    assert_eq!(uses("src/new/a.rs", ""), ["src/new/a.rs: the table has no line for it"]);

    let folders = ["bird".to_owned(), "line".to_owned()];
    let knows = |text: &str| knows_sibling(&Source::new("src/adapter/line/map.rs", text), "adapter", &folders).len();
    assert_eq!(knows("use crate::adapter::bird::wire;"), 1);
    assert_eq!(knows("use super::super::bird;"), 1);
    assert_eq!(knows("use super::wire; use crate::adapter::hmac;"), 0);

    let manifest = ["axum".to_owned(), "bytes".to_owned()];
    let names = |text: &str| Source::new("src/http/a.rs", text).crates(&manifest).len();
    assert_eq!((names("use axum::http;"), names("use other::axum::x;"), names("fn f() -> bytes::Bytes {}")), (1, 0, 1));

    let words = |text: &str| wrong_words(&Source::new("src/a.rs", text)).len();
    assert_eq!(words("fn a() { todo!() }\nunsafe fn b() {}\npub(crate) static C: u8 = 1;\n#[allow(dead_code)]"), 4);
    assert_eq!(words("fn a(b: &'static str) {}\n#[allow(dead_code, reason = \"it is\")]"), 0);
    assert_eq!(wrong_form(&Source::new("src/utils.rs", &"\n".repeat(601))).len(), 3);

    let mut whole = BTreeMap::new();
    for source in program() {
        *whole.entry(source.module[0].clone()).or_insert(0) += source.own_paths().len();
    }
    assert!(whole["app"] > 10 && whole["cli"] > 10, "paths are found in real files: {whole:?}");
}
