//! What a line of the tables is made of: the event, how a server brings it about, and
//! what is known of the exchange, from which the rules say what every verdict comes to.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use smtp_bulk::host::Pipeline;
use smtp_bulk::{Credentials, EventKind, Security, Step};

use EventKind as K;

use crate::script::Does;

/// What the server does to bring an event about.
#[derive(Clone, Copy, Debug)]
pub enum Peer {
    Say(&'static str),
    Close,
    Silence,
    Refuse,
    /// Nothing unusual.
    Friendly,
}

impl Peer {
    pub fn does(self) -> Option<Does> {
        Some(match self {
            Peer::Say(text) => Does::Say(text),
            Peer::Close => Does::Close,
            Peer::Silence => Does::Hang,
            Peer::Refuse => Does::Refuse,
            Peer::Friendly => return None,
        })
    }
}

/// Which state a lane has to be in for the event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scene {
    /// Its first opening.
    First,
    /// A later opening.
    Later,
    /// It holds a mail to one recipient.
    Mail,
    /// It holds a mail to two.
    Two,
    /// It holds a mail to two that is all or nothing.
    AllOrNothing,
    /// The mail that it held before was refused.
    Behind,
    /// It holds a mail, and its connection was lost before.
    Dead,
    /// It rests, and its connection is lost.
    Resting,
    /// It rests, and has been quiet for so long that it says NOOP.
    Quiet,
    /// It holds a mail that needs SMTPUTF8.
    Utf8,
    /// Its content cannot be opened.
    Unreadable,
    /// Its content cannot be opened for want of descriptors.
    Short,
    /// Its content ends too early.
    Broken,
    /// It holds a mail to three.
    Three,
}

/// What the host asks for beyond a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Guard {
    Nothing,
    Implicit,
    StartTls,
    Password,
    /// A password, in whose place another comes while its refusal is on the
    /// way.
    ChangingPassword,
    /// A token, whose source has none at first.
    NoToken,
    /// A token, whose source has no second one at first.
    NoSecondToken,
}

impl Guard {
    pub fn security(self) -> Security {
        match self {
            Guard::Implicit => Security::Implicit,
            Guard::StartTls => Security::StartTls,
            _ => Security::None,
        }
    }

    pub fn credentials(self) -> Option<Credentials> {
        let credentials = match self {
            Guard::Nothing | Guard::Implicit | Guard::StartTls => return None,
            Guard::Password | Guard::ChangingPassword => Credentials::password("tim", "secret"),
            Guard::NoToken => credentials_without_token(1),
            Guard::NoSecondToken => credentials_without_token(2),
        };
        Some(credentials.allow_without_tls())
    }
}

/// Credentials whose source fails when it is asked for this token, and gives
/// all others.
fn credentials_without_token(missing: u32) -> Credentials {
    let asked = AtomicU32::new(0);
    Credentials::oauth_from("tim", move || match asked.fetch_add(1, Relaxed) + 1 {
        number if number == missing => Err("the vault is shut".into()),
        number => Ok(format!("token{number}").into()),
    })
}

/// How the lane in question speaks to its server, and how many mails it is dealt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// Level 0: one command at a time.
    Single,
    /// Level 1: the envelope and DATA, then the content; two mails, one after the other.
    Envelope,
    /// Level 2 without CHUNKING: the first mail's content with the second's envelope.
    Overlap,
    /// Level 2 with CHUNKING: three mails in one flight.
    Whole,
    /// LMTP, at each level: one mail, to three recipients.
    Lmtp,
}

/// One server to which a way is spoken, and the settings that it takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setting {
    pub level: Pipeline,
    /// What the server answers to EHLO or LHLO; the usual where it is `None`.
    pub offers: Option<&'static str>,
    pub depth: u32,
    pub is_lmtp: bool,
}

const DOTS: Option<&str> = Some("250-mx.example\r\n250 PIPELINING\r\n");
const CHUNKS: Option<&str> = Some("250-mx.example\r\n250-PIPELINING\r\n250 CHUNKING\r\n");

