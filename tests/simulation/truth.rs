//! What truly became of each mail, as the servers saw it, and whether what was
//! reported agrees with it. It knows nothing of the crate's own books.

use smtp_bulk::coordinator::BatchSettings;
use smtp_bulk::{Body, Cause, Message, MessageId, Outcome, Pipeline, RefusedBy, Reply, Report, Step};

use super::plan::MailPlan;

/// Where a mail is, as its sender knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    Waiting,
    Taken,
    Reported,
    Returned,
}

/// One transaction, with what the client has read of it and still believes, and
/// what the server made of it.
#[derive(Debug, Default)]
struct Transaction {
    lane: usize,
    connection: u64,
    /// On its connection, from 1.
    number: usize,
    from: String,
    mail: Option<usize>,
    mail_heard: Option<u16>,
    recipients: Vec<(usize, Option<u16>)>,
    has_content: bool,
    /// The client has written the content to its end, whether or not it arrived.
    is_written: bool,
    /// A lone dot was written in place of a content.
    is_lone: bool,
    /// What the content was answered, for all or for one, and by which reply.
    finals: Vec<(Option<usize>, u16, usize)>,
    /// The server has said before that it does no more of this.
    is_cut_short: bool,
    /// For whom the server has stored it.
    stored: Vec<usize>,
}

/// How a transaction ended for a recipient, as its client knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// It was not asked for, or has not got a whole content.
    Nothing,
    Refused,
    /// By the reply of this serial number.
    Confirmed(usize),
    Doubt,
}

impl Transaction {
    fn names(&self, place: usize) -> bool {
        self.recipients.iter().any(|(other, _)| *other == place)
    }

    fn stores(&self, place: usize) -> usize {
        self.stored.iter().filter(|other| **other == place).count()
    }

    fn end(&self, place: usize) -> End {
        let Some((_, heard)) = self.recipients.iter().find(|(other, _)| *other == place) else {
            return End::Nothing;
        };
        if !self.is_written {
            return End::Nothing;
        }
        let refused = |heard: &Option<u16>| heard.is_some_and(|code| code >= 400);
        let own = self.finals.iter().find(|(other, ..)| other.is_none_or(|other| other == place));
        let is_for_nobody = self.recipients.iter().all(|(_, heard)| refused(heard));
        match own {
            _ if refused(heard) => End::Refused,
            Some((_, code, serial)) if *code < 300 => End::Confirmed(*serial),
            Some(_) => End::Refused,
            None if refused(&self.mail_heard) || is_for_nobody || self.is_cut_short => End::Refused,
            None => End::Doubt,
        }
    }
}

/// What was reported of a recipient.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Delivered {
        serial: Option<usize>,
    },
    RefusedByServer {
        serial: Option<usize>,
        code: u16,
    },
    RefusedByClient,
    /// `put_off` by something that the server said.
    Abandoned {
        expired: bool,
        put_off: bool,
        /// Of the only host that it may go to no lane was left.
        no_lane: bool,
        /// By something that befell a connection.
        failed: bool,
    },
    Dropped,
    InDoubt,
    Unsent,
}

/// What was judged of a recipient of a mail.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    /// In which attempt it was refused for the time being, and which transaction.
    deferred: Option<(u32, usize)>,
    /// A callback dropped the mail at a refusal of this one.
    is_dropped: bool,
}

#[derive(Debug)]
struct MailTruth {
    from: String,
    to: Vec<String>,
    rounds: Vec<Round>,
    expected: Option<Vec<u8>>,
    place: Place,
    is_all_or_nothing: bool,
    is_raw: bool,
    transactions: Vec<usize>,
    fates: Vec<Fate>,
    attempts: u32,
    drop_was_said: bool,
    can_expire: bool,
    /// The only host that it may go to.
    bound_to: Option<u32>,
    /// The client was right to refuse it.
    is_unfit: bool,
}

