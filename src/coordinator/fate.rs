//! On the way from a reply to a report: a refusal has a [`Blame`], which says
//! whom it is about; that and the step make a [`Plan`] for the mail; plan and
//! verdict make a [`Fate`], and the desk turns that into an [`Outcome`] or
//! another attempt. Plain values and functions.

use super::desk::Fate;
use super::mail::{Mail, Scope};
use crate::content::ContentError;
use crate::event::{MessageVerdict, SessionVerdict, Verdict};
use crate::failure::Failure;
use crate::outcome::{Cause, ClientReason, Outcome, RefusedBy};
use crate::reply::{EnhancedStatusCode, Reply};
use crate::session::{Answer, Step};

/// Whom a refusal is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Blame {
    /// The mail, or the recipient at RCPT; `for_good` when it is 5yz.
    Mail { for_good: bool },
    /// No further recipient fits into this transaction.
    TooMany,
    /// The session or the host, and never the mail.
    Session,
    /// Parameters of MAIL that nobody had asked for.
    Parameters,
}

impl Blame {
    /// `None` when the reply is the one hoped for.
    pub(super) fn of(answer: &Answer<'_>, mail: &Mail) -> Option<Blame> {
        let code = answer.reply.code();
        if answer.is_pass() {
            return None;
        }
        let is_mail = answer.step == Step::Mail;
        let is_command = answer.is_chunk || matches!(answer.step, Step::Mail | Step::Rcpt | Step::Data);
        Some(match code.as_u16() {
            421 => Blame::Session,
            _ if answer.step == Step::Rset => Blame::Session,
            _ if is_command && code.blames_session() => Blame::Session,
            _ if is_mail && !mail.stated.unasked.is_empty() && is_about_parameters(answer.reply) => {
                Blame::Parameters
            }
            _ if answer.step == Step::Rcpt && mail.has_accepted() && is_too_many(answer.reply) => {
                Blame::TooMany
            }
            _ => Blame::Mail { for_good: code.is_permanent() },
        })
    }
}

/// 455, 501, 504, 555 (RFC 5321 §4.2.2) or x.5.4 (RFC 3463 §3.6).
fn is_about_parameters(reply: Reply<'_>) -> bool {
    let is_invalid_argument = |code: EnhancedStatusCode| (code.subject, code.detail) == (5, 4);
    let is_so = matches!(reply.code().as_u16(), 455 | 501 | 504 | 555);
    (is_so || reply.enhanced().is_some_and(is_invalid_argument)) && !is_about_address(reply)
}

/// A 500, 502 or 503.
pub(super) fn is_out_of_sequence(reply: Reply<'_>) -> bool {
    matches!(reply.code().as_u16(), 500 | 502 | 503) && !is_about_address(reply)
}

/// x.1.z (RFC 3463 §3.2).
fn is_about_address(reply: Reply<'_>) -> bool {
    reply.enhanced().is_some_and(|code| code.subject == 1)
}

/// 452, 552 or x.5.3 (RFC 5321 §4.5.3.1.10, RFC 3463 §3.6).
fn is_too_many(reply: Reply<'_>) -> bool {
    let enhanced = reply.enhanced().is_some_and(|code| (code.subject, code.detail) == (5, 3));
    enhanced || matches!(reply.code().as_u16(), 452 | 552)
}

/// How an attempt ends; what it is based on is a reply, or the session's failure.
#[derive(Debug)]
pub(super) enum Plan {
    Delivered,
    /// The reply is a refusal for good.
    Refused(Scope),
    /// The reply, or the failure, calls for another attempt.
    Again {
        counted: bool,
    },
    /// A callback's verdict gives up the transaction.
    GivenUp(Verdict),
    /// Each recipient's own state says it.
    EachItsOwn,
    InDoubt,
    RefusedByClient(ClientReason),
}

impl Plan {
    /// Whether the client itself is short of means, and not the mail to blame.
    pub(super) fn is_shortage(&self) -> bool {
        matches!(self, Plan::RefusedByClient(ClientReason::Content(ContentError::Shortage(_))))
    }
}

/// What becomes of a message: the first rule that applies. Accepted content
/// is delivered and unanswered content in doubt, whatever a verdict says; then
/// come the message verdict, the refusal, and at last another attempt.
pub(super) fn fate<'a>(
    plan: &'a Plan,
    verdict: Verdict,
    reply: Option<Reply<'a>>,
    failure: Option<&'a Failure>,
    must_count: bool,
) -> Fate<'a> {
    let settled = |outcome, scope| Fate::Settled { outcome, scope };
    let again = |counted| Fate::Again { cause: cause(plan, reply, failure), counted: counted || must_count };
    match (plan, verdict.message) {
        (Plan::Delivered, _) => match reply {
            Some(reply) => settled(Outcome::Delivered(reply), Scope::Transaction),
            None => Fate::EachItsOwn,
        },
        (Plan::InDoubt, _) => match failure {
            Some(failure) => Fate::InDoubt(failure),
            None => again(true),
        },
        (_, MessageVerdict::Drop) => settled(Outcome::Dropped, Scope::Open),
        (Plan::Again { counted }, _) => again(*counted),
        (_, MessageVerdict::Requeue) => again(true),
        (Plan::Refused(scope), _) => match reply {
            Some(reply) => settled(Outcome::Refused(RefusedBy::Server(reply)), *scope),
            None => Fate::EachItsOwn,
        },
        (plan, _) if plan.is_shortage() => again(false),
        (Plan::RefusedByClient(reason), _) => {
            settled(Outcome::Refused(RefusedBy::Client(reason)), Scope::Transaction)
        }
        (Plan::GivenUp(_), _) => again(true),
        (Plan::EachItsOwn, _) => Fate::EachItsOwn,
    }
}

fn cause(plan: &Plan, reply: Option<Reply<'_>>, failure: Option<&Failure>) -> Cause {
    match (plan, reply, failure) {
        (Plan::GivenUp(verdict), ..) => Cause::Verdict(verdict.code()),
        (Plan::RefusedByClient(ClientReason::Content(error)), ..) => Cause::Content(error.clone()),
        (_, Some(reply), _) => Cause::Reply(reply.to_owned()),
        (_, None, Some(failure)) => Cause::Failure(failure.clone()),
        (_, None, None) => Cause::Verdict(Verdict::DEFAULT.code()),
    }
}

pub(super) fn or_default(verdict: SessionVerdict, default: SessionVerdict) -> SessionVerdict {
    if verdict == SessionVerdict::Default { default } else { verdict }
}

/// Of the codes that were said about one flight, the one that does most to the
/// lane is carried out.
pub(super) fn gravest(one: SessionVerdict, other: SessionVerdict) -> SessionVerdict {
    let gravity = |verdict| match verdict {
        SessionVerdict::Default => 0,
        SessionVerdict::Bench => 1,
        SessionVerdict::ReconnectAtBatchEnd => 2,
        SessionVerdict::ReconnectNow => 3,
        SessionVerdict::Retire => 4,
        // Retired lanes are restarted, too.
        SessionVerdict::RestartAtBatchEnd => 5,
        SessionVerdict::RestartNow => 6,
    };
    if gravity(other) > gravity(one) { other } else { one }
}
