//! The command line: what was asked for, or one clear line about what is wrong with it.
//! It must never read a file or open a connection.

use crate::access::{self, Access, RawAccess};
use crate::input::quoted;
use crate::speed;
use lexopt::Arg;
use smtp_bulk::host::MAX_DEPTH;
use smtp_bulk::{Domain, Pace, Pipeline};
use std::ffi::OsString;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

/// The sender when none is named.
pub const DEFAULT_FROM: &str = "sender@example.net";

const DEFAULT_COUNT: u64 = 100_000;
const SINK_THREADS: usize = 100;
const HOST_THREADS: usize = 2;
const MAX_THREADS: usize = 100_000;
const MAX_TIMEOUT_SECONDS: f64 = 86_400.0;

/// Text of `--help`.
pub const HELP: &str = "\
Sends many mails through many SMTP sessions and says what became of each.

Usage: bulk_send [OPTIONS]

Without options it starts the embedded server and sends 100,000 sample mails
through 100 sessions.

Where to:
  --host HOST[:PORT]   A server (name, IPv4, IPv6 or [IPv6]:PORT; if not given,
                       port 25, 465 with implicit TLS, and 24 with --lmtp). Repeat
                       it to spread the mail over several.
  --unix PATH          A server that listens on this Unix socket; repeat it and
                       mix it with --host at will. Without any of the two: the
                       embedded server.
  --lmtp               Speak LMTP to every server, as mail stores do (RFC 2033)
  --threads N          Sessions per host (default 2; embedded server 100)
  --hello NAME         Name said to the server (default: the own address)
  --timeout SECONDS    One time limit for every step (default: those of RFC 5321)

How fast, where the server offers PIPELINING; one that does not stand it gets less:
  --pipeline LEVEL     0 (default): one command, one reply. 1: all that is said of a
                       mail at once, then its content, for any server. 2: the content
                       with it (needs CHUNKING), or with what is said of the next
                       mail: one round trip per mail, at which some servers break
  --depth K            Mails per session in each batch, 1 (default) to 1000. With
                       --pipeline 2 and CHUNKING they are sent together, up to 8
                       at once

Who waits for whom:
  --pace PACE          lockstep (default): a batch takes as long as its slowest
                       session. quorum:SHARE:SECONDS: a step goes on when this share
                       of them (0 to 1) has finished it and the seconds are over, and
                       the others come back with the next batch. free: each session
                       takes the next mail when it has finished its own

No more than:
  --rate N             Mails a second over all servers, such as 50 or 0.5
  --per-connection N   Mails on one connection, which is then replaced. A server
                       that states a bound (MAILMAX) gets no more than that

