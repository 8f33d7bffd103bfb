//! The embedded server, driven over plain sockets.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use smtp_bulk::sink::{Builder, Counts, Fault, Keep, Misdeed, Sink, Step};

/// Longer than anything here takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects without reading the greeting.
    fn connect(sink: &Sink) -> Self {
        let stream = TcpStream::connect(sink.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// Connects and says EHLO.
    fn ready(sink: &Sink) -> Self {
        let mut client = Self::connect(sink);
        assert!(client.reply().starts_with("220 "));
        assert!(client.ask("EHLO client.example").starts_with("250"));
        client
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    /// One reply, of however many lines.
    fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let start = reply.len();
            let count = self.stream.read_line(&mut reply).unwrap();
            assert!(count > 0, "closed behind {reply:?}");
            assert!(reply.ends_with("\r\n"), "a line ends in CRLF alone: {reply:?}");
            if reply.as_bytes().get(start + 3) == Some(&b' ') {
                return reply;
            }
        }
    }

    fn ask(&mut self, command: &str) -> String {
        self.send(format!("{command}\r\n"));
        self.reply()
    }

    fn expect(&mut self, command: &str, code: &str) {
        let reply = self.ask(command);
        assert!(reply.starts_with(code), "{command}: {reply}");
    }

    /// Sends a mail whose content is already stuffed; returns the final reply.
    fn mail(&mut self, to: &str, wire: impl AsRef<[u8]>) -> String {
        self.expect("MAIL FROM:<a@client.example>", "250");
        self.expect(&format!("RCPT TO:<{to}>"), "250");
        self.expect("DATA", "354");
        self.send(wire);
        self.send(".\r\n");
        self.reply()
    }

    /// Everything until the server closes.
    fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => panic!("{error}"),
            _ => rest,
        }
    }

    /// Whether the server stays silent although it has certainly read all that was sent before:
    /// `sink` has obeyed a command of another connection since.
    fn hears_nothing(&mut self, sink: &Sink) -> bool {
        let resets = sink.counts().resets;
        let mut other = TcpStream::connect(sink.address()).unwrap();
        other.write_all(b"RSET\r\n").unwrap();
        wait(sink, |counts| counts.resets > resets);
        self.stream.get_ref().set_nonblocking(true).unwrap();
        let silent =
            matches!(self.stream.fill_buf(), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        self.stream.get_ref().set_nonblocking(false).unwrap();
        silent
    }
}

fn wait(sink: &Sink, condition: impl FnMut(&Counts) -> bool) -> Counts {
    sink.wait_for(condition, PATIENCE).expect("the counts never came")
}

fn faulty(at: Step, what: Misdeed) -> Sink {
    Sink::builder().fault(Fault::new(at, what).times(1)).start().unwrap()
}

#[test]
fn a_mail_is_kept_byte_for_byte_with_its_envelope() {
    let sink = Sink::start().unwrap();
    let mut client = Client::ready(&sink);
    client.expect("MAIL FROM:<>", "250 2.1.0");
    client.expect("RCPT TO:<one@sink.example>", "250 2.1.5");
    client.expect("RCPT TO:<\"t>w o\"@[127.0.0.1]>", "250 2.1.5");
    client.expect("DATA", "354");
    let wire = b"Subject: x\r\n\r\n..\r\n.\n.\r\nbare\nLF \xff\x00 \r\r\n..dots..\r\n\r\n.\r\n";
    client.send(wire);
    assert!(client.reply().starts_with("250 2.6.0"));
    client.expect("QUIT", "221 2.0.0");
    assert_eq!(client.rest(), b"");

    let counts = wait(&sink, |counts| counts.open == 0);
    let mails = sink.mails();
    let [mail] = &mails[..] else { panic!("{mails:?}") };
    let meant = b"Subject: x\r\n\r\n.\r\n\n.\r\nbare\nLF \xff\x00 \r\r\n.dots..\r\n\r\n";
    assert_eq!(mail.content.escape_ascii().to_string(), meant.escape_ascii().to_string());
    assert_eq!(mail.reverse_path, "");
    assert_eq!(mail.forward_paths, ["one@sink.example", "\"t>w o\"@[127.0.0.1]"]);
    assert_eq!((mail.helo.as_str(), mail.connection), ("client.example", 1));
    assert_eq!((counts.mails, counts.recipients, counts.bytes), (1, 2, meant.len() as u64));
    assert_eq!((counts.lost, counts.protocol_errors, counts.peak_open), (0, 0, 1));
}

