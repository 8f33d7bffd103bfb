//! What the command line says about speed.

use crate::input::quoted;
use smtp_bulk::Pace;
use std::time::Duration;

/// `lockstep`, `free`, or `quorum:SHARE:SECONDS`.
pub fn pace(text: &str) -> Result<Pace, String> {
    let mistake = || format!("{} is not lockstep, free or quorum:SHARE:SECONDS", quoted(text));
    match text.split(':').collect::<Vec<_>>().as_slice() {
        ["lockstep"] => Ok(Pace::Lockstep),
        ["free"] => Ok(Pace::Free),
        ["quorum", share, grace] => {
            let share = share.parse().ok().filter(|share| *share > 0.0 && *share <= 1.0);
            let share = share.ok_or_else(|| format!("{}: the share is above 0 and up to 1", quoted(text)))?;
            let grace = grace.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            Ok(Pace::Quorum { share, grace: grace.ok_or_else(mistake)? })
        }
        _ => Err(mistake()),
    }
}

/// Mails a second, which may be less than one.
pub fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| format!("{} is no number of mails a second, above 0", quoted(text)))
}

/// A number of mails.
pub fn mails(text: &str) -> Result<u32, String> {
    let mails = text.parse().ok().filter(|mails| *mails > 0);
    mails.ok_or_else(|| format!("{} is no number of mails, 1 or more", quoted(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_one_of_three() {
        assert_eq!(pace("lockstep"), Ok(Pace::Lockstep));
        assert_eq!(pace("free"), Ok(Pace::Free));
        let grace = Duration::from_millis(1500);
        assert_eq!(pace("quorum:0.9:1.5"), Ok(Pace::Quorum { share: 0.9, grace }));
        assert_eq!(pace("quorum:1:0"), Ok(Pace::Quorum { share: 1.0, grace: Duration::ZERO }));
    }

    #[test]
    fn a_rate_is_any_number_above_0() {
        assert_eq!((rate("50"), rate("0.5"), rate("1e3")), (Ok(50.0), Ok(0.5), Ok(1_000.0)));
        assert!(["0", "-1", "NaN", "inf", "", "x", "1,5"].iter().all(|text| rate(text).is_err()));
        assert_eq!(mails("20"), Ok(20));
        assert!(["0", "-1", "1.5", "4294967296", ""].iter().all(|text| mails(text).is_err()));
    }

    #[test]
    fn anything_else_is_a_mistake_that_is_named() {
        for text in ["", "fast", "Free", "quorum", "quorum:0.9", "quorum:0.9:-1", "quorum:0.9:x", "free:1"] {
            let told = format!("`{text}` is not lockstep, free or quorum:SHARE:SECONDS");
            assert_eq!(pace(text), Err(told));
        }
        for share in ["0", "90", "-0.5", "NaN", "x", ""] {
            let text = format!("quorum:{share}:1");
            assert_eq!(pace(&text), Err(format!("`{text}`: the share is above 0 and up to 1")));
        }
    }
}
