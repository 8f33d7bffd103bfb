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
