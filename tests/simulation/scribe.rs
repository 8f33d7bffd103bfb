//! What the client of one connection has written and read: which replies it
//! knows, and so what it may say. It keeps books of its own beside the session's,
//! and holds the client to RFC 2920, RFC 3030 and RFC 2033, to the level that its
//! host is set to, and to what was offered on this very connection.

use smtp_bulk::command::MAX_MAIL;
use smtp_bulk::session::{MOST_COMMANDS, MOST_OWED, Session};
use smtp_bulk::{Pipeline, Step};

use super::faults::Scene;
use super::peer::Offers;
use super::truth::{Refusal, Truth};

/// Which part of a content a reply is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Piece {
    Whole,
    Chunk,
    LastChunk,
}

/// Octets that answer nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Noise {
    /// Whole replies in the middle of others.
    Among,
    /// Something behind all replies.
    Behind,
    /// A 421 there: the server may say at any time that it closes.
    Notice,
}

/// Something that the client has asked, and what it has read in reply.
#[derive(Clone, Copy, Debug)]
struct Ask {
    step: Step,
    transaction: Option<usize>,
    place: Option<usize>,
    piece: Piece,
    /// Its last octet was written.
    is_out: bool,
    heard: Option<(usize, u16)>,
    flight: u64,
    /// What was read has been judged.
    is_settled: bool,
    /// A reply too many has made it worthless.
    is_void: bool,
}

#[derive(Clone, Copy, Debug)]
enum Mode {
    Line,
    /// Until the dot; how much of CR LF . CR LF was there last.
    Content {
        matched: usize,
        octets: usize,
    },
    Chunk {
        left: u64,
        last: bool,
    },
}

#[derive(Debug)]
pub struct Scribe {
    lane: usize,
    host: String,
    connection: u64,
    level: Pipeline,
    is_lmtp: bool,
    most_recipients: usize,
    /// What was offered on this connection.
    pub offers: Offers,
    mode: Mode,
    line: Vec<u8>,
    asks: Vec<Ask>,
    /// The first ask that has no reply.
    next: usize,
    pub flight: u64,
    flight_start: usize,
    /// Octets of its commands.
    said: usize,
    /// The transaction that is being said.
    open: Option<usize>,
    /// Its content has begun by BDAT.
    is_chunked: bool,
    /// What its MAIL has said beside the address.
    parameters: String,
    needs_reset: bool,
    /// 354 was read, and nothing was written since.
    at_content: bool,
    in_login: bool,
    /// The reply that comes has begun before all was written that it would answer.
    is_hasty: bool,
    /// Nothing that comes is read any more.
    is_over: bool,
    /// The settle in which the flight was put together.
    pub composed: u32,
    /// How many mails may be begun in a flight.
    depth: usize,
    /// Most whole mails in a flight.
    most_together: usize,
    /// How many mails the lane held when each flight was put together.
    held: Vec<(u64, usize)>,
}

impl Scribe {
    pub fn new(lane: usize, connection: u64, greets: bool, scene: &Scene<'_>) -> Scribe {
        let mut scribe = Scribe {
            lane,
            host: scene.host.name.clone(),
            connection,
            level: scene.host.pipeline,
            is_lmtp: scene.host.is_lmtp,
            most_recipients: scene.host.max_recipients.unwrap_or(100) as usize,
            offers: Offers::default(),
            mode: Mode::Line,
            line: Vec::new(),
            asks: Vec::new(),
            next: 0,
            flight: 0,
            flight_start: 0,
            said: 0,
            open: None,
            is_chunked: false,
            parameters: String::new(),
            needs_reset: false,
            at_content: false,
            in_login: false,
            is_hasty: false,
            is_over: false,
            composed: 0,
            depth: scene.host.depth as usize,
            most_together: if scene.host.is_lmtp { usize::MAX } else { scene.host.max_refusals as usize },
            held: Vec::new(),
        };
        if greets {
            scribe.awaits_greeting();
        }
        scribe
    }

    pub fn awaits_greeting(&mut self) {
        self.ask(Step::Greeting, None, None, Piece::Whole);
        self.asks.iter_mut().for_each(|ask| ask.is_out = true);
    }

