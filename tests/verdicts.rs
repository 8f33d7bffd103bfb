//! The total matrix of `docs/VERDICTS.md`: every event with every code and
//! every message verdict, inside a batch and outside, played against scripted
//! servers. The tables in the document are compared with what was seen, so
//! that neither can change without the other:
//! `VERDICTS=write cargo test --test verdicts` writes them anew.

extern crate smtp_bulk;

#[path = "../src/coordinator/tests/script.rs"]
mod script;

use std::cell::Cell;
use std::fmt::Write;
use std::io::{Error, Read};
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use script::{Asked, Does, Script, lane, mail, mail_to};
use smtp_bulk::coordinator::{BatchSettings, Standing};
use smtp_bulk::{
    Content, Credentials, EventKind, Failure, LaneId, Message, MessageVerdict, Security, SessionVerdict,
    Step, Verdict,
};

use EventKind as K;

const CODES: [u16; 7] = [1, 101, 102, 103, 104, 202, 203];

const VERDICTS: [MessageVerdict; 3] =
    [MessageVerdict::Default, MessageVerdict::Requeue, MessageVerdict::Drop];

/// The number of "too many open files", the same on every Unix.
const EMFILE: i32 = 24;

/// The lane that the event happens on.
const HERE: LaneId = LaneId { host: 1, thread: 0 };

/// The lane that keeps the batch running.
const THERE: LaneId = LaneId { host: 0, thread: 0 };

/// The mail that the event is about, and the one that keeps the batch running.
const THIS: u64 = 1;
const OTHER: u64 = 2;

// ---- rows -------------------------------------------------------------------

