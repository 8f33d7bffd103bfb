//! How the scripted server takes a content, by DATA or by BDAT, and what it makes
//! of one that has no place: it refuses it, eats it, takes it for commands, or
//! asks for it although nobody would get it.

use std::time::Duration;

use smtp_bulk::Step;

use super::super::faults::Scene;
use super::super::plan;
use super::{Peer, Stage, Transaction};

/// A content, or a chunk of one, on its way in.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    /// `None` where nobody would get it.
    mail: Option<usize>,
    line: Vec<u8>,
    whole: Vec<u8>,
    octets: usize,
    dies_at: Option<usize>,
    early_at: Option<(usize, u16)>,
    stalls_at: Option<usize>,
    /// What was answered before it had come to its end.
    answered: Option<u16>,
    /// It has no place here: its octets are eaten.
    is_eaten: bool,
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

    /// What goes wrong in the middle of it.
    fn draw(mail: Option<usize>, most: usize, scene: &mut Scene<'_>) -> Incoming {
        let odds = scene.odds;
        let somewhere =
            |scene: &mut Scene<'_>, odds: f64| scene.chance(odds).then(|| scene.random.usize(0..most.max(1)));
        let dies_at = somewhere(scene, odds.die);
        let early = somewhere(scene, odds.early);
        let stalls_at = somewhere(scene, odds.stall);
        let promises = scene.random.u8(0..4) == 0 && !scene.host.is_lmtp;
        let code = if promises { 250 } else { plan::refusal(scene.random) };
        let early_at = early.map(|at| (at, code));
        Incoming { mail, dies_at, early_at, stalls_at, ..Incoming::default() }
    }
}

impl Peer {
    pub(super) fn data(&mut self, scene: &mut Scene<'_>) {
        let open = self.transaction.as_ref().filter(|open| !open.is_kept && !self.is_broken);
        let mail = open.and_then(|open| open.mail.filter(|_| !open.accepted.is_empty()));
        let asked = open.and_then(|open| open.mail);
        if mail.is_none() {
            assert!(scene.flies, "DATA without a recipient");
            let is_blind = open.is_some() && self.early.is_none();
            if !is_blind || !scene.chance(scene.odds.blind) {
                return self.refuse(scene, Step::Data, (asked, None));
            }
        }
        if self.answer(scene, Step::Data, 354, (asked, None)) == Some(354) && self.stage == Stage::Open {
            self.incoming = Some(Incoming::draw(mail, 120, scene));
            self.stage = Stage::Content;
        }
    }

    pub(super) fn content_octet(&mut self, octet: u8, scene: &mut Scene<'_>) {
        let Some(incoming) = &mut self.incoming else { panic!("octets behind the final dot") };
        if incoming.take(octet) {
            self.dot_flight = Some(self.flight);
            return self.content_arrived(scene);
        }
        self.go_wrong(scene);
    }

    /// What may happen while a content is coming.
    fn go_wrong(&mut self, scene: &mut Scene<'_>) {
        let Some(incoming) = &mut self.incoming else { return };
        let octets = incoming.octets;
        if incoming.dies_at.is_some_and(|at| octets > at) {
            self.close(scene);
        } else if incoming.stalls_at.is_some_and(|at| octets > at) {
            self.is_stalled = true;
        } else if let Some((_, code)) = incoming.early_at.take_if(|(at, _)| octets > *at) {
            incoming.answered = Some(code);
            (incoming.dies_at, incoming.stalls_at) = (None, None);
            let mail = incoming.mail;
            let place = self.first_place(scene);
            self.say(scene, Step::Content, code, (mail, place), Duration::ZERO);
            scene.truth.said_early();
        }
    }

    /// The recipient whose reply comes first, where each has its own.
    fn first_place(&self, scene: &Scene<'_>) -> Option<usize> {
        let open = self.transaction.as_ref().filter(|_| scene.host.is_lmtp && self.is_last_piece());
        open.and_then(|open| open.accepted.first().copied())
    }