TLS and login, the same for every --host and --unix:
  --tls MODE           none (default); starttls: nothing is sent without STARTTLS
                       (name port 587 where it is meant); implicit: TLS from the
                       first octet. With -insecure behind one of the two any
                       certificate will do, and anybody can stand in for the server
  --ca FILE            Trust the authorities in this file (PEM or DER), and no others
  --cert FILE          Certificate of this client, a chain in PEM; needs --key
  --key FILE           Its private key, in PEM (PKCS#8, not encrypted)
  --server-name NAME   Name in the server's certificate, if not the host's; with
                       --unix there is no other
  --pin SHA256         Fingerprint that the server's certificate must have besides;
                       repeat it to allow several. With -insecure it is all that is
                       asked of the certificate
  --user NAME          Log in as this user; needs --tls
  --auth MECHANISM     AUTO (default), SCRAM-SHA-256, SCRAM-SHA-1, CRAM-MD5, PLAIN,
                       LOGIN, OAUTHBEARER, XOAUTH2, EXTERNAL or ANONYMOUS. AUTO is
                       the strongest of those with a password, save CRAM-MD5
  --password-file FILE The password, or the token for OAUTHBEARER and XOAUTH2; one
                       line end behind it is taken off. Without it: the environment
                       variable SMTP_PASSWORD. It has no place on a command line,
                       which everybody on this machine can read.

What:
  --from ADDRESS       Sender; <> for none (default sender@example.net)
  --recipients FILE    One address per line, or CSV whose header names fields,
                       one of them `email`. It is checked whole before connecting.
                       Addresses may be international: a name as in ä@example.net
                       needs a server with SMTPUTF8, a domain does not.
  --count N            Made-up recipients user0000001@example.net and so on
                       instead of a file, with the fields email, name, number
  --message FILE.eml   The mail, with {{field}} filled in per recipient. Date and
                       Message-ID are added when it has none. Default: a sample

What became of it:
  --failed FILE        CSV of what was not delivered, with outcome, reason and
                       line, fit to be given as --recipients again. Mails in
                       doubt are in it too, and may arrive twice then.
                       An existing file is overwritten, unless bad input or
                       usage (exit code 2) keeps the run from starting.
  --trace FILE.html    A picture, to be opened in a browser: what each session did
                       over time, and which one the others waited for. Of the last
                       200 batches, with --pace free of the last 200 mails a session,
                       and of 200,000 steps at the most; 400 sessions are drawn. It
                       is written when the run is over, however it ended, over an
                       existing file as with --failed. It costs some speed.
  --json               Figures as one JSON object, last line of standard output;
                       the table goes to standard error
  --debug LEVEL        0 (off) to 10 (everything on the wire)
  --debug-path PATTERN Debug files instead of standard error, with [HOST]
                       [THREAD] [YYYY] [MM] [DD] [WK] [hh] [mm] filled in
  -h, --help           This text

A mail that a server defers (4yz) is tried three times at once and then abandoned:
wait, and give the --failed file as --recipients.

Ctrl-C ends the run: what is on its way is finished, the figures and the --failed
file are completed. A second one stops at once, and mails may be in doubt then.
SIGTERM and a hang-up do the same (under nohup a hang-up is ignored).

Exit code: 0 everything was delivered, 1 something was not (also when no server
could be reached, was trusted, or took the password), 2 bad input or usage.
";

/// A server to send to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostArg {
    /// One that is reached over TCP.
    Tcp {
        /// Name or address; IPv6 without brackets.
        name: String,
        /// Port, if given.
        port: Option<u16>,
    },
    /// One that listens on the Unix socket of this path.
    Unix(PathBuf),
}

/// Where the recipients come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipients {
    /// A file of them.
    File(PathBuf),
    /// That many made-up ones.
    Count(u64),
}

/// What was asked for, checked as far as it can be without reading files.
#[derive(Debug, Clone, PartialEq)]
pub struct Args {
    /// Servers in order; none means the embedded server.
    pub hosts: Vec<HostArg>,
    /// Sessions per host.
    pub threads: usize,
    /// How much is sent without waiting for replies.
    pub pipeline: Pipeline,
    /// Mails per session in each batch.
    pub depth: u32,
    /// Who waits for whom.
    pub pace: Pace,
    /// Mails a second, if there is a limit.
    pub rate: Option<f64>,
    /// Mails on one connection, if there is a limit.
    pub per_connection: Option<u32>,
    /// Whether LMTP is spoken.
    pub lmtp: bool,
    /// Name for EHLO, if given.
    pub hello: Option<String>,
    /// Sender without angle brackets; empty is the null reverse-path.
    pub from: String,
    /// Whether the sender was named, or is [`DEFAULT_FROM`].
    pub from_given: bool,
    /// Who gets the mail.
    pub recipients: Recipients,
    /// The mail; a sample without it.
    pub message: Option<PathBuf>,
    /// TLS and login.
    pub access: Access,
    /// One time limit for all steps, if given.
    pub timeout: Option<Duration>,
    /// Where undelivered mail is listed.
    pub failed: Option<PathBuf>,
    /// Where the sessions over time are drawn.
    pub trace: Option<PathBuf>,
    /// Debug level, 0 to 10.
    pub debug: u8,
    /// Pattern of debug files.
    pub debug_path: Option<String>,
    /// Whether the figures are wanted as JSON.
    pub json: bool,
}

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked {
    /// The help text.
    Help,
    /// A run.
    Run(Box<Args>),
}

