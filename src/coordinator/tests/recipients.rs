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
