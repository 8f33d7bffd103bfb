//! Moves bytes between the lanes' sessions and their connections until there
//! is something to settle, and decides nothing. It is the only place that
//! waits, and it keeps all of its state between calls, so that a dropped
//! future only stops progress.
//!
//! Lanes that do different things (connect, say hello, write what does not fit
//! at once) have a readiness flag each. Lanes of the batch that only owe a
//! reply have an order, in which one at a time is awaited: the barrier waits for
//! the last one anyway, and a wait costs half a dozen system calls.

mod flags;
mod lines;
mod names;
mod order;
mod turns;
mod wire;

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use async_io::Timer;

use crate::coordinator::{Coordinator, Lane, Link};
use crate::event::ReadLine;
use crate::failure::Failure;
use crate::fault::IoFault;
use crate::host::HostSettings;
use crate::journal::Journal;
use crate::pace::Pace;
use crate::timeouts::{SHORTAGE_WAIT, after};
use crate::tls::TlsClient;
use crate::transport::{self, Connector, DialError, MOST_ASKED, Target, dial_tcp};
use flags::Flags;
use lines::Lines;
use names::{Addresses, Names};
use turns::Turns;
use wire::{Buffers, Slot, Task, Wire, Written};

/// Rounds of one poll, after which others get a turn: a server, or a stream of
/// the caller's, can always have something more.
const MOST_ROUNDS: u32 = 4;

/// What io does for one host besides its settings.
pub(crate) struct HostLink {
    name: String,
    connector: Option<Connector>,
    names: Names,
    tls: Option<TlsClient>,
}

/// A host as the sweep needs it.
pub(crate) struct Reached {
    pub(crate) settings: HostSettings,
    pub(crate) connector: Option<Connector>,
    pub(crate) tls: Option<TlsClient>,
}

/// See the module.
pub(crate) struct Sweep {
    slots: Vec<Slot>,
    hosts: Vec<HostLink>,
    pace: Pace,
    /// Every reply is read when it comes, and none in an order.
    listens_to_all: bool,
    flags: Arc<Flags>,
    /// Somebody called from outside, which a settle has to look at.
    is_called: bool,
    turns: Turns,
    journal: Arc<Journal>,
    /// A settle has been made since the last poll.
    settled: bool,
    /// The lanes that only owe a reply; all before the cursor are over.
    order: Vec<usize>,
    cursor: usize,
    /// The place in the order whose lane wakes the task.
    awaited: Option<usize>,
    /// Where nobody waits for anybody, the lanes that only owe a reply and are not
    /// listened to, those that were asked first ahead.
    queue: VecDeque<usize>,
    /// When all of these are looked at, where it is not known who is late.
    next_look: Option<Instant>,
    /// No lane's deadline is before this; `None` when none has one.
    earliest: Option<Instant>,
    timer: Option<Timer>,
    timer_at: Option<Instant>,
    buffers: Buffers,
    stirred: Vec<usize>,
    raised: Vec<usize>,
    shortage_said: Option<Instant>,
}

impl Sweep {
    pub(crate) fn new(coordinator: &Coordinator, hosts: Vec<Reached>, journal: Arc<Journal>) -> Sweep {
        let count = coordinator.lanes().len();
        // One for each host, one for calls from outside, and one for each lane.
        let first = hosts.len() + 1;
        let flags = Flags::new(first + count);
        let slots = (0..count).map(|index| Slot::new(flags.waker(first + index))).collect();
        let link = |(index, host): (usize, Reached)| HostLink {
            name: host.settings.name.clone(),
            names: Names::new(&host.settings.name, host.settings.port, flags.waker(index)),
            connector: host.connector,
            tls: host.tls,
        };
        Sweep {
            slots,
            hosts: hosts.into_iter().enumerate().map(link).collect(),
            pace: coordinator.pace(),
            listens_to_all: false,
            flags,
            is_called: false,
            turns: Turns::new(count),
            journal,
            settled: true,
            order: Vec::with_capacity(count),
            cursor: 0,
            awaited: None,
            queue: VecDeque::new(),
            next_look: None,
            earliest: None,
            timer: None,
            timer_at: None,
            buffers: Buffers::new(),
            stirred: Vec::with_capacity(count),
            raised: Vec::new(),
            shortage_said: None,
        }
    }