    /// What was learnt before TLS is not known any more.
    pub fn secured(&mut self, greets: bool) {
        assert_eq!(self.next, self.asks.len(), "TLS before a reply");
        self.offers = Offers::default();
        if greets {
            self.awaits_greeting();
        }
    }

    /// Replies that the client waits for.
    pub fn awaited(&self) -> usize {
        self.asks.len() - self.next
    }

    /// Whether chunks wait for their replies, and others perhaps for them.
    pub fn awaits_chunks(&self) -> bool {
        self.asks.iter().skip(self.next).any(|ask| ask.piece == Piece::Chunk)
    }

    /// Whether the last thing written is a chunk behind which others come: what is
    /// said then is a reply to them that comes early.
    pub fn is_mid_content(&self) -> bool {
        self.asks.last().is_some_and(|ask| ask.piece == Piece::Chunk)
    }

    /// Whether it is known how many replies are to come: in LMTP that is said by the
    /// first one to a content.
    pub fn is_counted(&self) -> bool {
        let contents = || self.asks.iter().skip(self.next).filter(|ask| ask.step == Step::Content);
        !self.is_lmtp || contents().all(|ask| ask.place.is_some())
    }

    /// Things that were asked in this flight.
    pub fn asked(&self) -> usize {
        self.asks.len() - self.flight_start
    }

    /// Whether more than one reply may be owed at once.
    pub fn may_owe_several(&self) -> bool {
        self.is_lmtp || self.level != Pipeline::Single && self.offers.pipelining
    }

    /// Whether the flight is about mails.
    pub fn is_in_transaction(&self) -> bool {
        let mut asks = self.asks.iter().skip(self.flight_start);
        asks.all(|ask| ask.transaction.is_some() || ask.step == Step::Rset)
    }

    /// Whether a reply too many shows in the number of all. In LMTP it may change
    /// how many are owed.
    pub fn is_tellable(&self) -> bool {
        let mut asks = self.asks.iter().skip(self.flight_start);
        !self.is_lmtp || !asks.any(|ask| ask.step == Step::Content)
    }

    fn ask(&mut self, step: Step, transaction: Option<usize>, place: Option<usize>, piece: Piece) {
        self.asks.push(Ask {
            step,
            transaction,
            place,
            piece,
            is_out: false,
            heard: None,
            flight: self.flight,
            is_settled: false,
            is_void: false,
        });
    }

    // ---- what is written --------------------------------------------------

    /// The next octet is the first of a flight.
    pub fn begin_flight(&mut self) {
        assert_eq!(self.next, self.asks.len(), "a flight begins before the reply to the last one");
        assert!(!self.is_over, "a flight begins on a connection that is of no use");
        self.flight += 1;
        self.flight_start = self.asks.len();
        self.said = 0;
    }

    /// The flight that begins was put together in this settle, of so many mails.
    pub fn composed(&mut self, settle: u32, held: usize) {
        self.composed = settle;
        self.held.push((self.flight, held));
    }

    pub fn wrote(&mut self, mut octets: &[u8], truth: &mut Truth) {
        while let Some((first, rest)) = octets.split_first() {
            match &mut self.mode {
                Mode::Line if self.line.is_empty() && std::mem::take(&mut self.at_content) => {
                    self.begin_content(truth);
                }
                Mode::Line => {
                    self.line_octet(*first, truth);
                    octets = rest;
                }
                Mode::Content { matched, octets: count } => {
                    *count += 1;
                    *matched = match (*matched, first) {
                        (2, b'.') => 3,
                        (0, b'\r') | (2, b'\r') => 1,
                        (3, b'\r') => 4,
                        (1 | 4, b'\n') => {
                            if *matched == 4 {
                                5
                            } else {
                                2
                            }
                        }
                        (_, _) => 0,
                    };
                    let (is_end, count) = (*matched == 5, *count);
                    octets = rest;
                    if is_end {
                        self.content_out(count, truth);
                    }
                }
                Mode::Chunk { left, .. } => {
                    let count = octets.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= count as u64;
                    octets = octets.get(count..).unwrap_or_default();
                    self.end_chunk(truth);
                }
            }
        }
    }

