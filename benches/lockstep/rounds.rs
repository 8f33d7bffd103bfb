//! Runs floor and ours in turn and keeps the pairs.

use std::path::Path;

use super::floor;
use super::options::Options;
use crate::support::Result;
use crate::support::figures::{Figures, Plan, least, spread};
use crate::support::spawn::{self, SERVER, Server};
use crate::support::strace::{self, Calls};
use crate::support::way::Way;

/// Mails before the measured section, at least; and whole batches, at least.
const WARM_UP_MAILS: usize = 1000;
const WARM_UP_BATCHES: usize = 3;

/// Mails of a run are this many times more where a mail costs little, at most.
const MOST_TIMES: f64 = 8.0;

/// Everything measured of one way to send, at one number of sessions.
#[derive(Debug)]
pub struct Comparison {
    pub way: Way,
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
        spread(self.pairs.iter().map(ratio))
    }
}

/// What to run: the address of the server is not known before it is started.
#[derive(Clone, Copy, Debug)]
struct Run {
    role: &'static str,
    way: Way,
    sessions: usize,
    warm_up: usize,
    mails: usize,
}

/// Runs one client against one fresh server; under `strace` when told where it shall write.
fn client(run: Run, strace: Option<&Path>) -> Result<Figures> {
    let Run { role, way, sessions, warm_up, mails } = run;
    let server = Server::start(SERVER, &way.server_arguments())?;
    let plan = Plan { server: server.address, way, sessions, warm_up, mails };
    spawn::client(role, &plan, server, strace)
}

/// How many mails a run has: about as long at each way as `--mails` says for level 0.
pub fn mails(options: &Options, way: Way) -> usize {
    let times = (4.0 / way.flights_per_mail()).min(MOST_TIMES);
    options.course.mails * times as usize
}

pub fn compare(options: &Options, way: Way, sessions: usize) -> Result<Comparison> {
    let batch = sessions * way.depth;
    let whole_batches = |mails: usize| mails.div_ceil(batch) * batch;
    let warm_up = whole_batches(WARM_UP_MAILS.min(options.course.mails)).max(WARM_UP_BATCHES * batch);
    let run = |role| Run { role, way, sessions, warm_up, mails: whole_batches(mails(options, way)) };
    let title = way.title();
    let mut pairs = Vec::new();
    for round in 1..=options.course.rounds {
        let pair = (client(run(floor::ROLE), None)?, client(run(options.rival), None)?);
        let (floor, ours) = (pair.0.cpu_micros_per_mail(), pair.1.cpu_micros_per_mail());
        eprintln!(
            "{title}, {sessions} sessions, round {round} of {}: floor {floor:.2} µs, ours {ours:.2} µs CPU per mail",
            options.course.rounds
        );
        pairs.push(pair);
    }
    let calls = if options.strace && strace::is_usable() {
        eprintln!("{title}, {sessions} sessions: counting system calls");
        Some((calls_per_mail(run(floor::ROLE))?, calls_per_mail(run(options.rival))?))
    } else {
        eprintln!("{title}, {sessions} sessions: system calls not counted (no usable strace, or not wanted)");
        None
    };
    Ok(Comparison { way, sessions, pairs, calls })
}

fn calls_per_mail(run: Run) -> Result<Calls> {
    let batch = run.sessions * run.way.depth;
    strace::calls_per_mail(batch, |mails, file| {
        let run = Run { warm_up: batch, mails, ..run };
        client(run, Some(file)).map(drop)
    })
}
