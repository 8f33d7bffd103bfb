//! What a server does not stand in a flight is not done to it again, on any lane.

use super::*;

#[test]
fn a_server_that_refuses_mail_behind_a_content_is_not_asked_so_again() {
    let mut script = flights(1, DOTS, Pipeline::Full, 1);
    let mut is_behind = false;
    script.serve(offering(DOTS, move |asked| {
        let refuses = asked.what == "MAIL" && is_behind;
        is_behind = asked.what == "content";
        refuses.then_some(Does::Say("503 sequence\r\n"))
    }));
    (1..=2).for_each(|id| script.take(mail(id)));
    script.finish();
    assert_eq!(script.outcomes(), [(1, "delivered", 1), (2, "delivered", 1)]);
    script.serve(offering(DOTS, |_| None));
    (3..=4).for_each(|id| script.take(mail(id)));
    let all = ["MAIL RCPT DATA", "content", "MAIL RCPT DATA", "content"];
    assert_eq!(steps(&mut script), all);
    assert_eq!(script.coordinator.take_lesson(), Some((0, Lesson::Pipeline(Pipeline::Envelope))));
    assert_eq!(script.coordinator.take_lesson(), None);
}

#[test]
fn a_server_that_does_not_know_bdat_is_left_at_once() {
    for refusal in ["500 what\r\n", "502 not here\r\n"] {
        let mut script = flights(1, CHUNKS, Pipeline::Full, 1);
        script.serve(offering(CHUNKS, move |asked| (asked.what == "BDAT").then_some(Does::Say(refusal))));
        script.take(mail(1));
        script.finish();
        assert_eq!(script.outcomes(), [(1, "delivered", 1)], "by DATA");
        let bdats = script.wire.iter().filter(|line| line.ends_with("BDAT")).count();
        assert_eq!(bdats, 1, "{:?}", script.wire);
        assert!(script.lane(lane(0, 0)).connection() > 0);
    }
}

#[test]
fn a_server_that_loses_a_pipelined_command_is_asked_one_at_a_time() {
    let mut script = flights(1, DOTS, Pipeline::Envelope, 1);
    script.serve(offering(DOTS, |asked| (asked.what == "DATA").then_some(Does::Hang)));
    script.take(mail(1));
    script.coordinator.set_flushing(true);
    script.run();
    script.wait();
    script.serve(offering(DOTS, |_| None));
    script.run();
    assert_eq!(script.outcomes(), [(1, "delivered", 2)]);
    assert_eq!(script.coordinator.take_lesson(), Some((0, Lesson::Pipeline(Pipeline::Single))));
}

#[test]
fn level_2_ends_where_a_server_breaks_on_a_mail_behind_its_first_content() {
    for does in [|| Does::Close, || Does::Hang, || Does::Say("421 confused\r\n")] {
        let mut script = flights(1, DOTS, Pipeline::Full, 1);
        let mut is_behind = false;
        script.serve(offering(DOTS, move |asked| {
            let breaks = asked.what == "MAIL" && is_behind;
            is_behind = asked.what == "content";
            breaks.then(does)
        }));
        (1..=2).for_each(|id| script.take(mail(id)));
        script.finish();
        assert_eq!(script.coordinator.take_lesson(), Some((0, Lesson::Pipeline(Pipeline::Envelope))));
        let all: Vec<_> = script.outcomes().iter().map(|(id, outcome, _)| (*id, *outcome)).collect();
        assert_eq!(all, [(1, "delivered"), (2, "delivered")]);
        assert_eq!(script.coordinator.summary(script.now).hosts[0].pipeline, Pipeline::Envelope);
    }
}

#[test]
fn what_one_lane_has_learnt_holds_for_those_that_are_about_to_send() {
    let mut script = flights(2, DOTS, Pipeline::Full, 1);
    let mut is_behind = [false; 2];
    script.serve(offering(DOTS, move |asked| {
        let is_behind = &mut is_behind[asked.lane.thread as usize];
        let breaks = asked.what == "MAIL" && *is_behind && asked.lane.thread == 1;
        *is_behind = asked.what == "content";
        breaks.then_some(Does::Say("503 sequence\r\n"))
    }));
    (1..=4).for_each(|id| script.take(mail(id)));
    script.coordinator.set_feeding(true);
    script.run();
    (5..=6).for_each(|id| script.take(mail(id)));
    script.run();
    script.finish();
    // In one flight they follow each other on the wire; a lane between them has had
    // its own, and so has a step.
    let behind = |content: &str, mail: &str| {
        let both = |pair: &[String]| pair[0] == content && pair[1].starts_with(mail);
        script.wire.windows(2).filter(|pair| both(pair)).count()
    };
    assert_eq!(behind("0:0 content", "0:0 MAIL"), 1 + 1, "{:?}", script.wire);
    assert_eq!(behind("0:1 content", "0:1 MAIL"), 1, "{:?}", script.wire);
    assert_eq!(script.outcomes().len(), 6);
}

