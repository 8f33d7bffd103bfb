//! The mailer's settings, checked as a whole before anything is connected.

mod callbacks;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Control, Mailer, Watch};
use crate::auth::Credentials;
use crate::callbacks::Callbacks;
use crate::coordinator::{BatchSettings, Coordinator, MAX_LANES};
use crate::error::Error;
use crate::host::{DEFAULT_REFUSALS, Hello, Host, HostSettings, MAX_THREADS, Pipeline, split_port};
use crate::journal::{Journal, Level};
use crate::limits::Rate;
use crate::pace::Pace;
use crate::reopening::{Backoff, Retry, Sleep};
use crate::security::{Security, Tls};
use crate::sweep::{Reached, Sweep};
use crate::timeouts::Timeouts;
use crate::tls::{BadSetting, Contexts, TlsClient};
use crate::transport::Route;

/// Descriptors that a process needs besides its sessions'.
const SPARE_DESCRIPTORS: u64 = 16;

/// After how long without a sign of any server a free pace begins anew: the default of
/// Net::SMTP::Bulk.
const FREE_GLOBAL_TIMEOUT: Duration = Duration::from_secs(120);

/// So many failures in a row are borne, however few threads a host has.
const LEAST_FAILURES: u32 = 5;

/// What is wrong with settings that would protect nothing.
const IDLE_TLS: &str = "there are settings for TLS, and no security: everything would be sent in the clear";

/// Settings of a mailer. What is set here holds for every host that does not
/// say otherwise.
#[derive(Default)]
#[must_use = "nothing happens before connect"]
pub struct MailerBuilder {
    routes: Vec<Route>,
    defaults: Option<Host>,
    batch: BatchSettings,
    is_seeded: bool,
    /// `None` is that of the pace.
    global_timeout: Option<Option<Duration>>,
    callbacks: Callbacks,
    debug: u8,
    debug_path: Option<String>,
}

impl MailerBuilder {
    /// Adds a host; at least one is needed.
    pub fn host(mut self, host: impl Into<Route>) -> MailerBuilder {
        self.routes.push(host.into());
        self
    }

    /// The port of hosts that name none. Default: 25, 465 where TLS comes first, and
    /// 24 for LMTP.
    pub fn port(self, port: u16) -> MailerBuilder {
        self.default_of(|host| host.port(port))
    }

    /// The connections of each host that says nothing else. Default: 2.
    pub fn threads(self, threads: u32) -> MailerBuilder {
        self.default_of(|host| host.threads(threads))
    }

    /// The name for EHLO: see [`Host::hello`].
    pub fn hello(self, name: impl AsRef<str>) -> MailerBuilder {
        self.default_of(|host| host.hello(name))
    }

    /// How long each step may take.
    pub fn timeouts(self, timeouts: Timeouts) -> MailerBuilder {
        self.default_of(|host| host.timeouts(timeouts))
    }

    /// A source address: see [`Host::local_address`].
    pub fn local_address(self, address: IpAddr) -> MailerBuilder {
        self.default_of(|host| host.local_address(address))
    }

    /// Setbacks in a row that retire a lane: see [`Host::max_connect_failures`].
    pub fn max_connect_failures(self, failures: u32) -> MailerBuilder {
        self.default_of(|host| host.max_connect_failures(failures))
    }

    /// The same by what went wrong: see [`Host::retry`].
    pub fn retry(self, retry: Retry) -> MailerBuilder {
        self.default_of(|host| host.retry(retry))
    }

    /// How long to wait at the least before a lane is opened again: see [`Host::sleep`].
    pub fn sleep(self, sleep: Sleep) -> MailerBuilder {
        self.default_of(|host| host.sleep(sleep))
    }

    /// How much is sent without waiting for replies: see [`Host::pipeline`].
    pub fn pipeline(self, pipeline: Pipeline) -> MailerBuilder {
        self.default_of(|host| host.pipeline(pipeline))
    }