/// Reads a command line whose first item is the program's name.
pub fn parse<I>(arguments: I) -> Result<Asked, String>
where
    I: IntoIterator,
    I::Item: Into<OsString>,
{
    let mut parser = lexopt::Parser::from_iter(arguments);
    let mut raw = Raw::default();
    loop {
        let name = match parser.next().map_err(|error| error.to_string())? {
            None => break,
            Some(Arg::Short('h') | Arg::Long("help")) => return Ok(Asked::Help),
            Some(Arg::Long("json")) => {
                raw.json = true;
                continue;
            }
            Some(Arg::Long("lmtp")) => {
                raw.lmtp = true;
                continue;
            }
            Some(Arg::Long(name)) => format!("--{name}"),
            Some(Arg::Short(letter)) => return Err(unknown(&format!("-{letter}"))),
            Some(Arg::Value(value)) => {
                let value = value.to_string_lossy();
                return Err(format!("unexpected argument {}", quoted(&value)));
            }
        };
        if name == "--password" {
            return Err(access::NO_PASSWORD.to_owned());
        }
        if !OPTIONS.contains(&name.as_str()) && !access::OPTIONS.contains(&name.as_str()) {
            return Err(unknown(&name));
        }
        let value = value_of(&mut parser, &name)?;
        raw.set(&name, value).map_err(|what| format!("{name}: {what}"))?;
    }
    raw.finish().map(|args| Asked::Run(Box::new(args)))
}

/// Options that have a value, besides those of [`access`].
const OPTIONS: [&str; 18] = [
    "--host",
    "--unix",
    "--threads",
    "--pipeline",
    "--depth",
    "--pace",
    "--rate",
    "--per-connection",
    "--hello",
    "--timeout",
    "--from",
    "--recipients",
    "--count",
    "--message",
    "--failed",
    "--trace",
    "--debug",
    "--debug-path",
];

#[derive(Default)]
struct Raw {
    hosts: Vec<HostArg>,
    threads: Option<usize>,
    pipeline: Option<Pipeline>,
    depth: Option<u32>,
    pace: Option<Pace>,
    rate: Option<f64>,
    per_connection: Option<u32>,
    lmtp: bool,
    hello: Option<String>,
    timeout: Option<Duration>,
    from: Option<String>,
    recipients: Option<PathBuf>,
    count: Option<u64>,
    message: Option<PathBuf>,
    failed: Option<PathBuf>,
    trace: Option<PathBuf>,
    access: RawAccess,
    debug: Option<u8>,
    debug_path: Option<String>,
    json: bool,
}

impl Raw {
    fn set(&mut self, option: &str, value: OsString) -> Result<(), String> {
        match option {
            "--recipients" => return once(&mut self.recipients, path(value)?),
            "--message" => return once(&mut self.message, path(value)?),
            "--failed" => return once(&mut self.failed, path(value)?),
            "--trace" => return once(&mut self.trace, path(value)?),
            "--unix" => {
                self.hosts.push(HostArg::Unix(socket(value)?));
                return Ok(());
            }
            _ if access::OPTIONS.contains(&option) => return self.access.set(option, value),
            _ => {}
        }
        let value = value
            .into_string()
            .map_err(|value| format!("{} is not UTF-8", quoted(&value.to_string_lossy())))?;
        match option {
            "--host" => {
                self.hosts.push(host(&value)?);
                Ok(())
            }
            "--threads" => once(&mut self.threads, threads(&value)?),
            "--pipeline" => once(&mut self.pipeline, pipeline(&value)?),
            "--depth" => once(&mut self.depth, depth(&value)?),
            "--pace" => once(&mut self.pace, speed::pace(&value)?),
            "--rate" => once(&mut self.rate, speed::rate(&value)?),
            "--per-connection" => once(&mut self.per_connection, speed::mails(&value)?),
            "--hello" => once(&mut self.hello, hello(value)?),
            "--timeout" => once(&mut self.timeout, timeout(&value)?),
            "--from" => once(&mut self.from, from(value)),
            "--count" => once(&mut self.count, count(&value)?),
            "--debug" => once(&mut self.debug, level(&value)?),
            "--debug-path" if value.is_empty() => Err("is empty".to_owned()),
            "--debug-path" => once(&mut self.debug_path, value),
            _ => Err("is unknown".to_owned()),
        }
    }

