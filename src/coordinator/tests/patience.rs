//! How often a lane is opened again by what went wrong, and mails that wait before they
//! are tried again.

use super::*;
use crate::reopening::{Retry, Sleep};

// ---- lanes --------------------------------------------------------------------

/// How often the only lane is opened where each MAIL ends so, and each connection is
/// made or not.
fn openings(retry: Retry, mail: Option<Does>, connects: bool) -> usize {
    let change = move |host: &mut HostSettings| host.retry = Some(retry);
    let mut script = Script::with(&[1], settings(|all| all.max_attempts = 1_000), change);
    let mut opened = 0;
    script.serve(move |asked| match asked.what {
        "connect" => {
            opened += 1;
            (!connects && opened > 1).then_some(Does::Refuse)
        }
        "MAIL" => Some(match mail {
            Some(Does::Say(text)) => Does::Say(text),
            _ => Does::Close,
        }),
        _ => None,
    });
    script.open();
    script.take(super::mail(1));
    script.finish();
    assert!(script.progress.is_retired());
    1 + script.wire.iter().filter(|line| line.ends_with("connect")).count()
}

#[test]
fn a_lane_is_opened_again_as_often_as_its_trouble_allows() {
    let retry = Retry { hang: 2, global_hang: 9, fail: 3, ..Retry::default() };
    assert_eq!(openings(retry, None, true), 3, "lost in the mail phase");
    assert_eq!(openings(retry, Some(Does::Say("421 closing\r\n")), true), 4, "told so");
    assert_eq!(openings(retry, None, false), 1 + 1 + 3, "lost once, and never connected again");
    assert_eq!(openings(Retry::default(), None, true), 2);
}

#[test]
fn a_lane_without_a_bound_is_given_up_in_time() {
    let retry = Retry { hang: 0, give_up_after: 60 * SECOND, ..Retry::default() };
    // Waits of 0, 1, 2, 4 … seconds, up to a half off each.
    let openings = openings(retry, None, true);
    assert!((7..=9).contains(&openings), "{openings}");
}

#[test]
fn a_finished_mail_forgets_all_troubles() {
    let change = |host: &mut HostSettings| host.retry = Some(Retry::default());
    let mut script = Script::with(&[1], settings(|all| all.max_attempts = 9), change);
    script.open();
    let mut mails = 0;
    script.serve(move |asked| {
        mails += u32::from(asked.what == "MAIL");
        (asked.what == "MAIL" && mails % 2 == 1).then_some(Does::Close)
    });
    for id in 1..=4 {
        script.take(mail(id));
        script.finish();
    }
    assert!(script.outcomes().iter().all(|told| told.1 == "delivered"));
}

#[test]
fn a_lane_sleeps_before_it_is_opened_again() {
    let sleep = Sleep { hang: 7 * SECOND, fail: 3 * SECOND };
    for (does, wait) in [(Does::Close, 7), (Does::Say("421 closing\r\n"), 3)] {
        let mut script = Script::with(&[1], BatchSettings::default(), |host| host.sleep = sleep);
        script.open();
        script.serve(once("MAIL", does));
        script.take(mail(1));
        script.run();
        assert_eq!(script.progress.wake_at, Some(script.now + wait * SECOND));
        script.finish();
        assert_eq!(script.outcomes(), [(1, "delivered", if wait == 7 { 2 } else { 1 })]);
    }
}

// ---- mails --------------------------------------------------------------------

const DELAY: Duration = Duration::from_secs(300);

fn delaying(change: impl Fn(&mut BatchSettings)) -> Script {
    let all = settings(|all| {
        all.retry_delay = DELAY;
        change(all);
    });
    let mut script = Script::with(&[2], all, |_| {});
    script.open();
    script.coordinator.set_flushing(true);
    script
}