    fn line_octet(&mut self, octet: u8, truth: &mut Truth) {
        if self.line.is_empty() {
            self.check_may_speak(truth);
        }
        if self.line.is_empty() && octet == b'B' {
            // A refusal is believed as soon as it has begun.
            self.ask(Step::Content, self.open, None, Piece::Chunk);
        }
        self.line.push(octet);
        if octet == b'\n' {
            let line = std::mem::take(&mut self.line);
            self.check_room(line.len());
            let line = String::from_utf8(line).expect("UTF-8");
            self.command(line.trim_end_matches("\r\n"), truth);
            if !matches!(self.mode, Mode::Chunk { .. }) {
                self.asks.iter_mut().rev().take(1).for_each(|ask| ask.is_out = true);
            }
        }
    }

    /// A flight has its bounds. The last command of it may go beyond them.
    fn check_room(&mut self, octets: usize) {
        self.said += octets;
        let commands = self.asks.iter().skip(self.flight_start).filter(|ask| ask.step != Step::Content);
        let asked = 1 + commands.count();
        assert!(asked <= MOST_OWED + 1, "{asked} commands in a flight");
        assert!(self.said <= MOST_COMMANDS + MAX_MAIL, "{} octets of commands in a flight", self.said);
    }

    /// Whether anything may be written although replies are awaited.
    fn check_may_speak(&self, truth: &Truth) {
        let Some(last) = self.asks.get(self.next..).and_then(|asks| asks.last()) else { return };
        let level = self.level.min(truth.most(&self.host, self.composed));
        assert!(self.offers.pipelining, "a command before the reply to {}, and no PIPELINING", last.step);
        assert!(level > Pipeline::Single, "a command before the reply to {} at level 0", last.step);
        let may_go_on = matches!(last.step, Step::Mail | Step::Rcpt | Step::Rset | Step::Content);
        assert!(may_go_on, "a command before the reply to {}", last.step);
        let is_end = last.step == Step::Content && last.piece != Piece::Chunk;
        assert!(!is_end || level == Pipeline::Full, "a command before the reply to a content at {level:?}");
    }

    fn is_first(&self) -> bool {
        self.flight_start == self.asks.len()
    }

    fn command(&mut self, line: &str, truth: &mut Truth) {
        if self.in_login {
            self.in_login = false;
            return self.ask(Step::Auth, None, None, Piece::Whole);
        }
        if let Some(rest) = line.strip_prefix("MAIL FROM:<") {
            return self.mail(rest, truth);
        }
        if let Some(rest) = line.strip_prefix("RCPT TO:<") {
            return self.rcpt(rest, truth);
        }
        if let Some(rest) = line.strip_prefix("BDAT ") {
            return self.bdat(rest, truth);
        }
        match line.split(' ').next().unwrap_or_default() {
            "DATA" => {
                let transaction = self.check_content(truth);
                assert!(!self.is_chunked, "DATA behind BDAT");
                self.ask(Step::Data, Some(transaction), None, Piece::Whole);
            }
            "RSET" => self.rset(truth),
            "NOOP" => self.noop(),
            verb => {
                let step = match verb {
                    "EHLO" | "LHLO" => Step::Ehlo,
                    "HELO" => Step::Helo,
                    "STARTTLS" => Step::StartTls,
                    "AUTH" => Step::Auth,
                    "QUIT" => Step::Quit,
                    _ => panic!("no command: {line:?}"),
                };
                assert!(self.is_first(), "{verb} in the middle of a flight");
                self.ask(step, None, None, Piece::Whole);
            }
        }
    }

