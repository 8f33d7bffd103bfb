//! Lanes without a mail: servers that go meanwhile, and NOOP.

use super::*;
use crate::failure::Failure;
use crate::inquiry::Inquiry;

const QUIET: Duration = Duration::from_secs(60);

const PACES: [Pace; 3] =
    [Pace::Lockstep, Pace::Quorum { share: 0.75, grace: Duration::from_millis(100) }, Pace::Free];

/// Lanes that say NOOP after a minute.
fn quiet(threads: u32, pace: Pace, change: impl Fn(&mut HostSettings)) -> Script {
    let mut script = Script::with(&[threads], settings(|all| all.pace = pace), |host| {
        host.noop_after = Some(QUIET);
        change(host);
    });
    script.open();
    script
}

fn minutely(threads: u32) -> Script {
    quiet(threads, Pace::Lockstep, |_| {})
}

/// The server says this unasked, or goes without a word.
fn goes(script: &mut Script, id: crate::host::LaneId, says: Option<&str>) {
    let now = script.now;
    let session = script.lane_mut(id).session_mut();
    match says {
        Some(text) => session.receive(text.as_bytes(), now),
        None => session.lost(Failure::Closed),
    }
}

const LAST_WORDS: [Option<&str>; 3] = [Some("421 4.4.2 idle for too long\r\n"), Some("4"), None];

// ---- servers that go ------------------------------------------------------------

#[test]
fn a_server_that_goes_between_batches_is_connected_to_again() {
    for pace in PACES {
        for last_words in LAST_WORDS {
            let mut script = Script::with(&[1], settings(|all| all.pace = pace), |_| {});
            script.open();
            script.take(mail(1));
            script.finish();
            script.notes.seen.clear();
            goes(&mut script, lane(0, 0), last_words);
            script.run();
            assert_eq!(script.standing(lane(0, 0)), Standing::Active, "{pace:?} {last_words:?}");
            let kinds: Vec<_> = script.notes.seen.iter().map(|seen| (seen.kind, seen.step)).collect();
            assert_eq!(kinds, [(EventKind::Hang, Step::Idle), (EventKind::ReconnectPass, Step::Ehlo)]);
            script.take(mail(2));
            script.finish();
            assert_eq!(script.outcomes(), [(1, "delivered", 1), (2, "delivered", 1)]);
        }
    }
}

#[test]
fn a_mail_that_is_dealt_to_a_server_that_has_gone_is_kept_and_not_charged() {
    for pace in PACES {
        for last_words in LAST_WORDS {
            for (threads, level) in [(1, Pipeline::Single), (3, Pipeline::Single), (2, Pipeline::Full)] {
                // One attempt is all that it has.
                let settings = settings(|all| (all.pace, all.max_attempts) = (pace, 1));
                let mut script = Script::with(&[threads], settings, |host| host.pipeline = level);
                script.serve(offering(CHUNKS, |_| None));
                script.open();
                script.take(mail(1));
                script.coordinator.set_flushing(true);
                script.settle();
                let holder = script.lanes().find(|lane| lane.held() > 0).unwrap().id();
                // All of them have gone, and that lies unread.
                (0..threads).for_each(|thread| goes(&mut script, lane(0, thread), last_words));
                script.finish();
                assert_eq!(script.outcomes(), [(1, "delivered", 1)], "{pace:?} {last_words:?} {level:?}");
                let hang = script.notes.seen.iter().find(|seen| seen.lane == holder).unwrap();
                assert_eq!((hang.kind, hang.step, hang.id), (EventKind::Hang, Step::Mail, Some(1)));
                assert_eq!(script.said(holder).first(), Some(&"connect"), "nothing was said to it");
            }
        }
    }
}

#[test]
fn a_mail_whose_server_has_gone_takes_another_lane_at_once() {
    for pace in PACES {
        let mut script = Script::with(&[2], settings(|all| all.pace = pace), |_| {});
        script.open();
        script.take(mail(1));
        script.coordinator.set_flushing(true);
        script.settle();
        let holder = script.lanes().find(|lane| lane.held() > 0).unwrap().id();
        goes(&mut script, holder, LAST_WORDS[0]);
        script.stuck = vec![holder];
        script.run();
        assert_eq!(script.outcomes(), [(1, "delivered", 1)], "{pace:?}: while the first is opened anew");
    }
}

#[test]
fn behind_a_refused_mail_a_server_that_has_gone_costs_the_next_one_nothing() {
    for last_words in LAST_WORDS {
        let mut script = one();
        script.serve(once("RCPT", Does::Say("550 no\r\n")));
        script.take(mail(1));
        script.finish();
        script.take(mail(2));
        script.coordinator.set_flushing(true);
        script.settle();
        assert_eq!(script.lane(lane(0, 0)).session().step(), Step::Rset);
        goes(&mut script, lane(0, 0), last_words);
        script.finish();
        assert_eq!(script.outcomes(), [(1, "refused", 1), (2, "delivered", 1)]);
    }
}

