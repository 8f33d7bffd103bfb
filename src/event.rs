//! What happened, and what the caller decides about it: events, verdicts, and
//! the `Handler` that turns the one into the other. Nothing here acts.

use std::fmt;
use std::time::Duration;

use crate::envelope::ForwardPath;
use crate::failure::Failure;
use crate::health::HostChange;
use crate::host::LaneId;
use crate::message::Message;
use crate::outcome::{ClientReason, Report};
use crate::reply::Reply;
use crate::session::Step;
use crate::steps::StepTaken;

/// Which callback an event belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum EventKind {
    /// The lane's first connection stands.
    ConnectPass,
    /// The lane's first connection did not come about, or was lost, late or put
    /// off while it was authenticated, which is after [`EventKind::ConnectPass`].
    ConnectFail,
    /// The server accepted the credentials.
    AuthPass,
    /// The server refused the credentials, or they cannot be used with it: no
    /// mechanism in common, no TLS, a server that does not prove itself.
    AuthFail,
    /// A later connection stands.
    ReconnectPass,
    /// The same of a later connection.
    ReconnectFail,
    /// An expected reply of the mail phase.
    Pass,
    /// A refused step of the mail phase, or content of ours that failed.
    Fail,
    /// In the mail phase a deadline passed, the connection was lost, or the
    /// server sent garbage.
    Hang,
    /// Nothing moved on any lane for [`MailerBuilder::global_timeout`](crate::MailerBuilder::global_timeout);
    /// told once for all of them, of the lane that has been silent for the longest.
    GlobalHang,
}

impl EventKind {
    /// How many kinds there are.
    pub(crate) const COUNT: usize = EventKind::GlobalHang as usize + 1;

    /// Whether something went wrong.
    pub fn is_trouble(self) -> bool {
        !matches!(
            self,
            EventKind::ConnectPass | EventKind::AuthPass | EventKind::ReconnectPass | EventKind::Pass
        )
    }
}

impl fmt::Display for EventKind {
    /// The name of the callback.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EventKind::ConnectPass => "connect_pass",
            EventKind::ConnectFail => "connect_fail",
            EventKind::AuthPass => "auth_pass",
            EventKind::AuthFail => "auth_fail",
            EventKind::ReconnectPass => "reconnect_pass",
            EventKind::ReconnectFail => "reconnect_fail",
            EventKind::Pass => "pass",
            EventKind::Fail => "fail",
            EventKind::Hang => "hang",
            EventKind::GlobalHang => "global_hang",
        })
    }
}

/// What an event is based on.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Evidence<'a> {
    /// The server said this.
    Reply(Reply<'a>),
    /// The connection failed.
    Failure(&'a Failure),
    /// The client itself cannot send the mail.
    Client(&'a ClientReason),
    /// The connection stands.
    Opened,
}

/// Something that happened on a lane.
///
/// Its `Display` is one line: `mx.example.org:3 fail RCPT 17 <ann@example.net>
/// attempt 1 after 12ms: 550 no such user`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Event<'a> {
    /// Which callback it belongs to.
    pub kind: EventKind,
    /// The lane on which it happened.
    pub lane: LaneId,
    /// The name of the lane's host.
    pub host: &'a str,
    /// What was being done.
    pub step: Step,
    /// The message that the lane holds, if any.
    pub message: Option<&'a Message>,
    /// The recipient that a reply to RCPT, or its absence, is about.
    pub recipient: Option<&'a ForwardPath>,
    /// The reply or the failure.
    pub evidence: Evidence<'a>,
    /// The number of this attempt, from 1: of the message when there is one,
    /// else of opening the lane without a finished mail in between.
    pub attempt: u32,
    /// Time from the beginning of the step, and of an opening from the beginning
    /// of its connection, waits for other lanes' AUTH included, until the reply
    /// was read, or the failure was judged. A reply is read when its lane's turn comes: it can
    /// have lain there while a slower lane of the batch was waited for.
    pub elapsed: Duration,
}

impl<'a> Event<'a> {
    /// The server's reply, when there is one.
    pub fn reply(&self) -> Option<Reply<'a>> {
        match self.evidence {
            Evidence::Reply(reply) => Some(reply),
            _ => None,
        }
    }

    /// The failure of the connection, when there is one.
    pub fn failure(&self) -> Option<&'a Failure> {
        match self.evidence {
            Evidence::Failure(failure) => Some(failure),
            _ => None,
        }
    }
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} {}", self.host, self.lane.thread, WithoutLane(self))
    }
}

