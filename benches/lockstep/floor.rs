//! The floor: N blocking sockets in lockstep, and per flight one write and one read.
//!
//! It sends what the client sends, checks each reply's code and nothing more, allocates nothing
//! per mail, formats nothing and probes nothing. It must never make a system call that the
//! protocol does not need.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::Result;
use crate::support::content::{HELLO, RECIPIENT, SENDER, content};
use crate::support::figures::{Figures, Plan};
use crate::support::gauge::Section;
use crate::support::way::Way;

/// The hidden first argument.
pub const ROLE: &str = "__floor";

/// A server that is silent for longer ends the run with an error.
const SILENCE: Duration = Duration::from_secs(30);
/// Octets read at a time, as many as this crate's mailer reads.
const REPLY_OCTETS: usize = 16 * 1024;

const OK: &[u8] = b"250";
const GO_AHEAD: &[u8] = b"354";

/// One round trip of every session: what is written, and how each reply must begin.
#[derive(Clone)]
struct Flight {
    octets: Vec<u8>,
    codes: Vec<&'static [u8]>,
}

/// The flights of any number of mails.
struct Course {
    first: Vec<Flight>,
    /// Once for each batch of `mails` a session; with `first` and `last`, for one batch fewer.
    each: Vec<Flight>,
    last: Vec<Flight>,
    /// How many mails a session sends with one turn of `each`.
    mails: usize,
}

/// The connections, and the buffer into which all of them are read.
struct Sessions {
    streams: Vec<TcpStream>,
    inbox: Vec<u8>,
}

pub fn run(plan: &Plan) -> Result<Figures> {
    let course = Course::of(plan.way);
    let mut sessions = Sessions::connect(plan)?;
    sessions.send(&course, plan.warm_up)?;
    let section = Section::begin()?;
    sessions.send(&course, plan.mails)?;
    let figures = section.end(plan.mails)?;
    sessions.round_trip(&Flight::new(b"QUIT\r\n", b"221"))?;
    Ok(figures)
}

impl Flight {
    fn new(octets: &[u8], code: &'static [u8]) -> Flight {
        Flight { octets: octets.to_vec(), codes: vec![code] }
    }

    /// The flights' commands in one.
    fn joined<'a>(flights: impl IntoIterator<Item = &'a Flight>) -> Flight {
        let mut all = Flight { octets: Vec::new(), codes: Vec::new() };
        for flight in flights {
            all.octets.extend_from_slice(&flight.octets);
            all.codes.extend_from_slice(&flight.codes);
        }
        all
    }
}

impl Course {
    fn of(way: Way) -> Course {
        let mail = Flight::new(format!("MAIL FROM:<{SENDER}>\r\n").as_bytes(), OK);
        let rcpt = Flight::new(format!("RCPT TO:<{RECIPIENT}>\r\n").as_bytes(), OK);
        let data = Flight::new(b"DATA\r\n", GO_AHEAD);
        let rset = Flight::new(b"RSET\r\n", OK);
        let content = content();
        let dotted = Flight::new(&[&content, b".\r\n".as_slice()].concat(), OK);
        let chunk = format!("BDAT {} LAST\r\n", content.len());
        let chunk = Flight::new(&[chunk.as_bytes(), &content].concat(), OK);
        let envelope = Flight::joined([&mail, &rcpt, &data]);

        let only = |each| Course { first: Vec::new(), each, last: Vec::new(), mails: way.depth };
        match way.level {
            0 => only(vec![mail, rcpt, data, dotted]),
            1 => only(vec![envelope, dotted]),
            _ if way.overlaps() => Course {
                each: vec![Flight::joined([&dotted, &envelope])],
                first: vec![envelope],
                last: vec![dotted],
                mails: 1,
            },
            _ => {
                let further = [&rset, &mail, &rcpt, &chunk].into_iter().cycle().take(4 * (way.depth - 1));
                only(vec![Flight::joined([&mail, &rcpt, &chunk].into_iter().chain(further))])
            }
        }
    }
}

impl Sessions {
    fn connect(plan: &Plan) -> Result<Sessions> {
        let hello = format!("EHLO {HELLO}\r\n");
        let mut sessions = Sessions { streams: Vec::new(), inbox: vec![0; REPLY_OCTETS] };
        for _ in 0..plan.sessions {
            let mut stream = TcpStream::connect_timeout(&plan.server, SILENCE)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(SILENCE))?;
            stream.set_write_timeout(Some(SILENCE))?;
            await_replies(&mut stream, &[b"220"], &mut sessions.inbox)?;
            stream.write_all(hello.as_bytes())?;
            await_replies(&mut stream, &[OK], &mut sessions.inbox)?;
            sessions.streams.push(stream);
        }
        Ok(sessions)
    }

    fn send(&mut self, course: &Course, mails: usize) -> Result<()> {
        let batches = mails / (self.streams.len() * course.mails).max(1);
        // What the first flights begin, the last ones end.
        let turns = batches - usize::from(!course.first.is_empty() && batches > 0);
        let each = (0..turns).flat_map(|_| &course.each);
        course.first.iter().chain(each).chain(&course.last).try_for_each(|flight| self.round_trip(flight))
    }

    /// All write, then all read, in order: the lockstep.
    fn round_trip(&mut self, flight: &Flight) -> Result<()> {
        for stream in &mut self.streams {
            stream.write_all(&flight.octets)?;
        }
        for stream in &mut self.streams {
            await_replies(stream, &flight.codes, &mut self.inbox)?;
        }
        Ok(())
    }
}

/// One read when the replies come together, as they do behind EHLO. Each is one line but EHLO's,
/// in whose lines but the last a hyphen follows the code.
fn await_replies(stream: &mut TcpStream, codes: &[&[u8]], inbox: &mut [u8]) -> Result<()> {
    let mut codes = codes.iter().peekable();
    let (mut filled, mut judged) = (0, 0);
    while let Some(&&code) = codes.peek() {
        let read = stream.read(inbox.get_mut(filled..).unwrap_or_default())?;
        filled += read;
        if read == 0 {
            return Err(format!("the end, where {:?} was owed", String::from_utf8_lossy(code)).into());
        }
        let lines = inbox.get(judged..filled).unwrap_or_default().split_inclusive(|&octet| octet == b'\n');
        for line in lines.filter(|line| line.ends_with(b"\n")) {
            judged += line.len();
            if !codes.peek().is_some_and(|code| line.starts_with(code)) {
                return Err(format!("unexpected reply: {:?}", String::from_utf8_lossy(line)).into());
            }
            if line.get(3) != Some(&b'-') {
                codes.next();
            }
        }
    }
    Ok(())
}
