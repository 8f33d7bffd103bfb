//! Several things in one flight: what is sent, which reply is whose, and what a
//! failure in the middle leaves behind.

use super::*;
use crate::content::Framing;
use crate::parameters::Body;

const A: MailTag = MailTag(1);
const B: MailTag = MailTag(2);

fn chunked(content: impl Into<Content>) -> ContentStream {
    content.into().open(Framing::Chunked).unwrap()
}

/// MAIL, RCPT and a content by BDAT for each of these mails, RSET between them.
fn whole(talk: &mut Talk, mails: impl IntoIterator<Item = (MailTag, Content)>) {
    let mut flight = talk.session.flight(talk.now);
    for (number, (tag, content)) in mails.into_iter().enumerate() {
        flight.for_mail(tag);
        if number > 0 {
            flight.reset();
        }
        flight.mail(MailLine::new(&"ann@example.org".parse().unwrap()));
        flight.rcpt(RcptLine::new(&"bob@example.net".parse().unwrap()), 0);
        flight.chunks(chunked(content), true);
    }
}

const ENVELOPE: &str = "MAIL FROM:<ann@example.org>\r\nRCPT TO:<bob@example.net>\r\n";

/// Takes the answers that there are: mail, step and code.
fn answers(talk: &mut Talk) -> Vec<(MailTag, Step, u16)> {
    let mut all = Vec::new();
    while let Some(answer) = talk.session.answer() {
        all.push((answer.mail, answer.step, answer.reply.code().as_u16()));
        talk.session.answer_judged();
    }
    all
}

impl Talk {
    /// Sends all that the session has to say, and gives it.
    fn pour(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let out = self.filled();
            if out.is_empty() {
                return all;
            }
            self.session.wrote(out.len(), self.now);
            all.extend_from_slice(&out);
        }
    }

    /// A session whose server takes contents of any size.
    pub(super) fn able() -> Talk {
        let mut talk = Talk::opened();
        talk.hear("220 mx\r\n");
        talk.say("EHLO client.example\r\n");
        talk.hear("250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n");
        talk
    }

    /// A session that speaks LMTP.
    fn lmtp() -> Talk {
        let session = Session::new(Arc::new(timeouts())).with_lmtp(true);
        let mut talk = Talk { session, now: Instant::now() };
        talk.session.open("client.example".parse().unwrap(), talk.now);
        talk.hear("220 mx\r\n");
        talk.say("LHLO client.example\r\n");
        talk.hear("250 mx\r\n");
        talk
    }
}

#[test]
fn a_flight_leaves_in_one_piece_and_its_replies_find_their_mails() {
    let mut talk = Talk::able();
    whole(&mut talk, [(A, Content::from("one\r\n")), (B, Content::from("..two\n"))]);
    let text = format!("{ENVELOPE}BDAT 5 LAST\r\none\r\nRSET\r\n{ENVELOPE}BDAT 7 LAST\r\n..two\r\n");
    talk.say(&text);
    assert!(talk.session.is_in_doubt(A) && talk.session.is_in_doubt(B));
    talk.hear("250 1\r\n251 2\r\n250 3\r\n");
    assert!(!talk.session.is_over() && !talk.session.is_in_doubt(A) && talk.session.is_in_doubt(B));
    talk.hear("250 4\r\n250 5\r\n550 6\r\n554 7\r\n");
    assert!(talk.session.is_over() && !talk.session.has_doubt());
    let expected = [
        (A, Step::Mail, 250),
        (A, Step::Rcpt, 251),
        (A, Step::Content, 250),
        (B, Step::Rset, 250),
        (B, Step::Mail, 250),
        (B, Step::Rcpt, 550),
        (B, Step::Content, 554),
    ];
    assert_eq!(answers(&mut talk), expected);
    assert!(talk.session.is_usable() && talk.session.needs_reset(), "a refused BDAT may leave it open");
}

#[test]
fn each_reply_gives_the_next_one_its_own_time() {
    let mut talk = Talk::able();
    whole(&mut talk, [(A, Content::from("one"))]);
    talk.pour();
    assert_eq!(talk.deadline_in(), 4 * SECOND);
    talk.later(3 * SECOND);
    talk.hear("250 ok\r\n");
    assert_eq!(talk.deadline_in(), 5 * SECOND);
    talk.later(4 * SECOND);
    talk.hear("250 ok\r\n");
    assert_eq!(talk.deadline_in(), 8 * SECOND, "the end of the content is out");
    talk.later(8 * SECOND);
    talk.failed(&Failure::TimedOut { after: 8 * SECOND }, Step::Content);
    assert!(talk.session.is_in_doubt(A));
}

