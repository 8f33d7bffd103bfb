//! What the server has seen and kept, shared between its thread and those who ask.
//!
//! The lock is held for a few additions at a time, and never while a connection is served or a file
//! written.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One mail that the server has accepted.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mail {
    /// The number of the connection it came over, from 1 in the order of acceptance.
    pub connection: u64,
    /// Whether it came under TLS.
    pub tls: bool,
    /// As whom the client had logged in by AUTH: `anonymous` for ANONYMOUS, and empty for EXTERNAL
    /// when it named nobody.
    pub user: Option<String>,
    /// The authorization identity that it named besides, of PLAIN and SCRAM.
    pub acting_as: Option<String>,
    /// The name that the client gave in `EHLO`, `HELO` or `LHLO`.
    pub helo: String,
    /// The path of `MAIL` without its brackets; empty for the null reverse-path.
    pub reverse_path: String,
    /// The parameters of `MAIL` as they were sent, such as `SIZE=10 RET=HDRS`; empty without any.
    pub parameters: String,
    /// The paths of every accepted `RCPT` without their brackets, in order; in LMTP of those whose
    /// final reply accepted the mail.
    pub forward_paths: Vec<String>,
    /// The parameters of the same `RCPT`s, one for each path, as they were sent.
    pub recipient_parameters: Vec<String>,
    /// In how many `BDAT` chunks the content came; 0 when it came by `DATA`.
    pub chunks: usize,
    /// The content without dot-stuffing, up to and including the last CRLF before the final dot; or
    /// the octets of the chunks as they were sent.
    pub content: Vec<u8>,
}

impl fmt::Debug for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mail")
            .field("connection", &self.connection)
            .field("tls", &self.tls)
            .field("user", &self.user)
            .field("acting_as", &self.acting_as)
            .field("helo", &self.helo)
            .field("reverse_path", &self.reverse_path)
            .field("parameters", &self.parameters)
            .field("forward_paths", &self.forward_paths)
            .field("recipient_parameters", &self.recipient_parameters)
            .field("chunks", &self.chunks)
            .field("content", &self.content.escape_ascii().to_string())
            .finish()
    }
}

/// Which mails the server holds in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Keep {
    /// None: content is scanned for its end and dropped.
    Nothing,
    /// The latest so many.
    Last(usize),
    /// All of them, however many; memory is the only bound.
    All,
}

/// What the server has seen so far.
///
/// ```
/// let sink = smtp_bulk::sink::Sink::start()?;
/// assert_eq!(sink.counts().mails, 0);
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Connections accepted, those turned away for the limit included.
    pub connections: u64,
    /// Connections open now.
    pub open: u64,
    /// The most connections that were open at once.
    pub peak_open: u64,
    /// Connections that the peer ended without `QUIT`, or that were idle for too long.
    pub lost: u64,
    /// Mails stored, whether or not a fault hid the reply from the client.
    pub mails: u64,
    /// Recipients of those mails; in LMTP those whose final reply accepted the mail.
    pub recipients: u64,
    /// Bytes of content of those mails, without dot-stuffing.
    pub bytes: u64,
    /// Replies 4xx and 5xx by a fault or a limit; mistakes of the client are counted below.
    pub refused: u64,
    /// Faults that fired.
    pub faults: u64,
    /// `RSET` commands obeyed.
    pub resets: u64,
    /// Mistakes of clients: bad sequence or syntax, unknown command or parameter, line too long.
    pub protocol_errors: u64,
    // Narrower from here on, because all of this is an error too, of those who wait in vain.
    /// TLS handshakes completed.
    pub tls_handshakes: u32,
    /// TLS handshakes begun that failed, whoever broke them off, or took too long.
    pub tls_failures: u32,
    /// `AUTH` commands with a mechanism, obeyed or not.
    pub auth_attempts: u32,
    /// Those that ended in 235, whether or not a fault hid it.
    pub auth_successes: u32,
    /// Those that ended in 535 because of what the client said, or that the client cancelled.
    pub auth_failures: u32,
}

impl Counts {
    /// Adds what one connection has seen since it last told; `open` and `peak_open` are not its to tell.
    fn add(&mut self, seen: &Self) {
        self.connections += seen.connections;
        self.lost += seen.lost;
        self.mails += seen.mails;
        self.recipients += seen.recipients;
        self.bytes = self.bytes.saturating_add(seen.bytes);
        self.refused += seen.refused;
        self.faults += seen.faults;
        self.resets += seen.resets;
        self.protocol_errors += seen.protocol_errors;
        self.tls_handshakes = self.tls_handshakes.saturating_add(seen.tls_handshakes);
        self.tls_failures = self.tls_failures.saturating_add(seen.tls_failures);
        self.auth_attempts = self.auth_attempts.saturating_add(seen.auth_attempts);
        self.auth_successes = self.auth_successes.saturating_add(seen.auth_successes);
        self.auth_failures = self.auth_failures.saturating_add(seen.auth_failures);
    }
}

