//! Sends many mails through many sessions: to the embedded server by default, to real servers with
//! arguments. `--help` tells all of them. It must never end with 0 unless everything was delivered.

#![forbid(unsafe_code)]

mod access;
mod args;
mod chart;
mod drive;
mod failed;
mod input;
mod job;
mod ledger;
mod logging;
mod progress;
mod recipients;
mod spans;
mod speed;
mod stamp;
mod table;
mod template;
mod trace;

use args::{Args, Asked};
use drive::{Ending, Stop};
use std::io::{self, Write};
use std::process::ExitCode;

/// Everything was delivered.
const DELIVERED: u8 = 0;
/// Something was not.
const NOT_DELIVERED: u8 = 1;
/// The input or the command line is wrong.
const BAD_INPUT: u8 = 2;

fn main() -> ExitCode {
    let code = match args::parse(std::env::args_os()) {
        Ok(Asked::Help) => match io::stdout().write_all(args::HELP.as_bytes()) {
            Ok(()) => DELIVERED,
            Err(_) => NOT_DELIVERED,
        },
        Ok(Asked::Run(args)) => run(&args),
        Err(mistake) => {
            complain(&mistake);
            BAD_INPUT
        }
    };
    ExitCode::from(code)
}

fn run(args: &Args) -> u8 {
    let job = match job::Job::prepare(args, &drive::check_from, &drive::check_recipient) {
        Ok(job) => job,
        Err(mistake) => {
            complain(&mistake);
            return BAD_INPUT;
        }
    };
    for warning in &job.warnings {
        complain(&format!("warning: {warning}"));
    }
    logging::install(job.progress.clone(), args.debug > 0 && args.debug_path.is_none());
    match smol::block_on(drive::run(args, job)) {
        Ok(ending) => finish(args, &ending),
        Err(mistake) => {
            complain(&mistake);
            BAD_INPUT
        }
    }
}

/// Tells how it ended; the exit code.
fn finish(args: &Args, ending: &Ending) -> u8 {
    let figures = &ending.closed.figures;
    if let Some(stop) = &ending.stop {
        complain(stop.reason());
    }
    for warning in &ending.warnings {
        complain(&format!("warning: {warning}"));
    }
    for complaint in &ending.closed.complaints {
        complain(complaint);
    }
    if let Err(error) = show(args, ending) {
        complain(&format!("standard output: {error}"));
        return NOT_DELIVERED;
    }
    match &ending.stop {
        Some(Stop::Input(_) | Stop::Settings(_)) => BAD_INPUT,
        None if figures.all_delivered() && ending.closed.complaints.is_empty() => DELIVERED,
        None | Some(Stop::Interrupted | Stop::Mailer(_)) => NOT_DELIVERED,
    }
}

fn show(args: &Args, ending: &Ending) -> io::Result<()> {
    let figures = &ending.closed.figures;
    let mut out = io::stdout().lock();
    if args.json {
        drop(write!(io::stderr(), "{figures}"));
        writeln!(out, "{}", figures.json())?;
    } else {
        write!(out, "{figures}")?;
    }
    out.flush()
}

/// One line on standard error; a closed one is no reason to stop.
fn complain(line: &str) {
    drop(writeln!(io::stderr(), "bulk_send: {}", input::one_line(line)));
}
