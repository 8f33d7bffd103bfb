//! Whole transactions in one flight: a refusal is its own mail's, and what was out
//! when the connection was lost is in doubt.

use super::*;

#[test]
fn a_refused_mail_gives_up_its_transaction_and_no_other_one() {
    for refused in ["MAIL", "RCPT", "BDAT"] {
        let mut script = flights(1, CHUNKS, Pipeline::Full, 3);
        let (mut asked_before, mut is_spoilt) = (0, false);
        script.serve(offering(CHUNKS, move |asked| {
            is_spoilt &= asked.what != "RSET";
            if is_spoilt {
                return Some(Does::Say("503 sequence\r\n"));
            }
            asked_before += u32::from(asked.what == refused);
            is_spoilt = asked.what == refused && asked_before == 2;
            is_spoilt.then_some(Does::Say("550 no\r\n"))
        }));
        (1..=3).for_each(|id| script.take(mail(id)));
        script.finish();
        let expected = [(1, "delivered", 1), (2, "refused", 1), (3, "delivered", 1)];
        assert_eq!(script.outcomes(), expected, "{refused}");
        assert_eq!(script.lane(lane(0, 0)).connection(), 0, "the connection is kept");
    }
}

#[test]
fn content_that_a_server_took_behind_a_refusal_is_delivered() {
    let mut script = flights(1, CHUNKS, Pipeline::Full, 1);
    script.serve(offering(CHUNKS, |asked| match asked.what {
        "MAIL" => Some(Does::Say("550 no\r\n")),
        _ => None,
    }));
    script.take(mail(1));
    script.finish();
    assert_eq!(script.outcomes(), [(1, "delivered", 1)]);
}

#[test]
fn content_that_was_taken_is_delivered_whatever_was_said_at_a_recipient() {
    let mut script = flights(1, CHUNKS, Pipeline::Full, 1);
    script.decide(|event| match (event.kind, event.step) {
        (EventKind::Pass, Step::Rcpt) => Verdict::DEFAULT.drop_message(),
        _ => Verdict::DEFAULT,
    });
    script.take(mail(1));
    script.finish();
    assert_eq!(script.outcomes(), [(1, "delivered", 1)]);
}

#[test]
fn a_verdict_at_mail_leaves_the_doubt_about_a_content_that_is_out() {
    let mut script = flights(1, CHUNKS, Pipeline::Full, 1);
    script.decide(|event| match (event.kind, event.step) {
        (EventKind::Pass, Step::Mail) => Verdict::DEFAULT.drop_message(),
        _ => Verdict::DEFAULT,
    });
    script.serve(offering(CHUNKS, |asked| (asked.what == "BDAT").then_some(Does::Close)));
    script.take(mail(1));
    script.coordinator.set_flushing(true);
    script.run();
    assert_eq!(script.outcomes(), [(1, "in_doubt", 1)]);
}

#[test]
fn of_several_codes_in_a_flight_the_gravest_is_carried_out() {
    let mut script = flights(1, CHUNKS, Pipeline::Full, 2);
    script.decide(|event| match (event.message.map(number), event.step) {
        (Some(1), Step::Content) => Verdict::RETIRE,
        (Some(2), Step::Content) => Verdict::BENCH,
        _ => Verdict::DEFAULT,
    });
    script.take(mail(1));
    script.take(mail(2));
    script.coordinator.set_flushing(true);
    script.run();
    assert_eq!(script.outcomes(), [(1, "delivered", 1), (2, "delivered", 1)]);
    assert_eq!(script.standing(lane(0, 0)), Standing::Retired);
}

#[test]
fn a_lost_connection_puts_in_doubt_what_was_out_and_not_answered() {
    let mut script = flights(1, CHUNKS, Pipeline::Full, 3);
    let mut chunks = 0;
    script.serve(offering(CHUNKS, move |asked| {
        chunks += u32::from(asked.what == "BDAT");
        (asked.what == "BDAT" && chunks == 2).then_some(Does::Close)
    }));
    (1..=3).for_each(|id| script.take(mail(id)));
    script.coordinator.set_flushing(true);
    script.run();
    assert_eq!(script.outcomes(), [(1, "delivered", 1), (2, "in_doubt", 1), (3, "in_doubt", 1)]);
}

