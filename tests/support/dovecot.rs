//! A private Dovecot that takes mail by LMTP, which `tests/servers/dovecot.sh` starts and stops.

#![allow(dead_code, reason = "each test program uses its own part of this")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::private::{Private, Wanted};
use crate::stored::{Store, Stored};

/// A running Dovecot, which ends with this.
pub struct Dovecot {
    /// LMTP on 127.0.0.1, without TLS.
    pub lmtp: u16,
    /// The same.
    pub socket: PathBuf,
    server: Private,
}

impl Dovecot {
    /// Starts it with these users; `None` where that cannot be done, and was said aloud. All others are
    /// refused by 550. A mailbox whose name begins with `full` has no room (552 behind the content), and
    /// one with `broken` cannot be written to (451 there).
    pub fn start(users: &[String]) -> Option<Dovecot> {
        if !Private::can_start("Dovecot", missing()) {
            return None;
        }
        let lines: String = users.iter().map(|user| format!("{user}\n")).collect();
        let files = [("users", lines.as_str())];
        let wanted = Wanted { name: "Dovecot", script: "dovecot.sh", log: "log", files: &files };
        let (server, [lmtp]) = Private::start(&wanted, ["lmtp"]);
        Some(Dovecot { lmtp, socket: server.path("lmtp.sock"), server })
    }
}

impl Store for Dovecot {
    fn server(&self) -> &Private {
        &self.server
    }

    /// Each mail is stored before its reply.
    fn is_idle(&self) -> bool {
        true
    }

    fn folders(&self) -> Vec<String> {
        let mailboxes = self.server.files("mail").into_iter();
        mailboxes.map(|path| format!("mail/{}/new", path.file_name().unwrap().to_str().unwrap())).collect()
    }

    fn parse(&self, folder: &str, file: &[u8]) -> Stored {
        let user = folder.split('/').nth(1).unwrap();
        let recipient = format!("{user}@example.net");
        Stored::parse(file, &["Return-Path", "Delivered-To", "Received"], Some(&recipient))
    }
}

/// Why it cannot be started.
fn missing() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("only root can start it");
    }
    if !Path::new("/usr/lib/dovecot/lmtp").exists() {
        return Some("it is missing: Debian's package dovecot-lmtpd has it");
    }
    let dovecot = Command::new("/usr/sbin/dovecot").arg("--version").stdin(Stdio::null()).output();
    // The settings of 2.4 are called otherwise.
    let is_known = dovecot.is_ok_and(|output| output.stdout.starts_with(b"2.3."));
    (!is_known).then_some("it is not of version 2.3")
}
