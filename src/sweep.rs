//! Moves bytes between the lanes' sessions and their connections until there
//! is something to settle, and decides nothing. It is the only place that
//! waits, and it keeps all of its state between calls, so that a dropped
//! future only stops progress.
//!
//! Lanes that do different things (connect, say hello, write what does not fit
//! at once) have a readiness flag each. Lanes of the batch that only owe a
//! reply are awaited in their order: the barrier waits for the last one anyway,
//! and those behind are most often there when their turn comes.

mod flags;
mod names;

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use async_io::Timer;

use crate::content::ReadJob;
use crate::coordinator::{Coordinator, Lane, Link};
use crate::failure::{Failure, IoFault};
use crate::host::HostSettings;
use crate::journal::{Direction, Journal, Level};
use crate::session::FLIGHT_BUFFER;
use crate::transport::{Connector, DialError, Dialling, Target, Transport, dial_tcp};
use flags::Flags;
use names::{Addresses, Names};

/// Octets read from a connection at a time.
const READ_BUFFER: usize = 16 * 1024;

/// How long an opening waits when this process is short of descriptors.
const SHORTAGE_WAIT: Duration = Duration::from_millis(500);

/// What io does for one host besides its settings.
pub(crate) struct HostLink {
    connector: Option<Connector>,
    names: Names,
}

/// What a lane waits for that is no byte.
enum Task {
    /// The addresses of its host.
    Name,
    Dial(Dialling),
    Read(Pin<Box<dyn Future<Output = ReadJob> + Send>>),
}

/// The io side of one lane.
struct Slot {
    /// The number of the lane's connection that `transport` or `task` is for.
    connection: u64,
    transport: Option<Transport>,
    task: Option<Task>,
    /// When the task has taken too long.
    task_deadline: Option<Instant>,
    /// Addresses tried for this connection.
    tried: usize,
    /// What `fill` gave and the socket did not take.
    unsent: Vec<u8>,
    unsent_from: usize,
    waker: Waker,
}

impl Slot {
    fn reset(&mut self, connection: u64) {
        self.connection = connection;
        self.transport = None;
        self.task = None;
        self.task_deadline = None;
        self.tried = 0;
        self.unsent = Vec::new();
        self.unsent_from = 0;
    }
}

pub(crate) struct Sweep {
    slots: Vec<Slot>,
    hosts: Vec<HostLink>,
    flags: Arc<Flags>,
    journal: Arc<Journal>,
    /// A settle has been made since the last poll.
    settled: bool,
    /// The lanes that only owe a reply, and how far they have been awaited.
    order: Vec<usize>,
    cursor: usize,
    /// No lane's deadline is before this; `None` when none has one.
    earliest: Option<Instant>,
    timer: Option<Timer>,
    timer_at: Option<Instant>,
    scratch: Vec<u8>,
    inbox: Box<[u8]>,
    raised: Vec<usize>,
    shortage_said: Option<Instant>,
}

