//! What truly became of each mail, as the servers saw it, and whether what was
//! reported agrees with it. It knows nothing of the crate's own books.

use smtp_bulk::{Cause, Message, MessageId, Outcome, RefusedBy, Reply, Report, Step};

use super::plan::MailPlan;

/// Where a mail is, as its sender knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    Waiting,
    Taken,
    Reported,
    Returned,
}

/// The sending of a content, begun with a 354.
#[derive(Debug)]
struct Sending {
    accepted: Vec<usize>,
    /// The client has written the final dot, whether or not it arrived.
    is_written: bool,
    is_stored: bool,
    /// What the server said, once the client has read it.
    answered: Option<u16>,
    serial: Option<usize>,
}

/// What was reported of a recipient.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Delivered { serial: Option<usize> },
    RefusedByServer { serial: Option<usize>, code: u16 },
    RefusedByClient,
    Abandoned { expired: bool },
    Dropped,
    InDoubt,
    Unsent,
}

#[derive(Debug)]
struct MailTruth {
    from: String,
    to: Vec<String>,
    expected: Option<Vec<u8>>,
    place: Place,
    sendings: Vec<Sending>,
    fates: Vec<Fate>,
    attempts: u32,
    drop_was_said: bool,
    can_expire: bool,
}

/// A reply that a server gave to something asked.
#[derive(Debug)]
pub struct Said {
    pub lane: usize,
    pub connection: u64,
    pub step: Step,
    pub mail: Option<usize>,
    pub recipient: Option<usize>,
    pub code: u16,
    sending: Option<usize>,
    is_read: bool,
    is_asked_about: bool,
}

/// Outcomes as the simulation counts them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    pub taken: u64,
    pub delivered: u64,
    pub partial: u64,
    pub refused: u64,
    pub abandoned: u64,
    pub dropped: u64,
    pub in_doubt: u64,
    pub unsent: u64,
}

#[derive(Debug)]
pub struct Truth {
    mails: Vec<MailTruth>,
    said: Vec<Said>,
    resends: bool,
    max_attempts: u32,
    pub counts: Counts,
    pub resets: u64,
    pub trace: bool,
}

impl Truth {
    pub fn new(mails: &[MailPlan], resends: bool, max_attempts: u32, trace: bool) -> Truth {
        let mails = mails
            .iter()
            .map(|mail| MailTruth {
                from: mail.from.clone(),
                to: mail.to.clone(),
                expected: mail.expected.clone(),
                place: Place::Waiting,
                sendings: Vec::new(),
                fates: Vec::new(),
                attempts: 0,
                drop_was_said: false,
                can_expire: mail.message.expiry().is_some(),
            })
            .collect();
        Truth { mails, said: Vec::new(), resends, max_attempts, counts: Counts::default(), resets: 0, trace }
    }

