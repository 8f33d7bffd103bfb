//! Finds connections over which nothing moves, with one timer for all of them.
//!
//! A connection that is busy pays one store to a cell, and never reads the clock.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use smol::Timer;

/// Into how many looks the timeout is divided; it is overrun by one of them at most.
const LOOKS: u32 = 8;

/// The shortest time between two looks.
const SHORTEST_LOOK: Duration = Duration::from_millis(1);

/// The sign of life of one connection.
#[derive(Default)]
pub(super) struct Pulse {
    quiet_looks: Cell<u32>,
    waker: Cell<Option<Waker>>,
}

/// The pulses of all connections, by connection number.
#[derive(Default)]
pub(super) struct Watch {
    pulses: RefCell<HashMap<u64, Rc<Pulse>>>,
}

impl Pulse {
    /// Something has moved.
    pub(super) fn beat(&self) {
        self.quiet_looks.set(0);
    }

    /// Ready when nothing has moved for too long; asked only by one who waits for a movement.
    pub(super) fn poll_expired(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_expired() {
            return Poll::Ready(());
        }
        let waker = self
            .waker
            .take()
            .filter(|waker| waker.will_wake(cx.waker()))
            .unwrap_or_else(|| cx.waker().clone());
        self.waker.set(Some(waker));
        Poll::Pending
    }

    /// One look more than the timeout has: the first may have come right behind the last movement.
    fn is_expired(&self) -> bool {
        self.quiet_looks.get() > LOOKS
    }

    fn look(&self) {
        self.quiet_looks.set(self.quiet_looks.get().saturating_add(1));
        if self.is_expired() {
            self.waker.take().into_iter().for_each(Waker::wake);
        }
    }
}

impl Watch {
    pub(super) fn begin(&self, connection: u64) -> Rc<Pulse> {
        let pulse = Rc::new(Pulse::default());
        self.pulses.borrow_mut().insert(connection, Rc::clone(&pulse));
        pulse
    }

    /// How many connections there are.
    pub(super) fn len(&self) -> usize {
        self.pulses.borrow().len()
    }

    pub(super) fn end(&self, connection: u64) {
        self.pulses.borrow_mut().remove(&connection);
    }

    /// Looks at every pulse, for ever.
    pub(super) async fn keep(&self, timeout: Duration) {
        loop {
            Timer::after((timeout / LOOKS).max(SHORTEST_LOOK)).await;
            self.pulses.borrow().values().for_each(|pulse| pulse.look());
        }
    }
}
