//! What a flight sends: lines of commands and contents in their order. Octets
//! are made when the connection takes them, never before, so that a content of
//! any size needs no more memory than one write.

use std::time::Instant;

use secrecy::zeroize::Zeroize;

use super::flight::{MailTag, Owed, Piece, Step};
use super::{FLIGHT_BUFFER, Job, Session};
use crate::command::Command;
use crate::content::{ContentError, ContentStream, Filled};
use crate::failure::Failure;
use crate::timeouts::after;

/// Most chunks of one content that may wait for their replies.
const MOST_CHUNKS: usize = 8;

/// Room for the longest `BDAT n LAST` and its line end.
const CHUNK_HEAD: usize = 32;

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
    /// Octets that are left of a chunk whose size was told before it was read.
    left: Option<u64>,
    /// How many of its chunks may wait for their replies.
    most_waiting: usize,
    /// Octets of the chunks so far, and how many the server takes.
    chunked: u64,
    limit: Option<u64>,
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
        let before = out.len();
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
        debug_assert!(out.len() >= before);
    }

    fn fill_lines(&mut self, octets: usize, replies: usize, out: &mut Vec<u8>) -> bool {
        let end = self.commands_taken + octets;
        out.extend_from_slice(self.commands.get(self.commands_taken..end).unwrap_or_default());
        self.commands_taken = end;
        self.parts.pop_front();
        let mut ends_at = self.produced;
        self.produced += octets as u64;
        let first = self.owed.len().saturating_sub(self.unplaced);
        for owed in self.owed.iter_mut().skip(first).take(replies) {
            ends_at += u64::from(owed.octets);
            owed.ends_at = Some(ends_at);
        }
        self.unplaced = self.unplaced.saturating_sub(replies);
        if self.is_authenticating() {
            self.commands.zeroize();
            self.commands_taken = 0;
        }
        true
    }

    /// Says whether the content is given to its end.
    fn fill_content(&mut self, out: &mut Vec<u8>) -> bool {
        let waiting = self.owed.iter().filter(|owed| owed.piece == Piece::Chunk).count();
        let Some(Part::Content(sending)) = self.parts.front_mut() else { return false };
        let before = out.len();
        let filled = match sending.piece {
            Piece::Whole => sending.stream.fill(out, FLIGHT_BUFFER),
            _ if waiting >= sending.most_waiting => return false,
            _ => sending.fill_chunk(out),
        };
        let (mail, is_chunk) = (sending.mail, sending.piece != Piece::Whole && sending.left.is_none());
        let filled = match filled {
            Ok(filled) => filled,
            Err(error) => {
                out.truncate(before);
                self.cut_short(error, mail);
                return false;
            }
        };
        self.produced += (out.len() - before) as u64;
        if filled == Filled::ToEnd {
            self.parts.pop_front();
            self.place_content();
        } else if is_chunk && out.len() > before {
            // What was given is a chunk of its own, and so is answered.
            let ends_at = Some(self.produced);
            let chunk = Owed { ends_at, ..Owed::new(Step::Content, mail, Piece::Chunk) };
            let first = self.owed.len().saturating_sub(self.unplaced);
            self.owed.insert(first, chunk);
            self.asked += 1;
        }
        filled == Filled::ToEnd
    }

    fn place_content(&mut self) {
        let first = self.owed.len().saturating_sub(self.unplaced);
        if let Some(owed) = self.owed.get_mut(first) {
            owed.ends_at = Some(self.produced);
        }
        self.unplaced = self.unplaced.saturating_sub(1);
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
        let placed = self.owed.len().saturating_sub(self.unplaced);
        self.owed.truncate(placed);
        self.unplaced = 0;
    }

    /// All is answered that was sent before a content broke off.
    pub(super) fn fail_if_broken(&mut self) {
        if !self.owed.is_empty() {
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
        assert!(self.written <= self.produced, "more was written than produced");
        // The server's time begins when it is asked, however long ago that was
        // decided: callbacks of others may have run since.
        let goes_on = !was_begun || (self.awaited() == Step::Content && !was_out);
        if count > 0 && goes_on && self.failure.is_none() {
            self.deadline = Some(after(now, self.current_timeout()));
        }
    }

    /// Whether octets that `fill` gave have not been written.
    pub fn has_unwritten(&self) -> bool {
        self.written < self.produced
    }

    /// Whether all that the awaited reply is for was handed to the connection.
    pub(super) fn is_awaited_out(&self) -> bool {
        self.owed.front().and_then(|owed| owed.ends_at).is_some_and(|end| end <= self.written)
    }

    /// Whether the awaited reply is for a chunk of which nothing was made yet.
    pub(super) fn is_chunk_unbegun(&self) -> bool {
        let is_next = match self.parts.front() {
            Some(Part::Content(sending)) => sending.piece != Piece::Whole && sending.left.is_none(),
            _ => false,
        };
        is_next && !self.has_unwritten() && self.owed.front().is_some_and(|owed| owed.ends_at.is_none())
    }

    /// Whether the awaited reply waits for a content source of the client's.
    pub(super) fn is_source_awaited(&self) -> bool {
        let waits = match self.parts.front() {
            Some(Part::Content(sending)) => sending.stream.is_waiting(),
            _ => false,
        };
        waits && !self.has_unwritten() && self.owed.front().is_some_and(|owed| owed.ends_at.is_none())
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
        let most_waiting = if ahead { MOST_CHUNKS } else { 1 };
        let limit = self.extensions.size_limit();
        self.add(Part::Content(Sending { stream, mail, piece, left: None, most_waiting, chunked: 0, limit }));
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
        self.owed.push_back(owed);
        self.unplaced += 1;
        self.asked += 1;
        self.deadline = self.began.map(|began| after(began, self.current_timeout()));
    }

    /// A reply is owed although nothing is sent; `is_due` when what it answers
    /// has happened.
    pub(super) fn owe_unasked(&mut self, step: Step, is_due: bool) {
        self.owe(Owed::new(step, MailTag::default(), Piece::Whole));
        if is_due {
            self.place_content();
        }
    }
}

