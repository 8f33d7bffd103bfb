//! Questions of the caller to a server, on a lane that has nothing else to do.

use std::time::Instant;

use super::Coordinator;
use super::lane::{Lane, Standing};
use crate::extensions::Extension;
use crate::failure::Failure;
use crate::host::LaneId;
use crate::inquiry::Inquiry;
use crate::reply::ReplyBuf;

/// Why a question has no reply.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum NoReply {
    /// The connection failed.
    Failed(Failure),
    /// The connection was given up for another reason, such as a restart.
    GivenUp,
    /// The lane is retired.
    Retired,
    /// The question cannot be put without this extension, which is not offered.
    NotOffered(Extension),
}

/// How far a question is.
#[derive(Debug)]
pub(super) enum Asked {
    /// It is asked when the lane is free; `is_reset` when RSET was said for it.
    Waiting {
        inquiry: Inquiry,
        is_reset: bool,
    },
    /// Its reply is awaited.
    Out,
    Answered(Result<ReplyBuf, NoReply>),
}

impl Coordinator {
    /// Has a question asked on this lane, as soon as it is free; `false` when there
    /// is no such lane, or it has a question already.
    pub fn ask(&mut self, id: LaneId, inquiry: Inquiry) -> bool {
        let place = self.lanes.iter().position(|lane| lane.id == id && lane.asked.is_none());
        let asked = Asked::Waiting { inquiry, is_reset: false };
        place.and_then(|place| self.change(place)).map(|lane| lane.asked = Some(Box::new(asked))).is_some()
    }

    /// Whether the lane has a question that is not done with.
    pub fn is_asking(&self, id: LaneId) -> bool {
        let is_open = |lane: &Lane| matches!(lane.asked.as_deref(), Some(Asked::Waiting { .. } | Asked::Out));
        self.lanes.iter().any(|lane| lane.id == id && is_open(lane))
    }

    /// What came of the question: the reply, or why there is none.
    pub fn take_answer(&mut self, id: LaneId) -> Option<Result<ReplyBuf, NoReply>> {
        let lane = self.lanes.iter_mut().find(|lane| lane.id == id)?;
        match *lane.asked.take()? {
            Asked::Answered(answer) => Some(answer),
            unfinished => {
                lane.asked = Some(Box::new(unfinished));
                None
            }
        }
    }

    /// Asks what can be asked.
    pub(super) fn ask_away(&mut self, now: Instant) {
        self.lanes.iter_mut().filter(|lane| lane.wants_to_ask()).for_each(|lane| lane.ask_away(now));
        self.muster.changed.mark_all();
    }
}

impl Lane {
    /// Whether it has a question that can be asked now, or never.
    pub(super) fn wants_to_ask(&self) -> bool {
        self.has_question() && (self.standing == Standing::Retired || (self.is_free() && !self.is_poised))
    }

    /// Whether it has a question that was not put.
    pub(super) fn has_question(&self) -> bool {
        matches!(self.asked.as_deref(), Some(Asked::Waiting { .. }))
    }

    fn ask_away(&mut self, now: Instant) {
        let is_retired = self.standing == Standing::Retired;
        let Some(asked) = self.asked.as_deref_mut() else { return };
        let Asked::Waiting { inquiry, is_reset } = asked else { return };
        let offers_utf8 = self.session.extensions().offers(Extension::SmtpUtf8);
        if is_retired {
            *asked = Asked::Answered(Err(NoReply::Retired));
        } else if inquiry.needs_utf8() && !(offers_utf8 && inquiry.may_be_utf8()) {
            *asked = Asked::Answered(Err(NoReply::NotOffered(Extension::SmtpUtf8)));
        } else if inquiry.ends_transactions() && self.session.needs_reset() && !*is_reset {
            // RFC 1985 §5.1: not within a transaction, and a refused one may be open.
            self.session.flight(now).reset();
            *is_reset = true;
        } else {
            self.session.flight(now).inquire(inquiry);
            *asked = Asked::Out;
        }
    }

    /// The reply to its question has come, or its connection is given up.
    pub(super) fn answer_question(&mut self) {
        let Some(asked) = self.asked.as_deref_mut().filter(|asked| matches!(asked, Asked::Out)) else {
            return;
        };
        let reply = self.session.answer().map(|answer| answer.reply.to_owned());
        let failure = self.session.failure().cloned().map_or(NoReply::GivenUp, NoReply::Failed);
        *asked = Asked::Answered(reply.ok_or(failure));
    }
}
