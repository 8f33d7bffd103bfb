//! Judges one lane: reads what its session was answered, asks the handler,
//! and carries the verdict out on session and message. It waits for nothing;
//! what it begins is sent by whoever moves bytes.
//!
//! On the way from a reply to a report: a refusal has a [`Blame`], which says
//! whom it is about; that and the step make a [`Plan`] for the mail; plan and
//! verdict make a [`Fate`], and the desk turns that into an [`Outcome`] or
//! another attempt.

use std::time::{Duration, Instant};

use super::desk::{Desk, Fate};
use super::lane::{Bench, Lane, Link, Standing};
use super::mail::{Mail, Recipient, Scope};
use crate::content::ContentError;
use crate::event::{Event, EventKind, Evidence, Handler, MessageVerdict, SessionVerdict, Verdict, consult};
use crate::extensions::Extension;
use crate::failure::Failure;
use crate::outcome::{Cause, ClientReason, Ended, Ending, Outcome, RefusedBy};
use crate::reply::Reply;
use crate::session::{Answer, Step};
use crate::timeouts::{SHORTAGE_WAIT, after};

/// How often a mail may meet such a shortage before it counts as an attempt.
const MOST_SHORTAGES: u32 = 60;

/// Whom a refusal is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Blame {
    /// The mail, or the recipient at RCPT; `for_good` when it is 5yz.
    Mail { for_good: bool },
    /// No further recipient fits into this transaction.
    TooMany,
    /// The session or the host, and never the mail.
    Session,
}

impl Blame {
    /// `None` when the reply is the one hoped for.
    fn of(answer: &Answer<'_>, mail: &Mail) -> Option<Blame> {
        let code = answer.reply.code();
        if answer.is_pass() {
            return None;
        }
        let before_content = matches!(answer.step, Step::Mail | Step::Rcpt | Step::Data);
        Some(match code.as_u16() {
            421 => Blame::Session,
            _ if answer.step == Step::Rset => Blame::Session,
            _ if before_content && code.blames_session() => Blame::Session,
            _ if answer.step == Step::Rcpt && mail.has_accepted() && is_too_many(answer.reply) => {
                Blame::TooMany
            }
            _ => Blame::Mail { for_good: code.is_permanent() },
        })
    }
}

/// 452, 552 or x.5.3 (RFC 5321 §4.5.3.1.10, RFC 3463 §3.6).
fn is_too_many(reply: Reply<'_>) -> bool {
    let enhanced = reply.enhanced().is_some_and(|code| (code.subject, code.detail) == (5, 3));
    enhanced || matches!(reply.code().as_u16(), 452 | 552)
}

/// How the attempt at the mail in hand ends; what it is based on is still
/// with the session.
enum Plan {
    Delivered,
    /// The reply is a refusal for good.
    Refused(Scope),
    /// The reply, or the failure, calls for another attempt.
    Again {
        counted: bool,
    },
    /// A callback's verdict gives up the transaction.
    GivenUp(Verdict),
    /// Each recipient's own state says it.
    EachItsOwn,
    InDoubt,
    RefusedByClient(ClientReason),
}

/// One lane and what is needed to judge it.
pub(super) struct Judge<'a, H: ?Sized> {
    pub(super) lane: &'a mut Lane,
    pub(super) desk: &'a mut Desk,
    pub(super) handler: &'a mut H,
    pub(super) now: Instant,
}

