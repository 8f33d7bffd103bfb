//! Mail merge: a mail with fields in it, taken apart and checked once, and the
//! contents that are made of it. Whatever is wrong with a template or with
//! values is an error here, before anything is sent.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use memchr::{memchr2, memmem};

use super::header::{self, Place, Run};
use super::merged::{Layout, LayoutBuilder, Merged};
use super::{Content, Source};

/// Most octets in a template.
pub const MAX_TEMPLATE: usize = 64 * 1024 * 1024;

/// Most different fields in a template.
pub const MAX_FIELDS: usize = 1024;

/// Most places in a template at which a field stands.
pub const MAX_PLACES: usize = 64 * 1024;

/// Most octets in a field's name.
pub const MAX_FIELD_NAME: usize = 64;

/// A mail in which fields are filled in for each recipient.
///
/// A field is written `{{name}}`, in header and body alike; its name is of ASCII
/// letters, digits, `_`, `-` and `.`, at most 64, and blanks around it do not
/// count. `{{{{` stands for `{{` itself; `}}` alone is text.
///
/// The template is mended and stuffed once, when it is parsed, and shared by all
/// contents that are made of it: such a content needs memory for its own values
/// only. A clone shares it, too.
///
/// ```
/// use smtp_bulk::{Content, Envelope, Message, Template};
///
/// let template = Template::parse(
///     "From: news@example.org\r\n\
///      To: \"{{name}}\" <{{to}}>\r\n\
///      Subject: Hello, {{name}}\r\n\
///      \r\n\
///      Your number is {{number}}.\r\n",
/// )?;
/// let content = template.merge([("to", "ann@example.net"), ("name", "Ann"), ("number", "7")])?;
/// let envelope = Envelope::parse("news@example.org", ["ann@example.net"])?;
/// let message = Message::new(envelope, content);
///
/// assert!(template.merge([("to", "bob@example.net")]).is_err(), "fields are missing");
/// # let _ = message;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # In the body
///
/// The body begins behind the first empty line. A value there may be anything: it
/// goes in as it is, and then has its line ends mended and its dots stuffed like
/// all else. Nothing is encoded: in a part whose `Content-Transfer-Encoding` is
/// quoted-printable or base64 a field has no place, nor in the header of a part,
/// and for HTML the caller escapes.
///
/// # In the header
///
/// A field stands in a header's value, behind name and colon. Its value is a
/// UTF-8 text without control characters, so that it cannot end the header or
/// begin another one, and must not leave a line of the header blank. What more
/// is done depends on where it stands:
///
/// - In a header of plain text, such as `Subject`, a value that is not ASCII is
///   written as an encoded-word (RFC 2047), together with what it touches.
/// - In `From`, `To` and the like, outside of angle brackets, likewise; and a
///   value with characters that mean something there, such as a comma, is put
///   in quotes. Within quotes of the template, `"` and `\` are escaped, and what
///   is not ASCII makes an encoded-word of the whole. If the word has an `@` it
///   is taken for an address: nothing of that is done, and a comma and its like
///   are an error.
/// - Within `<…>` blanks, quotes and angle brackets are an error. An address may
///   hold UTF-8, which only a server with SMTPUTF8 takes.
/// - Where a header has a syntax of its own (`Message-ID`, `Date`, `Content-…`,
///   `List-…` and so on) what is not ASCII is an error.
///
/// A value that the caller has encoded already is left alone, as it is ASCII. Long
/// values are not folded, unless they are encoded.
#[derive(Clone)]
pub struct Template(Arc<Parsed>);

struct Parsed {
    fields: Vec<Arc<str>>,
    numbers: BTreeMap<Arc<str>, usize>,
    slots: Vec<Slot>,
    layout: Arc<Layout>,
}

/// What is filled in between the texts.
enum Slot {
    /// A field's value, as it is.
    Value(usize),
    /// A stretch of the header with fields in it.
    Run(Run),
}

impl Template {
    /// Takes a template apart and checks it.
    ///
    /// # Errors
    ///
    /// Braces without an end or a name, a field where no value can stand, or more
    /// than the bounds of this module allow.
    pub fn parse(template: impl AsRef<[u8]>) -> Result<Template, TemplateError> {
        let source = template.as_ref();
        let parsed = Scanned::scan(source).and_then(Scanned::lay_out);
        parsed.map(|parsed| Template(Arc::new(parsed))).map_err(|fault| fault.located(source))
    }

