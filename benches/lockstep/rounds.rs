//! Runs floor and ours in turn and keeps the pairs.

use super::figures::{Figures, least, median};
use super::options::Options;
use super::spawn::{self, FLOOR, Run};
use super::strace::{self, Calls};
use crate::Result;

/// Mails before the measured section, at least; and whole batches, at least.
const WARM_UP_MAILS: usize = 1000;
const WARM_UP_BATCHES: usize = 3;

/// Everything measured at one number of sessions.
#[derive(Debug)]
pub struct Comparison {
    pub sessions: usize,
    /// (floor, ours), run one right after the other.
    pub pairs: Vec<(Figures, Figures)>,
    /// (floor, ours), when `strace` may be used.
    pub calls: Option<(Calls, Calls)>,
}

impl Comparison {
    /// A figure of every run of the floor.
    pub fn floor(&self, figure: impl Fn(&Figures) -> f64) -> Vec<f64> {
        self.pairs.iter().map(|(floor, _)| figure(floor)).collect()
    }

    /// A figure of every run of ours.
    pub fn ours(&self, figure: impl Fn(&Figures) -> f64) -> Vec<f64> {
        self.pairs.iter().map(|(_, ours)| figure(ours)).collect()
    }

    /// The ratio of the cheapest runs. What disturbs a run only ever adds to its CPU time, so on
    /// a restless machine this settles sooner than the pairs do.
    pub fn ratio_of_least(&self) -> Option<f64> {
        let cpu = Figures::cpu_micros_per_mail;
        Some(least(self.ours(cpu))? / least(self.floor(cpu))?)
    }

    /// CPU per mail, ours divided by the floor's, pair by pair: smallest, median, largest. Within
    /// a pair the machine is in much the same mood, so this is steadier than the medians' ratio.
    pub fn ratios(&self) -> Option<[f64; 3]> {
        let ratio =
            |(floor, ours): &(Figures, Figures)| ours.cpu_micros_per_mail() / floor.cpu_micros_per_mail();
        let mut ratios: Vec<_> = self.pairs.iter().map(ratio).collect();
        ratios.sort_by(f64::total_cmp);
        Some([*ratios.first()?, median(ratios.clone())?, *ratios.last()?])
    }
}

pub fn compare(options: &Options, sessions: usize) -> Result<Comparison> {
    let whole_batches = |mails: usize| mails.div_ceil(sessions) * sessions;
    let warm_up = whole_batches(WARM_UP_MAILS.min(options.mails)).max(WARM_UP_BATCHES * sessions);
    let run = |role| Run { role, sessions, warm_up, mails: whole_batches(options.mails) };
    let mut pairs = Vec::new();
    for round in 1..=options.rounds {
        let pair = (spawn::client(run(FLOOR), None)?, spawn::client(run(options.rival), None)?);
        let (floor, ours) = (pair.0.cpu_micros_per_mail(), pair.1.cpu_micros_per_mail());
        eprintln!(
            "{sessions} sessions, round {round} of {}: floor {floor:.2} µs, ours {ours:.2} µs CPU per mail",
            options.rounds
        );
        pairs.push(pair);
    }
    let calls = if options.strace && strace::is_usable() {
        eprintln!("{sessions} sessions: counting system calls");
        Some((calls_per_mail(FLOOR, sessions)?, calls_per_mail(options.rival, sessions)?))
    } else {
        eprintln!("{sessions} sessions: system calls not counted (no usable strace, or not wanted)");
        None
    };
    Ok(Comparison { sessions, pairs, calls })
}

fn calls_per_mail(role: &'static str, sessions: usize) -> Result<Calls> {
    strace::calls_per_mail(sessions, |mails, file| {
        let run = Run { role, sessions, warm_up: sessions, mails };
        spawn::client(run, Some(file)).map(drop)
    })
}
