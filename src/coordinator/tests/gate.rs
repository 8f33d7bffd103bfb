//! How often a password is said, and whose misfortune holds for whom.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::auth::{auths, failed_auths, password, tokens, with};
use super::*;
use crate::auth::Credentials;
use crate::failure::Failure;
use crate::security::Security;

fn count(script: &Script, kind: EventKind) -> usize {
    script.notes.seen.iter().filter(|seen| seen.kind == kind).count()
}

fn standing(script: &Script, standing: Standing) -> usize {
    script.lanes().filter(|lane| lane.standing() == standing).count()
}

/// Nobody is ever answered who asks for this.
fn when_hung(what: &'static str) -> impl FnMut(&Asked<'_>) -> Option<Does> {
    move |asked| (asked.what == what).then_some(Does::Hang)
}

/// A hundred lanes, to whose AUTH the server never says anything else.
fn hammered(does: fn() -> Does) -> usize {
    let mut script = with(&[100], password("wrong"));
    script.serve(move |asked| (asked.what == "AUTH").then(does));
    script.exhaust();
    assert!(script.progress.is_retired());
    assert_eq!(failed_auths(&script), 0);
    auths(&script)
}

#[test]
fn a_password_is_said_once_a_round_whatever_the_server_answers() {
    assert_eq!(hammered(|| Does::Close), 5);
    assert_eq!(hammered(|| Does::Say("421 4.7.0 too many bad logins\r\n")), 5);
    assert_eq!(hammered(|| Does::Say("454 4.7.0 later\r\n")), 5);
    assert_eq!(hammered(|| Does::Say("235 ok\r\n250 ok\r\n")), 5);
    assert_eq!(hammered(|| Does::Hang), 5);
}

#[test]
fn who_comes_back_early_waits_for_the_others() {
    let mut script = with(&[4], password("secret"));
    script.serve(once("AUTH", Does::Say("454 4.7.0 later\r\n")));
    script.run();
    let failed = script.now;
    let base = script.lane(lane(0, 0)).host().backoff.base;
    script.exhaust();
    assert_eq!(standing(&script, Standing::Active), 4);
    let passed = script.notes.seen.iter().filter(|seen| seen.kind == EventKind::AuthPass).count();
    assert_eq!((passed, auths(&script)), (4, 5));
    assert!(script.now >= failed + base, "nobody has tried before all could be back");
}

#[test]
fn a_broken_source_is_asked_once_a_round() {
    let asked = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&asked);
    let source = move || {
        counter.fetch_add(1, Ordering::Relaxed);
        Err("the vault is shut".into())
    };
    let mut script = with(&[100], Credentials::oauth_from("tim", source).allow_without_tls());
    script.run();
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    script.exhaust();
    assert_eq!(asked.load(Ordering::Relaxed), 5);
}

#[test]
fn a_source_that_hangs_costs_one_wait() {
    let credentials = Credentials::oauth_from("tim", || Ok("token".into())).allow_without_tls();
    let mut script = with(&[10], credentials);
    let begun = script.now;
    while count(&script, EventKind::ConnectPass) < 10 {
        script.step();
    }
    script.stuck = (0..10).map(|thread| lane(0, thread)).collect();
    while count(&script, EventKind::ConnectFail) < 10 {
        assert!(script.wait());
    }
    assert_eq!(script.now - begun, script.lane(lane(0, 0)).host().timeouts.auth);
}

#[test]
fn one_connection_without_auth_is_not_held_against_what_is_proven() {
    let mut script = with(&[3], password("secret"));
    script.open();
    script.serve(once("EHLO", Does::Say("250 mx\r\n")));
    assert!(script.coordinator.reconnect(lane(0, 1)));
    script.exhaust();
    assert_eq!((failed_auths(&script), count(&script, EventKind::ReconnectFail)), (0, 1));
    assert_eq!(standing(&script, Standing::Active), 3);
}

#[test]
fn a_refusal_of_the_session_is_not_held_against_what_is_proven() {
    for refusal in ["502 5.5.1 what?\r\n", "530 5.7.0 not now\r\n", "538 5.7.11 not so\r\n"] {
        let mut script = with(&[2], password("secret"));
        script.open();
        script.serve(once("AUTH", Does::Say(refusal)));
        assert!(script.coordinator.reconnect(lane(0, 1)));
        script.exhaust();
        assert_eq!((failed_auths(&script), count(&script, EventKind::ReconnectFail)), (0, 1), "{refusal}");
        assert_eq!(standing(&script, Standing::Active), 2, "{refusal}");
    }
}

