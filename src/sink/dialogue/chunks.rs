//! The part of the dialogue in which content comes by `BDAT` (RFC 3030).
//!
//! Whatever becomes of a chunk, its octets are read as octets: they must never be taken for
//! commands, unless a fault says so.

use super::{Dialogue, Next, Phase};
use crate::sink::draft::{Draft, Spoilt};
use crate::sink::fault::Step;
use crate::sink::reply;
use crate::sink::syntax::chunk;

/// One `BDAT` whose octets are being read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Chunk {
    /// The octets that have not come yet.
    left: u64,
    /// `LAST` was there.
    pub(super) last: bool,
    fate: Fate,
}

/// What becomes of the octets of a chunk, and what its reply is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fate {
    #[default]
    Keep,
    /// They are dropped, and then answered with this.
    Refuse(&'static [u8]),
    /// The same, for a mistake of the client.
    Blame(&'static [u8]),
    /// They are dropped, and the reply has been given.
    Answered,
}

impl Dialogue {
    pub(super) fn bdat(&mut self, arguments: &[u8], out: &mut Vec<u8>) -> Option<Next> {
        let Some((left, last)) = chunk(arguments) else {
            return self.mistake(out, reply::BAD_CHUNK);
        };
        self.chunk = Chunk { left, last, fate: Fate::Keep };
        self.act(Step::Bdat, None, out, |this, _| {
            this.chunk.fate = this.begin_chunk();
            this.phase = Phase::Chunk;
            None
        })
    }

    fn begin_chunk(&mut self) -> Fate {
        let no_recipients = self.no_recipients();
        let draft = match &mut self.draft {
            None => return Fate::Blame(reply::MAIL_FIRST),
            Some(draft) if !draft.addressed => return Fate::Blame(reply::RCPT_FIRST),
            Some(draft) if draft.recipients() == 0 => return Fate::Refuse(no_recipients),
            // A client that pipelines could not know.
            Some(draft) if draft.spoilt().is_some() => return Fate::Refuse(reply::CHUNK_BEFORE_REFUSED),
            Some(draft) => draft,
        };
        if draft.chunks == 0 {
            self.content_begun = !self.shared.faults.borrow().waits_at(Step::Content);
            if let Err(spoilt) = draft.begin(self.shared.maildir.as_ref()) {
                draft.spoil(spoilt);
                return Fate::Refuse(reply::not_stored(spoilt));
            }
        }
        draft.chunks = draft.chunks.saturating_add(1);
        Fate::Keep
    }

    /// Has the octets of a chunk dropped that was answered before they were read.
    pub(super) fn drop_chunk(&mut self) {
        if let Some(draft) = self.draft.as_mut().filter(|draft| draft.recipients() > 0) {
            draft.spoil(Spoilt::Answered);
        }
        self.chunk.fate = Fate::Answered;
        self.phase = Phase::Chunk;
    }

    pub(super) fn read_chunk(&mut self, input: &[u8], out: &mut Vec<u8>) -> (usize, Option<Next>) {
        if self.chunk.left == 0 {
            return (0, self.answer_chunk(!input.is_empty(), out));
        }
        if input.is_empty() {
            return (0, Some(Next::Read));
        }
        if self.chunk.fate == Fate::Keep
            && let Some(next) = self.begin_content(out)
        {
            return (0, Some(next));
        }
        let most = usize::try_from(self.chunk.left).unwrap_or(usize::MAX);
        let octets = input.get(..most).unwrap_or(input);
        self.chunk.left = self.chunk.left.saturating_sub(octets.len() as u64);
        if let Some(draft) = self.draft.as_mut().filter(|_| self.chunk.fate == Fate::Keep) {
            draft.take(octets, self.shared.settings.max_message_size);
        }
        (octets.len(), None)
    }

    /// Answers a chunk whose octets were read; the last one gets its final reply elsewhere.
    fn answer_chunk(&mut self, followed: bool, out: &mut Vec<u8>) -> Option<Next> {
        self.followed = followed;
        self.behind_content = true;
        let spoilt = self.draft.as_ref().and_then(Draft::spoilt);
        match self.chunk.fate {
            Fate::Keep if self.chunk.last => {
                self.phase = Phase::Finishing;
                None
            }
            Fate::Keep if spoilt == Some(Spoilt::Answered) => {
                self.end_chunk();
                None
            }
            Fate::Keep => self.act(Step::Chunk, None, out, |this, out| {
                match spoilt {
                    None => out.extend_from_slice(reply::CHUNK_OK),
                    Some(spoilt) => this.refuse(out, reply::not_stored(spoilt)),
                }
                this.end_chunk();
                None
            }),
            Fate::Refuse(refusal) => {
                let times = if self.chunk.last { self.final_replies() } else { 1 };
                (0..times).for_each(|_| self.refuse(out, refusal));
                self.end_chunk();
                None
            }
            Fate::Blame(complaint) => {
                self.end_chunk();
                self.mistake(out, complaint)
            }
            Fate::Answered => {
                self.end_chunk();
                None
            }
        }
    }

    /// Goes back to commands. A last chunk ends its transaction, as the final dot does, unless there
    /// was no recipient to send it to.
    pub(super) fn end_chunk(&mut self) {
        let had_recipients = self.draft.as_ref().is_some_and(|draft| draft.recipients() > 0);
        self.phase = Phase::Command;
        if self.chunk.last && had_recipients {
            self.end_transaction();
        }
    }
}
