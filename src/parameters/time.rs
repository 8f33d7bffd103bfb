//! When a mail is to be delivered: by when (RFC 2852), not before when (RFC 4865), and before which
//! others (RFC 6710); and whether that is within the bounds that a server states.

use std::fmt;

use super::ParameterError;
use crate::extensions::{Extension, Extensions};

/// Most seconds that nine digits can tell (RFC 2852 §2, RFC 4865 §3).
const MAX_SECONDS: i32 = 999_999_999;

fn within(number: i64, least: i32, most: i32) -> Result<i32, ParameterError> {
    let fitting = i32::try_from(number).ok().filter(|number| (least..=most).contains(number));
    fitting.ok_or(ParameterError::OutOfRange { least, most })
}

/// By when a mail is to be delivered, and what happens when it is late, as `BY` has it (RFC 2852).
///
/// The time counts from the moment at which the server reads MAIL, not from when the mail was
/// handed to this crate: for a time of day, hand over mails close to when they are sent.
///
/// ```
/// use smtp_bulk::parameters::DeliverBy;
///
/// let by = DeliverBy::or_return(120)?;
/// assert_eq!((by.seconds(), by.is_returned(), by.is_traced()), (120, true, false));
/// assert_eq!(by.to_string(), "120;R");
/// assert_eq!(DeliverBy::or_notify(3_600)?.with_trace().to_string(), "3600;NT");
/// # Ok::<(), smtp_bulk::parameters::ParameterError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DeliverBy {
    seconds: i32,
    returns: bool,
    traces: bool,
}

impl DeliverBy {
    /// Within so many seconds, or else it comes back and is not delivered.
    ///
    /// # Errors
    /// When the number is not between 1 and 999,999,999.
    pub fn or_return(seconds: u32) -> Result<DeliverBy, ParameterError> {
        let seconds = within(i64::from(seconds), 1, MAX_SECONDS)?;
        Ok(DeliverBy { seconds, returns: true, traces: false })
    }

    /// Within so many seconds, or else the sender is notified of the delay and it is delivered all
    /// the same. A time that is over, for a mail that is late already, is below 0.
    ///
    /// # Errors
    /// When the number is not between -999,999,999 and 999,999,999.
    pub fn or_notify(seconds: i32) -> Result<DeliverBy, ParameterError> {
        let seconds = within(i64::from(seconds), -MAX_SECONDS, MAX_SECONDS)?;
        Ok(DeliverBy { seconds, returns: false, traces: false })
    }

    /// The same, and the sender is told of each server on the way that does not know of this.
    #[must_use]
    pub fn with_trace(mut self) -> DeliverBy {
        self.traces = true;
        self
    }

    /// Within how many seconds; below 0 for a time that is over.
    #[must_use]
    pub fn seconds(self) -> i32 {
        self.seconds
    }

    /// Whether a mail that is late comes back; otherwise it is delivered all the same.
    #[must_use]
    pub fn is_returned(self) -> bool {
        self.returns
    }

    /// Whether the sender is told of each server on the way that does not know of this.
    #[must_use]
    pub fn is_traced(self) -> bool {
        self.traces
    }

    /// The minimum is for mails that are to come back only (RFC 2852 §2).
    pub(super) fn unfit(self, extensions: &Extensions) -> Option<Unfit> {
        let minimum = extensions.deliver_by_minimum().filter(|_| self.returns)?;
        let seconds = u32::try_from(self.seconds).unwrap_or(0);
        (seconds < minimum).then_some(Unfit::DeliverBy { seconds, minimum })
    }
}

impl fmt::Display for DeliverBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = if self.returns { "R" } else { "N" };
        write!(f, "{};{mode}{}", self.seconds, if self.traces { "T" } else { "" })
    }
}

/// How urgent a mail is among others, from -9 to 9, with 0 in the middle, as `MT-PRIORITY` has it
/// (RFC 6710).
///
/// ```
/// use smtp_bulk::parameters::Priority;
///
/// assert_eq!(Priority::new(-3)?.to_string(), "-3");
/// assert!(Priority::new(10).is_err());
/// # Ok::<(), smtp_bulk::parameters::ParameterError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Priority(i8);

impl Priority {
    /// A higher number goes first.
    ///
    /// # Errors
    /// When it is not between -9 and 9.
    pub fn new(priority: i8) -> Result<Priority, ParameterError> {
        within(i64::from(priority), -9, 9).map(|_| Priority(priority))
    }

