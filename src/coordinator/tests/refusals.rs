//! Refusals: whom they are about, and what they cost mail and lane.

use super::*;
use crate::envelope::Envelope;

#[test]
fn a_refusal_for_good_is_final_at_once() {
    for step in ["MAIL", "RCPT", "DATA", "content"] {
        let mut script = one();
        script.serve(when(step, "554 5.7.1 no\r\n"));
        script.take(mail(1));
        script.run();
        assert_eq!(script.outcomes(), [(1, "refused", 1)], "{step}");
        assert_eq!(script.notes.told[0].text, "refused: 554 5.7.1 no");
        assert_eq!(script.standing(lane(0, 0)), Standing::Active, "the session is not to blame");
    }
}

#[test]
fn a_refusal_for_now_is_tried_until_the_attempts_are_used_up() {
    for step in ["MAIL", "RCPT", "DATA", "content"] {
        let mut script = Script::with(&[1], settings(|all| all.max_attempts = 4), |_| {});
        script.open();
        let mut count = 0;
        script.serve(move |asked| {
            count += u32::from(asked.what == step);
            let last = if count == 4 { "450 the last one\r\n" } else { "451 later\r\n" };
            (asked.what == step).then_some(Does::Say(last))
        });
        script.take(mail(1));
        script.run();
        assert_eq!(script.outcomes(), [(1, "abandoned", 4)], "{step}");
        assert_eq!(script.notes.told[0].text, "abandoned: 450 the last one");
        let attempts: Vec<u32> = script
            .notes
            .seen
            .iter()
            .filter(|seen| seen.kind == EventKind::Fail)
            .map(|seen| seen.attempt)
            .collect();
        assert_eq!(attempts, [1, 2, 3, 4]);
    }
}

#[test]
fn rset_comes_before_the_next_mail_after_a_refused_one() {
    for (step, verbs) in [
        ("MAIL", &["MAIL", "RSET", "MAIL", "RCPT", "DATA", "content"][..]),
        ("RCPT", &["MAIL", "RCPT", "RSET", "MAIL", "RCPT", "DATA", "content"]),
        ("DATA", &["MAIL", "RCPT", "DATA", "RSET", "MAIL", "RCPT", "DATA", "content"]),
        ("content", &["MAIL", "RCPT", "DATA", "content", "MAIL", "RCPT", "DATA", "content"]),
    ] {
        let mut script = one();
        script.serve(once(step, Does::Say("554 no\r\n")));
        script.take(mail(1));
        script.run();
        assert!(!script.said(lane(0, 0)).contains(&"RSET"), "not before there is another mail");
        script.take(mail(2));
        script.run();
        assert_eq!(script.said(lane(0, 0)), verbs);
        assert_eq!(script.outcomes(), [(1, "refused", 1), (2, "delivered", 1)]);
    }
}

#[test]
fn a_refused_rset_costs_the_connection_and_no_attempt() {
    for does in
        [Does::Say("500 what?\r\n"), Does::Say("421 bye\r\n"), Does::Close, Does::Hang, Does::Say("huh\r\n")]
    {
        let mut script = Script::with(&[1], settings(|all| all.max_attempts = 1), |_| {});
        script.open();
        let (mut mails, mut does) = (0, Some(does));
        script.serve(move |asked| {
            mails += u32::from(asked.what == "MAIL");
            match asked.what {
                "MAIL" if mails == 1 => Some(Does::Say("554 no\r\n")),
                "RSET" => does.take(),
                _ => None,
            }
        });
        script.take(mail(1));
        script.run();
        script.take(mail(2));
        script.finish();
        assert_eq!(script.outcomes(), [(1, "refused", 1), (2, "delivered", 1)]);
    }
}

