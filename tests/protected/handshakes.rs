//! Handshakes with a server that sees more of them than the sink does: names that are asked for, the
//! versions that the sink can't speak, and how a session ends.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openssl::ssl::{NameType, SslConnector, SslMethod, SslVerifyMode, SslVersion};
use smol::net::TcpStream;
use smtp_bulk::{EventKind, Host, Security, Timeouts, Tls, TlsProblem, TlsVersion};

use crate::certs::{Authority, NAME};
use crate::peers::{Heard, Server, acceptor};
use crate::support::{Log, builder, mail, send_and_quit, skipped};
use crate::tls::{noting, tls_fault, trusting};

#[test]
fn the_name_is_asked_for_and_an_address_is_not() {
    let authority = Authority::new();
    let trust = || trusting(&authority);
    // RFC 6066 §3: no dot behind it, and no address.
    for (name, tls, asked) in [
        (NAME, trust(), Some(NAME)),
        ("localhost.", trust(), Some(NAME)),
        ("127.0.0.1", trust(), None),
        ("127.0.0.1", trust().server_name(NAME), Some(NAME)),
        (NAME, trust().server_name("127.0.0.1"), None),
    ] {
        let heard = Arc::new(Mutex::new(None));
        let mut accepting = acceptor(&authority.good());
        let name_of = Arc::clone(&heard);
        accepting.set_servername_callback(move |ssl, _| {
            *name_of.lock().unwrap() = ssl.servername(NameType::HOST_NAME).map(str::to_owned);
            Ok(())
        });
        let server = Server::implicit(accepting.build());
        let host = Host::new(name).port(server.address.port()).hello("client.example");
        let host = host.security(Security::Implicit).tls(tls).threads(1);
        let route = host.connector(|target| TcpStream::connect(("127.0.0.1", target.port)));
        assert_eq!(send_and_quit(builder(&Log::default()).host(route), [mail(0)]).mails.delivered, 1);
        assert_eq!(heard.lock().unwrap().as_deref(), asked, "{name}");
    }
}

#[test]
fn tls_1_3_is_spoken_where_the_server_speaks_nothing_else() {
    let authority = Authority::new();
    for least in [None, Some(TlsVersion::Tls13)] {
        let mut accepting = acceptor(&authority.good());
        accepting.set_min_proto_version(Some(SslVersion::TLS1_3)).unwrap();
        let accepting = accepting.build();
        let server = Server::start(move |peer| {
            let mut peer = peer.secure(&accepting).unwrap();
            assert_eq!(peer.ssl().version_str(), "TLSv1.3");
            peer.say("220 peer.example\r\n");
            peer.behave();
        });
        let tls = least.into_iter().fold(trusting(&authority), Tls::min_version);
        let host = server.host().security(Security::Implicit).tls(tls);
        assert_eq!(send_and_quit(builder(&Log::default()).host(host), (0..3).map(mail)).mails.delivered, 3);
    }
}

/// TLS 1.1 and nothing else, whatever the system holds of it.
fn only_1_1(authority: &Authority) -> openssl::ssl::SslAcceptor {
    let mut accepting = acceptor(&authority.good());
    accepting.clear_options(openssl::ssl::SslOptions::NO_TLSV1_1);
    accepting.set_cipher_list("ALL:@SECLEVEL=0").unwrap();
    accepting.set_min_proto_version(Some(SslVersion::TLS1_1)).unwrap();
    accepting.set_max_proto_version(Some(SslVersion::TLS1_1)).unwrap();
    accepting.build()
}

/// Whether a client that takes anything gets through to such a server.
fn can_1_1_be_had(server: &Server) -> bool {
    let mut connector = SslConnector::builder(SslMethod::tls()).unwrap();
    connector.set_verify(SslVerifyMode::NONE);
    connector.set_cipher_list("ALL:@SECLEVEL=0").unwrap();
    connector.set_min_proto_version(Some(SslVersion::TLS1_1)).unwrap();
    let stream = std::net::TcpStream::connect(server.address).unwrap();
    connector.build().connect(NAME, stream).is_ok()
}

#[test]
fn tls_1_1_is_not_spoken_by_default() {
    let authority = Authority::new();
    let server = Server::implicit(only_1_1(&authority));
    if !can_1_1_be_had(&server) {
        return skipped("this system's OpenSSL has no TLS 1.1 to offer");
    }
    for security in [Security::Implicit, Security::ImplicitUnverified] {
        let server = Server::implicit(only_1_1(&authority));
        let (log, failures) = noting();
        let host = server.host().security(security).tls(trusting(&authority));
        let (fault, _) = tls_fault(builder(&log).host(host), &log, &failures);
        assert_eq!(fault.problem, TlsProblem::Other);
        assert!(fault.text.contains("protocol version"), "{fault}");
        assert_eq!(server.heard(), []);
    }
}

