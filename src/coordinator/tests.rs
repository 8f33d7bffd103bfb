//! Scripted exchanges with a coordinator: what is dealt, judged, decided and
//! reported, each rule as a fact of its own.

extern crate self as smtp_bulk;

mod auth;
mod dealing;
mod doubt;
mod ends;
mod flights;
mod gate;
mod panics;
mod recipients;
mod refusals;
mod script;
mod setbacks;
mod verdicts;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use script::{Asked, Does, Script, lane, mail, mail_to, number};

use super::{BatchSettings, Lane, Lesson, Link, Standing};
use crate::content::Content;
use crate::event::{EventKind, SessionVerdict, Verdict};
use crate::host::HostSettings;
use crate::message::Message;
use crate::session::Step;

const SECOND: Duration = Duration::from_secs(1);

fn one() -> Script {
    let mut script = Script::new(&[1]);
    script.open();
    script
}

fn settings(change: impl Fn(&mut BatchSettings)) -> BatchSettings {
    let mut settings = BatchSettings::default();
    change(&mut settings);
    settings
}

/// Answers so when it is asked this, and is friendly otherwise.
fn when(what: &'static str, text: &'static str) -> impl FnMut(&Asked<'_>) -> Option<Does> {
    move |asked| (asked.what == what).then_some(Does::Say(text))
}

/// The same, but the first time only.
fn once(what: &'static str, does: Does) -> impl FnMut(&Asked<'_>) -> Option<Does> {
    let mut does = Some(does);
    move |asked| if asked.what == what { does.take() } else { None }
}

/// Decides so about events of this kind at this step.
fn at(
    kind: EventKind,
    step: Step,
    verdict: Verdict,
) -> impl FnMut(&crate::event::Event<'_>) -> Verdict + 'static {
    move |event| {
        if (event.kind, event.step) == (kind, step) { verdict } else { Verdict::DEFAULT }
    }
}

const EHLO: [&str; 3] = ["connect", "greeting", "EHLO"];
const WHOLE: [&str; 4] = ["MAIL", "RCPT", "DATA", "content"];

const THREE: [&str; 3] = ["ann@example.net", "bob@example.net", "cy@example.net"];

/// Answers so to this recipient the first `times`, and else is friendly.
fn to_recipient(
    who: &'static str,
    text: &'static str,
    times: usize,
) -> impl FnMut(&Asked<'_>) -> Option<Does> {
    let mut left = times;
    move |asked| {
        let meant = asked.what == "RCPT" && asked.line.contains(who) && left > 0;
        meant.then(|| {
            left -= 1;
            Does::Say(text)
        })
    }
}

/// Eight recipients, so that a mail to them keeps a batch running.
const MANY: [&str; 8] = [
    "a@example.net",
    "b@example.net",
    "c@example.net",
    "d@example.net",
    "e@example.net",
    "f@example.net",
    "g@example.net",
    "h@example.net",
];

/// A short batch, and not what is requeued by it.
fn run_one_batch(script: &mut Script) {
    script.coordinator.set_flushing(true);
    script.settle();
    script.coordinator.set_flushing(false);
    script.run();
}
