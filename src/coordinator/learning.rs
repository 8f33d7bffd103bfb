//! What a lane's flight teaches about its host: told by how it went, and by what
//! was refused in it.

use super::fate::{Blame, is_out_of_sequence};
use super::judge::Judge;
use super::manners::{Lesson, Misstep, Style};
use super::terms::Stated;
use crate::event::Handler;
use crate::failure::Failure;
use crate::reply::ReplyBuf;
use crate::session::{Answer, MailTag, Step};

impl<H: Handler + ?Sized> Judge<'_, H> {
    /// All is judged of a flight.
    pub(super) fn note_manners(&mut self) {
        let session = &self.lane.session;
        let style = self.lane.style;
        if session.is_pipelined()
            && session.is_ready()
            && let Some(manners) = self.desk.manners.get_mut(self.lane.id.host as usize)
        {
            manners.went_well(style);
        }
    }

    /// MAIL, or something else, was accepted.
    pub(super) fn note_acceptance(&mut self, tag: MailTag, step: Step) {
        let Some(mail) = self.lane.mail(tag).filter(|_| step == Step::Mail) else { return };
        if let Some(manners) = self.desk.manners.get_mut(self.lane.id.host as usize) {
            manners.accepted(mail.stated);
        }
    }

    /// The reply that is judged is a refusal. Says whether it is to be charged to the
    /// mail though it blames the session.
    pub(super) fn note_refusal(&mut self, tag: MailTag, step: Step, blame: Blame) -> bool {
        let Some(answer) = self.lane.session.answer() else { return false };
        let code = answer.reply.code().as_u16();
        let is_overlapped = step == Step::Mail && self.lane.style == Style::Overlap;
        // Some servers say 500 or 503 of a parameter that they do not know.
        let suspects = self.suspects(tag).filter(|_| step == Step::Mail);
        let may_mean_them = suspects.is_some() && is_out_of_sequence(answer.reply);
        if answer.is_chunk && matches!(code, 500 | 502) {
            self.learn(Misstep::Chunks);
        } else if blame == Blame::Parameters || may_mean_them {
            return self.learn_of_parameters(tag, suspects.unwrap_or_default());
        } else if self.breaks_sequence(tag, &answer) {
            self.learn(Misstep::Sequence);
        } else if is_overlapped && code == 421 {
            // Or there are enough mails on this connection; behind a BDAT it is that.
            self.learn(Misstep::Silence { was_begun: true, was_late: false });
        }
        false
    }

    /// Whether it is about what stands ahead in its flight that this was refused.
    fn breaks_sequence(&self, tag: MailTag, answer: &Answer<'_>) -> bool {
        let lane = &*self.lane;
        let Some(mail) = lane.mail(tag) else { return false };
        match answer.step {
            Step::Rcpt if mail.has_accepted() => false,
            Step::Rset | Step::Mail | Step::Rcpt => {
                is_out_of_sequence(answer.reply) && lane.session.is_behind_content()
            }
            // Where no recipient was accepted, or a chunk was refused, it is in order.
            Step::Data | Step::Content => {
                let is_lost = answer.reply.code().as_u16() == 503 && mail.decided.is_none();
                is_lost && lane.style.is_full() && !lane.host.is_lmtp
            }
            _ => false,
        }
    }

    /// The parameters of the mail's MAIL that its host has not accepted before, if any.
    fn suspects(&self, tag: MailTag) -> Option<Stated> {
        let manners = self.desk.manners.get(self.lane.id.host as usize)?;
        let suspects = manners.suspects(self.lane.mail(tag)?.stated);
        (!suspects.is_empty()).then_some(suspects)
    }

    /// MAIL was refused for its parameters, or may have been. Says whether only those can
    /// be meant that the mail cannot leave out: it was said with them alone, where others
    /// are accepted.
    fn learn_of_parameters(&mut self, tag: MailTag, suspects: Stated) -> bool {
        let host = self.lane.id.host;
        let Some(mail) = self.lane.mail_mut(tag) else { return false };
        let was_plain = mail.is_plain();
        mail.say_plainly();
        let Some(manners) = self.desk.manners.get_mut(host as usize) else { return false };
        if suspects.has_own() {
            // Nobody knows which one it is.
            return was_plain && manners.takes_mail();
        }
        let news = manners.refused(suspects.unasked);
        self.desk.lessons.extend(news.iter().map(|extension| (host, Lesson::Extension(extension))));
        false
    }

    /// A mail has left the lane; `is_taken` when it needs no RSET.
    pub(super) fn note_fate(&mut self, is_taken: bool) {
        let counts = self.lane.style == Style::Whole && !self.lane.host.is_lmtp && !is_taken;
        self.lane.refusals = self.lane.refusals.saturating_add(u32::from(counts));
    }

    /// The session has failed.
    pub(super) fn note_failure(&mut self, failure: &Failure) {
        let session = &self.lane.session;
        let (was_begun, is_out_of_step) = (session.has_been_answered(), session.is_out_of_step());
        if session.has_failed_behind_pipelined() {
            if let Failure::Unsolicited(reply) = failure
                && !reply.as_ref().is_some_and(is_notice)
            {
                self.learn_in(self.lane.style_before, Misstep::Replies);
            }
            return;
        }
        if !session.is_pipelined() || !session.has_flight_begun() {
            return;
        }
        match failure {
            Failure::Unsolicited(_) | Failure::Unexpected(_) if !is_out_of_step => {}
            Failure::Unsolicited(_) | Failure::Unexpected(_) | Failure::Garbage | Failure::TooLong => {
                self.learn(Misstep::Replies);
            }
            Failure::TimedOut { .. } => self.learn(Misstep::Silence { was_begun, was_late: true }),
            Failure::Closed | Failure::Lost(_) => self.learn(Misstep::Silence { was_begun, was_late: false }),
            _ => {}
        }
    }

    fn learn(&mut self, misstep: Misstep) {
        self.learn_in(self.lane.style, misstep);
    }

    fn learn_in(&mut self, style: Style, misstep: Misstep) {
        let host = self.lane.id.host;
        let manners = self.desk.manners.get_mut(host as usize);
        if let Some(lesson) = manners.and_then(|manners| manners.went_wrong(style, misstep)) {
            self.desk.lessons.push((host, lesson));
        }
    }
}

/// What servers say that are about to close a connection at rest: 421 should be it.
fn is_notice(reply: &ReplyBuf) -> bool {
    reply.code().is_transient() || matches!(reply.code().as_u16(), 221 | 554)
}
