//! Setbacks, back-off, retirement, restarts.

use super::*;

fn patient(failures: u32) -> impl Fn(&mut HostSettings) {
    move |host| host.max_connect_failures = failures
}

#[test]
fn connecting_again_waits_longer_each_time_and_ends() {
    let mut script = Script::new(&[1]);
    script.serve(|asked| (asked.what == "connect").then_some(Does::Refuse));
    script.run();
    for base in [1, 2, 4, 8] {
        let wait = script.progress.wake_at.unwrap() - script.now;
        assert!(wait >= base * SECOND / 2 && wait <= base * SECOND, "{wait:?} for {base}");
        assert_eq!(script.standing(lane(0, 0)), Standing::Benched);
        assert!(!script.progress.is_retired());
        script.wait();
        script.run();
    }
    assert!(script.progress.is_retired());
    assert_eq!(script.standing(lane(0, 0)), Standing::Retired);
    let attempts: Vec<u32> = script.notes.seen.iter().map(|seen| seen.attempt).collect();
    assert_eq!(attempts, [1, 2, 3, 4, 5]);
    assert!(script.notes.seen.iter().all(|seen| seen.kind == EventKind::ConnectFail));
    assert!(!script.wait());
}

#[test]
fn setbacks_of_every_kind_add_up() {
    let mut script = Script::with(&[1], BatchSettings::default(), patient(3));
    let mut connects = 0;
    script.serve(move |asked| {
        connects += u32::from(asked.what == "connect");
        match asked.what {
            "connect" if connects == 1 => Some(Does::Refuse),
            "MAIL" if connects == 2 => Some(Does::Say("421 closing\r\n")),
            "MAIL" => Some(Does::Close),
            _ => None,
        }
    });
    script.take(mail(1));
    script.finish();
    assert_eq!(script.standing(lane(0, 0)), Standing::Retired);
}

#[test]
fn only_a_finished_mail_resets_the_count() {
    let mut script = Script::with(&[1], settings(|all| all.max_attempts = 100), patient(3));
    script.open();
    let mut mails = 0;
    script.serve(move |asked| {
        mails += u32::from(asked.what == "MAIL");
        (asked.what == "MAIL" && mails % 3 != 0).then_some(Does::Close)
    });
    for id in 0..4 {
        script.take(mail(id));
        script.finish();
    }
    assert!(script.outcomes().iter().all(|told| told.1 == "delivered"));
    assert_eq!(script.standing(lane(0, 0)), Standing::Active);

    let mut script = Script::with(&[1], settings(|all| all.max_attempts = 1), patient(3));
    script.open();
    script.serve(|asked| (asked.what == "MAIL").then_some(Does::Close));
    for id in 0..3 {
        script.take(mail(id));
        script.finish();
    }
    assert!(script.outcomes().iter().all(|told| told.1 == "abandoned"), "abandoned mails are no success");
    assert_eq!(script.standing(lane(0, 0)), Standing::Retired);
}

#[test]
fn a_refused_mail_is_a_finished_one() {
    let mut script = Script::with(&[1], BatchSettings::default(), patient(2));
    script.open();
    script.serve(|asked| (asked.what == "mid-content").then_some(Does::Say("554 spam\r\n")));
    for id in 0..5 {
        script.take(mail(id));
        script.finish();
    }
    assert!(script.outcomes().iter().all(|told| told.1 == "refused"));
    assert_eq!(script.standing(lane(0, 0)), Standing::Active);
}

#[test]
fn no_callback_keeps_a_lane_from_retiring() {
    for code in [1, 102, 104, 202] {
        let verdict = Verdict::from_code(code).unwrap();
        let mut script = Script::new(&[1]);
        script.serve(|asked| (asked.what == "connect").then_some(Does::Refuse));
        script.decide(move |_| verdict);
        script.take(mail(1));
        script.finish();
        assert_eq!(script.standing(lane(0, 0)), Standing::Retired, "{code}");
        assert_eq!(script.notes.seen.len(), 5);
    }
}