/// A reply that a server gave to something asked.
#[derive(Debug)]
pub struct Said {
    pub lane: usize,
    pub step: Step,
    pub mail: Option<usize>,
    pub recipient: Option<usize>,
    pub code: u16,
    /// The content that it answers came by BDAT.
    pub is_chunk: bool,
    is_early: bool,
    is_read: bool,
    is_asked_about: bool,
    /// What was decided on it may give up its mail.
    gives_up: bool,
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

/// What a host has refused though it offers it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    Chunks,
    Parameters,
}

#[derive(Debug)]
pub struct Truth {
    mails: Vec<MailTruth>,
    refusals: Vec<(String, Refusal)>,
    /// What may be sent to a host at once, and since which settle that is known.
    levels: Vec<(String, u32, Pipeline)>,
    /// Hosts that do not know BDAT, and since which settle that is known.
    no_chunks: Vec<(String, u32)>,
    transactions: Vec<Transaction>,
    said: Vec<Said>,
    resends: bool,
    max_attempts: u32,
    /// What was put off waits, with a bound for how many do.
    delays: bool,
    /// Hosts whose lanes fail may rest.
    may_rest: bool,
    /// The host of each lane.
    hosts: Vec<u32>,
    pub counts: Counts,
    pub resets: u64,
    pub trace: bool,
}

impl Truth {
    pub fn new(mails: &[MailPlan], settings: &BatchSettings, trace: bool) -> Truth {
        let &BatchSettings { resend_in_doubt: resends, max_attempts, retry_delay, .. } = settings;
        let delays = !retry_delay.is_zero();
        let mails = mails
            .iter()
            .map(|mail| MailTruth {
                from: mail.from.clone(),
                to: mail.to.clone(),
                rounds: vec![Round::default(); mail.to.len()],
                expected: mail.expected.clone(),
                place: Place::Waiting,
                is_all_or_nothing: mail.message.is_all_or_nothing(),
                is_raw: mail.message.content().body_kind() == Some(Body::BinaryMime),
                transactions: Vec::new(),
                fates: Vec::new(),
                attempts: 0,
                drop_was_said: false,
                is_unfit: mail.expected.is_none(),
                can_expire: mail.message.expiry().is_some(),
                bound_to: mail.message.bound_to(),
            })
            .collect();
        Truth {
            mails,
            refusals: Vec::new(),
            levels: Vec::new(),
            no_chunks: Vec::new(),
            transactions: Vec::new(),
            said: Vec::new(),
            resends,
            max_attempts,
            delays,
            may_rest: false,
            hosts: Vec::new(),
            counts: Counts::default(),
            resets: 0,
            trace,
        }
    }

    /// The run's lanes are those of these hosts.
    pub fn has_lanes(&mut self, hosts: Vec<u32>, may_rest: bool) {
        (self.hosts, self.may_rest) = (hosts, may_rest);
    }

