//! The addresses of one host: resolved off the executor, once per start and
//! again when all of them have failed.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::fault::IoFault;
use crate::timeouts::after;

/// How long known addresses are kept although all have failed.
const KEPT: Duration = Duration::from_secs(30);

/// How long a failed look-up counts, so that all lanes share it.
const FAILED_KEPT: Duration = Duration::from_secs(1);

/// Most addresses of a host that are tried.
const MOST: usize = 64;

type LookUp = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// What is known of the addresses.
pub(super) enum Addresses<'a> {
    /// They are being looked up; the host's flag will be raised.
    Pending,
    Known(&'a [SocketAddr]),
    Failed(IoFault),
}

pub(super) struct Names {
    name: String,
    port: u16,
    known: Vec<SocketAddr>,
    failed: Option<IoFault>,
    /// When the last look-up ended; `None` before the first.
    looked_up: Option<Instant>,
    /// All known addresses have failed.
    is_stale: bool,
    look_up: Option<LookUp>,
    deadline: Option<Instant>,
    waker: Waker,
}

impl Names {
    pub(super) fn new(name: &str, port: u16, waker: Waker) -> Names {
        Names {
            name: name.to_owned(),
            port,
            known: Vec::new(),
            failed: None,
            looked_up: None,
            is_stale: false,
            look_up: None,
            deadline: None,
            waker,
        }
    }

    /// The addresses, if they are known and fresh enough; otherwise begins to
    /// look them up.
    pub(super) fn addresses(&mut self, now: Instant, timeout: Duration) -> Addresses<'_> {
        if self.look_up.is_none() && self.must_look_up(now) {
            self.begin(now, timeout);
        }
        if self.look_up.is_some() && self.poll(now).is_pending() {
            return Addresses::Pending;
        }
        match &self.failed {
            Some(fault) if self.known.is_empty() => Addresses::Failed(fault.clone()),
            _ => Addresses::Known(&self.known),
        }
    }

    /// How many addresses are known.
    pub(super) fn known(&self) -> usize {
        self.known.len()
    }

    /// No address could be connected to.
    pub(super) fn all_failed(&mut self) {
        self.is_stale = true;
    }

    /// Looks the name up at the next need, however fresh the addresses are.
    pub(super) fn forget(&mut self) {
        self.looked_up = None;
    }

    /// Goes on with the look-up.
    pub(super) fn poll(&mut self, now: Instant) -> Poll<()> {
        let Some(look_up) = &mut self.look_up else { return Poll::Ready(()) };
        let mut cx = Context::from_waker(&self.waker);
        let found = match look_up.as_mut().poll(&mut cx) {
            Poll::Ready(found) => found,
            Poll::Pending if self.deadline.is_some_and(|at| at <= now) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => return Poll::Pending,
        };
        self.look_up = None;
        self.looked_up = Some(now);
        self.is_stale = false;
        match found {
            Ok(addresses) if !addresses.is_empty() => {
                self.known = addresses;
                self.failed = None;
            }
            Ok(_) => self.failed = Some(IoFault::from(&io::Error::other("no address"))),
            Err(error) => self.failed = Some(IoFault::from(&error)),
        }
        Poll::Ready(())
    }

    fn must_look_up(&self, now: Instant) -> bool {
        let Some(at) = self.looked_up else { return true };
        let age = now.saturating_duration_since(at);
        if self.known.is_empty() { age >= FAILED_KEPT } else { self.is_stale && age >= KEPT }
    }

    fn begin(&mut self, now: Instant, timeout: Duration) {
        self.deadline = Some(after(now, timeout));
        if let Ok(address) = self.name.parse::<IpAddr>() {
            let address = SocketAddr::new(address, self.port);
            self.look_up = Some(Box::pin(std::future::ready(Ok(vec![address]))));
            return;
        }
        let name = (self.name.clone(), self.port);
        let look_up = smol::unblock(move || {
            let mut found: Vec<SocketAddr> = Vec::new();
            for address in name.to_socket_addrs()?.take(MOST) {
                if !found.contains(&address) {
                    found.push(address);
                }
            }
            Ok(found)
        });
        self.look_up = Some(Box::pin(look_up));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_is_known_at_once_and_a_failure_is_shared_for_a_second() {
        let now = Instant::now();
        let mut names = Names::new("::1", 25, Waker::noop().clone());
        assert!(matches!(names.addresses(now, KEPT), Addresses::Known([address]) if address.port() == 25));

        names.known.clear();
        names.failed = Some(IoFault::from(&io::Error::other("no such name")));
        assert!(matches!(names.addresses(now, KEPT), Addresses::Failed(_)));
        let later = now + FAILED_KEPT;
        assert!(matches!(names.addresses(later, KEPT), Addresses::Known([_])));
    }

    #[test]
    fn failed_addresses_are_kept_for_half_a_minute() {
        let now = Instant::now();
        let mut names = Names::new("127.0.0.1", 25, Waker::noop().clone());
        assert!(matches!(names.addresses(now, KEPT), Addresses::Known([_])));
        names.all_failed();
        assert!(!names.must_look_up(now + KEPT / 2));
        assert!(names.must_look_up(now + KEPT));
        names.forget();
        assert!(names.must_look_up(now));
    }
}
