//! Scripted exchanges with a coordinator: what is dealt, judged, decided and
//! reported, each rule as a fact of its own.

extern crate self as smtp_bulk;

mod script;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use script::{Asked, Does, Script, lane, mail, mail_to, number};

use super::{BatchSettings, Link, Standing};
use crate::content::Content;
use crate::event::{EventKind, SessionVerdict, Verdict};
use crate::host::HostSettings;
use crate::message::Message;
use crate::session::Step;

const SECOND: Duration = Duration::from_secs(1);

fn one() -> Script {
    let mut script = Script::new(&[1]);
    script.open();
    script
}

fn settings(change: impl Fn(&mut BatchSettings)) -> BatchSettings {
    let mut settings = BatchSettings::default();
    change(&mut settings);
    settings
}

/// Answers so when it is asked this, and is friendly otherwise.
fn when(what: &'static str, text: &'static str) -> impl FnMut(&Asked<'_>) -> Option<Does> {
    move |asked| (asked.what == what).then_some(Does::Say(text))
}

/// The same, but the first time only.
fn once(what: &'static str, does: Does) -> impl FnMut(&Asked<'_>) -> Option<Does> {
    let mut does = Some(does);
    move |asked| if asked.what == what { does.take() } else { None }
}

/// Decides so about events of this kind at this step.
fn at(
    kind: EventKind,
    step: Step,
    verdict: Verdict,
) -> impl FnMut(&crate::event::Event<'_>) -> Verdict + 'static {
    move |event| {
        if (event.kind, event.step) == (kind, step) { verdict } else { Verdict::DEFAULT }
    }
}

const EHLO: [&str; 3] = ["connect", "greeting", "EHLO"];
const WHOLE: [&str; 4] = ["MAIL", "RCPT", "DATA", "content"];

// ---- dealing ------------------------------------------------------------------

#[test]
fn a_mail_goes_out_and_comes_back_delivered() {
    let mut script = one();
    script.take(mail(7));
    script.run();
    assert_eq!(script.said(lane(0, 0)), WHOLE);
    assert_eq!(script.outcomes(), [(7, "delivered", 1)]);
    let told = &script.notes.told[0];
    assert_eq!(told.text, "delivered: 250 2.0.0 queued");
    assert_eq!(
        (told.lane, told.recipients.clone()),
        (Some(lane(0, 0)), vec!["ann@example.net delivered".into()])
    );
    use EventKind::Pass;
    let passes = [
        (Pass, Step::Mail, 250),
        (Pass, Step::Rcpt, 250),
        (Pass, Step::Data, 354),
        (Pass, Step::Content, 250),
    ];
    assert_eq!(script.mail_events(), passes);
}

#[test]
fn a_batch_begins_when_every_active_lane_has_a_mail() {
    let mut script = Script::new(&[2, 1]);
    script.open();
    script.take(mail(1));
    script.take(mail(2));
    script.run();
    assert!(script.wire.is_empty() && !script.progress.batch_running);
    script.take(mail(3));
    script.run();
    assert_eq!(script.outcomes().len(), 3);
    assert_eq!(script.coordinator.summary(script.now).batches, 1);
    for (host, thread) in [(0, 0), (0, 1), (1, 0)] {
        assert_eq!(script.said(lane(host, thread)), WHOLE);
    }
}

#[test]
fn lanes_that_are_being_opened_are_not_waited_for() {
    let mut script = Script::new(&[2]);
    script.serve(|asked| (asked.what == "connect" && asked.lane.thread == 1).then_some(Does::Hang));
    script.run();
    script.take(mail(1));
    script.run();
    assert_eq!(script.outcomes(), [(1, "delivered", 1)]);
}

#[test]
fn no_step_is_judged_before_the_last_lane_has_finished_it() {
    let mut script = Script::new(&[3]);
    script.open();
    script.serve(|asked| (asked.what == "RCPT" && asked.lane.thread == 2).then_some(Does::Hang));
    (1..=3).for_each(|id| script.take(mail(id)));
    script.run();
    assert!(!script.coordinator.is_step_over());
    for thread in 0..2 {
        assert_eq!(script.said(lane(0, thread)), ["MAIL", "RCPT"], "waits at the barrier");
        assert!(script.lane(lane(0, thread)).session().answer().is_some());
    }
    script.settle();
    assert_eq!(script.mail_events().len(), 3, "a settle too many judges nothing");
    script.wait();
    script.run();
    assert_eq!(script.said(lane(0, 0)), WHOLE);
    assert_eq!(script.notes.told.len(), 2);
}

#[test]
fn silent_peers_cost_one_timeout_together() {
    let mut script = Script::new(&[5]);
    script.open();
    let began = script.now;
    script.serve(|asked| (asked.what == "MAIL" && asked.lane.thread < 4).then_some(Does::Hang));
    (1..=5).for_each(|id| script.take(mail(id)));
    script.run();
    script.wait();
    assert_eq!(script.now - began, Duration::from_secs(300));
    assert_eq!(script.notes.seen.iter().filter(|seen| seen.kind == EventKind::Hang).count(), 4);
}

#[test]
fn a_hang_names_its_lane_step_and_time() {
    let mut script = one();
    script.serve(once("DATA", Does::Hang));
    script.take(mail(1));
    script.run();
    script.wait();
    let hang = script.notes.seen.last().unwrap();
    assert_eq!((hang.kind, hang.lane, hang.step), (EventKind::Hang, lane(0, 0), Step::Data));
    assert_eq!((hang.id, hang.elapsed), (Some(1), Duration::from_secs(120)));
}

#[test]
fn flush_runs_a_short_batch() {
    let mut script = Script::new(&[3]);
    script.open();
    script.take(mail(1));
    script.coordinator.set_flushing(true);
    script.run();
    assert_eq!(script.outcomes(), [(1, "delivered", 1)]);
}

#[test]
fn linger_runs_a_short_batch_when_its_time_has_come() {
    let mut script = Script::with(&[3], settings(|all| all.linger = Some(5 * SECOND)), |_| {});
    script.open();
    script.take(mail(1));
    script.run();
    assert_eq!(script.progress.wake_at, Some(script.now + 5 * SECOND));
    script.now += 2 * SECOND;
    script.take(mail(2));
    script.run();
    assert!(script.notes.told.is_empty());
    script.now += 3 * SECOND;
    script.run();
    assert_eq!(script.outcomes(), [(1, "delivered", 1), (2, "delivered", 1)], "the first one's time counts");
}

#[test]
fn linger_runs_what_was_requeued_and_nothing_new() {
    let mut script = Script::with(&[3], settings(|all| all.linger = Some(5 * SECOND)), |_| {});
    script.open();
    script.serve(once("MAIL", Does::Say("451 later\r\n")));
    (1..=3).for_each(|id| script.take(mail(id)));
    script.run();
    assert_eq!((script.notes.told.len(), script.coordinator.backlog()), (2, 1));
    assert!(script.wait());
    script.run();
    assert_eq!(script.notes.told.len(), 3);
}

#[test]
fn short_batches_wear_all_lanes_alike() {
    let mut script = Script::new(&[2, 2]);
    script.open();
    script.coordinator.set_flushing(true);
    for id in 0..4 {
        script.take(mail(id));
        script.run();
    }
    for (host, thread) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        assert_eq!(script.said(lane(host, thread)), WHOLE);
    }
}

