//! What clones share: derived keys and tokens.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;

use keys::{Key, Recipe};

fn recipe(salt: u8) -> Recipe {
    Recipe { hash: "SHA-1", salt: [salt].into(), iterations: 4096 }
}

/// Whether the answer to a server with this salt took work, which is done.
fn needs_work(credentials: &Credentials, salt: &str) -> bool {
    let mut exchange = forced(credentials.clone(), AuthMechanism::ScramSha1);
    let first = text(start(&mut exchange).unwrap().unwrap());
    let nonce = first.rsplit_once("r=").unwrap().1;
    let next = exchange.challenge(format!("r={nonce}x,s={salt},i=4096").as_bytes()).unwrap();
    let needs_work = matches!(next, Move::Work(_));
    assert!(said(&mut exchange, Ok(next)).unwrap().is_some());
    needs_work
}

#[test]
fn a_key_is_derived_once_however_many_want_it() {
    let (keys, derived, barrier) = (Keys::default(), AtomicUsize::new(0), Barrier::new(8));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let slot = keys.slot(&recipe(1));
                barrier.wait();
                slot.fill(|_| {
                    derived.fetch_add(1, Ordering::SeqCst);
                    Some(Key::new(vec![7]))
                });
                assert_eq!(slot.key().map(|key| key.to_vec()), Some(vec![7]));
            });
        }
    });
    assert_eq!(derived.load(Ordering::SeqCst), 1);
}

#[test]
fn few_keys_are_kept_and_the_least_wanted_goes() {
    let keys = Keys::default();
    let filled = |salt| keys.slot(&recipe(salt)).is_filled();
    for salt in 1..=4 {
        keys.slot(&recipe(salt)).fill(|_| Some(Key::default()));
    }
    assert!(filled(1), "and is now the most wanted");
    keys.slot(&recipe(5)).fill(|_| Some(Key::default()));
    assert!(!filled(2));
    assert!(filled(1) && filled(4) && filled(5));
    let other = Recipe { iterations: 5000, ..recipe(1) };
    assert!(!keys.slot(&other).is_filled());
    let other = Recipe { hash: "SHA-256", ..recipe(1) };
    assert!(!keys.slot(&other).is_filled());
}

#[test]
fn clones_do_not_derive_a_key_again() {
    let credentials = user();
    assert!(needs_work(&credentials, "c2FsdA=="));
    assert!(!needs_work(&credentials.clone(), "c2FsdA=="));
    assert!(needs_work(&credentials, "b3RoZXI="));
    assert!(!needs_work(&credentials.clone().allow_cram_md5(), "b3RoZXI="));
    assert!(needs_work(&credentials.clone().raw(), "c2FsdA=="), "it may be another password");
    assert!(needs_work(&user(), "c2FsdA=="), "it is no clone");
}

#[test]
fn jobs_of_many_lanes_derive_the_same_key() {
    let credentials = user();
    let answers = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let key = {
                    let Kind::Password(given) = &credentials.kind else { panic!("a password") };
                    let account = credentials.account(given).unwrap();
                    let slot = given.keys.slot(&recipe(9));
                    slot.fill(|recipe| keys::derive::<Sha1>(&account, recipe));
                    slot.key().map(|key| key.as_ptr() as usize)
                };
                answers.lock().unwrap().push(key);
            });
        }
    });
    let answers = answers.into_inner().unwrap();
    assert!(answers[0].is_some() && answers.iter().all(|answer| *answer == answers[0]));
}

/// Credentials whose source counts, and gives token-1, token-2 and so on.
fn counting() -> (Credentials, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let asked = Arc::clone(&count);
    let source = move || Ok(format!("token-{}", asked.fetch_add(1, Ordering::SeqCst) + 1).into());
    (Credentials::oauth_from("tim", source), count)
}

/// An exchange that has said its token, and that token.
fn shown(credentials: &Credentials, renew: bool) -> (Exchange, String) {
    let mut exchange = begun_as(credentials, &["XOAUTH2"], true, Tried::default(), renew).unwrap();
    let first = text(start(&mut exchange).unwrap().unwrap());
    let token = first.split_once("Bearer ").unwrap().1.trim_end_matches('\u{1}').to_owned();
    (exchange, token)
}

#[test]
fn a_token_is_asked_for_once_and_shared() {
    let (credentials, count) = counting();
    for _ in 0..3 {
        assert_eq!(shown(&credentials.clone(), false).1, "token-1");
    }
    assert_eq!(count.load(Ordering::SeqCst), 1);
    let mut exchange = begun(&credentials, &["XOAUTH2"]).unwrap();
    assert!(matches!(exchange.start(), Ok(Move::Say(Some(_)))), "without work");
}