#[test]
fn binary_content_is_refused_by_the_client_where_bdat_is_not_known_after_all() {
    const BINARY: &str = "250-mx.example\r\n250-CHUNKING\r\n250 BINARYMIME\r\n";
    let mut script = flights(1, BINARY, Pipeline::Single, 1);
    script.serve(offering(BINARY, |asked| (asked.what == "BDAT").then_some(Does::Say("502 what?\r\n"))));
    let content = crate::content::Content::from("\0").body(crate::parameters::Body::BinaryMime);
    script.take(Message::new(mail(1).envelope().clone(), content).id(1));
    script.finish();
    assert_eq!(script.outcomes(), [(1, "refused", 1)]);
    assert_eq!(script.said(lane(0, 0)).iter().filter(|verb| **verb == "BDAT").count(), 1);
    let lesson = Lesson::Extension(crate::extensions::Extension::Chunking);
    assert_eq!(script.coordinator.take_lesson(), Some((0, lesson)));
}

#[test]
fn a_server_that_ends_an_idle_session_has_taught_nothing_about_pipelining() {
    let mut script = flights(1, CHUNKS, Pipeline::Full, 1);
    script.take(mail(1));
    script.finish();
    let now = script.now;
    script.take(mail(2));
    script.settle();
    script.lane_mut(lane(0, 0)).session_mut().receive(b"421 idle\r\n", now);
    script.finish();
    assert_eq!(script.outcomes(), [(1, "delivered", 1), (2, "delivered", 1)]);
    assert_eq!(script.coordinator.take_lesson(), None);
}

#[test]
fn bdat_that_is_not_known_costs_no_other_mail_an_attempt() {
    let mut script = flights(1, CHUNKS, Pipeline::Full, 2);
    let mut chunks = 0;
    script.serve(offering(CHUNKS, move |asked| {
        chunks += u32::from(asked.what == "BDAT");
        (asked.what == "BDAT" && chunks == 1).then_some(Does::Say("502 what?\r\n"))
    }));
    script.take(mail(1));
    script.take(mail(2));
    script.finish();
    let hangs = script.notes.seen.iter().filter(|seen| seen.kind == EventKind::Hang).count();
    assert_eq!(hangs, 0, "{:?}", script.mail_events());
}

#[test]
fn a_connection_that_is_lost_where_level_2_has_worked_has_taught_nothing() {
    for (offers, content) in [(CHUNKS, "BDAT"), (DOTS, "content")] {
        let mut script = flights(1, offers, Pipeline::Full, 1);
        let mut contents = 0;
        script.serve(offering(offers, move |asked| {
            contents += u32::from(asked.what == content);
            (asked.what == content && contents == 2).then_some(Does::Close)
        }));
        script.coordinator.set_feeding(true);
        (1..=2).for_each(|id| script.take(mail(id)));
        script.run();
        script.take(mail(3));
        script.run();
        script.coordinator.set_feeding(false);
        script.finish();
        let expected = [(1, "delivered", 1), (2, "in_doubt", 1), (3, "delivered", 1)];
        assert_eq!(script.outcomes(), expected, "{content}");
        assert_eq!(script.coordinator.take_lesson(), None, "{content}");
        assert_eq!(script.coordinator.summary(script.now).hosts[0].pipeline, Pipeline::Full);
    }
}

#[test]
fn a_connection_found_closed_before_its_first_flight_has_taught_nothing() {
    let mut script = flights(1, CHUNKS, Pipeline::Full, 1);
    script.take(mail(1));
    script.settle();
    script.lane_mut(lane(0, 0)).session_mut().lost(crate::failure::Failure::Closed);
    script.finish();
    assert_eq!(script.outcomes(), [(1, "delivered", 1)]);
    assert_eq!(script.coordinator.take_lesson(), None);
    assert_eq!(script.coordinator.summary(script.now).hosts[0].pipeline, Pipeline::Full);
}

