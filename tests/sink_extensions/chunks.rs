//! BDAT (RFC 3030).

use smtp_bulk::sink::{Extension, Fault, Keep, Misdeed, Sink, Step};

use super::raw::Client;
use super::{Clock, ENVELOPE, chunking, codes, offering, start};

const ODD: &[u8] = b".\r\n..\r\nQUIT\r\n\n.\n\0\xff\r\r\n.\r\nno line end";

#[test]
fn octets_are_kept_as_they_were_sent() {
    let (sink, mut client) = offering(&[Extension::Chunking]);
    let large = b"BDAT 5 LAST\r\n.\r\n\0".repeat(70_000);
    for content in [&b""[..], b".", b"..", b"\r\n", b"\n.\n", ODD, &large] {
        client.send(ENVELOPE);
        client.send(format!("BDAT {} LAST\r\n", content.len()));
        client.send(content);
        assert_eq!(codes(&mut client, 3), ["250"; 3]);
        let mails = sink.take_mails();
        assert!(mails[0].content == content, "{:?}", content.get(..40).unwrap_or(content));
        assert_eq!(mails[0].chunks, 1);
    }
    client.mail();
    assert_eq!(sink.mails()[0].chunks, 0);
    assert_eq!(sink.counts().protocol_errors, 0);
}

#[test]
fn a_conversation_split_at_any_octet_is_the_same_conversation() {
    let sink = Sink::builder().announce(Extension::Chunking).keep(Keep::All).start().unwrap();
    let mut client = Client::ready(&sink);
    let mut clock = Clock::of(&sink);
    let mut wire = ENVELOPE.as_bytes().to_vec();
    let (head, tail) = ODD.split_at(11);
    for (verb, octets, last) in [("BDAT", head, ""), ("bdat", b"", ""), ("BDAT", tail, " last")] {
        wire.extend_from_slice(format!("{verb} {}{last}\r\n", octets.len()).as_bytes());
        wire.extend_from_slice(octets);
    }
    wire.extend_from_slice(b"NOOP\r\n");
    for split in 0..wire.len() {
        client.send(&wire[..split]);
        clock.tick();
        client.send(&wire[split..]);
        assert_eq!(codes(&mut client, 6), ["250"; 6], "at {split}");
    }
    let mails = sink.mails();
    assert_eq!(mails.len(), wire.len());
    assert!(mails.iter().all(|mail| mail.content == ODD && mail.chunks == 3));
    assert_eq!(sink.counts().protocol_errors, 0);
}

#[test]
fn whole_mails_in_one_write_are_answered_in_one_piece() {
    let (sink, mut client) = offering(&[Extension::Chunking, Extension::Pipelining]);
    client.send(format!("{ENVELOPE}BDAT 3 LAST\r\na\r\n").repeat(20));
    let piece = client.piece();
    assert_eq!(piece.lines().count(), 60, "{piece}");
    assert_eq!(sink.counts().mails, 20);
}

#[test]
fn refused_octets_are_never_taken_for_commands() {
    let (sink, mut client) = start(
        Sink::builder()
            .announce(Extension::Chunking)
            .max_message_size(10)
            .refuse_recipients("no", 550)
            .fault(Fault::new(Step::Bdat, Misdeed::refuse(451, "4.3.0 later")).skip(3).times(1))
            .fault(Fault::new(Step::Chunk, Misdeed::refuse(451, "4.3.0 later")).skip(1).times(1))
            .fault(Fault::new(Step::Content, Misdeed::refuse(451, "4.3.0 later")).skip(2).times(1)),
    );
    let quit = "BDAT 8\r\nNOOP\r\n\r\n";
    let last = "BDAT 8 LAST\r\nNOOP\r\n\r\n";
    client.send(last);
    assert!(client.reply().starts_with("503"), "no MAIL");
    client.expect("MAIL FROM:<a@b.example>", "250");
    client.send(last);
    assert!(client.reply().starts_with("503"), "no RCPT");
    client.expect("RCPT TO:<no@b.example>", "550");
    client.send(quit);
    assert!(client.reply().starts_with("554 5.5.1"), "no recipient");
    client.expect("MAIL FROM:<a@b.example>", "503");

    client.expect("RCPT TO:<b@b.example>", "250");
    client.send(format!("{quit}{quit}{last}"));
    assert_eq!(codes(&mut client, 3), ["451", "503", "503"], "refused at its command");
    client.send(format!("{ENVELOPE}{quit}{quit}{quit}{last}"));
    assert_eq!(codes(&mut client, 6), ["250", "250", "250", "451", "503", "503"], "at its reply");
    client.send(format!("{ENVELOPE}{quit}{quit}{last}"));
    assert_eq!(codes(&mut client, 5), ["250", "250", "250", "552", "503"], "for its size");
    client.send(format!("{ENVELOPE}{quit}{last}"));
    assert_eq!(codes(&mut client, 4), ["250", "250", "451", "503"], "in its octets");
    client.send(format!("{ENVELOPE}BDAT 11 LAST\r\n12345678901{ENVELOPE}{last}"));
    assert_eq!(codes(&mut client, 6), ["250", "250", "552", "250", "250", "250"]);
    client.expect("NOOP", "250");
    let counts = sink.counts();
    assert_eq!((counts.mails, counts.protocol_errors), (1, 3));
    assert_eq!(sink.mails()[0].content, b"NOOP\r\n\r\n");
}

