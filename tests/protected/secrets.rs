//! Nothing secret is ever shown: not in the debug output of any level, not in an event, a report, an
//! error or a `Debug`, whatever a server repeats of what it was told, and however its words are cut
//! into pieces. A failed assertion here names the place and the kind of the secret, and never shows
//! either.

use std::collections::BTreeSet;
use std::fmt::{Debug, Display, Write};
use std::fs;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Once};
use std::task::{Context, Poll};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use smol::io::{AsyncRead, AsyncWrite};
use smol::net::TcpStream;
use smtp_bulk::host::HostSettings;
use smtp_bulk::sasl::client::{Mechanism, MechanismError};
use smtp_bulk::sasl::common::Credentials as Given;
use smtp_bulk::sink::{AuthQuirk, Builder, Fault, Misdeed, Sink, Step as At};
use smtp_bulk::{
    Backoff, Credentials, Error, Event, Handler, Host, Mailer, Report, Security, Timeouts, Tls, Verdict,
};

use crate::auth::{ALL, guarded, starttls};
use crate::certs::Authority;
use crate::support::{PATIENCE, host, mail, run, sink};

const USER: &str = "user-of-the-test@d.example";

/// What a server knows, and what it does not: the one is as secret as the other.
const RIGHT: &str = "Right0pelican1umbrella2gravel3mitten4quartz5Lantern6walnut7ferret";
const WRONG: &str = "Wrong9thistle8bobbin7cactus6Jigsaw5marrow4paddle3trumpet2velvet1x";

// ---- what is searched, and for what -------------------------------------------------------------