#[test]
fn reopening_without_cause_ends_too() {
    for code in [102, 202, 203] {
        let verdict = Verdict::from_code(code).unwrap();
        let mut script = Script::new(&[2]);
        script.decide(move |event| {
            let opened = matches!(event.kind, EventKind::ConnectPass | EventKind::ReconnectPass);
            if opened { verdict } else { Verdict::DEFAULT }
        });
        script.exhaust();
        assert!(script.progress.is_retired(), "{code}");
        assert!(script.wire.iter().filter(|line| line.ends_with("connect")).count() <= 2 * 8, "{code}");
    }
}

#[test]
fn restarting_at_every_opening_settles_down() {
    let mut script = Script::new(&[2]);
    script.decide(|event| {
        let opened = matches!(event.kind, EventKind::ConnectPass | EventKind::ReconnectPass);
        if opened { Verdict::RESTART_AT_BATCH_END } else { Verdict::DEFAULT }
    });
    script.take(mail(1));
    script.finish();
    assert_eq!(script.outcomes(), [(1, "delivered", 1)], "after max_restarts 103 counts as 104");
    assert_eq!(script.wire.iter().filter(|line| line.ends_with("connect")).count(), 2 * 4);
}

#[test]
fn a_restart_revives_retired_lanes() {
    let mut script = Script::new(&[2]);
    let refuse = Rc::new(Cell::new(true));
    let refused = Rc::clone(&refuse);
    script.serve(move |asked| (asked.what == "connect" && refused.get()).then_some(Does::Refuse));
    script.take(mail(1));
    script.finish();
    assert!(script.progress.is_retired());
    refuse.set(false);
    script.coordinator.restart();
    script.finish();
    assert_eq!((script.progress.active, script.outcomes()), (2, vec![(1, "delivered", 1)]));
}

#[test]
fn a_callbacks_restart_revives_retired_lanes() {
    for code in [103, 203] {
        let mut script = Script::new(&[2]);
        script.open();
        let verdict = Verdict::from_code(code).unwrap();
        let mut orders = vec![verdict];
        script.decide(move |event| match (event.kind, event.lane.thread) {
            (EventKind::Pass, 0) if event.step == Step::Content => Verdict::RETIRE,
            (EventKind::Pass, 1) if event.step == Step::Content => orders.pop().unwrap_or_default(),
            _ => Verdict::DEFAULT,
        });
        script.take(mail(1));
        script.take(mail(2));
        script.run();
        assert_eq!(script.progress.active, 2, "{code}");
        assert_eq!(script.outcomes(), [(1, "delivered", 1), (2, "delivered", 1)]);
        for thread in 0..2 {
            assert_eq!(script.said(lane(0, thread)), [&WHOLE[..], &["QUIT"], &EHLO].concat());
        }
    }
}

#[test]
fn a_restart_does_not_reset_the_count() {
    let mut script = Script::new(&[1]);
    script.serve(|asked| (asked.what == "connect").then_some(Does::Refuse));
    script.exhaust();
    script.notes.seen.clear();
    script.coordinator.restart();
    script.exhaust();
    assert_eq!(script.notes.seen.len(), 1, "one more opening, and it retires again");
    assert!(script.progress.is_retired());
}

#[test]
fn reconnect_opens_one_lane_anew() {
    let mut script = Script::new(&[2]);
    script.open();
    assert!(script.coordinator.reconnect(lane(0, 1)));
    assert!(!script.coordinator.reconnect(lane(3, 1)));
    script.run();
    assert!(script.said(lane(0, 0)).is_empty());
    assert_eq!(script.said(lane(0, 1)), [&["QUIT"][..], &EHLO].concat());
    assert_eq!(script.notes.seen[0].kind, EventKind::ReconnectPass);
}

