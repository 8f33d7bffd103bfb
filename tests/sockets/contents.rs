//! Every kind of content over the wire, those that fail among them.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use smtp_bulk::sink::Extension;
use smtp_bulk::sink::{Fault, Misdeed, Step as At};
use smtp_bulk::{Content, Envelope, EventKind, Mailer, Message, Step, Timeouts};

use crate::scripted::Scripted;
use crate::support::{Log, PATIENCE, SHORT, builder, check_accounts, host, mail, send_and_quit, sink, text};

fn message(id: u64, content: impl Into<Content>) -> Message {
    Message::new(Envelope::parse("sender@example.org", [format!("r{id}@example.net")]).unwrap(), content)
        .id(id)
}

#[test]
fn every_kind_of_content_arrives_byte_for_byte() {
    let sink = sink(|sink| sink);
    let log = Log::default();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text(3).as_bytes()).unwrap();
    let reader = |id| move || Ok(Box::new(io::Cursor::new(text(id))) as Box<dyn Read + Send>);
    let length = text(0).len() as u64;
    let mails = [
        message(0, text(0)),
        message(1, text(1).into_bytes()),
        message(2, Arc::<[u8]>::from(text(2).into_bytes())),
        message(3, Content::file(file.path())),
        message(4, Content::reader(reader(4))),
        message(5, Content::blocking(reader(5))),
        message(6, &*text(6).leak()),
        message(7, Content::file(file.path()).promise(0)),
        message(8, Content::reader(reader(8)).promise(length)),
        message(9, Content::blocking(reader(9)).promise(length)),
    ];
    let summary = send_and_quit(builder(&log).host(host(&sink)).threads(4), mails);
    check_accounts(&summary, &log, &[&sink]);
    // The promise of nothing was not kept.
    assert_eq!((summary.mails.delivered, summary.mails.refused), (9, 1));
}

#[test]
fn line_ends_are_mended_and_dots_kept() {
    let sink = sink(|sink| sink.announce(Extension::EightBitMime));
    let log = Log::default();
    for (raw, stored) in [
        ("", ""),
        (".", ".\r\n"),
        ("..", "..\r\n"),
        (".\r\n.\r\n", ".\r\n.\r\n"),
        ("a\n.\nb", "a\r\n.\r\nb\r\n"),
        ("a\r.\rb\r", "a\r\n.\r\nb\r\n"),
        ("a\r\r\n\n.", "a\r\n\r\n\r\n.\r\n"),
        ("\r\n.\nMAIL FROM:<x@y>\n", "\r\n.\r\nMAIL FROM:<x@y>\r\n"),
        ("\n\n\n", "\r\n\r\n\r\n"),
        ("nul \0 and \u{e4}\n", "nul \0 and \u{e4}\r\n"),
    ] {
        let pieces = raw.as_bytes();
        // Whole, and octet by octet.
        let bytewise = Content::reader(move || Ok(Box::new(Dripping(pieces))));
        let summary = send_and_quit(builder(&log).host(host(&sink)), [message(0, raw), message(1, bytewise)]);
        assert_eq!(summary.mails.delivered, 2, "{raw:?}");
        for mail in sink.take_mails() {
            assert_eq!(String::from_utf8_lossy(&mail.content), stored, "{raw:?}");
        }
        assert_eq!(sink.counts().protocol_errors, 0, "{raw:?}");
    }
}

/// Gives one octet at a time.
struct Dripping<'a>(&'a [u8]);

impl Read for Dripping<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let one = buffer.len().min(1);
        self.0.read(&mut buffer[..one])
    }
}

/// Gives this many octets and then fails.
struct Failing(u64);

impl Read for Failing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer.len().min(usize::try_from(self.0).unwrap());
        if count == 0 {
            return Err(io::Error::other("disk on fire"));
        }
        buffer[..count].fill(b'x');
        self.0 -= count as u64;
        Ok(count)
    }
}

#[test]
fn a_content_that_fails_gives_up_its_mail_and_its_connection_alone() {
    for given in [0, 10, 200_000] {
        for blocking in [false, true] {
            let open = move || Ok(Box::new(Failing(given)) as Box<dyn Read + Send>);
            let content = if blocking { Content::blocking(open) } else { Content::reader(open) };
            check_given_up(content, "the content's source failed: disk on fire");
        }
    }
}

