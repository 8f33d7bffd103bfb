//! Sending a content, and when it is in doubt.

use super::*;

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
        assert!(!talk.session.has_doubt());
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
    assert!(talk.session.answer().is_none() && !talk.session.has_doubt());
}

#[test]
fn an_acceptance_before_the_last_octet_was_written_is_a_failure() {
    let mut talk = Talk::before_content("hello\r\n");
    talk.session.content(talk.now);
    let all = talk.filled();
    talk.session.wrote(all.len() - 1, talk.now);
    talk.hear("250 queued\r\n");
    talk.failed(&unexpected(250), Step::Content);
    assert!(!talk.session.has_doubt());
}

#[test]
fn an_acceptance_that_begins_before_the_last_octet_leaves_doubt() {
    let mut talk = Talk::before_content("hello\r\n");
    talk.session.content(talk.now);
    let all = talk.filled();
    talk.session.wrote(all.len() - 1, talk.now);
    talk.hear("25");
    talk.session.wrote(1, talk.now);
    talk.hear("0 queued\r\n");
    talk.failed(&unexpected(250), Step::Content);
    assert!(talk.session.answer().is_none() && talk.session.has_doubt());
}

#[test]
fn a_refusal_that_begins_before_the_last_octet_is_believed() {
    let mut talk = Talk::before_content("hello\r\n");
    talk.session.content(talk.now);
    let all = talk.filled();
    talk.session.wrote(all.len() - 1, talk.now);
    talk.hear("55");
    talk.session.wrote(1, talk.now);
    talk.answered("2 too large\r\n", 552);
    assert!(talk.session.is_usable() && !talk.session.has_doubt());
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
        assert!(!talk.session.has_doubt());
        talk.session.wrote(1, talk.now);
    }
    assert!(!talk.session.has_doubt());
    talk.session.wrote(1, talk.now);
    assert!(talk.session.has_doubt());
    talk.hear("250 que");
    assert!(talk.session.has_doubt(), "half a reply is none");
    talk.hear("ued\r\n");
    assert!(!talk.session.has_doubt());
}

#[test]
fn doubt_outlasts_every_failure_behind_the_last_octet() {
    for failure in [Failure::Closed, Failure::Garbage] {
        let mut talk = Talk::behind_content();
        talk.session.lost(failure.clone());
        talk.failed(&failure, Step::Content);
        assert!(talk.session.has_doubt());
    }
    let mut talk = Talk::behind_content();
    talk.later(8 * SECOND);
    talk.failed(&Failure::TimedOut { after: 8 * SECOND }, Step::Content);
    assert!(talk.session.has_doubt());
}

#[test]
fn there_is_no_doubt_before_the_last_octet() {
    let mut talk = Talk::before_content("hello\r\n");
    talk.session.content(talk.now);
    let all = talk.filled();
    talk.session.wrote(all.len() - 1, talk.now);
    talk.session.lost(Failure::Closed);
    talk.failed(&Failure::Closed, Step::Content);
    assert!(!talk.session.has_doubt());
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
        assert!(!talk.session.has_doubt());
    }
}

#[test]
fn content_other_than_promised_sends_no_terminator() {
    for promise in [4, 6] {
        let mut talk = Talk::before_content(Content::reader(|| Ok(Box::new(&b"12345"[..]))).promise(promise));
        talk.session.content(talk.now);
        assert!(talk.filled().is_empty());
        assert!(matches!(talk.session.failure(), Some(Failure::Content(_))));
        assert!(!talk.session.has_doubt());
    }
}

#[test]
fn blocking_content_gives_nothing_until_it_was_read() {
    let mut talk = Talk::before_content(Content::blocking(|| Ok(Box::new(&b"hello"[..]))));
    assert!(talk.session.take_job().is_none(), "not before the content's turn");
    talk.session.content(talk.now);
    assert!(talk.session.wants_write() && talk.filled().is_empty());
    let job = talk.session.take_job().unwrap();
    assert!(talk.session.take_job().is_none(), "one at a time");
    assert!(talk.filled().is_empty() && talk.session.failure().is_none());
    talk.session.return_job(job.run(), talk.now);
    let mut sent = talk.filled();
    talk.session.wrote(sent.len(), talk.now);
    if let Some(job) = talk.session.take_job() {
        talk.session.return_job(job.run(), talk.now);
    }
    let rest = talk.filled();
    talk.session.wrote(rest.len(), talk.now);
    sent.extend_from_slice(&rest);
    assert_eq!(String::from_utf8_lossy(&sent), "hello\r\n.\r\n");
    assert!(talk.session.has_doubt());
    talk.answered("250 queued\r\n", 250);
}

#[test]
fn a_blocking_source_that_gives_nothing_in_time_is_our_own_fault() {
    let mut talk = Talk::before_content(Content::blocking(|| Ok(Box::new(&b"hello"[..]))));
    talk.session.content(talk.now);
    let _job = talk.session.take_job();
    assert!(talk.filled().is_empty());
    talk.later(7 * SECOND);
    talk.failed(&Failure::Content(ContentError::Stalled), Step::Content);
}

#[test]
fn a_server_that_takes_no_content_is_the_servers_fault() {
    let mut talk = Talk::before_content(Content::blocking(|| Ok(Box::new(&b"hello"[..]))));
    talk.session.content(talk.now);
    let job = talk.session.take_job().or_else(|| {
        talk.filled();
        talk.session.take_job()
    });
    talk.session.return_job(job.unwrap().run(), talk.now);
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