    pub fn note(&self, text: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{}", text());
        }
    }

    // ---- what servers see -------------------------------------------------

    /// The mail and the recipient that an address belongs to.
    pub fn recipient(&self, address: &str) -> (usize, usize) {
        let numbers =
            address.strip_prefix('r').and_then(|rest| rest.split_once('@')).and_then(|(numbers, _)| {
                let (mail, place) = numbers.split_once('.')?;
                Some((mail.parse::<usize>().ok()?, place.parse::<usize>().ok()?))
            });
        let (mail, place) = numbers.unwrap_or_else(|| panic!("RCPT for an unknown address {address:?}"));
        assert_eq!(self.mails[mail].to[place], address, "RCPT for another address");
        (mail, place)
    }

    pub fn sender(&self, mail: usize) -> &str {
        &self.mails[mail].from
    }

    pub fn place(&self, mail: usize) -> Place {
        self.mails[mail].place
    }

    /// Notes a reply and gives its serial number.
    pub fn say(&mut self, said: Said) -> usize {
        self.said.push(said);
        self.said.len() - 1
    }

    /// What an early reply was about is known only when the command is whole.
    pub fn belongs(
        &mut self,
        serial: usize,
        step: Step,
        mail: Option<usize>,
        recipient: Option<usize>,
    ) -> u16 {
        let said = &mut self.said[serial];
        (said.step, said.mail, said.recipient) = (step, mail, recipient);
        said.code
    }

    pub fn is_read(&self, serial: usize) -> bool {
        self.said[serial].is_read
    }

    pub fn begin_sending(&mut self, mail: usize, accepted: Vec<usize>) -> usize {
        let sendings = &mut self.mails[mail].sendings;
        sendings.push(Sending {
            accepted,
            is_written: false,
            is_stored: false,
            answered: None,
            serial: None,
        });
        sendings.len() - 1
    }

    pub fn dot_written(&mut self, mail: usize, sending: usize) {
        self.mails[mail].sendings[sending].is_written = true;
    }

    pub fn store(&mut self, mail: usize, sending: usize, content: &[u8]) {
        let mail = &mut self.mails[mail];
        let expected = mail.expected.as_ref().expect("a content that is never whole was stored");
        assert!(
            content == expected,
            "stored {:?}, not {:?}",
            String::from_utf8_lossy(content),
            String::from_utf8_lossy(expected)
        );
        mail.sendings[sending].is_stored = true;
    }

    // ---- what the client sees ---------------------------------------------

    /// The client has read a whole reply while it waited for it.
    pub fn read(&mut self, serial: usize) {
        let said = &mut self.said[serial];
        said.is_read = true;
        if let (Some(mail), Some(sending)) = (said.mail, said.sending) {
            let sending = &mut self.mails[mail].sendings[sending];
            sending.answered = Some(said.code);
            sending.serial = Some(serial);
        }
    }

    /// A callback was asked about a reply; that happens once.
    pub fn asked_about(&mut self, serial: usize, lane: usize, step: Step, mail: Option<usize>) {
        let said = &mut self.said[serial];
        assert!(said.is_read, "a callback is asked about reply #{serial}, which was not read");
        assert!(!said.is_asked_about, "a callback is asked twice about reply #{serial}");
        // A reply sent before its command had arrived belongs to no step yet.
        let steps_agree = said.step == step || said.step == Step::Idle;
        assert!(said.lane == lane && steps_agree, "a callback is told {step}: {said:?}");
        assert!(said.mail.is_none() || said.mail == mail, "a callback is told another mail");
        said.is_asked_about = true;
    }

    /// Every reply of the mail phase that was read has been judged by now.
    pub fn connection_gone(&self, lane: usize, connection: u64, first_serial: usize) {
        for (serial, said) in self.said.iter().enumerate().skip(first_serial) {
            let phase = matches!(said.step, Step::Mail | Step::Rcpt | Step::Data | Step::Content);
            if (said.lane, said.connection) == (lane, connection) && phase && said.is_read {
                assert!(said.is_asked_about, "no callback was asked about reply #{serial}: {said:?}");
            }
        }
    }

    pub fn serials(&self) -> usize {
        self.said.len()
    }

    // ---- what the sender is told ------------------------------------------

    pub fn taken(&mut self, mail: usize) {
        self.mails[mail].place = Place::Taken;
        self.counts.taken += 1;
    }

    pub fn drop_said(&mut self, mail: usize) {
        self.mails[mail].drop_was_said = true;
    }

    pub fn reported(&mut self, report: &Report<'_>) {
        let id = number(report.message.message_id());
        let mail = &mut self.mails[id];
        assert_eq!(mail.place, Place::Taken, "mail {id} is reported out of turn: {}", report.outcome);
        mail.place = Place::Reported;
        mail.attempts = report.attempts;
        mail.fates = report.recipients().map(|one| fate(&one.outcome)).collect();
        let paths: Vec<&str> = report.recipients().map(|one| one.path.as_str()).collect();
        assert_eq!(paths, mail.to, "the report's recipients are not the envelope's");
        *match report.outcome.name() {
            "delivered" => &mut self.counts.delivered,
            "partial" => &mut self.counts.partial,
            "refused" => &mut self.counts.refused,
            "abandoned" => &mut self.counts.abandoned,
            "dropped" => &mut self.counts.dropped,
            "in_doubt" => &mut self.counts.in_doubt,
            _ => &mut self.counts.unsent,
        } += 1;
        let names: Vec<&str> = report.recipients().map(|one| one.outcome.name()).collect();
        let alike = names.iter().all(|name| Some(name) == names.first());
        let expected = if alike { names.first().copied().unwrap_or_default() } else { "partial" };
        assert_eq!(report.outcome.name(), expected, "the mail's outcome is not its recipients': {names:?}");
        assert!(report.attempts <= self.max_attempts, "{} attempts", report.attempts);
    }

    pub fn returned(&mut self, message: &Message) {
        let id = number(message.message_id());
        let mail = &mut self.mails[id];
        assert_eq!(mail.place, Place::Taken, "mail {id} is returned out of turn");
        mail.place = Place::Returned;
        self.counts.unsent += 1;
        let paths: Vec<&str> = message.envelope().recipients().iter().map(|path| path.as_str()).collect();
        assert_eq!(paths, mail.to, "mail {id} is returned with other recipients");
    }

    // ---- the audit at the end ---------------------------------------------

    pub fn audit(&self, faultless: bool) {
        for (id, mail) in self.mails.iter().enumerate() {
            match mail.place {
                Place::Waiting => {}
                Place::Taken => panic!("mail {id} was taken and is neither reported nor returned"),
                Place::Returned => self.audit_untouched(id, mail),
                Place::Reported => {
                    (0..mail.to.len()).for_each(|place| self.audit_recipient(id, mail, place));
                }
            }
            if faultless && mail.place != Place::Waiting {
                let delivered = mail.fates.iter().all(|fate| matches!(fate, Fate::Delivered { .. }));
                assert!(delivered, "without faults mail {id} ended as {:?}", mail.fates);
                assert_eq!((mail.attempts, mail.sendings.len()), (1, 1), "mail {id} took several attempts");
            }
        }
        assert!(!faultless || self.resets == 0, "RSET without a failure");
    }

    fn audit_untouched(&self, id: usize, mail: &MailTruth) {
        let refused = |sending: &Sending| sending.answered.is_some_and(|code| code >= 400);
        let touched = mail.sendings.iter().any(|sending| sending.is_written && !refused(sending));
        assert!(!touched, "mail {id} is returned, and may have been stored: {mail:?}");
    }

    fn audit_recipient(&self, id: usize, mail: &MailTruth, place: usize) {
        let sendings = || mail.sendings.iter().filter(|sending| sending.accepted.contains(&place));
        let stored = sendings().filter(|sending| sending.is_stored).count();
        let accepted = |sending: &&Sending| sending.answered.is_some_and(|code| code / 100 == 2);
        let confirmed: Vec<&Sending> = sendings().filter(accepted).collect();
        let doubts = sendings().filter(|sending| sending.is_written && sending.answered.is_none()).count();
        let fate = mail.fates[place];
        let story = || format!("mail {id} recipient {place} is {fate:?}: {:?}", mail.sendings);

        assert!(confirmed.len() <= 1, "delivered twice: {}", story());
        assert!(
            confirmed.iter().all(|sending| sending.is_stored),
            "the simulation's servers lie: {}",
            story()
        );
        assert!(self.resends || stored <= 1, "stored twice: {}", story());
        assert!(
            self.resends || doubts + confirmed.len() <= 1,
            "sent again after it may have arrived: {}",
            story()
        );
        match fate {
            Fate::Delivered { serial } => {
                let own = confirmed.first().is_some_and(|sending| sending.serial == serial);
                assert!(own, "delivered without a reply that says so: {}", story());
            }
            Fate::InDoubt => {
                assert!(confirmed.is_empty() && doubts > 0, "no doubt is due: {}", story());
            }
            other => {
                assert!(stored == 0, "stored, and reported otherwise: {}", story());
                assert!(doubts == 0, "it may have been stored: {}", story());
                self.audit_undelivered(id, mail, place, other);
            }
        }
    }

    fn audit_undelivered(&self, id: usize, mail: &MailTruth, place: usize, fate: Fate) {
        match fate {
            Fate::RefusedByServer { serial: Some(serial), code } => {
                let said = &self.said[serial];
                assert_eq!(said.code, code, "refused with another reply's code");
                assert!(code >= 500, "mail {id} is refused for good by {code}");
                assert!(said.mail.is_none_or(|mail| mail == id), "refused by the reply to another mail");
                let other = said.recipient.is_some_and(|recipient| recipient != place);
                assert!(!other || said.step == Step::Rcpt, "refused by the reply to another recipient");
            }
            Fate::RefusedByServer { serial: None, code } => {
                panic!("mail {id} is refused by {code}, never said")
            }
            Fate::RefusedByClient => {
                let fit = mail.expected.is_some() && mail.to.iter().all(|to| to.is_ascii());
                assert!(!fit, "mail {id} is whole, and the client refuses it");
            }
            Fate::Abandoned { expired: true } => assert!(mail.can_expire, "mail {id} does not expire"),
            Fate::Abandoned { expired: false } => {
                let used_up = mail.attempts == self.max_attempts || mail.can_expire;
                assert!(used_up, "mail {id} is abandoned after {} attempts", mail.attempts);
            }
            Fate::Dropped => assert!(mail.drop_was_said, "mail {id} is dropped, and nobody said so"),
            Fate::Unsent | Fate::Delivered { .. } | Fate::InDoubt => {}
        }
    }

    /// Nothing has been lost; `summary` is the crate's own count.
    pub fn audit_counts(&self, summary: &smtp_bulk::Summary) {
        let mails = &summary.mails;
        let counted = Counts {
            taken: summary.taken,
            delivered: mails.delivered,
            partial: mails.partial,
            refused: mails.refused,
            abandoned: mails.abandoned,
            dropped: mails.dropped,
            in_doubt: mails.in_doubt,
            unsent: mails.unsent,
        };
        assert_eq!(counted, self.counts, "the summary's counts are wrong");
        assert_eq!(mails.total(), summary.taken, "the outcomes do not add up");
        let taken = self.mails.iter().filter(|mail| mail.place != Place::Waiting);
        let recipients: usize = taken.map(|mail| mail.to.len()).sum();
        assert_eq!(summary.recipients.total(), recipients as u64, "the recipients do not add up");
    }
}