#[test]
fn the_lane_of_a_refused_mail_sits_out_until_the_batch_ends() {
    let mut script = Script::new(&[2]);
    script.open();
    script.serve(|asked| (asked.what == "MAIL" && asked.lane.thread == 0).then_some(Does::Say("550 no\r\n")));
    script.take(mail(1));
    script.take(mail(2));
    script.settle();
    script.step();
    assert_eq!(script.outcomes(), [(1, "refused", 1)]);
    script.take(mail(3));
    script.step();
    assert_eq!(script.said(lane(0, 0)), ["MAIL"], "nothing is dealt within a batch");
    script.run();
    script.take(mail(4));
    script.run();
    assert!(script.said(lane(0, 0)).len() > 1);
}

#[test]
fn closing_costs_the_mail_no_attempt_and_the_lane_a_setback() {
    for step in ["MAIL", "RCPT", "DATA", "content", "mid-content"] {
        let mut script = Script::with(&[1], settings(|all| all.max_attempts = 1), |_| {});
        script.open();
        script.serve(once(step, Does::Say("421 closing\r\n")));
        script.take(mail(1));
        script.run();
        assert_eq!(script.outcomes(), [(1, "delivered", 1)], "{step}");
        let fail = script.mail_events().into_iter().find(|(kind, ..)| *kind == EventKind::Fail);
        let step = if step == "mid-content" { Step::Content } else { fail.unwrap().1 };
        assert_eq!(fail, Some((EventKind::Fail, step, 421)));
        assert!(!script.said(lane(0, 0)).contains(&"QUIT"), "it has said that it closes");
    }
}

#[test]
fn codes_that_blame_the_session_cost_the_mail_no_attempt() {
    for text in ["500 x\r\n", "502 x\r\n", "503 x\r\n", "530 x\r\n", "538 x\r\n"] {
        for step in ["MAIL", "RCPT", "DATA"] {
            let mut script = Script::with(&[1], settings(|all| all.max_attempts = 1), |_| {});
            script.open();
            script.serve(once(step, Does::Say(text)));
            script.take(mail(1));
            script.run();
            assert_eq!(script.outcomes(), [(1, "delivered", 1)], "{step} {text:?}");
            assert!(script.said(lane(0, 0)).ends_with(&[&["QUIT"][..], &EHLO, &WHOLE].concat()));
        }
        let mut script = one();
        script.serve(when("content", text));
        script.take(mail(1));
        script.run();
        assert_eq!(script.outcomes(), [(1, "refused", 1)], "about the content they are about the mail");
    }
}

#[test]
fn a_session_that_is_always_to_blame_retires_and_keeps_the_mail() {
    let mut script = one();
    script.serve(when("MAIL", "503 what?\r\n"));
    script.take(mail(1));
    script.finish();
    assert!(script.notes.told.is_empty());
    assert_eq!(script.standing(lane(0, 0)), Standing::Retired);
    assert_eq!(script.coordinator.backlog(), 1);
    assert_eq!(script.notes.seen.iter().filter(|seen| seen.kind == EventKind::Fail).count(), 5);
}

#[test]
fn a_refusal_in_mid_content_is_believed_and_closes() {
    let mut script = one();
    script.serve(once("mid-content", Does::Say("554 spam\r\n")));
    script.take(mail(1));
    script.run();
    assert_eq!(script.outcomes(), [(1, "refused", 1)]);
    assert_eq!(
        script.said(lane(0, 0)),
        [&["MAIL", "RCPT", "DATA"][..], &EHLO].concat(),
        "no QUIT into a content"
    );
}

#[test]
fn an_acceptance_in_mid_content_is_no_delivery() {
    let mut script = one();
    script.serve(once("mid-content", Does::Say("250 queued\r\n")));
    script.take(mail(1));
    script.run();
    assert_eq!(script.outcomes(), [(1, "delivered", 2)]);
    assert!(script.mail_events().contains(&(EventKind::Hang, Step::Content, 0)));
}

#[test]
fn surplus_behind_the_final_reply_delivers_and_closes() {
    let mut script = one();
    script.serve(once("content", Does::Say("250 queued\r\n421 closing\r\n")));
    script.take(mail(1));
    script.run();
    assert_eq!(script.outcomes(), [(1, "delivered", 1)]);
    assert!(script.said(lane(0, 0)).ends_with(&EHLO));
}

