//! Describes the machine, because no figure means anything without it.

use std::fs::read_to_string;
use std::process::Command;

const UNKNOWN: &str = "unknown";

/// One line: CPU, cores, kernel, compiler.
pub fn description() -> String {
    let cores = std::thread::available_parallelism().map_or(UNKNOWN.to_owned(), |cores| cores.to_string());
    format!("CPU {}; {cores} cores; kernel {}; {}", cpu(), kernel(), compiler())
}

fn cpu() -> String {
    let text = read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        text.lines().filter_map(|line| line.split_once(':')).find(|(key, _)| key.trim() == "model name");
    model.map_or(UNKNOWN.to_owned(), |(_, value)| value.trim().to_owned())
}

fn kernel() -> String {
    let release = read_to_string("/proc/sys/kernel/osrelease");
    release.map_or(UNKNOWN.to_owned(), |text| text.trim().to_owned())
}

fn compiler() -> String {
    let output = Command::new("rustc").arg("--version").output();
    let version = output
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok());
    version.map_or("rustc unknown".to_owned(), |text| text.trim().to_owned())
}
