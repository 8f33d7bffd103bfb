//! One lane's bytes: between its session and its connection, as far as they
//! go without waiting. It decides nothing and never blocks.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use secrecy::zeroize::{Zeroize, Zeroizing};

use super::lines::Lines;
use crate::coordinator::Lane;
use crate::failure::Failure;
use crate::fault::IoFault;
use crate::journal::{Direction, Journal, Level};
use crate::outgoing::Outgoing;
use crate::session::{FLIGHT_BUFFER, Job};
use crate::tls::{Shaken, Shaking, TlsClient};
use crate::transport::{Dialling, Transport};

/// Octets read from a connection at a time.
const READ_BUFFER: usize = 16 * 1024;

/// How long a look at many connections stands for a probe of each: longer than
/// it takes to write to all of them, unless contents are large or slow.
const LOOK_HOLDS: Duration = Duration::from_millis(1);

/// What a lane waits for that is no byte.
pub(super) enum Task {
    /// The addresses of its host.
    Name,
    /// Its connection.
    Dial(Dialling),
    /// Work of its session that blocks.
    Work(Pin<Box<dyn Future<Output = Job> + Send>>),
}

/// The io side of one lane.
pub(super) struct Slot {
    /// The number of the lane's connection that all else here is for.
    pub(super) connection: u64,
    pub(super) transport: Option<Transport>,
    pub(super) task: Option<Task>,
    /// When the making of the connection has taken too long.
    pub(super) dial_deadline: Option<Instant>,
    /// Addresses tried for this connection.
    pub(super) tried: usize,
    /// Addresses passed over since the lane's last good opening, so that one
    /// whose server refuses at the greeting is left, too.
    pub(super) passed_over: usize,
    /// What `fill` gave and the socket did not take. It may be secret.
    unsent: Zeroizing<Vec<u8>>,
    unsent_from: usize,
    /// When it was seen that there was nothing to read, for the flight that is
    /// to be written next.
    pub(super) silent_at: Option<Instant>,
    /// Its flag will be raised when there is something to read.
    pub(super) listens: bool,
    /// What has come of a line that has no end yet.
    line: Vec<u8>,
    /// It has a place in the queue of those that are read by and by.
    pub(super) is_queued: bool,
    /// It was looked at there in vain.
    pub(super) is_late: bool,
    /// Raises the lane's flag.
    pub(super) waker: Waker,
}

impl Slot {
    pub(super) fn new(waker: Waker) -> Slot {
        Slot {
            connection: 0,
            transport: None,
            task: None,
            dial_deadline: None,
            tried: 0,
            passed_over: 0,
            unsent: Zeroizing::default(),
            unsent_from: 0,
            silent_at: None,
            listens: false,
            line: Vec::new(),
            is_queued: false,
            is_late: false,
            waker,
        }
    }

    /// Drops the connection and all that belonged to it.
    pub(super) fn reset(&mut self, connection: u64) {
        if let Some(transport) = self.transport.as_mut().filter(|_| self.unsent.is_empty()) {
            transport.say_end();
        }
        let Slot { passed_over, is_queued, .. } = *self;
        *self = Slot { connection, passed_over, is_queued, ..Slot::new(self.waker.clone()) };
    }

    /// Whether more than a reply is waited for.
    pub(super) fn is_busy(&self) -> bool {
        self.task.is_some() || !self.unsent.is_empty()
    }

    /// Keeps what the socket did not take of `given`, of which `count` octets
    /// went; `None` when it was given what is kept already. A lane with
    /// nothing to keep owns no buffer.
    fn keep_rest(&mut self, given: Option<&Outgoing>, count: usize) {
        match given {
            Some(outgoing) if count >= outgoing.len() => return,
            Some(outgoing) => {
                self.unsent = Zeroizing::new(outgoing.rest(count));
                self.unsent_from = 0;
            }
            None => self.unsent_from += count,
        }
        if self.unsent_from >= self.unsent.len() {
            self.unsent = Zeroizing::default();
            self.unsent_from = 0;
        }
    }
}

/// The buffers that all lanes borrow in turn.
pub(super) struct Buffers {
    /// Where somebody wants to hear them.
    pub(super) lines: Option<Lines>,
    out: Outgoing,
    inbox: Box<[u8]>,
}

