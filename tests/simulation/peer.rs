//! A scripted SMTP server on one connection. It takes nothing on trust: each
//! command has to be exactly what RFC 5321 allows at that moment, or the run
//! has failed. Its own replies go wrong as the odds of the run say.

mod content;
mod door;
mod offers;

use std::time::Duration;

use smtp_bulk::command::{MAX_MAIL, MAX_RCPT};
use smtp_bulk::{Pipeline, Step};

use super::accounts::Dialogue;
use super::faults::{self, Conduct, Scene};
use super::plan::PARAMETER_REFUSALS;
use super::truth::{Place, Said};
use content::Incoming;
pub use door::is_implicit;
pub use offers::Offers;

/// What travels from the server to the client.
#[derive(Debug)]
pub enum Part {
    /// The reply that is owed.
    Reply {
        octets: Vec<u8>,
        serial: usize,
    },
    /// Octets that answer nothing.
    Noise(Vec<u8>),
    Close,
    Reset,
}

/// Something that arrives at the client.
#[derive(Debug)]
pub struct Arrival {
    pub at: Duration,
    pub part: Part,
    /// It is only sent if the client has not spoken by then: behind the next
    /// command nobody could tell it from an answer.
    pub is_surplus: bool,
    /// It is read together with what stands behind it, up to the flight's last
    /// reply: there is one too many, which shows at the end.
    pub is_glued: bool,
    /// The client has read its first octets.
    pub is_begun: bool,
}

impl Arrival {
    pub fn new(at: Duration, part: Part) -> Arrival {
        Arrival { at, part, is_surplus: false, is_glued: false, is_begun: false }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Greeting,
    /// Nothing may come but a TLS handshake.
    Shaking,
    Hello,
    /// EHLO was refused for good: only HELO may follow.
    HelloRefused,
    Open,
    /// Lines are responses to challenges.
    Login,
    Content,
    /// So many octets of a chunk are to come.
    Chunk {
        left: u64,
        last: bool,
    },
    /// The server has closed, or will never listen again.
    Gone,
    /// The client has said QUIT.
    Left,
}

#[derive(Debug, Default)]
struct Transaction {
    from: String,
    mail: Option<usize>,
    last: Option<usize>,
    accepted: Vec<usize>,
    /// What has come of its content in chunks.
    chunks: Vec<u8>,
    /// Its content was refused, and it is kept all the same until RSET.
    is_kept: bool,
}

#[derive(Debug)]
pub struct Peer {
    lane: usize,
    connection: u64,
    stage: Stage,
    line: Vec<u8>,
    /// The reply that was sent before its command was whole.
    early: Option<usize>,
    transaction: Option<Transaction>,
    /// How often MAIL has come.
    mails: usize,
    /// A transaction was begun and has not been ended by a reply or RSET.
    is_dirty: bool,
    incoming: Option<Incoming>,
    /// What arrives belongs to this flight of the client's.
    pub flight: u64,
    /// The flight in which a final dot has come last.
    dot_flight: Option<u64>,
    /// RSET was refused, which nothing good can come of.
    is_broken: bool,
    /// A chunk has come, and it is not the last.
    is_mid_content: bool,
    /// It goes on, and says nothing any more.
    is_mute: bool,
    /// It takes the octets of chunks for commands.
    is_lost: bool,
    pub is_stalled: bool,
    /// The client is gone; what still arrives was sent before.
    pub is_orphan: bool,
    pub outbox: Vec<Arrival>,
    has_tls: bool,
    /// STARTTLS was said since the last EHLO.
    has_tried_tls: bool,
    is_authenticated: bool,
    /// What the last answer to EHLO offered of TLS and AUTH.
    offers: Vec<String>,
    /// What the client may make use of.
    pub offered: Offers,
    dialogue: Option<Dialogue>,
    /// What is asked next in it.
    challenge: Option<Vec<u8>>,
    /// The last line of it.
    heard: String,
    responses: u32,
}

impl Peer {
    /// A server that has just accepted the connection.
    pub fn greet(lane: usize, connection: u64, scene: &mut Scene<'_>) -> Peer {
        let mut peer = Peer {
            lane,
            connection,
            stage: Stage::Greeting,
            line: Vec::new(),
            early: None,
            transaction: None,
            mails: 0,
            is_dirty: false,
            incoming: None,
            flight: 0,
            dot_flight: None,
            is_broken: false,
            is_mid_content: false,
            is_mute: false,
            is_lost: false,
            is_stalled: false,
            is_orphan: false,
            outbox: Vec::new(),
            has_tls: false,
            has_tried_tls: false,
            is_authenticated: false,
            offers: Vec::new(),
            offered: Offers::default(),
            dialogue: None,
            challenge: None,
            heard: String::new(),
            responses: 0,
        };
        if door::is_implicit(scene.security) {
            peer.await_client(scene);
        } else {
            peer.greet_client(scene);
        }
        peer
    }

