//! The content of a mail: where its octets come from, and the stream that one
//! attempt reads. It is never wholly in memory unless the caller gave it so,
//! and an attempt never sees what an earlier one read.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::stuffing::Stuffer;

/// Octets read from a file or a reader at a time.
const PIECE: usize = 8 * 1024;

/// Octets read ahead, off the executor, from a blocking source.
const READ_AHEAD: usize = 64 * 1024;

type Open = dyn Fn() -> io::Result<Box<dyn Read + Send>> + Send + Sync;

#[derive(Clone)]
enum Source {
    Static(&'static [u8]),
    Shared(Arc<[u8]>),
    Owned(Arc<Vec<u8>>),
    File(Arc<Path>),
    Reader(Arc<Open>),
    Blocking(Arc<Open>),
}

/// What is sent between DATA and the final dot: header and body as octets.
///
/// Line ends are mended and leading dots doubled while it is copied out (RFC
/// 5321 §2.3.8, §4.5.2); the octets are otherwise sent as they are, in
/// whatever character set they were written. Cloning it copies no octets.
///
/// ```
/// use smtp_bulk::Content;
///
/// let text = Content::from("Subject: hello\r\n\r\nHello.\r\n");
/// let file = Content::file("/var/spool/newsletter.eml");
/// let made = Content::reader(|| Ok(Box::new(std::io::repeat(b'x').take(100)))).promise(100);
/// # use std::io::Read;
/// # let _ = (text, file, made);
/// ```
#[derive(Clone)]
pub struct Content {
    source: Source,
    promised: Option<u64>,
}

impl Content {
    /// A file, opened anew for each attempt and read in bounded pieces.
    pub fn file(path: impl Into<PathBuf>) -> Content {
        Content::of(Source::File(Arc::from(path.into())))
    }

    /// A closure that opens a reader anew for each attempt. Opening and
    /// reading happen on the executor and must not block for long; for slow
    /// sources there is [`Content::blocking`].
    pub fn reader<F>(open: F) -> Content
    where
        F: Fn() -> io::Result<Box<dyn Read + Send>> + Send + Sync + 'static,
    {
        Content::of(Source::Reader(Arc::new(open)))
    }

    /// Like [`Content::reader`] for sources that may block: opened and read
    /// ahead, up to 64 KiB at a time, on a thread for blocking work. The
    /// content timeout runs while the source is waited for.
    pub fn blocking<F>(open: F) -> Content
    where
        F: Fn() -> io::Result<Box<dyn Read + Send>> + Send + Sync + 'static,
    {
        Content::of(Source::Blocking(Arc::new(open)))
    }

    /// Promises how many octets the source gives. A source that gives fewer
    /// or more gives up its mail, so that half a file never arrives as a mail.
    pub fn promise(mut self, octets: u64) -> Content {
        self.promised = Some(octets);
        self
    }

    /// The number of octets before line ends are mended, where it is known
    /// without reading.
    pub fn known_len(&self) -> Option<u64> {
        let held = self.bytes().map(|bytes| bytes.len() as u64);
        self.promised.or(held)
    }

    pub(crate) fn open(&self) -> Result<ContentStream, ContentError> {
        let feed = match &self.source {
            Source::File(path) => Feed::Reader(Box::new(File::open(path)?)),
            Source::Reader(open) => Feed::Reader(guarded(|| open())?),
            Source::Blocking(open) => {
                let reader = AheadReader::Closed(Arc::clone(open));
                Feed::Ahead(ReadAhead { job: Some(ReadJob { reader, read: Vec::new(), end: None }), used: 0 })
            }
            _ => Feed::Bytes { content: self.clone(), used: 0 },
        };
        Ok(ContentStream { feed, stuffer: Stuffer::default(), promised: self.promised, given: 0 })
    }

    fn of(source: Source) -> Content {
        Content { source, promised: None }
    }

