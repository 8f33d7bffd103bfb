//! A mail with `{{field}}` in it, read once and shared by all mails; a reader fills the fields in
//! while the mail is streamed. It must never build a whole mail, nor guess at a field.

use crate::input::{InputError, quoted};
use crate::recipients::{Header, Record};
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Largest message file; it is held in memory once, however many mails are made of it.
pub const MAX_MESSAGE: usize = 64 * 1024 * 1024;

/// Most pieces, fields and the texts between them, in one message.
pub const MAX_PIECES: usize = 64 * 1024;

/// Body size of the sample mail.
pub const SAMPLE_BODY: usize = 4 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Range<usize>),
    Field(usize),
}

/// A message split into text and fields. `{{name}}`, blanks inside the braces allowed, stands for
/// a field's value in header and body alike; there is no way to write `{{` itself.
#[derive(Debug)]
pub struct Template {
    text: Vec<u8>,
    pieces: Vec<Piece>,
    literal_len: u64,
    /// Whether the texts are of octets that any server takes: ASCII without NUL (RFC 5322 §2.1).
    is_seven_bit: bool,
    has_date: bool,
    message_id: MessageId,
}

/// What a message's header says about its Message-ID.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum MessageId {
    #[default]
    Absent,
    WithField,
    Fixed {
        line: u64,
    },
}

impl Template {
    /// Reads and splits a message file. A field that `header` does not name, `{{` without `}}` on
    /// its line, a broken mail header or a file over [`MAX_MESSAGE`] is an error.
    pub fn load(path: &Path, header: &Header) -> Result<Self, InputError> {
        let cannot = |error| InputError::file(path, format!("cannot read: {error}"));
        let mut text = Vec::new();
        let most = u64::try_from(MAX_MESSAGE).unwrap_or(u64::MAX);
        File::open(path)
            .and_then(|file| file.take(most.saturating_add(1)).read_to_end(&mut text))
            .map_err(cannot)?;
        if text.len() > MAX_MESSAGE {
            let what = format!("is larger than {MAX_MESSAGE} bytes");
            return Err(InputError::file(path, what));
        }
        if text.is_empty() {
            return Err(InputError::file(path, "is empty"));
        }
        Self::split(text, header).map_err(|(line, what)| InputError::at(path, line, what))
    }

    /// The sample mail, for when there is no message file: `from` is an address without brackets,
    /// empty for the null reverse-path. Its body has at least `body` bytes.
    pub fn sample(from: &str, header: &Header, body: usize) -> Self {
        const LINE: &str = "This line is one of many that give the sample mail an ordinary size.\r\n";
        let from = match from {
            "" => "postmaster@bulk.invalid",
            address => address,
        };
        let email = header.position("email").unwrap_or(0);
        let mut splitter = Splitter::new(Vec::new());
        splitter.text(format!("From: <{from}>\r\nTo: <").as_bytes());
        splitter.field(email);
        splitter.text(b">\r\nSubject: Sample mail of bulk_send\r\nMIME-Version: 1.0\r\n");
        splitter.text(b"Content-Type: text/plain; charset=utf-8\r\n");
        splitter.text(b"Content-Transfer-Encoding: 8bit\r\n\r\nTo ");
        splitter.field(email);
        splitter.text(b":\r\n\r\n");
        splitter.text(LINE.repeat(body.div_ceil(LINE.len())).as_bytes());
        splitter.finish(false, MessageId::Absent)
    }

    /// Whether mails need a Date of their own.
    pub fn lacks_date(&self) -> bool {
        !self.has_date
    }

    /// Whether mails need a Message-ID of their own.
    pub fn lacks_message_id(&self) -> bool {
        self.message_id == MessageId::Absent
    }

    /// The line of a Message-ID that would be the same in every mail.
    pub fn fixed_message_id(&self) -> Option<u64> {
        match self.message_id {
            MessageId::Fixed { line } => Some(line),
            MessageId::Absent | MessageId::WithField => None,
        }
    }

    fn split(mut text: Vec<u8>, header: &Header) -> Result<Self, (u64, String)> {
        if text.starts_with(b"\xef\xbb\xbf") {
            text.drain(..3);
        }
        let mut head = Head::default();
        let mut splitter = Splitter::new(Vec::with_capacity(text.len()));
        for (number, line) in (1_u64..).zip(text.split_inclusive(|&b| b == b'\n')) {
            let wrong = |what| (number, what);
            head.line(number, line).map_err(wrong)?;
            let fields = splitter.line(line, header).map_err(wrong)?;
            head.saw_fields(fields);
        }
        let template = splitter.finish(head.has_date, head.message_id);
        Ok(template)
    }

