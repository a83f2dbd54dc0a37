//! Environment variables as an overlay: `BIRDWIRE_SECTION__KEY`, `BIRDWIRE_ACCOUNTS__0__NAME`.

use super::mistakes::{Notes, Origin, variable};
use super::tree::{Node, Table, Value};

const PREFIX: &str = "BIRDWIRE_";

/// Names the configuration file and is therefore no setting of its own.
const RESERVED: &str = "BIRDWIRE_CONFIG";

/// Lays every `BIRDWIRE_` variable upon `root`. `known` are the paths of the defaults, for telling a setting that
/// lacks an underscore from a variable that is none of ours: container platforms put the likes of
/// `BIRDWIRE_SERVICE_HOST` into the environment of a service called birdwire, and that must not stop it.
pub(super) fn overlay(root: &mut Table, variables: &[(String, String)], known: &[String], notes: &mut Notes) {
    let mut ours: Vec<_> = variables
        .iter()
        .filter(|(name, _)| name != RESERVED)
        .filter_map(|(name, value)| Some((steps(name.strip_prefix(PREFIX)?), name, value)))
        .collect();
    // Numbers in their order, so that a second account follows the first.
    ours.sort();
    for (steps, name, value) in ours {
        if let [Step::Index(_)] = &steps[..] {
            continue;
        }
        if let [Step::Key(key)] = &steps[..] {
            match root.get(key).map(|node| &node.value) {
                Some(Value::Table(_)) => {
                    let example = variable(&format!("{key}.key"));
                    notes.add_variable(name, format_args!("is a whole section; set its keys, as in {example}"));
                    continue;
                }
                Some(_) => {}
                None => {
                    let meant = known.iter().map(|path| variable(path)).find(|v| squeeze(v) == squeeze(name));
                    if let Some(meant) = meant {
                        notes.add_variable(name, format_args!("is no setting; did you mean {meant}?"));
                    }
                    continue;
                }
            }
        }
        let put = if steps.len() > DEEPEST {
            Err("is no setting".to_owned())
        } else {
            put_in_table(root, &steps, name, value, "")
        };
        if let Err(what) = put {
            notes.add_variable(name, what);
        }
    }
}

/// More steps than any setting has.
const DEEPEST: usize = 6;

/// One step on the way to a value. Ordered, so that variables can be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Index(usize),
    Key(String),
}

fn steps(rest: &str) -> Vec<Step> {
    rest.split("__")
        .map(|step| match step.parse() {
            Ok(index) => Step::Index(index),
            Err(_) => Step::Key(step.to_lowercase()),
        })
        .collect()
}

fn squeeze(name: &str) -> String {
    name.replace('_', "").to_uppercase()
}

fn put_in_table(table: &mut Table, steps: &[Step], name: &str, value: &str, way: &str) -> Result<(), String> {
    let Some((first, rest)) = steps.split_first() else { return Ok(()) };
    let Step::Key(key) = first else { return Err("is no setting: a number stands where a key should".to_owned()) };
    if key.is_empty() {
        return Err("is no setting: a key is missing between the underscores".to_owned());
    }
    let way = join(way, &key.to_uppercase());
    put(table.entry(key.clone()).or_insert_with(|| fresh(rest, &way)), rest, name, value, &way)
}

fn put(node: &mut Node, steps: &[Step], name: &str, value: &str, way: &str) -> Result<(), String> {
    let Some((first, rest)) = steps.split_first() else {
        *node = Node { origin: Origin::Variable(name.to_owned()), value: Value::Raw(value.to_owned()) };
        return Ok(());
    };
    match (&mut node.value, first) {
        (Value::Table(table), _) => put_in_table(table, steps, name, value, way),
        (Value::List(list), Step::Index(index)) => {
            let way = join(way, &index.to_string());
            if *index == list.len() {
                list.push(fresh(rest, &way));
            }
            let count = list.len();
            match list.get_mut(*index) {
                Some(node) => put(node, rest, name, value, &way),
                None => Err(format!("there are only {count} before it; the next number is {count}")),
            }
        }
        (Value::List(_), Step::Key(_)) => Err(format!("{way} takes a number, 0 for the first")),
        _ => Err(format!("{way} holds one value and has no parts")),
    }
}

/// An empty value that can take the next step.
fn fresh(rest: &[Step], way: &str) -> Node {
    let value = match rest.first() {
        None => Value::Raw(String::new()),
        Some(Step::Index(_)) => Value::List(Vec::new()),
        Some(Step::Key(_)) => Value::Table(Table::new()),
    };
    Node { origin: Origin::Variable(way.to_owned()), value }
}

fn join(way: &str, step: &str) -> String {
    if way.is_empty() { format!("{PREFIX}{step}") } else { format!("{way}__{step}") }
}
