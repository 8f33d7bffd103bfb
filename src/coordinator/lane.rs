//! A slot for one connection: host and thread, what is wished of its
//! connection, the session on it, and the mails that it holds. A lane does as
//! it is told; what it should do is judged elsewhere.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::asking::Asked;
use super::gate::Ticket;
use super::mail::Mail;
use super::manners::Style;
use crate::failure::Failure;
use crate::host::HostSettings;
use crate::host::LaneId;
use crate::reopening::Setbacks;
use crate::session::{MailTag, Session};
use crate::timeouts::after;

/// Where a lane stands, as its user sees it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Standing {
    /// It is in a batch, or can be dealt a mail.
    Active,
    /// Its connection is being made.
    Opening,
    /// It is in use and has no connection before there is a mail for it, as its host's
    /// are not kept: see [`Host::keep_alive`](crate::Host::keep_alive).
    Resting,
    /// It sits out until the batch ends, or until its back-off is over, or waits for a
    /// place, as there are as many connections as there may be.
    Benched,
    /// It is out of use until a restart.
    Retired,
}

/// The state of a lane's connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Link {
    /// There is none, and none is wanted yet.
    Down,
    /// One is wanted: whoever moves bytes should make it.
    Wanted,
    /// It is being made.
    Dialling,
    /// It stands.
    Up,
}

/// What a benched lane waits for the end of the batch for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Bench {
    /// To be dealt mails again.
    Rejoin,
    /// To be opened again, after this wait.
    Reopen(Duration),
}

/// Who waits for the lane's step.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Part {
    /// Nobody; it holds no mail.
    #[default]
    None,
    /// The other lanes of the batch.
    Batch,
    /// Nobody: it goes on with its mails by itself.
    Alone,
}

/// A slot for one connection.
#[derive(Debug)]
pub struct Lane {
    pub(super) id: LaneId,
    pub(super) host: Arc<HostSettings>,
    pub(super) standing: Standing,
    pub(super) link: Link,
    pub(super) session: Session,
    /// Its opening was put off, which has yet to be seen.
    pub(super) is_postponed: bool,
    /// What the connection failed with before there was a session on it.
    pub(super) dial_failure: Option<Failure>,
    /// Its mails in the order in which they were begun; usually one.
    pub(super) mails: VecDeque<Mail>,
    /// The name that its latest mail was given.
    pub(super) last_tag: MailTag,
    /// Mails that it gets in the deal that is being made, at the most.
    pub(super) share: u32,
    /// Mails that it was dealt in that.
    pub(super) dealt: u32,
    /// How its current flight was put together.
    pub(super) style: Style,
    /// How its last flight of several things was, before the current one.
    pub(super) style_before: Style,
    /// The server waits for a content, of which it is not decided yet whether the
    /// next mail's envelope goes with it.
    pub(super) is_poised: bool,
    /// Mails that it was dealt on this connection.
    begun: u32,
    /// When this connection was made.
    opened_at: Option<Instant>,
    /// Mails that were refused on this connection in flights of whole transactions.
    pub(super) refusals: u32,
    /// The server waits for a content that nobody would get.
    pub(super) owes_dot: bool,
    /// The client lacked the means to open a content.
    pub(super) is_short: bool,
    /// NOOP was said, or RSET in its place, and has not been answered.
    pub(super) is_at_noop: bool,
    /// Its server has answered that, and it has done nothing else since.
    pub(super) has_kept_quiet: bool,
    /// It was opened because there are mails, had no connection before, and has had none of
    /// them.
    pub(super) is_woken: bool,
    /// It sits out, and has to authenticate when it goes on.
    pub(super) sits_outside: bool,
    /// A question of the caller's.
    pub(super) asked: Option<Box<Asked>>,
    pub(super) part: Part,
    pub(super) bench: Option<Bench>,
    /// When to make a connection; `None` when none is wanted.
    pub(super) reopen_at: Option<Instant>,
    /// It was due when there was no place for its connection.
    pub(super) is_parked: bool,
    /// Openings that are needed because something went wrong, in a row, with
    /// no mail finished between.
    pub(super) setbacks: Setbacks,
    pub(super) has_been_open: bool,
    /// No connection before this one stood.
    pub(super) is_first_opening: bool,
    /// Its connection stands, and it has to authenticate before anything else.
    pub(super) waits_at_gate: bool,
    /// It was retired because its credentials were refused.
    pub(super) is_shut_out: bool,
    /// What it has tried to authenticate with last.
    pub(super) ticket: Ticket,
    pub(super) opening_failed: bool,
    /// The first opening has ended, one way or the other.
    pub(super) was_tried: bool,
    /// It is to be opened anew as soon as no content waits for its reply.
    pub(super) renew: bool,
    /// How long to wait then: a restart does not hammer a host that fails.
    pub(super) renew_wait: Duration,
    dialled_at: Option<Instant>,
    connection: u64,
    /// Octets sent on connections that are closed.
    bytes: u64,
    /// Octets that were taken from the rates for what it holds, and not sent yet.
    pub(super) reserved: u64,
    /// Octets sent that were.
    pub(super) charged: u64,
}

