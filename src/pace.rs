//! How long lanes wait for each other: when a step of the lockstep is over.

use std::time::Duration;

/// Who waits for whom. Whatever the pace, the callbacks, the verdicts and the
/// outcomes are the same.
///
/// ```
/// use smtp_bulk::{Mailer, Pace};
/// use std::time::Duration;
///
/// let patient = Pace::Quorum { share: 0.9, grace: Duration::from_millis(200) };
/// let builder = Mailer::builder().pace(patient);
/// # let _ = builder;
/// ```
#[derive(Clone, Copy, PartialEq, Debug, Default)]
#[non_exhaustive]
pub enum Pace {
    /// All lanes of a batch take each step together: Method 1 of Net::SMTP::Bulk. A
    /// batch takes as long as its slowest lane.
    #[default]
    Lockstep,
    /// The same, but when enough lanes have finished a step, and `grace` is over, it
    /// goes on without the others. These stragglers keep their mails, go on by
    /// themselves, and come back with the next deal behind their last mail.
    Quorum {
        /// The share of the batch's lanes that is enough: above 0, up to 1. One lane
        /// is always needed.
        share: f32,
        /// How long the step still waits for the others. Choose more than what the
        /// replies of servers that are well differ by.
        grace: Duration,
    },
    /// Each lane by itself, first come, first served: Method 2 of Net::SMTP::Bulk, but
    /// with bounded memory. A lane takes the next mail as soon as it has finished
    /// its own.
    ///
    /// A server may be left waiting for a content while no call of the mailer is
    /// polled: with nothing to send, await [`Mailer::idle`](crate::Mailer::idle).
    Free,
}

impl Pace {
    /// What is wrong with it.
    pub(crate) fn problem(self) -> Option<&'static str> {
        match self {
            Pace::Quorum { share, .. } if !(share > 0.0 && share <= 1.0) => {
                Some("the share of a quorum is above 0 and up to 1")
            }
            _ => None,
        }
    }

    /// Whether no lane waits for another.
    pub(crate) fn is_free(self) -> bool {
        self == Pace::Free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quorum_is_more_than_nothing_and_not_more_than_all() {
        let quorum = |share| Pace::Quorum { share, grace: Duration::ZERO };
        assert!([0.01, 0.5, 1.0].iter().all(|share| quorum(*share).problem().is_none()));
        let wrong = [0.0, -0.5, 1.01, 90.0, f32::NAN, f32::INFINITY];
        assert!(wrong.iter().all(|share| quorum(*share).problem().is_some()));
    }
}
