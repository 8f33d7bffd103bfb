//! Who may send AUTH to a host. Until one lane has shown that the credentials
//! are accepted, only one tries: a wrong password is said once and not by a
//! thousand lanes, which would lock the account.

use crate::auth::Credentials;
use crate::failure::Failure;

/// The credentials for one host, and what is known of them.
#[derive(Debug, Default)]
pub(super) struct Gate {
    credentials: Option<Credentials>,
    /// How often they were changed.
    version: u32,
    known: Known,
    /// A token was refused, and the next one is not proven.
    is_renewing: bool,
}

#[derive(Debug, Default)]
enum Known {
    /// Nothing: one lane tries.
    #[default]
    Nothing,
    /// They were accepted: no lane waits.
    Accepted,
    /// They were refused, and that holds for every lane.
    Refused,
    /// The server did not answer the lane that tried, or put it off: that holds
    /// for those who waited, so that they do not learn it one by one.
    PutOff(Failure),
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
        let version = self.version.wrapping_add(1);
        *self = Gate { version, ..Gate::new(Some(credentials)) };
    }

    /// The caller wants to try again what was refused.
    pub(super) fn reopen(&mut self) {
        if matches!(self.known, Known::Refused) {
            self.known = Known::Nothing;
            self.is_renewing = false;
        }
    }

    /// Asks for a lane; `is_tried` when another one is sending AUTH.
    pub(super) fn pass(&self, is_tried: bool) -> Pass {
        match &self.known {
            Known::Nothing if is_tried => Pass::Wait,
            Known::Nothing | Known::Accepted => {
                Pass::Go(Ticket { version: self.version, renew: self.is_renewing })
            }
            Known::Refused => Pass::Refused,
            Known::PutOff(failure) => Pass::Fail(failure.clone()),
        }
    }

    /// What a lane has tried was accepted.
    pub(super) fn accepted(&mut self, ticket: Ticket) {
        if ticket.version == self.version && ticket.renew == self.is_renewing {
            self.known = Known::Accepted;
            self.is_renewing = false;
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
        let is_news = !matches!(self.known, Known::Refused);
        if self.is_current(ticket) {
            self.known = Known::Refused;
        }
        is_news
    }

    /// Whether the credentials are still those that the lane tried.
    pub(super) fn is_current(&self, ticket: Ticket) -> bool {
        ticket.version == self.version
    }

    /// The server put a lane that tried off, or let its time pass.
    pub(super) fn put_off(&mut self, failure: &Failure) {
        if matches!(self.known, Known::Nothing) {
            self.known = Known::PutOff(failure.clone());
        }
    }

    /// All that waited have been told.
    pub(super) fn told(&mut self) {
        if matches!(self.known, Known::PutOff(_)) {
            self.known = Known::Nothing;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> Gate {
        Gate::new(Some(Credentials::password("ann", "secret")))
    }

    fn ticket(gate: &Gate) -> Ticket {
        match gate.pass(false) {
            Pass::Go(ticket) => ticket,
            _ => panic!("the gate is shut"),
        }
    }

    #[test]
    fn only_one_lane_tries_what_nobody_has_proven() {
        let mut gate = gate();
        let first = ticket(&gate);
        assert!(matches!(gate.pass(true), Pass::Wait));
        gate.accepted(first);
        assert!(matches!(gate.pass(true), Pass::Go(_)));
    }

    #[test]
    fn a_server_that_does_not_answer_is_waited_for_once() {
        let mut gate = gate();
        gate.put_off(&Failure::TimedOut { after: std::time::Duration::from_secs(1) });
        assert!(matches!(gate.pass(false), Pass::Fail(Failure::TimedOut { .. })));
        gate.told();
        assert!(matches!(gate.pass(false), Pass::Go(_)));
    }

    #[test]
    fn a_refusal_is_news_once_and_holds_until_something_changes() {
        let mut gate = gate();
        let first = ticket(&gate);
        assert!(gate.refused(first));
        assert!(!gate.refused(first), "another lane's is no news");
        assert!(matches!(gate.pass(false), Pass::Refused));
        gate.reopen();
        assert!(matches!(gate.pass(false), Pass::Go(_)));
        gate.change(Credentials::password("ann", "better"));
        assert!(!gate.is_current(first));
        assert!(gate.refused(first));
        gate.accepted(first);
        assert!(matches!(gate.pass(true), Pass::Wait), "of the new ones nothing is known");
    }

    #[test]
    fn a_token_is_renewed_once() {
        let mut gate = gate();
        let (first, second) = (ticket(&gate), ticket(&gate));
        gate.accepted(first);
        assert!(gate.renews(first));
        assert!(gate.renews(second), "it had the old token, too");
        gate.accepted(second);
        assert!(matches!(gate.pass(true), Pass::Wait), "the new token is not proven by the old one");
        let renewed = ticket(&gate);
        assert!(renewed.renew);
        assert!(!gate.renews(renewed));
        gate.accepted(renewed);
        assert!(!ticket(&gate).renew);
    }
}
