//! Rates, and what a connection is good for.

use super::*;
use crate::limits::Rate;

/// Lanes of hosts with so many threads, all of which have this rate.
fn rated(threads: &[u32], rate: Rate) -> Script {
    let mut script = Script::with(threads, BatchSettings::default(), |host| host.rate = Some(rate));
    script.open();
    script
}

fn connects(script: &Script) -> usize {
    script.wire.iter().filter(|line| line.ends_with("connect")).count()
}

/// One mail after the other.
fn deliver(script: &mut Script, mails: u64) {
    for id in 1..=mails {
        script.take(mail(id));
        script.run();
    }
}

#[test]
fn no_more_mails_are_dealt_than_the_rate_allows_and_the_next_come_in_time() {
    let mut script = rated(&[4], Rate::per_second(2.0).burst(3));
    let begun = script.now;
    (1..=4).for_each(|id| script.take(mail(id)));
    script.run();
    assert_eq!(script.outcomes().len(), 3, "the burst");
    assert_eq!(script.progress.wake_at, Some(begun + SECOND / 2));
    assert!(!script.coordinator.is_batch_due(script.now), "nobody waits for it");
    (5..=7).for_each(|id| script.take(mail(id)));
    assert!(!script.coordinator.has_room(), "no more are taken than lanes can hold");
    for sent in 4..=7 {
        assert!(script.wait());
        script.run();
        assert_eq!((script.outcomes().len(), script.now), (sent, begun + (sent as u32 - 3) * SECOND / 2));
    }
}

#[test]
fn each_host_has_its_own_rate_and_there_is_one_over_all() {
    let total = settings(|all| all.total_rate = Some(Rate::per_second(1.0).burst(3)));
    let mut script = Script::with(&[2, 2], total, |host| {
        host.rate = (host.name == "a.example").then(|| Rate::per_second(1.0).burst(1));
    });
    script.open();
    (1..=4).for_each(|id| script.take(mail(id)));
    script.run();
    let on = |script: &Script, host| {
        let told = script.notes.told.iter().filter_map(|told| told.lane);
        told.filter(|lane| lane.host == host).count()
    };
    assert_eq!((on(&script, 0), on(&script, 1)), (1, 2));
    script.finish();
    assert_eq!(script.outcomes().len(), 4);
}

#[test]
fn every_attempt_takes_its_part_of_the_rate() {
    let mut script = rated(&[2], Rate::per_second(1.0).burst(1));
    script.serve(once("MAIL", Does::Say("451 later\r\n")));
    let begun = script.now;
    script.coordinator.set_flushing(true);
    script.take(mail(1));
    script.run();
    assert_eq!((script.outcomes().len(), script.coordinator.backlog()), (0, 1));
    script.finish();
    assert_eq!((script.outcomes(), script.now), (vec![(1, "delivered", 2)], begun + SECOND));
}

#[test]
fn at_level_2_a_content_does_not_wait_for_the_rate() {
    let change = |host: &mut HostSettings| {
        host.pipeline = Pipeline::Full;
        host.rate = Some(Rate::per_second(1.0).burst(1));
    };
    let mut script = Script::with(&[1], BatchSettings::default(), change);
    script.serve(offering(DOTS, |_| None));
    script.open();
    script.coordinator.set_feeding(true);
    (1..=2).for_each(|id| script.take(mail(id)));
    script.run();
    assert_eq!(script.outcomes(), [(1, "delivered", 1)]);
    script.finish();
    assert_eq!(script.outcomes().len(), 2);
}

#[test]
fn a_connection_that_has_had_its_mails_is_replaced_without_a_setback() {
    for (level, offers) in [(0, "250 mx\r\n"), (1, DOTS), (2, DOTS), (2, CHUNKS)] {
        for pace in [Pace::Lockstep, Pace::Free] {
            let change = move |host: &mut HostSettings| {
                host.pipeline = Pipeline::from_level(level).unwrap();
                host.mails_per_connection = Some(2);
                host.max_connect_failures = 1;
            };
            let mut script = Script::with(&[1], settings(|all| all.pace = pace), change);
            script.serve(offering(offers, |_| None));
            script.open();
            deliver(&mut script, 7);
            assert_eq!(script.outcomes().len(), 7, "{level} {pace:?}");
            assert_eq!(connects(&script), 3, "{level} {pace:?}");
            let quits = script.said(lane(0, 0)).iter().filter(|verb| **verb == "QUIT").count();
            assert_eq!(quits, 3);
            assert_eq!(script.coordinator.summary(script.now).requeued, 0);
        }
    }
}

#[test]
fn a_deal_gives_no_more_mails_than_the_connection_may_have() {
    let change = |host: &mut HostSettings| {
        host.depth = 5;
        host.mails_per_connection = Some(3);
    };
    let mut script = Script::with(&[1], BatchSettings::default(), change);
    script.open();
    (1..=5).for_each(|id| script.take(mail(id)));
    script.settle();
    assert_eq!(script.lane(lane(0, 0)).held(), 3);
    script.finish();
    assert_eq!((script.outcomes().len(), connects(&script)), (5, 1));
}

#[test]
fn what_the_server_states_holds_where_it_is_less() {
    for (set, mails) in [(None, 2), (Some(5), 2), (Some(1), 1)] {
        let change = move |host: &mut HostSettings| host.mails_per_connection = set;
        let mut script = Script::with(&[1], BatchSettings::default(), change);
        script.serve(offering("250-mx.example\r\n250 LIMITS MAILMAX=2\r\n", |_| None));
        script.open();
        deliver(&mut script, 6);
        assert_eq!(script.outcomes().len(), 6);
        assert_eq!(connects(&script), 6 / mails, "{set:?}");
    }
}

