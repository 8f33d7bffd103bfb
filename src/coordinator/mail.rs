//! A message that has been taken, and how far it came with each recipient.

use super::fate::Plan;
use super::terms::Stated;
use crate::command::{MAX_MAIL, MAX_RCPT};
use crate::envelope::{ForwardPath, MAX_PATH};
use crate::event::Verdict;
use crate::extensions::ExtensionSet;
use crate::failure::Failure;
use crate::host::LaneId;
use crate::message::Message;
use crate::outcome::{Cause, Ended, Ending};
use crate::reply::ReplyBuf;
use crate::session::{MailTag, Room, Step};

/// Octets of RCPT besides the address and parameters.
const RCPT_FRAME: usize = "RCPT TO:<>\r\n".len();

/// Octets of RCPT at the most.
const LONGEST_RCPT: usize = MAX_PATH + RCPT_FRAME + MAX_RCPT;

/// Octets of RSET, and of DATA or BDAT, at the most.
const MAX_CHUNK_LINE: usize = 32;

/// How often a mail goes back without an attempt before that counts as one, where others
/// are finished meanwhile. Where none is, what is held against the lanes is the bound.
const MOST_SPARED: u32 = 60;

/// How far a recipient came.
#[derive(Debug, Default)]
pub(super) enum Recipient {
    /// To be asked for in this transaction.
    #[default]
    Pending,
    /// To be asked for in another transaction of the same attempt: this one is
    /// full.
    Later,
    /// The server accepted it in this transaction.
    Accepted,
    /// Refused in this transaction for no fault of its own: nothing of the mail
    /// reaches it.
    Blameless(Box<Cause>),
    /// Refused for the time being in this transaction.
    Deferred(Box<Cause>),
    /// The server takes no more of them in this transaction.
    TooMany(Box<Cause>),
    /// Final.
    Ended(Box<Ended>),
}

impl Recipient {
    fn is_open(&self) -> bool {
        !matches!(self, Recipient::Ended(_))
    }
}

/// How far the mail's transaction is, as far as its replies are judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Course {
    /// Nothing was said of it.
    #[default]
    Dealt,
    /// MAIL was said.
    Begun,
    /// 354 was said for it: its content comes next.
    AtContent,
}

/// Whether the server wants to be given less, in this transaction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) enum PutOff {
    #[default]
    No,
    /// It has said so to a recipient.
    Recipient,
    Whole,
}

/// What was decided while replies of the same transaction were still to come.
#[derive(Debug)]
pub(super) struct Decided {
    pub(super) plan: Plan,
    pub(super) verdict: Verdict,
    pub(super) step: Step,
    /// The reply that it is based on.
    pub(super) reply: Option<ReplyBuf>,
    /// The server has no transaction of which its content could be taken.
    pub(super) is_void: bool,
}

/// Which recipients an outcome is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scope {
    /// Those that the server accepted in this transaction, or while it has
    /// been asked for none, all that are to be asked for.
    Transaction,
    /// Those whom a content that is out may reach: whom the server accepted in this
    /// transaction, and who were asked for and not answered.
    Reached,
    /// All that are not final.
    Open,
}

/// Counts recipients, and domains where that is wanted.
struct Fitting<'a> {
    room: u32,
    most_domains: Option<u32>,
    domains: Vec<&'a str>,
}

impl<'a> Fitting<'a> {
    fn new(room: u32, most_domains: Option<u32>) -> Fitting<'a> {
        Fitting { room, most_domains, domains: Vec::new() }
    }

    /// Takes the recipient, if it fits.
    fn takes(&mut self, path: &'a ForwardPath) -> bool {
        if self.room == 0 {
            return false;
        }
        if let Some(most) = self.most_domains {
            let domain = path.domain().unwrap_or_default();
            if !self.domains.iter().any(|known| known.eq_ignore_ascii_case(domain)) {
                if self.domains.len() >= most as usize {
                    return false;
                }
                self.domains.push(domain);
            }
        }
        self.room -= 1;
        true
    }
}

/// Some recipients may have the mail already. Unless a later attempt delivers
/// it to them, that is what becomes of it.
#[derive(Debug)]
struct Doubt {
    failure: Failure,
    /// Whether it is about the recipient at this position.
    recipients: Vec<bool>,
}

/// To which hosts MAIL is said without the parameters that nobody asked for, as it was
/// refused there with them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Plain {
    Nowhere,
    At(u32),
    Everywhere,
}

