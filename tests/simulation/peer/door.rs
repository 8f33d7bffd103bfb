//! How the scripted server lets a client in: TLS, STARTTLS and AUTH. Whoever
//! speaks in the clear where TLS is demanded, or says a secret where it may
//! not be heard, has failed the run.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use smtp_bulk::{Security, Step};

use super::super::accounts::{Dialogue, MECHANISMS, Next};
use super::super::faults::{self, Scene};
use super::{Offers, Part, Peer, Stage};

impl Peer {
    /// Whether it waits for a TLS handshake.
    pub fn is_shaking(&self) -> bool {
        self.stage == Stage::Shaking
    }

    /// The handshake is done.
    pub fn secured(&mut self, scene: &mut Scene<'_>) {
        assert!(self.is_shaking(), "a handshake unasked");
        self.has_tls = true;
        self.offers.clear();
        self.offered = Offers::default();
        if is_implicit(scene.security) {
            self.greet_client(scene);
        } else {
            self.stage = Stage::Hello;
        }
    }

    /// A server that waits for TLS first, or speaks at once all the same.
    pub(super) fn await_client(&mut self, scene: &mut Scene<'_>) {
        if scene.chance(scene.odds.plain) {
            let at = scene.now + scene.delay();
            self.push(at, Part::Noise(b"220 plain\r\n".to_vec()), false);
            self.stage = Stage::Gone;
        } else {
            self.stage = Stage::Shaking;
        }
    }

    /// What the answer to EHLO says about all this.
    pub(super) fn draw_offers(&mut self, scene: &mut Scene<'_>) {
        self.has_tried_tls = false;
        if !scene.logins.is_guarded {
            return;
        }
        let upgrades = upgrades(scene.security);
        let is_stripped = if upgrades { scene.chance(scene.odds.strip) } else { scene.random.u8(0..4) > 0 };
        // A server that offers it twice has to be left alone with it.
        if !is_stripped && (!self.has_tls || scene.random.u8(0..4) == 0) {
            self.offers.push("STARTTLS".into());
        }
        let is_early = demands(scene.security) && !self.has_tls;
        let names = if is_early || scene.chance(scene.odds.no_mechanism) {
            let few = MECHANISMS.into_iter().filter(|_| scene.random.bool());
            few.chain(["GSSAPI"]).collect()
        } else {
            MECHANISMS.to_vec()
        };
        if !is_early || scene.random.bool() {
            let separator = if scene.random.u8(0..4) == 0 { "=" } else { " " };
            self.offers.push(format!("AUTH{separator}{}", names.join(" ")));
        }
    }

    fn is_offered(&self, mechanism: &str) -> bool {
        let mut lists = self.offers.iter().filter_map(|offer| offer.strip_prefix("AUTH"));
        lists.any(|list| list.split([' ', '=']).any(|name| name == mechanism))
    }

    pub(super) fn starttls(&mut self, scene: &mut Scene<'_>) {
        assert!(self.stage == Stage::Open && !self.has_tls, "STARTTLS while {:?}", self.stage);
        assert!(self.transaction.is_none() && !self.is_authenticated, "STARTTLS too late");
        assert!(upgrades(scene.security), "STARTTLS, and nobody wants it");
        assert!(self.offers.iter().any(|offer| offer == "STARTTLS"), "STARTTLS, and nobody offers it");
        self.has_tried_tls = true;
        if let Some(200..=299) = self.answer(scene, Step::StartTls, 220, (None, None)) {
            self.stage = Stage::Shaking;
            if scene.chance(scene.odds.inject) {
                let at = self.outbox.last().map_or(scene.now, |last| last.at);
                let later = if scene.random.bool() { at } else { at + scene.delay() };
                let injected: [&[u8]; 4] =
                    [b"250 injected\r\n", b"250-mx\r\n250 AUTH PLAIN LOGIN\r\n", b"2", b"\x16\x03\x01"];
                let octets = injected[scene.random.usize(0..injected.len())].to_vec();
                self.push(later, Part::Noise(octets), true);
            }
        }
    }

    /// What may only be said when all doors are passed.
    pub(super) fn check_entry(&self, scene: &Scene<'_>) {
        assert!(self.stage == Stage::Open, "MAIL while {:?}", self.stage);
        assert!(self.has_tls || !demands(scene.security), "MAIL in the clear");
        let is_offered = self.offers.iter().any(|offer| offer == "STARTTLS");
        let is_passed_over = upgrades(scene.security) && is_offered && !self.has_tls && !self.has_tried_tls;
        assert!(!is_passed_over, "MAIL in the clear, and STARTTLS was not tried");
        let is_late = self.is_orphan || self.early.is_some();
        let may_send = is_late || scene.logins.may_send(self.lane, self.connection);
        assert!(self.is_authenticated || may_send, "MAIL on lane {} without AUTH", self.lane);
    }

