//! What a lane and a host are doing at this moment, for whoever asks. It is put together
//! of what is known anyway, so that it costs nothing where nobody does.

use std::fmt;
use std::time::{Duration, Instant};

use super::Coordinator;
use super::lane::{Lane, Link, Standing};
use crate::host::LaneId;
use crate::session::Step;

/// What a lane is doing: see [`Mailer::lanes`](crate::Mailer::lanes).
///
/// Its `Display` is one line: `mx.example.org:3 active RCPT 1 mail for 120ms`.
///
/// ```
/// # #[cfg(feature = "sink")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use smtp_bulk::{Host, Mailer, Standing};
///
/// let sink = smtp_bulk::sink::Sink::start()?;
/// smol::block_on(async {
///     let host = Host::new("127.0.0.1").port(sink.port()).threads(2);
///     let mailer = Mailer::builder().host(host).connect().await?;
///     let in_use = mailer.lanes().filter(|lane| lane.standing == Standing::Active);
///     for lane in in_use {
///         println!("{lane}, {} octets sent", lane.bytes);
///         assert_eq!((lane.step, lane.mails), (None, 0), "there is nothing to do");
///     }
///     Ok(())
/// })
/// # }
/// # #[cfg(not(feature = "sink"))]
/// # fn main() {}
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct LaneStatus<'a> {
    /// Which lane it is.
    pub lane: LaneId,
    /// The name of its host.
    pub host: &'a str,
    /// Where it stands.
    pub standing: Standing,
    /// What its server is waited for: [`Step::Connect`] while the name is resolved and
    /// the connection made, of a flight the first thing that has no reply. `None` when
    /// there is nothing: it has no connection, rests, or has its replies and waits for
    /// the others of its batch.
    pub step: Option<Step>,
    /// How long ago that was begun, of a flight all of it; `None` when there is nothing.
    pub elapsed: Option<Duration>,
    /// Mails that it holds.
    pub mails: u32,
    /// How often in a row it had to be opened anew because something went wrong, with no
    /// mail finished between.
    pub setbacks: u32,
    /// Whether the other lanes of a batch wait for its steps.
    pub is_in_batch: bool,
    /// Whether it goes on with its mails by itself, and nobody waits for it: it is a
    /// straggler, or the pace is free.
    pub is_alone: bool,
    /// Octets sent on all its connections.
    pub bytes: u64,
}

impl Lane {
    /// What it is doing at `now`.
    pub fn status(&self, now: Instant) -> LaneStatus<'_> {
        let doing = match self.link {
            Link::Dialling => Some((Step::Connect, self.dialled_at())),
            Link::Up if !self.session().is_over() => Some((self.session().step(), self.session().began())),
            Link::Up | Link::Down | Link::Wanted => None,
        };
        let began = doing.and_then(|(_, began)| began);
        LaneStatus {
            lane: self.id,
            host: &self.host.name,
            standing: self.standing,
            step: doing.map(|(step, _)| step),
            elapsed: began.map(|began| now.saturating_duration_since(began)),
            mails: u32::try_from(self.held()).unwrap_or(u32::MAX),
            setbacks: self.setbacks.count(),
            is_in_batch: self.is_in_batch(),
            is_alone: self.is_alone(),
            bytes: self.bytes(),
        }
    }
}

/// What a host is doing: see [`Mailer::hosts`](crate::Mailer::hosts).
///
/// Its `Display` is one line: `mx.example.org: 48 of 50 lanes active, 48 mails, at most 25
/// at a time`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct HostStatus<'a> {
    /// The host's position among those that the builder was given.
    pub host: u32,
    /// Its name.
    pub name: &'a str,
    /// How many lanes it may use.
    pub threads: u32,
    /// How many of its lanes are in use.
    pub active: usize,
    /// How many have a connection, or are making one.
    pub connected: usize,
    /// How many are out of use until a restart.
    pub retired: usize,
    /// Mails that its lanes hold.
    pub mails: usize,
    /// Mails that wait and may go to [no other host](crate::Message::host), those that
    /// were put off among them.
    pub waiting: usize,
    /// How many mails its lanes are given at a time, where it was
    /// [slowed down](crate::Host::auto_throttle).
    pub at_a_time: Option<u32>,
    /// How long it is given no mail: it [rests](crate::Host::circuit_breaker), or was
    /// given one mail at a time and put it off.
    pub idle_for: Option<Duration>,
    /// Whether its lanes have failed so often that it rests, or one of them tries for
    /// all.
    pub is_failing: bool,
}

impl Coordinator {
    /// What each host is doing at `now`, as of the last settle.
    pub fn hosts(&self, now: Instant) -> impl Iterator<Item = HostStatus<'_>> {
        let known = self.desk.hosts.iter().zip(&self.desk.health).zip(self.muster.hosts());
        (0..).zip(known).map(move |(host, ((name, health), sum))| HostStatus {
            host,
            name,
            threads: health.threads,
            active: sum.active,
            connected: sum.connected,
            retired: sum.retired,
            mails: sum.held,
            waiting: self.desk.backlog.of(host as usize) + self.desk.delayed.of(host),
            at_a_time: health.at_a_time(),
            idle_for: health.idle_until(now).map(|until| until.saturating_duration_since(now)),
            is_failing: health.is_failing(),
        })
    }
}

impl fmt::Display for HostStatus<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} of {} lanes active, {} mails", self.name, self.active, self.threads, self.mails)?;
        if self.waiting > 0 {
            write!(f, ", {} waiting for it", self.waiting)?;
        }
        if let Some(mails) = self.at_a_time {
            write!(f, ", at most {mails} at a time")?;
        }
        if self.is_failing {
            f.write_str(", failing")?;
        }
        if let Some(time) = self.idle_for {
            write!(f, ", idle for {time:?}")?;
        }
        Ok(())
    }
}

impl fmt::Display for LaneStatus<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} {}", self.host, self.lane.thread, self.standing)?;
        match self.step {
            Some(step) => write!(f, " {step}")?,
            None if self.mails > 0 => f.write_str(" waiting")?,
            None => {}
        }
        match self.mails {
            0 => {}
            1 => f.write_str(" 1 mail")?,
            mails => write!(f, " {mails} mails")?,
        }
        if let Some(elapsed) = self.elapsed {
            write!(f, " for {elapsed:?}")?;
        }
        if self.is_alone {
            f.write_str(", alone")?;
        }
        match self.setbacks {
            0 => Ok(()),
            1 => f.write_str(", 1 setback"),
            setbacks => write!(f, ", {setbacks} setbacks"),
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Standing::Active => "active",
            Standing::Opening => "opening",
            Standing::Resting => "resting",
            Standing::Benched => "benched",
            Standing::Retired => "retired",
        })
    }
}
