//! What a scripted server does at one step instead of the reply that is hoped
//! for, and the octets of it. It draws and encodes; the peer acts on it.

use std::time::Duration;

use fastrand::Rng;
use smtp_bulk::host::HostSettings;
use smtp_bulk::{Security, Step, Timeouts};

use super::logins::Logins;
use super::plan::{self, Odds};
use super::truth::Truth;

/// What one connection can see of the world.
pub struct Scene<'a> {
    pub now: Duration,
    pub random: &'a mut Rng,
    pub odds: &'a Odds,
    pub always: Option<(Step, u16)>,
    pub timeouts: &'a Timeouts,
    pub host: &'a HostSettings,
    pub truth: &'a mut Truth,
    pub security: Security,
    pub logins: &'a mut Logins,
    /// Servers offer what they like, and whatever a host's level allows is sent.
    pub flies: bool,
    pub faultless: bool,
}

impl Scene<'_> {
    pub fn chance(&mut self, odds: f64) -> bool {
        odds > 0.0 && self.random.f64() < odds
    }

    /// A time that something takes in a network, mostly none.
    pub fn delay(&mut self) -> Duration {
        if self.chance(self.odds.delay) {
            Duration::from_millis(self.random.u64(0..400))
        } else {
            Duration::ZERO
        }
    }

    /// How long the server thinks before it answers.
    pub fn thinking(&mut self, step: Step) -> Duration {
        if self.chance(self.odds.slow) {
            return timeout(self.timeouts, step).mul_f64(1.3 * self.random.f64());
        }
        self.delay()
    }
}

pub fn timeout(timeouts: &Timeouts, step: Step) -> Duration {
    match step {
        Step::Greeting => timeouts.greeting,
        Step::Ehlo | Step::Helo => timeouts.ehlo,
        Step::StartTls | Step::Tls => timeouts.tls,
        Step::Auth => timeouts.auth,
        Step::Mail => timeouts.mail,
        Step::Rcpt => timeouts.rcpt,
        Step::Data => timeouts.data,
        Step::Content => timeouts.final_reply,
        Step::Rset | Step::Noop => timeouts.rset,
        _ => timeouts.quit,
    }
}

/// What is done in place of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conduct {
    Say(u16),
    Hang,
    Close,
    HalfThenHang,
    HalfThenClose,
    Garbage,
    TooLong,
}

/// What the server does when it is asked for `step` and `hoped` is what a
/// well-meaning one would say.
pub fn conduct(scene: &mut Scene<'_>, step: Step, hoped: u16, has_accepted: bool) -> Conduct {
    if let Some((_, code)) = scene.always.filter(|(always, _)| *always == step) {
        return Conduct::Say(code);
    }
    let odds = scene.odds;
    if step == Step::Ehlo && scene.chance(odds.no_ehlo) {
        return Conduct::Say(if scene.random.bool() { 500 } else { 502 });
    }
    if step == Step::Rcpt && has_accepted && hoped < 300 && scene.chance(odds.too_many) {
        return Conduct::Say(if scene.random.bool() { 452 } else { 552 });
    }
    if step == Step::Auth && scene.chance(odds.challenge) {
        return Conduct::Say(334);
    }
    if scene.chance(odds.refuse) {
        return Conduct::Say(match step {
            Step::Auth => plan::auth_refusal(scene.random),
            _ => plan::refusal(scene.random),
        });
    }
    if scene.chance(odds.wrong) {
        return Conduct::Say(wrong(scene.random, step));
    }
    if scene.chance(odds.hang) {
        return if scene.random.bool() { Conduct::Hang } else { Conduct::HalfThenHang };
    }
    if scene.chance(odds.close) {
        return if scene.random.bool() { Conduct::Close } else { Conduct::HalfThenClose };
    }
    if scene.chance(odds.garbage) {
        return Conduct::Garbage;
    }
    if scene.chance(odds.too_long) {
        return Conduct::TooLong;
    }
    Conduct::Say(match step {
        Step::Mail | Step::Rcpt | Step::Content if hoped < 300 && scene.random.u8(0..8) == 0 => 251,
        _ => hoped,
    })
}

