//! A scripted SMTP server on one connection. It takes nothing on trust: each
//! command has to be exactly what RFC 5321 allows at that moment, or the run
//! has failed. Its own replies go wrong as the odds of the run say.

mod door;

use std::time::Duration;

use smtp_bulk::Step;

use super::accounts::Dialogue;
use super::faults::{self, Conduct, Scene};
use super::truth::{Place, Said};

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
}

/// A content on its way in.
#[derive(Debug, Default)]
struct Incoming {
    mail: usize,
    sending: usize,
    line: Vec<u8>,
    whole: Vec<u8>,
    octets: usize,
    dies_at: Option<usize>,
    early_at: Option<(usize, u16)>,
    stalls_at: Option<usize>,
    /// What was answered before the final dot was there.
    answered: Option<u16>,
}

impl Incoming {
    /// Takes an octet, and says whether it was the last one of the final dot.
    fn take(&mut self, octet: u8) -> bool {
        self.octets += 1;
        let after_cr = self.line.last() == Some(&b'\r');
        assert_eq!(after_cr, octet == b'\n', "a bare CR or LF in a content");
        self.line.push(octet);
        if octet != b'\n' {
            return false;
        }
        let line = std::mem::take(&mut self.line);
        if line == b".\r\n" {
            return true;
        }
        let plain = line.strip_prefix(b".").unwrap_or(&line);
        assert!(plain.len() == line.len() || plain.starts_with(b"."), "a leading dot that was not doubled");
        self.whole.extend_from_slice(plain);
        false
    }
}

