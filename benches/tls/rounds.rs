//! Runs every case in turn, round after round.

use std::path::Path;

use super::case::Case;
use super::certs::Certificates;
use super::measured::{Measured, Plan};
use super::options::Options;
use crate::support::Result;
use crate::support::figures::spread;
use crate::support::spawn::{self, OURS, SERVER, Server};
use crate::support::strace::{self, Calls};

/// Sessions whose system calls are counted, at most: a traced client is slow.
const TRACED_SESSIONS: usize = 100;

/// Everything measured of one case.
#[derive(Debug)]
pub struct Course {
    pub case: Case,
    /// One for each round.
    pub runs: Vec<Measured>,
    /// When `strace` may be used.
    pub calls: Option<Calls>,
}

impl Course {
    /// A figure of every round: smallest, median, largest.
    pub fn spread(&self, figure: impl Fn(&Measured) -> f64) -> Option<[f64; 3]> {
        spread(self.runs.iter().map(figure))
    }

    /// By how much a figure is larger than that of another case in the same round, in which the
    /// machine was in much the same mood.
    pub fn spread_beyond(&self, other: &Course, figure: impl Fn(&Measured) -> f64) -> Option<[f64; 3]> {
        let rounds = self.runs.iter().zip(&other.runs);
        spread(rounds.map(|(run, other)| figure(run) - figure(other)))
    }
}

pub fn run(options: &Options) -> Result<Vec<Course>> {
    let certificates = Certificates::make()?;
    let mut courses: Vec<Course> =
        options.cases.iter().map(|&case| Course { case, runs: Vec::new(), calls: None }).collect();
    for round in 1..=options.rounds {
        for course in &mut courses {
            let run = client(&certificates, course.case, options.sessions, options.mails, None)?;
            eprintln!(
                "round {round} of {}, {}: {:.3} ms and {:.1} KiB per session, {:.1} µs per mail",
                options.rounds,
                course.case.name,
                run.opening_ms(),
                run.rested_kib(),
                run.sent.cpu_micros_per_mail()
            );
            course.runs.push(run);
        }
    }
    if !options.strace || !strace::is_usable() {
        eprintln!("system calls not counted (no usable strace, or not wanted)");
        return Ok(courses);
    }
    let sessions = options.sessions.min(TRACED_SESSIONS);
    for course in courses.iter_mut().filter(|course| course.case.counts_calls()) {
        eprintln!("{}: counting system calls", course.case.name);
        course.calls = Some(strace::calls_per_mail(sessions, |mails, file| {
            client(&certificates, course.case, sessions, mails, Some(file)).map(drop)
        })?);
    }
    Ok(courses)
}

/// Runs one client against one fresh server; under `strace` when told where it shall write.
fn client(
    certificates: &Certificates,
    case: Case,
    sessions: usize,
    mails: usize,
    strace: Option<&Path>,
) -> Result<Measured> {
    let (chain, key) = (certificates.chain(case.key), certificates.key(case.key));
    let mut server = Server::start(SERVER, &[case.name.into(), chain.into(), key.into()])?;
    let mails = mails.div_ceil(sessions) * sessions;
    let plan = Plan { case, server: server.address, authority: certificates.authority(), sessions, mails };
    let mut command = spawn::command_line(OURS, strace)?;
    let measured = Measured::parse(&spawn::answer(command.args(plan.to_arguments()))?)?;
    let taken = server.stop()?;
    if measured.opened.mails != sessions || measured.sent.mails != mails || taken != plan.total() {
        return Err(format!("{plan:?}: the server took {taken} mails, the client says\n{measured}").into());
    }
    Ok(measured)
}