    fn piece<'a>(&'a self, index: usize, record: &'a Record) -> Option<&'a [u8]> {
        Some(match self.pieces.get(index)? {
            Piece::Text(range) => self.text.get(range.clone()).unwrap_or_default(),
            Piece::Field(field) => record.value(*field).as_bytes(),
        })
    }

    fn len_for(&self, record: &Record) -> u64 {
        let fields = self.pieces.iter().map(|piece| match piece {
            Piece::Text(_) => 0,
            Piece::Field(field) => record.value(*field).len(),
        });
        fields.fold(self.literal_len, |sum, len| sum.saturating_add(wide(len)))
    }
}

/// One recipient's mail: the shared template, the recipient's values, and the header lines that
/// are this mail's own. Cloning it copies no content; every attempt to send it reads the same bytes.
#[derive(Debug, Clone)]
pub struct Mail {
    template: Arc<Template>,
    record: Arc<Record>,
    added: Arc<str>,
}

impl Mail {
    /// `added` is whole header lines, each ended by CRLF, that go before the template's own.
    pub fn new(template: Arc<Template>, record: Arc<Record>, added: impl Into<Arc<str>>) -> Self {
        Self { template, record, added: added.into() }
    }

    /// Exactly how many bytes a [`MailReader`] gives.
    pub fn len(&self) -> u64 {
        let own = self.template.len_for(&self.record);
        own.saturating_add(wide(self.added.len()))
    }

    /// Whether a server without 8BITMIME takes it (RFC 6152 §3), however long its lines are.
    pub fn is_seven_bit(&self) -> bool {
        self.template.is_seven_bit && self.record.is_ascii() && self.added.is_ascii()
    }

    /// The content from its first byte.
    pub fn reader(&self) -> MailReader {
        MailReader { mail: self.clone(), piece: None, offset: 0 }
    }

    /// The header lines of its own come first (`None`), then the pieces of the template.
    fn piece(&self, piece: Option<usize>) -> Option<&[u8]> {
        match piece {
            None => Some(self.added.as_bytes()),
            Some(index) => self.template.piece(index, &self.record),
        }
    }
}

/// Reads a [`Mail`], filling in its fields on the way. It never blocks and never fails.
#[derive(Debug)]
pub struct MailReader {
    mail: Mail,
    piece: Option<usize>,
    offset: usize,
}

impl Read for MailReader {
    fn read(&mut self, mut room: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0_usize;
        while !room.is_empty() {
            let Some(bytes) = self.mail.piece(self.piece) else {
                break;
            };
            let copied = room.write(bytes.get(self.offset..).unwrap_or_default())?;
            if copied == 0 {
                self.piece = Some(self.piece.map_or(0, |index| index.saturating_add(1)));
                self.offset = 0;
            }
            self.offset = self.offset.saturating_add(copied);
            filled = filled.saturating_add(copied);
        }
        Ok(filled)
    }
}

/// Collects text and fields; text beside text becomes one piece.
struct Splitter {
    text: Vec<u8>,
    pieces: Vec<Piece>,
}

impl Splitter {
    fn new(text: Vec<u8>) -> Self {
        Self { text, pieces: Vec::new() }
    }

    fn text(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let start = self.text.len();
        self.text.extend_from_slice(bytes);
        let end = self.text.len();
        match self.pieces.last_mut() {
            Some(Piece::Text(range)) => range.end = end,
            _ => self.pieces.push(Piece::Text(start..end)),
        }
    }

    fn field(&mut self, index: usize) {
        self.pieces.push(Piece::Field(index));
    }

    /// Splits one line; how many fields it has.
    fn line(&mut self, line: &[u8], header: &Header) -> Result<usize, String> {
        let (mut rest, mut fields) = (line, 0_usize);
        while let Some((before, inside)) = cut_at(rest, b"{{") {
            let Some((name, after)) = cut_at(inside, b"}}") else {
                return Err("`{{` without `}}` on the same line".to_owned());
            };
            let name = String::from_utf8_lossy(name);
            let name = name.trim_matches([' ', '\t']);
            let Some(index) = header.position(name) else {
                let known = quoted(&header.names().join(", "));
                return Err(format!("unknown field {}; there is {known}", quoted(name)));
            };
            self.text(before);
            self.field(index);
            if self.pieces.len() >= MAX_PIECES {
                return Err(format!("too many fields (limit: {MAX_PIECES} pieces)"));
            }
            fields = fields.saturating_add(1);
            rest = after;
        }
        self.text(rest);
        Ok(fields)
    }

    fn finish(self, has_date: bool, message_id: MessageId) -> Template {
        Template {
            literal_len: wide(self.text.len()),
            is_seven_bit: self.text.is_ascii() && !self.text.contains(&0),
            text: self.text,
            pieces: self.pieces,
            has_date,
            message_id,
        }
    }
}

