//! What the server says: replies are matched with what is owed, in order, and
//! whatever nobody asked for is a failure.

use std::time::{Duration, Instant};

use super::flight::{Step, is_challenge, is_pass};
use super::replies::{Owed, Piece, Said};
use super::{Session, Transaction};
use crate::failure::Failure;
use crate::reply::{self, Found, Reply, ReplyCode};

/// Octets of text that are kept for each reply owed, beyond [`reply::MAX_REPLY`]
/// for one of them: RFC 5321 §4.5.3.1.5 lets a line be so long.
const TEXT_PER_REPLY: usize = 512;

/// Stands for no recipient, where a reply is for all of them.
const NOBODY: u32 = u32::MAX;

impl Session {
    /// The server sent `bytes`.
    pub fn receive(&mut self, bytes: &[u8], now: Instant) {
        let was_sound = self.failure.is_none();
        self.moved_at = Some(now);
        self.heard = Some(now);
        let took = self.began.map_or(Duration::ZERO, |began| now.saturating_duration_since(began));
        let mut rest = bytes;
        while !rest.is_empty() && self.failure.is_none() && !self.spent {
            let Some(owed) = self.replies.awaited().copied() else { return self.unsolicited(rest) };
            let is_unbegun = self.written == self.flight_start && owed.step != Step::Greeting;
            if is_unbegun || self.is_chunk_unbegun() {
                return self.unsolicited(rest);
            }
            if self.reader.is_between_replies() {
                self.has_begun_early = !self.is_awaited_out();
            }
            let fed = self.reader.feed(rest);
            let (taken, left) = rest.split_at_checked(fed.consumed).unwrap_or((rest, &[]));
            self.text.extend_from_slice(taken);
            rest = left;
            match fed.found {
                _ if self.text.len() > self.most_text() => self.fail(Failure::TooLong),
                Found::Partial => {}
                Found::Reply(code) => {
                    self.withhold_secrets(code);
                    let text_end = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
                    self.answered(owed, Said { code, text_end, took }, now);
                }
                Found::Garbage => self.fail(Failure::Garbage),
                Found::TooLong => self.fail(Failure::TooLong),
            }
        }
        // A content that broke off has ended the flight, and there is more.
        let has_broken_off = matches!(self.failure, Some(Failure::Content(_)));
        if was_sound && !self.spent && !rest.is_empty() && has_broken_off {
            self.heard_too_much(rest);
        }
    }

    fn most_text(&self) -> usize {
        let others = (self.replies.asked() as usize).saturating_sub(1);
        reply::MAX_REPLY.saturating_add(others.saturating_mul(TEXT_PER_REPLY))
    }

    fn unsolicited(&mut self, bytes: &[u8]) {
        let shown = Reply::parse_first(bytes).filter(|_| !self.is_concealed(bytes));
        self.fail(Failure::Unsolicited(shown.map(|reply| reply.to_owned())));
        self.heard_too_much(bytes);
    }

    /// The reply that has come last had begun before all was written that it would
    /// answer: it answers nothing.
    fn said_unasked(&mut self) {
        let said = self.text.split_off(self.last_text_at());
        self.unsolicited(&said);
    }

    /// The server has said this, for which nothing was asked. It may say at any time
    /// that it closes (RFC 5321 §3.8), and is believed where nobody's mail depends
    /// on it: by replies that belong to other commands a mail would be lost, or sent
    /// twice.
    fn heard_too_much(&mut self, bytes: &[u8]) {
        if !reply::is_notice_of_close(bytes) || !self.has_only_refused() {
            self.fall_out_of_step();
        }
    }

    /// Whether of each content in the flight, as far as that was answered, nobody
    /// could have been given it: all its recipients were refused, and so was it.
    fn has_only_refused(&self) -> bool {
        self.replies.all_come().filter(|(owed, _)| owed.is_last_of_content()).all(|(content, said)| {
            let mut recipients = self
                .replies
                .all_come()
                .filter(|(owed, _)| owed.step == Step::Rcpt && owed.mail == content.mail)
                .peekable();
            let has_some = recipients.peek().is_some();
            has_some && !said.code.is_completion() && recipients.all(|(_, said)| !said.code.is_completion())
        })
    }

    fn unexpected(&mut self, code: ReplyCode) {
        self.fail(Failure::Unexpected(code));
        self.fall_out_of_step();
    }

    /// There was a reply too many. Where more than one was owed nobody knows
    /// which one, so that none of this flight's is taken for an answer: what they
    /// were for counts as unanswered.
    fn fall_out_of_step(&mut self) {
        if self.replies.asked() > 1 && self.has_flight_begun() {
            self.is_out_of_step = true;
            self.replies.take_back();
        }
    }

