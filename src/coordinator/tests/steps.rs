//! What those are told of the steps who only look.

use super::script::notes::Taken;
use super::*;

/// Lanes of one host, whose steps are told from now on.
fn watched(threads: u32, pace: Pace) -> Script {
    let mut script = Script::with(&[threads], settings(|all| all.pace = pace), |_| {});
    script.open();
    script.notes.taken = Some(Vec::new());
    script
}

/// What was told since this was asked last.
fn taken(script: &mut Script) -> Vec<Taken> {
    script.notes.taken.replace(Vec::new()).expect("steps are wanted")
}

/// The same of one lane: its steps, by the first command, and how they ended.
fn told(script: &mut Script, id: crate::host::LaneId) -> Vec<(Step, String)> {
    let all = taken(script).into_iter().filter(|taken| taken.lane == id);
    all.map(|taken| (taken.steps.0, taken.end)).collect()
}

fn ends(list: &[(Step, &str)]) -> Vec<(Step, String)> {
    list.iter().map(|(step, end)| (*step, (*end).to_owned())).collect()
}

// ---- who waits for whom ---------------------------------------------------------

#[test]
fn the_quick_wait_from_their_reply_until_the_slow_one_has_its_own() {
    let mut script = watched(3, Pace::Lockstep);
    let begun = script.now;
    (1..=3).for_each(|id| script.take(mail(id)));
    script.settle();
    script.stuck = vec![lane(0, 1)];
    script.now += SECOND;
    script.step();
    assert_eq!(taken(&mut script), [], "nothing is judged before the barrier is open");
    script.stuck.clear();
    script.now += 4 * SECOND;
    script.step();
    let all = taken(&mut script);
    let waits: Vec<_> = all.iter().map(|taken| (taken.lane, taken.took, taken.waited)).collect();
    assert_eq!(
        waits,
        [
            (lane(0, 0), SECOND, 4 * SECOND),
            (lane(0, 1), 5 * SECOND, Duration::ZERO),
            (lane(0, 2), SECOND, 4 * SECOND),
        ]
    );
    let expected = Taken {
        lane: lane(0, 1),
        batch: 0,
        steps: (Step::Mail, Step::Mail),
        mails: 1,
        began: begun,
        took: 5 * SECOND,
        waited: Duration::ZERO,
        end: "passed".to_owned(),
        is_in_batch: true,
        is_reopening: false,
    };
    assert_eq!(all[1], expected);
    script.run();
    let rest = taken(&mut script);
    let steps: Vec<_> = rest.iter().step_by(3).map(|taken| taken.steps.0).collect();
    assert_eq!((rest.len(), steps), (9, vec![Step::Rcpt, Step::Data, Step::Content]));
    assert!(rest.iter().all(|taken| taken.began == script.now), "each begins where the last one ended");
    (4..=6).for_each(|id| script.take(mail(id)));
    script.run();
    assert!(taken(&mut script).iter().all(|taken| taken.batch == 1));
}

#[test]
fn a_hang_lasts_until_the_deadline_and_a_lost_connection_until_that_is_noticed() {
    let mut script = watched(2, Pace::Lockstep);
    script.serve(|asked| (asked.what == "RCPT" && asked.lane.thread == 1).then_some(Does::Hang));
    (1..=2).for_each(|id| script.take(mail(id)));
    script.run();
    taken(&mut script);
    assert!(script.wait());
    let limit = script.lane(lane(0, 0)).host().timeouts.rcpt;
    let all = taken(&mut script);
    let waits: Vec<_> = all.iter().map(|taken| (taken.steps.0, taken.took, taken.waited)).collect();
    assert_eq!(waits, [(Step::Rcpt, Duration::ZERO, limit), (Step::Rcpt, limit, Duration::ZERO)]);
    assert!(all[0].end == "passed" && all[1].end.starts_with("failed: "), "{}", all[1].end);

    let mut script = watched(2, Pace::Lockstep);
    script.stuck = vec![lane(0, 0), lane(0, 1)];
    (1..=2).for_each(|id| script.take(mail(id)));
    script.run();
    script.now += SECOND;
    let noticed = script.now;
    script.lane_mut(lane(0, 1)).session_mut().lost_at(crate::failure::Failure::Closed, noticed);
    script.now += SECOND;
    script.stuck.clear();
    script.step();
    let all = taken(&mut script);
    assert_eq!((all[0].took, all[0].waited), (2 * SECOND, Duration::ZERO));
    assert_eq!((all[1].took, all[1].waited), (SECOND, SECOND), "who fails at once holds up nobody");
}

