//! The mailer against smtp-sink, the test server that comes with Postfix, and its faults.
//!
//! Where the program is missing, the tests say so on standard error and pass; with
//! `SMTP_BULK_REQUIRE_SERVERS=1` in the environment they fail.

#![cfg(unix)]

mod support;

use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use smtp_bulk::{Content, Envelope, Error, EventKind, Host, MailerBuilder, Message, Step, Summary, Timeouts};

use support::{Log, PATIENCE, builder, mail, numbers, run, send_and_quit, skipped, text};

/// Where Debian and most others put it.
const PROGRAMS: [&str; 3] =
    ["/usr/sbin/smtp-sink", "/usr/libexec/postfix/smtp-sink", "/usr/local/sbin/smtp-sink"];

/// The program; `None` was said aloud.
fn program() -> Option<&'static str> {
    let found = PROGRAMS.into_iter().find(|path| Path::new(path).exists());
    if found.is_none() {
        let required = std::env::var_os("SMTP_BULK_REQUIRE_SERVERS").is_some_and(|value| value == "1");
        assert!(!required, "smtp-sink is required and missing: install Debian's package postfix");
        static SAID: Once = Once::new();
        SAID.call_once(|| {
            skipped("all of smtp_sink: the program is missing; Debian's package postfix has it")
        });
    }
    found
}

/// A running smtp-sink, which ends with this.
struct Postfix {
    child: Child,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Postfix {
    /// Starts it with these options; `None` where there is no such program.
    fn start(options: &[&str]) -> Option<Postfix> {
        let program = program()?;
        // One at a time, so that no two of these tests choose the same port.
        static STARTING: Mutex<()> = Mutex::new(());
        let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        // Between our look for a free port and its listening, another program may take it.
        for _ in 0..10 {
            let folder = tempfile::tempdir().unwrap();
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
            let mut command = Command::new(program);
            if rustix::process::geteuid().is_root() {
                command.args(["-u", "nobody"]);
            }
            command.args(options).arg(free.to_string()).arg("1024");
            command.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::null());
            let child = command.stderr(Stdio::null()).spawn().unwrap();
            let mut server = Postfix { child, address: free, folder };
            if server.answers() {
                return Some(server);
            }
        }
        panic!("smtp-sink {options:?} does not start");
    }

