//! The recipients: a file of addresses, a CSV file with named fields, or made-up addresses by number.
//! It must never hold more than one record, nor hand out a value that could break a header line:
//! values hold no CR, LF or NUL.

use crate::input::{InputError, Lines, MAX_LINE, quoted};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Fields that the file of undelivered mail adds; they count towards no limit, so that such a
/// file can always be read again.
pub const STATUS_FIELDS: [&str; 3] = ["outcome", "reason", "line"];

/// Most fields in a line, [`STATUS_FIELDS`] apart.
pub const MAX_FIELDS: usize = 256;

/// Room for [`STATUS_FIELDS`] within [`MAX_LINE`], quotes included.
pub const STATUS_ROOM: usize = 4096;

/// Says whether an address is well formed, and what is wrong with it otherwise.
pub type AddressCheck<'a> = &'a dyn Fn(&str) -> Result<(), String>;

/// The names of the fields, and which of them is the address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    names: Box<[String]>,
    email: usize,
}

impl Header {
    /// Names in order; one of them must be `email`, none may be empty or come twice.
    pub fn new(names: Vec<String>) -> Result<Self, String> {
        for (index, name) in names.iter().enumerate() {
            if name.is_empty() {
                return Err(format!("field {} has no name", index.saturating_add(1)));
            }
            if names.iter().take(index).any(|earlier| earlier == name) {
                return Err(format!("field {} is named twice", quoted(name)));
            }
        }
        let own = names.iter().filter(|name| !is_status(name)).count();
        if own > MAX_FIELDS {
            return Err(format!("has more than {MAX_FIELDS} fields"));
        }
        let Some(email) = names.iter().position(|name| name == "email") else {
            return Err(format!(
                "is neither an address nor a header with the field `email` (it says {})",
                quoted(&names.join(","))
            ));
        };
        Ok(Self { names: names.into(), email })
    }

    /// All names, in the order of the fields.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Which field bears this name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| known == name)
    }
}

/// One recipient: its place in the input and a value per field of the [`Header`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Line in the recipients file, or the number of a generated recipient; from 1.
    pub line: u64,
    text: Box<str>,
    ends: Box<[usize]>,
    email: usize,
}

impl Record {
    /// Takes the values in the header's order; blanks around the address are dropped.
    pub fn new<'a>(
        header: &Header,
        line: u64,
        values: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, String> {
        let (mut text, mut ends) = (String::new(), Vec::with_capacity(header.names.len()));
        let mut written = 0_usize;
        for value in values {
            let name = header.names.get(ends.len()).map_or("", String::as_str);
            let value = if ends.len() == header.email { value.trim_matches([' ', '\t']) } else { value };
            check_value(name, value)?;
            if !is_status(name) {
                written = written.saturating_add(written_len(value));
            }
            text.push_str(value);
            ends.push(text.len());
        }
        if ends.len() != header.names.len() {
            return Err(format!("has {}, but the header names {}", plural(ends.len()), header.names.len()));
        }
        if written > MAX_LINE.saturating_sub(STATUS_ROOM) {
            return Err(format!("is longer than {} bytes", MAX_LINE.saturating_sub(STATUS_ROOM)));
        }
        Ok(Self { line, text: text.into(), ends: ends.into(), email: header.email })
    }

    /// The value of a field by its position in the header; empty beyond the last.
    pub fn value(&self, index: usize) -> &str {
        let start = match index.checked_sub(1) {
            Some(before) => self.ends.get(before).copied().unwrap_or(usize::MAX),
            None => 0,
        };
        let end = self.ends.get(index).copied().unwrap_or(usize::MAX);
        self.text.get(start..end).unwrap_or_default()
    }

    /// Whether all values are of octets that any server takes.
    pub fn is_ascii(&self) -> bool {
        self.text.is_ascii()
    }

    /// The address.
    pub fn email(&self) -> &str {
        self.value(self.email)
    }
}

/// A recipients file that was read to its end and found in order.
#[derive(Debug, Clone)]
pub struct Checked {
    path: PathBuf,
    header: Arc<Header>,
    count: u64,
}

impl Checked {
    /// The fields of every record.
    pub fn header(&self) -> &Arc<Header> {
        &self.header
    }

    /// How many recipients the file holds; at least one.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Reads the file again. A file that has changed meanwhile ends with an error.
    pub fn records(&self) -> Result<Recipients, InputError> {
        let mut records = Recipients::open(&self.path)?;
        if records.header != self.header {
            return Err(InputError::file(&self.path, CHANGED));
        }
        records.expected = Some(self.count);
        Ok(records)
    }
}

const CHANGED: &str = "was changed after it had been checked";