impl Lane {
    pub(super) fn new(id: LaneId, host: Arc<HostSettings>, now: Instant) -> Lane {
        let session = Session::new(Arc::new(host.timeouts.clone()));
        let session = session.with_security(host.security).with_lmtp(host.is_lmtp);
        Lane {
            id,
            host,
            standing: Standing::Opening,
            link: Link::Down,
            session,
            is_postponed: false,
            dial_failure: None,
            mails: VecDeque::with_capacity(1),
            last_tag: MailTag::default(),
            share: 0,
            dealt: 0,
            style: Style::Single,
            style_before: Style::Single,
            is_poised: false,
            begun: 0,
            opened_at: None,
            refusals: 0,
            owes_dot: false,
            is_short: false,
            is_at_noop: false,
            has_kept_quiet: false,
            is_woken: false,
            sits_outside: false,
            asked: None,
            part: Part::None,
            bench: None,
            reopen_at: Some(now),
            is_parked: false,
            reserved: 0,
            charged: 0,
            setbacks: Setbacks::default(),
            has_been_open: false,
            is_first_opening: true,
            waits_at_gate: false,
            is_shut_out: false,
            ticket: Ticket::default(),
            opening_failed: false,
            was_tried: false,
            renew: false,
            renew_wait: Duration::ZERO,
            dialled_at: None,
            connection: 0,
            bytes: 0,
        }
    }

    /// Which lane it is.
    pub fn id(&self) -> LaneId {
        self.id
    }

    /// Its host.
    pub fn host(&self) -> &HostSettings {
        &self.host
    }

    /// Where it stands.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// The state of its connection.
    pub fn link(&self) -> Link {
        self.link
    }

    /// How many mails it holds.
    pub fn held(&self) -> usize {
        self.mails.len()
    }

    /// The number of the connection that its session speaks on: when it
    /// changes, the connection made for an earlier number is to be closed.
    pub fn connection(&self) -> u64 {
        self.connection
    }