    fn mail(&mut self, rest: &str, truth: &mut Truth) {
        let (from, parameters) = rest.split_once('>').expect("a path");
        self.offers.check_mail(parameters);
        assert!(self.open.is_none(), "MAIL within a transaction");
        if self.is_first() {
            assert!(!self.needs_reset, "MAIL without RSET");
        } else {
            let last = self.asks.last().map(|ask| (ask.step, ask.piece));
            let may_follow = match last {
                Some((Step::Rset, _)) => true,
                Some((Step::Content, piece)) => piece == Piece::Whole,
                _ => false,
            };
            assert!(may_follow, "MAIL behind {last:?} in a flight");
        }
        let begun = self.asks.iter().skip(self.flight_start).filter(|ask| ask.step == Step::Mail).count();
        assert!(begun < self.depth.min(self.most_together), "{} mails in a flight", begun + 1);
        let transaction = truth.begin(self.lane, self.connection, from);
        self.open = Some(transaction);
        self.is_chunked = false;
        self.parameters = parameters.to_owned();
        self.ask(Step::Mail, Some(transaction), None, Piece::Whole);
    }

    fn rcpt(&mut self, rest: &str, truth: &mut Truth) {
        let (to, parameters) = rest.split_once('>').expect("a path");
        self.offers.check_rcpt(parameters);
        let (mail, place) = truth.recipient(to);
        let id = self.open.expect("RCPT without MAIL");
        self.check_is_not_refused(id);
        if self.is_first() {
            self.check_is_not_full(id);
        }
        truth.names(id, mail, place);
        let says = |parameter: &str| self.parameters.split(' ').any(|said| said == parameter);
        assert!(to.is_ascii() || says("SMTPUTF8"), "an address beyond ASCII, which MAIL does not say");
        assert!(!truth.is_raw(id) || says("BODY=BINARYMIME"), "a raw content, which MAIL does not say");
        let names = truth.named(id);
        let most = self.offers.recipients.unwrap_or(usize::MAX).min(self.most_recipients);
        assert!(names.len() <= most, "{} recipients where {most} may be", names.len());
        if let Some(most) = self.offers.domains {
            // Each recipient of a mail has a domain that stands for its place.
            let mut domains: Vec<&str> = names.iter().map(|place| truth.domain(mail, *place)).collect();
            domains.sort_unstable();
            domains.dedup();
            assert!(domains.len() <= most, "{domains:?} where {most} may be");
        }
        self.ask(Step::Rcpt, Some(id), Some(place), Piece::Whole);
    }

    /// A refusal that was known when the flight was put together ends it all.
    fn check_is_not_refused(&self, id: usize) {
        let is_known = |ask: &&Ask| ask.transaction == Some(id) && ask.flight < self.flight;
        let refused = self
            .asks
            .iter()
            .filter(is_known)
            .find(|ask| ask.step == Step::Mail && ask.heard.is_some_and(|(_, code)| code >= 400));
        assert!(refused.is_none(), "a transaction goes on whose MAIL was refused");
    }

    /// Behind one that was too many there is no room for others.
    fn check_is_not_full(&self, id: usize) {
        let is_own = |ask: &&Ask| ask.transaction == Some(id) && ask.step == Step::Rcpt;
        let heard = self.asks.iter().filter(is_own).filter_map(|ask| ask.heard.map(|(_, code)| code));
        let codes: Vec<u16> = heard.collect();
        let is_full = matches!(codes.last(), Some(452 | 552)) && codes.iter().any(|code| *code < 300);
        assert!(!is_full, "RCPT behind one that was too many");
    }

    /// Whether a content may be asked for.
    fn check_content(&self, truth: &Truth) -> usize {
        let id = self.open.expect("a content without MAIL");
        self.check_is_not_refused(id);
        let asked = || {
            let is_own = |ask: &&Ask| ask.transaction == Some(id) && ask.step == Step::Rcpt;
            self.asks.iter().filter(is_own)
        };
        let is_accepted = |ask: &Ask| ask.heard.is_some_and(|(_, code)| code < 300);
        let may_be = |ask: &Ask| ask.flight == self.flight || is_accepted(ask);
        assert!(asked().any(may_be), "a content for nobody");
        if truth.is_all_or_nothing(id) {
            let are_all = asked().all(|ask| ask.flight < self.flight && is_accepted(ask));
            assert!(are_all, "a content for some where all or none are to get it");
        }
        id
    }