#[test]
fn content_split_anywhere_is_the_same_content() {
    let sink = Sink::builder().keep(Keep::All).start().unwrap();
    let mut client = Client::ready(&sink);
    let wire = b"a\r\n..b\r\n";
    for split in 0..=wire.len() {
        client.expect("MAIL FROM:<a@b.example>", "250");
        client.expect("RCPT TO:<c@d.example>", "250");
        client.expect("DATA", "354");
        let (head, tail) = wire.split_at(split);
        client.send(head);
        client.send(tail);
        client.send(".");
        client.send("\r\n");
        assert!(client.reply().starts_with("250"));
    }
    assert_eq!(sink.mails().len(), wire.len() + 1);
    assert!(sink.take_mails().iter().all(|mail| mail.content == b"a\r\n.b\r\n"));
    assert!(sink.mails().is_empty());
    assert_eq!(sink.counts().mails, wire.len() as u64 + 1);
}

#[test]
fn a_large_mail_arrives_whole() {
    let sink = Sink::start().unwrap();
    let mut client = Client::ready(&sink);
    let content = b".0123456789 and so on\r\n".repeat(100_000);
    let wire = b"..0123456789 and so on\r\n".repeat(100_000);
    assert!(client.mail("big@sink.example", wire).starts_with("250"));
    assert!(sink.mails()[0].content == content);
}

#[test]
fn pipelined_input_is_answered_in_order_and_in_one_piece() {
    let sink = Sink::start().unwrap();
    let mut client = Client::ready(&sink);
    client.send(
        "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nfirst\r\n.\r\n\
         MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nsecond\r\n.\r\nNOOP\r\n",
    );
    let mut piece = vec![0; 4096];
    let count = client.stream.get_mut().read(&mut piece).unwrap();
    let codes: Vec<&str> =
        std::str::from_utf8(&piece[..count]).unwrap().lines().map(|line| &line[..3]).collect();
    assert_eq!(codes, ["250", "250", "354", "250", "250", "250", "354", "250", "250"]);
    let contents: Vec<_> = sink.mails().iter().map(|mail| mail.content.clone()).collect();
    assert_eq!(contents, [b"first\r\n".to_vec(), b"second\r\n".to_vec()]);
}

#[test]
fn a_flood_of_commands_gets_every_reply() {
    let sink = Sink::start().unwrap();
    let client = Client::ready(&sink);
    let mut writer = client.stream.get_ref().try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        writer.write_all(&b"RSET\r\n".repeat(50_000)).unwrap();
        writer.write_all(b"QUIT\r\n").unwrap();
    });
    let replies = client.stream.lines().map(Result::unwrap);
    let (last, count) = replies.fold((String::new(), 0), |(_, count), line| (line, count + 1));
    sender.join().unwrap();
    assert_eq!((&last[..3], count), ("221", 50_001));
    assert_eq!(sink.counts().resets, 50_000);
}

#[test]
fn commands_out_of_sequence_are_refused() {
    let sink = Sink::start().unwrap();
    let mut client = Client::connect(&sink);
    client.reply();
    client.expect("MAIL FROM:<a@b.example>", "503");
    client.expect("HELO client.example", "250");
    client.expect("RCPT TO:<a@b.example>", "503");
    client.expect("DATA", "503");
    client.expect("MAIL FROM:<a@b.example>", "250");
    client.expect("MAIL FROM:<a@b.example>", "503");
    client.expect("DATA", "503");
    client.expect("RCPT TO:<a@b.example>", "250");
    client.expect("RSET", "250");
    client.expect("RCPT TO:<a@b.example>", "503");
    client.expect("MAIL FROM:<a@b.example>", "250");
    client.expect("EHLO client.example", "250");
    client.expect("RCPT TO:<a@b.example>", "503");
    let counts = sink.counts();
    assert_eq!((counts.protocol_errors, counts.resets), (7, 1));
    assert_eq!((counts.mails, counts.refused), (0, 0));
}

