//! How long each step may take.

use std::time::{Duration, Instant};

/// Longer waits count as this one: 100 years.
pub(crate) const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// How long what needs a descriptor waits when this process is short of them.
pub(crate) const SHORTAGE_WAIT: Duration = Duration::from_millis(500);

/// The time `wait` after `now`, for any `wait` that a caller may set.
pub(crate) fn after(now: Instant, wait: Duration) -> Instant {
    now + wait.min(LONGEST)
}

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

/// One timeout for each thing that is waited for.
///
/// The defaults are the minima of RFC 5321 §4.5.3.2 where it states one.
///
/// ```
/// use smtp_bulk::Timeouts;
/// use std::time::Duration;
///
/// let patient = Timeouts::default();
/// assert_eq!(patient.final_reply, Duration::from_secs(600));
/// let brisk = Timeouts { connect: Duration::from_secs(5), ..patient };
/// # let _ = brisk;
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// Resolving the name, and separately each address's TCP connect. 60 s.
    pub connect: Duration,
    /// The greeting. 5 minutes.
    pub greeting: Duration,
    /// The reply to EHLO or HELO. 5 minutes.
    pub ehlo: Duration,
    /// The reply to STARTTLS, and separately the TLS handshake. 1 minute.
    pub tls: Duration,
    /// Each reply of an authentication, and what its answer takes to make.
    /// 2 minutes: some servers let a wrong password wait.
    pub auth: Duration,
    /// The reply to MAIL. 5 minutes.
    pub mail: Duration,
    /// The reply to each RCPT. 5 minutes.
    pub rcpt: Duration,
    /// The reply to DATA. 2 minutes.
    pub data: Duration,
    /// Progress while the content is sent: the time in which at least one
    /// octet must leave. 3 minutes.
    pub content: Duration,
    /// The reply to the content's end. 10 minutes: giving up earlier leaves a
    /// mail in doubt that the server may well have taken (RFC 1047).
    pub final_reply: Duration,
    /// The reply to RSET, to a question of the caller's, and to the NOOP of
    /// [`Host::noop_after`](crate::Host::noop_after). 5 minutes.
    pub rset: Duration,
    /// The reply to QUIT. 10 seconds: nothing depends on it.
    pub quit: Duration,
}

impl Timeouts {
    /// The same timeout for everything: the single
    /// `Timeout` of Net::SMTP::Bulk, which was 60 s.
    /// A short timeout for the final reply puts mails in doubt that a busy
    /// server has taken; prefer to keep [`Timeouts::final_reply`] long.
    pub fn uniform(timeout: Duration) -> Timeouts {
        Timeouts {
            connect: timeout,
            greeting: timeout,
            ehlo: timeout,
            tls: timeout,
            auth: timeout,
            mail: timeout,
            rcpt: timeout,
            data: timeout,
            content: timeout,
            final_reply: timeout,
            rset: timeout,
            quit: timeout,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            connect: minutes(1),
            greeting: minutes(5),
            ehlo: minutes(5),
            tls: minutes(1),
            auth: minutes(2),
            mail: minutes(5),
            rcpt: minutes(5),
            data: minutes(2),
            content: minutes(3),
            final_reply: minutes(10),
            rset: minutes(5),
            quit: Duration::from_secs(10),
        }
    }
}
