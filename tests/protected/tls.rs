//! Which certificates, names and versions of TLS a session is protected by, and that nothing is said
//! to a server that shows another.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use smol::net::TcpStream;
use smtp_bulk::sink::{Builder, Counts, Fault, Misdeed, Sink, Step as At, TlsVersion as SinkVersion};
use smtp_bulk::{
    Error, EventKind, Failure, Host, MailerBuilder, Route, Security, Step, Tls, TlsFault, TlsProblem,
    TlsVersion, Verdict,
};

use crate::certs::{Authority, Issued, NAME, self_signed};
use crate::support::{Log, PATIENCE, builder, check_accounts, host, mail, run, send_and_quit, sink};

/// Every failure of a connection, with its step.
pub type Failures = Arc<Mutex<Vec<(Step, Failure)>>>;

/// A log, and the failures as values.
pub fn noting() -> (Log, Failures) {
    let failures = Failures::default();
    let noted = Arc::clone(&failures);
    let log = Log::deciding(move |event| {
        if let Some(failure) = event.failure() {
            noted.lock().unwrap().push((event.step, failure.clone()));
        }
        Verdict::DEFAULT
    });
    (log, failures)
}

/// Trusts this authority alone.
pub fn trusting(authority: &Authority) -> Tls {
    Tls::new().root_certificate(authority.pem()).only_these_roots()
}

/// Has the sink count, as faults that change nothing, what a client says to it.
pub fn counting(builder: Builder) -> Builder {
    [At::Ehlo, At::Helo, At::Auth, At::Mail, At::Quit]
        .into_iter()
        .fold(builder, |builder, step| builder.fault(Fault::new(step, Misdeed::Delay(Duration::ZERO))))
}

/// A server of this certificate, under TLS as `security` has it.
pub fn server(issued: &Issued, security: Security) -> Arc<Sink> {
    sink(|builder| match security {
        Security::Implicit | Security::ImplicitUnverified => {
            counting(builder).implicit_tls(issued.identity())
        }
        _ => counting(builder).starttls(issued.identity()),
    })
}

/// What a server has seen when every connection is over.
pub fn over(sink: &Sink) -> Counts {
    sink.wait_for(|counts| counts.connections > 0 && counts.open == 0, PATIENCE).unwrap()
}

/// The one failure of a handshake, which is all that has happened.
pub fn tls_fault(builder: MailerBuilder, log: &Log, failures: &Failures) -> (TlsFault, String) {
    let error = run(builder.max_connect_failures(1).connect()).expect_err("there is no TLS");
    assert!(matches!(error, Error::AllRetired { .. }), "{error}");
    let failures = failures.lock().unwrap();
    let [(Step::Tls, Failure::Tls(fault))] = failures.as_slice() else { panic!("{failures:?}") };
    let events = log.events();
    assert_eq!(events.iter().map(|event| event.kind).collect::<Vec<_>>(), [EventKind::ConnectFail]);
    assert!(events[0].line.ends_with(&format!(": {fault}")), "{}", events[0].line);
    assert!(!fault.text.is_empty());
    (fault.clone(), error.to_string())
}

const SECURITIES: [Security; 4] =
    [Security::Implicit, Security::StartTls, Security::ImplicitUnverified, Security::StartTlsUnverified];

/// A server's certificate, a client's settings, and what comes of them where the certificate is
/// verified and where it is not.
struct Case {
    what: &'static str,
    issued: Issued,
    tls: Tls,
    verified: Result<(), TlsProblem>,
    unverified: Result<(), TlsProblem>,
}