#[test]
fn restarting_now_awaits_what_is_past_its_last_octet_and_puts_the_rest_back() {
    for answer in [Does::Hang, Does::Say("250 queued\r\n")] {
        let mut script = Script::with(&[3], settings(|all| all.max_attempts = 1), |_| {});
        script.open();
        let mut orders = vec![Verdict::RESTART_NOW];
        script.decide(move |event| {
            let asked = event.kind == EventKind::ReconnectPass && event.lane.thread == 2;
            if asked { orders.pop().unwrap_or_default() } else { Verdict::DEFAULT }
        });
        script.serve(|asked| (asked.what == "content" && asked.lane.thread == 0).then_some(Does::Hang));
        script.stuck = vec![lane(0, 2)];
        script.coordinator.reconnect(lane(0, 2));
        script.take(mail(1));
        script.take(mail_to(2, &MANY));
        script.coordinator.set_flushing(true);
        script.run();
        assert!(script.lane(lane(0, 0)).session().has_doubt());
        script.stuck.clear();
        script.run();
        assert_eq!(script.lane(lane(0, 0)).held(), 1, "its reply is awaited");
        assert_eq!(script.lane(lane(0, 1)).held(), 0, "given up at once");
        assert!(script.progress.batch_running && script.coordinator.backlog() == 1, "nothing more is dealt");
        let outcome = if let Does::Say(text) = answer {
            let now = script.now;
            script.lane_mut(lane(0, 0)).session_mut().receive(text.as_bytes(), now);
            "delivered"
        } else {
            "in_doubt"
        };
        script.finish();
        assert_eq!(script.outcomes(), [(1, outcome, 1), (2, "delivered", 1)]);
    }
}

#[test]
fn what_is_restarted_now_is_not_restarted_again() {
    for later in [Verdict::RESTART_AT_BATCH_END, Verdict::RESTART_NOW] {
        let mut script = Script::new(&[3]);
        script.open();
        // The last of three lanes asks for it as it is opened, the second one when it is
        // given up, and the first is still to be answered.
        let mut orders =
            vec![(1, EventKind::Pass, later), (2, EventKind::ReconnectPass, Verdict::RESTART_NOW)];
        script.decide(move |event| {
            let is_next =
                |next: &mut (u32, EventKind, Verdict)| (next.0, next.1) == (event.lane.thread, event.kind);
            orders.pop_if(is_next).map_or(Verdict::DEFAULT, |next| next.2)
        });
        script.serve(|asked| (asked.what == "content" && asked.lane.thread == 0).then_some(Does::Hang));
        script.stuck = vec![lane(0, 2)];
        script.coordinator.reconnect(lane(0, 2));
        script.take(mail(1));
        script.take(mail_to(2, &MANY));
        script.coordinator.set_flushing(true);
        script.run();
        // The next reply is there, and not judged.
        script.sweep();
        assert!(script.lane(lane(0, 0)).session().has_doubt());
        script.stuck.clear();
        script.wire.clear();
        script.run();
        assert_eq!(script.lane(lane(0, 0)).setbacks.count(), 1, "{later:?}");
        let now = script.now;
        script.lane_mut(lane(0, 0)).session_mut().receive(b"250 queued\r\n", now);
        script.exhaust();
        assert_eq!(script.outcomes(), [(1, "delivered", 1), (2, "delivered", 2)]);
        let opened = script.said(lane(0, 1)).iter().filter(|verb| **verb == "connect").count();
        assert_eq!(opened, 1);
    }
}

#[test]
fn restarting_at_the_batch_end_comes_before_the_next_deal() {
    let mut script = Script::new(&[3]);
    script.serve(|asked| (asked.what == "connect" && asked.lane.thread == 2).then_some(Does::Hang));
    script.run();
    script.wire.clear();
    let mut orders = vec![Verdict::RESTART_AT_BATCH_END];
    script.decide(
        move |event| {
            if event.step == Step::Mail { orders.pop().unwrap_or_default() } else { Verdict::DEFAULT }
        },
    );
    script.take(mail(1));
    script.take(mail_to(2, &MANY));
    script.step();
    script.step();
    script.take(mail(3));
    assert_eq!(script.standing(lane(0, 0)), Standing::Benched);
    script.coordinator.set_flushing(true);
    script.run();
    assert_eq!(script.outcomes(), [(1, "delivered", 2), (2, "delivered", 1), (3, "delivered", 1)]);
    let summary = script.coordinator.summary(script.now);
    assert_eq!((summary.requeued, summary.batches), (1, 2));
    for thread in 0..2 {
        assert_eq!(script.said(lane(0, thread)).iter().filter(|verb| **verb == "QUIT").count(), 1);
    }
}

