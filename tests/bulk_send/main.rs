//! The main job as its user runs it: the program `bulk_send`, its files, its output, its exit code.

#[path = "../support/certs.rs"]
mod certs;
mod flights;
#[cfg(not(any(windows, target_vendor = "apple")))]
#[allow(dead_code, reason = "made for more than this")]
#[path = "../protected/peers.rs"]
mod peers;
#[path = "../support/mod.rs"]
mod support;
mod trace;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, OnceLock};

use smtp_bulk::sink::{Builder, Fault, Misdeed, Sink, Step as At};

use certs::Authority;
use support::{ClosedPort, PATIENCE, sink};

/// The program, built once. `cargo test` alone does not build an example that has tests of its own.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        // This test is <target>/<profile>/deps/bulk_send-<hash>.
        let this = std::env::current_exe().unwrap();
        let folder = this.ancestors().nth(2).unwrap();
        let profile = match folder.file_name().unwrap().to_str().unwrap() {
            "debug" => "test",
            profile => profile,
        };
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--offline", "--example", "bulk_send", "--profile", profile])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("CARGO_TARGET_DIR", folder.parent().unwrap())
            .status();
        assert!(built.unwrap().success(), "the example builds");
        folder.join("examples").join(format!("bulk_send{}", std::env::consts::EXE_SUFFIX))
    })
}