// ---- NOOP -----------------------------------------------------------------------

#[test]
fn a_lane_that_was_quiet_for_so_long_says_noop_and_nobody_is_told() {
    for pace in PACES {
        let mut script = quiet(2, pace, |_| {});
        let begun = script.now;
        assert_eq!(script.progress.wake_at, Some(begun + QUIET), "and nothing before");
        script.pass(QUIET - SECOND);
        assert!(script.wire.is_empty());
        script.pass(SECOND);
        assert_eq!(script.wire, ["0:0 NOOP", "0:1 NOOP"], "{pace:?}");
        assert_eq!(script.progress.wake_at, Some(begun + 2 * QUIET));
        script.pass(10 * QUIET);
        assert_eq!(script.wire.len(), 22);
        assert!(script.notes.seen.is_empty() && script.progress.active == 2);
    }
}

#[test]
fn without_the_setting_nothing_is_said_and_nothing_is_waited_for() {
    let mut script = one();
    assert!(script.progress.wake_at.is_none());
    script.pass(100 * QUIET);
    assert!(script.wire.is_empty() && script.progress.wake_at.is_none());
}

#[test]
fn whoever_was_heard_is_not_asked_before_the_time_has_run_again() {
    let mut script = minutely(2);
    script.pass(QUIET / 2);
    script.take(mail(1));
    script.finish();
    let busy = if script.said(lane(0, 0)).is_empty() { lane(0, 1) } else { lane(0, 0) };
    script.wire.clear();
    script.pass(QUIET / 2);
    assert_eq!(script.wire.len(), 1, "the other one alone");
    assert!(script.said(busy).is_empty());
    script.pass(QUIET / 2);
    assert_eq!(script.said(busy), ["NOOP"]);
}

#[test]
fn times_that_are_too_short_count_as_the_shortest() {
    let mut script = quiet(1, Pace::Lockstep, |host| host.noop_after = Some(Duration::ZERO));
    script.pass(10 * SECOND);
    assert_eq!(script.said(lane(0, 0)), ["NOOP"; 10]);
}

#[test]
fn each_host_has_a_time_of_its_own() {
    let mut script = Script::with(&[1, 1], BatchSettings::default(), |host| {
        host.noop_after = Some(if host.name == "a.example" { QUIET } else { 3 * QUIET });
    });
    script.open();
    script.pass(6 * QUIET);
    assert_eq!(script.said(lane(0, 0)).len(), 6);
    assert_eq!(script.said(lane(1, 0)).len(), 2);
}

#[test]
fn nobody_waits_for_a_noop_and_a_lane_at_one_is_not_dealt_a_mail() {
    for pace in PACES {
        let mut script = quiet(2, pace, |_| {});
        script.serve(once("NOOP", Does::Hang));
        script.pass(QUIET);
        let hung = lane(0, 0);
        assert_eq!(script.lane(hung).session().step(), Step::Noop);
        for id in 1..=5 {
            script.take(mail(id));
            script.coordinator.set_flushing(true);
            script.run();
        }
        assert_eq!(script.outcomes().len(), 5, "{pace:?}");
        assert_eq!(script.said(hung), ["NOOP"]);
    }
}

#[test]
fn a_mail_that_is_to_be_tried_again_does_not_wait_for_a_noop() {
    let mut script = minutely(2);
    script.serve(once("NOOP", Does::Hang));
    script.pass(QUIET);
    script.serve(once("RCPT", Does::Say("451 later\r\n")));
    script.take(mail(1));
    script.coordinator.set_flushing(true);
    script.run();
    assert_eq!(script.outcomes(), [(1, "delivered", 2)], "on the same lane");
}

#[test]
fn where_all_are_at_a_noop_the_deal_waits_for_the_first_reply() {
    for pace in PACES {
        let mut script = quiet(2, pace, |_| {});
        script.stuck = vec![lane(0, 0), lane(0, 1)];
        script.pass(QUIET);
        script.take(mail(1));
        script.coordinator.set_flushing(true);
        script.run();
        assert!(script.wire.is_empty() && script.coordinator.backlog() == 1, "{pace:?}");
        script.stuck = vec![lane(0, 1)];
        script.run();
        assert_eq!(script.outcomes(), [(1, "delivered", 1)]);
        assert_eq!(script.said(lane(0, 0)), [&["NOOP"][..], &WHOLE].concat(), "in a flight of its own");
    }
}

