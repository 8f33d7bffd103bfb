//! Authentication end to end: every mechanism, what is never said in the clear, and what becomes of
//! the lanes when a server refuses, fails or cheats.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, mpsc};
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use smol::future::FutureExt;
use smtp_bulk::sasl::client::{Mechanism, MechanismError};
use smtp_bulk::sasl::common::Credentials as Given;
use smtp_bulk::sink::{AuthQuirk, Builder, Counts, Fault, Misdeed, Sink, Step as At};
use smtp_bulk::{
    AuthFault, AuthMechanism, Backoff, Credentials, Error, Event, EventKind, Failure, Host, Mailer,
    MailerBuilder, Security, Standing, Step, Timeouts, Tls, Verdict,
};

use crate::certs::Authority;
use crate::scripted::Scripted;
use crate::support::{
    Log, PATIENCE, SHORT, builder, check_accounts, host, mail, run, seen_by, send_and_quit, sink,
};

/// What SCRAM has to escape, what PLAIN parts its fields by but NUL, and letters beyond ASCII.
const USER: &str = "tim,=o rly ü@d.example";
const PASSWORD: &str = "p,w== 3é and more";
const TOKEN: &str = "ya29.right-token-of-the-test==";
const STALE: &str = "ya29.stale-token-of-the-test==";

static AUTHORITY: LazyLock<Authority> = LazyLock::new(Authority::new);

/// A server with STARTTLS that takes no mail before AUTH.
pub fn guarded(set: impl FnOnce(Builder) -> Builder) -> Arc<Sink> {
    let identity = AUTHORITY.good().identity();
    sink(|sink| set(sink.starttls(identity).require_auth()))
}

/// [`guarded`], and it knows the user of these tests.
fn knowing(set: impl FnOnce(Builder) -> Builder) -> Arc<Sink> {
    guarded(|sink| set(sink.user(USER, PASSWORD).token(USER, TOKEN)))
}

/// A server without TLS that knows the user of these tests and takes mail from nobody else.
fn bare(set: impl FnOnce(Builder) -> Builder) -> Arc<Sink> {
    sink(|sink| set(sink.user(USER, PASSWORD).token(USER, TOKEN).require_auth()))
}

/// The sink as a host that is spoken to under TLS.
pub fn starttls(sink: &Sink) -> Host {
    let tls = Tls::new().root_certificate(AUTHORITY.pem()).only_these_roots();
    host(sink).security(Security::StartTls).tls(tls)
}

fn right() -> Credentials {
    Credentials::password(USER, PASSWORD)
}

fn wrong() -> Credentials {
    Credentials::password(USER, "not the password")
}

/// Sends six mails over three connections, all of which arrive.
fn delivers(builder: MailerBuilder, log: &Log, sink: &Sink) {
    let summary = send_and_quit(builder.threads(3), (0..6).map(mail));
    check_accounts(&summary, log, &[sink]);
    assert_eq!(summary.mails.delivered, 6, "{summary}");
}

/// The counts when every connection is gone, so that nothing can be added to them.
fn final_counts(sink: &Sink) -> Counts {
    sink.wait_for(|counts| counts.open == 0, PATIENCE).expect("connections stay open")
}

type Failures = Arc<Mutex<Vec<(EventKind, Failure)>>>;

/// A handler that also keeps what failed.
fn keeping() -> (Log, Failures) {
    let failures = Failures::default();
    let kept = Arc::clone(&failures);
    let log = Log::deciding(move |event: &Event<'_>| {
        if let Some(failure) = event.failure() {
            kept.lock().unwrap().push((event.kind, failure.clone()));
        }
        Verdict::DEFAULT
    });
    (log, failures)
}

/// Connects in vain: there is one `auth_fail`, because of this.
fn is_refused(host: Host, fault: &AuthFault) {
    let (log, failures) = keeping();
    let begun = Instant::now();
    let error = run(builder(&log).threads(3).host(host).connect()).expect_err("it authenticates");
    assert!(matches!(error, Error::AllRetired { .. }), "{error}");
    assert!(error.to_string().ends_with(&fault.to_string()), "{error}");
    let failures = failures.lock().unwrap();
    assert_eq!(*failures, [(EventKind::AuthFail, Failure::Auth(fault.clone()))], "{error}");
    assert_eq!(log.of_kind(EventKind::AuthPass).len(), 0);
    assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
}

// ---- every mechanism ----------------------------------------------------------------------------

/// Credentials that this mechanism can use, and as whom they log in.
fn fit_for(mechanism: &str) -> (Credentials, &'static str) {
    match mechanism {
        "CRAM-MD5" => (right().allow_cram_md5(), USER),
        "XOAUTH2" | "OAUTHBEARER" => (Credentials::oauth(USER, TOKEN), USER),
        "EXTERNAL" => (Credentials::external(), ""),
        "ANONYMOUS" => (Credentials::anonymous("a trace, ü=@d.example"), "anonymous"),
        _ => (right(), USER),
    }
}

pub const ALL: [&str; 9] = [
    "SCRAM-SHA-256",
    "SCRAM-SHA-1",
    "CRAM-MD5",
    "PLAIN",
    "LOGIN",
    "XOAUTH2",
    "OAUTHBEARER",
    "EXTERNAL",
    "ANONYMOUS",
];

#[test]
fn every_mechanism_authenticates_under_tls_and_delivers() {
    for mechanism in ALL {
        for old_spelling in [false, true] {
            let sink = knowing(|sink| {
                let sink = sink.mechanisms([mechanism]);
                if old_spelling { sink.old_auth_spelling() } else { sink }
            });
            let (credentials, user) = fit_for(mechanism);
            let log = Log::default();
            delivers(builder(&log).host(starttls(&sink).credentials(credentials)), &log, &sink);
            for mail in sink.mails() {
                assert!(mail.tls, "{mechanism}");
                assert_eq!((mail.user.as_deref(), mail.acting_as.as_deref()), (Some(user), None));
            }
            let counts = final_counts(&sink);
            assert_eq!((counts.auth_attempts, counts.auth_successes, counts.auth_failures), (3, 3, 0));
            assert_eq!(log.of_kind(EventKind::AuthPass).len(), 3, "{mechanism}");
        }
    }
}

#[test]
fn names_and_passwords_of_all_kinds_arrive_as_they_are() {
    for (user, password) in [("a", "b"), ("a,b", "c=d"), ("=2C,=3D", "=,"), ("ü ö", "é à"), ("名", "パス")]
    {
        for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "PLAIN", "LOGIN"] {
            let sink = guarded(|sink| sink.user(user, password).mechanisms([mechanism]));
            let credentials = Credentials::password(user, password).allow_cram_md5();
            let log = Log::default();
            delivers(builder(&log).host(starttls(&sink).credentials(credentials)), &log, &sink);
            assert!(sink.mails().iter().all(|mail| mail.user.as_deref() == Some(user)), "{mechanism}");
        }
    }
}