/// What the server does to bring an event about.
#[derive(Clone, Copy, Debug)]
enum Peer {
    Say(&'static str),
    Close,
    Silence,
    Refuse,
    /// Nothing unusual.
    Friendly,
}

impl Peer {
    fn does(self) -> Option<Does> {
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
enum Scene {
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
    /// It holds a mail that needs SMTPUTF8.
    Utf8,
    /// Its content cannot be opened.
    Unreadable,
    /// Its content cannot be opened for want of descriptors.
    Short,
    /// Its content ends too early.
    Broken,
}

/// What the host asks for beyond a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Guard {
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
    fn security(self) -> Security {
        match self {
            Guard::Implicit => Security::Implicit,
            Guard::StartTls => Security::StartTls,
            _ => Security::None,
        }
    }

    fn credentials(self) -> Option<Credentials> {
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

/// The connection after the event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Link {
    /// It can be used further.
    Fit,
    /// It can, but the event's default is to replace it.
    Doubtful,
    /// It can only be closed.
    Unfit,
    /// It was never made.
    None,
}

struct Row {
    kind: K,
    step: Step,
    /// What stands in the table behind the step.
    about: &'static str,
    scene: Scene,
    /// What the server is asked when it does it.
    asked: &'static str,
    /// Each of these brings the same about.
    peers: &'static [Peer],
    /// So does each of these.
    guards: &'static [Guard],
    link: Link,
}

const fn row(kind: K, step: Step, about: &'static str, scene: Scene) -> Row {
    let (peers, guards) = (&[Peer::Friendly], &[Guard::Nothing]);
    Row { kind, step, about, scene, asked: "", peers, guards, link: Link::Fit }
}

impl Row {
    const fn when(self, asked: &'static str, peers: &'static [Peer], link: Link) -> Row {
        Row { asked, peers, link, ..self }
    }

    const fn leaves(self, link: Link) -> Row {
        Row { link, ..self }
    }

    const fn guarded(self, guards: &'static [Guard]) -> Row {
        Row { guards, ..self }
    }

    fn has_mail(&self) -> bool {
        !matches!(self.scene, Scene::First | Scene::Later | Scene::Resting)
    }

    fn label(&self) -> String {
        let step = match self.kind {
            K::Pass | K::Fail | K::Hang => format!(" {}", self.step),
            _ => String::new(),
        };
        let about = if self.about.is_empty() { String::new() } else { format!(", {}", self.about) };
        format!("`{}`{step}{about}", self.kind)
    }
}

const OPENING_FAILS: &[Peer] = &[Peer::Refuse];
const TURNED_AWAY: &[Peer] =
    &[Peer::Say("554 no\r\n"), Peer::Say("421 no\r\n"), Peer::Say("huh\r\n"), Peer::Close];
const DEFERS: &[Peer] = &[Peer::Say("450 later\r\n"), Peer::Say("451 later\r\n")];
const REFUSES: &[Peer] = &[Peer::Say("550 no\r\n"), Peer::Say("554 no\r\n")];
const ALL_4: &[Peer] = &[Peer::Say("450 later\r\n"), Peer::Say("452 later\r\n"), Peer::Say("432 later\r\n")];
const ALL_5: &[Peer] = &[Peer::Say("500 no\r\n"), Peer::Say("503 no\r\n"), Peer::Say("554 no\r\n")];
const CLOSING: &[Peer] = &[Peer::Say("421 closing\r\n")];
const CONFUSED: &[Peer] = &[
    Peer::Say("500 what\r\n"),
    Peer::Say("502 what\r\n"),
    Peer::Say("503 what\r\n"),
    Peer::Say("530 what\r\n"),
    Peer::Say("538 what\r\n"),
];
const TOO_MANY: &[Peer] =
    &[Peer::Say("452 enough\r\n"), Peer::Say("552 x\r\n"), Peer::Say("550 5.5.3 x\r\n")];
const GONE: &[Peer] = &[Peer::Close, Peer::Silence, Peer::Say("huh\r\n"), Peer::Say("399 x\r\n")];
const SURPLUS: &[Peer] = &[Peer::Say("250 queued\r\n421 closing\r\n"), Peer::Say("250 queued\r\n2")];
const CUT: &[Peer] = &[Peer::Close, Peer::Say("huh\r\n"), Peer::Say("250 early\r\n")];

const UNPROTECTED: &[Peer] = &[Peer::Refuse, Peer::Close, Peer::Silence];
const NO_UPGRADE: &[Peer] = &[
    Peer::Say("454 4.7.0 later\r\n"),
    Peer::Say("502 what\r\n"),
    Peer::Say("huh\r\n"),
    Peer::Close,
    Peer::Silence,
];
const NO_OFFER: &[Peer] =
    &[Peer::Say("250 mx.example\r\n"), Peer::Say("250-mx.example\r\n250 AUTH PLAIN\r\n")];
const NO_LOGIN: &[Peer] = &[
    Peer::Say("454 4.7.0 later\r\n"),
    Peer::Say("421 4.7.0 closing\r\n"),
    Peer::Say("235 welcome\r\n250 ok\r\n"),
    Peer::Say("huh\r\n"),
    Peer::Close,
    Peer::Silence,
];
const WRONG_PASSWORD: &[Peer] = &[
    Peer::Say("535 5.7.8 no\r\n"),
    Peer::Say("530 5.7.0 no\r\n"),
    Peer::Say("534 5.7.9 too weak\r\n"),
    Peer::Say("501 5.5.2 what\r\n"),
];
/// What is not about the session.
const WRONG_TOKEN: &[Peer] = &[Peer::Say("535 5.7.8 no\r\n"), Peer::Say("534 5.7.9 too weak\r\n")];
const FOREIGN: &[Peer] =
    &[Peer::Say("250-mx.example\r\n250 AUTH GSSAPI NTLM\r\n"), Peer::Say("250 mx.example\r\n")];
const BAD_CHALLENGE: &[Peer] = &[Peer::Say("334 !!!\r\n"), Peer::Say("334 cGFyZG9uPw==\r\n")];

const OPENING_GUARDS: &[Guard] = &[Guard::Nothing, Guard::StartTls, Guard::Implicit, Guard::Password];
const TLS: &[Guard] = &[Guard::StartTls, Guard::Implicit];
const UPGRADE: &[Guard] = &[Guard::StartTls];
const PASSWORD: &[Guard] = &[Guard::Password];
const CHANGING: &[Guard] = &[Guard::ChangingPassword];
const NO_TOKEN: &[Guard] = &[Guard::NoToken];
const NO_SECOND_TOKEN: &[Guard] = &[Guard::NoSecondToken];

const SESSION_BLAME: &str = "500 502 503 530 538";

const ROWS: &[Row] = &[
    row(K::ConnectPass, Step::Ehlo, "", Scene::First).guarded(OPENING_GUARDS),
    row(K::ConnectFail, Step::Connect, "no connection", Scene::First).when(
        "connect",
        OPENING_FAILS,
        Link::None,
    ),
    row(K::ConnectFail, Step::Greeting, "no session", Scene::First).when("greeting", TURNED_AWAY, Link::None),
    row(K::ConnectFail, Step::StartTls, "STARTTLS not offered", Scene::First)
        .when("EHLO", NO_OFFER, Link::None)
        .guarded(UPGRADE),
    row(K::ConnectFail, Step::StartTls, "no STARTTLS", Scene::First)
        .when("STARTTLS", NO_UPGRADE, Link::None)
        .guarded(UPGRADE),
    row(K::ConnectFail, Step::Tls, "no TLS", Scene::First).when("TLS", UNPROTECTED, Link::None).guarded(TLS),
    row(K::ConnectFail, Step::Auth, "AUTH 4yz, lost or late", Scene::First)
        .when("AUTH", NO_LOGIN, Link::None)
        .guarded(PASSWORD),
    row(K::ConnectFail, Step::Auth, "no token", Scene::First).leaves(Link::None).guarded(NO_TOKEN),
    row(K::AuthPass, Step::Auth, "", Scene::First).guarded(PASSWORD),
    row(K::AuthFail, Step::Auth, "5yz", Scene::First)
        .when("AUTH", WRONG_PASSWORD, Link::Fit)
        .guarded(PASSWORD),
    row(K::AuthFail, Step::Auth, "no mechanism in common", Scene::First)
        .when("EHLO", FOREIGN, Link::Unfit)
        .guarded(PASSWORD),
    row(K::AuthFail, Step::Auth, "given up by the client", Scene::First)
        .when("AUTH", BAD_CHALLENGE, Link::Unfit)
        .guarded(PASSWORD),
    row(K::AuthFail, Step::Auth, "changed meanwhile", Scene::First)
        .when("AUTH", WRONG_PASSWORD, Link::Fit)
        .guarded(CHANGING),
    row(K::AuthFail, Step::Auth, "given up, changed meanwhile", Scene::First)
        .when("AUTH", BAD_CHALLENGE, Link::Unfit)
        .guarded(CHANGING),
    row(K::ReconnectPass, Step::Ehlo, "", Scene::Later).guarded(OPENING_GUARDS),
    row(K::ReconnectFail, Step::Connect, "no connection", Scene::Later).when(
        "connect",
        OPENING_FAILS,
        Link::None,
    ),
    row(K::ReconnectFail, Step::Greeting, "no session", Scene::Later).when(
        "greeting",
        TURNED_AWAY,
        Link::None,
    ),
    row(K::ReconnectFail, Step::StartTls, "STARTTLS not offered", Scene::Later)
        .when("EHLO", NO_OFFER, Link::None)
        .guarded(UPGRADE),
    row(K::ReconnectFail, Step::StartTls, "no STARTTLS", Scene::Later)
        .when("STARTTLS", NO_UPGRADE, Link::None)
        .guarded(UPGRADE),
    row(K::ReconnectFail, Step::Tls, "no TLS", Scene::Later)
        .when("TLS", UNPROTECTED, Link::None)
        .guarded(TLS),
    row(K::ReconnectFail, Step::Auth, "AUTH 4yz, lost or late", Scene::Later)
        .when("AUTH", NO_LOGIN, Link::None)
        .guarded(PASSWORD),
    row(K::ReconnectFail, Step::Auth, "no token", Scene::Later)
        .when("AUTH", WRONG_TOKEN, Link::None)
        .guarded(NO_SECOND_TOKEN),
    row(K::Pass, Step::Mail, "", Scene::Mail),
    row(K::Pass, Step::Rcpt, "", Scene::Two),
    row(K::Pass, Step::Data, "", Scene::Mail).leaves(Link::Unfit),
    row(K::Pass, Step::Content, "", Scene::Mail),
    row(K::Fail, Step::Mail, "4yz", Scene::Mail).when("MAIL", ALL_4, Link::Fit),
    row(K::Fail, Step::Mail, "5yz", Scene::Mail).when("MAIL", REFUSES, Link::Fit),
    row(K::Fail, Step::Mail, SESSION_BLAME, Scene::Mail).when("MAIL", CONFUSED, Link::Doubtful),
    row(K::Fail, Step::Mail, "421", Scene::Mail).when("MAIL", CLOSING, Link::Unfit),
    row(K::Fail, Step::Mail, "SMTPUTF8 missing", Scene::Utf8),
    row(K::Fail, Step::Rcpt, "4yz", Scene::Two).when("RCPT", DEFERS, Link::Fit),
    row(K::Fail, Step::Rcpt, "5yz", Scene::Two).when("RCPT", REFUSES, Link::Fit),
    row(K::Fail, Step::Rcpt, "too many", Scene::Two).when("second RCPT", TOO_MANY, Link::Fit),
    row(K::Fail, Step::Rcpt, "all or nothing, 4yz", Scene::AllOrNothing).when("RCPT", DEFERS, Link::Fit),
    row(K::Fail, Step::Rcpt, "all or nothing, 5yz", Scene::AllOrNothing).when("RCPT", REFUSES, Link::Fit),
    row(K::Fail, Step::Rcpt, SESSION_BLAME, Scene::Two).when("RCPT", CONFUSED, Link::Doubtful),
    row(K::Fail, Step::Rcpt, "421", Scene::Two).when("RCPT", CLOSING, Link::Unfit),
    row(K::Fail, Step::Data, "4yz", Scene::Mail).when("DATA", ALL_4, Link::Fit),
    row(K::Fail, Step::Data, "5yz", Scene::Mail).when("DATA", REFUSES, Link::Fit),
    row(K::Fail, Step::Data, SESSION_BLAME, Scene::Mail).when("DATA", CONFUSED, Link::Doubtful),
    row(K::Fail, Step::Data, "421", Scene::Mail).when("DATA", CLOSING, Link::Unfit),
    row(K::Fail, Step::Data, "source does not open", Scene::Unreadable),
    row(K::Fail, Step::Data, "short of descriptors", Scene::Short),
    row(K::Fail, Step::Content, "4yz", Scene::Mail).when("content", ALL_4, Link::Fit),
    row(K::Fail, Step::Content, "5yz", Scene::Mail).when("content", ALL_5, Link::Fit),
    row(K::Fail, Step::Content, "421", Scene::Mail).when("content", CLOSING, Link::Unfit),
    row(K::Fail, Step::Content, "4yz amid it", Scene::Mail).when("mid-content", ALL_4, Link::Unfit),
    row(K::Fail, Step::Content, "5yz amid it", Scene::Mail).when("mid-content", ALL_5, Link::Unfit),
    row(K::Fail, Step::Content, "421 amid it", Scene::Mail).when("mid-content", CLOSING, Link::Unfit),
    row(K::Fail, Step::Content, "source breaks", Scene::Broken).leaves(Link::Unfit),
    row(K::Fail, Step::Rset, "4yz 5yz", Scene::Behind).when("RSET", ALL_5, Link::Doubtful),
    row(K::Fail, Step::Rset, "421", Scene::Behind).when("RSET", CLOSING, Link::Unfit),
    row(K::Hang, Step::Mail, "nothing sent yet", Scene::Dead).leaves(Link::Unfit),
    row(K::Hang, Step::Mail, "", Scene::Mail).when("MAIL", GONE, Link::Unfit),
    row(K::Hang, Step::Rcpt, "", Scene::Two).when("RCPT", GONE, Link::Unfit),
    row(K::Hang, Step::Data, "", Scene::Mail).when("DATA", GONE, Link::Unfit),
    row(K::Hang, Step::Content, "last octet not sent", Scene::Mail).when("mid-content", CUT, Link::Unfit),
    row(K::Hang, Step::Content, "last octet sent", Scene::Mail).when("content", GONE, Link::Unfit),
    row(K::Hang, Step::Content, "behind its reply", Scene::Mail).when("content", SURPLUS, Link::Unfit),
    row(K::Hang, Step::Rset, "", Scene::Behind).when("RSET", GONE, Link::Unfit),
    row(K::Hang, Step::Idle, "", Scene::Resting).leaves(Link::Unfit),
];

// ---- playing a row --------------------------------------------------------------

/// What was seen of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum SessionFate {
    Stays,
    SitsOut,
    Retires,
    Reopens { at_end: bool, waits: bool },
    Restart { at_end: bool, waits: bool },
}

impl SessionFate {
    fn cell(self) -> &'static str {
        match self {
            SessionFate::Stays => "stays",
            SessionFate::SitsOut => "sits out",
            SessionFate::Retires => "retires",
            SessionFate::Reopens { at_end: true, waits: false } => "reopens at end",
            SessionFate::Reopens { at_end: true, waits: true } => "reopens at end, waits",
            SessionFate::Reopens { at_end: false, waits: false } => "reopens now",
            SessionFate::Reopens { at_end: false, waits: true } => "reopens now, waits",
            SessionFate::Restart { at_end: true, waits: false } => "restart at end",
            SessionFate::Restart { at_end: true, waits: true } => "restart at end, waits",
            SessionFate::Restart { at_end: false, waits: false } => "restart now",
            SessionFate::Restart { at_end: false, waits: true } => "restart now, waits",
        }
    }
}

struct Seen {
    session: SessionFate,
    message: &'static str,
}

struct Play<'a> {
    row: &'a Row,
    peer: Peer,
    guard: Guard,
    verdict: Verdict,
    in_batch: bool,
    script: Script,
    fired: Rc<Cell<bool>>,
}