const fn smtp(level: Pipeline, offers: Option<&'static str>, depth: u32) -> Setting {
    Setting { level, offers, depth, is_lmtp: false }
}

const fn lmtp(level: Pipeline, offers: Option<&'static str>, depth: u32) -> Setting {
    Setting { level, offers, depth, is_lmtp: true }
}

impl Setting {
    pub fn is_smtp(&self) -> bool {
        !self.is_lmtp
    }

    /// Whether the content goes out by BDAT.
    pub fn is_chunked(&self) -> bool {
        self.level == Pipeline::Full && self.offers == CHUNKS
    }

    pub fn is_dotted(&self) -> bool {
        !self.is_chunked()
    }

    /// Whether DATA is said before the recipients are answered.
    pub fn asks_early(&self) -> bool {
        self.level != Pipeline::Single && self.is_dotted()
    }

    pub fn any(&self) -> bool {
        true
    }
}

impl Way {
    /// LMTP comes to the same as SMTP where a mail has one recipient.
    pub fn settings(self) -> &'static [Setting] {
        use Pipeline as P;
        match self {
            Way::Single => const { &[smtp(P::Single, None, 1), lmtp(P::Single, None, 1)] },
            Way::Envelope => const { &[smtp(P::Envelope, DOTS, 2), lmtp(P::Envelope, DOTS, 2)] },
            Way::Overlap => const { &[smtp(P::Full, DOTS, 1), lmtp(P::Full, DOTS, 1)] },
            Way::Whole => const { &[smtp(P::Full, CHUNKS, 3), lmtp(P::Full, CHUNKS, 3)] },
            Way::Lmtp => {
                const {
                    &[
                        lmtp(P::Single, None, 1),
                        lmtp(P::Envelope, DOTS, 1),
                        lmtp(P::Full, DOTS, 1),
                        lmtp(P::Full, CHUNKS, 1),
                    ]
                }
            }
        }
    }

    /// Mails that the lane holds when the event happens.
    pub fn mails(self) -> usize {
        match self {
            Way::Single | Way::Lmtp => 1,
            Way::Envelope | Way::Overlap => 2,
            Way::Whole => 3,
        }
    }
}

/// The connection after the event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    /// It can be used further.
    Fit,
    /// It can, but the event's default is to replace it.
    Doubtful,
    /// Its server waits for a content that nobody would get: it can, after a lone dot.
    AtContent,
    /// It can only be closed.
    Unfit,
    /// It was never made.
    None,
}

/// What becomes of a mail, or of one of its recipients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// There is none.
    None,
    GoesOn,
    /// The mail does, without the recipient that was refused.
    GoesOnWithout,
    Delivered,
    InDoubt,
    Refused,
    /// Put back, and an attempt was counted.
    Again,
    /// Put back, and none was.
    Free,
    Dropped,
}

impl Fate {
    pub fn cell(self) -> &'static str {
        match self {
            Fate::None => "",
            Fate::GoesOn => "goes on",
            Fate::GoesOnWithout => "goes on without",
            Fate::Delivered => "delivered",
            Fate::InDoubt => "in doubt",
            Fate::Refused => "refused",
            Fate::Again => "again",
            Fate::Free => "again, free",
            Fate::Dropped => "dropped",
        }
    }

    pub fn of_outcome(name: &str) -> Fate {
        match name {
            "delivered" => Fate::Delivered,
            "in_doubt" => Fate::InDoubt,
            "refused" => Fate::Refused,
            "dropped" => Fate::Dropped,
            other => panic!("{other} is not looked for"),
        }
    }

    /// Whether a verdict that gives up the transaction changes it.
    pub fn goes_on(self) -> bool {
        matches!(self, Fate::GoesOn | Fate::GoesOnWithout)
    }
}

/// What a server that has refused says to what stands behind in the same flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Then {
    /// 503 behind a refused MAIL or RSET, 554 to a content that nobody would get.
    Refuses,
    /// The same, but DATA it answers by 354.
    GoesAhead,
    /// It takes it as if nothing had happened.
    Takes,
}