impl Buffers {
    pub(super) fn new() -> Buffers {
        let mut out = Outgoing::new();
        // So that what is secret is not left behind by a buffer that grows.
        out.made().reserve(FLIGHT_BUFFER + 1024);
        Buffers { lines: None, out, inbox: vec![0; READ_BUFFER].into() }
    }
}

/// How a write went.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    All,
    /// The flag is raised when it can go on.
    Blocked,
    Failed,
}

/// One lane, and all that is needed to move its bytes.
pub(super) struct Wire<'a> {
    pub(super) lane: &'a mut Lane,
    pub(super) slot: &'a mut Slot,
    pub(super) buffers: &'a mut Buffers,
    pub(super) journal: &'a Journal,
    pub(super) now: Instant,
}

impl Wire<'_> {
    /// Writes all that the session has to say, as far as the socket takes it.
    pub(super) fn write(&mut self) -> Written {
        if !self.probe() {
            return Written::Failed;
        }
        loop {
            if self.slot.unsent.is_empty() {
                if !self.lane.session().wants_write() {
                    return self.flush();
                }
                if !self.fill() {
                    let has_failed = self.lane.session().failure().is_some();
                    return if has_failed { Written::Failed } else { Written::Blocked };
                }
            }
            match self.write_once() {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Written::Failed,
                Poll::Pending => return Written::Blocked,
            }
        }
    }

    /// Whether a TLS handshake has begun and is not over.
    pub(super) fn is_shaking(&self) -> bool {
        matches!(self.slot.transport, Some(Transport::Shaking(_)))
    }

    /// Goes on with the TLS handshake that the session wants; says whether it
    /// is done. Where it is not, the flag is raised when it can go on.
    pub(super) fn shake_hands(&mut self, client: &TlsClient) -> bool {
        let shaking = match self.slot.transport.take() {
            // What the server said before is not for TLS to read.
            Some(transport @ Transport::Plain(_)) => {
                self.slot.transport = Some(transport);
                if self.read_what_is_there() {
                    return false;
                }
                match self.slot.transport.take() {
                    Some(Transport::Plain(plain)) => {
                        self.lane.session_mut().securing(self.now);
                        Shaking::Fresh(plain)
                    }
                    other => {
                        self.slot.transport = other;
                        return false;
                    }
                }
            }
            Some(Transport::Shaking(shaking)) => *shaking,
            other => {
                self.slot.transport = other;
                return false;
            }
        };
        match client.shake(shaking, &self.slot.waker) {
            Shaken::Done(stream) => {
                self.slot.transport = Some(Transport::Tls(stream));
                // A handshake takes time of its own, and many may be made in one pass.
                self.now = Instant::now();
                self.lane.session_mut().secured(self.now);
                true
            }
            Shaken::Pending(shaking) => {
                self.slot.transport = Some(Transport::Shaking(Box::new(shaking)));
                false
            }
            Shaken::Failed(fault) => {
                // The connection is gone already; its address is left, too.
                self.slot.passed_over = self.slot.passed_over.wrapping_add(1);
                self.lane.session_mut().lost_at(Failure::Tls(fault), self.now);
                false
            }
        }
    }

    /// Reads once. Without input, the lane's flag is raised when there is
    /// some: no other waker is ever given to a connection, for the reactor
    /// wakes the one that another replaces. Says whether anything came.
    pub(super) fn read(&mut self) -> bool {
        let Slot { transport: Some(transport), waker, .. } = &mut *self.slot else { return false };
        let mut cx = Context::from_waker(waker);
        match transport.poll_read(&mut cx, &mut self.buffers.inbox) {
            Poll::Ready(read) => {
                self.received(read);
                true
            }
            Poll::Pending => {
                self.slot.listens = true;
                false
            }
        }
    }

    /// Reads once what is there, the connection's end included, and is not
    /// woken for more. Says whether anything came.
    pub(super) fn read_what_is_there(&mut self) -> bool {
        let read = self.try_read();
        let has_read = read.is_some();
        if let Some(read) = read {
            self.received(read);
        }
        has_read
    }

    /// A connection that cannot be written to any more may still hold why.
    fn last_words(&mut self) {
        if let Some(Ok(count)) = self.try_read()
            && count > 0
        {
            self.received(Ok(count));
        }
    }

    /// Before a flight's first byte: what is there now was said unasked.
    /// Without this a surplus reply would be taken for the flight's answer.
    fn probe(&mut self) -> bool {
        let looked = self.slot.silent_at.take();
        if looked.is_some_and(|at| at.elapsed() < LOOK_HOLDS) || !self.lane.session().is_about_to_write() {
            return true;
        }
        self.read_what_is_there();
        self.lane.session().failure().is_none()
    }

    fn try_read(&mut self) -> Option<io::Result<usize>> {
        let Slot { transport: Some(transport), waker, .. } = &mut *self.slot else { return None };
        transport.try_read(&mut Context::from_waker(waker), &mut self.buffers.inbox)
    }

    /// Fills the shared buffer; `false` when there is nothing to write, or
    /// not yet.
    fn fill(&mut self) -> bool {
        loop {
            if self.poll_work().is_pending() {
                return false;
            }
            // The journal shows what is in one piece.
            let takes_slices = self.slot.transport.as_ref().is_some_and(Transport::takes_slices);
            self.buffers.out.restart(!takes_slices || self.journal.wants(Level::WIRE));
            let session = self.lane.session_mut();
            session.fill_outgoing(&mut self.buffers.out);
            if !self.buffers.out.is_empty() {
                return true;
            }
            let Some(job) = session.take_job() else { return false };
            self.slot.task = Some(Task::Work(Box::pin(smol::unblock(|| job.run()))));
        }
    }

    /// Goes on with work that blocks.
    fn poll_work(&mut self) -> Poll<()> {
        let Slot { task: Some(Task::Work(working)), waker, .. } = &mut *self.slot else {
            return Poll::Ready(());
        };
        match working.as_mut().poll(&mut Context::from_waker(waker)) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(job) => {
                self.slot.task = None;
                self.lane.session_mut().return_job(job, self.now);
                Poll::Ready(())
            }
        }
    }

    /// One write; `false` when the connection failed.
    fn write_once(&mut self) -> Poll<bool> {
        let Slot { transport: Some(transport), waker, unsent, unsent_from, .. } = &mut *self.slot else {
            return Poll::Ready(false);
        };
        let is_fresh = unsent.is_empty();
        let outgoing = &self.buffers.out;
        let kept = unsent.get(*unsent_from..).unwrap_or_default();
        let mut cx = Context::from_waker(waker);
        let written = if is_fresh {
            transport.poll_write_outgoing(&mut cx, outgoing)
        } else {
            transport.poll_write(&mut cx, kept)
        };
        let count = match written {
            Poll::Ready(Ok(count)) if count > 0 => Ok(count),
            Poll::Ready(Ok(_)) => Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Ok(0),
        };
        let count = match count {
            Ok(count) => count,
            Err(error) => {
                self.wipe_secrets();
                self.buffers.out.clear();
                self.broken(&error);
                return Poll::Ready(false);
            }
        };
        if count > 0 && self.journal.wants(Level::WIRE) {
            let is_secret = self.lane.session().is_authenticating();
            let bytes = if is_fresh { outgoing.as_slice().unwrap_or_default() } else { kept };
            let sent = bytes.get(..count).unwrap_or_default();
            say(self.journal, self.lane, Direction::Sent, sent, is_secret);
        }
        self.slot.keep_rest(is_fresh.then_some(&self.buffers.out), count);
        self.wipe_secrets();
        // A content lives no longer than its mail.
        self.buffers.out.clear();
        self.lane.session_mut().wrote(count, self.now);
        if count == 0 { Poll::Pending } else { Poll::Ready(true) }
    }

    /// The buffer of all lanes does not keep what only one may know.
    fn wipe_secrets(&mut self) {
        if self.lane.session().is_authenticating() {
            self.buffers.out.wipe();
        }
    }

    fn broken(&mut self, error: &io::Error) {
        self.last_words();
        self.lane.session_mut().lost_at(Failure::Lost(IoFault::from(error)), self.now);
    }

    /// A user's stream may buffer; a flight is not out before it is flushed.
    fn flush(&mut self) -> Written {
        let Slot { transport: Some(transport), waker, .. } = &mut *self.slot else { return Written::Failed };
        match transport.poll_flush(&mut Context::from_waker(waker)) {
            Poll::Ready(Ok(())) => Written::All,
            Poll::Pending => Written::Blocked,
            Poll::Ready(Err(error)) => {
                self.broken(&error);
                Written::Failed
            }
        }
    }

    fn received(&mut self, read: io::Result<usize>) {
        match read {
            Ok(0) => self.lane.session_mut().lost_at(Failure::Closed, self.now),
            Ok(count) => {
                let bytes = self.buffers.inbox.get_mut(..count).unwrap_or_default();
                let is_secret = self.lane.session().may_hear_secrets();
                if self.journal.wants(Level::WIRE) {
                    say(self.journal, self.lane, Direction::Received, bytes, is_secret);
                }
                match &mut self.buffers.lines {
                    Some(lines) if is_secret => lines.withhold(self.lane.id(), bytes.len()),
                    Some(lines) => lines.add(self.lane.id(), &mut self.slot.line, bytes),
                    None => {}
                }
                self.lane.session_mut().receive(bytes, self.now);
                if is_secret {
                    bytes.zeroize();
                }
            }
            Err(error) => self.lane.session_mut().lost_at(Failure::Lost(IoFault::from(&error)), self.now),
        }
    }
}

