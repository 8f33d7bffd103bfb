//! What the server can be told to do wrong, and when: plain values, and the seeded dice that decide.
//!
//! This file decides whether a fault fires; it must never touch a connection or write a reply.

use std::time::Duration;

/// The longest line that [`Misdeed::LongReply`] may ask for, so that a reply stays a bounded buffer.
pub(super) const MAX_LONG_REPLY: usize = 1 << 20;

/// The place in the dialogue at which a [`Fault`] may fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// A client has connected and waits for the greeting.
    Greeting,
    /// `EHLO` was received, or `LHLO` by a server of LMTP.
    Ehlo,
    /// `HELO` was received.
    Helo,
    /// A well-formed `MAIL` was received.
    Mail,
    /// A well-formed `RCPT` was received; see also [`Fault::address_prefix`].
    Rcpt,
    /// `DATA` was received.
    Data,
    /// The first byte behind `DATA`, or of the first `BDAT` chunk that has any, was read, and no
    /// reply is due: what a misdeed does to the reply is then done on its own, in the middle of the
    /// content.
    Content,
    /// The content is complete, by the final dot or by the last chunk, and waits for its final
    /// reply. In LMTP this step comes once for each accepted recipient, in their order, and a fault
    /// there is about this recipient alone; see also [`Fault::address_prefix`].
    Dot,
    /// A well-formed `BDAT` was received, and its octets were not read yet. No reply is due, as at
    /// [`Step::Content`]: a refusal comes early, and the octets are read and dropped.
    Bdat,
    /// The octets of a `BDAT` that is not the last one were read, and its reply is due.
    Chunk,
    /// `RSET` was received.
    Rset,
    /// `NOOP` was received.
    Noop,
    /// `VRFY` was received.
    Vrfy,
    /// `EXPN` was received by a server that offers it.
    Expn,
    /// `ETRN` was received by a server that offers it.
    Etrn,
    /// `QUIT` was received.
    Quit,
    /// `STARTTLS` was received. [`Misdeed::Surplus`] puts its reply into the same write as the 220,
    /// as one who injects plaintext does.
    StartTls,
    /// A TLS handshake is due. There is no reply here: [`Misdeed::Delay`] delays the handshake,
    /// [`Misdeed::Surplus`] sends its reply in the clear, in a write of its own, and goes on, and
    /// every other misdeed takes the place of the handshake, so that the connection is of no use
    /// any more.
    Tls,
    /// `AUTH` with a mechanism was received.
    Auth,
    /// The client's answer to a 334 was received. A refusal ends the AUTH.
    Challenge,
}

impl Step {
    /// The step's bit in [`Faults::mask`].
    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// What the server does instead of behaving.
///
/// [`Refuse`](Misdeed::Refuse), [`RefuseUnread`](Misdeed::RefuseUnread),
/// [`RefuseClose`](Misdeed::RefuseClose) and [`Close421`](Misdeed::Close421) leave the command
/// without effect. All others change only what the client sees: the command has its effect, so a mail that
/// meets [`Close`](Misdeed::Close) at [`Step::Dot`] *was* stored, although the client cannot know
/// (RFC 1047).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Misdeed {
    /// Answers with this code (200 to 599) and text; the command has no effect. A line feed in the
    /// text makes a multi-line reply. At [`Step::Content`] the reply comes early, the rest of the
    /// content is read and dropped, and the final dot is not answered again.
    Refuse(u16, String),
    /// The same, but at [`Step::Bdat`] the octets are not read as such: they are taken for commands,
    /// as by a server that does not know `BDAT`.
    RefuseUnread(u16, String),
    /// Answers with this code and text, as [`Misdeed::Refuse`] does, and closes.
    RefuseClose(u16, String),
    /// Answers 421 and closes; the command has no effect.
    Close421,
    /// Waits, reading nothing meanwhile, and then goes on: with the next fault of the same step
    /// when there is one, or else by behaving. The idle timeout does not count this wait.
    Delay(Duration),
    /// Reads on and never answers again, until the peer closes or the server stops.
    Hang,
    /// Closes at once, without the reply.
    Close,
    /// Sends the reply and closes.
    CloseAfter,
    /// Sends the first half of the reply, then reads on and never answers again.
    HalfReply,
    /// Sends the first half of the reply and closes.
    HalfReplyClose,
    /// Sends these bytes in the place of the reply; [`Misdeed::garbage`] has some at hand.
    Garbage(Vec<u8>),
    /// Sends a reply with the right code whose one line is this many bytes long (at most 1 MiB).
    LongReply(usize),
    /// Sends the reply and, right behind it, another one with this code and text that nobody asked for.
    Surplus(u16, String),
    /// Sends the reply, and loses what was read together with the command and stood behind it; see
    /// [`Circumstance::Followed`].
    LoseInput,
}

impl Misdeed {
    /// [`Misdeed::Refuse`] from a borrowed text.
    pub fn refuse(code: u16, text: impl Into<String>) -> Self {
        Self::Refuse(code, text.into())
    }