#[test]
fn mistakes_have_their_own_codes_and_leave_the_transaction_alone() {
    let sink = Sink::start().unwrap();
    let mut client = Client::ready(&sink);
    client.expect("MAIL FROM:<a@b.example>", "250");
    client.expect("RCPT TO:<a@b.example>", "250");
    let mistakes = [
        ("FROB", "500"),
        ("", "500"),
        ("NOOP\rNOOP", "500"),
        ("NOOP\0", "500"),
        ("RCPT TO: <a@b.example>", "501"),
        ("RCPT TO:a@b.example", "501"),
        ("RCPT TO:<>", "501"),
        ("RCPT TO:<a>", "501"),
        ("RCPT TO:<ä@b.example>", "553"),
        ("RCPT TO:<a@b.example> NOTIFY=NEVER", "555"),
        ("MAIL FROM:<a@b.example> SIZE=1", "555"),
        ("EHLO", "501"),
        ("DATA now", "501"),
        ("RSET now", "501"),
        ("QUIT now", "501"),
        ("VRFY", "501"),
        ("EXPN list", "502"),
        ("STARTTLS", "502"),
    ];
    for (command, code) in mistakes {
        client.expect(command, code);
    }
    client.send("NOOP\n");
    assert!(client.reply().starts_with("500"));
    assert_eq!(sink.counts().protocol_errors, mistakes.len() as u64 + 1);

    client.expect("VRFY someone", "252");
    client.expect("NOOP with words", "250");
    client.expect("HELP", "214");
    client.expect("RCPT TO:<Postmaster>", "250");
    client.expect("DATA", "354");
    client.send("x\r\n.\r\n");
    assert!(client.reply().starts_with("250"));
    assert_eq!(sink.counts().recipients, 2);
}

#[test]
fn an_endless_line_is_dropped_and_answered_once() {
    let sink = Sink::start().unwrap();
    let mut client = Client::ready(&sink);
    client.expect(&format!("NOOP {}", "x".repeat(1000)), "250");
    client.send("y".repeat(300_000));
    client.send("\r\nNOOP\r\n");
    assert!(client.reply().starts_with("500 5.5.2"));
    assert!(client.reply().starts_with("250"));
    assert_eq!(sink.counts().protocol_errors, 1);
}

#[test]
fn ehlo_announces_only_what_is_honoured() {
    let sink = Sink::builder().hostname("mx.example").start().unwrap();
    let mut client = Client::connect(&sink);
    assert_eq!(client.reply(), "220 mx.example ESMTP smtp-bulk sink\r\n");
    assert_eq!(client.ask("EHLO [127.0.0.1]"), "250-mx.example\r\n250-ENHANCEDSTATUSCODES\r\n250 HELP\r\n");
    assert_eq!(client.ask("HELO c.example"), "250 mx.example\r\n");
}

#[test]
fn a_greeting_may_have_many_lines() {
    let sink = Sink::builder().greeting("mx.example\nhello").start().unwrap();
    assert_eq!(Client::connect(&sink).reply(), "220-mx.example\r\n220 hello\r\n");
}

#[test]
fn limits_are_told_to_the_client() {
    let sink = Sink::builder().max_recipients(2).max_message_size(10).start().unwrap();
    let mut client = Client::ready(&sink);
    client.expect("MAIL FROM:<a@b.example>", "250");
    client.expect("RCPT TO:<1@b.example>", "250");
    client.expect("RCPT TO:<2@b.example>", "250");
    client.expect("RCPT TO:<3@b.example>", "452 4.5.3");
    client.expect("DATA", "354");
    client.send("12345678\r\n.\r\n");
    assert!(client.reply().starts_with("250"));
    assert!(client.mail("1@b.example", "123456789\r\n").starts_with("552 5.3.4"));
    assert!(client.mail("1@b.example", "").starts_with("250"));
    let counts = sink.counts();
    assert_eq!((counts.mails, counts.recipients, counts.refused), (2, 3, 2));
    assert_eq!(sink.mails()[0].forward_paths, ["1@b.example", "2@b.example"]);
}

#[test]
fn connections_beyond_the_limit_are_turned_away() {
    let sink = Sink::builder().max_connections(1).start().unwrap();
    let mut first = Client::ready(&sink);
    assert!(Client::connect(&sink).rest().starts_with(b"421 4.7.0"));
    first.expect("QUIT", "221");
    drop(first);
    wait(&sink, |counts| counts.open == 0);
    Client::ready(&sink);
}

