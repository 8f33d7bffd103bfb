//! The user's closures, one per event, as one `Handler`.

use crate::event::{Event, EventKind, Handler, Verdict, consult};
use crate::outcome::Report;

type Callback = Box<dyn FnMut(&Event<'_>) -> Verdict + Send>;
type OnReport = Box<dyn FnMut(Report<'_>) + Send>;

/// Closures that decide; an event without one goes to the base handler.
pub(crate) struct Callbacks {
    by_kind: [Option<Callback>; EventKind::COUNT],
    on_report: Option<OnReport>,
    base: Box<dyn Handler + Send>,
}

impl Default for Callbacks {
    fn default() -> Callbacks {
        Callbacks { by_kind: std::array::from_fn(|_| None), on_report: None, base: Box::new(()) }
    }
}

impl Callbacks {
    pub(crate) fn on(&mut self, kind: EventKind, callback: Callback) {
        if let Some(slot) = self.by_kind.get_mut(kind as usize) {
            *slot = Some(callback);
        }
    }

    pub(crate) fn on_report(&mut self, callback: OnReport) {
        self.on_report = Some(callback);
    }

    pub(crate) fn base(&mut self, handler: Box<dyn Handler + Send>) {
        self.base = handler;
    }

    pub(crate) fn ask(&mut self, event: &Event<'_>) -> Verdict {
        match self.by_kind.get_mut(event.kind as usize) {
            Some(Some(callback)) => callback(event),
            _ => consult(&mut *self.base, event),
        }
    }

    pub(crate) fn report(&mut self, report: Report<'_>) {
        match &mut self.on_report {
            Some(callback) => callback(report),
            None => self.base.report(report),
        }
    }
}
