//! Parameters of MAIL that are refused: what is said again without them, what is
//! learnt of the host, and what is the mail's own affair.

use std::cell::RefCell;

use super::*;
use crate::envelope::Envelope;
use crate::extensions::Extension;
use crate::parameters::{Body, MailParameters, Ret};

const SIZED: &str = "250-mx.example\r\n250 SIZE\r\n";
const SIZED_CHUNKS: &str = "250-mx.example\r\n250-PIPELINING\r\n250-SIZE\r\n250 CHUNKING\r\n";
const SIZE: Lesson = Lesson::Extension(Extension::Size);

/// A mail with a parameter that no extension is known for.
fn odd(id: u64) -> Message {
    with_raw(id, "XODD")
}

fn with_raw(id: u64, name: &str) -> Message {
    let raw = MailParameters::new().with_raw(name, Some("1")).unwrap();
    let message = mail(id);
    let envelope = message.envelope().clone().with_mail_parameters(raw);
    message.with_envelope(envelope)
}

/// Refuses MAIL with this in it, and then what comes behind it up to the next one.
fn refusing(parameter: &'static str, text: &'static str) -> impl FnMut(&Asked<'_>) -> Option<Does> {
    let mut is_refused = false;
    move |asked| {
        let is_mail = asked.what == "MAIL";
        is_refused = if is_mail { asked.line.contains(parameter) } else { is_refused };
        let is_behind = ["RCPT", "BDAT"].contains(&asked.what);
        (is_refused && (is_mail || is_behind)).then_some(Does::Say(if is_mail { text } else { "503 no\r\n" }))
    }
}

fn level(script: &Script) -> Pipeline {
    script.coordinator.summary(script.now).hosts[0].pipeline
}

#[test]
fn whatever_blames_a_parameter_of_ours_burns_no_mail() {
    for refusal in [
        "555 what?\r\n",
        "501 what?\r\n",
        "504 not implemented\r\n",
        "455 not now\r\n",
        "550 5.5.4 what?\r\n",
        "500 what?\r\n",
        "503 what?\r\n",
    ] {
        let mut script = flights(1, SIZED, Pipeline::Single, 1);
        script.serve(offering(SIZED, refusing(" SIZE=", refusal)));
        script.take(mail(1));
        script.finish();
        assert_eq!(script.outcomes(), [(1, "delivered", 1)], "{refusal}");
        assert_eq!(script.coordinator.take_lesson(), Some((0, SIZE)), "{refusal}");
    }
}

#[test]
fn what_is_about_the_address_is_not_about_a_parameter() {
    for refusal in ["555 5.1.7 what?\r\n", "501 5.1.7 what?\r\n", "504 5.1.0 what?\r\n"] {
        let mut script = flights(1, SIZED, Pipeline::Single, 1);
        script.serve(offering(SIZED, refusing(" SIZE=", refusal)));
        script.take(mail(1));
        script.finish();
        assert_eq!(script.outcomes(), [(1, "refused", 1)], "{refusal}");
        assert_eq!(script.coordinator.take_lesson(), None, "{refusal}");
    }
}

#[test]
fn a_parameter_that_was_accepted_before_is_left_out_of_one_mail_alone() {
    let mut script = flights(1, SIZED, Pipeline::Single, 1);
    let refusals = Rc::new(Cell::new(0));
    let refused = Rc::clone(&refusals);
    script.serve(offering(SIZED, move |asked| {
        let is_meant = asked.what == "MAIL" && asked.line.contains("second@") && asked.line.contains("SIZE=");
        refused.set(refused.get() + u32::from(is_meant));
        is_meant.then_some(Does::Say("555 what?\r\n"))
    }));
    script.take(mail(1));
    script.finish();
    let second = Envelope::parse("second@example.org", ["ann@example.net"]).unwrap();
    script.take(Message::new(second, Content::from("text\r\n")).id(2));
    script.finish();
    assert_eq!(script.outcomes(), [(1, "delivered", 1), (2, "delivered", 1)]);
    assert_eq!((refusals.get(), script.coordinator.take_lesson()), (1, None));
}

#[test]
fn a_parameter_that_is_refused_in_a_whole_flight_ends_no_level() {
    // The first mail may have none, and be accepted.
    for is_first_bare in [false, true] {
        let mut script = flights(1, SIZED_CHUNKS, Pipeline::Full, 4);
        script.serve(offering(SIZED_CHUNKS, refusing(" SIZE=", "503 what is SIZE?\r\n")));
        if is_first_bare {
            let content = Content::reader(|| Ok(Box::new(&b"text"[..])));
            script.take(Message::new(mail(1).envelope().clone(), content).id(1));
        } else {
            script.take(mail(1));
        }
        (2..=4).for_each(|id| script.take(mail(id)));
        script.finish();
        assert!(script.outcomes().iter().all(|told| (told.1, told.2) == ("delivered", 1)));
        assert_eq!((level(&script), script.coordinator.take_lesson()), (Pipeline::Full, Some((0, SIZE))));
    }
}