#[test]
fn replies_that_come_while_a_content_is_being_written_are_kept() {
    let mut talk = Talk::able();
    whole(&mut talk, [(A, Content::from("x".repeat(200_000)))]);
    let first = talk.filled();
    talk.session.wrote(first.len(), talk.now);
    talk.hear("250 ok\r\n250 ok\r\n");
    assert!(talk.session.wants_write() && !talk.session.is_over());
    talk.pour();
    talk.hear("250 queued\r\n");
    assert_eq!(answers(&mut talk).len(), 3);
}

#[test]
fn a_content_in_memory_is_one_chunk_however_large_it_is() {
    let mut talk = Talk::able();
    whole(&mut talk, [(A, Content::from("x\n".repeat(100_000)))]);
    let sent = talk.pour();
    let expected = format!("{ENVELOPE}BDAT 300000 LAST\r\n{}", "x\r\n".repeat(100_000));
    assert!(sent == expected.as_bytes());
}

#[test]
fn what_needs_no_mending_is_given_without_a_copy_and_reads_the_same() {
    let large = || Content::from("x\r\n".repeat(100_000 / 3));
    let contents =
        [large(), Content::from("short\r\n"), large(), Content::from("x\n".repeat(20_000)), large()];
    let mails = || [A, B, MailTag(3), MailTag(4), MailTag(5)].into_iter().zip(contents.clone());
    let mut copying = Talk::able();
    whole(&mut copying, mails());
    let expected = copying.pour();

    let mut talk = Talk::able();
    whole(&mut talk, mails());
    let (mut sent, mut made) = (Vec::new(), 0);
    while talk.session.wants_write() {
        let mut outgoing = Outgoing::new();
        talk.session.fill_outgoing(&mut outgoing);
        assert!(outgoing.len() <= FLIGHT_BUFFER + 64, "{}", outgoing.len());
        made += outgoing.made().len();
        sent.extend_from_slice(&outgoing.rest(0));
        talk.session.wrote(outgoing.len(), talk.now);
    }
    assert!(sent == expected);
    assert!(made < 70_000, "{made} of {} octets were copied", sent.len());
}

#[test]
fn what_is_declared_binary_is_sent_by_bdat_as_it_is() {
    for (content, expected) in [
        (Content::from("a\n\r.\n").body(Body::BinaryMime), &b"BDAT 5 LAST\r\na\n\r.\n"[..]),
        (Content::from("a\n\r.\n"), b"BDAT 8 LAST\r\na\r\n\r\n.\r\n"),
    ] {
        let mut talk = Talk::able();
        talk.session.flight(talk.now).bdat(&content).unwrap();
        assert_eq!(talk.pour(), expected);
    }
}

#[test]
fn a_content_of_unknown_size_is_sent_in_chunks_and_few_wait_for_replies() {
    let mut talk = Talk::able();
    let raw: &'static [u8] = vec![b'x'; 2_000_000].leak();
    whole(&mut talk, [(A, Content::reader(move || Ok(Box::new(raw))))]);
    let mut sent = talk.pour();
    assert!(talk.session.wants_write(), "the rest waits");
    assert!(sent.len() < 9 * FLIGHT_BUFFER, "{} octets without a reply", sent.len());
    talk.hear("250 ok\r\n250 ok\r\n");
    let mut replies = 0;
    while !talk.session.is_over() {
        talk.hear("250 ok\r\n");
        replies += 1;
        sent.extend_from_slice(&talk.pour());
    }
    assert!(replies > 20, "{replies} chunks");
    assert_eq!(answers(&mut talk).len(), 3, "chunks that were taken are not told of");
    let octets = sent.iter().filter(|octet| **octet == b'x').count();
    // "example" is in the envelope twice.
    assert_eq!(octets, 2_000_002);
    assert!(sent.windows(9).filter(|octets| octets.ends_with(b" LAST\r\n")).count() == 1);
}

#[test]
fn behind_a_refused_chunk_nothing_is_sent_and_the_connection_is_given_up() {
    let mut talk = Talk::able();
    let raw: &'static [u8] = vec![b'x'; 2_000_000].leak();
    whole(&mut talk, [(A, Content::reader(move || Ok(Box::new(raw))))]);
    talk.pour();
    talk.hear("250 ok\r\n250 ok\r\n250 ok\r\n552 too large\r\n");
    assert!(!talk.session.wants_write() && talk.filled().is_empty());
    talk.hear("503 no\r\n503 no\r\n503 no\r\n503 no\r\n503 no\r\n503 no\r\n");
    assert!(talk.session.is_over() && talk.session.failure().is_none());
    assert_eq!(answers(&mut talk)[2], (A, Step::Content, 552), "the first refusal comes first");
    assert!(!talk.session.is_usable() && !talk.session.has_doubt());
}

