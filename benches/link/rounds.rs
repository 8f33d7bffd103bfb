//! Runs every way in turn, round after round.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::options::Options;
use super::relay;
use crate::support::Result;
use crate::support::figures::{Figures, Plan, median, spread};
use crate::support::spawn::{self, OURS, SERVER, Server};
use crate::support::way::Way;

/// Round trips of which the median is taken.
const PINGS: usize = 21;
/// A server that is silent for longer ends the run with an error.
const SILENCE: Duration = Duration::from_secs(30);

/// Everything measured of one way.
#[derive(Debug)]
pub struct Course {
    pub way: Way,
    /// One for each round.
    pub runs: Vec<Run>,
}

/// One client run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub figures: Figures,
    /// What a lone NOOP took just before.
    pub round_trip: Duration,
}

impl Course {
    /// A figure of every round: smallest, median, largest.
    pub fn spread(&self, figure: impl Fn(&Run) -> f64) -> Option<[f64; 3]> {
        spread(self.runs.iter().map(figure))
    }
}

pub fn run(options: &Options) -> Result<Vec<Course>> {
    let mut courses: Vec<Course> = options.ways.iter().map(|&way| Course { way, runs: Vec::new() }).collect();
    for round in 1..=options.rounds {
        for course in &mut courses {
            let run = client(options, course.way)?;
            eprintln!(
                "{}, round {round} of {}: {:.0} mails/s, {:.1} % of {:.0}",
                course.way.title(),
                options.rounds,
                run.figures.mails_per_second(),
                100.0 * run.figures.mails_per_second() / options.ideal(course.way),
                options.ideal(course.way),
            );
            course.runs.push(run);
        }
    }
    Ok(courses)
}

/// Runs one client through a fresh relay against a fresh server.
fn client(options: &Options, way: Way) -> Result<Run> {
    let server = Server::start(SERVER, &way.server_arguments())?;
    let delay = options.delay.as_micros().to_string();
    let relay = Server::start(relay::ROLE, &[server.address.to_string().into(), delay.into()])?;
    let round_trip = ping(relay.address)?;
    let (sessions, warm_up, mails) = (options.sessions(way), options.warm_up(way), options.mails(way));
    let plan = Plan { server: relay.address, way, sessions, warm_up, mails };
    Ok(Run { figures: spawn::client(OURS, &plan, server, None)?, round_trip })
}

/// How long a NOOP takes on a connection that has nothing else to do.
fn ping(relay: SocketAddr) -> Result<Duration> {
    let mut stream = TcpStream::connect_timeout(&relay, SILENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE))?;
    let mut reply = [0; 512];
    // The greeting; and the replies are one line each.
    let _ = stream.read(&mut reply)?;
    let mut took = Vec::new();
    for _ in 0..PINGS {
        let begun = Instant::now();
        stream.write_all(b"NOOP\r\n")?;
        if stream.read(&mut reply)? == 0 {
            return Err("the relay hangs up".into());
        }
        took.push(begun.elapsed().as_secs_f64());
    }
    Ok(Duration::from_secs_f64(median(took).unwrap_or_default()))
}
