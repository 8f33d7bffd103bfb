//! LMTP (RFC 2033).

use std::net::TcpStream;
use std::time::Duration;

use smtp_bulk::sink::{Builder, Extension, Fault, Keep, Misdeed, Sink, Step};

use super::codes;
use super::raw::{Client, wait};

const THREE: &str = "MAIL FROM:<a@client.example>\r\nRCPT TO:<one@sink.example>\r\n\
                     RCPT TO:<two@sink.example>\r\nRCPT TO:<three@sink.example>\r\n";

fn lmtp(set: impl FnOnce(Builder) -> Builder) -> (Sink, Client<TcpStream>) {
    let builder = Sink::builder().lmtp().announce(Extension::Pipelining).announce(Extension::Chunking);
    let sink = set(builder).start().unwrap();
    let mut client = Client::connect(&sink);
    assert!(client.reply().starts_with("220 localhost LMTP"));
    client.expect("LHLO client.example", "250-");
    (sink, client)
}

fn faulty(fault: Fault) -> (Sink, Client<TcpStream>) {
    lmtp(|builder| builder.fault(fault))
}

#[test]
fn only_lhlo_greets() {
    let (_sink, mut client) = lmtp(|builder| builder);
    client.expect("EHLO client.example", "500");
    client.expect("HELO client.example", "500");
    client.expect("LHLO", "501");
    let sink = Sink::start().unwrap();
    Client::ready(&sink).expect("LHLO client.example", "500");
}

#[test]
fn content_without_recipients_is_out_of_sequence() {
    let (_sink, mut client) = lmtp(|builder| builder.refuse_recipients("no", 550));
    client.expect("MAIL FROM:<a@client.example>", "250");
    client.expect("DATA", "503");
    client.expect("RCPT TO:<no@sink.example>", "550");
    client.expect("DATA", "503");
    client.send("BDAT 6 LAST\r\nQUIT\r\n");
    assert!(client.reply().starts_with("503"));
    client.expect("NOOP", "250");
}

#[test]
fn every_recipient_has_a_final_reply_of_its_own() {
    for content in ["DATA\r\nx\r\n.\r\n", "BDAT 1\r\nxBDAT 2 LAST\r\n\r\n"] {
        let no = Fault::new(Step::Dot, Misdeed::refuse(550, "5.2.1 no\ntwice")).address_prefix("two");
        let (sink, mut client) = faulty(no);
        client.send(format!("{THREE}{content}NOOP\r\n"));
        assert_eq!(codes(&mut client, 5)[..4], ["250"; 4], "the envelope; then 354, or a chunk's 250");
        assert!(client.reply().starts_with("250 2.6.0"));
        assert_eq!(client.reply(), "550-5.2.1 no\r\n550 twice\r\n");
        assert!(client.reply().starts_with("250 2.6.0"));
        assert!(client.reply().starts_with("250 2.0.0"));
        let mails = sink.mails();
        assert_eq!(mails[0].forward_paths, ["one@sink.example", "three@sink.example"]);
        assert_eq!(mails[0].content, b"x\r\n");
        let counts = sink.counts();
        assert_eq!((counts.mails, counts.recipients, counts.refused), (1, 2, 1));
    }
}

#[test]
fn faults_go_by_recipients_although_nothing_is_kept() {
    let no = Fault::new(Step::Dot, Misdeed::refuse(450, "4.2.1 no")).address_prefix("three");
    let (sink, mut client) = lmtp(|builder| builder.keep(Keep::Nothing).fault(no));
    for _ in 0..2 {
        client.send(format!("{THREE}DATA\r\nx\r\n.\r\n"));
        assert_eq!(codes(&mut client, 8)[4..], ["354", "250", "250", "450"]);
    }
    let counts = sink.counts();
    assert_eq!((counts.mails, counts.recipients, counts.bytes), (2, 4, 6));
    assert!(sink.mails().is_empty());
}

