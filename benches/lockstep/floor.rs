//! The floor: N blocking sockets in lockstep, and per mail and round trip one write and one read.
//!
//! It checks each reply's code and nothing more, allocates nothing per mail, formats nothing and
//! probes nothing. It must never make a system call that the protocol does not need.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::content::{HELLO, RECIPIENT, SENDER, content};
use super::figures::{Figures, Plan};
use super::gauge::Section;
use crate::Result;

/// A server that is silent for longer ends the run with an error.
const SILENCE: Duration = Duration::from_secs(30);
/// RFC 5321 §4.5.3.1.5: a reply line has at most 512 octets.
const REPLY_OCTETS: usize = 512;

/// One round trip of every session: what is written, and how the reply must begin.
struct Step {
    bytes: Vec<u8>,
    code: &'static [u8],
}

pub fn run(plan: &Plan) -> Result<Figures> {
    let steps = steps();
    let mut sessions = connect(plan)?;
    send(&mut sessions, &steps, plan.warm_up)?;
    let section = Section::begin()?;
    send(&mut sessions, &steps, plan.mails)?;
    let figures = section.end(plan.mails)?;
    round_trip(&mut sessions, &Step { bytes: b"QUIT\r\n".to_vec(), code: b"221" })?;
    Ok(figures)
}

fn steps() -> [Step; 4] {
    let mut terminated = content();
    terminated.extend_from_slice(b".\r\n");
    [
        Step { bytes: format!("MAIL FROM:<{SENDER}>\r\n").into_bytes(), code: b"250" },
        Step { bytes: format!("RCPT TO:<{RECIPIENT}>\r\n").into_bytes(), code: b"250" },
        Step { bytes: b"DATA\r\n".to_vec(), code: b"354" },
        Step { bytes: terminated, code: b"250" },
    ]
}

fn connect(plan: &Plan) -> Result<Vec<TcpStream>> {
    let hello = format!("EHLO {HELLO}\r\n");
    let mut sessions = Vec::with_capacity(plan.sessions);
    for _ in 0..plan.sessions {
        let mut stream = TcpStream::connect_timeout(&plan.server, SILENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        await_reply(&mut stream, b"220")?;
        stream.write_all(hello.as_bytes())?;
        await_reply(&mut stream, b"250")?;
        sessions.push(stream);
    }
    Ok(sessions)
}

fn send(sessions: &mut [TcpStream], steps: &[Step], mails: usize) -> Result<()> {
    for _ in 0..mails / sessions.len().max(1) {
        for step in steps {
            round_trip(sessions, step)?;
        }
    }
    Ok(())
}

/// All write, then all read, in order: the lockstep.
fn round_trip(sessions: &mut [TcpStream], step: &Step) -> Result<()> {
    for session in &mut *sessions {
        session.write_all(&step.bytes)?;
    }
    for session in sessions {
        await_reply(session, step.code)?;
    }
    Ok(())
}

/// One read when the reply comes whole, as it does in every round trip behind EHLO.
fn await_reply(stream: &mut TcpStream, code: &[u8]) -> Result<()> {
    let mut buffer = [0; REPLY_OCTETS];
    let mut filled = 0;
    loop {
        let free = buffer.get_mut(filled..).unwrap_or_default();
        let read = stream.read(free)?;
        filled += read;
        let reply = buffer.get(..filled).unwrap_or_default();
        if read == 0 || !reply.starts_with(code) {
            return Err(format!("unexpected reply: {:?}", String::from_utf8_lossy(reply)).into());
        }
        if is_complete(reply) {
            return Ok(());
        }
    }
}

/// A reply ends behind the CRLF of the first line with no hyphen behind its code.
fn is_complete(reply: &[u8]) -> bool {
    reply.ends_with(b"\r\n")
        && reply
            .split_inclusive(|&byte| byte == b'\n')
            .next_back()
            .is_some_and(|line| line.get(3) != Some(&b'-'))
}
