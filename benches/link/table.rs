//! Prints what was measured as the Markdown of `docs/PERFORMANCE.md`.

use std::fmt::Write;

use super::options::Options;
use super::rounds::{Course, Run};
use crate::support::content::CONTENT_OCTETS;
use crate::support::machine;
use crate::support::table::spread_cell;

pub fn markdown(options: &Options, courses: &[Course]) -> String {
    let mut text = String::new();
    // Writing to a `String` cannot fail.
    let _ = heading(&mut text, options);
    for course in courses {
        let _ = row(&mut text, options, course);
    }
    text
}

fn heading(text: &mut String, options: &Options) -> std::fmt::Result {
    writeln!(text, "Machine: {}.\n", machine::description())?;
    writeln!(
        text,
        "A relay on loopback that delays each direction by {} ms; {CONTENT_OCTETS} octets per mail; about {} \
         flights of each session per run; runs of each: {}. The bound is sessions × mails per flight / the two \
         delays. Median (least–most).\n",
        options.delay.as_millis(),
        options.flights,
        options.rounds
    )?;
    writeln!(
        text,
        "| way | sessions | flights per mail | bound, mails/s | mails/s | share, % | ms per flight | lone NOOP, ms \
         | CPU, µs/mail |"
    )?;
    writeln!(text, "| --- |{}", " ---: |".repeat(8))
}

fn row(text: &mut String, options: &Options, course: &Course) -> std::fmt::Result {
    let way = course.way;
    let (sessions, bound) = (options.sessions(way), options.ideal(way));
    let speed = |run: &Run| run.figures.mails_per_second();
    let flight = |run: &Run| 1e3 * sessions as f64 / (way.flights_per_mail() * speed(run));
    writeln!(
        text,
        "| {} | {sessions} | {} | {bound:.0} | {} | {} | {} | {} | {} |",
        way.title(),
        way.flights_per_mail(),
        cell(course, 0, speed),
        cell(course, 1, |run| 100.0 * speed(run) / bound),
        cell(course, 2, flight),
        cell(course, 2, |run| 1e3 * run.round_trip.as_secs_f64()),
        cell(course, 1, |run| run.figures.cpu_micros_per_mail()),
    )
}

fn cell(course: &Course, decimals: usize, figure: impl Fn(&Run) -> f64) -> String {
    spread_cell(course.spread(figure), decimals)
}