#[test]
fn a_server_that_says_behind_its_last_refusal_that_it_closes_has_taught_nothing() {
    for (offers, level, what) in
        [(DOTS, Pipeline::Envelope, "DATA"), (DOTS, Pipeline::Full, "DATA"), (CHUNKS, Pipeline::Full, "BDAT")]
    {
        let mut script = flights(1, offers, level, 1);
        script.serve(offering(offers, move |asked| match asked.what {
            "RCPT" => Some(Does::Say("550 no\r\n")),
            _ if asked.what == what => Some(Does::Say("503 nobody\r\n421 closing\r\n")),
            _ => None,
        }));
        script.take(mail(1));
        script.finish();
        assert_eq!(script.outcomes(), [(1, "refused", 1)], "{what}");
        assert_eq!(script.coordinator.take_lesson(), None, "{level:?} {what}");
        assert_eq!(script.coordinator.summary(script.now).hosts[0].pipeline, level);
    }
}

#[test]
fn a_server_that_loses_what_comes_with_a_content_is_not_asked_so_again() {
    let mut script = flights(1, DOTS, Pipeline::Full, 1);
    let mut is_behind = false;
    // MAIL and RCPT are accepted, and forgotten when the content has been stored.
    script.serve(offering(DOTS, move |asked| {
        let breaks = asked.what == "DATA" && is_behind;
        let is_other = !["connect", "DATA"].contains(&asked.what);
        is_behind = asked.what == "content" || (is_behind && is_other);
        breaks.then_some(Does::Say("503 no transaction\r\n"))
    }));
    (1..=2).for_each(|id| script.take(mail(id)));
    script.finish();
    assert_eq!(script.outcomes(), [(1, "delivered", 1), (2, "delivered", 1)]);
    assert_eq!(script.coordinator.take_lesson(), Some((0, Lesson::Pipeline(Pipeline::Envelope))));
}

#[test]
fn a_reply_too_many_that_comes_late_teaches_the_same() {
    let surplus = [
        ("500 what?\r\n", Pipeline::Envelope),
        ("250 ok\r\n", Pipeline::Envelope),
        ("421 idle\r\n", Pipeline::Full),
        ("451 timeout\r\n", Pipeline::Full),
        ("221 idle, bye\r\n", Pipeline::Full),
        ("554 timeout, closing\r\n", Pipeline::Full),
    ];
    for (text, most) in surplus {
        for is_at_rest in [false, true] {
            let mut script = flights(1, CHUNKS, Pipeline::Full, 1);
            script.take(mail(1));
            script.finish();
            if !is_at_rest {
                script.take(mail(2));
                script.settle();
            }
            let now = script.now;
            script.lane_mut(lane(0, 0)).session_mut().receive(text.as_bytes(), now);
            script.finish();
            assert_eq!(script.coordinator.summary(script.now).hosts[0].pipeline, most, "{text} {is_at_rest}");
            assert!(script.outcomes().iter().all(|told| (told.1, told.2) == ("delivered", 1)));
        }
    }
    // Where nothing was pipelined, it teaches nothing of that.
    for is_at_rest in [false, true] {
        let mut script = flights(1, CHUNKS, Pipeline::Full, 1);
        if !is_at_rest {
            script.take(mail(1));
            script.settle();
        }
        let now = script.now;
        script.lane_mut(lane(0, 0)).session_mut().receive(b"500 what?\r\n", now);
        script.finish();
        assert_eq!(script.coordinator.take_lesson(), None);
    }
}

#[test]
fn a_reply_too_many_behind_a_verdict_is_about_the_flight_before_it() {
    let mut script = flights(1, CHUNKS, Pipeline::Full, 1);
    // The flight of one recipient at a time is not the one that it is about.
    script.serve(offering(CHUNKS, once("RCPT", Does::Say("550 nobody\r\n"))));
    script.take(mail_to(1, &MANY[..2]).all_or_nothing());
    script.finish();
    script.decide(at(EventKind::Pass, Step::Content, Verdict::BENCH));
    script.take(mail(2));
    script.finish();
    let now = script.now;
    script.lane_mut(lane(0, 0)).session_mut().receive(b"500 what?\r\n", now);
    script.finish();
    assert_eq!(script.coordinator.take_lesson(), Some((0, Lesson::Pipeline(Pipeline::Envelope))));
}