#[test]
fn surplus_behind_another_reply_gives_up_the_attempt() {
    for (step, text) in [
        ("MAIL", "250 ok\r\n250 ok\r\n"),
        ("RCPT", "250 ok\r\n250 ok\r\n"),
        ("DATA", "354 go on\r\n250 ok\r\n"),
    ] {
        let mut script = one();
        script.serve(once(step, Does::Say(text)));
        script.take(mail(1));
        script.run();
        assert_eq!(script.outcomes(), [(1, "delivered", 2)], "{step}");
        let hang = script.notes.seen.iter().find(|seen| seen.kind == EventKind::Hang).unwrap();
        assert_eq!(hang.step.to_string(), step);
    }
}

#[test]
fn a_utf8_address_is_refused_by_the_client_and_never_sent() {
    let mut script = one();
    script.take(mail_to(1, &["jürgen@example.net"]));
    script.run();
    assert!(script.wire.is_empty());
    assert_eq!(script.outcomes(), [(1, "refused", 1)]);
    assert!(script.notes.told[0].text.contains("SMTPUTF8"), "{}", script.notes.told[0].text);
    assert_eq!(script.mail_events(), [(EventKind::Fail, Step::Mail, 0)]);
    script.take(mail(2));
    script.run();
    assert_eq!(script.said(lane(0, 0)), WHOLE, "nothing was begun that would need RSET");
}

#[test]
fn content_that_cannot_be_opened_is_refused_by_the_client_before_data() {
    let mut script = one();
    let envelope = mail(1).envelope().clone();
    script.take(Message::new(envelope, Content::file("/nonexistent/mail.eml")).id(1));
    script.run();
    script.take(mail(2));
    script.run();
    assert_eq!(script.said(lane(0, 0)), [&["MAIL", "RCPT", "RSET"][..], &WHOLE].concat());
    assert_eq!(script.outcomes(), [(1, "refused", 1), (2, "delivered", 1)]);
}

#[test]
fn content_that_fails_on_its_way_is_refused_by_the_client_and_closes() {
    let mut script = one();
    let envelope = mail(1).envelope().clone();
    script.take(Message::new(envelope, Content::reader(|| Ok(Box::new(&b"short"[..]))).promise(100)).id(1));
    script.run();
    assert_eq!(script.outcomes(), [(1, "refused", 1)]);
    assert_eq!(script.said(lane(0, 0)), [&["MAIL", "RCPT", "DATA"][..], &EHLO].concat());
    assert_eq!(script.mail_events().last(), Some(&(EventKind::Fail, Step::Content, 0)));
}

#[test]
fn a_mail_that_its_server_blames_on_the_session_each_time_is_not_tried_for_ever() {
    for (what, text) in [("MAIL", "503 what?\r\n"), ("RCPT", "500 what?\r\n"), ("RCPT", "421 closing\r\n")] {
        let mut script = Script::new(&[4]);
        script.open();
        let tries = Rc::new(Cell::new(0));
        let counted = Rc::clone(&tries);
        script.serve(move |asked| {
            let is_meant = asked.what == what && asked.line.contains("odd@");
            counted.set(counted.get() + u32::from(is_meant));
            is_meant.then_some(Does::Say(text))
        });
        let odd = Envelope::parse("odd@example.org", ["odd@example.net"]).unwrap();
        script.take(Message::new(odd, Content::from("text\r\n")).id(0));
        deliver_others(&mut script, 200);
        let outcomes = script.outcomes();
        assert_eq!((outcomes.len(), outcomes[0]), (201, (0, "abandoned", 3)), "{what} {text}");
        assert!((60..=64).contains(&tries.get()), "{what} {text} {}", tries.get());
        assert!(script.notes.told.iter().all(|told| told.id != 0 || told.text.contains(&text[..3])));
    }
}

#[test]
fn a_mail_is_not_charged_for_a_host_that_takes_no_other_either() {
    let mut script = Script::new(&[20]);
    script.open();
    script.serve(when("MAIL", "421 busy\r\n"));
    script.take(mail(1));
    script.finish();
    assert!(script.progress.is_retired() && script.notes.told.is_empty());
    assert_eq!(script.coordinator.backlog(), 1);
}