fn matrix() -> Vec<Case> {
    use TlsProblem::{Expired, NotYetValid, Pin, UnknownIssuer, WrongName};
    let (authority, stranger) = (Authority::new(), Authority::new());
    let trust = || trusting(&authority);
    let pinned = |issued: &Issued| trust().pin("00".repeat(32)).pin(fingerprint(issued));
    let mut cases = Vec::new();
    let mut case = |what, issued, tls, verified, unverified| {
        cases.push(Case { what, issued, tls, verified, unverified });
    };
    let right = Ok(());
    case("good", authority.good(), trust(), right, right);
    case("expired", authority.expired(), trust(), Err(Expired), right);
    case("not yet valid", authority.not_yet_valid(), trust(), Err(NotYetValid), right);
    case("wrong name", authority.for_name("other.example"), trust(), Err(WrongName), right);
    case("self-signed", self_signed(), trust(), Err(UnknownIssuer), right);
    case("unknown authority", stranger.good(), trust(), Err(UnknownIssuer), right);
    let (good, other) = (authority.good(), authority.good());
    case("good and pinned", good.clone(), pinned(&good), right, right);
    case("good, and another pinned", good.clone(), pinned(&other), Err(Pin), Err(Pin));
    case("another pinned alone", good, pinned(&other).pin_only(), Err(Pin), Err(Pin));
    // A pin does not make up for an authority, a name or a time.
    let (expired, self_signed) = (authority.expired(), self_signed());
    case("expired and pinned", expired.clone(), pinned(&expired), Err(Expired), right);
    case("self-signed and pinned", self_signed.clone(), pinned(&self_signed), Err(UnknownIssuer), right);
    // Where it stands in for them, it does.
    case("expired, and only pinned", expired.clone(), pinned(&expired).pin_only(), right, right);
    case("self-signed, and only pinned", self_signed.clone(), pinned(&self_signed).pin_only(), right, right);
    let nobody = Tls::new().pin(fingerprint(&self_signed)).pin_only();
    case("only pinned, and nobody trusted", self_signed, nobody, right, right);
    cases
}

/// As `openssl x509 -fingerprint -sha256` prints it.
fn fingerprint(issued: &Issued) -> String {
    issued.fingerprint().map(|octet| format!("{octet:02X}")).join(":")
}

fn words(problem: TlsProblem) -> &'static str {
    match problem {
        TlsProblem::Expired => "its certificate has expired: ",
        TlsProblem::NotYetValid => "its certificate is not valid yet: ",
        TlsProblem::WrongName => "its certificate is for another name: ",
        TlsProblem::UnknownIssuer => "the issuer of its certificate is not trusted: ",
        TlsProblem::Pin => "its certificate is none of those pinned: ",
        _ => "the handshake failed: ",
    }
}

#[test]
fn a_certificate_decides_whether_anything_is_said() {
    for case in matrix() {
        for security in SECURITIES {
            let what = format!("{}, {security:?}", case.what);
            let expected = if security.is_verified() { case.verified } else { case.unverified };
            let sink = server(&case.issued, security);
            let (log, failures) = noting();
            let builder = builder(&log).host(host(&sink).security(security).tls(case.tls.clone()));
            match expected {
                Ok(()) => connects(&what, builder, &log, &sink),
                Err(problem) => {
                    let (fault, error) = tls_fault(builder, &log, &failures);
                    assert_eq!(
                        (fault.problem, &*fault.server_name),
                        (problem, "127.0.0.1"),
                        "{what}: {fault}"
                    );
                    let told = "; last: 127.0.0.1:0 connect_fail TLS attempt 1 after ";
                    assert!(error.contains(told), "{what}: {error}");
                    assert!(error.contains(&format!(": TLS with 127.0.0.1: {}", words(problem))), "{error}");
                    hears_nothing(&what, &sink, security, problem);
                }
            }
        }
    }
}

fn connects(what: &str, builder: MailerBuilder, log: &Log, sink: &Sink) {
    let summary = send_and_quit(builder, (0..2).map(mail));
    check_accounts(&summary, log, &[sink]);
    assert_eq!(summary.mails.delivered, 2, "{what}");
    assert_eq!(log.trouble().len(), 0, "{what}: {:#?}", log.trouble());
    assert!(sink.mails().iter().all(|mail| mail.tls), "{what}");
    let counts = over(sink);
    assert_eq!((counts.tls_handshakes, counts.tls_failures, counts.lost), (1, 0, 0), "{what}");
}

/// Nothing but the EHLO in the clear that STARTTLS needs, and nothing under TLS.
fn hears_nothing(what: &str, sink: &Sink, security: Security, problem: TlsProblem) {
    let counts = over(sink);
    let is_starttls = matches!(security, Security::StartTls | Security::StartTlsUnverified);
    assert_eq!(counts.faults, u64::from(is_starttls), "{what}: {counts:?}");
    assert_eq!((counts.mails, counts.protocol_errors, counts.lost), (0, 0, 1), "{what}: {counts:?}");
    // The pin is looked at when the handshake is over; all else ends it.
    let is_over = u32::from(problem == TlsProblem::Pin);
    assert_eq!((counts.tls_handshakes, counts.tls_failures), (is_over, 1 - is_over), "{what}: {counts:?}");
}

