//! What a real server has stored of mails, told apart from what it has added to them.

#![allow(dead_code, reason = "each test program uses its own part of this")]

use std::collections::BTreeMap;
use std::fs;

use crate::private::Private;

/// A mail as it was stored for one recipient.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stored {
    pub recipient: String,
    /// The reverse-path of its envelope.
    pub sender: String,
    /// Without the header fields that the server puts before it; lines end in LF.
    pub content: Vec<u8>,
}

impl Stored {
    /// Takes these header fields from the front of a file: the first tells who sent it, and the second
    /// who has it, unless that is known.
    pub fn parse(file: &[u8], fields: &[&str], recipient: Option<&str>) -> Stored {
        let (added, content) = split(file, fields);
        let of = |name: &str| added.get(name).unwrap_or_else(|| panic!("no {name}: {added:?}")).clone();
        let recipient = recipient.map_or_else(|| of(fields[1]), str::to_owned);
        Stored { recipient, sender: of(fields[0]), content }
    }
}

/// What was added, by name, and what stands behind it.
fn split(file: &[u8], fields: &[&str]) -> (BTreeMap<String, String>, Vec<u8>) {
    let mut added = BTreeMap::new();
    let mut rest = file;
    let mut last: Option<String> = None;
    loop {
        let end = rest.iter().position(|octet| *octet == b'\n').map_or(rest.len(), |end| end + 1);
        let (line, behind) = rest.split_at(end);
        let text = String::from_utf8_lossy(line);
        let name = fields.iter().find(|name| {
            let begins = text.strip_prefix(**name).is_some_and(|value| value.starts_with(": "));
            // Each field once: what comes a second time is the mail's own.
            begins && !added.contains_key(**name)
        });
        if let Some(name) = name {
            let value = text[name.len() + 2..].trim_end().trim_matches(['<', '>']);
            added.insert((*name).to_owned(), value.to_owned());
            last = Some((*name).to_owned());
        } else if last.is_none() || !text.starts_with([' ', '\t']) {
            return (added, rest.to_vec());
        }
        rest = behind;
    }
}

/// A server that stores mails.
pub trait Store {
    fn server(&self) -> &Private;

    /// Whether all that it took is delivered.
    fn is_idle(&self) -> bool;

    /// The folders in which it stores mails, a file each.
    fn folders(&self) -> Vec<String>;

    /// What such a file holds.
    fn parse(&self, folder: &str, file: &[u8]) -> Stored;

    /// Takes away all that was stored, and that will be when nobody sends it anything any more.
    fn take_stored(&self) -> Vec<Stored> {
        self.server().wait_for("still at work", || self.is_idle().then_some(()));
        let mut all = Vec::new();
        for folder in self.folders() {
            for path in self.server().files(&folder) {
                all.push(self.parse(&folder, &fs::read(&path).unwrap()));
                fs::remove_file(path).unwrap();
            }
        }
        all
    }
}
