//! Stands between the coordinator and the user's callbacks, and writes down what
//! they were told.

use std::sync::Arc;

use crate::callbacks::Callbacks;
use crate::event::{Event, EventKind, Handler, Verdict, WithoutLane};
use crate::health::{HostChange, HostNews};
use crate::journal::{Journal, Level};
use crate::outcome::{Outcome, Report};
use crate::steps::StepTaken;

/// The user's callbacks, with a journal of what they were told.
pub(super) struct Watch {
    pub(super) callbacks: Callbacks,
    pub(super) journal: Arc<Journal>,
    pub(super) last_trouble: Option<String>,
}

impl Watch {
    fn told(&mut self, event: &Event<'_>) -> Verdict {
        let (host, thread) = (event.host, event.lane.thread as usize);
        if event.kind.is_trouble() {
            let code = event.reply().map(|reply| reply.code());
            let blames_session = code.is_some_and(|code| code.is_closing() || code.blames_session());
            if event.failure().is_some() || blames_session || event.kind == EventKind::AuthFail {
                self.last_trouble = Some(event.to_string());
            }
            if self.journal.wants(Level::TROUBLE) {
                self.journal.trouble(host, thread, format_args!("{}", WithoutLane(event)));
            }
        } else if self.journal.wants(Level::PASSES) {
            self.journal.pass(host, thread, format_args!("{}", WithoutLane(event)));
        }
        self.callbacks.ask(event)
    }
}

impl Handler for Watch {
    fn wants(&self, kind: EventKind) -> bool {
        kind.is_trouble() || self.journal.wants(Level::PASSES) || self.callbacks.wants(kind)
    }
    fn connect_pass(&mut self, event: &Event<'_>) -> Verdict {
        self.told(event)
    }
    fn connect_fail(&mut self, event: &Event<'_>) -> Verdict {
        self.told(event)
    }
    fn auth_pass(&mut self, event: &Event<'_>) -> Verdict {
        self.told(event)
    }
    fn auth_fail(&mut self, event: &Event<'_>) -> Verdict {
        self.told(event)
    }
    fn reconnect_pass(&mut self, event: &Event<'_>) -> Verdict {
        self.told(event)
    }
    fn reconnect_fail(&mut self, event: &Event<'_>) -> Verdict {
        self.told(event)
    }
    fn pass(&mut self, event: &Event<'_>) -> Verdict {
        self.told(event)
    }
    fn fail(&mut self, event: &Event<'_>) -> Verdict {
        self.told(event)
    }
    fn hang(&mut self, event: &Event<'_>) -> Verdict {
        self.told(event)
    }
    fn global_hang(&mut self, event: &Event<'_>) -> Verdict {
        self.told(event)
    }
    fn report(&mut self, report: Report<'_>) {
        let is_trouble = !matches!(report.outcome, Outcome::Delivered(_));
        let level = if is_trouble { Level::TROUBLE } else { Level::PASSES };
        if self.journal.wants(level) {
            let id = report.message.message_id();
            self.journal.summary(format_args!("report {id}: {}", report.outcome));
        }
        self.callbacks.report(report);
    }
    fn host_changed(&mut self, change: &HostChange<'_>) {
        match change.news {
            HostNews::Slowed { .. } => log::warn!("{change}"),
            // Why it rests has been told as it happened.
            HostNews::Rests { .. } | HostNews::Recovered | HostNews::Back => log::info!("{change}"),
        }
        self.callbacks.host_changed(change);
    }
    fn wants_steps(&self) -> bool {
        self.callbacks.wants_steps()
    }
    fn step_taken(&mut self, taken: &StepTaken<'_>) {
        self.callbacks.step_taken(taken);
    }
}