/// Reads a recipients file to its end, in bounded memory, and checks every line of it.
pub fn check(path: &Path, address: AddressCheck<'_>) -> Result<Checked, InputError> {
    let mut records = Recipients::open(path)?;
    let mut count = 0_u64;
    for record in records.by_ref() {
        let record = record?;
        address(record.email()).map_err(|reason| {
            let what = format!("bad address {}: {reason}", quoted(record.email()));
            InputError::at(path, record.line, what)
        })?;
        count = count.saturating_add(1);
    }
    if count == 0 {
        return Err(InputError::file(path, "holds no recipients"));
    }
    Ok(Checked { path: path.to_owned(), header: records.header, count })
}

/// The records of a file, one at a time; after an error there are no more.
#[derive(Debug)]
pub struct Recipients {
    path: PathBuf,
    lines: Lines,
    header: Arc<Header>,
    fields: Option<FieldReader>,
    first: Option<Record>,
    expected: Option<u64>,
    given: u64,
    over: bool,
}

impl Recipients {
    /// Reads the first line and with it what the file is: a line with `@` and without a comma
    /// begins a plain list of addresses, anything else is the header of a CSV file.
    fn open(path: &Path) -> Result<Self, InputError> {
        let mut lines = Lines::open(path)?;
        let Some((line, text)) = lines.advance()? else {
            return Err(InputError::file(path, "holds no recipients"));
        };
        let wrong = |what| InputError::at(path, line, what);
        let (header, fields, first);
        if text.contains('@') && !text.contains(',') {
            header = Header::new(vec!["email".to_owned()]).map_err(wrong)?;
            first = Some(Record::new(&header, line, [text]).map_err(wrong)?);
            fields = None;
        } else {
            let mut reader = FieldReader::new();
            reader.read(text).map_err(wrong)?;
            header = reader.header().map_err(wrong)?;
            first = None;
            fields = Some(reader);
        }
        Ok(Self {
            path: path.to_owned(),
            lines,
            header: Arc::new(header),
            fields,
            first,
            expected: None,
            given: 0,
            over: false,
        })
    }

    fn advance(&mut self) -> Result<Option<Record>, InputError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let Some((line, text)) = self.lines.advance()? else {
            return Ok(None);
        };
        let record = match &mut self.fields {
            None => Record::new(&self.header, line, [text]),
            Some(reader) => reader.read(text).and_then(|()| Record::new(&self.header, line, reader.values())),
        };
        record.map(Some).map_err(|what| InputError::at(&self.path, line, what))
    }

    fn advance_as_expected(&mut self) -> Result<Option<Record>, InputError> {
        let record = self.advance()?;
        if record.is_some() {
            self.given = self.given.saturating_add(1);
        }
        let changed = match (self.expected, &record) {
            (Some(expected), Some(_)) => self.given > expected,
            (Some(expected), None) => self.given < expected,
            (None, _) => false,
        };
        if changed {
            return Err(InputError::file(&self.path, CHANGED));
        }
        Ok(record)
    }
}

impl Iterator for Recipients {
    type Item = Result<Record, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let next = self.advance_as_expected().transpose();
        self.over = !matches!(next, Some(Ok(_)));
        next
    }
}

/// Made-up recipients `user0000001@example.net` and so on, with the fields `email`, `name`, `number`.
#[derive(Debug)]
pub struct Generated {
    header: Header,
    next: u64,
    count: u64,
}

impl Generated {
    /// The first `count` of them.
    pub fn new(count: u64) -> Self {
        let names = ["email", "name", "number"].map(str::to_owned);
        Self { header: Header { names: Box::new(names), email: 0 }, next: 1, count }
    }

    /// The fields of every record.
    pub fn header(&self) -> &Header {
        &self.header
    }
}

impl Iterator for Generated {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        if self.next > self.count {
            return None;
        }
        let number = self.next;
        self.next = number.saturating_add(1);
        let email = format!("user{number:07}@example.net");
        let (name, digits) = (format!("User {number}"), number.to_string());
        Record::new(&self.header, number, [&*email, &*name, &*digits]).ok()
    }
}

/// Where the recipients come from.
#[derive(Debug)]
pub enum Source {
    /// A checked file, read again; boxed for its buffers.
    File(Box<Recipients>),
    /// Made-up ones.
    Generated(Generated),
}

impl Source {
    /// How many are still to come, as far as that is known.
    pub fn left(&self) -> Option<u64> {
        match self {
            Self::File(records) if records.over => None,
            Self::File(records) => records.expected?.checked_sub(records.given),
            Self::Generated(records) => records.count.checked_add(1)?.checked_sub(records.next),
        }
    }
}

impl Iterator for Source {
    type Item = Result<Record, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::File(records) => records.next(),
            Self::Generated(records) => records.next().map(Ok),
        }
    }
}

/// Splits one line of CSV into its values, in buffers that never grow.
#[derive(Debug)]
struct FieldReader {
    csv: csv_core::Reader,
    text: Box<[u8]>,
    ends: Box<[usize]>,
    count: usize,
}

