//! One server entry: where it is, how many connections it gets, and how
//! patient to be with it. Plain settings; nothing here connects.

mod limits;

use std::error::Error;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use crate::auth::Credentials;
use crate::envelope::Domain;
use crate::limits::Rate;
use crate::reopening::{Backoff, Bounds, Retry, Sleep};
use crate::security::{Security, Tls};
use crate::timeouts::Timeouts;

/// Most threads that one host may have.
pub const MAX_THREADS: u32 = 100_000;

/// Most mails that one lane may be dealt in a batch.
pub const MAX_DEPTH: u32 = 1_000;

/// The shortest time that [`Host::noop_after`] may be.
pub const SHORTEST_QUIET: Duration = Duration::from_secs(1);

/// What [`Host::max_refusals`] is where it is not set.
pub(crate) const DEFAULT_REFUSALS: u32 = 8;

/// A slot for one connection: the position of its host in the order in which
/// hosts were given, and the number of the thread within it, both from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LaneId {
    /// The host's position.
    pub host: u32,
    /// The thread within the host.
    pub thread: u32,
}

/// The name that a session says in EHLO (RFC 5321 §4.1.1.1).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Hello {
    /// The connection's local address as a literal (RFC 5321 §4.1.3).
    #[default]
    LocalAddress,
    /// The host's own name, as Net::SMTP::Bulk says by default. Many servers
    /// refuse a client that bears their name.
    ServerName,
    /// This name.
    Name(Domain),
}

/// How much is sent to a server without waiting for its replies, where it offers
/// PIPELINING (RFC 2920): the `Pipeline` of Net::SMTP::Bulk.
///
/// On a real link round trips decide how fast mail goes, so that the higher
/// levels are faster, and a server has the more occasion to misbehave. A host
/// that does falls back by itself to the level below, for as long as the mailer
/// lives, and the log says so.
///
/// ```
/// use smtp_bulk::{Host, Pipeline};
///
/// let pipeline = Pipeline::from_level(1)?;
/// assert_eq!((pipeline, pipeline.level()), (Pipeline::Envelope, 1));
/// let host = Host::new("mx.example.org").pipeline(pipeline);
///
/// let error = Pipeline::from_level(3).expect_err("there is none");
/// assert_eq!(error.to_string(), "3 is no level of pipelining; there are 0, 1 and 2");
/// # let _ = host;
/// # Ok::<(), smtp_bulk::UnknownLevel>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Pipeline {
    /// Level 0: one command for each round trip. For any server.
    #[default]
    Single,
    /// Level 1: MAIL, all RCPT and DATA in one write, then the content: two round
    /// trips for a mail. For any server that offers PIPELINING.
    Envelope,
    /// Level 2: one round trip for a mail. With CHUNKING (RFC 3030) whole
    /// transactions in one write; without it the content and the next mail's
    /// envelope, at which some servers break: for those that are known to stand it.
    Full,
}

impl Pipeline {
    /// The level with this number of Net::SMTP::Bulk, 0 to 2.
    ///
    /// # Errors
    /// When there is no such level.
    pub const fn from_level(level: u8) -> Result<Pipeline, UnknownLevel> {
        Ok(match level {
            0 => Pipeline::Single,
            1 => Pipeline::Envelope,
            2 => Pipeline::Full,
            level => return Err(UnknownLevel(level)),
        })
    }

    /// Its number.
    pub const fn level(self) -> u8 {
        self as u8
    }
}

/// A number that is no level of pipelining.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownLevel(pub u8);

impl fmt::Display for UnknownLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is no level of pipelining; there are 0, 1 and 2", self.0)
    }
}

impl Error for UnknownLevel {}

