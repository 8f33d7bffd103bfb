//! Scripted exchanges with one session: each rule of the protocol layer as a
//! fact of its own.

use super::*;
use crate::extensions::Extension;
use crate::fault::IoFault;
use std::io::{self, Read};

/// A session, what it said, and a clock that stands still until it is moved.
struct Talk {
    session: Session,
    now: Instant,
}

const SECOND: Duration = Duration::from_secs(1);

/// A timeout of its own for each step, so that none can be taken for another.
fn timeouts() -> Timeouts {
    Timeouts {
        connect: SECOND,
        greeting: 2 * SECOND,
        ehlo: 3 * SECOND,
        mail: 4 * SECOND,
        rcpt: 5 * SECOND,
        data: 6 * SECOND,
        content: 7 * SECOND,
        final_reply: 8 * SECOND,
        rset: 9 * SECOND,
        quit: 10 * SECOND,
    }
}

impl Talk {
    fn closed() -> Talk {
        Talk { session: Session::new(Arc::new(timeouts())), now: Instant::now() }
    }

    fn opened() -> Talk {
        let mut talk = Talk::closed();
        talk.session.open("client.example".parse().unwrap(), talk.now);
        talk
    }

    fn ready() -> Talk {
        let mut talk = Talk::opened();
        talk.hear("220 mx\r\n");
        talk.say("EHLO client.example\r\n");
        talk.hear("250-mx\r\n250 SIZE 1000\r\n");
        assert!(talk.session.is_usable());
        talk
    }

    /// MAIL, accepted.
    fn mailed() -> Talk {
        let mut talk = Talk::ready();
        talk.mail();
        talk.say("MAIL FROM:<ann@example.org>\r\n");
        talk.answered("250 ok\r\n", 250);
        talk
    }

    /// DATA, and its 354.
    fn before_content(content: impl Into<Content>) -> Talk {
        let mut talk = Talk::with_recipient();
        talk.session.data(&content.into(), talk.now).unwrap();
        talk.say("DATA\r\n");
        talk.answered("354 go on\r\n", 354);
        talk
    }

    fn with_recipient() -> Talk {
        let mut talk = Talk::mailed();
        talk.rcpt();
        talk.say("RCPT TO:<bob@example.net>\r\n");
        talk.answered("250 ok\r\n", 250);
        talk
    }

    /// The content is out, its reply awaited.
    fn behind_content() -> Talk {
        let mut talk = Talk::before_content("hello\r\n");
        talk.session.content(talk.now);
        talk.say("hello\r\n.\r\n");
        talk
    }

    fn mail(&mut self) {
        self.session.mail(&"ann@example.org".parse().unwrap(), self.now);
    }

    fn rcpt(&mut self) {
        self.session.rcpt(&"bob@example.net".parse().unwrap(), 0, self.now);
    }

    fn filled(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.session.fill(&mut out);
        out
    }

    /// All that the session wants to send now is this, and it is sent.
    fn say(&mut self, expected: &str) {
        let out = self.filled();
        assert_eq!(String::from_utf8_lossy(&out), expected);
        self.session.wrote(out.len(), self.now);
        assert!(!self.session.wants_write());
    }

    fn hear(&mut self, text: &str) {
        self.session.receive(text.as_bytes(), self.now);
    }

    /// The server says this, and it is judged.
    fn answered(&mut self, text: &str, code: u16) {
        self.hear(text);
        assert!(self.session.is_over());
        self.judged(code);
    }

    /// The next answer has this code.
    fn judged(&mut self, code: u16) {
        assert_eq!(self.session.answer().unwrap().reply.code().as_u16(), code);
        self.session.answer_judged();
    }

    fn later(&mut self, by: Duration) {
        self.now += by;
        self.session.check_deadline(self.now);
    }

    /// The session has failed so, at this step, for good.
    fn unsolicited(&mut self, step: Step) {
        let failure = self.session.failure().cloned().unwrap();
        assert!(matches!(failure, Failure::Unsolicited(_)), "{failure:?}");
        self.failed(&failure, step);
    }

    fn failed(&mut self, failure: &Failure, step: Step) {
        assert_eq!(self.session.failure(), Some(failure));
        assert_eq!(self.session.step(), step);
        assert!(self.session.is_over() && !self.session.is_ready() && !self.session.is_usable());
        assert!(!self.session.wants_write() && self.filled().is_empty());
        self.hear("250 too late\r\n");
        assert_eq!(self.session.failure(), Some(failure), "the first failure stands");
        assert_eq!(self.session.deadline(), None);
    }

    fn deadline_in(&self) -> Duration {
        self.session.deadline().unwrap() - self.now
    }
}

fn unexpected(code: u16) -> Failure {
    Failure::Unexpected(ReplyCode::new(code).unwrap())
}