/// An event as it is told where its lane is named already.
pub(crate) struct WithoutLane<'a>(pub(crate) &'a Event<'a>);

impl fmt::Display for WithoutLane<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let event = self.0;
        write!(f, "{} {}", event.kind, event.step)?;
        if let Some(message) = event.message {
            write!(f, " {}", message.message_id())?;
        }
        if let Some(recipient) = event.recipient {
            write!(f, " <{recipient}>")?;
        }
        write!(f, " attempt {} after {:?}", event.attempt, event.elapsed)?;
        match event.evidence {
            Evidence::Reply(reply) => write!(f, ": {reply}"),
            Evidence::Failure(failure) => write!(f, ": {failure}"),
            Evidence::Client(reason) => write!(f, ": {reason}"),
            Evidence::Opened => Ok(()),
        }
    }
}

/// What becomes of the session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum SessionVerdict {
    /// 1: what the event's default says.
    #[default]
    Default,
    /// 101: retire the lane for good.
    Retire,
    /// 102: bench the lane, and reconnect it when the batch ends.
    ReconnectAtBatchEnd,
    /// 103: bench the lane, and restart every connection when the batch ends.
    RestartAtBatchEnd,
    /// 104: bench the lane until the batch ends.
    Bench,
    /// 202: reconnect the lane now, outside this batch.
    ReconnectNow,
    /// 203: restart every connection now.
    RestartNow,
}

/// What becomes of the message, unless its content has been accepted or its
/// fate is in doubt.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum MessageVerdict {
    /// What the reply says.
    #[default]
    Default,
    /// Try it again, even if the server refused it for good; bounded by the
    /// attempts that a message has.
    Requeue,
    /// Report it dropped.
    Drop,
}

/// A callback's answer: what becomes of the session, and what of the message.
///
/// ```
/// use smtp_bulk::Verdict;
///
/// let verdict = Verdict::from_code(104)?.requeue();
/// assert_eq!(verdict, Verdict::BENCH.requeue());
/// assert_eq!(verdict.code(), 104);
/// assert!(Verdict::from_code(7).is_err());
/// # Ok::<(), smtp_bulk::UnknownCode>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Verdict {
    /// What becomes of the session.
    pub session: SessionVerdict,
    /// What becomes of the message.
    pub message: MessageVerdict,
}

impl Verdict {
    /// 1: go on as the event's default says.
    pub const DEFAULT: Verdict = Verdict::of(SessionVerdict::Default);
    /// 101: retire the lane for good.
    pub const RETIRE: Verdict = Verdict::of(SessionVerdict::Retire);
    /// 102: bench the lane, and reconnect it when the batch ends.
    pub const RECONNECT_AT_BATCH_END: Verdict = Verdict::of(SessionVerdict::ReconnectAtBatchEnd);
    /// 103: bench the lane, and restart every connection when the batch ends.
    pub const RESTART_AT_BATCH_END: Verdict = Verdict::of(SessionVerdict::RestartAtBatchEnd);
    /// 104: bench the lane until the batch ends.
    pub const BENCH: Verdict = Verdict::of(SessionVerdict::Bench);
    /// 202: reconnect the lane now.
    pub const RECONNECT_NOW: Verdict = Verdict::of(SessionVerdict::ReconnectNow);
    /// 203: restart every connection now.
    pub const RESTART_NOW: Verdict = Verdict::of(SessionVerdict::RestartNow);

