//! Prints what was measured as the Markdown of `docs/PERFORMANCE.md`.

use std::fmt::Write;

use super::rounds::Comparison;
use crate::support::content::CONTENT_OCTETS;
use crate::support::figures::{Figures, least, median};
use crate::support::machine;
use crate::support::options::Course;
use crate::support::table::{cell, spread_cell};
use crate::support::way::PACES;

pub fn markdown(course: &Course, results: &[Comparison]) -> String {
    let mut text = String::new();
    // Writing to a `String` cannot fail.
    let _ = heading(&mut text, course);
    for result in results {
        for (pace, (name, _)) in PACES.iter().enumerate() {
            let _ = row(&mut text, result, pace, name);
        }
    }
    text
}

fn heading(text: &mut String, course: &Course) -> std::fmt::Result {
    writeln!(text, "Machine: {}.\n", machine::description())?;
    writeln!(
        text,
        "Plain TCP on loopback, {CONTENT_OCTETS} octets per mail; runs of each pace in turn: {}. CPU is user and \
         system time of the client's process: median (least). Ratios are to lockstep; of the rounds: median \
         (least–most).\n",
        course.rounds
    )?;
    writeln!(
        text,
        "| way | sessions | pace | µs CPU/mail | ratio of rounds | ratio of least | mails/s |\n\
         | --- | ---: | --- | ---: | ---: | ---: | ---: |"
    )
}

fn row(text: &mut String, result: &Comparison, pace: usize, name: &str) -> std::fmt::Result {
    let cpu = result.figure(pace, Figures::cpu_micros_per_mail);
    writeln!(
        text,
        "| {} | {} | {name} | {} ({}) | {} | {} | {} |",
        result.way.title(),
        result.sessions,
        cell(median(cpu.clone()), 1),
        cell(least(cpu), 1),
        spread_cell(result.ratios(pace), 2),
        cell(result.ratio_of_least(pace), 2),
        cell(median(result.figure(pace, Figures::mails_per_second)), 0),
    )
}
