//! Several things in one flight: levels, depth, and what goes wrong in them.

use super::*;
use crate::host::Pipeline;

const DOTS: &str = "250-mx.example\r\n250 PIPELINING\r\n";
const CHUNKS: &str = "250-mx.example\r\n250-PIPELINING\r\n250 CHUNKING\r\n";

/// One host with so many threads that offers this, spoken to so.
fn flights(threads: u32, offers: &'static str, pipeline: Pipeline, depth: u32) -> Script {
    let change = move |host: &mut HostSettings| {
        host.pipeline = pipeline;
        host.depth = depth;
        host.max_recipients = Some(10_000);
    };
    let mut script = Script::with(&[threads], BatchSettings::default(), change);
    script.serve(offering(offers, |_| None));
    script.open();
    script
}

/// The rule, of a server that offers this.
fn offering(
    offers: &'static str,
    mut rule: impl FnMut(&Asked<'_>) -> Option<Does> + 'static,
) -> impl FnMut(&Asked<'_>) -> Option<Does> + 'static {
    move |asked| match asked.what {
        "EHLO" => Some(Does::Say(offers)),
        _ => rule(asked),
    }
}

/// What was said in each step on the only lane, verbs only.
fn steps(script: &mut Script) -> Vec<String> {
    let mut steps = Vec::new();
    script.coordinator.set_flushing(true);
    script.settle();
    for _ in 0..100 {
        script.wire.clear();
        script.step();
        if script.wire.is_empty() && !script.coordinator.is_step_over() {
            return steps;
        }
        if !script.wire.is_empty() {
            steps.push(script.said(lane(0, 0)).join(" "));
        }
    }
    panic!("steps without end");
}

// ---- what is said together --------------------------------------------------

#[test]
fn at_level_0_a_step_is_one_command() {
    let mut script = flights(1, CHUNKS, Pipeline::Single, 1);
    script.take(mail(1));
    assert_eq!(steps(&mut script), ["MAIL", "RCPT", "DATA", "content"]);
}

#[test]
fn at_level_1_the_envelope_is_a_step_and_the_content_another() {
    let mut script = flights(1, CHUNKS, Pipeline::Envelope, 1);
    script.take(mail_to(1, &["ann@example.net", "bob@example.net"]));
    assert_eq!(steps(&mut script), ["MAIL RCPT RCPT DATA", "content"]);
    assert_eq!(script.outcomes(), [(1, "delivered", 1)]);
}

#[test]
fn nothing_is_pipelined_that_the_server_does_not_offer() {
    for level in [Pipeline::Envelope, Pipeline::Full] {
        let mut script = flights(1, "250-mx.example\r\n250 CHUNKING\r\n", level, 1);
        script.take(mail(1));
        assert_eq!(steps(&mut script), ["MAIL", "RCPT", "DATA", "content"]);
    }
}

#[test]
fn at_level_2_with_chunking_a_mail_is_a_step() {
    let mut script = flights(1, CHUNKS, Pipeline::Full, 1);
    script.take(mail(1));
    script.take(mail(2));
    assert_eq!(steps(&mut script), ["MAIL RCPT BDAT", "MAIL RCPT BDAT"]);
    assert_eq!(script.outcomes(), [(1, "delivered", 1), (2, "delivered", 1)]);
}

#[test]
fn at_level_2_without_chunking_the_next_envelope_goes_with_the_content() {
    let mut script = flights(1, DOTS, Pipeline::Full, 1);
    script.take(mail(1));
    script.take(mail(2));
    assert_eq!(steps(&mut script), ["MAIL RCPT DATA", "content MAIL RCPT DATA", "content"]);
    assert_eq!(script.outcomes(), [(1, "delivered", 1), (2, "delivered", 1)]);
}

#[test]
fn with_depth_whole_transactions_are_a_step_with_rset_between_them() {
    let mut script = flights(1, CHUNKS, Pipeline::Full, 3);
    (1..=3).for_each(|id| script.take(mail(id)));
    let all = "MAIL RCPT BDAT RSET MAIL RCPT BDAT RSET MAIL RCPT BDAT";
    assert_eq!(steps(&mut script), [all]);
    assert_eq!(script.outcomes(), [(1, "delivered", 1), (2, "delivered", 1), (3, "delivered", 1)]);
}

#[test]
fn with_depth_a_lane_sends_its_mails_one_after_the_other() {
    let mut script = flights(1, DOTS, Pipeline::Envelope, 2);
    (1..=2).for_each(|id| script.take(mail(id)));
    let all = ["MAIL RCPT DATA", "content", "MAIL RCPT DATA", "content"];
    assert_eq!(steps(&mut script), all);
    assert_eq!(script.coordinator.summary(script.now).batches, 1);
}

#[test]
fn a_deal_gives_every_lane_one_mail_before_any_gets_two() {
    let mut script = flights(2, CHUNKS, Pipeline::Full, 2);
    (1..=3).for_each(|id| script.take(mail(id)));
    script.coordinator.set_flushing(true);
    script.settle();
    let held: Vec<usize> = script.lanes().map(Lane::held).collect();
    assert_eq!(held, [2, 1]);
}

#[test]
fn all_or_nothing_asks_for_data_when_all_recipients_are_accepted() {
    for (offers, level, data) in
        [(DOTS, Pipeline::Envelope, "DATA"), (DOTS, Pipeline::Full, "DATA"), (CHUNKS, Pipeline::Full, "BDAT")]
    {
        let mut script = flights(1, offers, level, 1);
        script.take(mail_to(1, &["ann@example.net", "bob@example.net"]).all_or_nothing());
        let steps = steps(&mut script);
        assert_eq!(steps[..2], ["MAIL RCPT RCPT", data], "{level:?}");
        assert_eq!(script.outcomes(), [(1, "delivered", 1)]);
    }
}

#[test]
fn all_or_nothing_gives_up_at_the_first_refused_recipient_of_a_flight() {
    let mut script = flights(1, CHUNKS, Pipeline::Full, 1);
    script.serve(offering(CHUNKS, |asked| asked.line.contains("ann").then_some(Does::Say("550 no\r\n"))));
    script.take(mail_to(1, &["ann@example.net", "bob@example.net"]).all_or_nothing());
    script.take(mail(2));
    assert_eq!(steps(&mut script)[..2], ["MAIL RCPT RCPT", "RSET MAIL RCPT BDAT"]);
    assert_eq!(script.notes.told[0].recipients, ["ann@example.net refused", "bob@example.net refused"]);
}

#[test]
fn more_recipients_than_a_flight_owes_replies_for_take_several() {
    let to: Vec<String> = (0..600).map(|number| format!("r{number}@example.net")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    for (offers, level, last) in [(DOTS, Pipeline::Envelope, "DATA"), (CHUNKS, Pipeline::Full, "BDAT")] {
        let mut script = flights(1, offers, level, 1);
        script.take(mail_to(1, &to));
        let steps = steps(&mut script);
        let most = steps.iter().map(|step| step.split(' ').count()).max();
        assert!(most.is_some_and(|most| most <= crate::session::MOST_OWED + 1), "{most:?}");
        let said = steps.join(" ");
        assert_eq!(said.matches("RCPT").count(), 600);
        assert_eq!(said.matches(last).count(), 1);
        assert_eq!(script.outcomes(), [(1, "delivered", 1)]);
    }
}

// ---- refusals ---------------------------------------------------------------

#[test]
fn a_354_with_no_recipient_accepted_is_answered_by_a_lone_dot() {
    let mut script = flights(1, DOTS, Pipeline::Envelope, 1);
    script.serve(offering(DOTS, |asked| match asked.what {
        "RCPT" => Some(Does::Say("550 no\r\n")),
        "content" => {
            assert_eq!(asked.line, ".\r\n");
            Some(Does::Say("554 nobody\r\n"))
        }
        _ => None,
    }));
    script.take(mail(1));
    assert_eq!(steps(&mut script), ["MAIL RCPT DATA", "content"]);
    assert_eq!(script.outcomes(), [(1, "refused", 1)]);
    script.serve(offering(DOTS, |_| None));
    script.take(mail(2));
    script.finish();
    assert_eq!(script.outcomes(), [(1, "refused", 1), (2, "delivered", 1)]);
    assert_eq!(script.lane(lane(0, 0)).connection(), 0, "the connection is kept");
}

#[test]
fn data_refused_behind_refused_recipients_is_no_news() {
    for (offers, level, data) in [(DOTS, Pipeline::Envelope, "DATA"), (CHUNKS, Pipeline::Full, "BDAT")] {
        for refusal in ["503 no recipients\r\n", "554 no valid recipients\r\n", "502 what\r\n"] {
            if data == "BDAT" && refusal.starts_with("502") {
                continue;
            }
            let mut script = flights(1, offers, level, 1);
            script.serve(offering(offers, move |asked| match asked.what {
                "RCPT" => Some(Does::Say("550 no\r\n")),
                what if what == data => Some(Does::Say(refusal)),
                _ => None,
            }));
            script.take(mail(1));
            script.finish();
            assert_eq!(script.outcomes(), [(1, "refused", 1)]);
            assert!(script.notes.told[0].text.contains("550"), "{:?}", script.notes.told);
            assert_eq!(script.lane(lane(0, 0)).connection(), 0, "the connection is kept");
            assert_eq!(
                script.mail_events(),
                [(EventKind::Pass, Step::Mail, 250), (EventKind::Fail, Step::Rcpt, 550)]
            );
        }
    }
}

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
fn a_verdict_at_a_recipient_gives_up_the_transaction_and_a_354_only_by_closing() {
    let mut script = flights(1, DOTS, Pipeline::Envelope, 1);
    script.decide(|event| match (event.kind, event.step) {
        (EventKind::Pass, Step::Rcpt) => Verdict::DEFAULT.drop_message(),
        _ => Verdict::DEFAULT,
    });
    script.take(mail(1));
    script.coordinator.set_flushing(true);
    script.run();
    assert_eq!(script.said(lane(0, 0))[..3], ["MAIL", "RCPT", "DATA"]);
    assert!(!script.wire.iter().any(|line| line.contains("content")), "{:?}", script.wire);
    assert_eq!(script.outcomes(), [(1, "dropped", 1)]);
    assert!(script.lane(lane(0, 0)).connection() > 0);
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
fn content_that_was_taken_reaches_those_alone_who_were_accepted() {
    let mut script = flights(1, CHUNKS, Pipeline::Full, 1);
    script.serve(offering(CHUNKS, |asked| asked.line.contains("bob").then_some(Does::Say("550 no\r\n"))));
    script.decide(|event| match (event.kind, event.step) {
        (EventKind::Pass, Step::Rcpt) => Verdict::DEFAULT.drop_message(),
        _ => Verdict::DEFAULT,
    });
    script.take(mail_to(1, &["ann@example.net", "bob@example.net"]));
    script.finish();
    assert_eq!(script.notes.told[0].recipients, ["ann@example.net delivered", "bob@example.net refused"]);
}

#[test]
fn recipients_whose_own_reply_is_missing_are_in_doubt_with_the_others() {
    let mut script = flights(1, CHUNKS, Pipeline::Full, 1);
    script.serve(offering(CHUNKS, |asked| asked.line.contains("bob").then_some(Does::Close)));
    script.take(mail_to(1, &["ann@example.net", "bob@example.net"]));
    script.coordinator.set_flushing(true);
    script.run();
    assert_eq!(script.outcomes(), [(1, "in_doubt", 1)]);
}

#[test]
fn a_354_behind_a_refused_mail_and_an_accepted_recipient_is_given_up_by_closing() {
    let mut script = flights(1, DOTS, Pipeline::Envelope, 1);
    script.serve(offering(DOTS, |asked| (asked.what == "MAIL").then_some(Does::Say("550 no\r\n"))));
    script.take(mail(1));
    script.coordinator.set_flushing(true);
    script.run();
    assert!(!script.wire.iter().any(|line| line.contains("content")), "{:?}", script.wire);
    assert_eq!(script.outcomes(), [(1, "refused", 1)]);
    assert!(script.lane(lane(0, 0)).connection() > 0);
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

// ---- failures ---------------------------------------------------------------

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
fn a_2xx_where_354_is_owed_poisons_the_session_and_no_content_is_sent() {
    let mut script = flights(1, DOTS, Pipeline::Envelope, 1);
    script.serve(offering(DOTS, |asked| (asked.what == "DATA").then_some(Does::Say("250 ok\r\n"))));
    script.take(mail(1));
    script.coordinator.set_flushing(true);
    script.run();
    assert!(!script.wire.iter().any(|line| line.contains("content")));
    assert_eq!(script.mail_events().last(), Some(&(EventKind::Hang, Step::Data, 0)));
}

#[test]
fn behind_a_verdict_at_the_first_content_the_second_mail_is_put_back_without_an_attempt() {
    let mut script = flights(1, DOTS, Pipeline::Full, 1);
    script.decide(|event| match (event.message.map(number), event.step) {
        (Some(1), Step::Content) => Verdict::BENCH,
        _ => Verdict::DEFAULT,
    });
    script.take(mail(1));
    script.take(mail(2));
    script.finish();
    assert_eq!(script.outcomes(), [(1, "delivered", 1), (2, "delivered", 1)]);
    assert!(script.lane(lane(0, 0)).connection() > 0, "a 354 is given up by closing");
    let contents = script.wire.iter().filter(|line| line.ends_with("content")).count();
    assert_eq!(contents, 2, "{:?}", script.wire);
}

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
fn a_content_is_opened_once_for_an_attempt() {
    let opened = Rc::new(Cell::new(0));
    let to: Vec<String> = (0..600).map(|number| format!("r{number}@example.net")).collect();
    for (offers, level) in [(DOTS, Pipeline::Envelope), (CHUNKS, Pipeline::Full), (DOTS, Pipeline::Single)] {
        let mut script = flights(1, offers, level, 1);
        let count = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
        let counted = std::sync::Arc::clone(&count);
        let content = crate::content::Content::reader(move || {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Ok(Box::new(&b"text"[..]))
        });
        let envelope = crate::envelope::Envelope::parse("news@example.org", &to).unwrap();
        script.take(Message::new(envelope, content).id(1));
        script.finish();
        opened.set(opened.get() + count.load(std::sync::atomic::Ordering::Relaxed));
        assert_eq!(script.outcomes(), [(1, "delivered", 1)]);
    }
    assert_eq!(opened.get(), 3);
}

#[test]
fn in_lmtp_each_reply_counts_for_its_recipient_whatever_was_said_before() {
    let mut script = Script::with(&[1], BatchSettings::default(), |host| {
        host.is_lmtp = true;
        host.pipeline = Pipeline::Full;
    });
    script.serve(|asked| match asked.what {
        "LHLO" => Some(Does::Say(CHUNKS)),
        "BDAT" => Some(Does::Say("550 no ann\r\n250 ok bob\r\n")),
        _ => None,
    });
    script.open();
    script.decide(|event| match (event.kind, event.step) {
        (EventKind::Pass, Step::Rcpt) => Verdict::DEFAULT.requeue(),
        _ => Verdict::DEFAULT,
    });
    script.take(mail_to(1, &["ann@example.net", "bob@example.net"]));
    script.finish();
    assert_eq!(script.notes.told[0].recipients, ["ann@example.net refused", "bob@example.net delivered"]);
}

/// One lane that speaks LMTP by BDAT, to a server that answers the content for each
/// accepted recipient as it is told, the first time that it is asked about it.
fn lmtp(most_recipients: u32, codes: &'static [(&'static str, &'static str)]) -> Script {
    let mut script = Script::with(&[1], BatchSettings::default(), |host| {
        host.is_lmtp = true;
        host.pipeline = Pipeline::Full;
        host.max_recipients = Some(most_recipients);
    });
    let (mut accepted, mut answered) = (Vec::new(), Vec::new());
    script.serve(move |asked| match asked.what {
        "LHLO" => Some(Does::Say(CHUNKS)),
        "MAIL" => {
            accepted.clear();
            None
        }
        "RCPT" => {
            accepted.push(asked.line.to_owned());
            None
        }
        "BDAT" => {
            let mut reply = |to: &String| {
                let own = codes.iter().find(|(name, _)| to.contains(name)).filter(|_| !answered.contains(to));
                answered.push(to.clone());
                own.map_or("250 ok\r\n", |(_, reply)| reply)
            };
            let replies: String = accepted.iter().map(&mut reply).collect();
            Some(Does::Say(replies.leak()))
        }
        _ => None,
    });
    script.open();
    script
}

const FOUR: [&str; 4] = ["ann@x.example", "bob@x.example", "cy@x.example", "dan@x.example"];

#[test]
fn in_lmtp_the_order_of_the_replies_makes_no_difference() {
    for codes in [
        &[("ann", "451 busy\r\n"), ("cy", "451 busy\r\n")],
        &[("bob", "451 busy\r\n"), ("dan", "451 busy\r\n")],
    ] {
        let mut script = lmtp(2, codes);
        script.take(mail_to(1, &FOUR));
        script.finish();
        assert_eq!(script.outcomes(), [(1, "delivered", 2)], "{codes:?}");
        let said = script.said(lane(0, 0)).join(" ");
        assert_eq!(said.matches("RCPT").count(), 6, "two were asked for a second time: {said}");
    }
}

#[test]
fn in_lmtp_a_drop_is_for_the_recipient_that_it_was_said_about() {
    for codes in
        [&[("ann", "451 busy\r\n"), ("bob", "550 no\r\n")], &[("ann", "550 no\r\n"), ("bob", "451 busy\r\n")]]
    {
        let mut script = lmtp(2, codes);
        script.decide(|event| match event.reply().map(|reply| reply.code().as_u16()) {
            Some(550) => Verdict::DEFAULT.drop_message(),
            _ => Verdict::DEFAULT,
        });
        script.take(mail_to(1, &FOUR[..2]));
        script.finish();
        let outcomes = script.notes.told[0].recipients.join(" ");
        assert!(outcomes.contains("dropped") && outcomes.contains("delivered"), "{codes:?}: {outcomes}");
    }
}

#[test]
fn in_lmtp_a_421_leaves_those_without_a_reply_in_doubt() {
    let mut script = lmtp(5, &[("bob", "421 closing\r\n")]);
    script.take(mail_to(1, &FOUR[..3]));
    script.finish();
    let told = &script.notes.told[0].recipients;
    let expected = ["ann@x.example delivered", "bob@x.example delivered", "cy@x.example in_doubt"];
    assert_eq!(*told, expected, "bob's 421 is bob's, who is tried again");
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
fn the_server_has_its_lone_dot_before_the_batch_is_over() {
    let mut script = flights(1, DOTS, Pipeline::Envelope, 1);
    script.serve(offering(DOTS, |asked| (asked.what == "RCPT").then_some(Does::Say("550 no\r\n"))));
    script.take(mail(1));
    script.coordinator.set_flushing(true);
    script.settle();
    script.step();
    assert_eq!(script.coordinator.open_mails(), 0);
    assert!(script.progress.batch_running && script.coordinator.is_in_content());
    script.step();
    assert!(!script.progress.batch_running && !script.coordinator.is_in_content());
}

#[test]
fn other_credentials_open_a_lane_anew_that_stands_at_a_354() {
    let mut script = flights(1, DOTS, Pipeline::Full, 1);
    script.coordinator.set_feeding(true);
    script.take(mail(1));
    script.settle();
    script.step();
    assert_eq!(script.progress.hungry, 1);
    let credentials = crate::auth::Credentials::password("ann", "secret").allow_without_tls();
    script.coordinator.authenticate(&credentials, script.now);
    script.serve(|asked| (asked.what == "EHLO").then_some(Does::Say("250-mx\r\n250 AUTH PLAIN\r\n")));
    script.coordinator.set_feeding(false);
    script.finish();
    assert_eq!(script.outcomes(), [(1, "delivered", 1)]);
    assert!(script.lane(lane(0, 0)).session().is_authenticated());
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

// ---- questions --------------------------------------------------------------

#[test]
fn a_lane_whose_last_mail_was_refused_can_be_asked() {
    use crate::command::Argument;
    use crate::inquiry::Inquiry;
    let etrn = Inquiry::Etrn(Argument::new("client.example").unwrap());
    for (inquiry, said) in [(Inquiry::Noop, "NOOP"), (Inquiry::Rset, "RSET"), (etrn, "RSET ETRN")] {
        let mut script = one();
        script.serve(when("RCPT", "550 no\r\n"));
        script.take(mail(1));
        script.finish();
        script.serve(when("ETRN", "250 fine\r\n"));
        script.wire.clear();
        assert!(script.coordinator.ask(lane(0, 0), inquiry));
        script.run();
        assert_eq!(script.said(lane(0, 0)).join(" "), said);
        assert!(matches!(script.coordinator.take_answer(lane(0, 0)), Some(Ok(_))));
    }
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
fn who_was_not_answered_behind_too_many_recipients_is_in_doubt() {
    let mut script = flights(1, CHUNKS, Pipeline::Full, 1);
    let mut is_first = true;
    script.serve(offering(CHUNKS, move |asked| match asked.line {
        line if is_first && line.contains("bob") => Some(Does::Say("452 too many\r\n")),
        line if is_first && line.contains("cid") => {
            is_first = false;
            Some(Does::Close)
        }
        _ => None,
    }));
    script.take(mail_to(1, &["ann@example.net", "bob@example.net", "cid@example.net"]));
    script.finish();
    let expected = ["ann@example.net in_doubt", "bob@example.net delivered", "cid@example.net in_doubt"];
    assert_eq!(script.notes.told[0].recipients, expected);
}

// ---- lockstep ---------------------------------------------------------------

#[test]
fn no_server_is_left_at_a_354_for_the_sake_of_a_slower_lane() {
    let mut script = flights(2, DOTS, Pipeline::Full, 1);
    script.serve(offering(DOTS, |asked| {
        let lags = asked.lane.thread == 1 && asked.what == "DATA";
        lags.then_some(Does::Say("451 later\r\n"))
    }));
    (1..=2).for_each(|id| script.take(mail(id)));
    script.coordinator.set_flushing(false);
    script.run();
    assert_eq!(script.said(lane(0, 0)), ["MAIL", "RCPT", "DATA", "content"]);
    assert_eq!(script.outcomes(), [(1, "delivered", 1)]);
    assert!(!script.progress.batch_running);
}

#[test]
fn a_caller_with_more_mails_at_hand_is_asked_for_them_before_a_content_goes_alone() {
    let mut script = flights(1, DOTS, Pipeline::Full, 1);
    script.coordinator.set_feeding(true);
    script.take(mail(1));
    script.settle();
    script.step();
    assert_eq!(script.progress.hungry, 1);
    script.take(mail(2));
    script.settle();
    assert_eq!(script.progress.hungry, 0);
    script.wire.clear();
    script.step();
    assert_eq!(script.said(lane(0, 0)), ["content", "MAIL", "RCPT", "DATA"]);
    assert_eq!(script.progress.hungry, 1);
    script.coordinator.set_feeding(false);
    script.run();
    assert_eq!(script.outcomes(), [(1, "delivered", 1), (2, "delivered", 1)]);
    assert!(!script.progress.batch_running);
}