    const fn of(session: SessionVerdict) -> Verdict {
        Verdict { session, message: MessageVerdict::Default }
    }

    /// The verdict with this number of Net::SMTP::Bulk: 1, 101 to 104, 202 or 203.
    ///
    /// # Errors
    /// When there is no such verdict.
    pub const fn from_code(code: u16) -> Result<Verdict, UnknownCode> {
        Ok(match code {
            1 => Verdict::DEFAULT,
            101 => Verdict::RETIRE,
            102 => Verdict::RECONNECT_AT_BATCH_END,
            103 => Verdict::RESTART_AT_BATCH_END,
            104 => Verdict::BENCH,
            202 => Verdict::RECONNECT_NOW,
            203 => Verdict::RESTART_NOW,
            code => return Err(UnknownCode(code)),
        })
    }

    /// The number of the session verdict.
    pub const fn code(self) -> u16 {
        match self.session {
            SessionVerdict::Default => 1,
            SessionVerdict::Retire => 101,
            SessionVerdict::ReconnectAtBatchEnd => 102,
            SessionVerdict::RestartAtBatchEnd => 103,
            SessionVerdict::Bench => 104,
            SessionVerdict::ReconnectNow => 202,
            SessionVerdict::RestartNow => 203,
        }
    }

    /// The same, and the message is tried again.
    pub const fn requeue(self) -> Verdict {
        Verdict { message: MessageVerdict::Requeue, ..self }
    }

    /// The same, and the message is dropped.
    pub const fn drop_message(self) -> Verdict {
        Verdict { message: MessageVerdict::Drop, ..self }
    }

    pub(crate) fn is_default(self) -> bool {
        self == Verdict::DEFAULT
    }
}

/// A number that is no verdict.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownCode(pub u16);

impl fmt::Display for UnknownCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is no verdict; there are 1, 101, 102, 103, 104, 202 and 203", self.0)
    }
}

impl std::error::Error for UnknownCode {}

/// A line that a server has said.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ReadLine<'a> {
    /// The lane on which it was read.
    pub lane: LaneId,
    /// The name of the lane's host.
    pub host: &'a str,
    /// The line without its end. Of an authentication only how many octets came.
    pub line: &'a [u8],
}

impl fmt::Display for ReadLine<'_> {
    /// Control characters are escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(self.line);
        write!(f, "{}:{} {}", self.host, self.lane.thread, text.escape_debug())
    }
}