    fn finish(self) -> Result<Args, String> {
        let recipients = match (self.recipients, self.count) {
            (Some(_), Some(_)) => {
                return Err("--count and --recipients exclude each other".to_owned());
            }
            (Some(file), None) => Recipients::File(file),
            (None, Some(count)) => Recipients::Count(count),
            (None, None) if self.hosts.is_empty() => Recipients::Count(DEFAULT_COUNT),
            (None, None) => {
                let option = if self.hosts.iter().all(HostArg::is_unix) { "--unix" } else { "--host" };
                return Err(format!("{option} needs --recipients FILE or --count N"));
            }
        };
        let debug = self.debug.unwrap_or(0);
        if self.debug_path.is_some() && debug == 0 {
            return Err("--debug-path needs --debug LEVEL, 1 to 10".to_owned());
        }
        let access = self.access.finish(!self.hosts.is_empty())?;
        if access.trusts_host_names() && self.hosts.iter().any(HostArg::is_unix) {
            return Err("--tls needs --server-name NAME with --unix: no certificate names a path".to_owned());
        }
        let threads = match self.hosts.is_empty() {
            true => SINK_THREADS,
            false => HOST_THREADS,
        };
        Ok(Args {
            hosts: self.hosts,
            threads: self.threads.unwrap_or(threads),
            pipeline: self.pipeline.unwrap_or_default(),
            depth: self.depth.unwrap_or(1),
            pace: self.pace.unwrap_or_default(),
            rate: self.rate,
            per_connection: self.per_connection,
            lmtp: self.lmtp,
            hello: self.hello,
            from_given: self.from.is_some(),
            from: self.from.unwrap_or_else(|| DEFAULT_FROM.to_owned()),
            recipients,
            message: self.message,
            access,
            timeout: self.timeout,
            failed: self.failed,
            trace: self.trace,
            debug,
            debug_path: self.debug_path,
            json: self.json,
        })
    }
}

fn unknown(option: &str) -> String {
    format!("unknown option {}; --help lists them all", quoted(option))
}

/// The value of an option. What looks like an option is none, unless joined by `=`.
fn value_of(parser: &mut lexopt::Parser, option: &str) -> Result<OsString, String> {
    if let Some(value) = parser.optional_value() {
        return Ok(value);
    }
    match parser.value() {
        Ok(value) if !value.to_string_lossy().starts_with("--") => Ok(value),
        _ => Err(format!("{option} needs a value")),
    }
}

fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), String> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err("is given twice".to_owned()),
    }
}

fn path(value: OsString) -> Result<PathBuf, String> {
    match value.is_empty() {
        true => Err("is empty".to_owned()),
        false => Ok(PathBuf::from(value)),
    }
}

impl HostArg {
    fn is_unix(&self) -> bool {
        matches!(self, HostArg::Unix(_))
    }
}

/// The path of a Unix socket, which cannot be of any length.
fn socket(value: OsString) -> Result<PathBuf, String> {
    let path = path(value)?;
    #[cfg(unix)]
    if let Err(error) = std::os::unix::net::SocketAddr::from_pathname(&path) {
        return Err(format!("{} is no path of a socket: {error}", quoted(&path.to_string_lossy())));
    }
    Ok(path)
}

fn host(text: &str) -> Result<HostArg, String> {
    if let Some(rest) = text.strip_prefix('[') {
        let Some((name, after)) = rest.split_once(']') else {
            return Err(format!("{} lacks `]`", quoted(text)));
        };
        if name.parse::<Ipv6Addr>().is_err() {
            return Err(format!("{} is not an IPv6 address", quoted(name)));
        }
        let port = match after.strip_prefix(':') {
            Some(digits) => Some(port(digits)?),
            None if after.is_empty() => None,
            None => return Err(format!("{} is not [IPv6]:PORT", quoted(text))),
        };
        return Ok(HostArg::Tcp { name: name.to_owned(), port });
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Ok(HostArg::Tcp { name: text.to_owned(), port: None });
    }
    let (name, port) = match text.split_once(':') {
        Some((_, digits)) if digits.contains(':') => {
            let what = "is neither HOST:PORT nor an IPv6 address";
            return Err(format!("{} {what}", quoted(text)));
        }
        Some((name, digits)) => (name, Some(port(digits)?)),
        None => (text, None),
    };
    host_name(name)?;
    Ok(HostArg::Tcp { name: name.to_owned(), port })
}

fn host_name(name: &str) -> Result<(), String> {
    // Underscores are no part of a host name (RFC 952), but of names that resolve in practice.
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let bare = name.strip_suffix('.').unwrap_or(name);
    let mut labels = bare.split('.');
    let well_formed = labels.all(|label| (1..64).contains(&label.len()) && label.bytes().all(fits));
    if !well_formed || bare.len() > 253 {
        return Err(format!("{} is not a host name or address", quoted(name)));
    }
    // Resolvers read `1.2.3` or `0300.1` as an address of their own making.
    let last = bare.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|b| b.is_ascii_digit()) && name.parse::<Ipv4Addr>().is_err() {
        return Err(format!("{} is not an IPv4 address", quoted(name)));
    }
    Ok(())
}

