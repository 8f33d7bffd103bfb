//! NOOP on connections that have been quiet for too long, so that their servers keep
//! them, and those that are gone are noticed before there is a mail. It is never said
//! within a transaction, nor in one flight with anything else, and nobody waits for its
//! reply.

use std::time::{Duration, Instant};

use super::judge::Judge;
use super::lane::{Bench, Lane, Link, Standing};
use super::muster::{Is, Survey};
use super::{Coordinator, earliest};
use crate::event::Handler;
use crate::failure::Failure;
use crate::host::{HostSettings, SHORTEST_QUIET};
use crate::timeouts::after;

/// How long nothing may be heard from this host.
fn most_quiet(host: &HostSettings) -> Option<Duration> {
    host.noop_after.map(|quiet| quiet.max(SHORTEST_QUIET))
}

impl Coordinator {
    /// Whether to look who has been quiet for too long.
    pub(super) fn is_noop_due(&self, survey: &Survey, now: Instant) -> bool {
        self.noop_at(survey).is_some_and(|at| at <= now)
    }

    /// When that is, where a lane is quiet at all: a bound, so that nobody looks at a
    /// thousand lanes because of one. It is made anew when it has passed.
    pub(super) fn noop_at(&self, survey: &Survey) -> Option<Instant> {
        self.muster.noop_at.filter(|_| survey.has(Is::Quiet) && !self.closing)
    }

    /// Those say NOOP that have been quiet for too long.
    pub(super) fn say_noops(&mut self, now: Instant) {
        let mut next: Option<Instant> = None;
        for place in 0..self.lanes.len() {
            match self.lanes.get(place).and_then(Lane::quiet_until) {
                Some(at) if at > now => next = earliest(next, Some(at)),
                Some(_) => self.change(place).into_iter().for_each(|lane| lane.say_noop(now)),
                None => {}
            }
        }
        self.muster.noop_at = next;
    }
}

impl Lane {
    /// Whether its connection stands, it has nothing to do, and its host is to hear
    /// NOOP now and then.
    pub(super) fn is_quiet(&self) -> bool {
        let is_kept = match self.standing {
            Standing::Active => true,
            Standing::Benched => self.bench == Some(Bench::Rejoin) && !self.sits_outside,
            Standing::Opening | Standing::Resting | Standing::Retired => false,
        };
        self.host.noop_after.is_some()
            && is_kept
            && self.link == Link::Up
            && self.mails.is_empty()
            && !self.owes_dot
            && !self.is_at_noop
            && self.session.is_usable()
    }

    /// Until when it may say nothing.
    pub(super) fn quiet_until(&self) -> Option<Instant> {
        if !self.is_quiet() {
            return None;
        }
        Some(after(self.session.heard_at()?, most_quiet(&self.host)?))
    }

    /// Behind a mail that was refused RSET is due anyway, and shows as much.
    fn say_noop(&mut self, now: Instant) {
        let needs_reset = self.session.needs_reset();
        let mut flight = self.session.flight(now);
        if needs_reset {
            flight.reset()
        } else {
            flight.noop()
        }
        self.is_at_noop = true;
    }
}

impl<H: Handler + ?Sized> Judge<'_, H> {
    /// What came answers a question of the caller's, or NOOP. A server that refuses
    /// NOOP, which no server has a reason to, is not fit for a mail.
    pub(super) fn answered_without_mail(&mut self) {
        let lane = &mut *self.lane;
        if !std::mem::take(&mut lane.is_at_noop) {
            lane.answer_question();
        } else if let Some(answer) = lane.session.answer().filter(|answer| !answer.is_pass()) {
            let refusal = Failure::Refused(answer.reply.to_owned());
            lane.session.lost(refusal);
        } else {
            lane.has_kept_quiet = true;
        }
        lane.session.answer_judged();
    }
}