#[test]
fn a_promise_that_is_not_kept_gives_up_the_mail() {
    let short = "the content's source ended after 5 of 6 octets";
    let long = "the content's source gave more than the 4 octets promised";
    for (promised, says) in [(6, short), (4, long)] {
        let reader = || Ok(Box::new(&b"12345"[..]) as Box<dyn Read + Send>);
        check_given_up(Content::reader(reader).promise(promised), says);
        check_given_up(Content::blocking(reader).promise(promised), says);
    }
}

/// Of three lanes, the one with this content has to close its connection; no other mail is touched.
fn check_given_up(content: Content, says: &str) {
    let sink = sink(|sink| sink);
    let log = Log::default();
    let mails = [mail(0), message(1, content), mail(2), mail(3), mail(4), mail(5)];
    let summary = send_and_quit(builder(&log).host(host(&sink)).threads(3), mails);
    check_accounts(&summary, &log, &[&sink]);
    assert_eq!((summary.mails.delivered, summary.mails.refused), (5, 1));
    let [fail] = &log.trouble()[..] else { panic!("{:#?}", log.trouble()) };
    assert_eq!((fail.kind, fail.step, fail.id), (EventKind::Fail, Step::Content, Some(1)));
    assert!(fail.line.ends_with(says), "{}", fail.line);
    log.reports(|all| {
        let given_up = all.iter().find(|ended| ended.id == 1).unwrap();
        assert_eq!((given_up.line.clone(), given_up.attempts), (format!("refused: {says}"), 1));
    });
    assert_eq!((sink.counts().connections, sink.counts().mails), (4, 5));
}

#[test]
fn a_content_that_cannot_be_opened_costs_no_connection() {
    let sink = sink(|sink| sink);
    let log = Log::default();
    let broken = Content::reader(|| Err(io::Error::other("no such row")));
    // What is in memory is known to break its promise before anything of it is sent.
    let untrue = Content::from("12345").promise(6);
    let given_up = [message(0, Content::file("/nonexistent/mail.eml")), message(1, broken)];
    let mails = given_up.into_iter().chain([mail(2), mail(3), message(4, untrue), mail(5)]);
    let summary = send_and_quit(builder(&log).host(host(&sink)).threads(2), mails);
    check_accounts(&summary, &log, &[&sink]);
    assert_eq!((summary.mails.delivered, summary.mails.refused), (3, 3));
    assert!(log.trouble().iter().all(|seen| seen.step == Step::Data), "{:#?}", log.trouble());
    assert_eq!((sink.counts().connections, sink.counts().resets), (2, 2));
}

#[test]
fn a_blocking_content_that_stalls_gives_up_its_mail_alone() {
    // The source ends when the test does.
    let (stop, stopped) = mpsc::channel::<()>();
    let stopped = Arc::new(Mutex::new(stopped));
    struct Stalled(Arc<Mutex<mpsc::Receiver<()>>>);
    impl Read for Stalled {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            let _ = self.0.lock().unwrap().recv();
            Ok(0)
        }
    }
    let sink = sink(|sink| sink);
    let log = Log::default();
    let stalled = Content::blocking(move || Ok(Box::new(Stalled(Arc::clone(&stopped)))));
    let timeouts = Timeouts { content: SHORT, ..Timeouts::uniform(PATIENCE) };
    let mailer = builder(&log).host(host(&sink)).threads(2).timeouts(timeouts);
    let summary = send_and_quit(mailer, [mail(0), message(1, stalled), mail(2)]);
    drop(stop);
    check_accounts(&summary, &log, &[&sink]);
    assert_eq!((summary.mails.delivered, summary.mails.refused), (2, 1));
    log.reports(|all| {
        let given_up = all.iter().find(|ended| ended.id == 1).unwrap();
        assert_eq!(given_up.line, "refused: the content's source gave nothing in time");
    });
}

#[test]
fn a_slow_blocking_content_holds_up_no_other_lane_but_at_the_barrier() {
    // The source gives its first octet when the other mail of the batch was stored.
    let stored = sink(|sink| sink);
    let watched = Arc::clone(&stored);
    let content = Content::blocking(move || {
        watched.wait_for(|counts| counts.mails == 1, PATIENCE).expect("the other mail gets through");
        Ok(Box::new(io::Cursor::new(text(0))))
    });
    let log = Log::default();
    let mailer = builder(&log).host(host(&stored)).threads(2);
    let summary = send_and_quit(mailer, [message(0, content), mail(1)]);
    check_accounts(&summary, &log, &[&stored]);
    assert_eq!(summary.mails.delivered, 2);
}

