//! A private Postfix, with Dovecot for its AUTH, which `tests/servers/postfix.sh` starts and stops.

#![allow(dead_code, reason = "each test program uses its own part of this")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::private::{Private, Wanted};
use crate::stored::{Store, Stored};

/// Signs the tokens of OAUTHBEARER and XOAUTH2.
const TOKEN_KEY: &[u8] = b"which signs what only a test accepts";

/// What the server shows and trusts, in PEM.
#[derive(Clone, Copy)]
pub struct Certificates<'a> {
    /// The server's own, first, and those between it and the authority.
    pub chain: &'a str,
    pub key: &'a str,
    /// Signs the certificates of clients.
    pub authority: &'a str,
}

/// A running Postfix on 127.0.0.1, which ends with this. The first ports take mail for everybody, from
/// those who have authenticated; `client_cert` also from those who show a certificate. The last two
/// ask for nothing, take no more than 200,000 octets, and refuse recipients that begin with `reject`
/// (550) or `defer` (450).
pub struct Postfix {
    /// STARTTLS is required, and AUTH is offered behind it.
    pub starttls: u16,
    /// TLS from the first octet.
    pub implicit: u16,
    /// The same, and a certificate of the client is required.
    pub client_cert: u16,
    /// There is no TLS, and AUTH is offered in the clear.
    pub plain: u16,
    /// There is neither.
    pub open: u16,
    /// The same, without CHUNKING.
    pub bare: u16,
    server: Private,
}

impl Postfix {
    /// Starts it with these users and their passwords; `None` where that cannot be done, and was
    /// said aloud.
    pub fn start(users: &[(&str, &str)], certificates: Certificates<'_>) -> Option<Postfix> {
        if !Private::can_start("Postfix", missing()) {
            return None;
        }
        let mut lines = String::new();
        for (name, password) in users {
            assert!(!name.starts_with('#') && !name.contains([':', '\t', '\n']), "no separator in a name");
            assert!(!password.contains(['\t', '\n', '\0']), "no separator in a password");
            lines += &format!("{name}\t{password}\n");
        }
        let files = [
            ("users", lines.as_str()),
            ("server.pem", certificates.chain),
            ("server.key", certificates.key),
            ("ca.pem", certificates.authority),
            ("oauth.key", &STANDARD.encode(TOKEN_KEY)),
        ];
        let wanted = Wanted { name: "Postfix", script: "postfix.sh", log: "log", files: &files };
        let names = ["starttls", "implicit", "client_cert", "plain", "open", "bare"];
        let (server, [starttls, implicit, client_cert, plain, open, bare]) = Private::start(&wanted, names);
        Some(Postfix { starttls, implicit, client_cert, plain, open, bare, server })
    }

    /// A token that makes its bearer this user, until 2096.
    pub fn token(&self, user: &str) -> String {
        token(TOKEN_KEY, user, 4_000_000_000)
    }

    /// A token that did so until 2001.
    pub fn expired_token(&self, user: &str) -> String {
        token(TOKEN_KEY, user, 1_000_000_001)
    }

    /// What has been delivered: one file for each recipient of each mail, with LF for CRLF and
    /// header fields of Postfix before the mail.
    pub fn mails(&self) -> Vec<Vec<u8>> {
        self.server.files("mail/inbox/new").into_iter().map(|file| fs::read(file).unwrap()).collect()
    }

    /// Waits for so many mails: what was accepted is delivered a moment later.
    pub fn wait_for_mails(&self, count: usize) -> Vec<Vec<u8>> {
        let look = || Some(self.mails()).filter(|mails| mails.len() >= count);
        self.server.wait_for(&format!("not {count} mails"), look)
    }