#[test]
fn a_restart_holds_nothing_against_lanes_that_are_being_opened() {
    let mut script = Script::new(&[2]);
    script.stuck = vec![lane(0, 1)];
    script.decide(|event| if event.lane.thread == 0 { Verdict::RESTART_NOW } else { Verdict::DEFAULT });
    script.run();
    script.stuck.clear();
    script.serve(|asked| (asked.what == "connect").then_some(Does::Refuse));
    script.exhaust();
    let tried = script.notes.seen.iter().filter(|seen| seen.lane == lane(0, 1)).count();
    assert_eq!(tried, 5);
}

#[test]
fn restarts_without_a_finished_mail_between_are_bounded() {
    let mut script = Script::with(&[1], settings(|all| all.max_restarts = 2), patient(20));
    script.open();
    script.serve(when("MAIL", "421 closing\r\n"));
    script.decide(at(EventKind::Fail, Step::Mail, Verdict::RESTART_NOW));
    script.take(mail(1));
    script.run();
    let connects = script.wire.iter().filter(|line| line.ends_with("connect")).count();
    assert_eq!((connects, script.standing(lane(0, 0))), (2, Standing::Benched), "then 203 counts as 102");
    script.exhaust();
    assert!(script.notes.told.is_empty() && script.progress.is_retired());
}

#[test]
fn a_finished_mail_allows_restarts_again() {
    let mut script = one();
    script.decide(at(EventKind::Pass, Step::Content, Verdict::RESTART_NOW));
    for id in 0..10 {
        script.take(mail(id));
        script.run();
    }
    assert_eq!(script.outcomes().len(), 10);
    assert_eq!(script.said(lane(0, 0)).iter().filter(|verb| **verb == "connect").count(), 10);
    assert!(script.notes.seen.iter().all(|seen| seen.attempt <= 2), "and sets the lane's count back");
}

#[test]
fn a_mail_that_is_finished_in_a_flight_given_up_allows_restarts_again() {
    for restart in [Verdict::RESTART_NOW, Verdict::RESTART_AT_BATCH_END] {
        let change = |host: &mut HostSettings| {
            host.pipeline = Pipeline::Envelope;
            host.max_recipients = Some(1);
        };
        let mut script = Script::with(&[2], settings(|all| all.max_restarts = 1), change);
        let mut begun = 0;
        // The third time is the second recipient's, who has not been answered.
        script.serve(offering(DOTS, move |asked| {
            begun += u32::from(asked.what == "MAIL");
            (asked.what == "RCPT" && begun == 3).then_some(Does::Hang)
        }));
        script.open();
        let mut passed = 0;
        script.decide(move |event| {
            passed += u32::from(event.kind == EventKind::Pass && event.step == Step::Mail);
            match (event.step, passed) {
                (Step::Mail, 1) => Verdict::RESTART_NOW,
                (Step::Mail, 3) => restart.drop_message(),
                _ => Verdict::DEFAULT,
            }
        });
        script.take(mail_to(1, &MANY[..2]));
        script.coordinator.set_flushing(true);
        script.run();
        let (holder, other) = (lane(0, 1), lane(0, 0));
        assert_eq!(script.lane(holder).held(), 1);
        script.wire.clear();
        script.coordinator.reconnect(holder);
        script.finish();
        assert_eq!(script.outcomes(), [(1, "partial", 2)]);
        assert_eq!(script.said(other), [&["QUIT"][..], &EHLO].concat(), "{restart:?}");
    }
}

#[test]
fn a_restart_counts_every_reopening_once() {
    for code in [103, 203] {
        let verdict = Verdict::from_code(code).unwrap();
        let mut script = Script::new(&[3]);
        script.open();
        let mut orders = vec![(Step::Rcpt, 1, verdict), (Step::Mail, 0, Verdict::RECONNECT_AT_BATCH_END)];
        script.decide(move |event| {
            let now = orders.last().is_some_and(|next| (next.0, next.1) == (event.step, event.lane.thread));
            if now { orders.pop().map_or(Verdict::DEFAULT, |next| next.2) } else { Verdict::DEFAULT }
        });
        (1..=3).for_each(|id| script.take(mail_to(id, &MANY)));
        script.finish();
        let opened = script.notes.seen.iter().filter(|seen| seen.kind == EventKind::ReconnectPass);
        let mut attempts: Vec<_> = opened.map(|seen| (seen.lane.thread, seen.attempt)).collect();
        attempts.sort_unstable();
        // The third has finished its mail first when the restart is at the end.
        assert_eq!(attempts, [(0, 2), (1, 2), (2, 2)], "{code}");
    }
}

