//! The progress bar on standard error: mails per second, outcomes so far, time left.
//! It must never draw anything when the output is no terminal, nor draw per mail.

use crate::table::{Outcome, grouped};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often the bar is drawn, at most.
const DRAWN_EVERY: Duration = Duration::from_millis(100);

const LAYOUT: &str = "{wide_bar} {pos}/{len}  {rate} mails/s  {outcomes}  {eta} left";

/// Counts per outcome, in the order of [`Outcome::ALL`].
type Tally = [AtomicU64; Outcome::ALL.len()];

/// A progress bar, or nothing at all; clones show the same one.
#[derive(Debug, Clone)]
pub struct Progress {
    shown: Option<Shown>,
}

#[derive(Debug, Clone)]
struct Shown {
    bar: ProgressBar,
    tally: Arc<Tally>,
}

impl Progress {
    /// A bar on standard error up to `total` mails; nothing unless both standard error and
    /// standard output are terminals.
    pub fn new(total: u64) -> Self {
        if std::io::stderr().is_terminal() && std::io::stdout().is_terminal() {
            Self::drawn_on(ProgressDrawTarget::stderr_with_hz(10), total)
        } else {
            Self { shown: None }
        }
    }

    fn drawn_on(target: ProgressDrawTarget, total: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total), target);
        let tally = Arc::new(Tally::default());
        bar.set_style(style(&tally));
        bar.enable_steady_tick(DRAWN_EVERY);
        Self { shown: Some(Shown { bar, tally }) }
    }

    /// Counts one mail. Costs two atomic additions and a look at the clock, or nothing without a
    /// bar; the drawing is the ticker's.
    pub fn count(&self, outcome: Outcome) {
        let Some(shown) = &self.shown else { return };
        let slot = Outcome::ALL.iter().position(|known| *known == outcome);
        if let Some(count) = slot.and_then(|slot| shown.tally.get(slot)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        shown.bar.inc(1);
    }

    /// Does something that writes to the terminal, with the bar out of the way.
    pub fn aside<T>(&self, action: impl FnOnce() -> T) -> T {
        match &self.shown {
            Some(shown) => shown.bar.suspend(action),
            None => action(),
        }
    }

    /// Takes the bar away for good.
    pub fn finish(&self) {
        if let Some(shown) = &self.shown {
            shown.bar.disable_steady_tick();
            shown.bar.finish_and_clear();
        }
    }
}

fn style(tally: &Arc<Tally>) -> ProgressStyle {
    let tally = Arc::clone(tally);
    let plain = ProgressStyle::with_template(LAYOUT);
    // The layout is a constant that a test holds to be right.
    plain
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("rate", |state: &ProgressState, out: &mut dyn Write| {
            let _ = write!(out, "{:.0}", state.per_sec());
        })
        .with_key("outcomes", move |_: &ProgressState, out: &mut dyn Write| {
            let _ = out.write_str(&outcomes(&tally));
        })
}

fn outcomes(tally: &Tally) -> String {
    let mut text = String::new();
    for (outcome, count) in Outcome::ALL.into_iter().zip(tally) {
        let count = count.load(Ordering::Relaxed);
        if count > 0 {
            let comma = if text.is_empty() { "" } else { ", " };
            let name = outcome.name().replace('_', " ");
            text.push_str(&format!("{comma}{name} {}", grouped(count)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_understood() {
        assert!(ProgressStyle::with_template(LAYOUT).is_ok());
    }

    #[test]
    fn outcomes_that_did_not_happen_are_not_shown() {
        let progress = Progress::drawn_on(ProgressDrawTarget::hidden(), 9);
        for outcome in [Outcome::InDoubt, Outcome::Delivered, Outcome::Delivered] {
            progress.count(outcome);
        }
        let shown = progress.shown.as_ref().unwrap();
        assert_eq!(outcomes(&shown.tally), "delivered 2, in doubt 1");
        assert_eq!(shown.bar.position(), 3);
        progress.finish();
    }

    #[test]
    fn without_a_terminal_nothing_is_made_and_everything_still_works() {
        let progress = Progress { shown: None };
        progress.count(Outcome::Refused);
        assert_eq!(progress.aside(|| 5), 5);
        progress.finish();
    }
}
