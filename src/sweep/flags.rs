//! One readiness flag per lane: who is ready is known without asking all.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

/// The flags of all lanes, and the task that is woken when one is raised.
pub(super) struct Flags {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Which flags are raised, so that each is listed once.
    is_raised: Vec<bool>,
    raised: Vec<usize>,
    task: Option<Waker>,
}

struct Flag {
    index: usize,
    flags: Arc<Flags>,
}

impl Flags {
    /// This many flags, all lowered.
    pub(super) fn new(count: usize) -> Arc<Flags> {
        let inner = Inner { is_raised: vec![false; count], ..Inner::default() };
        Arc::new(Flags { inner: Mutex::new(inner) })
    }

    /// One more, which is lowered, and is the last one.
    pub(super) fn add(&self) {
        self.lock().is_raised.push(false);
    }

    /// A waker that raises the flag number `index`.
    pub(super) fn waker(self: &Arc<Flags>, index: usize) -> Waker {
        Waker::from(Arc::new(Flag { index, flags: Arc::clone(self) }))
    }

    /// From now on `task` is woken.
    pub(super) fn serve(&self, task: &Waker) {
        let mut inner = self.lock();
        if !inner.task.as_ref().is_some_and(|old| old.will_wake(task)) {
            inner.task = Some(task.clone());
        }
    }

    /// Lowers all flags and puts the numbers of those that were raised into
    /// `raised`, which must be empty.
    pub(super) fn take_raised(&self, raised: &mut Vec<usize>) {
        let mut inner = self.lock();
        std::mem::swap(&mut inner.raised, raised);
        for index in raised.iter() {
            if let Some(flag) = inner.is_raised.get_mut(*index) {
                *flag = false;
            }
        }
    }

    /// Whether no flag is raised.
    pub(super) fn is_quiet(&self) -> bool {
        self.lock().raised.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut inner = self.flags.lock();
        match inner.is_raised.get_mut(self.index) {
            Some(flag) if !*flag => *flag = true,
            _ => return,
        }
        inner.raised.push(self.index);
        let task = inner.task.clone();
        drop(inner);
        if let Some(task) = task {
            task.wake();
        }
    }
}