    fn bytes(&self) -> Option<&[u8]> {
        match &self.source {
            Source::Static(bytes) => Some(bytes),
            Source::Shared(bytes) => Some(bytes),
            Source::Owned(bytes) => Some(bytes),
            Source::File(_) | Source::Reader(_) | Source::Blocking(_) => None,
        }
    }
}

impl From<&'static [u8]> for Content {
    fn from(bytes: &'static [u8]) -> Content {
        Content::of(Source::Static(bytes))
    }
}

impl From<&'static str> for Content {
    fn from(text: &'static str) -> Content {
        Content::of(Source::Static(text.as_bytes()))
    }
}

impl From<Arc<[u8]>> for Content {
    fn from(bytes: Arc<[u8]>) -> Content {
        Content::of(Source::Shared(bytes))
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Content {
        Content::of(Source::Owned(Arc::new(bytes)))
    }
}

impl From<String> for Content {
    fn from(text: String) -> Content {
        Content::from(text.into_bytes())
    }
}

impl fmt::Debug for Content {
    /// Where it comes from; never the octets, which may be private.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source: &dyn fmt::Debug = match &self.source {
            Source::Static(_) | Source::Shared(_) | Source::Owned(_) => &"bytes",
            Source::File(path) => path,
            Source::Reader(_) => &"reader",
            Source::Blocking(_) => &"blocking reader",
        };
        f.debug_struct("Content").field("source", source).field("len", &self.known_len()).finish()
    }
}

/// Why a content could not be sent: a fault of its source, never the server's.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ContentError {
    /// The source could not be opened or read.
    Io {
        /// The kind of the input error.
        kind: io::ErrorKind,
        /// What the operating system or the reader said.
        text: Box<str>,
    },
    /// The source ended before what was promised.
    TooShort {
        /// Octets promised.
        promised: u64,
        /// Octets given.
        given: u64,
    },
    /// The source had more than what was promised.
    TooLong {
        /// Octets promised.
        promised: u64,
    },
    /// A blocking source gave nothing within the content timeout.
    Stalled,
    /// This process is short of descriptors or memory: not the source's fault.
    Shortage(Box<str>),
}

impl From<io::Error> for ContentError {
    fn from(error: io::Error) -> ContentError {
        let text = error.to_string().into();
        if crate::fault::is_shortage(&error) {
            ContentError::Shortage(text)
        } else {
            ContentError::Io { kind: error.kind(), text }
        }
    }
}

impl fmt::Display for ContentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ContentError::Io { text, .. } => write!(f, "the content's source failed: {text}"),
            ContentError::TooShort { promised, given } => {
                write!(f, "the content's source ended after {given} of {promised} octets")
            }
            ContentError::TooLong { promised } => {
                write!(f, "the content's source gave more than the {promised} octets promised")
            }
            ContentError::Stalled => f.write_str("the content's source gave nothing in time"),
            ContentError::Shortage(text) => write!(f, "no means to open the content: {text}"),
        }
    }
}

impl std::error::Error for ContentError {}

/// How far `ContentStream::fill` came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Filled {
    /// The buffer is full.
    ToLimit,
    /// The last octet of the final dot's line is in the buffer.
    ToEnd,
    /// A blocking source is being read; there are no octets yet.
    NotYet,
}

/// One attempt's way through a content.
pub(crate) struct ContentStream {
    feed: Feed,
    stuffer: Stuffer,
    promised: Option<u64>,
    given: u64,
}

enum Feed {
    Bytes { content: Content, used: usize },
    Reader(Box<dyn Read + Send>),
    Ahead(ReadAhead),
}

