//! What a lane is doing at this moment, for whoever asks. It is put together of what
//! the lane knows anyway, so that it costs nothing where nobody does.

use std::fmt;
use std::time::{Duration, Instant};

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