impl FieldReader {
    fn new() -> Self {
        let mut builder = csv_core::ReaderBuilder::new();
        // LF alone ends a record, so that a stray CR stays in its value and is refused there.
        builder.terminator(csv_core::Terminator::Any(b'\n'));
        Self {
            csv: builder.build(),
            text: vec![0; MAX_LINE.saturating_add(1)].into(),
            ends: vec![0; MAX_FIELDS.saturating_add(STATUS_FIELDS.len())].into(),
            count: 0,
        }
    }

    fn read(&mut self, line: &str) -> Result<(), String> {
        use csv_core::ReadRecordResult as Read;
        self.count = 0;
        let (mut written, mut result) = (0_usize, Read::InputEmpty);
        for input in [line.as_bytes(), b"\n"] {
            let text = self.text.get_mut(written..).unwrap_or_default();
            let ends = self.ends.get_mut(self.count..).unwrap_or_default();
            let (now, _, wrote, ended) = self.csv.read_record(input, text, ends);
            result = now;
            written = written.saturating_add(wrote);
            self.count = self.count.saturating_add(ended);
            if !matches!(result, Read::InputEmpty) {
                break;
            }
        }
        match result {
            Read::Record => Ok(()),
            Read::OutputFull => Err(format!("is longer than {MAX_LINE} bytes")),
            Read::OutputEndsFull => Err(format!("has more than {MAX_FIELDS} fields")),
            Read::InputEmpty | Read::End => Err("a quoted value does not end on its line".to_owned()),
        }
    }

    fn values(&self) -> impl Iterator<Item = &str> {
        let mut start = 0;
        self.ends.iter().take(self.count).map(move |&end| {
            let bytes = self.text.get(start..end).unwrap_or_default();
            start = end;
            // Cannot fail: the line was UTF-8, and only ASCII was taken out of it.
            std::str::from_utf8(bytes).unwrap_or_default()
        })
    }

    fn header(&self) -> Result<Header, String> {
        let names: Vec<String> = self.values().map(|name| name.trim().to_owned()).collect();
        let mut written = 0_usize;
        for name in &names {
            check_value("the header", name)?;
            written = written.saturating_add(written_len(name));
        }
        if written > MAX_LINE.saturating_sub(STATUS_ROOM) {
            return Err("is too long for a header".to_owned());
        }
        Header::new(names)
    }
}

fn is_status(name: &str) -> bool {
    STATUS_FIELDS.contains(&name)
}

/// Bytes that a value takes in a CSV line: its quotes doubled, two around it, a comma.
fn written_len(value: &str) -> usize {
    let quotes = value.bytes().filter(|&b| b == b'"').count();
    value.len().saturating_add(quotes).saturating_add(3)
}

fn plural(fields: usize) -> String {
    match fields {
        1 => "1 field".to_owned(),
        many => format!("{many} fields"),
    }
}