    /// [`Misdeed::Surplus`] from a borrowed text.
    pub fn surplus(code: u16, text: impl Into<String>) -> Self {
        Self::Surplus(code, text.into())
    }

    /// [`Misdeed::Garbage`] with a line that no client can take for a reply.
    pub fn garbage() -> Self {
        Self::Garbage(b"\x16\x03\x01 this is no reply\r\n".to_vec())
    }

    /// What is wrong with the values in it.
    fn complaint(&self) -> Option<&'static str> {
        match self {
            Self::Refuse(code, _)
            | Self::RefuseUnread(code, _)
            | Self::RefuseClose(code, _)
            | Self::Surplus(code, _)
                if !(200..600).contains(code) =>
            {
                Some("a reply code lies between 200 and 599")
            }
            Self::LongReply(length) if *length > MAX_LONG_REPLY => Some("a long reply is 1 MiB at most"),
            _ => None,
        }
    }
}

/// What else has to be so for a [`Fault`] to fire; otherwise the occasion does not count.
///
/// What is "read together" is what one read brought, of up to 64 KiB: all of what a client wrote at
/// once, as a rule, but TCP promises nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Circumstance {
    /// More was read together with this command, or with the end of this content, and stands
    /// behind it.
    Followed,
    /// The end of a content, or of a `BDAT` chunk, was read together with this command and stands
    /// before it.
    BehindContent,
    /// A mail is under way whose recipients were all refused, one of them at least.
    AllRefused,
    /// So many recipients of this mail were accepted before, or more.
    Accepted(usize),
}

/// A moment at which a fault could fire.
#[derive(Clone, Copy, Debug)]
pub(super) struct Occasion<'a> {
    pub(super) step: Step,
    pub(super) address: Option<&'a str>,
    /// More input is at hand.
    pub(super) followed: bool,
    /// A content or a chunk has ended in the same read.
    pub(super) behind_content: bool,
    /// A recipient was named.
    pub(super) addressed: bool,
    /// The recipients that were accepted.
    pub(super) recipients: usize,
}

impl<'a> Occasion<'a> {
    /// One without any circumstance.
    #[cfg(test)]
    fn plain(step: Step, address: Option<&'a str>) -> Self {
        Self { step, address, followed: false, behind_content: false, addressed: false, recipients: 0 }
    }

    fn is(&self, circumstance: Circumstance) -> bool {
        match circumstance {
            Circumstance::Followed => self.followed,
            Circumstance::BehindContent => self.behind_content,
            Circumstance::AllRefused => self.addressed && self.recipients == 0,
            Circumstance::Accepted(count) => self.recipients >= count,
        }
    }
}

/// One misdeed at one step, with its probability.
///
/// ```
/// use smtp_bulk::sink::{Circumstance, Fault, Misdeed, Step};
///
/// let unknown = Fault::new(Step::Rcpt, Misdeed::refuse(550, "5.1.1 no such mailbox"))
///     .address_prefix("reject");
/// let flaky = Fault::new(Step::Dot, Misdeed::Close).probability(0.01);
/// let second_only = Fault::new(Step::Mail, Misdeed::Close421).skip(1).times(1);
/// let deaf = Fault::new(Step::Dot, Misdeed::LoseInput).when(Circumstance::Followed);
/// # let _ = (unknown, flaky, second_only, deaf);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    at: Step,
    what: Misdeed,
    probability: f64,
    skip: u64,
    times: Option<u64>,
    address_prefix: Option<String>,
    when: Option<Circumstance>,
}

impl Fault {
    /// A fault that fires each time the step is reached.
    pub fn new(at: Step, what: Misdeed) -> Self {
        Self { at, what, probability: 1.0, skip: 0, times: None, address_prefix: None, when: None }
    }

    /// Fires with this probability, from 0 (never) to 1 (always, the default).
    #[must_use]
    pub fn probability(mut self, probability: f64) -> Self {
        self.probability = probability;
        self
    }

    /// Lets the first `count` occasions pass, over all connections.
    #[must_use]
    pub fn skip(mut self, count: u64) -> Self {
        self.skip = count;
        self
    }

    /// Fires at most `count` times, over all connections.
    #[must_use]
    pub fn times(mut self, count: u64) -> Self {
        self.times = Some(count);
        self
    }