/// Eight recipients, so that the other lane has many steps to go.
fn other_mail() -> Message {
    let to: Vec<String> = (0..8).map(|n| format!("r{n}@example.net")).collect();
    mail_to(OTHER, &to.iter().map(String::as_str).collect::<Vec<_>>())
}

/// A source that fails at the first attempt alone, at its beginning or its end.
fn failing_once(first: fn() -> Result<&'static str, Error>) -> Content {
    let opened = AtomicBool::new(false);
    let open = move || match opened.swap(true, Relaxed) {
        false => first().map(|text| Box::new(text.as_bytes()) as Box<dyn Read + Send>),
        true => Ok(Box::new(&b"as promised\r\n"[..]) as Box<dyn Read + Send>),
    };
    Content::reader(open).promise(13)
}

fn this_mail(scene: Scene) -> Message {
    let two = ["ann@example.net", "bob@example.net"];
    let envelope = mail(THIS).envelope().clone();
    match scene {
        Scene::Two => mail_to(THIS, &two),
        Scene::AllOrNothing => mail_to(THIS, &two).all_or_nothing(),
        Scene::Utf8 => mail_to(THIS, &["jürgen@example.net"]),
        Scene::Unreadable => Message::new(envelope, failing_once(|| Err(Error::other("no disk")))).id(THIS),
        Scene::Short => {
            Message::new(envelope, failing_once(|| Err(Error::from_raw_os_error(EMFILE)))).id(THIS)
        }
        Scene::Broken => Message::new(envelope, failing_once(|| Ok("short"))).id(THIS),
        _ => mail(THIS),
    }
}

