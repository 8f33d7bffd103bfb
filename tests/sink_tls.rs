//! The embedded server under TLS, driven by a client that does what it is told.

#[path = "support/certs.rs"]
mod certs;
#[path = "support/raw.rs"]
mod raw;

use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use certs::{Authority, Issued, self_signed};
use native_tls::{Protocol, TlsConnector};
use raw::{Client, trusting, wait};
use smtp_bulk::sink::{Builder, Fault, Identity, Misdeed, Sink, Step, TlsVersion};

/// An authority, and a client that trusts it alone.
fn trust() -> (Authority, TlsConnector) {
    let authority = Authority::new();
    let connector = trusting(&authority.pem()).build().unwrap();
    (authority, connector)
}

/// A server with STARTTLS, and a client that trusts it.
fn starttls(set: impl FnOnce(Builder) -> Builder) -> (Sink, TlsConnector) {
    let (authority, connector) = trust();
    let sink = set(Sink::builder().starttls(authority.good().identity())).start().unwrap();
    (sink, connector)
}

fn faulty(at: Step, what: Misdeed) -> (Sink, TlsConnector) {
    starttls(|builder| builder.fault(Fault::new(at, what).times(1)))
}

#[test]
fn starttls_leads_to_a_mail_under_tls() {
    let (sink, connector) = starttls(|builder| builder);
    let mut client = Client::connect(&sink);
    assert!(client.hello().ends_with("250 STARTTLS\r\n"));
    client.mail();
    client.expect("STARTTLS", "220 2.0.0");
    let mut client = client.secure(&connector).unwrap();
    client.expect("MAIL FROM:<a@client.example>", "503");
    let announced = client.ask("EHLO secure.example");
    assert!(!announced.contains("STARTTLS"), "{announced}");
    client.mail();
    client.expect("STARTTLS", "503");
    client.expect("QUIT", "221");
    assert_eq!(client.rest(), b"", "closed in order, with a close_notify");
    drop(client);

    let counts = wait(&sink, |counts| counts.open == 0);
    let mails = sink.mails();
    assert_eq!(mails.iter().map(|mail| mail.tls).collect::<Vec<_>>(), [false, true]);
    assert_eq!(mails[1].helo, "secure.example");
    assert_eq!((counts.tls_handshakes, counts.tls_failures), (1, 0));
    assert_eq!((counts.lost, counts.protocol_errors), (0, 2));
}

#[test]
fn implicit_tls_comes_before_the_greeting() {
    let (authority, connector) = trust();
    let sink = Sink::builder().implicit_tls(authority.good().identity()).start().unwrap();
    let mut client = Client::connect(&sink).secure(&connector).unwrap();
    let announced = client.hello();
    assert!(!announced.contains("STARTTLS"), "{announced}");
    client.expect("STARTTLS", "502");
    client.mail();
    assert!(sink.mails()[0].tls);
    drop(client);
    let counts = wait(&sink, |counts| counts.open == 0);
    assert_eq!((counts.tls_handshakes, counts.lost), (1, 1));
}

#[test]
fn large_contents_and_pipelined_commands_pass_through_tls() {
    let (sink, connector) = starttls(|builder| builder);
    let mut client = Client::starttls(&sink, &connector);
    let mut wire = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n".to_vec();
    let content = b"0123456789 and so on\r\n".repeat(100_000);
    wire.extend_from_slice(&content);
    wire.extend_from_slice(b".\r\nNOOP\r\n");
    client.send(&wire);
    for code in ["250 2.1.0", "250 2.1.5", "354", "250 2.6.0", "250 2.0.0"] {
        assert!(client.reply().starts_with(code));
    }
    assert!(sink.mails()[0].content == content);
}

