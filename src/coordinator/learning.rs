//! What a lane's flight teaches about its host: told by how it went, and by what
//! was refused in it.

use super::fate::{Blame, is_out_of_sequence};
use super::judge::Judge;
use super::mail::Mail;
use super::manners::{Lesson, Manners, Misstep, Style};
use super::terms::Said;
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

    /// The reply that is judged is as it should be.
    pub(super) fn note_acceptance(&mut self, tag: MailTag, step: Step) {
        let Some(mail) = self.lane.mail(tag).filter(|_| step == Step::Mail) else { return };
        if let Some(manners) = self.desk.manners.get_mut(self.lane.id.host as usize) {
            manners.accepted(mail.said.asked.union(mail.said.unasked));
        }
    }

    /// The reply that is judged is a refusal.
    pub(super) fn note_refusal(&mut self, tag: MailTag, step: Step, blame: Blame) {
        let Some(answer) = self.lane.session.answer() else { return };
        let code = answer.reply.code().as_u16();
        let is_overlapped = step == Step::Mail && self.lane.style == Style::Overlap;
        if answer.is_chunk && matches!(code, 500 | 502) {
            self.learn(Misstep::Chunks);
        } else if blame == Blame::Parameters || self.may_mean_parameters(tag, &answer) {
            self.learn_of_parameters(tag);
        } else if self.breaks_sequence(tag, &answer) {
            self.learn(Misstep::Sequence);
        } else if is_overlapped && code == 421 {
            // Or there are enough mails on this connection; behind a BDAT it is that.
            self.learn(Misstep::Silence { was_begun: true, was_late: false });
        }
    }

    /// Whether it is about what stands ahead in its flight that this was refused.
    fn breaks_sequence(&self, tag: MailTag, answer: &Answer<'_>) -> bool {
        let lane = &*self.lane;
        let Some(mail) = lane.mail(tag) else { return false };
        let is_refused_there = lane.session.is_behind_content() && is_out_of_sequence(answer.reply);
        match answer.step {
            Step::Rset | Step::Mail => is_refused_there,
            Step::Rcpt => is_refused_there && !mail.has_accepted(),
            // Where no recipient was accepted, or a chunk was refused, it is in order.
            Step::Data | Step::Content => {
                let is_lost = answer.reply.code().as_u16() == 503 && mail.decided.is_none();
                is_lost && lane.style.is_full() && !lane.host.is_lmtp
            }
            _ => false,
        }
    }

    /// Some servers say 500 or 503 of a parameter that they do not know. Of those that
    /// were accepted before nobody need think it.
    fn may_mean_parameters(&self, tag: MailTag, answer: &Answer<'_>) -> bool {
        answer.step == Step::Mail && is_out_of_sequence(answer.reply) && !self.suspects(tag).is_empty()
    }

    /// The parameters of the mail's MAIL that were not accepted before.
    fn suspects(&self, tag: MailTag) -> Said {
        let manners = self.desk.manners.get(self.lane.id.host as usize);
        let stands = manners.map_or(ExtensionSet::EMPTY, Manners::stands);
        self.lane.mail(tag).map_or(Said::default(), |mail| mail.said.beyond(stands))
    }

    /// Whether MAIL may well be refused for what the mail cannot leave out: it was said
    /// again without all that it can.
    pub(super) fn is_due_to_own_parameters(&self, tag: MailTag) -> bool {
        let is_plain = self.lane.mail(tag).is_some_and(Mail::is_plain);
        let Some(answer) = self.lane.session.answer().filter(|_| is_plain) else { return false };
        self.may_mean_parameters(tag, &answer) && self.suspects(tag).has_own()
    }

    fn learn_of_parameters(&mut self, tag: MailTag) {
        let host = self.lane.id.host;
        let suspects = self.suspects(tag);
        if let Some(mail) = self.lane.mail_mut(tag) {
            mail.say_plainly();
        }
        // Where the mail has some of its own, too, nobody knows which one it is.
        if suspects.has_own() {
            return;
        }
        let manners = self.desk.manners.get_mut(host as usize);
        let news = manners.map_or(ExtensionSet::EMPTY, |manners| manners.refused(suspects.unasked));
        self.desk.lessons.extend(news.iter().map(|extension| (host, Lesson::Extension(extension))));
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
            // Some say with another 4yz than 421 that they close.
            let is_notice = |reply: &ReplyBuf| reply.code().is_transient();
            if let Failure::Unsolicited(reply) = failure
                && !reply.as_ref().is_some_and(is_notice)
            {
                self.learn_in(self.style(), Misstep::Replies);
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