#[test]
fn a_421_is_believed_for_all_that_stands_behind_it() {
    let mut script = flights(1, CHUNKS, Pipeline::Full, 3);
    let mut mails = 0;
    script.serve(offering(CHUNKS, move |asked| {
        mails += u32::from(asked.what == "MAIL");
        (asked.what == "MAIL" && mails == 2).then_some(Does::Say("421 enough\r\n"))
    }));
    (1..=3).for_each(|id| script.take(mail(id)));
    script.finish();
    assert_eq!(script.outcomes(), [(1, "delivered", 1), (2, "delivered", 1), (3, "delivered", 1)]);
    assert_eq!(script.coordinator.summary(script.now).hosts[0].pipeline, Pipeline::Full);
}

#[test]
fn a_reply_too_many_puts_every_content_of_the_flight_in_doubt() {
    let mut script = flights(1, CHUNKS, Pipeline::Full, 2);
    let mut chunks = 0;
    script.serve(offering(CHUNKS, move |asked| {
        chunks += u32::from(asked.what == "BDAT");
        (asked.what == "BDAT" && chunks == 2).then_some(Does::Say("250 ok\r\n250 one more\r\n"))
    }));
    script.take(mail(1));
    script.take(mail(2));
    script.coordinator.set_flushing(true);
    script.run();
    assert_eq!(script.outcomes(), [(1, "in_doubt", 1), (2, "in_doubt", 1)]);
}

#[test]
fn a_content_that_fails_between_two_mails_spoils_neither() {
    let mut script = flights(1, CHUNKS, Pipeline::Full, 3);
    let broken = crate::content::Content::reader(|| {
        Ok(Box::new(std::io::Read::chain(&b"begun"[..], Failing)) as Box<dyn std::io::Read + Send>)
    });
    let envelope = mail(2).envelope().clone();
    script.take(mail(1));
    script.take(Message::new(envelope, broken).id(2));
    script.take(mail(3));
    script.finish();
    assert_eq!(script.outcomes(), [(1, "delivered", 1), (2, "refused", 1), (3, "delivered", 1)]);
}

struct Failing;

impl std::io::Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::Error::other("disk on fire"))
    }
}

#[test]
fn some_refusals_make_flights_smaller_and_not_more_of_them() {
    let mut script = flights(1, CHUNKS, Pipeline::Full, 8);
    let mut asked_to = 0;
    script.serve(offering(CHUNKS, move |asked| {
        asked_to += u32::from(asked.what == "RCPT");
        (asked.what == "RCPT" && asked_to % 100 == 0).then_some(Does::Say("550 no\r\n"))
    }));
    let (mut id, mut flights, mut mails, mut openings) = (0, 0, 0, 0);
    while id < 2000 || script.coordinator.open_mails() > 0 {
        while id < 2000 && script.coordinator.has_room() {
            id += 1;
            script.take(mail(id));
        }
        script.coordinator.set_flushing(id == 2000);
        script.settle();
        script.wire.clear();
        script.step();
        let said = script.said(lane(0, 0)).join(" ");
        openings += said.matches("EHLO").count();
        mails += said.matches("BDAT").count();
        flights += usize::from(said.contains("BDAT"));
    }
    // 8 in a flight, then 7, then 6, and at the third refusal another connection.
    assert_eq!((mails, openings), (2000, 6));
    assert!(flights <= 2000 / 7 + 6, "{flights}");
}

#[test]
fn a_flight_holds_as_many_mails_as_a_connection_stands_refusals() {
    for (max_refusals, flights) in [(8, [8, 8, 4]), (20, [20, 0, 0]), (13, [13, 7, 0])] {
        let change = move |host: &mut HostSettings| {
            host.pipeline = Pipeline::Full;
            host.depth = 20;
            host.max_refusals = max_refusals;
        };
        let mut script = Script::with(&[1], BatchSettings::default(), change);
        script.serve(offering(CHUNKS, |_| None));
        script.open();
        (1..=20).for_each(|id| script.take(mail(id)));
        let steps = steps(&mut script);
        let of_step = |place: usize| steps.get(place).map_or(0, |said| said.matches("BDAT").count());
        assert_eq!([0, 1, 2].map(of_step), flights, "{max_refusals}: {steps:?}");
    }
}

