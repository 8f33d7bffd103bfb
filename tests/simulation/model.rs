//! What is remembered of an event and of a lane to foretell what comes next,
//! and what the manual's table of verdicts makes of an event.

use std::time::Duration;

use smtp_bulk::coordinator::{Lane, Link, Standing};
use smtp_bulk::host::HostSettings;
use smtp_bulk::session::MailTag;
use smtp_bulk::{EventKind, SessionVerdict, Step, Verdict};

use super::attempts::blames_session;
use super::portions::is_waiting;

/// An event and what the callback said.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub lane: usize,
    pub kind: EventKind,
    pub step: Step,
    pub code: Option<u16>,
    /// The client itself cannot send the mail.
    pub is_client: bool,
    /// It is about a content that was sent by BDAT.
    pub is_chunk: bool,
    /// This process is short of descriptors.
    pub is_shortage: bool,
    pub mail: Option<usize>,
    pub attempt: u32,
    pub verdict: Verdict,
}

impl Seen {
    /// Whether the refusal is about the session; a chunk is a command.
    pub fn blames(&self, code: u16) -> bool {
        let step = if self.is_chunk { Step::Data } else { self.step };
        blames_session(step, code)
    }

    /// A restart is asked for because a connection did not come about.
    pub fn asks_too_soon(&self) -> bool {
        let failed = matches!(self.kind, EventKind::ConnectFail | EventKind::ReconnectFail);
        failed && is_restart(self.verdict.session)
    }
}

/// A lane before a settle.
#[derive(Clone, Copy, Debug)]
pub struct Before {
    pub connection: u64,
    pub is_up: bool,
    /// It has no connection, or is about to have none.
    pub is_down: bool,
    /// It waits for the time or the place to be opened.
    pub is_waiting: bool,
    pub is_opening: bool,
    pub is_ready: bool,
    pub has_failed: bool,
    pub has_begun: bool,
    pub in_doubt: bool,
    /// The server has said that it closes, or has refused a content too early.
    pub is_spent: bool,
    pub is_pipelined: bool,
    pub is_authenticated: bool,
    /// Another lane authenticates first.
    pub waits: bool,
    /// AUTH was answered, and the connection ended behind that.
    pub ends_at_gate: bool,
    /// It sits out, and has to authenticate when it goes on.
    pub sits_outside: bool,
    /// It had no connection as there was no mail for it.
    pub is_at_rest: bool,
    pub held: usize,
    pub latest: MailTag,
    pub is_alone: bool,
    /// It is in the batch, or alone.
    pub has_part: bool,
    /// Its connection may be given up as planned.
    pub may_be_replaced: bool,
}

impl Before {
    pub fn of(lane: &Lane) -> Before {
        let session = lane.session();
        let is_up = lane.link() == Link::Up;
        let is_opening = lane.standing() == Standing::Opening;
        Before {
            connection: lane.connection(),
            is_up: is_up && !session.is_leaving(),
            is_down: lane.link() == Link::Down || (is_up && session.is_leaving()),
            is_waiting: is_waiting(lane),
            is_opening,
            is_ready: is_up && session.is_ready(),
            has_failed: session.failure().is_some(),
            has_begun: session.has_flight_begun(),
            in_doubt: session.has_doubt(),
            is_spent: is_up && !is_opening && session.is_over() && !session.is_ready(),
            is_pipelined: session.is_pipelined(),
            is_authenticated: session.is_authenticated(),
            waits: is_opening && session.is_ready() && !session.has_answer(),
            ends_at_gate: is_opening && session.has_answer() && session.failure().is_some(),
            sits_outside: lane.standing() == Standing::Benched && is_up && !session.is_authenticated(),
            is_at_rest: lane.standing() == Standing::Resting,
            held: lane.held(),
            latest: lane.latest_mail(),
            is_alone: lane.is_alone(),
            has_part: lane.is_alone() || lane.is_in_batch(),
            may_be_replaced: is_up && is_at_its_end(lane),
        }
    }
}

fn is_at_its_end(lane: &Lane) -> bool {
    let stated = lane.session().extensions().mails_limit();
    let most = stated.into_iter().chain(lane.host().mails_per_connection).min();
    most.is_some_and(|most| lane.mails_begun() >= most) || lane.host().max_connection_age.is_some()
}

/// A lane and its host's credentials after a settle.
#[derive(Clone, Copy, Debug)]
pub struct Door {
    pub must_authenticate: bool,
    pub is_refused: bool,
}

