//! The orchestrator's command line.

use std::time::Duration;

use crate::support::Result;
use crate::support::options::{given, positive, unknown};
use crate::support::way::{self, Way};

/// What the orchestrator was asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    pub ways: Vec<Way>,
    /// How often each way is run.
    pub rounds: usize,
    /// Flights of each session in one run, about.
    pub flights: usize,
    /// How much later the relay hands on what it has read, in each direction.
    pub delay: Duration,
    /// Sessions at depth 1, and where a flight is of several mails.
    pub sessions: [usize; 2],
}

impl Options {
    pub fn parse(arguments: &[String]) -> Result<Self> {
        let delay = Duration::from_millis(20);
        let mut options = Self { ways: Vec::new(), rounds: 3, flights: 200, delay, sessions: [100, 20] };
        let Some(mut arguments) = given(arguments) else {
            let delay = Duration::from_millis(1);
            return Ok(Self { ways: way::ALL.to_vec(), rounds: 1, flights: 8, delay, sessions: [4, 2] });
        };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => (options.rounds, options.flights) = (1, 20),
                "--rounds" => options.rounds = positive(argument, arguments.next())?,
                "--flights" => options.flights = positive(argument, arguments.next())?,
                "--delay" => {
                    let milliseconds = positive(argument, arguments.next())?;
                    options.delay = Duration::from_millis(milliseconds as u64);
                }
                "--level" => options.ways.extend(Way::of_level(arguments.next())?),
                "--depth" => options.ways.push(Way::of_depth(arguments.next())?),
                _ => return unknown(argument),
            }
        }
        if options.ways.is_empty() {
            options.ways = way::ALL.to_vec();
        }
        Ok(options)
    }

    pub fn sessions(&self, way: Way) -> usize {
        let [one_mail, several] = self.sessions;
        if way.depth == 1 { one_mail } else { several }
    }

    /// Mails of one run: whole batches.
    pub fn mails(&self, way: Way) -> usize {
        let batches = self.flights as f64 / (way.flights_per_mail() * way.depth as f64);
        self.sessions(way) * way.depth * (batches as usize).max(1)
    }

    /// What is sent before that.
    pub fn warm_up(&self, way: Way) -> usize {
        2 * self.sessions(way) * way.depth
    }

    /// Mails in a second if every flight of every session took the two delays and no more.
    pub fn ideal(&self, way: Way) -> f64 {
        let round_trip = 2.0 * self.delay.as_secs_f64();
        self.sessions(way) as f64 / (way.flights_per_mail() * round_trip)
    }
}
