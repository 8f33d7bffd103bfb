//! What a flight sends: lines of commands and contents in their order. Octets
//! are made when the connection takes them, never before, so that a content of
//! any size needs no more memory than one write.

use std::time::Instant;

use secrecy::zeroize::Zeroize;

use super::flight::{MailTag, Step};
use super::replies::{Owed, Piece, Replies, UNMADE};
use super::{FLIGHT_BUFFER, Job, Session};
use crate::command::Command;
use crate::content::{ContentError, ContentStream, Filled};
use crate::failure::Failure;
use crate::outgoing::Outgoing;

/// Most chunks of one content that may wait for their replies.
const MOST_CHUNKS: usize = 8;

/// Room for `BDAT n LAST` and its line end, where n is the size of a piece.
const CHUNK_HEAD: usize = 24;

/// Something that a flight sends.
#[derive(Debug)]
pub(super) enum Part {
    /// So many octets of the commands' buffer, which ask for so many replies.
    Lines { octets: usize, replies: usize },
    /// A content.
    Content(Sending),
}

/// A content that is being sent.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) stream: ContentStream,
    pub(super) mail: MailTag,
    pub(super) piece: Piece,
    /// The size of its only chunk was told, and the rest of that follows.
    is_told: bool,
    /// Its chunks need not wait for one another's replies.
    ahead: bool,
    /// Octets of the chunks so far.
    chunked: u64,
}

impl Session {
    // ---- octets -----------------------------------------------------------

    /// Whether `fill` has something to give, now, when a job is done, or when
    /// the server has answered earlier chunks.
    pub fn wants_write(&self) -> bool {
        self.failure.is_none() && !self.spent && (!self.parts.is_empty() || self.wants_auth_job())
    }

    /// Appends what is to be sent next to `out`, up to about
    /// [`FLIGHT_BUFFER`] octets in all. Nothing is appended when all has been
    /// given, when a job has to be done first (see [`Session::take_job`]), and
    /// when too many chunks wait for their replies.
    pub fn fill(&mut self, out: &mut Vec<u8>) {
        let mut outgoing = Outgoing::copying(std::mem::take(out));
        self.fill_outgoing(&mut outgoing);
        *out = outgoing.into_made();
    }

    /// The same, without copying contents that can be sent as they are.
    pub fn fill_outgoing(&mut self, out: &mut Outgoing) {
        while self.failure.is_none() && !self.spent && out.len() < FLIGHT_BUFFER {
            let went_on = match self.parts.front() {
                None => break,
                Some(&Part::Lines { octets, replies }) => self.fill_lines(octets, replies, out),
                Some(Part::Content(_)) => self.fill_content(out),
            };
            if !went_on {
                break;
            }
        }
    }

    fn fill_lines(&mut self, octets: usize, replies: usize, out: &mut Outgoing) -> bool {
        let end = self.commands_taken + octets;
        out.made().extend_from_slice(self.commands.get(self.commands_taken..end).unwrap_or_default());
        self.commands_taken = end;
        self.parts.pop_front();
        self.replies.lines_made(replies, self.produced);
        self.produced += octets as u64;
        if self.is_authenticating() {
            self.commands.zeroize();
            self.commands_taken = 0;
        }
        true
    }

    /// Says whether the content is given to its end.
    fn fill_content(&mut self, out: &mut Outgoing) -> bool {
        let limit = self.extensions.size_limit();
        let Some(Part::Content(sending)) = self.parts.front_mut() else { return false };
        let (mark, before) = (out.mark(), out.len());
        let filled = match sending.piece {
            Piece::Whole => sending.stream.fill(out, FLIGHT_BUFFER),
            _ if sending.stream.is_sized() => sending.fill_whole(limit, out),
            _ if waiting_chunks(&self.replies) >= sending.most_waiting() => return false,
            _ => sending.fill_piece(limit, out),
        };
        let (mail, is_chunk) = (sending.mail, sending.piece != Piece::Whole && !sending.is_told);
        let filled = match filled {
            Ok(filled) => filled,
            Err(error) => {
                out.go_back(mark);
                self.cut_short(error, mail);
                return false;
            }
        };
        self.produced += (out.len() - before) as u64;
        if filled == Filled::ToEnd {
            self.parts.pop_front();
            self.replies.next_made(self.produced);
        } else if is_chunk && out.len() > before {
            // What was given is a chunk of its own, and so is answered.
            let chunk = Owed { ends_at: self.produced, ..Owed::new(Step::Content, mail, Piece::Chunk) };
            self.replies.insert_made(chunk);
        }
        filled == Filled::ToEnd
    }