#[test]
fn no_more_is_taken_than_there_are_lanes() {
    let mut script = Script::new(&[2]);
    script.take(mail(1));
    script.take(mail(2));
    assert!(!script.coordinator.has_room());
    assert_eq!(number(&script.coordinator.take(mail(3), script.now).unwrap_err()), 3);
    script.finish();
    assert!(script.coordinator.has_room());
}

#[test]
fn requeued_mails_are_dealt_first() {
    let mut script = one();
    script.serve(once("MAIL", Does::Say("451 later\r\n")));
    script.take(mail(1));
    script.run();
    // Room for one only: the mail that came back fills it and has run.
    assert_eq!(script.outcomes(), [(1, "delivered", 2)]);

    let mut script = Script::new(&[2]);
    script.open();
    script.serve(once("MAIL", Does::Say("451 later\r\n")));
    script.take(mail(1));
    script.take(mail(2));
    script.run();
    script.take(mail(3));
    script.run();
    let order: Vec<u64> = script.notes.seen.iter().filter_map(|seen| seen.id).collect();
    let second: Vec<u64> = order.into_iter().filter(|id| [1, 3].contains(id)).collect();
    assert_eq!(second.first(), Some(&1));
    assert_eq!(script.outcomes(), [(1, "delivered", 2), (2, "delivered", 1), (3, "delivered", 1)]);
}

#[test]
fn a_requeued_mail_goes_to_another_host() {
    let mut script = Script::new(&[3, 1]);
    script.open();
    script
        .serve(|asked| (asked.what == "MAIL" && asked.lane.host == 0).then_some(Does::Say("451 later\r\n")));
    script.coordinator.set_flushing(true);
    script.take(mail(1));
    script.run();
    assert_eq!(script.outcomes(), [(1, "delivered", 2)]);
    assert_eq!(script.notes.told[0].lane, Some(lane(1, 0)));
}

#[test]
fn a_requeued_mail_goes_to_another_lane_of_the_only_host() {
    let mut script = Script::new(&[2]);
    script.open();
    script.serve(|asked| {
        (asked.what == "MAIL" && asked.lane.thread == 0).then_some(Does::Say("451 later\r\n"))
    });
    script.coordinator.set_flushing(true);
    script.take(mail(1));
    script.run();
    assert_eq!(script.outcomes(), [(1, "delivered", 2)]);
    assert_eq!(script.notes.told[0].lane, Some(lane(0, 1)));
}

// ---- recipients -----------------------------------------------------------------

const THREE: [&str; 3] = ["ann@example.net", "bob@example.net", "cy@example.net"];

/// Answers so to this recipient the first `times`, and else is friendly.
fn to_recipient(
    who: &'static str,
    text: &'static str,
    times: usize,
) -> impl FnMut(&Asked<'_>) -> Option<Does> {
    let mut left = times;
    move |asked| {
        let meant = asked.what == "RCPT" && asked.line.contains(who) && left > 0;
        meant.then(|| {
            left -= 1;
            Does::Say(text)
        })
    }
}

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