impl Sweep {
    pub(crate) fn new(
        coordinator: &Coordinator,
        hosts: Vec<(HostSettings, Option<Connector>)>,
        journal: Arc<Journal>,
    ) -> Sweep {
        let lanes = coordinator.lanes().len();
        let flags = Flags::new(lanes + hosts.len());
        let slot = |index| Slot {
            connection: 0,
            transport: None,
            task: None,
            task_deadline: None,
            tried: 0,
            unsent: Vec::new(),
            unsent_from: 0,
            waker: flags.waker(index),
        };
        let slots = (0..lanes).map(slot).collect();
        let link = |(index, (settings, connector)): (usize, (HostSettings, Option<Connector>))| HostLink {
            names: Names::new(&settings.name, settings.port, flags.waker(lanes + index)),
            connector,
        };
        Sweep {
            slots,
            hosts: hosts.into_iter().enumerate().map(link).collect(),
            flags,
            journal,
            settled: true,
            order: Vec::with_capacity(lanes),
            cursor: 0,
            earliest: None,
            timer: None,
            timer_at: None,
            scratch: Vec::with_capacity(FLIGHT_BUFFER + 1024),
            inbox: vec![0; READ_BUFFER].into(),
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
        loop {
            let now = Instant::now();
            let lanes = coordinator.lanes_mut();
            if std::mem::take(&mut self.settled) {
                self.begin(lanes, now);
            }
            self.serve_flags(lanes, now);
            self.read_in_order(cx, lanes, now);
            self.expire(lanes, now);
            if coordinator.is_step_over() || wake_at.is_some_and(|at| at <= now) {
                return Poll::Ready(());
            }
            let due = [self.earliest, wake_at].into_iter().flatten().min();
            if self.flags.is_quiet() && self.poll_timer(cx, due).is_pending() {
                return Poll::Pending;
            }
        }
    }

    // ---- the beginning of a step ------------------------------------------

    /// Makes and closes connections as the lanes wish, and writes all flights.
    fn begin(&mut self, lanes: &mut [Lane], now: Instant) {
        self.order.clear();
        self.cursor = 0;
        self.earliest = None;
        for index in 0..lanes.len() {
            let (Some(lane), Some(slot)) = (lanes.get_mut(index), self.slots.get_mut(index)) else {
                continue;
            };
            if slot.connection != lane.connection() {
                slot.reset(lane.connection());
            }
            if lane.link() == Link::Wanted {
                lane.dialling(now);
                self.dial(lane, index, now);
            } else if lane.link() == Link::Up && !lane.session().is_over() {
                self.serve(lane, index, now);
                if lane.is_waited_for() && !self.is_busy(index) {
                    self.order.push(index);
                }
            }
            self.note_deadline(lane, index);
        }
    }

    /// Whether more than a reply is awaited on the lane.
    fn is_busy(&self, index: usize) -> bool {
        self.slots.get(index).is_some_and(|slot| slot.task.is_some() || !slot.unsent.is_empty())
    }

    fn note_deadline(&mut self, lane: &Lane, index: usize) {
        let task = self.slots.get(index).and_then(|slot| slot.task_deadline);
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
                    self.serve(lane, index, now);
                    self.note_deadline(lane, index);
                }
                None => self.serve_names(index - lanes.len(), lanes, now),
            }
        }
        self.raised = raised;
    }

    /// Goes on with one lane as far as possible. What it waits for then will
    /// raise its flag, except a reply that the batch awaits in order.
    fn serve(&mut self, lane: &mut Lane, index: usize, now: Instant) {
        if lane.link() == Link::Dialling {
            self.poll_dial(lane, index, now);
        }
        if lane.link() != Link::Up {
            return;
        }
        while !lane.session().is_over() {
            let moved = match self.write(lane, index, now) {
                Written::All if lane.is_waited_for() => return,
                Written::All | Written::Blocked => self.read(lane, index, now),
                Written::Failed => return,
            };
            if !moved {
                return;
            }
        }
    }

    /// Writes all that the session has to say, as far as the socket takes it.
    fn write(&mut self, lane: &mut Lane, index: usize, now: Instant) -> Written {
        let Some(slot) = self.slots.get_mut(index) else { return Written::Failed };
        let waker = slot.waker.clone();
        let mut cx = Context::from_waker(&waker);
        if !self.probe(lane, index, &mut cx, now) {
            return Written::Failed;
        }
        loop {
            let Some(slot) = self.slots.get_mut(index) else { return Written::Failed };
            let session = lane.session_mut();
            if slot.unsent.is_empty() {
                if !session.wants_write() {
                    return flush(slot, lane, &mut cx);
                }
                if poll_read_ahead(slot, lane, &mut cx).is_pending() {
                    return Written::Blocked;
                }
                self.scratch.clear();
                lane.session_mut().fill(&mut self.scratch);
                if self.scratch.is_empty() {
                    match lane.session_mut().take_read_job() {
                        Some(job) => slot.task = Some(Task::Read(Box::pin(smol::unblock(|| job.run())))),
                        None => return Written::Failed,
                    }
                    continue;
                }
            }
            let kept = !slot.unsent.is_empty();
            let bytes =
                if kept { slot.unsent.get(slot.unsent_from..) } else { Some(self.scratch.as_slice()) };
            let bytes = bytes.unwrap_or_default();
            let Some(transport) = &mut slot.transport else { return Written::Failed };
            let (written, blocked) = match transport.poll_write(&mut cx, bytes) {
                Poll::Ready(Ok(0)) => (Err(io::ErrorKind::WriteZero.into()), false),
                Poll::Ready(Ok(count)) => (Ok(count), false),
                Poll::Ready(Err(error)) => (Err(error), false),
                Poll::Pending => (Ok(0), true),
            };
            match written {
                Ok(count) => {
                    if count > 0 && self.journal.wants(Level::WIRE) {
                        say(&self.journal, lane, Direction::Sent, bytes.get(..count).unwrap_or_default());
                    }
                    keep_rest(slot, &mut self.scratch, kept, count);
                    lane.session_mut().wrote(count, now);
                }
                Err(error) => {
                    self.last_words(lane, index, now);
                    lane.session_mut().lost(Failure::Lost(IoFault::from(&error)));
                    return Written::Failed;
                }
            }
            if blocked {
                return Written::Blocked;
            }
        }
    }

    /// Before a flight's first byte: what is there now was said unasked.
    /// Without this a surplus reply would be taken for the flight's answer.
    fn probe(&mut self, lane: &mut Lane, index: usize, cx: &mut Context<'_>, now: Instant) -> bool {
        let session = lane.session();
        if session.has_flight_begun() || !session.wants_write() {
            return true;
        }
        let transport = self.slots.get_mut(index).and_then(|slot| slot.transport.as_mut());
        let Some(transport) = transport else { return false };
        if let Some(read) = transport.try_read(cx, &mut self.inbox) {
            received(&self.journal, &self.inbox, lane, read, now);
        }
        lane.session().failure().is_none()
    }

    /// A connection that cannot be written to may still hold why.
    fn last_words(&mut self, lane: &mut Lane, index: usize, now: Instant) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let waker = slot.waker.clone();
        let mut cx = Context::from_waker(&waker);
        let Some(transport) = slot.transport.as_mut() else { return };
        if let Some(Ok(count)) = transport.try_read(&mut cx, &mut self.inbox)
            && count > 0
        {
            received(&self.journal, &self.inbox, lane, Ok(count), now);
        }
    }

    /// Reads once, raising the flag when there is nothing yet. Says whether
    /// anything was read.
    fn read(&mut self, lane: &mut Lane, index: usize, now: Instant) -> bool {
        let Some(slot) = self.slots.get_mut(index) else { return false };
        let mut cx = Context::from_waker(&slot.waker);
        let Some(transport) = &mut slot.transport else { return false };
        match transport.poll_read(&mut cx, &mut self.inbox) {
            Poll::Ready(read) => {
                received(&self.journal, &self.inbox, lane, read, now);
                true
            }
            Poll::Pending => false,
        }
    }

    // ---- lanes that only owe a reply --------------------------------------

    fn read_in_order(&mut self, cx: &mut Context<'_>, lanes: &mut [Lane], now: Instant) {
        while let Some(&index) = self.order.get(self.cursor) {
            let (Some(lane), Some(slot)) = (lanes.get_mut(index), self.slots.get_mut(index)) else { return };
            while !lane.session().is_over() {
                let Some(transport) = &mut slot.transport else { break };
                match transport.poll_read(cx, &mut self.inbox) {
                    Poll::Pending => return,
                    Poll::Ready(read) => received(&self.journal, &self.inbox, lane, read, now),
                }
            }
            self.cursor += 1;
        }
    }

    // ---- connecting -------------------------------------------------------

    /// Begins a connection, or waits for the host's addresses.
    fn dial(&mut self, lane: &mut Lane, index: usize, now: Instant) {
        let (id, settings) = (lane.id(), lane.host());
        let timeout = settings.timeouts.connect;
        let Some(host) = self.hosts.get_mut(id.host as usize) else { return };
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.task_deadline = Some(now + timeout);
        if let Some(connector) = &host.connector {
            let target = Target { host: settings.name.clone(), port: settings.port, lane: id };
            slot.task = Some(Task::Dial(connector.dial(target)));
        } else {
            match host.names.addresses(now, timeout) {
                Addresses::Pending => slot.task = Some(Task::Name),
                Addresses::Failed(fault) => return self.not_connected(lane, index, Failure::Resolve(fault)),
                Addresses::Known(addresses) => {
                    let place = (id.thread as usize).wrapping_add(slot.tried) % addresses.len().max(1);
                    let Some(&address) = addresses.get(place) else { return };
                    let source = source_for(settings, id.thread, address.ip());
                    slot.task = Some(Task::Dial(Box::pin(dial_tcp(address, source))));
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
                slot.task_deadline = None;
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
            slot.task_deadline = None;
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
            let task_overdue = self.slots.get(index).and_then(|slot| slot.task_deadline);
            if lane.link() == Link::Dialling && task_overdue.is_some_and(|at| at <= now) {
                let after = lane.host().timeouts.connect;
                self.try_next_address(lane, index, Failure::TimedOut { after }, now);
            } else if lane.link() == Link::Up && lane.session().deadline().is_some_and(|at| at <= now) {
                self.last_words(lane, index, now);
                lane.session_mut().check_deadline(now);
            }
            if let Some(lane) = lanes.get(index) {
                self.note_deadline(lane, index);
            }
        }
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

/// How a write went.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    All,
    /// The flag is raised when it can go on.
    Blocked,
    Failed,
}

fn received(journal: &Journal, inbox: &[u8], lane: &mut Lane, read: io::Result<usize>, now: Instant) {
    match read {
        Ok(0) => lane.session_mut().lost(Failure::Closed),
        Ok(count) => {
            let bytes = inbox.get(..count).unwrap_or_default();
            if journal.wants(Level::WIRE) {
                say(journal, lane, Direction::Received, bytes);
            }
            lane.session_mut().receive(bytes, now);
        }
        Err(error) => lane.session_mut().lost(Failure::Lost(IoFault::from(&error))),
    }
}

/// A user's stream may buffer; a flight is not out before it is flushed.
fn flush(slot: &mut Slot, lane: &mut Lane, cx: &mut Context<'_>) -> Written {
    let Some(transport) = &mut slot.transport else { return Written::Failed };
    match transport.poll_flush(cx) {
        Poll::Ready(Ok(())) => Written::All,
        Poll::Pending => Written::Blocked,
        Poll::Ready(Err(error)) => {
            lane.session_mut().lost(Failure::Lost(IoFault::from(&error)));
            Written::Failed
        }
    }
}

/// Keeps what the socket did not take; a lane with nothing to keep owns no buffer.
fn keep_rest(slot: &mut Slot, scratch: &mut [u8], kept: bool, count: usize) {
    if !kept {
        let rest = scratch.get(count..).unwrap_or_default();
        slot.unsent = rest.to_vec();
        slot.unsent_from = 0;
        return;
    }
    slot.unsent_from += count;
    if slot.unsent_from >= slot.unsent.len() {
        slot.unsent = Vec::new();
        slot.unsent_from = 0;
    }
}

/// Goes on with the reading of a blocking content.
fn poll_read_ahead(slot: &mut Slot, lane: &mut Lane, cx: &mut Context<'_>) -> Poll<()> {
    let Some(Task::Read(reading)) = &mut slot.task else { return Poll::Ready(()) };
    match reading.as_mut().poll(cx) {
        Poll::Pending => Poll::Pending,
        Poll::Ready(job) => {
            slot.task = None;
            lane.session_mut().return_read_job(job);
            Poll::Ready(())
        }
    }
}

/// The source address for a target: of its family, and another for each lane.
fn source_for(settings: &HostSettings, thread: u32, target: IpAddr) -> Option<IpAddr> {
    let fitting = || settings.local_addresses.iter().filter(|source| source.is_ipv4() == target.is_ipv4());
    let count = fitting().count();
    fitting().nth((thread as usize).checked_rem(count)?).copied()
}

fn say(journal: &Journal, lane: &Lane, direction: Direction, bytes: &[u8]) {
    journal.wire(&lane.host().name, lane.id().thread as usize, direction, bytes);
}
