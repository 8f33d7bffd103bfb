//! The handler of a script: notes all that it is told, and decides as the test says.

use std::time::{Duration, Instant};

use super::super::smtp_bulk::{
    Event, EventKind, Failure, Handler, HostChange, HostNews, LaneId, Report, Step, StepTaken, Verdict,
};
use super::number;

/// An event as it was told.
#[derive(Clone, PartialEq, Debug)]
pub struct Seen {
    pub kind: EventKind,
    pub step: Step,
    pub lane: LaneId,
    pub id: Option<u64>,
    pub attempt: u32,
    pub code: Option<u16>,
    pub failure: Option<Failure>,
    pub elapsed: Duration,
}

/// A report as it was told.
#[derive(Clone, PartialEq, Debug)]
pub struct Told {
    pub id: u64,
    pub outcome: &'static str,
    pub text: String,
    pub attempts: u32,
    pub lane: Option<LaneId>,
    pub recipients: Vec<String>,
}

/// A step as it was told.
#[derive(Clone, PartialEq, Debug)]
pub struct Taken {
    pub lane: LaneId,
    pub batch: u64,
    pub steps: (Step, Step),
    pub mails: u32,
    pub began: Instant,
    pub took: Duration,
    pub waited: Duration,
    pub end: String,
    pub is_in_batch: bool,
    pub is_reopening: bool,
}

/// The handler: notes everything, and decides as it was told to.
pub struct Notes {
    pub seen: Vec<Seen>,
    pub told: Vec<Told>,
    /// What has changed about hosts.
    pub news: Vec<(u32, HostNews)>,
    pub decide: Box<dyn FnMut(&Event<'_>) -> Verdict>,
    pub on_report: Box<dyn FnMut(&Report<'_>)>,
    pub wants: Box<dyn Fn(EventKind) -> bool>,
    /// The steps, where they are wanted.
    pub taken: Option<Vec<Taken>>,
    pub on_step: Box<dyn FnMut(&StepTaken<'_>)>,
}

impl Notes {
    fn note(&mut self, event: &Event<'_>) -> Verdict {
        self.seen.push(Seen {
            kind: event.kind,
            step: event.step,
            lane: event.lane,
            id: event.message.map(number),
            attempt: event.attempt,
            code: event.reply().map(|reply| reply.code().as_u16()),
            failure: event.failure().cloned(),
            elapsed: event.elapsed,
        });
        (self.decide)(event)
    }
}

impl Handler for Notes {
    fn wants(&self, kind: EventKind) -> bool {
        (self.wants)(kind)
    }
    fn connect_pass(&mut self, event: &Event<'_>) -> Verdict {
        assert_eq!(event.kind, EventKind::ConnectPass);
        self.note(event)
    }
    fn connect_fail(&mut self, event: &Event<'_>) -> Verdict {
        assert_eq!(event.kind, EventKind::ConnectFail);
        self.note(event)
    }
    fn auth_pass(&mut self, event: &Event<'_>) -> Verdict {
        assert_eq!(event.kind, EventKind::AuthPass);
        self.note(event)
    }
    fn auth_fail(&mut self, event: &Event<'_>) -> Verdict {
        assert_eq!(event.kind, EventKind::AuthFail);
        self.note(event)
    }
    fn reconnect_pass(&mut self, event: &Event<'_>) -> Verdict {
        assert_eq!(event.kind, EventKind::ReconnectPass);
        self.note(event)
    }
    fn reconnect_fail(&mut self, event: &Event<'_>) -> Verdict {
        assert_eq!(event.kind, EventKind::ReconnectFail);
        self.note(event)
    }
    fn pass(&mut self, event: &Event<'_>) -> Verdict {
        assert_eq!(event.kind, EventKind::Pass);
        self.note(event)
    }
    fn fail(&mut self, event: &Event<'_>) -> Verdict {
        assert_eq!(event.kind, EventKind::Fail);
        self.note(event)
    }
    fn hang(&mut self, event: &Event<'_>) -> Verdict {
        assert_eq!(event.kind, EventKind::Hang);
        self.note(event)
    }
    fn global_hang(&mut self, event: &Event<'_>) -> Verdict {
        assert_eq!(event.kind, EventKind::GlobalHang);
        self.note(event)
    }
    fn report(&mut self, report: Report<'_>) {
        self.told.push(Told {
            id: number(&report.message),
            outcome: report.outcome.name(),
            text: report.outcome.to_string(),
            attempts: report.attempts,
            lane: report.lane,
            recipients: report
                .recipients()
                .map(|one| format!("{} {}", one.path, one.outcome.name()))
                .collect(),
        });
        (self.on_report)(&report);
    }
    fn host_changed(&mut self, change: &HostChange<'_>) {
        self.news.push((change.host, change.news));
    }
    fn wants_steps(&self) -> bool {
        self.taken.is_some()
    }
    fn step_taken(&mut self, taken: &StepTaken<'_>) {
        let steps = self.taken.as_mut().expect("told of steps that are not wanted");
        steps.push(Taken {
            lane: taken.lane,
            batch: taken.batch,
            steps: (taken.step, taken.last_step),
            mails: taken.mails,
            began: taken.began,
            took: taken.took(),
            waited: taken.waited(),
            end: taken.end.to_string(),
            is_in_batch: taken.is_in_batch,
            is_reopening: taken.is_reopening,
        });
        (self.on_step)(taken);
    }
}
