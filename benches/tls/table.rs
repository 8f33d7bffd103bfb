//! Prints what was measured as the Markdown of `docs/PERFORMANCE.md`.

use std::fmt::{self, Write};

use super::case::Case;
use super::measured::{MAILS_BEFORE_REST, Measured};
use super::options::Options;
use super::rounds::Course;
use super::server::ITERATIONS;
use crate::support::content::CONTENT_OCTETS;
use crate::support::machine;
use crate::support::table::{NOT_MEASURED, spread_cell};

pub fn markdown(options: &Options, courses: &[Course]) -> String {
    let mut text = String::new();
    // Writing to a `String` cannot fail.
    let _ = heading(&mut text, options);
    let _ = sessions(&mut text, courses);
    let _ = mails(&mut text, courses);
    let _ = auth(&mut text, options, courses);
    text
}

fn heading(text: &mut String, options: &Options) -> fmt::Result {
    writeln!(text, "Machine: {}; {}.\n", machine::description(), library())?;
    writeln!(
        text,
        "Loopback, {} sessions, {CONTENT_OCTETS} octets per mail, {} mails per run; rounds: {}. Verified against \
         one authority (ECDSA P-256), chain of one certificate. CPU is user and system time of the client's \
         process. Median (least–most); \"beyond plain\" is the difference within a round.\n",
        options.sessions, options.mails, options.rounds
    )
}

#[cfg(target_os = "linux")]
fn library() -> String {
    openssl::version::version().to_owned()
}

#[cfg(not(target_os = "linux"))]
fn library() -> String {
    "the system's TLS library".to_owned()
}

fn sessions(text: &mut String, courses: &[Course]) -> fmt::Result {
    writeln!(
        text,
        "| sessions | ms CPU to open one | beyond plain | KiB, open | beyond plain \
         | KiB, after {MAILS_BEFORE_REST} mails | beyond plain | ms CPU, context and first session |"
    )?;
    writeln!(text, "| --- |{}", " ---: |".repeat(7))?;
    for course in courses {
        writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} |",
            course.case.title,
            spread_cell(course.spread(Measured::opening_ms), 3),
            beyond(courses, course, Measured::opening_ms, 3),
            spread_cell(course.spread(Measured::opened_kib), 1),
            beyond(courses, course, Measured::opened_kib, 1),
            spread_cell(course.spread(Measured::rested_kib), 1),
            beyond(courses, course, Measured::rested_kib, 1),
            spread_cell(course.spread(Measured::first_ms), 1),
        )?;
    }
    Ok(())
}

fn mails(text: &mut String, courses: &[Course]) -> fmt::Result {
    let cpu = |run: &Measured| run.sent.cpu_micros_per_mail();
    writeln!(text, "\n| mails | µs CPU/mail | beyond plain | mails/s | system calls/mail |")?;
    writeln!(text, "| --- | ---: | ---: | ---: | --- |")?;
    for course in courses.iter().filter(|course| !course.case.has_auth) {
        let calls = course.calls.as_ref();
        writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            course.case.title,
            spread_cell(course.spread(cpu), 1),
            beyond(courses, course, cpu, 1),
            spread_cell(course.spread(|run| run.sent.mails_per_second()), 0),
            calls.map_or(NOT_MEASURED.to_owned(), |calls| format!(
                "{:.2} ({})",
                calls.total(),
                calls.breakdown()
            )),
        )?;
    }
    Ok(())
}

/// If every session derived the key, all of them would cost that many times what the first one
/// does.
fn auth(text: &mut String, options: &Options, courses: &[Course]) -> fmt::Result {
    for course in courses.iter().filter(|course| course.case.has_auth) {
        writeln!(text, "\n| {}, {ITERATIONS} iterations | ms CPU beyond plain |", course.case.title)?;
        writeln!(text, "| --- | ---: |")?;
        let first = beyond(courses, course, Measured::first_ms, 2);
        writeln!(text, "| one session, its key derived | {first} |")?;
        let all = beyond(courses, course, Measured::openings_ms, 1);
        writeln!(text, "| {} sessions of one mailer | {all} |", options.sessions)?;
    }
    Ok(())
}

fn beyond(courses: &[Course], course: &Course, figure: impl Fn(&Measured) -> f64, decimals: usize) -> String {
    let is_beside = |other: &&Course| course.case.beside == Some(other.case.name);
    let other = courses.iter().find(is_beside).filter(|_| is_compared(&course.case));
    spread_cell(other.and_then(|other| course.spread_beyond(other, figure)), decimals)
}

fn is_compared(case: &Case) -> bool {
    case.has_tls() || case.has_auth
}
