//! From a connection that was asked for to a lane that can be dealt mails: what
//! an opening came to, who may authenticate, and what a refusal means for all
//! lanes with the same credentials.

use std::time::Instant;

use super::Coordinator;
use super::gate::{Lanes, Pass};
use super::judge::Judge;
use super::lane::{Lane, Link, Standing};
use crate::auth::{AuthFault, Credentials};
use crate::event::{EventKind, Evidence, Handler, SessionVerdict};
use crate::failure::Failure;
use crate::reopening::Setback;
use crate::session::{MailTag, Step};

/// An opening is about no mail.
const NO_MAIL: MailTag = MailTag(0);

impl Coordinator {
    /// Other credentials for all hosts. Lanes that were retired for the old ones
    /// are opened again. Connections that are not authenticated
    /// are so next, and the others when they are opened again; a lane that is
    /// within a transaction on the former is opened anew, as AUTH has no place
    /// there (RFC 4954 §4).
    pub fn authenticate(&mut self, credentials: &Credentials, now: Instant) {
        for host in (0..).take(self.hosts) {
            self.authenticate_host(host, credentials, now);
        }
    }

    /// The same for the host at this position, if there is one.
    pub fn authenticate_host(&mut self, host: u32, credentials: &Credentials, now: Instant) {
        if let Some(gate) = self.desk.gates.get_mut(host as usize) {
            gate.change(credentials.clone());
        }
        for lane in self.lanes.iter_mut().filter(|lane| lane.id.host == host && lane.is_shut_out) {
            lane.reopen(now, now);
            lane.was_tried = false;
            self.closing = false;
        }
        self.muster.changed.mark_all();
        let is_up = |lane: &&mut Lane| lane.link == Link::Up && !lane.is_leaving();
        for lane in self.lanes.iter_mut().filter(|lane| lane.id.host == host).filter(is_up) {
            let is_fit = lane.is_free() && !lane.is_poised && !lane.session.needs_reset();
            if is_fit && !lane.session.is_authenticated() {
                lane.enter(true);
                lane.was_tried = false;
            } else if lane.standing != Standing::Opening && !lane.session.is_authenticated() {
                lane.renew = true;
            }
        }
    }

    /// Lanes that wait begin to authenticate, or learn that it is of no use;
    /// says whether any has.
    pub(super) fn pass_gates<H: Handler + ?Sized>(&mut self, now: Instant, handler: &mut H) -> bool {
        let mut hosts = vec![Lanes::default(); self.desk.gates.len()];
        for lane in &self.lanes {
            let host = lane.id.host as usize;
            if let (Some(lanes), Some(gate)) = (hosts.get_mut(host), self.desk.gates.get(host)) {
                lanes.is_one_trying |= lane.session.is_authenticating();
                // One that leaves has nothing to prove any more.
                let is_in = lane.session.is_authenticated() && !lane.is_leaving();
                lanes.is_one_in |= is_in && gate.is_current(lane.ticket);
            }
        }
        let mut has_moved = false;
        for place in 0..self.lanes.len() {
            let Some(lane) = self.lanes.get(place).filter(|lane| lane.waits_at_gate) else { continue };
            let Some(lanes) = hosts.get_mut(lane.id.host as usize) else { continue };
            let Some(mut judge) = self.judge(place, now, handler) else { continue };
            if judge.pass_gate(*lanes) {
                lanes.is_one_trying |= judge.lane.session.is_authenticating();
                has_moved = true;
            }
        }
        has_moved
    }
}

