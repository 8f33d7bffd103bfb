//! What a reply about one recipient means for it: to RCPT, and in LMTP to the
//! content. What it means for the mail is `judge`'s business.

use super::fate::{Blame, Plan, or_default};
use super::judge::{Judge, default_for};
use super::mail::{Recipient, Scope};
use crate::event::{EventKind, Handler, MessageVerdict, SessionVerdict, Verdict};
use crate::outcome::{Cause, Ended, Ending};
use crate::reply::ReplyBuf;
use crate::session::{MailTag, Step};

impl<H: Handler + ?Sized> Judge<'_, H> {
    /// LMTP: what became of the content for this recipient, while others have replies
    /// of their own (RFC 2033 §4.2).
    pub(super) fn recipient_answered(
        &mut self,
        tag: MailTag,
        recipient: u32,
        blame: Option<Blame>,
    ) -> SessionVerdict {
        let kind = if blame.is_some() { EventKind::Fail } else { EventKind::Pass };
        let verdict = self.consult_about_answer(kind);
        if let Some(blame) = blame {
            self.note_refusal(tag, Step::Content, blame);
            self.set_refused(tag, recipient, Step::Content, blame, verdict);
        } else if let Some(reply) = self.answered() {
            let ended = Ended { ending: Ending::Delivered(reply), step: Some(Step::Content) };
            self.set_recipient(tag, recipient, Recipient::Ended(Box::new(ended)));
        }
        if self.lane.session.has_more_for_mail() {
            self.lane.session.answer_judged();
        } else {
            self.conclude(tag, Step::Content, Plan::EachItsOwn, Verdict::DEFAULT);
        }
        or_default(verdict.session, blame.map_or(SessionVerdict::Default, default_for))
    }

    /// What RCPT was answered when it was decided already what becomes of the mail. The
    /// content may be taken all the same, and then reaches those who were accepted.
    pub(super) fn note_recipient(&mut self, tag: MailTag, recipient: u32, blame: Option<Blame>) {
        let Some(decided) = self.lane.mail_mut(tag).and_then(|mail| mail.decided.as_mut()) else { return };
        match blame {
            None => {
                decided.is_void = false;
                self.set_recipient(tag, recipient, Recipient::Accepted);
            }
            // Behind a refused MAIL it is not about the recipient.
            Some(_) if decided.is_void => {}
            Some(blame) => self.set_refused(tag, recipient, Step::Rcpt, blame, Verdict::DEFAULT),
        }
    }

    /// RCPT was refused; `None` when the transaction goes on.
    pub(super) fn recipient_refused(
        &mut self,
        tag: MailTag,
        recipient: u32,
        blame: Blame,
        verdict: Verdict,
    ) -> Option<Plan> {
        let is_last_asked = !self.lane.session.asks_more_recipients();
        if self.lane.mail(tag)?.message.is_all_or_nothing() {
            return Some(match blame {
                Blame::Mail { for_good: true } => Plan::Refused(Scope::Open),
                _ => Plan::Again { counted: true },
            });
        }
        let is_put_off = verdict.message != MessageVerdict::Drop && !self.must_count(verdict);
        if blame == Blame::TooMany && is_put_off {
            let cause = Cause::TooManyRecipients(self.answered()?);
            self.lane.mail_mut(tag)?.too_many(recipient, &cause, is_last_asked);
        } else {
            self.set_refused(tag, recipient, Step::Rcpt, blame, verdict);
        }
        if !verdict.is_default() {
            return Some(Plan::GivenUp(verdict));
        }
        let mail = self.lane.mail(tag)?;
        let is_over = is_last_asked && !mail.has_accepted() && mail.next_pending().is_none();
        is_over.then_some(Plan::EachItsOwn)
    }

    /// The reply that is judged refuses this recipient, whatever becomes of the others.
    pub(super) fn set_refused(
        &mut self,
        tag: MailTag,
        recipient: u32,
        step: Step,
        blame: Blame,
        verdict: Verdict,
    ) {
        let Some(reply) = self.answered() else { return };
        let ended = |ending| Recipient::Ended(Box::new(Ended { ending, step: Some(step) }));
        let state = match (verdict.message, blame) {
            (MessageVerdict::Drop, _) => ended(Ending::Dropped),
            (MessageVerdict::Default, Blame::Mail { for_good: true }) => ended(Ending::Refused(reply)),
            (_, Blame::Session) if !self.must_count(verdict) => {
                Recipient::Blameless(Box::new(Cause::Reply(reply)))
            }
            _ => Recipient::Deferred(Box::new(Cause::Reply(reply))),
        };
        self.set_recipient(tag, recipient, state);
    }

    fn set_recipient(&mut self, tag: MailTag, recipient: u32, state: Recipient) {
        if let Some(mail) = self.lane.mail_mut(tag) {
            mail.set(recipient, state);
        }
    }

    /// The reply that is judged.
    fn answered(&self) -> Option<ReplyBuf> {
        self.lane.session.answer().map(|answer| answer.reply.to_owned())
    }
}
