//! Who authenticates when, and what a refusal means for the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::script::notes::Seen;
use super::*;
use crate::auth::Credentials;
use crate::failure::Failure;

pub fn password(password: &'static str) -> Credentials {
    Credentials::password("tim", password).allow_without_tls()
}

pub fn with(threads: &[u32], credentials: Credentials) -> Script {
    Script::with(threads, BatchSettings::default(), move |host| host.credentials = Some(credentials.clone()))
}

/// How often AUTH was said, on all lanes.
pub fn auths(script: &Script) -> usize {
    script.wire.iter().filter(|line| line.contains(" AUTH ")).count()
}

fn kinds(script: &Script) -> Vec<EventKind> {
    script.notes.seen.iter().map(|seen| seen.kind).collect()
}

pub fn failed_auths(script: &Script) -> usize {
    kinds(script).iter().filter(|kind| **kind == EventKind::AuthFail).count()
}

#[test]
fn a_lane_authenticates_before_its_first_mail() {
    let mut script = with(&[1], password("secret"));
    script.take(mail(1));
    script.finish();
    assert_eq!(
        script.said(lane(0, 0)),
        ["connect", "greeting", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "content"]
    );
    let seen: Vec<_> = script.notes.seen.iter().map(|seen| (seen.kind, seen.step, seen.code)).collect();
    assert_eq!(
        seen[..2],
        [(EventKind::ConnectPass, Step::Ehlo, None), (EventKind::AuthPass, Step::Auth, Some(235))]
    );
}

#[test]
fn until_one_lane_has_authenticated_no_other_tries() {
    let mut script = with(&[3], password("secret"));
    script.serve(|asked| (asked.what == "AUTH" && asked.lane.thread == 0).then_some(Does::Hang));
    script.run();
    assert_eq!(auths(&script), 1, "{:?}", script.wire);
    assert!(script.lanes().all(|lane| lane.standing() == Standing::Opening));
}

#[test]
fn hosts_do_not_wait_for_each_other() {
    let mut script = with(&[2, 2], password("secret"));
    script.serve(|asked| (asked.what == "AUTH" && asked.lane.host == 0).then_some(Does::Hang));
    script.run();
    assert_eq!(script.said(lane(0, 1)).len(), 3, "it waits");
    assert!((0..2).all(|thread| script.standing(lane(1, thread)) == Standing::Active));
}

#[test]
fn once_it_is_proven_all_authenticate() {
    let mut script = with(&[3], password("secret"));
    script.run();
    assert_eq!(auths(&script), 3);
    assert!(script.lanes().all(|lane| lane.standing() == Standing::Active));
    assert_eq!(kinds(&script).iter().filter(|kind| **kind == EventKind::AuthPass).count(), 3);
}

#[test]
fn a_refused_password_is_said_once_and_holds_for_all() {
    for code in [1, 101, 102, 103, 104, 202, 203] {
        let verdict = Verdict::from_code(code).unwrap();
        let mut script = with(&[5], password("wrong"));
        script.serve(when("AUTH", "535 5.7.8 no\r\n"));
        script.decide(at(EventKind::AuthFail, Step::Auth, verdict));
        script.exhaust();
        assert_eq!(auths(&script), 1, "{code}: {:?}", script.wire);
        assert_eq!(failed_auths(&script), 1, "{code}");
        assert!(script.progress.is_retired(), "{code}");
    }
}

#[test]
fn the_lanes_of_another_host_are_not_concerned() {
    let mut script = with(&[2, 2], password("secret"));
    script.serve(|asked| {
        let refused = asked.what == "AUTH" && asked.lane.host == 0;
        refused.then_some(Does::Say("535 5.7.8 no\r\n"))
    });
    script.exhaust();
    assert!((0..2).all(|thread| script.standing(lane(0, thread)) == Standing::Retired));
    assert!((0..2).all(|thread| script.standing(lane(1, thread)) == Standing::Active));
}

#[test]
fn a_refusal_that_may_pass_is_a_failed_connection() {
    let mut script = with(&[2], password("secret"));
    script.serve(once("AUTH", Does::Say("454 4.7.0 later\r\n")));
    script.run();
    let failed = &script.notes.seen[2];
    assert_eq!((failed.kind, failed.step), (EventKind::ConnectFail, Step::Auth));
    assert!(matches!(&failed.failure, Some(Failure::Refused(reply)) if reply.code().as_u16() == 454));
    assert_eq!(auths(&script), 1, "what one lane learnt the others need not");
    assert!(script.lanes().all(|lane| lane.standing() == Standing::Benched), "they back off");
    script.exhaust();
    assert!(script.lanes().all(|lane| lane.standing() == Standing::Active));
    assert_eq!(failed_auths(&script), 0);
}