    /// The names of the fields, in the order in which they first appear.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.fields.iter().map(|name| &**name)
    }

    /// The content in which each field has the value that is given for its name.
    ///
    /// # Errors
    ///
    /// A field without a value, a value for no field, two for one, or one that
    /// cannot stand in the header.
    pub fn merge<N, V>(&self, values: impl IntoIterator<Item = (N, V)>) -> Result<Content, MergeError>
    where
        N: AsRef<str>,
        V: AsRef<[u8]>,
    {
        let mut given: Vec<Option<V>> = self.0.fields.iter().map(|_| None).collect();
        for (name, value) in values {
            let name = name.as_ref();
            let place = self.0.numbers.get(name).and_then(|&number| given.get_mut(number));
            let Some(place) = place else { return Err(MergeError::Unknown { field: name.into() }) };
            if place.replace(value).is_some() {
                return Err(MergeError::Repeated { field: name.into() });
            }
        }
        let mut all = Vec::with_capacity(given.len());
        for (value, name) in given.iter().zip(&self.0.fields) {
            let Some(value) = value else { return Err(MergeError::Missing { field: (**name).into() }) };
            all.push(value.as_ref());
        }
        self.fill_in(&all)
    }

    /// The content in which the fields have these values, in the order of
    /// [`Template::fields`].
    ///
    /// # Errors
    ///
    /// Another number of values than of fields, or one that cannot stand in the
    /// header.
    pub fn merge_in_order<V: AsRef<[u8]>>(&self, values: &[V]) -> Result<Content, MergeError> {
        let fields = self.0.fields.len();
        if values.len() != fields {
            return Err(MergeError::Count { values: values.len(), fields });
        }
        let all: Vec<&[u8]> = values.iter().map(AsRef::as_ref).collect();
        self.fill_in(&all)
    }

    fn fill_in(&self, values: &[&[u8]]) -> Result<Content, MergeError> {
        let room = self.0.slots.iter().map(|slot| match slot {
            Slot::Value(field) => values.get(*field).map_or(0, |value| value.len()),
            Slot::Run(run) => run.len(values),
        });
        let mut octets = Vec::with_capacity(room.sum());
        let mut ends = Vec::with_capacity(self.0.slots.len());
        let mut is_encoded = false;
        for slot in &self.0.slots {
            match slot {
                Slot::Value(field) => octets.extend_from_slice(values.get(*field).unwrap_or(&&b""[..])),
                Slot::Run(run) => {
                    let written = run.write(values, is_encoded, &mut octets);
                    is_encoded = written.map_err(|(field, fault)| MergeError::Header {
                        field: self.0.fields.get(field).map(|name| (**name).into()).unwrap_or_default(),
                        header: run.header().into(),
                        fault,
                    })?;
                }
            }
            ends.push(octets.len());
        }
        let merged = Merged::new(Arc::clone(&self.0.layout), octets, ends);
        Ok(Content::of(Source::Merged(Arc::new(merged))))
    }
}

impl fmt::Debug for Template {
    /// The fields; never the text, which may be private.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").field("fields", &self.0.fields).finish_non_exhaustive()
    }
}

/// The text without fields, and where they stood in it.
struct Scanned {
    text: Vec<u8>,
    places: Vec<Place>,
    fields: Vec<Arc<str>>,
    numbers: BTreeMap<Arc<str>, usize>,
}