// ---- names --------------------------------------------------------------------------------------

/// A host of this name, wherever that leads.
fn called(name: &str, port: u16, security: Security, tls: Tls) -> Route {
    let host = Host::new(name).port(port).hello("client.example").security(security).tls(tls);
    host.connector(|target| TcpStream::connect(("127.0.0.1", target.port)))
}

#[test]
fn the_certificate_must_bear_the_name_that_was_asked_for() {
    let authority = Authority::new();
    let (good, other) = (authority.good(), authority.for_name("mx.other.example"));
    let wildcard = authority.for_name("*.other.example");
    let named = |name: &str| trusting(&authority).server_name(name);
    let trust = || trusting(&authority);
    let cases: [(&Issued, &str, Tls, Result<(), &str>); 14] = [
        (&good, NAME, trust(), Ok(())),
        (&good, "localhost.", trust(), Ok(())),
        (&good, "LocalHost", trust(), Ok(())),
        (&good, "127.0.0.1", trust(), Ok(())),
        (&good, "mx.other.example", trust(), Err("mx.other.example")),
        (&good, "127.0.0.2", trust(), Err("127.0.0.2")),
        (&good, "mx.other.example", named(NAME), Ok(())),
        (&good, "mx.other.example", named("127.0.0.1"), Ok(())),
        (&good, NAME, named("mx.other.example"), Err("mx.other.example")),
        (&other, "127.0.0.1", named("mx.other.example"), Ok(())),
        (&other, "127.0.0.1", named("mx.other.example."), Ok(())),
        (&other, "127.0.0.1", trust(), Err("127.0.0.1")),
        (&wildcard, "any.other.example", trust(), Ok(())),
        (&wildcard, "a.deep.other.example", trust(), Err("a.deep.other.example")),
    ];
    for (issued, name, tls, expected) in cases {
        for security in [Security::Implicit, Security::StartTls] {
            let sink = server(issued, security);
            let (log, failures) = noting();
            let builder = builder(&log).host(called(name, sink.port(), security, tls.clone()));
            match expected {
                Ok(()) => connects(name, builder, &log, &sink),
                Err(asked) => {
                    let (fault, error) = tls_fault(builder, &log, &failures);
                    assert_eq!(
                        (fault.problem, &*fault.server_name),
                        (TlsProblem::WrongName, asked),
                        "{name}"
                    );
                    assert!(error.contains(&format!("; last: {name}:0 connect_fail TLS")), "{error}");
                    hears_nothing(name, &sink, security, fault.problem);
                }
            }
        }
    }
}

// ---- versions -----------------------------------------------------------------------------------

#[test]
fn a_server_of_an_older_version_is_not_spoken_to() {
    let authority = Authority::new();
    for security in [Security::StartTls, Security::StartTlsUnverified] {
        let old = sink(|builder| {
            let builder = counting(builder).starttls(authority.good().identity());
            builder.tls_versions(SinkVersion::Tls12, SinkVersion::Tls12)
        });
        let host = || host(&old).security(security);
        let (log, failures) = noting();
        let demanding = builder(&log).host(host().tls(trusting(&authority).min_version(TlsVersion::Tls13)));
        let (fault, _) = tls_fault(demanding, &log, &failures);
        assert_eq!(fault.problem, TlsProblem::Other, "{fault}");
        assert!(fault.text.contains("protocol version"), "{fault}");
        hears_nothing("1.2", &old, security, fault.problem);

        let log = Log::default();
        let content = builder(&log).host(host().tls(trusting(&authority).min_version(TlsVersion::Tls12)));
        assert_eq!(send_and_quit(content, [mail(0)]).mails.delivered, 1);
        let log = Log::default();
        assert_eq!(
            send_and_quit(builder(&log).host(host().tls(trusting(&authority))), [mail(1)]).mails.delivered,
            1,
            "1.2 is the least by default"
        );
    }
}
