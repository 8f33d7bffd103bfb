//! The relay role: a link with a delay. What it reads on one side it writes on the other so much
//! later, in both directions, for any number of connections. Only octets are late, not the making
//! of a connection.
//!
//! All that is on its way stands in one queue. The delay is the same for all, so what was read
//! first is due first, and one wait does for all connections. It must never lose or reorder an
//! octet, nor let one connection that is not read hold up another; and it costs little, for what
//! it adds to the delay is counted against the client.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::support::{Result, gauge, server};

/// The hidden first argument.
pub const ROLE: &str = "__relay";

/// Octets read at a time.
const PARCEL_OCTETS: usize = 64 * 1024;

/// Octets from one side that may be on their way: while there are more it is not read. Ten times
/// what a session sends in one flight.
const MOST_OCTETS: usize = 512 * 1024;

/// Connections that are told of at a time.
const MOST_EVENTS: usize = 64;

/// What is due so soon is not slept for: to fall asleep and wake takes about as long.
const SOON: Duration = Duration::from_micros(100);

/// The listener, among the places of the sides.
const LISTENER: u64 = u64::MAX;

/// Takes the address of the server, and the delay in microseconds; says where it listens, and
/// relays until its standard input ends.
pub fn serve(arguments: &[String]) -> Result<()> {
    let [behind, delay] = arguments else {
        return Err("the relay takes ADDRESS MICROSECONDS".into());
    };
    let delay = Duration::from_micros(delay.parse()?);
    gauge::raise_descriptor_limit(0)?;
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    let behind = behind.parse()?;
    thread::spawn(move || {
        if let Err(error) = Relay::new(listener, behind, delay).and_then(|mut relay| relay.run()) {
            // The client sees its connections end.
            eprintln!("link: the relay: {error}");
        }
    });
    server::stand(address)
}

/// One end of a connection through the relay; the other has the place beside it.
struct Side {
    socket: TcpStream,
    /// Whether there may be more to read.
    is_open: bool,
    /// How much was read here and not written on the other side.
    on_the_way: usize,
    /// What is due here and was not taken.
    late: Vec<u8>,
    /// Whether the stream ends behind that.
    is_ended: bool,
    /// What the relay is told of.
    interest: EventFlags,
}

/// What was read at once.
struct Parcel {
    due: Instant,
    /// The place of the side where it is to be written.
    to: usize,
    /// None at all is the end of the stream.
    octets: Vec<u8>,
}

struct Relay {
    listener: TcpListener,
    server: SocketAddr,
    delay: Duration,
    epoll: OwnedFd,
    sides: Vec<Side>,
    queue: VecDeque<Parcel>,
    events: Vec<Event>,
    inbox: Vec<u8>,
}