#[test]
fn a_silent_client_is_told_and_closed() {
    let idle = Duration::from_millis(400);
    let sink = Sink::builder().idle_timeout(idle).start().unwrap();
    let mut inside = Client::connect(&sink);
    inside.send("EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<a@b.example>\r\nDATA\r\n");
    let start = Instant::now();
    let mut between = Client::connect(&sink);
    let rest = String::from_utf8(between.rest()).unwrap();
    assert!(rest.lines().last().unwrap().starts_with("421 4.4.2"));
    assert!(start.elapsed() >= idle);
    drop(between);
    let rest = String::from_utf8(inside.rest()).unwrap();
    assert!(rest.lines().last().unwrap().starts_with("354"));
    let counts = wait(&sink, |counts| counts.open == 0);
    assert_eq!((counts.lost, counts.mails), (2, 0));
}

#[test]
fn a_client_that_never_reads_is_closed() {
    let idle = Duration::from_millis(200);
    let sink = Sink::builder().idle_timeout(idle).start().unwrap();
    let mut client = Client::ready(&sink);
    client.stream.get_ref().set_write_timeout(Some(PATIENCE)).unwrap();
    let flood = b"NOOP\r\n".repeat(10_000);
    // Ends when the server resets the connection.
    while client.stream.get_mut().write_all(&flood).is_ok() {}
    wait(&sink, |counts| counts.open == 0 && counts.lost == 1);
}

#[test]
fn only_the_last_mails_are_held_and_all_are_counted() {
    let sink = Sink::builder().keep(Keep::Last(2)).start().unwrap();
    let mut client = Client::ready(&sink);
    for number in 0..5 {
        client.mail("a@b.example", format!("{number}\r\n"));
    }
    let kept: Vec<_> = sink.mails().iter().map(|mail| mail.content.clone()).collect();
    assert_eq!(kept, [b"3\r\n", b"4\r\n"]);
    assert_eq!(sink.counts().mails, 5);
}

#[test]
fn a_maildir_gets_whole_mails_only() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("mails");
    let sink = Sink::builder()
        .keep(Keep::Nothing)
        .maildir(&path)
        .fault(Fault::new(Step::Dot, Misdeed::refuse(451, "4.3.0 no")).skip(1).times(1))
        .start()
        .unwrap();
    let files = |folder: &str| {
        let files = std::fs::read_dir(path.join(folder)).unwrap();
        files.map(|file| file.unwrap().path()).collect::<Vec<_>>()
    };
    let mut client = Client::ready(&sink);
    assert!(client.mail("a@b.example", "..x\r\n").starts_with("250"));
    assert!(client.mail("a@b.example", "refused\r\n").starts_with("451"));
    client.expect("MAIL FROM:<a@b.example>", "250");
    client.expect("RCPT TO:<a@b.example>", "250");
    client.expect("DATA", "354");
    client.send("half\r\n");
    drop(client);
    let counts = wait(&sink, |counts| counts.open == 0);
    assert_eq!((counts.mails, counts.lost), (1, 1));
    assert!(files("tmp").is_empty() && files("cur").is_empty());
    let new = files("new");
    assert_eq!(new.len(), 1);
    assert_eq!(std::fs::read(&new[0]).unwrap(), b".x\r\n");
    assert!(sink.mails().is_empty());
}

#[test]
fn a_maildir_that_vanishes_costs_the_mail_and_not_the_server() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("mails");
    let sink = Sink::builder().maildir(&path).start().unwrap();
    std::fs::remove_dir_all(&path).unwrap();
    let mut client = Client::ready(&sink);
    client.expect("MAIL FROM:<a@b.example>", "250");
    client.expect("RCPT TO:<a@b.example>", "250");
    client.expect("DATA", "451 4.3.0");
    client.expect("RSET", "250");
    assert_eq!((sink.counts().mails, sink.counts().refused), (0, 1));
}

