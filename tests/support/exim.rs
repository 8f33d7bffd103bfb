//! A private Exim, which `tests/servers/exim.sh` starts and stops.

#![allow(dead_code, reason = "each test program uses its own part of this")]

use std::path::Path;
use std::process::{Command, Stdio};

use crate::private::{Private, Wanted};
use crate::stored::{Store, Stored};

/// A running Exim on 127.0.0.1, which ends with this. It takes mail of up to 200,000 octets for
/// everybody but recipients that begin with `reject` (550) or `defer` (451).
pub struct Exim {
    /// PIPELINING and CHUNKING are offered.
    pub open: u16,
    /// The same, without CHUNKING.
    pub bare: u16,
    /// As `open`, and Exim's own limit: ten commands that are for no mail, RSET behind a mail that was
    /// refused among them.
    pub strict: u16,
    server: Private,
}

impl Exim {
    /// Starts it; `None` where that cannot be done, and was said aloud.
    pub fn start() -> Option<Exim> {
        if !Private::can_start("Exim", missing()) {
            return None;
        }
        let wanted = Wanted { name: "Exim", script: "exim.sh", log: "logs/main", files: &[] };
        let (server, [open, bare, strict]) = Private::start(&wanted, ["open", "bare", "strict"]);
        Some(Exim { open, bare, strict, server })
    }
}

impl Store for Exim {
    fn server(&self) -> &Private {
        &self.server
    }

    fn is_idle(&self) -> bool {
        self.server.files("spool/input").is_empty()
    }

    fn folders(&self) -> Vec<String> {
        vec!["mail/new".to_owned()]
    }

    fn parse(&self, _folder: &str, file: &[u8]) -> Stored {
        Stored::parse(file, &["Return-path", "Envelope-to", "Received"], None)
    }
}

/// Why it cannot be started.
fn missing() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("only root can start it");
    }
    let places = ["/usr/sbin/exim4", "/usr/local/sbin/exim4"];
    if !places.iter().any(|place| Path::new(place).exists()) {
        return Some("the program is missing: Debian's package exim4-daemon-light has it");
    }
    let user = Command::new("getent").args(["passwd", "Debian-exim"]).stdin(Stdio::null()).output();
    let is_known = user.is_ok_and(|output| output.status.success());
    (!is_known).then_some("its user Debian-exim does not exist")
}