#[test]
fn a_connection_lost_in_auth_is_a_failed_one() {
    let mut script = with(&[2], password("secret"));
    script.serve(once("AUTH", Does::Close));
    script.exhaust();
    assert_eq!(auths(&script), 3);
    assert_eq!(failed_auths(&script), 0);
    let mut of_first: Vec<_> =
        script.notes.seen.iter().filter(|seen| seen.lane == lane(0, 0)).map(|seen| seen.kind).collect();
    of_first.dedup();
    use EventKind as E;
    assert_eq!(of_first, [E::ConnectPass, E::ConnectFail, E::ReconnectPass, E::AuthPass]);
}

#[test]
fn a_server_that_does_not_answer_costs_one_wait_and_not_one_for_each_lane() {
    let mut script = with(&[10], password("secret"));
    let begun = script.now;
    script.serve(|asked| (asked.what == "AUTH").then_some(Does::Hang));
    script.run();
    script.wait();
    script.run();
    assert_eq!(script.now - begun, script.lane(lane(0, 0)).host().timeouts.auth);
    let failed = script.notes.seen.iter().filter(|seen| seen.kind == EventKind::ConnectFail);
    assert_eq!(failed.count(), 10);
    assert_eq!(auths(&script), 1);
    script.serve(|_| None);
    script.exhaust();
    assert!(script.lanes().all(|lane| lane.standing() == Standing::Active));
}

#[test]
fn surplus_behind_an_acceptance_is_a_failed_connection() {
    let mut script = with(&[1], password("secret"));
    script.serve(once("AUTH", Does::Say("235 welcome\r\n250 ok\r\n")));
    script.exhaust();
    assert!(kinds(&script).contains(&EventKind::ConnectFail));
    assert_eq!(auths(&script), 2);
    assert_eq!(script.standing(lane(0, 0)), Standing::Active);
}

#[test]
fn surplus_behind_a_refusal_does_not_make_it_less_of_one() {
    let mut script = with(&[2], password("wrong"));
    script.serve(when("AUTH", "535 5.7.8 no\r\n421 closing\r\n"));
    script.exhaust();
    assert_eq!((auths(&script), failed_auths(&script)), (1, 1));
    assert!(script.progress.is_retired());
}

#[test]
fn a_password_that_is_refused_later_retires_who_says_it_and_nobody_else() {
    let mut script = with(&[3], password("secret"));
    script.open();
    script.serve(when("AUTH", "535 5.7.8 no\r\n"));
    assert!(script.coordinator.reconnect(lane(0, 1)));
    script.exhaust();
    assert_eq!(script.standing(lane(0, 1)), Standing::Retired);
    for id in 0..4 {
        script.take(mail(id));
        script.finish();
    }
    assert_eq!(script.outcomes().iter().filter(|told| told.1 == "delivered").count(), 4);
}

#[test]
fn a_restart_of_the_callers_tries_again_what_was_refused() {
    let mut script = with(&[2], password("wrong"));
    script.serve(when("AUTH", "535 5.7.8 no\r\n"));
    script.exhaust();
    assert!(script.progress.is_retired());
    script.serve(|_| None);
    script.coordinator.restart();
    script.exhaust();
    assert!(script.lanes().all(|lane| lane.standing() == Standing::Active));
}

#[test]
fn a_mechanism_that_is_not_known_is_followed_by_the_next() {
    let mut script = with(&[1], password("secret"));
    script.serve(|asked| (asked.line.starts_with("AUTH PLAIN")).then_some(Does::Say("504 5.5.4 what?\r\n")));
    script.serve(|asked| match asked.line {
        line if line.starts_with("AUTH PLAIN") => Some(Does::Say("504 5.5.4 what?\r\n")),
        line if line.starts_with("AUTH LOGIN") => Some(Does::Say("535 5.7.8 no\r\n")),
        _ => None,
    });
    script.exhaust();
    assert_eq!(auths(&script), 2);
    assert_eq!(failed_auths(&script), 1);
    assert_eq!(script.notes.seen.last().unwrap().code, Some(535));
}

#[test]
fn nothing_in_common_is_a_refusal_too() {
    let mut script = with(&[2], password("secret"));
    script.serve(when("EHLO", "250-mx\r\n250 AUTH GSSAPI\r\n"));
    script.exhaust();
    assert_eq!((auths(&script), failed_auths(&script)), (0, 1));
    assert!(matches!(script.notes.seen.last().unwrap().failure, Some(Failure::Auth(_))));
    assert!(script.progress.is_retired());
}

