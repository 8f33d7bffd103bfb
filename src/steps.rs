//! What each step of each lane came to, told to whoever only looks. Nothing here
//! decides or acts.

use std::fmt;
use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::host::LaneId;
use crate::reply::ReplyCode;
use crate::session::Step;

/// A step that a lane has taken: one flight, or one opening of its connection.
///
/// Given to [`Handler::step_taken`](crate::Handler::step_taken) when the step is
/// judged, before the events of its replies. A lane that has no connection takes no
/// step: the time between an end of its connection and the beginning of its next
/// opening was spent on waiting for that.
///
/// Its `Display` is one line: `mx.example.org:3 RCPT of batch 7 took 12ms, waited 3ms:
/// refused 550`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct StepTaken<'a> {
    /// Which lane has taken it.
    pub lane: LaneId,
    /// The name of the lane's host.
    pub host: &'a str,
    /// Batches that had ended before it was judged, which is the number of its own batch,
    /// from 0, if it is of one. In [`Pace::Free`](crate::Pace::Free) mails that lanes were
    /// dealt are counted instead, so that it only says what came before what.
    pub batch: u64,
    /// The first thing that the flight asked. [`Step::Connect`] stands for a whole
    /// opening: name look-up, connection, TLS, greeting, EHLO. AUTH is a step of its own.
    pub step: Step,
    /// The last thing that it asked: the same, unless several were asked at once. Of an
    /// opening, the last one that was tried.
    pub last_step: Step,
    /// Mails that the lane held.
    pub mails: u32,
    /// When it was begun.
    pub began: Instant,
    /// When its last reply was read, or its failure noticed.
    pub over: Instant,
    /// When it was judged. Until then the lane waited for the others of its batch.
    pub judged: Instant,
    /// How it ended.
    pub end: StepEnd<'a>,
    /// Whether the others of a batch waited for it: it is no straggler, no opening, and
    /// the pace is not free.
    pub is_in_batch: bool,
    /// Whether it opens a lane that had been open before.
    pub is_reopening: bool,
}

impl StepTaken<'_> {
    /// How long it took.
    pub fn took(&self) -> Duration {
        self.over.saturating_duration_since(self.began)
    }

    /// How long its lane then waited for others.
    pub fn waited(&self) -> Duration {
        self.judged.saturating_duration_since(self.over)
    }

    /// Whether it was about the connection, and not about mails: an opening, or AUTH.
    pub fn is_opening(&self) -> bool {
        matches!(self.step, Step::Connect | Step::Auth)
    }

    /// Whether several things were asked at once.
    pub fn is_of_several(&self) -> bool {
        !self.is_opening() && self.step != self.last_step
    }
}

impl fmt::Display for StepTaken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} {}", self.host, self.lane.thread, self.step)?;
        if self.is_of_several() {
            write!(f, " to {}", self.last_step)?;
        }
        write!(f, " of batch {} took {:?}, waited {:?}", self.batch, self.took(), self.waited())?;
        write!(f, ": {}", self.end)
    }
}

/// How a step ended.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum StepEnd<'a> {
    /// Every reply was as hoped for, or the connection stands.
    Passed,
    /// There was a refusal; the first one, if there were several.
    Refused(ReplyCode),
    /// The connection failed, could not be made, or was too late.
    Failed(&'a Failure),
    /// The client gave it up before it had ended.
    GivenUp,
}

impl StepEnd<'_> {
    /// Whether something went wrong.
    pub fn is_trouble(&self) -> bool {
        matches!(self, StepEnd::Refused(_) | StepEnd::Failed(_))
    }
}

impl fmt::Display for StepEnd<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StepEnd::Passed => f.write_str("passed"),
            StepEnd::Refused(code) => write!(f, "refused {code}"),
            StepEnd::Failed(failure) => write!(f, "failed: {failure}"),
            StepEnd::GivenUp => f.write_str("given up"),
        }
    }
}