    pub fn note(&self, text: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{}", text());
        }
    }

    // ---- what servers see -------------------------------------------------

    /// The mail and the recipient that an address belongs to.
    pub fn recipient(&self, address: &str) -> (usize, usize) {
        let numbers = address.strip_prefix(['r', 'ü']).and_then(|rest| rest.split_once('@')).and_then(
            |(numbers, _)| {
                let (mail, place) = numbers.split_once('.')?;
                Some((mail.parse::<usize>().ok()?, place.parse::<usize>().ok()?))
            },
        );
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
        said.is_early = step == Step::Content;
        said.code
    }

    /// The server has it for these recipients, by the connection's transaction of
    /// this number.
    pub fn store(
        &mut self,
        (lane, connection, number): (usize, u64, usize),
        places: &[usize],
        content: &[u8],
    ) {
        let own = self
            .transactions
            .iter_mut()
            .rev()
            .find(|one| (one.lane, one.connection, one.number) == (lane, connection, number));
        let own = own.expect("a content that nobody has sent");
        let mail = &self.mails[own.mail.expect("a content of some mail")];
        let expected = mail.expected.as_ref().expect("a content that is never whole was stored");
        assert!(
            content == expected,
            "stored {:?}, not {:?}",
            String::from_utf8_lossy(content),
            String::from_utf8_lossy(expected)
        );
        own.stored.extend_from_slice(places);
    }

    // ---- what the client says ---------------------------------------------

    /// MAIL was written.
    pub fn begin(&mut self, lane: usize, connection: u64, from: &str) -> usize {
        let from = from.to_owned();
        let before =
            self.transactions.iter().rev().find(|one| (one.lane, one.connection) == (lane, connection));
        let number = 1 + before.map_or(0, |before| before.number);
        self.transactions.push(Transaction { lane, connection, number, from, ..Transaction::default() });
        self.transactions.len() - 1
    }

    /// RCPT was written.
    pub fn names(&mut self, id: usize, mail: usize, place: usize) {
        let transaction = &mut self.transactions[id];
        let own = &mut self.mails[mail];
        assert_eq!(transaction.from, own.from, "RCPT of another mail than MAIL");
        let host = self.hosts[transaction.lane];
        assert!(own.bound_to.is_none_or(|own| own == host), "mail {mail} is sent to host {host}");
        assert!(!own.rounds[place].is_dropped, "RCPT where a refusal has had the mail dropped");
        assert!(transaction.mail.is_none_or(|first| first == mail), "RCPT of two mails in a transaction");
        let last = transaction.recipients.last();
        assert!(last.is_none_or(|(last, _)| *last < place), "RCPT out of order");
        if transaction.mail.replace(mail).is_none() {
            own.transactions.push(id);
        }
        transaction.recipients.push((place, None));
    }

    pub fn mail_of(&self, id: usize) -> Option<usize> {
        self.transactions[id].mail
    }

    pub fn named(&self, id: usize) -> Vec<usize> {
        self.transactions[id].recipients.iter().map(|(place, _)| *place).collect()
    }

    pub fn domain(&self, mail: usize, place: usize) -> &str {
        self.mails[mail].to[place].split('@').nth(1).unwrap_or_default()
    }

    /// Whether the mail is for all or for none.
    pub fn is_all_or_nothing(&self, id: usize) -> bool {
        self.transactions[id].mail.is_some_and(|mail| self.mails[mail].is_all_or_nothing)
    }

    /// Whether the content is sent as it is.
    pub fn is_raw(&self, id: usize) -> bool {
        self.transactions[id].mail.is_some_and(|mail| self.mails[mail].is_raw)
    }

    /// Whether the client knows that a recipient was accepted.
    pub fn has_accepted(&self, id: usize) -> bool {
        !self.accepted(id).is_empty()
    }

    pub fn accepted(&self, id: usize) -> Vec<usize> {
        let recipients = self.transactions[id].recipients.iter();
        let accepted = recipients.filter(|(_, heard)| heard.is_some_and(|code| code < 300));
        accepted.map(|(place, _)| *place).collect()
    }

    /// Whether the content was refused for all.
    pub fn is_refused(&self, id: usize) -> bool {
        self.transactions[id].finals.iter().any(|(place, code, _)| place.is_none() && *code >= 400)
    }

    pub fn content_begins(&mut self, id: usize) {
        let transaction = &mut self.transactions[id];
        assert!(!transaction.has_content, "two contents in a transaction");
        transaction.has_content = true;
    }

    pub fn content_written(&mut self, id: usize) {
        self.transactions[id].is_written = true;
    }

    pub fn lone_dot(&mut self, id: usize) {
        self.transactions[id].is_lone = true;
    }

    /// Whether the reply is to a content that was sent by BDAT.
    pub fn is_chunk(&self, serial: usize) -> bool {
        self.said[serial].is_chunk
    }

    pub fn is_lone(&self, id: usize) -> bool {
        self.transactions[id].is_lone
    }

    // ---- what the client sees ---------------------------------------------

    /// The client has read a whole reply while it waited for it.
    pub fn read(&mut self, serial: usize, is_chunk: bool) {
        let said = &mut self.said[serial];
        (said.is_read, said.is_chunk) = (true, is_chunk);
    }

    /// A reply too many has made it worthless.
    pub fn unread(&mut self, serial: usize) {
        self.said[serial].is_read = false;
    }

    /// The most that may be sent at once to a host, in a flight that was put
    /// together in this settle.
    pub fn most(&self, host: &str, settle: u32) -> Pipeline {
        let known = self.levels.iter().filter(|(name, since, _)| name == host && *since < settle);
        known.map(|(.., level)| *level).min().unwrap_or(Pipeline::Full)
    }

    /// The host has answered what was put together in settle `composed` as it should
    /// not, and that was judged in settle `judged`; `is_full` when a content and
    /// an envelope went together.
    pub fn misstep(&mut self, host: &str, level: Pipeline, is_full: bool, composed: u32, judged: u32) {
        let most = match level.min(self.most(host, composed)) {
            Pipeline::Full => Pipeline::Envelope,
            _ if is_full => Pipeline::Envelope,
            _ => Pipeline::Single,
        };
        self.levels.push((host.to_owned(), judged, most));
    }

    pub fn takes_chunks(&self, host: &str, settle: u32) -> bool {
        !self.no_chunks.iter().any(|(name, since)| name == host && *since < settle)
    }

    pub fn knows_no_chunks(&mut self, host: &str, judged: u32) {
        self.no_chunks.push((host.to_owned(), judged));
    }

    pub fn has_refused(&self, host: &str, what: Refusal) -> bool {
        self.refusals.iter().any(|(name, refusal)| name == host && *refusal == what)
    }

    pub fn refuses(&mut self, host: &str, what: Refusal) {
        if !self.has_refused(host, what) {
            self.refusals.push((host.to_owned(), what));
        }
    }

    pub fn code(&self, serial: usize) -> u16 {
        self.said[serial].code
    }

    pub fn mail_heard(&mut self, id: usize, code: Option<u16>) {
        self.transactions[id].mail_heard = code;
    }

    pub fn rcpt_heard(&mut self, id: usize, place: Option<usize>, code: Option<u16>) {
        let mut recipients = self.transactions[id].recipients.iter_mut();
        if let Some((_, heard)) = recipients.find(|(other, _)| Some(*other) == place) {
            *heard = code;
        }
    }

    pub fn content_heard(&mut self, id: usize, place: Option<usize>, code: u16, serial: usize) {
        self.transactions[id].finals.push((place, code, serial));
    }

    pub fn content_unheard(&mut self, id: usize, serial: usize) {
        self.transactions[id].finals.retain(|(_, _, other)| *other != serial);
    }

    /// The last reply came before the content that it is about was there: to a
    /// client that has not sent all of it, it is about all recipients.
    pub fn said_early(&mut self) {
        self.said.iter_mut().next_back().into_iter().for_each(|said| said.is_early = true);
    }

    pub fn cut_short(&mut self, id: usize) {
        self.transactions[id].is_cut_short = true;
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

    /// A recipient was refused: `for_now` when that is no fault of its own, or not
    /// for good, and `is_dropped` when a callback said so.
    pub fn refused(&mut self, mail: usize, path: &str, attempt: u32, for_now: bool, is_dropped: bool) {
        let own = &mut self.mails[mail];
        let place = own.to.iter().position(|to| to == path).expect("a recipient of the mail's");
        let (round, last) = (&mut own.rounds[place], own.transactions.last().copied());
        round.is_dropped |= is_dropped;
        if let Some(id) = last.filter(|_| for_now && !is_dropped) {
            round.deferred = Some((attempt, id));
        }
    }

    /// A callback was told of this recipient, who was asked for in the transaction.
    pub fn check_told(&self, mail: usize, path: &str) {
        let own = &self.mails[mail];
        let named = own.transactions.last().map(|id| self.named(*id)).unwrap_or_default();
        let is_named = named.iter().any(|place| own.to[*place] == path);
        assert!(is_named, "a callback is told of {path}, who was not asked for");
    }

    /// Something was judged of this attempt at the mail: who was refused for the time
    /// being in it has to wait for the next one.
    pub fn check_round(&self, mail: usize, attempt: u32) {
        let own = &self.mails[mail];
        let Some(last) = own.transactions.last() else { return };
        for place in self.named(*last) {
            let is_again = own.rounds[place].deferred.is_some_and(|(at, id)| at == attempt && id != *last);
            assert!(!is_again, "mail {mail} recipient {place} is asked for again in attempt {attempt}");
        }
    }

    pub fn is_asked_about(&self, serial: usize) -> bool {
        self.said[serial].is_asked_about
    }

    /// What was decided on this reply may give up its mail.
    pub fn gave_up(&mut self, serial: usize) {
        self.said[serial].gives_up = true;
    }

    pub fn gives_up(&self, serial: usize) -> bool {
        self.said[serial].gives_up
    }

    pub fn serials(&self) -> usize {
        self.said.len()
    }

    // ---- what the sender is told ------------------------------------------

    pub fn taken(&mut self, mail: usize) {
        self.mails[mail].place = Place::Taken;
        self.counts.taken += 1;
    }

    /// The client refuses it for a good reason.
    pub fn unfit(&mut self, mail: usize) {
        self.mails[mail].is_unfit = true;
    }

    /// Whether the client has refused any mail for a good reason.
    pub fn has_unfit(&self) -> bool {
        self.mails.iter().any(|mail| mail.is_unfit)
    }

    /// Whether there are mails to more recipients than a flight may have room for.
    pub fn has_crowd(&self) -> bool {
        self.mails.iter().any(|mail| mail.to.len() > 50)
    }

    /// Any mail may be dropped.
    pub fn drop_said_of_all(&mut self) {
        self.mails.iter_mut().for_each(|mail| mail.drop_was_said = true);
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
                if mail.is_unfit {
                    assert!(mail.transactions.is_empty(), "mail {id} was unfit, and was sent");
                    continue;
                }
                let delivered = mail.fates.iter().all(|fate| matches!(fate, Fate::Delivered { .. }));
                assert!(delivered, "without faults mail {id} ended as {:?}", mail.fates);
                assert_eq!(mail.attempts, 1, "mail {id} took several attempts");
                let asked = |place| self.of(mail).filter(move |one| one.names(place)).count();
                let is_once = (0..mail.to.len()).all(|place| asked(place) == 1);
                assert!(is_once, "without faults a recipient of mail {id} was asked for several times");
            }
        }
        assert!(!faultless || self.resets == 0, "RSET without a failure");
    }

    fn of<'a>(&'a self, mail: &'a MailTruth) -> impl Iterator<Item = &'a Transaction> {
        mail.transactions.iter().map(|id| &self.transactions[*id])
    }

    fn audit_untouched(&self, id: usize, mail: &MailTruth) {
        let is_touched =
            |place: usize| self.of(mail).any(|one| matches!(one.end(place), End::Confirmed(_) | End::Doubt));
        let touched = (0..mail.to.len()).any(is_touched);
        assert!(!touched, "mail {id} is returned, and may have been stored: {mail:?}");
    }

    fn audit_recipient(&self, id: usize, mail: &MailTruth, place: usize) {
        let stored: usize = self.of(mail).map(|one| one.stores(place)).sum();
        let ends = || self.of(mail).map(|one| (one, one.end(place)));
        let confirmed: Vec<(&Transaction, usize)> = ends()
            .filter_map(|(one, end)| match end {
                End::Confirmed(serial) => Some((one, serial)),
                _ => None,
            })
            .collect();
        let doubts = ends().filter(|(_, end)| *end == End::Doubt).count();
        let fate = mail.fates[place];
        let is_kept = mail.rounds[place].is_dropped && !self.resends;
        assert!(
            !is_kept || fate == Fate::Dropped,
            "mail {id} recipient {place} was dropped, and is {fate:?}"
        );
        let story = || {
            let all: Vec<&Transaction> = self.of(mail).collect();
            format!("mail {id} recipient {place} is {fate:?}: {all:?}")
        };

        assert!(confirmed.len() <= 1, "delivered twice: {}", story());
        assert!(
            confirmed.iter().all(|(one, _)| one.stores(place) > 0),
            "the simulation's servers lie: {}",
            story()
        );
        let lies =
            ends().any(|(one, end)| matches!(end, End::Refused | End::Nothing) && one.stores(place) > 0);
        assert!(!lies, "the simulation's servers store what they refuse: {}", story());
        assert!(self.resends || stored <= 1, "stored twice: {}", story());
        assert!(
            self.resends || doubts + confirmed.len() <= 1,
            "sent again after it may have arrived: {}",
            story()
        );
        match fate {
            Fate::Delivered { serial } => {
                let own = confirmed.first().is_some_and(|(_, own)| Some(*own) == serial);
                assert!(own, "delivered without a reply that says so: {}", story());
            }
            Fate::InDoubt => {
                assert!(confirmed.is_empty() && doubts > 0, "no doubt is due: {}", story());
            }
            other => {
                assert!(confirmed.is_empty(), "delivered, and reported otherwise: {}", story());
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
                let step = if said.is_chunk { Step::Data } else { said.step };
                let is_mails = !super::attempts::blames_session(step, code);
                assert!(is_mails, "mail {id} is refused for {said:?}");
                assert!(said.mail.is_none_or(|mail| mail == id), "refused by the reply to another mail");
                let other = said.recipient.is_some_and(|recipient| recipient != place);
                assert!(
                    !other || said.is_early || said.step == Step::Rcpt,
                    "mail {id}, recipient {place} is refused by the reply to another: {said:?}"
                );
            }
            Fate::RefusedByServer { serial: None, code } => {
                panic!("mail {id} is refused by {code}, never said")
            }
            Fate::RefusedByClient => {
                assert!(mail.is_unfit, "mail {id} is whole, and the client refuses it");
            }
            Fate::Abandoned { expired: true, .. } => assert!(mail.can_expire, "mail {id} does not expire"),
            Fate::Abandoned { no_lane: true, .. } => {
                assert!(mail.bound_to.is_some(), "mail {id} may go to any host");
            }
            Fate::Abandoned { put_off, failed, .. } => {
                // Of those that wait to be tried again, or for a host that rests, there may
                // be too many, or no more time. A recipient that was put off keeps that for
                // its cause when its host has no lane any more.
                let has_rested = failed && self.may_rest;
                let is_too_many = self.delays && put_off;
                let is_left = mail.bound_to.is_some() && (has_rested || put_off);
                let used_up = mail.attempts == self.max_attempts || mail.can_expire || is_too_many || is_left;
                assert!(used_up, "mail {id} is abandoned after {} attempts", mail.attempts);
            }
            Fate::Dropped => assert!(mail.drop_was_said, "mail {id} is dropped, and nobody said so"),
            Fate::Unsent | Fate::Delivered { .. } | Fate::InDoubt => {}
        }
    }

    /// Transactions that mails needed beyond their first.
    pub fn further_transactions(&self) -> u64 {
        let mails = self.mails.iter().filter(|mail| mail.place == Place::Reported);
        mails.map(|mail| mail.transactions.len().saturating_sub(1) as u64).sum()
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
    pub fn new(lane: usize, step: Step, code: u16) -> Said {
        Said {
            lane,
            step,
            mail: None,
            recipient: None,
            code,
            is_chunk: false,
            is_early: false,
            is_read: false,
            is_asked_about: false,
            gives_up: false,
        }
    }

    pub fn about(self, mail: Option<usize>, recipient: Option<usize>) -> Said {
        Said { mail, recipient, ..self }
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
        Outcome::Abandoned(cause) => Fate::Abandoned {
            expired: matches!(cause, Cause::Expired),
            put_off: matches!(cause, Cause::Reply(_) | Cause::TooManyRecipients(_)),
            no_lane: matches!(cause, Cause::NoLane),
            failed: matches!(cause, Cause::Failure(_)),
        },
        Outcome::Dropped => Fate::Dropped,
        Outcome::InDoubt(_) => Fate::InDoubt,
        Outcome::Unsent => Fate::Unsent,
        other => panic!("{other} is no recipient's outcome"),
    }
}
