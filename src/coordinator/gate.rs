//! Who may send AUTH to a host. Until one lane has shown that the credentials
//! are accepted, only one tries: a wrong password is said once and not by a
//! thousand lanes, which would lock the account.

use std::time::Instant;

use crate::auth::Credentials;
use crate::failure::Failure;
use crate::reopening::Backoff;
use crate::timeouts::after;

/// The credentials for one host, and what is known of them.
#[derive(Debug, Default)]
pub(super) struct Gate {
    credentials: Option<Credentials>,
    /// How often they were changed.
    version: u32,
    known: Known,
    /// A token was refused, and the next one is not proven.
    is_renewing: bool,
    /// Tries in a row that came to nothing.
    failures: u32,
    /// The version whose refusal was told last.
    told: Option<u32>,
}

#[derive(Debug, Default)]
enum Known {
    /// Nothing: one lane tries.
    #[default]
    Nothing,
    /// They were accepted: no lane waits, as long as one stays authenticated.
    Accepted,
    /// They were refused, and that holds for every lane.
    Refused,
    /// The try came to nothing, and the next one is not made before `until`.
    PutOff {
        failure: Failure,
        until: Instant,
        /// Those that wait are yet to be told, so that all lanes back off
        /// together and do not learn it one by one.
        is_news: bool,
    },
}

/// What the lanes of a host are at.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Lanes {
    /// One is sending AUTH.
    pub(super) is_one_trying: bool,
    /// One is authenticated with the credentials of now.
    pub(super) is_one_in: bool,
}

/// What a lane that waits is to do.
pub(super) enum Pass {
    Go(Ticket),
    Wait,
    /// Retire: the credentials were refused.
    Refused,
    /// Fail as the lane that tried did.
    Fail(Failure),
}

/// What a lane authenticates with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Ticket {
    version: u32,
    /// A token is asked for anew, unless somebody did so since.
    pub(super) renew: bool,
}

impl Gate {
    pub(super) fn new(credentials: Option<Credentials>) -> Gate {
        Gate { credentials, ..Gate::default() }
    }

    /// What lanes authenticate with; `None` when they need not.
    pub(super) fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// Other credentials, of which nothing is known.
    pub(super) fn change(&mut self, credentials: Credentials) {
        let (version, told) = (self.version.wrapping_add(1), self.told);
        *self = Gate { version, told, ..Gate::new(Some(credentials)) };
    }

    /// The caller wants to try again what was refused or put off.
    pub(super) fn reopen(&mut self) {
        if !matches!(self.known, Known::Accepted) {
            *self = Gate { version: self.version, ..Gate::new(self.credentials.take()) };
        }
    }

    /// Asks for a lane that waits.
    pub(super) fn pass(&mut self, lanes: Lanes, now: Instant) -> Pass {
        match &self.known {
            Known::Accepted if lanes.is_one_in => {}
            Known::Refused => return Pass::Refused,
            Known::PutOff { failure, is_news: true, .. } => return Pass::Fail(failure.clone()),
            Known::PutOff { until, .. } if now < *until => return Pass::Wait,
            Known::Nothing | Known::Accepted | Known::PutOff { .. } if lanes.is_one_trying => {
                return Pass::Wait;
            }
            // When all have gone, the password may be another one by now.
            Known::Nothing | Known::Accepted | Known::PutOff { .. } => self.known = Known::Nothing,
        }
        Pass::Go(Ticket { version: self.version, renew: self.is_renewing })
    }

    /// When a lane that waits may try.
    pub(super) fn opens_at(&self) -> Option<Instant> {
        match self.known {
            Known::PutOff { until, .. } => Some(until),
            _ => None,
        }
    }

    /// Whether the credentials are known to be good, so that what goes wrong is
    /// the connection's fault.
    pub(super) fn is_proven(&self) -> bool {
        matches!(self.known, Known::Accepted)
    }

    /// Whether the credentials are still those that the lane tried.
    pub(super) fn is_current(&self, ticket: Ticket) -> bool {
        ticket.version == self.version
    }

    /// Whether what becomes of the lane's try holds for all: its credentials
    /// are those of now, and so is its token.
    fn is_latest(&self, ticket: Ticket) -> bool {
        self.is_current(ticket) && (ticket.renew || !self.is_renewing)
    }

    /// What a lane has tried was accepted.
    pub(super) fn accepted(&mut self, ticket: Ticket) {
        let is_shut = matches!(self.known, Known::Refused);
        if self.is_latest(ticket) && !is_shut {
            self.known = Known::Accepted;
            self.is_renewing = false;
            self.failures = 0;
        }
    }

    /// A token was refused where another may do: says whether to try one,
    /// which the next lane does.
    pub(super) fn renews(&mut self, ticket: Ticket) -> bool {
        if ticket.renew || !self.is_current(ticket) {
            return false;
        }
        if !self.is_renewing && !matches!(self.known, Known::Refused) {
            self.is_renewing = true;
            self.known = Known::Nothing;
        }
        true
    }

    /// What a lane has tried was refused; says whether that is news.
    pub(super) fn refused(&mut self, ticket: Ticket) -> bool {
        if self.is_current(ticket) {
            self.known = Known::Refused;
        }
        self.told.replace(ticket.version) != Some(ticket.version)
    }