// ---- refusals -------------------------------------------------------------------

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
    script.take(Message::new(envelope, Content::from("short").promise(100)).id(1));
    script.run();
    assert_eq!(script.outcomes(), [(1, "refused", 1)]);
    assert_eq!(script.said(lane(0, 0)), [&["MAIL", "RCPT", "DATA"][..], &EHLO].concat());
    assert_eq!(script.mail_events().last(), Some(&(EventKind::Fail, Step::Content, 0)));
}

// ---- doubt ----------------------------------------------------------------------

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

// ---- expiry -----------------------------------------------------------------------

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

// ---- setbacks, retirement, restarts -------------------------------------------------

fn patient(failures: u32) -> impl Fn(&mut HostSettings) {
    move |host| host.max_connect_failures = failures
}

#[test]
fn connecting_again_waits_longer_each_time_and_ends() {
    let mut script = Script::new(&[1]);
    script.serve(|asked| (asked.what == "connect").then_some(Does::Refuse));
    script.run();
    for base in [1, 2, 4, 8] {
        let wait = script.progress.wake_at.unwrap() - script.now;
        assert!(wait >= base * SECOND / 2 && wait <= base * SECOND, "{wait:?} for {base}");
        assert_eq!(script.standing(lane(0, 0)), Standing::Benched);
        assert!(!script.progress.is_retired());
        script.wait();
        script.run();
    }
    assert!(script.progress.is_retired());
    assert_eq!(script.standing(lane(0, 0)), Standing::Retired);
    let attempts: Vec<u32> = script.notes.seen.iter().map(|seen| seen.attempt).collect();
    assert_eq!(attempts, [1, 2, 3, 4, 5]);
    assert!(script.notes.seen.iter().all(|seen| seen.kind == EventKind::ConnectFail));
    assert!(!script.wait());
}

#[test]
fn setbacks_of_every_kind_add_up() {
    let mut script = Script::with(&[1], BatchSettings::default(), patient(3));
    let mut connects = 0;
    script.serve(move |asked| {
        connects += u32::from(asked.what == "connect");
        match asked.what {
            "connect" if connects == 1 => Some(Does::Refuse),
            "MAIL" if connects == 2 => Some(Does::Say("421 closing\r\n")),
            "MAIL" => Some(Does::Close),
            _ => None,
        }
    });
    script.take(mail(1));
    script.finish();
    assert_eq!(script.standing(lane(0, 0)), Standing::Retired);
}

#[test]
fn only_a_finished_mail_resets_the_count() {
    let mut script = Script::with(&[1], settings(|all| all.max_attempts = 100), patient(3));
    script.open();
    let mut mails = 0;
    script.serve(move |asked| {
        mails += u32::from(asked.what == "MAIL");
        (asked.what == "MAIL" && mails % 3 != 0).then_some(Does::Close)
    });
    for id in 0..4 {
        script.take(mail(id));
        script.finish();
    }
    assert!(script.outcomes().iter().all(|told| told.1 == "delivered"));
    assert_eq!(script.standing(lane(0, 0)), Standing::Active);

    let mut script = Script::with(&[1], settings(|all| all.max_attempts = 1), patient(3));
    script.open();
    script.serve(|asked| (asked.what == "MAIL").then_some(Does::Close));
    for id in 0..3 {
        script.take(mail(id));
        script.finish();
    }
    assert!(script.outcomes().iter().all(|told| told.1 == "abandoned"), "abandoned mails are no success");
    assert_eq!(script.standing(lane(0, 0)), Standing::Retired);
}

#[test]
fn a_refused_mail_is_a_finished_one() {
    let mut script = Script::with(&[1], BatchSettings::default(), patient(2));
    script.open();
    script.serve(|asked| (asked.what == "mid-content").then_some(Does::Say("554 spam\r\n")));
    for id in 0..5 {
        script.take(mail(id));
        script.finish();
    }
    assert!(script.outcomes().iter().all(|told| told.1 == "refused"));
    assert_eq!(script.standing(lane(0, 0)), Standing::Active);
}

#[test]
fn no_callback_keeps_a_lane_from_retiring() {
    for code in [1, 102, 104, 202] {
        let verdict = Verdict::from_code(code).unwrap();
        let mut script = Script::new(&[1]);
        script.serve(|asked| (asked.what == "connect").then_some(Does::Refuse));
        script.decide(move |_| verdict);
        script.take(mail(1));
        script.finish();
        assert_eq!(script.standing(lane(0, 0)), Standing::Retired, "{code}");
        assert_eq!(script.notes.seen.len(), 5);
    }
}

#[test]
fn reopening_without_cause_ends_too() {
    for code in [102, 202, 203] {
        let verdict = Verdict::from_code(code).unwrap();
        let mut script = Script::new(&[2]);
        script.decide(move |event| {
            let opened = matches!(event.kind, EventKind::ConnectPass | EventKind::ReconnectPass);
            if opened { verdict } else { Verdict::DEFAULT }
        });
        script.exhaust();
        assert!(script.progress.is_retired(), "{code}");
        assert!(script.wire.iter().filter(|line| line.ends_with("connect")).count() <= 2 * 8, "{code}");
    }
}

