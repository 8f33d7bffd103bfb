//! Several recipients: what becomes of each, and of their mail.

use super::*;

#[test]
fn the_transaction_goes_on_without_a_refused_recipient() {
    let mut script = one();
    script.serve(to_recipient("bob", "550 unknown\r\n", 9));
    script.take(mail_to(1, &THREE));
    script.run();
    assert_eq!(script.outcomes(), [(1, "partial", 1)]);
    let each = ["ann@example.net delivered", "bob@example.net refused", "cy@example.net delivered"];
    assert_eq!(script.notes.told[0].recipients, each);
    assert_eq!(script.said(lane(0, 0)), ["MAIL", "RCPT", "RCPT", "RCPT", "DATA", "content"]);
    let summary = script.coordinator.summary(script.now);
    assert_eq!((summary.mails.partial, summary.recipients.delivered, summary.recipients.refused), (1, 2, 1));
}

#[test]
fn a_deferred_recipient_is_tried_again_alone() {
    let mut script = one();
    script.serve(to_recipient("bob", "450 later\r\n", 1));
    script.take(mail_to(1, &THREE));
    script.run();
    assert_eq!(script.outcomes(), [(1, "delivered", 2)]);
    let rcpts: Vec<_> = script.wire.iter().filter(|line| line.contains("RCPT")).collect();
    assert_eq!(rcpts.len(), 4);
    assert!(rcpts[3].contains("bob"));
}

#[test]
fn a_recipient_that_stays_deferred_is_abandoned_and_the_mail_partial() {
    let mut script = one();
    script.serve(to_recipient("bob", "450 later\r\n", 9));
    script.take(mail_to(1, &THREE));
    script.run();
    assert_eq!(script.outcomes(), [(1, "partial", 3)]);
    let each = ["ann@example.net delivered", "bob@example.net abandoned", "cy@example.net delivered"];
    assert_eq!(script.notes.told[0].recipients, each);
}

#[test]
fn a_mail_without_an_accepted_recipient_says_no_data() {
    let mut script = one();
    script.serve(when("RCPT", "550 unknown\r\n"));
    script.take(mail_to(1, &THREE));
    script.run();
    assert_eq!(script.said(lane(0, 0)), ["MAIL", "RCPT", "RCPT", "RCPT"]);
    assert_eq!(script.outcomes(), [(1, "refused", 1)]);
    assert_eq!(script.notes.told[0].text, "refused: 550 unknown");
}

#[test]
fn too_many_recipients_send_the_rest_next_and_count_nothing() {
    for text in ["452 too many\r\n", "552 too many\r\n", "550 5.5.3 too many\r\n", "451 4.5.3 enough\r\n"] {
        let mut script = one();
        script.serve(to_recipient("bob", text, 1));
        script.take(mail_to(1, &THREE));
        script.run();
        assert_eq!(script.outcomes(), [(1, "delivered", 1)], "{text:?}");
        let verbs = ["MAIL", "RCPT", "RCPT", "DATA", "content", "MAIL", "RCPT", "RCPT", "DATA", "content"];
        assert_eq!(script.said(lane(0, 0)), verbs, "no RCPT behind it");
        assert_eq!(script.coordinator.summary(script.now).requeued, 1);
    }
}

#[test]
fn too_many_for_the_first_recipient_is_an_ordinary_refusal() {
    let mut script = one();
    script.serve(when("RCPT", "452 full\r\n"));
    script.take(mail_to(1, &THREE));
    script.run();
    assert_eq!(script.outcomes(), [(1, "abandoned", 3)]);
}

#[test]
fn all_or_nothing_gives_up_at_the_first_refused_recipient() {
    let mut script = one();
    script.serve(to_recipient("bob", "550 unknown\r\n", 9));
    script.take(mail_to(1, &THREE).all_or_nothing());
    script.run();
    assert_eq!(script.said(lane(0, 0)), ["MAIL", "RCPT", "RCPT"]);
    assert_eq!(script.outcomes(), [(1, "refused", 1)]);
    assert!(script.notes.told[0].recipients.iter().all(|one| one.ends_with("refused")));
}

#[test]
fn all_or_nothing_tries_all_again_after_a_deferral() {
    for text in ["450 later\r\n", "452 too many\r\n"] {
        let mut script = one();
        script.serve(to_recipient("bob", text, 1));
        script.take(mail_to(1, &THREE).all_or_nothing());
        script.run();
        assert_eq!(script.outcomes(), [(1, "delivered", 2)]);
        let verbs = ["MAIL", "RCPT", "RCPT", "RSET", "MAIL", "RCPT", "RCPT", "RCPT", "DATA", "content"];
        assert_eq!(script.said(lane(0, 0)), verbs);
    }
}

#[test]
fn a_refused_content_refuses_the_accepted_alone() {
    let mut script = one();
    let mut bob = to_recipient("bob", "450 later\r\n", 1);
    let mut content = once("content", Does::Say("554 spam\r\n"));
    script.serve(move |asked| bob(asked).or_else(|| content(asked)));
    script.take(mail_to(1, &THREE));
    script.run();
    let each = ["ann@example.net refused", "bob@example.net delivered", "cy@example.net refused"];
    assert_eq!(script.notes.told[0].recipients, each);
    assert_eq!(script.outcomes(), [(1, "partial", 2)]);
}

#[test]
fn domains_that_differ_in_case_alone_are_one_domain_of_a_limited_transaction() {
    const LIMITED: &str = "250-mx.example\r\n250 LIMITS RCPTDOMAINMAX=1\r\n";
    let mut script = flights(1, LIMITED, Pipeline::Single, 1);
    script.take(mail_to(1, &["ann@example.net", "bob@Example.NET", "cy@example.org", "di@EXAMPLE.net"]));
    script.finish();
    assert_eq!(script.outcomes(), [(1, "delivered", 1)]);
    let first = ["MAIL", "RCPT", "RCPT", "RCPT", "DATA", "content"];
    assert_eq!(script.said(lane(0, 0)), [first.as_slice(), &WHOLE].concat());
}

// ---- in a flight --------------------------------------------------------------

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

#[test]
fn a_drop_at_a_refused_recipient_holds_where_the_others_have_the_content() {
    let mut script = flights(1, CHUNKS, Pipeline::Full, 1);
    script.serve(offering(CHUNKS, to_recipient("bob", "550 no\r\n", 1)));
    script.decide(at(EventKind::Fail, Step::Rcpt, Verdict::DEFAULT.drop_message()));
    script.take(mail_to(1, &THREE));
    script.finish();
    assert_eq!(script.notes.told[0].recipients[1], "bob@example.net dropped");
}