    /// The content cannot be sent to its end. Nothing more is sent; what was
    /// asked before it is still answered, as another mail's content may be.
    fn cut_short(&mut self, error: ContentError, mail: MailTag) {
        self.drop_unmade();
        self.broken = Some((error, mail));
        self.fail_if_broken();
    }

    /// What was not made of the flight is not sent, and no reply owed for it.
    pub(super) fn drop_unmade(&mut self) {
        self.parts.clear();
        self.replies.drop_unmade();
    }

    /// All is answered that was sent before a content broke off.
    pub(super) fn fail_if_broken(&mut self) {
        if !self.replies.are_all_there() {
            return;
        }
        if let Some((error, mail)) = self.broken.take() {
            self.fail_at(Step::Content, Failure::Content(error));
            self.failed_mail = mail;
        }
    }

    /// `count` octets of what `fill` gave were handed to the connection.
    pub fn wrote(&mut self, count: usize, now: Instant) {
        let was_begun = self.has_flight_begun();
        let was_out = self.is_awaited_out();
        self.written += count as u64;
        if count > 0 {
            self.moved_at = Some(now);
        }
        assert!(self.written <= self.produced, "more was written than produced");
        // The server's time begins when it is asked, however long ago that was
        // decided: callbacks of others may have run since.
        let goes_on = !was_begun || (self.awaited() == Step::Content && !was_out);
        if count > 0 && goes_on && self.failure.is_none() {
            self.waiting_since = Some(now);
        }
    }

    /// Whether octets that `fill` gave have not been written.
    pub fn has_unwritten(&self) -> bool {
        self.written < self.produced
    }

    /// Whether all that the awaited reply is for was handed to the connection.
    pub(super) fn is_awaited_out(&self) -> bool {
        self.replies.awaited().is_some_and(|owed| owed.ends_at <= self.written)
    }

    fn is_awaited_unmade(&self) -> bool {
        self.replies.awaited().is_some_and(|owed| owed.ends_at == UNMADE)
    }

    /// Whether the awaited reply is for a chunk of which nothing was made yet.
    pub(super) fn is_chunk_unbegun(&self) -> bool {
        let is_next = match self.parts.front() {
            Some(Part::Content(sending)) => sending.piece != Piece::Whole && !sending.is_told,
            _ => false,
        };
        is_next && !self.has_unwritten() && self.is_awaited_unmade()
    }

    /// Whether the awaited reply waits for a content source of the client's.
    pub(super) fn is_source_awaited(&self) -> bool {
        let waits = match self.parts.front() {
            Some(Part::Content(sending)) => sending.stream.is_waiting(),
            _ => false,
        };
        waits && !self.has_unwritten() && self.is_awaited_unmade()
    }

    /// What has to be done before `fill` can go on; run it where blocking is
    /// allowed, and give it back.
    pub fn take_job(&mut self) -> Option<Job> {
        if self.failure.is_some() {
            return None;
        }
        if let Some(job) = self.take_auth_job() {
            return Some(Job::Auth(job));
        }
        match self.parts.front_mut() {
            Some(Part::Content(sending)) => sending.stream.take_read_job().map(Job::Read),
            _ => None,
        }
    }

    /// Gives back what [`Session::take_job`] gave, after it has run.
    pub fn return_job(&mut self, job: Job, now: Instant) {
        self.moved_at = Some(now);
        match (job, self.parts.front_mut()) {
            (Job::Auth(job), _) => self.return_auth_job(job, now),
            (Job::Read(job), Some(Part::Content(sending))) => sending.stream.return_read_job(job),
            (Job::Read(_), _) => {}
        }
    }

    // ---- putting it together ----------------------------------------------