#[test]
fn each_session_authenticates_anew_when_it_is_opened_again() {
    let closes = Fault::new(At::Mail, Misdeed::Close).times(2);
    let sink = knowing(|sink| sink.fault(closes));
    let log = Log::default();
    // One alone, so that no mail goes on without its being opened again.
    let builder = builder(&log).host(starttls(&sink).credentials(right())).threads(1);
    let summary = send_and_quit(builder, (0..2).map(mail));
    check_accounts(&summary, &log, &[&sink]);
    assert_eq!((summary.mails.delivered, final_counts(&sink).auth_successes), (2, 3));
}

#[test]
fn whom_to_act_as_is_said() {
    let other = "the,boss= ü";
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"] {
        // What cannot say it is passed over.
        let sink = knowing(|sink| sink.user(other, "else").mechanisms(["LOGIN", "CRAM-MD5", mechanism]));
        let log = Log::default();
        let credentials = right().authorize_as(other).allow_cram_md5();
        delivers(builder(&log).host(starttls(&sink).credentials(credentials)), &log, &sink);
        for mail in sink.mails() {
            assert_eq!((mail.user.as_deref(), mail.acting_as.as_deref()), (Some(USER), Some(other)));
        }
    }
    for (mechanism, credentials) in [
        ("OAUTHBEARER", Credentials::oauth("nobody", TOKEN).authorize_as(USER)),
        ("EXTERNAL", Credentials::external().authorize_as(USER)),
    ] {
        let sink = knowing(|sink| sink.mechanisms(["XOAUTH2", mechanism]));
        let log = Log::default();
        delivers(builder(&log).host(starttls(&sink).credentials(credentials)), &log, &sink);
        assert!(sink.mails().iter().all(|mail| mail.user.as_deref() == Some(USER)), "{mechanism}");
    }
    let sink = knowing(|sink| sink.mechanisms(["LOGIN"]));
    let host = starttls(&sink).credentials(right().authorize_as(other));
    is_refused(host, &AuthFault::NoMechanism { offered: "LOGIN".into() });
}

#[test]
fn a_token_longer_than_a_command_line_is_sent_behind_it() {
    for length in [600, 8_000] {
        let token = "t0ken-".repeat(length / 6 + 1);
        for mechanism in ["XOAUTH2", "OAUTHBEARER"] {
            let sink = guarded(|sink| sink.token(USER, &*token).mechanisms([mechanism]));
            let log = Log::default();
            let credentials = Credentials::oauth(USER, &*token);
            delivers(builder(&log).host(starttls(&sink).credentials(credentials)), &log, &sink);
            let counts = final_counts(&sink);
            assert_eq!((counts.auth_attempts, counts.auth_successes), (3, 3));
        }
    }
}

// ---- what is said -------------------------------------------------------------------------------

/// A server in the clear that writes down what it is told.
struct Recorder {
    server: Scripted,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    /// Offers these mechanisms and answers every AUTH so.
    fn start(offered: &str, answer: &str) -> Recorder {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (notes, ehlo, answer) =
            (Arc::clone(&heard), format!("250-recorder\r\n250 AUTH {offered}\r\n"), format!("{answer}\r\n"));
        let server = Scripted::start(move |mut peer| {
            peer.say("220 recorder\r\n");
            while let Some(line) = peer.line() {
                let reply = match line.split(' ').next() {
                    Some("EHLO") => ehlo.as_str(),
                    Some("AUTH") => answer.as_str(),
                    Some("QUIT") => "221 bye\r\n",
                    _ => "250 fine\r\n",
                };
                notes.lock().unwrap().push(line);
                peer.say(reply);
            }
        });
        Recorder { server, heard }
    }

    /// What was said behind EHLO.
    fn heard(&self) -> Vec<String> {
        let heard = self.heard.lock().unwrap();
        heard.iter().filter(|line| !line.starts_with("EHLO ")).cloned().collect()
    }
}

/// The mechanisms that are tried with a server that offers these and answers so.
fn tried(offered: &str, answer: &str, credentials: &Credentials) -> Vec<String> {
    let recorder = Recorder::start(offered, answer);
    let credentials = credentials.clone().allow_without_tls();
    let host = recorder.server.host().credentials(credentials);
    let log = Log::default();
    run(builder(&log).host(host).connect()).expect_err("nothing is accepted");
    assert_eq!(log.of_kind(EventKind::AuthFail).len(), 1);
    let name = |line: &String| line.split(' ').nth(1).unwrap_or_default().to_owned();
    recorder.heard().iter().map(name).collect()
}

#[test]
fn the_strongest_mechanism_that_is_offered_is_used() {
    let token = Credentials::oauth(USER, TOKEN);
    let login = right().mechanism(AuthMechanism::Login);
    let cram = right().mechanism(AuthMechanism::CramMd5);
    let x_oauth2 = token.clone().mechanism(AuthMechanism::XOAuth2);
    let every = "LOGIN PLAIN XOAUTH2 X-ODD CRAM-MD5 OAUTHBEARER scram-sha-1 SCRAM-SHA-256-PLUS SCRAM-SHA-256";
    for (credentials, offered, used) in [
        (right(), every, "SCRAM-SHA-256"),
        (right(), "LOGIN PLAIN CRAM-MD5 SCRAM-SHA-1", "SCRAM-SHA-1"),
        (right(), "LOGIN CRAM-MD5 PLAIN", "PLAIN"),
        (right().allow_cram_md5(), "LOGIN CRAM-MD5 PLAIN", "CRAM-MD5"),
        (right(), "CRAM-MD5 LOGIN", "LOGIN"),
        (right().allow_cram_md5(), every, "SCRAM-SHA-256"),
        (login, every, "LOGIN"),
        (cram, every, "CRAM-MD5"),
        (token, every, "OAUTHBEARER"),
        (x_oauth2, every, "XOAUTH2"),
    ] {
        assert_eq!(tried(offered, "535 5.7.8 no", &credentials), [used], "of {offered}");
    }
}