#[derive(Debug)]
pub struct Peer {
    lane: usize,
    connection: u64,
    stage: Stage,
    line: Vec<u8>,
    /// A reply is due and has not been read by the client.
    pub owes: bool,
    /// The reply that was sent before its command was whole.
    early: Option<usize>,
    transaction: Option<Transaction>,
    /// A transaction was begun and has not been ended by a reply or RSET.
    is_dirty: bool,
    incoming: Option<Incoming>,
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
            owes: true,
            early: None,
            transaction: None,
            is_dirty: false,
            incoming: None,
            is_stalled: false,
            is_orphan: false,
            outbox: Vec::new(),
            has_tls: false,
            has_tried_tls: false,
            is_authenticated: false,
            offers: Vec::new(),
            dialogue: None,
            challenge: None,
            heard: String::new(),
            responses: 0,
        };
        if door::is_implicit(scene.security) {
            peer.owes = false;
            peer.await_client(scene);
        } else {
            peer.greet_client(scene);
        }
        peer
    }

    fn greet_client(&mut self, scene: &mut Scene<'_>) {
        self.owes = true;
        if let Some(code) = self.answer(scene, Step::Greeting, 220, (None, None)) {
            self.stage = if code / 100 == 2 { Stage::Hello } else { Stage::Gone };
        }
    }

    /// Octets arrive from the client.
    pub fn receive(&mut self, octets: &[u8], scene: &mut Scene<'_>) {
        for (position, octet) in octets.iter().enumerate() {
            if self.stage == Stage::Gone || self.is_stalled {
                return self.lose(octets.get(position..).unwrap_or_default(), scene);
            }
            if self.stage == Stage::Content {
                self.content_octet(*octet, scene);
            } else {
                self.command_octet(*octet, scene);
            }
        }
        if self.stage != Stage::Content && !self.line.is_empty() && self.early.is_none() {
            self.answer_early(scene);
        }
    }

    /// Octets that the client wrote and that the server never read: whether
    /// the final dot was among them is what the client has to know.
    pub fn lose(&mut self, octets: &[u8], scene: &mut Scene<'_>) {
        let Some(incoming) = &mut self.incoming else { return };
        for octet in octets {
            if incoming.take(*octet) {
                scene.truth.dot_written(incoming.mail, incoming.sending);
                self.incoming = None;
                return;
            }
        }
    }

    /// Whether the client said QUIT.
    pub fn has_left(&self) -> bool {
        self.stage == Stage::Left
    }

    // ---- commands ---------------------------------------------------------

    fn command_octet(&mut self, octet: u8, scene: &mut Scene<'_>) {
        assert!(!self.owes || self.early.is_some(), "the client spoke before the reply to its last command");
        assert!(self.stage != Stage::Left, "the client spoke after QUIT");
        assert!(self.stage != Stage::Shaking, "octets in the clear where TLS has to begin");
        let after_cr = self.line.last() == Some(&b'\r');
        assert_eq!(after_cr, octet == b'\n', "a bare CR or LF in a command");
        assert!(octet.is_ascii() && octet != 0, "octet {octet} in a command");
        self.line.push(octet);
        let most = if self.stage == Stage::Login { 12_288 } else { 512 };
        assert!(self.line.len() <= most, "a line of more than {most} octets");
        if octet == b'\n' {
            let line = String::from_utf8(std::mem::take(&mut self.line)).expect("ASCII");
            self.command(line.trim_end_matches("\r\n"), scene);
        }
    }

    fn command(&mut self, line: &str, scene: &mut Scene<'_>) {
        let (lane, connection) = (self.lane, self.connection);
        let now = scene.now;
        scene.truth.note(|| format!("{now:?} lane {lane} connection {connection} C: {line}"));
        self.owes = true;
        if self.stage == Stage::Login {
            self.auth_line(line, scene);
        } else if let Some(from) = line.strip_prefix("MAIL FROM:<").and_then(|rest| rest.strip_suffix('>')) {
            self.mail(from, scene);
        } else if let Some(to) = line.strip_prefix("RCPT TO:<").and_then(|rest| rest.strip_suffix('>')) {
            self.rcpt(to, scene);
        } else if line == "DATA" {
            self.data(scene);
        } else if line == "RSET" {
            self.rset(scene);
        } else if line == "QUIT" {
            self.answer(scene, Step::Quit, 221, (None, None));
            self.push(scene.now, Part::Close, false);
            self.stage = Stage::Left;
        } else if line == "STARTTLS" {
            self.starttls(scene);
        } else if let Some(rest) = line.strip_prefix("AUTH ") {
            self.auth(rest, scene);
        } else if let Some(name) = line.strip_prefix("EHLO ") {
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
        if step == Step::Ehlo && self.early.is_none() {
            self.draw_offers(scene);
        }
        let code = self.answer(scene, step, 250, (None, None));
        if !matches!(code, Some(200..=299)) {
            self.offers.clear();
        }
        self.stage = match code {
            Some(200..=299) => Stage::Open,
            Some(500..=599) if step == Step::Ehlo => Stage::HelloRefused,
            _ => Stage::Gone,
        };
    }

    fn mail(&mut self, from: &str, scene: &mut Scene<'_>) {
        self.check_entry(scene);
        assert!(self.transaction.is_none(), "MAIL within a transaction");
        self.is_dirty = true;
        if let Some(200..=299) = self.answer(scene, Step::Mail, 250, (None, None)) {
            self.transaction = Some(Transaction { from: from.to_owned(), ..Transaction::default() });
        }
    }

    fn rcpt(&mut self, to: &str, scene: &mut Scene<'_>) {
        let (mail, place) = scene.truth.recipient(to);
        let transaction = self.transaction.as_mut().expect("RCPT without MAIL");
        assert_eq!(transaction.from, scene.truth.sender(mail), "RCPT of another mail than MAIL");
        assert!(transaction.mail.is_none_or(|first| first == mail), "RCPT of two mails in a transaction");
        assert!(transaction.last.is_none_or(|last| last < place), "RCPT out of order");
        let is_open = self.is_orphan || self.early.is_some() || scene.truth.place(mail) == Place::Taken;
        assert!(is_open, "mail {mail} is sent and is not the mailer's any more");
        (transaction.mail, transaction.last) = (Some(mail), Some(place));
        if let Some(200..=299) = self.answer(scene, Step::Rcpt, 250, (Some(mail), Some(place))) {
            self.transaction.iter_mut().for_each(|transaction| transaction.accepted.push(place));
        }
    }

    fn data(&mut self, scene: &mut Scene<'_>) {
        let transaction = self.transaction.as_ref().expect("DATA without MAIL");
        let accepted = transaction.accepted.clone();
        let mail = transaction.mail.filter(|_| !accepted.is_empty()).expect("DATA without a recipient");
        if self.answer(scene, Step::Data, 354, (Some(mail), None)) != Some(354) {
            return;
        }
        let sending = scene.truth.begin_sending(mail, accepted);
        let odds = scene.odds;
        let dies_at = somewhere(scene, odds.die);
        let early = somewhere(scene, odds.early);
        let stalls_at = somewhere(scene, odds.stall);
        let code = if scene.random.u8(0..4) == 0 { 250 } else { super::plan::refusal(scene.random) };
        self.incoming = Some(Incoming {
            mail,
            sending,
            dies_at,
            early_at: early.map(|at| (at, code)),
            stalls_at,
            ..Incoming::default()
        });
        self.stage = Stage::Content;
    }

    fn rset(&mut self, scene: &mut Scene<'_>) {
        assert!(self.is_dirty, "RSET with nothing to reset");
        scene.truth.resets += 1;
        if let Some(200..=299) = self.answer(scene, Step::Rset, 250, (None, None)) {
            self.is_dirty = false;
            self.transaction = None;
        }
    }

    // ---- content ----------------------------------------------------------

    fn content_octet(&mut self, octet: u8, scene: &mut Scene<'_>) {
        let Some(incoming) = &mut self.incoming else { panic!("octets behind the final dot") };
        assert!(!self.owes || incoming.answered.is_some(), "content before the reply to DATA");
        let is_end = incoming.take(octet);
        let octets = incoming.octets;
        if is_end {
            return self.content_arrived(scene);
        }
        if incoming.dies_at.is_some_and(|at| octets > at) {
            self.close(scene);
        } else if incoming.stalls_at.is_some_and(|at| octets > at) {
            self.is_stalled = true;
        } else if let Some((_, code)) = incoming.early_at.take_if(|(at, _)| octets > *at) {
            incoming.answered = Some(code);
            (incoming.dies_at, incoming.stalls_at) = (None, None);
            self.owes = true;
            let about = (Some(incoming.mail), Some(incoming.sending));
            self.say(scene, Step::Content, code, about, Duration::ZERO);
        }
    }

    /// The final dot is there: the server stores or does not, and answers,
    /// dies, or does both by halves.
    fn content_arrived(&mut self, scene: &mut Scene<'_>) {
        let Some(incoming) = self.incoming.take() else { return };
        let (mail, sending) = (incoming.mail, incoming.sending);
        scene.truth.dot_written(mail, sending);
        self.stage = Stage::Open;
        self.transaction = None;
        self.is_dirty = false;
        if let Some(code) = incoming.answered {
            if code / 100 == 2 {
                scene.truth.store(mail, sending, &incoming.whole);
            }
            return;
        }
        self.owes = true;
        if scene.chance(scene.odds.die) {
            if scene.random.bool() {
                scene.truth.store(mail, sending, &incoming.whole);
            }
            return self.close(scene);
        }
        match self.answer(scene, Step::Content, 250, (Some(mail), Some(sending))) {
            Some(200..=299) => scene.truth.store(mail, sending, &incoming.whole),
            Some(400..=599) => {}
            _ if scene.random.bool() => scene.truth.store(mail, sending, &incoming.whole),
            _ => {}
        }
    }

    /// Whether a reply has gone out before what it answers was wholly here.
    pub fn has_answered_early(&self) -> bool {
        self.early.is_some() || self.incoming.as_ref().is_some_and(|incoming| incoming.answered.is_some())
    }

    /// Whether it has said that it stores a content that is still arriving.
    pub fn has_promised(&self) -> bool {
        self.incoming.as_ref().is_some_and(|incoming| incoming.answered.is_some_and(|code| code / 100 == 2))
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
            let recipient = about.1.filter(|_| step == Step::Rcpt);
            self.owes = !scene.truth.is_read(serial);
            return Some(scene.truth.belongs(serial, step, about.0, recipient));
        }
        let has_accepted = self.transaction.as_ref().is_some_and(|open| !open.accepted.is_empty());
        let delay = scene.thinking(step);
        match faults::conduct(scene, step, hoped, has_accepted) {
            Conduct::Say(code) => {
                self.say(scene, step, code, about, delay);
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
        None
    }

    fn say(
        &mut self,
        scene: &mut Scene<'_>,
        step: Step,
        code: u16,
        about: (Option<usize>, Option<usize>),
        delay: Duration,
    ) {
        let (recipient, sending) = if step == Step::Content { (None, about.1) } else { (about.1, None) };
        let said = Said::new(self.lane, self.connection, step, code).about(about.0, recipient, sending);
        let serial = scene.truth.say(said);
        let octets = match step {
            Step::Ehlo => faults::offers(scene.random, code, serial, &self.offers),
            Step::Auth => self.auth_reply(scene, code, serial),
            _ => faults::reply(scene.random, code, serial),
        };
        let at = scene.now + delay;
        self.push(at, Part::Reply { octets, serial }, false);
        if code == 421 && scene.random.bool() {
            let later = scene.delay();
            self.push(at + later, Part::Close, true);
        } else if scene.chance(scene.odds.surplus) {
            let later = if scene.random.bool() { Duration::ZERO } else { scene.delay() };
            self.push(at + later, Part::Noise(faults::surplus(scene.random)), true);
        } else if scene.chance(scene.odds.close) {
            let later = scene.delay() * 20;
            let part = if scene.random.bool() { Part::Close } else { Part::Reset };
            self.push(at + later, part, true);
        }
    }

    /// A reply to a command of which only the beginning has arrived.
    fn answer_early(&mut self, scene: &mut Scene<'_>) {
        if self.owes || self.stage == Stage::Left || !scene.chance(scene.odds.early) {
            return;
        }
        self.owes = true;
        let code = if scene.random.bool() { 250 } else { super::plan::refusal(scene.random) };
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
        self.outbox.push(Arrival { at, part, is_surplus });
    }
}

/// With these odds a place within a content.
fn somewhere(scene: &mut Scene<'_>, odds: f64) -> Option<usize> {
    scene.chance(odds).then(|| scene.random.usize(0..120))
}