impl Play<'_> {
    fn new(row: &Row, (peer, guard): (Peer, Guard), verdict: Verdict, in_batch: bool) -> Play<'_> {
        let mut script = Script::with(&[1, 1], BatchSettings::default(), |host| {
            // A change is one for all hosts.
            if host.name == "b.example" || guard == Guard::ChangingPassword {
                host.security = guard.security();
                host.credentials = guard.credentials();
            }
        });
        let fired = Rc::new(Cell::new(false));
        let asked_once = Rc::clone(&fired);
        let (kind, step) = (row.kind, row.step);
        script.decide(move |event| {
            let meant = (event.kind, event.step, event.lane) == (kind, step, HERE);
            if meant && !asked_once.replace(true) { verdict } else { Verdict::DEFAULT }
        });
        Play { row, peer, guard, verdict, in_batch, script, fired }
    }

    /// The server of the lane in question does what the row says, once.
    fn serve(&mut self) {
        let (asked_when, mut does) = (self.row.asked, self.peer.does());
        let mut recipients = 0;
        self.script.serve(move |asked: &Asked<'_>| {
            if asked.lane != HERE {
                return None;
            }
            recipients += u32::from(asked.what == "RCPT");
            let second = asked_when == "second RCPT" && asked.what == "RCPT" && recipients == 2;
            if second || asked.what == asked_when { does.take() } else { None }
        });
    }

    fn seen(mut self) -> Seen {
        self.set_the_scene();
        self.script.coordinator.set_flushing(true);
        let before = self.reach_the_event();
        // The batch goes on for as long as the other lane is held back.
        let standing = self.script.standing(HERE);
        let message = self.message_now();
        let mut session =
            if standing == Standing::Benched { SessionFate::SitsOut } else { SessionFate::Stays };
        if self.in_batch {
            self.script.stuck = vec![THERE];
        }
        if let Some(waits) = self.reopened(before) {
            session = SessionFate::Reopens { at_end: false, waits };
        }
        self.script.stuck.clear();
        let waits = self.reopened(before);
        if matches!(session, SessionFate::Stays | SessionFate::SitsOut) {
            session = match waits {
                Some(waits) => SessionFate::Reopens { at_end: self.in_batch, waits },
                None if self.script.standing(HERE) == Standing::Retired => SessionFate::Retires,
                None => session,
            };
        }
        self.script.exhaust();
        if self.has_connected(THERE, before) {
            session = match session {
                SessionFate::Reopens { at_end, waits } => SessionFate::Restart { at_end, waits },
                other => panic!("{}: {other:?} and a restart", self.row.label()),
            };
        }
        self.check_the_end(before, session);
        let message = message.unwrap_or_else(|| self.message_later());
        Seen { session, message }
    }

    fn set_the_scene(&mut self) {
        let script = &mut self.script;
        match self.row.scene {
            Scene::First => {
                script.stuck = vec![HERE];
                script.run();
            }
            _ => script.open(),
        }
        match self.row.scene {
            Scene::Later => {
                script.stuck = vec![HERE];
                assert!(script.coordinator.reconnect(HERE));
                script.settle();
            }
            Scene::Behind => {
                script.serve(|asked| {
                    (asked.lane == HERE && asked.what == "MAIL").then_some(Does::Say("554 no\r\n"))
                });
                script.take(mail(8));
                script.take(mail(9));
                script.run();
                assert!(script.lane(HERE).session().needs_reset());
            }
            _ => {}
        }
        if self.in_batch {
            self.begin_the_batch();
        }
        self.serve();
        self.script.stuck.clear();
        if self.in_batch && !self.row.has_mail() && matches!(self.peer, Peer::Silence) {
            // The batch goes on for longer than the silence.
            self.script.stuck = vec![THERE];
        }
        if self.row.scene == Scene::Resting {
            self.script.lane_mut(HERE).session_mut().lost(Failure::Closed);
        }
    }

    fn begin_the_batch(&mut self) {
        let script = &mut self.script;
        script.take(other_mail());
        match self.row.scene {
            Scene::First | Scene::Later => {
                script.coordinator.set_flushing(true);
                script.settle();
                (0..3).for_each(|_| script.step());
            }
            Scene::Resting => {
                script.serve(|asked| {
                    (asked.lane == HERE && asked.what == "MAIL").then_some(Does::Say("554 no\r\n"))
                });
                script.take(mail(9));
                script.settle();
                (0..3).for_each(|_| script.step());
            }
            Scene::Dead => {
                script.take(mail(THIS));
                script.settle();
                script.lane_mut(HERE).session_mut().lost(Failure::Closed);
            }
            scene => script.take(this_mail(scene)),
        }
    }

    /// Steps up to the event; says how long the wire was before it.
    fn reach_the_event(&mut self) -> usize {
        for _ in 0..30 {
            let mut before = self.script.wire.len();
            self.script.settle();
            if !self.fired.get() {
                self.script.sweep();
                self.change_credentials();
                before = self.script.wire.len();
            }
            if !self.fired.get() && !self.script.coordinator.is_step_over() {
                self.script.wait();
            }
            if self.fired.get() {
                if self.verdict.session == SessionVerdict::Default {
                    assert_eq!(self.script.progress.batch_running, self.in_batch, "{}", self.row.label());
                }
                return before;
            }
        }
        panic!("{} {:?}: no such event in {:?}", self.row.label(), self.peer, self.script.wire);
    }

    /// Where they are to change, they do as soon as they are refused, and
    /// before anybody has looked at the refusal.
    fn change_credentials(&mut self) {
        // What there is to judge while a lane is opening, and not about its opening, is of AUTH.
        let lane = self.script.lane(HERE);
        let session = lane.session();
        let is_judged = session.has_answer() || session.failure().is_some();
        let is_refused = lane.standing() == Standing::Opening && is_judged;
        if self.guard == Guard::ChangingPassword && is_refused {
            let others = Credentials::password("tim", "better").allow_without_tls();
            self.script.coordinator.authenticate(&others, self.script.now);
        }
    }

    fn has_connected(&self, id: LaneId, since: usize) -> bool {
        let line = format!("{}:{} connect", id.host, id.thread);
        self.script.wire.iter().skip(since).any(|said| *said == line)
    }

    /// Whether the lane was opened anew, and if so whether that took waiting.
    fn reopened(&mut self, since: usize) -> Option<bool> {
        self.script.run();
        if self.has_connected(HERE, since) {
            return Some(false);
        }
        let soon = self.script.now + Duration::from_secs(2);
        while self.script.progress.wake_at.is_some_and(|at| at <= soon) {
            self.script.wait();
            self.script.run();
            if self.has_connected(HERE, since) {
                return Some(true);
            }
        }
        None
    }

    /// What became of the mail in the settle of the event, if that is known.
    fn message_now(&self) -> Option<&'static str> {
        if !self.row.has_mail() {
            return Some("none");
        }
        let told = self.script.notes.told.iter().find(|told| told.id == THIS);
        if let Some(told) = told {
            assert_eq!(told.attempts, 1);
            return Some(told.outcome);
        }
        (self.script.lane(HERE).held() > 0).then_some(if self.row.kind == K::Fail {
            "goes on without"
        } else {
            "goes on"
        })
    }

    /// Whether the attempt was counted that the mail was put back after.
    fn message_later(&self) -> &'static str {
        let events = self.script.notes.seen.iter().filter(|seen| seen.id == Some(THIS));
        match events.map(|seen| seen.attempt).max() {
            Some(1) => "again, free",
            Some(2) => "again",
            other => panic!("{}: attempt {other:?}", self.row.label()),
        }
    }

    /// What holds for every event and verdict.
    fn check_the_end(&self, before: usize, session: SessionFate) {
        let label = self.row.label();
        let script = &self.script;
        let told = &script.notes.told;
        assert_eq!(script.coordinator.open_mails(), 0, "{label}");
        for id in [THIS, OTHER] {
            let due = if id == THIS { self.row.has_mail() } else { self.in_batch };
            assert_eq!(told.iter().filter(|told| told.id == id).count(), usize::from(due), "{label}");
        }
        if let Some(other) = told.iter().find(|told| told.id == OTHER) {
            assert_eq!((other.outcome, other.attempts), ("delivered", 1), "{label}: the others go on");
        }
        assert_eq!(script.standing(THERE), Standing::Active);
        let expected = if session == SessionFate::Retires { Standing::Retired } else { Standing::Active };
        assert_eq!(script.standing(HERE), expected, "{label}");
        let prefix = format!("{}:{} ", HERE.host, HERE.thread);
        let first = script.wire.iter().skip(before).find_map(|line| line.strip_prefix(prefix.as_str()));
        let replaced = !matches!(session, SessionFate::Stays | SessionFate::SitsOut);
        let fit = matches!(self.row.link, Link::Fit | Link::Doubtful);
        assert_eq!(first == Some("QUIT"), replaced && fit, "{label} {:?}: {first:?}", self.verdict);
    }
}