#[test]
fn a_refusal_has_no_effect() {
    for (step, command) in [
        (Step::Ehlo, "EHLO c.example"),
        (Step::Mail, "MAIL FROM:<a@b.example>"),
        (Step::Rcpt, "RCPT TO:<a@b.example>"),
        (Step::Data, "DATA"),
        (Step::Rset, "RSET"),
        (Step::Noop, "NOOP"),
        (Step::Vrfy, "VRFY a"),
        (Step::Quit, "QUIT"),
    ] {
        let sink = faulty(step, Misdeed::refuse(450, "4.0.0 one\ntwo"));
        let mut client = Client::connect(&sink);
        client.reply();
        if step != Step::Ehlo {
            client.expect("EHLO c.example", "250");
        }
        if !matches!(step, Step::Ehlo | Step::Mail) {
            client.expect("MAIL FROM:<a@b.example>", "250");
        }
        if !matches!(step, Step::Ehlo | Step::Mail | Step::Rcpt) {
            client.expect("RCPT TO:<a@b.example>", "250");
        }
        assert_eq!(client.ask(command), "450-4.0.0 one\r\n450 two\r\n");
        let code = match step {
            Step::Data => "354",
            Step::Vrfy => "252",
            Step::Quit => "221",
            _ => "250",
        };
        client.expect(command, code);
        let counts = sink.counts();
        assert_eq!((counts.refused, counts.faults), (1, 1), "{step:?}");
        assert_eq!(counts.protocol_errors, 0, "{step:?}");
    }
}

#[test]
fn a_refused_dot_stores_nothing_and_ends_the_transaction() {
    let sink = faulty(Step::Dot, Misdeed::refuse(451, "4.3.0 later"));
    let mut client = Client::ready(&sink);
    assert!(client.mail("a@b.example", "x\r\n").starts_with("451"));
    assert!(sink.mails().is_empty());
    assert!(client.mail("a@b.example", "y\r\n").starts_with("250"));
    assert_eq!(sink.mails().len(), 1);
}

#[test]
fn a_refused_client_may_only_quit() {
    let sink = faulty(Step::Greeting, Misdeed::refuse(554, "no service"));
    let mut client = Client::connect(&sink);
    assert_eq!(client.reply(), "554 no service\r\n");
    client.expect("EHLO c.example", "503");
    client.expect("QUIT", "221");
}

#[test]
fn an_early_refusal_swallows_the_content_and_is_the_only_reply() {
    let sink = faulty(Step::Content, Misdeed::refuse(552, "5.3.4 enough"));
    let mut client = Client::ready(&sink);
    assert_eq!(client.mail("a@b.example", "QUIT\r\nx\r\n"), "552 5.3.4 enough\r\n");
    client.expect("NOOP", "250");
    assert_eq!((sink.counts().mails, sink.counts().refused), (0, 1));
    assert!(client.mail("a@b.example", "x\r\n").starts_with("250"));
}

#[test]
fn recipients_are_refused_by_their_prefix() {
    let sink = Sink::builder().refuse_recipients("reject", 550).start().unwrap();
    let mut client = Client::ready(&sink);
    client.expect("MAIL FROM:<reject@b.example>", "250");
    client.expect("RCPT TO:<reject1@b.example>", "550 5.1.1");
    client.expect("DATA", "554");
    client.expect("RCPT TO:<fine@b.example>", "250");
    client.expect("RCPT TO:<reject2@b.example>", "550 5.1.1");
    client.expect("DATA", "354");
    client.send(".\r\n");
    client.reply();
    assert_eq!(sink.mails()[0].forward_paths, ["fine@b.example"]);
}

#[test]
fn a_421_closes_behind_itself_even_in_front_of_unread_content() {
    for step in [Step::Greeting, Step::Mail, Step::Content, Step::Dot] {
        let sink = faulty(step, Misdeed::Close421);
        let mut client = Client::connect(&sink);
        client.send("EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<a@b.example>\r\nDATA\r\nx\r\n");
        client.send(".\r\n".repeat(10_000));
        let rest = String::from_utf8(client.rest()).unwrap();
        assert!(rest.lines().last().unwrap().starts_with("421 4.3.2"), "{step:?}: {rest}");
        drop(client);
        let counts = wait(&sink, |counts| counts.open == 0);
        assert_eq!((counts.mails, counts.lost), (0, 0), "{step:?}");
    }
}

#[test]
fn a_delay_comes_before_the_reply_and_changes_nothing_else() {
    let time = Duration::from_millis(60);
    for step in [Step::Greeting, Step::Mail, Step::Content, Step::Dot] {
        let sink = faulty(step, Misdeed::Delay(time));
        let start = Instant::now();
        let mut client = Client::ready(&sink);
        assert!(client.mail("a@b.example", "..x\r\n").starts_with("250"));
        assert!(start.elapsed() >= time, "{step:?}");
        assert_eq!(sink.mails()[0].content, b".x\r\n");
        assert_eq!(sink.counts().faults, 1);
    }
}