/// A line of the tables.
pub struct Row {
    pub way: Way,
    pub kind: K,
    pub step: Step,
    /// What stands in the table behind the step.
    pub about: &'static str,
    pub scene: Scene,
    /// What the server is asked when it does it; "between" the mail before and this
    /// one.
    pub asked: &'static str,
    /// Each of these brings the same about.
    pub peers: &'static [Peer],
    /// So does each of these.
    pub guards: &'static [Guard],
    /// The way's settings that it is about.
    pub is_for: fn(&Setting) -> bool,
    pub then: Then,
    pub link: Link,
    /// Behind a refusal the connection is given up, which is told as a `hang` of its own.
    pub is_cut_off: bool,
    /// Which of the lane's mails it is about, from 0.
    pub place: usize,
    /// What becomes by itself of the mail; of its recipient, where the event names
    /// one.
    pub it: Fate,
    /// What becomes of it when a verdict gives up the transaction that goes on.
    pub given_up: Fate,
    /// The same of the mail's other recipients.
    pub others: Fate,
    /// The same of the lane's mails before and behind this one. A mail goes on behind
    /// it where the lane does. Of one mail alone, those of its recipients.
    pub before: Fate,
    pub behind: Fate,
}

impl Row {
    pub const fn new(way: Way, kind: K, step: Step, about: &'static str, scene: Scene) -> Row {
        Row {
            way,
            kind,
            step,
            about,
            scene,
            asked: "",
            peers: &[Peer::Friendly],
            guards: &[Guard::Nothing],
            is_for: Setting::any,
            then: Then::Refuses,
            link: Link::Fit,
            is_cut_off: false,
            place: 0,
            it: Fate::None,
            given_up: Fate::Again,
            others: Fate::None,
            before: Fate::None,
            behind: Fate::None,
        }
    }

    pub const fn when(self, asked: &'static str, peers: &'static [Peer], link: Link) -> Row {
        Row { asked, peers, link, ..self }
    }

    pub const fn leaves(self, link: Link) -> Row {
        Row { link, ..self }
    }

    pub const fn guarded(self, guards: &'static [Guard]) -> Row {
        Row { guards, ..self }
    }

    pub const fn only(self, is_for: fn(&Setting) -> bool) -> Row {
        Row { is_for, ..self }
    }

    pub const fn then(self, then: Then) -> Row {
        Row { then, ..self }
    }

    pub const fn cut_off(self) -> Row {
        Row { is_cut_off: true, ..self }
    }

    pub const fn at(self, place: usize) -> Row {
        Row { place, ..self }
    }

    /// What becomes of the mail, and of all of its recipients.
    pub const fn ends(self, it: Fate) -> Row {
        Row { it, others: if self.has_others() { it } else { Fate::None }, ..self }
    }

    /// What becomes of the recipient, and what of it when the transaction is given up.
    pub const fn ends_for_one(self, it: Fate, given_up: Fate, others: Fate) -> Row {
        Row { it, given_up, others, ..self }
    }

    /// What becomes of those before it and of those behind it.
    pub const fn amid(self, before: Fate, behind: Fate) -> Row {
        Row { before, behind, ..self }
    }

    const fn has_others(&self) -> bool {
        matches!(self.scene, Scene::Two | Scene::AllOrNothing)
    }

    pub fn has_mail(&self) -> bool {
        !matches!(self.scene, Scene::First | Scene::Later | Scene::Resting | Scene::Quiet)
    }

    pub fn settings(&self) -> impl Iterator<Item = Setting> {
        let is_without = !self.has_mail();
        let all = self.way.settings().iter().copied();
        all.filter(move |setting| (self.is_for)(setting) && !(is_without && setting.is_lmtp))
    }

    pub fn label(&self) -> String {
        let step = match self.kind {
            K::Pass | K::Fail | K::Hang => format!(" {}", self.step),
            _ => String::new(),
        };
        let about = if self.about.is_empty() { String::new() } else { format!(", {}", self.about) };
        format!("`{}`{step}{about}", self.kind)
    }
}
