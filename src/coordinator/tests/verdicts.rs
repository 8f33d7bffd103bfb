//! The message's part of a verdict, and codes at passed steps.

use super::*;

#[test]
fn requeue_tries_again_what_was_refused_for_good_and_is_bounded() {
    for step in [Step::Mail, Step::Rcpt, Step::Data, Step::Content] {
        let verb = if step == Step::Content { "content".into() } else { step.to_string() };
        let mut script = one();
        script.serve(move |asked| (asked.what == verb).then_some(Does::Say("554 no\r\n")));
        script.decide(at(EventKind::Fail, step, Verdict::DEFAULT.requeue()));
        script.take(mail(1));
        script.run();
        assert_eq!(script.outcomes(), [(1, "abandoned", 3)], "{step}");
        let told = &script.notes.told[0].text;
        assert!(
            ["abandoned: 554 no", "abandoned: given up by a callback's 1"].contains(&told.as_str()),
            "{told}"
        );
    }
}

#[test]
fn drop_ends_the_mail_at_any_step() {
    for (kind, step) in [
        (EventKind::Pass, Step::Mail),
        (EventKind::Pass, Step::Rcpt),
        (EventKind::Pass, Step::Data),
        (EventKind::Fail, Step::Mail),
        (EventKind::Fail, Step::Rcpt),
        (EventKind::Fail, Step::Data),
        (EventKind::Fail, Step::Content),
        (EventKind::Hang, Step::Rcpt),
    ] {
        let mut script = one();
        let verb = if step == Step::Content { "content".into() } else { step.to_string() };
        script.serve(move |asked| match kind {
            EventKind::Fail if asked.what == verb => Some(Does::Say("450 later\r\n")),
            EventKind::Hang if asked.what == verb => Some(Does::Close),
            _ => None,
        });
        script.decide(at(kind, step, Verdict::DEFAULT.drop_message()));
        script.take(mail_to(1, &THREE));
        script.finish();
        assert_eq!(script.outcomes(), [(1, "dropped", 1)], "{kind} {step}");
        assert_eq!(script.coordinator.summary(script.now).recipients.dropped, 3);
    }
}

#[test]
fn delivered_is_delivered_whatever_the_verdict() {
    for code in [1, 101, 102, 103, 104, 202, 203] {
        for verdict in [
            Verdict::from_code(code).unwrap(),
            Verdict::from_code(code).unwrap().requeue(),
            Verdict::from_code(code).unwrap().drop_message(),
        ] {
            let mut script = one();
            script.decide(at(EventKind::Pass, Step::Content, verdict));
            script.take(mail(1));
            script.finish();
            assert_eq!(script.outcomes(), [(1, "delivered", 1)]);
        }
    }
}

#[test]
fn a_code_at_a_passed_step_gives_up_the_transaction() {
    for (step, verbs) in [
        (Step::Mail, &["MAIL", "RSET"][..]),
        (Step::Rcpt, &["MAIL", "RCPT", "RSET"]),
        (Step::Data, &["MAIL", "RCPT", "DATA", "connect"]),
    ] {
        let mut script = one();
        let mut orders = vec![Verdict::BENCH];
        script.decide(
            move |event| {
                if event.step == step { orders.pop().unwrap_or_default() } else { Verdict::DEFAULT }
            },
        );
        script.take(mail(1));
        script.finish();
        assert_eq!(&script.said(lane(0, 0))[..verbs.len()], verbs);
        assert_eq!(script.outcomes(), [(1, "delivered", 2)]);
    }
}

#[test]
fn a_code_at_a_refused_recipient_gives_up_the_whole_transaction() {
    let mut script = one();
    script.serve(to_recipient("bob", "550 unknown\r\n", 1));
    script.decide(at(EventKind::Fail, Step::Rcpt, Verdict::BENCH));
    script.take(mail_to(1, &THREE));
    script.run();
    assert_eq!(script.said(lane(0, 0))[..4], ["MAIL", "RCPT", "RCPT", "RSET"]);
    let each = ["ann@example.net delivered", "bob@example.net refused", "cy@example.net delivered"];
    assert_eq!(script.notes.told[0].recipients, each);
}

#[test]
fn a_retired_lane_says_goodbye_where_it_can() {
    let mut script = one();
    script.decide(at(EventKind::Pass, Step::Content, Verdict::RETIRE));
    script.take(mail(1));
    script.run();
    assert_eq!(script.said(lane(0, 0)), [&WHOLE[..], &["QUIT"]].concat());
    assert_eq!(
        (script.standing(lane(0, 0)), script.lane(lane(0, 0)).link()),
        (Standing::Retired, Link::Down)
    );
}
