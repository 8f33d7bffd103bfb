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
mod names;
mod turns;
mod wire;

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_io::Timer;

use crate::coordinator::{Coordinator, Lane, Link};
use crate::failure::Failure;
use crate::fault::IoFault;
use crate::host::HostSettings;
use crate::journal::Journal;
use crate::timeouts::{SHORTAGE_WAIT, after};
use crate::tls::TlsClient;
use crate::transport::{self, Connector, DialError, MOST_ASKED, Target, dial_tcp};
use flags::Flags;
use names::{Addresses, Names};
use turns::Turns;
use wire::{Buffers, Slot, Task, Wire, Written};

/// Rounds of one poll, after which others get a turn: a server, or a stream of
/// the caller's, can always have something more.
const MOST_ROUNDS: u32 = 4;

/// What io does for one host besides its settings.
pub(crate) struct HostLink {
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

/// Replies that take about as long to read as a wait takes: that was measured.
const FEW: usize = 8;

/// See the module.
pub(crate) struct Sweep {
    slots: Vec<Slot>,
    hosts: Vec<HostLink>,
    flags: Arc<Flags>,
    turns: Turns,
    journal: Arc<Journal>,
    /// A settle has been made since the last poll.
    settled: bool,
    /// The lanes that only owe a reply; all before the cursor are over.
    order: Vec<usize>,
    cursor: usize,
    /// The place in the order whose lane wakes the task.
    awaited: Option<usize>,
    /// No lane's deadline is before this; `None` when none has one.
    earliest: Option<Instant>,
    timer: Option<Timer>,
    timer_at: Option<Instant>,
    buffers: Buffers,
    raised: Vec<usize>,
    shortage_said: Option<Instant>,
}

impl Sweep {
    pub(crate) fn new(coordinator: &Coordinator, hosts: Vec<Reached>, journal: Arc<Journal>) -> Sweep {
        let lanes = coordinator.lanes().len();
        let flags = Flags::new(lanes + hosts.len());
        let slots = (0..lanes).map(|index| Slot::new(flags.waker(index))).collect();
        let link = |(index, host): (usize, Reached)| HostLink {
            names: Names::new(&host.settings.name, host.settings.port, flags.waker(lanes + index)),
            connector: host.connector,
            tls: host.tls,
        };
        Sweep {
            slots,
            hosts: hosts.into_iter().enumerate().map(link).collect(),
            flags,
            turns: Turns::new(lanes),
            journal,
            settled: true,
            order: Vec::with_capacity(lanes),
            cursor: 0,
            awaited: None,
            earliest: None,
            timer: None,
            timer_at: None,
            buffers: Buffers::new(),
            raised: Vec::new(),
            shortage_said: None,
        }
    }

    /// A settle has been made: sessions may have new flights.
    pub(crate) fn settled(&mut self) {
        self.settled = true;
    }

    /// Closes every connection.
    pub(crate) fn hang_up(&mut self) {
        for slot in &mut self.slots {
            slot.reset(slot.connection);
        }
    }

    /// Names are resolved anew at the next opening.
    pub(crate) fn forget_names(&mut self) {
        self.hosts.iter_mut().for_each(|host| host.names.forget());
    }