// ---- tokens -----------------------------------------------------------------

/// Tokens `token1`, `token2`, … and how many were asked for.
pub fn tokens() -> (Credentials, Arc<AtomicU32>) {
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let source = move || Ok(format!("token{}", count.fetch_add(1, Ordering::Relaxed) + 1).into());
    (Credentials::oauth_from("tim", source).allow_without_tls(), asked)
}

/// What the client says with this token.
fn bears(asked: &Asked<'_>, token: u32) -> bool {
    use base64::Engine;
    let said = format!("user=tim\u{1}auth=Bearer token{token}\u{1}\u{1}");
    asked.line.ends_with(&base64::engine::general_purpose::STANDARD.encode(said))
}

#[test]
fn a_refused_token_is_asked_for_again_once() {
    let (credentials, asked) = tokens();
    let mut script = with(&[3], credentials);
    script.serve(|asked| {
        (asked.what == "AUTH" && bears(asked, 1)).then_some(Does::Say("535 5.7.8 expired\r\n"))
    });
    script.exhaust();
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    assert_eq!((auths(&script), failed_auths(&script)), (4, 0));
    assert!(script.lanes().all(|lane| lane.standing() == Standing::Active));
}

#[test]
fn a_second_refusal_in_a_row_is_final() {
    let (credentials, asked) = tokens();
    let mut script = with(&[3], credentials);
    script.serve(when("AUTH", "535 5.7.8 no\r\n"));
    script.exhaust();
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    assert_eq!((auths(&script), failed_auths(&script)), (2, 1));
    assert!(script.progress.is_retired());
}

#[test]
fn a_token_that_has_expired_is_renewed_by_one_lane_for_all() {
    let (credentials, asked) = tokens();
    let mut script = with(&[4], credentials);
    script.open();
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    script.serve(|asked| {
        (asked.what == "AUTH" && bears(asked, 1)).then_some(Does::Say("535 5.7.8 expired\r\n"))
    });
    script.coordinator.restart();
    script.exhaust();
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    assert_eq!(failed_auths(&script), 0);
    assert!(script.lanes().all(|lane| lane.standing() == Standing::Active));
    let (credentials, asked) = tokens();
    let mut script = with(&[1], credentials);
    script.open();
    for expired in 1..4 {
        script.serve(move |asked| {
            (asked.what == "AUTH" && bears(asked, expired)).then_some(Does::Say("535 5.7.8 expired\r\n"))
        });
        script.coordinator.restart();
        script.exhaust();
        assert_eq!(asked.load(Ordering::Relaxed), expired + 1, "once each time");
        assert_eq!(script.standing(lane(0, 0)), Standing::Active);
    }
}

#[test]
fn a_server_that_closes_on_a_refused_token_is_opened_again_with_the_next() {
    let (credentials, asked) = tokens();
    let mut script = with(&[1], credentials);
    script.serve(|asked| {
        (asked.what == "AUTH" && bears(asked, 1)).then_some(Does::Say("535 5.7.8 no\r\n421 closing\r\n"))
    });
    script.exhaust();
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    assert_eq!(script.standing(lane(0, 0)), Standing::Active);
}

#[test]
fn a_source_without_a_token_is_a_failed_connection() {
    let credentials = Credentials::oauth_from("tim", || Err("the vault is shut".into())).allow_without_tls();
    let mut script = with(&[1], credentials);
    script.exhaust();
    assert_eq!((auths(&script), failed_auths(&script)), (0, 0));
    let failed = script.notes.seen.iter().filter(|seen| seen.kind != EventKind::ConnectPass);
    let texts: Vec<String> =
        failed.filter_map(|seen| seen.failure.as_ref()).map(ToString::to_string).collect();
    assert_eq!(texts.len(), 5);
    assert!(texts.iter().all(|text| text.contains("the vault is shut")), "{texts:?}");
}

// ---- other credentials ------------------------------------------------------

#[test]
fn open_lanes_authenticate_at_once_when_they_are_told_to() {
    let mut script = Script::new(&[3]);
    script.open();
    script.coordinator.authenticate(&password("secret"), script.now);
    script.run();
    assert_eq!(auths(&script), 3);
    assert!(script.lanes().all(|lane| lane.session().is_authenticated()));
    assert!(!script.wire.iter().any(|line| line.ends_with("connect")));
    script.coordinator.authenticate(&password("better"), script.now);
    script.run();
    assert_eq!(auths(&script), 3, "nobody authenticates twice on a connection");
}