    /// The number, from -9 to 9.
    #[must_use]
    pub fn number(self) -> i8 {
        self.0
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// How long the server keeps a mail before it sends it on, as `HOLDFOR` and `HOLDUNTIL` have it
/// (RFC 4865 §3).
///
/// ```
/// use smtp_bulk::parameters::Hold;
///
/// let day = Hold::seconds(86_400)?;
/// assert_eq!((day.as_seconds(), day.as_date_time()), (Some(86_400), None));
/// assert_eq!(day.to_string(), "HOLDFOR=86400");
/// assert_eq!(Hold::until("2030-01-31T12:00:00Z")?.to_string(), "HOLDUNTIL=2030-01-31T12:00:00Z");
/// assert!(Hold::until("tomorrow").is_err());
/// # Ok::<(), smtp_bulk::parameters::ParameterError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Hold(Held);

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Held {
    For(u32),
    Until(Box<str>),
}

impl Hold {
    /// For so many seconds from when the server has taken it.
    ///
    /// # Errors
    /// When the number is not between 1 and 999,999,999.
    pub fn seconds(seconds: u32) -> Result<Hold, ParameterError> {
        within(i64::from(seconds), 1, MAX_SECONDS).map(|_| Hold(Held::For(seconds)))
    }

    /// Until a date and time of RFC 3339, in UTC and in whole seconds: `2030-01-31T12:00:00Z`.
    ///
    /// # Errors
    /// When it is of another form, or no such day or time exists. That it has not passed is for the
    /// server to tell.
    pub fn until(date_time: &str) -> Result<Hold, ParameterError> {
        let fits = date_time.len() == WHOLE_SECONDS && is_utc_date_time(date_time);
        if fits { Ok(Hold(Held::Until(date_time.into()))) } else { Err(ParameterError::BadDateTime) }
    }

    /// For how many seconds, where it is a number of seconds.
    #[must_use]
    pub fn as_seconds(&self) -> Option<u32> {
        match self.0 {
            Held::For(seconds) => Some(seconds),
            Held::Until(_) => None,
        }
    }

    /// Until when, where it is a date and time: in UTC, as RFC 3339 has it.
    #[must_use]
    pub fn as_date_time(&self) -> Option<&str> {
        match &self.0 {
            Held::For(_) => None,
            Held::Until(date_time) => Some(date_time),
        }
    }

    pub(super) fn unfit(&self, extensions: &Extensions) -> Option<Unfit> {
        let (maximum, latest) = extensions.future_release()?;
        match &self.0 {
            Held::For(seconds) if *seconds > maximum => Some(Unfit::HoldFor { seconds: *seconds, maximum }),
            // In UTC and of the same form, so that letters compare as times do.
            Held::Until(until) if to_the_second(until) > to_the_second(latest) => {
                Some(Unfit::HoldUntil { until: until.clone(), latest: latest.into() })
            }
            Held::For(_) | Held::Until(_) => None,
        }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Held::For(seconds) => write!(f, "HOLDFOR={seconds}"),
            Held::Until(date_time) => write!(f, "HOLDUNTIL={date_time}"),
        }
    }
}

/// What an envelope asks for and the server's stated bounds exclude. Its text names the extension,
/// what was asked for and the bound.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Unfit {
    /// A mail that is to come back when it is late leaves the server too little time.
    DeliverBy {
        /// What the mail leaves.
        seconds: u32,
        /// What the server wants.
        minimum: u32,
    },
    /// A mail is to be held longer than the server does.
    HoldFor {
        /// What the mail asks for.
        seconds: u32,
        /// What the server offers.
        maximum: u32,
    },
    /// A mail is to be held until later than the server does.
    HoldUntil {
        /// What the mail asks for.
        until: Box<str>,
        /// What the server offers.
        latest: Box<str>,
    },
}

impl Unfit {
    /// The extension that it is about.
    #[must_use]
    pub fn extension(&self) -> Extension {
        match self {
            Unfit::DeliverBy { .. } => Extension::DeliverBy,
            Unfit::HoldFor { .. } | Unfit::HoldUntil { .. } => Extension::FutureRelease,
        }
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: the message is to be ", self.extension().keyword())?;
        match self {
            Unfit::DeliverBy { seconds, minimum } => {
                write!(f, "delivered in {seconds} s, and the server wants {minimum} s at least")
            }
            Unfit::HoldFor { seconds, maximum } => {
                write!(f, "held for {seconds} s, and the server holds for {maximum} s at most")
            }
            Unfit::HoldUntil { until, latest } => {
                write!(f, "held until {until}, and the server holds until {latest} at the latest")
            }
        }
    }
}

/// Octets of `2030-01-31T12:00:00Z`.
const WHOLE_SECONDS: usize = 20;

/// Most octets of a date and time, whose fraction of a second may be long.
const MAX_DATE_TIME: usize = 40;

fn to_the_second(date_time: &str) -> &str {
    date_time.get(..WHOLE_SECONDS - 1).unwrap_or(date_time)
}

/// Whether a text is `date-time` of RFC 3339 §5.6 in UTC, its `T` and `Z` in upper case.
pub(crate) fn is_utc_date_time(text: &str) -> bool {
    let Some((seconds, rest)) = text.split_at_checked(WHOLE_SECONDS - 1) else { return false };
    let is_formed = seconds.bytes().enumerate().all(|(place, found)| match place {
        4 | 7 => found == b'-',
        10 => found == b'T',
        13 | 16 => found == b':',
        _ => found.is_ascii_digit(),
    });
    let number = |from: usize, to: usize| seconds.get(from..to).and_then(|digits| digits.parse::<u32>().ok());
    let numbers = (number(0, 4), number(5, 7), number(8, 10), number(11, 13), number(14, 16), number(17, 19));
    let (Some(year), Some(month), Some(day), Some(hour), Some(minute), Some(second)) = numbers else {
        return false;
    };
    let exists = (1..=days(year, month)).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    let is_fraction = |digits: &str| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    let fraction = rest.strip_suffix('Z').map(|fraction| fraction.strip_prefix('.').unwrap_or(fraction));
    let is_ended = rest == "Z" || (rest.starts_with('.') && fraction.is_some_and(is_fraction));
    is_formed && exists && is_ended && text.len() <= MAX_DATE_TIME
}

/// How many days a month has; none if there is no such month.
fn days(year: u32, month: u32) -> u32 {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 => 28 + u32::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    }
}
