//! Tells those who only look of each step of a lane, as it is judged. Where nobody
//! looks, that is one question a step. It changes nothing.

use std::time::Instant;

use super::judge::Judge;
use super::lane::{Lane, Link, Part, Standing};
use crate::event::Handler;
use crate::failure::Failure;
use crate::session::Step;
use crate::steps::{StepEnd, StepTaken};

impl<H: Handler + ?Sized> Judge<'_, H> {
    /// The step that is over is going to be judged.
    pub(super) fn tell_step(&mut self) {
        if self.wants_steps() {
            self.tell_taken(over);
        }
    }

    /// The lane fails with another one while it waits to authenticate.
    pub(super) fn tell_put_off<'t>(&'t mut self, failure: &'t Failure) {
        if self.wants_steps() {
            self.tell_taken(|_, now| Some(Told::at_gate(now, failure)));
        }
    }

    /// Whatever the lane is at is given up; what it has finished is judged first.
    pub(super) fn tell_given_up(&mut self) {
        if self.wants_steps() {
            self.tell_taken(
                |lane, now| if lane.is_judgeable() { over(lane, now) } else { given_up(lane, now) },
            );
        }
    }

    fn wants_steps(&mut self) -> bool {
        let handler = &*self.handler;
        self.desk.guard(|| handler.wants_steps()).unwrap_or_default()
    }

    fn tell_taken<'t>(&'t mut self, what: impl FnOnce(&'t Lane, Instant) -> Option<Told<'t>>) {
        let Judge { lane, desk, handler, now } = self;
        let (lane, now): (&'t Lane, Instant) = (lane, *now);
        let Some(told) = what(lane, now) else { return };
        let is_opening = matches!(told.step, Step::Connect | Step::Auth);
        let taken = StepTaken {
            lane: lane.id,
            host: &lane.host.name,
            batch: desk.summary.batches,
            step: told.step,
            last_step: told.last_step,
            mails: u32::try_from(lane.held()).unwrap_or(u32::MAX),
            began: told.began,
            over: told.over.min(now).max(told.began),
            judged: now,
            end: told.end,
            is_in_batch: lane.part == Part::Batch,
            is_reopening: is_opening && !lane.is_first_opening,
        };
        desk.guard(|| handler.step_taken(&taken));
    }
}

/// What of a [`StepTaken`] is known of the session.
struct Told<'a> {
    step: Step,
    last_step: Step,
    began: Instant,
    over: Instant,
    end: StepEnd<'a>,
}

impl<'a> Told<'a> {
    /// The connection is given up while its lane waits for its turn to authenticate.
    fn at_gate(now: Instant, failure: &'a Failure) -> Told<'a> {
        let end = StepEnd::Failed(failure);
        Told { step: Step::Auth, last_step: Step::Auth, began: now, over: now, end }
    }

    fn opening(lane: &Lane, last_step: Step, now: Instant, end: StepEnd<'a>) -> Told<'a> {
        let began = now.checked_sub(lane.opening_took(now)).unwrap_or(now);
        Told { step: Step::Connect, last_step, began, over: now, end }
    }
}

/// The lane's step that is over.
fn over(lane: &Lane, now: Instant) -> Option<Told<'_>> {
    if let Some(failure) = &lane.dial_failure {
        return Some(Told::opening(lane, Step::Connect, now, StepEnd::Failed(failure)));
    }
    if lane.link != Link::Up {
        return None;
    }
    let session = &lane.session;
    let failure = session.failure();
    if let Some(failure) = failure.filter(|_| lane.waits_at_gate) {
        return Some(Told::at_gate(session.moved_at().unwrap_or(now), failure));
    }
    let is_auth = session.has_answer() || session.step() == Step::Auth;
    if lane.standing == Standing::Opening && !session.is_leaving() && !is_auth {
        // Nobody waits for it, so that it is judged as soon as it is over.
        let last_step = if failure.is_some() { session.step() } else { Step::Ehlo };
        return Some(Told::opening(lane, last_step, now, failure.map_or(StepEnd::Passed, StepEnd::Failed)));
    }
    let moved_at = session.moved_at();
    let (step, last_step) = session.asked();
    let began = session.began().filter(|_| session.is_in_flight()).or(moved_at).unwrap_or(now);
    let refusal = session.refusal();
    let end = match (failure, refusal) {
        // A refused login is judged, whatever has come behind it.
        (Some(failure), Some(_)) if step != Step::Auth => StepEnd::Failed(failure),
        (_, Some(code)) => StepEnd::Refused(code),
        (Some(failure), None) => StepEnd::Failed(failure),
        (None, None) => StepEnd::Passed,
    };
    // A content of ours that breaks off before its first octet does so at once.
    let is_ours = matches!(failure, Some(Failure::Content(_)));
    let unknown = if is_ours { began } else { now };
    let over = moved_at.filter(|at| *at >= began).unwrap_or(unknown);
    Some(Told { step, last_step, began, over, end })
}

/// What the lane is at, unless that was begun only now.
fn given_up(lane: &Lane, now: Instant) -> Option<Told<'_>> {
    let session = &lane.session;
    let end = StepEnd::GivenUp;
    let told = match lane.link {
        Link::Dialling => Told::opening(lane, Step::Connect, now, end),
        Link::Up if session.is_over() => return None,
        Link::Up if lane.is_being_opened() && session.step() != Step::Auth => {
            Told::opening(lane, session.step(), now, end)
        }
        Link::Up => {
            let (step, last_step) = session.asked();
            Told { step, last_step, began: session.began()?, over: now, end }
        }
        Link::Down | Link::Wanted => return None,
    };
    Some(told).filter(|told| told.began < now)
}