/// One server entry. What is not set here is taken from the mailer's own
/// settings, and else from the defaults.
///
/// ```
/// use smtp_bulk::Host;
///
/// let host = Host::new("mx.example.org").port(2525).threads(50).hello("client.example");
/// let same = Host::new("mx.example.org:2525");
/// # let _ = (host, same);
/// ```
#[derive(Clone, Debug)]
pub struct Host {
    pub(crate) name: String,
    /// The Unix socket that takes the place of name and port.
    pub(crate) socket: Option<PathBuf>,
    pub(crate) port: Option<u16>,
    pub(crate) threads: Option<u32>,
    pub(crate) hello: Option<Result<Hello, String>>,
    pub(crate) timeouts: Option<Timeouts>,
    pub(crate) local_addresses: Vec<IpAddr>,
    pub(crate) max_connect_failures: Option<u32>,
    pub(crate) retry: Option<Retry>,
    pub(crate) backoff: Option<Backoff>,
    pub(crate) sleep: Option<Sleep>,
    pub(crate) keep_alive: Option<bool>,
    pub(crate) noop_after: Option<Duration>,
    pub(crate) pipeline: Option<Pipeline>,
    pub(crate) depth: Option<u32>,
    pub(crate) is_lmtp: Option<bool>,
    pub(crate) max_recipients: Option<u32>,
    pub(crate) max_refusals: Option<u32>,
    pub(crate) eight_bit_anyway: Option<bool>,
    pub(crate) rate: Option<Rate>,
    pub(crate) byte_rate: Option<Rate>,
    pub(crate) weight: Option<u32>,
    pub(crate) auto_throttle: Option<bool>,
    pub(crate) circuit_breaker: Option<Option<u32>>,
    pub(crate) mails_per_connection: Option<u32>,
    pub(crate) max_connection_age: Option<Duration>,
    pub(crate) security: Option<Security>,
    pub(crate) tls: Option<Tls>,
    pub(crate) credentials: Option<Credentials>,
}

impl Host {
    /// A host by name, IPv4 address, IPv6 address (`::1` or `[::1]`), each
    /// with an optional `:port` behind it (an IPv6 address then in brackets).
    pub fn new(name: impl Into<String>) -> Host {
        Host {
            name: name.into(),
            socket: None,
            port: None,
            threads: None,
            hello: None,
            timeouts: None,
            local_addresses: Vec::new(),
            max_connect_failures: None,
            retry: None,
            backoff: None,
            sleep: None,
            keep_alive: None,
            noop_after: None,
            pipeline: None,
            depth: None,
            is_lmtp: None,
            max_recipients: None,
            max_refusals: None,
            eight_bit_anyway: None,
            rate: None,
            byte_rate: None,
            weight: None,
            auto_throttle: None,
            circuit_breaker: None,
            mails_per_connection: None,
            max_connection_age: None,
            security: None,
            tls: None,
            credentials: None,
        }
    }

    /// A host that listens on a Unix socket of this machine, as local mail servers
    /// do for LMTP. Its name in events and errors is the path.
    ///
    /// ```
    /// use smtp_bulk::Host;
    ///
    /// let host = Host::unix("/var/run/dovecot/lmtp").lmtp().threads(4);
    /// # let _ = host;
    /// ```
    ///
    /// There is no address to say in EHLO or LHLO, so set a name ([`Host::hello`]):
    /// by default it is `[127.0.0.1]`. A certificate is checked against [`Tls::server_name`]. Where the system
    /// has no such sockets, connecting fails.
    pub fn unix(path: impl Into<PathBuf>) -> Host {
        let path = path.into();
        Host { socket: Some(path.clone()), ..Host::new(path.to_string_lossy()) }
    }

    /// The TCP port, in place of one named in [`Host::new`]. Default: 25, 465
    /// where TLS comes first, and 24 for LMTP.
    pub fn port(mut self, port: u16) -> Host {
        self.port = Some(port);
        self
    }

    /// How many connections to keep. Default: 2, at most [`MAX_THREADS`].
    pub fn threads(mut self, threads: u32) -> Host {
        self.threads = Some(threads);
        self
    }

    /// The name for EHLO: a domain or an address literal. A name that is
    /// neither is an error at `connect`. Default: the connection's local
    /// address as a literal, which a server can check and which cannot be the
    /// wrong name.
    pub fn hello(mut self, name: impl AsRef<str>) -> Host {
        let name = name.as_ref();
        self.hello = Some(name.parse().map(Hello::Name).map_err(|_| name.to_owned()));
        self
    }

    /// Says the host's own name in EHLO, as Net::SMTP::Bulk does.
    pub fn hello_server_name(mut self) -> Host {
        self.hello = Some(Ok(Hello::ServerName));
        self
    }

    /// How long each step may take.
    pub fn timeouts(mut self, timeouts: Timeouts) -> Host {
        self.timeouts = Some(timeouts);
        self
    }