    fn rset(&mut self, truth: &mut Truth) {
        if self.is_first() {
            assert!(self.needs_reset, "RSET with nothing to reset");
            truth.resets += 1;
        } else {
            let last = self.asks.last();
            // Behind a chunk that was refused no other one comes.
            let is_refused = |ask: &Ask| ask.transaction.is_some_and(|id| truth.is_refused(id));
            let is_end = |ask: &Ask| match ask.piece {
                Piece::Whole => false,
                Piece::Chunk => is_refused(ask),
                Piece::LastChunk => true,
            };
            let is_between = last.is_some_and(|ask| ask.step == Step::Content && is_end(ask));
            assert!(is_between, "RSET in the middle of a transaction");
        }
        self.open = None;
        self.ask(Step::Rset, None, None, Piece::Whole);
    }

    /// It has a flight of its own, outside of any transaction and with no mail in hand.
    fn noop(&mut self) {
        assert!(self.is_first(), "NOOP in the middle of a flight");
        assert!(!self.needs_reset && self.open.is_none() && !self.at_content, "NOOP within a transaction");
        assert_eq!(self.held.last(), Some(&(self.flight, 0)), "NOOP with a mail in hand");
        self.ask(Step::Noop, None, None, Piece::Whole);
    }

    fn begin_content(&mut self, truth: &mut Truth) {
        let id = self.open.expect("a content without a transaction");
        assert!(self.is_first(), "a content behind something else");
        truth.content_begins(id);
        self.ask(Step::Content, Some(id), None, Piece::Whole);
        self.mode = Mode::Content { matched: 2, octets: 0 };
    }

    fn content_out(&mut self, octets: usize, truth: &mut Truth) {
        self.mode = Mode::Line;
        self.asks.iter_mut().rev().take(1).for_each(|ask| ask.is_out = true);
        let Some(id) = self.open.take() else { return };
        if truth.has_accepted(id) {
            truth.content_written(id);
        } else {
            assert!(!self.is_lmtp, "a lone dot in LMTP");
            assert_eq!(octets, 3, "a content that nobody would get");
            truth.lone_dot(id);
        }
    }

    fn bdat(&mut self, rest: &str, truth: &mut Truth) {
        assert!(self.offers.chunking, "BDAT, which is not offered");
        let (size, last) = match rest.strip_suffix(" LAST") {
            Some(size) => (size, true),
            None => (rest, false),
        };
        let size: u64 = size.parse().expect("the size of a chunk");
        assert!(size > 0 || last, "an empty chunk");
        let id = self.check_content(truth);
        // What can go in no other way may have been begun before that was known.
        let takes_chunks = truth.takes_chunks(&self.host, self.composed) || truth.is_raw(id);
        assert!(takes_chunks, "BDAT to a host that does not know it");
        if !std::mem::replace(&mut self.is_chunked, true) {
            truth.content_begins(id);
        }
        let piece = if last { Piece::LastChunk } else { Piece::Chunk };
        self.asks.iter_mut().rev().take(1).for_each(|ask| ask.piece = piece);
        self.mode = Mode::Chunk { left: size, last };
        self.end_chunk(truth);
    }

    fn end_chunk(&mut self, truth: &mut Truth) {
        let Mode::Chunk { left: 0, last } = self.mode else { return };
        self.mode = Mode::Line;
        self.asks.iter_mut().rev().take(1).for_each(|ask| ask.is_out = true);
        if last && let Some(id) = self.open.take() {
            truth.content_written(id);
        }
    }

    // ---- what is read -----------------------------------------------------

    /// The client was given the first octet of a reply.
    pub fn reply_begins(&mut self) {
        self.is_hasty = self.asks.get(self.next).is_none_or(|ask| !ask.is_out);
    }

