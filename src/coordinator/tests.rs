//! Scripted exchanges with a coordinator: what is dealt, judged, decided and
//! reported, each rule as a fact of its own.

extern crate self as smtp_bulk;

mod asking;
mod auth;
mod bound;
mod chunks;
mod control;
mod data;
mod dealing;
mod doubt;
mod ends;
mod flights;
mod gate;
mod health;
mod idle;
mod lessons;
mod limits;
mod lmtp;
mod paces;
mod panics;
mod parameters;
mod patience;
mod places;
mod recipients;
mod refusals;
mod rest;
mod script;
mod setbacks;
mod standstill;
mod status;
mod steps;
mod verdicts;
mod weights;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use script::{Asked, Does, Script, lane, mail, mail_to, number};

use super::{BatchSettings, Lane, Lesson, Link, Standing};
use crate::content::Content;
use crate::event::{EventKind, SessionVerdict, Verdict};
use crate::host::{HostSettings, Pipeline};
use crate::limits::Rate;
use crate::message::Message;
use crate::pace::Pace;
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

/// Takes the mails from 1 up to this, as soon as there is room for each, and runs them.
fn deliver_others(script: &mut Script, last: u64) {
    let mut next = 1;
    while next <= last {
        while next <= last && script.coordinator.has_room() {
            script.take(mail(next));
            next += 1;
        }
        script.sweep();
        let is_over = script.coordinator.is_step_over(script.now);
        script.settle();
        if !is_over && !script.lanes().any(|lane| lane.link() == Link::Wanted) {
            assert!(script.wait() || script.coordinator.has_room(), "all lanes are retired");
        }
    }
    script.finish();
}

/// Takes the mail as soon as there is room for it.
fn take_in_time(script: &mut Script, message: Message) {
    while !script.coordinator.has_room_for(&message) {
        script.run();
        assert!(script.coordinator.has_room_for(&message) || script.wait(), "a wait for nothing");
    }
    script.take(message);
}

/// Takes the mails from 1 up to this, each as soon as there is room for it, and runs them.
fn deliver_all(script: &mut Script, last: u64) {
    (1..=last).for_each(|id| take_in_time(script, mail(id)));
    script.finish();
    script.coordinator.set_flushing(false);
}

// ---- flights ------------------------------------------------------------------

const DOTS: &str = "250-mx.example\r\n250 PIPELINING\r\n";
const CHUNKS: &str = "250-mx.example\r\n250-PIPELINING\r\n250 CHUNKING\r\n";

/// One host with so many threads that offers this, spoken to so.
fn flights(threads: u32, offers: &'static str, pipeline: Pipeline, depth: u32) -> Script {
    let change = move |host: &mut HostSettings| {
        host.pipeline = pipeline;
        host.depth = depth;
        host.max_recipients = Some(10_000);
    };
    let mut script = Script::with(&[threads], BatchSettings::default(), change);
    script.serve(offering(offers, |_| None));
    script.open();
    script
}

/// The rule, of a server that offers this.
fn offering(
    offers: &'static str,
    mut rule: impl FnMut(&Asked<'_>) -> Option<Does> + 'static,
) -> impl FnMut(&Asked<'_>) -> Option<Does> + 'static {
    move |asked| match asked.what {
        "EHLO" => Some(Does::Say(offers)),
        _ => rule(asked),
    }
}

/// What was said in each step on the only lane, verbs only.
fn steps(script: &mut Script) -> Vec<String> {
    let mut steps = Vec::new();
    script.coordinator.set_flushing(true);
    script.settle();
    for _ in 0..100 {
        script.wire.clear();
        script.step();
        if script.wire.is_empty() && !script.coordinator.is_step_over(script.now) {
            return steps;
        }
        if !script.wire.is_empty() {
            steps.push(script.said(lane(0, 0)).join(" "));
        }
    }
    panic!("steps without end");
}
