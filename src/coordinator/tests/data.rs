//! DATA in a flight: what a 354 binds the client to, and what becomes of the mail
//! behind it.

use super::*;

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
