//! The content of a mail: where its octets come from, and the stream that one
//! attempt reads. It is never wholly in memory unless the caller gave it so,
//! and an attempt never sees what an earlier one read.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::outgoing::Octets;
use crate::parameters::Body;
use crate::stuffing::{self, Measure};

mod error;
mod header;
mod merged;
mod stream;
mod template;
#[cfg(test)]
mod tests;

pub use crate::stuffing::Framing;
pub use error::ContentError;
use merged::Merged;
pub use stream::ReadJob;
pub(crate) use stream::{ContentStream, Filled};
pub use template::{HeaderFault, MergeError, Template, TemplateError, TemplateErrorKind};
pub use template::{MAX_FIELD_NAME, MAX_FIELDS, MAX_PLACES, MAX_TEMPLATE};

type Open = dyn Fn() -> io::Result<Box<dyn Read + Send>> + Send + Sync;

#[derive(Clone)]
enum Source {
    Held(Octets),
    File(Arc<Path>),
    Reader(Arc<Open>),
    Blocking(Arc<Open>),
    Merged(Arc<Merged>),
}

/// What one look at octets in memory has found, when they became a content.
#[derive(Clone, Copy)]
struct Found {
    is_ascii: bool,
    /// Nothing has to be mended of it for DATA, and for BDAT.
    fits_dotted: bool,
    fits_chunked: bool,
}

/// What is sent behind DATA or BDAT: header and body as octets.
///
/// Line ends are mended while it is copied out (RFC 5321 §2.3.8) and, behind
/// DATA, leading dots doubled (§4.5.2), so that the same mail arrives by both;
/// the octets are otherwise sent as they are, in whatever character set they
/// were written and in lines of whatever length. Cloning it copies no octets.
/// A [`Template`] makes contents that differ in some fields only.
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
    /// Octets promised, if any were: apart, as an `Option` takes twice the room.
    promised: u64,
    is_promised: bool,
    declared: Option<Body>,
    /// Of octets in memory.
    found: Option<Found>,
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
        self.promised = octets;
        self.is_promised = true;
        self
    }

    /// The number of octets before line ends are mended, where it is known
    /// without reading.
    pub fn known_len(&self) -> Option<u64> {
        self.promised().or_else(|| self.held_len())
    }

    /// Declares what kind of octets the content has, instead of finding it out.
    ///
    /// `BinaryMime` has the octets left alone altogether: no line end is mended
    /// and no dot doubled, which only a server with BINARYMIME and CHUNKING
    /// takes (RFC 3030 §3). `SevenBit` for a content that is not ASCII is a
    /// promise that the caller breaks; nobody looks.
    pub fn body(mut self, kind: Body) -> Content {
        self.declared = Some(kind);
        self
    }

    /// What kind of octets the content has: as declared, else what a look at
    /// octets in memory has found, once, when the content was made. `None` for
    /// sources that are yet to be read. It says nothing of the length of lines:
    /// those above the 1,000 octets of RFC 5321 §4.5.3.1.6 are sent as they are.
    pub fn body_kind(&self) -> Option<Body> {
        let is_ascii = match &self.source {
            Source::Merged(merged) => Some(merged.is_ascii()),
            _ => self.found.map(|found| found.is_ascii),
        };
        let found = is_ascii.map(|ascii| if ascii { Body::SevenBit } else { Body::EightBitMime });
        self.declared.or(found)
    }

    /// How many octets will be sent, exactly, where it is known without reading
    /// a source: of contents in memory and of a merge, and of a promised source
    /// that is sent raw.
    ///
    /// ```
    /// use smtp_bulk::Content;
    /// use smtp_bulk::content::Framing;
    ///
    /// let content = Content::from("a\n.b");
    /// assert_eq!(content.framed_len(Framing::Dotted), Some("a\r\n..b\r\n.\r\n".len() as u64));
    /// assert_eq!(content.framed_len(Framing::Chunked), Some("a\r\n.b\r\n".len() as u64));
    /// assert_eq!(content.framed_len(Framing::Raw), Some("a\n.b".len() as u64));
    /// ```
    pub fn framed_len(&self, framing: Framing) -> Option<u64> {
        match &self.source {
            Source::Held(octets) => Some(octets_len(octets, framing, self.fits(framing))),
            Source::Merged(merged) => Some(merged.framed_len(framing)),
            _ if framing == Framing::Raw => self.promised(),
            _ => None,
        }
    }

    /// About how many octets the content has, for `SIZE=` of MAIL, where an
    /// estimate will do (RFC 1870 §6.1): what was promised, what is held in
    /// memory, or what the file system says of a file now. Line ends that are
    /// yet to be mended are not counted, and nothing is read.
    pub fn size_estimate(&self) -> Option<u64> {
        self.known_len().or_else(|| match &self.source {
            Source::File(path) => {
                std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file).map(|file| file.len())
            }
            _ => None,
        })
    }

    /// The stream of one attempt; files and readers are opened here.
    pub(crate) fn open(&self, framing: Framing) -> Result<ContentStream, ContentError> {
        ContentStream::open(self, framing)
    }

    fn of(source: Source) -> Content {
        Content { source, promised: 0, is_promised: false, declared: None, found: None }
    }

    fn held(octets: Octets) -> Content {
        let fits_dotted = stuffing::is_unchanged(&octets, Framing::Dotted);
        let fits_chunked = fits_dotted || stuffing::is_unchanged(&octets, Framing::Chunked);
        let found = Found { is_ascii: octets.is_ascii(), fits_dotted, fits_chunked };
        Content { found: Some(found), ..Content::of(Source::Held(octets)) }
    }

    /// Whether it is in memory and can be sent as it is, but for a final dot.
    fn fits(&self, framing: Framing) -> bool {
        self.found.is_some_and(|found| match framing {
            Framing::Dotted => found.fits_dotted,
            Framing::Chunked => found.fits_chunked,
            Framing::Raw => true,
        })
    }

    fn promised(&self) -> Option<u64> {
        self.is_promised.then_some(self.promised)
    }

    /// The octets before line ends are mended, of what is in memory.
    fn held_len(&self) -> Option<u64> {
        match &self.source {
            Source::Held(octets) => Some(octets.len() as u64),
            Source::Merged(merged) => Some(merged.raw_len()),
            Source::File(_) | Source::Reader(_) | Source::Blocking(_) => None,
        }
    }
}

/// How many octets these will be, with a final dot where the framing has one; `fits`
/// when nothing of them has to be mended.
fn octets_len(octets: &[u8], framing: Framing, fits: bool) -> u64 {
    let mut measure = Measure::new(framing);
    match octets.last() {
        Some(&last) if fits => measure.skip(octets.len() as u64, last),
        _ => measure.add(octets),
    }
    measure.total()
}

impl From<&'static [u8]> for Content {
    fn from(bytes: &'static [u8]) -> Content {
        Content::held(Octets::Static(bytes))
    }
}

impl From<&'static str> for Content {
    fn from(text: &'static str) -> Content {
        Content::held(Octets::Static(text.as_bytes()))
    }
}

impl From<Arc<[u8]>> for Content {
    fn from(bytes: Arc<[u8]>) -> Content {
        Content::held(Octets::Shared(bytes))
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Content {
        Content::held(Octets::Owned(Arc::new(bytes)))
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
            Source::Held(_) => &"bytes",
            Source::File(path) => path,
            Source::Reader(_) => &"reader",
            Source::Blocking(_) => &"blocking reader",
            Source::Merged(_) => &"merge",
        };
        f.debug_struct("Content").field("source", source).field("len", &self.known_len()).finish()
    }
}