    /// Fires only for an address that begins with this text (exact case), at [`Step::Mail`] and
    /// [`Step::Rcpt`], and in LMTP at [`Step::Dot`]; at other steps there is no address and the
    /// fault never fires.
    #[must_use]
    pub fn address_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.address_prefix = Some(prefix.into());
        self
    }

    /// Fires only when this is so; of several the last one counts.
    #[must_use]
    pub fn when(mut self, circumstance: Circumstance) -> Self {
        self.when = Some(circumstance);
        self
    }

    /// What is wrong with the values in it.
    pub(super) fn complaint(&self) -> Option<&'static str> {
        if !(0.0..=1.0).contains(&self.probability) {
            return Some("a probability lies between 0 and 1");
        }
        self.what.complaint()
    }

    /// Whether this is an occasion at which the fault could fire.
    fn concerns(&self, occasion: &Occasion<'_>) -> bool {
        self.at == occasion.step
            && self.when.is_none_or(|circumstance| occasion.is(circumstance))
            && self.address_prefix.as_deref().is_none_or(|prefix| {
                occasion.address.is_some_and(|address| address.as_bytes().starts_with(prefix.as_bytes()))
            })
    }

    /// Uses up one occasion, and says whether the fault fires at it.
    fn fires(&mut self, dice: &mut fastrand::Rng) -> bool {
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        if self.times == Some(0) || dice.f64() >= self.probability {
            return false;
        }
        self.times = self.times.map(|left| left.saturating_sub(1));
        true
    }
}

/// All faults of a server and its dice.
#[derive(Debug)]
pub(super) struct Faults {
    list: Vec<Fault>,
    /// One bit per step at which anything can fire, so that a server that behaves pays nothing.
    mask: u32,
    dice: fastrand::Rng,
}

impl Faults {
    pub(super) fn new(list: Vec<Fault>, seed: u64) -> Self {
        let mask = list.iter().fold(0, |mask, fault| mask | fault.at.bit());
        Self { list, mask, dice: fastrand::Rng::with_seed(seed) }
    }

    /// Whether any fault waits at this step.
    pub(super) fn waits_at(&self, step: Step) -> bool {
        self.mask & step.bit() != 0
    }

    /// The first fault, from index `from` on, that fires now, with its index.
    pub(super) fn roll(&mut self, occasion: &Occasion<'_>, from: usize) -> Option<(usize, Misdeed)> {
        let dice = &mut self.dice;
        let waiting = self.list.iter_mut().enumerate().skip(from);
        waiting
            .filter(|(_, fault)| fault.concerns(occasion))
            .find_map(|(index, fault)| fault.fires(dice).then(|| (index, fault.what.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_fires_the_same_faults() {
        let run = |seed| {
            let fault = Fault::new(Step::Noop, Misdeed::Hang).probability(0.5);
            let mut faults = Faults::new(vec![fault], seed);
            (0..64).map(|_| faults.roll(&Occasion::plain(Step::Noop, None), 0).is_some()).collect::<Vec<_>>()
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }

    #[test]
    fn skip_and_times_bound_the_occasions() {
        let fault = Fault::new(Step::Noop, Misdeed::Hang).skip(1).times(2);
        let mut faults = Faults::new(vec![fault], 0);
        let fired: Vec<bool> =
            (0..5).map(|_| faults.roll(&Occasion::plain(Step::Noop, None), 0).is_some()).collect();
        assert_eq!(fired, [false, true, true, false, false]);
    }

    #[test]
    fn a_prefix_needs_an_address() {
        let fault = Fault::new(Step::Rcpt, Misdeed::Hang).address_prefix("reject");
        let mut faults = Faults::new(vec![fault], 0);
        assert!(faults.roll(&Occasion::plain(Step::Rcpt, Some("a@b.example")), 0).is_none());
        assert!(faults.roll(&Occasion::plain(Step::Rcpt, None), 0).is_none());
        assert!(faults.roll(&Occasion::plain(Step::Rcpt, Some("reject1@b.example")), 0).is_some());
    }

    #[test]
    fn a_probability_of_nought_never_fires_and_not_a_number_is_a_complaint() {
        let mut faults = Faults::new(vec![Fault::new(Step::Mail, Misdeed::Close).probability(0.0)], 1);
        assert!((0..1000).all(|_| faults.roll(&Occasion::plain(Step::Mail, None), 0).is_none()));
        let odd = Fault::new(Step::Mail, Misdeed::Close).probability(f64::NAN);
        assert!(odd.complaint().is_some());
        let odd = Fault::new(Step::Mail, Misdeed::refuse(99, "no"));
        assert!(odd.complaint().is_some());
    }

    #[test]
    fn circumstances_that_are_not_so_are_no_occasions() {
        let plain = Occasion::plain(Step::Mail, None);
        for (circumstance, fits) in [
            (Circumstance::Followed, Occasion { followed: true, ..plain }),
            (Circumstance::BehindContent, Occasion { behind_content: true, ..plain }),
            (Circumstance::AllRefused, Occasion { addressed: true, ..plain }),
            (Circumstance::Accepted(2), Occasion { addressed: true, recipients: 2, ..plain }),
        ] {
            let fault = Fault::new(Step::Mail, Misdeed::Hang).when(circumstance).times(1);
            let mut faults = Faults::new(vec![fault], 0);
            let misfit = Occasion { addressed: true, recipients: 1, ..plain };
            assert!(faults.roll(&plain, 0).is_none() && faults.roll(&misfit, 0).is_none());
            assert!(faults.roll(&fits, 0).is_some(), "{circumstance:?}");
        }
    }
}