    /// The client was given a whole reply: says whether it has read it as the
    /// answer to something.
    pub fn hear(&mut self, serial: usize, code: u16, truth: &mut Truth, session: &Session) -> Option<Step> {
        if self.is_over {
            return None;
        }
        let Some(ask) = self.asks.get(self.next).copied() else {
            self.fall_out_of_step(truth, session);
            return None;
        };
        let is_refusal = (400..600).contains(&code);
        let is_pass = match ask.step {
            Step::Data => code == 354,
            Step::Auth => code == 235 || code == 334,
            _ => code / 100 == 2,
        };
        let is_believed = is_refusal || is_pass;
        let may_be_early = ask.step == Step::Content && is_refusal;
        let may_be_hasty = may_be_early || code == 421;
        // Every server knows RSET: this one reads a content as commands.
        let is_unknown = ask.step == Step::Rset && (500..=504).contains(&code);
        let is_anothers = is_unknown && session.is_pipelined() && self.has_refused_chunk();
        let is_in_time = (ask.is_out || may_be_early) && (!self.is_hasty || may_be_hasty);
        if !is_believed || is_anothers || !is_in_time {
            self.fall_out_of_step(truth, session);
            return None;
        }
        self.spread(ask, truth);
        let own = self.asks.get_mut(self.next)?;
        own.heard = Some((serial, code));
        let own = *own;
        self.next += 1;
        truth.read(serial, ask.step == Step::Content && ask.piece != Piece::Whole);
        self.learn(own, code, truth);
        if code == 421 || !ask.is_out {
            self.is_over = true;
            // Of a content that it has begun to answer nothing is said for the others.
            let begun = own.transaction.filter(|_| own.step == Step::Content && own.place.is_some());
            let left = self.asks.iter().skip(self.next).filter_map(|ask| ask.transaction);
            let left = left.chain(self.open).filter(|id| Some(*id) != begun);
            left.for_each(|id| truth.cut_short(id));
        }
        let is_chunk = ask.step == Step::Content && ask.piece != Piece::Whole;
        let is_unknown = is_chunk && matches!(code, 500 | 502);
        self.is_over |= is_unknown;
        if is_unknown {
            truth.refuses(&self.host, Refusal::Chunks);
        } else if ask.step == Step::Mail && (code >= 500 || code == 455) {
            truth.refuses(&self.host, Refusal::Parameters);
        }
        Some(ask.step)
    }

    /// In LMTP a content owes a reply for each recipient that was accepted.
    fn spread(&mut self, ask: Ask, truth: &Truth) {
        let is_last = ask.step == Step::Content && ask.piece != Piece::Chunk;
        let Some(id) =
            ask.transaction.filter(|_| self.is_lmtp && is_last && ask.is_out && ask.place.is_none())
        else {
            return;
        };
        if truth.is_refused(id) {
            // By one of its chunks: nobody has it any more.
            return;
        }
        let mut places = truth.accepted(id).into_iter();
        let Some(first) = places.next() else { return };
        if let Some(own) = self.asks.get_mut(self.next) {
            own.place = Some(first);
        }
        for (offset, place) in places.enumerate() {
            self.asks.insert(self.next + 1 + offset, Ask { place: Some(place), ..ask });
        }
    }

    fn learn(&mut self, ask: Ask, code: u16, truth: &mut Truth) {
        let (serial, _) = ask.heard.unwrap_or_default();
        match (ask.step, ask.transaction) {
            (Step::Mail, Some(id)) => {
                self.needs_reset = true;
                truth.mail_heard(id, Some(code));
            }
            (Step::Rcpt, Some(id)) => truth.rcpt_heard(id, ask.place, Some(code)),
            (Step::Data, _) => self.at_content = code == 354,
            (Step::Rset, _) if code < 300 => self.needs_reset = false,
            (Step::Content, Some(id)) => {
                let is_final = ask.piece != Piece::Chunk || code >= 400;
                if is_final {
                    truth.content_heard(id, ask.place, code, serial);
                    let keeps = ask.piece != Piece::Whole && code >= 400 && ask.place.is_none();
                    self.needs_reset = keeps;
                }
            }
            (Step::Auth, _) => self.in_login = code == 334,
            _ => {}
        }
    }

