//! The user's closures, one per event, as one `Handler`.

use crate::event::{Event, EventKind, Handler, ReadLine, Verdict, consult};
use crate::outcome::Report;

type Callback = Box<dyn FnMut(&Event<'_>) -> Verdict + Send>;
type OnReport = Box<dyn FnMut(Report<'_>) + Send>;
type OnRead = Box<dyn FnMut(&ReadLine<'_>) + Send>;

/// Closures that decide; an event without one goes to the base handler.
pub(crate) struct Callbacks {
    by_kind: [Option<Callback>; EventKind::COUNT],
    on_report: Option<OnReport>,
    on_read: Option<OnRead>,
    base: Box<dyn Handler + Send>,
}

impl Default for Callbacks {
    fn default() -> Callbacks {
        let by_kind = std::array::from_fn(|_| None);
        Callbacks { by_kind, on_report: None, on_read: None, base: Box::new(()) }
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

    pub(crate) fn on_read(&mut self, callback: OnRead) {
        self.on_read = Some(callback);
    }

    pub(crate) fn wants_lines(&self) -> bool {
        self.on_read.is_some() || self.base.wants_lines()
    }

    pub(crate) fn read(&mut self, line: &ReadLine<'_>) {
        match &mut self.on_read {
            Some(callback) => callback(line),
            None => self.base.read(line),
        }
    }

    pub(crate) fn base(&mut self, handler: Box<dyn Handler + Send>) {
        self.base = handler;
    }

    pub(crate) fn wants(&self, kind: EventKind) -> bool {
        self.by_kind.get(kind as usize).is_some_and(Option::is_some) || self.base.wants(kind)
    }

    pub(crate) fn ask(&mut self, event: &Event<'_>) -> Verdict {
        match self.by_kind.get_mut(event.kind as usize) {
            Some(Some(callback)) => callback(event),
            // The journal may have wanted it.
            _ if !self.base.wants(event.kind) => Verdict::DEFAULT,
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::event::Evidence;
    use crate::host::LaneId;
    use crate::session::Step;

    /// Looks at nothing that went well.
    struct Troubled;

    impl Handler for Troubled {
        fn wants(&self, kind: EventKind) -> bool {
            kind.is_trouble()
        }
        fn pass(&mut self, _: &Event<'_>) -> Verdict {
            panic!("told of what it does not want to know")
        }
        fn fail(&mut self, _: &Event<'_>) -> Verdict {
            Verdict::BENCH
        }
    }

    fn event(kind: EventKind) -> Event<'static> {
        Event {
            kind,
            lane: LaneId { host: 0, thread: 0 },
            host: "mx.example",
            step: Step::Mail,
            message: None,
            recipient: None,
            evidence: Evidence::Opened,
            attempt: 1,
            elapsed: Duration::ZERO,
        }
    }

    #[test]
    fn an_event_is_wanted_by_its_closure_or_by_the_base() {
        let mut callbacks = Callbacks::default();
        assert!(!callbacks.wants(EventKind::Pass) && !callbacks.wants(EventKind::Fail));
        callbacks.on(EventKind::ConnectPass, Box::new(|_| Verdict::RETIRE));
        callbacks.base(Box::new(Troubled));
        assert!(callbacks.wants(EventKind::ConnectPass) && callbacks.wants(EventKind::Fail));
        assert!(!callbacks.wants(EventKind::Pass));
        assert_eq!(callbacks.ask(&event(EventKind::ConnectPass)), Verdict::RETIRE);
        assert_eq!(callbacks.ask(&event(EventKind::Fail)), Verdict::BENCH);
        assert_eq!(callbacks.ask(&event(EventKind::Pass)), Verdict::DEFAULT);
    }
}