#[test]
fn nothing_is_said_in_tls_1_3_to_a_server_that_is_another() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let expired = authority.expired();
    for (issued, tls, problem) in [
        (expired, trusting(&authority), TlsProblem::Expired),
        (stranger.good(), trusting(&authority), TlsProblem::UnknownIssuer),
        (authority.good(), trusting(&authority).pin("ab".repeat(32)), TlsProblem::Pin),
    ] {
        for security in [Security::Implicit, Security::StartTls] {
            let accepting = acceptor(&issued).build();
            let server = Server::start(move |mut peer| {
                if security == Security::StartTls {
                    assert!(peer.until_starttls("250-peer.example\r\n250 STARTTLS\r\n"));
                    peer.say("220 go\r\n");
                }
                if let Ok(mut peer) = peer.secure(&accepting) {
                    peer.say(if security == Security::StartTls { "" } else { "220 peer.example\r\n" });
                    peer.behave();
                }
            });
            let (log, failures) = noting();
            let host = server.host().security(security).tls(tls.clone());
            let (fault, _) = tls_fault(builder(&log).host(host), &log, &failures);
            assert_eq!(fault.problem, problem);
            let heard = server.heard();
            assert!(!heard.iter().any(|heard| matches!(heard, Heard::Secret(_))), "{heard:?}");
        }
    }
}

#[test]
fn a_session_ends_with_a_close_notify() {
    let authority = Authority::new();
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let mut accepting = acceptor(&authority.good());
        accepting.set_max_proto_version(Some(version)).unwrap();
        let accepting = accepting.build();
        let ends = Arc::new(Mutex::new(Vec::new()));
        let ended = Arc::clone(&ends);
        let server = Server::start(move |peer| {
            let mut peer = peer.secure(&accepting).unwrap();
            peer.say("220 peer.example\r\n");
            peer.behave();
            // Without a close_notify this is an error: an end that anyone could have made.
            ended.lock().unwrap().push(peer.end().map_err(|error| error.to_string()));
        });
        let host = server.host().security(Security::Implicit).tls(trusting(&authority)).threads(2);
        let summary = send_and_quit(builder(&Log::default()).host(host), (0..4).map(mail));
        assert_eq!(summary.mails.delivered, 4);
        server.heard();
        assert_eq!(*ends.lock().unwrap(), [Ok(0), Ok(0)]);
    }
}

#[test]
fn a_server_that_ends_without_a_close_notify_is_no_trouble() {
    let authority = Authority::new();
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let mut accepting = acceptor(&authority.good());
        accepting.set_max_proto_version(Some(version)).unwrap();
        // It closes behind its 221 without another word.
        let server = Server::implicit(accepting.build());
        let log = Log::default();
        let host = server.host().security(Security::Implicit).tls(trusting(&authority)).threads(3);
        let summary = send_and_quit(builder(&log).host(host), (0..9).map(mail));
        assert_eq!((summary.mails.delivered, log.trouble().len()), (9, 0), "{:?}", log.trouble());

        // In the middle of a session it is the server's closing, as in the clear.
        let mut accepting = acceptor(&authority.good());
        accepting.set_max_proto_version(Some(version)).unwrap();
        let accepting = accepting.build();
        let rude = Server::start(move |peer| {
            let mut peer = peer.secure(&accepting).unwrap();
            peer.say("220 peer.example\r\n");
            peer.line();
        });
        let (log, failures) = noting();
        let host = rude.host().security(Security::Implicit).tls(trusting(&authority));
        let builder = builder(&log).host(host).max_connect_failures(1);
        crate::support::run(builder.connect()).expect_err("it closes");
        let line = failures.lock().unwrap()[0].1.to_string();
        assert_eq!(line, "closed by the server");
    }
}

#[test]
fn servers_that_do_not_shake_hands_hold_up_no_others() {
    let authority = Authority::new();
    let silent = Server::start(|peer| {
        let _ = io::copy(&mut peer.into_stream(), &mut io::sink());
    });
    let good = Server::implicit(acceptor(&authority.good()).build());
    let log = Log::default();
    let timeouts = Timeouts { tls: Duration::from_secs(6), ..Timeouts::default() };
    let builder = builder(&log)
        .host(silent.host().threads(150).max_connect_failures(1))
        .host(good.host().threads(50))
        .security(Security::Implicit)
        .tls(trusting(&authority))
        .timeouts(timeouts);
    assert_eq!(send_and_quit(builder, (0..50).map(mail)).mails.delivered, 50);
    let is_opening = |kind: &EventKind| matches!(kind, EventKind::ConnectPass | EventKind::ConnectFail);
    let openings: Vec<EventKind> = log.events().iter().map(|seen| seen.kind).filter(is_opening).collect();
    assert_eq!(openings.len(), 200);
    assert!(openings.iter().take(50).all(|kind| *kind == EventKind::ConnectPass), "{openings:?}");
}