    /// The client was given octets that answer nothing.
    pub fn noise(&mut self, noise: Noise, truth: &mut Truth, session: &Session) {
        if self.is_over {
            return;
        }
        let is_believed = noise == Noise::Notice && self.has_only_refused();
        if noise == Noise::Among || (self.next == self.asks.len() && !is_believed) {
            self.fall_out_of_step(truth, session);
        }
        self.is_over = true;
    }

    /// Whether a chunk was refused in this flight or the one before, and its MAIL was
    /// not with it.
    fn has_refused_chunk(&self) -> bool {
        let is_refused = |ask: &Ask| ask.heard.is_some_and(|(_, code)| code >= 400);
        let has_begun = |chunk: &Ask| {
            let mut flight = self.asks.iter().filter(|ask| ask.flight == chunk.flight);
            !flight
                .any(|ask| ask.step == Step::Mail && ask.transaction == chunk.transaction && is_refused(ask))
        };
        let both = self.asks.iter().filter(|ask| ask.flight + 1 >= self.flight);
        let mut chunks = both.filter(|ask| ask.step == Step::Content && ask.piece != Piece::Whole);
        chunks.any(|ask| is_refused(ask) && has_begun(ask))
    }

    /// Whether all recipients of each content of this flight were refused, and so was
    /// the content.
    fn has_only_refused(&self) -> bool {
        let flight = || self.asks.iter().skip(self.flight_start).filter(|ask| ask.heard.is_some());
        let is_refused = |ask: &Ask| ask.heard.is_some_and(|(_, code)| code >= 400);
        let mut contents = flight().filter(|ask| ask.step == Step::Content && ask.piece != Piece::Chunk);
        contents.all(|content| {
            let own = |ask: &&Ask| ask.step == Step::Rcpt && ask.transaction == content.transaction;
            let has_some = flight().any(|ask| own(&ask));
            has_some && is_refused(content) && flight().filter(own).all(is_refused)
        })
    }

    /// There was a reply too many: of several nobody knows which one.
    fn fall_out_of_step(&mut self, truth: &mut Truth, session: &Session) {
        self.is_over = true;
        if !session.is_pipelined() || !session.has_flight_begun() {
            return;
        }
        for ask in self.asks.iter_mut().skip(self.flight_start).filter(|ask| !ask.is_settled) {
            ask.is_void = true;
            let Some((serial, _)) = ask.heard.take() else { continue };
            truth.unread(serial);
            match (ask.step, ask.transaction) {
                (Step::Mail, Some(id)) => truth.mail_heard(id, None),
                (Step::Rcpt, Some(id)) => truth.rcpt_heard(id, ask.place, None),
                (Step::Content, Some(id)) => truth.content_unheard(id, serial),
                _ => {}
            }
        }
        assert!(session.is_out_of_step(), "a reply too many goes unnoticed");
    }

    /// Whether replies of the flight that is on its way were made worthless.
    pub fn is_out_of_step(&self) -> bool {
        self.asks.iter().skip(self.flight_start).any(|ask| ask.is_void)
    }

    /// The transaction whose reply is awaited, or that with whose reply all ended. Where
    /// there was one too many, nobody knows.
    pub fn at_fault(&self) -> Option<usize> {
        if self.is_out_of_step() {
            return None;
        }
        let is_unknown = |ask: &&Ask| {
            let is_chunk = ask.step == Step::Content && ask.piece != Piece::Whole;
            is_chunk && matches!(ask.heard, Some((_, 500 | 502)))
        };
        let last = self.next.checked_sub(1).and_then(|last| self.asks.get(last));
        last.filter(is_unknown).or(self.asks.get(self.next))?.transaction
    }

    /// Whether envelopes were sent together in the flight that is on its way, and
    /// then whether a content was, too.
    pub fn togetherness(&self) -> Option<bool> {
        let asks = || self.asks.iter().skip(self.flight_start);
        let commands = asks().filter(|ask| matches!(ask.step, Step::Mail | Step::Rcpt | Step::Data)).count();
        let has_content = asks().any(|ask| ask.step == Step::Content);
        let has_mail = asks().any(|ask| ask.step == Step::Mail);
        match (commands, has_content) {
            (_, true) => has_mail.then_some(true),
            (2.., false) => Some(false),
            _ => None,
        }
    }