/// Decides on all events. Every method has the default verdict as default.
///
/// ```
/// use smtp_bulk::{Event, Handler, Mailer, Report, Verdict};
///
/// #[derive(Default)]
/// struct Counting {
///     refusals: u64,
/// }
///
/// impl Handler for Counting {
///     fn fail(&mut self, event: &Event<'_>) -> Verdict {
///         self.refusals += 1;
///         let code = event.reply().map(|reply| reply.code().as_u16());
///         if code == Some(554) { Verdict::DEFAULT.drop_message() } else { Verdict::DEFAULT }
///     }
///
///     fn report(&mut self, report: Report<'_>) {
///         println!("{}: {}; {} refusals", report.message.message_id(), report.outcome, self.refusals);
///     }
/// }
///
/// let builder = Mailer::builder().handler(Counting::default());
/// # let _ = builder;
/// ```
///
/// An event is put together where [`Handler::wants`] says that its kind is of
/// interest: say no there to what you do not look at, and a mail that goes well costs
/// you nothing.
///
/// Methods run between two steps of the lockstep, so a slow one holds up every
/// session. One that panics loses no mail: the event counts as answered with
/// [`Verdict::DEFAULT`], everything else of the settle is done and asked, and
/// then the first panic reaches whoever polls the mailer, which stays usable.
pub trait Handler {
    /// Whether there is something to be told about events of this kind. It is asked
    /// before each event, and may say another thing each time. Where it says
    /// no, the kind's method is not called, and [`Verdict::DEFAULT`] holds.
    fn wants(&self, _kind: EventKind) -> bool {
        true
    }
    /// The lane's first connection stands, before authentication.
    fn connect_pass(&mut self, _event: &Event<'_>) -> Verdict {
        Verdict::DEFAULT
    }
    /// The lane's first connection did not come about, or was lost or put off in
    /// AUTH.
    fn connect_fail(&mut self, _event: &Event<'_>) -> Verdict {
        Verdict::DEFAULT
    }
    /// The server accepted the credentials.
    fn auth_pass(&mut self, _event: &Event<'_>) -> Verdict {
        Verdict::DEFAULT
    }
    /// The server refused the credentials, or they cannot be used with it.
    fn auth_fail(&mut self, _event: &Event<'_>) -> Verdict {
        Verdict::DEFAULT
    }
    /// A later connection stands.
    fn reconnect_pass(&mut self, _event: &Event<'_>) -> Verdict {
        Verdict::DEFAULT
    }
    /// A later connection did not come about.
    fn reconnect_fail(&mut self, _event: &Event<'_>) -> Verdict {
        Verdict::DEFAULT
    }
    /// An expected reply of the mail phase.
    fn pass(&mut self, _event: &Event<'_>) -> Verdict {
        Verdict::DEFAULT
    }
    /// A refused step of the mail phase, or content that failed.
    fn fail(&mut self, _event: &Event<'_>) -> Verdict {
        Verdict::DEFAULT
    }
    /// In the mail phase a deadline passed, the connection was lost, or the
    /// server sent garbage.
    fn hang(&mut self, _event: &Event<'_>) -> Verdict {
        Verdict::DEFAULT
    }
    /// Nothing moved on any lane for long; what is said holds for all that wait.
    fn global_hang(&mut self, _event: &Event<'_>) -> Verdict {
        Verdict::DEFAULT
    }
    /// Whether [`Handler::read`] is of interest. It is asked once, at `connect`.
    fn wants_lines(&self) -> bool {
        false
    }
    /// A server has said this line. It is told when it is read, before anything is made
    /// of it.
    fn read(&mut self, _line: &ReadLine<'_>) {}
    /// A message's outcome is final: called once for each message that is not
    /// returned to the caller by an error.
    fn report(&mut self, _report: Report<'_>) {}
    /// Something has changed about a host: it is slowed down, or rests, or does no more.
    /// It is told when all is settled, and there is nothing to decide.
    fn host_changed(&mut self, _change: &HostChange<'_>) {}
    /// Whether there is something to be told of steps. It is asked when a step is to be
    /// judged, and where it says no nothing is put together. A mailer asks once before it
    /// connects, too: told yes, it listens to all connections at the same time, which
    /// costs some system calls a reply, so that a reply is read when it comes, and not when
    /// its lane's turn does.
    fn wants_steps(&self) -> bool {
        false
    }
    /// A lane has taken a step, which is judged next: its events follow. There is nothing to
    /// decide.
    fn step_taken(&mut self, _taken: &StepTaken<'_>) {}
}

/// Has no opinion on anything.
impl Handler for () {
    fn wants(&self, _kind: EventKind) -> bool {
        false
    }
}

/// Asks the method that the event belongs to.
pub(crate) fn consult<H: Handler + ?Sized>(handler: &mut H, event: &Event<'_>) -> Verdict {
    match event.kind {
        EventKind::ConnectPass => handler.connect_pass(event),
        EventKind::ConnectFail => handler.connect_fail(event),
        EventKind::AuthPass => handler.auth_pass(event),
        EventKind::AuthFail => handler.auth_fail(event),
        EventKind::ReconnectPass => handler.reconnect_pass(event),
        EventKind::ReconnectFail => handler.reconnect_fail(event),
        EventKind::Pass => handler.pass(event),
        EventKind::Fail => handler.fail(event),
        EventKind::Hang => handler.hang(event),
        EventKind::GlobalHang => handler.global_hang(event),
    }
}
