//! What makes a connection useless.

use super::*;

#[test]
fn a_timeout_poisons_the_connection() {
    let mut talk = Talk::ready();
    talk.mail();
    talk.say("MAIL FROM:<ann@example.org>\r\n");
    talk.later(4 * SECOND - Duration::from_nanos(1));
    assert!(!talk.session.is_over());
    talk.later(Duration::from_nanos(1));
    talk.failed(&Failure::TimedOut { after: 4 * SECOND }, Step::Mail);
}

#[test]
fn a_poisoned_session_is_never_reset() {
    let mut talk = Talk::mailed();
    talk.rcpt();
    talk.say("RCPT TO:<bob@example.net>\r\n");
    talk.hear("huh\r\n");
    talk.failed(&Failure::Garbage, Step::Rcpt);
    talk.session.reset(talk.now);
    assert!(!talk.session.wants_write() && talk.filled().is_empty());
    assert!(!talk.session.is_usable());
}

#[test]
fn garbage_poisons_the_connection() {
    for text in ["hello\r\n", "25\r\n", "199 x\r\n", "600 x\r\n", "250-a\r\n251 b\r\n", "250x\r\n"] {
        let mut talk = Talk::ready();
        talk.mail();
        talk.say("MAIL FROM:<ann@example.org>\r\n");
        talk.hear(text);
        talk.failed(&Failure::Garbage, Step::Mail);
        assert!(talk.session.answer().is_none(), "{text:?}");
    }
}

#[test]
fn a_line_that_is_too_long_poisons_the_connection() {
    let mut talk = Talk::ready();
    talk.mail();
    talk.say("MAIL FROM:<ann@example.org>\r\n");
    talk.hear("250 ");
    let piece = "x".repeat(1_000);
    for _ in 0..20 {
        talk.hear(&piece);
    }
    talk.failed(&Failure::TooLong, Step::Mail);
    assert!(talk.session.text.len() <= reply::MAX_REPLY_LINE + piece.len(), "bounded while it is read");
}

#[test]
fn a_reply_that_is_too_long_poisons_the_connection() {
    let mut talk = Talk::ready();
    talk.mail();
    talk.say("MAIL FROM:<ann@example.org>\r\n");
    let line = format!("250-{}\r\n", "x".repeat(500));
    for _ in 0..200 {
        talk.hear(&line);
    }
    talk.failed(&Failure::TooLong, Step::Mail);
    assert!(talk.session.text.len() <= reply::MAX_REPLY + line.len(), "bounded while it is read");
}

#[test]
fn a_lost_connection_keeps_the_first_reason() {
    let mut talk = Talk::ready();
    talk.session.lost(Failure::Closed);
    let fault = IoFault { kind: io::ErrorKind::BrokenPipe, text: "broken pipe".into() };
    talk.session.lost(Failure::Lost(fault));
    talk.failed(&Failure::Closed, Step::Idle);
}

#[test]
fn a_2yz_to_data_poisons_and_no_content_follows() {
    let mut talk = Talk::with_recipient();
    talk.session.data(&Content::from("hello"), talk.now).unwrap();
    talk.say("DATA\r\n");
    talk.hear("250 ok\r\n");
    talk.failed(&unexpected(250), Step::Data);
    assert!(talk.session.answer().is_none() && !talk.session.has_doubt());
}

#[test]
fn another_3yz_than_354_to_data_poisons() {
    let mut talk = Talk::with_recipient();
    talk.session.data(&Content::from("hello"), talk.now).unwrap();
    talk.say("DATA\r\n");
    talk.hear("334 go on\r\n");
    talk.failed(&unexpected(334), Step::Data);
}

#[test]
fn a_3yz_anywhere_else_poisons() {
    let mut talk = Talk::ready();
    talk.mail();
    talk.say("MAIL FROM:<ann@example.org>\r\n");
    talk.hear("354 go on\r\n");
    talk.failed(&unexpected(354), Step::Mail);

    let mut talk = Talk::behind_content();
    talk.hear("354 go on\r\n");
    talk.failed(&unexpected(354), Step::Content);
    assert!(talk.session.has_doubt());
}

#[test]
fn any_2yz_is_as_good_as_250() {
    let mut talk = Talk::mailed();
    for code in [251, 252, 299] {
        talk.rcpt();
        talk.say("RCPT TO:<bob@example.net>\r\n");
        talk.hear(&format!("{code} fine\r\n"));
        assert!(talk.session.answer().unwrap().is_pass());
        talk.session.answer_judged();
    }
    assert!(talk.session.is_usable());
}

#[test]
fn after_421_nothing_more_is_said_or_heard() {
    let mut talk = Talk::mailed();
    talk.rcpt();
    talk.say("RCPT TO:<bob@example.net>\r\n");
    talk.hear("421 closing\r\n250 what?\r\n");
    talk.judged(421);
    assert!(talk.session.failure().is_none() && talk.session.is_over());
    assert!(!talk.session.is_ready() && !talk.session.is_usable());
}
