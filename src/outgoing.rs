//! Octets on their way to a connection: those that were made for a flight, in
//! one buffer, and between them those that contents hold ready, which are not
//! copied. What takes several slices (`writev`) is given both in their order.

use std::fmt;
use std::io::IoSlice;
use std::ops::{Deref, Range};
use std::sync::Arc;

use secrecy::zeroize::Zeroize;

/// Most contents that are not copied, in one write: no more of [`WORTH_A_SLICE`] fit
/// into what a session gives at a time.
const MOST_HELD: usize = 4;

/// Most slices that [`Outgoing::slices`] gives: each content stands between
/// two pieces of what was made.
const MOST_SLICES: usize = 2 * MOST_HELD + 1;

/// Octets below which copying costs no more than a slice of their own: that was
/// measured.
const WORTH_A_SLICE: usize = 16 * 1024;

/// Octets in memory that are shared, never changed.
#[derive(Clone)]
pub(crate) enum Octets {
    Static(&'static [u8]),
    Shared(Arc<[u8]>),
    Owned(Arc<Vec<u8>>),
}

impl Deref for Octets {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Octets::Static(octets) => octets,
            Octets::Shared(octets) => octets,
            Octets::Owned(octets) => octets,
        }
    }
}

/// A piece of a content, which stands behind so many octets of what was made.
struct Held {
    behind: usize,
    octets: Octets,
    range: Range<usize>,
}

impl Held {
    fn slice(&self) -> &[u8] {
        self.octets.get(self.range.clone()).unwrap_or_default()
    }
}

/// What a session has to say next, to be written in one go: see
/// [`Session::fill_outgoing`](crate::session::Session::fill_outgoing).
///
/// ```
/// use smtp_bulk::session::{Outgoing, Session};
/// use std::io::{self, Write};
///
/// /// Writes what the session has to say next; gives what the socket did not take.
/// fn write(session: &mut Session, socket: &mut impl Write) -> io::Result<Vec<u8>> {
///     let mut outgoing = Outgoing::new();
///     session.fill_outgoing(&mut outgoing);
///     let written = socket.write_vectored(&outgoing.slices())?;
///     session.wrote(written, std::time::Instant::now());
///     Ok(outgoing.rest(written))
/// }
/// ```
#[derive(Default)]
pub struct Outgoing {
    made: Vec<u8>,
    held: Vec<Held>,
    held_octets: usize,
    copies_all: bool,
}

impl Outgoing {
    /// Nothing yet. Contents that need no mending will not be copied into it.
    pub fn new() -> Outgoing {
        Outgoing::default()
    }

    /// The same with everything copied, behind what `made` holds: for what takes
    /// one slice only, as TLS does.
    pub(crate) fn copying(made: Vec<u8>) -> Outgoing {
        Outgoing { made, copies_all: true, ..Outgoing::default() }
    }

    /// Forgets all octets, and from now on copies contents or not.
    pub(crate) fn restart(&mut self, copies_all: bool) {
        self.clear();
        self.copies_all = copies_all;
    }

    /// Forgets all octets, and keeps the room for others.
    pub fn clear(&mut self) {
        self.made.clear();
        self.held.clear();
        self.held_octets = 0;
    }

    /// Octets in all.
    pub fn len(&self) -> usize {
        self.made.len() + self.held_octets
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All octets, where none is held apart from what was made.
    pub(crate) fn as_slice(&self) -> Option<&[u8]> {
        self.held.is_empty().then_some(&self.made)
    }

    /// The octets in their order, none of the slices empty.
    pub fn slices(&self) -> Slices<'_> {
        let mut slices = Slices { slices: [IoSlice::new(&[]); MOST_SLICES], count: 0 };
        let mut taken = 0;
        for held in &self.held {
            slices.push(self.made.get(taken..held.behind).unwrap_or_default());
            slices.push(held.slice());
            taken = held.behind;
        }
        slices.push(self.made.get(taken..).unwrap_or_default());
        slices
    }

    /// A copy of what is left when `count` octets were written.
    pub fn rest(&self, count: usize) -> Vec<u8> {
        let mut rest = Vec::with_capacity(self.len().saturating_sub(count));
        let mut written = count;
        for slice in self.slices().iter() {
            rest.extend_from_slice(slice.get(written..).unwrap_or_default());
            written = written.saturating_sub(slice.len());
        }
        rest
    }

    /// All octets, where all were copied.
    pub(crate) fn into_made(self) -> Vec<u8> {
        debug_assert!(self.held.is_empty());
        self.made
    }

    /// The buffer of what is made, to append to.
    pub(crate) fn made(&mut self) -> &mut Vec<u8> {
        &mut self.made
    }

    /// How long what is made may become, that there be `limit` octets in all.
    pub(crate) fn most_made(&self, limit: usize) -> usize {
        limit.saturating_sub(self.held_octets)
    }