// ---- opening ----------------------------------------------------------------

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

// ---- bytes that nobody asked for ------------------------------------------------

#[test]
fn a_byte_before_a_flight_is_a_failure() {
    let mut talk = Talk::ready();
    talk.mail();
    talk.hear("2");
    talk.unsolicited(Step::Mail);
    assert!(!talk.session.has_flight_begun());
}

#[test]
fn a_byte_to_a_resting_session_is_a_failure() {
    let mut talk = Talk::ready();
    talk.hear("421 closing\r\n");
    talk.unsolicited(Step::Idle);
}

#[test]
fn a_byte_behind_a_steps_reply_is_a_failure_of_that_step() {
    let mut talk = Talk::ready();
    talk.mail();
    talk.say("MAIL FROM:<ann@example.org>\r\n");
    talk.hear("250 ok\r\n2");
    assert_eq!(talk.session.answer().unwrap().step, Step::Mail);
    talk.unsolicited(Step::Mail);
}

#[test]
fn a_byte_behind_the_greeting_is_a_failure() {
    let mut talk = Talk::opened();
    talk.hear("220 mx\r\n250 mx\r\n");
    talk.unsolicited(Step::Ehlo);
}

#[test]
fn a_byte_behind_the_reply_to_ehlo_is_a_failure() {
    let mut talk = Talk::opened();
    talk.hear("220 mx\r\n");
    talk.say("EHLO client.example\r\n");
    talk.hear("250 mx\r\n250 mx\r\n");
    talk.unsolicited(Step::Idle);
}

#[test]
fn surplus_behind_354_keeps_the_content_back() {
    let mut talk = Talk::with_recipient();
    talk.session.data(&Content::from("hello"), talk.now).unwrap();
    talk.say("DATA\r\n");
    talk.hear("354 go on\r\n250 ok\r\n");
    assert_eq!(talk.session.answer().unwrap().reply.code().as_u16(), 354);
    talk.unsolicited(Step::Data);
    assert!(!talk.session.is_in_doubt());
}

#[test]
fn surplus_behind_354_that_comes_late_is_not_taken_for_the_answer_to_the_content() {
    let mut talk = Talk::before_content("hello");
    talk.session.content(talk.now);
    talk.hear("250 ok\r\n");
    talk.unsolicited(Step::Content);
    assert!(!talk.session.is_in_doubt());
}

#[test]
fn surplus_behind_a_lone_final_reply_leaves_that_reply_valid() {
    let mut talk = Talk::behind_content();
    talk.hear("250 queued\r\n421 closing\r\n");
    let answer = talk.session.answer().unwrap();
    assert!(answer.is_pass());
    assert_eq!(answer.reply.to_string(), "250 queued");
    assert!(!talk.session.is_in_doubt());
    talk.unsolicited(Step::Content);
}

#[test]
fn a_reply_to_half_a_command_is_a_failure() {
    let mut talk = Talk::ready();
    talk.mail();
    assert!(talk.filled().len() > 4);
    talk.session.wrote(4, talk.now);
    talk.hear("250 ok\r\n");
    talk.failed(&unexpected(250), Step::Mail);
}

// ---- what poisons ---------------------------------------------------------------

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
    assert!(talk.session.answer().is_none() && !talk.session.is_in_doubt());
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
    assert!(talk.session.is_in_doubt());
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

// ---- content --------------------------------------------------------------------

#[test]
#[should_panic(expected = "content without a 354 for it")]
fn refused_data_never_sends_content() {
    let mut talk = Talk::with_recipient();
    talk.session.data(&Content::from("hello"), talk.now).unwrap();
    talk.say("DATA\r\n");
    talk.answered("554 no\r\n", 554);
    assert!(!talk.session.wants_write());
    talk.session.content(talk.now);
}

#[test]
#[should_panic(expected = "content without a 354 for it")]
fn a_354_is_good_for_one_content() {
    let mut talk = Talk::behind_content();
    talk.answered("250 queued\r\n", 250);
    talk.session.content(talk.now);
}

#[test]
fn a_refusal_in_mid_content_is_believed_and_ends_the_sending() {
    for (text, code) in [("452 full\r\n", 452), ("554 spam\r\n", 554), ("421 closing\r\n", 421)] {
        let mut talk = Talk::before_content(vec![b'x'; 200_000]);
        talk.session.content(talk.now);
        let some = talk.filled();
        talk.session.wrote(some.len() / 2, talk.now);
        talk.hear(text);
        assert_eq!(talk.session.answer().unwrap().step, Step::Content);
        talk.judged(code);
        assert!(talk.session.is_over() && talk.session.failure().is_none());
        assert!(!talk.session.wants_write() && talk.filled().is_empty(), "no terminator");
        assert!(!talk.session.is_usable(), "only closing gives the content up");
        assert!(!talk.session.is_in_doubt());
    }
}