/// Writes what the first lane has to say, as far as it fits into one write.
fn write(script: &mut Script) -> usize {
    let (now, mut out) = (script.now, Vec::new());
    let session = script.lane_mut(lane(0, 0)).session_mut();
    session.fill(&mut out);
    session.wrote(out.len(), now);
    out.len()
}

#[test]
fn a_step_is_over_when_its_reply_is_read_and_not_when_it_was_asked_for() {
    let mut script = watched(1, Pace::Lockstep);
    script.take(mail(1));
    script.settle();
    assert!(write(&mut script) > 0);
    script.now += SECOND;
    let now = script.now;
    script.lane_mut(lane(0, 0)).session_mut().receive(b"250 ok\r\n", now);
    script.now += 2 * SECOND;
    script.settle();
    let all = taken(&mut script);
    assert_eq!((all.len(), all[0].took, all[0].waited), (1, SECOND, 2 * SECOND));
}

#[test]
fn a_content_that_breaks_off_ends_with_what_was_written_of_it() {
    for (length, took) in [(10, Duration::ZERO), (100_000, SECOND)] {
        let mut script = watched(1, Pace::Lockstep);
        let content = Content::reader(move || Ok(Box::new(std::io::Cursor::new(vec![b'x'; length]))));
        let content = content.promise(length as u64 + 1);
        script.take(Message::new(mail(1).envelope().clone(), content).id(1));
        script.settle();
        (0..3).for_each(|_| script.step());
        taken(&mut script);
        script.now += SECOND;
        assert_eq!(write(&mut script) > 0, length > 10);
        script.now += SECOND;
        assert_eq!(write(&mut script), 0, "the rest is not there");
        script.now += SECOND;
        script.settle();
        let all = taken(&mut script);
        assert_eq!((all[0].steps.0, all[0].took), (Step::Content, took), "{}", all[0].end);
        assert!(all[0].end.starts_with("failed: "), "{}", all[0].end);
    }
}

#[test]
fn a_straggler_is_told_of_as_one_that_nobody_waits_for() {
    let pace = Pace::Quorum { share: 0.5, grace: SECOND };
    let mut script = watched(2, pace);
    script.stuck = vec![lane(0, 1)];
    (1..=2).for_each(|id| script.take(mail(id)));
    script.run();
    assert!(script.wait());
    let all = taken(&mut script);
    assert_eq!(all.len(), 1, "the one that is late has not taken its step");
    assert!((all[0].waited, all[0].is_in_batch) == (SECOND, true));
    script.run();
    assert!(taken(&mut script).iter().all(|taken| taken.lane == lane(0, 0)));
    script.now += SECOND;
    script.stuck.clear();
    script.run();
    let late = taken(&mut script);
    assert_eq!(late.len(), 4);
    assert!(late.iter().all(|taken| taken.lane == lane(0, 1) && !taken.is_in_batch));
    assert_eq!((late[0].took, late[0].waited), (2 * SECOND, Duration::ZERO));
    assert_eq!(late[0].batch, 1, "that of the others has ended");
}

#[test]
fn where_the_pace_is_free_nobody_waits() {
    let mut script = watched(2, Pace::Free);
    script.stuck = vec![lane(0, 1)];
    (1..=2).for_each(|id| script.take(mail(id)));
    script.run();
    script.now += SECOND;
    script.stuck.clear();
    script.run();
    let all = taken(&mut script);
    assert_eq!(all.len(), 8);
    assert!(all.iter().all(|taken| !taken.is_in_batch && taken.waited == Duration::ZERO));
    assert_eq!(all[4].took, SECOND);
    let batches: Vec<u64> = all.iter().map(|taken| taken.batch).collect();
    assert!(batches.is_sorted() && batches[7] == 2, "mails that were dealt: {batches:?}");
}

// ---- how steps end --------------------------------------------------------------

#[test]
fn a_refusal_is_told_by_its_code_and_the_lane_sits_out_without_a_step() {
    let mut script = watched(2, Pace::Lockstep);
    script.serve(once("RCPT", Does::Say("550 5.1.1 no such user\r\n")));
    (1..=2).for_each(|id| script.take(mail(id)));
    script.run();
    assert_eq!(told(&mut script, lane(0, 0)), ends(&[(Step::Mail, "passed"), (Step::Rcpt, "refused 550")]));
    (3..=4).for_each(|id| script.take(mail(id)));
    script.run();
    let next = told(&mut script, lane(0, 0));
    assert_eq!(next[..2], ends(&[(Step::Rset, "passed"), (Step::Mail, "passed")]));
}

