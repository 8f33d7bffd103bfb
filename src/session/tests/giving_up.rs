//! Giving a transaction or the connection up.

use super::*;

#[test]
fn a_refused_step_before_the_content_needs_rset() {
    let mut talk = Talk::ready();
    assert!(!talk.session.needs_reset());
    talk.mail();
    talk.say("MAIL FROM:<ann@example.org>\r\n");
    talk.answered("550 no\r\n", 550);
    assert!(talk.session.needs_reset() && talk.session.is_usable());

    let mut talk = Talk::with_recipient();
    talk.session.data(&Content::from("hello"), talk.now).unwrap();
    talk.say("DATA\r\n");
    talk.answered("451 later\r\n", 451);
    assert!(talk.session.needs_reset() && talk.session.is_usable());

    talk.session.reset(talk.now);
    talk.say("RSET\r\n");
    talk.answered("250 ok\r\n", 250);
    assert!(!talk.session.needs_reset() && talk.session.is_usable());
}

#[test]
fn an_answered_content_needs_no_rset() {
    for (text, code) in [("250 queued\r\n", 250), ("554 spam\r\n", 554), ("451 later\r\n", 451)] {
        let mut talk = Talk::behind_content();
        talk.answered(text, code);
        assert!(!talk.session.needs_reset() && talk.session.is_usable());
    }
}

#[test]
fn between_354_and_the_last_octet_only_closing_gives_up() {
    let mut talk = Talk::before_content("hello");
    assert!(!talk.session.is_usable() && !talk.session.needs_reset());
    talk.session.content(talk.now);
    assert!(!talk.session.is_usable());
}

#[test]
fn a_refused_rset_still_needs_one() {
    let mut talk = Talk::mailed();
    talk.session.reset(talk.now);
    talk.say("RSET\r\n");
    talk.answered("500 what?\r\n", 500);
    assert!(talk.session.needs_reset());
}

#[test]
fn quit_is_the_last_word_whatever_the_answer() {
    for text in ["221 bye\r\n", "250 bye\r\n", "500 what?\r\n", "421 bye\r\n", "354 eh\r\n", "bye\r\n"] {
        let mut talk = Talk::mailed();
        talk.session.quit(talk.now);
        assert!(talk.session.is_leaving());
        talk.say("QUIT\r\n");
        assert!(!talk.session.is_over());
        talk.hear(text);
        assert!(talk.session.is_over() && !talk.session.is_ready(), "{text:?}");
    }
}

#[test]
fn close_forgets_everything() {
    let mut talk = Talk::before_content("hello\r\n");
    talk.session.content(talk.now);
    let all = talk.filled();
    talk.session.wrote(all.len(), talk.now);
    talk.hear("250-half a re");
    talk.session.lost(Failure::Closed);
    talk.session.close();
    assert!(talk.session.failure().is_none() && talk.session.answer().is_none());
    assert!(!talk.session.has_doubt() && !talk.session.needs_reset() && !talk.session.has_unwritten());
    assert!(!talk.session.extensions().offers(Extension::Size));
    assert_eq!((talk.session.bytes_written(), talk.session.began()), (0, None));
    assert_eq!(talk.session.step(), Step::Idle);
    assert!(!talk.session.is_ready() && !talk.session.wants_write());

    talk.session.open("other.example".parse().unwrap(), talk.now);
    talk.hear("220 mx\r\n");
    talk.say("EHLO other.example\r\n");
    talk.hear("250 mx\r\n");
    assert!(talk.session.is_usable(), "the half reply of the old connection is gone");
    talk.mail();
    talk.say("MAIL FROM:<ann@example.org>\r\n");
}

#[test]
fn a_new_connection_begins_with_nothing_of_the_old() {
    let mut talk = Talk::mailed();
    talk.session.open("client.example".parse().unwrap(), talk.now);
    assert!(!talk.session.needs_reset() && !talk.session.is_ready());
    assert!(!talk.session.extensions().offers(Extension::Size));
}

#[test]
fn a_long_reply_leaves_no_large_buffer_behind() {
    let mut talk = Talk::ready();
    talk.mail();
    talk.say("MAIL FROM:<ann@example.org>\r\n");
    let line = format!("250-{}\r\n", "x".repeat(500));
    for _ in 0..100 {
        talk.hear(&line);
    }
    talk.answered("250 ok\r\n", 250);
    talk.rcpt();
    assert!(talk.session.text.capacity() <= KEPT && talk.session.commands.capacity() <= KEPT);
}

#[test]
fn debug_shows_where_a_session_stands_and_no_content() {
    let mut talk = Talk::before_content("secret");
    talk.session.content(talk.now);
    let shown = format!("{:?}", talk.session);
    assert!(shown.contains("Ready") && shown.contains("Content") && !shown.contains("secret"), "{shown}");
}