#[test]
fn a_mechanism_that_is_not_offered_is_never_tried() {
    for (credentials, offered) in [
        (right(), "CRAM-MD5"),
        (right(), "XOAUTH2 OAUTHBEARER EXTERNAL ANONYMOUS SCRAM-SHA-256-PLUS"),
        (right().mechanism(AuthMechanism::Plain), "LOGIN SCRAM-SHA-256"),
        (Credentials::oauth(USER, TOKEN), "PLAIN LOGIN"),
        (Credentials::external(), "PLAIN"),
        (Credentials::anonymous(""), "PLAIN"),
    ] {
        let sink = knowing(|sink| sink.mechanisms(offered.split(' ')));
        let host = starttls(&sink).credentials(credentials);
        is_refused(host, &AuthFault::NoMechanism { offered: offered.into() });
        assert_eq!(final_counts(&sink).auth_attempts, 0);
    }
    let sink = guarded(|sink| sink);
    is_refused(starttls(&sink).credentials(right()), &AuthFault::NoMechanism { offered: "".into() });
}

#[test]
fn what_can_be_said_at_once_is() {
    let encoded = |text: &str| BASE64.encode(text);
    for (credentials, mechanism, expected) in [
        (right(), "PLAIN", format!("AUTH PLAIN {}", encoded(&format!("\0{USER}\0{PASSWORD}")))),
        (right(), "LOGIN", "AUTH LOGIN".to_owned()),
        (right().allow_cram_md5(), "CRAM-MD5", "AUTH CRAM-MD5".to_owned()),
        (Credentials::external(), "EXTERNAL", "AUTH EXTERNAL =".to_owned()),
        (Credentials::anonymous("trace"), "ANONYMOUS", format!("AUTH ANONYMOUS {}", encoded("trace"))),
        (Credentials::oauth(USER, "t".repeat(600)), "XOAUTH2", "AUTH XOAUTH2".to_owned()),
    ] {
        let recorder = Recorder::start(mechanism, "535 no");
        let host = recorder.server.host().credentials(credentials.allow_without_tls());
        run(builder(&Log::default()).host(host).connect()).expect_err("it is refused");
        assert!(recorder.heard() == [expected], "{mechanism}");
    }
}

#[test]
fn another_mechanism_is_tried_when_one_is_unknown_after_all() {
    let offered = "LOGIN PLAIN SCRAM-SHA-1 SCRAM-SHA-256";
    let all = ["SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN", "LOGIN"];
    assert_eq!(tried(offered, "504 5.5.4 what?", &right()), all);
    assert_eq!(tried(offered, "504 5.5.4 what?", &right().mechanism(AuthMechanism::Plain)), ["PLAIN"]);
    assert_eq!(tried(offered, "535 5.7.8 no", &right()), ["SCRAM-SHA-256"]);

    let unknown = Fault::new(At::Auth, Misdeed::refuse(504, "5.5.4 what?")).times(2);
    let sink = knowing(|sink| sink.fault(unknown));
    let log = Log::default();
    delivers(builder(&log).host(starttls(&sink).credentials(right())), &log, &sink);
    assert_eq!(log.trouble().len(), 0, "nobody is told of it");
    let counts = final_counts(&sink);
    assert_eq!((counts.auth_attempts, counts.auth_successes, counts.connections), (5, 3, 3));
}

// ---- a mechanism of the caller's ----------------------------------------------------------------

/// PLAIN, made by the caller; or LOGIN, which says nothing before it is asked.
struct Own {
    name: &'static str,
    said: Vec<&'static [u8]>,
    has_begun: bool,
}

impl Mechanism for Own {
    fn name(&self) -> &str {
        self.name
    }

    fn from_credentials(_: Given) -> Result<Own, MechanismError> {
        Err(MechanismError::InvalidState)
    }

    fn initial(&mut self) -> Vec<u8> {
        assert!(!std::mem::replace(&mut self.has_begun, true), "it is made anew for each attempt");
        if self.name == "PLAIN" { b"\0ann\0secret".to_vec() } else { Vec::new() }
    }

    fn response(&mut self, _: &[u8]) -> Result<Vec<u8>, MechanismError> {
        self.said.pop().map(<[u8]>::to_vec).ok_or(MechanismError::InvalidState)
    }

    fn success(&mut self, _: &[u8]) -> Result<(), MechanismError> {
        Ok(())
    }
}

#[test]
fn a_mechanism_of_the_callers_is_made_for_each_attempt() {
    for name in ["PLAIN", "LOGIN"] {
        let later = Fault::new(At::Auth, Misdeed::refuse(454, "4.7.0 later")).times(2);
        let sink = guarded(|sink| sink.user("ann", "secret").mechanisms([name]).fault(later));
        let made = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&made);
        let credentials = Credentials::custom(move || {
            count.fetch_add(1, Ordering::SeqCst);
            Box::new(Own { name, said: vec![b"secret", b"ann"], has_begun: false })
        });
        let log = Log::default();
        delivers(builder(&log).host(starttls(&sink).credentials(credentials)), &log, &sink);
        let attempts = final_counts(&sink).auth_attempts;
        assert_eq!((made.load(Ordering::SeqCst), attempts), (5, 5), "{name}");
    }
}

#[test]
fn a_mechanism_of_the_callers_that_fails_retires_the_lanes_and_nothing_else() {
    let own = |said: &[&'static [u8]]| {
        let said = said.to_vec();
        Credentials::custom(move || Box::new(Own { name: "LOGIN", said: said.clone(), has_begun: false }))
    };
    let sink = guarded(|sink| sink.user("ann", "secret").mechanisms(["LOGIN"]));
    let text = MechanismError::InvalidState.to_string().into();
    is_refused(starttls(&sink).credentials(own(&[])), &AuthFault::Mechanism(text));
    let panics = Credentials::custom(|| panic!("a mechanism that panics is part of the test"));
    is_refused(starttls(&sink).credentials(panics), &AuthFault::Mechanism("it panicked".into()));
    let endless = guarded(|sink| {
        sink.user("ann", "secret").mechanisms(["LOGIN"]).auth_quirk(AuthQuirk::EndlessChallenges)
    });
    is_refused(starttls(&endless).credentials(own(&[b"x".as_slice(); 99])), &AuthFault::TooManyChallenges);
    assert_eq!(final_counts(&endless).auth_attempts, 1);
}

// ---- on an open mailer --------------------------------------------------------------------------

async fn unauthenticated(sink: &Sink, log: &Log) -> Mailer {
    builder(log).host(starttls(sink)).threads(3).connect().await.unwrap()
}