#[test]
fn a_refusal_with_the_last_octet_unwritten_is_believed_and_closes() {
    let mut talk = Talk::before_content("hello\r\n");
    talk.session.content(talk.now);
    let all = talk.filled();
    talk.session.wrote(all.len() - 1, talk.now);
    talk.answered("552 too large\r\n", 552);
    assert!(talk.session.has_unwritten() && !talk.session.is_usable());
}

#[test]
fn an_acceptance_in_mid_content_is_a_failure() {
    let mut talk = Talk::before_content(vec![b'x'; 200_000]);
    talk.session.content(talk.now);
    let some = talk.filled();
    talk.session.wrote(some.len(), talk.now);
    talk.hear("250 queued\r\n");
    talk.failed(&unexpected(250), Step::Content);
    assert!(talk.session.answer().is_none() && !talk.session.is_in_doubt());
}

#[test]
fn an_acceptance_before_the_last_octet_was_written_is_a_failure() {
    let mut talk = Talk::before_content("hello\r\n");
    talk.session.content(talk.now);
    let all = talk.filled();
    talk.session.wrote(all.len() - 1, talk.now);
    talk.hear("250 queued\r\n");
    talk.failed(&unexpected(250), Step::Content);
    assert!(!talk.session.is_in_doubt());
}

#[test]
fn content_leaves_in_bounded_fills_and_short_writes() {
    let raw: Vec<u8> = b".a line\n".iter().copied().cycle().take(300_000).collect();
    let mut talk = Talk::before_content(raw.clone());
    talk.session.content(talk.now);
    let (mut sent, mut pending, mut fills) = (Vec::new(), Vec::new(), 0);
    while !talk.session.is_over() {
        assert!(pending.len() <= FLIGHT_BUFFER + 8);
        if pending.is_empty() && talk.session.wants_write() {
            talk.session.fill(&mut pending);
            fills += 1;
        }
        let some = pending.len().min(10_007);
        sent.extend(pending.drain(..some));
        talk.session.wrote(some, talk.now);
        assert_eq!(talk.session.has_unwritten(), !pending.is_empty());
        if !talk.session.wants_write() && pending.is_empty() {
            talk.hear("250 queued\r\n");
        }
    }
    assert!(fills > 5, "{fills}");
    talk.judged(250);
    assert!(talk.session.is_usable() && !talk.session.needs_reset());
    let text = String::from_utf8(sent).unwrap();
    assert!(text.ends_with("\r\n.\r\n"));
    assert_eq!(text.len(), raw.len() / 8 * 10 + 3);
}

#[test]
fn doubt_begins_with_the_last_octet_and_ends_with_the_reply() {
    let mut talk = Talk::before_content("hello\r\n");
    talk.session.content(talk.now);
    let all = talk.filled();
    for _ in 0..all.len() - 1 {
        assert!(!talk.session.is_in_doubt());
        talk.session.wrote(1, talk.now);
    }
    assert!(!talk.session.is_in_doubt());
    talk.session.wrote(1, talk.now);
    assert!(talk.session.is_in_doubt());
    talk.hear("250 que");
    assert!(talk.session.is_in_doubt(), "half a reply is none");
    talk.hear("ued\r\n");
    assert!(!talk.session.is_in_doubt());
}

#[test]
fn doubt_outlasts_every_failure_behind_the_last_octet() {
    for failure in [Failure::Closed, Failure::Garbage] {
        let mut talk = Talk::behind_content();
        talk.session.lost(failure.clone());
        talk.failed(&failure, Step::Content);
        assert!(talk.session.is_in_doubt());
    }
    let mut talk = Talk::behind_content();
    talk.later(8 * SECOND);
    talk.failed(&Failure::TimedOut { after: 8 * SECOND }, Step::Content);
    assert!(talk.session.is_in_doubt());
}

#[test]
fn there_is_no_doubt_before_the_last_octet() {
    let mut talk = Talk::before_content("hello\r\n");
    talk.session.content(talk.now);
    let all = talk.filled();
    talk.session.wrote(all.len() - 1, talk.now);
    talk.session.lost(Failure::Closed);
    talk.failed(&Failure::Closed, Step::Content);
    assert!(!talk.session.is_in_doubt());
}

#[test]
fn an_empty_content_is_a_lone_dot_behind_354() {
    let mut talk = Talk::before_content("");
    talk.session.content(talk.now);
    talk.say(".\r\n");
    talk.answered("250 queued\r\n", 250);
    assert!(talk.session.is_usable());
}