impl ContentStream {
    /// Appends to `out` until it holds `limit` octets or a few more.
    pub(crate) fn fill(&mut self, out: &mut Vec<u8>, limit: usize) -> Result<Filled, ContentError> {
        let before = self.given;
        let ended = match &mut self.feed {
            Feed::Bytes { content, used } => {
                let rest = content.bytes().and_then(|bytes| bytes.get(*used..)).unwrap_or_default();
                let copied = self.stuffer.copy(rest, out, limit);
                *used += copied;
                self.given += copied as u64;
                copied == rest.len()
            }
            Feed::Reader(reader) => {
                let copied = copy_pieces(reader, &mut self.stuffer, out, limit)?;
                self.given += copied.octets;
                copied.ended
            }
            Feed::Ahead(ahead) => {
                let Some(job) = &ahead.job else { return Ok(Filled::NotYet) };
                let rest = job.read.get(ahead.used..).unwrap_or_default();
                let copied = self.stuffer.copy(rest, out, limit);
                ahead.used += copied;
                self.given += copied as u64;
                match &job.end {
                    _ if copied < rest.len() => false,
                    None => return self.check_length(false).map(|()| Filled::NotYet),
                    Some(Ok(())) => true,
                    Some(Err(error)) => return Err(error.clone()),
                }
            }
        };
        debug_assert!(self.given >= before);
        self.check_length(ended)?;
        if !ended {
            return Ok(Filled::ToLimit);
        }
        self.stuffer.finish(out);
        Ok(Filled::ToEnd)
    }

    /// Whether a blocking source has to be read before there are octets.
    pub(crate) fn is_waiting(&self) -> bool {
        let Feed::Ahead(ahead) = &self.feed else { return false };
        ahead.job.as_ref().is_none_or(|job| job.end.is_none() && ahead.used >= job.read.len())
    }

    /// The reading that a blocking source waits for, to be done off the executor.
    pub(crate) fn take_read_job(&mut self) -> Option<ReadJob> {
        let Feed::Ahead(ahead) = &mut self.feed else { return None };
        ahead.job.take_if(|job| job.end.is_none() && ahead.used >= job.read.len())
    }

    /// Gives a finished job back.
    pub(crate) fn return_read_job(&mut self, job: ReadJob) {
        if let Feed::Ahead(ahead) = &mut self.feed {
            ahead.used = 0;
            ahead.job = Some(job);
        }
    }