    // ---- AUTH -------------------------------------------------------------

    pub(super) fn auth(&mut self, rest: &str, scene: &mut Scene<'_>) {
        let (name, initial) = rest.split_once(' ').map_or((rest, None), |(name, rest)| (name, Some(rest)));
        assert!(self.stage == Stage::Open, "AUTH while {:?}", self.stage);
        assert!(self.has_tls || !demands(scene.security), "AUTH in the clear");
        assert!(!self.is_authenticated, "AUTH twice");
        assert!(self.transaction.is_none(), "AUTH within a transaction");
        assert!(self.is_offered(name), "AUTH {name}, which is not offered: {:?}", self.offers);
        // What was answered before it had arrived may be of yesterday.
        if !self.is_orphan && self.early.is_none() {
            scene.logins.named(self.lane, self.connection, name, self.has_tls);
        }
        self.dialogue = Some(Dialogue::new(name));
        self.heard = initial.unwrap_or_default().to_owned();
        let initial = initial.map(|initial| if initial == "=" { Vec::new() } else { decoded(initial) });
        self.converse(initial.as_deref(), scene);
    }

    /// A line that is no command.
    pub(super) fn auth_line(&mut self, line: &str, scene: &mut Scene<'_>) {
        self.heard = line.to_owned();
        let Some(dialogue) = &mut self.dialogue else { panic!("a response to nothing") };
        assert!(!dialogue.is_cancelled, "a dialogue that was taken back goes on");
        if line == "*" {
            dialogue.is_cancelled = true;
            self.challenge = None;
            let hoped = if scene.random.bool() { 501 } else { 535 };
            return self.conclude(hoped, scene);
        }
        self.responses += 1;
        assert!(self.responses <= 10, "the client answers for ever");
        self.converse(Some(&decoded(line)), scene);
    }

    fn converse(&mut self, said: Option<&[u8]>, scene: &mut Scene<'_>) {
        let Some(dialogue) = &mut self.dialogue else { return };
        let next = dialogue.hear(said, &scene.logins.accounts, scene.now, scene.random);
        if let Some(account) = dialogue.account.filter(|_| !self.is_orphan && self.early.is_none()) {
            scene.logins.shown(self.lane, self.connection, account);
        }
        let hoped = match next {
            Next::Ask(challenge) => {
                self.challenge = Some(challenge);
                334
            }
            Next::Verdict(true) => 235,
            Next::Verdict(false) => 535,
        };
        self.conclude(hoped, scene);
    }

    fn conclude(&mut self, hoped: u16, scene: &mut Scene<'_>) {
        self.stage = match self.answer(scene, Step::Auth, hoped, (None, None)) {
            Some(334) => {
                if let Some(dialogue) = &mut self.dialogue {
                    dialogue.is_lost |= hoped != 334;
                }
                Stage::Login
            }
            Some(200..=299) => {
                self.is_authenticated = true;
                Stage::Open
            }
            Some(400..=599) => Stage::Open,
            _ => Stage::Gone,
        };
        if self.stage != Stage::Login {
            (self.dialogue, self.responses) = (None, 0);
        }
    }

    /// The octets of a reply to AUTH: a challenge, fit or not, or a refusal
    /// that may repeat what was heard.
    pub(super) fn auth_reply(&mut self, scene: &mut Scene<'_>, code: u16, serial: usize) -> Vec<u8> {
        if code == 334 {
            let unfit = || [&b"334 #?\r\n"[..], b"334 \r\n", b"334 c3RlcCA5\r\n", b"334-\r\n334 eHg\r\n"];
            return match self.challenge.take() {
                Some(challenge) => format!("334 {}\r\n", BASE64.encode(challenge)).into_bytes(),
                None => unfit()[scene.random.usize(0..unfit().len())].to_vec(),
            };
        }
        self.challenge = None;
        if code >= 400 && scene.chance(scene.odds.echo) {
            scene.logins.echo(&self.heard);
            return format!("{code} what is {}? #{serial}\r\n", self.heard).into_bytes();
        }
        faults::reply(scene.random, code, serial)
    }
}

fn decoded(line: &str) -> Vec<u8> {
    BASE64.decode(line).unwrap_or_else(|_| panic!("no response in base64: {line:?}"))
}

pub fn is_implicit(security: Security) -> bool {
    matches!(security, Security::Implicit | Security::ImplicitUnverified)
}

fn upgrades(security: Security) -> bool {
    security != Security::None && !is_implicit(security)
}

/// Whether nothing but EHLO and STARTTLS may be said in the clear.
fn demands(security: Security) -> bool {
    is_implicit(security) || matches!(security, Security::StartTls | Security::StartTlsUnverified)
}