    /// Up to how many mails a lane is dealt in one batch: see [`Host::depth`].
    pub fn depth(self, mails: u32) -> MailerBuilder {
        self.default_of(|host| host.depth(mails))
    }

    /// Most recipients of one transaction: see [`Host::max_recipients`].
    pub fn max_recipients(self, most: u32) -> MailerBuilder {
        self.default_of(|host| host.max_recipients(most))
    }

    /// Refused mails that a connection stands: see [`Host::max_refusals`].
    pub fn max_refusals(self, most: u32) -> MailerBuilder {
        self.default_of(|host| host.max_refusals(most))
    }

    /// Speaks LMTP: see [`Host::lmtp`].
    pub fn lmtp(self) -> MailerBuilder {
        self.default_of(Host::lmtp)
    }

    /// Whether content beyond ASCII is sent without 8BITMIME: see
    /// [`Host::eight_bit_anyway`].
    pub fn eight_bit_anyway(self, is_sent: bool) -> MailerBuilder {
        self.default_of(|host| host.eight_bit_anyway(is_sent))
    }

    /// How many mails are begun on each host in a time: see [`Host::rate`].
    pub fn rate(self, rate: Rate) -> MailerBuilder {
        self.default_of(|host| host.rate(rate))
    }

    /// How many mails are begun in a time over all hosts, whose own rates hold besides.
    /// Default: no limit.
    pub fn total_rate(mut self, rate: Rate) -> MailerBuilder {
        self.batch.total_rate = Some(rate);
        self
    }

    /// How many octets are sent to each host in a time: see [`Host::byte_rate`].
    pub fn byte_rate(self, rate: Rate) -> MailerBuilder {
        self.default_of(|host| host.byte_rate(rate))
    }

    /// How many octets are sent in a time to all hosts, whose own rates hold besides.
    /// Default: no limit.
    pub fn total_byte_rate(mut self, rate: Rate) -> MailerBuilder {
        self.batch.total_byte_rate = Some(rate);
        self
    }

    /// How many connections stand at the same time over all hosts, where that is less than
    /// all have [threads](Host::threads), which is the bound of each. A lane for whose
    /// connection there is no place is [`Standing::Benched`](crate::Standing::Benched)
    /// until another one is closed: with two hosts of 50 threads and 60 sessions in all,
    /// each host has 30 lanes, and when one is down the other gets 50, and keeps them.
    /// A host that has none, and mails that may go to [no other](crate::Message::host), is
    /// given the place of a lane that has nothing to do. Default: no bound.
    pub fn total_sessions(mut self, sessions: usize) -> MailerBuilder {
        self.batch.total_sessions = Some(sessions.max(1));
        self
    }

    /// Whether hosts that put off too much are slowed down: see [`Host::auto_throttle`].
    pub fn auto_throttle(self, is_throttled: bool) -> MailerBuilder {
        self.default_of(|host| host.auto_throttle(is_throttled))
    }

    /// After how many failures in a row a host rests: see [`Host::circuit_breaker`].
    pub fn circuit_breaker(self, failures: u32) -> MailerBuilder {
        self.default_of(|host| host.circuit_breaker(failures))
    }

    /// Each lane goes by its own failures alone.
    pub fn no_circuit_breaker(self) -> MailerBuilder {
        self.default_of(Host::no_circuit_breaker)
    }

    /// How many mails one connection is given: see [`Host::mails_per_connection`].
    pub fn mails_per_connection(self, mails: u32) -> MailerBuilder {
        self.default_of(|host| host.mails_per_connection(mails))
    }

    /// How long a connection is given mails: see [`Host::max_connection_age`].
    pub fn max_connection_age(self, age: Duration) -> MailerBuilder {
        self.default_of(|host| host.max_connection_age(age))
    }

    /// How long to wait before a lane is opened again.
    pub fn backoff(self, backoff: Backoff) -> MailerBuilder {
        self.default_of(|host| host.backoff(backoff))
    }