#[test]
fn net_smtp_authenticates_by_name() {
    for (name, credentials_are_right) in [("AUTO", true), ("login", true), ("PLAIN", true), ("auto", false)] {
        let sink = knowing(|sink| sink);
        let log = Log::default();
        run(async {
            let mut mailer = unauthenticated(&sink, &log).await;
            let mut smtp = mailer.net_smtp();
            let unknown = smtp.auth("NTLM", USER, PASSWORD).await.expect_err("there is none");
            assert!(matches!(unknown, Error::Mechanism(_)), "{unknown}");
            assert_eq!(sink.counts().auth_attempts, 0);
            let password = if credentials_are_right { PASSWORD } else { "wrong" };
            let result = smtp.auth(name, USER, password).await;
            assert_eq!(result.is_ok(), credentials_are_right, "{name}");
            if credentials_are_right {
                mailer.send_all((0..6).map(mail)).await.unwrap();
                check_accounts(&mailer.quit().await.unwrap(), &log, &[&sink]);
                assert_eq!(sink.counts().mails, 6);
            }
        });
        let expected = if credentials_are_right { (3, 3) } else { (1, 0) };
        let counts = final_counts(&sink);
        assert_eq!((counts.auth_attempts, counts.auth_successes), expected, "{name}");
        assert_eq!(counts.connections, 3, "the sessions that stand are used");
    }
}

#[test]
fn right_credentials_open_the_lanes_that_wrong_ones_had_retired() {
    let sink = knowing(|sink| sink);
    let log = Log::default();
    run(async {
        let mut mailer = unauthenticated(&sink, &log).await;
        let error = mailer.auth(wrong()).await.expect_err("the password is wrong");
        assert!(matches!(error, Error::AllRetired { .. }) && error.to_string().contains(": 535 "), "{error}");
        assert!(mailer.lanes().all(|lane| lane.standing == Standing::Retired));
        // The same once more, as nobody knows what has become of the account meanwhile.
        mailer.restart().await.expect_err("the password is still wrong");
        mailer.auth(right()).await.unwrap();
        assert!(mailer.lanes().all(|lane| lane.standing == Standing::Active));
        mailer.send_all((0..6).map(mail)).await.unwrap();
        check_accounts(&mailer.quit().await.unwrap(), &log, &[&sink]);
    });
    let counts = final_counts(&sink);
    assert_eq!((counts.auth_attempts, counts.auth_failures, counts.mails), (5, 2, 6));
    assert_eq!(log.of_kind(EventKind::AuthFail).len(), 2);
}

#[test]
fn other_credentials_for_one_host_are_told_to_no_other() {
    let one = guarded(|sink| sink.user("ann", "first"));
    let two = guarded(|sink| sink.user("bob", "second"));
    let log = Log::default();
    let builder = builder(&log)
        .host(starttls(&one).credentials(Credentials::password("ann", "wrong")))
        .host(starttls(&two).credentials(Credentials::password("bob", "second")));
    run(async {
        let mut mailer = builder.threads(2).connect().await.unwrap();
        let error = mailer.auth_host(2, right()).await.expect_err("there are two hosts");
        assert!(matches!(error, Error::NoSuchLane(_)), "{error}");
        mailer.auth_host(0, Credentials::password("ann", "first")).await.unwrap();
        mailer.restart().await.unwrap();
        assert!(mailer.lanes().all(|lane| lane.standing == Standing::Active));
        mailer.quit().await.unwrap();
    });
    let counts = [&one, &two].map(|sink| final_counts(sink));
    assert_eq!(counts.each_ref().map(|counts| counts.auth_failures), [1, 0]);
    assert_eq!(counts.each_ref().map(|counts| counts.auth_successes), [4, 4]);
}

#[test]
fn each_host_has_its_own_credentials() {
    let one = guarded(|sink| sink.user("ann", "first"));
    let two = guarded(|sink| sink.user("bob", "second"));
    let three = guarded(|sink| sink.user("all", "third"));
    let log = Log::default();
    let builder = builder(&log)
        .host(starttls(&one).credentials(Credentials::password("ann", "first")))
        .host(starttls(&two).credentials(Credentials::password("bob", "second")))
        .host(starttls(&three))
        .credentials(Credentials::password("all", "third"));
    let summary = send_and_quit(builder.threads(2), (0..18).map(mail));
    check_accounts(&summary, &log, &[&one, &two, &three]);
    for (sink, user) in [(one, "ann"), (two, "bob"), (three, "all")] {
        assert_eq!(sink.mails().len(), 6);
        assert!(sink.mails().iter().all(|mail| mail.user.as_deref() == Some(user)));
    }
}

#[test]
fn thirty_lanes_authenticate_with_many_iterations() {
    let sink = knowing(|sink| sink.mechanisms(["SCRAM-SHA-256"]).scram_iterations(100_000));
    let log = Log::default();
    let mailer = builder(&log).host(starttls(&sink).credentials(right())).threads(30);
    let summary = send_and_quit(mailer, (0..60).map(mail));
    check_accounts(&summary, &log, &[&sink]);
    let counts = final_counts(&sink);
    assert_eq!((counts.auth_attempts, counts.auth_successes, counts.connections), (30, 30, 30));
}

// ---- never in the clear -------------------------------------------------------------------------

#[test]
fn credentials_without_tls_are_an_error_unless_they_are_meant() {
    let sink = bare(|sink| sink.mechanisms(ALL));
    for mechanism in ALL {
        let (credentials, user) = fit_for(mechanism);
        let log = Log::default();
        let plain = builder(&log).host(host(&sink).credentials(credentials.clone()));
        let error = run(plain.connect()).expect_err("there is no TLS");
        let Error::Host { name, problem } = &error else { panic!("{error}") };
        assert_eq!(name, "127.0.0.1");
        assert!(problem.contains("without TLS") && !problem.contains(USER), "{problem}");
        assert_eq!(sink.counts().connections, 0, "{mechanism}");

        let sink = bare(|sink| sink.mechanisms([mechanism]));
        let meant = host(&sink).credentials(credentials.allow_without_tls());
        delivers(builder(&log).host(meant), &log, &sink);
        assert!(sink.mails().iter().all(|mail| !mail.tls && mail.user.as_deref() == Some(user)));
    }
}

#[test]
fn auth_on_a_mailer_without_tls_says_nothing() {
    let sink = sink(|sink| sink.user(USER, PASSWORD));
    let log = Log::default();
    run(async {
        let mut mailer = builder(&log).host(host(&sink)).connect().await.unwrap();
        let error = mailer.auth(right()).await.expect_err("there is no TLS");
        assert!(matches!(&error, Error::Host { name, .. } if name == "127.0.0.1"), "{error}");
        // The mailer is as it was.
        mailer.send(mail(0)).await.unwrap();
        check_accounts(&mailer.quit().await.unwrap(), &log, &[&sink]);
    });
    assert_eq!((final_counts(&sink).auth_attempts, sink.mails().len()), (0, 1));
}

