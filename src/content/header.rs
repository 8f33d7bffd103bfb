//! The header of a template: where fields may stand in it, and how their values
//! are written there. Whatever the values, no header ends early, none is added,
//! and none comes to mean something else.
//!
//! A *run* is the stretch of the header that is written anew for each mail: a
//! word with fields in it, or a string in quotes, since an encoded-word has to
//! stand by itself (RFC 2047 §5).

use std::ops::Range;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::memchr2;

use super::template::{Fault, HeaderFault, TemplateErrorKind};

/// Octets of text in one encoded-word: with its frame 72 of the 75 that RFC 2047
/// §2 allows.
const ENCODED: usize = 45;

/// Headers that consist of addresses, or of a name in front of angle brackets.
const ADDRESSES: [&str; 17] = [
    "from",
    "sender",
    "reply-to",
    "to",
    "cc",
    "bcc",
    "resent-from",
    "resent-sender",
    "resent-reply-to",
    "resent-to",
    "resent-cc",
    "resent-bcc",
    "mail-followup-to",
    "disposition-notification-to",
    "return-receipt-to",
    "errors-to",
    "list-id",
];

/// Headers with a syntax of their own, in which no encoded-word may stand.
const EXACT: [&str; 10] = [
    "message-id",
    "in-reply-to",
    "references",
    "date",
    "mime-version",
    "received",
    "return-path",
    "resent-date",
    "resent-message-id",
    "authentication-results",
];

/// The same, by how their names begin.
const EXACT_FAMILIES: [&str; 4] = ["content-", "list-", "dkim-", "arc-"];

/// Where a field stands in the text.
pub(super) struct Place {
    /// The octet of the text before which it stands.
    pub(super) at: usize,
    pub(super) field: usize,
    /// Where it was written, for errors.
    pub(super) offset: usize,
    /// Whether its line would be blank without a value.
    pub(super) must_fill: bool,
}

/// What a template's header consists of.
pub(super) struct Header {
    pub(super) runs: Vec<Run>,
    /// How many places are in the header and not in the body.
    pub(super) places: usize,
}

/// Whose syntax a header's value has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Syntax {
    Text,
    Addresses,
    Exact,
}

impl Syntax {
    fn of(name: &str) -> Syntax {
        let name = name.to_ascii_lowercase();
        if ADDRESSES.contains(&&*name) {
            Syntax::Addresses
        } else if name == "content-description" {
            Syntax::Text
        } else if EXACT.contains(&&*name) || EXACT_FAMILIES.iter().any(|family| name.starts_with(family)) {
            Syntax::Exact
        } else {
            Syntax::Text
        }
    }
}

/// A header, its continuation lines included.
struct Field {
    name: Arc<str>,
    value: Range<usize>,
    places: Range<usize>,
}

impl Field {
    /// Begins with this line, if that is a header's.
    fn begin(line: &[u8], start: usize, place: usize) -> Option<Field> {
        let colon = memchr::memchr(b':', line)?;
        let name = line.get(..colon).filter(|name| !name.is_empty())?;
        let name =
            std::str::from_utf8(name).ok().filter(|name| name.bytes().all(|b| b.is_ascii_graphic()))?;
        let value = start + colon + 1..start + line.len();
        Some(Field { name: name.into(), value, places: place..place })
    }
}