#[test]
fn a_lane_in_a_batch_says_no_noop_and_one_without_a_mail_does() {
    let mut script = minutely(2);
    script.take(mail(1));
    script.coordinator.set_flushing(true);
    script.settle();
    let busy = script.lanes().find(|lane| lane.held() > 0).unwrap().id();
    script.stuck = vec![busy];
    script.pass(3 * QUIET);
    assert!(script.said(busy).is_empty());
    let other = lane(0, 1 - busy.thread);
    assert_eq!(script.said(other), ["NOOP"; 3]);
    script.stuck.clear();
    script.run();
    assert_eq!(script.outcomes(), [(1, "delivered", 1)]);
}

#[test]
fn behind_a_refused_mail_rset_is_said_in_its_place_and_once() {
    let mut script = minutely(1);
    script.serve(once("RCPT", Does::Say("550 no\r\n")));
    script.take(mail(1));
    script.finish();
    script.wire.clear();
    script.pass(2 * QUIET);
    assert_eq!(script.said(lane(0, 0)), ["RSET", "NOOP"]);
    script.take(mail(2));
    script.finish();
    assert_eq!(script.said(lane(0, 0))[2..], WHOLE);
}

#[test]
fn whatever_else_is_answered_is_a_hang_and_the_lane_is_opened_anew() {
    let refused = |failure: &Failure| matches!(failure, Failure::Refused(_));
    let wrong = |failure: &Failure| matches!(failure, Failure::Unexpected(_));
    let gone = |failure: &Failure| *failure == Failure::Closed;
    let unasked = |failure: &Failure| matches!(failure, Failure::Unsolicited(_));
    let late = |failure: &Failure| *failure == Failure::TimedOut { after: 5 * QUIET };
    type Rule = fn(&Failure) -> bool;
    let cases: [(fn() -> Does, Rule); 7] = [
        (|| Does::Say("421 closing\r\n"), refused),
        (|| Does::Say("500 what\r\n"), refused),
        (|| Does::Say("451 later\r\n"), refused),
        (|| Does::Say("354 go on\r\n"), wrong),
        (|| Does::Say("250 ok\r\n421 closing\r\n"), unasked),
        (|| Does::Close, gone),
        (|| Does::Hang, late),
    ];
    for (place, (does, is_right)) in cases.into_iter().enumerate() {
        let mut script = minutely(1);
        script.serve(once("NOOP", does()));
        // The reply may take 5 minutes, as that to RSET may.
        script.pass(QUIET + 5 * QUIET);
        let hang = script.notes.seen.first().unwrap();
        assert_eq!((hang.kind, hang.step, hang.id), (EventKind::Hang, Step::Noop, None), "{place}");
        assert!(hang.failure.as_ref().is_some_and(is_right), "{hang:?}");
        let said = script.said(lane(0, 0));
        assert_eq!(said[..4], [&["NOOP"][..], &EHLO].concat(), "{place}: no QUIT, and at once");
        assert_eq!(script.standing(lane(0, 0)), Standing::Active);
    }
}

#[test]
fn a_server_that_has_gone_is_noticed_before_noop_is_said() {
    for last_words in LAST_WORDS {
        let mut script = minutely(1);
        script.stuck = vec![lane(0, 0)];
        script.pass(QUIET);
        goes(&mut script, lane(0, 0), last_words);
        script.stuck.clear();
        script.run();
        assert_eq!(script.said(lane(0, 0)), EHLO);
        assert_eq!((script.notes.seen[0].kind, script.notes.seen[0].step), (EventKind::Hang, Step::Noop));
    }
}

#[test]
fn a_connection_that_ends_at_rest_is_no_setback_where_noop_was_answered_on_it() {
    let change = |host: &mut HostSettings| host.max_connect_failures = 2;
    let mut script = quiet(1, Pace::Lockstep, change);
    let mut said = 0;
    script.serve(move |asked| {
        said += u32::from(asked.what == "NOOP");
        (asked.what == "NOOP" && said % 2 == 0).then_some(Does::Close)
    });
    script.pass(20 * QUIET);
    assert_eq!(script.notes.seen.iter().filter(|seen| seen.kind == EventKind::Hang).count(), 10);
    assert_eq!(
        (script.standing(lane(0, 0)), script.lane(lane(0, 0)).setbacks.count()),
        (Standing::Active, 0)
    );
}

#[test]
fn a_server_that_never_answers_noop_loses_its_lane_in_the_end() {
    let mut script = minutely(1);
    script.serve(|asked| (asked.what == "NOOP").then_some(Does::Close));
    script.exhaust();
    assert!(script.progress.is_retired());
    assert_eq!(script.said(lane(0, 0)).iter().filter(|verb| **verb == "NOOP").count(), 5);
}

