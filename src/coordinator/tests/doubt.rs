//! Mails in doubt, and mails that expire.

use super::*;

// ---- doubt ----

#[test]
fn content_without_an_answer_is_in_doubt_and_not_sent_again() {
    for does in [Does::Hang, Does::Close, Does::Say("huh\r\n"), Does::Say("354 eh\r\n")] {
        for verdict in [Verdict::DEFAULT, Verdict::BENCH.requeue(), Verdict::RECONNECT_NOW.drop_message()] {
            let mut script = one();
            let mut does = once(
                "content",
                match does {
                    Does::Hang => Does::Hang,
                    Does::Close => Does::Close,
                    Does::Say(text) => Does::Say(text),
                    _ => unreachable!(),
                },
            );
            script.serve(move |asked| does(asked));
            script.decide(at(EventKind::Hang, Step::Content, verdict));
            script.take(mail(1));
            script.finish();
            assert_eq!(script.outcomes(), [(1, "in_doubt", 1)]);
            assert_eq!(script.said(lane(0, 0)).iter().filter(|verb| **verb == "MAIL").count(), 1);
        }
    }
}

#[test]
fn content_cut_off_before_its_last_octet_is_not_in_doubt() {
    let mut script = one();
    script.serve(once("mid-content", Does::Close));
    script.take(mail(1));
    script.finish();
    assert_eq!(script.outcomes(), [(1, "delivered", 2)]);
}

fn resending(attempts: u32) -> Script {
    let settings = settings(|all| {
        all.resend_in_doubt = true;
        all.max_attempts = attempts;
    });
    let mut script = Script::with(&[1], settings, |_| {});
    script.open();
    script
}

#[test]
fn resend_in_doubt_sends_again() {
    let mut script = resending(3);
    script.serve(once("content", Does::Close));
    script.take(mail(1));
    script.finish();
    assert_eq!(script.outcomes(), [(1, "delivered", 2)]);
}

#[test]
fn resend_in_doubt_ends_in_doubt_when_the_attempts_are_used_up() {
    let mut script = resending(3);
    script.serve(|asked| (asked.what == "content").then_some(Does::Close));
    script.take(mail(1));
    script.finish();
    assert_eq!(script.outcomes(), [(1, "in_doubt", 3)]);
}

#[test]
fn a_later_refusal_does_not_end_the_doubt_of_an_earlier_attempt() {
    let mut script = resending(3);
    let mut first = once("content", Does::Close);
    let mut bob = to_recipient("bob", "550 unknown\r\n", 9);
    script.serve(move |asked| {
        first(asked).or_else(|| bob(asked)).or((asked.what == "content").then_some(Does::Say("554 spam\r\n")))
    });
    script.take(mail_to(1, &THREE));
    script.finish();
    let each = ["ann@example.net in_doubt", "bob@example.net refused", "cy@example.net in_doubt"];
    assert_eq!(script.notes.told[0].recipients, each);
}

#[test]
fn abort_reports_an_earlier_attempts_doubt() {
    let mut script = resending(3);
    let mut first = once("content", Does::Close);
    script.serve(move |asked| first(asked).or((asked.what == "connect").then_some(Does::Hang)));
    script.take(mail(1));
    script.run();
    assert_eq!(script.coordinator.backlog(), 1);
    assert!(script.coordinator.abort(script.now, &mut script.notes).is_empty());
    assert_eq!(script.outcomes(), [(1, "in_doubt", 1)]);
}

// ---- expiry ----

#[test]
fn an_expired_mail_is_not_begun() {
    let mut script = one();
    script.take(mail(1).expires(script.now));
    script.run();
    assert!(script.wire.is_empty());
    assert_eq!(script.outcomes(), [(1, "abandoned", 0)]);
    assert_eq!(script.notes.told[0].text, "abandoned: expired");
}

#[test]
fn an_attempt_under_way_does_not_expire() {
    let mut script = one();
    script.take(mail(1).expires(script.now + SECOND));
    script.settle();
    script.step();
    script.now += 2 * SECOND;
    script.run();
    assert_eq!(script.outcomes(), [(1, "delivered", 1)]);
}

#[test]
fn a_mail_that_expires_between_attempts_is_abandoned() {
    let mut script = one();
    script.serve(when("MAIL", "421 closing\r\n"));
    script.take(mail(1).expires(script.now + SECOND));
    script.finish();
    assert_eq!(script.outcomes(), [(1, "abandoned", 0)]);
}
