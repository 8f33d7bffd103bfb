//! What servers do, and what hosts ask for, so that events come about.

use crate::rows::{Guard, Peer};

pub const OPENING_FAILS: &[Peer] = &[Peer::Refuse];
pub const TURNED_AWAY: &[Peer] =
    &[Peer::Say("554 no\r\n"), Peer::Say("421 no\r\n"), Peer::Say("huh\r\n"), Peer::Close];
pub const DEFERS: &[Peer] = &[Peer::Say("450 later\r\n"), Peer::Say("451 later\r\n")];
pub const REFUSES: &[Peer] = &[Peer::Say("550 no\r\n"), Peer::Say("554 no\r\n")];
pub const ALL_4: &[Peer] =
    &[Peer::Say("450 later\r\n"), Peer::Say("452 later\r\n"), Peer::Say("432 later\r\n")];
pub const ALL_5: &[Peer] = &[Peer::Say("500 no\r\n"), Peer::Say("503 no\r\n"), Peer::Say("554 no\r\n")];
pub const CLOSING: &[Peer] = &[Peer::Say("421 closing\r\n")];
pub const CONFUSED: &[Peer] = &[
    Peer::Say("500 what\r\n"),
    Peer::Say("502 what\r\n"),
    Peer::Say("503 what\r\n"),
    Peer::Say("530 what\r\n"),
    Peer::Say("538 what\r\n"),
];
pub const TOO_MANY: &[Peer] =
    &[Peer::Say("452 enough\r\n"), Peer::Say("552 x\r\n"), Peer::Say("550 5.5.3 x\r\n")];
pub const GONE: &[Peer] = &[Peer::Close, Peer::Silence, Peer::Say("huh\r\n"), Peer::Say("399 x\r\n")];
/// What is no answer to NOOP that a session could go on with.
pub const NOT_THERE: &[Peer] = &[
    Peer::Say("421 closing\r\n"),
    Peer::Say("450 later\r\n"),
    Peer::Say("500 what\r\n"),
    Peer::Say("250 ok\r\n421 closing\r\n"),
    Peer::Close,
    Peer::Silence,
    Peer::Say("huh\r\n"),
    Peer::Say("399 x\r\n"),
];
pub const SURPLUS: &[Peer] = &[Peer::Say("250 queued\r\n421 closing\r\n"), Peer::Say("250 queued\r\n2")];
pub const CUT: &[Peer] = &[Peer::Close, Peer::Say("huh\r\n"), Peer::Say("250 early\r\n")];

pub const UNPROTECTED: &[Peer] = &[Peer::Refuse, Peer::Close, Peer::Silence];
pub const NO_UPGRADE: &[Peer] = &[
    Peer::Say("454 4.7.0 later\r\n"),
    Peer::Say("502 what\r\n"),
    Peer::Say("huh\r\n"),
    Peer::Close,
    Peer::Silence,
];
pub const NO_OFFER: &[Peer] =
    &[Peer::Say("250 mx.example\r\n"), Peer::Say("250-mx.example\r\n250 AUTH PLAIN\r\n")];
pub const NO_LOGIN: &[Peer] = &[
    Peer::Say("454 4.7.0 later\r\n"),
    Peer::Say("421 4.7.0 closing\r\n"),
    Peer::Say("235 welcome\r\n250 ok\r\n"),
    Peer::Say("huh\r\n"),
    Peer::Close,
    Peer::Silence,
];
pub const WRONG_PASSWORD: &[Peer] = &[
    Peer::Say("535 5.7.8 no\r\n"),
    Peer::Say("530 5.7.0 no\r\n"),
    Peer::Say("534 5.7.9 too weak\r\n"),
    Peer::Say("501 5.5.2 what\r\n"),
];
/// What is not about the session.
pub const WRONG_TOKEN: &[Peer] = &[Peer::Say("535 5.7.8 no\r\n"), Peer::Say("534 5.7.9 too weak\r\n")];
pub const FOREIGN: &[Peer] =
    &[Peer::Say("250-mx.example\r\n250 AUTH GSSAPI NTLM\r\n"), Peer::Say("250 mx.example\r\n")];
pub const BAD_CHALLENGE: &[Peer] = &[Peer::Say("334 !!!\r\n"), Peer::Say("334 cGFyZG9uPw==\r\n")];

/// What is no reply, or none at all.
pub const LOST: &[Peer] = &[Peer::Close, Peer::Silence, Peer::Say("huh\r\n")];
/// What is a reply, but to something else.
pub const WRONG: &[Peer] = &[Peer::Say("399 x\r\n")];
pub const WRONG_GO_AHEAD: &[Peer] = &[Peer::Say("399 x\r\n"), Peer::Say("250 ok\r\n")];
pub const ONE_MORE: &[Peer] = &[Peer::Say("250 queued\r\n250 and more\r\n")];
pub const ONE_MORE_GO_AHEAD: &[Peer] = &[Peer::Say("354 go on\r\n250 and more\r\n")];
pub const BREAKS_OFF: &[Peer] = &[Peer::Close, Peer::Silence];
pub const NO_BDAT: &[Peer] = &[Peer::Say("500 what\r\n"), Peer::Say("502 what\r\n")];
pub const NO_BDAT_NOW: &[Peer] =
    &[Peer::Say("503 what\r\n"), Peer::Say("530 what\r\n"), Peer::Say("538 what\r\n")];

pub const OPENING_GUARDS: &[Guard] = &[Guard::Nothing, Guard::StartTls, Guard::Implicit, Guard::Password];
pub const TLS: &[Guard] = &[Guard::StartTls, Guard::Implicit];
pub const UPGRADE: &[Guard] = &[Guard::StartTls];
pub const PASSWORD: &[Guard] = &[Guard::Password];
pub const CHANGING: &[Guard] = &[Guard::ChangingPassword];
pub const NO_TOKEN: &[Guard] = &[Guard::NoToken];
pub const NO_SECOND_TOKEN: &[Guard] = &[Guard::NoSecondToken];

/// What the server blames on the session.
pub const SESSION_BLAME: &str = "500 502 503 530 538";

/// The client lacks the means.
pub const SHORTAGE: &str = "short of descriptors";