/// A message that has been taken. The first recipient's state is held in
/// place, so that a mail to one needs no memory beyond the caller's.
#[derive(Debug)]
pub(super) struct Mail {
    pub(super) message: Message,
    first: Recipient,
    rest: Vec<Recipient>,
    /// What an earlier attempt that is being made again left behind.
    doubt: Option<Box<Doubt>>,
    /// Its name on the lane that holds it.
    pub(super) tag: MailTag,
    pub(super) course: Course,
    pub(super) decided: Option<Box<Decided>>,
    pub(super) put_off: PutOff,
    /// MAIL's parameters in this transaction.
    pub(super) stated: Stated,
    /// Recipients before this place were asked for in this transaction, or are not
    /// to be.
    pub(super) asked_to: u32,
    /// Recipients that the server accepted in this transaction.
    accepted: u32,
    pub(super) attempts: u32,
    /// Attempts that went uncounted, those beyond the bound too, since a recipient was
    /// final.
    spared: u32,
    /// Mails that had been finished at the first of these.
    finished_then: u32,
    pub(super) last_lane: Option<LaneId>,
    /// The step at which the last attempt ended.
    pub(super) last_step: Option<Step>,
    /// To whom nothing is said of it that nobody asked for.
    plain: Plain,
    /// What it asks of any server, whatever its content; each attempt asks.
    pub(super) needs: ExtensionSet,
}

impl Mail {
    pub(super) fn new(message: Message) -> Mail {
        let others = message.envelope().recipients().len().saturating_sub(1);
        let rest = std::iter::repeat_with(Recipient::default).take(others).collect();
        Mail {
            needs: message.needs(),
            message,
            first: Recipient::Pending,
            rest,
            doubt: None,
            tag: MailTag::default(),
            course: Course::Dealt,
            decided: None,
            put_off: PutOff::No,
            stated: Stated::default(),
            asked_to: 0,
            accepted: 0,
            attempts: 0,
            spared: 0,
            finished_then: 0,
            last_lane: None,
            last_step: None,
            plain: Plain::Nowhere,
        }
    }

    /// All recipients that are not final are to be asked for anew, except those who
    /// were refused for the time being while others have yet to be asked.
    pub(super) fn begin_attempt(&mut self, lane: LaneId, tag: MailTag) {
        self.last_lane = Some(lane);
        self.tag = tag;
        self.course = Course::Dealt;
        self.decided = None;
        self.put_off = PutOff::No;
        self.accepted = 0;
        self.asked_to = 0;
        self.stated = Stated::default();
        let is_over = self.is_round_over();
        for recipient in self.recipients_mut().filter(|recipient| recipient.is_open()) {
            if is_over || !matches!(recipient, Recipient::Deferred(_)) {
                *recipient = Recipient::Pending;
            }
        }
    }

    /// Whether nothing that nobody asked for is said of it on its lane.
    pub(super) fn is_plain(&self) -> bool {
        match self.plain {
            Plain::Nowhere => false,
            Plain::At(host) => self.last_lane.is_some_and(|lane| lane.host == host),
            Plain::Everywhere => true,
        }
    }

    /// MAIL was refused at its lane's host for one parameter or another; says whether it
    /// was plain there already. Behind a second host it is plain everywhere, or it would
    /// go back and forth.
    pub(super) fn say_plainly(&mut self) -> bool {
        let was_plain = self.is_plain();
        let Some(lane) = self.last_lane else { return was_plain };
        self.plain = match self.plain {
            Plain::Nowhere => Plain::At(lane.host),
            Plain::At(host) if host == lane.host => Plain::At(host),
            Plain::At(_) | Plain::Everywhere => Plain::Everywhere,
        };
        was_plain
    }

    /// The next attempt is one at all recipients that are not final.
    pub(super) fn begin_round(&mut self) {
        self.recipients_mut().filter(|recipient| recipient.is_open()).for_each(|recipient| {
            *recipient = Recipient::Pending;
        });
    }

    /// Whether all that are not final were refused for the time being.
    fn is_round_over(&self) -> bool {
        self.recipients().all(|recipient| matches!(recipient, Recipient::Ended(_) | Recipient::Deferred(_)))
    }

