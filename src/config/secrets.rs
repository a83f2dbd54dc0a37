//! Secrets as they are written: literal, `env:NAME` or `file:PATH`.

use super::mistakes::{Noted, Notes};
use super::read::Leaf;
use crate::domain::secret::Secret;
use std::io::Read;
use std::path::PathBuf;

/// No key or token is longer; whatever is, is another file.
const LARGEST_FILE: u64 = 64 * 1024;

/// A secret of the command line, as the file has it: literal, `env:NAME` or `file:PATH`, and not empty. The message does not
/// hold its value.
pub fn secret(text: &str, variables: &[(String, String)]) -> Result<Secret, String> {
    Vault { variables, folder: PathBuf::new() }.look_up(text)
}

/// The same of one that signs as a subscriber's does.
pub fn subscriber_secret(text: &str, variables: &[(String, String)]) -> Result<Secret, String> {
    let secret = secret(text, variables)?;
    super::subscribers::webhook_key(&secret)?;
    Ok(secret)
}

/// Where secrets are looked up.
pub(super) struct Vault<'a> {
    /// All environment variables.
    pub(super) variables: &'a [(String, String)],
    /// Where relative paths begin.
    pub(super) folder: PathBuf,
}

impl Vault<'_> {
    /// The secrets of a list, none of them empty.
    pub(super) fn list(&self, leaf: Leaf, notes: &mut Notes) -> Result<Vec<Secret>, Noted> {
        let read: Vec<_> = leaf.list(notes)?.into_iter().map(|leaf| self.one(leaf, notes)).collect();
        read.into_iter().collect()
    }

    /// One secret that is not empty. No message holds its value, whatever is wrong with it.
    pub(super) fn one(&self, leaf: Leaf, notes: &mut Notes) -> Result<Secret, Noted> {
        leaf.read(notes, |text| self.look_up(text))
    }

    fn look_up(&self, text: &str) -> Result<Secret, String> {
        if let Some(name) = text.strip_prefix("env:") {
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty() || !name.chars().all(is_name) {
                return Err("env: takes the name of an environment variable: letters, digits and _".to_owned());
            }
            let value = self.variables.iter().find(|(key, _)| key == name).map(|(_, value)| value);
            let value = value.ok_or_else(|| format!("the environment variable {name} is not set"))?;
            return filled(value, || format!("the environment variable {name} is empty"));
        }
        if let Some(path) = text.strip_prefix("file:") {
            if path.is_empty() {
                return Err("file: takes the path of a file".to_owned());
            }
            let path = self.folder.join(path);
            let content =
                content(&path).map_err(|cause| format!("the file {} cannot be read: {cause}", path.display()))?;
            return filled(content.trim_end_matches(['\r', '\n']), || format!("the file {} is empty", path.display()));
        }
        filled(text, || "a secret must not be empty; write its text, env:NAME or file:PATH".to_owned())
    }
}

fn filled(text: &str, otherwise: impl FnOnce() -> String) -> Result<Secret, String> {
    if text.trim().is_empty() { Err(otherwise()) } else { Ok(Secret::new(text)) }
}

fn content(path: &std::path::Path) -> Result<String, std::io::Error> {
    let mut content = String::new();
    let mut file = std::fs::File::open(path)?.take(LARGEST_FILE + 1);
    let length = file.read_to_string(&mut content)?;
    if length as u64 > LARGEST_FILE {
        return Err(std::io::Error::other("it is larger than any secret"));
    }
    Ok(content)
}
