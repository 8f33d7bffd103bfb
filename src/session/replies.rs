//! The replies of a flight, in the order in which they are owed. Each goes through
//! the list once, and three places in it say how far all are:
//!
//! ```text
//!  judged │ come, not judged │ owed for what was made │ owed for what is not made yet
//!         judged             come                     made
//! ```
//!
//! A content that is refused before all of it is made has its reply ahead of that.

use std::time::Duration;

use super::flight::{MailTag, Step};
use crate::reply::ReplyCode;

/// Stands for the end of what is not made yet: further on than anything.
pub(super) const UNMADE: u64 = u64::MAX;

/// Which part of a content a reply is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Piece {
    /// All of it, ended by a dot; or the thing asked is no content.
    Whole,
    /// A chunk that is not the last.
    Chunk,
    /// The last chunk.
    LastChunk,
}

/// What a reply is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owed {
    pub(super) step: Step,
    pub(super) piece: Piece,
    /// It is one of those that LMTP gives for each recipient.
    pub(super) is_of_many: bool,
    pub(super) mail: MailTag,
    /// Which recipient of the mail it is about; 0 where it is about none.
    pub(super) recipient: u32,
    /// Length of the command.
    pub(super) octets: u32,
    /// Where in the stream of sent octets the thing asked ends, or [`UNMADE`].
    pub(super) ends_at: u64,
}

impl Owed {
    pub(super) fn new(step: Step, mail: MailTag, piece: Piece) -> Owed {
        Owed { step, mail, recipient: 0, piece, is_of_many: false, octets: 0, ends_at: UNMADE }
    }

    /// Whether it ends a content, and so decides on a mail.
    pub(super) fn is_last_of_content(&self) -> bool {
        self.step == Step::Content && self.piece != Piece::Chunk
    }
}

/// What a reply said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said {
    pub(super) code: ReplyCode,
    /// Where its text ends in the session's buffer.
    pub(super) text_end: u32,
    /// Time from the beginning of the flight until it was read.
    pub(super) took: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    owed: Owed,
    said: Option<Said>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Replies {
    list: Vec<Entry>,
    judged: usize,
    come: usize,
    made: usize,
    /// How many were owed in this flight, those among them that were forgotten.
    asked: u32,
}

impl Replies {
    /// A flight begins.
    pub(super) fn restart(&mut self) {
        let most = (self.asked as usize).max(4) * 2;
        self.list.clear();
        self.list.shrink_to(most);
        (self.judged, self.come, self.made, self.asked) = (0, 0, 0, 0);
    }

    /// How many were owed in this flight.
    pub(super) fn asked(&self) -> u32 {
        self.asked
    }

    // ---- owed -------------------------------------------------------------

    /// One is owed for what is not made yet.
    pub(super) fn owe(&mut self, owed: Owed) {
        self.list.push(Entry { owed, said: None });
        self.asked += 1;
    }

    /// Those that have not come, in their order.
    pub(super) fn owed(&self) -> impl ExactSizeIterator<Item = &Owed> {
        self.list.get(self.come..).unwrap_or_default().iter().map(|entry| &entry.owed)
    }

    /// The one that is owed first.
    pub(super) fn awaited(&self) -> Option<&Owed> {
        self.list.get(self.come).map(|entry| &entry.owed)
    }

    /// Whether none is owed.
    pub(super) fn are_all_there(&self) -> bool {
        self.come >= self.list.len()
    }

    /// So many commands were made, behind which so many octets had been.
    pub(super) fn lines_made(&mut self, count: usize, mut octets: u64) {
        let end = self.list.len().min(self.made + count);
        for entry in self.list.get_mut(self.made..end).unwrap_or_default() {
            octets += u64::from(entry.owed.octets);
            entry.owed.ends_at = octets;
        }
        self.made = end;
    }

    /// The next thing asked was made to its end, which is here.
    pub(super) fn next_made(&mut self, ends_at: u64) {
        if let Some(entry) = self.list.get_mut(self.made) {
            entry.owed.ends_at = ends_at;
            self.made += 1;
        }
    }

