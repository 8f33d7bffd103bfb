//! The callbacks of a run: they answer by chance, panic now and then, and tell
//! the oracles what they were told.

use std::panic::resume_unwind;
use std::time::{Duration, Instant};

use fastrand::Rng;
use smtp_bulk::{
    ClientReason, ContentError, Event, EventKind, Evidence, Extension, Failure, Handler, HostChange,
    MessageVerdict, Outcome, Report, SessionVerdict, Step, Verdict,
};

use super::effects::Effects;
use super::logins::Logins;
use super::model::Seen;
use super::plan::{self, Odds, Opinion};
use super::truth::{self, Refusal, Truth};
use super::wire::Wire;

/// What a callback of ours panics with.
pub struct Panicked;

/// What a server has done that it is not asked to do again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Misstep {
    /// On this lane there were replies too many, or what is none.
    Replies(usize),
    /// On this lane BDAT was not known.
    Chunks(usize),
}

/// See the module.
pub struct Callbacks<'a> {
    pub random: &'a mut Rng,
    pub odds: &'a Odds,
    pub opinion: &'a Opinion,
    pub truth: &'a mut Truth,
    pub effects: &'a mut Effects,
    pub logins: &'a mut Logins,
    pub wires: &'a [Wire],
    pub flies: bool,
    /// Mails that have to be reported when the settle is over.
    pub dropped: Vec<usize>,
    /// Lanes whose server has shown that it does not stand what it was sent.
    pub missteps: Vec<Misstep>,
    /// The caller has given up everything.
    pub gives_up: bool,
    pub epoch: Instant,
    pub now: Duration,
}