/// Finds the end of the header, checks its places, and makes the runs.
pub(super) fn read(text: &[u8], places: &mut [Place]) -> Result<Header, Fault> {
    let mut runs = Vec::new();
    let mut field: Option<Field> = None;
    let (mut start, mut seen) = (0, 0);
    while start < text.len() || seen < places.len() {
        let rest = text.get(start..).unwrap_or_default();
        let line = memchr2(b'\r', b'\n', rest).and_then(|end| rest.get(..end)).unwrap_or(rest);
        let end = start + line.len();
        let here = places.get_mut(seen..).unwrap_or_default();
        let in_line = here.partition_point(|place| place.at <= end);
        if line.is_empty() && in_line == 0 {
            break;
        }
        let first = here.first().map(|place| (place.at, place.offset)).filter(|_| in_line > 0);
        let is_blank = |octet: &u8| matches!(octet, b' ' | b'\t');
        let continues = line.first().is_some_and(is_blank) && first.is_none_or(|(at, _)| at > start);
        if !continues {
            finish(text, places, field.take(), &mut runs)?;
            field = Field::begin(line, start, seen);
        }
        match (&mut field, first) {
            (None, None) => {}
            (Some(field), Some((at, _))) if at >= field.value.start => {
                field.value.end = end;
                field.places.end = seen + in_line;
            }
            (Some(field), None) => field.value.end = end,
            (_, Some((_, offset))) => return Err(Fault { kind: TemplateErrorKind::Misplaced, offset }),
        }
        if line.iter().all(is_blank) {
            let here = places.get_mut(seen..seen + in_line).unwrap_or_default();
            here.iter_mut().for_each(|place| place.must_fill = true);
        }
        seen += in_line;
        // A field may stand between the two octets of a CRLF.
        let is_split = places.get(seen).is_some_and(|place| place.at == end + 1);
        let is_pair = text.get(end..end + 2) == Some(b"\r\n") && !is_split;
        start = (end + if is_pair { 2 } else { 1 }).min(text.len());
    }
    finish(text, places, field, &mut runs)?;
    Ok(Header { runs, places: seen })
}

/// Makes the runs of one header.
fn finish(text: &[u8], places: &[Place], field: Option<Field>, runs: &mut Vec<Run>) -> Result<(), Fault> {
    let Some(field) = field.filter(|field| !field.places.is_empty()) else { return Ok(()) };
    let syntax = Syntax::of(&field.name);
    let mut drafts = Drafts { text, value: field.value.clone(), drafts: Vec::new() };
    let own = places.get(field.places.clone()).unwrap_or_default();
    match syntax {
        Syntax::Text => {
            own.iter().enumerate().for_each(|(number, place)| drafts.word(number, place.at, Kind::Text))
        }
        Syntax::Addresses | Syntax::Exact => drafts.zones(own, syntax)?,
    }
    let made = drafts.drafts;
    let mut before = None;
    for (number, draft) in made.iter().enumerate() {
        let after = made.get(number + 1);
        runs.push(draft.run(text, &field, own, before, after)?);
        before = Some(draft);
    }
    Ok(())
}

/// What surrounds a field in its header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// Plain text.
    Text,
    /// A name before an address, or an address without brackets.
    Phrase,
    /// A comment, which an encoded-word may stand in or not.
    Comment { encodes: bool },
    /// Quotes, which an encoded-word may stand for or not.
    Quoted { encodes: bool },
    /// Angle brackets, which may hold UTF-8 or not.
    Angle { is_address: bool },
    /// Some syntax of the header's own.
    Exact,
}

struct Draft {
    span: Range<usize>,
    /// Within the places of its header.
    places: Range<usize>,
    kind: Kind,
}

struct Drafts<'a> {
    text: &'a [u8],
    value: Range<usize>,
    drafts: Vec<Draft>,
}

fn is_space(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t' | b'\r' | b'\n')
}

/// Characters that separate or enclose in a header of addresses (RFC 5322
/// §3.2.3), but the dot and the `@`.
fn is_special(octet: u8) -> bool {
    matches!(octet, b'(' | b')' | b'<' | b'>' | b'[' | b']' | b':' | b';' | b',' | b'"' | b'\\')
}

#[derive(Clone, Copy)]
enum Zone {
    Outside,
    Comment { depth: usize },
    Angle,
    Quoted { start: usize, first: usize },
}