/// Follows the header of a message, to its first empty line.
#[derive(Default)]
struct Head {
    over: bool,
    begun: bool,
    in_message_id: bool,
    has_date: bool,
    message_id: MessageId,
}

impl Head {
    fn line(&mut self, number: u64, line: &[u8]) -> Result<(), String> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if self.over || line.is_empty() {
            self.over = true;
            self.in_message_id = false;
            return Ok(());
        }
        if line.iter().any(|b| matches!(b, b'\r' | b'\0')) {
            return Err("a lone CR or a NUL in the header".to_owned());
        }
        if self.begun && line.first().is_some_and(|b| matches!(b, b' ' | b'\t')) {
            return Ok(());
        }
        let name = match cut_at(line, b":") {
            Some((name, _)) => name.trim_ascii_end(),
            None => b"",
        };
        if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
            let line = String::from_utf8_lossy(line);
            let hint = "an empty line ends the header";
            return Err(format!("{} is no header field; {hint}", quoted(&line)));
        }
        self.begun = true;
        self.has_date |= name.eq_ignore_ascii_case(b"date");
        self.in_message_id = name.eq_ignore_ascii_case(b"message-id");
        if self.in_message_id && self.message_id == MessageId::Absent {
            self.message_id = MessageId::Fixed { line: number };
        }
        Ok(())
    }

    fn saw_fields(&mut self, fields: usize) {
        if self.in_message_id && fields > 0 {
            self.message_id = MessageId::WithField;
        }
    }
}

fn cut_at<'a>(bytes: &'a [u8], mark: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(mark.len()).position(|found| found == mark)?;
    let (before, rest) = bytes.split_at_checked(at)?;
    Some((before, rest.strip_prefix(mark)?))
}

