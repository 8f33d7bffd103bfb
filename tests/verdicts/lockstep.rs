//! Level 0: one command at a time, and what happens while no mail is in hand.

use smtp_bulk::{EventKind, Step};

use EventKind as K;

use crate::peers::*;
use crate::rows::{Fate, Link, Row, Scene, Way};

const fn row(kind: K, step: Step, about: &'static str, scene: Scene) -> Row {
    Row::new(Way::Single, kind, step, about, scene)
}

pub const ROWS: &[Row] = &[
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
    row(K::Pass, Step::Mail, "", Scene::Mail).ends(Fate::GoesOn),
    row(K::Pass, Step::Rcpt, "", Scene::Two).ends(Fate::GoesOn),
    row(K::Pass, Step::Data, "", Scene::Mail).leaves(Link::Unfit).ends(Fate::GoesOn),
    row(K::Pass, Step::Content, "", Scene::Mail).ends(Fate::Delivered),
    row(K::Fail, Step::Mail, "4yz", Scene::Mail).when("MAIL", ALL_4, Link::Fit).ends(Fate::Again),
    row(K::Fail, Step::Mail, "5yz", Scene::Mail).when("MAIL", REFUSES, Link::Fit).ends(Fate::Refused),
    row(K::Fail, Step::Mail, SESSION_BLAME, Scene::Mail)
        .when("MAIL", CONFUSED, Link::Doubtful)
        .ends(Fate::Free),
    row(K::Fail, Step::Mail, "421", Scene::Mail).when("MAIL", CLOSING, Link::Unfit).ends(Fate::Free),
    row(K::Fail, Step::Mail, "SMTPUTF8 missing", Scene::Utf8).ends(Fate::Refused),
    row(K::Fail, Step::Rcpt, "4yz", Scene::Two).when("RCPT", DEFERS, Link::Fit).ends_for_one(
        Fate::GoesOnWithout,
        Fate::Again,
        Fate::GoesOn,
    ),
    row(K::Fail, Step::Rcpt, "5yz", Scene::Two).when("RCPT", REFUSES, Link::Fit).ends_for_one(
        Fate::GoesOnWithout,
        Fate::Refused,
        Fate::GoesOn,
    ),
    row(K::Fail, Step::Rcpt, "too many", Scene::Two).when("second RCPT", TOO_MANY, Link::Fit).ends_for_one(
        Fate::GoesOnWithout,
        Fate::Again,
        Fate::GoesOn,
    ),
    row(K::Fail, Step::Rcpt, "all or nothing, 4yz", Scene::AllOrNothing)
        .when("RCPT", DEFERS, Link::Fit)
        .ends(Fate::Again),
    row(K::Fail, Step::Rcpt, "all or nothing, 5yz", Scene::AllOrNothing)
        .when("RCPT", REFUSES, Link::Fit)
        .ends(Fate::Refused),
    row(K::Fail, Step::Rcpt, SESSION_BLAME, Scene::Two)
        .when("RCPT", CONFUSED, Link::Doubtful)
        .ends(Fate::Free),
    row(K::Fail, Step::Rcpt, "421", Scene::Two).when("RCPT", CLOSING, Link::Unfit).ends(Fate::Free),
    row(K::Fail, Step::Data, "4yz", Scene::Mail).when("DATA", ALL_4, Link::Fit).ends(Fate::Again),
    row(K::Fail, Step::Data, "5yz", Scene::Mail).when("DATA", REFUSES, Link::Fit).ends(Fate::Refused),
    row(K::Fail, Step::Data, SESSION_BLAME, Scene::Mail)
        .when("DATA", CONFUSED, Link::Doubtful)
        .ends(Fate::Free),
    row(K::Fail, Step::Data, "421", Scene::Mail).when("DATA", CLOSING, Link::Unfit).ends(Fate::Free),
    row(K::Fail, Step::Data, "source does not open", Scene::Unreadable).ends(Fate::Refused),
    row(K::Fail, Step::Data, SHORTAGE, Scene::Short).ends(Fate::Free),
    row(K::Fail, Step::Content, "4yz", Scene::Mail).when("content", ALL_4, Link::Fit).ends(Fate::Again),
    row(K::Fail, Step::Content, "5yz", Scene::Mail).when("content", ALL_5, Link::Fit).ends(Fate::Refused),
    row(K::Fail, Step::Content, "421", Scene::Mail).when("content", CLOSING, Link::Unfit).ends(Fate::Free),
    row(K::Fail, Step::Content, "4yz amid it", Scene::Mail)
        .when("mid-content", ALL_4, Link::Unfit)
        .ends(Fate::Again),
    row(K::Fail, Step::Content, "5yz amid it", Scene::Mail)
        .when("mid-content", ALL_5, Link::Unfit)
        .ends(Fate::Refused),
    row(K::Fail, Step::Content, "421 amid it", Scene::Mail)
        .when("mid-content", CLOSING, Link::Unfit)
        .ends(Fate::Free),
    row(K::Fail, Step::Content, "source breaks", Scene::Broken).leaves(Link::Unfit).ends(Fate::Refused),
    row(K::Fail, Step::Rset, "4yz 5yz", Scene::Behind).when("RSET", ALL_5, Link::Doubtful).ends(Fate::Free),
    row(K::Fail, Step::Rset, "421", Scene::Behind).when("RSET", CLOSING, Link::Unfit).ends(Fate::Free),
    row(K::Hang, Step::Mail, "nothing sent yet", Scene::Dead).leaves(Link::Unfit).ends(Fate::Free),
    row(K::Hang, Step::Mail, "", Scene::Mail).when("MAIL", GONE, Link::Unfit).ends(Fate::Again),
    row(K::Hang, Step::Rcpt, "", Scene::Two).when("RCPT", GONE, Link::Unfit).ends(Fate::Again),
    row(K::Hang, Step::Data, "", Scene::Mail).when("DATA", GONE, Link::Unfit).ends(Fate::Again),
    row(K::Hang, Step::Content, "last octet not sent", Scene::Mail)
        .when("mid-content", CUT, Link::Unfit)
        .ends(Fate::Again),
    row(K::Hang, Step::Content, "last octet sent", Scene::Mail)
        .when("content", GONE, Link::Unfit)
        .ends(Fate::InDoubt),
    row(K::Hang, Step::Content, "behind its reply", Scene::Mail)
        .when("content", SURPLUS, Link::Unfit)
        .ends(Fate::Delivered),
    row(K::Hang, Step::Rset, "", Scene::Behind).when("RSET", GONE, Link::Unfit).ends(Fate::Free),
    row(K::Hang, Step::Idle, "", Scene::Resting).leaves(Link::Unfit),
    row(K::Hang, Step::Noop, "", Scene::Quiet).when("NOOP", NOT_THERE, Link::Unfit),
];