#[test]
fn faults_of_one_step_follow_each_other_behind_a_delay() {
    let sink = Sink::builder()
        .fault(Fault::new(Step::Noop, Misdeed::Delay(Duration::from_millis(1))))
        .fault(Fault::new(Step::Noop, Misdeed::refuse(450, "4.0.0 no")))
        .start()
        .unwrap();
    let mut client = Client::ready(&sink);
    client.send("RSET\r\nNOOP\r\nRSET\r\nNOOP\r\n");
    let codes: Vec<String> = (0..4).map(|_| client.reply()[..3].to_owned()).collect();
    assert_eq!(codes, ["250", "450", "250", "450"]);
    assert_eq!(sink.counts().faults, 4);
}

#[test]
fn a_hanging_connection_is_silent_and_the_others_are_served() {
    for step in [Step::Greeting, Step::Rcpt, Step::Content, Step::Dot] {
        let sink = Sink::builder()
            .fault(Fault::new(step, Misdeed::Hang).times(1))
            .fault(Fault::new(Step::Greeting, Misdeed::CloseAfter).probability(0.0))
            .start()
            .unwrap();
        let mut client = Client::connect(&sink);
        client
            .send("EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<a@b.example>\r\nDATA\r\nx\r\n.\r\n");
        let replies = match step {
            Step::Greeting => 0,
            Step::Rcpt => 3,
            _ => 5,
        };
        (0..replies).for_each(|_| drop(client.reply()));
        wait(&sink, |counts| counts.faults == 1);
        client.send("NOOP\r\n");
        assert!(client.hears_nothing(&sink), "{step:?}");
        drop(client);
        let counts = wait(&sink, |counts| counts.open == 0);
        assert_eq!(counts.mails, u64::from(step == Step::Dot), "{step:?}");
    }
}

#[test]
fn a_close_before_the_reply_hides_that_the_mail_was_stored() {
    let sink = faulty(Step::Dot, Misdeed::Close);
    let mut client = Client::ready(&sink);
    client.expect("MAIL FROM:<a@b.example>", "250");
    client.expect("RCPT TO:<a@b.example>", "250");
    client.expect("DATA", "354");
    client.send("x\r\n.\r\n");
    assert_eq!(client.rest(), b"");
    assert_eq!(sink.mails().len(), 1);
}

#[test]
fn a_close_in_the_content_stores_nothing() {
    let sink = faulty(Step::Content, Misdeed::Close);
    let mut client = Client::ready(&sink);
    client.expect("MAIL FROM:<a@b.example>", "250");
    client.expect("RCPT TO:<a@b.example>", "250");
    client.expect("DATA", "354");
    client.send("x\r\n");
    assert_eq!(client.rest(), b"");
    assert_eq!(wait(&sink, |counts| counts.open == 0).mails, 0);
}

#[test]
fn a_close_after_the_reply_comes_after_the_whole_reply() {
    let sink = faulty(Step::Mail, Misdeed::CloseAfter);
    let mut client = Client::ready(&sink);
    client.expect("MAIL FROM:<a@b.example>", "250");
    assert_eq!(client.rest(), b"");
}

#[test]
fn half_a_reply_is_a_part_of_a_line() {
    let sink = faulty(Step::Mail, Misdeed::HalfReplyClose);
    let mut client = Client::ready(&sink);
    client.send("MAIL FROM:<a@b.example>\r\n");
    assert_eq!(client.rest(), b"250 2.1.0 ");

    let sink = faulty(Step::Mail, Misdeed::HalfReply);
    let mut client = Client::ready(&sink);
    client.send("MAIL FROM:<a@b.example>\r\nNOOP\r\n");
    let mut half = [0; 10];
    client.stream.read_exact(&mut half).unwrap();
    assert_eq!(&half, b"250 2.1.0 ");
    assert!(client.hears_nothing(&sink));
}

#[test]
fn garbage_stands_in_the_place_of_the_reply() {
    let sink = faulty(Step::Mail, Misdeed::Garbage(b"\0\xff\r\n".to_vec()));
    let mut client = Client::ready(&sink);
    client.send("MAIL FROM:<a@b.example>\r\nRCPT TO:<a@b.example>\r\nQUIT\r\n");
    assert!(client.rest().starts_with(b"\0\xff\r\n250 2.1.5"));
}

