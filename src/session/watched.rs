//! What those want to know of a flight who only look: what it asked, when it was
//! over, and whether anything was refused.

use std::time::Instant;

use super::Session;
use super::flight::Step;
use crate::failure::Failure;
use crate::reply::ReplyCode;

impl Session {
    /// As [`Session::lost`], and says when that was noticed. Whoever moves bytes long
    /// before it is settled should say so: else it counts as noticed then.
    pub fn lost_at(&mut self, failure: Failure, now: Instant) {
        if self.failure.is_none() {
            self.lost(failure);
            self.moved_at = Some(now);
        }
    }

    /// When octets were moved last, or a failure was noticed; `None` when nobody knows.
    pub(crate) fn moved_at(&self) -> Option<Instant> {
        self.moved_at
    }

    /// The first and the last thing that the current flight asked.
    pub(crate) fn asked(&self) -> (Step, Step) {
        match self.replies.ends() {
            Some((first, last)) => (first.step, last.step),
            None => (self.step(), self.step()),
        }
    }

    /// Whether anything of the current flight has not been judged: else a failure came
    /// when the session rested.
    pub(crate) fn is_in_flight(&self) -> bool {
        !self.replies.are_all_judged()
    }

    /// The first refusal among the replies of this flight.
    pub(crate) fn refusal(&self) -> Option<ReplyCode> {
        let codes = self.replies.all_come().map(|(_, said)| said.code);
        { codes }.find(|code| code.is_transient() || code.is_permanent())
    }
}
