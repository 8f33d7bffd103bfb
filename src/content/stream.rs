//! One attempt's way through a content: reads its source in bounded pieces and
//! frames them into a bounded buffer, whatever the source.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use super::merged::MergedStream;
use super::{Content, ContentError, Open, Source};
use crate::stuffing::{Framing, Stuffer};

/// Octets read from a file or a reader at a time.
const PIECE: usize = 8 * 1024;

/// Octets read ahead, off the executor, from a blocking source.
const READ_AHEAD: usize = 64 * 1024;

/// How far `ContentStream::fill` came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Filled {
    /// The buffer is full.
    ToLimit,
    /// The last octet of the content, or of its final dot's line, is in the buffer.
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
    Merged(MergedStream),
    Reader(Box<dyn Read + Send>),
    Ahead(ReadAhead),
}

impl ContentStream {
    pub(super) fn open(content: &Content, framing: Framing) -> Result<ContentStream, ContentError> {
        let feed = match &content.source {
            Source::File(path) => Feed::Reader(Box::new(File::open(path)?)),
            Source::Reader(open) => Feed::Reader(guarded(|| open())?),
            Source::Blocking(open) => {
                let reader = AheadReader::Closed(Arc::clone(open));
                let mark = Arc::new(());
                let job = ReadJob { reader, read: Vec::new(), end: None, mark: Arc::clone(&mark) };
                Feed::Ahead(ReadAhead { job: Some(job), used: 0, mark })
            }
            Source::Merged(merged) => Feed::Merged(MergedStream::new(Arc::clone(merged))),
            Source::Static(_) | Source::Shared(_) | Source::Owned(_) => {
                Feed::Bytes { content: content.clone(), used: 0 }
            }
        };
        Ok(ContentStream { feed, stuffer: Stuffer::new(framing), promised: content.promised(), given: 0 })
    }

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
            Feed::Merged(merged) => {
                let copied = merged.copy(&mut self.stuffer, out, limit);
                self.given += copied.octets;
                copied.ended
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

    /// Whether it ends in a lone dot.
    pub(crate) fn is_dotted(&self) -> bool {
        self.stuffer.framing() == Framing::Dotted
    }

    /// All octets that it gives from its beginning to its end, where what gives
    /// them is in memory.
    pub(crate) fn whole_len(&self) -> Option<u64> {
        match &self.feed {
            Feed::Bytes { content, .. } => content.framed_len(self.stuffer.framing()),
            Feed::Merged(merged) => Some(merged.framed_len(self.stuffer.framing())),
            Feed::Reader(_) | Feed::Ahead(_) => None,
        }
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

    /// Gives a finished job back. One of another content's is dropped: that was
    /// given up while the job ran.
    pub(crate) fn return_read_job(&mut self, job: ReadJob) {
        let Feed::Ahead(ahead) = &mut self.feed else { return };
        if Arc::ptr_eq(&ahead.mark, &job.mark) {
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

/// What one call took from a source.
pub(super) struct Copied {
    pub(super) octets: u64,
    pub(super) ended: bool,
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
    let raw = stuffer.framing() == Framing::Raw;
    let mut piece = [0; PIECE];
    let mut octets = 0;
    while out.len() < limit {
        let room = if raw { limit - out.len() } else { (limit - out.len()).div_ceil(2) }.min(PIECE);
        let read = match guarded(|| reader.read(piece.get_mut(..room).unwrap_or_default())) {
            Ok(0) => return Ok(Copied { octets, ended: true }),
            Ok(read) if read <= room => piece.get(..read).unwrap_or_default(),
            Ok(_) => return Err(io::Error::other("it read more than there was room for").into()),
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
    /// By which it knows its own job.
    mark: Arc<()>,
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
    mark: Arc<()>,
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