#[test]
fn a_long_reply_is_one_line_as_long_as_told() {
    let sink = faulty(Step::Noop, Misdeed::LongReply(1 << 20));
    let mut client = Client::ready(&sink);
    let reply = client.ask("NOOP");
    assert_eq!(reply.len(), 1 << 20);
    assert!(reply.starts_with("250 xx"));
    client.expect("NOOP", "250 2.0.0 OK\r\n");
}

#[test]
fn a_surplus_reply_comes_right_behind_the_right_one() {
    let sink = faulty(Step::Dot, Misdeed::surplus(421, "4.3.2 going down"));
    let mut client = Client::ready(&sink);
    assert!(client.mail("a@b.example", "x\r\n").starts_with("250"));
    assert_eq!(client.reply(), "421 4.3.2 going down\r\n");
    client.expect("NOOP", "250");
}

#[test]
fn the_same_seed_fails_the_same_mails() {
    let run = |seed| {
        let fault = Fault::new(Step::Mail, Misdeed::refuse(450, "4.0.0 no")).probability(0.5);
        let sink = Sink::builder().fault(fault).seed(seed).start().unwrap();
        let mut client = Client::ready(&sink);
        (0..40)
            .map(|_| {
                let refused = client.ask("MAIL FROM:<>").starts_with("450");
                client.expect("RSET", "250");
                refused
            })
            .collect::<Vec<bool>>()
    };
    let first = run(3);
    assert_eq!(first, run(3));
    assert!(first.contains(&true) && first.contains(&false));
}

#[test]
fn settings_without_sense_are_errors() {
    let refused =
        |builder: Builder| builder.start().is_err_and(|error| error.kind() == io::ErrorKind::InvalidInput);
    assert!(refused(Sink::builder().hostname("a\r\nb")));
    assert!(refused(Sink::builder().hostname("")));
    assert!(refused(Sink::builder().max_connections(0)));
    assert!(refused(Sink::builder().idle_timeout(Duration::ZERO)));
    let fault = Fault::new(Step::Mail, Misdeed::Hang);
    assert!(refused(Sink::builder().fault(fault.probability(2.0))));
    let fault = Fault::new(Step::Mail, Misdeed::LongReply(usize::MAX));
    assert!(refused(Sink::builder().fault(fault)));
    let sink = Sink::start().unwrap();
    let taken = Sink::builder().port(sink.port()).start();
    assert_eq!(taken.unwrap_err().kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn stopping_closes_everything_and_keeps_the_mails() {
    let mut sink = Sink::start().unwrap();
    let mut client = Client::ready(&sink);
    client.mail("a@b.example", "x\r\n");
    let counts = sink.stop();
    assert_eq!((counts.open, counts.mails), (0, 1));
    assert_eq!(client.rest(), b"");
    assert!(TcpStream::connect(sink.address()).is_err());
    assert_eq!(sink.stop(), counts);
    assert_eq!(sink.mails().len(), 1);
}

#[test]
fn a_sink_may_be_shared_between_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    shared(&Sink::start().unwrap());
}

#[test]
fn ipv6_is_served_where_the_machine_has_it() {
    let address = std::net::Ipv6Addr::LOCALHOST;
    if std::net::TcpListener::bind((address, 0)).is_err() {
        return;
    }
    let sink = Sink::builder().address(address).start().unwrap();
    Client::ready(&sink);
}

#[test]
fn hundreds_of_sessions_are_served_at_once() {
    const SESSIONS: usize = 400;
    let sink = Sink::builder().keep(Keep::Nothing).start().unwrap();
    let mut clients: Vec<Client> = (0..SESSIONS).map(|_| Client::connect(&sink)).collect();
    let script = [
        "",
        "EHLO c.example\r\n",
        "MAIL FROM:<a@b.example>\r\n",
        "RCPT TO:<a@b.example>\r\n",
        "DATA\r\n",
        "x\r\n.\r\n",
    ];
    for step in script {
        clients.iter_mut().for_each(|client| client.send(step));
        clients.iter_mut().for_each(|client| drop(client.reply()));
    }
    let counts = sink.counts();
    assert_eq!(counts.peak_open, SESSIONS as u64);
    assert_eq!(counts.mails, SESSIONS as u64);
    drop(clients);
    wait(&sink, |counts| counts.open == 0);
}
