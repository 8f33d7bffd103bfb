//! Which mails are on their way, and what became of the others.
//! It must never lose one: every mail taken is counted once, and listed as failed unless delivered.

use crate::failed::Failed;
use crate::input::InputError;
use crate::progress::Progress;
use crate::recipients::Record;
use crate::table::{Figures, Outcome};
use std::collections::HashMap;
use std::sync::Arc;

/// The book of one run. It holds the recipients on their way only, so its size is bounded by what
/// the mailer holds.
#[derive(Debug)]
pub struct Ledger {
    on_their_way: HashMap<u64, Arc<Record>>,
    figures: Figures,
    failed: Option<Failed>,
    progress: Progress,
    strays: u64,
}

/// What the book says at the end.
#[derive(Debug)]
pub struct Closed {
    /// Mails by outcome.
    pub figures: Figures,
    /// What went wrong with the book itself, a clear line each.
    pub complaints: Vec<String>,
}

impl Ledger {
    /// An empty book.
    pub fn new(failed: Option<Failed>, progress: Progress) -> Self {
        Self { on_their_way: HashMap::new(), figures: Figures::default(), failed, progress, strays: 0 }
    }

    /// Mail is about to be sent: from here on the file of undelivered mail is this run's.
    pub fn begin(&mut self) -> Result<(), InputError> {
        self.failed.as_mut().map_or(Ok(()), Failed::begin)
    }

    /// A mail is about to be handed to the mailer; its id must be new.
    pub fn take(&mut self, id: u64, record: Arc<Record>) {
        if self.on_their_way.insert(id, record).is_some() {
            self.strays = self.strays.saturating_add(1);
        }
    }

    /// A mail's outcome is final. The reason is only asked for when it is to be written.
    pub fn report(&mut self, id: u64, outcome: Outcome, reason: impl FnOnce() -> String) {
        let Some(record) = self.on_their_way.remove(&id) else {
            self.strays = self.strays.saturating_add(1);
            return;
        };
        self.count(outcome);
        if outcome != Outcome::Delivered
            && let Some(failed) = &mut self.failed
        {
            failed.write(&record, outcome.name(), &reason());
            failed.flush();
        }
    }

    /// The job is over: what is still on its way, and what was never taken, is unsent. Call it
    /// when the mailer is gone and all its reports have come.
    pub fn leave(
        &mut self,
        rest: impl Iterator<Item = Result<Record, InputError>>,
        reason: &str,
    ) -> Result<(), InputError> {
        let mut left: Vec<Arc<Record>> = self.on_their_way.drain().map(|(_, record)| record).collect();
        left.sort_by_key(|record| record.line);
        for record in left {
            self.unsent(&record, reason);
        }
        for record in rest {
            self.unsent(&record?, reason);
        }
        Ok(())
    }

    /// As [`leave`](Self::leave) for a rest whose number is known, which need not be read when
    /// nothing is to be written; says whether that was so.
    pub fn leave_counted(&mut self, rest: u64) -> bool {
        if self.failed.is_some() {
            return false;
        }
        let held = u64::try_from(self.on_their_way.drain().count()).unwrap_or(u64::MAX);
        self.figures.count_many(Outcome::Unsent, rest.saturating_add(held));
        true
    }

    /// Closes the file of undelivered mail and tells the figures.
    pub fn close(&mut self) -> Closed {
        self.progress.finish();
        let mut complaints = Vec::new();
        if let Some(Err(error)) = self.failed.take().map(Failed::finish) {
            complaints.push(error.to_string());
        }
        let wrong = self.strays.saturating_add(u64::try_from(self.on_their_way.len()).unwrap_or(u64::MAX));
        if wrong > 0 {
            complaints.push(format!("{wrong} reports are missing or came twice"));
        }
        Closed { figures: self.figures, complaints }
    }

    fn unsent(&mut self, record: &Record, reason: &str) {
        self.count(Outcome::Unsent);
        if let Some(failed) = &mut self.failed {
            failed.write(record, Outcome::Unsent.name(), reason);
        }
    }

    fn count(&mut self, outcome: Outcome) {
        self.figures.count(outcome);
        self.progress.count(outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipients::Generated;
    use std::fs;

    fn book(failed: Option<Failed>) -> Ledger {
        Ledger::new(failed, Progress::new(0))
    }

    #[test]
    fn what_was_not_delivered_is_listed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.csv");
        let mut recipients = Generated::new(5);
        let failed = Failed::create(&path, recipients.header(), &[]).unwrap();
        let mut ledger = book(Some(failed));
        for (id, record) in (1..=3).zip(recipients.by_ref()) {
            ledger.take(id, Arc::new(record));
        }
        ledger.report(2, Outcome::Delivered, || unreachable!("no reason is asked for"));
        ledger.report(1, Outcome::Refused, || "550 no".to_owned());
        let early = fs::read_to_string(&path).unwrap();
        assert!(early.ends_with("user0000001@example.net,User 1,1,refused,550 no,1\n"));

        ledger.leave(recipients.map(Ok), "no host left").unwrap();
        let closed = ledger.close();
        assert!(closed.complaints.is_empty(), "{:?}", closed.complaints);
        let figures = closed.figures;
        assert_eq!((figures.delivered, figures.refused, figures.unsent), (1, 1, 3));
        assert_eq!(figures.taken(), 5);
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "user0000003@example.net,User 3,3,unsent,no host left,3",
                "user0000004@example.net,User 4,4,unsent,no host left,4",
                "user0000005@example.net,User 5,5,unsent,no host left,5",
            ]
        );
    }

    #[test]
    fn rest_is_counted_at_once_when_nothing_is_written() {
        let mut ledger = book(None);
        ledger.take(1, Arc::new(Generated::new(1).next().unwrap()));
        assert!(ledger.leave_counted(u64::MAX - 2));
        assert_eq!(ledger.close().figures.unsent, u64::MAX - 1);
    }

    #[test]
    fn second_report_of_a_mail_is_a_complaint_and_not_counted() {
        let mut ledger = book(None);
        ledger.take(1, Arc::new(Generated::new(1).next().unwrap()));
        for _ in 0..2 {
            ledger.report(1, Outcome::Delivered, String::new);
        }
        let closed = ledger.close();
        assert_eq!(closed.figures.taken(), 1);
        assert_eq!(closed.complaints, ["1 reports are missing or came twice"]);
    }
}
