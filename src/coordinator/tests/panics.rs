//! Callbacks that panic.

use super::*;

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

#[test]
fn what_a_handler_does_not_want_it_is_not_told() {
    let mut script = Script::new(&[2]);
    script.notes.wants = Box::new(|kind| kind != EventKind::Pass);
    script.serve(once("RCPT", Does::Say("550 no\r\n")));
    script.take(mail(1));
    script.take(mail(2));
    script.finish();
    assert_eq!(script.outcomes(), [(1, "refused", 1), (2, "delivered", 1)]);
    let seen = |kind| script.notes.seen.iter().filter(|seen| seen.kind == kind).count();
    assert_eq!([EventKind::Pass, EventKind::Fail, EventKind::ConnectPass].map(seen), [0, 1, 2]);
}

#[test]
fn a_handler_that_panics_when_it_is_asked_what_it_wants_loses_nothing() {
    let mut script = Script::new(&[1]);
    script.notes.wants = Box::new(|kind| {
        assert!(kind != EventKind::Pass, "planted");
        true
    });
    script.take(mail(1));
    assert!(run_over_panics(&mut script) > 0);
    assert_eq!(script.outcomes(), [(1, "delivered", 1)]);
}
