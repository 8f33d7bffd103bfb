//! What an attempt costs a mail: the number that the next one has to bear,
//! foretold from how this one ended.

use std::time::Duration;

use smtp_bulk::{EventKind, Step, Verdict};

use super::model::Seen;

/// How often a mail is spared an attempt.
const MOST_SPARED: u32 = 60;

/// For each mail the number that its next attempt has to bear.
#[derive(Debug)]
pub struct Attempts {
    /// `None` where nothing is foretold.
    expected: Vec<Option<u32>>,
    /// A recipient was accepted in this attempt.
    accepted: Vec<bool>,
    /// A recipient was refused in this attempt: what that costs is not foretold.
    refused: Vec<bool>,
    /// What the last event bore.
    last: Vec<u32>,
    /// What went wrong with it. Of so much some counts that did not before.
    setbacks: Vec<u32>,
    /// MAIL was refused by what some servers say of a parameter, too.
    suspected: Vec<bool>,
    /// It has parameters that cannot be left out.
    has_own: Vec<bool>,
    /// Several things may be answered at once, of which only some are told.
    flies: bool,
    resends: bool,
    /// How long a mail waits that was put off, and until when each does.
    delay: Duration,
    not_before: Vec<Duration>,
    /// Attempts that may have ended without a word since the last event.
    unseen: Vec<u32>,
}

impl Attempts {
    pub fn new(has_own: Vec<bool>, flies: bool, resends: bool, delay: Duration) -> Attempts {
        let mails = has_own.len();
        Attempts {
            setbacks: vec![0; mails],
            suspected: vec![false; mails],
            has_own,
            expected: vec![None; mails],
            accepted: vec![false; mails],
            refused: vec![false; mails],
            last: vec![1; mails],
            flies,
            resends,
            delay,
            not_before: vec![Duration::ZERO; mails],
            unseen: vec![0; mails],
        }
    }

    /// Of no mail anything is foretold any more.
    pub fn forget(&mut self) {
        self.expected.fill(None);
        self.unseen.iter_mut().for_each(|unseen| *unseen += 1);
        self.refused.fill(true);
    }

    /// How an attempt counts is seen in the number of the next one.
    pub fn see(&mut self, mail: usize, seen: &Seen, has_begun: bool, now: Duration) {
        assert!(self.not_before[mail] <= now, "mail {mail} is tried again before it has waited");
        let last = std::mem::replace(&mut self.last[mail], seen.attempt);
        // What is in doubt and sent again needs no event to cost an attempt.
        let unseen = std::mem::take(&mut self.unseen[mail]);
        let is_next = self.resends || (last..=last + 1 + unseen).contains(&seen.attempt);
        assert!(is_next, "mail {mail}: attempt {} behind {last}", seen.attempt);
        self.setbacks[mail] += u32::from(seen.kind != EventKind::Pass);
        if self.flies {
            return;
        }
        if let Some(expected) = self.expected[mail].take() {
            assert_eq!(seen.attempt, expected, "mail {mail}: the attempt before was counted wrongly");
        }
        if matches!(seen.step, Step::Mail | Step::Rset) {
            self.accepted[mail] = false;
        }
        // An attempt may go through several transactions.
        if seen.attempt > last {
            self.refused[mail] = false;
        }
        if seen.verdict != Verdict::DEFAULT || self.setbacks[mail] > MOST_SPARED {
            return;
        }
        self.expected[mail] = match (seen.kind, seen.step, seen.code) {
            (EventKind::Pass, Step::Rcpt, _) => {
                self.accepted[mail] = true;
                None
            }
            // Too many recipients: they are not refused, only put off.
            (EventKind::Fail, Step::Rcpt, Some(452 | 552)) if self.accepted[mail] => None,
            (EventKind::Fail, Step::Rcpt, Some(code)) if !blames_session(Step::Rcpt, code) => {
                self.refused[mail] = true;
                None
            }
            _ if self.refused[mail] => None,
            (EventKind::Pass, Step::Content, _) => Some(seen.attempt),
            // Said again without what can be left out, it is charged for the rest.
            (EventKind::Fail, Step::Mail, Some(500 | 502 | 503))
                if self.has_own[mail] && std::mem::replace(&mut self.suspected[mail], true) =>
            {
                None
            }
            (EventKind::Fail, step, Some(code)) if blames_session(step, code) => Some(seen.attempt),
            (EventKind::Fail, Step::Mail | Step::Data | Step::Content, Some(400..=499)) => {
                self.not_before[mail] = now + self.delay;
                Some(seen.attempt + 1)
            }
            // RSET is about the mail before this one.
            (EventKind::Hang, Step::Rset, _) => Some(seen.attempt),
            (EventKind::Hang, Step::Mail, _) if !has_begun => Some(seen.attempt),
            (EventKind::Hang, Step::Mail | Step::Rcpt | Step::Data, _) => Some(seen.attempt + 1),
            _ => None,
        };
    }
}

/// A refusal that is not the mail's fault.
pub fn blames_session(step: Step, code: u16) -> bool {
    let before_content = matches!(step, Step::Mail | Step::Rcpt | Step::Data);
    code == 421 || step == Step::Rset || (before_content && matches!(code, 500 | 502 | 503 | 530 | 538))
}