#[test]
fn a_mail_that_is_left_alone_with_its_refusal_does_not_cost_every_lane() {
    let mut script = Script::new(&[20]);
    script.open();
    script.serve(|asked| {
        (asked.what == "MAIL" && asked.line.contains("odd@")).then_some(Does::Say("421 closing\r\n"))
    });
    let odd = Envelope::parse("odd@example.org", ["odd@example.net"]).unwrap();
    script.take(Message::new(odd, Content::from("text\r\n")).id(0));
    // The others are delivered long before it was tried 60 times.
    deliver_others(&mut script, 100);
    assert_eq!((script.outcomes()[0], script.outcomes().len()), ((0, "abandoned", 3), 101));
    assert!(!script.progress.is_retired());
}

#[test]
fn a_mail_is_not_charged_for_what_came_between_its_recipients() {
    for refusal in [None, Some("550 nobody\r\n")] {
        let mut script = Script::with(&[6], BatchSettings::default(), |host| {
            host.max_recipients = Some(1);
            host.max_connect_failures = 1000;
        });
        script.open();
        let closings = Rc::new(Cell::new(0));
        let counted = Rc::clone(&closings);
        let mut tries = 0;
        script.serve(move |asked| {
            let is_long = asked.what == "MAIL" && asked.line.contains("long@");
            tries += u32::from(is_long);
            if is_long && tries % 2 == 1 {
                counted.set(counted.get() + 1);
                return Some(Does::Say("421 enough\r\n"));
            }
            let is_own = asked.what == "RCPT" && asked.line.contains("@long.example");
            refusal.filter(|_| is_own).map(Does::Say)
        });
        let to: Vec<String> = (0..150).map(|number| format!("r{number}@long.example")).collect();
        let envelope = Envelope::parse("long@example.org", &to).unwrap();
        script.take(Message::new(envelope, Content::from("text\r\n")).id(0));
        deliver_others(&mut script, 600);
        let outcome = if refusal.is_none() { "delivered" } else { "refused" };
        assert_eq!((script.outcomes()[0], script.outcomes().len()), ((0, outcome, 1), 601));
        assert_eq!(closings.get(), 150);
    }
}

#[test]
fn rset_that_is_not_known_is_a_refusal_where_nothing_is_behind_it() {
    const BINARY: &str = "250-mx.example\r\n250-CHUNKING\r\n250 BINARYMIME\r\n";
    let binary = Content::from("\0").body(crate::parameters::Body::BinaryMime);
    for (content, what) in [(Content::from("text"), "content"), (binary, "BDAT")] {
        let mut script = flights(1, BINARY, Pipeline::Single, 1);
        let mut is_first = true;
        script.serve(offering(BINARY, move |asked| match asked.what {
            "RSET" => Some(Does::Say("500 what?\r\n")),
            _ if asked.what == what && std::mem::take(&mut is_first) => Some(Does::Say("554 spam\r\n")),
            _ => None,
        }));
        script.take(Message::new(mail(1).envelope().clone(), content).id(1));
        script.finish();
        script.take(mail_to(2, &["nobody@example.net"]));
        script.finish();
        let has_refused = script.mail_events().contains(&(EventKind::Fail, Step::Rset, 500));
        assert_eq!(has_refused, what == "BDAT");
        assert_eq!(script.outcomes(), [(1, "refused", 1), (2, "delivered", 1)]);
    }
}

#[cfg(unix)]
#[test]
fn a_content_for_which_descriptors_are_lacking_for_ever_is_not_tried_for_ever() {
    let mut script = one();
    let opened = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let count = std::sync::Arc::clone(&opened);
    let content = Content::reader(move || {
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Err(std::io::Error::from_raw_os_error(24))
    });
    script.take(Message::new(mail(1).envelope().clone(), content).id(1));
    script.finish();
    assert_eq!(script.outcomes(), [(1, "abandoned", 3)]);
    assert_eq!(opened.load(std::sync::atomic::Ordering::Relaxed), 63);
}
