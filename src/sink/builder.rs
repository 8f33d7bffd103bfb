//! The settings of a server, and their checks.
//!
//! Every setting has a bound or a default that is one; nothing here listens or spawns.

mod extensions;

use std::borrow::Cow;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use super::Sink;
use super::auth::{AuthQuirk, AuthSettings};
use super::extension::Offered;
use super::fault::{Fault, Misdeed, Step};
use super::ledger::Keep;
use super::tls::{Identity, TlsSettings, TlsStart, TlsVersion};

/// The size limit of a mail unless another is set: 64 MiB.
const MAX_MESSAGE_SIZE: u64 = 64 << 20;

/// The recipients of one mail unless another number is set; RFC 5321 §4.5.3.1.8 asks for 100 at least.
const MAX_RECIPIENTS: usize = 1000;

/// The idle timeout unless another is set (RFC 5321 §4.5.3.2.7).
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// Sets a [`Sink`] up.
///
/// ```
/// use smtp_bulk::sink::{Fault, Keep, Misdeed, Sink, Step};
///
/// let sink = Sink::builder()
///     .hostname("mx.example")
///     .keep(Keep::All)
///     .fault(Fault::new(Step::Dot, Misdeed::refuse(451, "4.3.0 later")).probability(0.1))
///     .seed(7)
///     .start()?;
/// assert!(sink.address().ip().is_loopback());
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    ip: IpAddr,
    port: u16,
    pub(super) hostname: String,
    greeting: Option<String>,
    pub(super) keep: Keep,
    pub(super) maildir: Option<PathBuf>,
    pub(super) faults: Vec<Fault>,
    pub(super) seed: u64,
    pub(super) max_connections: usize,
    pub(super) max_recipients: usize,
    pub(super) max_message_size: Option<u64>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) tls: Option<TlsSettings>,
    pub(super) tls_versions: Option<(TlsVersion, TlsVersion)>,
    pub(super) require_tls: bool,
    pub(super) auth: AuthSettings,
    pub(super) offered: Offered,
    pub(super) ehlo_lines: Vec<String>,
    pub(super) strict_pipelining: bool,
    pub(super) lmtp: bool,
    pub(super) max_mails: Option<usize>,
    pub(super) max_recipient_domains: Option<usize>,
    #[cfg(unix)]
    pub(super) unix_path: Option<PathBuf>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            ip: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            hostname: "localhost".to_owned(),
            greeting: None,
            keep: Keep::Last(1000),
            maildir: None,
            faults: Vec::new(),
            seed: 0,
            max_connections: 10_000,
            max_recipients: MAX_RECIPIENTS,
            max_message_size: Some(MAX_MESSAGE_SIZE),
            idle_timeout: Some(IDLE_TIMEOUT),
            tls: None,
            tls_versions: None,
            require_tls: false,
            auth: AuthSettings::default(),
            offered: Offered::default(),
            ehlo_lines: Vec::new(),
            strict_pipelining: false,
            lmtp: false,
            max_mails: None,
            max_recipient_domains: None,
            #[cfg(unix)]
            unix_path: None,
        }
    }
}

impl Builder {
    /// Listens on this address (default 127.0.0.1). The server accepts any mail from anyone who
    /// can reach it.
    pub fn address(mut self, ip: impl Into<IpAddr>) -> Self {
        self.ip = ip.into();
        self
    }

    /// Listens on this port; 0, the default, takes a free one.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// The name in the greeting, in the reply to `EHLO` and in Maildir file names (default
    /// `localhost`).
    pub fn hostname(mut self, hostname: impl Into<String>) -> Self {
        self.hostname = hostname.into();
        self
    }

    /// The text of the 220 greeting (default `<hostname> ESMTP smtp-bulk sink`, or LMTP in the place
    /// of ESMTP); a line feed in it makes a multi-line greeting.
    pub fn greeting(mut self, text: impl Into<String>) -> Self {
        self.greeting = Some(text.into());
        self
    }

    /// Which mails are held in memory (default the last 1,000).
    pub fn keep(mut self, keep: Keep) -> Self {
        self.keep = keep;
        self
    }