/// How a run ended.
struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Run {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Run { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Run {
    /// A figure of the JSON object on the last line of standard output.
    fn figure(&self, name: &str) -> u64 {
        let line = self.out.lines().last().unwrap_or_default();
        assert!(line.starts_with('{') && line.ends_with('}'), "{line:?}: {}", self.err);
        let (_, rest) = line.split_once(&format!("\"{name}\":")).unwrap_or_else(|| panic!("{name}: {line}"));
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap()
    }

    /// That the outcomes add up to `taken`.
    fn check_sum(&self) {
        let outcomes = ["delivered", "partial", "refused", "abandoned", "dropped", "in_doubt", "unsent"];
        let sum: u64 = outcomes.into_iter().map(|name| self.figure(name)).sum();
        assert_eq!(sum, self.figure("taken"), "{}", self.out);
    }

    /// The lines of the program itself on standard error.
    fn complaints(&self) -> Vec<&str> {
        self.err.lines().filter_map(|line| line.strip_prefix("bulk_send: ")).collect()
    }
}

fn bulk_send(arguments: &[&str]) -> Run {
    let mut command = Command::new(program());
    command.args(arguments).env_remove("SMTP_PASSWORD").stdin(Stdio::null()).output().unwrap().into()
}

/// A folder with files for a run.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// The rows of a file of undelivered mail, without its header.
    fn rows(&self, name: &str) -> Vec<Vec<String>> {
        let mut rows = csv::Reader::from_path(self.path(name)).unwrap();
        let row = |row: csv::Result<csv::StringRecord>| row.unwrap().iter().map(str::to_owned).collect();
        rows.records().map(row).collect()
    }
}

fn address(sink: &Sink) -> String {
    sink.address().to_string()
}

// ---- runs that work -----------------------------------------------------------------------------

#[test]
fn without_a_host_it_sends_to_its_own_server() {
    let run = bulk_send(&["--count", "500", "--json"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    run.check_sum();
    assert_eq!((run.figure("taken"), run.figure("delivered"), run.figure("batches")), (500, 500, 5));
    assert_eq!(run.out.lines().count(), 1, "nothing but the figures: {}", run.out);
    assert!(!run.err.contains('\r') && run.err.contains("delivered"), "a table and no bar: {}", run.err);

    let run = bulk_send(&["--count", "7", "--threads", "3"]);
    assert_eq!((run.code, run.err.as_str()), (Some(0), ""));
    assert!(run.out.starts_with("mails "), "{}", run.out);
    assert!(run.out.lines().any(|line| line.split_whitespace().eq(["delivered", "7"])), "{}", run.out);
}

#[test]
fn it_sends_a_message_to_the_recipients_of_a_file() {
    let (one, two) = (sink(|sink| sink), sink(|sink| sink));
    let folder = Folder::new();
    let list = folder.file("list.csv", "name,email\nAnn,ann@example.net\n\"Bo, B\",bob@example.net\n");
    let message = folder.file("mail.eml", "To: {{email}}\nSubject: for {{ name }}\n\n.\nHello {{name}}\n");
    let run = bulk_send(&[
        "--host",
        &address(&one),
        "--host",
        &address(&two),
        "--threads",
        "1",
        "--hello",
        "client.example",
        "--from",
        "<news@example.org>",
        "--recipients",
        &list,
        "--message",
        &message,
        "--failed",
        &folder.path("failed.csv"),
        "--json",
    ]);
    assert_eq!((run.code, run.complaints()), (Some(0), vec![]), "{}", run.err);
    run.check_sum();
    assert_eq!(run.figure("delivered"), 2);
    assert!(folder.rows("failed.csv").is_empty());
    for (sink, name, to) in [(&one, "Ann", "ann@example.net"), (&two, "Bo, B", "bob@example.net")] {
        let [mail] = &sink.mails()[..] else { panic!("one mail each") };
        assert_eq!((mail.helo.as_str(), mail.reverse_path.as_str()), ("client.example", "news@example.org"));
        assert_eq!(mail.forward_paths, [to]);
        let text = String::from_utf8(mail.content.clone()).unwrap();
        assert!(text.starts_with("Date: ") && text.contains("\r\nMessage-ID: <"), "{text}");
        let end = format!("To: {to}\r\nSubject: for {name}\r\n\r\n.\r\nHello {name}\r\n");
        assert!(text.ends_with(&end), "{text}");
    }
    let id = |sink: &Sink| {
        let text = String::from_utf8(sink.mails()[0].content.clone()).unwrap();
        text.lines().find(|line| line.starts_with("Message-ID:")).unwrap().to_owned()
    };
    assert_ne!(id(&one), id(&two));
}

#[test]
fn what_was_not_delivered_is_listed_and_can_be_sent_again() {
    let server = sink(|sink| {
        let later = Fault::new(At::Rcpt, Misdeed::refuse(450, "4.2.1 busy")).address_prefix("busy");
        sink.refuse_recipients("gone", 550).fault(later.times(3))
    });
    let folder = Folder::new();
    let list =
        folder.file("list", "a@x.example\ngone@x.example\n\nb@x.example\nbusy@x.example\nc@x.example\n");
    let (host, failed) = (address(&server), folder.path("failed.csv"));
    let run = bulk_send(&[
        "--host",
        &host,
        "--recipients",
        &list,
        "--from",
        "a@b.example",
        "--failed",
        &failed,
        "--json",
    ]);
    assert_eq!((run.code, run.complaints()), (Some(1), vec![]), "{}", run.err);
    run.check_sum();
    assert_eq!((run.figure("delivered"), run.figure("refused"), run.figure("abandoned")), (3, 1, 1));
    let mut rows = folder.rows("failed.csv");
    rows.sort();
    let row = |email: &str, outcome: &str, reason: &str, line: &str| {
        [email, outcome, reason, line].map(str::to_owned).to_vec()
    };
    assert_eq!(
        rows,
        [
            row("busy@x.example", "abandoned", "RCPT at 127.0.0.1: 450 4.2.1 busy", "5"),
            row("gone@x.example", "refused", "RCPT at 127.0.0.1: 550 5.1.1 Recipient refused", "2"),
        ]
    );

    let again = folder.path("again.csv");
    let run = bulk_send(&[
        "--host",
        &host,
        "--recipients",
        &failed,
        "--from",
        "a@b.example",
        "--failed",
        &again,
        "--json",
    ]);
    assert_eq!(run.code, Some(1), "{}", run.err);
    assert_eq!((run.figure("delivered"), run.figure("refused")), (1, 1));
    assert_eq!(folder.rows("again.csv").len(), 1);
}

#[test]
fn every_octet_on_the_wire_can_be_written_down() {
    let server = sink(|sink| sink);
    let folder = Folder::new();
    let pattern = folder.path("[HOST]-[THREAD].log");
    let run = bulk_send(&[
        "--host",
        &address(&server),
        "--count",
        "2",
        "--threads",
        "1",
        "--debug",
        "10",
        "--debug-path",
        &pattern,
    ]);
    assert_eq!((run.code, run.err.as_str()), (Some(0), ""));
    let wire = fs::read_to_string(folder.path("127.0.0.1-0.log")).unwrap();
    assert!(wire.contains("> RCPT TO:<user0000002@example.net>"), "{wire}");

    // Without a path it goes to standard error, beside the figures.
    let run = bulk_send(&["--host", &address(&server), "--count", "1", "--debug", "10", "--json"]);
    assert_eq!((run.code, run.figure("delivered")), (Some(0), 1));
    assert!(run.err.contains("> RCPT TO:<user0000001@example.net>"), "{}", run.err);
}

#[test]
fn a_fixed_message_id_is_a_warning() {
    let server = sink(|sink| sink);
    let folder = Folder::new();
    let message = folder.file("mail.eml", "Subject: x\nMessage-ID: <1@x.example>\n\nx\n");
    let run = bulk_send(&["--host", &address(&server), "--count", "1", "--message", &message]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    let [warning] = &run.complaints()[..] else { panic!("{}", run.err) };
    assert!(warning.starts_with(&format!("warning: {message}:2: every mail gets the same Message-ID")));
}

// ---- TLS and login ------------------------------------------------------------------------------

const PASSWORD: &str = "correct horse battery";

/// A server with a certificate and a user, and a folder with what its clients need.
fn guarded(set: impl FnOnce(Builder) -> Builder) -> (Arc<Sink>, Folder) {
    let (authority, folder) = (Authority::new(), Folder::new());
    let identity = authority.good().identity();
    let server = sink(|sink| set(sink.starttls(identity).user("tim", PASSWORD).require_tls().require_auth()));
    folder.file("ca.pem", &authority.pem());
    folder.file("password", &format!("{PASSWORD}\n"));
    (server, folder)
}

/// Sends a few mails with these arguments and everything written down.
fn log_in(server: &Sink, folder: &Folder, arguments: &[&str], password: Option<&str>) -> Run {
    let (host, debug) = (address(server), folder.path("[HOST]-[THREAD].log"));
    let mut command = Command::new(program());
    command.args(["--host", &host, "--count", "5", "--json", "--debug", "10", "--debug-path", &debug]);
    command.args(["--failed", &folder.path("failed.csv")]).args(arguments);
    command.env_remove("SMTP_PASSWORD").envs(password.map(|password| ("SMTP_PASSWORD", password)));
    let run = Run::from(command.stdin(Stdio::null()).output().unwrap());
    let logs = ["127.0.0.1-0.log", "127.0.0.1-1.log", "failed.csv"];
    let logs = logs.map(|name| fs::read_to_string(folder.path(name)).unwrap_or_default()).concat();
    for (what, text) in [("out", &run.out), ("err", &run.err), ("logs", &logs)] {
        let secrets = ["correct horse", "wrong horse", "Y29ycmVjdC", "horse"];
        assert!(secrets.iter().all(|secret| !text.contains(secret)), "a password in {what}");
    }
    run
}

#[test]
fn it_sends_under_starttls_and_logs_in() {
    let (server, folder) = guarded(|sink| sink);
    let (ca, file) = (folder.path("ca.pem"), folder.path("password"));
    let tls = ["--tls", "starttls", "--ca", &ca, "--user", "tim"];
    let by_file = [&tls[..], &["--password-file", &file]].concat();
    let forced = [&tls[..], &["--auth", "login"]].concat();
    for (arguments, password) in
        [(&by_file, None), (&by_file, Some("wrong horse")), (&forced, Some(PASSWORD))]
    {
        let run = log_in(&server, &folder, arguments, password);
        assert_eq!((run.code, run.complaints()), (Some(0), vec![]), "{}", run.err);
        assert_eq!(run.figure("delivered"), 5);
    }
    let mails = server.mails();
    assert!(mails.iter().all(|mail| mail.tls && mail.user.as_deref() == Some("tim")));
    assert_eq!((mails.len(), server.counts().auth_failures), (15, 0));
}

#[test]
fn it_speaks_tls_from_the_first_octet() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let issued = authority.good();
    let pin: String = issued.fingerprint().iter().map(|octet| format!("{octet:02x}")).collect();
    let server = sink(|sink| sink.implicit_tls(issued.identity()));
    let ca = folder.file("ca.pem", &authority.pem());
    let trusted = ["--tls", "implicit", "--ca", &ca, "--server-name", certs::NAME];
    let pinned = ["--tls", "implicit-insecure", "--pin", &pin];
    for arguments in [&trusted[..], &pinned[..]] {
        let run = log_in(&server, &folder, arguments, None);
        assert_eq!((run.code, run.complaints()), (Some(0), vec![]), "{}", run.err);
    }
    assert_eq!(server.mails().len(), 10);
}

#[test]
fn a_wrong_password_is_said_once_and_everything_is_unsent() {
    let (server, folder) = guarded(|sink| sink);
    let ca = folder.path("ca.pem");
    let arguments = ["--tls", "starttls", "--ca", &ca, "--user", "tim", "--threads", "10"];
    let run = log_in(&server, &folder, &arguments, Some("wrong horse"));
    assert_eq!(run.code, Some(1), "{}", run.err);
    let [complaint] = run.complaints()[..] else { panic!("one line: {}", run.err) };
    assert!(complaint.starts_with("no server is left to send to: 127.0.0.1:"), "{complaint}");
    assert!(complaint.contains(" auth_fail AUTH ") && complaint.contains(": 535 "), "{complaint}");
    assert_eq!((run.figure("taken"), run.figure("unsent")), (5, 5));
    assert_eq!(folder.rows("failed.csv").len(), 5);
    assert_eq!((server.counts().auth_attempts, server.counts().auth_failures), (1, 1));
}

#[test]
fn a_host_that_is_of_no_use_is_told_though_another_takes_all() {
    let (server, folder) = guarded(|sink| sink);
    let authority = Authority::new();
    let identity = authority.good().identity();
    let other = sink(|sink| sink.starttls(identity).user("tim", "another").require_tls().require_auth());
    let both = format!("{}{}", folder.read("ca.pem"), authority.pem());
    let ca = folder.file("both.pem", &both);
    let other = address(&other);
    let arguments = ["--host", &other, "--tls", "starttls", "--ca", &ca, "--user", "tim"];
    let run = log_in(&server, &folder, &arguments, Some(PASSWORD));
    assert_eq!((run.code, run.figure("delivered")), (Some(0), 5), "{}", run.err);
    let [warning] = run.complaints()[..] else { panic!("one line: {}", run.err) };
    assert!(warning.starts_with("warning: a host delivered nothing: 127.0.0.1:"), "{warning}");
    assert!(warning.contains(" auth_fail AUTH ") && warning.contains(": 535 "), "{warning}");
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_not_believed() {
    let (server, folder) = guarded(|sink| sink);
    let stranger = folder.file("stranger.pem", &Authority::new().pem());
    // Each failure in a row is waited for; what is to be seen is seen at the first.
    let arguments = ["--tls", "starttls", "--ca", &stranger, "--user", "tim", "--threads", "1"];
    let run = log_in(&server, &folder, &arguments, Some(PASSWORD));
    let [complaint] = run.complaints()[..] else { panic!("one line: {}", run.err) };
    assert_eq!(run.code, Some(1));
    assert!(complaint.contains(" connect_fail ") && complaint.contains("is not trusted"), "{complaint}");
    assert_eq!((server.counts().auth_attempts, server.mails().len()), (0, 0));
    // Whoever asks for it gets it, and is told.
    let run = log_in(&server, &folder, &["--tls", "starttls-insecure", "--user", "tim"], Some(PASSWORD));
    assert_eq!(run.code, Some(0), "{}", run.err);
    let [warning] = run.complaints()[..] else { panic!("one line: {}", run.err) };
    assert!(warning.starts_with("warning: an insecure --tls with --user"), "{warning}");
}

/// Where native-tls is OpenSSL, which the server needs.
#[cfg(not(any(windows, target_vendor = "apple")))]
#[test]
fn the_clients_certificate_is_shown_to_a_server_that_wants_one() {
    let (authority, folder) = (Authority::new(), Folder::new());
    let client = authority.for_client("tim");
    let ca = folder.file("ca.pem", &authority.pem());
    let (chain, key) = (folder.file("chain.pem", &client.pem), folder.file("key.pem", &client.key_pem));
    let accepting = peers::demanding(&authority, openssl::ssl::SslVersion::TLS1_3);
    let server = peers::Server::start(move |peer| {
        let mut peer = peer.secure(&accepting).expect("a certificate");
        assert!(peer.ssl().peer_certificate().unwrap().to_der().unwrap() == client.der, "another's");
        peer.say("220 peer.example\r\n");
        peer.behave();
    });
    let address = server.address.to_string();
    let arguments = ["--host", &address, "--count", "5", "--threads", "2", "--json"];
    let run = bulk_send(
        &[&arguments, &["--tls", "implicit", "--ca", &ca, "--cert", &chain, "--key", &key][..]].concat(),
    );
    assert_eq!((run.code, run.figure("delivered")), (Some(0), 5), "{}", run.err);
}

#[test]
fn a_login_that_makes_no_sense_is_bad_input_and_repeats_no_password() {
    let (server, folder) = guarded(|sink| sink);
    let ca = folder.path("ca.pem");
    let (missing, empty) = (folder.path("missing"), folder.file("empty", "\n"));
    let check = |arguments: &[&str], password: Option<&str>, beginning: &str| {
        let run = log_in(&server, &folder, arguments, password);
        assert_eq!((run.code, run.out.as_str()), (Some(2), ""), "{arguments:?}: {}", run.err);
        let [complaint] = run.complaints()[..] else { panic!("{}", run.err) };
        assert!(complaint.starts_with(beginning), "{complaint} does not begin with {beginning}");
    };
    let tls = ["--tls", "starttls", "--ca", &ca];
    let user = [&tls[..], &["--user", "tim"]].concat();
    check(&user, None, "--user needs --password-file FILE, or the environment variable SMTP_PASSWORD");
    check(&[&user[..], &["--password", PASSWORD]].concat(), None, "--password: there is no such option");
    check(&[&user[..], &["--password-file", &missing]].concat(), None, &format!("{missing}: cannot read"));
    check(&[&user[..], &["--password-file", &empty]].concat(), None, &format!("{empty}: has no password"));
    check(&[&user[..], &["--auth", PASSWORD]].concat(), None, "--auth: is no mechanism");
    check(&["--user", "tim"], Some(PASSWORD), "--user needs --tls");
    check(&["--tls", "starttls", "--ca", &missing], None, "TLS of host \"127.0.0.1\": ");
    check(&[&tls[..], &["--pin", "12"]].concat(), None, "TLS of host \"127.0.0.1\": pin \"12\": ");
    check(&[&tls[..], &["--cert", &ca, "--key", &ca]].concat(), None, "TLS of host \"127.0.0.1\": client");
    check(&[&tls[..], &["--failed", &ca]].concat(), None, "--failed: is given twice");
    assert_eq!(server.counts().connections, 0);
    let run = bulk_send(&["--tls", "starttls"]);
    assert_eq!((run.code, run.complaints().len()), (Some(2), 1), "{}", run.err);
    // What is read is not written over.
    let before = fs::read_to_string(&ca).unwrap();
    let run =
        bulk_send(&[&["--host", &address(&server), "--count", "1", "--failed", &ca], &tls[..]].concat());
    assert_eq!((run.code, fs::read_to_string(&ca).unwrap()), (Some(2), before), "{}", run.err);
}

#[test]
fn the_help_has_the_options_of_tls_and_login() {
    let run = bulk_send(&["--help"]);
    assert_eq!((run.code, run.err.as_str()), (Some(0), ""));
    let options =
        ["--tls MODE", "--ca FILE", "--cert FILE", "--key FILE", "--server-name NAME", "--pin SHA256"];
    let login = ["--user NAME", "--auth MECHANISM", "--password-file FILE", "SMTP_PASSWORD"];
    for option in options.iter().chain(&login) {
        assert!(run.out.contains(option), "{option}");
    }
}

// ---- bad input ----------------------------------------------------------------------------------

#[test]
fn bad_input_is_one_clear_line_before_anything_is_connected() {
    let server = sink(|sink| sink);
    let folder = Folder::new();
    let host = address(&server);
    let good = folder.file("good", "a@x.example\n");
    let bad = folder.file("bad", "a@x.example\nb@x.example\n@x\n");
    let broken = folder.file("broken.csv", "email,name\na@x.example,\"a\rb\"\n");
    let line = folder.file("line.csv", "email,line\na@x.example,5\n");
    let fields = folder.file("fields.eml", "Subject: {{first name}}\n\n");
    let failed = folder.file("failed.csv", "precious\n");
    let missing = folder.path("missing");
    let check = |arguments: &[&str], beginning: &str| {
        let all = [&["--host", &host, "--failed", &failed], arguments].concat();
        let run = bulk_send(&all);
        assert_eq!((run.code, run.out.as_str()), (Some(2), ""), "{arguments:?}: {}", run.err);
        assert_eq!(run.err.lines().count(), 1, "{arguments:?}: {}", run.err);
        let [complaint] = run.complaints()[..] else { panic!("{}", run.err) };
        assert!(complaint.starts_with(beginning), "{complaint} does not begin with {beginning}");
    };
    check(&["--recipients", &missing], &format!("{missing}: cannot open: No such file"));
    check(&["--recipients", &bad], &format!("{bad}:3: bad address `@x`: "));
    check(&["--recipients", &broken], &format!("{broken}:2: "));
    check(&["--recipients", &good, "--message", &missing], &format!("{missing}: cannot "));
    check(&["--recipients", &good, "--message", &fields], &format!("{fields}:1: "));
    check(&["--recipients", &good, "--from", "no address"], "--from: bad address `no address`: ");
    check(&["--recipients", &good, "--from", "ä@x..example"], "--from: bad address `ä@x..example`: ");
    check(&["--recipients", &failed], &failed);
    check(&["--recipients", &line], &format!("{failed}: adds the field `line`, which the recipients have"));
    check(
        &["--recipients", &good, "--debug", "5", "--debug-path", &failed],
        &format!("{failed}: cannot take"),
    );
    check(&["--recipients", &good, "--debug", "5", "--debug-path", &good], &format!("{good}: cannot take"));
    check(&[], "--host needs --recipients FILE or --count N");
    check(&["--count", "none"], "--count: `none` is not a number");
    check(&["--bogus"], "unknown option `--bogus`");
    check(
        &["--count", "1", "--pipeline", "3"],
        "--pipeline: 3 is no level of pipelining; there are 0, 1 and 2",
    );
    check(&["--count", "1", "--depth", "0"], "--depth: `0` is not 1 to 1000");
    check(&["--count", "1", "--unix", ""], "--unix: is empty");
    assert_eq!(fs::read_to_string(&failed).unwrap(), "precious\n");
    assert_eq!(server.counts().connections, 0);
}

#[test]
fn a_setting_that_the_library_refuses_is_bad_input_and_touches_no_file() {
    let server = sink(|sink| sink);
    let folder = Folder::new();
    let (host, failed) = (address(&server), folder.file("failed.csv", "precious\n"));
    for wrong in [["--hello", "-"].as_slice(), &["--debug", "5", "--debug-path", "/proc/none/[HOST]"]] {
        let all = [&["--host", &host, "--count", "3", "--failed", &failed, "--json"], wrong].concat();
        let run = bulk_send(&all);
        assert_eq!((run.code, run.out.as_str()), (Some(2), ""), "{}", run.err);
        assert_eq!(run.complaints().len(), 1, "{}", run.err);
        assert_eq!(fs::read_to_string(&failed).unwrap(), "precious\n");
    }
    assert_eq!(server.counts().connections, 0);
}

// ---- servers that fail --------------------------------------------------------------------------

#[test]
fn when_no_host_answers_everything_is_listed_as_unsent() {
    let dead = ClosedPort::on(IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
    let folder = Folder::new();
    let failed = folder.path("failed.csv");
    let run = bulk_send(&[
        "--host",
        &dead.address.to_string(),
        "--count",
        "40",
        "--failed",
        &failed,
        "--timeout",
        "1",
        "--json",
    ]);
    assert_eq!(run.code, Some(1), "{}", run.err);
    let [complaint] = run.complaints()[..] else { panic!("one line: {}", run.err) };
    assert!(complaint.contains("127.0.0.1") && complaint.contains("Connection refused"), "{complaint}");
    run.check_sum();
    assert_eq!((run.figure("taken"), run.figure("unsent")), (40, 40));
    let rows = folder.rows("failed.csv");
    assert_eq!(rows.len(), 40);
    assert!(rows.iter().all(|row| row.contains(&"unsent".to_owned())));
}

#[test]
fn when_every_lane_retires_midway_nothing_is_lost() {
    let server = sink(|sink| sink.fault(Fault::new(At::Mail, Misdeed::Close421).skip(17)));
    let folder = Folder::new();
    let failed = folder.path("failed.csv");
    let host = address(&server);
    let run = bulk_send(&["--host", &host, "--count", "40", "--threads", "2", "--failed", &failed, "--json"]);
    assert_eq!(run.code, Some(1), "{}", run.err);
    let [complaint] = run.complaints()[..] else { panic!("one line: {}", run.err) };
    assert!(
        complaint.starts_with("no server is left to send to: ") && complaint.contains("421"),
        "{complaint}"
    );
    run.check_sum();
    assert_eq!((run.figure("taken"), run.figure("delivered"), run.figure("unsent")), (40, 17, 23));
    let mut all: Vec<String> = folder.rows("failed.csv").into_iter().map(|mut row| row.remove(0)).collect();
    all.extend(server.mails().iter().map(|mail| mail.forward_paths[0].clone()));
    all.sort();
    let expected: Vec<String> = (1..=40).map(|number| format!("user{number:07}@example.net")).collect();
    assert_eq!(all, expected, "each is stored or listed, and once");
}

#[cfg(unix)]
const FINISHING: &str = "interrupted: finishing what is on its way; again to stop at once";

#[cfg(unix)]
#[test]
fn a_run_interrupted_once_leaves_no_mail_in_doubt() {
    use rustix::process::{Pid, Signal, kill_process};

    let server = sink(|sink| sink);
    let folder = Folder::new();
    let failed = folder.path("failed.csv");
    let host = address(&server);
    let child = Command::new(program())
        .args(["--host", &host, "--count", "200000", "--failed", &failed, "--json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    server.wait_for(|counts| counts.mails > 10, PATIENCE).expect("mails arrive");
    let id = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    // Not a hang-up, which is left alone where whoever runs this ignores it.
    kill_process(id, Signal::TERM).unwrap();
    let run = Run::from(child.wait_with_output().unwrap());
    assert_eq!((run.code, run.complaints()), (Some(1), vec![FINISHING, "interrupted"]), "{}", run.err);
    run.check_sum();
    assert_eq!((run.figure("taken"), run.figure("in_doubt")), (200_000, 0));
    assert_eq!(run.figure("delivered"), server.counts().mails);
    assert_eq!(run.figure("unsent"), u64::try_from(folder.rows("failed.csv").len()).unwrap());
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_lists_what_was_not_sent() {
    use rustix::process::{Pid, Signal, kill_process};

    let server: Arc<Sink> = sink(|sink| {
        let hang = |at, prefix| Fault::new(at, Misdeed::Hang).address_prefix(prefix);
        sink.fault(hang(At::Rcpt, "user0000007@")).fault(hang(At::Rcpt, "user0000008@"))
    });
    let folder = Folder::new();
    let failed = folder.path("failed.csv");
    let host = address(&server);
    let mut child = Command::new(program())
        .args(["--host", &host, "--count", "30", "--threads", "2", "--failed", &failed, "--json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    server.wait_for(|counts| counts.faults == 2, PATIENCE).expect("both lanes hang");
    let id = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(id, Signal::INT).unwrap();
    // The next signal would be lost in the first if it came before the answer to that.
    let mut answer = String::new();
    BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut answer).unwrap();
    assert_eq!(answer, format!("bulk_send: {FINISHING}\n"));
    kill_process(id, Signal::INT).unwrap();
    let run = Run::from(child.wait_with_output().unwrap());
    assert_eq!((run.code, run.complaints()), (Some(1), vec!["interrupted"]), "{}", run.err);
    run.check_sum();
    assert_eq!((run.figure("taken"), run.figure("delivered"), run.figure("unsent")), (30, 6, 24));
    let rows = folder.rows("failed.csv");
    assert_eq!(rows.len(), 24);
    let why = ["unsent", "interrupted"].map(str::to_owned);
    assert!(rows.iter().all(|row| row.windows(2).any(|pair| pair == why)), "{rows:?}");
}