    /// Waits until it listens; `false` when it has ended instead.
    fn answers(&mut self) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            if TcpStream::connect(self.address).is_ok() {
                return true;
            }
            std::thread::yield_now();
        }
        panic!("smtp-sink is silent");
    }

    fn host(&self) -> Host {
        Host::new(self.address.ip().to_string()).port(self.address.port())
    }

    /// The mails that it has dumped, as they are.
    fn dumped(&self) -> Vec<String> {
        let files = fs::read_dir(self.folder.path()).unwrap();
        files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect()
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What became of three mails.
struct Outcome {
    log: Log,
    sent: Result<Summary, Error>,
}

/// Sends three mails, over one lane unless set otherwise, to a server with these options.
fn three_mails(options: &[&str], set: impl FnOnce(MailerBuilder) -> MailerBuilder) -> Option<Outcome> {
    let server = Postfix::start(options)?;
    let log = Log::default();
    let settings = builder(&log).host(server.host()).max_attempts(2).max_connect_failures(20);
    let settings = set(settings);
    let sent = run(async {
        let mut mailer = settings.connect().await?;
        mailer.send_all((0..3).map(mail)).await?;
        mailer.quit().await
    });
    if let Ok(summary) = &sent {
        assert_eq!((summary.taken, summary.mails.total()), (3, 3), "{options:?}: {summary}");
        assert_eq!(log.outcomes().len(), 3, "{options:?}");
    }
    Some(Outcome { log, sent })
}

/// The outcome of all three mails, which has to be the same.
fn all_are(options: &[&str], outcome: &str, set: impl FnOnce(MailerBuilder) -> MailerBuilder) -> Option<Log> {
    let Outcome { log, sent } = three_mails(options, set)?;
    sent.unwrap_or_else(|error| panic!("{options:?}: {error}"));
    assert_eq!(log.outcomes().into_values().collect::<Vec<_>>(), [outcome; 3], "{options:?}");
    Some(log)
}

/// Every troublesome event is of this kind and step, and there is one.
fn trouble_is(log: &Log, options: &[&str], kind: EventKind, step: Step, says: &str) {
    let trouble = log.trouble();
    assert!(!trouble.is_empty(), "{options:?}");
    for seen in trouble {
        assert_eq!((seen.kind, seen.step), (kind, step), "{options:?}: {}", seen.line);
        assert!(seen.line.ends_with(says), "{options:?}: {}", seen.line);
    }
}

// ---- what works ---------------------------------------------------------------------------------

#[test]
fn a_thousand_mails_over_twenty_sessions_arrive_whole() {
    let Some(server) = Postfix::start(&["-d", "mail."]) else { return };
    let log = Log::default();
    let summary = send_and_quit(builder(&log).host(server.host()).threads(20), (0..1000).map(mail));
    assert_eq!((summary.mails.delivered, summary.batches, log.trouble().len()), (1000, 50, 0));
    let mut seen = vec![false; 1000];
    let dumped = server.dumped();
    assert_eq!(dumped.len(), 1000);
    for dump in dumped {
        let (_, id) = dump.split_once("X-Rcpt-Args: <r").unwrap();
        let (id, _) = id.split_once("@example.net>\n").unwrap();
        let id: u64 = id.parse().unwrap();
        assert!(!std::mem::replace(&mut seen[id as usize], true), "{id} came twice");
        // It writes LF for CRLF, and an empty line behind the mail.
        let expected = text(id).replace("\r\n", "\n");
        assert!(dump.ends_with(&format!("\n{expected}\n")), "{dump}");
        assert!(dump.contains("X-Mail-Args: <sender@example.org>\n"), "{dump}");
        assert!(dump.contains("X-Helo-Args: [127.0.0.1]\n"), "{dump}");
    }
}

#[test]
fn servers_that_offer_little_get_their_mail() {
    for options in [&["-e"][..], &["-P"], &["-p", "-8", "-N", "-F", "-C", "-E", "-a"], &["-f", "ehlo"]] {
        let Some(log) = all_are(options, "delivered", |settings| settings) else { return };
        assert!(log.trouble().is_empty(), "{options:?}: {:#?}", log.trouble());
    }
}

#[test]
fn a_tiny_window_and_a_late_reader_get_a_large_mail() {
    for options in [&["-T", "512"][..], &["-H", "1"], &["-H", "1", "-T", "2048"]] {
        let Some(server) = Postfix::start(options) else { return };
        let log = Log::default();
        let octets = 8 << 20;
        let content = Content::reader(move || Ok(Box::new(std::io::repeat(b'x').take(octets))));
        let mails = (0..2).map(|id| {
            let envelope = Envelope::parse("sender@example.org", ["ann@example.net"]).unwrap();
            Message::new(envelope, content.clone().promise(octets)).id(id)
        });
        let summary = send_and_quit(builder(&log).host(server.host()).threads(2), mails);
        assert_eq!((summary.mails.delivered, log.trouble().len()), (2, 0), "{options:?}: {summary}");
    }
}

#[test]
fn a_slow_server_is_waited_for() {
    for options in ["ehlo:1", "mail:1", ".:1"] {
        let options = &["-W", options];
        let Some(log) = all_are(options, "delivered", |settings| settings.threads(3)) else { return };
        assert!(log.trouble().is_empty(), "{options:?}: {:#?}", log.trouble());
    }
}

// ---- -f and -r: refusals ------------------------------------------------------------------------

#[test]
fn hard_refusals_are_final_where_they_are_about_the_mail() {
    for (command, step) in
        [("mail", Step::Mail), ("rcpt", Step::Rcpt), ("data", Step::Data), (".", Step::Content)]
    {
        let options = &["-B", "550 5.7.1 never", "-f", command];
        let Some(log) = all_are(options, "refused", |settings| settings) else { return };
        trouble_is(&log, options, EventKind::Fail, step, ": 550 5.7.1 never");
        assert_eq!(log.trouble().len(), 3);
    }
}

#[test]
fn a_refused_rset_costs_the_connection_and_no_outcome() {
    let options = &["-B", "550 5.7.1 never", "-f", "rcpt,rset"];
    let Some(log) = all_are(options, "refused", |settings| settings) else { return };
    assert_eq!(log.of_kind(EventKind::Fail).iter().filter(|seen| seen.step == Step::Rset).count(), 2);
    assert_eq!(log.of_kind(EventKind::ReconnectPass).len(), 2);
}

#[test]
fn refusals_that_blame_the_session_never_end_a_mail() {
    // Its own words are "500 5.3.0 Error: command failed".
    for (command, step) in [("mail", Step::Mail), ("rcpt", Step::Rcpt), ("data", Step::Data)] {
        let options = &["-f", command];
        let few = |settings: MailerBuilder| settings.max_connect_failures(3);
        let Some(Outcome { log, sent }) = three_mails(options, few) else { return };
        let error = sent.expect_err("no mail gets through");
        let line = error.to_string();
        assert!(line.starts_with("every lane is retired"), "{line}");
        assert!(line.contains("; last: 127.0.0.1:0 fail") && line.contains(": 500 5.3.0 "), "{line}");
        assert!(numbers(&error.into_unsent()).contains(&0), "{options:?}");
        trouble_is(&log, options, EventKind::Fail, step, ": 500 5.3.0 Error: command failed");
    }
}

#[test]
fn soft_refusals_are_tried_as_often_as_was_set() {
    for (command, step) in
        [("mail", Step::Mail), ("rcpt", Step::Rcpt), ("data", Step::Data), (".", Step::Content)]
    {
        let options = &["-r", command];
        let Some(log) = all_are(options, "abandoned", |settings| settings) else { return };
        trouble_is(&log, options, EventKind::Fail, step, ": 450 4.3.0 Error: command failed");
        log.reports(|all| assert!(all.iter().all(|ended| ended.attempts == 2), "{all:?}"));
    }
}

#[test]
fn a_server_that_wants_no_session_is_named_with_its_reply() {
    for (options, says) in [
        (["-f", "connect"], "500 5.3.0 Error: command failed"),
        (["-r", "connect"], "450 4.3.0 Error: command failed"),
        (["-r", "ehlo"], "450 4.3.0 Error: command failed"),
        (["-Q", "connect"], "421"),
        (["-Q", "ehlo"], "421"),
        (["-q", "connect"], "closed by the server"),
        (["-q", "ehlo"], "closed by the server"),
        (["-f", "ehlo,helo"], "500 5.3.0 Error: command failed"),
    ] {
        let few = |settings: MailerBuilder| settings.max_connect_failures(2);
        let Some(Outcome { log, sent }) = three_mails(&options, few) else { return };
        let line = sent.expect_err("there is no session").to_string();
        assert!(
            line.contains("last: 127.0.0.1:0 connect_fail") && line.contains(says),
            "{options:?}: {line}"
        );
        assert_eq!(log.of_kind(EventKind::ConnectFail).len(), 2, "{options:?}");
    }
}

// ---- -q and -Q: closing -------------------------------------------------------------------------

#[test]
fn a_connection_closed_without_a_reply_is_another_attempt_or_a_doubt() {
    for (command, step, outcome) in [
        ("mail", Step::Mail, "abandoned"),
        ("rcpt", Step::Rcpt, "abandoned"),
        ("data", Step::Data, "abandoned"),
        (".", Step::Content, "in_doubt"),
    ] {
        let options = &["-q", command];
        let Some(log) = all_are(options, outcome, |settings| settings) else { return };
        trouble_is(&log, options, EventKind::Hang, step, ": closed by the server");
    }
}

#[test]
fn a_mail_in_doubt_goes_out_again_when_that_was_asked_for() {
    let options = &["-q", "."];
    let resend = |settings: MailerBuilder| settings.resend_in_doubt(true);
    let Some(log) = all_are(options, "in_doubt", resend) else { return };
    log.reports(|all| assert!(all.iter().all(|ended| ended.attempts == 2), "{all:?}"));
}

#[test]
fn a_421_counts_for_the_lane_and_not_for_the_mail() {
    for (command, step) in
        [("mail", Step::Mail), ("rcpt", Step::Rcpt), ("data", Step::Data), (".", Step::Content)]
    {
        let options = &["-Q", command];
        let few = |settings: MailerBuilder| settings.max_connect_failures(4);
        let Some(Outcome { log, sent }) = three_mails(options, few) else { return };
        assert!(matches!(sent, Err(Error::AllRetired { .. })), "{options:?}: {sent:?}");
        let fails = log.of_kind(EventKind::Fail);
        assert_eq!(fails.len(), 4, "{options:?}: {fails:#?}");
        assert!(fails.iter().all(|fail| (fail.step, fail.attempt) == (step, 1)), "{options:?}: {fails:#?}");
        assert!(fails.iter().all(|fail| fail.line.contains(": 421 ")), "{options:?}: {fails:#?}");
    }
}

#[test]
fn whatever_is_done_at_quit_changes_nothing() {
    for options in [["-f", "quit"], ["-r", "quit"], ["-q", "quit"], ["-Q", "quit"]] {
        let Some(log) = all_are(&options, "delivered", |settings| settings.threads(2)) else { return };
        assert!(log.trouble().is_empty(), "{options:?}: {:#?}", log.trouble());
    }
}

// ---- -A, -H and -W: time ------------------------------------------------------------------------

#[test]
fn a_content_that_is_cut_short_by_a_refusal_is_refused() {
    let options = &["-A", "1"];
    let Some(log) = all_are(options, "refused", |settings| settings.threads(3)) else { return };
    trouble_is(&log, options, EventKind::Fail, Step::Content, "");
    log.reports(|all| assert!(all.iter().all(|ended| ended.line.starts_with("refused: 550")), "{all:?}"));
}

#[test]
fn a_refusal_right_behind_the_go_ahead_never_delivers() {
    let Some(Outcome { log, sent }) = three_mails(&["-A", "0"], |settings| settings) else { return };
    sent.expect("every mail ends");
    // It depends on who is quicker whether the refusal is an answer or was said unasked.
    assert!(
        log.outcomes().into_values().all(|outcome| matches!(outcome, "refused" | "abandoned" | "in_doubt"))
    );
}

#[test]
fn a_reply_that_is_too_late_is_a_hang_of_its_step() {
    let short = Duration::from_millis(200);
    for (command, step) in [("mail", Step::Mail), ("rcpt", Step::Rcpt), ("data", Step::Data)] {
        let late = format!("{command}:3");
        let options = &["-W", &late];
        let timeouts = Timeouts { mail: short, rcpt: short, data: short, ..Timeouts::uniform(PATIENCE) };
        let impatient = |settings: MailerBuilder| settings.threads(3).max_attempts(1).timeouts(timeouts);
        let Some(log) = all_are(options, "abandoned", impatient) else { return };
        trouble_is(&log, options, EventKind::Hang, step, ": no reply within 200ms");
        assert_eq!(log.trouble().len(), 3);
    }
}

#[test]
fn a_final_reply_that_is_too_late_leaves_the_mail_in_doubt() {
    let short = Duration::from_millis(200);
    let timeouts = Timeouts { final_reply: short, ..Timeouts::uniform(PATIENCE) };
    for options in [["-W", ".:3"], ["-H", "3"]] {
        let impatient = |settings: MailerBuilder| settings.threads(3).timeouts(timeouts.clone());
        let Some(log) = all_are(&options, "in_doubt", impatient) else { return };
        trouble_is(&log, &options, EventKind::Hang, Step::Content, ": no reply within 200ms");
    }
}