#[test]
fn what_shows_the_secret_is_not_said_where_tls_was_only_hoped_for() {
    let hoped_for = [Security::OpportunisticStartTls, Security::OpportunisticStartTlsUnverified];
    for security in hoped_for {
        for mechanism in ["PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER"] {
            let recorder = Recorder::start(mechanism, "235 fine");
            let recorded = recorder.server.host().security(security).credentials(fit_for(mechanism).0);
            is_refused(recorded, &AuthFault::NeedsTls);
            let heard = recorder.heard();
            assert!(heard.iter().all(|line| line == "QUIT"), "{mechanism}: what was said is not shown here");
        }
        let recorder = Recorder::start("PLAIN LOGIN SCRAM-SHA-1", "535 no");
        let recorded = recorder.server.host().security(security).credentials(right());
        run(builder(&Log::default()).host(recorded).connect()).expect_err("it is refused");
        let heard = recorder.heard();
        assert!(heard.len() == 1 && heard[0].starts_with("AUTH SCRAM-SHA-1 "));

        for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-1"] {
            let sink = bare(|sink| sink.mechanisms(["PLAIN", "LOGIN", mechanism]));
            let log = Log::default();
            let host = host(&sink).security(security).credentials(right());
            delivers(builder(&log).host(host), &log, &sink);
            assert_eq!(final_counts(&sink).auth_successes, 3);
        }
    }
}

/// A server that offers this before TLS, and that under it; gives where it is, and what it hears
/// under TLS.
fn two_faced(before: &'static str, under: &'static str) -> (SocketAddr, mpsc::Receiver<String>) {
    let issued = AUTHORITY.good();
    let identity = native_tls::Identity::from_pkcs8(issued.pem.as_bytes(), issued.key_pem.as_bytes());
    let acceptor = native_tls::TlsAcceptor::new(identity.unwrap()).unwrap();
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = listener.local_addr().unwrap();
    let (heard, hears) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"220 two-faced\r\n").unwrap();
        let mut said = [0; 512];
        assert!(stream.read(&mut said).unwrap() > 0);
        stream.write_all(format!("250-two-faced\r\n250-STARTTLS\r\n250 {before}\r\n").as_bytes()).unwrap();
        let count = stream.read(&mut said).unwrap();
        assert_eq!(&said[..count], b"STARTTLS\r\n");
        stream.write_all(b"220 go on\r\n").unwrap();
        let mut stream = BufReader::new(acceptor.accept(stream).unwrap());
        let mut line = String::new();
        while stream.read_line(&mut line).is_ok_and(|count| count > 0) {
            let reply = match line.starts_with("EHLO") {
                true => format!("250-two-faced\r\n250 {under}\r\n"),
                false => "535 no\r\n".to_owned(),
            };
            heard.send(std::mem::take(&mut line)).unwrap();
            if stream.get_mut().write_all(reply.as_bytes()).is_err() {
                return;
            }
        }
    });
    (address, hears)
}

#[test]
fn what_was_offered_before_tls_does_not_count() {
    for (under, offered) in [("SIZE", ""), ("AUTH EXTERNAL", "EXTERNAL")] {
        let (address, hears) = two_faced("AUTH PLAIN LOGIN SCRAM-SHA-256", under);
        let tls = Tls::new().root_certificate(AUTHORITY.pem()).only_these_roots();
        let host = Host::new(address.to_string()).threads(1).security(Security::StartTls).tls(tls);
        is_refused(host.credentials(right()), &AuthFault::NoMechanism { offered: offered.into() });
        let heard: Vec<String> = hears.iter().collect();
        assert!(heard.len() == 1 && heard[0].starts_with("EHLO "));
    }
}

// ---- refusals -----------------------------------------------------------------------------------

const VERDICTS: [u16; 7] = [1, 101, 102, 103, 104, 202, 203];

/// A handler with this verdict on every refused AUTH.
fn deciding(code: u16) -> Log {
    Log::deciding(move |event| match event.kind {
        EventKind::AuthFail => Verdict::from_code(code).unwrap(),
        _ => Verdict::DEFAULT,
    })
}

#[test]
fn a_wrong_password_is_said_once_whatever_is_decided_on_it() {
    for code in VERDICTS {
        let sink = knowing(|sink| sink);
        let log = deciding(code);
        let builder = builder(&log).host(starttls(&sink).credentials(wrong())).threads(20);
        let error = run(builder.connect()).expect_err("the password is wrong");
        assert!(matches!(error, Error::AllRetired { last: Some(_), .. }), "{error}");
        let line = error.to_string();
        assert!(line.contains("127.0.0.1:") && line.contains(" auth_fail AUTH "), "{line}");
        assert!(
            line.ends_with(": 535 5.7.8 Wrong user, password or token") && !line.contains('\n'),
            "{line}"
        );
        let counts = final_counts(&sink);
        assert_eq!((counts.auth_attempts, counts.auth_failures), (1, 1), "verdict {code}");
        assert_eq!(counts.connections, 20, "verdict {code}");
        assert_eq!(log.of_kind(EventKind::AuthFail).len(), 1, "verdict {code}");
        assert_eq!(log.of_kind(EventKind::AuthFail)[0].step, Step::Auth);
        assert_eq!(log.trouble().len(), 1, "verdict {code}");
    }
}

#[test]
fn a_wrong_password_on_an_open_mailer_retires_every_lane_whatever_is_decided_on_it() {
    for code in VERDICTS {
        let sink = knowing(|sink| sink);
        let log = deciding(code);
        run(async {
            let mut mailer = builder(&log).host(starttls(&sink)).threads(20).connect().await.unwrap();
            let error = mailer.auth(wrong()).await.expect_err("the password is wrong");
            assert!(matches!(error, Error::AllRetired { .. }), "{error}");
            assert!(mailer.lanes().all(|lane| lane.standing == Standing::Retired), "verdict {code}");
            mailer.send(mail(0)).await.expect_err("there is no lane");
        });
        let counts = final_counts(&sink);
        assert_eq!((counts.auth_attempts, counts.connections, counts.mails), (1, 20, 0), "verdict {code}");
        assert_eq!(log.of_kind(EventKind::AuthFail).len(), 1, "verdict {code}");
    }
}

#[test]
fn other_credentials_can_be_given_beside_hosts_that_go_on() {
    let bad = knowing(|sink| sink);
    let good = knowing(|sink| sink);
    let log = Log::default();
    let builder = builder(&log)
        .host(starttls(&bad).credentials(wrong()))
        .host(starttls(&good).credentials(right()))
        .threads(2);
    let summary = send_and_quit(builder, (0..10).map(mail));
    check_accounts(&summary, &log, &[&bad, &good]);
    assert_eq!((bad.mails().len(), good.mails().len()), (0, 10));
    assert_eq!((final_counts(&bad).auth_attempts, log.trouble().len()), (1, 1));
}