#[test]
fn starttls_has_its_time_and_its_form() {
    let (sink, _) = starttls(|builder| builder);
    let mut client = Client::connect(&sink);
    client.reply();
    client.expect("STARTTLS", "503");
    client.expect("HELO client.example", "250");
    client.expect("STARTTLS", "503");
    client.expect("EHLO client.example", "250");
    client.expect("STARTTLS now", "501");
    client.expect("MAIL FROM:<a@b.example>", "250");
    client.expect("STARTTLS", "503");
    client.expect("RSET", "250");
    client.expect("STARTTLS", "220");
    assert_eq!(sink.counts().protocol_errors, 4);

    let sink = Sink::start().unwrap();
    let mut client = Client::connect(&sink);
    assert!(!client.hello().contains("STARTTLS"));
    client.expect("STARTTLS", "502");
}

#[test]
fn what_is_sent_behind_starttls_is_never_obeyed() {
    let (sink, _) = starttls(|builder| builder);
    let mut client = Client::ready(&sink);
    client.send("STARTTLS\r\nRSET\r\nMAIL FROM:<evil@client.example>\r\n");
    let rest = String::from_utf8(client.rest()).unwrap();
    assert!(rest.starts_with("554 5.5.1") && rest.lines().count() == 1, "{rest}");
    let counts = wait(&sink, |counts| counts.open == 0);
    assert_eq!((counts.resets, counts.tls_handshakes, counts.tls_failures), (0, 0, 0));
}

#[test]
fn what_comes_in_the_place_of_a_handshake_ends_the_connection() {
    let (sink, connector) = starttls(|builder| builder);
    let mut client = Client::ready(&sink);
    client.expect("STARTTLS", "220");
    client.send("RSET\r\nRSET\r\n");
    client.rest();
    let counts = wait(&sink, |counts| counts.open == 0);
    assert_eq!((counts.resets, counts.tls_failures, counts.lost), (0, 1, 1));
    // Nobody else notices.
    Client::starttls(&sink, &connector).mail();
}

#[test]
fn tls_may_be_required() {
    let (sink, connector) = starttls(Builder::require_tls);
    let mut client = Client::ready(&sink);
    client.expect("MAIL FROM:<a@b.example>", "530 5.7.0");
    client.expect("NOOP", "250");
    client.expect("STARTTLS", "220");
    let mut client = client.secure(&connector).unwrap();
    client.expect("EHLO client.example", "250");
    client.mail();
}

#[test]
fn a_stalled_handshake_blocks_nobody_and_is_given_up() {
    let (authority, connector) = trust();
    let sink = Sink::builder()
        .implicit_tls(authority.good().identity())
        .idle_timeout(Duration::from_millis(1500))
        .start()
        .unwrap();
    let mut stalled = Client::connect(&sink);
    let mut half = Client::connect(&sink);
    half.send(b"\x16\x03\x01\x02");
    let mut client = Client::connect(&sink).secure(&connector).unwrap();
    client.hello();
    client.expect("QUIT", "221");
    assert_eq!(stalled.rest(), b"");
    assert_eq!(half.rest(), b"");
    let counts = wait(&sink, |counts| counts.open == 0);
    assert_eq!((counts.tls_handshakes, counts.tls_failures), (1, 2));
}

#[test]
fn an_idle_client_under_tls_is_told_so() {
    let (sink, connector) = starttls(|builder| builder.idle_timeout(Duration::from_millis(1500)));
    let mut client = Client::starttls(&sink, &connector);
    assert!(client.reply().starts_with("421 4.4.2"));
    assert_eq!(client.rest(), b"");
}

#[test]
fn a_client_sees_what_is_wrong_with_a_certificate() {
    let (authority, connector) = trust();
    let stranger = Authority::new();
    let bad: [(&str, Issued); 5] = [
        ("expired", authority.expired()),
        ("not yet valid", authority.not_yet_valid()),
        ("wrong name", authority.for_name("other.example")),
        ("self-signed", self_signed()),
        ("unknown authority", stranger.good()),
    ];
    for (what, issued) in bad {
        let sink = Sink::builder().implicit_tls(issued.identity()).start().unwrap();
        let refused = Client::connect(&sink).secure(&connector);
        assert!(refused.is_err(), "{what}");
        let counts = wait(&sink, |counts| counts.open == 0);
        assert_eq!((counts.tls_handshakes, counts.tls_failures), (0, 1), "{what}");
    }
}