#[test]
fn a_mail_that_everyone_refuses_is_stored_nowhere() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("mails");
    let no = Fault::new(Step::Dot, Misdeed::refuse(550, "5.2.1 no")).times(3);
    let (sink, mut client) = lmtp(|builder| builder.maildir(&path).fault(no));
    let files = || std::fs::read_dir(path.join("new")).unwrap().count();
    client.send(format!("{THREE}DATA\r\nx\r\n.\r\n"));
    assert_eq!(codes(&mut client, 8)[5..], ["550", "550", "550"]);
    assert_eq!((sink.counts().mails, sink.mails().len(), files()), (0, 0, 0));
    client.send(format!("{THREE}DATA\r\nx\r\n.\r\n"));
    assert_eq!(codes(&mut client, 8)[5..], ["250", "250", "250"]);
    assert_eq!((sink.counts().mails, sink.mails().len(), files()), (1, 1, 1));
}

#[test]
fn a_connection_that_ends_among_the_final_replies_leaves_those_that_were_given() {
    let (sink, mut client) = faulty(Fault::new(Step::Dot, Misdeed::CloseAfter).address_prefix("two"));
    client.send(format!("{THREE}DATA\r\nx\r\n.\r\n"));
    let rest = String::from_utf8(client.rest()).unwrap();
    assert_eq!(rest.lines().count(), 7, "{rest}");
    drop(client);
    let counts = wait(&sink, |counts| counts.open == 0);
    assert_eq!((counts.mails, counts.recipients), (1, 2));
    assert_eq!(sink.mails()[0].forward_paths, ["one@sink.example", "two@sink.example"]);
}

#[test]
fn final_replies_may_come_one_after_the_other() {
    let (sink, mut client) = faulty(Fault::new(Step::Dot, Misdeed::Delay(Duration::from_millis(20))));
    client.send(format!("{THREE}DATA\r\nx\r\n.\r\nNOOP\r\n"));
    assert_eq!(codes(&mut client, 9)[4..], ["354", "250", "250", "250", "250"]);
    assert_eq!((sink.counts().faults, sink.counts().recipients), (3, 3));
}

#[test]
fn a_mail_that_is_too_large_is_refused_to_everyone() {
    for content in ["DATA\r\nxxxxx\r\n.\r\n", "BDAT 5 LAST\r\nxxxxx"] {
        let (sink, mut client) = lmtp(|builder| builder.max_message_size(4));
        client.send(format!("{THREE}{content}RSET\r\n"));
        let replies = codes(&mut client, if content.starts_with('D') { 9 } else { 8 });
        assert_eq!(replies[replies.len() - 4..], ["552", "552", "552", "250"]);
        assert_eq!(sink.counts().mails, 0);
    }
}

#[test]
fn an_early_refusal_is_given_for_everyone() {
    for (step, content) in [
        (Step::Content, "DATA\r\nx\r\n.\r\n"),
        (Step::Content, "BDAT 1 LAST\r\nx"),
        (Step::Bdat, "BDAT 1 LAST\r\nx"),
    ] {
        let (sink, mut client) = faulty(Fault::new(step, Misdeed::refuse(452, "4.3.1 full")));
        client.send(format!("{THREE}{content}NOOP\r\n"));
        let replies = codes(&mut client, if content.starts_with('D') { 9 } else { 8 });
        assert_eq!(replies[replies.len() - 4..], ["452", "452", "452", "250"], "{step:?} {content}");
        assert_eq!(sink.counts().mails, 0);
    }
}

#[test]
fn a_thousand_recipients_have_a_thousand_final_replies() {
    let (sink, mut client) = lmtp(|builder| builder);
    client.expect("MAIL FROM:<>", "250");
    client.send("RCPT TO:<a@sink.example>\r\n".repeat(1000));
    assert_eq!(codes(&mut client, 1000), vec!["250"; 1000]);
    client.send("BDAT 0 LAST\r\nNOOP\r\n");
    assert_eq!(codes(&mut client, 1001), vec!["250"; 1001]);
    assert_eq!((sink.counts().mails, sink.counts().recipients), (1, 1000));
}