    /// Writes each mail into this Maildir, created when it is missing, besides what is kept.
    ///
    /// One mail is one file, however many recipients it has, and holds the content exactly as it
    /// was meant by the client: CRLF line ends, no header added. It is written under `tmp/` and
    /// renamed into `new/` before the final reply; it is not synced to disk. Writing blocks the
    /// server's thread, so a slow disk slows every connection. A mail that cannot be written is
    /// refused with 451, or 452 when the disk is full.
    pub fn maildir(mut self, path: impl Into<PathBuf>) -> Self {
        self.maildir = Some(path.into());
        self
    }

    /// Adds a fault. At each step the first one, in the order of adding, that fires has its way.
    pub fn fault(mut self, fault: Fault) -> Self {
        self.faults.push(fault);
        self
    }

    /// Refuses every recipient whose address begins with `prefix`, with this code.
    pub fn refuse_recipients(self, prefix: impl Into<String>, code: u16) -> Self {
        let class = code / 100;
        let misdeed = Misdeed::Refuse(code, format!("{class}.1.1 Recipient refused"));
        self.fault(Fault::new(Step::Rcpt, misdeed).address_prefix(prefix))
    }

    /// The seed of the dice that decide about faults with a probability (default 0).
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The most connections at once (default 10,000); those beyond it are answered 421 and closed.
    /// When the process runs out of file descriptors before that, new connections wait.
    pub fn max_connections(mut self, count: usize) -> Self {
        self.max_connections = count;
        self
    }

    /// The most recipients of one mail (default 1,000); those beyond it are answered 452 4.5.3.
    pub fn max_recipients(mut self, count: usize) -> Self {
        self.max_recipients = count;
        self
    }

    /// The most bytes of content of one mail (default 64 MiB); a larger one is read to its end,
    /// not stored, and answered 552. With [`Extension::Size`](super::Extension::Size), a mail that
    /// is declared to be larger is answered 552 at `MAIL`. `None` sets no limit.
    pub fn max_message_size(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.max_message_size = bytes.into();
        self
    }

    /// Closes a connection over which nothing has moved for this long, with 421 where a reply may
    /// stand (default 5 minutes). It takes up to an eighth longer. `None` waits for ever.
    pub fn idle_timeout(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = time.into();
        self
    }

    /// Announces `STARTTLS` (RFC 3207) and obeys it. Of this and [`Builder::implicit_tls`] the last
    /// one set counts.
    ///
    /// A handshake has to be over within the idle timeout. `STARTTLS` is refused with 503 before
    /// `EHLO`, within a mail and under TLS, and with 554 and the end of the connection when the
    /// client sends anything behind it before it has read the reply.
    pub fn starttls(mut self, identity: Identity) -> Self {
        self.tls = Some(TlsSettings { start: TlsStart::WhenAsked, identity });
        self
    }

    /// Speaks TLS from the first byte, before the greeting (RFC 8314).
    pub fn implicit_tls(mut self, identity: Identity) -> Self {
        self.tls = Some(TlsSettings { start: TlsStart::AtOnce, identity });
        self
    }

    /// The oldest and the newest version of TLS that is spoken (default 1.2 and the newest that the
    /// library has). Over OpenSSL a server of `native-tls` never speaks 1.3, so that with
    /// [`TlsVersion::Tls13`] as the oldest every handshake fails.
    pub fn tls_versions(mut self, min: TlsVersion, max: TlsVersion) -> Self {
        self.tls_versions = Some((min, max));
        self
    }

    /// Answers 530 to `MAIL` and `AUTH` in the clear.
    pub fn require_tls(mut self) -> Self {
        self.require_tls = true;
        self
    }