#[test]
fn chunks_and_data_do_not_mix() {
    let (sink, mut client) = offering(&[Extension::Chunking]);
    client.send(format!("{ENVELOPE}BDAT 1\r\nx"));
    assert_eq!(codes(&mut client, 3), ["250"; 3]);
    client.expect("DATA", "503 5.5.1 BDAT");
    client.expect("RCPT TO:<c@sink.example>", "503");
    client.expect("MAIL FROM:<a@client.example>", "503");
    client.expect("NOOP", "250");
    client.expect("BDAT 0 LAST", "250 2.6.0");
    assert_eq!(sink.mails()[0].content, b"x");

    client.send(format!("{ENVELOPE}BDAT 1\r\nx"));
    assert_eq!(codes(&mut client, 3), ["250"; 3]);
    client.expect("RSET", "250");
    client.expect("BDAT 0 LAST", "503");
    client.mail();
    assert_eq!(sink.mails()[1].content, b"content\r\n");
}

#[test]
fn a_chunk_without_a_size_is_a_mistake() {
    let (_sink, mut client) = offering(&[Extension::Chunking]);
    for bad in ["BDAT", "BDAT LAST", "BDAT -1", "BDAT 1 FIRST", "BDAT 99999999999999999999"] {
        client.expect(bad, "501");
    }
    client.mail();
}

#[test]
fn binary_mails_come_in_chunks_only() {
    let (sink, mut client) = offering(&[Extension::Chunking, Extension::BinaryMime]);
    client.expect("MAIL FROM:<a@client.example> BODY=BINARYMIME", "250");
    client.expect("RCPT TO:<b@sink.example>", "250");
    client.expect("DATA", "503 5.5.1 BINARYMIME");
    client.send("BDAT 2 LAST\r\n\0\n");
    assert!(client.reply().starts_with("250 2.6.0"));
    assert_eq!(sink.mails()[0].content, b"\0\n");
    assert_eq!(sink.mails()[0].parameters, "BODY=BINARYMIME");

    let (_sink, mut client) = offering(&[Extension::Chunking, Extension::EightBitMime]);
    client.expect("MAIL FROM:<a@client.example> BODY=BINARYMIME", "555");
    client.expect("MAIL FROM:<a@client.example> BODY=8BITMIME", "250");
}

#[test]
fn a_maildir_gets_whole_mails_of_chunks_only() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("mails");
    let builder = Sink::builder().announce(Extension::Chunking).maildir(&path).keep(Keep::Nothing);
    let (_sink, mut client) = start(builder);
    client.send(format!("{ENVELOPE}BDAT 2\r\n\r\nBDAT 2 LAST\r\n.\n"));
    assert_eq!(codes(&mut client, 4), ["250"; 4]);
    client.send(format!("{ENVELOPE}BDAT 2\r\n\r\n"));
    assert_eq!(codes(&mut client, 3), ["250"; 3]);
    client.expect("RSET", "250");
    let files = |folder: &str| {
        std::fs::read_dir(path.join(folder)).unwrap().map(|file| file.unwrap().path()).collect::<Vec<_>>()
    };
    assert!(files("tmp").is_empty());
    assert_eq!(
        files("new").iter().map(|file| std::fs::read(file).unwrap()).collect::<Vec<_>>(),
        [b"\r\n.\n"]
    );
    std::fs::remove_dir_all(&path).unwrap();
    client.send(format!("{ENVELOPE}BDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\n"));
    assert_eq!(codes(&mut client, 4), ["250", "250", "451", "503"]);
    client.expect("NOOP", "250");
}

#[test]
fn faults_at_chunks_change_what_the_client_sees() {
    let (sink, mut client) = chunking(Fault::new(Step::Chunk, Misdeed::CloseAfter));
    client.send(format!("{ENVELOPE}BDAT 1\r\nxBDAT 1 LAST\r\nx"));
    assert_eq!(String::from_utf8(client.rest()).unwrap().lines().count(), 3);
    assert_eq!(sink.counts().mails, 0);

    let (sink, mut client) = chunking(Fault::new(Step::Dot, Misdeed::Close));
    client.send(format!("{ENVELOPE}BDAT 1 LAST\r\nx"));
    client.rest();
    assert_eq!(sink.counts().mails, 1, "the mail was stored, although the client cannot know");

    let (sink, mut client) = chunking(Fault::new(Step::Bdat, Misdeed::Close421));
    client.send(format!("{ENVELOPE}BDAT 100000 LAST\r\n{}", "x".repeat(100_000)));
    assert!(String::from_utf8(client.rest()).unwrap().lines().last().unwrap().starts_with("421"));
    assert_eq!(sink.counts().mails, 0);

    for step in [Step::Bdat, Step::Content, Step::Chunk, Step::Dot] {
        let time = std::time::Duration::from_millis(1);
        let (sink, mut client) = chunking(Fault::new(step, Misdeed::Delay(time)));
        client.send(format!("{ENVELOPE}BDAT 1\r\nxBDAT 1 LAST\r\nx"));
        assert_eq!(codes(&mut client, 4), ["250"; 4], "{step:?}");
        assert_eq!(sink.mails()[0].content, b"xx", "{step:?}");
    }
}