/// A code of a class that the step does not hope for, and that is no refusal.
fn wrong(random: &mut Rng, step: Step) -> u16 {
    let codes: &[u16] = match step {
        Step::Data => &[250, 200, 334],
        Step::Auth => &[354, 399, 300],
        _ => &[354, 334, 399],
    };
    codes.get(random.usize(0..codes.len())).copied().unwrap_or(399)
}

/// A whole reply that names its serial number.
pub fn reply(random: &mut Rng, code: u16, serial: usize) -> Vec<u8> {
    match random.u8(0..6) {
        0 => format!("{code}-a first line\r\n{code}-\r\n{code} #{serial}\r\n"),
        1 => format!("{code} #{serial}\n"),
        2 if code == 452 => format!("{code} 4.5.3 #{serial}\r\n"),
        3 if code == 550 => format!("{code} 5.5.3 #{serial}\r\n"),
        4 => format!("{code} {}.0.0 #{serial}\r\n", code / 100),
        _ => format!("{code} #{serial}\r\n"),
    }
    .into_bytes()
}

/// The answer to EHLO, with these offers that something depends on.
pub fn offers(random: &mut Rng, code: u16, serial: usize, offers: &[String]) -> Vec<u8> {
    if code / 100 == 2 && !offers.is_empty() {
        let lines: String = offers.iter().map(|offer| format!("{code}-{offer}\r\n")).collect();
        return format!("{code}-mx #{serial}\r\n{lines}{code} HELP\r\n").into_bytes();
    }
    match random.u8(0..2) {
        0 => format!("{code}-mx #{serial}\r\n{code}-SIZE\r\n{code} PIPELINING\r\n").into_bytes(),
        _ => reply(random, code, serial),
    }
}

/// The first octets of a reply, not all of them.
pub fn half(random: &mut Rng, code: u16) -> Vec<u8> {
    let whole = format!("{code}-half\r\n{code} of a reply\r\n").into_bytes();
    let end = random.usize(1..whole.len() - 1);
    whole.into_iter().take(end).collect()
}

pub fn garbage(random: &mut Rng) -> Vec<u8> {
    let kinds: [&[u8]; 7] = [
        b"hello\r\n",
        b"\r\n",
        b"999 ok\r\n",
        b"250-a\r\n550 b\r\n",
        b"25x ok\r\n",
        b"100 wait\r\n",
        b"\0\xff",
    ];
    kinds.get(random.usize(0..kinds.len())).copied().unwrap_or(b"?").to_vec()
}

pub fn too_long(random: &mut Rng, code: u16) -> Vec<u8> {
    let start = format!("{code}-").into_bytes();
    if random.bool() {
        return [start, vec![b'x'; smtp_bulk::reply::MAX_REPLY_LINE]].concat();
    }
    let line = [start, vec![b'y'; 900], b"\r\n".to_vec()].concat();
    let lines = smtp_bulk::reply::MAX_REPLY / line.len() + 1;
    line.repeat(lines)
}

/// A reply, or some, that nobody asked for. None of them says that the server
/// closes, which would be believed.
pub fn surplus_reply(random: &mut Rng) -> Vec<u8> {
    let kinds: [&[u8]; 5] = [
        b"250 surplus\r\n",
        b"354 surplus\r\n",
        b"550 surplus\r\n",
        b"250-surplus\r\n250 of two lines\r\n",
        b"250 a\r\n354 b\r\n250 c\r\n",
    ];
    kinds.get(random.usize(0..kinds.len())).copied().unwrap_or(b"2").to_vec()
}

/// What a server says that gives up a session at rest; nothing when it only closes.
pub fn last_words(random: &mut Rng) -> Option<Vec<u8>> {
    let kinds: [&[u8]; 3] = [b"421 idle for too long\r\n", b"421-4.4.2 idle\r\n421 4.4.2 bye\r\n", b"421"];
    random.bool().then(|| kinds.get(random.usize(0..kinds.len())).copied().unwrap_or(b"4").to_vec())
}

/// What nobody asked for.
pub fn surplus(random: &mut Rng) -> Vec<u8> {
    let kinds: [&[u8]; 7] = [
        b"250 surplus\r\n",
        b"354 surplus\r\n",
        b"421 closing\r\n",
        b"550 surplus\r\n",
        b"2",
        b"250 a\r\n354 b\r\n250 c\r\n",
        b"what?\r\n",
    ];
    kinds.get(random.usize(0..kinds.len())).copied().unwrap_or(b"2").to_vec()
}