// ---- the rules ----------------------------------------------------------------------

/// What every code does from every callback.
fn expected(row: &Row, code: u16, message: MessageVerdict, in_batch: bool) -> SessionFate {
    if row.kind == K::Pass && (code, message) == (1, MessageVerdict::Default) {
        return SessionFate::Stays;
    }
    // The lane gives its descriptor to the contents of others for a while.
    if row.about == "short of descriptors" && code == 1 {
        return SessionFate::Reopens { at_end: false, waits: true };
    }
    // Nobody goes on with what was refused, whatever is said to it.
    if row.kind == K::AuthFail && row.guards != CHANGING {
        return SessionFate::Retires;
    }
    let waits = row.link == Link::None;
    let reopens = SessionFate::Reopens { at_end: in_batch, waits };
    match (code, row.link) {
        (1, Link::Fit) => SessionFate::Stays,
        (104, Link::Fit | Link::Doubtful) if in_batch => SessionFate::SitsOut,
        (104, Link::Fit | Link::Doubtful) => SessionFate::Stays,
        (1 | 102 | 104, _) => reopens,
        (101, _) => SessionFate::Retires,
        (103, _) => SessionFate::Restart { at_end: in_batch, waits },
        (202, _) => SessionFate::Reopens { at_end: false, waits },
        (203, _) => SessionFate::Restart { at_end: false, waits },
        _ => panic!("{code} is no code"),
    }
}