impl Relay {
    fn new(listener: TcpListener, server: SocketAddr, delay: Duration) -> io::Result<Relay> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        let (sides, queue, events) = (Vec::new(), VecDeque::new(), Vec::with_capacity(MOST_EVENTS));
        Ok(Relay { listener, server, delay, epoll, sides, queue, events, inbox: vec![0; PARCEL_OCTETS] })
    }

    fn run(&mut self) -> io::Result<()> {
        loop {
            self.hand_on()?;
            self.wait()?;
            // All of it had come by now.
            let due = Instant::now() + self.delay;
            let mut events = std::mem::take(&mut self.events);
            for event in events.drain(..) {
                let (told, flags) = (event.data.u64(), event.flags);
                if told == LISTENER {
                    self.join()?;
                    continue;
                }
                let place = usize::try_from(told).unwrap_or(usize::MAX);
                if flags.contains(EventFlags::OUT) {
                    self.write(place, &[])?;
                }
                if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                    self.take_in(place, due)?;
                }
                self.hand_on()?;
            }
            self.events = events;
        }
    }

    /// Waits until something can be read or written, or is due.
    fn wait(&mut self) -> io::Result<()> {
        let left = self.queue.front().map(|parcel| parcel.due.saturating_duration_since(Instant::now()));
        if left.is_none_or(|left| left > SOON) {
            // To the nanosecond, which a wait for events is not.
            let left = left.and_then(|left| Timespec::try_from(left.saturating_sub(SOON)).ok());
            poll(&mut [PollFd::new(&self.epoll, PollFlags::IN)], left.as_ref())?;
        }
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&at_once))?;
        Ok(())
    }

    /// Connects a client with the server.
    fn join(&mut self) -> io::Result<()> {
        let (client, _) = self.listener.accept()?;
        let server = TcpStream::connect(self.server)?;
        for socket in [client, server] {
            socket.set_nodelay(true)?;
            socket.set_nonblocking(true)?;
            let (place, interest) = (self.sides.len(), EventFlags::IN);
            epoll::add(&self.epoll, &socket, EventData::new_u64(place as u64), interest)?;
            let late = Vec::new();
            self.sides.push(Side { socket, is_open: true, on_the_way: 0, late, is_ended: false, interest });
        }
        Ok(())
    }

    /// Reads once on one side, and puts that into the queue.
    fn take_in(&mut self, place: usize, due: Instant) -> io::Result<()> {
        let Some(side) = self.sides.get_mut(place).filter(|side| side.is_open) else { return Ok(()) };
        let count = match side.socket.read(&mut self.inbox) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // An error ends the stream as its end does.
            Err(_) => 0,
        };
        side.is_open = count > 0;
        side.on_the_way += count;
        let octets = self.inbox.get(..count).unwrap_or_default().to_vec();
        self.queue.push_back(Parcel { due, to: place ^ 1, octets });
        self.look(place)
    }

    /// Writes what is due, in the order in which it came.
    fn hand_on(&mut self) -> io::Result<()> {
        while self.queue.front().is_some_and(|parcel| parcel.due <= Instant::now()) {
            let Some(parcel) = self.queue.pop_front() else { break };
            if let Some(side) = self.sides.get_mut(parcel.to) {
                side.is_ended |= parcel.octets.is_empty();
            }
            self.write(parcel.to, &parcel.octets)?;
        }
        Ok(())
    }

    /// Writes what is late on one side, and then this.
    fn write(&mut self, place: usize, octets: &[u8]) -> io::Result<()> {
        let Some(side) = self.sides.get_mut(place) else { return Ok(()) };
        let is_late = !side.late.is_empty();
        if is_late {
            side.late.extend_from_slice(octets);
        }
        let given = if is_late { side.late.as_slice() } else { octets };
        let count = match side.socket.write(given) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            // Nobody reads it any more.
            Err(_) => given.len(),
        };
        if is_late {
            side.late.drain(..count);
        } else {
            side.late.extend_from_slice(octets.get(count..).unwrap_or_default());
        }
        if side.is_ended && side.late.is_empty() {
            // Where the peer is gone already there is nothing to end.
            let _ = side.socket.shutdown(Shutdown::Write);
        }
        if let Some(other) = self.sides.get_mut(place ^ 1) {
            other.on_the_way = other.on_the_way.saturating_sub(count);
        }
        self.look(place)?;
        self.look(place ^ 1)
    }

    /// Is told of what the side waits for, and of no more.
    fn look(&mut self, place: usize) -> io::Result<()> {
        let Some(side) = self.sides.get_mut(place) else { return Ok(()) };
        let mut interest = EventFlags::empty();
        interest.set(EventFlags::IN, side.is_open && side.on_the_way < MOST_OCTETS);
        interest.set(EventFlags::OUT, !side.late.is_empty());
        if interest == side.interest {
            return Ok(());
        }
        side.interest = interest;
        if side.is_open || !side.is_ended || !interest.is_empty() {
            epoll::modify(&self.epoll, &side.socket, EventData::new_u64(place as u64), interest)?;
        } else {
            // Of a connection that is gone it would be told without end.
            epoll::delete(&self.epoll, &side.socket)?;
        }
        Ok(())
    }
}