#[test]
fn a_mails_own_parameter_that_is_refused_ends_no_level() {
    for refusal in ["500 what is XODD?\r\n", "503 what is XODD?\r\n", "555 what is XODD?\r\n"] {
        let mut script = flights(1, SIZED_CHUNKS, Pipeline::Full, 4);
        script.serve(offering(SIZED_CHUNKS, refusing("XODD", refusal)));
        (1..=3).for_each(|id| script.take(mail(id)));
        script.take(odd(4));
        script.finish();
        let last = if refusal.starts_with("555") { (4, "refused", 1) } else { (4, "abandoned", 3) };
        assert_eq!(script.outcomes()[..3], [1, 2, 3].map(|id| (id, "delivered", 1)));
        assert_eq!(script.outcomes()[3], last);
        assert_eq!((level(&script), script.coordinator.take_lesson()), (Pipeline::Full, None));
    }
}

#[test]
fn mails_with_parameters_of_their_own_show_what_a_server_does_not_stand() {
    const DOTS_DSN: &str = "250-mx.example\r\n250-PIPELINING\r\n250 DSN\r\n";
    let ret = |id| {
        let ret = mail(id).envelope().clone().with_mail_parameters(MailParameters::new().with_ret(Ret::Full));
        mail(id).with_envelope(ret)
    };
    let own: [&dyn Fn(u64) -> Message; 2] = [&odd, &ret];
    for own in own {
        let mut script = flights(1, DOTS_DSN, Pipeline::Full, 1);
        let mut is_behind = false;
        script.serve(offering(DOTS_DSN, move |asked| {
            let refuses = asked.what == "MAIL" && is_behind;
            is_behind = asked.what == "content";
            refuses.then_some(Does::Say("503 sequence\r\n"))
        }));
        (1..=2).for_each(|id| script.take(own(id)));
        script.finish();
        assert_eq!(script.outcomes(), [(1, "delivered", 1), (2, "delivered", 1)]);
        assert_eq!(script.coordinator.take_lesson(), Some((0, Lesson::Pipeline(Pipeline::Envelope))));
    }
}

#[test]
fn one_raw_parameter_that_is_accepted_says_nothing_of_another() {
    let mut script = flights(1, SIZED, Pipeline::Single, 1);
    script.serve(offering(SIZED, refusing("XODD", "500 what is XODD?\r\n")));
    script.take(with_raw(1, "XGOOD"));
    script.finish();
    script.take(odd(2));
    script.finish();
    assert_eq!(script.outcomes(), [(1, "delivered", 1), (2, "abandoned", 3)]);
    assert!(!script.progress.is_retired());
}

#[test]
fn a_mail_is_charged_for_a_parameter_of_its_own_until_the_host_has_accepted_that() {
    const DSN: &str = "250-mx.example\r\n250 DSN\r\n";
    let from = |from: &str, id| {
        let envelope = Envelope::parse(from, ["ann@example.net"]).unwrap();
        let ret = envelope.with_mail_parameters(MailParameters::new().with_ret(Ret::Full));
        Message::new(ret, Content::from("text\r\n")).id(id)
    };
    for (first, outcome) in [(mail(1), Some("abandoned")), (from("first@example.org", 1), None)] {
        let mut script = flights(1, DSN, Pipeline::Single, 1);
        script.serve(offering(DSN, refusing("odd@", "503 what?\r\n")));
        script.take(first);
        script.finish();
        script.take(from("odd@example.org", 2));
        script.finish();
        let told = script.outcomes();
        assert_eq!(told[0], (1, "delivered", 1));
        assert_eq!(told.get(1).map(|told| told.1), outcome);
        assert_eq!(script.progress.is_retired(), outcome.is_none());
    }
}

#[test]
fn a_host_that_takes_no_mail_at_all_burns_none_with_parameters_of_its_own() {
    let mut script = flights(1, SIZED, Pipeline::Single, 1);
    script.serve(offering(SIZED, when("MAIL", "503 5.5.1 log in first\r\n")));
    script.take(odd(1));
    script.finish();
    assert!(script.progress.is_retired() && script.notes.told.is_empty());
}

#[test]
fn what_may_be_for_a_parameter_of_ours_is_not_charged_to_a_mail_with_its_own() {
    let mut script = flights(1, SIZED, Pipeline::Single, 1);
    let closing = Rc::new(Cell::new(0));
    let closings = Rc::clone(&closing);
    script.serve(offering(SIZED, move |asked| match asked.what {
        "MAIL" if asked.line.contains(" SIZE=") => Some(Does::Say("503 what is SIZE?\r\n")),
        // Nor is this, however it is said.
        "MAIL" if closings.get() > 0 => {
            closings.set(closings.get() - 1);
            Some(Does::Say("421 closing\r\n"))
        }
        _ => None,
    }));
    // One that has none, and is taken.
    let content = Content::reader(|| Ok(Box::new(&b"text"[..])));
    script.take(Message::new(mail(0).envelope().clone(), content).id(0));
    script.run();
    script.coordinator.set_flushing(true);
    script.finish();
    closing.set(3);
    script.take(odd(1));
    script.finish();
    assert_eq!(script.outcomes(), [(0, "delivered", 1), (1, "delivered", 1)]);
}

