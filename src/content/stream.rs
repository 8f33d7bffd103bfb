//! One attempt's way through a content: reads its source in bounded pieces and
//! frames them into a bounded buffer, whatever the source.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use super::merged::MergedStream;
use super::{Content, ContentError, Open, Source};
use crate::outgoing::{Octets, Outgoing};
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
}

enum Feed {
    Held { octets: Octets, used: usize, fits: bool },
    Merged(MergedStream),
    Reader(Box<dyn Read + Send>, Tally),
    Ahead(Box<ReadAhead>),
}

/// What was promised of a source that is yet to be read, and what it gave.
struct Tally {
    promised: Option<u64>,
    given: u64,
}

impl Tally {
    fn of(content: &Content) -> Tally {
        Tally { promised: content.promised(), given: 0 }
    }

    /// So much more was given, and perhaps that was all.
    fn add(&mut self, octets: u64, ended: bool) -> Result<(), ContentError> {
        self.given += octets;
        match self.promised {
            Some(promised) if self.given > promised => Err(ContentError::TooLong { promised }),
            Some(promised) if ended && self.given < promised => {
                Err(ContentError::TooShort { promised, given: self.given })
            }
            _ => Ok(()),
        }
    }
}

impl ContentStream {
    pub(super) fn open(content: &Content, framing: Framing) -> Result<ContentStream, ContentError> {
        let feed = match &content.source {
            Source::File(path) => Feed::Reader(Box::new(File::open(path)?), Tally::of(content)),
            Source::Reader(open) => Feed::Reader(guarded(|| open())?, Tally::of(content)),
            Source::Blocking(open) => {
                let reader = AheadReader::Closed(Arc::clone(open));
                let mark = Arc::new(());
                let job = ReadJob { reader, read: Vec::new(), end: None, mark: Arc::clone(&mark) };
                Feed::Ahead(Box::new(ReadAhead { job: Some(job), used: 0, mark, tally: Tally::of(content) }))
            }
            Source::Merged(merged) => Feed::Merged(MergedStream::new(Arc::clone(merged))),
            Source::Held(octets) => {
                Feed::Held { octets: octets.clone(), used: 0, fits: content.fits(framing) }
            }
        };
        if let Some(len) = content.held_len() {
            Tally::of(content).add(len, true)?;
        }
        Ok(ContentStream { feed, stuffer: Stuffer::new(framing) })
    }

    /// Appends to `outgoing` until it holds `limit` octets or a few more.
    pub(crate) fn fill(&mut self, outgoing: &mut Outgoing, limit: usize) -> Result<Filled, ContentError> {
        let room = limit.saturating_sub(outgoing.len());
        let limit = outgoing.most_made(limit);
        let out = outgoing.made();
        let ended = match &mut self.feed {
            Feed::Held { octets, used, fits: true } => {
                let end = octets.len().min(used.saturating_add(room));
                outgoing.append(octets, *used..end);
                if let Some(&last) = octets.get(*used..end).and_then(|piece| piece.last()) {
                    self.stuffer.passed(last);
                }
                *used = end;
                end == octets.len()
            }
            Feed::Held { octets, used, .. } => {
                let rest = octets.get(*used..).unwrap_or_default();
                let copied = self.stuffer.copy(rest, out, limit);
                *used += copied;
                copied == rest.len()
            }
            Feed::Merged(merged) => merged.copy(&mut self.stuffer, out, limit),
            Feed::Reader(reader, tally) => copy_pieces(reader, tally, &mut self.stuffer, out, limit)?,
            Feed::Ahead(ahead) => {
                let Some(job) = &ahead.job else { return Ok(Filled::NotYet) };
                let rest = job.read.get(ahead.used..).unwrap_or_default();
                let copied = self.stuffer.copy(rest, out, limit);
                let is_used_up = copied == rest.len();
                ahead.used += copied;
                let ended = is_used_up && matches!(job.end, Some(Ok(())));
                ahead.tally.add(copied as u64, ended)?;
                match &job.end {
                    None if is_used_up => return Ok(Filled::NotYet),
                    Some(Err(error)) if is_used_up => return Err(error.clone()),
                    _ => ended,
                }
            }
        };
        if !ended {
            return Ok(Filled::ToLimit);
        }
        self.stuffer.finish(outgoing.made());
        Ok(Filled::ToEnd)
    }

    /// Whether it ends in a lone dot.
    pub(crate) fn is_dotted(&self) -> bool {
        self.stuffer.framing() == Framing::Dotted
    }

    /// Whether it is known how many octets it gives.
    pub(crate) fn is_sized(&self) -> bool {
        matches!(self.feed, Feed::Held { .. } | Feed::Merged(_))
    }

    /// All octets that it gives from its beginning to its end, where what gives
    /// them is in memory.
    pub(crate) fn whole_len(&self) -> Option<u64> {
        match &self.feed {
            Feed::Held { octets, fits, .. } => Some(super::octets_len(octets, self.stuffer.framing(), *fits)),
            Feed::Merged(merged) => Some(merged.framed_len(self.stuffer.framing())),
            Feed::Reader(..) | Feed::Ahead(_) => None,
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
}

impl fmt::Debug for ContentStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContentStream").field("framing", &self.stuffer.framing()).finish_non_exhaustive()
    }
}

/// A source's panic is its failure: it gives up its mail alone, and must not
/// unwind through a settle.
fn guarded<T>(call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let source = std::panic::catch_unwind(std::panic::AssertUnwindSafe(call));
    source.unwrap_or_else(|_| Err(io::Error::other("it panicked")))
}

/// Reads pieces that fit into `out` even when every octet is doubled, and says
/// whether that was all.
fn copy_pieces(
    reader: &mut dyn Read,
    tally: &mut Tally,
    stuffer: &mut Stuffer,
    out: &mut Vec<u8>,
    limit: usize,
) -> Result<bool, ContentError> {
    let raw = stuffer.framing() == Framing::Raw;
    let mut piece = [0; PIECE];
    while out.len() < limit {
        let room = if raw { limit - out.len() } else { (limit - out.len()).div_ceil(2) }.min(PIECE);
        let read = match guarded(|| reader.read(piece.get_mut(..room).unwrap_or_default())) {
            Ok(0) => return tally.add(0, true).map(|()| true),
            Ok(read) if read <= room => piece.get(..read).unwrap_or_default(),
            Ok(_) => return Err(io::Error::other("it read more than there was room for").into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        let used = stuffer.copy(read, out, usize::MAX);
        debug_assert_eq!(used, read.len());
        tally.add(used as u64, false)?;
    }
    Ok(false)
}

struct ReadAhead {
    /// `None` while the job is out.
    job: Option<ReadJob>,
    used: usize,
    /// By which it knows its own job.
    mark: Arc<()>,
    tally: Tally,
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
