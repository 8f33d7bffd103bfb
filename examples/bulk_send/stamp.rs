//! The Date and Message-ID that mails get when their file has none.
//! They must never tell anything about the sender's machine: no host name, user, process or zone.

use crate::template::Template;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use jiff::tz::TimeZone;
use std::hash::{BuildHasher, RandomState};

/// Stands behind the `@` when the sender's address has no domain that can.
const NO_DOMAIN: &str = "bulk.invalid";

/// Makes the header lines of one run; no two calls give the same Message-ID.
#[derive(Debug)]
pub struct Stamps {
    run: String,
    domain: String,
    mails: u64,
    second: Option<i64>,
    date: String,
}

impl Stamps {
    /// For mails from this address; empty for the null reverse-path.
    pub fn new(from: &str) -> Self {
        let domain = from.rsplit_once('@').map_or("", |(_, domain)| domain);
        // RFC 5322 §3.6.4: ASCII only; a domain in UTF-8 would make the mail need SMTPUTF8.
        let usable = !domain.is_empty() && domain.bytes().all(|b| b.is_ascii_graphic());
        Self {
            run: format!("{:016x}{:016x}", random(), random()),
            domain: if usable { domain } else { NO_DOMAIN }.to_owned(),
            mails: 0,
            second: None,
            date: String::new(),
        }
    }

    /// The lines that a mail of this template lacks, sent now; empty when it has both.
    pub fn stamp(&mut self, template: &Template, now: Timestamp) -> String {
        self.mails = self.mails.saturating_add(1);
        let mut lines = String::new();
        if template.lacks_date() {
            self.tell_date(now);
            lines.push_str(&format!("Date: {}\r\n", self.date));
        }
        if template.lacks_message_id() {
            let (run, mails, domain) = (&self.run, self.mails, &self.domain);
            lines.push_str(&format!("Message-ID: <{run}.{mails}@{domain}>\r\n"));
        }
        lines
    }

    /// Writes the date anew only when the second has changed.
    fn tell_date(&mut self, now: Timestamp) {
        let second = now.as_second();
        if self.second == Some(second) {
            return;
        }
        let zoned = now.to_zoned_datetime(TimeZone::UTC);
        // Fails for years before 0 only; RFC 5322 §3.3 has no way to write those.
        let text = DateTimePrinter::new().zoned_datetime_to_string(&zoned);
        self.date = text.unwrap_or_else(|_| "Thu, 1 Jan 1970 00:00:00 +0000".to_owned());
        self.second = Some(second);
    }
}

/// 64 bits from the operating system's randomness, which keys every `RandomState`.
fn random() -> u64 {
    RandomState::new().hash_one(0_u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipients::Header;
    use std::collections::HashSet;

    fn sample() -> Template {
        let header = Header::new(vec!["email".to_owned()]).unwrap();
        Template::sample("s@x.example", &header, 100)
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn date_is_rfc_5322_in_utc_and_moves_on() {
        let mut stamps = Stamps::new("s@x.example");
        let first = stamps.stamp(&sample(), at(0));
        assert!(first.starts_with("Date: Thu, 1 Jan 1970 00:00:00 +0000\r\nMessage-ID: <"));
        let later = stamps.stamp(&sample(), at(1_700_000_000));
        assert!(later.starts_with("Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n"));
    }

    #[test]
    fn message_ids_are_unique_within_and_between_runs() {
        let mut seen = HashSet::new();
        for _ in 0..10 {
            let mut stamps = Stamps::new("s@x.example");
            for _ in 0..100 {
                assert!(seen.insert(stamps.stamp(&sample(), at(0))));
            }
        }
    }

    #[test]
    fn message_id_ends_with_the_senders_domain_or_with_none_at_all() {
        for (from, domain) in [
            ("s@x.example", "@x.example>\r\n"),
            ("\"a@b\"@[192.0.2.1]", "@[192.0.2.1]>\r\n"),
            ("", "@bulk.invalid>\r\n"),
            ("s@bücher.example", "@bulk.invalid>\r\n"),
        ] {
            assert!(Stamps::new(from).stamp(&sample(), at(0)).ends_with(domain), "{from}");
        }
    }
}