impl<H: Handler + ?Sized> Judge<'_, H> {
    /// Judges whatever there is.
    pub(super) fn judge(&mut self) {
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
        while self.lane.session.has_answer() {
            self.judge_answer();
        }
        if self.lane.link == Link::Up && !self.lane.is_leaving() && self.lane.session.failure().is_some() {
            self.judge_failure();
        }
    }

    /// Begins a mail on a free lane.
    pub(super) fn begin(&mut self, mut mail: Mail) {
        assert!(self.lane.is_free(), "a mail for a lane that is not free");
        mail.begin_attempt(self.lane.id);
        let is_ascii = mail.message.envelope().is_ascii();
        self.lane.in_batch = true;
        self.lane.mails.push_back(mail);
        if !is_ascii {
            return self.refused_by_client(Step::Mail, ClientReason::MissingExtension(Extension::SmtpUtf8));
        }
        if self.lane.session.needs_reset() {
            self.lane.session.reset(self.now);
        } else {
            self.begin_mail();
        }
    }

    /// Closes the connection at once. What was answered is judged, a mail in
    /// doubt is reported so, and the rest put back.
    pub(super) fn cut_off(&mut self) {
        if self.lane.in_batch {
            self.judge();
        }
        if self.lane.session.is_in_doubt() {
            self.lane.session.lost(Failure::Closed);
            self.conclude(Step::Content, Plan::InDoubt, Verdict::DEFAULT);
        }
        while let Some(mail) = self.lane.mails.pop_front() {
            self.desk.keep(mail);
        }
        self.lane.disconnect();
        self.lane.retire(self.now);
    }

    // ---- answers ----------------------------------------------------------

    fn judge_answer(&mut self) {
        let session = &self.lane.session;
        let (Some(answer), Some(mail)) = (session.answer(), self.lane.mails.front()) else {
            return self.lane.session.answer_judged();
        };
        let blame = Blame::of(&answer, mail);
        let (step, recipient) = (answer.step, answer.recipient);
        match blame {
            None if step == Step::Rset => self.advance(step, recipient),
            None => self.passed(step, recipient),
            Some(blame) => self.refused(step, recipient, blame),
        }
    }

    fn passed(&mut self, step: Step, recipient: u32) {
        let verdict = self.consult_about_answer(EventKind::Pass);
        if step == Step::Content {
            self.conclude(step, Plan::Delivered, verdict);
        } else if verdict.is_default() {
            return self.advance(step, recipient);
        } else {
            self.conclude(step, Plan::GivenUp(verdict), verdict);
        }
        self.act_on_answer(verdict.session);
    }

    fn refused(&mut self, step: Step, recipient: u32, blame: Blame) {
        let verdict = self.consult_about_answer(EventKind::Fail);
        let session_default = match blame {
            Blame::Session => SessionVerdict::ReconnectAtBatchEnd,
            Blame::Mail { .. } | Blame::TooMany => SessionVerdict::Default,
        };
        let at_rcpt = step == Step::Rcpt && blame != Blame::Session;
        let plan = if at_rcpt {
            match self.recipient_refused(recipient, blame, verdict) {
                Some(plan) => plan,
                None => return self.next_recipient(recipient + 1),
            }
        } else {
            match blame {
                Blame::Session => Plan::Again { counted: false },
                Blame::Mail { for_good: true } => Plan::Refused(Scope::Transaction),
                Blame::Mail { for_good: false } | Blame::TooMany => Plan::Again { counted: true },
            }
        };
        self.conclude(step, plan, verdict);
        self.act_on_answer(or_default(verdict.session, session_default));
    }

    /// Notes a refused recipient; `None` when the transaction goes on.
    fn recipient_refused(&mut self, recipient: u32, blame: Blame, verdict: Verdict) -> Option<Plan> {
        let (Some(answer), Some(mail)) = (self.lane.session.answer(), self.lane.mails.front_mut()) else {
            return Some(Plan::EachItsOwn);
        };
        let reply = answer.reply.to_owned();
        if mail.message.is_all_or_nothing() {
            return Some(match blame {
                Blame::Mail { for_good: true } => Plan::Refused(Scope::Open),
                _ => Plan::Again { counted: true },
            });
        }
        match blame {
            Blame::Mail { for_good: true } if verdict.message == MessageVerdict::Default => {
                let ended = Ended { ending: Ending::Refused(reply), step: Some(Step::Rcpt) };
                mail.set(recipient, Recipient::Ended(Box::new(ended)));
            }
            Blame::Mail { .. } | Blame::Session => {
                mail.set(recipient, Recipient::Deferred(Box::new(Cause::Reply(reply))));
            }
            Blame::TooMany => mail.defer_pending(&Cause::TooManyRecipients(reply)),
        }
        (!verdict.is_default()).then_some(Plan::GivenUp(verdict))
    }

    /// The step was passed: begins the next one.
    fn advance(&mut self, step: Step, recipient: u32) {
        if self.lane.session.failure().is_some() {
            // What came behind the reply is judged next.
            if step == Step::Rcpt {
                self.accept(recipient);
            }
            return self.lane.session.answer_judged();
        }
        match step {
            Step::Rset => self.begin_mail(),
            Step::Mail => self.next_recipient(0),
            Step::Rcpt => {
                self.accept(recipient);
                self.next_recipient(recipient + 1);
            }
            Step::Data => self.lane.session.content(self.now),
            _ => self.lane.session.answer_judged(),
        }
    }

    fn accept(&mut self, recipient: u32) {
        if let Some(mail) = self.lane.mails.front_mut() {
            mail.set(recipient, Recipient::Accepted);
        }
    }

    fn begin_mail(&mut self) {
        if let Some(mail) = self.lane.mails.front() {
            self.lane.session.mail(mail.message.envelope().from(), self.now);
        }
    }

    fn next_recipient(&mut self, from: u32) {
        if self.lane.session.failure().is_some() {
            return self.lane.session.answer_judged();
        }
        let Some(mail) = self.lane.mails.front() else { return };
        if let Some(next) = mail.next_pending(from) {
            if let Some(path) = mail.message.envelope().recipients().get(next as usize) {
                self.lane.session.rcpt(path, next, self.now);
            }
        } else if mail.has_accepted() {
            let begun = self.lane.session.data(mail.message.content(), self.now);
            if let Err(error) = begun {
                self.refused_by_client(Step::Data, ClientReason::Content(error));
            }
        } else {
            self.conclude(Step::Rcpt, Plan::EachItsOwn, Verdict::DEFAULT);
            self.act(SessionVerdict::Default, false);
        }
    }

    // ---- failures ---------------------------------------------------------

    fn judge_failure(&mut self) {
        let session = &self.lane.session;
        let Some(failure) = session.failure().cloned() else { return };
        if let Failure::Content(error) = failure {
            return self.refused_by_client(Step::Content, ClientReason::Content(error));
        }
        let step = session.step();
        // RSET is about the mail before this one.
        let untouched = step == Step::Rset || (step == Step::Mail && !session.has_flight_begun());
        let plan = if session.is_in_doubt() { Plan::InDoubt } else { Plan::Again { counted: !untouched } };
        let elapsed = self.step_took();
        let recipient = session.recipient();
        let verdict =
            self.consult(EventKind::Hang, step, recipient, Some(Evidence::Failure(&failure)), elapsed);
        if !self.lane.mails.is_empty() {
            self.conclude(step, plan, verdict);
        }
        self.act(or_default(verdict.session, SessionVerdict::ReconnectAtBatchEnd), false);
    }

    /// The mail in hand cannot be sent, and that is not the server's fault.
    fn refused_by_client(&mut self, step: Step, reason: ClientReason) {
        let elapsed = self.step_took();
        let verdict = self.consult(EventKind::Fail, step, None, Some(Evidence::Client(&reason)), elapsed);
        let is_shortage = matches!(reason, ClientReason::Content(ContentError::Shortage(_)));
        self.conclude(step, Plan::RefusedByClient(reason), verdict);
        if is_shortage && verdict.session == SessionVerdict::Default {
            // Its descriptor is what the others' contents are short of.
            return self.lane.reopen(self.now + SHORTAGE_WAIT, self.now);
        }
        self.act(verdict.session, false);
    }

    // ---- what becomes of the message --------------------------------------

    /// Ends the attempt at the mail in hand.
    fn conclude(&mut self, step: Step, plan: Plan, verdict: Verdict) {
        self.lane.in_batch = false;
        let Some(mut mail) = self.lane.mails.pop_front() else { return };
        mail.last_step = Some(step);
        let is_shortage =
            matches!(plan, Plan::RefusedByClient(ClientReason::Content(ContentError::Shortage(_))));
        mail.shortages += u32::from(is_shortage);
        let is_endless = is_shortage && mail.shortages > MOST_SHORTAGES;
        let reply = self.lane.session.answer().map(|answer| answer.reply);
        let failure = self.lane.session.failure();
        // A lane that only sits out is not opened anew, so that nothing else
        // bounds how often the mail comes back.
        let must_count = match verdict.session {
            SessionVerdict::Bench => true,
            SessionVerdict::RestartAtBatchEnd => !self.desk.may_restart(),
            _ => false,
        };
        let fate = fate(&plan, verdict, reply, failure, must_count || is_endless);
        if self.desk.conclude(mail, fate, &mut *self.handler) {
            self.lane.setbacks = 0;
        }
        self.lane.session.answer_judged();
    }

    // ---- what becomes of the session --------------------------------------

    /// Carries out what was decided on an answer. Where nothing was, and the
    /// connection has failed behind the answer, that failure is judged next.
    fn act_on_answer(&mut self, verdict: SessionVerdict) {
        if verdict != SessionVerdict::Default || self.lane.session.failure().is_none() {
            self.act(verdict, false);
        }
    }

    /// Carries out a session verdict; no mail is in hand.
    pub(super) fn act(&mut self, verdict: SessionVerdict, connect_failed: bool) {
        use SessionVerdict as V;
        let usable = self.lane.session.is_usable();
        let verdict = match verdict {
            V::RestartNow if !self.desk.may_restart() => V::ReconnectAtBatchEnd,
            V::RestartAtBatchEnd if !self.desk.may_restart() => V::Bench,
            verdict => verdict,
        };
        match verdict {
            V::Default | V::Bench if !usable => self.reconnect_at_batch_end(connect_failed),
            V::Default => {}
            V::Bench if self.desk.batch_running => self.lane.sit_out(Bench::Rejoin, self.now),
            V::Bench => {}
            V::Retire => self.lane.retire(self.now),
            V::ReconnectAtBatchEnd => self.reconnect_at_batch_end(connect_failed),
            V::ReconnectNow => {
                if let Some(wait) = self.set_back(connect_failed) {
                    self.lane.reopen(after(self.now, wait), self.now);
                }
            }
            V::RestartAtBatchEnd | V::RestartNow => {
                let at_end = verdict == V::RestartAtBatchEnd && self.desk.batch_running;
                self.desk.restart_at_batch_end |= at_end;
                self.desk.restart_now |= !at_end;
                if connect_failed {
                    self.lane.renew_wait = self.wait(self.lane.setbacks + 1);
                }
                self.lane.sit_out(Bench::Rejoin, self.now);
            }
        }
    }

    pub(super) fn reconnect_at_batch_end(&mut self, connect_failed: bool) {
        let Some(wait) = self.set_back(connect_failed) else { return };
        if self.desk.batch_running {
            self.lane.sit_out(Bench::Reopen(wait), self.now);
        } else {
            self.lane.reopen(after(self.now, wait), self.now);
        }
    }

    /// One more opening is needed in a row: how long to wait before it, or
    /// `None` when it was one too many and the lane is retired.
    fn set_back(&mut self, connect_failed: bool) -> Option<Duration> {
        let lane = &mut *self.lane;
        lane.setbacks += 1;
        if lane.setbacks >= lane.host.max_connect_failures {
            lane.retire(self.now);
            return None;
        }
        // A connection that stood is first replaced without a wait.
        let failures = if connect_failed { lane.setbacks } else { lane.setbacks - 1 };
        Some(self.wait(failures))
    }

    fn wait(&mut self, failures: u32) -> Duration {
        self.lane.host.backoff.wait(failures, self.desk.random.f64())
    }

    // ---- asking the handler -----------------------------------------------

    pub(super) fn step_took(&self) -> Duration {
        self.lane.session.began().map_or(Duration::ZERO, |began| self.now.saturating_duration_since(began))
    }

    pub(super) fn consult_about_answer(&mut self, kind: EventKind) -> Verdict {
        let Some(answer) = self.lane.session.answer() else { return Verdict::DEFAULT };
        let recipient = (answer.step == Step::Rcpt).then_some(answer.recipient);
        let (step, took) = (answer.step, self.lane.session.answer_took());
        self.consult(kind, step, recipient, None, took)
    }

    /// Asks the handler; without `evidence` it is about the session's answer.
    /// Where it panics, the default holds.
    pub(super) fn consult(
        &mut self,
        kind: EventKind,
        step: Step,
        recipient: Option<u32>,
        evidence: Option<Evidence<'_>>,
        elapsed: Duration,
    ) -> Verdict {
        let lane = &*self.lane;
        let answer = lane.session.answer().map(|answer| Evidence::Reply(answer.reply));
        let mail = lane.mails.front();
        let envelope = mail.map(|mail| mail.message.envelope());
        let event = Event {
            kind,
            lane: lane.id,
            host: &lane.host.name,
            step,
            message: mail.map(|mail| &mail.message),
            recipient: envelope.zip(recipient).and_then(|(all, one)| all.recipients().get(one as usize)),
            evidence: evidence.or(answer).unwrap_or(Evidence::Opened),
            attempt: mail.map_or(lane.setbacks, |mail| mail.attempts) + 1,
            elapsed,
        };
        let handler = &mut *self.handler;
        self.desk.guard(|| consult(handler, &event)).unwrap_or_default()
    }
}