    /// Connects from this address of this machine. Given several times, the
    /// addresses are spread over the lanes; for each target those of its own
    /// family count.
    pub fn local_address(mut self, address: IpAddr) -> Host {
        self.local_addresses.push(address);
        self
    }

    /// After how many setbacks in a row, with no mail finished between, a
    /// lane is retired. Default: 5.
    pub fn max_connect_failures(mut self, failures: u32) -> Host {
        self.max_connect_failures = Some(failures.max(1));
        self
    }

    /// The same by what went wrong, in the place of
    /// [`Host::max_connect_failures`]. Default: not set.
    pub fn retry(mut self, retry: Retry) -> Host {
        self.retry = Some(retry);
        self
    }

    /// How long to wait before a lane is opened again, growing with each failure.
    pub fn backoff(mut self, backoff: Backoff) -> Host {
        self.backoff = Some(backoff);
        self
    }

    /// How long to wait at the least. Default: not at all.
    pub fn sleep(mut self, sleep: Sleep) -> Host {
        self.sleep = Some(sleep);
        self
    }

    /// Whether connections are kept while there are no mails for them. Default: yes.
    ///
    /// If not, a lane says QUIT when it has no mail after a batch, in
    /// [`Pace::Free`](crate::Pace::Free) after its own, and the caller has none at hand;
    /// it then rests ([`Standing::Resting`](crate::Standing::Resting)). When there are
    /// mails again, as many lanes as there are mails are opened, in turn, and
    /// authenticated anew; such an opening is no setback, and its events are
    /// `reconnect_pass` and `reconnect_fail`. `connect` opens every lane once all the
    /// same, to prove the settings.
    ///
    /// ```
    /// use smtp_bulk::Host;
    ///
    /// let host = Host::new("mx.example.org").keep_alive(false);
    /// # let _ = host;
    /// ```
    pub fn keep_alive(mut self, is_kept: bool) -> Host {
        self.keep_alive = Some(is_kept);
        self
    }

    /// Says NOOP (RFC 5321 §4.1.1.9) on a connection on which nothing was heard for so
    /// long, while any call of the mailer is being polled: a server that would close it,
    /// which it may after 5 minutes (RFC 5321 §4.5.3.2.7), then does not, and one that
    /// has is noticed before there is a mail. Default: never; at least
    /// [`SHORTEST_QUIET`].
    ///
    /// Only a lane without a mail says it, which is dealt none before the reply has
    /// come; the others do not wait for it. Behind a mail that was refused it says RSET
    /// instead, which is due there anyway. A reply of 2yz is told to nobody; any other
    /// one, none within [`Timeouts::rset`], or the connection's end is a `hang` event.
    ///
    /// ```
    /// use smtp_bulk::Host;
    /// use std::time::Duration;
    ///
    /// let host = Host::new("mx.example.org").noop_after(Duration::from_secs(120));
    /// # let _ = host;
    /// ```
    pub fn noop_after(mut self, quiet: Duration) -> Host {
        self.noop_after = Some(quiet.max(SHORTEST_QUIET));
        self
    }

    /// How much is sent without waiting for replies. Default:
    /// [`Pipeline::Single`], as in Net::SMTP::Bulk.
    pub fn pipeline(mut self, pipeline: Pipeline) -> Host {
        self.pipeline = Some(pipeline);
        self
    }

    /// Up to how many mails a lane is dealt in one batch: it sends them one after
    /// the other, and with [`Pipeline::Full`] and CHUNKING together, as many in one
    /// flight as [`Host::max_refusals`] lets be. Default: 1, at most [`MAX_DEPTH`].
    pub fn depth(mut self, mails: u32) -> Host {
        self.depth = Some(mails.clamp(1, MAX_DEPTH));
        self
    }

    /// Speaks LMTP (RFC 2033): each recipient that was accepted has a final reply
    /// of its own, and a report of its own outcome. Over TCP name the port (24 is
    /// usual): the default is SMTP's.
    pub fn lmtp(mut self) -> Host {
        self.is_lmtp = Some(true);
        self
    }

