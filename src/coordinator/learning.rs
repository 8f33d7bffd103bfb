//! What a lane's flight teaches about its host: told by how it went, and by what
//! was refused in it.

use super::fate::{Blame, is_out_of_sequence};
use super::judge::Judge;
use super::mail::PutOff;
use super::manners::{Lesson, Misstep, Style};
use super::terms::Stated;
use super::throttle::asks_for_less;
use crate::event::Handler;
use crate::extensions::ExtensionSet;
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

    /// A step was accepted; of MAIL it is noted with which parameters.
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
        let may_mean_parameters = step == Step::Mail && is_out_of_sequence(answer.reply);
        let suspects = self.suspects(tag);
        if answer.is_chunk && matches!(code, 500 | 502) {
            self.learn(Misstep::Chunks);
        } else if blame == Blame::Parameters || (may_mean_parameters && !suspects.is_empty()) {
            self.learn_of_parameters(suspects);
            return self.leaves_out(tag);
        } else if self.breaks_sequence(tag, &answer) {
            self.learn(Misstep::Sequence);
        } else if may_mean_parameters && self.lane.mail(tag).is_some_and(|mail| mail.stated.has_raw) {
            // That others of these are accepted says nothing of this one.
            return self.leaves_out(tag);
        } else if is_overlapped && code == 421 {
            // Or there are enough mails on this connection; behind a BDAT it is that.
            self.learn(Misstep::Silence { was_begun: true, was_late: false });
        }
        false
    }

    /// Whether the host wants to be given less, as the refusal that is judged says.
    pub(super) fn note_put_off(&mut self, tag: MailTag, step: Step, blame: Blame) {
        let is_so = self.lane.session.answer().is_some_and(|answer| asks_for_less(answer.reply));
        let Some(mail) = self.lane.mail_mut(tag).filter(|_| is_so && blame != Blame::TooMany) else { return };
        let is_of_one = step == Step::Rcpt && blame != Blame::Session;
        mail.put_off = mail.put_off.max(if is_of_one { PutOff::Recipient } else { PutOff::Whole });
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

    /// The parameters of the mail's MAIL that its host has not accepted before.
    fn suspects(&self, tag: MailTag) -> Stated {
        let manners = self.desk.manners.get(self.lane.id.host as usize);
        let both = manners.zip(self.lane.mail(tag));
        both.map_or(Stated::default(), |(manners, mail)| manners.suspects(mail.stated))
    }

    /// MAIL was refused for these parameters, or may have been.
    fn learn_of_parameters(&mut self, suspects: Stated) {
        // Where the mail has some of its own, too, nobody knows which one it is.
        let unasked = if suspects.has_own() { ExtensionSet::EMPTY } else { suspects.unasked };
        let host = self.lane.id.host;
        let manners = self.desk.manners.get_mut(host as usize);
        let news = manners.map_or(ExtensionSet::EMPTY, |manners| manners.refused(unasked));
        self.desk.lessons.extend(news.iter().map(|extension| (host, Lesson::Extension(extension))));
    }

    /// MAIL is said again without the parameters that can be left out. Says whether it was
    /// already, so that only those can be meant that cannot, at a host that accepts others.
    fn leaves_out(&mut self, tag: MailTag) -> bool {
        let manners = self.desk.manners.get(self.lane.id.host as usize);
        let Some((mail, manners)) = self.lane.mail_mut(tag).zip(manners) else { return false };
        let was_plain = mail.say_plainly();
        was_plain && mail.stated.has_own() && manners.takes_mail()
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
