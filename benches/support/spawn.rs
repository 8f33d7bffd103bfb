//! Starts the roles as processes of their own, and ends them.
//!
//! Every client gets a fresh server, so that no run pays for what an earlier one left behind; the
//! server's count is compared with the client's claim.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::Result;
use super::figures::{Figures, Plan};

/// The hidden first arguments.
pub const SERVER: &str = "__server";
pub const OURS: &str = "__ours";

/// A client that takes longer is killed, so that a hang is an error and not a hang.
const CLIENT_LIMIT: Duration = Duration::from_secs(120);
/// How often the orchestrator looks whether the client has ended: rarely enough to cost nothing.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Runs one client, under `strace` when told where it shall write, and then ends its server; what the
/// client claims has to be what it was told to do, and what the server took.
pub fn client(role: &str, plan: &Plan, mut server: Server, strace: Option<&Path>) -> Result<Figures> {
    let mut command = command_line(role, strace)?;
    let figures = Figures::parse(&answer(command.args(plan.to_arguments()))?)?;
    let taken = server.stop()?;
    if figures.mails != plan.mails || taken != plan.total() {
        return Err(format!("{plan:?}: {role} says {figures}, the server took {taken} mails").into());
    }
    Ok(figures)
}

/// This binary in a role.
pub fn command_line(role: &str, strace: Option<&Path>) -> Result<Command> {
    let own = std::env::current_exe()?;
    let mut command = match strace {
        None => Command::new(own),
        Some(file) => {
            let mut command = Command::new("strace");
            command.args([OsString::from("-f"), "-c".into(), "-o".into(), file.into(), own.into()]);
            command
        }
    };
    command.arg(role).stdin(Stdio::null()).stdout(Stdio::piped());
    Ok(command)
}

/// What a client has written when it has ended.
pub fn answer(command: &mut Command) -> Result<String> {
    let mut client = Guard(command.spawn()?);
    let started = Instant::now();
    // The client writes a few short lines, which the pipe holds until they are read here.
    let status = loop {
        if let Some(status) = client.0.try_wait()? {
            break status;
        }
        if started.elapsed() > CLIENT_LIMIT {
            return Err(format!("no end after {CLIENT_LIMIT:?}: {command:?}").into());
        }
        thread::sleep(LOOK_EVERY);
    };
    let mut answer = String::new();
    if let Some(mut stdout) = client.0.stdout.take() {
        stdout.read_to_string(&mut answer)?;
    }
    if !status.success() {
        return Err(format!("{status}: {command:?}").into());
    }
    Ok(answer)
}

/// A process that listens; it ends when its standard input does, so it never outlives the orchestrator.
pub struct Server {
    pub address: SocketAddr,
    process: Guard,
    stdout: BufReader<ChildStdout>,
}

impl Server {
    pub fn start(role: &str, arguments: &[OsString]) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(role).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Guard(command.spawn()?);
        let mut stdout = BufReader::new(process.0.stdout.take().ok_or("the server has no standard output")?);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        Ok(Self { address: line.trim().parse()?, process, stdout })
    }

    /// Ends the server and returns how many mails it took.
    pub fn stop(&mut self) -> Result<usize> {
        drop(self.process.0.stdin.take());
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        Ok(line.trim().parse()?)
    }
}

/// A child that is gone when this is: on success it has ended already.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