#[derive(Debug)]
struct State {
    counts: Counts,
    kept: VecDeque<Arc<Mail>>,
    /// Callers inside [`Ledger::wait_for`]; waking nobody would still be a system call.
    waiting: usize,
}

/// The counts and the kept mails.
#[derive(Debug)]
pub(super) struct Ledger {
    keep: Keep,
    state: Mutex<State>,
    changed: Condvar,
}

impl Ledger {
    pub(super) fn new(keep: Keep) -> Self {
        Self {
            keep,
            state: Mutex::new(State { counts: Counts::default(), kept: VecDeque::new(), waiting: 0 }),
            changed: Condvar::new(),
        }
    }

    /// Whether mails need to be held while they arrive.
    pub(super) fn keeps(&self) -> bool {
        !matches!(self.keep, Keep::Nothing | Keep::Last(0))
    }

    /// A panic in a caller's condition poisons the lock, but leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        if state.waiting > 0 {
            drop(state);
            self.changed.notify_all();
        }
    }

    pub(super) fn store(&self, mail: Mail) {
        self.update(|state| {
            if let Keep::Last(most) = self.keep {
                while state.kept.len() >= most.max(1) {
                    state.kept.pop_front();
                }
            }
            state.kept.push_back(Arc::new(mail));
        });
    }

    pub(super) fn add(&self, seen: &Counts) {
        self.update(|state| state.counts.add(seen));
    }

    /// Notes a new connection and returns its number.
    pub(super) fn opened(&self) -> u64 {
        let mut number = 0;
        self.update(|state| {
            let counts = &mut state.counts;
            counts.connections += 1;
            counts.open += 1;
            counts.peak_open = counts.peak_open.max(counts.open);
            number = counts.connections;
        });
        number
    }

    pub(super) fn closed(&self, lost: bool) {
        self.update(|state| {
            state.counts.open = state.counts.open.saturating_sub(1);
            state.counts.lost += u64::from(lost);
        });
    }

    pub(super) fn counts(&self) -> Counts {
        self.lock().counts.clone()
    }

    pub(super) fn mails(&self) -> Vec<Arc<Mail>> {
        self.lock().kept.iter().cloned().collect()
    }

    pub(super) fn take_mails(&self) -> Vec<Arc<Mail>> {
        std::mem::take(&mut self.lock().kept).into()
    }

    pub(super) fn wait_for(
        &self,
        mut done: impl FnMut(&Counts) -> bool,
        timeout: Duration,
    ) -> Result<Counts, Counts> {
        let mut state = self.lock();
        state.waiting += 1;
        let (mut state, wait) = self
            .changed
            .wait_timeout_while(state, timeout, |state| !done(&state.counts))
            .unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        if wait.timed_out() { Err(state.counts.clone()) } else { Ok(state.counts.clone()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(connection: u64) -> Mail {
        Mail {
            connection,
            tls: false,
            user: None,
            acting_as: None,
            helo: String::new(),
            reverse_path: String::new(),
            parameters: String::new(),
            forward_paths: Vec::new(),
            recipient_parameters: Vec::new(),
            chunks: 0,
            content: Vec::new(),
        }
    }

    #[test]
    fn only_the_last_mails_are_kept() {
        let ledger = Ledger::new(Keep::Last(2));
        (1..=5).for_each(|number| ledger.store(mail(number)));
        let kept: Vec<u64> = ledger.mails().iter().map(|mail| mail.connection).collect();
        assert_eq!(kept, [4, 5]);
        assert_eq!(ledger.take_mails().len(), 2);
        assert!(ledger.mails().is_empty());
    }

    #[test]
    fn waiting_ends_with_the_condition_or_the_time() {
        let ledger = Ledger::new(Keep::Nothing);
        assert!(ledger.wait_for(|counts| counts.open == 1, Duration::ZERO).is_err());
        std::thread::scope(|scope| {
            scope.spawn(|| ledger.opened());
            let counts = ledger.wait_for(|counts| counts.open == 1, Duration::from_secs(20)).unwrap();
            assert_eq!(counts.peak_open, 1);
        });
    }

    #[test]
    fn a_panicking_condition_does_not_stop_the_server() {
        let ledger = Ledger::new(Keep::Nothing);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            ledger.wait_for(|_| panic!("a test's own mistake"), Duration::from_secs(1))
        }));
        assert!(panicked.is_err());
        assert_eq!(ledger.opened(), 1);
    }
}
