//! Abort, goodbye, and the accounts at the end.

use super::*;

#[test]
fn abort_returns_what_is_untouched_and_reports_the_rest() {
    let mut script = Script::new(&[4]);
    script.open();
    let mut bob = to_recipient("bob", "450 later\r\n", 99);
    script.serve(move |asked| {
        if asked.what == "content" && asked.line.contains("Number 2") {
            return Some(Does::Hang);
        }
        bob(asked)
    });
    // The first is delivered but for one recipient, the second past its last
    // octet, the third amid its recipients, the fourth not begun.
    script.take(mail_to(1, &["ann@example.net", "bob@example.net"]));
    run_one_batch(&mut script);
    assert_eq!(script.coordinator.backlog(), 1);
    script.take(mail(2));
    script.take(mail_to(3, &MANY));
    run_one_batch(&mut script);
    script.take(mail(4));
    assert!(script.progress.batch_running);
    let returned = script.coordinator.abort(script.now, &mut script.notes);
    let mut ids: Vec<u64> = returned.iter().map(number).collect();
    ids.sort_unstable();
    assert_eq!(ids, [3, 4]);
    let outcomes: Vec<_> = script.outcomes().iter().map(|told| (told.0, told.1)).collect();
    assert_eq!(outcomes, [(1, "partial"), (2, "in_doubt")]);
    let first = script.notes.told.iter().find(|told| told.id == 1).unwrap();
    assert_eq!(first.recipients, ["ann@example.net delivered", "bob@example.net unsent"]);
    let summary = script.coordinator.summary(script.now);
    assert_eq!((summary.taken, summary.mails.total(), summary.mails.unsent), (4, 4, 2));
    assert!(script.lanes().all(|lane| lane.link() == Link::Down));
    assert_eq!(script.coordinator.open_mails(), 0);
}

#[test]
fn abort_judges_what_was_answered_already() {
    let mut script = one();
    script.take(mail(1));
    script.settle();
    (0..3).for_each(|_| script.step());
    script.sweep();
    assert!(script.lane(lane(0, 0)).session().answer().is_some());
    assert!(script.coordinator.abort(script.now, &mut script.notes).is_empty());
    assert_eq!(script.outcomes(), [(1, "delivered", 1)]);
}

#[test]
fn abandon_reports_what_abort_would_return() {
    let mut script = Script::new(&[2]);
    script.take(mail(1));
    script.take(mail(2));
    script.coordinator.abandon(script.now, &mut script.notes);
    assert_eq!(script.outcomes(), [(1, "unsent", 0), (2, "unsent", 0)]);
    assert_eq!(script.coordinator.summary(script.now).mails.unsent, 2);
}

#[test]
fn an_aborted_coordinator_works_again_after_a_restart() {
    let mut script = Script::new(&[2]);
    script.open();
    script.take(mail(1));
    script.coordinator.abort(script.now, &mut script.notes);
    script.run();
    assert!(script.progress.is_retired() && script.wire.is_empty());
    script.coordinator.restart();
    script.take(mail(2));
    script.finish();
    assert_eq!(script.outcomes(), [(2, "delivered", 1)]);
}

#[test]
fn goodbye_says_quit_on_every_session_and_opens_none() {
    let mut script = Script::new(&[2, 1]);
    script.serve(|asked| (asked.what == "connect" && asked.lane.host == 1).then_some(Does::Refuse));
    script.run();
    script.wire.clear();
    script.coordinator.say_goodbye(script.now);
    script.finish();
    assert_eq!(script.wire, ["0:0 QUIT", "0:1 QUIT"]);
    assert!(script.progress.is_retired() && script.lanes().all(|lane| lane.link() == Link::Down));
}

#[test]
fn a_server_that_ignores_quit_is_left_when_its_time_is_over() {
    let mut script = one();
    script.serve(|asked| (asked.what == "QUIT").then_some(Does::Hang));
    script.coordinator.say_goodbye(script.now);
    script.run();
    assert_eq!(script.lane(lane(0, 0)).link(), Link::Up);
    let began = script.now;
    script.wait();
    assert_eq!(script.now - began, 10 * SECOND);
    assert_eq!(script.lane(lane(0, 0)).link(), Link::Down);
}

#[test]
fn the_summary_adds_up() {
    let mut script = Script::new(&[2, 2]);
    script.open();
    let mut random = fastrand::Rng::with_seed(1);
    script.serve(move |asked| {
        let text = ["450 later\r\n", "550 no\r\n", "421 closing\r\n"][random.usize(..3)];
        let hit = matches!(asked.what, "MAIL" | "RCPT" | "content") && random.u32(..6) == 0;
        hit.then_some(if random.u32(..3) == 0 { Does::Close } else { Does::Say(text) })
    });
    let mut taken = 0;
    for id in 0..400 {
        if script.coordinator.has_room() {
            script.take(mail_to(id, &THREE));
            taken += 1;
        }
        script.run();
        script.coordinator.restart();
    }
    script.finish();
    let summary = script.coordinator.summary(script.now);
    let open = script.coordinator.open_mails();
    assert_eq!(summary.taken, taken);
    assert_eq!(summary.taken, summary.mails.total() + open);
    assert_eq!(script.notes.told.len() as u64, summary.mails.total(), "one report each");
    assert_eq!(summary.recipients.total(), 3 * summary.mails.total());
    let hosts = summary.hosts.iter();
    let (mails, bytes) =
        hosts.fold((0, 0), |(mails, bytes), host| (mails + host.mails.total(), bytes + host.bytes));
    assert_eq!((mails, bytes), (summary.mails.total(), summary.bytes));
    assert!(summary.mails.delivered > 50 && summary.mails.partial > 0 && summary.mails.refused > 0);
}

#[test]
fn codes_and_verdicts_are_the_same_thing() {
    for code in [1, 101, 102, 103, 104, 202, 203] {
        assert_eq!(Verdict::from_code(code).unwrap().code(), code);
    }
    assert_eq!(Verdict::from_code(1).unwrap().session, SessionVerdict::Default);
    for code in [0, 2, 100, 105, 201, 204, u16::MAX] {
        assert_eq!(Verdict::from_code(code).unwrap_err().0, code);
    }
}