/// A line of 64 octets with its number in it, over and over.
struct Numbered {
    left: u64,
    line: u64,
    rest: Vec<u8>,
}

impl Numbered {
    const LINE: u64 = 64;

    fn lines(count: u64) -> Numbered {
        Numbered { left: count, line: 0, rest: Vec::new() }
    }

    fn line(number: u64) -> Vec<u8> {
        format!("{number:062}\r\n").into_bytes()
    }
}

impl Read for Numbered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() && self.left > 0 {
            self.rest = Numbered::line(self.line);
            (self.line, self.left) = (self.line + 1, self.left - 1);
        }
        let count = self.rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.rest[..count]);
        self.rest.drain(..count);
        Ok(count)
    }
}

#[test]
fn a_huge_content_reaches_a_slow_receiver_whole() {
    const LINES: u64 = (64 << 20) / Numbered::LINE;
    // The wait fills all buffers on the way, so that most of it leaves in partial writes.
    let sink = sink(|sink| {
        let wait = Fault::new(At::Content, Misdeed::Delay(SHORT));
        sink.max_message_size(None).fault(wait.times(2))
    });
    let log = Log::default();
    let open = || Ok(Box::new(Numbered::lines(LINES)) as Box<dyn Read + Send>);
    let mails = [
        message(0, Content::reader(open).promise(64 << 20)),
        message(1, Content::blocking(open).promise(64 << 20)),
    ];
    let summary = send_and_quit(builder(&log).host(host(&sink)).threads(2), mails);
    assert_eq!(summary.mails.delivered, 2, "{:#?}", log.trouble());
    for mail in sink.take_mails() {
        assert_eq!(mail.content.len(), 64 << 20);
        let mut lines = (0..).zip(mail.content.chunks(Numbered::LINE as usize));
        assert!(lines.all(|(number, line)| line == Numbered::line(number)));
    }
}

#[test]
fn a_receiver_that_stops_reading_lets_the_content_time_out_and_not_in_doubt() {
    let peer = Scripted::start(|mut peer| {
        if peer.behave_until_content() {
            std::thread::park_timeout(PATIENCE);
        }
    });
    let log = Log::default();
    let timeouts = Timeouts { content: SHORT, ..Timeouts::uniform(PATIENCE) };
    let content = Content::reader(|| Ok(Box::new(io::repeat(b'x').take(64 << 20))));
    let mailer = builder(&log).host(peer.host()).timeouts(timeouts).max_attempts(1);
    let summary = send_and_quit(mailer, [message(0, content)]);
    assert_eq!(summary.mails.abandoned, 1, "{summary}");
    log.reports(|all| assert_eq!(all[0].line, "abandoned: no reply within 500ms"));
    assert_eq!(log.of_kind(EventKind::Hang)[0].step, Step::Content);
}

#[test]
fn content_is_not_read_before_the_server_asks_for_it() {
    let sink = sink(|sink| sink.fault(Fault::new(At::Data, Misdeed::refuse(554, "5.3.0 never")).times(1)));
    let log = Log::default();
    let was_read = Arc::new(AtomicBool::new(false));
    struct Watched(Arc<AtomicBool>);
    impl Read for Watched {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            self.0.store(true, Ordering::SeqCst);
            Ok(0)
        }
    }
    let flag = Arc::clone(&was_read);
    let content = Content::reader(move || Ok(Box::new(Watched(Arc::clone(&flag)))));
    let summary = send_and_quit(builder(&log).host(host(&sink)), [message(0, content)]);
    assert_eq!(summary.mails.refused, 1);
    assert!(!was_read.load(Ordering::SeqCst));
}

#[test]
fn a_content_lives_no_longer_than_its_mail() {
    let sink = sink(|sink| sink);
    let content: Arc<[u8]> = "x\r\n".repeat(30_000).into_bytes().into();
    let held = Arc::downgrade(&content);
    smol::block_on(async {
        let mut mailer = Mailer::builder().host(host(&sink)).threads(1).connect().await.unwrap();
        mailer.send(message(1, content)).await.unwrap();
        mailer.flush().await.unwrap();
        assert_eq!((mailer.summary().mails.delivered, held.strong_count()), (1, 0));
        mailer.quit().await.unwrap();
    });
}