#[test]
fn restarting_at_every_opening_settles_down() {
    let mut script = Script::new(&[2]);
    script.decide(|event| {
        let opened = matches!(event.kind, EventKind::ConnectPass | EventKind::ReconnectPass);
        if opened { Verdict::RESTART_AT_BATCH_END } else { Verdict::DEFAULT }
    });
    script.take(mail(1));
    script.finish();
    assert_eq!(script.outcomes(), [(1, "delivered", 1)], "after max_restarts 103 counts as 104");
    assert_eq!(script.wire.iter().filter(|line| line.ends_with("connect")).count(), 2 * 4);
}

#[test]
fn a_restart_revives_retired_lanes() {
    let mut script = Script::new(&[2]);
    let refuse = Rc::new(Cell::new(true));
    let refused = Rc::clone(&refuse);
    script.serve(move |asked| (asked.what == "connect" && refused.get()).then_some(Does::Refuse));
    script.take(mail(1));
    script.finish();
    assert!(script.progress.is_retired());
    refuse.set(false);
    script.coordinator.restart();
    script.finish();
    assert_eq!((script.progress.active, script.outcomes()), (2, vec![(1, "delivered", 1)]));
}

#[test]
fn a_callbacks_restart_revives_retired_lanes() {
    for code in [103, 203] {
        let mut script = Script::new(&[2]);
        script.open();
        let verdict = Verdict::from_code(code).unwrap();
        let mut orders = vec![verdict];
        script.decide(move |event| match (event.kind, event.lane.thread) {
            (EventKind::Pass, 0) if event.step == Step::Content => Verdict::RETIRE,
            (EventKind::Pass, 1) if event.step == Step::Content => orders.pop().unwrap_or_default(),
            _ => Verdict::DEFAULT,
        });
        script.take(mail(1));
        script.take(mail(2));
        script.run();
        assert_eq!(script.progress.active, 2, "{code}");
        assert_eq!(script.outcomes(), [(1, "delivered", 1), (2, "delivered", 1)]);
        for thread in 0..2 {
            assert_eq!(script.said(lane(0, thread)), [&WHOLE[..], &["QUIT"], &EHLO].concat());
        }
    }
}

#[test]
fn a_restart_does_not_reset_the_count() {
    let mut script = Script::new(&[1]);
    script.serve(|asked| (asked.what == "connect").then_some(Does::Refuse));
    script.exhaust();
    script.notes.seen.clear();
    script.coordinator.restart();
    script.exhaust();
    assert_eq!(script.notes.seen.len(), 1, "one more opening, and it retires again");
    assert!(script.progress.is_retired());
}

#[test]
fn reconnect_opens_one_lane_anew() {
    let mut script = Script::new(&[2]);
    script.open();
    assert!(script.coordinator.reconnect(lane(0, 1)));
    assert!(!script.coordinator.reconnect(lane(3, 1)));
    script.run();
    assert!(script.said(lane(0, 0)).is_empty());
    assert_eq!(script.said(lane(0, 1)), [&["QUIT"][..], &EHLO].concat());
    assert_eq!(script.notes.seen[0].kind, EventKind::ReconnectPass);
}

/// Eight recipients, so that a mail to them keeps a batch running.
const MANY: [&str; 8] = [
    "a@example.net",
    "b@example.net",
    "c@example.net",
    "d@example.net",
    "e@example.net",
    "f@example.net",
    "g@example.net",
    "h@example.net",
];

#[test]
fn restarting_now_awaits_what_is_past_its_last_octet_and_puts_the_rest_back() {
    for answer in [Does::Hang, Does::Say("250 queued\r\n")] {
        let mut script = Script::with(&[3], settings(|all| all.max_attempts = 1), |_| {});
        script.open();
        let mut orders = vec![Verdict::RESTART_NOW];
        script.decide(move |event| {
            let asked = event.kind == EventKind::ReconnectPass && event.lane.thread == 2;
            if asked { orders.pop().unwrap_or_default() } else { Verdict::DEFAULT }
        });
        script.serve(|asked| (asked.what == "content" && asked.lane.thread == 0).then_some(Does::Hang));
        script.stuck = vec![lane(0, 2)];
        script.coordinator.reconnect(lane(0, 2));
        script.take(mail(1));
        script.take(mail_to(2, &MANY));
        script.coordinator.set_flushing(true);
        script.run();
        assert!(script.lane(lane(0, 0)).session().is_in_doubt());
        script.stuck.clear();
        script.run();
        assert_eq!(script.lane(lane(0, 0)).held(), 1, "its reply is awaited");
        assert_eq!(script.lane(lane(0, 1)).held(), 0, "given up at once");
        assert!(script.progress.batch_running && script.coordinator.backlog() == 1, "nothing more is dealt");
        let outcome = if let Does::Say(text) = answer {
            let now = script.now;
            script.lane_mut(lane(0, 0)).session_mut().receive(text.as_bytes(), now);
            "delivered"
        } else {
            "in_doubt"
        };
        script.finish();
        assert_eq!(script.outcomes(), [(1, outcome, 1), (2, "delivered", 1)]);
    }
}