    fn greet_client(&mut self, scene: &mut Scene<'_>) {
        if let Some(code) = self.answer(scene, Step::Greeting, 220, (None, None)) {
            self.stage = if code / 100 == 2 { Stage::Hello } else { Stage::Gone };
        }
    }

    /// Octets arrive from the client.
    pub fn receive(&mut self, octets: &[u8], scene: &mut Scene<'_>) {
        for octet in octets {
            if self.stage == Stage::Gone || self.is_stalled {
                return;
            }
            match self.stage {
                Stage::Content => self.content_octet(*octet, scene),
                Stage::Chunk { .. } => self.chunk_octet(*octet, scene),
                _ => self.command_octet(*octet, scene),
            }
        }
        let is_content = matches!(self.stage, Stage::Content | Stage::Chunk { .. });
        if !is_content && !self.line.is_empty() && self.early.is_none() {
            self.answer_early(scene);
        }
    }

    pub fn lane(&self) -> usize {
        self.lane
    }

    /// Which transaction it is at: lane, connection, and its number there.
    fn whereabouts(&self) -> (usize, u64, usize) {
        (self.lane, self.connection, self.mails)
    }

    /// Whether the client said QUIT.
    pub fn has_left(&self) -> bool {
        self.stage == Stage::Left
    }

    // ---- commands ---------------------------------------------------------

    fn command_octet(&mut self, octet: u8, scene: &mut Scene<'_>) {
        assert!(self.stage != Stage::Left, "the client spoke after QUIT");
        assert!(self.stage != Stage::Shaking, "octets in the clear where TLS has to begin");
        if self.is_lost {
            self.line.push(octet);
            if octet == b'\n' {
                self.line.clear();
                self.push(scene.now, Part::Noise(b"500 what?\r\n".to_vec()), false);
            }
            return;
        }
        let after_cr = self.line.last() == Some(&b'\r');
        assert_eq!(after_cr, octet == b'\n', "a bare CR or LF in a command");
        let may_be = octet.is_ascii() || self.offered.utf8;
        assert!(may_be && octet != 0, "octet {octet} in a command");
        self.line.push(octet);
        let most = match self.line.first() {
            _ if self.stage == Stage::Login => 12_288,
            Some(b'M') => MAX_MAIL,
            Some(b'R') => MAX_RCPT,
            _ => 512,
        };
        assert!(self.line.len() <= most, "a line of more than {most} octets");
        if octet == b'\n' {
            let line = String::from_utf8(std::mem::take(&mut self.line)).expect("UTF-8");
            self.command(line.trim_end_matches("\r\n"), scene);
        }
    }

    fn command(&mut self, line: &str, scene: &mut Scene<'_>) {
        let (lane, connection) = (self.lane, self.connection);
        let now = scene.now;
        scene.truth.note(|| format!("{now:?} lane {lane} connection {connection} C: {line}"));
        if self.stage == Stage::Login {
            self.auth_line(line, scene);
        } else if let Some((from, rest)) =
            line.strip_prefix("MAIL FROM:<").and_then(|rest| rest.split_once('>'))
        {
            self.mail(from, rest, scene);
        } else if let Some((to, _)) = line.strip_prefix("RCPT TO:<").and_then(|rest| rest.split_once('>')) {
            self.rcpt(to, scene);
        } else if line == "DATA" {
            self.data(scene);
        } else if let Some(rest) = line.strip_prefix("BDAT ") {
            self.bdat(rest, scene);
        } else if line == "RSET" {
            self.rset(scene);
        } else if line == "NOOP" {
            assert!(self.stage == Stage::Open, "NOOP out of order");
            assert!(self.transaction.is_none() && !self.is_dirty, "NOOP within a transaction");
            self.answer(scene, Step::Noop, 250, (None, None));
        } else if line == "QUIT" {
            self.answer(scene, Step::Quit, 221, (None, None));
            self.push(scene.now, Part::Close, false);
            self.stage = Stage::Left;
        } else if line == "STARTTLS" {
            self.starttls(scene);
        } else if let Some(rest) = line.strip_prefix("AUTH ") {
            self.auth(rest, scene);
        } else if let Some(name) = line.strip_prefix(if scene.host.is_lmtp { "LHLO " } else { "EHLO " }) {
            assert!(self.stage == Stage::Hello && !name.is_empty(), "EHLO out of order");
            self.hello(Step::Ehlo, scene);
        } else if let Some(name) = line.strip_prefix("HELO ") {
            assert!(self.stage == Stage::HelloRefused && !name.is_empty(), "HELO out of order");
            self.hello(Step::Helo, scene);
        } else {
            panic!("no command: {line:?}");
        }
    }

