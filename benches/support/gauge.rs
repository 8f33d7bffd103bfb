//! What a process can say of itself: CPU time, resident memory, descriptors.

use std::time::{Duration, Instant};

use super::Result;
use super::figures::Figures;

/// Descriptors beyond one per session: standard streams, pollers, pipes.
const SPARE_DESCRIPTORS: u64 = 64;

/// The measured section: begun when the warm-up is over, ended behind the last mail's reply and
/// before the sessions close.
pub struct Section {
    wall: Instant,
    cpu: Duration,
}

impl Section {
    pub fn begin() -> Result<Self> {
        Ok(Self { cpu: cpu_time()?, wall: Instant::now() })
    }

    pub fn end(self, mails: usize) -> Result<Figures> {
        let wall = self.wall.elapsed();
        let cpu = cpu_time()?.saturating_sub(self.cpu);
        Ok(Figures { mails, wall, cpu, resident_kib: resident_kib() })
    }
}

/// User and system time of all threads so far: what `getrusage` adds up to, in nanoseconds
/// instead of in microseconds scaled from clock ticks.
#[cfg(unix)]
fn cpu_time() -> Result<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Ok(Duration::new(time.tv_sec.try_into()?, time.tv_nsec.try_into()?))
}

#[cfg(not(unix))]
fn cpu_time() -> Result<Duration> {
    Err("CPU time is only read on Unix".into())
}

/// `smaps_rollup` is counted page by page; `VmRSS` lags behind by up to 128 KiB per core, which
/// would be seen in a difference of a few KiB per session, so it is only the second choice.
fn resident_kib() -> Option<u64> {
    [("/proc/self/smaps_rollup", "Rss:"), ("/proc/self/status", "VmRSS:")].into_iter().find_map(
        |(path, key)| {
            let text = std::fs::read_to_string(path).ok()?;
            text.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok())
        },
    )
}

/// Raises the soft limit to the hard one when `sessions` need it, or (0) whenever it is lower.
#[cfg(unix)]
pub fn raise_descriptor_limit(sessions: usize) -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let needed = (sessions as u64).saturating_add(SPARE_DESCRIPTORS);
    let limit = getrlimit(Resource::Nofile);
    // `None` is no limit.
    if limit.maximum.is_some_and(|hard| hard < needed) {
        return Err(format!(
            "{sessions} sessions need {needed} descriptors; the hard limit is {:?}",
            limit.maximum
        )
        .into());
    }
    if limit.current.is_some_and(|soft| sessions == 0 || soft < needed) {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    }
    Ok(())
}

#[cfg(not(unix))]
pub fn raise_descriptor_limit(sessions: usize) -> Result<()> {
    let _ = (sessions, SPARE_DESCRIPTORS);
    Ok(())
}
