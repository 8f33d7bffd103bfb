//! Reading the orchestrator's command line.

use super::Result;
use super::way::Way;

/// The options that were given, without the one by which `cargo bench` says what it is; `None` when
/// `cargo test` has started this, whose arguments are for its own harness: then the roles are only to
/// prove that they work together, and to be quick about it.
pub fn given(arguments: &[String]) -> Option<impl Iterator<Item = &String>> {
    let is_mark = |argument: &&String| *argument == "--bench";
    let is_bench = arguments.iter().any(|argument| is_mark(&argument));
    is_bench.then(|| arguments.iter().filter(move |argument| !is_mark(argument)))
}

/// The number behind an option.
pub fn positive(name: &str, value: Option<&String>) -> Result<usize> {
    let number = value.and_then(|value| value.parse().ok()).filter(|&number| number > 0);
    number.ok_or_else(|| format!("{name} takes a number above 0").into())
}

/// What is said of an option that there is not.
pub fn unknown<T>(name: &str) -> Result<T> {
    Err(format!("unknown option {name}").into())
}

/// What is compared, and how often, where the ways to send are gone through at several numbers of
/// sessions.
#[derive(Clone, Debug)]
pub struct Course {
    pub ways: Vec<Way>,
    /// The numbers of sessions compared, ascending.
    pub sessions: Vec<usize>,
    /// Runs of each rival, per number of sessions.
    pub rounds: usize,
    /// Mails of one measured run at level 0, rounded up to whole batches; more where they cost less.
    pub mails: usize,
}

impl Course {
    /// The least that shows that the roles work together.
    pub fn proof(ways: &[Way]) -> Self {
        Self { ways: ways.to_vec(), sessions: vec![10], rounds: 1, mails: 100 }
    }

    /// Reads the options of a course, of these ways unless others are named, and leaves to `other`
    /// those that it does not know: `false` for one that nobody does.
    pub fn parse<'a>(
        mut arguments: impl Iterator<Item = &'a String>,
        ways: &[Way],
        mut other: impl FnMut(&str) -> bool,
    ) -> Result<Self> {
        let mut course = Self { ways: Vec::new(), sessions: vec![10, 100, 1000], rounds: 5, mails: 20_000 };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => (course.rounds, course.mails) = (2, 5000),
                "--rounds" => course.rounds = positive(argument, arguments.next())?,
                "--level" => course.ways.extend(Way::of_level(arguments.next())?),
                "--depth" => course.ways.push(Way::of_depth(arguments.next())?),
                "--only" => course.sessions = vec![positive(argument, arguments.next())?],
                "--mails" => course.mails = positive(argument, arguments.next())?,
                known if other(known) => {}
                _ => return unknown(argument),
            }
        }
        if course.ways.is_empty() {
            course.ways = ways.to_vec();
        }
        Ok(course)
    }

    /// Compares each way at each number of sessions.
    pub fn run<T>(&self, mut compare: impl FnMut(Way, usize) -> Result<T>) -> Result<Vec<T>> {
        let cells =
            self.ways.iter().flat_map(|&way| self.sessions.iter().map(move |&sessions| (way, sessions)));
        cells.map(|(way, sessions)| compare(way, sessions)).collect()
    }
}