impl Drafts<'_> {
    /// Takes the word that a place stands in, or adds the place to it.
    fn word(&mut self, number: usize, at: usize, kind: Kind) {
        if let Some(last) = self.drafts.last_mut().filter(|last| last.kind == kind && at <= last.span.end) {
            last.places.end = number + 1;
            return;
        }
        let ends = |octet: &u8| is_space(*octet) || (kind != Kind::Text && is_special(*octet));
        let before = self.text.get(self.value.start..at).unwrap_or_default();
        let behind = self.text.get(at..self.value.end).unwrap_or_default();
        let start = before.iter().rposition(ends).map_or(self.value.start, |end| self.value.start + end + 1);
        let end = behind.iter().position(ends).map_or(self.value.end, |end| at + end);
        self.drafts.push(Draft { span: start..end, places: number..number + 1, kind });
    }

    /// Walks through a structured value and sees what surrounds each place.
    fn zones(&mut self, places: &[Place], syntax: Syntax) -> Result<(), Fault> {
        let (mut zone, mut number, mut at) = (Zone::Outside, 0, self.value.start);
        let fault =
            |kind, number: usize| Fault { kind, offset: places.get(number).map_or(0, |place| place.offset) };
        loop {
            while places.get(number).is_some_and(|place| place.at == at) {
                let alone = |kind| Draft { span: at..at, places: number..number + 1, kind };
                match zone {
                    Zone::Quoted { .. } => {}
                    Zone::Angle => {
                        let is_address = syntax == Syntax::Addresses;
                        self.drafts.push(alone(Kind::Angle { is_address }));
                    }
                    Zone::Comment { .. } => {
                        let encodes = syntax == Syntax::Addresses;
                        self.word(number, at, Kind::Comment { encodes });
                    }
                    Zone::Outside if syntax == Syntax::Addresses => self.word(number, at, Kind::Phrase),
                    Zone::Outside => self.drafts.push(alone(Kind::Exact)),
                }
                number += 1;
            }
            let Some(&octet) = self.text.get(at).filter(|_| at < self.value.end) else { break };
            let is_escape = octet == b'\\' && matches!(zone, Zone::Comment { .. } | Zone::Quoted { .. });
            if is_escape && places.get(number).is_some_and(|place| place.at == at + 1) {
                return Err(fault(TemplateErrorKind::Misplaced, number));
            }
            if let (Zone::Quoted { start, first }, b'"') = (zone, octet) {
                self.quoted(start..at + 1, first..number, syntax);
            }
            zone = match (zone, octet) {
                (Zone::Outside, b'"') => Zone::Quoted { start: at, first: number },
                (Zone::Outside, b'<') => Zone::Angle,
                (Zone::Outside, b'(') => Zone::Comment { depth: 1 },
                (Zone::Comment { depth }, b'(') => Zone::Comment { depth: depth + 1 },
                (Zone::Comment { depth: 1 }, b')') | (Zone::Angle, b'>') | (Zone::Quoted { .. }, b'"') => {
                    Zone::Outside
                }
                (Zone::Comment { depth }, b')') => Zone::Comment { depth: depth - 1 },
                (zone, _) => zone,
            };
            at += if is_escape { 2 } else { 1 };
        }
        match zone {
            Zone::Quoted { first, .. } if first < number => {
                Err(fault(TemplateErrorKind::UnclosedQuote, first))
            }
            _ => Ok(()),
        }
    }

    fn quoted(&mut self, span: Range<usize>, places: Range<usize>, syntax: Syntax) {
        if places.is_empty() {
            return;
        }
        // A quoted string before an `@` is part of the address.
        let encodes = syntax == Syntax::Addresses && self.text.get(span.end) != Some(&b'@');
        self.drafts.push(Draft { span, places, kind: Kind::Quoted { encodes } });
    }
}

