//! From the greeting to a session that is ready.

use super::*;

#[test]
fn what_was_said_unasked_is_told() {
    let bytes = b"421 4.4.2 idle for too long\r\n";
    let mut session = Session::new(Arc::new(Timeouts::default()));
    session.receive(bytes, Instant::now());
    let text = session.failure().unwrap().to_string();
    assert_eq!(text, "the server spoke unasked: 421 4.4.2 idle for too long");
}

#[test]
fn ehlo_tells_what_the_server_offers() {
    let talk = Talk::ready();
    assert_eq!(talk.session.extensions().size_limit(), Some(1000));
    assert_eq!(talk.session.step(), Step::Idle);
    assert_eq!(talk.session.bytes_written(), 21);
}

#[test]
fn nothing_is_said_before_the_greeting() {
    let mut talk = Talk::opened();
    assert!(!talk.session.wants_write() && talk.filled().is_empty());
    talk.hear("220-mx\r\n220-wel");
    assert!(talk.filled().is_empty());
    talk.hear("come\r\n220 go on\r\n");
    talk.say("EHLO client.example\r\n");
}

#[test]
fn refused_ehlo_is_followed_by_helo() {
    let mut talk = Talk::opened();
    talk.hear("220 mx\r\n");
    talk.say("EHLO client.example\r\n");
    talk.hear("502 what?\r\n");
    assert_eq!(talk.session.step(), Step::Helo);
    talk.say("HELO client.example\r\n");
    talk.hear("250 mx\r\n");
    assert!(talk.session.is_usable());
    assert!(!talk.session.extensions().offers(Extension::Size));
}

#[test]
fn ehlo_put_off_is_not_followed_by_helo() {
    for refusal in ["451 later\r\n", "421 closing\r\n"] {
        let mut talk = Talk::opened();
        talk.hear("220 mx\r\n");
        talk.say("EHLO client.example\r\n");
        talk.hear(refusal);
        let reply = Reply::parse(refusal.as_bytes()).unwrap().to_owned();
        talk.failed(&Failure::Refused(reply), Step::Ehlo);
    }
}

#[test]
fn refused_helo_ends_the_opening_with_the_servers_words() {
    let mut talk = Talk::opened();
    talk.hear("220 mx\r\n");
    talk.say("EHLO client.example\r\n");
    talk.hear("500 what?\r\n");
    talk.say("HELO client.example\r\n");
    talk.hear("550-go\r\n550 away\r\n");
    let reply = Reply::parse(b"550-go\r\n550 away\r\n").unwrap().to_owned();
    talk.failed(&Failure::Refused(reply), Step::Helo);
}

#[test]
fn refused_greeting_ends_the_opening_with_the_servers_words() {
    for refusal in ["554 no\r\n", "421 busy\r\n", "450 later\r\n"] {
        let mut talk = Talk::opened();
        talk.hear(refusal);
        let reply = Reply::parse(refusal.as_bytes()).unwrap().to_owned();
        talk.failed(&Failure::Refused(reply), Step::Greeting);
    }
}