#[test]
fn a_flight_of_several_things_is_one_step_that_is_told_by_its_first_and_its_last() {
    let mut script = flights(1, CHUNKS, Pipeline::Full, 3);
    script.notes.taken = Some(Vec::new());
    script.serve(offering(CHUNKS, to_recipient("bob", "550 no\r\n", 1)));
    (1..=2).for_each(|id| script.take(mail(id)));
    script.take(mail_to(3, &["bob@example.net", "cy@example.net"]));
    script.run();
    let all = taken(&mut script);
    assert_eq!(all.len(), 1);
    assert_eq!((all[0].steps, all[0].mails), ((Step::Mail, Step::Content), 3));
    assert_eq!(all[0].end, "refused 550", "one of its replies");
}

#[test]
fn at_level_1_and_in_lmtp_steps_are_flights_too() {
    let mut script = flights(1, DOTS, Pipeline::Envelope, 1);
    script.notes.taken = Some(Vec::new());
    script.take(mail(1));
    script.run();
    let steps: Vec<_> = taken(&mut script).into_iter().map(|taken| taken.steps).collect();
    assert_eq!(steps, [(Step::Mail, Step::Data), (Step::Content, Step::Content)]);

    let mut script = Script::with(&[1], BatchSettings::default(), |host| host.is_lmtp = true);
    script.open();
    script.notes.taken = Some(Vec::new());
    script.serve(once("content", Does::Say("250 ok\r\n452 full\r\n")));
    script.take(mail_to(1, &THREE[..2]));
    script.run();
    let told = told(&mut script, lane(0, 0));
    assert!(told.contains(&(Step::Content, "refused 452".to_owned())), "for one of its recipients: {told:?}");
}

#[test]
fn a_failure_when_the_lane_rested_is_a_step_without_length() {
    let mut script = watched(1, Pace::Lockstep);
    script.take(mail(1));
    script.run();
    taken(&mut script);
    script.now += 60 * SECOND;
    let now = script.now;
    script.lane_mut(lane(0, 0)).session_mut().lost_at(crate::failure::Failure::Closed, now);
    script.settle();
    let all = taken(&mut script);
    assert_eq!((all.len(), all[0].began, all[0].took), (1, now, Duration::ZERO));
}

#[test]
fn what_is_cut_off_is_told_as_given_up() {
    let mut script = watched(2, Pace::Lockstep);
    script.serve(|asked| (asked.what == "RCPT" && asked.lane.thread == 1).then_some(Does::Hang));
    (1..=2).for_each(|id| script.take(mail(id)));
    script.run();
    taken(&mut script);
    script.now += 3 * SECOND;
    let now = script.now;
    script.coordinator.abort(now, &mut script.notes);
    let all = taken(&mut script);
    let told: Vec<_> = all.iter().map(|taken| (taken.end.as_str(), taken.took, taken.waited)).collect();
    assert_eq!(
        told,
        [("passed", Duration::ZERO, 3 * SECOND), ("given up", 3 * SECOND, Duration::ZERO)],
        "one has its reply, and the other has not"
    );
    script.coordinator.abort(now, &mut script.notes);
    assert_eq!(taken(&mut script), [], "there is nothing more to give up");
}

#[test]
fn a_restart_gives_up_what_is_under_way_and_no_flight_that_it_keeps_from_beginning() {
    let mut script = watched(2, Pace::Lockstep);
    script.stuck = vec![lane(0, 1)];
    (1..=2).for_each(|id| script.take(mail(id)));
    script.run();
    script.now += SECOND;
    script.coordinator.restart();
    script.settle();
    assert_eq!(told(&mut script, lane(0, 1)), ends(&[(Step::Mail, "given up")]));
    let mut script = watched(1, Pace::Lockstep);
    script.take(mail(1));
    script.settle();
    script.sweep();
    script.coordinator.restart();
    script.settle();
    assert_eq!(told(&mut script, lane(0, 0)), ends(&[(Step::Mail, "passed")]));
}

// ---- openings -------------------------------------------------------------------