impl Draft {
    fn run(
        &self,
        text: &[u8],
        field: &Field,
        places: &[Place],
        before: Option<&Draft>,
        after: Option<&Draft>,
    ) -> Result<Run, Fault> {
        let inner = match self.kind {
            Kind::Quoted { .. } => self.span.start + 1..self.span.end.saturating_sub(1),
            _ => self.span.clone(),
        };
        let mut parts = Vec::new();
        let mut done = inner.start;
        let own = places.get(self.places.clone()).unwrap_or_default();
        let offset = own.first().map_or(0, |place| place.offset);
        let literal = |range: Range<usize>, parts: &mut Vec<Part>| {
            let octets = text.get(range).unwrap_or_default();
            let text = std::str::from_utf8(octets);
            let text = text.map_err(|_| Fault { kind: TemplateErrorKind::NotUtf8, offset })?;
            if !text.is_empty() {
                parts.push(Part::Text(text.into()));
            }
            Ok(())
        };
        for place in own {
            literal(done..place.at, &mut parts)?;
            parts.push(Part::Value { field: place.field, must_fill: place.must_fill });
            done = place.at;
        }
        literal(done..inner.end, &mut parts)?;

        let left = text.get(field.value.start..self.span.start).unwrap_or_default();
        let right = text.get(self.span.end..field.value.end).unwrap_or_default();
        let spaces_left = left.iter().rev().take_while(|octet| is_space(**octet)).count();
        let spaces_right = right.iter().take_while(|octet| is_space(**octet)).count();
        let left_end = self.span.start - spaces_left;
        let right_start = self.span.end + spaces_right;
        let follows = before.is_some_and(|before| before.span.end >= left_end);
        let precedes = after.is_some_and(|after| after.span.start <= right_start);
        Ok(Run {
            span: self.span.clone(),
            header: Arc::clone(&field.name),
            kind: self.kind,
            parts: parts.into(),
            follows,
            word_before: !follows && left.trim_ascii_end().ends_with(b"?="),
            word_after: !precedes && right.trim_ascii_start().starts_with(b"=?"),
        })
    }
}

enum Part {
    Text(Box<str>),
    Value { field: usize, must_fill: bool },
}

/// A stretch of a header that is written anew for each mail.
pub(super) struct Run {
    span: Range<usize>,
    header: Arc<str>,
    kind: Kind,
    parts: Box<[Part]>,
    /// Only blanks stand between it and the run before.
    follows: bool,
    /// The template has an encoded-word before it, or behind.
    word_before: bool,
    word_after: bool,
}

/// The number of the field whose value is at fault.
type Refusal = (usize, HeaderFault);

/// The values in a run, looked at.
struct Looked {
    is_ascii: bool,
    /// The first character that cannot stand there as it is.
    special: Option<(usize, char)>,
    /// The first value that is not ASCII.
    first_other: usize,
}

impl Looked {
    fn refuse_special(&self) -> Result<(), Refusal> {
        self.special.map_or(Ok(()), |(field, letter)| Err((field, HeaderFault::Special(letter))))
    }
}

impl Run {
    /// The octets of the template's text that it stands for.
    pub(super) fn span(&self) -> &Range<usize> {
        &self.span
    }

    pub(super) fn header(&self) -> &str {
        &self.header
    }

    /// How long it is where nothing has to be escaped or encoded.
    pub(super) fn len(&self, values: &[&[u8]]) -> usize {
        let parts = self.parts.iter().map(|part| match part {
            Part::Text(text) => text.len(),
            Part::Value { field, .. } => values.get(*field).map_or(0, |value| value.len()),
        });
        parts.sum::<usize>() + if matches!(self.kind, Kind::Quoted { .. }) { 2 } else { 0 }
    }

    /// Writes it with these values. Says whether it ends as an encoded-word, and
    /// wants to know whether the run before it did.
    pub(super) fn write(
        &self,
        values: &[&[u8]],
        encoded_before: bool,
        out: &mut Vec<u8>,
    ) -> Result<bool, Refusal> {
        let looked = self.look(values)?;
        let start = out.len();
        match self.kind {
            Kind::Text if looked.is_ascii => self.paste(values, out),
            Kind::Text => return Ok(self.encode(values, encoded_before, out)),
            Kind::Phrase => {
                let mut word = Vec::new();
                self.paste(values, &mut word);
                let is_address = word.contains(&b'@');
                match looked.special {
                    Some((field, letter)) if is_address => return Err((field, HeaderFault::Special(letter))),
                    _ if !looked.is_ascii && !is_address => {
                        return Ok(self.encode(values, encoded_before, out));
                    }
                    Some(_) => {
                        out.push(b'"');
                        word.iter().for_each(|octet| push_escaped(*octet, out));
                        out.push(b'"');
                    }
                    None => out.append(&mut word),
                }
            }
            Kind::Comment { encodes: true } | Kind::Quoted { encodes: true } if !looked.is_ascii => {
                looked.refuse_special()?;
                return Ok(self.encode(values, encoded_before, out));
            }
            Kind::Angle { is_address: true } => {
                looked.refuse_special()?;
                self.paste(values, out);
            }
            _ if !looked.is_ascii => return Err((looked.first_other, HeaderFault::NotAscii)),
            Kind::Quoted { .. } => {
                out.push(b'"');
                self.paste(values, out);
                out.push(b'"');
            }
            Kind::Comment { .. } | Kind::Angle { .. } | Kind::Exact => {
                looked.refuse_special()?;
                self.paste(values, out);
            }
        }
        // Blanks alone keep apart what stands around them no better than one.
        let is_blank = out.get(start..).is_some_and(|written| written.iter().all(|octet| is_space(*octet)));
        Ok(is_blank && self.follows && encoded_before)
    }

