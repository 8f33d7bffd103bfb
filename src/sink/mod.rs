//! An SMTP server to test against: it takes every mail, counts, keeps what it is told to keep, and
//! misbehaves when it is told to.
//!
//! It runs on one thread of its own, so that blocking and asynchronous callers on any executor can
//! use it alike, and depends on no other part of this crate. It is no mail server: it has no
//! queue, relays nothing, and accepts mail from anyone who can reach it.
//!
//! What it speaks: `EHLO`, `HELO`, `MAIL`, `RCPT`, `DATA`, `RSET`, `NOOP`, `VRFY`, `HELP` and
//! `QUIT` of RFC 5321, with enhanced status codes (RFC 2034); every [`Extension`] that it is told to
//! offer; and LMTP (RFC 2033) in the place of SMTP. It listens on TCP, and on a Unix socket when it
//! is given a path. It speaks TLS from the start or behind `STARTTLS` (RFC 3207) when it is given an
//! [`Identity`], and `AUTH` (RFC 4954) when it is given users or tokens. Pipelined commands are worked
//! off in order, and their replies leave in one write, announced or not.
//!
//! It is strict where leniency would hide a client's mistake: 503 out of sequence, 501 for a space
//! behind the colon or an address without brackets, 500 for a line that does not end in CRLF, 555
//! for a parameter that it did not announce. After a `DATA` or `BDAT` that had no accepted recipient,
//! and after a refused chunk that was not the last, the mail is still under way: `MAIL` is answered
//! 503 until there was a `RSET`.
//!
//! ```
//! use std::io::{BufRead, BufReader, Write};
//! use std::net::TcpStream;
//! use std::time::Duration;
//! use smtp_bulk::sink::{Fault, Misdeed, Sink, Step};
//!
//! let later = Misdeed::refuse(451, "4.3.0 come back later");
//! let sink = Sink::builder()
//!     .fault(Fault::new(Step::Mail, later).times(1))
//!     .start()?;
//!
//! let mut client = BufReader::new(TcpStream::connect(sink.address())?);
//! let mut reply = String::new();
//! client.read_line(&mut reply)?;
//! assert!(reply.starts_with("220 "));
//! client.get_mut().write_all(b"HELO client.example\r\nMAIL FROM:<a@client.example>\r\n")?;
//! client.read_line(&mut reply)?;
//! client.read_line(&mut reply)?;
//! assert!(reply.ends_with("451 4.3.0 come back later\r\n"));
//!
//! let counts = sink.wait_for(|counts| counts.faults == 1, Duration::from_secs(5));
//! assert_eq!(counts.expect("the fault has fired").refused, 1);
//! # std::io::Result::Ok(())
//! ```

mod auth;
mod builder;
mod connection;
mod content;
mod dialogue;
mod draft;
mod extension;
mod fault;
mod idle;
mod ledger;
mod maildir;
mod parameters;
mod reply;
mod server;
mod stream;
mod syntax;
mod tls;

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::panic;
#[cfg(unix)]
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use smol::channel::{Sender, bounded};

pub use auth::AuthQuirk;
pub use builder::Builder;
pub use extension::Extension;
pub use fault::{Circumstance, Fault, Misdeed, Step};
pub use ledger::{Counts, Keep, Mail};
pub use tls::{Identity, TlsVersion};

use auth::Offer;
use content::Unstuffer;
use dialogue::Shared;
use fault::Faults;
use ledger::Ledger;
use maildir::Maildir;
use server::Listener;