    /// Leaves no more than so many recipients, of so many domains, for this
    /// transaction.
    pub(super) fn limit(&mut self, most: u32, most_domains: Option<u32>) {
        if self.fits(most, most_domains) {
            return;
        }
        let paths = self.message.envelope().recipients();
        let mut fitting = Fitting::new(most, most_domains);
        let recipients = std::iter::once(&mut self.first).chain(&mut self.rest);
        for (recipient, path) in recipients.zip(paths) {
            if matches!(recipient, Recipient::Pending) && !fitting.takes(path) {
                *recipient = Recipient::Later;
            }
        }
    }

    /// Whether all that are to be asked for fit into one transaction.
    pub(super) fn fits(&self, most: u32, most_domains: Option<u32>) -> bool {
        if self.rest.is_empty() || (most_domains.is_none() && self.rest.len() < most as usize) {
            return true;
        }
        let mut fitting = Fitting::new(most, most_domains);
        let mut both = self.recipients().zip(self.message.envelope().recipients());
        both.all(|(recipient, path)| !matches!(recipient, Recipient::Pending) || fitting.takes(path))
    }

    /// The first recipient that is to be asked for and was not.
    pub(super) fn next_pending(&self) -> Option<u32> {
        let is_pending = |recipient: &Recipient| matches!(recipient, Recipient::Pending);
        let Some(from) = self.asked_to.checked_sub(1) else {
            return if is_pending(&self.first) { Some(0) } else { self.next_in_rest(0) };
        };
        self.next_in_rest(from)
    }

    fn next_in_rest(&self, from: u32) -> Option<u32> {
        let rest = self.rest.get(from as usize..)?;
        let ahead = rest.iter().position(|recipient| matches!(recipient, Recipient::Pending))?;
        u32::try_from(ahead).ok()?.checked_add(from)?.checked_add(1)
    }

    /// Whether what is left of the envelope, and the command behind it, fit into a
    /// flight with this room.
    pub(super) fn rest_fits(&self, room: Room) -> bool {
        let envelope = self.message.envelope();
        // RSET, MAIL, DATA or BDAT.
        let (mut replies, mut octets) = (3, MAX_MAIL + 2 * MAX_CHUNK_LINE);
        // A few fit however long they are.
        let left = (self.rest.len() + 1).saturating_sub(self.asked_to as usize);
        if replies + left <= room.replies && octets + left * LONGEST_RCPT <= room.octets {
            return true;
        }
        let paths = envelope.recipients().iter().enumerate();
        for ((place, path), recipient) in paths.zip(self.recipients()).skip(self.asked_to as usize) {
            if matches!(recipient, Recipient::Pending) {
                let parameters = envelope.recipient_parameters(place).map_or(0, |_| MAX_RCPT);
                replies += 1;
                octets += path.wire().len() + RCPT_FRAME + parameters;
            }
            if replies > room.replies || octets > room.octets {
                return false;
            }
        }
        true
    }

    pub(super) fn set(&mut self, position: u32, state: Recipient) {
        let is_accepted = matches!(state, Recipient::Accepted);
        if !state.is_open() {
            self.spared = 0;
        }
        let before = self.recipients_mut().nth(position as usize);
        let Some(before) = before.map(|recipient| std::mem::replace(recipient, state)) else { return };
        self.accepted += u32::from(is_accepted);
        self.accepted -= u32::from(matches!(before, Recipient::Accepted));
    }

    /// The server takes no more of them: this one has to wait for another
    /// transaction, and so have `all` others of whom it was not asked.
    pub(super) fn too_many(&mut self, position: u32, cause: &Cause, all: bool) {
        self.set(position, Recipient::TooMany(Box::new(cause.clone())));
        let from = if all { self.asked_to as usize } else { usize::MAX };
        for recipient in self.recipients_mut().skip(from) {
            if matches!(recipient, Recipient::Pending) {
                *recipient = Recipient::Later;
            }
        }
    }

    /// Whether a content that is out may have reached anybody.
    pub(super) fn is_reached(&self) -> bool {
        self.recipients().any(self.concerned(Scope::Reached))
    }

    pub(super) fn has_accepted(&self) -> bool {
        self.accepted > 0
    }

    /// Whether the attempt is over with all recipients, and has left some that
    /// are to be tried again.
    pub(super) fn is_deferred(&self) -> bool {
        self.has_open() && self.is_round_over()
    }

