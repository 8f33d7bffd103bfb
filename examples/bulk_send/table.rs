//! The figures of a run: as a table for people, as one JSON object for programs, as an exit code.
//! It must never let the outcomes and `taken` differ: every mail is counted by [`Figures::count_many`].

use std::fmt;

/// How a mail ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Accepted by a server.
    Delivered,
    /// Delivered to some of its recipients.
    Partial,
    /// Refused for good.
    Refused,
    /// Given up after too many attempts, or expired.
    Abandoned,
    /// Dropped by a callback.
    Dropped,
    /// Sent to the last byte, and the reply is missing.
    InDoubt,
    /// Never tried to the end: the job stopped before.
    Unsent,
}

impl Outcome {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 7] = [
        Self::Delivered,
        Self::Partial,
        Self::Refused,
        Self::Abandoned,
        Self::Dropped,
        Self::InDoubt,
        Self::Unsent,
    ];

    /// The name in the JSON object and in the file of undelivered mail.
    pub fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Partial => "partial",
            Self::Refused => "refused",
            Self::Abandoned => "abandoned",
            Self::Dropped => "dropped",
            Self::InDoubt => "in_doubt",
            Self::Unsent => "unsent",
        }
    }
}

/// What became of all mails of a run. A mail is one recipient's.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Figures {
    /// Mails delivered.
    pub delivered: u64,
    /// Mails delivered in part.
    pub partial: u64,
    /// Mails refused.
    pub refused: u64,
    /// Mails abandoned.
    pub abandoned: u64,
    /// Mails dropped.
    pub dropped: u64,
    /// Mails in doubt.
    pub in_doubt: u64,
    /// Mails unsent.
    pub unsent: u64,
    /// How often a mail was queued again; not an outcome.
    pub requeued: u64,
    /// Batches run.
    pub batches: u64,
    /// Time from the first connection to the last, in seconds.
    pub seconds: f64,
}

impl Figures {
    /// Counts one mail.
    pub fn count(&mut self, outcome: Outcome) {
        self.count_many(outcome, 1);
    }

    /// Counts mails that share an outcome.
    pub fn count_many(&mut self, outcome: Outcome, mails: u64) {
        let figure = match outcome {
            Outcome::Delivered => &mut self.delivered,
            Outcome::Partial => &mut self.partial,
            Outcome::Refused => &mut self.refused,
            Outcome::Abandoned => &mut self.abandoned,
            Outcome::Dropped => &mut self.dropped,
            Outcome::InDoubt => &mut self.in_doubt,
            Outcome::Unsent => &mut self.unsent,
        };
        *figure = figure.saturating_add(mails);
    }

    /// Mails with this outcome.
    pub fn of(&self, outcome: Outcome) -> u64 {
        match outcome {
            Outcome::Delivered => self.delivered,
            Outcome::Partial => self.partial,
            Outcome::Refused => self.refused,
            Outcome::Abandoned => self.abandoned,
            Outcome::Dropped => self.dropped,
            Outcome::InDoubt => self.in_doubt,
            Outcome::Unsent => self.unsent,
        }
    }

    /// All mails of the run, those that no server ever saw included: the sum of the outcomes.
    pub fn taken(&self) -> u64 {
        let sum = |total: u64, outcome| total.saturating_add(self.of(outcome));
        Outcome::ALL.into_iter().fold(0, sum)
    }

    /// Whether there was mail, and all of it was delivered.
    pub fn all_delivered(&self) -> bool {
        self.delivered > 0 && self.delivered == self.taken()
    }

    /// The figures as one JSON object on one line, without a line end.
    pub fn json(&self) -> String {
        let mut object = format!("{{\"taken\":{}", self.taken());
        for outcome in Outcome::ALL {
            object.push_str(&format!(",\"{}\":{}", outcome.name(), self.of(outcome)));
        }
        object.push_str(&format!(
            ",\"requeued\":{},\"batches\":{},\"seconds\":{:.3}}}",
            self.requeued,
            self.batches,
            finite(self.seconds)
        ));
        object
    }