/// A running server; dropping it stops it, and waits for its thread to end.
///
/// ```
/// use smtp_bulk::sink::Sink;
///
/// let mut sink = Sink::start()?;
/// println!("send your mail to {}", sink.address());
/// let counts = sink.stop();
/// assert_eq!((counts.connections, counts.mails), (0, 0));
/// # std::io::Result::Ok(())
/// ```
pub struct Sink {
    address: SocketAddr,
    #[cfg(unix)]
    unix_path: Option<UnixPath>,
    ledger: Arc<Ledger>,
    /// The thread, and the sender whose end stops it.
    running: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Sink {
    /// Starts a server that behaves, on a free port of 127.0.0.1, with the defaults of [`Builder`].
    ///
    /// # Errors
    ///
    /// When there is no free port, or no thread can be started.
    pub fn start() -> io::Result<Self> {
        Self::builder().start()
    }

    /// Sets a server up that is told more.
    pub fn builder() -> Builder {
        Builder::default()
    }

    fn launch(mut settings: Builder) -> io::Result<Self> {
        let listener = server::listen(settings.socket_address())?;
        let address = listener.get_ref().local_addr()?;
        let mut listeners = vec![Listener::Tcp(listener)];
        #[cfg(unix)]
        let unix_path = match settings.unix_path.take() {
            None => None,
            Some(path) => {
                listeners.push(Listener::Unix(server::listen_on_path(&path)?));
                Some(UnixPath { path, there: true })
            }
        };
        let ledger = Arc::new(Ledger::new(settings.keep));
        let maildir = settings.maildir.as_deref();
        let maildir = maildir.map(|path| Maildir::open(path, &settings.hostname)).transpose()?;
        let tls = settings.tls.as_ref();
        let acceptor = tls.map(|tls| tls::acceptor(tls, settings.tls_versions)).transpose()?;
        let faults = Faults::new(std::mem::take(&mut settings.faults), settings.seed);
        let offer = Offer::new(std::mem::take(&mut settings.auth), &settings.hostname);
        let shared = Shared {
            announcements: extension::announcements(&settings),
            settings,
            faults: RefCell::new(faults),
            ledger: Arc::clone(&ledger),
            maildir,
            finder: Unstuffer::finder(),
            acceptor,
            offer,
        };
        let (stop, stopped) = bounded(1);
        let thread = thread::Builder::new()
            .name("smtp-sink".to_owned())
            .spawn(move || server::run(listeners, shared, &stopped))?;
        Ok(Self {
            address,
            #[cfg(unix)]
            unix_path,
            ledger,
            running: Some((stop, thread)),
        })
    }

    /// Where the server listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The path that it listens on, if it was given one (see [`Builder::unix_path`]).
    #[cfg(unix)]
    pub fn unix_path(&self) -> Option<&Path> {
        self.unix_path.as_ref().map(|unix| unix.path.as_path())
    }

    /// What it has seen so far. A command is counted before its reply is sent.
    pub fn counts(&self) -> Counts {
        self.ledger.counts()
    }

    /// The mails that it holds (see [`Builder::keep`]), the oldest first.
    pub fn mails(&self) -> Vec<Arc<Mail>> {
        self.ledger.mails()
    }

    /// The mails that it holds, which it then forgets; the counts stay.
    pub fn take_mails(&self) -> Vec<Arc<Mail>> {
        self.ledger.take_mails()
    }

    /// Waits until the condition holds for the counts, or the time is over. It is asked at each
    /// change, under the server's lock: it must be quick, and must not call the sink.
    ///
    /// This blocks the calling thread; an asynchronous caller moves it to a blocking pool, or
    /// looks at [`Sink::counts`].
    ///
    /// # Errors
    ///
    /// The counts at the end when the condition never held.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let sink = smtp_bulk::sink::Sink::start()?;
    /// let _client = std::net::TcpStream::connect(sink.address())?;
    /// sink.wait_for(|counts| counts.open == 1, Duration::from_secs(5)).expect("one connection");
    /// # std::io::Result::Ok(())
    /// ```
    pub fn wait_for(
        &self,
        condition: impl FnMut(&Counts) -> bool,
        timeout: Duration,
    ) -> Result<Counts, Counts> {
        self.ledger.wait_for(condition, timeout)
    }

    /// Closes the port, the Unix socket and every connection, waits for the thread to end, and
    /// returns the last counts. Kept mails can still be read. Stopping again changes nothing.
    pub fn stop(&mut self) -> Counts {
        if let Some(Err(panicked)) = self.join() {
            panic::resume_unwind(panicked);
        }
        self.counts()
    }

    fn join(&mut self) -> Option<thread::Result<()>> {
        let (stop, thread) = self.running.take()?;
        drop(stop);
        let ended = thread.join();
        #[cfg(unix)]
        self.unix_path.iter_mut().for_each(UnixPath::remove);
        Some(ended)
    }
}

/// The file of a Unix socket, which is removed with it.
#[cfg(unix)]
struct UnixPath {
    path: PathBuf,
    there: bool,
}

#[cfg(unix)]
impl UnixPath {
    fn remove(&mut self) {
        if std::mem::take(&mut self.there) {
            // It may be gone with its folder.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(unix)]
impl Drop for UnixPath {
    fn drop(&mut self) {
        self.remove();
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // A panic of the thread was printed there; here it could only abort the process.
        let _ = self.join();
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink")
            .field("address", &self.address)
            .field("counts", &self.counts())
            .finish_non_exhaustive()
    }
}