fn check_value(name: &str, value: &str) -> Result<(), String> {
    let Some(found) = value.chars().find(|c| matches!(c, '\r' | '\n' | '\0')) else {
        return Ok(());
    };
    let what = match found {
        '\r' => "carriage return (CR)",
        '\n' => "line feed (LF)",
        _ => "NUL byte",
    };
    Err(format!("the value of {} holds a {what}", quoted(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::NamedTempFile;

    fn file(bytes: impl AsRef<[u8]>) -> NamedTempFile {
        let file = NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        file
    }

    fn has_at(address: &str) -> Result<(), String> {
        match address.contains('@') {
            true => Ok(()),
            false => Err("no `@`".to_owned()),
        }
    }

    fn error_of(bytes: impl AsRef<[u8]>) -> String {
        let file = file(bytes);
        let error = check(file.path(), &has_at).unwrap_err().to_string();
        error.replace(&file.path().display().to_string(), "FILE")
    }

    fn emails(checked: &Checked) -> Vec<(u64, String)> {
        let records = checked.records().unwrap();
        let pair = |r: Result<Record, InputError>| r.map(|r| (r.line, r.email().to_owned()));
        records.map(|r| pair(r).unwrap()).collect()
    }

    #[test]
    fn plain_list_is_read_with_blanks_and_line_ends_tolerated() {
        let file = file("\u{feff}a@b.example\r\n\r\n  c@d.example \n\"x,y\"@e.example");
        let checked = check(file.path(), &has_at).unwrap();
        assert_eq!(checked.count(), 3);
        assert_eq!(checked.header().names(), ["email"]);
        let expected = [(1, "a@b.example"), (3, "c@d.example"), (4, "\"x,y\"@e.example")];
        assert_eq!(emails(&checked), expected.map(|(n, e)| (n, e.to_owned())));
    }

    #[test]
    fn csv_fields_are_named_by_the_header() {
        let file =
            file("name, email ,greeting\n\"Smith, \"\"J\"\"\", a@b.example,Hällo\r\n\nX,c@d.example,\n");
        let checked = check(file.path(), &has_at).unwrap();
        assert_eq!(checked.count(), 2);
        let records: Vec<Record> = checked.records().unwrap().map(Result::unwrap).collect();
        let [one, two] = &records[..] else { panic!() };
        assert_eq!((one.line, one.email()), (2, "a@b.example"));
        assert_eq!((one.value(0), one.value(2)), ("Smith, \"J\"", "Hällo"));
        assert_eq!((two.line, two.value(2), two.value(3), two.value(9)), (4, "", "", ""));
        assert_eq!(checked.header().position("greeting"), Some(2));
    }

    #[test]
    fn header_that_is_only_the_address_is_a_header() {
        let checked = check(file("email\na@b\n").path(), &has_at).unwrap();
        assert_eq!(checked.count(), 1);
    }

    #[test]
    fn bad_address_names_file_and_line() {
        assert_eq!(error_of("a@b\n\nc.example\n"), "FILE:3: bad address `c.example`: no `@`");
        assert_eq!(error_of("email,n\na@b,1\n,2\n"), "FILE:3: bad address ``: no `@`");
    }

    #[test]
    fn values_with_control_characters_are_refused() {
        assert_eq!(
            error_of("email,name\na@b,x\rEvil: y\n"),
            "FILE:2: the value of `name` holds a carriage return (CR)"
        );
        assert_eq!(error_of("a@b\nc@d\0\n"), "FILE:2: the value of `email` holds a NUL byte");
        assert_eq!(
            error_of("email,name\na@b,\"x\nEvil: y\"\n"),
            "FILE:2: a quoted value does not end on its line"
        );
        assert!(error_of("a@b\r\r\n").contains("carriage return"));
    }

    #[test]
    fn line_with_another_number_of_fields_is_refused() {
        assert_eq!(error_of("email,name\na@b\n"), "FILE:2: has 1 field, but the header names 2");
        assert_eq!(error_of("email\nc@d,e,f\n"), "FILE:2: has 3 fields, but the header names 1");
        let many = format!("email\na@b{}\n", ",".repeat(5000));
        assert_eq!(error_of(many), "FILE:2: has more than 256 fields");
    }

    #[test]
    fn bad_headers_are_refused() {
        assert_eq!(error_of("email,a,email\n"), "FILE:1: field `email` is named twice");
        assert_eq!(error_of("email,a,\n"), "FILE:1: field 3 has no name");
        assert!(error_of("Email;name\n").contains("is neither an address nor a header"));
        assert!(error_of("a@b.example,Ann\n").starts_with("FILE:1: is neither an address"));
        let wide: Vec<String> = (0..257).map(|n| format!("f{n}")).collect();
        assert_eq!(error_of(wide.join(",")), "FILE:1: has more than 256 fields");
    }

    #[test]
    fn file_without_recipients_is_refused() {
        assert_eq!(error_of(""), "FILE: holds no recipients");
        assert_eq!(error_of("\n \r\n"), "FILE: holds no recipients");
        assert_eq!(error_of("email,name\n"), "FILE: holds no recipients");
    }

    #[test]
    fn file_that_changed_after_the_check_ends_with_an_error() {
        let file = file("a@b\nc@d\n");
        let checked = check(file.path(), &has_at).unwrap();
        for (now, given) in [("a@b\n", 1), ("a@b\nc@d\ne@f\n", 2)] {
            fs::write(file.path(), now).unwrap();
            let all: Vec<_> = checked.records().unwrap().collect();
            assert_eq!(all.iter().filter(|r| r.is_ok()).count(), given);
            assert!(all.last().unwrap().as_ref().unwrap_err().to_string().ends_with(CHANGED));
        }
        fs::write(file.path(), "email,name\na@b,x\n").unwrap();
        assert!(checked.records().is_err());
    }

    #[test]
    fn row_that_could_not_be_written_back_within_the_limit_is_refused() {
        let error = error_of(format!("email,n\na@b,{}\n", "x\"".repeat(25_000)));
        assert_eq!(error, "FILE:2: is longer than 61440 bytes");
        let long = format!("email,reason\na@b,{}\n", "x".repeat(MAX_LINE - 4));
        assert!(check(file(long).path(), &has_at).is_ok(), "a status field has its own room");
    }

    #[test]
    fn generated_recipients_are_numbered() {
        let all: Vec<Record> = Generated::new(3).collect();
        let [_, second, _] = &all[..] else { panic!() };
        assert_eq!(second.email(), "user0000002@example.net");
        assert_eq!((second.value(1), second.value(2), second.line), ("User 2", "2", 2));
        assert_eq!(Generated::new(0).count(), 0);
    }
}