#[test]
fn a_lane_that_has_a_mail_in_hand_is_opened_anew() {
    let mut script = Script::new(&[1]);
    script.open();
    script.serve(once("RCPT", Does::Hang));
    script.take(mail(1));
    script.coordinator.set_flushing(true);
    script.run();
    script.coordinator.authenticate(&password("secret"), script.now);
    script.finish();
    assert_eq!(script.outcomes(), [(1, "delivered", 1)]);
    let said = script.said(lane(0, 0)).join(" ");
    assert!(said.ends_with("connect greeting EHLO AUTH MAIL RCPT DATA content"), "{said}");
}

#[test]
fn nobody_authenticates_within_a_transaction() {
    let mut script = Script::new(&[1]);
    script.open();
    script.serve(once("RCPT", Does::Say("550 5.1.1 nobody\r\n")));
    script.take(mail(1));
    script.finish();
    assert!(script.lane(lane(0, 0)).session().needs_reset());
    script.coordinator.authenticate(&password("secret"), script.now);
    script.run();
    let said = script.said(lane(0, 0)).join(" ");
    assert!(said.ends_with("MAIL RCPT QUIT connect greeting EHLO AUTH"), "{said}");
}

#[test]
fn what_was_refused_is_of_no_consequence_when_it_was_changed_meanwhile() {
    for (code, connections) in [(1, 1), (104, 1), (102, 2), (202, 2)] {
        let verdict = Verdict::from_code(code).unwrap();
        let mut script = with(&[2], password("wrong"));
        script.serve(once("AUTH", Does::Hang));
        script.decide(at(EventKind::AuthFail, Step::Auth, verdict));
        script.run();
        script.coordinator.authenticate(&password("right"), script.now);
        let now = script.now;
        script.lane_mut(lane(0, 0)).session_mut().receive(b"535 5.7.8 no\r\n", now);
        script.revive(lane(0, 0));
        script.exhaust();
        assert_eq!(failed_auths(&script), 1, "{code}");
        assert!(script.lanes().all(|lane| lane.standing() == Standing::Active), "{code}");
        let connects = script.said(lane(0, 0)).iter().filter(|said| **said == "connect").count();
        assert_eq!(connects, connections, "{code}");
        use EventKind as E;
        let passed =
            |seen: &&Seen| seen.lane == lane(0, 0) && matches!(seen.kind, E::ConnectPass | E::ReconnectPass);
        assert_eq!(script.notes.seen.iter().filter(passed).count(), connections, "{code}: told once each");
    }
}

#[test]
fn a_mechanism_that_is_not_known_is_not_followed_by_other_credentials_on_the_same_ticket() {
    let mut script = with(&[2], password("old"));
    script.serve(once("AUTH", Does::Hang));
    script.run();
    script.coordinator.authenticate(&password("new"), script.now);
    let now = script.now;
    script.lane_mut(lane(0, 0)).session_mut().receive(b"504 5.5.4 what?\r\n", now);
    script.revive(lane(0, 0));
    script.serve(when("AUTH", "535 5.7.8 no\r\n"));
    script.exhaust();
    assert_eq!(auths(&script), 2, "the new ones are said once: {:?}", script.wire);
    assert!(script.progress.is_retired());
}

#[test]
fn a_lane_that_sat_out_authenticates_before_it_goes_on() {
    let mut script = with(&[2], password("secret"));
    script.serve(|asked| (asked.what == "connect" && asked.lane.thread == 1).then_some(Does::Hang));
    script.run();
    script.stuck.push(lane(0, 0));
    script.take(mail(1));
    script.coordinator.set_flushing(true);
    script.settle();
    assert!(script.progress.batch_running);
    script.decide(at(EventKind::ConnectPass, Step::Ehlo, Verdict::BENCH));
    script.serve(|_| None);
    let now = script.now;
    script.lane_mut(lane(0, 1)).connected(None, now);
    script.lane_mut(lane(0, 1)).session_mut().receive(b"220 mx\r\n", now);
    script.sweep();
    script.settle();
    assert_eq!(script.standing(lane(0, 1)), Standing::Benched);
    script.stuck.clear();
    script.run();
    assert!(script.lane(lane(0, 1)).session().is_authenticated());
    assert_eq!(script.standing(lane(0, 1)), Standing::Active);
}

#[test]
fn leaving_in_the_middle_of_auth_does_not_shut_the_gate() {
    let mut script = with(&[2], password("secret"));
    script.serve(once("AUTH", Does::Hang));
    script.run();
    script.coordinator.abort(script.now, &mut ());
    script.coordinator.restart();
    script.exhaust();
    assert!(script.lanes().all(|lane| lane.standing() == Standing::Active), "{:?}", script.wire);
}