    /// What a lane has tried came to nothing: lost, late, or put off by the
    /// server. Where others are in, it is this lane's own misfortune.
    pub(super) fn put_off(&mut self, ticket: Ticket, failure: &Failure, backoff: &Backoff, now: Instant) {
        if !self.is_latest(ticket) || !matches!(self.known, Known::Nothing) {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        // Not before every lane may be back.
        let until = after(now, backoff.wait(self.failures, 1.0));
        self.known = Known::PutOff { failure: failure.clone(), until, is_news: true };
    }

    /// All that waited have been told.
    pub(super) fn told(&mut self) {
        if let Known::PutOff { is_news, .. } = &mut self.known {
            *is_news = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOBODY: Lanes = Lanes { is_one_trying: false, is_one_in: false };
    const TRYING: Lanes = Lanes { is_one_trying: true, is_one_in: false };
    const IN: Lanes = Lanes { is_one_trying: false, is_one_in: true };

    fn gate() -> (Gate, Instant) {
        (Gate::new(Some(Credentials::password("ann", "secret"))), Instant::now())
    }

    fn ticket(gate: &mut Gate, now: Instant) -> Ticket {
        match gate.pass(NOBODY, now) {
            Pass::Go(ticket) => ticket,
            _ => panic!("the gate is shut"),
        }
    }

    #[test]
    fn only_one_lane_tries_what_nobody_has_proven() {
        let (mut gate, now) = gate();
        let first = ticket(&mut gate, now);
        assert!(matches!(gate.pass(TRYING, now), Pass::Wait));
        gate.accepted(first);
        assert!(matches!(gate.pass(Lanes { is_one_trying: true, ..IN }, now), Pass::Go(_)));
    }

    #[test]
    fn what_was_proven_is_tried_again_by_one_when_all_have_gone() {
        let (mut gate, now) = gate();
        let first = ticket(&mut gate, now);
        gate.accepted(first);
        assert!(matches!(gate.pass(NOBODY, now), Pass::Go(_)));
        assert!(matches!(gate.pass(TRYING, now), Pass::Wait));
    }

    #[test]
    fn a_try_that_comes_to_nothing_is_told_to_all_and_not_repeated_at_once() {
        let (mut gate, now) = gate();
        let backoff = Backoff::default();
        let first = ticket(&mut gate, now);
        gate.put_off(first, &Failure::Closed, &backoff, now);
        assert!(matches!(gate.pass(NOBODY, now), Pass::Fail(Failure::Closed)));
        gate.told();
        assert!(matches!(gate.pass(NOBODY, now), Pass::Wait));
        let until = gate.opens_at().unwrap();
        assert_eq!(until - now, backoff.base);
        let second = ticket(&mut gate, until);
        gate.put_off(second, &Failure::Closed, &backoff, until);
        assert_eq!(gate.opens_at().unwrap() - until, 2 * backoff.base);
    }

    #[test]
    fn what_befalls_one_lane_is_its_own_when_others_are_in() {
        let (mut gate, now) = gate();
        let first = ticket(&mut gate, now);
        gate.accepted(first);
        gate.put_off(first, &Failure::Closed, &Backoff::default(), now);
        assert!(matches!(gate.pass(IN, now), Pass::Go(_)));
    }

    #[test]
    fn a_refusal_is_news_once_and_holds_until_something_changes() {
        let (mut gate, now) = gate();
        let first = ticket(&mut gate, now);
        assert!(gate.refused(first));
        assert!(!gate.refused(first), "another lane's is no news");
        gate.accepted(first);
        assert!(matches!(gate.pass(NOBODY, now), Pass::Refused));
        gate.reopen();
        let again = ticket(&mut gate, now);
        assert!(gate.refused(again), "what the caller wanted to know");
    }

    #[test]
    fn what_becomes_of_old_credentials_is_of_no_consequence_to_new_ones() {
        let (mut gate, now) = gate();
        let old = ticket(&mut gate, now);
        gate.change(Credentials::password("ann", "better"));
        assert!(!gate.is_current(old));
        assert!(gate.refused(old));
        assert!(!gate.refused(old), "nor is it told twice");
        gate.put_off(
            old,
            &Failure::Closed,
            &Backoff { base: Duration::from_secs(9), ..Backoff::default() },
            now,
        );
        gate.accepted(old);
        assert!(matches!(gate.pass(TRYING, now), Pass::Wait), "of the new ones nothing is known");
        assert!(matches!(gate.pass(NOBODY, now), Pass::Go(_)));
    }

    #[test]
    fn a_token_is_renewed_once() {
        let (mut gate, now) = gate();
        let (first, second) = (ticket(&mut gate, now), ticket(&mut gate, now));
        gate.accepted(first);
        assert!(gate.renews(first));
        assert!(gate.renews(second), "it had the old token, too");
        gate.accepted(second);
        assert!(matches!(gate.pass(TRYING, now), Pass::Wait), "the new token is not proven by the old one");
        gate.put_off(second, &Failure::Closed, &Backoff::default(), now);
        assert!(gate.opens_at().is_none(), "nor put off with it");
        let renewed = ticket(&mut gate, now);
        assert!(renewed.renew);
        assert!(!gate.renews(renewed));
        gate.accepted(renewed);
        assert!(!ticket(&mut gate, now).renew);
    }
}