    fn check_length(&self, ended: bool) -> Result<(), ContentError> {
        match self.promised {
            Some(promised) if self.given > promised => Err(ContentError::TooLong { promised }),
            Some(promised) if ended && self.given < promised => {
                Err(ContentError::TooShort { promised, given: self.given })
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for ContentStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContentStream").field("given", &self.given).finish_non_exhaustive()
    }
}

struct Copied {
    octets: u64,
    ended: bool,
}

/// A source's panic is its failure: it gives up its mail alone, and must not
/// unwind through a settle.
fn guarded<T>(call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let source = std::panic::catch_unwind(std::panic::AssertUnwindSafe(call));
    source.unwrap_or_else(|_| Err(io::Error::other("it panicked")))
}

/// Reads pieces that fit into `out` even when every octet is doubled.
fn copy_pieces(
    reader: &mut dyn Read,
    stuffer: &mut Stuffer,
    out: &mut Vec<u8>,
    limit: usize,
) -> Result<Copied, ContentError> {
    let mut piece = [0; PIECE];
    let mut octets = 0;
    while out.len() < limit {
        let room = (limit - out.len()).div_ceil(2).min(PIECE);
        let read = match guarded(|| reader.read(piece.get_mut(..room).unwrap_or_default())) {
            Ok(0) => return Ok(Copied { octets, ended: true }),
            Ok(read) => piece.get(..read).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        let used = stuffer.copy(read, out, usize::MAX);
        debug_assert_eq!(used, read.len());
        octets += used as u64;
    }
    Ok(Copied { octets, ended: false })
}

struct ReadAhead {
    /// `None` while the job is out.
    job: Option<ReadJob>,
    used: usize,
}

enum AheadReader {
    Closed(Arc<Open>),
    Open(Box<dyn Read + Send>),
}

/// A reading of a blocking source: run it where blocking is allowed.
pub struct ReadJob {
    reader: AheadReader,
    read: Vec<u8>,
    end: Option<Result<(), ContentError>>,
}

impl ReadJob {
    /// Opens the source when it is not yet, and reads up to 64 KiB. Blocks.
    pub fn run(mut self) -> ReadJob {
        self.read.clear();
        self.end = match guarded(|| self.read_some()) {
            Ok(0) => Some(Ok(())),
            Ok(_) => None,
            Err(error) => Some(Err(error.into())),
        };
        self
    }

    fn read_some(&mut self) -> io::Result<usize> {
        let reader = match &mut self.reader {
            AheadReader::Open(reader) => reader,
            AheadReader::Closed(open) => {
                let reader = open()?;
                self.reader = AheadReader::Open(reader);
                return self.read_some();
            }
        };
        reader.take(READ_AHEAD as u64).read_to_end(&mut self.read)
    }
}

impl fmt::Debug for ReadJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadJob").field("read", &self.read.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fills buffers of `limit` until the end, running read jobs in between.
    fn sent(content: &Content, limit: usize) -> Result<Vec<u8>, ContentError> {
        let mut stream = content.open()?;
        let mut sent = Vec::new();
        loop {
            let mut out = Vec::new();
            let filled = stream.fill(&mut out, limit)?;
            assert!(out.len() <= limit + 8);
            sent.extend_from_slice(&out);
            match filled {
                Filled::ToEnd => return Ok(sent),
                Filled::ToLimit => assert!(!out.is_empty()),
                Filled::NotYet => {
                    let job = stream.take_read_job().unwrap();
                    assert!(stream.take_read_job().is_none());
                    stream.return_read_job(job.run());
                }
            }
        }
    }

    fn all_kinds(raw: &'static [u8]) -> [Content; 5] {
        [
            Content::from(raw),
            Content::from(raw.to_vec()),
            Content::from(Arc::<[u8]>::from(raw)),
            Content::reader(move || Ok(Box::new(raw))),
            Content::blocking(move || Ok(Box::new(raw))),
        ]
    }

    #[test]
    fn every_kind_of_source_sends_the_same() {
        for limit in [1, 2, 5, 64, 100_000] {
            for content in all_kinds(b"a\n.b\r.\r\nc") {
                assert_eq!(sent(&content, limit).unwrap(), b"a\r\n..b\r\n..\r\nc\r\n.\r\n", "{content:?}");
                assert_eq!(sent(&content, limit).unwrap().len(), 18, "a second attempt starts anew");
            }
        }
    }

    #[test]
    fn a_broken_promise_is_an_error() {
        for limit in [1, 4, 100] {
            for content in all_kinds(b"12345") {
                assert!(sent(&content.clone().promise(5), limit).is_ok());
                let short = sent(&content.clone().promise(6), limit);
                assert_eq!(short, Err(ContentError::TooShort { promised: 6, given: 5 }), "{content:?}");
                let long = sent(&content.promise(4), limit);
                assert_eq!(long, Err(ContentError::TooLong { promised: 4 }));
            }
        }
    }

    #[test]
    fn a_failing_reader_is_an_error_and_no_end() {
        struct Failing(bool);
        impl Read for Failing {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                if std::mem::replace(&mut self.0, true) {
                    return Err(io::Error::other("disk on fire"));
                }
                buffer[0] = b'x';
                Ok(1)
            }
        }
        for content in [
            Content::reader(|| Ok(Box::new(Failing(false)))),
            Content::blocking(|| Ok(Box::new(Failing(false)))),
            Content::reader(|| Err(io::Error::other("disk on fire"))),
        ] {
            let error = sent(&content, 1000).unwrap_err();
            assert!(error.to_string().contains("disk on fire"), "{error}");
        }
        assert!(matches!(
            sent(&Content::file("/nonexistent/mail.eml"), 10),
            Err(ContentError::Io { kind: io::ErrorKind::NotFound, .. })
        ));
    }

    #[test]
    fn a_panicking_source_is_a_failing_one() {
        struct Panicking;
        impl Read for Panicking {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                panic!("planted");
            }
        }
        for content in [
            Content::reader(|| panic!("planted")),
            Content::reader(|| Ok(Box::new(Panicking))),
            Content::blocking(|| panic!("planted")),
            Content::blocking(|| Ok(Box::new(Panicking))),
        ] {
            let error = sent(&content, 10).unwrap_err();
            assert_eq!(error.to_string(), "the content's source failed: it panicked");
        }
    }

    #[test]
    fn debug_shows_no_content() {
        assert!(!format!("{:?}", Content::from("secret")).contains("secret"));
    }
}