    /// Appends this piece of some octets without copying it, where that is worth it.
    pub(crate) fn append(&mut self, octets: &Octets, range: Range<usize>) {
        let piece = octets.get(range.clone()).unwrap_or_default();
        if self.copies_all || piece.len() < WORTH_A_SLICE || self.held.len() >= MOST_HELD {
            return self.made.extend_from_slice(piece);
        }
        self.held_octets += piece.len();
        self.held.push(Held { behind: self.made.len(), octets: octets.clone(), range });
    }

    /// Where it stands now, to come back to.
    pub(crate) fn mark(&self) -> Mark {
        Mark { made: self.made.len(), held: self.held.len() }
    }

    /// Forgets what was appended behind the mark.
    pub(crate) fn go_back(&mut self, mark: Mark) {
        self.made.truncate(mark.made);
        self.held.truncate(mark.held);
        self.held_octets = self.held.iter().map(|held| held.slice().len()).sum();
    }

    /// What was made may be secret.
    pub(crate) fn wipe(&mut self) {
        self.made.zeroize();
    }
}

impl fmt::Debug for Outgoing {
    /// How much it is; never the octets, which may be private.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// A place in an [`Outgoing`].
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    made: usize,
    held: usize,
}

/// The octets of an [`Outgoing`] in their order, as `write_vectored` takes them.
pub struct Slices<'a> {
    slices: [IoSlice<'a>; MOST_SLICES],
    count: usize,
}

impl<'a> Slices<'a> {
    fn push(&mut self, slice: &'a [u8]) {
        if slice.is_empty() {
            return;
        }
        if let Some(place) = self.slices.get_mut(self.count) {
            *place = IoSlice::new(slice);
            self.count += 1;
        }
    }
}

impl<'a> Deref for Slices<'a> {
    type Target = [IoSlice<'a>];

    fn deref(&self) -> &[IoSlice<'a>] {
        self.slices.get(..self.count).unwrap_or_default()
    }
}

impl fmt::Debug for Slices<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slices").field("count", &self.count).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: &[u8] = b"short";
    const LONG: &[u8] = &[b'x'; 3 * WORTH_A_SLICE];

    /// Commands and contents by turns, and what they come to.
    fn filled(mut outgoing: Outgoing, contents: usize) -> (Outgoing, Vec<u8>) {
        let mut expected = Vec::new();
        for number in 0..contents {
            let head = format!("head {number}\r\n");
            outgoing.made().extend_from_slice(head.as_bytes());
            outgoing.append(&Octets::Static(SHORT), 1..4);
            outgoing.append(&Octets::Owned(Arc::new(LONG.to_vec())), 7..LONG.len());
            expected.extend_from_slice(&[head.as_bytes(), &SHORT[1..4], &LONG[7..]].concat());
        }
        outgoing.made().extend_from_slice(b"tail");
        expected.extend_from_slice(b"tail");
        (outgoing, expected)
    }

    fn octets(outgoing: &Outgoing) -> Vec<u8> {
        outgoing.slices().iter().flat_map(|slice| slice.iter().copied()).collect()
    }

    #[test]
    fn what_is_made_and_what_is_held_keep_their_order() {
        for contents in [0, 1, 2, MOST_HELD, MOST_HELD + 3] {
            let (sharing, expected) = filled(Outgoing::new(), contents);
            assert_eq!(octets(&sharing), expected);
            assert_eq!(sharing.len(), expected.len());
            assert_eq!(sharing.slices().len(), 2 * contents.min(MOST_HELD) + 1);
            let (copying, _) = filled(Outgoing::copying(Vec::new()), contents);
            assert_eq!(copying.slices().len(), 1);
            assert_eq!(copying.into_made(), expected);
        }
    }

    #[test]
    fn what_was_not_written_is_left() {
        let (outgoing, expected) = filled(Outgoing::new(), 2);
        for count in 0..=expected.len() {
            assert!(outgoing.rest(count) == expected[count..], "{count}");
        }
    }

    #[test]
    fn what_is_taken_back_leaves_no_octet() {
        let (mut outgoing, expected) = filled(Outgoing::new(), 1);
        let mark = outgoing.mark();
        outgoing.append(&Octets::Static(LONG), 0..LONG.len());
        outgoing.made().push(b'x');
        outgoing.go_back(mark);
        assert_eq!((octets(&outgoing), outgoing.len()), (expected.clone(), expected.len()));
    }

    #[test]
    fn it_shows_no_octet() {
        assert_eq!(
            format!("{:?}", filled(Outgoing::new(), 1).0),
            format!("Outgoing {{ len: {}, .. }}", 8 + 3 + LONG.len() - 7 + 4)
        );
    }
}