#[test]
fn a_stripped_offer_of_tls_is_not_held_against_what_is_proven() {
    let mut script = Script::with(&[3], BatchSettings::default(), |host| {
        host.credentials = Some(Credentials::password("tim", "secret"));
        host.security = Security::OpportunisticStartTls;
    });
    let offer = |asked: &Asked<'_>| {
        (asked.what == "EHLO").then_some(Does::Say("250-mx\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n"))
    };
    script.serve(offer);
    script.open();
    let mut stripped = once("EHLO", Does::Say("250-mx\r\n250 AUTH PLAIN\r\n"));
    script.serve(move |asked| stripped(asked).or_else(|| offer(asked)));
    assert!(script.coordinator.reconnect(lane(0, 1)));
    script.exhaust();
    assert_eq!((failed_auths(&script), standing(&script, Standing::Active)), (0, 3));
}

#[test]
fn when_all_connections_are_new_the_password_is_tried_by_one_again() {
    let mut script = with(&[50], password("secret"));
    script.open();
    script.serve(when("AUTH", "535 5.7.8 no\r\n"));
    script.coordinator.restart();
    script.exhaust();
    assert_eq!((auths(&script), failed_auths(&script)), (1, 1));
}

#[test]
fn what_befalls_old_credentials_fails_nobody_with_new_ones() {
    let mut script = with(&[5], password("wrong"));
    script.serve(once("AUTH", Does::Hang));
    script.run();
    script.coordinator.authenticate(&password("right"), script.now);
    let now = script.now;
    script.lane_mut(lane(0, 0)).session_mut().receive(b"454 4.7.0 later\r\n", now);
    script.run();
    assert_eq!(count(&script, EventKind::ConnectFail), 1);
}

#[test]
fn old_credentials_that_many_lanes_were_saying_are_refused_once() {
    let mut script = with(&[5], password("old"));
    script.open();
    script.serve(|asked| (asked.what == "AUTH" && asked.lane.thread > 0).then_some(Does::Hang));
    script.coordinator.restart();
    script.run();
    assert_eq!(auths(&script), 5);
    script.coordinator.authenticate(&password("new"), script.now);
    let now = script.now;
    for thread in 1..5 {
        script.lane_mut(lane(0, thread)).session_mut().receive(b"535 no\r\n", now);
    }
    script.settle();
    assert_eq!(failed_auths(&script), 1);
}

#[test]
fn other_credentials_open_what_the_old_ones_have_shut() {
    let mut script = with(&[3], password("wrong"));
    script.serve(when("AUTH", "535 5.7.8 no\r\n"));
    script.exhaust();
    assert!(script.progress.is_retired());
    script.serve(|_| None);
    script.coordinator.abort(script.now, &mut ());
    script.coordinator.authenticate(&password("right"), script.now);
    script.exhaust();
    assert_eq!(standing(&script, Standing::Active), 3);
}

#[test]
fn other_credentials_do_not_open_what_was_retired_for_another_reason() {
    let mut script = with(&[2], password("secret"));
    script.open();
    script.decide(at(EventKind::Hang, Step::Mail, Verdict::RETIRE));
    script.serve(once("MAIL", Does::Close));
    script.take(mail(1));
    script.finish();
    assert_eq!(standing(&script, Standing::Retired), 1);
    script.coordinator.authenticate(&password("better"), script.now);
    script.exhaust();
    assert_eq!(standing(&script, Standing::Retired), 1);
}

#[test]
fn a_refused_token_is_not_said_again_after_a_restart() {
    let (credentials, _) = tokens();
    let mut script = with(&[1], credentials);
    script.serve(when("AUTH", "535 5.7.8 no\r\n"));
    script.exhaust();
    script.coordinator.restart();
    script.exhaust();
    let mut said: Vec<_> = script.wire.iter().filter(|line| line.contains(" AUTH ")).collect();
    let all = said.len();
    said.dedup();
    assert_eq!((said.len(), all), (4, 4));
}