#[test]
fn a_2yz_to_the_last_chunk_behind_a_refused_one_is_not_believed() {
    let mut talk = Talk::able();
    let raw: &'static [u8] = vec![b'x'; 2 * FLIGHT_BUFFER].leak();
    whole(&mut talk, [(A, Content::reader(move || Ok(Box::new(raw))))]);
    let sent = String::from_utf8(talk.pour()).unwrap();
    let between = sent.matches("BDAT ").count() - 2;
    assert!(sent.contains(" LAST\r\n") && between > 0, "all of it is out");
    talk.hear(&format!("250 ok\r\n250 ok\r\n452 full\r\n{}", "250 ok\r\n".repeat(between)));
    assert!(talk.session.failure().is_none());
    talk.hear("250 queued\r\n");
    talk.failed(&unexpected(250), Step::Content);
    assert!(talk.session.is_in_doubt(A) && !talk.session.has_answer(), "nobody knows what it took");
}

#[test]
fn no_chunk_goes_beyond_what_the_server_takes() {
    // Its server says SIZE 1000.
    let mut talk = Talk::ready();
    let raw: &'static [u8] = vec![b'x'; 1_001].leak();
    whole(&mut talk, [(A, Content::reader(move || Ok(Box::new(raw))))]);
    assert_eq!(talk.pour(), ENVELOPE.as_bytes());
    talk.hear("250 ok\r\n250 ok\r\n");
    let failure = Failure::Content(ContentError::AboveLimit { limit: 1_000 });
    assert_eq!(talk.session.failure(), Some(&failure));
    assert_eq!(talk.session.mail(), A);
}

#[test]
fn a_server_that_does_not_know_bdat_is_not_spoken_to_any_more() {
    for code in [500, 502] {
        let mut talk = Talk::able();
        whole(&mut talk, [(A, Content::from("one")), (B, Content::from("two"))]);
        talk.pour();
        talk.hear(&format!("250 ok\r\n550 no\r\n{code} what?\r\n500 what?\r\n"));
        talk.failed(&unexpected(code), Step::Content);
        assert_eq!(answers(&mut talk)[2], (A, Step::Content, code));
        assert!(talk.session.is_in_doubt(B), "nobody knows what it made of the rest");
    }
}

#[test]
fn early_refusals_in_mid_content_are_believed_and_nothing_more_is_sent() {
    for (text, code) in [("452 full\r\n", 452), ("554 spam\r\n", 554), ("421 closing\r\n", 421)] {
        let mut talk = Talk::able();
        whole(&mut talk, [(A, Content::from("x".repeat(200_000)))]);
        let first = talk.filled();
        talk.session.wrote(first.len(), talk.now);
        talk.hear("250 ok\r\n250 ok\r\n");
        talk.hear(text);
        assert!(talk.session.is_over() && !talk.session.is_usable() && !talk.session.wants_write());
        assert!(!talk.session.has_doubt());
        assert_eq!(answers(&mut talk).last(), Some(&(A, Step::Content, code)));
    }
}

#[test]
fn a_2yz_before_the_content_is_out_is_a_failure() {
    let mut talk = Talk::able();
    whole(&mut talk, [(A, Content::from("x".repeat(200_000)))]);
    let first = talk.filled();
    talk.session.wrote(first.len(), talk.now);
    talk.hear("250 ok\r\n250 ok\r\n250 queued?\r\n");
    talk.failed(&unexpected(250), Step::Content);
    assert!(!talk.session.is_in_doubt(A), "the content was never whole");
}

#[test]
fn what_is_answered_while_later_commands_are_unwritten_is_answered() {
    let mut talk = Talk::able();
    whole(&mut talk, [(A, Content::from("one"))]);
    let (all, to_mail) = (talk.filled().len(), "MAIL FROM:<ann@example.org>\r\n".len());
    talk.session.wrote(to_mail, talk.now);
    talk.hear("25");
    talk.session.wrote(4, talk.now);
    talk.hear("0 ok\r\n");
    talk.judged(250);
    assert!(!talk.session.is_over());
    // The next one has come to a RCPT of which half is out.
    talk.hear("25");
    talk.session.wrote(all - to_mail - 4, talk.now);
    talk.hear("0 ok\r\n");
    talk.unsolicited(Step::Rcpt);
    assert!(talk.session.is_out_of_step() && !talk.session.has_answer() && talk.session.is_in_doubt(A));
}