/// Texts, and where each of them was found.
#[derive(Clone, Default)]
struct Shown(Arc<Mutex<Vec<(&'static str, String)>>>);

impl Shown {
    fn add(&self, place: &'static str, text: String) {
        self.0.lock().unwrap().push((place, text));
    }

    fn debug(&self, place: &'static str, what: &impl Debug) {
        self.add(place, format!("{what:?}\n{what:#?}"));
    }

    fn both(&self, place: &'static str, what: &(impl Debug + Display)) {
        self.add(place, what.to_string());
        self.debug(place, what);
    }

    /// Fails when anything of this was shown anywhere. Says what and where, and shows nothing.
    fn has_none_of(&self, secrets: &Secrets, case: &str) {
        let shown = self.0.lock().unwrap();
        let found: BTreeSet<(&str, &str)> = shown
            .iter()
            .flat_map(|(place, text)| secrets.found_in(text).map(move |kind| (*place, kind)))
            .collect();
        assert!(found.is_empty(), "{case}: shown at (place, kind of secret): {found:?}");
    }

    fn contains(&self, text: &str) -> bool {
        self.0.lock().unwrap().iter().any(|(_, shown)| shown.contains(text))
    }
}

/// What must not be shown, and of which kind each is.
#[derive(Clone, Default)]
struct Secrets(Vec<(&'static str, String)>);

impl Secrets {
    /// A password or token, in all the ways in which it may be written.
    fn of(secret: &str) -> Secrets {
        let mut secrets = Secrets::default();
        secrets.pieces("the secret", secret);
        for offset in 0..3 {
            // What stands before and behind decides about the letters at both ends.
            let encoded = BASE64.encode([&vec![0; offset], secret.as_bytes()].concat());
            let begin = [0, 2, 3][offset];
            let end = encoded.trim_end_matches('=').len() - 1;
            secrets.pieces("its base64", &encoded[begin..end]);
        }
        let octets = format!("{:?}", secret.as_bytes());
        secrets.0.push(("its octets", octets.trim_matches(['[', ']']).to_owned()));
        let digits = secret.bytes().fold(String::new(), |mut digits, octet| {
            let _ = write!(digits, "{octet:02x}");
            digits
        });
        secrets.0.push(("its octets", digits));
        secrets
    }

    /// A part of it is as bad; what is shorter is in other texts by chance.
    fn pieces(&mut self, kind: &'static str, secret: &str) {
        let pieces = secret.as_bytes().chunks(24).map(String::from_utf8_lossy);
        self.0.extend(pieces.filter(|piece| piece.len() >= 12).map(|piece| (kind, piece.into_owned())));
    }

    /// Everything that the client said in AUTH, as lines and as what they mean.
    fn add_said(&mut self, said: &[u8]) {
        let said = String::from_utf8_lossy(said);
        let mut is_within = false;
        for line in said.lines() {
            let mut words = line.split(' ');
            let word = words.next().unwrap_or_default();
            let answer = match word {
                "AUTH" => words.nth(1).unwrap_or_default(),
                "EHLO" | "MAIL" | "QUIT" | "RSET" => {
                    is_within = false;
                    continue;
                }
                _ if is_within => word,
                _ => continue,
            };
            is_within = true;
            let meant = BASE64.decode(answer).unwrap_or_default();
            // A user's name is no secret.
            if answer.len() < 20 || meant == USER.as_bytes() {
                continue;
            }
            self.pieces("a line of AUTH", answer);
            let meant = String::from_utf8_lossy(&meant).into_owned();
            if let Some((_, proof)) = meant.rsplit_once(",p=") {
                self.pieces("a proof of SCRAM", proof.trim_end_matches('='));
            }
            if let Some(digest) = meant.strip_prefix(USER) {
                self.pieces("a digest of CRAM-MD5", digest.trim());
            }
        }
    }

    fn found_in<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'static str> + 'a {
        self.0.iter().filter(move |(_, secret)| text.contains(secret.as_str())).map(|(kind, _)| *kind)
    }
}

#[test]
fn what_is_searched_for_would_be_found() {
    let secrets = Secrets::of(RIGHT);
    for prefix in ["", "x", "xy", "\0user\0", "user=tim\u{1}auth=Bearer "] {
        let encoded = BASE64.encode(format!("{prefix}{RIGHT}\u{1}\u{1}"));
        assert!(secrets.found_in(&encoded).any(|kind| kind == "its base64"), "behind {}", prefix.len());
    }
    let half = &RIGHT[RIGHT.len() / 2 - 8..];
    assert!(secrets.found_in(half).any(|kind| kind == "the secret"));
    assert!(secrets.found_in(&format!("{:?}", RIGHT.as_bytes())).any(|kind| kind == "its octets"));
    assert_eq!(secrets.found_in(WRONG).count(), 0);
    let mut said = Secrets::default();
    let proof = BASE64.encode("c=biws,r=abc,p=0123456789abcdefghijklmnopqrstuvw");
    said.add_said(format!("EHLO a\r\nAUTH SCRAM-SHA-1\r\n{proof}\r\nMAIL FROM:<a>\r\n").as_bytes());
    assert!(said.found_in("x 0123456789abcdefghijklmnopqrstuvw").any(|kind| kind == "a proof of SCRAM"));
    assert_eq!(said.found_in("MAIL FROM:<a>").count(), 0);
}

// ---- where things are shown ---------------------------------------------------------------------

/// A handler to which everything is shown.
struct Watcher(Shown);

impl Watcher {
    fn saw(&self, event: &Event<'_>) -> Verdict {
        self.0.both("an event", event);
        if let Some(failure) = event.failure() {
            self.0.both("a failure", failure);
            self.0.add("a failure", failure.explain().to_owned());
        }
        if let Some(reply) = event.reply() {
            self.0.both("a reply", &reply);
            self.0.both("a reply", &reply.to_owned());
        }
        Verdict::DEFAULT
    }
}

impl Handler for Watcher {
    fn connect_pass(&mut self, event: &Event<'_>) -> Verdict {
        self.saw(event)
    }
    fn connect_fail(&mut self, event: &Event<'_>) -> Verdict {
        self.saw(event)
    }
    fn auth_pass(&mut self, event: &Event<'_>) -> Verdict {
        self.saw(event)
    }
    fn auth_fail(&mut self, event: &Event<'_>) -> Verdict {
        self.saw(event)
    }
    fn reconnect_pass(&mut self, event: &Event<'_>) -> Verdict {
        self.saw(event)
    }
    fn reconnect_fail(&mut self, event: &Event<'_>) -> Verdict {
        self.saw(event)
    }
    fn pass(&mut self, event: &Event<'_>) -> Verdict {
        self.saw(event)
    }
    fn fail(&mut self, event: &Event<'_>) -> Verdict {
        self.saw(event)
    }
    fn hang(&mut self, event: &Event<'_>) -> Verdict {
        self.saw(event)
    }
    fn report(&mut self, report: Report<'_>) {
        self.0.debug("a report", &report);
        self.0.both("a report", &report.outcome);
    }
}

/// What the `log` crate was handed by all tests; a process has one logger.
static LOGGED: Mutex<String> = Mutex::new(String::new());

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let mut logged = LOGGED.lock().unwrap();
        let _ = writeln!(logged, "{} {}", record.target(), record.args());
    }

    fn flush(&self) {}
}

/// Where the debug output goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Journal {
    Files,
    Log,
}

/// All files below a folder, one behind the other.
fn read_all(folder: &Path) -> String {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// What was received, without the ends of the pieces in which it was, each of which is a line.
fn joined(journal: &str) -> String {
    let received = journal.lines().filter_map(|line| line.split_once(" < "));
    received.map(|(_, text)| text.trim_end_matches('\\')).collect()
}

// ---- connections --------------------------------------------------------------------------------

/// In which pieces the client is given what the server says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pieces {
    AsTheyCome,
    Lines,
    Octets,
}

/// A connection that writes down what the client says.
struct Tapped {
    inner: TcpStream,
    said: Arc<Mutex<Vec<u8>>>,
    pieces: Pieces,
}

impl AsyncRead for Tapped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let pieces = self.pieces;
        let mut inner = Pin::new(&mut self.inner);
        if pieces == Pieces::AsTheyCome {
            return inner.poll_read(cx, buffer);
        }
        let mut count = 0;
        while count < buffer.len() {
            match inner.as_mut().poll_read(cx, &mut buffer[count..=count]) {
                Poll::Ready(Ok(1)) => count += 1,
                end if count == 0 => return end,
                _ => break,
            }
            if pieces == Pieces::Octets || buffer[count - 1] == b'\n' {
                break;
            }
        }
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for Tapped {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = written {
            self.said.lock().unwrap().extend_from_slice(&bytes[..count]);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

/// Sends two mails as far as that is possible, with everything shown that can be.
fn shown_by(
    server: &Sink,
    host: Host,
    credentials: &Credentials,
    pieces: Pieces,
    journal: Journal,
) -> (Shown, Vec<u8>) {
    static LOGGING: Once = Once::new();
    LOGGING.call_once(|| {
        log::set_logger(&Logger).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
    });
    let shown = Shown::default();
    let said = Arc::new(Mutex::new(Vec::new()));
    let (address, tap) = (server.address(), Arc::clone(&said));
    let host = host.credentials(credentials.clone()).hello("client.example");
    shown.debug("a host", &host);
    shown.debug("credentials", credentials);
    let route = host.connector(move |_| {
        let said = Arc::clone(&tap);
        async move { Ok(Tapped { inner: TcpStream::connect(address).await?, said, pieces }) }
    });
    let folder = tempfile::tempdir().unwrap();
    let builder = Mailer::builder()
        .host(route)
        .threads(2)
        .max_connect_failures(2)
        .max_attempts(2)
        .timeouts(Timeouts::uniform(PATIENCE))
        .backoff(Backoff { base: std::time::Duration::from_millis(1), ..Backoff::default() })
        .handler(Watcher(shown.clone()))
        .debug(10);
    let builder = match journal {
        Journal::Files => builder.debug_path(folder.path().join("[THREAD].log").to_str().unwrap()),
        Journal::Log => builder,
    };
    shown.debug("a builder", &builder);
    run(async {
        match builder.connect().await {
            Ok(mut mailer) => send(&mut mailer, &shown).await,
            Err(error) => shown.both("an error of connect", &error),
        }
    });
    let written = read_all(folder.path());
    shown.add("the debug files, joined", joined(&written));
    shown.add("the debug files", written);
    let said = std::mem::take(&mut *said.lock().unwrap());
    (shown, said)
}

async fn send(mailer: &mut Mailer, shown: &Shown) {
    shown.debug("a mailer", mailer);
    for id in 0..2 {
        if let Err(error) = mailer.send(mail(id)).await {
            shown.both("an error of send", &error);
        }
    }
    shown.debug("a mailer", mailer);
    match mailer.quit().await {
        Ok(summary) => shown.both("a summary", &summary),
        Err(error) => shown.both("an error of quit", &error),
    }
    shown.both("a summary", &mailer.summary());
    shown.debug("a mailer", mailer);
}

// ---- servers that repeat ------------------------------------------------------------------------

/// LOGIN as a mechanism of the caller's: the user comes first, and the secret when it is asked for.
struct Own(&'static str);

impl Mechanism for Own {
    fn name(&self) -> &str {
        "LOGIN"
    }

    fn from_credentials(_: Given) -> Result<Own, MechanismError> {
        Err(MechanismError::InvalidState)
    }

    fn initial(&mut self) -> Vec<u8> {
        USER.into()
    }

    fn response(&mut self, _: &[u8]) -> Result<Vec<u8>, MechanismError> {
        Ok(self.0.into())
    }

    fn success(&mut self, _: &[u8]) -> Result<(), MechanismError> {
        Ok(())
    }
}

/// The credentials of a case: a mechanism's name, or `own` for the caller's LOGIN.
fn credentials(mechanism: &str, secret: &'static str) -> Credentials {
    let credentials = match mechanism {
        "XOAUTH2" => Credentials::oauth(USER, secret),
        "OAUTHBEARER" => Credentials::oauth_from(USER, move || Ok(secret.into())),
        "own" => Credentials::custom(move || Box::new(Own(secret))),
        _ => Credentials::password(USER, secret).allow_cram_md5(),
    };
    credentials.allow_without_tls()
}

fn knowing(sink: Builder, mechanism: &str) -> Builder {
    let name = if mechanism == "own" { "LOGIN" } else { mechanism };
    sink.user(USER, RIGHT).token(USER, RIGHT).mechanisms([name]).require_auth()
}

/// What a server may do, each with a name.
fn misdeeds(mechanism: &str, secret: &str) -> Vec<(&'static str, Vec<Fault>)> {
    let encoded = BASE64.encode(secret);
    let both = format!("you said {secret} or {encoded} there");
    let line = match mechanism {
        "PLAIN" => BASE64.encode(format!("\0{USER}\0{secret}")),
        "XOAUTH2" => BASE64.encode(format!("user={USER}\u{1}auth=Bearer {secret}\u{1}\u{1}")),
        _ => encoded.clone(),
    };
    let repeating = [
        ("garbage", Misdeed::Garbage(format!("{both}\r\n").into_bytes())),
        ("garbage behind a code", Misdeed::Garbage(format!("535-{both}\r\n{secret}\r\n").into_bytes())),
        ("a challenge that repeats", Misdeed::Garbage(format!("334 {encoded}\r\n").into_bytes())),
        ("a challenge that is none", Misdeed::Garbage(format!("334 {secret}\r\n").into_bytes())),
        ("surplus of the same kind", Misdeed::surplus(235, &*both)),
        ("surplus refusal", Misdeed::surplus(535, &*both)),
        ("surplus end", Misdeed::surplus(421, &*both)),
        ("refusal", Misdeed::refuse(535, format!("5.7.8 {secret}"))),
        ("refusal of a line", Misdeed::refuse(535, format!("5.7.8 <{line}>"))),
        ("refusal of many lines", Misdeed::refuse(535, format!("5.7.8 no\n5.7.8 {both}\n5.7.8 no"))),
        ("refusal that may pass", Misdeed::refuse(454, format!("4.7.0 {encoded}"))),
        ("other mechanism", Misdeed::refuse(504, format!("5.5.4 {both}"))),
        ("success", Misdeed::refuse(235, format!("2.7.0 {both}"))),
        ("a code that is none", Misdeed::refuse(299, both.clone())),
        ("end", Misdeed::refuse(421, format!("4.3.2 {both}"))),
        ("half of it", Misdeed::HalfReplyClose),
        ("too much", Misdeed::LongReply(100_000)),
    ];
    // Of the caller's mechanism nothing is known before it has said it.
    let at: &[At] = if mechanism == "own" { &[At::Challenge] } else { &[At::Auth, At::Challenge] };
    let each = repeating
        .into_iter()
        .flat_map(|(name, misdeed)| at.iter().map(move |at| (name, *at, misdeed.clone())));
    let mut all: Vec<_> = each.map(|(name, at, misdeed)| (name, vec![Fault::new(at, misdeed)])).collect();
    // Behind AUTH, and in place of what is asked next.
    let late = Misdeed::refuse(550, format!("5.7.1 not from {both}"));
    all.push(("refusal of what comes next", vec![Fault::new(At::Mail, late)]));
    all.push(("nothing", Vec::new()));
    all
}

fn check(mechanism: &str, secret: &'static str) {
    for (name, faults) in misdeeds(mechanism, secret) {
        for quirk in [None, Some(AuthQuirk::EchoSecrets)] {
            // Where a misdeed has its way, the quirk has not.
            if quirk.is_some() && !faults.is_empty() {
                continue;
            }
            for (pieces, journal) in [
                (Pieces::AsTheyCome, Journal::Files),
                (Pieces::Lines, Journal::Files),
                (Pieces::Lines, Journal::Log),
                (Pieces::Octets, Journal::Files),
                (Pieces::Octets, Journal::Log),
            ] {
                let server = sink(|sink| {
                    let sink = faults.iter().cloned().fold(knowing(sink, mechanism), Builder::fault);
                    if let Some(quirk) = quirk { sink.auth_quirk(quirk) } else { sink }
                });
                let login = credentials(mechanism, secret);
                let (shown, said) = shown_by(&server, host(&server), &login, pieces, journal);
                let mut secrets = Secrets::of(secret);
                secrets.add_said(&said);
                let which = if secret == RIGHT { "right" } else { "wrong" };
                let case = format!("{mechanism}, {which}, {name}, {quirk:?}, {pieces:?}");
                let logged = std::mem::take(&mut *LOGGED.lock().unwrap());
                shown.add("the log, joined", joined(&logged));
                shown.add("the log", logged);
                shown.has_none_of(&secrets, &case);
                assert!(server.counts().auth_attempts > 0, "{case}: nothing was tried");
                // The rest of the dialogue is.
                assert!(shown.contains("> EHLO client.example"), "{case}");
                assert!(shown.contains(" octets withheld: AUTH)"), "{case}");
                if secret == RIGHT && name == "nothing" && quirk.is_none() {
                    assert!(shown.contains("> MAIL FROM:<sender@example.org>"), "{case}");
                    assert!(shown.contains(" auth_pass AUTH "), "{case}");
                }
            }
        }
    }
}

/// One test for all: they share the logger.
#[test]
fn nothing_that_a_server_repeats_is_shown() {
    // Those have no secret.
    let has_secret = |mechanism: &&str| !matches!(*mechanism, "EXTERNAL" | "ANONYMOUS");
    for mechanism in ALL.into_iter().filter(has_secret).chain(["own"]) {
        for secret in [RIGHT, WRONG] {
            check(mechanism, secret);
        }
    }
}

// ---- under TLS, and before anything is said -----------------------------------------------------

#[test]
fn keys_and_passwords_are_not_shown_under_tls_either() {
    let authority = Authority::new();
    let issued = authority.for_client("client.example");
    let key = issued.key_pem.lines().filter(|line| !line.starts_with('-')).collect::<String>();
    for (mechanism, secret, quirk) in [
        ("PLAIN", RIGHT, None),
        ("LOGIN", WRONG, Some(AuthQuirk::EchoSecrets)),
        ("XOAUTH2", WRONG, None),
        ("SCRAM-SHA-256", RIGHT, Some(AuthQuirk::EchoSecrets)),
    ] {
        let server = guarded(|sink| {
            let sink = knowing(sink, mechanism);
            if let Some(quirk) = quirk { sink.auth_quirk(quirk) } else { sink }
        });
        let tls = Tls::new().client_certificate(issued.pem.as_str(), issued.key_pem.as_str());
        for pieces in [Pieces::AsTheyCome, Pieces::Octets] {
            let login = credentials(mechanism, secret);
            let host = starttls(&server).security(Security::StartTlsUnverified).tls(tls.clone());
            let (shown, _) = shown_by(&server, host, &login, pieces, Journal::Files);
            shown.debug("settings of TLS", &tls);
            let mut secrets = Secrets::of(secret);
            secrets.pieces("the client's key", &key);
            let case = format!("{mechanism} under TLS, {quirk:?}, {pieces:?}");
            shown.has_none_of(&secrets, &case);
            assert!(shown.contains(" octets withheld: AUTH)"), "{case}");
            assert!(server.counts().tls_handshakes > 0 && server.counts().auth_attempts > 0, "{case}");
        }
    }
}

#[test]
fn a_refusal_on_an_open_mailer_shows_no_secret() {
    let secrets = Secrets::of(WRONG);
    for mechanism in ["PLAIN", "LOGIN", "SCRAM-SHA-256", "XOAUTH2"] {
        let server = guarded(|sink| knowing(sink, mechanism).auth_quirk(AuthQuirk::EchoSecrets));
        let shown = Shown::default();
        run(async {
            let builder = Mailer::builder().host(starttls(&server)).handler(Watcher(shown.clone()));
            let mut mailer = builder.connect().await.unwrap();
            let Err(error) = mailer.auth(credentials(mechanism, WRONG)).await else {
                panic!("what is wrong is accepted")
            };
            shown.both("an error of auth", &error);
            shown.debug("a mailer", &mailer);
        });
        shown.has_none_of(&secrets, mechanism);
        assert!(shown.contains("535 "), "{mechanism}: the code is said");
    }
}

#[test]
fn what_is_wrong_with_settings_is_said_without_their_secrets() {
    let server = guarded(|sink| sink.user(USER, RIGHT));
    let issued = Authority::new().for_client("client.example");
    let key = issued.key_pem.lines().filter(|line| !line.starts_with('-')).collect::<String>();
    let mut secrets = Secrets::of(RIGHT);
    secrets.pieces("the client's key", &key);
    let shown = Shown::default();
    let with_nul = format!("{RIGHT}\0");
    let with_space = format!("{RIGHT} {RIGHT}");
    let prohibited = format!("{RIGHT}\u{e000}");
    let long = RIGHT.repeat(200);
    let right = || Credentials::password(USER, RIGHT);
    for (credentials, tls) in [
        (Credentials::password(USER, with_nul), Tls::new()),
        (Credentials::password(USER, &*prohibited), Tls::new()),
        (Credentials::password(prohibited, RIGHT), Tls::new()),
        (Credentials::password(USER, &*long), Tls::new()),
        (Credentials::oauth(USER, with_space), Tls::new()),
        (Credentials::oauth(USER, &*long), Tls::new()),
        (Credentials::anonymous(long), Tls::new()),
        // The key in the place of the certificate, and half of it.
        (right(), Tls::new().client_certificate(issued.key_pem.as_str(), issued.key_pem.as_str())),
        (
            right(),
            Tls::new().client_certificate(issued.pem.as_str(), &issued.key_pem[..issued.key_pem.len() / 2]),
        ),
        (right(), Tls::new().root_certificate(issued.key_pem.as_str())),
        (right(), Tls::new().client_pkcs12("no archive", RIGHT)),
        (right(), Tls::new().client_pkcs12_file("/no/such/archive", RIGHT)),
    ] {
        shown.debug("credentials", &credentials);
        shown.debug("settings of TLS", &tls);
        let settings = HostSettings {
            credentials: Some(credentials.clone()),
            tls: tls.clone(),
            ..HostSettings::default()
        };
        shown.debug("settings of a host", &settings);
        let host = starttls(&server).credentials(credentials).tls(tls);
        shown.debug("a host", &host);
        let builder = Mailer::builder().credentials(right()).host(host);
        shown.debug("a builder", &builder);
        let Err(error) = run(builder.connect()) else { panic!("settings that are wrong are accepted") };
        assert!(matches!(error, Error::Host { .. } | Error::Tls { .. }));
        shown.both("an error of connect", &error);
    }
    run(async {
        let mut mailer = Mailer::builder().host(starttls(&server)).connect().await.unwrap();
        // The arguments in a wrong order.
        let Err(error) = mailer.net_smtp().auth(RIGHT, USER, "LOGIN").await else {
            panic!("a password is no mechanism")
        };
        shown.both("an error of auth", &error);
        shown.debug("a view of Net::SMTP", &mailer.net_smtp());
        let Err(error) = mailer.auth(Credentials::password(USER, RIGHT.repeat(99))).await else {
            panic!("a password that is too long is accepted")
        };
        shown.both("an error of auth", &error);
    });
    shown.has_none_of(&secrets, "settings that are wrong");
    assert_eq!(server.counts().auth_attempts, 0);
}