    /// An attempt failed for no fault of the mail's, when so many mails were finished:
    /// says whether it has to be counted all the same. A shortage of our own is held
    /// against no lane, and always is in the end.
    pub(super) fn charge(&mut self, finished: u32, is_shortage: bool) -> bool {
        if self.spared == 0 {
            self.finished_then = finished;
        }
        self.spared = self.spared.saturating_add(1);
        self.spared > MOST_SPARED && (is_shortage || self.finished_then != finished)
    }

    /// Whether a recipient was refused for no fault of its own.
    pub(super) fn has_blameless(&self) -> bool {
        self.recipients().any(|recipient| matches!(recipient, Recipient::Blameless(_)))
    }

    pub(super) fn has_open(&self) -> bool {
        self.recipients().any(Recipient::is_open)
    }

    /// Whether nothing is final for any recipient, so that the message can be
    /// given back as if it had never been tried.
    pub(super) fn is_untouched(&self) -> bool {
        self.recipients().all(Recipient::is_open) && !self.is_doubted()
    }

    /// Notes that the recipients whom the content may have reached may have the
    /// mail.
    pub(super) fn doubt(&mut self, failure: &Failure) {
        let before = self.doubt.take().map(|doubt| doubt.recipients).unwrap_or_default();
        let mut before = before.into_iter();
        let reached = self.recipients().map(self.concerned(Scope::Reached));
        let recipients = reached.map(|reached| before.next().unwrap_or(false) || reached).collect();
        self.doubt = Some(Box::new(Doubt { failure: failure.clone(), recipients }));
    }

    pub(super) fn is_doubted(&self) -> bool {
        self.doubt.is_some()
    }

    /// Whether an outcome of this scope is every recipient's.
    pub(super) fn is_whole(&self, scope: Scope) -> bool {
        let concerned = self.concerned(scope);
        self.recipients().all(concerned)
    }

    /// Makes `ending` final for those in scope.
    pub(super) fn end(&mut self, scope: Scope, ending: &Ending) {
        self.spared = 0;
        let (concerned, step) = (self.concerned(scope), self.last_step);
        for recipient in self.recipients_mut().filter(|recipient| concerned(recipient)) {
            *recipient = Recipient::Ended(Box::new(Ended { ending: ending.clone(), step }));
        }
    }

    /// Makes all that are open abandoned, each with its own cause where it
    /// has one.
    pub(super) fn abandon(&mut self, cause: &Cause) {
        let last_step = self.last_step;
        for recipient in self.recipients_mut().filter(|recipient| recipient.is_open()) {
            let (own, step) = match std::mem::take(recipient) {
                Recipient::Deferred(cause) | Recipient::TooMany(cause) | Recipient::Blameless(cause) => {
                    (*cause, Some(Step::Rcpt))
                }
                _ => (cause.clone(), last_step),
            };
            *recipient = Recipient::Ended(Box::new(Ended { ending: Ending::Abandoned(own), step }));
        }
    }

    /// Message and endings; whatever is open counts as unsent, and whatever
    /// was in doubt and is not delivered still is.
    pub(super) fn into_endings(self) -> (Message, Vec<Ended>) {
        let recipients = std::iter::once(self.first).chain(self.rest);
        let endings = recipients.map(|recipient| match recipient {
            Recipient::Ended(ended) => *ended,
            _ => Ended { ending: Ending::Unsent, step: None },
        });
        let mut endings: Vec<Ended> = endings.collect();
        let Some(doubt) = self.doubt else { return (self.message, endings) };
        for (ended, _) in endings.iter_mut().zip(&doubt.recipients).filter(|(_, doubted)| **doubted) {
            if !ended.ending.outcome().is_delivered() {
                let ending = Ending::InDoubt(doubt.failure.clone());
                *ended = Ended { ending, step: Some(Step::Content) };
            }
        }
        (self.message, endings)
    }

    fn concerned(&self, scope: Scope) -> fn(&Recipient) -> bool {
        match scope {
            Scope::Open => Recipient::is_open,
            Scope::Reached => |recipient| matches!(recipient, Recipient::Accepted | Recipient::Pending),
            Scope::Transaction if self.has_accepted() => |recipient| matches!(recipient, Recipient::Accepted),
            Scope::Transaction => |recipient| matches!(recipient, Recipient::Pending),
        }
    }

    fn recipients(&self) -> impl Iterator<Item = &Recipient> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    fn recipients_mut(&mut self) -> impl Iterator<Item = &mut Recipient> {
        std::iter::once(&mut self.first).chain(&mut self.rest)
    }
}