#[test]
fn a_reply_too_many_leaves_no_answer_of_its_flight() {
    for surplus in ["250 ok\r\n", "421 closing\r\n", "what?\r\n"] {
        let mut talk = Talk::able();
        whole(&mut talk, [(A, Content::from("one")), (B, Content::from("two"))]);
        talk.pour();
        talk.hear(&"250 ok\r\n".repeat(7));
        talk.hear(surplus);
        assert!(talk.session.is_out_of_step() && !talk.session.has_answer());
        assert!(talk.session.is_in_doubt(A) && talk.session.is_in_doubt(B));
    }
}

#[test]
fn a_notice_that_the_server_closes_is_no_reply_too_many_behind_refusals() {
    let refused = "250 ok\r\n550 no\r\n554 no valid recipients\r\n";
    for notice in ["421 too many errors\r\n", "421"] {
        let mut talk = Talk::able();
        whole(&mut talk, [(A, Content::from("one")), (B, Content::from("two"))]);
        talk.pour();
        talk.hear(&format!("{refused}250 ok\r\n{refused}{notice}"));
        assert!(matches!(talk.session.failure(), Some(Failure::Unsolicited(_))));
        assert!(!talk.session.is_out_of_step() && !talk.session.has_doubt());
        assert_eq!(answers(&mut talk).len(), 7);
    }
}

#[test]
fn a_notice_that_the_server_closes_is_one_too_many_where_a_content_may_have_been_taken() {
    let refused = "250 ok\r\n550 no\r\n554 no valid recipients\r\n";
    let taken = "250 ok\r\n250 ok\r\n250 queued\r\n";
    let spurned = "250 ok\r\n250 ok\r\n554 spam\r\n";
    for heard in [
        format!("{refused}250 ok\r\n{taken}421 closing\r\n"),
        format!("{taken}250 ok\r\n{refused}421 closing\r\n"),
        // This could be the reply to something else: then the first content was taken.
        format!("{spurned}250 ok\r\n{refused}421 closing\r\n"),
        // What it begins with does not say yet what it is, and this is no notice.
        format!("{refused}250 ok\r\n{refused}42"),
        format!("{refused}250 ok\r\n{refused}421 closing\r\n250 ok\r\n"),
    ] {
        let mut talk = Talk::able();
        whole(&mut talk, [(A, Content::from("one")), (B, Content::from("two"))]);
        talk.pour();
        talk.hear(&heard);
        assert!(talk.session.is_out_of_step() && !talk.session.has_answer(), "{heard:?}");
        assert!(talk.session.is_in_doubt(A) && talk.session.is_in_doubt(B), "{heard:?}");
    }
}

#[test]
fn a_content_that_was_accepted_and_judged_still_makes_a_notice_one_too_many() {
    let mut talk = Talk::able();
    whole(&mut talk, [(A, Content::from("one")), (B, Content::from("two"))]);
    talk.pour();
    talk.hear("250 ok\r\n250 ok\r\n250 queued\r\n");
    assert_eq!(answers(&mut talk).len(), 3);
    talk.hear("250 ok\r\n250 ok\r\n550 no\r\n554 none\r\n421 closing\r\n");
    assert!(talk.session.is_out_of_step() && talk.session.is_in_doubt(B) && !talk.session.is_in_doubt(A));
}

#[test]
fn surplus_behind_a_lone_reply_leaves_that_reply_valid() {
    let mut talk = Talk::behind_content();
    talk.hear("250 queued\r\n421 closing\r\n");
    assert!(!talk.session.is_out_of_step());
    talk.judged(250);
}

#[test]
fn a_content_and_the_next_envelope_leave_together() {
    let mut talk = Talk::before_content("hello\r\n");
    let mut flight = talk.session.flight(talk.now);
    flight.for_mail(A);
    flight.content();
    flight.for_mail(B);
    flight.mail(MailLine::new(&"ann@example.org".parse().unwrap()));
    flight.rcpt(RcptLine::new(&"bob@example.net".parse().unwrap()), 0);
    flight.data(&Content::from("next")).unwrap();
    talk.say(&format!("hello\r\n.\r\n{ENVELOPE}DATA\r\n"));
    talk.hear("250 queued\r\n250 ok\r\n250 ok\r\n354 go on\r\n");
    assert!(talk.session.is_at_content() && !talk.session.is_usable());
    assert_eq!(answers(&mut talk).len(), 4);
    talk.session.content(talk.now);
    talk.say("next\r\n.\r\n");
}