#[test]
fn restarting_at_the_batch_end_comes_before_the_next_deal() {
    let mut script = Script::new(&[3]);
    script.serve(|asked| (asked.what == "connect" && asked.lane.thread == 2).then_some(Does::Hang));
    script.run();
    script.wire.clear();
    let mut orders = vec![Verdict::RESTART_AT_BATCH_END];
    script.decide(
        move |event| {
            if event.step == Step::Mail { orders.pop().unwrap_or_default() } else { Verdict::DEFAULT }
        },
    );
    script.take(mail(1));
    script.take(mail_to(2, &MANY));
    script.step();
    script.step();
    script.take(mail(3));
    assert_eq!(script.standing(lane(0, 0)), Standing::Benched);
    script.coordinator.set_flushing(true);
    script.run();
    assert_eq!(script.outcomes(), [(1, "delivered", 2), (2, "delivered", 1), (3, "delivered", 1)]);
    let summary = script.coordinator.summary(script.now);
    assert_eq!((summary.requeued, summary.batches), (1, 2));
    for thread in 0..2 {
        assert_eq!(script.said(lane(0, thread)).iter().filter(|verb| **verb == "QUIT").count(), 1);
    }
}

#[test]
fn a_restart_holds_nothing_against_lanes_that_are_being_opened() {
    let mut script = Script::new(&[2]);
    script.stuck = vec![lane(0, 1)];
    script.decide(|event| if event.lane.thread == 0 { Verdict::RESTART_NOW } else { Verdict::DEFAULT });
    script.run();
    script.stuck.clear();
    script.serve(|asked| (asked.what == "connect").then_some(Does::Refuse));
    script.exhaust();
    let tried = script.notes.seen.iter().filter(|seen| seen.lane == lane(0, 1)).count();
    assert_eq!(tried, 5);
}

#[test]
fn restarts_without_a_finished_mail_between_are_bounded() {
    let mut script = Script::with(&[1], settings(|all| all.max_restarts = 2), patient(20));
    script.open();
    script.serve(when("MAIL", "421 closing\r\n"));
    script.decide(at(EventKind::Fail, Step::Mail, Verdict::RESTART_NOW));
    script.take(mail(1));
    script.run();
    let connects = script.wire.iter().filter(|line| line.ends_with("connect")).count();
    assert_eq!((connects, script.standing(lane(0, 0))), (2, Standing::Benched), "then 203 counts as 102");
    script.exhaust();
    assert!(script.notes.told.is_empty() && script.progress.is_retired());
}

#[test]
fn a_finished_mail_allows_restarts_again() {
    let mut script = one();
    script.decide(at(EventKind::Pass, Step::Content, Verdict::RESTART_NOW));
    for id in 0..10 {
        script.take(mail(id));
        script.run();
    }
    assert_eq!(script.outcomes().len(), 10);
    assert_eq!(script.said(lane(0, 0)).iter().filter(|verb| **verb == "connect").count(), 10);
    assert!(script.notes.seen.iter().all(|seen| seen.attempt <= 2), "and sets the lane's count back");
}

#[test]
fn a_restart_counts_every_reopening_once() {
    for code in [103, 203] {
        let verdict = Verdict::from_code(code).unwrap();
        let mut script = Script::new(&[3]);
        script.open();
        let mut orders = vec![(Step::Rcpt, 1, verdict), (Step::Mail, 0, Verdict::RECONNECT_AT_BATCH_END)];
        script.decide(move |event| {
            let now = orders.last().is_some_and(|next| (next.0, next.1) == (event.step, event.lane.thread));
            if now { orders.pop().map_or(Verdict::DEFAULT, |next| next.2) } else { Verdict::DEFAULT }
        });
        (1..=3).for_each(|id| script.take(mail_to(id, &MANY)));
        script.finish();
        let opened = script.notes.seen.iter().filter(|seen| seen.kind == EventKind::ReconnectPass);
        let mut attempts: Vec<_> = opened.map(|seen| (seen.lane.thread, seen.attempt)).collect();
        attempts.sort_unstable();
        // The third has finished its mail first when the restart is at the end.
        assert_eq!(attempts, [(0, 2), (1, 2), (2, 2)], "{code}");
    }
}

#[test]
fn a_restart_that_counts_as_a_bench_cannot_bring_a_mail_back_for_ever() {
    let mut script = Script::with(&[1], BatchSettings::default(), patient(100));
    script.open();
    script.serve(when("MAIL", "503 what?\r\n"));
    script.decide(at(EventKind::Fail, Step::Mail, Verdict::RESTART_AT_BATCH_END));
    script.take(mail(1));
    script.finish();
    assert_eq!(script.outcomes(), [(1, "abandoned", 3)]);
    assert_eq!(script.notes.seen.iter().filter(|seen| seen.kind == EventKind::Fail).count(), 6);
}

#[test]
fn a_bench_counts_the_attempt_that_nothing_else_would_bound() {
    for text in ["503 what?\r\n", "421 closing\r\n"] {
        let mut script = Script::with(&[1], BatchSettings::default(), patient(100));
        script.open();
        script.serve(when("MAIL", text));
        script.decide(at(EventKind::Fail, Step::Mail, Verdict::BENCH));
        script.take(mail(1));
        script.finish();
        assert_eq!(script.outcomes(), [(1, "abandoned", 3)]);
    }
}