    /// The mechanism and the user by which each mail came, by its Message-Id; of so many at least.
    pub fn wait_for_senders(&self, count: usize) -> BTreeMap<String, (String, String)> {
        let log = self.server.wait_for_log(|log| log.matches(": message-id=<").count() >= count);
        let (mut by_queue, mut by_mail) = (BTreeMap::new(), BTreeMap::new());
        for line in log.lines() {
            // Behind the time and the process, a mail is named by its place in the queue.
            let Some((queue, what)) = line.split_once("]: ").and_then(|(_, rest)| rest.split_once(": "))
            else {
                continue;
            };
            if let Some((_, sasl)) = what.split_once(", sasl_method=") {
                let (mechanism, user) = sasl.split_once(", sasl_username=").unwrap();
                by_queue.insert(queue, (mechanism.to_owned(), user.to_owned()));
            } else if let Some(mail) = what.strip_prefix("message-id=") {
                by_mail.extend(by_queue.remove(queue).map(|sender| (mail.to_owned(), sender)));
            }
        }
        by_mail
    }

    /// How many AUTH it took and how many it refused, when all sessions have ended.
    pub fn wait_for_auths(&self) -> (usize, usize) {
        // A last session, known by its HELO: behind it the log knows of all that began before it.
        let lasts = |log: &str| log.matches(" helo=1 ").count();
        let before = lasts(&self.server.log());
        let mut last = BufReader::new(TcpStream::connect((Ipv4Addr::LOCALHOST, self.plain)).unwrap());
        for command in ["HELO last.example\r\n", "QUIT\r\n", ""] {
            let mut reply = String::new();
            last.read_line(&mut reply).unwrap();
            assert!(reply.starts_with('2'), "{reply}");
            last.get_mut().write_all(command.as_bytes()).unwrap();
        }
        let log = self.server.wait_for_log(|log| {
            let (begun, ended) = (log.matches("]: connect from "), log.matches("]: disconnect from "));
            lasts(log) > before && begun.count() == ended.count()
        });
        // `auth=1`, or `auth=1/3` where two of three were refused.
        let counts = log.split(" auth=").skip(1).map(|rest| {
            let digits = rest.split(' ').next().unwrap().trim_end();
            let (taken, all) = digits.split_once('/').unwrap_or((digits, digits));
            (taken.parse::<usize>().unwrap(), all.parse::<usize>().unwrap())
        });
        counts.fold((0, 0), |sum, (taken, all)| (sum.0 + taken, sum.1 + all - taken))
    }
}

impl Store for Postfix {
    fn server(&self) -> &Private {
        &self.server
    }

    fn is_idle(&self) -> bool {
        // In the order in which a mail passes through them, so that none is missed.
        let mut queues = ["queue/maildrop", "queue/incoming", "queue/active"].into_iter();
        queues.all(|queue| self.server.files(queue).is_empty())
    }

    fn folders(&self) -> Vec<String> {
        vec!["mail/inbox/new".to_owned()]
    }

    fn parse(&self, _folder: &str, file: &[u8]) -> Stored {
        Stored::parse(file, &["Return-Path", "Delivered-To", "X-Original-To", "Received"], None)
    }
}

/// Why it cannot be started.
fn missing() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("only root can start it");
    }
    if !Path::new("/usr/sbin/postfix").exists() {
        return Some("the program is missing: Debian's package postfix has it");
    }
    let dovecot = Command::new("/usr/sbin/dovecot").arg("--version").stdin(Stdio::null()).output();
    match dovecot {
        Err(_) => Some("Dovecot is missing: Debian's package dovecot-core has it"),
        // The settings of 2.4 are called otherwise.
        Ok(output) if !output.stdout.starts_with(b"2.3.") => Some("Dovecot is not of version 2.3"),
        Ok(_) => None,
    }
}

/// A JSON Web Token, RFC 7519, signed with HMAC-SHA-256; the key's name is Dovecot's default.
fn token(key: &[u8], user: &str, expires: u64) -> String {
    assert!(!user.contains(['"', '\\']) && !user.contains(char::is_control), "nothing to escape in JSON");
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT","kid":"default"}"#);
    let claims = format!(r#"{{"sub":"{user}","iat":1000000000,"exp":{expires}}}"#);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
    let mut signature = Hmac::<Sha256>::new_from_slice(key).unwrap();
    signature.update(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.finalize().into_bytes()))
}
