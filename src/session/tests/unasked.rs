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

#[test]
fn a_reply_to_half_a_command_is_a_failure() {
    let mut talk = Talk::ready();
    talk.mail();
    assert!(talk.filled().len() > 4);
    talk.session.wrote(4, talk.now);
    talk.hear("250 ok\r\n");
    talk.failed(&unexpected(250), Step::Mail);
}