impl<H: Handler + ?Sized> Judge<'_, H> {
    pub(super) fn judge_opening(&mut self) {
        // A refusal holds, whatever has come behind it.
        if self.lane.session.has_answer() && !self.is_auth_spoilt() {
            return self.judge_auth();
        }
        if let Some(failure) = self.lane.session.failure().cloned() {
            let step = self.lane.session.step();
            return match &failure {
                Failure::Auth(fault) if !may_pass(fault) && !self.is_proven() => {
                    self.auth_refused(Some(&failure));
                }
                _ => self.opening_failed(step, &failure),
            };
        }
        self.lane.opening_failed = false;
        if let Some(host) = self.desk.host(Some(self.lane.id)) {
            host.connections += 1;
        }
        let first = self.lane.is_first_opening;
        let kind = if first { EventKind::ConnectPass } else { EventKind::ReconnectPass };
        let elapsed = self.lane.opening_took(self.now);
        self.lane.enter(self.desk.must_authenticate(self.lane.id));
        let verdict = self.consult(kind, NO_MAIL, Step::Ehlo, None, Some(Evidence::Opened), elapsed);
        self.lane.has_been_open = true;
        self.act(verdict.session, Setback::Other);
        self.lane.was_tried |= !self.lane.waits_at_gate;
    }

    pub(super) fn opening_failed(&mut self, step: Step, failure: &Failure) {
        // One that waits has tried nothing.
        if !self.lane.waits_at_gate {
            self.note_lane_failure(failure, true);
        }
        self.fail_opening(step, failure);
    }

    /// The lane's opening has failed, its own or that of another lane that has tried for
    /// both.
    pub(super) fn fail_opening(&mut self, step: Step, failure: &Failure) {
        let first = self.lane.is_first_opening;
        let kind = if first { EventKind::ConnectFail } else { EventKind::ReconnectFail };
        if step == Step::Auth && !self.lane.waits_at_gate {
            self.put_off(failure);
        }
        self.lane.disconnect();
        self.lane.was_tried = true;
        self.lane.opening_failed = true;
        let elapsed = self.lane.opening_took(self.now);
        if let Failure::StoodStill { .. } = failure {
            return self.act(self.desk.said_of_standstill.session, Setback::GlobalHang);
        }
        let verdict = self.consult(kind, NO_MAIL, step, None, Some(Evidence::Failure(failure)), elapsed);
        self.act(verdict.session, Setback::Opening);
    }

    // ---- authentication ---------------------------------------------------

    /// What an authentication that came to nothing means for those who wait:
    /// nothing, if the connection was dead before a word of it was said.
    fn put_off(&mut self, failure: &Failure) {
        let is_late = matches!(failure, Failure::TimedOut { .. } | Failure::StoodStill { .. });
        let is_own = is_late || matches!(failure, Failure::Auth(_));
        // The server may have refused a token, and closed without a reply.
        let is_renewing = self.lane.session.has_heard_refusal() && self.renews_token();
        if is_renewing || !is_own && !self.lane.session.has_said_auth() {
            return;
        }
        if let Some(gate) = self.desk.gate(self.lane.id) {
            gate.put_off(self.lane.ticket, failure, &self.lane.host.backoff, self.now);
        }
    }

    /// Begins to authenticate if it may; says whether anything has come of it.
    fn pass_gate(&mut self, lanes: Lanes) -> bool {
        if self.lane.session.failure().is_some() {
            // It has come here with what the server said behind a refusal.
            self.tell_step();
            self.judge_opening();
            return true;
        }
        let id = self.lane.id;
        let Some(gate) = self.desk.gate(id) else { return false };
        match gate.pass(lanes, self.now) {
            Pass::Wait => return false,
            Pass::Go(ticket) => {
                let Some(credentials) = gate.credentials() else { return false };
                self.lane.waits_at_gate = false;
                self.lane.ticket = ticket;
                self.lane.session.authenticate(credentials, ticket.renew, self.now);
            }
            Pass::Refused => {
                self.lane.was_tried = true;
                self.lane.shut_out(self.now);
            }
            Pass::Fail(failure) => {
                self.tell_put_off(&failure);
                self.opening_failed(Step::Auth, &failure);
            }
        }
        true
    }

    /// Whether the server has accepted, and then failed.
    fn is_auth_spoilt(&self) -> bool {
        let session = &self.lane.session;
        session.failure().is_some() && session.answer().is_some_and(|answer| answer.is_pass())
    }

    fn judge_auth(&mut self) {
        let Some(answer) = self.lane.session.answer() else { return };
        let code = answer.reply.code();
        if !answer.is_pass() && !code.is_permanent() {
            let failure = Failure::Refused(answer.reply.to_owned());
            return self.opening_failed(Step::Auth, &failure);
        }
        if !answer.is_pass() {
            let failure = Failure::Refused(answer.reply.to_owned());
            let blames_session = code.blames_session() || matches!(code.as_u16(), 501 | 504);
            if self.tries_again(code.as_u16(), blames_session) {
                return;
            }
            // Where others are in, a refusal that is not about the credentials
            // is this connection's misfortune.
            return if blames_session && self.is_proven() {
                self.opening_failed(Step::Auth, &failure);
            } else {
                self.auth_refused(None);
            };
        }
        let ticket = self.lane.ticket;
        if let Some(gate) = self.desk.gate(self.lane.id) {
            gate.accepted(ticket);
        }
        self.lane.enter(true);
        self.lane.was_tried = true;
        let elapsed = self.lane.opening_took(self.now);
        let verdict = self.consult(EventKind::AuthPass, NO_MAIL, Step::Auth, None, None, elapsed);
        self.lane.session.answer_judged();
        self.act(verdict.session, Setback::Other);
    }

    /// Whether there is another way to authenticate after this refusal.
    fn tries_again(&mut self, code: u16, blames_session: bool) -> bool {
        let ticket = self.lane.ticket;
        // Others go by a ticket of their own.
        let gate = self.desk.gate(self.lane.id).filter(|gate| gate.is_current(ticket));
        let Some(credentials) = gate.as_ref().and_then(|gate| gate.credentials()) else { return false };
        // 504: the mechanism is not known here, whatever was offered.
        if code == 504 && self.lane.session.try_another_mechanism(credentials, self.now) {
            return true;
        }
        let renews = !blames_session && self.renews_token();
        if renews {
            self.lane.session.answer_judged();
            self.lane.enter(true);
        }
        renews
    }

    /// Forgets the token that the lane tried; says whether another one is to be
    /// tried, which the next lane does.
    fn renews_token(&mut self) -> bool {
        let ticket = self.lane.ticket;
        let gate = self.desk.gates.get_mut(self.lane.id.host as usize);
        let Some(gate) = gate.filter(|gate| gate.is_current(ticket)) else { return false };
        let is_refused =
            gate.credentials().is_some_and(|credentials| self.lane.session.token_refused(credentials));
        is_refused && gate.renews(ticket)
    }

    /// Whether the credentials that the lane tried are known to be good.
    fn is_proven(&mut self) -> bool {
        let ticket = self.lane.ticket;
        self.desk.gate(self.lane.id).is_some_and(|gate| gate.is_proven() && gate.is_current(ticket))
    }

    /// The credentials are of no use, and that is said once; whatever is
    /// decided on it, a lane only goes on with others.
    fn auth_refused(&mut self, failure: Option<&Failure>) {
        let (id, ticket) = (self.lane.id, self.lane.ticket);
        let is_news = self.desk.gate(id).is_some_and(|gate| gate.refused(ticket));
        let are_others = self.desk.gate(id).is_some_and(|gate| !gate.is_current(ticket));
        let mut verdict = SessionVerdict::Default;
        if is_news {
            let elapsed = self.lane.opening_took(self.now);
            let evidence = failure.map(Evidence::Failure);
            verdict = self.consult(EventKind::AuthFail, NO_MAIL, Step::Auth, None, evidence, elapsed).session;
        }
        self.lane.session.answer_judged();
        self.lane.was_tried = true;
        if !are_others {
            return self.lane.shut_out(self.now);
        }
        if self.lane.session.is_usable() {
            self.lane.enter(true);
        }
        self.act(verdict, Setback::Other);
    }
}

/// Whether the same credentials may do next time.
fn may_pass(fault: &AuthFault) -> bool {
    match fault {
        AuthFault::Token(_) | AuthFault::Stalled | AuthFault::Randomness => true,
        AuthFault::ServerError(name) => *name == "no-resources",
        _ => false,
    }
}
