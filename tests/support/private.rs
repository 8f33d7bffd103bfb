//! A private server that a script in `tests/servers` starts and stops. It takes ports that are free,
//! ends with the test, and leaves nothing behind. It must never be left out in silence: who skips it
//! says why, and where it is required its absence is a failure.

#![allow(dead_code, reason = "each test program uses its own part of this")]

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::support::{PATIENCE, skipped};

/// The server's folder, with what its script makes of it.
pub struct Private {
    name: &'static str,
    script: PathBuf,
    folder: tempfile::TempDir,
    /// Where it writes what it does.
    log: &'static str,
}

/// Which server, and what its script reads.
pub struct Wanted<'a> {
    /// What it is called when it is missed.
    pub name: &'static str,
    /// The script in `tests/servers`.
    pub script: &'static str,
    /// The file in its folder in which it tells what it does.
    pub log: &'static str,
    /// Names and texts of the files that the script reads, but for `ports`.
    pub files: &'a [(&'a str, &'a str)],
}

impl Private {
    /// Whether a server can be started, which is not when something is `missing`; that was said
    /// aloud then, once for each server.
    pub fn can_start(name: &'static str, missing: Option<&str>) -> bool {
        let Some(missing) = missing else { return true };
        let required = std::env::var_os("SMTP_BULK_REQUIRE_SERVERS").is_some_and(|value| value == "1");
        assert!(!required, "{name} is required, but {missing}");
        static SAID: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());
        if SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(name) {
            skipped(&format!("all that needs {name}: {missing}"));
        }
        false
    }

    /// Starts it on free ports of 127.0.0.1, one for each of these names.
    pub fn start<const N: usize>(wanted: &Wanted<'_>, ports: [&str; N]) -> (Private, [u16; N]) {
        // Between our look for free ports and its listening, another program may take one.
        let mut said = String::new();
        for _ in 0..5 {
            let (server, ports) = Private::prepared(wanted, ports);
            let output = server.script("start");
            if output.status.success() {
                return (server, ports);
            }
            said = format!("{}{}", String::from_utf8_lossy(&output.stderr), server.log());
        }
        panic!("{} does not start:\n{said}", wanted.name);
    }

    /// A folder with all that the script reads.
    fn prepared<const N: usize>(wanted: &Wanted<'_>, names: [&str; N]) -> (Private, [u16; N]) {
        let free = names.map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let ports = free.map(|port| port.local_addr().unwrap().port());
        let folder = tempfile::tempdir().unwrap();
        let lines: String = names.iter().zip(ports).map(|(name, port)| format!("{name}={port}\n")).collect();
        fs::write(folder.path().join("ports"), lines).unwrap();
        for (name, text) in wanted.files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers").join(wanted.script);
        (Private { name: wanted.name, script, folder, log: wanted.log }, ports)
    }

    fn script(&self, action: &str) -> Output {
        let mut command = Command::new(&self.script);
        command.arg(action).arg(self.folder.path()).stdin(Stdio::null());
        command.output().unwrap()
    }

    /// Something in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The files in a folder of its folder, which may not be there yet.
    pub fn files(&self, name: &str) -> Vec<PathBuf> {
        let Ok(files) = fs::read_dir(self.path(name)) else { return Vec::new() };
        files.map(|file| file.unwrap().path()).collect()
    }

    /// What it has to say.
    pub fn log(&self) -> String {
        let log = fs::read(self.path(self.log)).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Waits for this to be in the log, which is written a moment after the deed.
    pub fn wait_for_log(&self, condition: impl Fn(&str) -> bool) -> String {
        self.wait_for("never seen in the log", || Some(self.log()).filter(|log| condition(log)))
    }

    /// Waits for something that it does a moment later.
    pub fn wait_for<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(seen) = look() {
                return seen;
            }
            assert!(begun.elapsed() < PATIENCE, "{what}:\n{}", self.log());
            // It needs the processor more than we do.
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        let output = self.script("stop");
        if !std::thread::panicking() {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{} does not stop: {said}", self.name);
        }
    }
}
