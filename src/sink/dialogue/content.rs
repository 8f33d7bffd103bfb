//! The part of the dialogue in which content comes by `DATA`, and in which any content gets its final
//! reply, or replies.

use super::{Dialogue, Next, Phase};
use crate::sink::content::Unstuffer;
use crate::sink::draft::{Draft, Origin, Spoilt};
use crate::sink::fault::Step;
use crate::sink::reply;

impl Dialogue {
    pub(super) fn data(&mut self, out: &mut Vec<u8>) -> Option<Next> {
        let begun = match &mut self.draft {
            None => return self.mistake(out, reply::MAIL_FIRST),
            Some(draft) if !draft.addressed => return self.mistake(out, reply::RCPT_FIRST),
            Some(draft) if draft.recipients() == 0 => {
                self.refuse(out, self.no_recipients());
                return None;
            }
            Some(draft) if draft.has_chunks() => return self.mistake(out, reply::CHUNKS_BEGUN),
            Some(draft) if draft.binary => return self.mistake(out, reply::BDAT_ONLY),
            Some(draft) => draft.begin(self.shared.maildir.as_ref()),
        };
        if let Err(spoilt) = begun {
            self.refuse(out, reply::not_stored(spoilt));
            return None;
        }
        self.unstuffer = Unstuffer::new();
        self.content_begun = !self.shared.faults.borrow().waits_at(Step::Content);
        self.phase = Phase::Content;
        out.extend_from_slice(reply::GO_AHEAD);
        None
    }

    /// The answer to content that nobody is to get.
    pub(super) fn no_recipients(&self) -> &'static [u8] {
        if self.shared.settings.lmtp { reply::NO_RECIPIENTS_OF_LMTP } else { reply::NO_RECIPIENTS }
    }

    pub(super) fn read_content(&mut self, input: &[u8], out: &mut Vec<u8>) -> (usize, Option<Next>) {
        if input.is_empty() {
            return (0, Some(Next::Read));
        }
        if let Some(next) = self.begin_content(out) {
            return (0, Some(next));
        }
        let max_size = self.shared.settings.max_message_size;
        let draft = self.draft.get_or_insert_default();
        let (used, ended) = self.unstuffer.take(&self.shared.finder, input, |piece| {
            draft.take(piece, max_size);
        });
        if ended {
            self.phase = Phase::Finishing;
        }
        (used, None)
    }

    /// Lets faults in the middle of content have their turn, once.
    pub(super) fn begin_content(&mut self, out: &mut Vec<u8>) -> Option<Next> {
        if self.content_begun {
            return None;
        }
        let next = self.act(Step::Content, None, out, |_, _| None);
        self.content_begun = !matches!(next, Some(Next::Pause(_)));
        next
    }

    /// Answers the end of the content; in LMTP for one recipient, and so once for each of them.
    /// `followed` says whether there is more input.
    pub(super) fn finish(&mut self, followed: bool, out: &mut Vec<u8>) -> Option<Next> {
        self.followed = followed;
        self.behind_content = true;
        let spoilt = self.draft.as_ref().and_then(Draft::spoilt);
        if spoilt == Some(Spoilt::Answered) {
            self.end_transaction();
            return None;
        }
        if self.shared.settings.lmtp {
            return self.finish_one(out);
        }
        self.act(Step::Dot, None, out, |this, out| {
            let delivered = this.deliver(out);
            let draft = this.draft.take().filter(|_| delivered);
            this.end_transaction();
            draft.into_iter().for_each(|draft| this.store(draft));
            None
        })
    }

    /// Gives one recipient of LMTP its final reply (RFC 2033 §4.2).
    fn finish_one(&mut self, out: &mut Vec<u8>) -> Option<Next> {
        // Held only where there are faults, or mails are kept.
        let faulty = self.shared.faults.borrow().waits_at(Step::Dot);
        let draft = self.draft.as_ref().filter(|_| faulty);
        let address = draft.and_then(Draft::next_answered).map(str::to_owned);
        let next = self.act(Step::Dot, address.as_deref(), out, |this, out| {
            let delivered = this.deliver(out);
            this.draft.iter_mut().for_each(|draft| draft.answer(delivered));
            None
        });
        let answered = self.draft.as_ref().is_none_or(Draft::is_answered);
        if matches!(next, Some(Next::Pause(_))) || next.is_none() && !answered {
            return next;
        }
        // Who had no reply when the connection ended got no mail.
        let draft = self.draft.take();
        self.end_transaction();
        if let Some(mut draft) = draft.filter(|draft| draft.spoilt().is_none())
            && draft.narrow()
        {
            self.store(draft);
        }
        next
    }

    /// Finishes the file, if there is one, and answers; says whether the mail can be stored.
    fn deliver(&mut self, out: &mut Vec<u8>) -> bool {
        let delivered = self.draft.as_mut().map_or(Ok(()), Draft::deliver);
        match delivered {
            Ok(()) => out.extend_from_slice(reply::STORED),
            Err(spoilt) => self.refuse(out, reply::not_stored(spoilt)),
        }
        delivered.is_ok()
    }

    fn store(&mut self, draft: Draft) {
        self.seen.mails += 1;
        self.seen.recipients += draft.recipients() as u64;
        self.seen.bytes += draft.size();
        let login = self.login.as_deref();
        let origin = Origin { connection: self.connection, tls: self.tls, login, helo: &self.helo };
        draft.into_mail(&origin).into_iter().for_each(|mail| self.shared.ledger.store(mail));
    }

    pub(super) fn end_transaction(&mut self) {
        self.draft = None;
        self.phase = Phase::Command;
    }

    /// How many final replies this mail gets.
    pub(super) fn final_replies(&self) -> usize {
        let recipients = self.draft.as_ref().map_or(0, Draft::recipients);
        if self.shared.settings.lmtp { recipients.max(1) } else { 1 }
    }
}