    /// Moves bytes; ready when there is something to settle, or at `wake_at`.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        coordinator: &mut Coordinator,
        wake_at: Option<Instant>,
    ) -> Poll<()> {
        self.flags.serve(cx.waker());
        for _ in 0..MOST_ROUNDS {
            let now = Instant::now();
            let lanes = coordinator.lanes_mut();
            if std::mem::take(&mut self.settled) {
                self.begin(lanes, now);
            }
            self.serve_flags(lanes, now);
            self.call_turns(lanes, now);
            // The flights took their time, and what is read now came after it.
            let now = Instant::now();
            // Before the reading: an awaited lane that is overdue would keep the
            // others from being heard.
            self.expire(lanes, now);
            self.read_in_order(lanes, now);
            if coordinator.is_step_over() || wake_at.is_some_and(|at| at <= now) {
                return Poll::Ready(());
            }
            let due = [self.earliest, wake_at, self.turns.due(now)].into_iter().flatten().min();
            if self.flags.is_quiet() && self.poll_timer(cx, due).is_pending() {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    // ---- the beginning of a step ------------------------------------------

    /// Makes and closes connections as the lanes wish, and writes all flights.
    fn begin(&mut self, lanes: &mut [Lane], now: Instant) {
        self.order.clear();
        self.cursor = 0;
        self.awaited = None;
        self.earliest = None;
        for first in (0..lanes.len()).step_by(MOST_ASKED) {
            let some = first..lanes.len().min(first + MOST_ASKED);
            for index in some.clone() {
                self.follow(lanes, index, now);
            }
            self.look_at(lanes, some.clone());
            for index in some {
                self.write_flight(lanes, index, now);
            }
        }
    }

    /// Makes or closes the lane's connection as the lane wishes.
    fn follow(&mut self, lanes: &mut [Lane], index: usize, now: Instant) {
        let (Some(lane), Some(slot)) = (lanes.get_mut(index), self.slots.get_mut(index)) else { return };
        if slot.connection != lane.connection() {
            if slot.transport.is_some() && lane.has_failed_to_open() {
                slot.passed_over = slot.passed_over.wrapping_add(1);
            }
            slot.reset(lane.connection());
        }
        if lane.link() == Link::Wanted {
            lane.dialling(now);
            self.dial(lane, index, now);
        }
    }

    /// Looks whether anything has come on the lanes that are about to write:
    /// one call for all, and so a read only where there is something to read.
    fn look_at(&mut self, lanes: &[Lane], some: Range<usize>) {
        let transport = |index: usize| {
            let about_to_write = lanes.get(index).is_some_and(Lane::is_about_to_write);
            self.slots.get(index).filter(|_| about_to_write)?.transport.as_ref()
        };
        let asked: [_; MOST_ASKED] = std::array::from_fn(|place| transport(some.start + place));
        let looked = Instant::now();
        let silent = transport::are_silent(asked.get(..some.len()).unwrap_or(&asked));
        for (index, is_silent) in some.zip(silent) {
            if let Some(slot) = self.slots.get_mut(index) {
                slot.silent_at = is_silent.then_some(looked);
            }
        }
    }

    /// Writes what the lane has to say.
    fn write_flight(&mut self, lanes: &mut [Lane], index: usize, now: Instant) {
        let Some(lane) = lanes.get_mut(index) else { return };
        if lane.link() == Link::Up && !lane.session().is_over() {
            let in_order = lane.is_waited_for();
            self.serve(lane, index, now, in_order);
            let is_busy = lane.session().wants_write() || self.slots.get(index).is_some_and(Slot::is_busy);
            if lane.is_waited_for() && !is_busy {
                self.order.push(index);
            }
        }
        self.note_deadline(lane, index);
    }

    fn note_deadline(&mut self, lane: &Lane, index: usize) {
        let task = self.slots.get(index).and_then(|slot| slot.dial_deadline);
        let session = if lane.link() == Link::Up { lane.session().deadline() } else { None };
        self.earliest = [self.earliest, task, session].into_iter().flatten().min();
    }

    // ---- lanes that are ready ---------------------------------------------

    fn serve_flags(&mut self, lanes: &mut [Lane], now: Instant) {
        let mut raised = std::mem::take(&mut self.raised);
        self.flags.take_raised(&mut raised);
        for index in raised.drain(..) {
            match lanes.get_mut(index) {
                Some(lane) => {
                    self.serve(lane, index, now, false);
                    self.note_deadline(lane, index);
                }
                None => self.serve_names(index - lanes.len(), lanes, now),
            }
        }
        self.raised = raised;
    }

    /// Lanes that have waited for their turn begin their handshakes.
    fn call_turns(&mut self, lanes: &mut [Lane], now: Instant) {
        while let Some(index) = self.turns.call(now) {
            if let Some(lane) = lanes.get_mut(index) {
                self.serve(lane, index, now, false);
                self.note_deadline(lane, index);
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

    // ---- lanes that only owe a reply --------------------------------------

    /// Waits for the lane half-way down the order, then reads what has come
    /// meanwhile and waits for the one half-way down the rest: most of those
    /// before it will have come by then. So a step waits a few times, however
    /// many lanes it has, and the first replies are read while the server is
    /// at the last. Of a few lanes it is the one three quarters down: there is less
    /// to read meanwhile than a wait costs. One that is late and not awaited is passed
    /// over, and waited for at last.
    fn read_in_order(&mut self, lanes: &mut [Lane], now: Instant) {
        let mut rest = self.cursor;
        if let Some(place) = self.awaited {
            if self.read_place(place, true, lanes, now) == Some(false) {
                return;
            }
            self.awaited = None;
            while self.read_place(self.cursor, false, lanes, now) == Some(true) {
                self.cursor += 1;
            }
            rest = self.cursor.max(place + 1);
        }
        let left = self.order.len().saturating_sub(rest);
        let far_down = rest + (left / 2).max((3 * left / 4).min(FEW));
        for place in (far_down..self.order.len()).chain(self.cursor..far_down) {
            if self.read_place(place, true, lanes, now) == Some(false) {
                self.awaited = Some(place);
                return;
            }
        }
    }

    /// Reads what is there on the lane at this place of the order, and says
    /// whether its step is over; `None` behind the last place. A lane that is
    /// awaited raises its flag when there is more.
    fn read_place(
        &mut self,
        place: usize,
        is_awaited: bool,
        lanes: &mut [Lane],
        now: Instant,
    ) -> Option<bool> {
        let index = *self.order.get(place)?;
        let (lane, slot) = (lanes.get_mut(index)?, self.slots.get_mut(index)?);
        let mut wire = Wire { lane, slot, buffers: &mut self.buffers, journal: &self.journal, now };
        let mut has_heard = false;
        while !wire.lane.session().is_over() {
            let has_read = if is_awaited { wire.read() } else { wire.read_what_is_there() };
            if !has_read {
                // The next reply of its flight may have less time than this one had.
                let deadline = wire.lane.session().deadline().filter(|_| has_heard);
                self.earliest = [self.earliest, deadline].into_iter().flatten().min();
                return Some(false);
            }
            has_heard = true;
        }
        Some(true)
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
    fn serve_names(&mut self, host: usize, lanes: &mut [Lane], now: Instant) {
        let Some(link) = self.hosts.get_mut(host) else { return };
        if link.names.poll(now).is_pending() {
            return;
        }
        for (index, lane) in lanes.iter_mut().enumerate() {
            let waits = matches!(self.slots.get(index), Some(Slot { task: Some(Task::Name), .. }));
            if waits && lane.id().host as usize == host {
                self.dial(lane, index, now);
                self.note_deadline(lane, index);
            }
        }
    }

    // ---- time -------------------------------------------------------------

    /// Fails what is overdue, after one last look at what has come.
    fn expire(&mut self, lanes: &mut [Lane], now: Instant) {
        if self.earliest.is_none_or(|at| now < at) {
            return;
        }
        self.earliest = None;
        for index in 0..lanes.len() {
            let Some(lane) = lanes.get_mut(index) else { continue };
            let task_overdue = self.slots.get(index).and_then(|slot| slot.dial_deadline);
            if lane.link() == Link::Dialling && task_overdue.is_some_and(|at| at <= now) {
                let after = lane.host().timeouts.connect;
                self.try_next_address(lane, index, Failure::TimedOut { after }, now);
            } else if lane.link() == Link::Up && lane.session().deadline().is_some_and(|at| at <= now) {
                self.overdue(lane, index, now);
            }
            if let Some(lane) = lanes.get(index) {
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