impl Sending {
    /// Gives one chunk with its head, or more of one whose size was told.
    fn fill_chunk(&mut self, out: &mut Vec<u8>) -> Result<Filled, ContentError> {
        if self.left.is_none() && out.len() > FLIGHT_BUFFER / 2 {
            // A chunk costs a reply: not a small one for want of room.
            return Ok(Filled::ToLimit);
        }
        let head_at = out.len();
        if self.left.is_none() {
            out.resize(head_at + CHUNK_HEAD, 0);
        }
        let begun_at = out.len();
        let filled = self.stream.fill(out, FLIGHT_BUFFER)?;
        let end = out.len();
        let size = (end - begun_at) as u64;
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(size);
            return Ok(filled);
        }
        if size == 0 && filled != Filled::ToEnd {
            out.truncate(head_at);
            return Ok(filled);
        }
        let whole = if filled == Filled::ToEnd { None } else { self.stream.whole_len() };
        self.left = whole.map(|whole| whole.saturating_sub(size));
        let last = filled == Filled::ToEnd || whole.is_some();
        self.chunked = self.chunked.saturating_add(whole.unwrap_or(size));
        // Exim answers 552 in the middle of a chunk that is too large, and reads the
        // rest of it as commands.
        if let Some(limit) = self.limit.filter(|limit| self.chunked > *limit) {
            return Err(ContentError::AboveLimit { limit });
        }
        // The head takes as much of its room as it needs, and the octets close up.
        Command::Bdat { size: whole.unwrap_or(size), last }.encode(out);
        let length = out.len() - end;
        out.copy_within(end.., head_at);
        out.copy_within(begun_at..end, head_at + length);
        out.truncate(head_at + length + (end - begun_at));
        Ok(filled)
    }
}