fn verdict(code: u16, message: MessageVerdict) -> Verdict {
    let verdict = Verdict::from_code(code).unwrap();
    match message {
        MessageVerdict::Requeue => verdict.requeue(),
        MessageVerdict::Drop => verdict.drop_message(),
        _ => verdict,
    }
}

/// Plays a row with every one of its servers, which must all come to the same.
fn played(row: &Row, code: u16, message: MessageVerdict, in_batch: bool) -> Seen {
    let pairs = row.peers.iter().flat_map(|peer| row.guards.iter().map(|guard| (*peer, *guard)));
    let mut all = pairs.map(|pair| {
        let seen = Play::new(row, pair, verdict(code, message), in_batch).seen();
        assert_eq!(
            seen.session,
            expected(row, code, message, in_batch),
            "{} {pair:?} {code} {in_batch}",
            row.label()
        );
        seen
    });
    let first = all.next().expect("a row without a server");
    for other in all {
        assert_eq!(other.message, first.message, "{} {code} {message:?}", row.label());
    }
    first
}

#[test]
fn every_code_has_exactly_its_effect_from_every_callback() {
    for row in ROWS {
        for code in CODES {
            for message in VERDICTS {
                played(row, code, message, true);
                if !row.has_mail() {
                    played(row, code, message, false);
                }
            }
        }
    }
}

