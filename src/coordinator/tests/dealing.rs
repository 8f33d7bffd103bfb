//! When a batch begins, what it waits for, and which mail goes to which lane.

use super::*;

#[test]
fn a_mail_goes_out_and_comes_back_delivered() {
    let mut script = one();
    script.take(mail(7));
    script.run();
    assert_eq!(script.said(lane(0, 0)), WHOLE);
    assert_eq!(script.outcomes(), [(7, "delivered", 1)]);
    let told = &script.notes.told[0];
    assert_eq!(told.text, "delivered: 250 2.0.0 queued");
    assert_eq!(
        (told.lane, told.recipients.clone()),
        (Some(lane(0, 0)), vec!["ann@example.net delivered".into()])
    );
    use EventKind::Pass;
    let passes = [
        (Pass, Step::Mail, 250),
        (Pass, Step::Rcpt, 250),
        (Pass, Step::Data, 354),
        (Pass, Step::Content, 250),
    ];
    assert_eq!(script.mail_events(), passes);
}

#[test]
fn a_batch_begins_when_every_active_lane_has_a_mail() {
    let mut script = Script::new(&[2, 1]);
    script.open();
    script.take(mail(1));
    script.take(mail(2));
    script.run();
    assert!(script.wire.is_empty() && !script.progress.batch_running);
    script.take(mail(3));
    script.run();
    assert_eq!(script.outcomes().len(), 3);
    assert_eq!(script.coordinator.summary(script.now).batches, 1);
    for (host, thread) in [(0, 0), (0, 1), (1, 0)] {
        assert_eq!(script.said(lane(host, thread)), WHOLE);
    }
}

#[test]
fn lanes_that_are_being_opened_are_not_waited_for() {
    let mut script = Script::new(&[2]);
    script.serve(|asked| (asked.what == "connect" && asked.lane.thread == 1).then_some(Does::Hang));
    script.run();
    script.take(mail(1));
    script.run();
    assert_eq!(script.outcomes(), [(1, "delivered", 1)]);
}

#[test]
fn no_step_is_judged_before_the_last_lane_has_finished_it() {
    let mut script = Script::new(&[3]);
    script.open();
    script.serve(|asked| (asked.what == "RCPT" && asked.lane.thread == 2).then_some(Does::Hang));
    (1..=3).for_each(|id| script.take(mail(id)));
    script.run();
    assert!(!script.coordinator.is_step_over(script.now));
    for thread in 0..2 {
        assert_eq!(script.said(lane(0, thread)), ["MAIL", "RCPT"], "waits at the barrier");
        assert!(script.lane(lane(0, thread)).session().answer().is_some());
    }
    script.settle();
    assert_eq!(script.mail_events().len(), 3, "a settle too many judges nothing");
    script.wait();
    script.run();
    assert_eq!(script.said(lane(0, 0)), WHOLE);
    assert_eq!(script.notes.told.len(), 2);
}

#[test]
fn silent_peers_cost_one_timeout_together() {
    let mut script = Script::new(&[5]);
    script.open();
    let began = script.now;
    script.serve(|asked| (asked.what == "MAIL" && asked.lane.thread < 4).then_some(Does::Hang));
    (1..=5).for_each(|id| script.take(mail(id)));
    script.run();
    script.wait();
    assert_eq!(script.now - began, Duration::from_secs(300));
    assert_eq!(script.notes.seen.iter().filter(|seen| seen.kind == EventKind::Hang).count(), 4);
}

#[test]
fn a_hang_names_its_lane_step_and_time() {
    let mut script = one();
    script.serve(once("DATA", Does::Hang));
    script.take(mail(1));
    script.run();
    script.wait();
    let hang = script.notes.seen.last().unwrap();
    assert_eq!((hang.kind, hang.lane, hang.step), (EventKind::Hang, lane(0, 0), Step::Data));
    assert_eq!((hang.id, hang.elapsed), (Some(1), Duration::from_secs(120)));
}

#[test]
fn flush_runs_a_short_batch() {
    let mut script = Script::new(&[3]);
    script.open();
    script.take(mail(1));
    script.coordinator.set_flushing(true);
    script.run();
    assert_eq!(script.outcomes(), [(1, "delivered", 1)]);
}

#[test]
fn linger_runs_a_short_batch_when_its_time_has_come() {
    let mut script = Script::with(&[3], settings(|all| all.linger = Some(5 * SECOND)), |_| {});
    script.open();
    script.take(mail(1));
    script.run();
    assert_eq!(script.progress.wake_at, Some(script.now + 5 * SECOND));
    script.now += 2 * SECOND;
    script.take(mail(2));
    script.run();
    assert!(script.notes.told.is_empty());
    script.now += 3 * SECOND;
    script.run();
    assert_eq!(script.outcomes(), [(1, "delivered", 1), (2, "delivered", 1)], "the first one's time counts");
}

#[test]
fn linger_runs_what_was_requeued_and_nothing_new() {
    let mut script = Script::with(&[3], settings(|all| all.linger = Some(5 * SECOND)), |_| {});
    script.open();
    script.serve(once("MAIL", Does::Say("451 later\r\n")));
    (1..=3).for_each(|id| script.take(mail(id)));
    script.run();
    assert_eq!((script.notes.told.len(), script.coordinator.backlog()), (2, 1));
    assert!(script.wait());
    script.run();
    assert_eq!(script.notes.told.len(), 3);
}