impl Said {
    pub fn new(lane: usize, connection: u64, step: Step, code: u16) -> Said {
        Said {
            lane,
            connection,
            step,
            mail: None,
            recipient: None,
            code,
            sending: None,
            is_read: false,
            is_asked_about: false,
        }
    }

    pub fn about(self, mail: Option<usize>, recipient: Option<usize>, sending: Option<usize>) -> Said {
        Said { mail, recipient, sending, ..self }
    }
}

/// The caller's number of a message.
pub fn number(id: &MessageId) -> usize {
    match id {
        MessageId::Number(number) => *number as usize,
        other => panic!("a message came back as {other:?}"),
    }
}

/// The serial number that a reply's text bears.
pub fn serial(reply: Reply<'_>) -> Option<usize> {
    reply.lines().find_map(|line| {
        let at = line.iter().position(|octet| *octet == b'#')?;
        std::str::from_utf8(line.get(at + 1..)?).ok()?.parse().ok()
    })
}

fn fate(outcome: &Outcome<'_>) -> Fate {
    match outcome {
        Outcome::Delivered(reply) => Fate::Delivered { serial: serial(*reply) },
        Outcome::Refused(RefusedBy::Server(reply)) => {
            Fate::RefusedByServer { serial: serial(*reply), code: reply.code().as_u16() }
        }
        Outcome::Refused(_) => Fate::RefusedByClient,
        Outcome::Abandoned(cause) => Fate::Abandoned { expired: matches!(cause, Cause::Expired) },
        Outcome::Dropped => Fate::Dropped,
        Outcome::InDoubt(_) => Fate::InDoubt,
        Outcome::Unsent => Fate::Unsent,
        other => panic!("{other} is no recipient's outcome"),
    }
}
