//! What the sessions did last, for a picture of who held up whom: the steps that the mailer tells
//! of are kept, and drawn when the run is over. It must never stop the mail, nor grow with the run.

use crate::chart::{self, Shown};
use crate::failed::{open_to_write, same_file};
use crate::input::InputError;
use smtp_bulk::{LaneId, Step, StepEnd, StepTaken};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Batches whose steps are kept, and with `--pace free` mails per session.
pub const MOST_BATCHES: u64 = 200;

/// Steps that are kept.
pub const MOST_STEPS: usize = 200_000;

/// Characters of a failure that are kept.
const MAX_REASON: usize = 200;

/// A step as it is kept; times are nanoseconds since the run began.
#[derive(Debug, Clone, PartialEq)]
pub struct Taken {
    /// Whose it is.
    pub lane: LaneId,
    /// Of which batch.
    pub batch: u64,
    /// The first thing that was asked.
    pub step: Step,
    /// The last one.
    pub last_step: Step,
    /// Mails that the lane held.
    pub mails: u32,
    /// When it began.
    pub began: u64,
    /// When its last reply was read, or its failure noticed.
    pub over: u64,
    /// When it was judged.
    pub judged: u64,
    /// How it ended.
    pub end: End,
    /// Whether others waited for it.
    pub is_in_batch: bool,
    /// Whether it opens a lane that had been open before.
    pub is_reopening: bool,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq)]
pub enum End {
    /// As hoped for.
    Passed,
    /// With this code, among others perhaps.
    Refused(u16),
    /// The connection failed, and why.
    Failed(Box<str>),
    /// It was given up.
    GivenUp,
}

/// The last steps of a run, and the file that they are drawn into.
#[derive(Debug)]
pub struct Trace {
    path: PathBuf,
    file: File,
    started: Instant,
    span: u64,
    hosts: BTreeMap<u32, String>,
    steps: VecDeque<Taken>,
    dropped: u64,
}

impl Trace {
    /// Opens or creates the file and leaves what is in it. A path that is also one of `others` is
    /// refused: it is read, or something else is written to it. `span` is how many batches are kept.
    pub fn create(path: &Path, others: &[&Path], span: u64) -> Result<Self, InputError> {
        if let Some(other) = others.iter().find(|other| same_file(path, other)) {
            let what = format!("cannot take the picture of --trace too ({}); name another", path.display());
            return Err(InputError::file(other, what));
        }
        let file = open_to_write(path)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            started: Instant::now(),
            span: span.max(1),
            hosts: BTreeMap::new(),
            steps: VecDeque::new(),
            dropped: 0,
        })
    }

    /// Keeps a step, and forgets those that are too old.
    pub fn note(&mut self, taken: &StepTaken<'_>) {
        self.hosts.entry(taken.lane.host).or_insert_with(|| taken.host.to_owned());
        let kept = Taken {
            lane: taken.lane,
            batch: taken.batch,
            step: taken.step,
            last_step: taken.last_step,
            mails: taken.mails,
            began: self.since(taken.began),
            over: self.since(taken.over),
            judged: self.since(taken.judged),
            end: match taken.end {
                StepEnd::Passed => End::Passed,
                StepEnd::Refused(code) => End::Refused(code.as_u16()),
                StepEnd::Failed(failure) => {
                    End::Failed(failure.to_string().chars().take(MAX_REASON).collect::<String>().into())
                }
                _ => End::GivenUp,
            },
            is_in_batch: taken.is_in_batch,
            is_reopening: taken.is_reopening,
        };
        self.keep(kept);
    }

    fn keep(&mut self, taken: Taken) {
        let oldest = taken.batch.saturating_add(1).saturating_sub(self.span);
        self.steps.push_back(taken);
        while self.steps.len() > MOST_STEPS || self.steps.front().is_some_and(|first| first.batch < oldest) {
            self.steps.pop_front();
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    fn since(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.started).as_nanos()).unwrap_or(u64::MAX)
    }

    /// Empties the file and draws what was kept into it.
    pub fn finish(&mut self) -> Result<(), InputError> {
        let shown = Shown { steps: self.steps.make_contiguous(), hosts: &self.hosts, dropped: self.dropped };
        let page = chart::draw(&shown);
        self.write(page.as_bytes())
            .map_err(|error| InputError::file(&self.path, format!("cannot write: {error}")))
    }

    fn write(&mut self, page: &[u8]) -> io::Result<()> {
        // A pipe or a device has nothing to be emptied or brought to a disk, and refuses.
        let is_file = self.file.metadata()?.is_file();
        if is_file {
            self.file.set_len(0)?;
        }
        self.file.write_all(page)?;
        if is_file { self.file.sync_all() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn trace(path: &Path, span: u64) -> Trace {
        Trace::create(path, &[], span).unwrap()
    }

    fn step(batch: u64) -> Taken {
        Taken {
            lane: LaneId { host: 0, thread: 0 },
            batch,
            step: Step::Mail,
            last_step: Step::Mail,
            mails: 1,
            began: batch * 10,
            over: batch * 10 + 5,
            judged: batch * 10 + 10,
            end: End::Passed,
            is_in_batch: true,
            is_reopening: false,
        }
    }

    #[test]
    fn the_last_batches_are_kept_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let mut trace = trace(&folder.path().join("t.html"), MOST_BATCHES);
        for batch in 0..500 {
            trace.keep(step(batch));
            trace.keep(step(batch));
        }
        let batches: Vec<u64> = trace.steps.iter().map(|taken| taken.batch).collect();
        assert_eq!((batches.len(), batches[0], batches[399]), (400, 300, 499));
        assert_eq!(trace.dropped, 600);
    }

    #[test]
    fn one_batch_without_end_is_bounded_too() {
        let folder = tempfile::tempdir().unwrap();
        let mut trace = trace(&folder.path().join("t.html"), MOST_BATCHES);
        for _ in 0..MOST_STEPS + 7 {
            trace.keep(step(0));
        }
        assert_eq!((trace.steps.len(), trace.dropped), (MOST_STEPS, 7));
    }

    #[test]
    fn what_is_in_the_file_stays_until_the_run_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.html");
        let precious = "precious".repeat(10_000);
        fs::write(&path, &precious).unwrap();
        let mut trace = trace(&path, 1);
        trace.keep(step(0));
        assert_eq!(fs::read_to_string(&path).unwrap(), precious);
        trace.finish().unwrap();
        let page = fs::read_to_string(&path).unwrap();
        assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"), "{page}");
    }

    #[test]
    fn a_file_that_is_used_for_something_else_is_refused_and_so_is_one_that_cannot_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("r.csv");
        fs::write(&other, "a@b\n").unwrap();
        let same = folder.path().join(".").join("r.csv");
        let error = Trace::create(&same, &[&other], 1).unwrap_err().to_string();
        assert!(error.contains("cannot take the picture of --trace too"), "{error}");
        assert_eq!(fs::read_to_string(&other).unwrap(), "a@b\n");
        let error = Trace::create(&folder.path().join("none/t.html"), &[], 1).unwrap_err().to_string();
        assert!(error.contains("t.html: cannot write: No such file"), "{error}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_told_at_the_end() {
        let error = trace(Path::new("/dev/full"), 1).finish().unwrap_err().to_string();
        assert!(error.starts_with("/dev/full: cannot write: No space left"), "{error}");
    }
}
