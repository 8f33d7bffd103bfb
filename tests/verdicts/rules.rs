//! What every verdict comes to, as the document has it. It knows nothing of how the
//! coordinator does it: a line says what becomes of everything by itself, and the
//! rules say what a verdict changes.

use smtp_bulk::{EventKind, MessageVerdict, Pace};

use EventKind as K;
use MessageVerdict as M;

use crate::peers::{CHANGING, SHORTAGE};
use crate::rows::{Fate, Link, Row, Way};

/// What becomes of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SessionFate {
    Stays,
    SitsOut,
    Retires,
    Reopens { at_end: bool, waits: bool },
    Restart { at_end: bool, waits: bool },
}

impl SessionFate {
    pub fn cell(self) -> &'static str {
        match self {
            SessionFate::Stays => "stays",
            SessionFate::SitsOut => "sits out",
            SessionFate::Retires => "retires",
            SessionFate::Reopens { at_end: true, waits: false } => "reopens at end",
            SessionFate::Reopens { at_end: true, waits: true } => "reopens at end, waits",
            SessionFate::Reopens { at_end: false, waits: false } => "reopens now",
            SessionFate::Reopens { at_end: false, waits: true } => "reopens now, waits",
            SessionFate::Restart { at_end: true, waits: false } => "restart at end",
            SessionFate::Restart { at_end: true, waits: true } => "restart at end, waits",
            SessionFate::Restart { at_end: false, waits: false } => "restart now",
            SessionFate::Restart { at_end: false, waits: true } => "restart now, waits",
        }
    }

    pub fn is_replaced(self) -> bool {
        !matches!(self, SessionFate::Stays | SessionFate::SitsOut)
    }
}

/// What becomes of everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    pub session: SessionFate,
    /// The mail; its recipient, where the event names one.
    pub it: Fate,
    pub others: Fate,
    pub before: Fate,
    pub behind: Fate,
}

/// What every verdict comes to on this line.
pub fn expected(row: &Row, code: u16, message: MessageVerdict, in_batch: bool, pace: Pace) -> Seen {
    let session = session(row, code, message, in_batch, pace);
    let under = |own, given_up| fate(own, given_up, code, message, row.about == SHORTAGE);
    let it = under(row.it, row.given_up);
    let others = under(row.others, Fate::Again);
    let (before, behind) = if row.way == Way::Lmtp {
        // They are recipients of the same mail.
        (under(row.before, Fate::Again), under(row.behind, Fate::Again))
    } else {
        let before = if row.place > 0 { row.before } else { Fate::None };
        let has_more = row.has_mail() && row.place + 1 < row.way.mails();
        (before, if has_more { with_the_lane(row.behind, session) } else { Fate::None })
    };
    Seen { session, it, others, before, behind }
}

/// The first rule that applies: delivered or in doubt, drop, requeue, refused, again.
fn fate(own: Fate, given_up: Fate, code: u16, message: MessageVerdict, is_short: bool) -> Fate {
    // Where the lane only sits out nothing else would bound how often it comes back.
    let free = if code == 104 { Fate::Again } else { Fate::Free };
    match (own, message) {
        (Fate::None | Fate::Delivered | Fate::InDoubt, _) => own,
        (_, M::Drop) => Fate::Dropped,
        (Fate::Free, M::Requeue) if is_short => Fate::Again,
        (Fate::Free, _) => free,
        (_, M::Requeue) => Fate::Again,
        (Fate::GoesOn | Fate::GoesOnWithout, _) if code != 1 => given_up,
        _ => own,
    }
}

/// A mail that is not concluded goes on where its lane does, and else back without an
/// attempt.
fn with_the_lane(own: Fate, session: SessionFate) -> Fate {
    if own.goes_on() && session != SessionFate::Stays { Fate::Free } else { own }
}

/// What every code does from every callback.
fn session(row: &Row, code: u16, message: MessageVerdict, others: bool, pace: Pace) -> SessionFate {
    if row.it.goes_on() && (code, message) == (1, M::Default) {
        return SessionFate::Stays;
    }
    // The lane gives its descriptor to the contents of others for a while.
    if row.about == SHORTAGE && code == 1 {
        return SessionFate::Reopens { at_end: false, waits: true };
    }
    // Nobody goes on with what was refused, whatever is said to it.
    if row.kind == K::AuthFail && row.guards != CHANGING {
        return SessionFate::Retires;
    }
    let waits = row.link == Link::None;
    // Where the pace is free a lane's batch ends with its own mail, but a restart waits for
    // the mails of all.
    let in_batch = others && pace != Pace::Free;
    let reopens = SessionFate::Reopens { at_end: in_batch, waits };
    match (code, row.link) {
        (1, Link::Fit | Link::AtContent) => SessionFate::Stays,
        (104, Link::Fit | Link::Doubtful) if in_batch => SessionFate::SitsOut,
        (104, Link::Fit | Link::Doubtful) => SessionFate::Stays,
        (1 | 102 | 104, _) => reopens,
        (101, _) => SessionFate::Retires,
        (103, _) => SessionFate::Restart { at_end: others, waits },
        (202, _) => SessionFate::Reopens { at_end: false, waits },
        (203, _) => SessionFate::Restart { at_end: false, waits },
        _ => panic!("{code} is no code"),
    }
}

/// Of several codes that were said about one flight the gravest counts.
pub fn gravest(one: u16, other: u16) -> u16 {
    let order = [203, 103, 101, 202, 102, 104, 1];
    order.into_iter().find(|code| [one, other].contains(code)).expect("a code")
}