    fn rate(&self) -> f64 {
        // Exact up to 2^53 mails, and only shown.
        let sent = self.taken().saturating_sub(self.unsent) as f64;
        finite(sent / self.seconds)
    }
}

/// The table for people: a line per figure, names to the left, numbers to the right.
impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![("mails".to_owned(), grouped(self.taken()))];
        for outcome in Outcome::ALL {
            let name = format!("  {}", outcome.name().replace('_', " "));
            rows.push((name, grouped(self.of(outcome))));
        }
        rows.push(("requeued".to_owned(), grouped(self.requeued)));
        rows.push(("batches".to_owned(), grouped(self.batches)));
        rows.push(("seconds".to_owned(), format!("{:.3}", finite(self.seconds))));
        rows.push(("mails/s".to_owned(), format!("{:.0}", self.rate())));
        let left = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let right = rows.iter().map(|(_, n)| n.len()).max().unwrap_or(0);
        for (name, number) in rows {
            writeln!(f, "{name:<left$}  {number:>right$}")?;
        }
        Ok(())
    }
}

/// Zero for what neither JSON nor a reader can use.
fn finite(number: f64) -> f64 {
    if number.is_finite() { number.max(0.0) } else { 0.0 }
}

/// A number with a comma between groups of three digits.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && digits.len().saturating_sub(index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_exactly_the_promised_keys_in_order() {
        let mut figures = Figures { requeued: 3, batches: 2, seconds: 1.25, ..Figures::default() };
        figures.count(Outcome::Delivered);
        figures.count(Outcome::InDoubt);
        assert_eq!(
            figures.json(),
            "{\"taken\":2,\"delivered\":1,\"partial\":0,\"refused\":0,\"abandoned\":0,\
             \"dropped\":0,\"in_doubt\":1,\"unsent\":0,\"requeued\":3,\"batches\":2,\
             \"seconds\":1.250}"
        );
    }

    #[test]
    fn outcomes_add_up_to_taken() {
        let mut figures = Figures::default();
        for (times, outcome) in Outcome::ALL.into_iter().enumerate() {
            for _ in 0..=times {
                figures.count(outcome);
            }
            assert_eq!(figures.of(outcome), times as u64 + 1);
        }
        assert_eq!(figures.taken(), 28);
    }

    #[test]
    fn only_mail_that_was_all_delivered_is_success() {
        let mut figures = Figures::default();
        assert!(!figures.all_delivered());
        figures.count(Outcome::Delivered);
        assert!(figures.all_delivered());
        for outcome in Outcome::ALL.into_iter().skip(1) {
            let mut worse = figures;
            worse.count(outcome);
            assert!(!worse.all_delivered(), "{outcome:?}");
        }
    }

    #[test]
    fn json_stays_json_whatever_the_clock_says() {
        for seconds in [f64::NAN, f64::INFINITY, -1.0] {
            let figures = Figures { seconds, ..Figures::default() };
            assert!(figures.json().ends_with("\"seconds\":0.000}"));
        }
    }

    #[test]
    fn table_is_aligned() {
        let figures = Figures { delivered: 1_234_567, seconds: 10.0, ..Figures::default() };
        let table = figures.to_string();
        let widths: Vec<usize> = table.lines().map(str::len).collect();
        assert!(widths.windows(2).all(|pair| pair[0] == pair[1]), "{table}");
        assert!(table.contains("  in doubt"));
        assert!(table.contains("1,234,567"));
        assert!(table.ends_with("123457\n"), "{table}");
    }

    #[test]
    fn thousands_are_grouped() {
        let shown = [0, 999, 1000, 1_000_000].map(grouped);
        assert_eq!(shown, ["0", "999", "1,000", "1,000,000"]);
    }
}
