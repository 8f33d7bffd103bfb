//! Octets that nobody asked for.

use super::*;

#[test]
fn a_byte_before_a_flight_is_a_failure() {
    let mut talk = Talk::ready();
    talk.mail();
    talk.hear("2");
    talk.unsolicited(Step::Mail);
    assert!(!talk.session.has_flight_begun());
}

#[test]
fn a_byte_to_a_resting_session_is_a_failure() {
    let mut talk = Talk::ready();
    talk.hear("421 closing\r\n");
    talk.unsolicited(Step::Idle);
}

#[test]
fn a_byte_behind_a_steps_reply_is_a_failure_of_that_step() {
    let mut talk = Talk::ready();
    talk.mail();
    talk.say("MAIL FROM:<ann@example.org>\r\n");
    talk.hear("250 ok\r\n2");
    assert_eq!(talk.session.answer().unwrap().step, Step::Mail);
    talk.unsolicited(Step::Mail);
}

#[test]
fn a_byte_behind_the_greeting_is_a_failure() {
    let mut talk = Talk::opened();
    talk.hear("220 mx\r\n250 mx\r\n");
    talk.unsolicited(Step::Ehlo);
}

#[test]
fn a_byte_behind_the_reply_to_ehlo_is_a_failure() {
    let mut talk = Talk::opened();
    talk.hear("220 mx\r\n");
    talk.say("EHLO client.example\r\n");
    talk.hear("250 mx\r\n250 mx\r\n");
    talk.unsolicited(Step::Idle);
}

#[test]
fn surplus_behind_354_keeps_the_content_back() {
    let mut talk = Talk::with_recipient();
    talk.session.data(&Content::from("hello"), talk.now).unwrap();
    talk.say("DATA\r\n");
    talk.hear("354 go on\r\n250 ok\r\n");
    assert_eq!(talk.session.answer().unwrap().reply.code().as_u16(), 354);
    talk.unsolicited(Step::Data);
    assert!(!talk.session.has_doubt());
}

#[test]
fn surplus_behind_354_that_comes_late_is_not_taken_for_the_answer_to_the_content() {
    let mut talk = Talk::before_content("hello");
    talk.session.content(talk.now);
    talk.hear("250 ok\r\n");
    talk.unsolicited(Step::Content);
    assert!(!talk.session.has_doubt());
}

#[test]
fn surplus_behind_a_lone_final_reply_leaves_that_reply_valid() {
    let mut talk = Talk::behind_content();
    talk.hear("250 queued\r\n421 closing\r\n");
    let answer = talk.session.answer().unwrap();
    assert!(answer.is_pass());
    assert_eq!(answer.reply.to_string(), "250 queued");
    assert!(!talk.session.has_doubt());
    talk.unsolicited(Step::Content);
}

/// MAIL is asked, and so many octets of it are out; gives how many are left.
fn half_said(talk: &mut Talk, octets: usize) -> usize {
    talk.mail();
    let left = talk.filled().len() - octets;
    talk.session.wrote(octets, talk.now);
    left
}

#[test]
fn a_reply_to_half_a_command_is_a_failure() {
    let mut talk = Talk::ready();
    half_said(&mut talk, 4);
    talk.hear("250 ok\r\n");
    talk.unsolicited(Step::Mail);
    assert_eq!(talk.session.failure().unwrap().to_string(), "the server spoke unasked: 250 ok");
}

#[test]
fn a_reply_that_begins_before_the_commands_last_octet_answers_nothing() {
    for (early, late) in [("2", "50 ok\r\n"), ("550", " no\r\n"), ("250-a\r\n", "250 b\r\n")] {
        let mut talk = Talk::ready();
        let left = half_said(&mut talk, 4);
        talk.session.wrote(left - 1, talk.now);
        talk.hear(early);
        talk.session.wrote(1, talk.now);
        talk.hear(late);
        assert!(talk.session.answer().is_none(), "{early:?}");
        talk.unsolicited(Step::Mail);
    }
}

#[test]
fn a_reply_that_begins_behind_the_commands_last_octet_is_its_answer() {
    let mut talk = Talk::ready();
    let left = half_said(&mut talk, 4);
    talk.session.wrote(left, talk.now);
    talk.hear("2");
    talk.answered("50 ok\r\n", 250);
    assert!(talk.session.is_usable());
}

#[test]
fn a_421_may_begin_in_the_middle_of_a_command() {
    let mut talk = Talk::ready();
    let left = half_said(&mut talk, 4);
    talk.hear("42");
    talk.session.wrote(left, talk.now);
    talk.answered("1 closing\r\n", 421);
    assert!(talk.session.failure().is_none() && !talk.session.is_usable());

    let mut talk = Talk::ready();
    half_said(&mut talk, 4);
    talk.hear("421 closing\r\n");
    talk.failed(&unexpected(421), Step::Mail);
}