    fn hello(&mut self, step: Step, scene: &mut Scene<'_>) {
        self.offers.clear();
        self.offered = Offers::default();
        if step == Step::Ehlo && self.early.is_none() {
            self.draw_offers(scene);
            if scene.flies {
                self.offers.extend(Offers::draw(scene));
            }
        }
        let code = self.answer(scene, step, 250, (None, None));
        if !matches!(code, Some(200..=299)) {
            self.offers.clear();
            self.offered = Offers::default();
        }
        self.stage = match code {
            Some(200..=299) => Stage::Open,
            Some(500..=599) if step == Step::Ehlo && !scene.host.is_lmtp => Stage::HelloRefused,
            _ => Stage::Gone,
        };
    }

    fn mail(&mut self, from: &str, parameters: &str, scene: &mut Scene<'_>) {
        self.check_entry(scene);
        self.is_dirty = true;
        self.is_mid_content = false;
        self.mails += 1;
        if self.is_broken {
            return self.refuse(scene, Step::Mail, (None, None));
        }
        assert!(self.transaction.is_none(), "MAIL within a transaction");
        if self.dot_flight == Some(self.flight) && scene.chance(scene.odds.overlap) {
            // What real servers do to a MAIL that comes with a content.
            match scene.random.u8(0..4) {
                0 => self.stage = Stage::Gone,
                1 => self.close(scene),
                _ => self.refuse(scene, Step::Mail, (None, None)),
            }
            return;
        }
        if let Some(code) = scene.odds.raw.filter(|_| parameters.contains("XODD") && self.early.is_none()) {
            return self.say(scene, Step::Mail, code, (None, None), Duration::ZERO);
        }
        if !parameters.is_empty() && self.early.is_none() && scene.chance(scene.odds.parameters) {
            let code = PARAMETER_REFUSALS[scene.random.usize(0..PARAMETER_REFUSALS.len())];
            return self.say(scene, Step::Mail, code, (None, None), Duration::ZERO);
        }
        if let Some(200..=299) = self.answer(scene, Step::Mail, 250, (None, None)) {
            self.transaction = Some(Transaction { from: from.to_owned(), ..Transaction::default() });
        }
    }

    fn rcpt(&mut self, to: &str, scene: &mut Scene<'_>) {
        let (mail, place) = scene.truth.recipient(to);
        let is_open = self.is_orphan || self.early.is_some() || scene.truth.place(mail) == Place::Taken;
        assert!(is_open, "mail {mail} is sent and is not the mailer's any more");
        let is_broken = self.is_broken;
        let open = self.transaction.as_mut().filter(|open| !open.is_kept && !is_broken);
        let Some(transaction) = open else {
            assert!(scene.flies, "RCPT without MAIL");
            return self.refuse(scene, Step::Rcpt, (Some(mail), Some(place)));
        };
        assert_eq!(transaction.from, scene.truth.sender(mail), "RCPT of another mail than MAIL");
        assert!(transaction.mail.is_none_or(|first| first == mail), "RCPT of two mails in a transaction");
        assert!(transaction.last.is_none_or(|last| last < place), "RCPT out of order");
        (transaction.mail, transaction.last) = (Some(mail), Some(place));
        if let Some(200..=299) = self.answer(scene, Step::Rcpt, 250, (Some(mail), Some(place))) {
            self.transaction.iter_mut().for_each(|transaction| transaction.accepted.push(place));
        }
    }

    /// A command that has no place where it stands.
    fn refuse(&mut self, scene: &mut Scene<'_>, step: Step, about: (Option<usize>, Option<usize>)) {
        let code = if step == Step::Mail || scene.random.bool() { 503 } else { 554 };
        self.answer(scene, step, code, about);
    }

    fn rset(&mut self, scene: &mut Scene<'_>) {
        assert!(self.is_dirty || scene.flies, "RSET with nothing to reset");
        if let Some(200..=299) = self.answer(scene, Step::Rset, 250, (None, None)) {
            self.is_dirty = false;
            self.transaction = None;
        } else {
            self.is_broken = true;
        }
    }

    // ---- replies ----------------------------------------------------------