#[test]
fn what_a_mail_comes_to_counts_though_noop_was_answered_before() {
    let change = |host: &mut HostSettings| host.max_connect_failures = 3;
    let mut script = quiet(1, Pace::Lockstep, change);
    script.serve(|asked| (asked.what == "MAIL").then_some(Does::Say("421 no\r\n")));
    for id in 1..=3 {
        script.pass(QUIET);
        if !script.progress.is_retired() && script.coordinator.open_mails() == 0 {
            script.take(mail(id));
        }
        script.finish();
    }
    assert!(script.progress.is_retired());
}

#[test]
fn a_lane_that_sits_out_says_noop_and_comes_back_with_the_next_batch() {
    let mut script = minutely(2);
    script.decide(at(EventKind::Fail, Step::Mail, Verdict::BENCH));
    script.serve(|asked| (asked.what == "MAIL" && asked.lane.thread == 0).then_some(Does::Say("550 no\r\n")));
    script.take(mail(1));
    script.take(mail_to(2, &MANY));
    script.settle();
    script.step();
    script.stuck = vec![lane(0, 1)];
    assert_eq!(script.standing(lane(0, 0)), Standing::Benched);
    script.pass(QUIET);
    assert_eq!(script.said(lane(0, 0)), ["MAIL", "RSET"]);
    script.serve(|asked| (asked.what == "NOOP").then_some(Does::Hang));
    script.pass(QUIET);
    assert_eq!(script.said(lane(0, 0)), ["MAIL", "RSET", "NOOP"]);
    // The batch ends while it is at its NOOP.
    script.stuck.clear();
    script.run();
    assert_eq!(script.standing(lane(0, 0)), Standing::Active, "{:?}", script.wire);
    assert!(!script.wire.contains(&"0:0 connect".to_owned()));
}

#[test]
fn a_worn_lane_that_sits_out_keeps_its_connection_when_its_noop_is_answered() {
    let mut script = Script::with(&[2], BatchSettings::default(), |host| {
        host.noop_after = Some(QUIET);
        host.pipeline = Pipeline::Full;
        // One mail that is refused in a whole flight wears it out.
        host.max_refusals = 1;
    });
    let out = lane(0, 0);
    script.serve(offering(CHUNKS, move |asked| match asked.what {
        "RCPT" if asked.lane == out => Some(Does::Say("550 no\r\n")),
        "BDAT" if asked.lane == out => Some(Does::Say("503 no recipients\r\n")),
        _ => None,
    }));
    script.open();
    script.decide(at(EventKind::Fail, Step::Rcpt, Verdict::BENCH));
    script.take(mail(1));
    // It takes a second step, so that the batch goes on.
    script.take(mail(2).all_or_nothing());
    script.settle();
    script.step();
    script.stuck = vec![lane(0, 1)];
    let connection = script.lane(out).connection();
    assert!(script.lane(out).is_worn() && script.standing(out) == Standing::Benched);
    script.pass(2 * QUIET);
    assert_eq!(script.said(out), ["MAIL", "RCPT", "BDAT", "RSET", "NOOP"]);
    assert_eq!(script.standing(out), Standing::Benched);
    script.stuck.clear();
    script.run();
    assert_eq!(script.outcomes(), [(1, "refused", 1), (2, "delivered", 1)]);
    assert_eq!((script.standing(out), script.lane(out).connection()), (Standing::Active, connection));
}

#[test]
fn a_question_waits_for_the_reply_and_is_not_taken_for_it() {
    let mut script = minutely(1);
    script.stuck = vec![lane(0, 0)];
    script.pass(QUIET);
    assert!(script.coordinator.ask(lane(0, 0), Inquiry::Help(None)));
    script.settle();
    script.stuck.clear();
    script.serve(when("HELP", "214 help\r\n"));
    script.run();
    assert_eq!(script.said(lane(0, 0)), ["NOOP", "HELP"]);
    let answer = script.coordinator.take_answer(lane(0, 0));
    assert!(answer.is_some_and(|answer| answer.is_ok_and(|reply| reply.code().as_u16() == 214)));
}

#[test]
fn other_credentials_do_not_get_in_the_way_of_a_noop() {
    use crate::auth::Credentials;
    let mut script = minutely(1);
    script.pass(QUIET - SECOND);
    script.now += SECOND;
    script.settle();
    script.sweep();
    // It has been answered, and nobody has looked at that.
    let credentials = Credentials::password("tim", "secret").allow_without_tls();
    script.coordinator.authenticate(&credentials, script.now);
    script.run();
    assert!(script.lane(lane(0, 0)).session().is_authenticated());
    assert_eq!(script.standing(lane(0, 0)), Standing::Active);
}

#[test]
fn a_session_at_a_noop_is_closed_without_quit() {
    let mut script = minutely(1);
    script.serve(|asked| (asked.what == "NOOP").then_some(Does::Hang));
    script.pass(QUIET);
    script.coordinator.say_goodbye(script.now);
    script.run();
    assert_eq!((script.said(lane(0, 0)), script.progress.connected), (vec!["NOOP"], 0));
}
