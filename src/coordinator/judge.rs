//! Judges one lane: reads what its session was answered, asks the handler,
//! and carries the verdict out on session and messages. It waits for nothing;
//! what is said next is put together in `compose`, and sent by whoever moves
//! bytes.
//!
//! A flight may hold several replies, of several mails. They are judged in their
//! order, each mail is concluded at the last of its replies, and what was decided
//! about the session is carried out when all are judged.

use std::time::Duration;
use std::time::Instant;

use super::desk::Desk;
use super::fate::{Blame, Plan, fate, gravest, or_default};
use super::lane::{Bench, Lane, Link, Part, Standing};
use super::mail::{Course, Decided, Recipient, Scope};
use crate::event::{Event, EventKind, Evidence, Handler, SessionVerdict, Verdict, consult};
use crate::failure::Failure;
use crate::host::Pipeline;
use crate::outcome::ClientReason;
use crate::reopening::{Setback, Setbacks};
use crate::session::{MailTag, Step};
use crate::timeouts::{SHORTAGE_WAIT, after};

/// One lane and what is needed to judge it.
pub(super) struct Judge<'a, H: ?Sized> {
    pub(super) lane: &'a mut Lane,
    pub(super) desk: &'a mut Desk,
    pub(super) handler: &'a mut H,
    pub(super) now: Instant,
}