#[test]
fn who_fails_with_the_one_that_tried_sits_out_no_batch() {
    let mut script = with(&[2, 1], password("secret"));
    script.serve(when_hung("AUTH"));
    script.take(mail(1));
    script.coordinator.set_flushing(true);
    script.run();
    let now = script.now;
    script.lane_mut(lane(0, 0)).session_mut().receive(b"454 4.7.0 later\r\n", now);
    script.lane_mut(lane(1, 0)).session_mut().receive(b"235 welcome\r\n", now);
    script.settle();
    assert!(script.progress.batch_running, "the other host has a mail");
    assert_eq!(count(&script, EventKind::ConnectFail), 2);
    script.now += script.lane(lane(0, 0)).host().backoff.base;
    script.settle();
    assert!(script.progress.batch_running);
    assert!((0..2).all(|thread| script.lane(lane(0, thread)).link() == Link::Wanted), "both are opened");
}

#[test]
fn what_befalls_an_old_token_fails_nobody_who_waits_for_the_new_one() {
    let (credentials, _) = tokens();
    let mut script = with(&[3], credentials);
    script.serve(when_hung("AUTH"));
    script.run();
    let now = script.now;
    script.lane_mut(lane(0, 0)).session_mut().receive(b"535 5.7.8 expired\r\n250 ok\r\n", now);
    script.run();
    assert_eq!(auths(&script), 2, "another lane says the new token: {:?}", script.wire);
    assert_eq!(count(&script, EventKind::ConnectFail), 1);
    assert!(script.lane(lane(0, 2)).session().is_ready(), "it waits");
}

#[test]
fn who_is_leaving_proves_nothing() {
    let mut script = with(&[50], password("secret"));
    script.open();
    script.serve(|asked| match asked.what {
        "QUIT" if asked.lane.thread == 0 => Some(Does::Hang),
        "AUTH" => Some(Does::Say("535 5.7.8 no\r\n")),
        _ => None,
    });
    script.coordinator.restart();
    script.exhaust();
    assert_eq!((auths(&script), failed_auths(&script)), (1, 1));
}

#[test]
fn a_connection_that_was_dead_before_it_said_a_word_fails_nobody_else() {
    let mut script = Script::new(&[3]);
    script.open();
    script.coordinator.authenticate(&password("secret"), script.now);
    script.settle();
    script.lane_mut(lane(0, 0)).session_mut().lost(Failure::Closed);
    script.exhaust();
    assert_eq!(count(&script, EventKind::ConnectFail), 1);
    assert_eq!(standing(&script, Standing::Active), 3);
}

#[test]
fn a_refusal_of_the_session_is_not_held_against_a_token_that_is_proven() {
    for refusal in ["502 5.5.1 what?\r\n", "503 5.5.1 no\r\n", "504 5.5.4 what?\r\n", "530 5.7.0 not now\r\n"]
    {
        let (credentials, asked) = tokens();
        let mut script = with(&[2], credentials);
        script.open();
        script.serve(once("AUTH", Does::Say(refusal)));
        assert!(script.coordinator.reconnect(lane(0, 1)));
        script.exhaust();
        assert_eq!((failed_auths(&script), asked.load(Ordering::Relaxed)), (0, 1), "{refusal}");
        assert_eq!(standing(&script, Standing::Active), 2, "{refusal}");
    }
}

#[test]
fn a_token_that_is_refused_by_an_error_and_no_reply_is_asked_for_again() {
    for behind in ["421 4.7.0 bye\r\n", "454 4.7.0 later\r\n"] {
        let (credentials, asked) = tokens();
        let mut script = with(&[2], credentials);
        let mut is_first = true;
        script.serve(move |asked| match asked.what {
            "AUTH" if is_first => {
                is_first = false;
                Some(Does::Say("334 eyJzdGF0dXMiOiI0MDEifQ==\r\n"))
            }
            "" => Some(Does::Say(behind)),
            _ => None,
        });
        script.exhaust();
        assert_eq!(asked.load(Ordering::Relaxed), 2, "{behind}");
        assert_eq!((failed_auths(&script), standing(&script, Standing::Active)), (0, 2), "{behind}");
    }
}