    /// Whether connections are kept between batches: see [`Host::keep_alive`].
    pub fn keep_alive(self, is_kept: bool) -> MailerBuilder {
        self.default_of(|host| host.keep_alive(is_kept))
    }

    /// After how long without a word NOOP is said: see [`Host::noop_after`].
    pub fn noop_after(self, quiet: Duration) -> MailerBuilder {
        self.default_of(|host| host.noop_after(quiet))
    }

    /// Whether sessions are protected by TLS: see [`Host::security`].
    pub fn security(self, security: Security) -> MailerBuilder {
        self.default_of(|host| host.security(security))
    }

    /// Which certificates are accepted, and which one is shown. Without a
    /// security these settings are an error: they would protect nothing.
    pub fn tls(self, tls: Tls) -> MailerBuilder {
        self.default_of(|host| host.tls(tls))
    }

    /// Authenticates each session: see [`Host::credentials`].
    pub fn credentials(self, credentials: Credentials) -> MailerBuilder {
        self.default_of(|host| host.credentials(credentials))
    }

    /// Attempts that a message has before it is abandoned. Default: 3; at
    /// least 1. What is not the message's fault (421, a session that is to
    /// blame) counts as none, or only after 60 times: docs/VERDICTS.md has the
    /// rule.
    pub fn max_attempts(mut self, attempts: u32) -> MailerBuilder {
        self.batch.max_attempts = attempts.max(1);
        self
    }

    /// Restarts by callbacks (103, 203) with no mail finished between; after
    /// them 203 counts as 102 and 103 as 104. Default: 3.
    pub fn max_restarts(mut self, restarts: u32) -> MailerBuilder {
        self.batch.max_restarts = restarts;
        self
    }

    /// Sends a message again whose content was sent whole and not answered.
    /// It may then arrive twice. Default: it is reported in doubt.
    pub fn resend_in_doubt(mut self, resend: bool) -> MailerBuilder {
        self.batch.resend_in_doubt = resend;
        self
    }

    /// How long a message waits before it is tried again that a server has put off
    /// (4yz, greylisting): an attempt is counted, and what it was told is reported when
    /// it is the last one. Messages that come back for another reason, such as a lost
    /// connection, do not wait. Default: zero, so that they are dealt first in the next
    /// batch.
    ///
    /// ```
    /// use smtp_bulk::Mailer;
    /// use std::time::Duration;
    ///
    /// let builder = Mailer::builder().retry_delay(Duration::from_secs(300)).max_delayed(1_000);
    /// # let _ = builder;
    /// ```
    pub fn retry_delay(mut self, delay: Duration) -> MailerBuilder {
        self.batch.retry_delay = delay;
        self
    }

    /// How many messages may wait for [`MailerBuilder::retry_delay`]. One more is
    /// reported abandoned at once, with what the server said: your own queue can keep
    /// it for longer. Default: as many as all lanes may hold.
    pub fn max_delayed(mut self, messages: usize) -> MailerBuilder {
        self.batch.max_delayed = Some(messages);
        self
    }

    /// Runs a short batch when a message has waited this long, while a call
    /// is being polled. Default: never, before `flush` or `quit`.
    pub fn linger(mut self, linger: Duration) -> MailerBuilder {
        self.batch.linger = Some(linger);
        self
    }

    /// Who waits for whom. Default: [`Pace::Lockstep`].
    pub fn pace(mut self, pace: Pace) -> MailerBuilder {
        self.batch.pace = pace;
        self
    }

    /// When no octet has moved on any lane for this long, although something is
    /// awaited, all lanes that wait are opened anew after a `global_hang`: the
    /// `GlobalTimeout` of Net::SMTP::Bulk. A lane that waits for the reply to a whole
    /// content is left to its own timeout. Default: 120 s with [`Pace::Free`], as there,
    /// and otherwise not at all: every lane has a deadline of its own at each step
    /// ([`Timeouts`]), so that this is of use where it is shorter. Zero is not at all, too.
    pub fn global_timeout(mut self, timeout: Duration) -> MailerBuilder {
        self.global_timeout = Some(Some(timeout).filter(|timeout| !timeout.is_zero()));
        self
    }