/// Of an authentication, and of the reply behind it, only the size is told, in
/// whatever pieces it comes: a challenge and its answer are as good as a weak
/// password, and some servers repeat what they were sent.
fn say(journal: &Journal, lane: &Lane, direction: Direction, bytes: &[u8], is_secret: bool) {
    if is_secret {
        let told = format!("({} octets withheld: AUTH)", bytes.len());
        return journal.wire(&lane.host().name, lane.id().thread as usize, direction, told.as_bytes());
    }
    journal.wire(&lane.host().name, lane.id().thread as usize, direction, bytes);
}

#[cfg(test)]
mod tests {
    use futures_lite::{AsyncRead, AsyncWrite};

    use super::*;
    use crate::auth::Credentials;
    use crate::coordinator::{BatchSettings, Coordinator};
    use crate::host::HostSettings;
    use crate::transport::Plain;

    /// A server that repeats what it is told.
    struct Parrot {
        says: Vec<u8>,
    }

    impl AsyncRead for Parrot {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            if self.says.is_empty() {
                return Poll::Pending;
            }
            let count = self.says.len().min(buffer.len());
            buffer[..count].copy_from_slice(&self.says[..count]);
            self.says.drain(..count);
            Poll::Ready(Ok(count))
        }
    }

    impl AsyncWrite for Parrot {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let line = String::from_utf8_lossy(bytes).trim_end().to_owned();
            let code = if line.starts_with("AUTH") { "235" } else { "250" };
            self.says.extend(format!("{code}-{line}\r\n{code} AUTH PLAIN\r\n").into_bytes());
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn the_buffers_of_all_lanes_keep_nothing_of_an_authentication() {
        let now = Instant::now();
        let host = HostSettings {
            credentials: Some(Credentials::password("tim", "tanstaaftanstaaf").allow_without_tls()),
            ..HostSettings::default()
        };
        let mut coordinator = Coordinator::new(vec![host], BatchSettings::default(), now);
        coordinator.settle(now, &mut ());
        let journal = Journal::to_log(Level::OFF);
        let mut slot = Slot::new(Waker::noop().clone());
        let mut buffers = Buffers::new();
        let plain = Plain::Custom(Box::new(Parrot { says: b"220 mx\r\n".to_vec() }));
        slot.transport = Some(Transport::Plain(plain));
        coordinator.lanes_mut()[0].dialling(now);
        coordinator.lanes_mut()[0].connected(None, now);
        for _ in 0..2 {
            let lane = &mut coordinator.lanes_mut()[0];
            let mut wire = Wire { lane, slot: &mut slot, buffers: &mut buffers, journal: &journal, now };
            while !wire.lane.session().is_over() {
                assert!(wire.write() == Written::All && wire.read());
            }
            coordinator.settle(now, &mut ());
        }
        assert!(coordinator.lanes()[0].session().is_authenticated());
        // A part of what was said and repeated: "\0tim\0tanstaaf" in base64.
        let has_some = |octets: &[u8]| memchr::memmem::find(octets, b"0YW5zdGFh").is_some();
        assert!(!has_some(&buffers.out.rest(0)) && !has_some(&buffers.inbox));
    }
}