    /// A settle has been made: sessions may have new flights.
    pub(crate) fn settled(&mut self) {
        self.settled = true;
    }

    /// Somebody wants to know when each reply came.
    pub(crate) fn listen_to_all(&mut self) {
        self.listens_to_all = true;
    }

    /// How many hosts there are.
    pub(crate) fn hosts(&self) -> usize {
        self.hosts.len()
    }

    /// Calls from outside: has the poll that waits, or else the next one, be ready.
    pub(crate) fn caller(&self) -> Waker {
        self.flags.waker(self.hosts.len())
    }

    /// Closes every connection.
    pub(crate) fn hang_up(&mut self) {
        for slot in &mut self.slots {
            slot.reset(slot.connection);
        }
    }

    /// From now on each line that is read is kept until it is told.
    pub(crate) fn keep_lines(&mut self) {
        self.buffers.lines = Some(Lines::default());
    }

    /// Tells the lines that were read in the last poll.
    pub(crate) fn tell_lines(&mut self, mut told: impl FnMut(&ReadLine<'_>)) {
        let Some(lines) = &mut self.buffers.lines else { return };
        let hosts = &self.hosts;
        lines.tell(|lane, line| {
            let host = hosts.get(lane.host as usize).map_or("", |host| host.name.as_str());
            told(&ReadLine { lane, host, line });
        });
    }

    /// Names are resolved anew at the next opening.
    pub(crate) fn forget_names(&mut self) {
        self.hosts.iter_mut().for_each(|host| host.names.forget());
    }

    /// Moves bytes; ready when there is something to settle, at `wake_at`, or when
    /// somebody called.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        coordinator: &mut Coordinator,
        wake_at: Option<Instant>,
    ) -> Poll<()> {
        self.flags.serve(cx.waker());
        for _ in 0..MOST_ROUNDS {
            let now = Instant::now();
            if std::mem::take(&mut self.settled) {
                self.begin(coordinator, now);
            }
            self.serve_flags(coordinator, now);
            self.call_turns(coordinator, now);
            // The flights took their time, and what is read now came after it.
            let now = Instant::now();
            // Before the reading: an awaited lane that is overdue would keep the
            // others from being heard.
            self.expire(coordinator, now);
            if coordinator.wants_look() {
                self.read_all(coordinator, now);
                coordinator.has_looked(now);
            }
            self.read_in_order(coordinator, now);
            let is_called = std::mem::take(&mut self.is_called);
            if is_called || coordinator.is_step_over(now) || wake_at.is_some_and(|at| at <= now) {
                return Poll::Ready(());
            }
            let over_at = coordinator.step_over_at();
            let due = [self.earliest, wake_at, self.turns.due(now), over_at, self.next_look];
            let due = due.into_iter().flatten().min();
            if self.flags.is_quiet() && self.poll_timer(cx, due).is_pending() {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    // ---- the beginning of a step ------------------------------------------

    /// There are so many lanes now.
    fn grow(&mut self, lanes: usize) {
        for index in self.slots.len()..lanes {
            self.flags.add();
            self.turns.add();
            self.slots.push(Slot::new(self.flags.waker(self.hosts.len() + 1 + index)));
        }
    }

    /// Makes and closes connections as the lanes wish, and writes all flights.
    fn begin(&mut self, coordinator: &mut Coordinator, now: Instant) {
        self.grow(coordinator.lanes().len());
        let mut stirred = std::mem::take(&mut self.stirred);
        coordinator.take_stirred(&mut stirred);
        if !self.pace.is_free() {
            // The order is that of all lanes that are waited for.
            stirred.clear();
            stirred.extend(0..coordinator.lanes().len());
            self.order.clear();
            self.cursor = 0;
            self.awaited = None;
            self.earliest = None;
        }
        for some in stirred.chunks(MOST_ASKED) {
            for index in some.iter().copied() {
                self.follow(coordinator, index, now);
            }
            self.look_at(coordinator, some);
            for index in some.iter().copied() {
                self.write_flight(coordinator, index, now);
            }
        }
        self.stirred = stirred;
        self.next_look = self.look_every().map(|every| now + every);
    }

    /// Makes or closes the lane's connection as the lane wishes.
    fn follow(&mut self, coordinator: &mut Coordinator, index: usize, now: Instant) {
        let (Some(lane), Some(slot)) = (coordinator.lane_mut(index), self.slots.get_mut(index)) else {
            return;
        };
        if slot.connection != lane.connection() {
            if slot.transport.is_some() && lane.has_failed_to_open() {
                slot.passed_over = slot.passed_over.wrapping_add(1);
            }
            slot.reset(lane.connection());
        }
        if lane.link() == Link::Wanted {
            lane.dialling(now);
            self.dial(lane, index, now);
            coordinator.moved(index);
        }
    }

    /// Looks whether anything has come on the lanes that are about to write:
    /// one call for all, and so a read only where there is something to read.
    fn look_at(&mut self, coordinator: &Coordinator, some: &[usize]) {
        let transport = |index: usize| {
            let about_to_write = coordinator.lanes().get(index).is_some_and(Lane::is_about_to_write);
            self.slots.get(index).filter(|_| about_to_write)?.transport.as_ref()
        };
        let asked: [_; MOST_ASKED] =
            std::array::from_fn(|place| some.get(place).and_then(|index| transport(*index)));
        let looked = Instant::now();
        let silent = transport::are_silent(asked.get(..some.len()).unwrap_or(&asked));
        for (index, is_silent) in some.iter().zip(silent) {
            if let Some(slot) = self.slots.get_mut(*index) {
                slot.silent_at = is_silent.then_some(looked);
            }
        }
    }

    /// Writes what the lane has to say.
    fn write_flight(&mut self, coordinator: &mut Coordinator, index: usize, now: Instant) {
        let Some(lane) = coordinator.lane_mut(index) else { return };
        let is_heard = self.slots.get(index).is_some_and(|slot| slot.listens || slot.is_queued);
        let has_news = lane.is_waited_for() || lane.session().wants_write() || !is_heard;
        let has_served = lane.link() == Link::Up && !lane.session().is_over() && has_news;
        if has_served {
            let in_queue = self.pace.is_free() && lane.is_alone() && !self.listens_to_all;
            let in_order = (lane.is_waited_for() && !self.listens_to_all) || in_queue;
            // The flights before it took their time, and its reply may be there at once.
            let now = if self.listens_to_all { Instant::now() } else { now };
            self.serve(lane, index, now, in_order);
            let is_busy = lane.session().wants_write() || self.slots.get(index).is_some_and(Slot::is_busy);
            if in_queue && !is_busy {
                self.enqueue(index);
            } else if in_order && !is_busy {
                self.order.push(index);
            }
        }
        self.note_deadline(lane, index);
        if has_served {
            coordinator.moved(index);
        }
    }

    fn note_deadline(&mut self, lane: &Lane, index: usize) {
        let task = self.slots.get(index).and_then(|slot| slot.dial_deadline);
        let session = if lane.link() == Link::Up { lane.session().deadline() } else { None };
        self.earliest = [self.earliest, task, session].into_iter().flatten().min();
    }

    // ---- lanes that are ready ---------------------------------------------

    fn serve_flags(&mut self, coordinator: &mut Coordinator, now: Instant) {
        let mut raised = std::mem::take(&mut self.raised);
        self.flags.take_raised(&mut raised);
        for flag in raised.drain(..) {
            let Some(index) = flag.checked_sub(self.hosts.len() + 1) else {
                self.is_called |= flag == self.hosts.len();
                self.serve_names(flag, coordinator, now);
                continue;
            };
            if let Some(slot) = self.slots.get_mut(index) {
                slot.listens = false;
            }
            if let Some(lane) = coordinator.lane_mut(index) {
                self.serve(lane, index, now, false);
                self.note_deadline(lane, index);
                coordinator.moved(index);
            }
        }
        self.raised = raised;
    }

    /// Lanes that have waited for their turn begin their handshakes.
    fn call_turns(&mut self, coordinator: &mut Coordinator, now: Instant) {
        while let Some(index) = self.turns.call(now) {
            if let Some(lane) = coordinator.lane_mut(index) {
                self.serve(lane, index, now, false);
                self.note_deadline(lane, index);
                coordinator.moved(index);
            }
        }
    }

    /// Goes on with one lane as far as possible. What it waits for then will
    /// raise its flag, except a reply that is awaited `in_order`.
    fn serve(&mut self, lane: &mut Lane, index: usize, now: Instant, in_order: bool) {
        if lane.link() == Link::Dialling {
            self.poll_dial(lane, index, now);
        }
        if lane.link() != Link::Up {
            return;
        }
        let tls = self.hosts.get(lane.id().host as usize).and_then(|host| host.tls.as_ref());
        let Some(slot) = self.slots.get_mut(index) else { return };
        let mut wire = Wire { lane, slot, buffers: &mut self.buffers, journal: &self.journal, now };
        while !wire.lane.session().is_over() {
            if wire.lane.session().wants_tls() {
                if !wire.is_shaking() && !self.turns.take(index, now) {
                    return;
                }
                let is_done = tls.is_some_and(|tls| wire.shake_hands(tls));
                if !wire.is_shaking() {
                    self.turns.give_back(index);
                }
                if !is_done {
                    return;
                }
            }
            let has_read = match wire.write() {
                Written::All if in_order => return,
                Written::All | Written::Blocked => wire.read(),
                Written::Failed => return,
            };
            if !has_read {
                return;
            }
        }
    }

    // ---- connecting -------------------------------------------------------

    /// Begins a connection, or waits for the host's addresses.
    fn dial(&mut self, lane: &mut Lane, index: usize, now: Instant) {
        let (id, settings) = (lane.id(), lane.host());
        let timeout = settings.timeouts.connect;
        let Some(host) = self.hosts.get_mut(id.host as usize) else { return };
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.dial_deadline = Some(after(now, timeout));
        if let Some(connector) = &host.connector {
            let target = Target { host: settings.name.clone(), port: settings.port, lane: id };
            slot.task = Some(Task::Dial(connector.dial(target)));
        } else if let Some(path) = settings.socket.clone() {
            slot.task = Some(Task::Dial(Box::pin(async move { transport::dial_unix(&path).await })));
        } else {
            match host.names.addresses(now, timeout) {
                Addresses::Pending => slot.task = Some(Task::Name),
                Addresses::Failed(fault) => return self.not_connected(lane, index, Failure::Resolve(fault)),
                Addresses::Known(addresses) => {
                    let place = (id.thread as usize).wrapping_add(slot.passed_over) % addresses.len().max(1);
                    let Some(&address) = addresses.get(place) else { return };
                    let source = source_for(settings, id.thread, address.ip());
                    let dialling =
                        async move { dial_tcp(address, source).await.map_err(|error| error.at(address)) };
                    slot.task = Some(Task::Dial(Box::pin(dialling)));
                }
            }
        }
        self.poll_dial(lane, index, now);
    }

    fn poll_dial(&mut self, lane: &mut Lane, index: usize, now: Instant) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let Some(Task::Dial(dialling)) = &mut slot.task else { return };
        let mut cx = Context::from_waker(&slot.waker);
        match dialling.as_mut().poll(&mut cx) {
            Poll::Pending => {}
            Poll::Ready(Ok(transport)) => {
                slot.task = None;
                slot.dial_deadline = None;
                let local = transport.local_address();
                slot.transport = Some(transport);
                lane.connected(local, now);
            }
            Poll::Ready(Err(DialError::Failed(error))) => {
                self.try_next_address(lane, index, Failure::Connect(IoFault::from(&error)), now);
            }
            Poll::Ready(Err(DialError::Shortage(error))) => self.postpone(lane, index, &error, now),
        }
    }

    /// The other addresses of the host, each with its own deadline; when all
    /// have failed, the opening has.
    fn try_next_address(&mut self, lane: &mut Lane, index: usize, failure: Failure, now: Instant) {
        let host = self.hosts.get_mut(lane.id().host as usize);
        let addresses = host.as_ref().map_or(0, |host| host.names.known());
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.tried += 1;
        slot.passed_over = slot.passed_over.wrapping_add(1);
        if slot.tried < addresses {
            return self.dial(lane, index, now);
        }
        if let Some(host) = host {
            host.names.all_failed();
        }
        self.not_connected(lane, index, failure);
    }

    fn not_connected(&mut self, lane: &mut Lane, index: usize, failure: Failure) {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.task = None;
            slot.dial_deadline = None;
        }
        lane.not_connected(failure);
    }

    /// Our own shortage is nothing that the host did.
    fn postpone(&mut self, lane: &mut Lane, index: usize, error: &io::Error, now: Instant) {
        if self.shortage_said.is_none_or(|at| now.saturating_duration_since(at) > Duration::from_secs(60)) {
            self.shortage_said = Some(now);
            log::warn!("{}: connections wait for want of means: {error}", lane.host().name);
        }
        lane.postponed(now + SHORTAGE_WAIT);
        if let Some(slot) = self.slots.get_mut(index) {
            slot.reset(lane.connection());
        }
    }

    /// A host's addresses have come, or could not be found.
    fn serve_names(&mut self, host: usize, coordinator: &mut Coordinator, now: Instant) {
        let Some(link) = self.hosts.get_mut(host) else { return };
        if link.names.poll(now).is_pending() {
            return;
        }
        for index in 0..coordinator.lanes().len() {
            let waits = matches!(self.slots.get(index), Some(Slot { task: Some(Task::Name), .. }));
            let Some(lane) = coordinator.lane_mut(index).filter(|_| waits) else { continue };
            if lane.id().host as usize == host {
                self.dial(lane, index, now);
                self.note_deadline(lane, index);
                coordinator.moved(index);
            }
        }
    }

    // ---- time -------------------------------------------------------------

    /// Fails what is overdue, after one last look at what has come.
    fn expire(&mut self, coordinator: &mut Coordinator, now: Instant) {
        if self.earliest.is_none_or(|at| now < at) {
            return;
        }
        self.earliest = None;
        for index in 0..coordinator.lanes().len() {
            let Some(lane) = coordinator.lane_mut(index) else { continue };
            let task_overdue = self.slots.get(index).and_then(|slot| slot.dial_deadline);
            if lane.link() == Link::Dialling && task_overdue.is_some_and(|at| at <= now) {
                let after = lane.host().timeouts.connect;
                self.try_next_address(lane, index, Failure::TimedOut { after }, now);
            } else if lane.link() == Link::Up && lane.session().deadline().is_some_and(|at| at <= now) {
                self.overdue(lane, index, now);
            }
            coordinator.moved(index);
            if let Some(lane) = coordinator.lanes().get(index) {
                self.note_deadline(lane, index);
            }
        }
    }

    /// What has come counts, whenever it is read: the reply, or the end.
    fn overdue(&mut self, lane: &mut Lane, index: usize, now: Instant) {
        if let Some(slot) = self.slots.get_mut(index) {
            let mut wire = Wire { lane, slot, buffers: &mut self.buffers, journal: &self.journal, now };
            while !wire.lane.session().is_over() && wire.read_what_is_there() {}
        }
        lane.session_mut().check_deadline(now);
        self.serve(lane, index, now, false);
    }

    /// One timer for all, armed anew only when it would ring too late: to
    /// move it costs more than to be woken once in vain.
    fn poll_timer(&mut self, cx: &mut Context<'_>, due: Option<Instant>) -> Poll<()> {
        let Some(due) = due else { return Poll::Pending };
        if self.timer_at.is_none_or(|at| at > due) {
            self.timer_at = Some(due);
            match &mut self.timer {
                Some(timer) => timer.set_at(due),
                None => self.timer = Some(Timer::at(due)),
            }
        }
        let Some(timer) = &mut self.timer else { return Poll::Pending };
        match Pin::new(timer).poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(_) => {
                self.timer_at = None;
                Poll::Ready(())
            }
        }
    }
}

/// The source address for a target: of its family, and another for each lane.
fn source_for(settings: &HostSettings, thread: u32, target: IpAddr) -> Option<IpAddr> {
    let fitting = || settings.local_addresses.iter().filter(|source| source.is_ipv4() == target.is_ipv4());
    let count = fitting().count();
    fitting().nth((thread as usize).checked_rem(count)?).copied()
}