#[test]
fn a_refused_token_is_renewed_once() {
    let (credentials, count) = counting();
    let (first, _) = shown(&credentials, false);
    assert!(credentials.token_refused(&first));
    assert!(credentials.token_refused(&first), "asking does not change the answer");
    let (second, token) = shown(&credentials, true);
    assert_eq!(token, "token-2");
    assert!(!credentials.token_refused(&second), "the new one is refused too");
    assert_eq!(count.load(Ordering::SeqCst), 2);
    assert_eq!(shown(&credentials, false).1, "token-3", "what was refused is not said again");
}

#[test]
fn of_many_whose_token_is_refused_one_asks() {
    let (credentials, count) = counting();
    let refused: Vec<Exchange> = (0..5).map(|_| shown(&credentials, false).0).collect();
    for exchange in &refused {
        assert!(credentials.token_refused(exchange));
        assert_eq!(shown(&credentials, true).1, "token-2");
    }
    assert_eq!(count.load(Ordering::SeqCst), 2);
    // All at once, too.
    let refused: Vec<Exchange> = (0..5).map(|_| shown(&credentials, false).0).collect();
    assert!(refused.iter().all(|exchange| credentials.token_refused(exchange)));
    let barrier = Barrier::new(5);
    thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| {
                let mut exchange =
                    begun_as(&credentials, &["OAUTHBEARER"], true, Tried::default(), true).unwrap();
                let next = exchange.start();
                barrier.wait();
                assert!(text(said(&mut exchange, next).unwrap().unwrap()).contains("token-3"));
            });
        }
    });
    assert_eq!(count.load(Ordering::SeqCst), 3);
}

#[test]
fn only_what_has_a_source_is_renewed() {
    let fixed = Credentials::oauth("tim", "token");
    let (exchange, _) = shown(&fixed, false);
    assert!(!fixed.token_refused(&exchange));
    assert_eq!(shown(&fixed, false).1, "token", "a fixed token stays");
    let (credentials, _) = counting();
    assert!(!credentials.token_refused(&exchange), "another's exchange");
    let mut exchange = forced(user(), AuthMechanism::Plain);
    start(&mut exchange).unwrap();
    assert!(!user().token_refused(&exchange));
    let unasked = begun(&credentials, &["XOAUTH2"]).unwrap();
    assert!(!credentials.token_refused(&unasked), "no token was refused");
}

#[test]
fn a_source_that_fails_is_a_fault_and_is_asked_again_later() {
    let count = Arc::new(AtomicUsize::new(0));
    let asked = Arc::clone(&count);
    let credentials = Credentials::oauth_from("tim", move || match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Err(format!("no\nnetwork {}", "x".repeat(1000)).into()),
        1 => panic!("the source of the test"),
        2 => Ok("bad token".into()),
        _ => Ok("token".into()),
    });
    let attempt = || start(&mut begun(&credentials, &["XOAUTH2"]).unwrap()).map(drop);
    let Err(AuthFault::Token(text)) = attempt() else { panic!("it failed") };
    assert!(text.starts_with("no network xxx") && text.chars().count() == 200);
    assert_eq!(attempt(), Err(AuthFault::Token("it panicked".into())));
    assert!(matches!(attempt(), Err(AuthFault::Token(text)) if text.contains("spaces")));
    assert_eq!(attempt(), Ok(()));
    assert_eq!(count.load(Ordering::SeqCst), 4);
}

#[test]
fn those_who_waited_for_a_failing_source_do_not_ask_it_too() {
    let count = Arc::new(AtomicUsize::new(0));
    let asked = Arc::clone(&count);
    let credentials = Credentials::oauth_from("tim", move || {
        asked.fetch_add(1, Ordering::SeqCst);
        Err("down".into())
    });
    let mut waiting: Vec<(Exchange, AuthJob)> = Vec::new();
    for _ in 0..20 {
        let mut exchange = begun(&credentials, &["XOAUTH2"]).unwrap();
        let Ok(Move::Work(job)) = exchange.start() else { panic!("a token is needed") };
        waiting.push((exchange, job));
    }
    for (mut exchange, job) in waiting {
        assert_eq!(exchange.resume(job.run()).map(drop), Err(AuthFault::Token("down".into())));
    }
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[test]
fn a_token_that_was_not_asked_for_is_asked_for_again() {
    let (credentials, _) = counting();
    let mut exchange = begun(&credentials, &["XOAUTH2"]).unwrap();
    let Ok(Move::Work(job)) = exchange.start() else { panic!("a token is needed") };
    let Ok(Move::Work(job)) = exchange.resume(job) else { panic!("it was not run") };
    assert_eq!(answer(&mut exchange, b""), Err(AuthFault::Challenge), "nothing was said yet");
    assert_eq!(exchange.success(), Err(AuthFault::Challenge));
    assert!(matches!(exchange.resume(job.run()), Ok(Move::Say(Some(_)))));
}