    fn look(&self, values: &[&[u8]]) -> Result<Looked, Refusal> {
        let mut looked = Looked { is_ascii: true, special: None, first_other: 0 };
        for part in &self.parts {
            let &Part::Value { field, must_fill } = part else { continue };
            let value = values.get(field).copied().unwrap_or_default();
            let text = std::str::from_utf8(value).map_err(|_| (field, HeaderFault::NotUtf8))?;
            if text.contains(|letter: char| letter.is_control() && letter != '\t') {
                return Err((field, HeaderFault::Control));
            }
            if must_fill && text.trim().is_empty() {
                return Err((field, HeaderFault::Blank));
            }
            if looked.is_ascii && !text.is_ascii() {
                looked.is_ascii = false;
                looked.first_other = field;
            }
            let special = text.bytes().find(|octet| match self.kind {
                Kind::Text | Kind::Quoted { .. } | Kind::Exact => false,
                Kind::Phrase => is_special(*octet),
                Kind::Comment { .. } => matches!(octet, b'(' | b')' | b'\\'),
                Kind::Angle { .. } => is_space(*octet) || matches!(octet, b'<' | b'>' | b'"' | b'\\'),
            });
            looked.special = looked.special.or(special.map(|octet| (field, char::from(octet))));
        }
        Ok(looked)
    }

    /// Values and text as they are; in quotes, the values escaped.
    fn paste(&self, values: &[&[u8]], out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Value { field, .. } => {
                    let value = values.get(*field).copied().unwrap_or_default();
                    if matches!(self.kind, Kind::Quoted { .. }) {
                        value.iter().for_each(|octet| push_escaped(*octet, out));
                    } else {
                        out.extend_from_slice(value);
                    }
                }
            }
        }
    }

    /// As encoded-words. Blanks between two of them do not count (RFC 2047
    /// §6.2), so the blank that does is written into the second.
    fn encode(&self, values: &[&[u8]], encoded_before: bool, out: &mut Vec<u8>) -> bool {
        let mut word = String::new();
        if self.word_before || (self.follows && encoded_before) {
            word.push(' ');
        }
        for part in &self.parts {
            match part {
                Part::Text(text) if matches!(self.kind, Kind::Quoted { .. }) => unquote(text, &mut word),
                Part::Text(text) => word.push_str(text),
                Part::Value { field, .. } => {
                    let value = values.get(*field).copied().unwrap_or_default();
                    word.push_str(&String::from_utf8_lossy(value));
                }
            }
        }
        if self.word_after {
            word.push(' ');
        }
        let mut rest = &*word;
        while !rest.is_empty() {
            let most = ENCODED.min(rest.len());
            let cut = (0..=most).rev().find(|cut| rest.is_char_boundary(*cut)).unwrap_or(0);
            let (piece, behind) = rest.split_at_checked(cut).unwrap_or((rest, ""));
            let fold = if rest.len() == word.len() { "" } else { "\r\n " };
            out.extend_from_slice(format!("{fold}=?utf-8?B?{}?=", STANDARD.encode(piece)).as_bytes());
            rest = behind;
        }
        true
    }
}

/// Writes an octet into quotes (RFC 5322 §3.2.4).
fn push_escaped(octet: u8, out: &mut Vec<u8>) {
    if matches!(octet, b'"' | b'\\') {
        out.push(b'\\');
    }
    out.push(octet);
}

/// What a text means that was written in quotes: without backslashes and folds.
fn unquote(text: &str, out: &mut String) {
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => out.extend(letters.next()),
            '\r' | '\n' => {}
            _ => out.push(letter),
        }
    }
}