#[test]
fn content_that_cannot_be_opened_says_no_data() {
    let mut talk = Talk::with_recipient();
    let missing = Content::file("/nonexistent/mail.eml");
    assert!(talk.session.data(&missing, talk.now).is_err());
    assert!(!talk.session.wants_write() && talk.filled().is_empty());
    assert!(talk.session.is_usable() && talk.session.needs_reset());
}

/// Gives some octets and then fails.
struct Breaking(usize);

impl Read for Breaking {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let some = buffer.len().min(self.0);
        if some == 0 {
            return Err(io::Error::other("disk on fire"));
        }
        self.0 -= some;
        buffer[..some].fill(b'x');
        Ok(some)
    }
}

#[test]
fn failing_content_sends_no_terminator() {
    for (good, promise) in [(0, None), (100_000, None), (100_000, Some(100_000))] {
        let content = Content::reader(move || Ok(Box::new(Breaking(good))));
        let content = if let Some(octets) = promise { content.promise(octets) } else { content };
        let mut talk = Talk::before_content(content);
        talk.session.content(talk.now);
        let mut sent = Vec::new();
        while talk.session.failure().is_none() {
            let some = talk.filled();
            talk.session.wrote(some.len(), talk.now);
            sent.extend_from_slice(&some);
        }
        assert!(sent.iter().all(|octet| *octet == b'x'), "no line end and no dot");
        let Some(Failure::Content(error)) = talk.session.failure().cloned() else { panic!() };
        talk.failed(&Failure::Content(error), Step::Content);
        assert!(!talk.session.is_in_doubt());
    }
}

#[test]
fn content_other_than_promised_sends_no_terminator() {
    for promise in [4, 6] {
        let mut talk = Talk::before_content(Content::from("12345").promise(promise));
        talk.session.content(talk.now);
        assert!(talk.filled().is_empty());
        assert!(matches!(talk.session.failure(), Some(Failure::Content(_))));
        assert!(!talk.session.is_in_doubt());
    }
}

#[test]
fn blocking_content_gives_nothing_until_it_was_read() {
    let mut talk = Talk::before_content(Content::blocking(|| Ok(Box::new(&b"hello"[..]))));
    assert!(talk.session.take_read_job().is_none(), "not before the content's turn");
    talk.session.content(talk.now);
    assert!(talk.session.wants_write() && talk.filled().is_empty());
    let job = talk.session.take_read_job().unwrap();
    assert!(talk.session.take_read_job().is_none(), "one at a time");
    assert!(talk.filled().is_empty() && talk.session.failure().is_none());
    talk.session.return_read_job(job.run());
    let mut sent = talk.filled();
    talk.session.wrote(sent.len(), talk.now);
    if let Some(job) = talk.session.take_read_job() {
        talk.session.return_read_job(job.run());
    }
    let rest = talk.filled();
    talk.session.wrote(rest.len(), talk.now);
    sent.extend_from_slice(&rest);
    assert_eq!(String::from_utf8_lossy(&sent), "hello\r\n.\r\n");
    assert!(talk.session.is_in_doubt());
    talk.answered("250 queued\r\n", 250);
}

#[test]
fn a_blocking_source_that_gives_nothing_in_time_is_our_own_fault() {
    let mut talk = Talk::before_content(Content::blocking(|| Ok(Box::new(&b"hello"[..]))));
    talk.session.content(talk.now);
    let _job = talk.session.take_read_job();
    assert!(talk.filled().is_empty());
    talk.later(7 * SECOND);
    talk.failed(&Failure::Content(ContentError::Stalled), Step::Content);
}

#[test]
fn a_server_that_takes_no_content_is_the_servers_fault() {
    let mut talk = Talk::before_content(Content::blocking(|| Ok(Box::new(&b"hello"[..]))));
    talk.session.content(talk.now);
    let job = talk.session.take_read_job().or_else(|| {
        talk.filled();
        talk.session.take_read_job()
    });
    talk.session.return_read_job(job.unwrap().run());
    let some = talk.filled();
    talk.session.wrote(some.len() - 1, talk.now);
    talk.later(7 * SECOND);
    talk.failed(&Failure::TimedOut { after: 7 * SECOND }, Step::Content);
}

#[test]
fn a_process_that_slept_does_not_take_its_content_for_stalled() {
    let mut talk = Talk::before_content("hello");
    talk.session.content(talk.now);
    talk.later(100 * SECOND);
    talk.failed(&Failure::TimedOut { after: 7 * SECOND }, Step::Content);
}

// ---- deadlines --------------------------------------------------------------------

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

// ---- replies ----------------------------------------------------------------------

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

// ---- giving up --------------------------------------------------------------------

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
    assert!(!talk.session.is_in_doubt() && !talk.session.needs_reset() && !talk.session.has_unwritten());
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