    /// The session, to move its bytes.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The session, to move its bytes.
    pub fn session_mut(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Whether the batch waits for it: it is in the batch, and its step is
    /// not over.
    pub fn is_waited_for(&self) -> bool {
        self.part == Part::Batch && !self.session.is_over()
    }

    /// Whether it is in the batch that runs, and no straggler.
    pub fn is_in_batch(&self) -> bool {
        self.part == Part::Batch
    }

    /// The name of the mail that it was dealt last.
    pub fn latest_mail(&self) -> MailTag {
        self.last_tag
    }

    /// How many mails it was dealt on its connection.
    pub fn mails_begun(&self) -> u32 {
        self.begun
    }

    /// Whether it goes on with its mails by itself: a straggler, or the pace is free.
    pub fn is_alone(&self) -> bool {
        self.part == Part::Alone
    }

    /// Whether its connection stands, and the first octet of a flight is to be
    /// written to it.
    pub fn is_about_to_write(&self) -> bool {
        self.link == Link::Up && !self.session.is_over() && self.session.is_about_to_write()
    }

    /// Whether the next `settle` has something to judge on it.
    pub fn is_judgeable(&self) -> bool {
        let session = &self.session;
        match self.link {
            Link::Up if self.waits_at_gate => session.failure().is_some(),
            Link::Up if self.standing == Standing::Opening || session.is_leaving() => session.is_over(),
            Link::Up => session.is_over() && (session.has_answer() || session.failure().is_some()),
            Link::Down | Link::Wanted | Link::Dialling => self.dial_failure.is_some() || self.is_postponed,
        }
    }

    /// Whether its latest connection came to no session.
    pub fn has_failed_to_open(&self) -> bool {
        self.opening_failed
    }

    /// Its connection is being made for it.
    ///
    /// # Panics
    /// When none is [`Link::Wanted`].
    pub fn dialling(&mut self, now: Instant) {
        assert!(self.link == Link::Wanted, "dialling unasked");
        self.link = Link::Dialling;
        self.is_first_opening = !self.has_been_open;
        self.dialled_at = Some(now);
    }

    /// Its connection stands; `local` is this end's address.
    ///
    /// # Panics
    /// When none was being made.
    pub fn connected(&mut self, local: Option<IpAddr>, now: Instant) {
        assert!(self.link == Link::Dialling, "connected without dialling");
        self.link = Link::Up;
        self.opened_at = Some(now);
        self.session.open(self.host.hello_from(local), now);
    }

    /// Its connection could not be made.
    pub fn not_connected(&mut self, failure: Failure) {
        self.dial_failure = Some(failure);
    }

    /// Its connection could not be made for want of means of our own: it is
    /// to be tried again at `at`, and nothing is held against it.
    pub fn postponed(&mut self, at: Instant) {
        self.disconnect();
        self.is_postponed = true;
        self.standing = Standing::Benched;
        self.reopen_at = Some(at);
        self.is_woken = false;
        self.was_tried = true;
    }

    // ---- told by the coordinator ------------------------------------------

    /// Closes whatever connection there is.
    pub(super) fn disconnect(&mut self) {
        self.answer_question();
        self.waits_at_gate = false;
        self.is_poised = false;
        self.owes_dot = false;
        (self.is_at_noop, self.has_kept_quiet) = (false, false);
        self.refusals = 0;
        (self.begun, self.opened_at) = (0, None);
        (self.style, self.style_before) = (Style::Single, Style::Single);
        self.bytes += self.session.bytes_written();
        self.session.close();
        self.link = Link::Down;
        self.dial_failure = None;
        self.connection += 1;
    }

    /// Ends the connection: with QUIT where the session is fit for it, else
    /// at once. Between 354 and the last octet of a content only closing
    /// gives the mail up.
    pub(super) fn leave(&mut self, now: Instant) {
        assert!(self.mails.is_empty(), "a lane leaves with a mail in hand");
        self.part = Part::None;
        self.waits_at_gate = false;
        if self.link == Link::Up && self.session.is_usable() {
            self.session.flight(now).quit();
        } else if !self.is_leaving() {
            self.disconnect();
        }
    }

    /// Opens the lane anew at `at`.
    pub(super) fn reopen(&mut self, at: Instant, now: Instant) {
        self.leave(now);
        self.is_shut_out = false;
        self.is_woken = false;
        self.is_parked = false;
        self.bench = None;
        self.standing = if at > now { Standing::Benched } else { Standing::Opening };
        self.reopen_at = Some(at);
    }

    /// Takes the lane out of use.
    pub(super) fn retire(&mut self, now: Instant) {
        self.leave(now);
        self.bench = None;
        self.reopen_at = None;
        self.standing = Standing::Retired;
    }

    /// Takes it out of use until there are other credentials.
    pub(super) fn shut_out(&mut self, now: Instant) {
        self.retire(now);
        self.is_shut_out = true;
    }

    /// Sits out until the batch ends.
    pub(super) fn sit_out(&mut self, bench: Bench, now: Instant) {
        self.part = Part::None;
        self.sits_outside = std::mem::take(&mut self.waits_at_gate);
        if bench != Bench::Rejoin || !self.session.is_usable() {
            self.leave(now);
        }
        // Where it failed with another one it had a time, or waited for a place.
        (self.reopen_at, self.is_parked) = (None, false);
        self.bench = Some(bench);
        self.standing = Standing::Benched;
    }

    /// Its connection is fit: it can be dealt mails, or has to authenticate
    /// first.
    pub(super) fn enter(&mut self, must_authenticate: bool) {
        self.waits_at_gate = must_authenticate && !self.session.is_authenticated();
        self.has_kept_quiet &= !self.waits_at_gate;
        self.standing = if self.waits_at_gate { Standing::Opening } else { Standing::Active };
    }

    /// Whether it is to be opened anew, and no content of it is out that has
    /// not been answered.
    pub(super) fn is_renewable(&self) -> bool {
        self.renew && !self.session.has_doubt()
    }

    /// Whether a new connection is already on its way.
    pub(super) fn is_being_opened(&self) -> bool {
        self.standing == Standing::Opening
    }

    /// Whether it waits to be opened anew, which has been counted.
    pub(super) fn is_to_be_opened(&self) -> bool {
        self.reopen_at.is_some() || matches!(self.bench, Some(Bench::Reopen(_)))
    }

    /// Whether its connection can go on after it has sat out.
    pub(super) fn is_rejoinable(&self) -> bool {
        let is_fit = self.session.is_usable() || (self.is_at_noop && !self.session.is_over());
        self.link == Link::Up && is_fit && !self.is_used_up()
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.link == Link::Up && self.session.is_leaving()
    }

    /// Whether it can be dealt a mail.
    pub(super) fn is_free(&self) -> bool {
        let is_idle = self.mails.is_empty() && self.session.is_usable() && !self.owes_dot && !self.is_at_noop;
        let is_up = self.standing == Standing::Active && self.link == Link::Up;
        is_up && (is_idle || self.is_poised) && !self.is_used_up()
    }

    /// Whether it can be dealt another mail in the current deal.
    pub(super) fn has_room(&self) -> bool {
        self.dealt < self.share
    }

    /// How many mails a deal may give it: where some were refused, no more than fit
    /// into a flight.
    pub(super) fn depth(&self) -> u32 {
        let depth = self.host.depth.max(1).min(self.mails_left());
        if self.refusals > 0 { depth.min(self.most_together()) } else { depth }
    }

    /// How many whole mails a flight may hold: each could be refused.
    pub(super) fn most_together(&self) -> u32 {
        let left = self.host.max_refusals.saturating_sub(self.refusals);
        if self.host.is_lmtp { u32::MAX } else { left.max(1) }
    }

    /// It is dealt one more mail.
    pub(super) fn begins_mail(&mut self) {
        self.begun = self.begun.saturating_add(1);
    }

    /// How many more mails its connection may have: the less of what is set and what the
    /// server states (MAILMAX, RFC 9422 §4).
    fn mails_left(&self) -> u32 {
        let stated = self.session.extensions().mails_limit();
        let least = stated.into_iter().chain(self.host.mails_per_connection).min();
        least.map_or(u32::MAX, |least| least.max(1).saturating_sub(self.begun))
    }

    /// Whether its connection may have no more mails.
    pub(super) fn is_used_up(&self) -> bool {
        self.mails_left() == 0
    }

    /// Whether its connection has stood for as long as it may. One that has had no mail
    /// is good for one: else a lane whose opening takes longer would never have any.
    pub(super) fn is_aged(&self, now: Instant) -> bool {
        let limit = self.host.max_connection_age.filter(|_| self.begun > 0);
        self.opened_at.zip(limit).is_some_and(|(at, limit)| now >= after(at, limit))
    }

    /// A flight is over, or another one is put together.
    pub(super) fn forget_style(&mut self) {
        let before = std::mem::replace(&mut self.style, Style::Single);
        if before != Style::Single {
            self.style_before = before;
        }
    }

    /// Whether so many mails were refused that three quarters of a flight are not left
    /// of what the connection is good for: another one costs less than short flights.
    pub(super) fn is_worn(&self) -> bool {
        let most = u64::from(self.host.max_refusals);
        let wanted = most.min(u64::from(self.host.depth.max(1)));
        let left = most.saturating_sub(u64::from(self.refusals));
        self.refusals > 0 && (left == 0 || 4 * left < 3 * wanted)
    }

    pub(super) fn mail(&self, tag: MailTag) -> Option<&Mail> {
        self.mails.get(self.place_of(tag)?)
    }

    pub(super) fn mail_mut(&mut self, tag: MailTag) -> Option<&mut Mail> {
        let place = self.place_of(tag)?;
        self.mails.get_mut(place)
    }

    pub(super) fn take_mail(&mut self, tag: MailTag) -> Option<Mail> {
        match self.place_of(tag)? {
            0 => self.mails.pop_front(),
            place => self.mails.remove(place),
        }
    }

    /// It is the first one nearly always: replies come in the mails' order.
    fn place_of(&self, tag: MailTag) -> Option<usize> {
        if self.mails.front()?.tag == tag {
            return Some(0);
        }
        self.mails.iter().position(|mail| mail.tag == tag)
    }

    pub(super) fn dialled_at(&self) -> Option<Instant> {
        self.dialled_at
    }

    pub(super) fn opening_took(&self, now: Instant) -> Duration {
        self.dialled_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at))
    }

    /// Octets sent on all its connections.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes + self.session.bytes_written()
    }
}