#[test]
fn the_certificate_is_the_one_that_was_issued() {
    let authority = Authority::new();
    let issued = authority.good();
    let sink = Sink::builder().implicit_tls(issued.identity()).start().unwrap();
    let connector = trusting(&authority.pem()).build().unwrap();
    let stream = connector.connect("127.0.0.1", TcpStream::connect(sink.address()).unwrap()).unwrap();
    let shown = stream.peer_certificate().unwrap().unwrap().to_der().unwrap();
    assert_eq!(shown, issued.der);
    assert_ne!(issued.fingerprint(), authority.good().fingerprint());
    let client = authority.for_client("client");
    assert!(native_tls::Identity::from_pkcs8(client.pem.as_bytes(), client.key_pem.as_bytes()).is_ok());
}

#[test]
fn versions_can_be_limited() {
    let (authority, _) = trust();
    let mut builder = trusting(&authority.pem());
    let newest = builder.min_protocol_version(Some(Protocol::Tlsv13)).build().unwrap();
    let mut builder = trusting(&authority.pem());
    let older = builder.max_protocol_version(Some(Protocol::Tlsv12)).build().unwrap();
    let identity = authority.good().identity();
    let start =
        |min, max| Sink::builder().implicit_tls(identity.clone()).tls_versions(min, max).start().unwrap();
    let sink = start(TlsVersion::Tls12, TlsVersion::Tls12);
    assert!(Client::connect(&sink).secure(&newest).is_err());
    Client::connect(&sink).secure(&older).unwrap().hello();
    assert_eq!(wait(&sink, |counts| counts.tls_failures == 1).tls_handshakes, 1);

    let sink = start(TlsVersion::Tls10, TlsVersion::Tls11);
    assert!(Client::connect(&sink).secure(&older).is_err());
    wait(&sink, |counts| counts.tls_failures == 1);

    let backwards = Sink::builder().tls_versions(TlsVersion::Tls13, TlsVersion::Tls12);
    assert!(backwards.start().is_err());
}

#[test]
fn injected_plaintext_comes_in_the_write_of_the_220() {
    let (sink, connector) = faulty(Step::StartTls, Misdeed::surplus(250, "2.1.0 injected"));
    let mut client = Client::ready(&sink);
    client.send("STARTTLS\r\n");
    assert_eq!(client.piece(), "220 2.0.0 Ready to start TLS\r\n250 2.1.0 injected\r\n");
    // The server itself goes on, as one who was injected into would.
    client.secure(&connector).unwrap().expect("EHLO client.example", "250");
}

#[test]
fn injected_plaintext_may_come_in_a_write_of_its_own() {
    let (sink, _) = faulty(Step::Tls, Misdeed::surplus(250, "2.1.0 injected"));
    let mut client = Client::ready(&sink);
    client.expect("STARTTLS", "220");
    assert_eq!(client.reply(), "250 2.1.0 injected\r\n");
}

#[test]
fn a_refused_starttls_leaves_everything_as_it_was() {
    let (sink, connector) = faulty(Step::StartTls, Misdeed::refuse(454, "4.7.0 not now"));
    let mut client = Client::ready(&sink);
    client.expect("STARTTLS", "454 4.7.0");
    client.mail();
    client.expect("STARTTLS", "220");
    client.secure(&connector).unwrap().expect("EHLO client.example", "250");
    assert_eq!(sink.counts().refused, 1);
}