impl Callbacks<'_> {
    /// Told once of all lanes that wait.
    fn standstill(&mut self, event: &Event<'_>) -> Verdict {
        let verdict = plan::verdict(self.random, self.opinion.session, self.opinion.message);
        let now = self.now;
        self.truth.note(|| format!("{now:?} {event} -> {} {:?}", verdict.code(), verdict.message));
        let Evidence::Failure(Failure::StoodStill { after }) = event.evidence else {
            panic!("{event} is about no standstill")
        };
        assert!(event.elapsed >= *after && event.message.is_none());
        if verdict.message == MessageVerdict::Drop {
            self.truth.drop_said_of_all();
        }
        self.effects.stood_still(verdict);
        self.logins.stood_still();
        verdict
    }

    fn event(&mut self, event: &Event<'_>) -> Verdict {
        if event.kind == EventKind::GlobalHang {
            return self.standstill(event);
        }
        let now = self.now;
        let lane = self.effects.index(event.lane);
        let mail = event.message.map(|message| truth::number(message.message_id()));
        let serial = event.reply().and_then(truth::serial);
        if let Some(reply) = event.reply() {
            match serial {
                Some(serial) => self.truth.asked_about(serial, lane, event.step, mail),
                None if event.step == Step::Auth && reply.to_string().contains("withheld") => {}
                None => panic!("a callback is told what answers nothing: {reply}"),
            }
        }
        if event.step == Step::Auth {
            self.logins.check_shown(&format!("{event} {event:?}"));
        }
        if let Some(expiry) = event.message.and_then(|message| message.expiry()) {
            let at_deal = event.step == Step::Mail && matches!(event.evidence, Evidence::Client(_));
            let dealt_at = match self.effects.dealt_at(lane) {
                // One of several may turn out to be unfit when the others are done.
                Some(before) if at_deal && self.flies && self.effects.held(lane) > 0 => Some(before.min(now)),
                _ if at_deal => Some(now),
                dealt_at => dealt_at,
            };
            assert!(
                dealt_at.is_some_and(|at| self.epoch + at < expiry),
                "{event} was dealt when it had expired"
            );
        }
        let panics = self.random.f64() < self.odds.panic;
        let verdict = match self.opinion.always {
            _ if panics => Verdict::DEFAULT,
            Some((kind, verdict)) if kind == event.kind => verdict,
            _ => plan::verdict(self.random, self.opinion.session, self.opinion.message),
        };
        if let Some(serial) = serial.filter(|_| event.kind == EventKind::Fail || verdict != Verdict::DEFAULT)
        {
            self.truth.gave_up(serial);
        }
        self.note_misstep(lane, event, serial);
        if let (Evidence::Client(reason), Some(mail)) = (&event.evidence, mail) {
            self.check_reason(lane, mail, reason, event);
        }
        self.truth
            .note(|| format!("{now:?} {event} -> {} {:?} panics: {panics}", verdict.code(), verdict.message));
        let holds = self.holds(lane, event.kind, event.step);
        let seen = Seen {
            lane,
            kind: event.kind,
            step: event.step,
            code: event.reply().map(|reply| reply.code().as_u16()),
            is_client: matches!(event.evidence, Evidence::Client(_)),
            is_chunk: event.step == Step::Content && serial.is_some_and(|serial| self.truth.is_chunk(serial)),
            is_shortage: matches!(
                event.evidence,
                Evidence::Client(ClientReason::Content(ContentError::Shortage(_)))
            ),
            mail,
            attempt: event.attempt,
            verdict: if holds { verdict } else { Verdict::RETIRE },
        };
        if let Some(mail) = mail {
            self.check_mail(mail, event, &seen);
        }
        self.effects.see(seen, self.now);
        if let (Some(mail), MessageVerdict::Drop) = (mail, verdict.message) {
            self.truth.drop_said(mail);
            let too_late = match (event.kind, event.step) {
                (EventKind::Pass, Step::Content) => true,
                // In LMTP that is about one recipient.
                (EventKind::Fail, Step::Content) => self.flies,
                // The content may be taken all the same.
                _ => self.flies && self.effects.is_pipelined(lane),
            };
            if !too_late && !self.effects.in_doubt(lane) {
                self.dropped.push(mail);
            }
        }
        if panics {
            resume_unwind(Box::new(Panicked));
        }
        verdict
    }

    /// A failure is told of the mail whose reply was awaited, and a recipient that was
    /// refused is not asked for again too soon.
    fn check_mail(&mut self, mail: usize, event: &Event<'_>, seen: &Seen) {
        let awaited = self.wires[seen.lane].at_fault().and_then(|id| self.truth.mail_of(id));
        if let Some(awaited) = awaited.filter(|_| event.kind == EventKind::Hang) {
            assert_eq!(mail, awaited, "a failure is told of another mail than that at which it came");
        }
        self.truth.check_round(mail, event.attempt);
        if let (Some(path), Evidence::Reply(_)) = (event.recipient, &event.evidence) {
            self.truth.check_told(mail, path.as_str());
        }
        if let (EventKind::Fail, Some(path), Some(code)) = (event.kind, event.recipient, seen.code) {
            let sits_out = seen.verdict.session == SessionVerdict::Bench;
            let for_now = matches!(code, 450 | 451) || (seen.blames(code) && sits_out);
            let is_dropped = seen.verdict.message == MessageVerdict::Drop;
            self.truth.refused(mail, path.as_str(), event.attempt, for_now, is_dropped);
        }
    }

    fn note_misstep(&mut self, lane: usize, event: &Event<'_>, serial: Option<usize>) {
        let is_odd = matches!(
            event.failure(),
            Some(Failure::Unexpected(_) | Failure::Garbage | Failure::TooLong | Failure::Unsolicited(_))
        );
        let is_alone =
            matches!(event.failure(), Some(Failure::Unsolicited(_))) && !self.wires[lane].is_out_of_step();
        if event.kind == EventKind::Hang && is_odd && !is_alone && self.effects.is_pipelined(lane) {
            self.missteps.push(Misstep::Replies(lane));
        }
        let code = event.reply().map(|reply| reply.code().as_u16());
        let is_chunk = serial.is_some_and(|serial| self.truth.is_chunk(serial));
        if event.kind == EventKind::Fail && is_chunk && matches!(code, Some(500 | 502)) {
            self.missteps.push(Misstep::Chunks(lane));
        }
    }

    /// The client refuses what cannot be sent to a server that offers so little.
    fn check_reason(&mut self, lane: usize, mail: usize, reason: &ClientReason, event: &Event<'_>) {
        let (Some(offers), Some(message)) = (self.wires[lane].offers(), event.message) else { return };
        let recipients = message.envelope().recipients().len();
        let lacks = match reason {
            ClientReason::MissingExtension(Extension::SmtpUtf8) => {
                !offers.utf8 && !message.envelope().is_ascii()
            }
            ClientReason::MissingExtension(Extension::BinaryMime) => !offers.binary,
            ClientReason::MissingExtension(Extension::Chunking) => {
                !offers.chunking || self.truth.has_refused(event.host, Refusal::Chunks)
            }
            ClientReason::MissingExtension(Extension::EightBitMime) => {
                !offers.eight_bit || self.truth.has_refused(event.host, Refusal::Parameters)
            }
            ClientReason::TooLarge { size, limit } => size > limit && offers.size == Some(*limit),
            ClientReason::TooManyRecipients { .. } => message.is_all_or_nothing() && recipients > 1,
            ClientReason::Content(ContentError::AboveLimit { limit }) => offers.size == Some(*limit),
            ClientReason::Content(_) => return,
            _ => false,
        };
        assert!(lacks, "{event}: of a server that offers {offers:?}");
        self.truth.unfit(mail);
    }

    /// What is decided of the session on a refusal of the credentials that its
    /// host still has is of no account.
    fn holds(&mut self, lane: usize, kind: EventKind, step: Step) -> bool {
        match kind {
            EventKind::ConnectFail | EventKind::ReconnectFail if step == Step::Auth => {
                self.logins.fail(lane, kind);
                true
            }
            EventKind::AuthPass | EventKind::AuthFail => {
                let is_current = self.logins.tell(lane, kind);
                kind == EventKind::AuthPass || !is_current
            }
            _ => true,
        }
    }
}

