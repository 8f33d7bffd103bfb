//! Counts system calls per mail with `strace -f -c`.
//!
//! Two runs that differ only in the number of mails are subtracted, which removes start, connects
//! and warm-up. A traced client is slow, so the server's replies are mostly there when it looks:
//! a client that tries before it waits is counted at its best. CPU time of these runs is not used.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use super::Result;

/// Mails of the shorter run, at least; the longer run has four times as many.
const MAILS: usize = 500;

/// System calls per mail, by name.
#[derive(Clone, Debug, Default)]
pub struct Calls(BTreeMap<String, f64>);

impl Calls {
    pub fn total(&self) -> f64 {
        self.0.values().sum()
    }

    /// The calls that a mail makes, most frequent first; what is below one in a hundred mails is left out.
    pub fn breakdown(&self) -> String {
        let mut calls: Vec<_> = self.0.iter().filter(|(_, count)| count.abs() >= 0.01).collect();
        calls.sort_by(|a, b| b.1.total_cmp(a.1));
        let calls: Vec<_> = calls.iter().map(|(name, count)| format!("{name} {count:.2}")).collect();
        calls.join(", ")
    }
}

/// Whether `strace` is there and may trace.
pub fn is_usable() -> bool {
    let mut command = Command::new("strace");
    command.args(["-c", "true"]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Counts two runs of different lengths, each of whole batches; `run` sends so many mails, under
/// `strace` that writes into the given file.
pub fn calls_per_mail(batch: usize, run: impl Fn(usize, &Path) -> Result<()>) -> Result<Calls> {
    let short = MAILS.div_ceil(batch) * batch;
    let long = short * 4;
    let (before, after) = (traced(short, &run)?, traced(long, &run)?);
    let mails = (long - short) as f64;
    let per_mail = |name: &String, count: &u64| {
        let set_up = before.get(name).copied().unwrap_or(0);
        (name.clone(), (*count as f64 - set_up as f64) / mails)
    };
    Ok(Calls(after.iter().map(|(name, count)| per_mail(name, count)).collect()))
}

fn traced(mails: usize, run: impl Fn(usize, &Path) -> Result<()>) -> Result<BTreeMap<String, u64>> {
    let name = format!("calls-{}-{mails}.strace", std::process::id());
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let ran = run(mails, &file);
    let text = std::fs::read_to_string(&file);
    let _ = std::fs::remove_file(&file);
    ran?;
    let text = text?;
    let calls: BTreeMap<_, _> = text.lines().filter_map(row).collect();
    if calls.is_empty() {
        return Err(format!("no table in strace's answer: {text:?}").into());
    }
    Ok(calls)
}

/// `% time  seconds  usecs/call  calls  [errors]  name`, the heading, rules and sum left out.
fn row(line: &str) -> Option<(String, u64)> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let [share, _, _, calls, .., name] = fields.as_slice() else {
        return None;
    };
    share.parse::<f64>().ok()?;
    (*name != "total").then_some(())?;
    Some(((*name).to_owned(), calls.parse().ok()?))
}