#[test]
fn message_verdicts_yield_to_delivery_and_doubt_alone() {
    for row in ROWS.iter().filter(|row| row.has_mail()) {
        for code in CODES {
            let by_default = played(row, code, MessageVerdict::Default, true).message;
            let requeued = played(row, code, MessageVerdict::Requeue, true).message;
            let dropped = played(row, code, MessageVerdict::Drop, true).message;
            if matches!(by_default, "delivered" | "in_doubt") {
                assert_eq!((requeued, dropped), (by_default, by_default), "{}", row.label());
                continue;
            }
            assert_eq!(dropped, "dropped", "{}", row.label());
            assert!(requeued.starts_with("again"), "{}: {requeued}", row.label());
            if code == 104 {
                assert_eq!(requeued, "again", "{}: nothing else would bound it", row.label());
            }
        }
    }
}

// ---- the document ---------------------------------------------------------------------

fn session_table() -> String {
    let mut table = String::from("| event | where |");
    CODES.iter().for_each(|code| write!(table, " {code} |").unwrap());
    table.push_str("\n| --- | --- |");
    CODES.iter().for_each(|_| table.push_str(" --- |"));
    for row in ROWS {
        let places: &[bool] = if row.has_mail() { &[true] } else { &[true, false] };
        for in_batch in places {
            let place = if *in_batch { "in a batch" } else { "outside" };
            write!(table, "\n| {} | {place} |", row.label()).unwrap();
            for code in CODES {
                let seen = played(row, code, MessageVerdict::Default, *in_batch);
                write!(table, " {} |", seen.session.cell()).unwrap();
            }
        }
    }
    table
}