#[test]
fn a_lost_resting_connection_is_a_hang_without_a_mail() {
    let mut script = one();
    script.lane_mut(lane(0, 0)).session_mut().lost(crate::failure::Failure::Closed);
    script.run();
    let seen = &script.notes.seen;
    assert_eq!((seen[0].kind, seen[0].step, seen[0].id), (EventKind::Hang, Step::Idle, None));
    assert_eq!(seen[1].kind, EventKind::ReconnectPass);
    assert_eq!(script.standing(lane(0, 0)), Standing::Active);
}

#[test]
fn a_connection_found_dead_before_mail_costs_no_attempt() {
    let mut script = Script::with(&[1], settings(|all| all.max_attempts = 1), |_| {});
    script.open();
    script.take(mail(1));
    script.settle();
    script.lane_mut(lane(0, 0)).session_mut().lost(crate::failure::Failure::Closed);
    script.run();
    assert_eq!(script.outcomes(), [(1, "delivered", 1)]);
}

#[test]
fn our_own_shortage_is_no_event_and_no_setback() {
    let mut script = Script::with(&[1], BatchSettings::default(), patient(1));
    let mut times = 0;
    script.serve(move |asked| {
        times += u32::from(asked.what == "connect");
        (asked.what == "connect" && times <= 20).then_some(Does::Postpone(SECOND))
    });
    script.run();
    assert_eq!((script.standing(lane(0, 0)), script.progress.untried), (Standing::Benched, 0));
    assert!(!script.progress.is_retired());
    let began = script.now;
    script.take(mail(1));
    script.finish();
    assert_eq!(script.now - began, 20 * SECOND);
    assert_eq!(script.outcomes(), [(1, "delivered", 1)]);
    assert!(
        script.notes.seen.iter().all(|seen| !matches!(seen.kind, EventKind::ConnectFail | EventKind::Hang))
    );
}

#[test]
fn first_and_later_openings_have_callbacks_of_their_own() {
    let mut script = Script::new(&[1]);
    let mut connects = 0;
    script.serve(move |asked| {
        connects += u32::from(asked.what == "connect");
        match asked.what {
            "connect" if connects == 1 => Some(Does::Refuse),
            "greeting" if connects == 4 => Some(Does::Say("554 no\r\n")),
            _ => None,
        }
    });
    script.exhaust();
    script.coordinator.reconnect(lane(0, 0));
    script.exhaust();
    script.coordinator.reconnect(lane(0, 0));
    script.exhaust();
    use EventKind as K;
    let kinds: Vec<_> = script.notes.seen.iter().map(|seen| (seen.kind, seen.step)).collect();
    let expected = [
        (K::ConnectFail, Step::Connect),
        (K::ConnectPass, Step::Ehlo),
        (K::ReconnectPass, Step::Ehlo),
        (K::ReconnectFail, Step::Greeting),
        (K::ReconnectPass, Step::Ehlo),
    ];
    assert_eq!(kinds, expected);
}

// ---- message verdicts ---------------------------------------------------------------

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

// ---- panics -------------------------------------------------------------------------

/// Steps until the script rests, over any number of panics; says how many.
fn run_over_panics(script: &mut Script) -> usize {
    script.coordinator.set_flushing(true);
    let mut panics = 0;
    while catch_unwind(AssertUnwindSafe(|| script.exhaust())).is_err() {
        panics += 1;
        assert!(panics < 100, "panics without end");
    }
    panics
}

/// A callback of this kind and step panics, each time that it is asked.
fn panicking(kind: EventKind, step: Step) -> Script {
    let mut script = Script::new(&[2]);
    script.decide(move |event| {
        assert!((event.kind, event.step) != (kind, step), "planted");
        Verdict::DEFAULT
    });
    script
}

#[test]
fn a_panic_in_a_callback_counts_as_the_default_and_loses_nothing() {
    use EventKind as K;
    for (kind, step, server, expected) in [
        (K::ConnectPass, Step::Ehlo, None, "delivered"),
        (K::ConnectFail, Step::Connect, Some(("connect", Does::Refuse)), "delivered"),
        (K::Pass, Step::Mail, None, "delivered"),
        (K::Pass, Step::Rcpt, None, "delivered"),
        (K::Pass, Step::Data, None, "delivered"),
        (K::Pass, Step::Content, None, "delivered"),
        (K::Fail, Step::Mail, Some(("MAIL", Does::Say("550 no\r\n"))), "refused"),
        (K::Fail, Step::Rcpt, Some(("RCPT", Does::Say("550 no\r\n"))), "refused"),
        (K::Fail, Step::Data, Some(("DATA", Does::Say("550 no\r\n"))), "refused"),
        (K::Fail, Step::Content, Some(("content", Does::Say("550 no\r\n"))), "refused"),
        (K::Fail, Step::Content, Some(("mid-content", Does::Say("550 no\r\n"))), "refused"),
        (K::Fail, Step::Mail, Some(("MAIL", Does::Say("421 closing\r\n"))), "delivered"),
        (K::Hang, Step::Rcpt, Some(("RCPT", Does::Close)), "delivered"),
        (K::Hang, Step::Content, Some(("content", Does::Close)), "in_doubt"),
    ] {
        let mut script = panicking(kind, step);
        if let Some((what, does)) = server {
            script.serve(once(what, does));
        }
        script.take(mail(1));
        let panics = run_over_panics(&mut script);
        assert!(panics > 0, "{kind} {step}");
        assert_eq!(script.outcomes()[0].1, expected, "{kind} {step}");
        assert_eq!(script.progress.active, 2, "{kind} {step}: every lane is usable again");
        // Lanes that are settled together share one panic.
        let asked = script.notes.seen.iter().filter(|seen| (seen.kind, seen.step) == (kind, step)).count();
        assert!(asked >= panics, "{kind} {step}");
    }
}