#[test]
fn a_mail_that_mending_makes_too_large_is_refused_before_it_is_begun() {
    const SIZED: &str = "250-mx.example\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250 CHUNKING\r\n";
    let of_lines =
        |id, lines| Message::new(mail(id).envelope().clone(), Content::from("x\n".repeat(lines))).id(id);
    for level in [Pipeline::Single, Pipeline::Full] {
        let mut script = flights(1, SIZED, level, 8);
        script.serve(offering(SIZED, |_| None));
        // 900 octets, which become 1,350; and 666, which become 999.
        script.take(of_lines(1, 450));
        script.take(of_lines(2, 333));
        script.take(mail(3));
        script.finish();
        assert_eq!(script.outcomes(), [(1, "refused", 1), (2, "delivered", 1), (3, "delivered", 1)]);
        let mails = script.said(lane(0, 0)).join(" ").matches("MAIL").count();
        assert_eq!((mails, script.coordinator.summary(script.now).requeued), (2, 0));
    }
}

/// What becomes of eight mails at a server that says this to a command behind a
/// content, or to a content behind an accepted recipient.
fn broken_behind_contents(what: &'static str, text: &'static str) -> (Script, Pipeline) {
    let mut script = flights(1, CHUNKS, Pipeline::Full, 4);
    let mut is_behind = false;
    script.serve(offering(CHUNKS, move |asked| {
        let breaks = asked.what == what && (is_behind || what == "BDAT");
        is_behind = asked.what == "BDAT" || (is_behind && !["greeting", "QUIT"].contains(&asked.what));
        breaks.then_some(Does::Say(text))
    }));
    for ids in [1..=4, 5..=8] {
        ids.for_each(|id| script.take(mail(id)));
        script.finish();
    }
    let pipeline = script.coordinator.summary(script.now).hosts[0].pipeline;
    (script, pipeline)
}

#[test]
fn a_server_that_breaks_on_what_stands_behind_a_content_is_spoken_to_at_level_1() {
    for (what, text) in [
        ("RSET", "503 sequence\r\n"),
        ("MAIL", "503 sequence\r\n"),
        ("RCPT", "503 sequence\r\n"),
        ("RCPT", "500 what?\r\n"),
        ("BDAT", "503 sequence\r\n"),
    ] {
        let (script, pipeline) = broken_behind_contents(what, text);
        assert_eq!(pipeline, Pipeline::Envelope, "{what} {text}");
        let outcomes = script.outcomes();
        assert_eq!(outcomes.len(), 8, "{what} {text}");
        assert!(
            outcomes.iter().all(|told| (told.1, told.2) == ("delivered", 1)),
            "{what} {text}: {outcomes:?}"
        );
    }
}

#[test]
fn a_server_that_breaks_on_a_recipient_alone_keeps_its_level() {
    // Of two, or by an address that it cannot read.
    for (to, text) in [(&THREE[..2], "503 log in for bob\r\n"), (&THREE[1..2], "500 5.1.3 what?\r\n")] {
        let mut script = flights(1, CHUNKS, Pipeline::Full, 4);
        script.serve(offering(CHUNKS, move |asked| asked.line.contains("bob").then_some(Does::Say(text))));
        script.take(mail(1));
        script.take(mail_to(2, to));
        script.coordinator.set_flushing(true);
        script.run();
        assert_eq!(script.coordinator.summary(script.now).hosts[0].pipeline, Pipeline::Full, "{text}");
    }
}

#[test]
fn a_mail_refused_for_its_place_behind_a_refused_content_ends_level_2() {
    let mut script = flights(1, CHUNKS, Pipeline::Full, 4);
    let mut contents = 0;
    script.serve(offering(CHUNKS, move |asked| {
        contents += u32::from(asked.what == "BDAT");
        match asked.what {
            "BDAT" if contents == 1 => Some(Does::Say("554 spam\r\n")),
            "MAIL" if contents == 1 => Some(Does::Say("503 5.5.1 nested MAIL\r\n")),
            _ => None,
        }
    }));
    (1..=3).for_each(|id| script.take(mail(id)));
    script.finish();
    assert_eq!(script.outcomes(), [(1, "refused", 1), (2, "delivered", 1), (3, "delivered", 1)]);
    assert_eq!(script.coordinator.take_lesson(), Some((0, Lesson::Pipeline(Pipeline::Envelope))));
}