    /// Puts a command into the flight.
    pub(super) fn ask(&mut self, command: Command<'_>, step: Step, mail: MailTag, recipient: u32) {
        let before = self.commands.len();
        command.encode(&mut self.commands);
        let length = self.commands.len() - before;
        match self.parts.back_mut() {
            Some(Part::Lines { octets, replies }) => {
                *octets += length;
                *replies += 1;
            }
            _ => self.add(Part::Lines { octets: length, replies: 1 }),
        }
        let octets = u32::try_from(length).unwrap_or(u32::MAX);
        self.owe(Owed { recipient, octets, ..Owed::new(step, mail, Piece::Whole) });
    }

    /// Puts a content into the flight; `ahead` when its chunks need not wait for
    /// one another's replies.
    pub(super) fn send(&mut self, stream: Option<ContentStream>, mail: MailTag, piece: Piece, ahead: bool) {
        let Some(stream) = stream else { return };
        self.add(Part::Content(Sending { stream, mail, piece, is_told: false, ahead, chunked: 0 }));
        self.owe(Owed::new(Step::Content, mail, piece));
    }

    fn add(&mut self, part: Part) {
        if self.parts.capacity() == 0 {
            // One command at a time needs no room for more.
            self.parts.reserve_exact(1);
        }
        self.parts.push_back(part);
    }

    /// A reply is owed for something that is not made yet.
    pub(super) fn owe(&mut self, owed: Owed) {
        if self.replies.are_all_there() {
            self.waiting_since = self.began;
        }
        self.replies.owe(owed);
    }

    /// A reply is owed although nothing is sent; `is_due` when what it answers
    /// has happened.
    pub(super) fn owe_unasked(&mut self, step: Step, is_due: bool) {
        self.owe(Owed::new(step, MailTag::default(), Piece::Whole));
        if is_due {
            self.replies.next_made(self.produced);
        }
    }
}

/// How many chunks of a content have been sent and not been answered.
fn waiting_chunks(replies: &Replies) -> usize {
    replies.owed().filter(|owed| owed.piece == Piece::Chunk).count()
}

impl Sending {
    fn most_waiting(&self) -> usize {
        if self.ahead { MOST_CHUNKS } else { 1 }
    }

    /// Gives the one chunk that it is, or more of that, as its size is known before
    /// it is read.
    fn fill_whole(&mut self, limit: Option<u64>, out: &mut Outgoing) -> Result<Filled, ContentError> {
        if !self.is_told
            && let Some(size) = self.stream.whole_len()
        {
            self.count(size, limit)?;
            Command::Bdat { size, last: true }.encode(out.made());
            self.is_told = true;
        }
        self.stream.fill(out, FLIGHT_BUFFER)
    }

    /// Gives a chunk of what there is now, as nobody knows how much will come.
    fn fill_piece(&mut self, limit: Option<u64>, out: &mut Outgoing) -> Result<Filled, ContentError> {
        if out.len() > FLIGHT_BUFFER / 2 {
            // A chunk costs a reply: not a small one for want of room.
            return Ok(Filled::ToLimit);
        }
        let head_at = out.made().len();
        out.made().resize(head_at + CHUNK_HEAD, 0);
        let begun_at = out.made().len();
        let filled = self.stream.fill(out, FLIGHT_BUFFER)?;
        let out = out.made();
        let end = out.len();
        let size = (end - begun_at) as u64;
        if size == 0 && filled != Filled::ToEnd {
            out.truncate(head_at);
            return Ok(filled);
        }
        self.count(size, limit)?;
        // The head takes as much of its room as it needs, and the octets close up.
        Command::Bdat { size, last: filled == Filled::ToEnd }.encode(out);
        let length = out.len() - end;
        out.copy_within(end.., head_at);
        out.copy_within(begun_at..end, head_at + length);
        out.truncate(head_at + length + (end - begun_at));
        Ok(filled)
    }

    /// Exim answers 552 in the middle of a chunk that is too large, and reads the
    /// rest of it as commands.
    fn count(&mut self, chunk: u64, limit: Option<u64>) -> Result<(), ContentError> {
        self.chunked = self.chunked.saturating_add(chunk);
        match limit.filter(|limit| self.chunked > *limit) {
            Some(limit) => Err(ContentError::AboveLimit { limit }),
            None => Ok(()),
        }
    }
}