    /// Leaves each lane to its own deadlines, at any pace.
    pub fn no_global_timeout(mut self) -> MailerBuilder {
        self.global_timeout = Some(None);
        self
    }

    /// Seeds the jitter of back-off, for tests that repeat. Default: random.
    pub fn seed(mut self, seed: u64) -> MailerBuilder {
        self.batch.seed = seed;
        self.is_seeded = true;
        self
    }

    /// How much to say: 0 nothing, 5 a summary, 7 hangs and fails, 8 passes,
    /// 10 everything on the wire. It goes to the `log` crate under the targets
    /// `smtp_bulk::summary` (at its level `info`), `smtp_bulk::event` (`warn`
    /// and, for passes, `debug`) and `smtp_bulk::wire` (`trace`), or to
    /// [`MailerBuilder::debug_path`]. At level 10 that includes all addresses
    /// and contents; of an authentication only how many octets it had. Levels above 10 count as 10. Default: 0.
    pub fn debug(mut self, level: u8) -> MailerBuilder {
        self.debug = level.min(10);
        self
    }

    /// Writes the debug output to files: `[HOST] [THREAD] [YYYY] [MM] [DD]
    /// [WK] [hh] [mm]` are filled in, in local time, and missing folders made.
    /// Writing blocks the caller for as long as the disk does.
    pub fn debug_path(mut self, pattern: impl Into<String>) -> MailerBuilder {
        self.debug_path = Some(pattern.into());
        self
    }

    /// Connects every lane at once. Ok when every lane was tried once and one
    /// is in use; while none is, this waits through the back-off.
    ///
    /// # Errors
    /// When a setting is wrong, a debug path cannot be written, the process
    /// may not have enough descriptors, or every lane is retired.
    pub async fn connect(mut self) -> Result<Mailer, Error> {
        let defaults = self.defaults.take().unwrap_or_else(|| Host::new(""));
        let routes = std::mem::take(&mut self.routes);
        // Certificates are read from files, and those of the system are many.
        let hosts = smol::unblock(move || prepare(routes, defaults)).await?;
        if hosts.is_empty() {
            return Err(host_error("", "no host was given"));
        }
        for (name, rate) in
            [("total_rate", self.batch.total_rate), ("total_byte_rate", self.batch.total_byte_rate)]
        {
            if let Some(problem) = rate.and_then(Rate::problem) {
                return Err(Error::Setting { name, problem });
            }
        }
        if let Some(problem) = self.batch.pace.problem() {
            return Err(Error::Setting { name: "pace", problem });
        }
        let lanes: usize = hosts.iter().map(|host| host.settings.threads as usize).sum();
        if lanes > MAX_LANES {
            return Err(host_error("", "all hosts together have too many threads"));
        }
        check_descriptors(self.batch.total_sessions.map_or(lanes, |most| most.min(lanes)))?;
        let usual = self.batch.pace.is_free().then_some(FREE_GLOBAL_TIMEOUT);
        self.batch.global_timeout = self.global_timeout.unwrap_or(usual);
        if !self.is_seeded {
            self.batch.seed = fastrand::u64(..);
        }
        let mut mailer = self.build(hosts)?;
        mailer.until_connected().await?;
        Ok(mailer)
    }

    fn build(self, hosts: Vec<Reached>) -> Result<Mailer, Error> {
        let journal = Arc::new(journal(self.debug, self.debug_path.as_deref(), &hosts)?);
        let settings: Vec<HostSettings> = hosts.iter().map(|host| host.settings.clone()).collect();
        let mut coordinator = Coordinator::new(settings, self.batch, Instant::now());
        let mut sweep = Sweep::new(&coordinator, hosts, Arc::clone(&journal));
        if self.callbacks.wants_lines() {
            sweep.keep_lines();
        }
        if self.callbacks.wants_steps() {
            sweep.listen_to_all();
        }
        let mut watch = Watch { callbacks: self.callbacks, journal, last_trouble: None };
        let progress = coordinator.settle(Instant::now(), &mut watch);
        let control = Control::new(&sweep);
        Ok(Mailer { coordinator, sweep, watch, progress, control, is_closed: false, look_at: None })
    }