#[test]
fn a_refusal_for_good_is_said_once() {
    for code in [500, 501, 502, 503, 530, 534, 535, 538, 550, 554] {
        for at in [At::Auth, At::Challenge] {
            let refuses = Fault::new(at, Misdeed::refuse(code, "5.7.0 go away"));
            let sink = knowing(|sink| sink.mechanisms(["LOGIN"]).fault(refuses));
            let log = Log::default();
            let builder = builder(&log).host(starttls(&sink).credentials(right())).threads(5);
            let error = run(builder.connect()).expect_err("it is refused");
            let expected = format!(": {code} 5.7.0 go away");
            assert!(matches!(error, Error::AllRetired { .. }), "{error}");
            assert!(error.to_string().ends_with(&expected), "{error}");
            let fails = log.trouble();
            assert_eq!((fails.len(), fails[0].kind), (1, EventKind::AuthFail), "{code}");
            assert!(fails[0].line.ends_with(&expected), "{}", fails[0].line);
            assert_eq!(final_counts(&sink).auth_attempts, 1, "{code}");
        }
    }
}

#[test]
fn servers_with_rules_of_their_own_refuse_for_good() {
    let hidden = knowing(|sink| sink.require_tls());
    let unsafe_host = |sink: &Sink| host(sink).credentials(right().allow_without_tls());
    is_refused(unsafe_host(&hidden), &AuthFault::NoMechanism { offered: "".into() });

    let strict = bare(|sink| sink.mechanisms(["PLAIN"]).refuse_plaintext_auth());
    let log = Log::default();
    let error = run(builder(&log).host(unsafe_host(&strict)).connect()).expect_err("it is refused");
    assert!(error.to_string().contains(": 538 "), "{error}");
    assert_eq!((log.of_kind(EventKind::AuthFail).len(), final_counts(&strict).auth_attempts), (1, 1));
}

/// One that goes wrong for so long, and then right: what happened is `connect_fail`, never
/// `auth_fail`.
fn passes(at: At, misdeed: Misdeed, timeouts: Timeouts) -> (Log, Vec<(EventKind, Failure)>, Counts) {
    let sink = knowing(|sink| sink.mechanisms(["LOGIN"]).fault(Fault::new(at, misdeed).times(2)));
    let (log, failures) = keeping();
    let host = starttls(&sink).credentials(right()).timeouts(timeouts);
    let summary = send_and_quit(builder(&log).host(host), (0..4).map(mail));
    assert_eq!(summary.mails.delivered, 4);
    let stored: BTreeSet<_> = sink.mails().iter().map(|mail| mail.forward_paths.clone()).collect();
    assert_eq!((stored.len(), sink.mails().len()), (4, 4));
    let kinds: Vec<_> = log.trouble().iter().map(|seen| (seen.kind, seen.step)).collect();
    assert_eq!(kinds, [(EventKind::ConnectFail, Step::Auth), (EventKind::ReconnectFail, Step::Auth)]);
    assert_eq!(log.of_kind(EventKind::AuthPass).len(), 1);
    let counts = final_counts(&sink);
    assert_eq!((counts.connections, counts.auth_attempts), (3, 3));
    let failures = failures.lock().unwrap().clone();
    (log, failures, counts)
}

#[test]
fn what_may_pass_is_tried_again() {
    let patient = || Timeouts::uniform(PATIENCE);
    let brisk = || Timeouts { auth: SHORT, ..patient() };
    for at in [At::Auth, At::Challenge] {
        for code in [421, 432, 450, 454] {
            let (log, failures, _) = passes(at, Misdeed::refuse(code, "4.7.0 later"), patient());
            assert!(matches!(&failures[0].1, Failure::Refused(reply) if reply.code().as_u16() == code));
            assert!(log.trouble().iter().all(|seen| seen.line.ends_with(&format!("{code} 4.7.0 later"))));
        }
        let (_, failures, _) = passes(at, Misdeed::Close421, patient());
        assert!(matches!(&failures[0].1, Failure::Refused(reply) if reply.code().is_closing()));
        let (_, failures, _) = passes(at, Misdeed::Hang, brisk());
        assert!(matches!(failures[0].1, Failure::TimedOut { after: SHORT }), "{failures:?}");
        let (_, failures, _) = passes(at, Misdeed::HalfReply, brisk());
        assert!(matches!(failures[0].1, Failure::TimedOut { after: SHORT }), "{failures:?}");
        for misdeed in [Misdeed::Close, Misdeed::HalfReplyClose] {
            let (_, failures, _) = passes(at, misdeed, patient());
            assert!(matches!(failures[0].1, Failure::Closed | Failure::Lost(_)), "{failures:?}");
        }
        let (_, failures, _) = passes(at, Misdeed::garbage(), patient());
        assert_eq!(failures[0].1, Failure::Garbage);
        let (_, failures, _) = passes(at, Misdeed::LongReply(1 << 17), patient());
        assert_eq!(failures[0].1, Failure::TooLong);
        let (_, failures, _) = passes(at, Misdeed::surplus(250, "2.0.0 and this"), patient());
        assert!(matches!(failures[0].1, Failure::Unsolicited(_)), "{failures:?}");
    }
}

#[test]
fn a_server_that_is_not_ready_is_left_alone_for_a_while() {
    let sink = knowing(|sink| sink.fault(Fault::new(At::Auth, Misdeed::refuse(454, "4.7.0 later")).times(2)));
    let log = Log::default();
    let backoff = Backoff { base: SHORT, max: PATIENCE };
    let begun = Instant::now();
    let mailer = builder(&log).host(starttls(&sink).credentials(right())).backoff(backoff);
    let summary = send_and_quit(mailer, [mail(0)]);
    check_accounts(&summary, &log, &[&sink]);
    // Half of each wait at least, the second twice the first.
    assert!(begun.elapsed() >= SHORT / 2 + SHORT, "{:?}", begun.elapsed());
}

#[test]
fn a_server_that_stays_unready_retires_its_lanes() {
    let sink = knowing(|sink| sink.fault(Fault::new(At::Auth, Misdeed::refuse(454, "4.7.0 later"))));
    let log = Log::default();
    let builder = builder(&log).host(starttls(&sink).credentials(right())).max_connect_failures(3);
    let error = run(builder.threads(4).connect()).expect_err("it is never ready");
    assert!(error.to_string().ends_with("refused: 454 4.7.0 later"), "{error}");
    assert_eq!((log.trouble().len(), log.of_kind(EventKind::AuthFail).len()), (12, 0));
    // What one lane is told holds for those that wait with it.
    assert!((3..=12).contains(&final_counts(&sink).auth_attempts));
}

