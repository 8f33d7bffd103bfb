//! Deadlines.

use super::*;

#[test]
fn every_step_has_its_own_deadline() {
    let mut talk = Talk::opened();
    assert_eq!(talk.deadline_in(), 2 * SECOND);
    talk.hear("220 mx\r\n");
    assert_eq!(talk.deadline_in(), 3 * SECOND);
    talk.say("EHLO client.example\r\n");
    talk.later(SECOND);
    talk.hear("500 what?\r\n");
    assert_eq!(talk.deadline_in(), 3 * SECOND, "HELO starts anew");
    talk.say("HELO client.example\r\n");
    talk.hear("250 mx\r\n");
    assert_eq!(talk.session.deadline(), None, "a resting session waits for nothing");

    let mut talk = Talk::ready();
    talk.mail();
    assert_eq!(talk.deadline_in(), 4 * SECOND);
    talk.say("MAIL FROM:<ann@example.org>\r\n");
    talk.answered("250 ok\r\n", 250);
    talk.rcpt();
    assert_eq!(talk.deadline_in(), 5 * SECOND);
    talk.say("RCPT TO:<bob@example.net>\r\n");
    talk.answered("250 ok\r\n", 250);
    talk.session.data(&Content::from("hello"), talk.now).unwrap();
    assert_eq!(talk.deadline_in(), 6 * SECOND);

    let mut talk = Talk::mailed();
    talk.session.reset(talk.now);
    assert_eq!(talk.deadline_in(), 9 * SECOND);
    let mut talk = Talk::ready();
    talk.session.quit(talk.now);
    assert_eq!(talk.deadline_in(), 10 * SECOND);
}

#[test]
fn every_octet_of_content_that_leaves_extends_the_deadline() {
    let mut talk = Talk::before_content("hello\r\n");
    talk.session.content(talk.now);
    assert_eq!(talk.deadline_in(), 7 * SECOND);
    let all = talk.filled();
    for _ in 0..all.len() - 1 {
        talk.later(6 * SECOND);
        talk.session.wrote(1, talk.now);
        assert_eq!(talk.deadline_in(), 7 * SECOND);
    }
    talk.session.wrote(1, talk.now);
    assert_eq!(talk.deadline_in(), 8 * SECOND, "now the final reply is awaited");
}

#[test]
fn a_write_that_takes_nothing_extends_no_deadline() {
    let mut talk = Talk::before_content("hello\r\n");
    talk.session.content(talk.now);
    let all = talk.filled();
    talk.session.wrote(all.len() - 1, talk.now);
    talk.later(6 * SECOND);
    talk.session.wrote(0, talk.now);
    assert_eq!(talk.deadline_in(), SECOND);
    talk.later(SECOND);
    talk.failed(&Failure::TimedOut { after: 7 * SECOND }, Step::Content);
}

#[test]
fn half_a_reply_extends_no_deadline() {
    let mut talk = Talk::behind_content();
    talk.later(7 * SECOND);
    talk.hear("250-still\r\n250-at it");
    assert_eq!(talk.deadline_in(), SECOND);
    talk.later(SECOND);
    talk.failed(&Failure::TimedOut { after: 8 * SECOND }, Step::Content);
}

#[test]
fn a_resting_session_never_times_out() {
    let mut talk = Talk::ready();
    talk.later(1_000 * SECOND);
    assert!(talk.session.is_usable());
}