#[test]
fn a_restart_that_counts_as_a_bench_cannot_bring_a_mail_back_for_ever() {
    let mut script = Script::with(&[1], BatchSettings::default(), patient(100));
    script.open();
    script.serve(when("MAIL", "503 what?\r\n"));
    script.decide(at(EventKind::Fail, Step::Mail, Verdict::RESTART_AT_BATCH_END));
    script.take(mail(1));
    script.finish();
    assert_eq!(script.outcomes(), [(1, "abandoned", 3)]);
    assert_eq!(script.notes.seen.iter().filter(|seen| seen.kind == EventKind::Fail).count(), 6);
}

#[test]
fn a_bench_counts_the_attempt_that_nothing_else_would_bound() {
    for text in ["503 what?\r\n", "421 closing\r\n"] {
        let mut script = Script::with(&[1], BatchSettings::default(), patient(100));
        script.open();
        script.serve(when("MAIL", text));
        script.decide(at(EventKind::Fail, Step::Mail, Verdict::BENCH));
        script.take(mail(1));
        script.finish();
        assert_eq!(script.outcomes(), [(1, "abandoned", 3)]);
    }
}

#[test]
fn a_lost_resting_connection_is_a_hang_without_a_mail() {
    let mut script = one();
    script.lane_mut(lane(0, 0)).session_mut().lost(crate::failure::Failure::Closed);
    script.run();
    let seen = &script.notes.seen;
    assert_eq!((seen[0].kind, seen[0].step, seen[0].id), (EventKind::Hang, Step::Idle, None));
    assert_eq!(seen[1].kind, EventKind::ReconnectPass);
    assert_eq!(script.standing(lane(0, 0)), Standing::Active);
}

#[test]
fn a_connection_found_dead_before_mail_costs_no_attempt() {
    let mut script = Script::with(&[1], settings(|all| all.max_attempts = 1), |_| {});
    script.open();
    script.take(mail(1));
    script.settle();
    script.lane_mut(lane(0, 0)).session_mut().lost(crate::failure::Failure::Closed);
    script.run();
    assert_eq!(script.outcomes(), [(1, "delivered", 1)]);
}

#[test]
fn our_own_shortage_is_no_event_and_no_setback() {
    let mut script = Script::with(&[1], BatchSettings::default(), patient(1));
    let mut times = 0;
    script.serve(move |asked| {
        times += u32::from(asked.what == "connect");
        (asked.what == "connect" && times <= 20).then_some(Does::Postpone(SECOND))
    });
    script.run();
    assert_eq!((script.standing(lane(0, 0)), script.progress.untried), (Standing::Benched, 0));
    assert!(!script.progress.is_retired());
    let began = script.now;
    script.take(mail(1));
    script.finish();
    assert_eq!(script.now - began, 20 * SECOND);
    assert_eq!(script.outcomes(), [(1, "delivered", 1)]);
    assert!(
        script.notes.seen.iter().all(|seen| !matches!(seen.kind, EventKind::ConnectFail | EventKind::Hang))
    );
}

#[test]
fn first_and_later_openings_have_callbacks_of_their_own() {
    let mut script = Script::new(&[1]);
    let mut connects = 0;
    script.serve(move |asked| {
        connects += u32::from(asked.what == "connect");
        match asked.what {
            "connect" if connects == 1 => Some(Does::Refuse),
            "greeting" if connects == 4 => Some(Does::Say("554 no\r\n")),
            _ => None,
        }
    });
    script.exhaust();
    script.coordinator.reconnect(lane(0, 0));
    script.exhaust();
    script.coordinator.reconnect(lane(0, 0));
    script.exhaust();
    use EventKind as K;
    let kinds: Vec<_> = script.notes.seen.iter().map(|seen| (seen.kind, seen.step)).collect();
    let expected = [
        (K::ConnectFail, Step::Connect),
        (K::ConnectPass, Step::Ehlo),
        (K::ReconnectPass, Step::Ehlo),
        (K::ReconnectFail, Step::Greeting),
        (K::ReconnectPass, Step::Ehlo),
    ];
    assert_eq!(kinds, expected);
}