#[test]
fn ten_lanes_wait_once_for_a_server_that_hangs_in_auth() {
    for at in [At::Auth, At::Challenge] {
        let sink = knowing(|sink| sink.mechanisms(["LOGIN"]).fault(Fault::new(at, Misdeed::Hang)));
        let log = Log::default();
        let timeouts = Timeouts { auth: SHORT, ..Timeouts::uniform(PATIENCE) };
        let host = starttls(&sink).credentials(right()).timeouts(timeouts);
        let begun = Instant::now();
        let builder = builder(&log).host(host).threads(10).max_connect_failures(1);
        let error = run(builder.connect()).expect_err("it never answers");
        assert!(begun.elapsed() < SHORT * 8, "{:?}", begun.elapsed());
        assert!(error.to_string().ends_with("no reply within 500ms"), "{error}");
        assert_eq!(log.of_kind(EventKind::ConnectFail).len(), 10);
        assert_eq!(final_counts(&sink).auth_attempts, 1);
    }
}

// ---- servers that cheat -------------------------------------------------------------------------

/// A server that does this is found out at the first AUTH, and never sent a mail: those go elsewhere.
fn is_found_out(set: impl FnOnce(Builder) -> Builder, mechanism: &str, fault: &AuthFault) {
    let identity = AUTHORITY.good().identity();
    let sink_of = |sink: Builder| sink.user(USER, PASSWORD).token(USER, TOKEN).mechanisms([mechanism]);
    // It would take mail from anybody.
    let bad = sink(|sink| set(sink_of(sink.starttls(identity))));
    let good = knowing(|sink| sink);
    let (log, failures) = keeping();
    let begun = Instant::now();
    let builder = builder(&log)
        .host(starttls(&bad).credentials(fit_for(mechanism).0))
        .host(starttls(&good).credentials(right()))
        .threads(3);
    let summary = send_and_quit(builder, (0..9).map(mail));
    assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
    assert_eq!((summary.mails.delivered, good.mails().len()), (9, 9), "{mechanism}: {fault}");
    assert_eq!(*failures.lock().unwrap(), [(EventKind::AuthFail, Failure::Auth(fault.clone()))]);
    let counts = final_counts(&bad);
    assert_eq!((counts.auth_attempts, counts.mails), (1, 0), "{mechanism}: {fault}");
    let events = log.events();
    let on_bad: Vec<_> = events.iter().filter(|seen| seen.lane.host == 0).map(|seen| seen.kind).collect();
    let connected = on_bad.iter().filter(|kind| **kind == EventKind::ConnectPass).count();
    // MAIL would be one more.
    assert_eq!((connected, on_bad.len()), (3, 4), "{mechanism}: {fault}");
}

#[test]
fn a_server_that_does_not_know_the_password_is_not_believed() {
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-1"] {
        for (quirk, fault) in [
            (AuthQuirk::WrongNonce, AuthFault::ServerNonce),
            (AuthQuirk::WrongSignature, AuthFault::ServerSignature),
            (AuthQuirk::NoSignature, AuthFault::ServerSignature),
            (AuthQuirk::EarlySuccess, AuthFault::ServerSignature),
        ] {
            is_found_out(|sink| sink.auth_quirk(quirk), mechanism, &fault);
        }
    }
}

#[test]
fn an_iteration_count_that_is_not_acceptable_is_not_computed() {
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-1"] {
        for count in [1, 4095, 1_000_001, 4_294_967_295] {
            let fault = AuthFault::Iterations(count);
            is_found_out(|sink| sink.scram_iterations(count), mechanism, &fault);
        }
    }
    // An own cap.
    let sink = knowing(|sink| sink.mechanisms(["SCRAM-SHA-256"]).scram_iterations(5_000));
    let capped = starttls(&sink).credentials(right().max_iterations(4_999));
    is_refused(capped, &AuthFault::Iterations(5_000));
}

#[test]
fn a_success_that_comes_too_early_is_none() {
    for (mechanism, at, fault) in [
        ("LOGIN", At::Auth, AuthFault::Challenge),
        ("LOGIN", At::Challenge, AuthFault::Challenge),
        ("CRAM-MD5", At::Auth, AuthFault::Challenge),
        ("SCRAM-SHA-256", At::Auth, AuthFault::ServerSignature),
        ("SCRAM-SHA-256", At::Challenge, AuthFault::ServerSignature),
    ] {
        let early = Misdeed::refuse(235, "2.7.0 come in");
        is_found_out(|sink| sink.fault(Fault::new(at, early.clone())), mechanism, &fault);
    }
}

#[test]
fn a_server_that_keeps_asking_is_left() {
    for mechanism in ALL {
        let endless = |sink: Builder| sink.auth_quirk(AuthQuirk::EndlessChallenges);
        // SCRAM's server proves itself before it goes on.
        is_found_out(endless, mechanism, &AuthFault::Challenge);
    }
}

#[test]
fn a_challenge_that_makes_no_sense_is_not_answered() {
    for challenge in ["334 !!!\r\n", "334 dGlt dGlt\r\n", "334 AAA\u{fc}\r\n"] {
        let garbage = Misdeed::Garbage(challenge.as_bytes().to_vec());
        for mechanism in ["LOGIN", "CRAM-MD5", "SCRAM-SHA-256"] {
            let faulty = |sink: Builder| sink.fault(Fault::new(At::Auth, garbage.clone()));
            is_found_out(faulty, mechanism, &AuthFault::Challenge);
        }
    }
    let nonsense = Misdeed::Garbage(format!("334 {}\r\n", BASE64.encode("r=x,s=y")).into_bytes());
    let faulty = |sink: Builder| sink.fault(Fault::new(At::Auth, nonsense.clone()));
    is_found_out(faulty, "SCRAM-SHA-256", &AuthFault::Challenge);
}

// ---- tokens -------------------------------------------------------------------------------------

/// Credentials whose source gives these in turn, the last one again and again; and how often it was
/// asked.
fn source(tokens: &'static [&'static str]) -> (Credentials, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let credentials = Credentials::oauth_from(USER, move || {
        let place = count.fetch_add(1, Ordering::SeqCst);
        Ok(tokens[place.min(tokens.len() - 1)].into())
    });
    (credentials, asked)
}

#[test]
fn a_refused_token_is_renewed_once() {
    for mechanism in ["XOAUTH2", "OAUTHBEARER"] {
        for threads in [1, 10] {
            let sink = knowing(|sink| sink.mechanisms([mechanism]));
            let (credentials, asked) = source(&[STALE, TOKEN]);
            let log = Log::default();
            let mailer = builder(&log).host(starttls(&sink).credentials(credentials)).threads(threads);
            let summary = send_and_quit(mailer, (0..20).map(mail));
            check_accounts(&summary, &log, &[&sink]);
            assert_eq!(summary.mails.delivered, 20);
            assert_eq!((asked.load(Ordering::SeqCst), log.trouble().len()), (2, 0));
            let counts = final_counts(&sink);
            assert_eq!((counts.auth_attempts, counts.connections), (threads + 1, u64::from(threads)));

            let (credentials, asked) = source(&[STALE]);
            let sink = knowing(|sink| sink.mechanisms([mechanism]));
            let log = Log::default();
            let builder = builder(&log).host(starttls(&sink).credentials(credentials)).threads(threads);
            run(builder.connect()).expect_err("no token is right");
            assert_eq!((asked.load(Ordering::SeqCst), final_counts(&sink).auth_attempts), (2, 2));
            assert_eq!((log.of_kind(EventKind::AuthFail).len(), log.trouble().len()), (1, 1));
        }
    }
}