    /// Answers what was asked, and gives the code when that is what the client
    /// will read. `about` is the mail, and the recipient or the sending.
    fn answer(
        &mut self,
        scene: &mut Scene<'_>,
        step: Step,
        hoped: u16,
        about: (Option<usize>, Option<usize>),
    ) -> Option<u16> {
        if let Some(serial) = self.early.take() {
            let code = scene.truth.belongs(serial, step, about.0, about.1);
            self.leave_behind(code, scene);
            return Some(code);
        }
        if self.is_mute {
            return Some(hoped);
        }
        let has_accepted = self.transaction.as_ref().is_some_and(|open| !open.accepted.is_empty());
        let delay = scene.thinking(step);
        match faults::conduct(scene, step, hoped, has_accepted) {
            Conduct::Say(code) => {
                self.say(scene, step, code, about, delay);
                self.leave_behind(code, scene);
                return Some(code);
            }
            Conduct::Hang => {}
            Conduct::Close => self.close(scene),
            Conduct::HalfThenHang => {
                self.push(scene.now + delay, Part::Noise(faults::half(scene.random, hoped)), false)
            }
            Conduct::HalfThenClose => {
                self.push(scene.now + delay, Part::Noise(faults::half(scene.random, hoped)), false);
                self.close(scene);
            }
            Conduct::Garbage => {
                self.push(scene.now + delay, Part::Noise(faults::garbage(scene.random)), false)
            }
            Conduct::TooLong => {
                self.push(scene.now + delay, Part::Noise(faults::too_long(scene.random, hoped)), false);
            }
        }
        if !scene.flies {
            return None;
        }
        // It does the rest without a word, or nothing more.
        self.is_mute = true;
        let goes_on = scene.random.bool() && self.stage != Stage::Greeting && self.stage != Stage::Hello;
        self.stage = if goes_on { Stage::Open } else { Stage::Gone };
        goes_on.then_some(hoped)
    }

    /// What stands behind a 421 is not done.
    fn leave_behind(&mut self, code: u16, scene: &Scene<'_>) {
        if code == 421 && scene.flies {
            self.stage = Stage::Gone;
        }
    }

    fn say(
        &mut self,
        scene: &mut Scene<'_>,
        step: Step,
        code: u16,
        about: (Option<usize>, Option<usize>),
        delay: Duration,
    ) {
        let said = Said::new(self.lane, step, code).about(about.0, about.1);
        let serial = scene.truth.say(said);
        let octets = match step {
            Step::Ehlo => faults::offers(scene.random, code, serial, &self.offers),
            Step::Auth => self.auth_reply(scene, code, serial),
            _ => faults::reply(scene.random, code, serial),
        };
        if step == Step::Ehlo && code / 100 == 2 {
            self.offered = Offers::read(&octets);
        }
        let at = scene.now + delay;
        self.push(at, Part::Reply { octets, serial }, false);
        if code == 421 && scene.random.bool() {
            let later = scene.delay();
            self.push(at + later, Part::Close, true);
        } else if !self.is_in_flight(step, scene) && scene.chance(scene.odds.surplus) {
            let later = if scene.random.bool() { Duration::ZERO } else { scene.delay() };
            self.push(at + later, Part::Noise(faults::surplus(scene.random)), true);
        } else if scene.chance(scene.odds.close) {
            let later = scene.delay() * 20;
            let part = if scene.random.bool() { Part::Close } else { Part::Reset };
            self.push(at + later, part, true);
        }
    }

    /// Whether more replies may be owed by now; one too many is then
    /// put among the others when all are there.
    fn is_in_flight(&self, step: Step, scene: &Scene<'_>) -> bool {
        let is_set = scene.host.pipeline != Pipeline::Single && self.offered.pipelining;
        let is_phase =
            matches!(step, Step::Mail | Step::Rcpt | Step::Data | Step::Content | Step::Rset | Step::Idle);
        (is_set || scene.host.is_lmtp || self.is_mid_content) && is_phase
    }

    /// A reply to a command of which only the beginning has arrived.
    fn answer_early(&mut self, scene: &mut Scene<'_>) {
        let is_deaf = self.is_mute || self.is_lost;
        if is_deaf || self.stage == Stage::Left || !scene.chance(scene.odds.early) {
            return;
        }
        // Nobody promises what it will not do.
        let is_chunk = self.line.first() == Some(&b'B');
        let is_out_of_place = scene.flies
            && self.stage == Stage::Open
            && (self.is_broken || self.transaction.as_ref().is_none_or(|open| open.accepted.is_empty()));
        let promises = scene.random.bool() && !is_chunk && !is_out_of_place;
        let code = if promises { 250 } else { super::plan::refusal(scene.random) };
        let serial = scene.truth.serials();
        self.say(scene, Step::Idle, code, (None, None), Duration::ZERO);
        self.early = Some(serial);
    }

    fn close(&mut self, scene: &mut Scene<'_>) {
        let part = if scene.random.bool() { Part::Close } else { Part::Reset };
        let delay = scene.delay();
        self.push(scene.now + delay, part, false);
        self.stage = Stage::Gone;
    }

    /// What is sent later arrives later.
    fn push(&mut self, at: Duration, part: Part, is_surplus: bool) {
        if !self.is_mute {
            self.outbox.push(Arrival { is_surplus, ..Arrival::new(at, part) });
        }
    }
}