/// One word where all codes come to the same, and the exceptions behind it.
fn summed_up(cells: &[(u16, &'static str)]) -> String {
    let most = |cell: &str| cells.iter().filter(|(_, other)| *other == cell).count();
    let (_, usual) = cells.iter().max_by_key(|(_, cell)| most(cell)).expect("no cells");
    let mut text = (*usual).to_owned();
    for (code, cell) in cells.iter().filter(|(_, cell)| cell != usual) {
        write!(text, "; {code}: {cell}").unwrap();
    }
    text.replace('_', " ")
}

fn message_table() -> String {
    let mut table =
        String::from("| event | 1 | any other code | requeue | drop |\n| --- | --- | --- | --- | --- |");
    for row in ROWS.iter().filter(|row| row.has_mail()) {
        let cells = |message, codes: &[u16]| {
            let cell = |code: &u16| (*code, played(row, *code, message, true).message);
            summed_up(&codes.iter().map(cell).collect::<Vec<_>>())
        };
        let (one, others) = CODES.split_at(1);
        write!(
            table,
            "\n| {} | {} | {} | {} | {} |",
            row.label(),
            cells(MessageVerdict::Default, one),
            cells(MessageVerdict::Default, others),
            cells(MessageVerdict::Requeue, &CODES),
            cells(MessageVerdict::Drop, &CODES),
        )
        .unwrap();
    }
    table
}

/// The document with `table` between the marks of this name.
fn with_table(document: &str, name: &str, table: &str) -> String {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("\n<!-- end of {name} -->"));
    let (head, rest) = document.split_once(&begin).expect("no begin of the table");
    let (_, tail) = rest.split_once(&end).expect("no end of the table");
    format!("{head}{begin}\n{table}\n{end}{tail}")
}

#[test]
fn the_tables_in_the_document_are_what_happens() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/VERDICTS.md");
    let written = std::fs::read_to_string(&path).unwrap();
    let right = with_table(&written, "sessions", &session_table());
    let right = with_table(&right, "messages", &message_table());
    if std::env::var_os("VERDICTS").is_some_and(|value| value == "write") {
        return std::fs::write(&path, &right).unwrap();
    }
    for (line, (written, right)) in written.lines().zip(right.lines()).enumerate() {
        assert_eq!(written, right, "line {} of docs/VERDICTS.md", line + 1);
    }
    assert_eq!(written, right);
}

#[test]
fn the_document_names_every_event_and_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/VERDICTS.md");
    let document = std::fs::read_to_string(path).unwrap();
    let kinds = [
        K::ConnectPass,
        K::ConnectFail,
        K::AuthPass,
        K::AuthFail,
        K::ReconnectPass,
        K::ReconnectFail,
        K::Pass,
        K::Fail,
        K::Hang,
    ];
    for kind in kinds {
        assert!(document.contains(&format!("| `{kind}` |")), "{kind}");
    }
    for code in CODES {
        assert!(document.contains(&format!("| {code} |")), "{code}");
    }
}

#[test]
fn the_lanes_of_the_scene_are_as_assumed() {
    let script = Script::new(&[1, 1]);
    let ids: Vec<LaneId> = script.lanes().map(|lane| lane.id()).collect();
    assert_eq!(ids, [THERE, HERE]);
    assert_eq!(lane(1, 0), HERE);
}