#[test]
fn a_server_that_reads_a_refused_content_as_commands_takes_no_mail_for_another() {
    for unknown in
        ["503 nobody\r\n500 what?\r\n", "503 nobody\r\n502 what?\r\n", "503 nobody\r\n503 order\r\n"]
    {
        let mut script = flights(1, CHUNKS, Pipeline::Full, 2);
        let mut mails = 0;
        script.serve(offering(CHUNKS, move |asked| {
            mails += u32::from(asked.what == "MAIL");
            match (asked.what, mails) {
                ("RCPT", 1) => Some(Does::Say("550 no\r\n")),
                // Its one line is a command, whose reply stands where RSET's should.
                ("BDAT", 1) => Some(Does::Say(unknown)),
                // The reply to the second one takes its time.
                ("BDAT", 2) => Some(Does::Say("")),
                _ => None,
            }
        }));
        (1..=2).for_each(|id| script.take(mail(id)));
        script.finish();
        assert_eq!(script.outcomes(), [(1, "in_doubt", 1), (2, "in_doubt", 1)]);
        assert_eq!(script.coordinator.take_lesson(), Some((0, Lesson::Pipeline(Pipeline::Envelope))));
    }
}

#[test]
fn nor_does_it_where_that_comes_to_light_in_the_next_flight() {
    let mut script = flights(1, CHUNKS, Pipeline::Full, 1);
    let mut mails = 0;
    script.serve(offering(CHUNKS, move |asked| {
        mails += u32::from(asked.what == "MAIL");
        match (asked.what, mails) {
            ("RCPT", 1) => Some(Does::Say("550 no\r\n")),
            ("BDAT", 1) => Some(Does::Say("503 nobody\r\n")),
            ("RSET", 1) => Some(Does::Say("500 what?\r\n250 ok\r\n")),
            ("BDAT", 2) => Some(Does::Say("")),
            _ => None,
        }
    }));
    for id in 1..=2 {
        script.take(mail(id));
        script.finish();
    }
    assert_eq!(script.outcomes(), [(1, "refused", 1), (2, "in_doubt", 1)]);
    assert_eq!(script.coordinator.take_lesson(), Some((0, Lesson::Pipeline(Pipeline::Envelope))));
}

#[test]
fn chunks_behind_a_refused_one_are_out_of_place_and_end_no_level() {
    for is_lmtp in [false, true] {
        let mut script = Script::with(&[1], BatchSettings::default(), |host| {
            host.is_lmtp = is_lmtp;
            host.pipeline = Pipeline::Full;
        });
        let mut chunks = 0;
        script.serve(move |asked| match asked.what {
            "EHLO" | "LHLO" => Some(Does::Say(CHUNKS)),
            "BDAT" => {
                chunks += 1;
                // What is said of the first one comes when the second one is out.
                let first = "552 5.2.2 over quota\r\n503 no transaction\r\n";
                Some(Does::Say(["", first, "503 no transaction\r\n"][chunks.min(3) - 1]))
            }
            _ => None,
        });
        script.open();
        let content = Content::reader(|| Ok(Box::new(std::io::Cursor::new(vec![b'x'; 200_000]))));
        script.take(Message::new(mail(1).envelope().clone(), content).id(1));
        script.finish();
        assert_eq!(script.outcomes(), [(1, "refused", 1)]);
        assert_eq!(script.coordinator.take_lesson(), None);
    }
}

#[test]
fn a_content_that_had_no_recipient_and_is_out_of_place_ends_no_level() {
    let mut script = flights(1, CHUNKS, Pipeline::Full, 4);
    script.serve(offering(CHUNKS, move |asked| match asked.what {
        "RCPT" => Some(Does::Say("550 no\r\n")),
        "BDAT" => Some(Does::Say("503 no recipients\r\n")),
        _ => None,
    }));
    (1..=2).for_each(|id| script.take(mail(id)));
    script.finish();
    assert_eq!(script.outcomes(), [(1, "refused", 1), (2, "refused", 1)]);
    assert_eq!(script.coordinator.summary(script.now).hosts[0].pipeline, Pipeline::Full);
}