fn or_default(verdict: SessionVerdict, default: SessionVerdict) -> SessionVerdict {
    if verdict == SessionVerdict::Default { default } else { verdict }
}

/// What becomes of a message: the first rule that applies. Accepted content
/// is delivered and unanswered content in doubt, whatever a verdict says; then
/// come the message verdict, the refusal, and at last another attempt.
fn fate<'a>(
    plan: &'a Plan,
    verdict: Verdict,
    reply: Option<Reply<'a>>,
    failure: Option<&'a Failure>,
    must_count: bool,
) -> Fate<'a> {
    let settled = |outcome, scope| Fate::Settled { outcome, scope };
    let again = |counted| Fate::Again { cause: cause(plan, reply, failure), counted: counted || must_count };
    match (plan, verdict.message) {
        (Plan::Delivered, _) => match reply {
            Some(reply) => settled(Outcome::Delivered(reply), Scope::Transaction),
            None => Fate::EachItsOwn,
        },
        (Plan::InDoubt, _) => match failure {
            Some(failure) => Fate::InDoubt(failure),
            None => again(true),
        },
        (_, MessageVerdict::Drop) => settled(Outcome::Dropped, Scope::Open),
        (Plan::Again { counted }, _) => again(*counted),
        (_, MessageVerdict::Requeue) => again(true),
        (Plan::Refused(scope), _) => match reply {
            Some(reply) => settled(Outcome::Refused(RefusedBy::Server(reply)), *scope),
            None => Fate::EachItsOwn,
        },
        (Plan::RefusedByClient(ClientReason::Content(ContentError::Shortage(_))), _) => again(false),
        (Plan::RefusedByClient(reason), _) => {
            settled(Outcome::Refused(RefusedBy::Client(reason)), Scope::Transaction)
        }
        (Plan::GivenUp(_), _) => again(true),
        (Plan::EachItsOwn, _) => Fate::EachItsOwn,
    }
}

fn cause(plan: &Plan, reply: Option<Reply<'_>>, failure: Option<&Failure>) -> Cause {
    match (plan, reply, failure) {
        (Plan::GivenUp(verdict), ..) => Cause::Verdict(verdict.code()),
        (Plan::RefusedByClient(ClientReason::Content(error)), ..) => Cause::Content(error.clone()),
        (_, Some(reply), _) => Cause::Reply(reply.to_owned()),
        (_, None, Some(failure)) => Cause::Failure(failure.clone()),
        (_, None, None) => Cause::Verdict(Verdict::DEFAULT.code()),
    }
}