#[test]
fn a_panic_over_a_mail_that_the_client_refuses_leaves_no_lane_behind() {
    let envelope = mail(1).envelope().clone();
    for message in [
        mail_to(1, &["jürgen@example.net"]),
        Message::new(envelope.clone(), Content::file("/nonexistent/mail.eml")).id(1),
        Message::new(envelope, Content::from("short").promise(100)).id(1),
    ] {
        let mut script = Script::new(&[2]);
        script.decide(|event| {
            assert!(event.kind != EventKind::Fail, "planted");
            Verdict::DEFAULT
        });
        script.take(message);
        assert_eq!(run_over_panics(&mut script), 1);
        assert_eq!(script.outcomes(), [(1, "refused", 1)]);
        assert_eq!(script.progress.active, 2);
        assert!(!script.progress.batch_running);
    }
}

#[test]
fn a_panic_in_a_report_is_after_the_fact() {
    for (what, does, outcome) in [
        ("", Does::Hang, "delivered"),
        ("MAIL", Does::Say("550 no\r\n"), "refused"),
        ("mid-content", Does::Say("554 no\r\n"), "refused"),
        ("content", Does::Say("250 queued\r\n421 closing\r\n"), "delivered"),
        ("content", Does::Close, "in_doubt"),
    ] {
        let mut script = Script::new(&[1]);
        script.serve(once(what, does));
        script.notes.on_report = Box::new(|_| panic!("planted"));
        script.take(mail(1));
        assert_eq!(run_over_panics(&mut script), 1);
        assert_eq!(script.outcomes(), [(1, outcome, 1)], "reported once");
        assert_eq!(script.progress.active, 1, "{what}: the lane is usable again");
        assert_eq!(script.coordinator.open_mails(), 0);
        script.notes.on_report = Box::new(|_| {});
        script.take(mail(2));
        script.finish();
        assert_eq!(script.outcomes()[1], (2, "delivered", 1));
    }
}

#[test]
fn a_panic_in_a_report_does_not_undo_the_verdict_on_the_session() {
    let mut script = Script::new(&[1]);
    script.decide(at(EventKind::Pass, Step::Content, Verdict::RETIRE));
    script.notes.on_report = Box::new(|_| panic!("planted"));
    script.take(mail(1));
    assert_eq!(run_over_panics(&mut script), 1);
    assert_eq!(script.standing(lane(0, 0)), Standing::Retired);
}