#[test]
fn what_a_server_puts_off_waits_before_it_is_tried_again() {
    for step in ["MAIL", "RCPT", "DATA", "content"] {
        let mut script = delaying(|_| {});
        script.serve(once(step, Does::Say("451 4.7.1 greylisted\r\n")));
        script.take(mail(1));
        script.run();
        assert_eq!((script.coordinator.delayed(), script.coordinator.backlog()), (1, 0), "{step}");
        assert_eq!(script.progress.wake_at, Some(script.now + DELAY));
        assert!(!script.progress.batch_running);
        script.now += DELAY - SECOND;
        script.run();
        assert_eq!(script.coordinator.delayed(), 1);
        script.now += SECOND;
        script.run();
        assert_eq!(script.outcomes(), [(1, "delivered", 2)], "{step}");
        assert_eq!(script.notes.told[0].lane, Some(lane(0, 1)), "on another lane");
        assert_eq!(script.coordinator.summary(script.now).requeued, 1);
    }
}

#[test]
fn what_comes_back_for_another_reason_does_not_wait() {
    for does in [Does::Close, Does::Say("421 closing\r\n"), Does::Say("503 what\r\n")] {
        let mut script = delaying(|_| {});
        script.serve(once("MAIL", does));
        script.take(mail(1));
        script.run();
        assert_eq!(script.coordinator.delayed(), 0);
        assert_eq!(script.outcomes().len(), 1, "at once, on the other lane");
    }
}

#[test]
fn mails_that_wait_are_in_nobodys_way() {
    let mut script = delaying(|all| all.max_delayed = Some(3));
    script.serve(|asked| asked.line.contains("to0").then_some(Does::Say("450 later\r\n")));
    for id in 0..3 {
        script.take(mail_to(id, &["to0@example.net"]));
        script.run();
    }
    assert_eq!(script.coordinator.delayed(), 3);
    for id in 10..20 {
        assert!(script.coordinator.has_room());
        script.take(mail(id));
        script.run();
    }
    assert_eq!(script.outcomes().len(), 10);
    // One more than may wait is reported with what was said.
    script.take(mail_to(3, &["to0@example.net"]));
    script.run();
    let told = script.notes.told.last().unwrap();
    assert_eq!((told.id, told.text.as_str()), (3, "abandoned: 450 later"));
    script.finish();
    let abandoned = script.outcomes().into_iter().filter(|told| told.1 == "abandoned");
    assert_eq!(
        abandoned.collect::<Vec<_>>(),
        [(0, "abandoned", 3), (1, "abandoned", 3), (2, "abandoned", 3), (3, "abandoned", 1)]
    );
}

#[test]
fn only_the_recipients_that_were_put_off_wait_and_their_words_are_reported() {
    let mut script = delaying(|_| {});
    script.serve(to_recipient("bob", "450 4.2.1 greylisted\r\n", 9));
    script.take(mail_to(1, &THREE));
    script.run();
    assert_eq!(script.coordinator.delayed(), 1);
    script.coordinator.abandon_delayed(&mut script.notes);
    assert_eq!(script.outcomes(), [(1, "partial", 1)]);
    let recipients = &script.notes.told[0].recipients;
    assert_eq!(recipients[0], "ann@example.net delivered");
    assert_eq!(recipients[1], "bob@example.net abandoned");
    assert_eq!(script.coordinator.open_mails(), 0);
}

#[test]
fn mails_that_wait_are_returned_with_the_others() {
    let mut script = delaying(|_| {});
    script.serve(|asked| (asked.what == "MAIL").then_some(Does::Say("450 later\r\n")));
    (1..=2).for_each(|id| script.take(mail(id)));
    script.run();
    assert_eq!(script.coordinator.delayed(), 2);
    let returned = script.coordinator.abort(script.now, &mut script.notes);
    assert_eq!(returned.iter().map(number).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(script.coordinator.delayed(), 0);
}

#[test]
fn one_that_expires_while_it_waits_is_abandoned_when_its_turn_comes() {
    let mut script = delaying(|_| {});
    script.serve(|asked| (asked.what == "MAIL").then_some(Does::Say("450 later\r\n")));
    let message = mail(1).expires(script.now + DELAY / 2);
    script.take(message);
    script.run();
    script.now += DELAY;
    script.run();
    assert_eq!(script.notes.told[0].text, "abandoned: expired");
}