impl<H: Handler + ?Sized> Judge<'_, H> {
    /// Judges whatever there is, and goes on with what comes next.
    pub(super) fn judge(&mut self) {
        self.tell_step();
        if std::mem::take(&mut self.lane.is_postponed) {
            // When it is to be tried again is known.
            return;
        }
        if let Some(failure) = self.lane.dial_failure.take() {
            return self.opening_failed(Step::Connect, &failure);
        }
        if self.lane.link != Link::Up {
            return;
        }
        if self.lane.is_leaving() {
            return self.lane.disconnect();
        }
        if self.lane.standing == Standing::Opening {
            return self.judge_opening();
        }
        let said = self.judge_answers();
        let (said, setback) = self.judge_failure(said);
        self.note_manners();
        self.carry_out(said, setback);
    }

    /// Judges the answers that there are; gives what they mean for the session.
    pub(super) fn judge_answers(&mut self) -> SessionVerdict {
        let mut said = SessionVerdict::Default;
        while self.lane.session.has_answer() {
            said = gravest(said, self.judge_answer());
        }
        said
    }

    /// Closes the connection at once. What was answered is judged, mails in
    /// doubt are reported so, and the rest put back.
    pub(super) fn cut_off(&mut self) {
        self.tell_given_up();
        if self.lane.link == Link::Up && self.lane.standing != Standing::Opening {
            self.judge_answers();
        }
        if self.lane.session.has_doubt() {
            self.lane.session.lost(Failure::Closed);
        }
        self.release(true);
        self.lane.disconnect();
        self.lane.retire(self.now);
    }

    /// Takes all mails from the lane, whose connection is given up: those that
    /// were decided on are concluded, those in doubt are, and the rest is put back
    /// without an attempt.
    pub(super) fn release(&mut self, quietly: bool) {
        while let Some(tag) = self.lane.mails.front().map(|mail| mail.tag) {
            if self.is_doubtful(tag) {
                self.conclude(tag, Step::Content, Plan::InDoubt, Verdict::DEFAULT);
            } else if self.lane.mails.front().is_some_and(|mail| mail.decided.is_some()) {
                self.conclude_decided(tag);
            } else if let Some(mail) = self.lane.mails.pop_front() {
                self.note_parting(&mail, None);
                if quietly { self.desk.keep(mail) } else { self.desk.put_back(mail) }
            }
        }
        self.lane.part = Part::None;
    }

    // ---- answers ----------------------------------------------------------

    fn judge_answer(&mut self) -> SessionVerdict {
        let session = &self.lane.session;
        let Some(answer) = session.answer() else { return SessionVerdict::Default };
        let (step, tag, recipient) = (answer.step, answer.mail, answer.recipient);
        let Some(mail) = self.lane.mail(tag) else {
            self.answered_without_mail();
            return SessionVerdict::Default;
        };
        let blame = Blame::of(&answer, mail);
        let is_decided = mail.decided.is_some();
        let is_void = mail.decided.as_ref().is_some_and(|decided| decided.is_void);
        let is_of_many = answer.is_of_many;
        match blame {
            blame if is_of_many => self.recipient_answered(tag, recipient, blame),
            None if step == Step::Content && !is_void => self.content_passed(tag),
            _ if is_decided => self.consequence(tag, step, recipient, blame),
            None if step == Step::Rset => self.next_answer(),
            None => self.passed(tag, step, recipient),
            Some(blame) => self.refused(tag, step, recipient, blame),
        }
    }

    fn next_answer(&mut self) -> SessionVerdict {
        self.lane.session.answer_judged();
        SessionVerdict::Default
    }

    fn passed(&mut self, tag: MailTag, step: Step, recipient: u32) -> SessionVerdict {
        let verdict = self.consult_about_answer(EventKind::Pass);
        self.note_acceptance(tag, step);
        if let Some(mail) = self.lane.mail_mut(tag) {
            match step {
                Step::Rcpt => mail.set(recipient, Recipient::Accepted),
                Step::Data => mail.course = Course::AtContent,
                _ => {}
            }
        }
        if verdict.is_default() {
            return self.next_answer();
        }
        self.decide(tag, step, Plan::GivenUp(verdict), verdict);
        verdict.session
    }

    /// The content was taken, for all who were accepted.
    fn content_passed(&mut self, tag: MailTag) -> SessionVerdict {
        let verdict = self.consult_about_answer(EventKind::Pass);
        self.conclude(tag, Step::Content, Plan::Delivered, verdict);
        verdict.session
    }

    /// What comes of a refusal that was judged already, in the same flight.
    fn consequence(
        &mut self,
        tag: MailTag,
        step: Step,
        recipient: u32,
        blame: Option<Blame>,
    ) -> SessionVerdict {
        match (step, blame) {
            (Step::Rcpt, blame) => self.note_recipient(tag, recipient, blame),
            (Step::Content, Some(blame)) => {
                self.note_refusal(tag, step, blame);
                self.void(tag, true);
            }
            (Step::Mail, blame) => self.void(tag, blame.is_some()),
            _ => {}
        }
        let mail = self.lane.mail(tag).and_then(|mail| Some((mail, mail.decided.as_ref()?)));
        let is_void = mail.is_some_and(|(mail, decided)| decided.is_void || !mail.has_accepted());
        // A 354 without a recipient is answered by a lone dot; behind one that was
        // accepted only closing gives the mail up.
        let is_smtp = !self.lane.host.is_lmtp;
        self.lane.owes_dot |= step == Step::Data && blame.is_none() && is_void && is_smtp;
        if self.lane.session.has_more_for_mail() {
            self.lane.session.answer_judged();
        } else {
            self.conclude_decided(tag);
            self.lane.session.answer_judged();
        }
        SessionVerdict::Default
    }

    /// A refused MAIL leaves nothing to which a content could belong, and one chunk
    /// that was refused no content.
    fn void(&mut self, tag: MailTag, is_void: bool) {
        if let Some(decided) = self.lane.mail_mut(tag).and_then(|mail| mail.decided.as_mut()) {
            decided.is_void |= is_void;
        }
    }

    fn refused(&mut self, tag: MailTag, step: Step, recipient: u32, blame: Blame) -> SessionVerdict {
        let verdict = self.consult_about_answer(EventKind::Fail);
        let is_its_own_affair = self.note_refusal(tag, step, blame);
        self.note_put_off(tag, step, blame);
        if step == Step::Rcpt && blame == Blame::Session {
            self.set_refused(tag, recipient, step, blame, verdict);
        }
        let plan = if step == Step::Rcpt && blame != Blame::Session {
            match self.recipient_refused(tag, recipient, blame, verdict) {
                Some(plan) => plan,
                None => return self.next_answer(),
            }
        } else {
            match blame {
                Blame::Session => Plan::Again { counted: is_its_own_affair },
                Blame::Parameters => Plan::Again { counted: false },
                // Those who were left for another transaction would fare no better.
                Blame::Mail { for_good: true } if step == Step::Mail => Plan::Refused(Scope::Open),
                Blame::Mail { for_good: true } => Plan::Refused(Scope::Transaction),
                Blame::Mail { for_good: false } | Blame::TooMany => Plan::Again { counted: true },
            }
        };
        self.decide(tag, step, plan, verdict);
        or_default(verdict.session, default_for(blame))
    }

    // ---- failures ---------------------------------------------------------

    /// What it means that the session has failed, if it has. The mail at which it did has its event; each that
    /// is in doubt is concluded, and the others behind it go back without an
    /// attempt.
    fn judge_failure(&mut self, said: SessionVerdict) -> (SessionVerdict, Setback) {
        let session = &self.lane.session;
        let Some(failure) = session.failure().cloned() else { return (said, Setback::Other) };
        let (step, tag) = (self.lane.session.step(), self.lane.session.mail());
        let holds_culprit = self.lane.mail(tag).is_some();
        self.note_failure(&failure);
        if said != SessionVerdict::Default && !holds_culprit {
            return (said, Setback::Other);
        }
        if let (Failure::Content(error), true) = (&failure, holds_culprit) {
            let reason = ClientReason::Content(error.clone());
            return (gravest(said, self.refused_by_client(tag, Step::Content, reason)), Setback::Other);
        }
        let verdict = self.consult_about_failure(tag, step, &failure);
        if holds_culprit && !self.is_untouched(tag, step) {
            self.note_lane_failure(&failure, false);
        }
        if holds_culprit && !self.is_doubtful(tag) {
            let plan = Plan::Again { counted: !self.is_untouched(tag, step) };
            if self.lane.mail(tag).is_some_and(|mail| mail.decided.is_none()) {
                self.conclude(tag, step, plan, verdict);
            }
        }
        let setback = match failure {
            Failure::StoodStill { .. } => Setback::GlobalHang,
            _ => Setback::Hang,
        };
        (gravest(said, or_default(verdict.session, SessionVerdict::ReconnectAtBatchEnd)), setback)
    }

    /// Whether the failure came before anything of the mail's was said in its
    /// step: RSET is about the mail before it, and at a 354 the client itself may
    /// have let the server wait for others.
    fn is_untouched(&self, tag: MailTag, step: Step) -> bool {
        let session = &self.lane.session;
        let waited = self.lane.host.pipeline == Pipeline::Full;
        match step {
            Step::Rset => true,
            Step::Mail => !session.has_flight_begun() || session.is_unsaid(tag),
            Step::Content => !session.has_flight_begun() && waited,
            _ => false,
        }
    }

    /// Whether the server may have taken the mail.
    fn is_doubtful(&self, tag: MailTag) -> bool {
        let Some(mail) = self.lane.mail(tag) else { return false };
        let is_void = mail.decided.as_ref().is_some_and(|decided| decided.is_void);
        self.lane.session.is_in_doubt(tag) && !is_void && mail.is_reached()
    }

    /// The mail cannot be sent, and that is not the server's fault.
    pub(super) fn refused_by_client(
        &mut self,
        tag: MailTag,
        step: Step,
        reason: ClientReason,
    ) -> SessionVerdict {
        let elapsed = self.step_took();
        let verdict =
            self.consult(EventKind::Fail, tag, step, None, Some(Evidence::Client(&reason)), elapsed);
        let plan = Plan::RefusedByClient(reason);
        // Its descriptor is what the others' contents are short of.
        self.lane.is_short |= plan.is_shortage() && verdict.session == SessionVerdict::Default;
        self.conclude(tag, step, plan, verdict);
        verdict.session
    }

    // ---- what becomes of the messages -------------------------------------

    /// Decides on a mail by the reply that is judged. It is concluded when no
    /// further reply of its transaction is to come in this flight.
    fn decide(&mut self, tag: MailTag, step: Step, plan: Plan, verdict: Verdict) {
        let session = &mut self.lane.session;
        if !session.has_more_for_mail() {
            return self.conclude(tag, step, plan, verdict);
        }
        let reply = session.answer().map(|answer| answer.reply.to_owned());
        session.answer_judged();
        // What was refused by one of its chunks is refused as a whole. What a verdict
        // gives up the server may take all the same.
        let is_refused = !matches!(plan, Plan::GivenUp(_));
        let is_void =
            is_refused && matches!(step, Step::Mail | Step::Content) || matches!(plan, Plan::EachItsOwn);
        if let Some(mail) = self.lane.mail_mut(tag) {
            mail.decided = Some(Box::new(Decided { plan, verdict, step, reply, is_void }));
        }
    }

    fn conclude_decided(&mut self, tag: MailTag) {
        let Some(mut mail) = self.lane.take_mail(tag) else { return };
        let code = mail.decided.as_ref().and_then(|decided| Some(decided.reply.as_ref()?.code()));
        self.note_parting(&mail, code);
        let Some(decided) = mail.decided.take() else { return self.desk.put_back(mail) };
        let Decided { plan, verdict, step, reply, .. } = *decided;
        let must_count = self.must_count(verdict);
        mail.last_step = Some(step);
        self.note_fate(false);
        let fate = fate(&plan, verdict, reply.as_ref().map(|reply| reply.as_reply()), None, must_count);
        if self.desk.conclude(mail, fate, &mut *self.handler) {
            self.lane.setbacks = Setbacks::default();
        }
    }

    /// Ends the attempt at a mail, by the reply that is judged or the failure.
    pub(super) fn conclude(&mut self, tag: MailTag, step: Step, plan: Plan, verdict: Verdict) {
        let must_count = self.must_count(verdict);
        let Some(mut mail) = self.lane.take_mail(tag) else { return };
        mail.last_step = Some(step);
        let is_taken = matches!(plan, Plan::Delivered | Plan::RefusedByClient(_) | Plan::InDoubt);
        self.note_fate(is_taken);
        self.note_parting(&mail, self.lane.session.answer().map(|answer| answer.reply.code()));
        let reply = self.lane.session.answer().map(|answer| answer.reply);
        let failure = self.lane.session.failure();
        let fate = fate(&plan, verdict, reply, failure, must_count);
        if self.desk.conclude(mail, fate, &mut *self.handler) {
            self.lane.setbacks = Setbacks::default();
        }
        self.lane.session.answer_judged();
    }

    /// A lane that only sits out is not opened anew, so that nothing else bounds
    /// how often the mail comes back.
    pub(super) fn must_count(&self, verdict: Verdict) -> bool {
        match verdict.session {
            SessionVerdict::Bench => true,
            SessionVerdict::RestartAtBatchEnd => !self.desk.may_restart(),
            _ => false,
        }
    }

    // ---- what becomes of the session --------------------------------------

    /// Carries out what was decided on the session, when all replies of its flight
    /// are judged, and goes on with the mails where nothing speaks against it.
    pub(super) fn carry_out(&mut self, mut said: SessionVerdict, setback: Setback) {
        let is_short = loop {
            let is_short = std::mem::take(&mut self.lane.is_short);
            let is_fit = self.lane.session.is_usable() || self.is_at_content_of_its_own();
            if said != SessionVerdict::Default || !is_fit || is_short {
                break is_short;
            }
            let is_done = self.lane.mails.is_empty() && !self.lane.owes_dot;
            let is_at_its_end = self.lane.is_used_up() || self.lane.is_aged(self.now);
            let is_to_be_replaced = self.lane.is_worn() || (is_done && is_at_its_end);
            // One that sits out, and was only answered its NOOP, is looked after when it comes
            // back.
            if is_to_be_replaced && self.lane.standing == Standing::Active {
                // Planned, and not held against the lane.
                self.release(false);
                return self.lane.reopen(self.now, self.now);
            }
            let Some(unfit) = self.speak() else { return };
            said = self.refused_by_client(unfit.tag, unfit.step, unfit.reason);
        };
        if self.lane.session.has_doubt() {
            // What it has said that it will not answer.
            self.lane.session.lost(Failure::Closed);
        }
        self.release(false);
        self.lane.forget_style();
        if is_short && said == SessionVerdict::Default {
            return self.lane.reopen(self.now + SHORTAGE_WAIT, self.now);
        }
        self.act(said, setback);
    }

    /// Whether the content that the server waits for is there to be sent.
    fn is_at_content_of_its_own(&self) -> bool {
        let is_front = self.lane.mails.front().is_some_and(|mail| mail.course == Course::AtContent);
        self.lane.session.is_at_content() && (is_front || self.lane.owes_dot)
    }

    /// Carries out a session verdict; no mail is in hand.
    pub(super) fn act(&mut self, verdict: SessionVerdict, setback: Setback) {
        self.obey(verdict, setback);
        if self.lane.standing == Standing::Active && self.lane.is_used_up() {
            self.lane.reopen(self.now, self.now);
        }
    }

    fn obey(&mut self, verdict: SessionVerdict, setback: Setback) {
        use SessionVerdict as V;
        let usable = self.lane.session.is_usable();
        let verdict = match verdict {
            V::RestartNow if !self.desk.may_restart() => V::ReconnectAtBatchEnd,
            V::RestartAtBatchEnd if !self.desk.may_restart() => V::Bench,
            verdict => verdict,
        };
        match verdict {
            V::Default | V::Bench if !usable => self.reconnect_at_batch_end(setback),
            V::Default => {}
            V::Bench if self.desk.batch_running => self.lane.sit_out(Bench::Rejoin, self.now),
            V::Bench => {}
            V::Retire => self.lane.retire(self.now),
            V::ReconnectAtBatchEnd => self.reconnect_at_batch_end(setback),
            V::ReconnectNow => {
                if let Some(wait) = self.set_back(setback) {
                    self.lane.reopen(after(self.now, wait), self.now);
                }
            }
            V::RestartAtBatchEnd | V::RestartNow => {
                self.desk.ask_for_restart(verdict == V::RestartNow);
                if setback == Setback::Opening {
                    let jitter = self.desk.random.f64();
                    self.lane.renew_wait =
                        self.lane.setbacks.next_wait(setback, self.lane.host.reopening(), jitter);
                }
                self.lane.sit_out(Bench::Rejoin, self.now);
            }
        }
    }

    /// Carries out of a verdict what is about other lanes, too; its own is given up
    /// anyway.
    pub(super) fn act_on_others(&mut self, verdict: SessionVerdict) {
        use SessionVerdict as V;
        if matches!(verdict, V::RestartAtBatchEnd | V::RestartNow) && self.desk.may_restart() {
            self.desk.ask_for_restart(verdict == V::RestartNow);
        }
    }

    pub(super) fn reconnect_at_batch_end(&mut self, setback: Setback) {
        let Some(wait) = self.set_back(setback) else { return };
        if self.desk.batch_running {
            self.lane.sit_out(Bench::Reopen(wait), self.now);
        } else {
            self.lane.reopen(after(self.now, wait), self.now);
        }
    }

    /// One more opening is needed in a row: how long to wait before it, or
    /// `None` when it was one too many and the lane is retired.
    fn set_back(&mut self, setback: Setback) -> Option<Duration> {
        let lane = &mut *self.lane;
        if std::mem::take(&mut lane.has_kept_quiet) && setback != Setback::Opening {
            // It ended at rest, and no sooner than NOOP is said.
            return Some(lane.host.reopening().least_wait(setback));
        }
        let jitter = self.desk.random.f64();
        let wait = lane.setbacks.add(setback, lane.host.reopening(), jitter, self.now);
        if wait.is_none() {
            lane.retire(self.now);
        }
        wait
    }

    // ---- asking the handler -----------------------------------------------

    pub(super) fn step_took(&self) -> Duration {
        self.lane.session.began().map_or(Duration::ZERO, |began| self.now.saturating_duration_since(began))
    }

    pub(super) fn consult_about_answer(&mut self, kind: EventKind) -> Verdict {
        if !self.is_wanted(kind) {
            return Verdict::DEFAULT;
        }
        let Some(answer) = self.lane.session.answer() else { return Verdict::DEFAULT };
        // In LMTP a chunk is refused for all.
        let is_of_one = answer.step == Step::Rcpt || answer.is_of_many;
        let recipient = is_of_one.then_some(answer.recipient);
        let (tag, step, took) = (answer.mail, answer.step, self.lane.session.answer_took());
        self.tell(kind, tag, step, recipient, None, took)
    }

    fn consult_about_failure(&mut self, tag: MailTag, step: Step, failure: &Failure) -> Verdict {
        if let Failure::StoodStill { .. } = failure {
            return self.desk.said_of_standstill;
        }
        let (elapsed, recipient) = (self.step_took(), self.lane.session.recipient());
        self.consult(EventKind::Hang, tag, step, recipient, Some(Evidence::Failure(failure)), elapsed)
    }

    fn is_wanted(&mut self, kind: EventKind) -> bool {
        let handler = &*self.handler;
        self.desk.guard(|| handler.wants(kind)).unwrap_or_default()
    }

    /// Asks the handler; without `evidence` it is about the session's answer.
    /// Where it panics, the default holds.
    pub(super) fn consult(
        &mut self,
        kind: EventKind,
        tag: MailTag,
        step: Step,
        recipient: Option<u32>,
        evidence: Option<Evidence<'_>>,
        elapsed: Duration,
    ) -> Verdict {
        if self.is_wanted(kind) {
            self.tell(kind, tag, step, recipient, evidence, elapsed)
        } else {
            Verdict::DEFAULT
        }
    }

    fn tell(
        &mut self,
        kind: EventKind,
        tag: MailTag,
        step: Step,
        recipient: Option<u32>,
        evidence: Option<Evidence<'_>>,
        elapsed: Duration,
    ) -> Verdict {
        let lane = &*self.lane;
        let answer = lane.session.answer().map(|answer| Evidence::Reply(answer.reply));
        let mail = lane.mail(tag);
        let envelope = mail.map(|mail| mail.message.envelope());
        let event = Event {
            kind,
            lane: lane.id,
            host: &lane.host.name,
            step,
            message: mail.map(|mail| &mail.message),
            recipient: envelope.zip(recipient).and_then(|(all, one)| all.recipients().get(one as usize)),
            evidence: evidence.or(answer).unwrap_or(Evidence::Opened),
            attempt: mail.map_or(lane.setbacks.count(), |mail| mail.attempts) + 1,
            elapsed,
        };
        let handler = &mut *self.handler;
        self.desk.guard(|| consult(handler, &event)).unwrap_or_default()
    }
}

pub(super) fn default_for(blame: Blame) -> SessionVerdict {
    match blame {
        Blame::Session => SessionVerdict::ReconnectAtBatchEnd,
        Blame::Mail { .. } | Blame::TooMany | Blame::Parameters => SessionVerdict::Default,
    }
}
