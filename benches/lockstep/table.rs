//! Prints what was measured as the Markdown of `docs/PERFORMANCE.md`.

use std::fmt::Write;

use super::options::Options;
use super::rounds::{self, Comparison};
use crate::support::content::CONTENT_OCTETS;
use crate::support::figures::{Figures, least, median};
use crate::support::machine;
use crate::support::table::{cell, spread_cell};

pub fn markdown(options: &Options, results: &[Comparison]) -> String {
    let mut text = String::new();
    // Writing to a `String` cannot fail.
    let _ = heading(&mut text, options);
    for results in results.chunk_by(|one, other| one.way == other.way) {
        let _ = way(&mut text, options, results);
        let _ = costs(&mut text, results);
        let _ = calls(&mut text, results);
        let _ = memory(&mut text, results);
    }
    text
}

fn heading(text: &mut String, options: &Options) -> std::fmt::Result {
    writeln!(text, "Machine: {}.\n", machine::description())?;
    writeln!(
        text,
        "Plain TCP on loopback, {CONTENT_OCTETS} octets per mail; pairs of runs (floor, then ours): {}. CPU is user and system time of the client's process: median (least). \
         Ratios are ours to floor; of the pairs: median (least–most). Mails per second: median.\n",
        options.course.rounds
    )
}

fn way(text: &mut String, options: &Options, results: &[Comparison]) -> std::fmt::Result {
    let Some(way) = results.first().map(|result| result.way) else { return Ok(()) };
    let mails = rounds::mails(options, way);
    writeln!(text, "\n## {}: {mails} mails per run\n", way.title())
}

fn costs(text: &mut String, results: &[Comparison]) -> std::fmt::Result {
    writeln!(
        text,
        "| sessions | floor, µs CPU/mail | ours, µs CPU/mail | ratio of pairs | ratio of least \
         | floor, calls/mail | ours, calls/mail | floor, mails/s | ours, mails/s |"
    )?;
    writeln!(text, "|{}", " ---: |".repeat(9))?;
    for result in results {
        let calls = result.calls.as_ref();
        writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            result.sessions,
            median_and_least(result.floor(Figures::cpu_micros_per_mail)),
            median_and_least(result.ours(Figures::cpu_micros_per_mail)),
            spread_cell(result.ratios(), 2),
            cell(result.ratio_of_least(), 2),
            cell(calls.map(|(floor, _)| floor.total()), 2),
            cell(calls.map(|(_, ours)| ours.total()), 2),
            cell(median(result.floor(Figures::mails_per_second)), 0),
            cell(median(result.ours(Figures::mails_per_second)), 0),
        )?;
    }
    Ok(())
}

fn median_and_least(values: Vec<f64>) -> String {
    let smallest = least(values.clone());
    format!("{} ({})", cell(median(values), 1), cell(smallest, 1))
}

fn calls(text: &mut String, results: &[Comparison]) -> std::fmt::Result {
    let counted: Vec<_> =
        results.iter().filter_map(|result| Some((result.sessions, result.calls.as_ref()?))).collect();
    if counted.is_empty() {
        return Ok(());
    }
    writeln!(text, "\n| sessions | client | system calls per mail |\n| ---: | --- | --- |")?;
    for (sessions, (floor, ours)) in counted {
        writeln!(text, "| {sessions} | floor | {} |", floor.breakdown())?;
        writeln!(text, "| {sessions} | ours | {} |", ours.breakdown())?;
    }
    Ok(())
}

/// Resident memory per further session needs two numbers of sessions: the largest two are taken.
fn memory(text: &mut String, results: &[Comparison]) -> std::fmt::Result {
    let [.., few, many] = results else {
        return Ok(());
    };
    let floor = |result: &Comparison| median(result.floor(resident));
    let ours = |result: &Comparison| median(result.ours(resident));
    let further = many.sessions.saturating_sub(few.sessions) as f64;
    let per_session = |few: Option<f64>, many: Option<f64>| Some((many? - few?) / further);

    writeln!(text, "\n| resident memory, KiB | floor | ours |\n| --- | ---: | ---: |")?;
    for result in results {
        let (floor, ours) = (cell(floor(result), 0), cell(ours(result), 0));
        writeln!(text, "| {} sessions | {floor} | {ours} |", result.sessions)?;
    }
    let floor = cell(per_session(floor(few), floor(many)), 2);
    let ours = cell(per_session(ours(few), ours(many)), 2);
    let range = format!("{} to {}", few.sessions, many.sessions);
    writeln!(text, "| per further session ({range}) | {floor} | {ours} |")
}

fn resident(figures: &Figures) -> f64 {
    figures.resident_kib.map_or(f64::NAN, |kib| kib as f64)
}