#[test]
fn a_panic_in_a_report_during_abort_takes_nothing_with_it() {
    let mut script = Script::new(&[4]);
    script.open();
    script.serve(to_recipient("bob", "450 later\r\n", 99));
    script.take(mail_to(1, &THREE));
    run_one_batch(&mut script);
    (2..=3).for_each(|id| script.take(mail(id)));
    assert_eq!(script.coordinator.backlog(), 3);
    script.notes.on_report = Box::new(|_| panic!("planted"));
    let now = script.now;
    let aborted = catch_unwind(AssertUnwindSafe(|| script.coordinator.abort(now, &mut script.notes)));
    assert!(aborted.is_err());
    script.notes.on_report = Box::new(|_| {});
    let returned = script.coordinator.abort(now, &mut script.notes);
    assert_eq!(returned.iter().map(number).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(script.notes.told.len(), 1);
}

/// A short batch, and not what is requeued by it.
fn run_one_batch(script: &mut Script) {
    script.coordinator.set_flushing(true);
    script.settle();
    script.coordinator.set_flushing(false);
    script.run();
}

// ---- ends ---------------------------------------------------------------------------

#[test]
fn abort_returns_what_is_untouched_and_reports_the_rest() {
    let mut script = Script::new(&[4]);
    script.open();
    let mut bob = to_recipient("bob", "450 later\r\n", 99);
    script.serve(move |asked| {
        if asked.what == "content" && asked.line.contains("Number 2") {
            return Some(Does::Hang);
        }
        bob(asked)
    });
    // The first is delivered but for one recipient, the second past its last
    // octet, the third amid its recipients, the fourth not begun.
    script.take(mail_to(1, &["ann@example.net", "bob@example.net"]));
    run_one_batch(&mut script);
    assert_eq!(script.coordinator.backlog(), 1);
    script.take(mail(2));
    script.take(mail_to(3, &MANY));
    run_one_batch(&mut script);
    script.take(mail(4));
    assert!(script.progress.batch_running);
    let returned = script.coordinator.abort(script.now, &mut script.notes);
    let mut ids: Vec<u64> = returned.iter().map(number).collect();
    ids.sort_unstable();
    assert_eq!(ids, [3, 4]);
    let outcomes: Vec<_> = script.outcomes().iter().map(|told| (told.0, told.1)).collect();
    assert_eq!(outcomes, [(1, "partial"), (2, "in_doubt")]);
    let first = script.notes.told.iter().find(|told| told.id == 1).unwrap();
    assert_eq!(first.recipients, ["ann@example.net delivered", "bob@example.net unsent"]);
    let summary = script.coordinator.summary(script.now);
    assert_eq!((summary.taken, summary.mails.total(), summary.mails.unsent), (4, 4, 2));
    assert!(script.lanes().all(|lane| lane.link() == Link::Down));
    assert_eq!(script.coordinator.open_mails(), 0);
}

#[test]
fn abort_judges_what_was_answered_already() {
    let mut script = one();
    script.take(mail(1));
    script.settle();
    (0..3).for_each(|_| script.step());
    script.sweep();
    assert!(script.lane(lane(0, 0)).session().answer().is_some());
    assert!(script.coordinator.abort(script.now, &mut script.notes).is_empty());
    assert_eq!(script.outcomes(), [(1, "delivered", 1)]);
}

#[test]
fn abandon_reports_what_abort_would_return() {
    let mut script = Script::new(&[2]);
    script.take(mail(1));
    script.take(mail(2));
    script.coordinator.abandon(script.now, &mut script.notes);
    assert_eq!(script.outcomes(), [(1, "unsent", 0), (2, "unsent", 0)]);
    assert_eq!(script.coordinator.summary(script.now).mails.unsent, 2);
}

#[test]
fn an_aborted_coordinator_works_again_after_a_restart() {
    let mut script = Script::new(&[2]);
    script.open();
    script.take(mail(1));
    script.coordinator.abort(script.now, &mut script.notes);
    script.run();
    assert!(script.progress.is_retired() && script.wire.is_empty());
    script.coordinator.restart();
    script.take(mail(2));
    script.finish();
    assert_eq!(script.outcomes(), [(2, "delivered", 1)]);
}

#[test]
fn goodbye_says_quit_on_every_session_and_opens_none() {
    let mut script = Script::new(&[2, 1]);
    script.serve(|asked| (asked.what == "connect" && asked.lane.host == 1).then_some(Does::Refuse));
    script.run();
    script.wire.clear();
    script.coordinator.say_goodbye(script.now);
    script.finish();
    assert_eq!(script.wire, ["0:0 QUIT", "0:1 QUIT"]);
    assert!(script.progress.is_retired() && script.lanes().all(|lane| lane.link() == Link::Down));
}

#[test]
fn a_server_that_ignores_quit_is_left_when_its_time_is_over() {
    let mut script = one();
    script.serve(|asked| (asked.what == "QUIT").then_some(Does::Hang));
    script.coordinator.say_goodbye(script.now);
    script.run();
    assert_eq!(script.lane(lane(0, 0)).link(), Link::Up);
    let began = script.now;
    script.wait();
    assert_eq!(script.now - began, 10 * SECOND);
    assert_eq!(script.lane(lane(0, 0)).link(), Link::Down);
}

#[test]
fn the_summary_adds_up() {
    let mut script = Script::new(&[2, 2]);
    script.open();
    let mut random = fastrand::Rng::with_seed(1);
    script.serve(move |asked| {
        let text = ["450 later\r\n", "550 no\r\n", "421 closing\r\n"][random.usize(..3)];
        let hit = matches!(asked.what, "MAIL" | "RCPT" | "content") && random.u32(..6) == 0;
        hit.then_some(if random.u32(..3) == 0 { Does::Close } else { Does::Say(text) })
    });
    let mut taken = 0;
    for id in 0..400 {
        if script.coordinator.has_room() {
            script.take(mail_to(id, &THREE));
            taken += 1;
        }
        script.run();
        script.coordinator.restart();
    }
    script.finish();
    let summary = script.coordinator.summary(script.now);
    let open = script.coordinator.open_mails();
    assert_eq!(summary.taken, taken);
    assert_eq!(summary.taken, summary.mails.total() + open);
    assert_eq!(script.notes.told.len() as u64, summary.mails.total(), "one report each");
    assert_eq!(summary.recipients.total(), 3 * summary.mails.total());
    let hosts = summary.hosts.iter();
    let (mails, bytes) =
        hosts.fold((0, 0), |(mails, bytes), host| (mails + host.mails.total(), bytes + host.bytes));
    assert_eq!((mails, bytes), (summary.mails.total(), summary.bytes));
    assert!(summary.mails.delivered > 50 && summary.mails.partial > 0 && summary.mails.refused > 0);
}

#[test]
fn codes_and_verdicts_are_the_same_thing() {
    for code in [1, 101, 102, 103, 104, 202, 203] {
        assert_eq!(Verdict::from_code(code).unwrap().code(), code);
    }
    assert_eq!(Verdict::from_code(1).unwrap().session, SessionVerdict::Default);
    for code in [0, 2, 100, 105, 201, 204, u16::MAX] {
        assert_eq!(Verdict::from_code(code).unwrap_err().0, code);
    }
}