    /// Adds a user who may log in with this password. Both are compared with what a client sends as
    /// they are given here, without SASLprep.
    ///
    /// AUTH is announced when there is a user, a token or a list of mechanisms.
    ///
    /// ```
    /// let sink = smtp_bulk::sink::Sink::builder().user("user", "pencil").require_auth().start()?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.auth.users.push((name.into(), SecretString::from(password.into())));
        self
    }

    /// Adds a user who may log in with this bearer token.
    pub fn token(mut self, user: impl Into<String>, token: impl Into<String>) -> Self {
        self.auth.tokens.push((user.into(), SecretString::from(token.into())));
        self
    }

    /// Announces these mechanisms and no others, in this order; none at all means no AUTH.
    ///
    /// The default is SCRAM-SHA-256, SCRAM-SHA-1, PLAIN and LOGIN when there are users, and
    /// OAUTHBEARER and XOAUTH2 when there are tokens. CRAM-MD5, EXTERNAL, which believes any client
    /// that names a user or nobody, and ANONYMOUS are there when they are asked for. Every other
    /// name is announced, and answered 504.
    pub fn mechanisms<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.auth.mechanisms = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Whether AUTH is to be had before `STARTTLS` too (default no: it is answered 530). Without
    /// [`Builder::starttls`] it is to be had in any case.
    pub fn auth_before_tls(mut self, allowed: bool) -> Self {
        self.auth.before_tls = allowed;
        self
    }

    /// Announces AUTH in the spelling from before RFC 2554 alone: `AUTH=PLAIN LOGIN`.
    pub fn old_auth_spelling(mut self) -> Self {
        self.auth.old_spelling = true;
        self
    }

    /// Answers 530 to `MAIL` before AUTH.
    pub fn require_auth(mut self) -> Self {
        self.auth.required = true;
        self
    }

    /// Answers 538 in the clear to mechanisms that show what is secret (PLAIN, LOGIN, XOAUTH2 and
    /// OAUTHBEARER), although they are announced.
    pub fn refuse_plaintext_auth(mut self) -> Self {
        self.auth.refuse_plaintext = true;
        self
    }

    /// The iterations that SCRAM announces (default 4096). Any number is announced; with 0 or more
    /// than a million every proof is answered 535, since nobody should compute that.
    pub fn scram_iterations(mut self, count: u32) -> Self {
        self.auth.iterations = count;
        self
    }

    /// Has AUTH go wrong in this way; of several the last one counts.
    pub fn auth_quirk(mut self, quirk: AuthQuirk) -> Self {
        self.auth.quirk = Some(quirk);
        self
    }

    /// Listens, and starts the thread that serves.
    ///
    /// # Errors
    ///
    /// When a setting makes no sense, or the TLS library does not take one
    /// ([`io::ErrorKind::InvalidInput`]), the address cannot be
    /// listened on, the Maildir cannot be created, or no thread can be started.
    pub fn start(self) -> io::Result<Sink> {
        if let Some(complaint) = self.complaint() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, complaint));
        }
        Sink::launch(self)
    }

    pub(super) fn socket_address(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }

    pub(super) fn greeting_text(&self) -> Cow<'_, str> {
        match &self.greeting {
            Some(text) => Cow::Borrowed(text),
            None => {
                let protocol = if self.lmtp { "LMTP" } else { "ESMTP" };
                Cow::Owned(format!("{} {protocol} smtp-bulk sink", self.hostname))
            }
        }
    }

    /// What is wrong with the settings.
    fn complaint(&self) -> Option<&'static str> {
        if self.hostname.is_empty() || !self.hostname.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Some("the host name is empty, or has bytes that no host name has");
        }
        let limits = [self.max_mails, self.max_recipient_domains];
        if self.max_connections == 0 || self.max_recipients == 0 || limits.contains(&Some(0)) {
            return Some("a limit of nought would refuse everything");
        }
        if self.idle_timeout.is_some_and(|time| time.is_zero()) {
            return Some("an idle timeout of nought would close every connection");
        }
        if self.tls_versions.is_some_and(|(min, max)| min > max) {
            return Some("the oldest version of TLS is newer than the newest");
        }
        if self.ehlo_lines.iter().any(|line| line.contains(['\r', '\n'])) {
            return Some("a line of EHLO has a line end in it");
        }
        self.auth.complaint().or_else(|| self.faults.iter().find_map(Fault::complaint))
    }
}