#[test]
fn short_batches_wear_all_lanes_alike() {
    let mut script = Script::new(&[2, 2]);
    script.open();
    script.coordinator.set_flushing(true);
    for id in 0..4 {
        script.take(mail(id));
        script.run();
    }
    for (host, thread) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        assert_eq!(script.said(lane(host, thread)), WHOLE);
    }
}

#[test]
fn no_more_is_taken_than_there_are_lanes() {
    let mut script = Script::new(&[2]);
    script.take(mail(1));
    script.take(mail(2));
    assert!(!script.coordinator.has_room());
    assert_eq!(number(&script.coordinator.take(mail(3), script.now).unwrap_err()), 3);
    script.finish();
    assert!(script.coordinator.has_room());
}

#[test]
fn requeued_mails_are_dealt_first() {
    let mut script = one();
    script.serve(once("MAIL", Does::Say("451 later\r\n")));
    script.take(mail(1));
    script.run();
    // Room for one only: the mail that came back fills it and has run.
    assert_eq!(script.outcomes(), [(1, "delivered", 2)]);

    let mut script = Script::new(&[2]);
    script.open();
    script.serve(once("MAIL", Does::Say("451 later\r\n")));
    script.take(mail(1));
    script.take(mail(2));
    script.run();
    script.take(mail(3));
    script.run();
    let order: Vec<u64> = script.notes.seen.iter().filter_map(|seen| seen.id).collect();
    let second: Vec<u64> = order.into_iter().filter(|id| [1, 3].contains(id)).collect();
    assert_eq!(second.first(), Some(&1));
    assert_eq!(script.outcomes(), [(1, "delivered", 2), (2, "delivered", 1), (3, "delivered", 1)]);
}

#[test]
fn a_requeued_mail_goes_to_another_host() {
    let mut script = Script::new(&[3, 1]);
    script.open();
    script
        .serve(|asked| (asked.what == "MAIL" && asked.lane.host == 0).then_some(Does::Say("451 later\r\n")));
    script.coordinator.set_flushing(true);
    script.take(mail(1));
    script.run();
    assert_eq!(script.outcomes(), [(1, "delivered", 2)]);
    assert_eq!(script.notes.told[0].lane, Some(lane(1, 0)));
}

#[test]
fn a_requeued_mail_goes_to_another_lane_of_the_only_host() {
    let mut script = Script::new(&[2]);
    script.open();
    script.serve(|asked| {
        (asked.what == "MAIL" && asked.lane.thread == 0).then_some(Does::Say("451 later\r\n"))
    });
    script.coordinator.set_flushing(true);
    script.take(mail(1));
    script.run();
    assert_eq!(script.outcomes(), [(1, "delivered", 2)]);
    assert_eq!(script.notes.told[0].lane, Some(lane(0, 1)));
}

#[test]
fn what_a_host_refused_for_the_time_being_goes_to_another_one_next() {
    for (hosts, threads) in [(2, 1), (2, 2), (2, 3), (3, 1), (3, 2), (4, 3)] {
        for (mails, sick) in
            (1..=u64::from(hosts * threads)).flat_map(|mails| [(mails, 0), (mails, hosts - 1)])
        {
            let mut script = Script::new(&vec![threads; hosts as usize]);
            script.serve(move |asked: &Asked<'_>| {
                let refuses = asked.lane.host == sick && asked.what == "MAIL";
                refuses.then_some(Does::Say("451 later\r\n"))
            });
            script.open();
            (1..=mails).for_each(|id| script.take(mail(id)));
            script.finish();
            let outcomes = script.outcomes();
            let is_fine = outcomes.iter().all(|told| told.1 == "delivered" && told.2 <= 2);
            assert!(is_fine, "{hosts} hosts of {threads}, the one that refuses {sick}: {outcomes:?}");
        }
    }
}

#[test]
fn more_retries_than_lanes_have_their_turns_in_their_order() {
    let mut script = Script::with(&[3], settings(|batch| batch.max_attempts = 5), |_| {});
    script.serve(|asked: &Asked<'_>| (asked.what == "RCPT").then_some(Does::Say("451 later\r\n")));
    script.open();
    // Two of the three lanes go out of use, and the third one has all mails.
    script.decide(|event| {
        let goes = event.kind == EventKind::Fail && event.lane.thread > 0;
        if goes { Verdict::RETIRE } else { Verdict::DEFAULT }
    });
    (1..=3).for_each(|id| script.take(mail(id)));
    script.finish();
    let fails = script.notes.seen.iter().filter(|seen| seen.kind == EventKind::Fail);
    let order: Vec<u64> = fails.filter_map(|seen| seen.id).collect();
    assert_eq!(order.len(), 15, "{order:?}");
    let all = |turn: &[u64]| (1..=3).all(|id| turn.contains(&id));
    assert!(order.chunks(3).all(all), "each has its turn before one has another: {order:?}");
}

#[test]
fn a_short_batch_is_even_over_lanes_that_were_dealt_retries() {
    let mut script = Script::with(&[3], BatchSettings::default(), |host| host.depth = 4);
    script.open();
    script.serve(once("MAIL", Does::Say("451 later\r\n")));
    script.take(mail(1));
    run_one_batch(&mut script);
    (2..=6).for_each(|id| script.take(mail(id)));
    script.coordinator.set_flushing(true);
    script.settle();
    let mut held: Vec<usize> = script.lanes().map(Lane::held).collect();
    held.sort_unstable();
    assert_eq!(held, [2, 2, 2], "one of them a retry");
}