#[test]
fn misdeeds_take_the_place_of_the_handshake() {
    let cases = [
        (Misdeed::Close, ""),
        (Misdeed::CloseAfter, ""),
        (Misdeed::HalfReplyClose, "451 4.3"),
        (Misdeed::Close421, "421 4.3.2 Service not available, closing\r\n"),
        (Misdeed::refuse(454, "4.7.0 no"), "454 4.7.0 no\r\n"),
    ];
    for (misdeed, said) in cases {
        let (sink, _) = faulty(Step::Tls, misdeed.clone());
        let mut client = Client::ready(&sink);
        client.expect("STARTTLS", "220");
        assert_eq!(String::from_utf8_lossy(&client.rest()), said, "{misdeed:?}");
        drop(client);
        let counts = wait(&sink, |counts| counts.open == 0);
        assert_eq!((counts.faults, counts.tls_failures), (1, 0), "{misdeed:?}");
    }
    let (sink, _) = faulty(Step::Tls, Misdeed::garbage());
    let mut client = Client::ready(&sink);
    client.expect("STARTTLS", "220");
    assert_eq!(client.reply(), "\x16\x03\x01 this is no reply\r\n");
    drop(client);
    wait(&sink, |counts| counts.open == 0);
}

#[test]
fn a_handshake_may_hang_or_be_late() {
    let (sink, _) = faulty(Step::Tls, Misdeed::Hang);
    let mut client = Client::ready(&sink);
    client.expect("STARTTLS", "220");
    client.tcp().set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    client.send(b"\x16\x03\x01");
    assert!((&mut client.tcp()).read(&mut [0]).is_err(), "nothing comes, not even an end");

    let (sink, connector) = faulty(Step::Tls, Misdeed::Delay(Duration::from_millis(100)));
    let begun = std::time::Instant::now();
    Client::starttls(&sink, &connector).mail();
    assert!(begun.elapsed() >= Duration::from_millis(100));
}

#[test]
fn faults_of_implicit_tls_come_before_the_greeting() {
    let (authority, _) = trust();
    let fault = Fault::new(Step::Tls, Misdeed::Close421);
    let sink = Sink::builder().implicit_tls(authority.good().identity()).fault(fault).start().unwrap();
    assert!(Client::connect(&sink).rest().starts_with(b"421 "));
}

#[test]
fn a_client_that_leaves_without_a_word_is_no_matter() {
    let (sink, connector) = starttls(|builder| builder);
    let mut client = Client::ready(&sink);
    client.expect("STARTTLS", "220");
    let tcp = client.tcp().try_clone().unwrap();
    let mut client = client.secure(&connector).unwrap();
    client.expect("EHLO client.example", "250");
    client.mail();
    tcp.shutdown(std::net::Shutdown::Both).unwrap();
    assert_eq!(wait(&sink, |counts| counts.open == 0).mails, 1);
    Client::starttls(&sink, &connector).mail();
}

#[test]
fn connections_beyond_the_limit_are_closed_without_plaintext() {
    let (authority, connector) = trust();
    let identity = authority.good().identity();
    let sink = Sink::builder().implicit_tls(identity).max_connections(1).start().unwrap();
    let _first = Client::connect(&sink).secure(&connector).unwrap();
    assert_eq!(Client::connect(&sink).rest(), b"");
}

#[test]
fn many_connections_shake_hands_at_once() {
    let (sink, connector) = starttls(|builder| builder);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| Client::starttls(&sink, &connector).mail());
        }
    });
    let counts = sink.counts();
    assert_eq!((counts.mails, counts.tls_handshakes, counts.tls_failures), (16, 16, 0));
}

#[test]
fn an_identity_shows_nothing_and_must_be_one() {
    let issued = Authority::new().good();
    let builder = Sink::builder().starttls(issued.identity());
    assert!(format!("{builder:?}").contains("Identity { .. }"));
    assert!(Identity::from_pkcs8(issued.pem.as_bytes(), b"no key").is_err());
    assert!(Identity::from_pkcs12(b"no archive", "").is_err());
}