#[test]
fn a_source_that_fails_waits_for_the_replies_to_what_was_sent_before_it() {
    let mut talk = Talk::able();
    let broken = Content::reader(|| Ok(Box::new(std::io::Read::chain(&b"begun"[..], Broken))));
    whole(&mut talk, [(A, Content::from("one")), (B, broken)]);
    talk.pour();
    assert!(!talk.session.is_over() && !talk.session.wants_write());
    talk.hear("250 ok\r\n250 ok\r\n250 queued\r\n250 ok\r\n250 ok\r\n");
    assert!(!talk.session.is_over());
    talk.hear("250 ok\r\n");
    assert!(matches!(talk.session.failure(), Some(Failure::Content(_))));
    assert_eq!(talk.session.mail(), B);
    assert_eq!(answers(&mut talk)[2], (A, Step::Content, 250));
    assert!(!talk.session.is_in_doubt(B));
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("disk on fire"))
    }
}

#[test]
fn in_lmtp_a_content_owes_a_reply_for_each_accepted_recipient() {
    let mut talk = Talk::lmtp();
    let mut flight = talk.session.flight(talk.now);
    flight.for_mail(A);
    flight.mail(MailLine::new(&"ann@example.org".parse().unwrap()));
    for place in 0..4 {
        flight.rcpt(RcptLine::new(&"bob@example.net".parse().unwrap()), place);
    }
    flight.chunks(chunked("one"), true);
    talk.pour();
    talk.hear("250 ok\r\n250 ok\r\n550 no\r\n250 ok\r\n250 ok\r\n");
    talk.hear("250 first\r\n452 full\r\n");
    assert!(!talk.session.is_over() && talk.session.is_in_doubt(A));
    talk.hear("250 last\r\n");
    assert!(talk.session.is_over() && talk.session.is_usable() && !talk.session.needs_reset());
    (0..5).for_each(|_| talk.session.answer_judged());
    let mut finals = Vec::new();
    while let Some(answer) = talk.session.answer() {
        finals.push((answer.recipient, answer.reply.code().as_u16()));
        talk.session.answer_judged();
    }
    assert_eq!(finals, [(0, 250), (2, 452), (3, 250)]);
}

#[test]
fn in_lmtp_a_content_without_an_accepted_recipient_owes_one_reply() {
    let mut talk = Talk::lmtp();
    whole(&mut talk, [(A, Content::from("one"))]);
    talk.pour();
    talk.hear("250 ok\r\n550 no\r\n503 nobody\r\n");
    assert!(talk.session.is_over() && talk.session.needs_reset());
    assert_eq!(answers(&mut talk).len(), 3);
}

#[test]
fn a_flight_of_many_recipients_keeps_their_replies_within_bounds() {
    let mut talk = Talk::able();
    let mut flight = talk.session.flight(talk.now);
    let to: ForwardPath = "bob@example.net".parse().unwrap();
    let mut asked = 0;
    while !flight.is_full() {
        flight.rcpt(RcptLine::new(&to), asked);
        asked += 1;
    }
    assert_eq!(asked as usize, MOST_OWED);
    talk.pour();
    let line = format!("250 {}\r\n", "x".repeat(500));
    for _ in 0..asked {
        talk.hear(&line);
    }
    assert!(talk.session.is_over() && talk.session.failure().is_none(), "512 octets for each are kept");
    assert!(talk.session.text.len() <= reply::MAX_REPLY + MOST_OWED * 512);
}

#[test]
fn the_replies_of_a_flight_have_a_bound_together_beyond_that_of_each() {
    for surplus in [0, 1] {
        let mut talk = Talk::able();
        let to: ForwardPath = "bob@example.net".parse().unwrap();
        let mut flight = talk.session.flight(talk.now);
        (0..2).for_each(|place| flight.rcpt(RcptLine::new(&to), place));
        talk.pour();
        talk.hear(&format!("250 {}\r\n", "x".repeat(512 - 6 + surplus)));
        let line = |separator| format!("250{separator}{}\r\n", "x".repeat(1024 - 6));
        talk.hear(&line('-').repeat(reply::MAX_REPLY / 1024 - 1));
        assert!(!talk.session.is_over());
        talk.hear(&line(' '));
        if surplus == 0 {
            assert_eq!(talk.session.text.len(), reply::MAX_REPLY + 512);
            assert_eq!(answers(&mut talk).len(), 2, "just as much as is kept");
        } else {
            talk.failed(&Failure::TooLong, Step::Rcpt);
        }
    }
}
