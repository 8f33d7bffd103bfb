//! Scripted exchanges with one session: each rule of the protocol layer as a
//! fact of its own.

mod content;
mod deadlines;
mod flights;
mod giving_up;
mod login;
mod opening;
mod poison;
mod replies;
mod smuggling;
mod tls;
mod unasked;

use super::*;
use crate::command::{MailLine, RcptLine};
use crate::content::Content;
use crate::envelope::{ForwardPath, ReversePath};
use crate::extensions::Extension;
use crate::fault::IoFault;
use crate::reply::{Reply, ReplyCode};
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
        tls: 11 * SECOND,
        auth: 12 * SECOND,
    }
}

/// Flights of one command.
impl Session {
    fn mail_alone(&mut self, from: &ReversePath, now: Instant) {
        self.flight(now).mail(MailLine::new(from));
    }

    fn rcpt(&mut self, to: &ForwardPath, recipient: u32, now: Instant) {
        self.flight(now).rcpt(RcptLine::new(to), recipient);
    }

    fn data(&mut self, content: &Content, now: Instant) -> Result<(), ContentError> {
        self.flight(now).data(content)
    }

    fn content(&mut self, now: Instant) {
        self.flight(now).content();
    }

    fn reset(&mut self, now: Instant) {
        self.flight(now).reset();
    }

    fn quit(&mut self, now: Instant) {
        self.flight(now).quit();
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
        self.session.mail_alone(&"ann@example.org".parse().unwrap(), self.now);
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