/// What is known of a lane between settles.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub retired: bool,
    /// It was retired as its credentials had been refused: surely, or perhaps.
    pub shut_out: Option<bool>,
    /// No mail may go over this connection or an earlier one.
    pub dead: Option<u64>,
    /// It sits out until more batches than this have ended.
    pub benched: Option<u64>,
    /// It has no connection while it sits out.
    pub is_closed: bool,
    /// The wait before the opening that follows the bench.
    pub wait: (Duration, Duration),
    pub opens_from: Option<Duration>,
    pub opens_by: Option<Duration>,
    /// The longest wait before the opening that a restart brings, where the
    /// restart was asked for at a connection that failed.
    pub renewal_wait: Option<Duration>,
    /// A content is out, and the connection ends with its answer: surely, or
    /// perhaps.
    pub dying: Option<(u64, bool)>,
    pub has_been_open: bool,
    /// No connection had stood when this one was dialled.
    pub is_first: bool,
    /// When it was dealt the mail that it holds.
    pub dealt_at: Option<Duration>,
    /// When it was dealt the one before, which it may hold as well.
    pub dealt_before: Option<Duration>,
    /// Openings since a mail was finished, and how many there may be.
    pub dials: u32,
    pub most_dials: u32,
    /// Events that may be about refused mails.
    pub refusals: u32,
    /// They have become so many that the connection is given up, and it is not yet
    /// opened anew.
    pub opens_as_planned: bool,
    /// Setbacks since a mail was finished, or a few more.
    pub setbacks: u32,
}

pub fn forget(model: &mut Model) {
    let kept = model.clone();
    *model = Model {
        shut_out: kept.shut_out,
        has_been_open: kept.has_been_open,
        is_first: kept.is_first,
        renewal_wait: kept.renewal_wait,
        dealt_at: kept.dealt_at,
        dealt_before: kept.dealt_before,
        dials: kept.dials,
        most_dials: kept.most_dials,
        refusals: kept.refusals,
        opens_as_planned: kept.opens_as_planned,
        setbacks: kept.setbacks,
        ..Model::default()
    };
}

pub fn is_restart(verdict: SessionVerdict) -> bool {
    matches!(verdict, SessionVerdict::RestartNow | SessionVerdict::RestartAtBatchEnd)
}

/// The verdict with defaults and bounds put in; restarts that come this far
/// are beyond their bound.
pub fn effective(seen: &Seen, usable: bool) -> SessionVerdict {
    use SessionVerdict as V;
    let verdict = match (seen.verdict.session, seen.kind) {
        (V::Default, _) => foremost(seen),
        (V::RestartNow, _) => V::ReconnectAtBatchEnd,
        (V::RestartAtBatchEnd, _) => V::Bench,
        (verdict, _) => verdict,
    };
    match verdict {
        V::Default | V::Bench if !usable => V::ReconnectAtBatchEnd,
        verdict => verdict,
    }
}

/// The verdict with its default put in.
pub fn foremost(seen: &Seen) -> SessionVerdict {
    match (seen.verdict.session, seen.kind) {
        (SessionVerdict::Default, EventKind::Hang) => SessionVerdict::ReconnectAtBatchEnd,
        (SessionVerdict::Default, EventKind::Fail) if seen.code.is_some_and(|code| seen.blames(code)) => {
            SessionVerdict::ReconnectAtBatchEnd
        }
        (verdict, _) => verdict,
    }
}

/// Of several verdicts on a flight the gravest is carried out.
pub fn gravity(verdict: SessionVerdict) -> u8 {
    match verdict {
        SessionVerdict::Default => 0,
        SessionVerdict::Bench => 1,
        SessionVerdict::ReconnectAtBatchEnd => 2,
        SessionVerdict::ReconnectNow => 3,
        SessionVerdict::Retire => 4,
        SessionVerdict::RestartAtBatchEnd => 5,
        _ => 6,
    }
}

/// How often a lane of the host may be opened in a row.
pub fn most_dials(host: &HostSettings) -> u32 {
    let Some(retry) = host.retry else { return host.max_connect_failures };
    let all = [retry.hang, retry.global_hang, retry.fail];
    // Without a bound it is time that is one.
    if all.contains(&0) { u32::MAX / 4 } else { 1 + all.iter().sum::<u32>() }
}

/// Whether so many setbacks may be one too many.
pub fn may_be_spent(host: &HostSettings, setbacks: u32) -> bool {
    let Some(retry) = host.retry else { return setbacks >= host.max_connect_failures };
    let least = [retry.hang, retry.global_hang, retry.fail].into_iter().filter(|most| *most > 0).min();
    least.is_some_and(|least| setbacks > least) || setbacks > 0 && retry.fail * retry.hang == 0
}

/// The longest wait before the opening that follows failure number `failures`.
pub fn doubled(host: &HostSettings, failures: u32) -> Duration {
    let factor = 2_u32.saturating_pow(failures.saturating_sub(1));
    host.backoff.base.saturating_mul(factor).min(host.backoff.max)
}
