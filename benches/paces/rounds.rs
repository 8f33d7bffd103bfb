//! Runs the paces in turn.

use crate::support::Result;
use crate::support::figures::{Figures, Plan, least, spread};
use crate::support::options::Course;
use crate::support::spawn::{self, OURS, SERVER, Server};
use crate::support::way::{PACES, Way};

/// Mails before the measured section, at least; and whole batches, at least.
const WARM_UP_MAILS: usize = 1000;
const WARM_UP_BATCHES: usize = 3;

/// Everything measured of one way to send, at one number of sessions: each round's runs, in the
/// order of the paces.
#[derive(Debug)]
pub struct Comparison {
    pub way: Way,
    pub sessions: usize,
    pub rounds: Vec<Vec<Figures>>,
}

impl Comparison {
    /// A figure of every run of a pace.
    pub fn figure(&self, pace: usize, figure: impl Fn(&Figures) -> f64) -> Vec<f64> {
        self.rounds.iter().filter_map(|round| round.get(pace)).map(figure).collect()
    }

    /// CPU per mail, a pace's divided by that of lockstep, round by round.
    pub fn ratios(&self, pace: usize) -> Option<[f64; 3]> {
        let cpu = |pace| self.figure(pace, Figures::cpu_micros_per_mail);
        spread(cpu(pace).into_iter().zip(cpu(0)).map(|(pace, lockstep)| pace / lockstep))
    }

    /// The same of the cheapest runs, which settles sooner on a restless machine.
    pub fn ratio_of_least(&self, pace: usize) -> Option<f64> {
        let cpu = |pace| least(self.figure(pace, Figures::cpu_micros_per_mail));
        Some(cpu(pace)? / cpu(0)?)
    }
}

pub fn compare(course: &Course, way: Way, sessions: usize) -> Result<Comparison> {
    let batch = sessions * way.depth;
    let whole_batches = |mails: usize| mails.div_ceil(batch) * batch;
    let warm_up = whole_batches(WARM_UP_MAILS.min(course.mails)).max(WARM_UP_BATCHES * batch);
    let mails = whole_batches((course.mails as f64 * 4.0 / way.flights_per_mail()) as usize);
    let mut rounds = Vec::new();
    for round in 1..=course.rounds {
        let mut figures = Vec::new();
        for (pace, (name, _)) in PACES.iter().enumerate() {
            let server = Server::start(SERVER, &way.server_arguments())?;
            let plan = Plan { server: server.address, way: Way { pace, ..way }, sessions, warm_up, mails };
            let run = spawn::client(OURS, &plan, server, None)?;
            eprintln!(
                "{}, {sessions} sessions, round {round} of {}: {name} {:.2} µs CPU per mail",
                way.title(),
                course.rounds,
                run.cpu_micros_per_mail()
            );
            figures.push(run);
        }
        rounds.push(figures);
    }
    Ok(Comparison { way, sessions, rounds })
}