#[test]
fn a_reply_too_many_is_not_about_a_connection_that_is_gone() {
    let mut script = Script::with(&[1], BatchSettings::default(), |host| {
        host.is_lmtp = true;
        host.pipeline = Pipeline::Envelope;
    });
    let mut is_first = true;
    script.serve(move |asked| match asked.what {
        "LHLO" if std::mem::take(&mut is_first) => Some(Does::Say(DOTS)),
        "LHLO" => Some(Does::Say("250 mx.example\r\n")),
        "content" => Some(Does::Say("250 ok\r\n250 ok\r\n")),
        _ => None,
    });
    script.open();
    script.take(mail_to(1, &MANY[..2]));
    script.finish();
    script.coordinator.reconnect(lane(0, 0));
    script.run();
    // One command at a time, but two replies to the content.
    script.take(mail_to(2, &MANY[..2]));
    script.finish();
    let now = script.now;
    script.lane_mut(lane(0, 0)).session_mut().receive(b"500 what?\r\n", now);
    script.finish();
    assert_eq!(script.outcomes(), [(1, "delivered", 1), (2, "delivered", 1)]);
    assert_eq!(script.coordinator.take_lesson(), None);
}

#[test]
fn a_reply_too_many_on_each_lane_ends_no_more_than_on_one() {
    let mut script = flights(2, CHUNKS, Pipeline::Full, 1);
    (1..=2).for_each(|id| script.take(mail(id)));
    script.finish();
    let now = script.now;
    for thread in 0..2 {
        script.lane_mut(lane(0, thread)).session_mut().receive(b"500 what?\r\n", now);
    }
    script.finish();
    assert_eq!(script.coordinator.take_lesson(), Some((0, Lesson::Pipeline(Pipeline::Envelope))));
    assert_eq!(script.coordinator.take_lesson(), None);
}

#[test]
fn data_refused_at_level_1_leaves_level_1() {
    let mut script = flights(1, DOTS, Pipeline::Envelope, 1);
    script.serve(offering(DOTS, once("DATA", Does::Say("503 what?\r\n"))));
    script.take(mail(1));
    script.finish();
    assert_eq!(script.outcomes(), [(1, "delivered", 1)]);
    assert_eq!(script.coordinator.take_lesson(), None);
}

#[test]
fn a_server_that_refuses_every_mail_alike_ends_no_level() {
    for refused in [&["MAIL", "RCPT", "BDAT"][..], &["MAIL", "RCPT", "BDAT", "RSET"]] {
        let mut script = flights(1, CHUNKS, Pipeline::Full, 4);
        script.serve(offering(CHUNKS, move |asked| {
            refused.contains(&asked.what).then_some(Does::Say("503 log in\r\n"))
        }));
        (1..=4).for_each(|id| script.take(mail(id)));
        script.finish();
        assert!(script.notes.told.is_empty(), "{refused:?}");
        assert_eq!(script.coordinator.take_lesson(), None, "{refused:?}");
    }
}

#[test]
fn bdat_that_is_not_known_at_level_1_leaves_level_1() {
    const BINARY: &str = "250-mx.example\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 BINARYMIME\r\n";
    let mut script = flights(1, BINARY, Pipeline::Envelope, 1);
    script.serve(offering(BINARY, |asked| (asked.what == "BDAT").then_some(Does::Say("502 what?\r\n"))));
    let content = Content::reader(|| Ok(Box::new(std::io::Cursor::new(vec![b'x'; 200_000]))));
    let content = content.body(crate::parameters::Body::BinaryMime);
    script.take(Message::new(mail(1).envelope().clone(), content).id(1));
    script.finish();
    assert_eq!(script.outcomes(), [(1, "refused", 1)]);
    assert_eq!(script.coordinator.summary(script.now).hosts[0].pipeline, Pipeline::Envelope);
}

#[test]
fn at_a_354_a_connection_found_closed_is_charged_to_the_mail_where_nothing_else_let_the_server_wait() {
    for (level, attempts) in [(Pipeline::Envelope, 2), (Pipeline::Full, 1)] {
        let mut script = flights(1, DOTS, level, 1);
        script.take(mail(1));
        script.coordinator.set_flushing(true);
        script.settle();
        script.sweep();
        script.settle();
        assert!(!script.lane(lane(0, 0)).session().has_flight_begun());
        assert_eq!(script.lane(lane(0, 0)).session().step(), Step::Content);
        script.lane_mut(lane(0, 0)).session_mut().lost(crate::failure::Failure::Closed);
        script.finish();
        assert_eq!(script.outcomes(), [(1, "delivered", attempts)], "{level:?}");
    }
}