    fn answered(&mut self, owed: Owed, said: Said, now: Instant) {
        let code = said.code;
        let refused = code.is_transient() || code.is_permanent();
        let is_early = !self.is_awaited_out();
        let is_content = owed.step == Step::Content;
        // A refusal in the middle of the content is believed; nothing more of
        // it is sent, so the connection is of no further use. That the server
        // closes it may begin to say at any time (RFC 5321 §3.8).
        let is_believed = if is_content { refused } else { code.is_closing() && !is_early };
        if self.has_begun_early && !is_believed {
            let is_odd = is_content || code.is_closing();
            return if is_odd { self.unexpected(code) } else { self.said_unasked() };
        }
        if !refused && !is_pass(owed.step, code) && !is_challenge(owed.step, code) {
            return self.unexpected(code);
        }
        let is_unknown = owed.step == Step::Rset && (500..=504).contains(&code.as_u16());
        if is_unknown && self.is_pipelined() && (self.has_refused_chunk || self.had_refused_chunk) {
            // Every server knows RSET: it reads the chunk as commands, and this is about
            // one of its lines.
            return self.unexpected(code);
        }
        let is_spoilt = owed.step == Step::Content && self.spoilt == Some(owed.mail);
        if is_spoilt && owed.piece == Piece::LastChunk && !refused {
            // It lacks a chunk: nobody knows what was taken.
            return self.unexpected(code);
        }
        if is_early || code.is_closing() {
            self.spend();
        }
        if owed.step == Step::Content && owed.piece == Piece::Chunk && !refused {
            self.replies.forget_awaited();
            self.forget_text();
        } else if matches!(owed.step, Step::Greeting | Step::Ehlo | Step::Helo | Step::StartTls) {
            self.replies.forget_awaited();
            return self.opening_answered(owed.step, code, now);
        } else {
            let is_of_many = self.name_recipient(owed, is_early);
            self.replies.came(said);
            if owed.step == Step::Auth && !self.auth_answered(code, now) {
                return self.replies.forget_last_come();
            }
            self.note(Owed { is_of_many, ..owed }, code, refused);
        }
        self.waiting_since = Some(now);
        self.fail_if_broken();
    }

    /// How far the server is now with its transaction.
    fn note(&mut self, owed: Owed, code: ReplyCode, refused: bool) {
        match owed.step {
            Step::Mail => {
                self.transaction = Transaction::Begun;
                self.accepted.clear();
            }
            Step::Rcpt if !refused && self.is_lmtp => self.accepted.push(owed.recipient),
            Step::Rset if !refused => self.transaction = Transaction::None,
            Step::Data if !refused => self.transaction = Transaction::Content,
            Step::Data => self.opened = None,
            Step::Content if owed.piece != Piece::Whole && refused => self.chunk_refused(owed, code),
            Step::Content if !self.spent || code.is_closing() => self.transaction = Transaction::None,
            _ => {}
        }
    }

    /// A chunk was refused. Where it was not the last one nothing more is sent, and
    /// the connection is given up when what was sent is answered: servers are known
    /// that read what is left of a chunk as commands.
    fn chunk_refused(&mut self, owed: Owed, code: ReplyCode) {
        // Behind a refused MAIL it is a matter of course.
        let is_its_mail = |other: &Owed| other.step == Step::Mail && other.mail == owed.mail;
        let its_mail = self.replies.all_come().find(|(other, _)| is_its_mail(other));
        self.has_refused_chunk |= its_mail.is_none_or(|(_, said)| said.code.is_completion());
        // So does one that does not know BDAT, or not here.
        if matches!(code.as_u16(), 500 | 502) {
            self.fail_at(Step::Content, Failure::Unexpected(code));
            self.failed_mail = owed.mail;
            return;
        }
        self.transaction = if owed.is_of_many { Transaction::None } else { Transaction::Begun };
        if owed.piece == Piece::Chunk {
            self.spoilt = Some(owed.mail);
            // There is no transaction any more, and so one reply to what is left.
            self.accepted.clear();
            self.is_worn = true;
            self.drop_unmade();
        }
    }

    /// The reply that was owed first has come: whom it is about. In LMTP a content
    /// owes one for each recipient that was accepted, which is known by now (RFC
    /// 2033 §4.2); gives whether it is one of those. One that comes before the
    /// content was out is for all of them.
    fn name_recipient(&mut self, owed: Owed, is_early: bool) -> bool {
        if owed.is_of_many || !owed.is_last_of_content() {
            return owed.is_of_many;
        }
        let is_for_each = self.is_lmtp && !is_early && !self.accepted.is_empty();
        if is_for_each {
            self.replies.awaited_is_of_many(&self.accepted);
            self.accepted.clear();
        } else {
            self.replies.awaited_is_for(NOBODY);
        }
        is_for_each
    }

    /// The connection is of no further use, and nothing that is owed will come.
    fn spend(&mut self) {
        self.spent = true;
        self.parts.clear();
    }

    /// What a chunk's acceptance says is of no interest.
    fn forget_text(&mut self) {
        self.text.truncate(self.last_text_at());
    }

    /// Where the text begins of the reply that is read, or has come last and is not
    /// counted yet.
    fn last_text_at(&self) -> usize {
        let before = self.replies.last_come().map_or(self.text_judged, |(_, said)| said.text_end as usize);
        before.min(self.text.len())
    }
}
