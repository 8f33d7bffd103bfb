//! A message that has been taken, and how far it came with each recipient.

use crate::failure::Failure;
use crate::host::LaneId;
use crate::message::Message;
use crate::outcome::{Cause, Ended, Ending};
use crate::session::Step;

/// How far a recipient came.
#[derive(Debug, Default)]
pub(super) enum Recipient {
    /// Not asked for in this transaction.
    #[default]
    Pending,
    /// The server accepted it in this transaction.
    Accepted,
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

/// Which recipients an outcome is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scope {
    /// Those that the server accepted in this transaction, or while it has
    /// been asked for none, all that are to be asked for.
    Transaction,
    /// All that are not final.
    Open,
}

/// Some recipients may have the mail already. Unless a later attempt delivers
/// it to them, that is what becomes of it.
#[derive(Debug)]
struct Doubt {
    failure: Failure,
    /// Whether it is about the recipient at this position.
    recipients: Vec<bool>,
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
    pub(super) attempts: u32,
    /// Attempts that failed for want of descriptors of our own.
    pub(super) shortages: u32,
    pub(super) last_lane: Option<LaneId>,
    /// The step at which the last attempt ended.
    pub(super) last_step: Option<Step>,
}

impl Mail {
    pub(super) fn new(message: Message) -> Mail {
        let others = message.envelope().recipients().len().saturating_sub(1);
        let rest = std::iter::repeat_with(Recipient::default).take(others).collect();
        Mail {
            message,
            first: Recipient::Pending,
            rest,
            doubt: None,
            attempts: 0,
            shortages: 0,
            last_lane: None,
            last_step: None,
        }
    }

    /// All recipients that are not final are to be asked for anew.
    pub(super) fn begin_attempt(&mut self, lane: LaneId) {
        self.last_lane = Some(lane);
        for recipient in self.recipients_mut().filter(|recipient| recipient.is_open()) {
            *recipient = Recipient::Pending;
        }
    }

    /// The first recipient from position `from` on that is to be asked for.
    pub(super) fn next_pending(&self, from: u32) -> Option<u32> {
        let mut numbered = (0..).zip(self.recipients()).skip(from as usize);
        numbered.find(|(_, recipient)| matches!(recipient, Recipient::Pending)).map(|(position, _)| position)
    }

    pub(super) fn set(&mut self, position: u32, state: Recipient) {
        if let Some(recipient) = self.recipients_mut().nth(position as usize) {
            *recipient = state;
        }
    }

    /// Marks all that have not been asked for as too many.
    pub(super) fn defer_pending(&mut self, cause: &Cause) {
        for recipient in self.recipients_mut() {
            if matches!(recipient, Recipient::Pending) {
                *recipient = Recipient::TooMany(Box::new(cause.clone()));
            }
        }
    }

    pub(super) fn has_accepted(&self) -> bool {
        self.recipients().any(|recipient| matches!(recipient, Recipient::Accepted))
    }

    pub(super) fn has_deferred(&self) -> bool {
        self.recipients().any(|recipient| matches!(recipient, Recipient::Deferred(_)))
    }

    pub(super) fn has_open(&self) -> bool {
        self.recipients().any(Recipient::is_open)
    }

    /// Whether nothing is final for any recipient, so that the message can be
    /// given back as if it had never been tried.
    pub(super) fn is_untouched(&self) -> bool {
        self.recipients().all(Recipient::is_open) && !self.is_doubted()
    }

    /// Notes that the recipients who were accepted may have the mail.
    pub(super) fn doubt(&mut self, failure: &Failure) {
        let before = self.doubt.take().map(|doubt| doubt.recipients).unwrap_or_default();
        let mut before = before.into_iter();
        let accepted = self.recipients().map(|recipient| matches!(recipient, Recipient::Accepted));
        let recipients = accepted.map(|accepted| before.next().unwrap_or(false) || accepted).collect();
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
                Recipient::Deferred(cause) | Recipient::TooMany(cause) => (*cause, Some(Step::Rcpt)),
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