fn port(digits: &str) -> Result<u16, String> {
    match digits_only(digits).then(|| digits.parse::<u16>()) {
        Some(Ok(port)) if port > 0 => Ok(port),
        _ => Err(format!("port {} is not 1 to 65535", quoted(digits))),
    }
}

fn threads(text: &str) -> Result<usize, String> {
    match digits_only(text).then(|| text.parse::<usize>()) {
        Some(Ok(threads)) if (1..=MAX_THREADS).contains(&threads) => Ok(threads),
        _ => Err(format!("{} is not 1 to {MAX_THREADS}", quoted(text))),
    }
}

fn pipeline(text: &str) -> Result<Pipeline, String> {
    let level = digits_only(text).then(|| text.parse::<u8>().ok()).flatten();
    let level = level.ok_or_else(|| format!("{} is no number of a level", quoted(text)))?;
    Pipeline::from_level(level).map_err(|error| error.to_string())
}

fn depth(text: &str) -> Result<u32, String> {
    match digits_only(text).then(|| text.parse::<u32>()) {
        Some(Ok(depth)) if (1..=MAX_DEPTH).contains(&depth) => Ok(depth),
        _ => Err(format!("{} is not 1 to {MAX_DEPTH}", quoted(text))),
    }
}

fn count(text: &str) -> Result<u64, String> {
    match digits_only(text).then(|| text.parse::<u64>()) {
        Some(Ok(count)) if (1..u64::MAX).contains(&count) => Ok(count),
        _ => Err(format!("{} is not a number of mails, 1 or more", quoted(text))),
    }
}

fn level(text: &str) -> Result<u8, String> {
    match digits_only(text).then(|| text.parse::<u8>()) {
        Some(Ok(level)) if level <= 10 => Ok(level),
        _ => Err(format!("{} is not 0 to 10", quoted(text))),
    }
}

fn timeout(text: &str) -> Result<Duration, String> {
    let seconds = text
        .bytes()
        .all(|b| b.is_ascii_digit() || b == b'.')
        .then(|| text.parse::<f64>().ok())
        .flatten()
        .filter(|&seconds| (0.001..=MAX_TIMEOUT_SECONDS).contains(&seconds));
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or_else(|| {
        let most = MAX_TIMEOUT_SECONDS;
        format!("{} is not 0.001 to {most} seconds", quoted(text))
    })
}

fn hello(text: String) -> Result<String, String> {
    match text.parse::<Domain>() {
        Ok(_) => Ok(text),
        Err(_) => Err(format!("{} is not a domain or address literal", quoted(&text))),
    }
}

fn from(text: String) -> String {
    match text.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')) {
        Some(bare) => bare.to_owned(),
        None => text,
    }
}