#[test]
fn a_connection_that_has_had_its_mails_is_replaced_whatever_became_of_them() {
    for code in [1, 102, 104, 202] {
        let change = |host: &mut HostSettings| host.mails_per_connection = Some(1);
        let mut script = Script::with(&[2], BatchSettings::default(), change);
        script.open();
        let verdict = Verdict::from_code(code).unwrap();
        script.decide(at(EventKind::Fail, Step::Mail, verdict));
        script.serve(once("MAIL", Does::Say("554 no\r\n")));
        (1..=2).for_each(|id| script.take(mail(id)));
        script.finish();
        script.exhaust();
        assert_eq!(connects(&script), 2, "{code}");
        assert!(script.lanes().all(|lane| lane.standing() == Standing::Active), "{code}");
    }
}

#[test]
fn a_connection_that_is_old_is_replaced_before_it_is_dealt_a_mail() {
    let change = |host: &mut HostSettings| host.max_connection_age = Some(60 * SECOND);
    let mut script = Script::with(&[1], BatchSettings::default(), change);
    script.open();
    script.now += 59 * SECOND;
    script.take(mail(1));
    script.run();
    assert_eq!((script.outcomes().len(), connects(&script)), (1, 0));
    script.now += SECOND;
    script.run();
    assert_eq!(connects(&script), 0, "at rest it is left alone");
    script.take(mail(2));
    script.run();
    assert_eq!((script.outcomes().len(), connects(&script)), (2, 1));
    let said = script.said(lane(0, 0));
    let place = |verb: &str| said.iter().rposition(|said| *said == verb).unwrap();
    assert!(place("QUIT") < place("connect") && place("connect") < place("MAIL"));
}

#[test]
fn a_connection_whose_opening_takes_longer_than_its_time_has_a_mail_all_the_same() {
    let change = |host: &mut HostSettings| host.max_connection_age = Some(SECOND);
    let mut script = Script::with(&[1], BatchSettings::default(), change);
    script.open();
    script.now += 60 * SECOND;
    script.take(mail(1));
    script.run();
    assert_eq!(script.said(lane(0, 0)).get(..4), Some(&WHOLE[..]));
    assert_eq!(connects(&script), 1, "behind it");
}

// ---- octets -------------------------------------------------------------------

/// What one mail of the script costs on the wire, RSET and QUIT aside.
fn octets_of_one() -> f64 {
    let mut script = one();
    let before = script.coordinator.summary(script.now).bytes;
    script.take(mail(1));
    script.run();
    (script.coordinator.summary(script.now).bytes - before) as f64
}

#[test]
fn no_mail_is_begun_while_more_octets_were_sent_than_may_be() {
    let one = octets_of_one();
    for is_total in [false, true] {
        // Greetings cost something, too.
        let rate = Some(Rate::per_second(one).burst(3 * one as u32));
        let batch = settings(|all| all.total_byte_rate = rate.filter(|_| is_total));
        let mut script = Script::with(&[2], batch, |host| host.byte_rate = rate.filter(|_| !is_total));
        script.open();
        let begun = script.now;
        for id in 1..=10 {
            take_in_time(&mut script, mail(id));
        }
        script.finish();
        assert_eq!(script.outcomes().len(), 10);
        let took = (script.now - begun).as_secs_f64();
        assert!((6.0..9.0).contains(&took), "10 mails, 3 at once, in {took} s");
    }
}

#[test]
fn what_was_reserved_and_not_sent_is_given_back() {
    let rate = Some(Rate::per_second(1.0).burst(2_000));
    let mut script = Script::with(&[1], settings(|all| all.max_attempts = 1), |host| host.byte_rate = rate);
    script.open();
    script.serve(when("MAIL", "550 no\r\n"));
    let begun = script.now;
    let envelope = || mail(1).into_parts().0;
    for id in 1..=20 {
        script.take(Message::new(envelope(), vec![b'a'; 1_500]).id(id));
        script.run();
    }
    script.finish();
    assert_eq!((script.outcomes().len(), script.now), (20, begun), "no content was sent");
}

#[test]
fn a_content_of_unknown_size_is_counted_when_it_was_sent() {
    let rate = Some(Rate::per_second(100.0).burst(300));
    let mut script = Script::with(&[1], BatchSettings::default(), |host| host.byte_rate = rate);
    script.open();
    let begun = script.now;
    for id in 1..=3 {
        let content = Content::reader(|| Ok(Box::new(std::io::Cursor::new(vec![b'a'; 1_000])) as Box<_>));
        take_in_time(&mut script, Message::new(mail(1).into_parts().0, content).id(id));
    }
    script.finish();
    let took = (script.now - begun).as_secs_f64();
    assert!((16.0..22.0).contains(&took), "two contents of 1,000 had to be waited for: {took} s");
}

#[test]
fn a_connection_that_is_too_old_is_replaced_at_every_level_though_more_mails_are_at_hand() {
    for (level, offers) in [(0, DOTS), (1, DOTS), (2, DOTS), (2, CHUNKS)] {
        let change = move |host: &mut HostSettings| {
            host.pipeline = Pipeline::from_level(level).unwrap();
            host.max_connection_age = Some(10 * SECOND);
        };
        let mut script = Script::with(&[1], BatchSettings::default(), change);
        script.serve(offering(offers, |_| None));
        script.open();
        script.coordinator.set_feeding(true);
        for id in 1..=40 {
            while !script.coordinator.has_room() {
                script.run();
            }
            script.take(mail(id));
            script.run();
            script.now += SECOND;
        }
        script.coordinator.set_feeding(false);
        script.finish();
        assert_eq!(script.outcomes().len(), 40, "{level}");
        assert!((3..=4).contains(&connects(&script)), "{level} {offers}: {}", connects(&script));
    }
}