#[test]
fn an_opening_is_one_step_and_a_later_one_says_so() {
    let mut script = Script::new(&[1]);
    script.notes.taken = Some(Vec::new());
    script.serve(once("connect", Does::Refuse));
    script.run();
    let all = taken(&mut script);
    assert_eq!((all.len(), all[0].steps), (1, (Step::Connect, Step::Connect)));
    assert!(all[0].end.starts_with("failed: ") && !all[0].is_reopening, "{}", all[0].end);
    let failed_at = script.now;
    assert!(script.wait());
    let reopened_at = script.now;
    script.serve(once("EHLO", Does::Say("421 busy\r\n")));
    script.run();
    let all = taken(&mut script);
    assert_eq!(all[0].steps, (Step::Connect, Step::Ehlo), "up to where it failed");
    assert!(all[0].began == reopened_at && reopened_at > failed_at, "the wait before it is to be seen");
    script.exhaust();
    let all = taken(&mut script);
    let last = all.last().unwrap();
    assert_eq!((last.steps, last.end.as_str()), ((Step::Connect, Step::Ehlo), "passed"));
    assert!(!last.is_reopening && !last.is_in_batch, "the first that came about");

    script.serve(once("MAIL", Does::Close));
    script.take(mail(1));
    script.finish();
    let all = taken(&mut script);
    let reopening: Vec<_> = all.iter().filter(|taken| taken.is_reopening).collect();
    assert_eq!((reopening.len(), reopening[0].steps.0), (1, Step::Connect));
    assert_eq!(script.outcomes(), [(1, "delivered", 2)]);
}

#[test]
fn an_opening_lasts_from_its_dialling_on_and_ends_with_its_deadline() {
    let mut script = Script::new(&[1]);
    script.notes.taken = Some(Vec::new());
    script.serve(once("greeting", Does::Hang));
    script.run();
    assert_eq!(taken(&mut script), []);
    let begun = script.now;
    assert!(script.wait());
    let all = taken(&mut script);
    assert_eq!((all.len(), all[0].steps), (1, (Step::Connect, Step::Greeting)));
    assert_eq!((all[0].began, all[0].took), (begun, script.lane(lane(0, 0)).host().timeouts.greeting));
}

#[test]
fn a_login_is_a_step_of_its_own_behind_the_opening() {
    for (reply, end) in [("235 welcome\r\n", "passed"), ("535 no\r\n", "refused 535")] {
        let credentials = crate::auth::Credentials::password("tim", "secret").allow_without_tls();
        let mut script = Script::with(&[2], BatchSettings::default(), |host| {
            host.credentials = Some(credentials.clone());
            host.security = crate::security::Security::StartTls;
        });
        script.notes.taken = Some(Vec::new());
        script.serve(when("AUTH", reply));
        script.run();
        let told = told(&mut script, lane(0, 0));
        let quit = told.get(2).map(|(step, _)| *step);
        assert_eq!(told[..2], ends(&[(Step::Connect, "passed"), (Step::Auth, end)]));
        assert_eq!(quit, (end != "passed").then_some(Step::Quit), "whoever leaves says so");
    }
}

#[test]
fn those_who_wait_to_log_in_fail_without_a_step_of_any_length() {
    let credentials = crate::auth::Credentials::password("tim", "secret").allow_without_tls();
    let mut script = Script::with(&[2], BatchSettings::default(), |host| {
        host.credentials = Some(credentials.clone());
        host.security = crate::security::Security::StartTls;
    });
    script.notes.taken = Some(Vec::new());
    script.serve(when("AUTH", "454 later\r\n"));
    script.run();
    let all = taken(&mut script);
    let put_off: Vec<_> =
        all.iter().filter(|taken| taken.steps.0 == Step::Auth && taken.lane == lane(0, 1)).collect();
    assert_eq!((put_off.len(), put_off[0].took), (1, Duration::ZERO));
    assert!(put_off[0].end.starts_with("failed: "), "{}", put_off[0].end);
}

// ---- who does not look ----------------------------------------------------------

#[test]
fn whoever_does_not_want_steps_is_told_of_none() {
    let mut script = Script::new(&[2]);
    script.open();
    (1..=2).for_each(|id| script.take(mail(id)));
    // The handler's method would panic.
    script.finish();
    assert_eq!(script.outcomes().len(), 2);
}

#[test]
fn a_panic_at_a_step_loses_nothing() {
    let mut script = watched(2, Pace::Lockstep);
    script.notes.on_step = Box::new(|_| panic!("planted"));
    script.serve(once("RCPT", Does::Say("550 no\r\n")));
    (1..=2).for_each(|id| script.take(mail(id)));
    script.coordinator.set_flushing(true);
    let mut panics = 0;
    while catch_unwind(AssertUnwindSafe(|| script.exhaust())).is_err() {
        panics += 1;
        assert!(panics < 100, "panics without end");
    }
    assert_eq!(panics, 4, "one for each step of the lockstep");
    assert_eq!(script.outcomes(), [(1, "refused", 1), (2, "delivered", 1)]);
    assert_eq!(taken(&mut script).len(), 6, "and each lane's step was told");
}