    fn is_last_piece(&self) -> bool {
        !matches!(self.stage, Stage::Chunk { last: false, .. })
    }

    /// The final dot is there: the server stores or does not, and answers, dies, or
    /// does both by halves.
    fn content_arrived(&mut self, scene: &mut Scene<'_>) {
        let Some(incoming) = self.incoming.take() else { return };
        self.stage = Stage::Open;
        let Some(open) = self.transaction.take() else { return };
        self.is_dirty = false;
        match incoming.mail {
            Some(mail) => self.conclude_content(open, mail, incoming.answered, &incoming.whole, false, scene),
            None => {
                assert!(incoming.whole.is_empty(), "a content that nobody would get");
                if incoming.answered.is_none() {
                    let hoped = if scene.random.u8(0..4) == 0 { 250 } else { 554 };
                    self.answer(scene, Step::Content, hoped, (None, None));
                }
            }
        }
    }

    /// The content is whole.
    fn conclude_content(
        &mut self,
        open: Transaction,
        mail: usize,
        answered: Option<u16>,
        whole: &[u8],
        is_chunked: bool,
        scene: &mut Scene<'_>,
    ) {
        let place = self.whereabouts();
        let all = open.accepted.clone();
        if scene.host.is_lmtp {
            return self.conclude_each(&all, mail, answered, whole, scene);
        }
        if let Some(code) = answered {
            if code / 100 == 2 {
                scene.truth.store(place, &all, whole);
            }
            return self.leave_behind(code, scene);
        }
        if !self.is_mute && scene.chance(scene.odds.die) {
            if scene.random.bool() {
                scene.truth.store(place, &all, whole);
            }
            return self.close(scene);
        }
        match self.answer(scene, Step::Content, 250, (Some(mail), None)) {
            Some(200..=299) => scene.truth.store(place, &all, whole),
            Some(400..=599) if is_chunked && scene.chance(scene.odds.keeps) => {
                self.transaction = Some(Transaction { is_kept: true, ..open });
            }
            Some(400..=599) => {}
            _ if scene.random.bool() => scene.truth.store(place, &all, whole),
            _ => {}
        }
    }

    /// LMTP: each recipient has a reply of its own.
    fn conclude_each(
        &mut self,
        all: &[usize],
        mail: usize,
        answered: Option<u16>,
        whole: &[u8],
        scene: &mut Scene<'_>,
    ) {
        let whereabouts = self.whereabouts();
        let mut places = all.iter().copied();
        if let Some(code) = answered {
            // It has refused the first one in the middle of it, and so refuses all.
            places.next();
            self.leave_behind(code, scene);
        }
        for place in places {
            if self.stage == Stage::Gone {
                return;
            }
            if answered.is_none() && !self.is_mute && scene.chance(scene.odds.die) {
                if scene.random.bool() {
                    scene.truth.store(whereabouts, &[place], whole);
                }
                return self.close(scene);
            }
            let hoped = if answered.is_some() { 554 } else { 250 };
            match self.answer(scene, Step::Content, hoped, (Some(mail), Some(place))) {
                Some(200..=299) if answered.is_none() => {
                    scene.truth.store(whereabouts, &[place], whole);
                }
                Some(_) => {}
                None if answered.is_none() && scene.random.bool() => {
                    scene.truth.store(whereabouts, &[place], whole);
                }
                None => {}
            }
        }
    }

    // ---- chunks -----------------------------------------------------------