fn wide(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header::new(["email", "name"].map(str::to_owned).to_vec()).unwrap()
    }

    fn template(text: &str) -> Result<Template, (u64, String)> {
        Template::split(text.as_bytes().to_vec(), &header())
    }

    fn mail(text: &str, added: &str) -> Mail {
        let record = Record::new(&header(), 1, ["a@b.example", "Ä"]).unwrap();
        Mail::new(Arc::new(template(text).unwrap()), Arc::new(record), added)
    }

    fn content(mail: &Mail) -> String {
        let mut text = String::new();
        mail.reader().read_to_string(&mut text).unwrap();
        assert_eq!(mail.len(), text.len() as u64, "len() is exact");
        text
    }

    #[test]
    fn fields_are_filled_in_header_and_body() {
        let mail = mail("To: {{email}}\r\n\r\n{{name}}{{ name }}} {x} {{email}}", "Date: now\r\n");
        assert_eq!(content(&mail), "Date: now\r\nTo: a@b.example\r\n\r\nÄÄ} {x} a@b.example");
        assert_eq!(content(&mail), content(&mail.clone()), "every attempt reads the same");
    }

    #[test]
    fn one_octet_anywhere_makes_it_more_than_seven_bits_wide() {
        let seven_bit = |text: &str, values: [&str; 2], added: &str| {
            let record = Record::new(&header(), 1, values).unwrap();
            Mail::new(Arc::new(template(text).unwrap()), Arc::new(record), added).is_seven_bit()
        };
        assert!(seven_bit("A: {{name}}\n\n", ["a@b", "Ann"], "Date: now\r\n"));
        assert!(!seven_bit("A: {{name}}\n\nä", ["a@b", "Ann"], ""));
        assert!(!seven_bit("A: {{name}}\n\n\0", ["a@b", "Ann"], ""));
        assert!(!seven_bit("A: {{name}}\n\n", ["a@b", "Änn"], ""));
        assert!(!seven_bit("A: {{name}}\n\n", ["a@b", "Ann"], "X: ä\r\n"));
    }

    #[test]
    fn chunk_size_never_changes_the_content() {
        let mail = mail("To: {{email}}\n\n{{name}}, {{name}}\n.\n", "X: y\r\n");
        let whole = content(&mail);
        for size in 1..whole.len() + 2 {
            let (mut reader, mut all) = (mail.reader(), Vec::new());
            let mut chunk = vec![0; size];
            loop {
                let n = reader.read(&mut chunk).unwrap();
                all.extend_from_slice(&chunk[..n]);
                if n < size {
                    break;
                }
            }
            assert_eq!(all, whole.as_bytes());
            assert_eq!(reader.read(&mut chunk).unwrap(), 0);
        }
    }

    #[test]
    fn values_are_not_filled_in_again() {
        let header = header();
        let record = Record::new(&header, 1, ["a@b", "{{email}}"]).unwrap();
        let template = Arc::new(template("A: {{name}}\n\n").unwrap());
        assert_eq!(content(&Mail::new(template, Arc::new(record), "")), "A: {{email}}\n\n");
    }

    #[test]
    fn mistakes_name_their_line() {
        let unknown = template("A: b\n\n{{nmae}}").unwrap_err();
        assert_eq!(unknown, (3, "unknown field `nmae`; there is `email, name`".to_owned()));
        let open = template("A: b\nB: {{name\n }}\n\n").unwrap_err();
        assert_eq!(open, (2, "`{{` without `}}` on the same line".to_owned()));
        assert_eq!(template("A: b\nhello\n").unwrap_err().0, 2);
        assert_eq!(template("From a@b Mon\nA: b\n").unwrap_err().0, 1);
        assert_eq!(template(" A: b\n").unwrap_err().0, 1);
        assert_eq!(template("A: b\rB: c\n").unwrap_err().0, 1);
    }

    #[test]
    fn date_and_message_id_are_found_whatever_their_case_and_line_end() {
        for end in ["\n", "\r\n"] {
            let text = format!("A: b{end}date : x{end}MESSAGE-ID:{end} <1@x>{end}{end}hi");
            let found = template(&text).unwrap();
            assert!(!found.lacks_date() && !found.lacks_message_id());
            assert_eq!(found.fixed_message_id(), Some(3));
            let text = format!("A: b{end}{end}Date: x{end}Message-ID: <1@x>{end}");
            let found = template(&text).unwrap();
            assert!(found.lacks_date() && found.lacks_message_id(), "only in the body");
            assert_eq!(found.fixed_message_id(), None);
        }
    }

    #[test]
    fn message_id_with_a_field_is_not_fixed() {
        let found = template("Message-ID:\n <{{email}}>\nB: c\n\n").unwrap();
        assert_eq!(found.fixed_message_id(), None);
        assert!(!found.lacks_message_id());
        let found = template("Message-ID: <1@x>\nB: {{name}}\n\n{{name}}").unwrap();
        assert_eq!(found.fixed_message_id(), Some(1));
    }

    #[test]
    fn body_without_header_is_a_body() {
        let mail = mail("\r\nhello {{name}}\r\n", "Date: now\r\n");
        assert_eq!(content(&mail), "Date: now\r\n\r\nhello Ä\r\n");
    }

    #[test]
    fn byte_order_mark_is_dropped() {
        assert_eq!(content(&mail("\u{feff}A: b\n\n", "")), "A: b\n\n");
    }

    #[test]
    fn bytes_that_are_not_text_pass_unchanged() {
        let bytes = b"A: b\r\n\r\n\xff\x00{\r\n".to_vec();
        let template = Arc::new(Template::split(bytes.clone(), &header()).unwrap());
        let record = Record::new(&header(), 1, ["a@b", ""]).unwrap();
        let mut all = Vec::new();
        let mail = Mail::new(template, Arc::new(record), "");
        mail.reader().read_to_end(&mut all).unwrap();
        assert_eq!(all, bytes);
    }

    #[test]
    fn sample_is_a_whole_mail_of_about_the_size_asked_for() {
        let header = header();
        let sample = Template::sample("s@x.example", &header, SAMPLE_BODY);
        assert!(sample.lacks_date() && sample.lacks_message_id());
        let record = Record::new(&header, 1, ["a@b.example", "A"]).unwrap();
        let text = content(&Mail::new(Arc::new(sample), Arc::new(record), "Date: d\r\n"));
        let start = "Date: d\r\nFrom: <s@x.example>\r\nTo: <a@b.example>\r\nSubject: ";
        assert!(text.starts_with(start), "{text}");
        assert!((SAMPLE_BODY..SAMPLE_BODY + 500).contains(&text.len()));
        assert!(text.split("\r\n").all(|line| line.len() < 78 && !line.contains('\n')));
    }

    #[test]
    fn files_are_loaded_with_clear_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.eml");
        let error = |path: &Path| Template::load(path, &header()).unwrap_err().to_string();
        assert!(error(&path).contains("m.eml: cannot read: No such file"));
        assert!(error(folder.path()).contains("cannot read: Is a directory"));
        std::fs::write(&path, "").unwrap();
        assert!(error(&path).ends_with("m.eml: is empty"));
        std::fs::write(&path, "A: {{b}}\n\n").unwrap();
        assert!(error(&path).contains("m.eml:1: unknown field `b`"));
        File::create(&path).unwrap().set_len(MAX_MESSAGE as u64 + 1).unwrap();
        assert!(error(&path).ends_with("is larger than 67108864 bytes"));
    }
}