impl Scanned {
    fn scan(source: &[u8]) -> Result<Scanned, Fault> {
        if source.len() > MAX_TEMPLATE {
            return Err(Fault { kind: TemplateErrorKind::TooLarge, offset: MAX_TEMPLATE });
        }
        let mut scanned = Scanned {
            text: Vec::with_capacity(source.len()),
            places: Vec::new(),
            fields: Vec::new(),
            numbers: BTreeMap::new(),
        };
        let mut rest = source;
        while let Some(found) = memmem::find(rest, b"{{") {
            let (before, braces) = rest.split_at_checked(found).unwrap_or_default();
            scanned.text.extend_from_slice(before);
            if let Some(behind) = braces.strip_prefix(b"{{{{") {
                scanned.text.extend_from_slice(b"{{");
                rest = behind;
                continue;
            }
            let fault = |kind| Fault { kind, offset: source.len() - braces.len() };
            let inside = braces.get(2..).unwrap_or_default();
            let line = memchr2(b'\r', b'\n', inside).and_then(|end| inside.get(..end)).unwrap_or(inside);
            let Some(end) = memmem::find(line, b"}}") else {
                return Err(fault(TemplateErrorKind::Unclosed));
            };
            let name = checked_name(line.get(..end).unwrap_or_default());
            let name = name.ok_or_else(|| fault(TemplateErrorKind::Name))?;
            let field = scanned.field(name).ok_or_else(|| fault(TemplateErrorKind::TooManyFields))?;
            if scanned.places.len() == MAX_PLACES {
                return Err(fault(TemplateErrorKind::TooManyPlaces));
            }
            let offset = source.len() - braces.len();
            scanned.places.push(Place { at: scanned.text.len(), field, offset, must_fill: false });
            rest = inside.get(end + 2..).unwrap_or_default();
        }
        scanned.text.extend_from_slice(rest);
        Ok(scanned)
    }

    /// The number of a field, which may be a new one.
    fn field(&mut self, name: &str) -> Option<usize> {
        if let Some(number) = self.numbers.get(name) {
            return Some(*number);
        }
        let number = self.fields.len();
        if number == MAX_FIELDS {
            return None;
        }
        let name: Arc<str> = name.into();
        self.fields.push(Arc::clone(&name));
        self.numbers.insert(name, number);
        Some(number)
    }

    fn lay_out(mut self) -> Result<Parsed, Fault> {
        let header = header::read(&self.text, &mut self.places)?;
        let mut layout = LayoutBuilder::default();
        let mut slots = Vec::new();
        let mut done = 0;
        for run in header.runs {
            layout.text(self.text.get(done..run.span().start).unwrap_or_default());
            layout.slot(slots.len());
            done = run.span().end;
            slots.push(Slot::Run(run));
        }
        // A field that stands in the body many times has one value there.
        let mut slot_of = BTreeMap::new();
        for place in self.places.get(header.places..).unwrap_or_default() {
            layout.text(self.text.get(done..place.at).unwrap_or_default());
            layout.slot(*slot_of.entry(place.field).or_insert_with(|| {
                slots.push(Slot::Value(place.field));
                slots.len() - 1
            }));
            done = place.at;
        }
        layout.text(self.text.get(done..).unwrap_or_default());
        let layout = Arc::new(layout.finish());
        Ok(Parsed { fields: self.fields, numbers: self.numbers, slots, layout })
    }
}

/// The name between braces.
fn checked_name(inside: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(inside).ok()?.trim_matches([' ', '\t']);
    let is_name = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'_' | b'-' | b'.');
    let is_good = (1..=MAX_FIELD_NAME).contains(&name.len()) && name.bytes().all(is_name);
    is_good.then_some(name)
}

/// What is wrong with a template, and at which octet.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) kind: TemplateErrorKind,
    pub(super) offset: usize,
}

impl Fault {
    fn located(self, source: &[u8]) -> TemplateError {
        let before = source.get(..self.offset).unwrap_or(source);
        let (mut line, mut start) = (1, 0);
        for (at, &octet) in before.iter().enumerate() {
            let is_pair = octet == b'\r' && source.get(at + 1) == Some(&b'\n');
            if matches!(octet, b'\r' | b'\n') && !is_pair {
                line += 1;
                start = at + 1;
            }
        }
        TemplateError { kind: self.kind, line, column: before.len() - start + 1 }
    }
}

/// Why a text is no [`Template`]: what is wrong, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TemplateError {
    kind: TemplateErrorKind,
    line: usize,
    column: usize,
}

impl TemplateError {
    /// What is wrong.
    pub fn kind(&self) -> TemplateErrorKind {
        self.kind
    }

    /// The line of the field that is meant, the first being 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// The octet of that line at which its braces begin, the first being 1.
    pub fn column(&self) -> usize {
        self.column
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, octet {}: {}", self.line, self.column, self.kind)
    }
}