    pub(super) fn bdat(&mut self, rest: &str, scene: &mut Scene<'_>) {
        let (size, last) = match rest.strip_suffix(" LAST") {
            Some(size) => (size, true),
            None => (rest, false),
        };
        let left: u64 = size.parse().expect("the size of a chunk");
        let open = self.transaction.as_ref().filter(|open| !open.is_kept && !self.is_broken);
        let asked = open.and_then(|open| open.mail);
        let mail = asked.filter(|_| open.is_some_and(|open| !open.accepted.is_empty()));
        if self.early.is_none() && !self.is_mute && scene.chance(scene.odds.no_bdat) {
            let code = if scene.random.bool() { 502 } else { 500 };
            self.stage = Stage::Chunk { left, last };
            let place = self.first_place(scene).filter(|_| mail.is_some());
            self.stage = Stage::Open;
            self.say(scene, Step::Content, code, (mail, place), Duration::ZERO);
            self.is_lost = true;
            return;
        }
        self.stage = Stage::Chunk { left, last };
        self.is_mid_content = !last;
        let mut incoming = Incoming::draw(mail, 120.min(left as usize + 1), scene);
        if self.is_mute {
            incoming.early_at = None;
        }
        if let Some(serial) = self.early.take() {
            let place = self.first_place(scene).filter(|_| mail.is_some());
            incoming.answered = Some(scene.truth.belongs(serial, Step::Content, mail, place));
            (incoming.dies_at, incoming.early_at, incoming.stalls_at) = (None, None, None);
        }
        if mail.is_none() {
            incoming.is_eaten = true;
            incoming.early_at = None;
            // Some refuse it as they see it, and some when they have eaten it.
            if incoming.answered.is_none() && scene.random.bool() {
                incoming.answered = Some(503);
                self.stage = Stage::Open;
                self.refuse(scene, Step::Content, (asked, None));
                if self.stage != Stage::Open {
                    return;
                }
                self.stage = Stage::Chunk { left, last };
            }
        }
        self.incoming = Some(incoming);
        self.end_chunk(scene);
    }

    pub(super) fn chunk_octet(&mut self, octet: u8, scene: &mut Scene<'_>) {
        let Stage::Chunk { left, last } = self.stage else { return };
        self.stage = Stage::Chunk { left: left - 1, last };
        if let Some(incoming) = &mut self.incoming {
            incoming.octets += 1;
            if !incoming.is_eaten {
                incoming.whole.push(octet);
            }
        }
        if left > 1 {
            self.go_wrong(scene);
        }
        self.end_chunk(scene);
    }

    fn end_chunk(&mut self, scene: &mut Scene<'_>) {
        let Stage::Chunk { left: 0, last } = self.stage else { return };
        let Some(incoming) = self.incoming.take() else { return };
        self.stage = Stage::Open;
        let Some(mail) = incoming.mail else {
            if incoming.answered.is_none() {
                let asked = self.transaction.as_ref().and_then(|open| open.mail);
                self.refuse(scene, Step::Content, (asked, None));
            }
            // A transaction without a recipient may live on, too.
            if !scene.chance(scene.odds.keeps) {
                self.transaction = None;
            } else if let Some(open) = &mut self.transaction {
                open.is_kept = true;
            }
            return;
        };
        let Some(mut open) = self.transaction.take() else { return };
        open.chunks.extend_from_slice(&incoming.whole);
        if last {
            let whole = std::mem::take(&mut open.chunks);
            self.is_dirty = false;
            return self.conclude_content(open, mail, incoming.answered, &whole, true, scene);
        }
        let code = match incoming.answered {
            Some(code) => {
                self.leave_behind(code, scene);
                Some(code)
            }
            None => self.answer(scene, Step::Content, 250, (Some(mail), None)),
        };
        match code {
            Some(200..=299) => self.transaction = Some(open),
            _ if scene.chance(scene.odds.keeps) => {
                self.transaction = Some(Transaction { is_kept: true, ..open });
            }
            _ => {}
        }
    }

    /// Whether it has said that it stores a content that is still arriving.
    pub fn has_promised(&self) -> bool {
        self.incoming.as_ref().is_some_and(|incoming| incoming.answered.is_some_and(|code| code / 100 == 2))
    }
}