    /// Most recipients of one transaction; the others have further ones, and do
    /// not count as attempts. What the server states (LIMITS, RFC 9422) holds where
    /// it is less. Default: what the server states, and else 100, which every
    /// server has to take (RFC 5321 §4.5.3.1.8).
    pub fn max_recipients(mut self, most: u32) -> Host {
        self.max_recipients = Some(most.max(1));
        self
    }

    /// How many refused mails the server stands on one connection where whole mails
    /// are sent together by SMTP ([`Pipeline::Full`] with CHUNKING; by LMTP there is no
    /// such bound). All of a flight may be refused, so that it holds no more mails than
    /// are left of this, whatever the [depth](Host::depth). Default: 8, at most
    /// [`MAX_DEPTH`].
    ///
    /// Exim closes at the eleventh RSET behind a refused mail, by default, and
    /// what was written behind that is in doubt: raise it for servers that you know.
    pub fn max_refusals(mut self, most: u32) -> Host {
        self.max_refusals = Some(most.clamp(1, MAX_DEPTH));
        self
    }

    /// Sends content with octets beyond ASCII even to a server that does not offer
    /// 8BITMIME, which most take all the same. Default: no; such a mail is refused
    /// by the client, as RFC 6152 §3 asks for. Content that is read from a file or
    /// a reader is not looked at, and always sent.
    pub fn eight_bit_anyway(mut self, is_sent: bool) -> Host {
        self.eight_bit_anyway = Some(is_sent);
        self
    }

    /// Whether sessions are protected by TLS. Default: no.
    pub fn security(mut self, security: Security) -> Host {
        self.security = Some(security);
        self
    }

    /// Which certificates are accepted, and which one is shown. Without a
    /// security these settings are an error: they would protect nothing.
    pub fn tls(mut self, tls: Tls) -> Host {
        self.tls = Some(tls);
        self
    }

    /// Authenticates each session before its first mail. Without TLS that is
    /// an error at `connect`, unless the credentials say that it is meant
    /// ([`Credentials::allow_without_tls`]).
    pub fn credentials(mut self, credentials: Credentials) -> Host {
        self.credentials = Some(credentials);
        self
    }
}

/// A host whose settings are all known and checked.
///
/// By itself it is a host without a name, on port 25, with 2 threads, that is neither
/// slowed down nor rests, and all other defaults of [`Host`].
#[derive(Clone, Debug)]
pub struct HostSettings {
    /// Name or address, without brackets and port.
    pub name: String,
    /// The Unix socket that takes the place of name and port.
    pub socket: Option<PathBuf>,
    /// TCP port.
    pub port: u16,
    /// Number of lanes.
    pub threads: u32,
    /// What EHLO says.
    pub hello: Hello,
    /// How long each step may take.
    pub timeouts: Timeouts,
    /// Source addresses, spread over the lanes.
    pub local_addresses: Vec<IpAddr>,
    /// Setbacks in a row after which a lane is retired.
    pub max_connect_failures: u32,
    /// The same by cause, in its place where it is set.
    pub retry: Option<Retry>,
    /// Waiting before a lane is opened again.
    pub backoff: Backoff,
    /// The least wait.
    pub sleep: Sleep,
    /// Whether connections are kept while there are no mails for them.
    pub keep_alive: bool,
    /// After how long without a word NOOP is said, where that is set; less than
    /// [`SHORTEST_QUIET`] counts as that.
    pub noop_after: Option<Duration>,
    /// How much is sent without waiting for replies.
    pub pipeline: Pipeline,
    /// Most mails that a lane is dealt in one batch.
    pub depth: u32,
    /// Whether LMTP is spoken.
    pub is_lmtp: bool,
    /// Most recipients of one transaction, where that is set.
    pub max_recipients: Option<u32>,
    /// Refused mails that a connection stands where mails are sent together.
    pub max_refusals: u32,
    /// Whether content beyond ASCII is sent without 8BITMIME, too.
    pub eight_bit_anyway: bool,
    /// Mails begun in a time.
    pub rate: Option<Rate>,
    /// Octets sent in a time.
    pub byte_rate: Option<Rate>,
    /// The share of the mails, where hosts have any.
    pub weight: Option<u32>,
    /// Whether the host is given less when it puts off too much.
    pub auto_throttle: bool,
    /// Failures in a row after which the host rests.
    pub circuit_breaker: Option<u32>,
    /// Mails of one connection.
    pub mails_per_connection: Option<u32>,
    /// How long a connection is given mails.
    pub max_connection_age: Option<Duration>,
    /// Whether and when TLS begins.
    pub security: Security,
    /// Which certificates are accepted.
    pub tls: Tls,
    /// What each session authenticates with.
    pub credentials: Option<Credentials>,
}

