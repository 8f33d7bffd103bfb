//! What an attempt costs a mail: the number that the next one has to bear,
//! foretold from how this one ended.

use smtp_bulk::{EventKind, Step, Verdict};

use super::model::Seen;

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
    /// Several things may be answered at once, of which only some are told.
    flies: bool,
    resends: bool,
}

impl Attempts {
    pub fn new(mails: usize, flies: bool, resends: bool) -> Attempts {
        Attempts {
            expected: vec![None; mails],
            accepted: vec![false; mails],
            refused: vec![false; mails],
            last: vec![1; mails],
            flies,
            resends,
        }
    }

    /// How an attempt counts is seen in the number of the next one.
    pub fn see(&mut self, mail: usize, seen: &Seen, has_begun: bool) {
        let last = std::mem::replace(&mut self.last[mail], seen.attempt);
        // What is in doubt and sent again needs no event to cost an attempt.
        let is_next = self.resends || seen.attempt == last || seen.attempt == last + 1;
        assert!(is_next, "mail {mail}: attempt {} behind {last}", seen.attempt);
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
        if seen.verdict != Verdict::DEFAULT {
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
            (EventKind::Fail, step, Some(code)) if blames_session(step, code) => Some(seen.attempt),
            (EventKind::Fail, Step::Mail | Step::Data | Step::Content, Some(400..=499)) => {
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
