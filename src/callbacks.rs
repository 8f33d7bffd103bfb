//! The user's closures, one per event, as one `Handler`.

use crate::event::{Event, EventKind, Handler, ReadLine, Verdict, consult};
use crate::health::HostChange;
use crate::outcome::Report;
use crate::steps::StepTaken;

type Callback = Box<dyn FnMut(&Event<'_>) -> Verdict + Send>;
type OnReport = Box<dyn FnMut(Report<'_>) + Send>;
type OnRead = Box<dyn FnMut(&ReadLine<'_>) + Send>;
type OnHostChange = Box<dyn FnMut(&HostChange<'_>) + Send>;
type OnStep = Box<dyn FnMut(&StepTaken<'_>) + Send>;

/// Closures that decide; an event without one goes to the base handler.
pub(crate) struct Callbacks {
    by_kind: [Option<Callback>; EventKind::COUNT],
    on_report: Option<OnReport>,
    on_read: Option<OnRead>,
    on_host_change: Option<OnHostChange>,
    on_step: Option<OnStep>,
    base: Box<dyn Handler + Send>,
}

impl Default for Callbacks {
    fn default() -> Callbacks {
        Callbacks {
            by_kind: std::array::from_fn(|_| None),
            on_report: None,
            on_read: None,
            on_host_change: None,
            on_step: None,
            base: Box::new(()),
        }
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

    pub(crate) fn on_host_change(&mut self, callback: OnHostChange) {
        self.on_host_change = Some(callback);
    }

    pub(crate) fn host_changed(&mut self, change: &HostChange<'_>) {
        match &mut self.on_host_change {
            Some(callback) => callback(change),
            None => self.base.host_changed(change),
        }
    }

    pub(crate) fn on_step(&mut self, callback: OnStep) {
        self.on_step = Some(callback);
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

    pub(crate) fn wants_steps(&self) -> bool {
        self.on_step.is_some() || self.base.wants_steps()
    }

    pub(crate) fn step_taken(&mut self, taken: &StepTaken<'_>) {
        match &mut self.on_step {
            Some(callback) => callback(taken),
            None => self.base.step_taken(taken),
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

    /// Counts steps.
    struct Looking(std::sync::Arc<std::sync::atomic::AtomicUsize>);

    impl Handler for Looking {
        fn wants_steps(&self) -> bool {
            true
        }
        fn step_taken(&mut self, _: &StepTaken<'_>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    }

    #[test]
    fn steps_are_told_to_the_closure_or_else_to_the_base() {
        let now = std::time::Instant::now();
        let step = StepTaken {
            lane: LaneId { host: 0, thread: 3 },
            host: "mx.example",
            batch: 7,
            step: Step::Mail,
            last_step: Step::Data,
            mails: 1,
            began: now,
            over: now + Duration::from_millis(12),
            judged: now + Duration::from_millis(15),
            end: crate::steps::StepEnd::Passed,
            is_in_batch: true,
            is_reopening: false,
        };
        let said = "mx.example:3 MAIL to DATA of batch 7 took 12ms, waited 3ms: passed";
        assert_eq!(step.to_string(), said);
        let count = || std::sync::Arc::<std::sync::atomic::AtomicUsize>::default();
        let (base, closure) = (count(), count());
        let mut callbacks = Callbacks::default();
        assert!(!callbacks.wants_steps());
        callbacks.base(Box::new(Looking(base.clone())));
        assert!(callbacks.wants_steps());
        callbacks.step_taken(&step);
        let mut looking = Looking(closure.clone());
        callbacks.base(Box::new(()));
        callbacks.on_step(Box::new(move |taken| looking.step_taken(taken)));
        assert!(callbacks.wants_steps());
        callbacks.step_taken(&step);
        let told = [base, closure].map(|count| count.load(std::sync::atomic::Ordering::SeqCst));
        assert_eq!(told, [1, 1]);
    }
}