impl Default for HostSettings {
    fn default() -> HostSettings {
        HostSettings {
            name: String::new(),
            socket: None,
            port: 25,
            threads: 2,
            hello: Hello::default(),
            timeouts: Timeouts::default(),
            local_addresses: Vec::new(),
            max_connect_failures: 5,
            retry: None,
            backoff: Backoff::default(),
            sleep: Sleep::default(),
            keep_alive: true,
            noop_after: None,
            pipeline: Pipeline::default(),
            depth: 1,
            is_lmtp: false,
            max_recipients: None,
            max_refusals: DEFAULT_REFUSALS,
            eight_bit_anyway: false,
            rate: None,
            byte_rate: None,
            weight: None,
            auto_throttle: false,
            circuit_breaker: None,
            mails_per_connection: None,
            max_connection_age: None,
            security: Security::default(),
            tls: Tls::default(),
            credentials: None,
        }
    }
}

impl HostSettings {
    /// Most mails that one of its lanes holds: at level 2 the next batch's first
    /// ones are begun before the last one's content is answered.
    pub(crate) fn most_held(&self) -> usize {
        let ahead = u32::from(self.pipeline == Pipeline::Full);
        self.depth.max(1).saturating_add(ahead) as usize
    }

    /// How often its lanes are opened again, and when.
    pub(crate) fn reopening(&self) -> Bounds<'_> {
        let &HostSettings { max_connect_failures: most, retry, ref backoff, sleep, .. } = self;
        Bounds { most, retry, backoff, sleep }
    }

    /// What a lane connected from `local` says in EHLO.
    pub(crate) fn hello_from(&self, local: Option<IpAddr>) -> Domain {
        let literal = || Domain::from_ip(local.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        match &self.hello {
            Hello::LocalAddress => literal(),
            Hello::Name(name) => name.clone(),
            Hello::ServerName => match self.name.parse::<IpAddr>() {
                Ok(address) => Domain::from_ip(address),
                Err(_) => self.name.parse().unwrap_or_else(|_| literal()),
            },
        }
    }
}

/// Splits `host`, `host:port`, `[v6]`, `[v6]:port` and a bare IPv6 address;
/// `None` when there is no host, or what stands for the port is none.
pub(crate) fn split_port(name: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match name.strip_prefix('[') {
        Some(rest) => {
            let (host, behind) = rest.split_once(']')?;
            let port = if behind.is_empty() { None } else { Some(behind.strip_prefix(':')?) };
            (host, port)
        }
        None if name.parse::<IpAddr>().is_ok() => (name, None),
        None => match name.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (name, None),
        },
    };
    let plain =
        !host.is_empty() && !host.contains(|letter: char| letter.is_whitespace() || letter.is_control());
    let port = match port {
        Some(digits) => Some(digits.parse().ok().filter(|port| *port != 0)?),
        None => None,
    };
    plain.then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_split_from_their_ports() {
        assert_eq!(split_port("mx.example"), Some(("mx.example", None)));
        assert_eq!(split_port("mx.example:25"), Some(("mx.example", Some(25))));
        assert_eq!(split_port("::1"), Some(("::1", None)));
        assert_eq!(split_port("[::1]"), Some(("::1", None)));
        assert_eq!(split_port("[::1]:2525"), Some(("::1", Some(2525))));
        assert_eq!(split_port("127.0.0.1:1"), Some(("127.0.0.1", Some(1))));
        for wrong in ["", ":25", "a:", "a:0", "a:65536", "a:x", "[::1", "[::1]25", "a b", "a\r\nb"] {
            assert_eq!(split_port(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn levels_have_the_numbers_0_to_2() {
        for level in 0..=2 {
            assert_eq!(Pipeline::from_level(level).map(Pipeline::level), Ok(level));
        }
        for level in [3, u8::MAX] {
            assert_eq!(Pipeline::from_level(level), Err(UnknownLevel(level)));
        }
    }
}