    /// Before what is not made yet something was made that nobody had counted on.
    pub(super) fn insert_made(&mut self, owed: Owed) {
        self.list.insert(self.made, Entry { owed, said: None });
        self.made += 1;
        self.asked += 1;
    }

    /// What was not made will not be, and no reply is owed for it.
    pub(super) fn drop_unmade(&mut self) {
        self.list.truncate(self.made.max(self.come));
    }

    /// The first one owed is one of several: those to these recipients come next.
    pub(super) fn awaited_is_of_many(&mut self, recipients: &[u32]) {
        let Some((&first, others)) = recipients.split_first() else { return };
        let Some(entry) = self.list.get_mut(self.come) else { return };
        (entry.owed.is_of_many, entry.owed.recipient) = (true, first);
        let entry = *entry;
        let behind = self.come + 1;
        let others =
            others.iter().map(|&recipient| Entry { owed: Owed { recipient, ..entry.owed }, ..entry });
        self.list.splice(behind..behind, others);
        self.made += recipients.len() - 1;
        self.asked += u32::try_from(recipients.len() - 1).unwrap_or(u32::MAX);
    }

    /// The first one owed is about this recipient.
    pub(super) fn awaited_is_for(&mut self, recipient: u32) {
        if let Some(entry) = self.list.get_mut(self.come) {
            entry.owed.recipient = recipient;
        }
    }

    /// The first one owed has come, and is nothing to be judged.
    pub(super) fn forget_awaited(&mut self) {
        if self.come < self.list.len() {
            self.list.remove(self.come);
            self.made = self.made.saturating_sub(1).max(self.come);
        }
    }

    /// The first and the last thing that was asked in this flight.
    pub(super) fn ends(&self) -> Option<(&Owed, &Owed)> {
        Some((&self.list.first()?.owed, &self.list.last()?.owed))
    }

    /// Whether there were any, and all have been judged.
    pub(super) fn are_all_judged(&self) -> bool {
        !self.list.is_empty() && self.judged >= self.list.len()
    }

    // ---- come -------------------------------------------------------------

    /// The first one owed has come.
    pub(super) fn came(&mut self, said: Said) {
        if let Some(entry) = self.list.get_mut(self.come) {
            entry.said = Some(said);
            self.come += 1;
        }
    }

    /// All that have come in this flight, those among them that were judged.
    pub(super) fn all_come(&self) -> impl Iterator<Item = (&Owed, &Said)> {
        self.first(self.come)
    }

    /// Those that were judged in this flight.
    pub(super) fn judged(&self) -> impl Iterator<Item = (&Owed, &Said)> {
        self.first(self.judged)
    }

    fn first(&self, count: usize) -> impl Iterator<Item = (&Owed, &Said)> {
        let come = self.list.get(..count).unwrap_or_default();
        come.iter().filter_map(|entry| Some((&entry.owed, entry.said.as_ref()?)))
    }

    /// The first one that has come and was not judged.
    pub(super) fn first_come(&self) -> Option<(&Owed, &Said)> {
        let entry = self.list.get(self.judged).filter(|_| self.judged < self.come)?;
        Some((&entry.owed, entry.said.as_ref()?))
    }

    /// The one behind that, come or owed.
    pub(super) fn second(&self) -> Option<&Owed> {
        self.list.get(self.judged + 1).map(|entry| &entry.owed)
    }

    /// The last one that has come and was not judged.
    pub(super) fn last_come(&self) -> Option<(&Owed, &Said)> {
        let last = self.come.checked_sub(1).filter(|_| self.judged < self.come)?;
        let entry = self.list.get(last)?;
        Some((&entry.owed, entry.said.as_ref()?))
    }

    /// The last one that has come is nothing to be judged.
    pub(super) fn forget_last_come(&mut self) {
        if self.judged < self.come {
            self.come -= 1;
            self.forget_awaited();
        }
    }

    /// The first one that had come has been judged. Gives where its text ended.
    pub(super) fn first_judged(&mut self) -> Option<u32> {
        let text_end = self.first_come()?.1.text_end;
        self.judged += 1;
        Some(text_end)
    }

    /// None that has come and was not judged is taken for an answer: all are owed.
    pub(super) fn take_back(&mut self) {
        self.come = self.judged;
    }
}