    /// The connection has failed without a reply, or is given up.
    pub fn lost(&mut self) {
        self.is_over = true;
    }

    /// All that has been read has been judged.
    pub fn settled(&mut self) {
        let heard = self.asks.iter_mut().rev().filter(|ask| ask.heard.is_some());
        for ask in heard {
            if std::mem::replace(&mut ask.is_settled, true) {
                break;
            }
        }
    }

    /// Without faults a mail takes as many flights as its level says, and not one
    /// more.
    pub fn check_flights(&self, truth: &Truth) {
        let mut ids: Vec<usize> = self.asks.iter().filter_map(|ask| ask.transaction).collect();
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            let own = || self.asks.iter().filter(|ask| ask.transaction == Some(id));
            let mut flights: Vec<u64> = own().map(|ask| ask.flight).collect();
            flights.dedup();
            let is_chunked = own().any(|ask| ask.piece != Piece::Whole);
            let named = truth.named(id).len();
            if truth.has_crowd() && self.level != Pipeline::Single {
                // What has no room in a flight goes in another one.
                continue;
            }
            let (waits, is_raw) = (truth.is_all_or_nothing(id), truth.is_raw(id));
            let is_whole = self.level == Pipeline::Full && self.offers.pipelining && self.offers.chunking;
            let expected = match self.level {
                Pipeline::Single => 2 + named + usize::from(!is_raw),
                _ if !self.offers.pipelining => 2 + named + usize::from(!is_raw),
                _ if is_whole => 1 + usize::from(waits),
                _ if is_raw => 2,
                _ => 2 + usize::from(waits),
            };
            assert_eq!(is_chunked, is_whole || is_raw, "the content goes another way");
            assert_eq!(
                flights.len(),
                expected,
                "flights of a mail at {:?}, of {:?}",
                self.level,
                self.offers
            );
        }
    }

    /// Without faults whole transactions of all mails that the lane holds go together.
    pub fn check_fullness(&self, truth: &Truth) {
        if self.level != Pipeline::Full || !self.offers.pipelining || !self.offers.chunking {
            return;
        }
        for (flight, held) in &self.held {
            let own = self.asks.iter().filter(|ask| ask.flight == *flight);
            let mut ids: Vec<usize> = own.filter_map(|ask| ask.transaction).collect();
            ids.dedup();
            // Behind one that waits for its recipients nothing is said, and one that
            // cannot be sent at all is not known by its number here.
            let waits = ids.last().is_none_or(|id| truth.is_all_or_nothing(*id));
            let waits = waits || truth.has_unfit() || truth.has_crowd();
            let expected = self.most_together.min(*held);
            assert!(waits || ids.len() == expected, "{} of {held} mails in a flight", ids.len());
        }
    }

    /// At the end every reply of the mail phase has been judged: a callback was
    /// asked, unless the mail was given up by an earlier reply of its flight.
    pub fn check_judged(&self, truth: &Truth) {
        for (position, ask) in self.asks.iter().enumerate() {
            let Some((serial, code)) = ask.heard else { continue };
            let is_phase = matches!(ask.step, Step::Mail | Step::Rcpt | Step::Data | Step::Content);
            let is_for_nobody = ask.transaction.is_some_and(|id| truth.is_lone(id));
            let is_chunk = ask.piece == Piece::Chunk && code < 300;
            if !is_phase || is_for_nobody || is_chunk || truth.is_asked_about(serial) {
                continue;
            }
            let before = self.asks.iter().take(position);
            let gives_up = |other: &Ask| {
                // RSET is about the mail behind it.
                let is_own = other.transaction == ask.transaction || other.step == Step::Rset;
                is_own
                    && other.flight == ask.flight
                    && other.heard.is_some_and(|(serial, _)| truth.gives_up(serial))
            };
            let is_stored = ask.step == Step::Content && code < 300;
            let is_excused = before.rev().any(gives_up) && !is_stored;
            assert!(is_excused, "no callback was asked about reply #{serial} on lane {}: {ask:?}", self.lane);
        }
    }
}
