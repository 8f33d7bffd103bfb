//! What a lane's flight teaches about its host: told by how it went, and by what
//! was refused in it.

use super::fate::Blame;
use super::judge::Judge;
use super::mail::Mail;
use super::manners::{Lesson, Misstep, Style};
use crate::event::Handler;
use crate::extensions::ExtensionSet;
use crate::failure::Failure;
use crate::session::{MailTag, Step};

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

    /// The reply that is judged is a refusal.
    pub(super) fn note_refusal(&mut self, tag: MailTag, step: Step, blame: Blame) {
        let Some(answer) = self.lane.session.answer() else { return };
        let code = answer.reply.code().as_u16();
        let style = self.lane.style;
        let is_behind_content = match step {
            // No other MAIL is sent in that style.
            Step::Mail if style == Style::Overlap => true,
            // Behind one that was refused, that may be why.
            Step::Rset | Step::Mail | Step::Rcpt => self.lane.session.is_behind_taken_content(),
            _ => false,
        };
        let is_out_of_sequence = match step {
            // The others are about an address that it does not know how to read.
            Step::Rcpt => code == 503,
            _ => matches!(code, 500 | 502 | 503),
        };
        // 503 to BDAT is in order where no recipient was accepted; behind one that was, the
        // server has lost the transaction.
        let has_accepted = self.lane.mail(tag).is_some_and(Mail::has_accepted);
        let has_lost_transaction =
            answer.is_chunk && code == 503 && !answer.is_of_many && style == Style::Whole && has_accepted;
        if answer.is_chunk && matches!(code, 500 | 502) {
            self.learn(Misstep::Chunks);
        } else if is_behind_content && is_out_of_sequence || has_lost_transaction {
            self.learn(Misstep::Sequence);
        } else if step == Step::Mail && style == Style::Overlap && code == 421 {
            // Or there are enough mails on this connection; behind a BDAT it is that.
            self.learn(Misstep::Silence { was_begun: true, was_late: false });
        } else if blame == Blame::Parameters || (step == Step::Mail && matches!(code, 500 | 502 | 503)) {
            // Some servers say 500 or 503 of a parameter that they do not know.
            let host = self.lane.id.host;
            let offered = self.lane.session.extensions().set();
            let Some(mail) = self.lane.mail_mut(tag) else { return };
            // Where the mail has some of its own, too, nobody knows which one it is.
            let own = mail.message.envelope().mail_parameters();
            let has_own = own.is_some_and(|own| own.are_said(offered));
            mail.plain_at = has_own.then_some(host).or(mail.plain_at);
            let unasked = if has_own { ExtensionSet::EMPTY } else { mail.unasked };
            let manners = self.desk.manners.get_mut(host as usize);
            let news = manners.map_or(ExtensionSet::EMPTY, |manners| manners.refused(unasked));
            self.desk.lessons.extend(news.iter().map(|extension| (host, Lesson::Extension(extension))));
        }
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
        if !session.is_pipelined() || !session.has_flight_begun() {
            return;
        }
        match failure {
            Failure::Unsolicited(_) if !is_out_of_step => {}
            Failure::Unsolicited(_) | Failure::Unexpected(_) | Failure::Garbage | Failure::TooLong => {
                self.learn(Misstep::Replies);
            }
            Failure::TimedOut { .. } => self.learn(Misstep::Silence { was_begun, was_late: true }),
            Failure::Closed | Failure::Lost(_) => self.learn(Misstep::Silence { was_begun, was_late: false }),
            _ => {}
        }
    }

    fn learn(&mut self, misstep: Misstep) {
        let (host, style) = (self.lane.id.host, self.lane.style);
        let manners = self.desk.manners.get_mut(host as usize);
        if let Some(lesson) = manners.and_then(|manners| manners.went_wrong(style, misstep)) {
            self.desk.lessons.push((host, lesson));
        }
    }
}