    fn default_of(mut self, set: impl FnOnce(Host) -> Host) -> MailerBuilder {
        let defaults = self.defaults.take().unwrap_or_else(|| Host::new(""));
        self.defaults = Some(set(defaults));
        self
    }
}

impl std::fmt::Debug for MailerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MailerBuilder").field("routes", &self.routes).finish_non_exhaustive()
    }
}

fn host_error(name: &str, problem: &str) -> Error {
    Error::Host { name: name.to_owned(), problem: problem.to_owned() }
}

/// Checks all settings, and makes the TLS contexts. Blocks.
fn prepare(routes: Vec<Route>, mut defaults: Host) -> Result<Vec<Reached>, Error> {
    // One for all hosts that have none of their own, so that they share a context.
    let is_default_meant = defaults.tls.is_some();
    defaults.tls.get_or_insert_default();
    let mut contexts = Contexts::default();
    let prepared = |Route { host, connector }| {
        let settings = resolve(host, &defaults)?;
        let tls = tls_client(&settings, &mut contexts)?;
        Ok(Reached { settings, connector, tls })
    };
    let hosts: Vec<Reached> = routes.into_iter().map(prepared).collect::<Result<_, _>>()?;
    if is_default_meant && hosts.iter().all(|host| host.tls.is_none()) {
        return Err(host_error("", IDLE_TLS));
    }
    Ok(hosts)
}

/// The host's own settings, else the mailer's, else the defaults.
fn resolve(host: Host, defaults: &Host) -> Result<HostSettings, Error> {
    let wrong = |problem: &str| host_error(&host.name, problem);
    let (name, named_port) = match &host.socket {
        Some(_) => (host.name.as_str(), None),
        None => split_port(&host.name).ok_or_else(|| wrong("this is no name, address, or host:port"))?,
    };
    let security = host.security.or(defaults.security).unwrap_or_default();
    if host.tls.is_some() && security == Security::None {
        return Err(wrong(IDLE_TLS));
    }
    let is_lmtp = host.is_lmtp.or(defaults.is_lmtp).unwrap_or(false);
    let usual_port = match security.is_implicit() {
        true => 465,
        false if is_lmtp => 24,
        false => 25,
    };
    let port = host.port.or(named_port).or(defaults.port).unwrap_or(usual_port);
    let threads = host.threads.or(defaults.threads).unwrap_or(2);
    if port == 0 {
        return Err(wrong("port 0 cannot be connected to"));
    }
    if threads == 0 || threads > MAX_THREADS {
        return Err(wrong(&format!("{threads} threads: there must be 1 to {MAX_THREADS}")));
    }
    let hello = match host.hello.clone().or_else(|| defaults.hello.clone()) {
        None => Hello::default(),
        Some(Ok(hello)) => hello,
        Some(Err(text)) => return Err(wrong(&format!("{text:?} is no name for EHLO"))),
    };
    let credentials = host.credentials.clone().or_else(|| defaults.credentials.clone());
    if let Some(credentials) = &credentials {
        check_credentials(credentials, security).map_err(|problem| wrong(&problem))?;
    }
    let (rate, byte_rate) = (host.rate.or(defaults.rate), host.byte_rate.or(defaults.byte_rate));
    if let Some(problem) = [rate, byte_rate].into_iter().flatten().find_map(Rate::problem) {
        return Err(wrong(problem));
    }
    let sources = if host.local_addresses.is_empty() { defaults } else { &host };
    Ok(HostSettings {
        name: name.to_owned(),
        socket: host.socket.clone(),
        port,
        threads,
        hello,
        timeouts: host.timeouts.clone().or_else(|| defaults.timeouts.clone()).unwrap_or_default(),
        local_addresses: sources.local_addresses.clone(),
        max_connect_failures: host.max_connect_failures.or(defaults.max_connect_failures).unwrap_or(5),
        pipeline: host.pipeline.or(defaults.pipeline).unwrap_or_default(),
        depth: host.depth.or(defaults.depth).unwrap_or(1),
        is_lmtp,
        max_recipients: host.max_recipients.or(defaults.max_recipients),
        max_refusals: host.max_refusals.or(defaults.max_refusals).unwrap_or(DEFAULT_REFUSALS),
        eight_bit_anyway: host.eight_bit_anyway.or(defaults.eight_bit_anyway).unwrap_or(false),
        retry: host.retry.or(defaults.retry),
        sleep: host.sleep.or(defaults.sleep).unwrap_or_default(),
        rate,
        byte_rate,
        weight: host.weight,
        auto_throttle: host.auto_throttle.or(defaults.auto_throttle).unwrap_or(true),
        circuit_breaker: circuit_breaker(&host, defaults, threads),
        mails_per_connection: host.mails_per_connection.or(defaults.mails_per_connection),
        max_connection_age: host.max_connection_age.or(defaults.max_connection_age),
        backoff: host.backoff.clone().or_else(|| defaults.backoff.clone()).unwrap_or_default(),
        keep_alive: host.keep_alive.or(defaults.keep_alive).unwrap_or(true),
        noop_after: host.noop_after.or(defaults.noop_after),
        security,
        tls: host.tls.clone().or_else(|| defaults.tls.clone()).unwrap_or_default(),
        credentials,
    })
}

