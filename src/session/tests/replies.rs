//! Replies in any chunks, and whom they are about.

use super::*;

#[test]
fn replies_are_the_same_whatever_the_chunking() {
    let text = "250-first\r\n250 second\r\n";
    for size in 1..=text.len() {
        let mut talk = Talk::ready();
        talk.mail();
        talk.say("MAIL FROM:<ann@example.org>\r\n");
        for chunk in text.as_bytes().chunks(size) {
            assert!(!talk.session.is_over());
            talk.session.receive(chunk, talk.now);
        }
        assert_eq!(talk.session.answer().unwrap().reply.to_string(), "250 first / second");
        assert!(talk.session.is_usable());
    }
}

#[test]
fn an_answer_names_its_recipient() {
    let mut talk = Talk::mailed();
    talk.session.rcpt(&"bob@example.net".parse().unwrap(), 7, talk.now);
    talk.say("RCPT TO:<bob@example.net>\r\n");
    talk.hear("550 5.1.1 unknown\r\n");
    let answer = talk.session.answer().unwrap();
    assert_eq!((answer.step, answer.recipient, answer.is_pass()), (Step::Rcpt, 7, false));
}