impl Handler for Callbacks<'_> {
    fn connect_pass(&mut self, event: &Event<'_>) -> Verdict {
        self.event(event)
    }
    fn connect_fail(&mut self, event: &Event<'_>) -> Verdict {
        self.event(event)
    }
    fn auth_pass(&mut self, event: &Event<'_>) -> Verdict {
        self.event(event)
    }
    fn auth_fail(&mut self, event: &Event<'_>) -> Verdict {
        self.event(event)
    }
    fn reconnect_pass(&mut self, event: &Event<'_>) -> Verdict {
        self.event(event)
    }
    fn reconnect_fail(&mut self, event: &Event<'_>) -> Verdict {
        self.event(event)
    }
    fn pass(&mut self, event: &Event<'_>) -> Verdict {
        self.event(event)
    }
    fn fail(&mut self, event: &Event<'_>) -> Verdict {
        self.event(event)
    }
    fn hang(&mut self, event: &Event<'_>) -> Verdict {
        self.event(event)
    }
    fn global_hang(&mut self, event: &Event<'_>) -> Verdict {
        self.event(event)
    }

    fn host_changed(&mut self, change: &HostChange<'_>) {
        let now = self.now;
        self.truth.note(|| format!("{now:?} {change}"));
        self.effects.host_changed(change, now);
    }

    fn report(&mut self, report: Report<'_>) {
        let now = self.now;
        self.truth.note(|| {
            let id = report.message.message_id();
            format!("{now:?} report {id} attempts {} {}", report.attempts, report.outcome)
        });
        self.logins.check_shown(&report.outcome.to_string());
        self.truth.reported(&report);
        let finished =
            matches!(report.outcome, Outcome::Delivered(_) | Outcome::Partial | Outcome::Refused(_));
        if let Some(lane) = report.lane.filter(|_| finished) {
            // What expires, or is given up, is reported without a lane's having
            // done anything.
            // Nor has one in what was left when its host had no lane any more.
            let is_bound = report.message.bound_to().is_some();
            let by_lane = report.message.expiry().is_none() && !is_bound && !self.gives_up;
            let lane = self.effects.index(lane);
            self.effects.finished(lane, by_lane);
        }
        if self.random.f64() < self.odds.panic {
            resume_unwind(Box::new(Panicked));
        }
    }
}