/// Failures in a row after which a host with so many threads rests.
fn circuit_breaker(host: &Host, defaults: &Host, threads: u32) -> Option<u32> {
    let usual = Some(threads.max(LEAST_FAILURES));
    host.circuit_breaker.or(defaults.circuit_breaker).unwrap_or(usual)
}

/// Whether the credentials are whole, and may be used with this security.
pub(super) fn check_credentials(credentials: &Credentials, security: Security) -> Result<(), String> {
    credentials.check().map_err(|fault| format!("credentials: {fault}"))?;
    if security == Security::None && !credentials.is_allowed_without_tls() {
        return Err("credentials without TLS: set a security, or say `allow_without_tls`".to_owned());
    }
    Ok(())
}

/// The TLS context of a host that has one.
fn tls_client(settings: &HostSettings, contexts: &mut Contexts) -> Result<Option<TlsClient>, Error> {
    if settings.security == Security::None {
        return Ok(None);
    }
    let made = contexts.client(&settings.name, settings.security, &settings.tls);
    let failed =
        |bad: BadSetting| Error::Tls { host: settings.name.clone(), what: bad.what, problem: bad.problem };
    made.map(Some).map_err(failed)
}

fn journal(level: u8, path: Option<&str>, hosts: &[Reached]) -> Result<Journal, Error> {
    let level = Level::new(level).unwrap_or(Level::OFF);
    let Some(pattern) = path else { return Ok(Journal::to_log(level)) };
    let threads = hosts.iter().map(|host| (host.settings.name.as_str(), host.settings.threads as usize));
    Journal::to_files(level, pattern, threads).map_err(Error::Debug)
}

/// Says before anything is connected that there can't be so many sessions.
#[cfg(unix)]
fn check_descriptors(lanes: usize) -> Result<(), Error> {
    use rustix::process::{Resource, getrlimit};
    let needed = lanes as u64 + SPARE_DESCRIPTORS;
    match getrlimit(Resource::Nofile).current {
        Some(allowed) if allowed < needed => Err(Error::Descriptors { needed, allowed }),
        _ => Ok(()),
    }
}

#[cfg(not(unix))]
fn check_descriptors(lanes: usize) -> Result<(), Error> {
    let _ = lanes as u64 + SPARE_DESCRIPTORS;
    Ok(())
}
