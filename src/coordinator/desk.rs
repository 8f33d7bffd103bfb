//! Where mails lie that no lane holds, and the books that are kept of all:
//! the backlog, the ledger, the counters, and what becomes of a mail whose
//! attempt is over. It never touches a session.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backlog::Backlog;
use super::delayed::Delayed;
use super::gate::Gate;
use super::health::{Failed, Health};
use super::lane::Part;
use super::mail::{Mail, Scope};
use super::manners::{Lesson, Manners};
use crate::event::{Handler, Verdict};
use crate::failure::Failure;
use crate::health::HostNews;
use crate::host::{HostSettings, LaneId};
use crate::limits::Rate;
use crate::message::Message;
use crate::outcome::{Cause, Ending, Endings, Outcome, Report};
use crate::pace::Pace;
use crate::session::Step;
use crate::summary::{HostSummary, Summary};

/// How an attempt ended.
pub(super) enum Fate<'a> {
    /// With this outcome for the recipients in scope; others go on.
    Settled { outcome: Outcome<'a>, scope: Scope },
    /// The whole content is out and unanswered.
    InDoubt(&'a Failure),
    /// Each recipient's own state says it.
    EachItsOwn,
    /// It is to be tried again; `counted` when it uses up an attempt.
    Again { cause: Cause, counted: bool },
}

/// Settings of the batch layer that belong to no host.
#[derive(Clone, Debug)]
pub struct BatchSettings {
    /// Attempts that a message has. Default: 3.
    pub max_attempts: u32,
    /// Restarts by callbacks with no mail finished between. Default: 3.
    pub max_restarts: u32,
    /// Whether a message in doubt is sent again. Default: no.
    pub resend_in_doubt: bool,
    /// How long a mail waits that a server has put off, before it is tried again.
    /// Default: not at all.
    pub retry_delay: Duration,
    /// How many mails may wait for that. Default: as many as all lanes may hold.
    pub max_delayed: Option<usize>,
    /// After how long without an octet on any lane all that wait are opened anew.
    /// Default: never.
    pub global_timeout: Option<Duration>,
    /// After how long a short batch runs by itself. Default: never.
    pub linger: Option<Duration>,
    /// How many mails are begun in a time, over all hosts. Default: no limit.
    pub total_rate: Option<Rate>,
    /// How many octets are sent in a time, over all hosts. Default: no limit.
    pub total_byte_rate: Option<Rate>,
    /// How many connections stand at the same time. Default: as many as there are lanes.
    pub total_sessions: Option<usize>,
    /// Who waits for whom. Default: all for all.
    pub pace: Pace,
    /// Seeds the jitter of back-off.
    pub seed: u64,
}

impl Default for BatchSettings {
    fn default() -> BatchSettings {
        BatchSettings {
            max_attempts: 3,
            max_restarts: 3,
            resend_in_doubt: false,
            retry_delay: Duration::ZERO,
            max_delayed: None,
            global_timeout: None,
            linger: None,
            total_rate: None,
            total_byte_rate: None,
            total_sessions: None,
            pace: Pace::default(),
            seed: 0,
        }
    }
}

/// How many mails there is room for where lanes hold so many: where these take the next
/// mail by themselves, there are some to be taken.
fn capacity(held: usize, pace: Pace) -> usize {
    held + if pace.is_free() { held.div_ceil(4) } else { 0 }
}

/// What is left of a mail when it leaves with a report.
struct Parting {
    message: Message,
    attempts: u32,
    step: Option<Step>,
    lane: Option<LaneId>,
}

impl From<Mail> for Parting {
    fn from(mail: Mail) -> Parting {
        let Mail { message, attempts, last_step: step, last_lane: lane, .. } = mail;
        Parting { message, attempts, step, lane }
    }
}

/// The sums that have to agree at every settle.
#[derive(Debug, Default)]
struct Ledger {
    taken: u64,
    reported: u64,
    returned: u64,
}

#[derive(Debug)]
pub(super) struct Desk {
    pub(super) settings: BatchSettings,
    pub(super) random: fastrand::Rng,
    /// The time of the settle that is made.
    pub(super) now: Instant,
    pub(super) backlog: Backlog,
    pub(super) delayed: Delayed,
    /// How many mails may be held, those that are bound to a host and wait for it excepted.
    capacity: usize,
    /// How many mails the lanes of each host may hold.
    held: Vec<usize>,
    /// The host of the last one that was taken, where that was one too many.
    door: Option<usize>,
    ledger: Ledger,
    /// The hosts' names.
    pub(super) hosts: Vec<String>,
    /// One for each host.
    pub(super) gates: Vec<Gate>,
    /// What has been learnt about each host.
    pub(super) manners: Vec<Manners>,
    /// What of that has not been told yet: a few for each host at the most.
    pub(super) lessons: Vec<(u32, Lesson)>,
    /// How strong each host is.
    pub(super) health: Vec<Health>,
    /// How many hosts are given less than their lanes could take.
    pub(super) troubled: usize,
    /// What has changed about that in this settle.
    pub(super) news: Vec<(u32, HostNews)>,
    /// Lanes that have failed in this settle.
    pub(super) failures: Vec<Failed>,
    pub(super) summary: Summary,
    /// A batch is between its deal and its end.
    pub(super) batch_running: bool,
    pub(super) restart_now: bool,
    pub(super) restart_at_batch_end: bool,
    /// Restarts by callbacks since a mail was finished last.
    restarts: u32,
    /// Mails that were finished, modulo 2^32.
    finished: u32,
    /// What was said of the last standstill.
    pub(super) said_of_standstill: Verdict,
    /// Since when a batch that is too short has waited.
    pub(super) waiting_since: Option<Instant>,
    /// What a callback panicked with; it goes on when all is settled.
    pub(super) panic: Option<Box<dyn Any + Send>>,
}

impl Desk {
    pub(super) fn new(settings: BatchSettings, hosts: &[Arc<HostSettings>], now: Instant) -> Desk {
        let names = hosts.iter().map(|host| host.name.clone()).collect();
        let named =
            |host: &Arc<HostSettings>| HostSummary { name: host.name.clone(), ..HostSummary::default() };
        let summary = Summary { hosts: hosts.iter().map(named).collect(), ..Summary::default() };
        let held: Vec<usize> = hosts.iter().map(|host| host.threads as usize * host.most_held()).collect();
        let capacity = capacity(held.iter().sum(), settings.pace);
        Desk {
            random: fastrand::Rng::with_seed(settings.seed),
            now,
            delayed: Delayed::new(settings.max_delayed.unwrap_or(capacity)),
            settings,
            backlog: Backlog::new(capacity, hosts.len()),
            capacity,
            held,
            door: None,
            ledger: Ledger::default(),
            hosts: names,
            manners: hosts.iter().map(|host| Manners::new(host.pipeline)).collect(),
            lessons: Vec::new(),
            health: hosts.iter().map(Health::new).collect(),
            troubled: 0,
            news: Vec::new(),
            failures: Vec::new(),
            gates: hosts.iter().map(|host| Gate::new(host.credentials.clone())).collect(),
            summary,
            batch_running: false,
            restart_now: false,
            restart_at_batch_end: false,
            restarts: 0,
            finished: 0,
            said_of_standstill: Verdict::DEFAULT,
            waiting_since: None,
            panic: None,
        }
    }

    /// Messages that have been taken and whose fate is not final.
    pub(super) fn open(&self) -> u64 {
        self.ledger.taken - self.ledger.reported - self.ledger.returned
    }

    /// Whether another message can be taken, whatever its host is.
    pub(super) fn has_room(&self) -> bool {
        let besides = self.delayed.len() + self.backlog.bound();
        let is_door_free = self.door.is_none_or(|host| self.backlog.of(host) <= self.capacity_of(host));
        is_door_free && self.open() < (self.capacity + besides) as u64
    }

    /// Whether there is room for this one where it has to wait.
    pub(super) fn has_room_for(&self, message: &Message) -> bool {
        match message.bound_to() {
            Some(host) => !self.is_full(host as usize),
            None => self.has_room(),
        }
    }

    /// Whether as many mails wait for this host, and may go to no other, as it may have.
    pub(super) fn is_full(&self, host: usize) -> bool {
        self.backlog.of(host) >= self.capacity_of(host)
    }

    /// The host has another number of lanes.
    pub(super) fn make_room(&mut self, host: usize, settings: &HostSettings, threads: u32) {
        if let Some(held) = self.held.get_mut(host) {
            *held = threads as usize * settings.most_held();
        }
        self.capacity = capacity(self.held.iter().sum(), self.settings.pace);
        if self.settings.max_delayed.is_none() {
            self.delayed.set_most(self.capacity);
        }
    }

    fn capacity_of(&self, host: usize) -> usize {
        // What is for no host does not stay.
        self.held.get(host).map_or(usize::MAX, |held| capacity(*held, self.settings.pace))
    }

    pub(super) fn take(&mut self, message: Message, now: Instant) {
        self.ledger.taken += 1;
        self.summary.taken += 1;
        let host = message.bound_to().map(|host| host as usize);
        self.backlog.put(message);
        if let Some(host) = host.filter(|host| self.backlog.of(*host) > self.capacity_of(*host)) {
            self.door = Some(host);
        }
        self.waiting_since.get_or_insert(now);
    }

    /// Every message that was taken is reported, returned, in the backlog, or
    /// among the `held` of the lanes. Checked in release builds too.
    pub(super) fn assert_ledger(&self, held: usize) {
        let kept = (self.backlog.len() + self.delayed.len() + held) as u64;
        let Ledger { taken, reported, returned } = self.ledger;
        assert!(
            taken == reported + returned + kept,
            "ledger: {taken} taken, {reported} reported, {returned} returned, {kept} kept"
        );
    }

    /// Calls a callback. A panic waits until nothing is half done.
    pub(super) fn guard<T>(&mut self, call: impl FnOnce() -> T) -> Option<T> {
        guarded(&mut self.panic, call)
    }

    /// Passes on what a callback panicked with.
    pub(super) fn go_on_panicking(&mut self) {
        if let Some(payload) = self.panic.take() {
            resume_unwind(payload);
        }
    }

    // ---- authentication ---------------------------------------------------

    /// The lane's host's gate.
    pub(super) fn gate(&mut self, lane: LaneId) -> Option<&mut Gate> {
        self.gates.get_mut(lane.host as usize)
    }

    /// Whether the lane has to authenticate before it is of use.
    pub(super) fn must_authenticate(&self, lane: LaneId) -> bool {
        self.gates.get(lane.host as usize).is_some_and(|gate| gate.credentials().is_some())
    }

    // ---- dealing ----------------------------------------------------------

    /// The part that a lane takes which is dealt a mail.
    pub(super) fn part(&self) -> Part {
        if self.settings.pace.is_free() { Part::Alone } else { Part::Batch }
    }

    /// A deal has been made, or a mail begun.
    pub(super) fn batch_begins(&mut self) {
        self.batch_running = !self.settings.pace.is_free();
    }

    /// Gives the mail, unless it has expired.
    pub(super) fn unless_expired(
        &mut self,
        mail: Mail,
        now: Instant,
        handler: &mut (impl Handler + ?Sized),
    ) -> Option<Mail> {
        if !mail.message.has_expired(now) {
            return Some(mail);
        }
        self.abandon(mail, &Cause::Expired, handler);
        None
    }

    /// The first that no lane has held, may go to this host, and has not expired.
    pub(super) fn next_fresh_for(
        &mut self,
        host: usize,
        now: Instant,
        handler: &mut (impl Handler + ?Sized),
    ) -> Option<Mail> {
        loop {
            let mail = Mail::new(self.backlog.next_fresh_for(host)?);
            if let Some(mail) = self.unless_expired(mail, now, handler) {
                return Some(mail);
            }
        }
    }

    /// A restart by a callback, unless there were too many.
    pub(super) fn may_restart(&self) -> bool {
        self.restarts < self.settings.max_restarts
    }

    /// A callback wants one: at once, or when no lane of the batch, and no straggler,
    /// holds a mail any more.
    pub(super) fn ask_for_restart(&mut self, at_once: bool) {
        self.restart_now |= at_once;
        self.restart_at_batch_end |= !at_once;
    }

    pub(super) fn count_restart(&mut self) {
        self.restarts += 1;
    }

    // ---- what becomes of a mail -------------------------------------------

    /// Ends an attempt. Says whether the mail is finished, which is when it
    /// was delivered or refused: the sign that the lane is of use.
    pub(super) fn conclude(
        &mut self,
        mut mail: Mail,
        fate: Fate<'_>,
        handler: &mut (impl Handler + ?Sized),
    ) -> bool {
        match fate {
            Fate::Again { cause, counted } => {
                let is_shortage = matches!(&cause, Cause::Content(_));
                let counted = counted || mail.is_deferred() || mail.charge(self.finished, is_shortage);
                self.again(mail, &cause, counted, handler)
            }
            Fate::InDoubt(failure) if self.settings.resend_in_doubt => {
                mail.doubt(failure);
                self.again(mail, &Cause::Failure(failure.clone()), true, handler)
            }
            Fate::InDoubt(failure) => {
                let (outcome, scope) = (Outcome::InDoubt(failure), Scope::Reached);
                self.conclude(mail, Fate::Settled { outcome, scope }, handler)
            }
            Fate::Settled { outcome, scope }
                if mail.is_whole(scope) && (outcome.is_delivered() || !mail.is_doubted()) =>
            {
                mail.attempts += 1;
                self.report(mail.into(), outcome, Endings::Same, handler)
            }
            Fate::Settled { outcome, scope } => {
                if let Some(ending) = Ending::from_outcome(outcome) {
                    mail.end(scope, &ending);
                }
                self.go_on(mail, handler)
            }
            Fate::EachItsOwn => self.go_on(mail, handler),
        }
    }

    /// Puts a mail back that has not been begun, or was not to blame.
    pub(super) fn put_back(&mut self, mail: Mail) {
        self.count_requeue(mail.last_lane);
        self.keep(mail);
    }

    /// Takes a mail from a lane into the backlog.
    pub(super) fn keep(&mut self, mail: Mail) {
        self.backlog.put_first(mail);
    }

    /// Gives up everything in the backlog: those of which nothing is final are
    /// returned, the others reported. Where a report panics the former stay.
    pub(super) fn surrender(&mut self, handler: &mut (impl Handler + ?Sized)) -> Vec<Message> {
        self.waiting_since = None;
        let mut untouched = Vec::new();
        while let Some(mail) = self.next_of_all() {
            if mail.is_untouched() {
                untouched.push(mail);
            } else {
                self.report_each(mail, handler);
            }
        }
        if self.panic.is_some() {
            untouched.into_iter().for_each(|mail| self.keep(mail));
            return Vec::new();
        }
        untouched.into_iter().map(|mail| self.give_back(mail)).collect()
    }

    fn next_of_all(&mut self) -> Option<Mail> {
        let retry = self.backlog.next_retry(None).or_else(|| self.delayed.pop());
        retry.or_else(|| self.backlog.pop())
    }

    fn give_back(&mut self, mail: Mail) -> Message {
        self.ledger.returned += 1;
        self.count(mail.last_lane, &Outcome::Unsent, 1);
        let recipients = mail.message.envelope().recipients().len() as u64;
        self.summary.recipients.count(&Outcome::Unsent, recipients);
        mail.message
    }

    /// The same, but nothing is returned: all are reported.
    pub(super) fn report_unsent(&mut self, handler: &mut (impl Handler + ?Sized)) {
        self.waiting_since = None;
        while let Some(mail) = self.next_of_all() {
            self.report_each(mail, handler);
        }
    }

    fn go_on(&mut self, mut mail: Mail, handler: &mut (impl Handler + ?Sized)) -> bool {
        if !mail.has_open() {
            mail.attempts += 1;
            return self.report_each(mail, handler);
        }
        let counted = mail.is_deferred() || (mail.has_blameless() && mail.charge(self.finished, false));
        // Each open recipient has a cause of its own; this one is for none.
        self.again(mail, &Cause::Expired, counted, handler)
    }

    fn again(
        &mut self,
        mut mail: Mail,
        cause: &Cause,
        counted: bool,
        handler: &mut (impl Handler + ?Sized),
    ) -> bool {
        if !mail.has_open() {
            return self.go_on(mail, handler);
        }
        mail.attempts += u32::from(counted);
        if mail.attempts >= self.settings.max_attempts {
            return self.abandon(mail, cause, handler);
        }
        let is_put_off = matches!(cause, Cause::Reply(_)) || mail.is_deferred();
        if counted && is_put_off && !self.settings.retry_delay.is_zero() {
            return self.put_off(mail, cause, handler);
        }
        if counted {
            mail.begin_round();
        }
        self.put_back(mail);
        false
    }

    pub(super) fn abandon(
        &mut self,
        mut mail: Mail,
        cause: &Cause,
        handler: &mut (impl Handler + ?Sized),
    ) -> bool {
        mail.abandon(cause);
        self.report_each(mail, handler)
    }

    fn report_each(&mut self, mail: Mail, handler: &mut (impl Handler + ?Sized)) -> bool {
        let (attempts, lane) = (mail.attempts, mail.last_lane);
        let (message, endings) = mail.into_endings();
        let first =
            endings.first().map_or((Outcome::Unsent, None), |ended| (ended.ending.outcome(), ended.step));
        let alike = endings.iter().all(|ended| ended.ending.outcome().name() == first.0.name());
        let (outcome, step) = if alike { first } else { (Outcome::Partial, None) };
        let parting = Parting { message, attempts, step, lane };
        self.report(parting, outcome, Endings::Each(&endings), handler)
    }

    /// The one place where a message leaves with a report.
    fn report(
        &mut self,
        parting: Parting,
        outcome: Outcome<'_>,
        endings: Endings<'_>,
        handler: &mut (impl Handler + ?Sized),
    ) -> bool {
        let Parting { message, attempts, step, lane } = parting;
        self.ledger.reported += 1;
        self.count(lane, &outcome, 1);
        let finished = matches!(outcome, Outcome::Delivered(_) | Outcome::Partial | Outcome::Refused(_));
        if finished {
            self.restarts = 0;
            self.finished = self.finished.wrapping_add(1);
        }
        let host = lane.and_then(|lane| self.hosts.get(lane.host as usize)).map(String::as_str);
        let report = Report { message, outcome, attempts, step, lane, host, endings };
        count_recipients(&mut self.summary, &report);
        guarded(&mut self.panic, || handler.report(report));
        finished
    }

    fn count(&mut self, lane: Option<LaneId>, outcome: &Outcome<'_>, times: u64) {
        self.summary.mails.count(outcome, times);
        if let Some(host) = self.host(lane) {
            host.mails.count(outcome, times);
        }
    }

    pub(super) fn count_requeue(&mut self, lane: Option<LaneId>) {
        self.summary.requeued += 1;
        if let Some(host) = self.host(lane) {
            host.requeued += 1;
        }
    }

    pub(super) fn host(&mut self, lane: Option<LaneId>) -> Option<&mut HostSummary> {
        self.summary.hosts.get_mut(lane?.host as usize)
    }
}

/// Where the call panics, that is kept for when nothing is half done.
pub(super) fn guarded<T>(panic: &mut Option<Box<dyn Any + Send>>, call: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(said) => Some(said),
        Err(payload) => {
            panic.get_or_insert(payload);
            None
        }
    }
}

fn count_recipients(summary: &mut Summary, report: &Report<'_>) {
    let mut host = report.lane.and_then(|lane| summary.hosts.get_mut(lane.host as usize));
    for recipient in report.recipients() {
        summary.recipients.count(&recipient.outcome, 1);
        if let Some(host) = &mut host {
            host.recipients.count(&recipient.outcome, 1);
        }
    }
}
