//! When nothing moves on any lane although something is awaited: all that wait are
//! told so at once, and opened anew, each content whose reply is awaited excepted.

use std::time::Instant;

use super::Coordinator;
use super::lane::{Lane, Link, Standing};
use super::muster::{Is, Survey};
use crate::event::{Event, EventKind, Evidence, Handler, consult};
use crate::failure::Failure;
use crate::timeouts::after;

/// Before nothing is known to have come everything has to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Look {
    #[default]
    None,
    Wanted,
    Made(Instant),
}

impl Coordinator {
    /// Whether anything is under way that a peer could hold up.
    fn is_under_way(&self, survey: &Survey) -> bool {
        let resting = survey.lanes(Is::Active) + survey.lanes(Is::AtRest) + survey.lanes(Is::Retired);
        survey.held > 0 || (survey.has(Is::Connected) && resting < self.lanes.len())
    }

    /// When it is to be looked whether all stand still, at the earliest.
    pub(super) fn watch_standstill(&mut self, survey: &Survey, now: Instant) -> Option<Instant> {
        let timeout = self.desk.settings.global_timeout?;
        if !self.is_under_way(survey) || self.closing {
            self.still_at = None;
        } else if self.still_at.is_none() {
            self.still_at = Some(after(now, timeout));
        }
        self.still_at
    }

    /// Whether io is to read what has come on all lanes, of which some may not have been
    /// listened to, or nobody has polled: see [`Coordinator::has_looked`].
    pub fn wants_look(&self) -> bool {
        self.look == Look::Wanted
    }

    /// Everything that had come on any lane at `now` was read.
    pub fn has_looked(&mut self, now: Instant) {
        if self.look == Look::Wanted {
            self.look = Look::Made(now);
        }
    }

    /// Looks whether all stand still, if it is time, and ends that.
    pub(super) fn end_standstill<H: Handler + ?Sized>(&mut self, now: Instant, handler: &mut H) {
        let Some(timeout) = self.desk.settings.global_timeout else { return };
        if self.still_at.is_none_or(|at| now < at) {
            return;
        }
        let latest = self.lanes.iter().filter_map(Lane::active_at).max();
        let until = after(latest.unwrap_or(now), timeout);
        let oldest = self.lanes.iter().filter(|lane| lane.is_held_up()).min_by_key(|lane| lane.active_at());
        let Some(lane) = oldest.filter(|_| until <= now) else {
            self.still_at = Some(if until <= now { after(now, timeout) } else { until });
            self.look = Look::None;
            return;
        };
        // What has come counts, whenever it is read.
        if !matches!(self.look, Look::Made(at) if at >= until) {
            self.look = Look::Wanted;
            return;
        }
        self.look = Look::None;
        self.still_at = None;
        let failure = Failure::StoodStill { after: timeout };
        let step = lane.session.step();
        let event = Event {
            kind: EventKind::GlobalHang,
            lane: lane.id,
            host: &lane.host.name,
            step: if lane.link == Link::Up { step } else { crate::session::Step::Connect },
            message: None,
            recipient: None,
            evidence: Evidence::Failure(&failure),
            attempt: lane.setbacks.count() + 1,
            elapsed: now.saturating_duration_since(lane.active_at().unwrap_or(now)),
        };
        let is_wanted = self.desk.guard(|| handler.wants(EventKind::GlobalHang)).unwrap_or_default();
        let told = if is_wanted { self.desk.guard(|| consult(handler, &event)) } else { None };
        self.desk.said_of_standstill = told.unwrap_or_default();
        for place in 0..self.lanes.len() {
            let Some(mut judge) = self.judge(place, now, handler) else { continue };
            if !judge.lane.is_held_up() {
                continue;
            }
            match judge.lane.link {
                Link::Up => judge.lane.session.lost_at(failure.clone(), now),
                _ => judge.lane.dial_failure = Some(failure.clone()),
            }
            judge.judge();
        }
    }
}

impl Lane {
    /// When anything came or went on it last; `None` while it has no connection.
    fn active_at(&self) -> Option<Instant> {
        match self.link {
            Link::Up => self.session.moved_at(),
            Link::Dialling => self.dialled_at(),
            Link::Down | Link::Wanted => None,
        }
    }

    /// Whether its peer is waited for, and not for a reply to a content that is out.
    fn is_held_up(&self) -> bool {
        match self.link {
            Link::Down | Link::Wanted => false,
            Link::Dialling => true,
            Link::Up if self.session.is_over() || self.session.has_doubt() => false,
            Link::Up => !self.mails.is_empty() || self.owes_dot || self.standing == Standing::Opening,
        }
    }
}
