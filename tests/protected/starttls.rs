//! STARTTLS with servers that get it wrong, and with somebody in between: without TLS nothing is said
//! that is worth hearing, and what came in the clear never counts under it.

use std::io::{BufRead, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use smtp_bulk::parameters::MailParameters;
use smtp_bulk::sink::{Fault, Misdeed, Sink, Step as At};
use smtp_bulk::{Credentials, EventKind, Failure, Host, Security, Step, Timeouts, TlsProblem};

use crate::certs::{Authority, self_signed};
use crate::peers::{Heard, Peer, Server, acceptor};
use crate::support::{PATIENCE, SHORT, builder, host, mail, run, send_and_quit, sink};
use crate::tls::{Failures, counting, noting, over, tls_fault, trusting};

const DEMANDING: [Security; 2] = [Security::StartTls, Security::StartTlsUnverified];
const OPPORTUNISTIC: [Security; 2] =
    [Security::OpportunisticStartTls, Security::OpportunisticStartTlsUnverified];

const OFFER: &str = "250-peer.example\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN\r\n";
const NO_OFFER: &str = "250-peer.example\r\n250 AUTH PLAIN LOGIN\r\n";

/// With a password that may be said in the clear: STARTTLS alone keeps it from being seen.
fn with_password(host: Host, security: Security, authority: &Authority) -> Host {
    let credentials = Credentials::password("tim", "hunter2").allow_without_tls();
    host.security(security).tls(trusting(authority)).hello("client.example").credentials(credentials)
}

/// Connects to the server, which must fail; gives the only failure, and all that was said.
fn fails(server: Server, security: Security) -> (Step, Failure, Vec<String>) {
    fails_within(PATIENCE, server, security)
}

fn fails_within(tls: Duration, server: Server, security: Security) -> (Step, Failure, Vec<String>) {
    let (log, failures) = noting();
    let host = with_password(server.host(), security, &Authority::new());
    let timeouts = Timeouts { tls, ..Timeouts::uniform(PATIENCE) };
    let builder = builder(&log).host(host.timeouts(timeouts)).max_connect_failures(1);
    run(builder.connect()).expect_err("there is no TLS");
    assert!(log.events().iter().all(|event| event.kind == EventKind::ConnectFail), "{:?}", log.events());
    let (step, failure) = only(&failures);
    (step, failure, server.heard_in_the_clear())
}

fn only(failures: &Failures) -> (Step, Failure) {
    let failures = failures.lock().unwrap();
    let [failure] = failures.as_slice() else { panic!("{failures:?}") };
    failure.clone()
}

/// A server that offers STARTTLS, answers it so, and listens to whatever comes then.
fn answering(reply: impl Into<String>) -> Server {
    let reply = reply.into();
    Server::start(move |mut peer| {
        if peer.until_starttls(OFFER) {
            peer.say(&reply);
            peer.hear_the_rest();
        }
    })
}

#[test]
fn without_the_offer_nothing_is_said() {
    for security in DEMANDING {
        let stripped = Server::start(|mut peer| assert!(!peer.until_starttls(NO_OFFER)));
        let (step, failure, said) = fails(stripped, security);
        assert_eq!((step, failure), (Step::StartTls, Failure::TlsNotOffered));
        assert_eq!(said, ["EHLO client.example"]);

        let ancient = Server::start(|mut peer| assert!(!peer.until_starttls("502 what\r\n")));
        let (step, failure, said) = fails(ancient, security);
        assert_eq!((step, failure), (Step::StartTls, Failure::TlsNotOffered));
        assert_eq!(said, ["EHLO client.example", "HELO client.example"]);
    }
}

#[test]
fn a_refused_starttls_is_not_gone_on_without() {
    for security in DEMANDING {
        for refusal in ["454 4.7.0 not now\r\n", "502 5.5.1 no\r\n", "421 4.3.2 bye\r\n", "554 no\r\n"] {
            let (step, failure, said) = fails(answering(refusal), security);
            assert_eq!(step, Step::StartTls);
            assert!(matches!(failure, Failure::Refused(_)), "{failure:?}");
            assert!(failure.to_string().ends_with(refusal.trim_end()), "{failure}");
            assert_eq!(said, ["EHLO client.example", "STARTTLS"]);
        }
    }
}

#[test]
fn what_comes_behind_the_220_in_its_segment_ends_it() {
    for security in DEMANDING.into_iter().chain(OPPORTUNISTIC) {
        for injected in ["250 for under TLS", "221 bye", "\x16\x03\x03 no reply"] {
            let (step, failure, said) = fails(answering(format!("220 go\r\n{injected}\r\n")), security);
            assert!(matches!(step, Step::StartTls | Step::Tls), "{step}");
            assert!(matches!(failure, Failure::Unsolicited(_)), "{failure:?}");
            assert_eq!(said, ["EHLO client.example", "STARTTLS"], "not even a handshake is begun");
        }
        // The handshake that would be made is a good one.
        let authority = Authority::new();
        let sink = sink(|builder| {
            let surplus = Misdeed::surplus(250, "for under TLS");
            counting(builder).starttls(authority.good().identity()).fault(Fault::new(At::StartTls, surplus))
        });
        assert_eq!(refused(&sink, security, &authority), Step::Tls);
        let counts = over(&sink);
        // The EHLO in the clear, and the surplus.
        assert_eq!((counts.faults, counts.tls_handshakes, counts.mails), (2, 0, 0), "{counts:?}");
    }
}

/// Fails to connect, and says at which step.
fn refused(sink: &Sink, security: Security, authority: &Authority) -> Step {
    let (log, failures) = noting();
    let host = with_password(host(sink), security, authority);
    run(builder(&log).host(host).max_connect_failures(1).connect()).expect_err("there is no TLS");
    only(&failures).0
}

#[test]
fn what_comes_behind_the_220_in_a_later_segment_ends_it() {
    for security in DEMANDING.into_iter().chain(OPPORTUNISTIC) {
        // Before or after the handshake has begun, as it happens.
        let authority = Authority::new();
        let sink = sink(|builder| {
            let surplus = Misdeed::surplus(250, "for under TLS");
            counting(builder).starttls(authority.good().identity()).fault(Fault::new(At::Tls, surplus))
        });
        assert_eq!(refused(&sink, security, &authority), Step::Tls);
        let counts = over(&sink);
        assert_eq!((counts.faults, counts.tls_handshakes, counts.mails), (2, 0, 0), "{counts:?}");

        // In any case after it has begun.
        let late = Server::start(|mut peer| {
            if peer.until_starttls(OFFER) {
                peer.say("220 go\r\n");
                let mut stream = peer.into_stream();
                assert!(stream.fill_buf().is_ok_and(|hello| hello.starts_with(b"\x16\x03")));
                stream.get_mut().write_all(b"250 for under TLS\r\n").unwrap();
                // An alert, and no more.
                let mut rest = Vec::new();
                let _ = stream.read_to_end(&mut rest);
                for command in ["EHLO", "AUTH", "MAIL"] {
                    assert!(!rest.windows(4).any(|octets| octets == command.as_bytes()), "{command}");
                }
            }
        });
        let (step, failure, said) = fails(late, security);
        assert_eq!(step, Step::Tls);
        assert!(matches!(failure, Failure::Tls(_)), "{failure:?}");
        assert_eq!(said, ["EHLO client.example", "STARTTLS"]);
    }
}

#[test]
fn a_broken_handshake_is_not_gone_on_without() {
    for security in DEMANDING.into_iter().chain(OPPORTUNISTIC) {
        let broken = |then: fn(&mut Peer<TcpStream>)| {
            Server::start(move |mut peer| {
                if peer.until_starttls(OFFER) {
                    peer.say("220 go\r\n");
                    // The whole of what is said first, which is no line.
                    peer.hear_some();
                    then(&mut peer);
                }
            })
        };
        let closing = broken(|_| {});
        let babbling = broken(|peer| {
            peer.say("454 4.7.0 TLS not available due to temporary reason\r\n");
            peer.hear_the_rest();
        });
        let refusing = broken(|peer| {
            // An alert: handshake_failure.
            peer.say("\x15\x03\x03\0\x02\x02\x28");
            peer.hear_the_rest();
        });
        let hanging = broken(Peer::hear_the_rest);
        for (server, tls, words) in [
            (closing, PATIENCE, ""),
            (babbling, PATIENCE, "wrong version number"),
            (refusing, PATIENCE, "handshake failure"),
            (hanging, SHORT, "no reply within 500ms"),
        ] {
            let begun = Instant::now();
            let (step, failure, said) = fails_within(tls, server, security);
            assert_eq!(step, Step::Tls, "{failure}");
            assert!(failure.to_string().contains(words), "{failure}");
            assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
            let heard = said.concat();
            for secret in ["MAIL", "AUTH", "hunter2"] {
                assert!(!heard.contains(secret), "{said:?}");
            }
            assert_eq!(said.iter().filter(|line| line.starts_with("EHLO")).count(), 1, "{said:?}");
        }
    }
}

#[test]
fn the_ehlo_under_tls_counts_and_the_one_before_does_not() {
    let authority = Authority::new();
    let accepting = acceptor(&authority.good()).build();
    let server = Server::start(move |mut peer| {
        // Too small for any mail, no AUTH, and the mechanisms of somebody in between.
        if peer.until_starttls("250-peer.example\r\n250-SIZE 10\r\n250-AUTH LOGIN\r\n250 STARTTLS\r\n") {
            peer.say("220 go\r\n");
            let mut peer = peer.secure(&accepting).unwrap();
            assert_eq!(peer.line().as_deref(), Some("EHLO client.example"));
            peer.say("250-peer.example\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n");
            peer.behave();
        }
    });
    let (log, _) = noting();
    let host = with_password(server.host(), Security::StartTls, &authority);
    let summary = send_and_quit(builder(&log).host(host), [mail(0)]);
    assert_eq!((summary.mails.delivered, log.trouble().len()), (1, 0), "{:?}", log.trouble());
    let heard = server.heard();
    let said = |line: &str| heard.iter().filter(|heard| **heard == Heard::Secret(line.to_owned())).count();
    assert_eq!(heard[..2], ["EHLO client.example", "STARTTLS"].map(|line| Heard::Clear(line.to_owned())));
    assert!(heard[2..].iter().all(|heard| matches!(heard, Heard::Secret(_))), "{heard:?}");
    assert_eq!((said("EHLO client.example"), said("STARTTLS")), (1, 0), "{heard:?}");
    assert_eq!(said("AUTH PLAIN AHRpbQBodW50ZXIy"), 1);
}

/// RFC 8689 §2 has servers offer it under TLS alone: this one, or somebody in between, does the reverse.
#[test]
fn requiretls_offered_before_starttls_and_not_behind_it_is_not_used() {
    let authority = Authority::new();
    let accepting = acceptor(&authority.good()).build();
    let server = Server::start(move |mut peer| {
        if peer.until_starttls("250-peer.example\r\n250-REQUIRETLS\r\n250 STARTTLS\r\n") {
            peer.say("220 go\r\n");
            let mut peer = peer.secure(&accepting).unwrap();
            assert_eq!(peer.line().as_deref(), Some("EHLO client.example"));
            peer.say("250-peer.example\r\n250 STARTTLS\r\n");
            peer.behave();
        }
    });
    let (log, _) = noting();
    let host = server.host().security(Security::StartTls).tls(trusting(&authority)).hello("client.example");
    let message = mail(0);
    let parameters = MailParameters::new().with_require_tls();
    let envelope = message.envelope().clone().with_mail_parameters(parameters);
    let summary = send_and_quit(builder(&log).host(host), [message.with_envelope(envelope)]);
    assert_eq!(summary.mails.refused, 1, "{summary}");
    let words = "refused: the message needs REQUIRETLS, which is not to be had";
    log.reports(|reports| assert_eq!(reports[0].line, words));
    let heard = server.heard();
    let is_mail = |heard: &Heard| match heard {
        Heard::Clear(line) | Heard::Secret(line) => line.starts_with("MAIL"),
    };
    assert!(!heard.iter().any(is_mail), "{heard:?}");
}

#[test]
fn an_opportunist_goes_on_in_the_clear_where_there_is_no_tls() {
    for security in OPPORTUNISTIC {
        let plain = sink(counting);
        let (log, _) = noting();
        let summary = send_and_quit(builder(&log).host(host(&plain).security(security)), [mail(0)]);
        assert_eq!((summary.mails.delivered, log.trouble().len()), (1, 0));
        assert!(!plain.mails()[0].tls);

        for (code, text) in [(454, "4.7.0 not now"), (502, "5.5.1 no")] {
            let authority = Authority::new();
            let refusing = sink(|builder| {
                let refusal = Fault::new(At::StartTls, Misdeed::refuse(code, text));
                counting(builder).starttls(authority.good().identity()).fault(refusal)
            });
            let (log, _) = noting();
            let host = host(&refusing).security(security).tls(trusting(&authority));
            let summary = send_and_quit(builder(&log).host(host), [mail(0)]);
            assert_eq!((summary.mails.delivered, log.trouble().len()), (1, 0));
            assert!(!refusing.mails()[0].tls);
        }

        let (step, failure, said) = fails(answering("421 4.3.2 bye\r\n"), security);
        assert!(step == Step::StartTls && matches!(failure, Failure::Refused(_)), "{failure:?}");
        assert_eq!(said, ["EHLO client.example", "STARTTLS"], "a server that closes is believed");
    }
}

#[test]
fn an_opportunist_uses_tls_where_it_is_offered_and_looks_at_the_certificate_if_told_so() {
    let authority = Authority::new();
    for (issued, security, connects) in [
        (authority.good(), Security::OpportunisticStartTls, true),
        (authority.good(), Security::OpportunisticStartTlsUnverified, true),
        (self_signed(), Security::OpportunisticStartTlsUnverified, true),
        (self_signed(), Security::OpportunisticStartTls, false),
    ] {
        let sink = sink(|builder| counting(builder).starttls(issued.identity()));
        let (log, failures) = noting();
        let builder = builder(&log).host(host(&sink).security(security).tls(trusting(&authority)));
        if connects {
            assert_eq!(send_and_quit(builder, [mail(0)]).mails.delivered, 1);
            assert!(sink.mails()[0].tls);
        } else {
            let (fault, _) = tls_fault(builder, &log, &failures);
            assert_eq!(fault.problem, TlsProblem::UnknownIssuer);
            let counts = over(&sink);
            assert_eq!((counts.faults, counts.mails), (1, 0), "not in the clear either: {counts:?}");
        }
    }
}