impl Error for TemplateError {}

/// What can be wrong with a template.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TemplateErrorKind {
    /// `{{` without `}}` on the same line.
    Unclosed,
    /// What stands between the braces is no name.
    Name,
    /// More than [`MAX_FIELDS`] different fields.
    TooManyFields,
    /// Fields at more than [`MAX_PLACES`] places.
    TooManyPlaces,
    /// More than [`MAX_TEMPLATE`] octets.
    TooLarge,
    /// A field in the header that stands in no header's value: at the start of a
    /// line, in a name, in a line that is no header, or behind a backslash.
    Misplaced,
    /// A field of the header in quotes that are not closed.
    UnclosedQuote,
    /// What a field of the header touches is not UTF-8.
    NotUtf8,
}

impl fmt::Display for TemplateErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TemplateErrorKind::Unclosed => {
                f.write_str("`{{` without `}}` on its line (`{{{{` is for `{{` itself)")
            }
            TemplateErrorKind::Name => write!(
                f,
                "a field's name is 1 to {MAX_FIELD_NAME} letters, digits, `_`, `-` or `.` (`{{{{{{{{` is for `{{{{` itself)"
            ),
            TemplateErrorKind::TooManyFields => write!(f, "more than {MAX_FIELDS} different fields"),
            TemplateErrorKind::TooManyPlaces => write!(f, "fields at more than {MAX_PLACES} places"),
            TemplateErrorKind::TooLarge => write!(f, "more than {MAX_TEMPLATE} octets"),
            TemplateErrorKind::Misplaced => f.write_str(
                "a field above the first empty line stands in no header's value, behind a name and its colon",
            ),
            TemplateErrorKind::UnclosedQuote => f.write_str("a field in quotes that are not closed"),
            TemplateErrorKind::NotUtf8 => {
                f.write_str("the word of the header that the field stands in is not UTF-8")
            }
        }
    }
}

/// Why values do not fit a [`Template`]. Names fields, never shows values.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum MergeError {
    /// A field has no value.
    Missing {
        /// The field's name.
        field: Box<str>,
    },
    /// A value is for no field of the template.
    Unknown {
        /// The name that the value came with.
        field: Box<str>,
    },
    /// A field was given two values.
    Repeated {
        /// The field's name.
        field: Box<str>,
    },
    /// Values in order are more or fewer than the fields.
    Count {
        /// Values given.
        values: usize,
        /// Fields of the template.
        fields: usize,
    },
    /// A value cannot stand in the header.
    Header {
        /// The field's name.
        field: Box<str>,
        /// The name of the header.
        header: Box<str>,
        /// What is wrong with the value.
        fault: HeaderFault,
    },
}

impl fmt::Display for MergeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MergeError::Missing { field } => write!(f, "no value for the field `{field}`"),
            MergeError::Unknown { field } => {
                write!(f, "the template has no field `{}`", field.escape_debug())
            }
            MergeError::Repeated { field } => write!(f, "two values for the field `{field}`"),
            MergeError::Count { values, fields } => write!(f, "{values} values for {fields} fields"),
            MergeError::Header { field, header, fault } => {
                write!(f, "the value of the field `{field}` cannot stand in the header {header}: {fault}")
            }
        }
    }
}

impl Error for MergeError {}

/// Why a value cannot stand in a header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum HeaderFault {
    /// A CR, LF, NUL or another control character but the tab: it could end the
    /// header or the mail's head.
    Control,
    /// It is not UTF-8.
    NotUtf8,
    /// It is not ASCII, where nothing else can be written.
    NotAscii,
    /// A character that would change what the header means.
    Special(char),
    /// It is blank, and so would be the line that it stands in.
    Blank,
}

impl fmt::Display for HeaderFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeaderFault::Control => f.write_str("it has a line end, a NUL or another control character"),
            HeaderFault::NotUtf8 => f.write_str("it is not UTF-8"),
            HeaderFault::NotAscii => f.write_str("it is not ASCII, and this header has no way to encode it"),
            HeaderFault::Special(letter) => write!(f, "it has a {letter:?}, which would change the header"),
            HeaderFault::Blank => f.write_str("it is blank, and so would be its line"),
        }
    }
}
