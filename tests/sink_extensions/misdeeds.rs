//! What real servers do to clients that pipeline.

use smtp_bulk::sink::{Circumstance, Extension, Fault, Misdeed, Sink, Step};

use super::raw::wait;
use super::{Clock, ENVELOPE, chunking, codes, start};

#[test]
fn a_strict_server_does_not_take_two_commands_at_once() {
    let builder = || Sink::builder().strict_pipelining().announce(Extension::Chunking);
    let refused = "500 5.5.1 Pipelining not supported, closing\r\n";
    for (before, together) in [
        ("", "NOOP\r\nNOOP\r\n".to_owned()),
        ("", ENVELOPE.to_owned()),
        ("", "NOOP\r\nNO".to_owned()),
        (ENVELOPE, "DATA\r\nx\r\n.\r\n".to_owned()),
    ] {
        let (sink, mut client) = start(builder());
        for line in before.lines() {
            client.expect(line, "250");
        }
        client.send(together);
        assert_eq!(client.reply(), refused);
        assert_eq!(client.rest(), b"");
        assert_eq!(sink.counts().mails, 0);
    }

    let (sink, mut client) = start(builder());
    client.mail();
    ENVELOPE.lines().for_each(|line| client.expect(line, "250"));
    client.send("BDAT 1\r\nx");
    assert!(client.reply().starts_with("250"));
    client.send("BDAT 1 LAST\r\nx");
    assert!(client.reply().starts_with("250"));
    ENVELOPE.lines().for_each(|line| client.expect(line, "250"));
    client.expect("DATA", "354");
    client.send(".\r\nNOOP\r\n");
    assert!(client.reply().starts_with("250"));
    assert_eq!(client.reply(), refused);
    assert_eq!(sink.counts().mails, 3);

    let (_sink, mut client) = start(builder());
    ENVELOPE.lines().for_each(|line| client.expect(line, "250"));
    client.send("BDAT 1\r\nxBDAT 1 LAST\r\nx");
    assert!(client.reply().starts_with("250"));
    assert_eq!(client.reply(), refused);

    let (_sink, mut client) = start(builder().announce(Extension::Pipelining));
    client.send(format!("{ENVELOPE}DATA\r\n"));
    assert_eq!(codes(&mut client, 3), ["250", "250", "354"]);
}

#[test]
fn a_mail_in_the_same_read_as_the_final_dot_may_be_refused() {
    let odd = Fault::new(Step::Mail, Misdeed::refuse(503, "5.5.1 Bad sequence"));
    let (sink, mut client) = chunking(odd.when(Circumstance::BehindContent));
    client.mail();
    client.mail();
    client.send(format!("{ENVELOPE}DATA\r\n"));
    assert_eq!(codes(&mut client, 3), ["250", "250", "354"]);
    client.send(format!("x\r\n.\r\n{ENVELOPE}DATA\r\n"));
    assert_eq!(codes(&mut client, 4), ["250", "503", "503", "503"]);
    client.mail();
    assert_eq!((sink.counts().mails, sink.counts().faults), (4, 1));
}

#[test]
fn what_stands_behind_the_final_dot_may_be_lost() {
    let deaf = Fault::new(Step::Dot, Misdeed::LoseInput).when(Circumstance::Followed).times(1);
    let (sink, mut client) = chunking(deaf);
    client.mail();
    client.send(format!("{ENVELOPE}DATA\r\n"));
    assert_eq!(codes(&mut client, 3), ["250", "250", "354"]);
    client.send(format!("x\r\n.\r\n{ENVELOPE}MAIL FR"));
    assert!(client.reply().starts_with("250 2.6.0"));
    let mut clock = Clock::of(&sink);
    clock.tick();
    client.expect("RCPT TO:<b@sink.example>", "503");
    client.mail();
    assert_eq!((sink.counts().mails, sink.counts().faults), (3, 1));
}

#[test]
fn a_connection_may_end_because_something_stands_behind_the_final_dot() {
    for (misdeed, replies) in [(Misdeed::CloseAfter, 1), (Misdeed::Close, 0)] {
        let (sink, mut client) = chunking(Fault::new(Step::Dot, misdeed).when(Circumstance::Followed));
        client.mail();
        client.send(format!("{ENVELOPE}DATA\r\n"));
        assert_eq!(codes(&mut client, 3), ["250", "250", "354"]);
        client.send(format!("x\r\n.\r\n{ENVELOPE}"));
        let rest = String::from_utf8(client.rest()).unwrap();
        assert_eq!(rest.lines().count(), replies, "{rest}");
        assert_eq!(wait(&sink, |counts| counts.open == 0).mails, 2);
    }
}

#[test]
fn content_in_front_of_its_354_may_end_the_connection() {
    let odd = Misdeed::RefuseClose(554, "5.5.0 synchronization error".to_owned());
    let (_sink, mut client) = chunking(Fault::new(Step::Data, odd).when(Circumstance::Followed));
    client.mail();
    client.send(format!("{ENVELOPE}DATA\r\nx\r\n.\r\n"));
    let rest = String::from_utf8(client.rest()).unwrap();
    assert_eq!(rest.lines().last(), Some("554 5.5.0 synchronization error"));
    assert_eq!(rest.lines().count(), 3);
}

#[test]
fn octets_behind_refused_recipients_may_be_read_as_commands() {
    let odd = Misdeed::RefuseUnread(502, "5.5.1 Command not implemented".to_owned());
    let odd = Fault::new(Step::Bdat, odd).when(Circumstance::AllRefused);
    let builder = Sink::builder().announce(Extension::Chunking).refuse_recipients("no", 550).fault(odd);
    let (sink, mut client) = start(builder);
    client.send(format!("{ENVELOPE}BDAT 6 LAST\r\nNOOP\r\n"));
    assert_eq!(codes(&mut client, 3), ["250"; 3]);
    client.send("MAIL FROM:<a@b.example>\r\nRCPT TO:<no@b.example>\r\nBDAT 12 LAST\r\nNOOP\r\nFROB\r\n");
    assert_eq!(codes(&mut client, 5), ["250", "550", "502", "250", "500"]);
    assert_eq!(sink.counts().mails, 1);
}

#[test]
fn a_server_may_announce_bdat_and_not_know_it() {
    let odd = Misdeed::RefuseUnread(500, "5.5.1 Command unrecognized".to_owned());
    let (sink, mut client) = chunking(Fault::new(Step::Bdat, odd));
    client.send(format!("{ENVELOPE}BDAT 6 LAST\r\nQUIT\r\n"));
    assert_eq!(codes(&mut client, 4), ["250", "250", "500", "221"]);
    assert_eq!(sink.counts().mails, 0);
}

#[test]
fn recipients_beyond_some_may_be_refused_in_any_way() {
    let many = Fault::new(Step::Rcpt, Misdeed::refuse(552, "5.5.3 Too many recipients"));
    let (sink, mut client) = chunking(many.when(Circumstance::Accepted(2)));
    client.expect("MAIL FROM:<a@b.example>", "250");
    client.send("RCPT TO:<b@b.example>\r\n".repeat(5));
    assert_eq!(codes(&mut client, 5), ["250", "250", "552", "552", "552"]);
    client.expect("BDAT 0 LAST", "250");
    assert_eq!(sink.counts().recipients, 2);
}