fn digits_only(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str) -> Result<Asked, String> {
        parse(["bulk_send"].into_iter().chain(line.split_whitespace()))
    }

    fn args(line: &str) -> Args {
        match asked(line).unwrap() {
            Asked::Run(args) => *args,
            Asked::Help => panic!("help"),
        }
    }

    fn error(line: &str) -> String {
        asked(line).unwrap_err()
    }

    #[test]
    fn no_arguments_mean_the_embedded_server_and_100_000_mails() {
        let args = args("");
        assert!(args.hosts.is_empty());
        assert_eq!((args.threads, args.recipients), (100, Recipients::Count(100_000)));
        assert_eq!((args.from.as_str(), args.from_given), (DEFAULT_FROM, false));
        assert!(!args.json);
        assert_eq!((args.pipeline, args.depth, args.lmtp), (Pipeline::Single, 1, false));
        assert_eq!(args.pace, Pace::Lockstep);
        assert_eq!((args.rate, args.per_connection), (None, None));
    }

    #[test]
    fn every_option_arrives() {
        let args = args(
            "--host a.example --host=[::1]:2525 --threads 7 --hello me.example --timeout 2.5 \
             --from a@b --recipients r.csv --message m.eml --failed f.csv --debug 10 \
             --debug-path log/[HOST] --json --tls starttls --user tim --pipeline 2 --depth 8 --pace free --rate 0.5 --per-connection 20 \
             --lmtp --unix run/lmtp.sock --server-name mx.example --trace t.html",
        );
        assert_eq!(args.hosts.len(), 3);
        assert_eq!(args.hosts[2], HostArg::Unix("run/lmtp.sock".into()));
        assert_eq!((args.pipeline, args.depth, args.lmtp), (Pipeline::Full, 8, true));
        assert_eq!(args.pace, Pace::Free);
        assert_eq!((args.rate, args.per_connection), (Some(0.5), Some(20)));
        assert_eq!(args.threads, 7);
        assert_eq!(args.hello.as_deref(), Some("me.example"));
        assert_eq!(args.timeout, Some(Duration::from_millis(2500)));
        assert_eq!((args.from.as_str(), args.from_given), ("a@b", true));
        assert_eq!(args.recipients, Recipients::File("r.csv".into()));
        assert_eq!(args.message, Some("m.eml".into()));
        assert_eq!((args.failed, args.trace), (Some("f.csv".into()), Some("t.html".into())));
        assert_eq!((args.debug, args.debug_path.as_deref()), (10, Some("log/[HOST]")));
        assert_eq!(args.access.security, smtp_bulk::Security::StartTls);
        assert!(args.json);
    }

    #[test]
    fn a_password_on_the_command_line_is_refused_and_not_repeated() {
        for line in ["--password hunter2", "--password=hunter2", "--user tim --password hunter2"] {
            let error = error(line);
            assert!(error.contains("--password-file FILE") && error.contains("SMTP_PASSWORD"), "{error}");
            assert!(error.contains("can read") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn options_in_the_table_are_those_of_the_help() {
        for option in OPTIONS.into_iter().chain(access::OPTIONS) {
            assert!(HELP.contains(&format!("  {option} ")), "{option}");
        }
        for flag in ["--json", "--lmtp", "--help"] {
            assert!(HELP.contains(&format!("{flag} ")), "{flag}");
        }
        assert!(HELP.contains(&format!("1 (default) to {MAX_DEPTH}.")));
        assert_eq!(asked("--count 3 -h").unwrap(), Asked::Help);
    }

    #[test]
    fn hosts_are_read_in_every_notation() {
        for (text, name, port) in [
            ("a.example", "a.example", None),
            ("a.example.:587", "a.example.", Some(587)),
            ("127.0.0.1:2525", "127.0.0.1", Some(2525)),
            ("::1", "::1", None),
            ("2001:db8::25", "2001:db8::25", None),
            ("[::1]", "::1", None),
            ("[::1]:25", "::1", Some(25)),
            ("mail_1", "mail_1", None),
        ] {
            let name = name.to_owned();
            assert_eq!(host(text), Ok(HostArg::Tcp { name, port }), "{text}");
        }
    }

    #[test]
    fn bad_hosts_are_refused() {
        for (text, what) in [
            ("a:0", "port `0` is not 1 to 65535"),
            ("a:65536", "port `65536` is not 1 to 65535"),
            ("a:+25", "port `+25`"),
            ("a:", "port ``"),
            ("a:smtp", "port `smtp`"),
            ("[::1]:x", "port `x`"),
            ("[::1", "lacks `]`"),
            ("[::1]25", "is not [IPv6]:PORT"),
            ("[127.0.0.1]", "is not an IPv6 address"),
            ("1:2:3", "neither HOST:PORT nor an IPv6 address"),
            ("", "is not a host name or address"),
            (":25", "is not a host name or address"),
            ("a..b", "is not a host name or address"),
            ("user@host", "is not a host name or address"),
            ("1.2.3", "is not an IPv4 address"),
            ("256.1.1.1", "is not an IPv4 address"),
        ] {
            let error = host(text).unwrap_err();
            assert!(error.contains(what), "{text}: {error}");
        }
    }

    #[test]
    fn every_mistake_is_one_clear_line() {
        for (line, what) in [
            ("--thread 5", "unknown option `--thread`; --help lists them all"),
            ("-x", "unknown option `-x`; --help lists them all"),
            ("file.csv", "unexpected argument `file.csv`"),
            ("--threads 0", "--threads: `0` is not 1 to 100000"),
            ("--threads -1", "--threads: `-1` is not 1 to 100000"),
            ("--threads", "--threads needs a value"),
            ("--from --json", "--from needs a value"),
            ("--count 0", "--count: `0` is not a number of mails, 1 or more"),
            ("--count 1e5", "--count: `1e5` is not a number of mails, 1 or more"),
            ("--count 1 --count 2", "--count: is given twice"),
            ("--timeout 0", "--timeout: `0` is not 0.001 to 86400 seconds"),
            ("--timeout inf", "--timeout: `inf` is not 0.001 to 86400 seconds"),
            ("--debug 11", "--debug: `11` is not 0 to 10"),
            ("--debug-path x", "--debug-path needs --debug LEVEL, 1 to 10"),
            ("--hello -", "--hello: `-` is not a domain or address literal"),
            ("--hello ä..b", "--hello: `ä..b` is not a domain or address literal"),
            ("--recipients=", "--recipients: is empty"),
            ("--trace=", "--trace: is empty"),
            ("--trace a --trace b", "--trace: is given twice"),
            ("--pipeline 3", "--pipeline: 3 is no level of pipelining; there are 0, 1 and 2"),
            ("--pipeline -1", "--pipeline: `-1` is no number of a level"),
            ("--pipeline full", "--pipeline: `full` is no number of a level"),
            ("--pipeline 1 --pipeline 1", "--pipeline: is given twice"),
            ("--pace fast", "--pace: `fast` is not lockstep, free or quorum:SHARE:SECONDS"),
            ("--rate 0", "--rate: `0` is no number of mails a second, above 0"),
            ("--per-connection 0", "--per-connection: `0` is no number of mails, 1 or more"),
            ("--depth 0", "--depth: `0` is not 1 to 1000"),
            ("--depth 1001", "--depth: `1001` is not 1 to 1000"),
            ("--depth +1", "--depth: `+1` is not 1 to 1000"),
            ("--unix", "--unix needs a value"),
            ("--unix=", "--unix: is empty"),
            ("--unix a", "--unix needs --recipients FILE or --count N"),
            ("--unix a --host b", "--host needs --recipients FILE or --count N"),
            (
                "--unix a --count 1 --tls starttls",
                "--tls needs --server-name NAME with --unix: no certificate names a path",
            ),
            ("--host a:x --count 1", "--host: port `x` is not 1 to 65535"),
            ("--host a", "--host needs --recipients FILE or --count N"),
            ("--tls starttls", "--tls needs --host or --unix: the embedded server has no certificate"),
            ("--host a --count 1 --user tim", "--user needs --tls starttls or --tls implicit"),
            ("--count 1 --recipients f", "--count and --recipients exclude each other"),
        ] {
            assert_eq!(error(line), what, "{line}");
        }
        assert!(error("--json=yes").contains("--json"));
        assert!(error("--lmtp=yes").contains("--lmtp"));
    }

    #[test]
    fn international_names_are_names() {
        assert_eq!(args("--hello bücher.example").hello.as_deref(), Some("bücher.example"));
        assert_eq!(args("--from ä@bücher.example").from, "ä@bücher.example");
    }

    #[cfg(unix)]
    #[test]
    fn a_path_too_long_for_a_socket_is_refused() {
        let long = "x".repeat(200);
        let error = error(&format!("--unix {long} --count 1"));
        assert!(error.starts_with("--unix: `xxx") && error.contains(" is no path of a socket: "), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_path_need_not_be_text() {
        use std::os::unix::ffi::OsStringExt;
        let path = OsString::from_vec(b"/run/\xff".to_vec());
        let line =
            ["bulk_send", "--count", "1", "--unix"].map(OsString::from).into_iter().chain([path.clone()]);
        let Asked::Run(args) = parse(line).unwrap() else { panic!("help") };
        assert_eq!(args.hosts, [HostArg::Unix(path.into())]);
    }

    #[test]
    fn control_characters_in_arguments_stay_off_the_terminal() {
        let error = parse(["bulk_send", "--host", "a\n\u{1b}[2J"]).unwrap_err();
        assert!(!error.contains(char::is_control), "{error}");
        let error = parse(["bulk_send", "--a\nb"]).unwrap_err();
        assert!(!error.contains(char::is_control), "{error}");
    }

    #[test]
    fn null_reverse_path_can_be_asked_for() {
        for line in ["--from <>", "--from="] {
            let args = args(line);
            assert_eq!((args.from.as_str(), args.from_given), ("", true));
        }
        assert_eq!(args("--from <a@b>").from, "a@b");
    }
}