#[test]
fn a_token_that_expires_later_is_renewed_once_for_all_lanes() {
    // All lanes lose their connections at once, and the token that they had is refused then.
    let closes = Fault::new(At::Mail, Misdeed::Close).skip(10).times(10);
    let expires = Fault::new(At::Auth, Misdeed::refuse(535, "5.7.8 expired")).skip(10).times(1);
    let sink = knowing(|sink| sink.mechanisms(["XOAUTH2"]).fault(closes).fault(expires));
    let (credentials, asked) = source(&[TOKEN]);
    let log = Log::default();
    let mailer = builder(&log).host(starttls(&sink).credentials(credentials)).threads(10);
    let summary = send_and_quit(mailer, (0..40).map(mail));
    check_accounts(&summary, &log, &[&sink]);
    assert_eq!((summary.mails.delivered, asked.load(Ordering::SeqCst)), (40, 2));
    assert_eq!(log.of_kind(EventKind::AuthFail).len(), 0);
}

#[test]
fn a_token_that_never_changes_is_not_said_again() {
    let sink = knowing(|sink| sink.mechanisms(["XOAUTH2"]));
    let log = Log::default();
    let host = starttls(&sink).credentials(Credentials::oauth(USER, STALE));
    run(builder(&log).host(host).threads(10).connect()).expect_err("the token is refused");
    assert_eq!((final_counts(&sink).auth_attempts, log.trouble().len()), (1, 1));
}

#[test]
fn a_token_source_that_fails_is_asked_again_later() {
    for panics in [false, true] {
        let sink = knowing(|sink| sink);
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let credentials = Credentials::oauth_from(USER, move || match count.fetch_add(1, Ordering::SeqCst) {
            0..2 if panics => panic!("a token source that panics is part of the test"),
            0..2 => Err("the token service is out to lunch".into()),
            _ => Ok(TOKEN.into()),
        });
        let (log, failures) = keeping();
        let host = starttls(&sink).credentials(credentials);
        let summary = send_and_quit(builder(&log).host(host), (0..4).map(mail));
        check_accounts(&summary, &log, &[&sink]);
        assert_eq!((summary.mails.delivered, asked.load(Ordering::SeqCst)), (4, 3));
        let text = if panics { "it panicked" } else { "the token service is out to lunch" };
        let failure = Failure::Auth(AuthFault::Token(text.into()));
        let expected =
            [(EventKind::ConnectFail, failure.clone()), (EventKind::ReconnectFail, failure.clone())];
        assert_eq!(*failures.lock().unwrap(), expected);
        assert!(log.trouble().iter().all(|seen| seen.line.ends_with(text) && seen.step == Step::Auth));
        assert_eq!(final_counts(&sink).auth_attempts, 1, "nothing was said without a token");
    }
}

#[test]
fn a_token_source_that_never_answers_is_late() {
    let sink = knowing(|sink| sink);
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let credentials = Credentials::oauth_from(USER, move || {
        // Ends when the test does.
        let _ = released.lock().unwrap().recv_timeout(PATIENCE);
        Ok(TOKEN.into())
    });
    let timeouts = Timeouts { auth: SHORT, ..Timeouts::uniform(PATIENCE) };
    let (log, failures) = keeping();
    let host = starttls(&sink).credentials(credentials).timeouts(timeouts);
    run(builder(&log).host(host).max_connect_failures(1).connect()).expect_err("there is no token");
    drop(release);
    let stalled = (EventKind::ConnectFail, Failure::Auth(AuthFault::Stalled));
    assert_eq!(*failures.lock().unwrap(), [stalled]);
    assert_eq!(final_counts(&sink).auth_attempts, 0);
}

#[test]
fn a_token_source_that_blocks_holds_up_nobody_else() {
    let closes = Fault::new(At::Mail, Misdeed::Close).times(1);
    let expires = Fault::new(At::Auth, Misdeed::refuse(535, "5.7.8 expired")).skip(1).times(1);
    let slow = knowing(|sink| sink.mechanisms(["XOAUTH2"]).fault(closes).fault(expires));
    let quick = knowing(|sink| sink);
    let (release, released) = mpsc::channel::<()>();
    let (asking, asked) = mpsc::channel::<()>();
    let (released, asking) = (Mutex::new(released), Mutex::new(asking));
    let count = AtomicUsize::new(0);
    let credentials = Credentials::oauth_from(USER, move || {
        if count.fetch_add(1, Ordering::SeqCst) == 1 {
            asking.lock().unwrap().send(())?;
            released.lock().unwrap().recv_timeout(PATIENCE)?;
        }
        Ok(TOKEN.into())
    });
    let log = Log::default();
    run(async {
        let builder = builder(&log)
            .host(starttls(&slow).credentials(credentials).threads(1))
            .host(starttls(&quick).credentials(right()).threads(2));
        let mut mailer = builder.connect().await.unwrap();
        mailer.send_all((0..6).map(mail)).await.unwrap();
        // The first host's lane is lost, opened again, and waits for a token.
        let asks = smol::unblock(move || asked.recv_timeout(PATIENCE).unwrap());
        async { mailer.idle().await.map(drop) }
            .or(async {
                asks.await;
                Ok(())
            })
            .await
            .unwrap();
        mailer.send_all((6..30).map(mail)).await.unwrap();
        mailer.flush().await.unwrap();
        assert_eq!((log.reports(<[_]>::len), quick.mails().len()), (30, 30));
        let standing = mailer.lanes().next().unwrap().standing;
        assert_eq!(standing, Standing::Opening, "it still waits");

        release.send(()).unwrap();
        let is_back = seen_by(&slow, |counts| counts.auth_successes == 2);
        async { mailer.idle().await.map(drop) }
            .or(async {
                is_back.await;
                Ok(())
            })
            .await
            .unwrap();
        mailer.send_all((30..60).map(mail)).await.unwrap();
        check_accounts(&mailer.quit().await.unwrap(), &log, &[&slow, &quick]);
        assert!(!slow.mails().is_empty(), "the lane is back");
    });
}