#[test]
fn a_mails_own_parameter_that_every_host_refuses_does_not_go_round() {
    for refusal in ["555 what?\r\n", "501 what?\r\n", "503 what?\r\n"] {
        let mails = Rc::new(Cell::new(0));
        let counted = Rc::clone(&mails);
        let mut script = Script::new(&[1, 1]);
        let mut rule = refusing("XODD", refusal);
        script.serve(offering(SIZED, move |asked| {
            counted.set(counted.get() + u32::from(asked.what == "MAIL"));
            rule(asked)
        }));
        script.open();
        // Both take others.
        (2..=3).for_each(|id| script.take(mail(id)));
        script.finish();
        script.take(odd(1));
        script.finish();
        assert_eq!(script.outcomes().len(), 3);
        assert!(mails.get() <= 2 + 5, "{refusal} {}", mails.get());
    }
}

#[test]
fn a_mails_own_parameter_that_one_host_refuses_leaves_nothing_out_at_another() {
    let own = |own: MailParameters| mail(1).envelope().clone().with_mail_parameters(own);
    let raw = MailParameters::new().with_raw("XODD", Some("1")).unwrap();
    // Of the second one nothing is said, as the server does not offer DSN.
    for (own, learns) in [(own(raw), false), (own(MailParameters::new().with_ret(Ret::Full)), true)] {
        let said = Rc::new(RefCell::new(Vec::new()));
        let heard = Rc::clone(&said);
        let mut script = Script::new(&[1, 1]);
        script.serve(offering(SIZED, move |asked| {
            if asked.what != "MAIL" {
                return None;
            }
            heard.borrow_mut().push((asked.lane.host, asked.line.contains(" SIZE=")));
            (asked.lane.host == 0 && asked.line.contains('=')).then_some(Does::Say("555 what?\r\n"))
        }));
        script.open();
        script.take(mail(1).with_envelope(own));
        script.finish();
        assert_eq!(script.outcomes(), [(1, "delivered", 1)]);
        assert_eq!(*said.borrow(), [(0, true), (1, true)]);
        assert_eq!(script.coordinator.take_lesson().is_some(), learns);
    }
}

#[test]
fn what_a_mail_cannot_do_without_is_its_own() {
    const OFFERS: &str =
        "250-mx.example\r\n250-SIZE\r\n250-CHUNKING\r\n250-BINARYMIME\r\n250-DSN\r\n250 SMTPUTF8\r\n";
    let utf8 = Envelope::parse("j\u{f6}rg@example.org", ["ann@example.net"]).unwrap();
    let binary = Content::from("\0").body(Body::BinaryMime);
    let plain = || mail(1).envelope().clone();
    let ret = plain().with_mail_parameters(MailParameters::new().with_ret(Ret::Full));
    for (envelope, content, parameter) in [
        (utf8, Content::from("text"), "SMTPUTF8"),
        (plain(), binary, "BINARYMIME"),
        (ret, Content::from("text"), "RET="),
    ] {
        let mut script = flights(1, OFFERS, Pipeline::Single, 1);
        script.serve(offering(OFFERS, refusing(parameter, "555 what?\r\n")));
        script.take(Message::new(envelope, content).id(1));
        script.finish();
        assert_eq!(script.outcomes(), [(1, "refused", 1)], "{parameter}");
        assert_eq!(script.coordinator.take_lesson(), None, "{parameter}");
    }
}

#[test]
fn a_server_that_does_not_stand_size_is_not_held_to_the_limit_it_states() {
    const SIZED: &str = "250-mx.example\r\n250 SIZE 1000\r\n";
    for refusal in ["555 what?\r\n", "501 what?\r\n"] {
        let mut script = flights(1, SIZED, Pipeline::Single, 2);
        let rule = move |asked: &Asked<'_>| asked.line.contains(" SIZE=").then_some(Does::Say(refusal));
        script.serve(offering(SIZED, rule));
        let large = |id| Message::new(mail(id).envelope().clone(), Content::from("x\r\n".repeat(400))).id(id);
        script.take(large(1));
        script.take(mail(2));
        script.finish();
        script.take(large(3));
        script.finish();
        assert_eq!(script.outcomes(), [(1, "refused", 1), (2, "delivered", 1), (3, "delivered", 1)]);
        assert_eq!(script.coordinator.take_lesson(), Some((0, SIZE)));
    }
}
