//! The mailer against a real Postfix, with Dovecot for its AUTH: TLS, every mechanism, what the two
//! make of names and passwords, and what comes of their refusals.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use native_tls::{TlsConnector, TlsStream};
use smtp_bulk::{
    AuthMechanism, Credentials, Envelope, Error, EventKind, Failure, Host, Mailer, Message, Security, Tls,
    TlsProblem, Verdict,
};

use crate::certs::{self, Authority, Issued};
use crate::postfix::{Certificates, Postfix};
use crate::support::{self, Log, PATIENCE, run};

/// Names that need care in one mechanism or another; SASLprep (RFC 4013) leaves all of it as it is.
const USERS: [(&str, &str); 3] =
    [("ann", "of Green Gables"), ("bob,b=2", "B0b=with,comma%and:\\ space"), ("renée x", "pässwörd-€5")];

/// A server that shows a good certificate, and trusts those of the same authority.
fn postfix(authority: &Authority, users: &[(&str, &str)]) -> Option<Postfix> {
    let (good, authority) = (authority.good(), &authority.pem());
    Postfix::start(users, Certificates { chain: &good.pem, key: &good.key_pem, authority })
}

/// TLS to this port, with a certificate of the client or without.
fn tls(authority: &Authority, port: u16, certificate: Option<&Issued>) -> TlsStream<TcpStream> {
    let mut connector = TlsConnector::builder();
    connector.disable_built_in_roots(true);
    connector.add_root_certificate(native_tls::Certificate::from_pem(authority.pem().as_bytes()).unwrap());
    if let Some(own) = certificate {
        let identity = native_tls::Identity::from_pkcs8(own.pem.as_bytes(), own.key_pem.as_bytes());
        connector.identity(identity.unwrap());
    }
    connector.build().unwrap().connect("127.0.0.1", tcp(port)).unwrap()
}

fn tcp(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads the greeting, then sends each line and reads its reply, of which it returns all lines.
fn talk(stream: impl Read + Write, lines: &[&str]) -> Vec<String> {
    let mut stream = BufReader::new(stream);
    let mut replies = vec![reply(&mut stream)];
    for line in lines {
        stream.get_mut().write_all(format!("{line}\r\n").as_bytes()).unwrap();
        replies.push(reply(&mut stream));
    }
    replies
}

fn reply(stream: &mut impl BufRead) -> String {
    let mut text = String::new();
    loop {
        let begin = text.len();
        assert!(stream.read_line(&mut text).unwrap() > 0, "it closed: {text}");
        if text.as_bytes().get(begin + 3) == Some(&b' ') {
            return text;
        }
    }
}

// ---- the servers themselves ---------------------------------------------------------------------

#[test]
fn every_port_is_what_it_is_called() {
    let authority = Authority::new();
    let Some(server) = postfix(&authority, &USERS) else { return };
    let ehlo = ["EHLO client.example"];
    let offer = "PLAIN LOGIN CRAM-MD5 SCRAM-SHA-1 SCRAM-SHA-256 OAUTHBEARER XOAUTH2\r\n";

    let mut replies = talk(tcp(server.starttls), &["EHLO client.example", "MAIL FROM:<a@example.org>"]);
    assert!(replies[1].contains("250-STARTTLS\r\n") && !replies[1].contains("AUTH"), "{}", replies[1]);
    assert!(replies[2].starts_with("530 "), "{}", replies[2]);

    replies.extend(talk(tcp(server.plain), &ehlo));
    assert!(replies[4].contains(offer) && !replies[4].contains("STARTTLS"), "{}", replies[4]);

    replies.extend(talk(tls(&authority, server.implicit, None), &ehlo));
    assert!(replies[6].contains(offer), "{}", replies[6]);

    let own = authority.for_client("a client");
    replies.extend(talk(tls(&authority, server.client_cert, Some(&own)), &ehlo));
    assert!(replies[8].contains(offer), "{}", replies[8]);
    for greeting in [0, 3, 5, 7] {
        assert!(replies[greeting].starts_with("220 mx.example "), "{}", replies[greeting]);
    }
    let refused = talk(tls(&authority, server.client_cert, None), &[]);
    assert!(refused[0].starts_with("421 "), "{}", refused[0]);

    let offers = [(server.open, true), (server.bare, false)];
    for (port, is_chunked) in offers {
        let replies = talk(tcp(port), &ehlo);
        assert_eq!(replies[1].contains("CHUNKING\r\n"), is_chunked, "{}", replies[1]);
        assert!(replies[1].contains("SIZE 200000\r\n") && !replies[1].contains("AUTH"), "{}", replies[1]);
    }

    let ports =
        [server.starttls, server.implicit, server.client_cert, server.plain, server.open, server.bare];
    drop(server);
    for port in ports {
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err(), "{port} still listens");
    }
}

#[test]
fn users_are_known_and_their_mail_arrives() {
    let authority = Authority::new();
    let Some(server) = postfix(&authority, &USERS) else { return };
    let mail =
        ["MAIL FROM:<a@example.org>", "RCPT TO:<b@example.net>", "DATA", "Subject: one\r\n\r\ntext\r\n."];
    for (name, password) in USERS {
        let plain = format!("AUTH PLAIN {}", STANDARD.encode(format!("\0{name}\0{password}")));
        let bearer = STANDARD.encode(format!("user={name}\x01auth=Bearer {}\x01\x01", server.token(name)));
        for auth in [plain, format!("AUTH XOAUTH2 {bearer}")] {
            let lines = [&["EHLO client.example", &auth], &mail[..]].concat();
            let replies = talk(tls(&authority, server.implicit, None), &lines);
            let codes: Vec<&str> = replies.iter().map(|reply| &reply[..3]).collect();
            assert_eq!(codes, ["220", "250", "235", "250", "250", "354", "250"], "{name}: {replies:?}");
        }
        let token = server.expired_token(name);
        let expired = STANDARD.encode(format!("user={name}\x01auth=Bearer {token}\x01\x01"));
        let wrong = STANDARD.encode(format!("\0{name}\0{password} "));
        let lines =
            ["EHLO client.example", &format!("AUTH PLAIN {wrong}"), &format!("AUTH XOAUTH2 {expired}"), ""];
        let replies = talk(tls(&authority, server.implicit, None), &lines);
        assert!(replies[2].starts_with("535 ") && replies[4].starts_with("535 "), "{name}: {replies:?}");
    }
    let lines = ["EHLO client.example", mail[0], mail[1]];
    let replies = talk(tcp(server.plain), &lines);
    assert!(replies[3].starts_with("554 "), "nobody is taken for a user: {replies:?}");
    let mails = server.wait_for_mails(6);
    assert_eq!(mails.len(), 6);
    for mail in mails {
        let mail = String::from_utf8(mail).unwrap();
        assert!(mail.contains("\nSubject: one\n") && mail.ends_with("\n\ntext\n"), "{mail}");
    }
}

// ---- the mailer ---------------------------------------------------------------------------------

/// Everything of it has to arrive: dots at the begin of lines, letters beyond ASCII, a long line.
/// Whatever Postfix adds where it is missing is there.
fn letter(id: u64) -> String {
    let long = "0123456789".repeat(90);
    format!(
        "Subject: letter {id}\r\nFrom: <sender@example.org>\r\nTo: <r{id}@example.net>\r\n\
         Date: Mon, 5 Jan 2026 10:00:00 +0000\r\nMessage-Id: <{id}@example.org>\r\n\r\n\
         .\r\n..dots\r\n{long}\r\nGrüße\t \r\n\r\nthe end of {id}\r\n"
    )
}

fn letters(ids: Range<u64>) -> impl Iterator<Item = Message> {
    ids.map(|id| {
        let envelope = Envelope::parse("sender@example.org", [format!("r{id}@example.net")]).unwrap();
        Message::new(envelope, letter(id)).id(id)
    })
}

/// Each of these letters has been delivered exactly once and to the octet, and nothing else.
fn check_letters(server: &Postfix, ids: Range<u64>) {
    let count = usize::try_from(ids.end - ids.start).unwrap();
    let mails = server.wait_for_mails(count);
    assert_eq!(mails.len(), count, "and no more");
    let mut seen = BTreeSet::new();
    for mail in mails {
        let mail = String::from_utf8(mail).unwrap();
        let begin = mail.find("Subject: letter ").unwrap();
        let (added, content) = mail.split_at(begin);
        let id: u64 = content["Subject: letter ".len()..].lines().next().unwrap().parse().unwrap();
        assert_eq!(content, letter(id).replace("\r\n", "\n"), "{id}");
        assert!(added.starts_with("Return-Path: <sender@example.org>\n"), "{added}");
        assert!(added.contains(&format!("\nDelivered-To: r{id}@example.net\n")), "{id}: {added}");
        assert!(ids.contains(&id) && seen.insert(id), "{id} came once, and was sent");
    }
}

/// An event of opening: its kind, its failure, and its line.
type Opening = (EventKind, Option<Failure>, String);

/// What the events of opening told.
#[derive(Clone, Default, Debug)]
struct Told(Arc<Mutex<Vec<Opening>>>);

impl Told {
    fn count(&self, kind: EventKind) -> usize {
        self.0.lock().unwrap().iter().filter(|told| told.0 == kind).count()
    }

    /// Every failure to connect.
    fn failures(&self) -> Vec<Failure> {
        let told = self.0.lock().unwrap();
        told.iter()
            .filter(|told| told.0 == EventKind::ConnectFail)
            .filter_map(|told| told.1.clone())
            .collect()
    }
}

/// Our authority alone is trusted.
fn trusting(authority: &Authority) -> Tls {
    Tls::new().root_certificate(authority.pem()).only_these_roots()
}

fn host(port: u16, security: Security, tls: Tls) -> Host {
    let host = Host::new("127.0.0.1").port(port).security(security).tls(tls).hello("client.example");
    host.threads(3).max_connect_failures(2)
}

/// Connects, sends these letters, and quits; what the events told comes with it.
fn try_to_send(host: Host, ids: Range<u64>) -> (Result<Log, Error>, Told) {
    let (log, told) = (Log::default(), Told::default());
    let mut builder = support::builder(&log).host(host);
    for kind in [EventKind::ConnectPass, EventKind::ConnectFail, EventKind::AuthPass, EventKind::AuthFail] {
        let told = told.clone();
        builder = builder.on(kind, move |event| {
            told.0.lock().unwrap().push((event.kind, event.failure().cloned(), event.to_string()));
            Verdict::DEFAULT
        });
    }
    let sent = run(async {
        let mut mailer: Mailer = builder.connect().await?;
        mailer.send_all(letters(ids)).await?;
        mailer.quit().await
    });
    (sent.map(|_| log), told)
}

/// All letters are delivered at the first attempt, over sessions that met no trouble.
fn send(host: Host, ids: Range<u64>) -> Told {
    let (sent, told) = try_to_send(host, ids.clone());
    let log = sent.unwrap();
    assert!(log.trouble().is_empty(), "{:?}", log.trouble());
    assert_eq!(told.failures(), []);
    log.reports(|reports| {
        assert!(
            reports.iter().all(|ended| ended.outcome == "delivered" && ended.attempts == 1),
            "{reports:?}"
        );
        assert!(reports.iter().map(|ended| ended.id).collect::<BTreeSet<_>>().into_iter().eq(ids));
    });
    told
}

#[test]
fn every_mechanism_delivers_for_every_user_over_both_kinds_of_tls() {
    let authority = Authority::new();
    let Some(server) = postfix(&authority, &USERS) else { return };
    let mut expected = Vec::new();
    for (port, security) in [(server.starttls, Security::StartTls), (server.implicit, Security::Implicit)] {
        for (user, password) in USERS {
            let password = || Credentials::password(user, password);
            let token = || Credentials::oauth(user, server.token(user));
            let ways = [
                ("PLAIN", password().mechanism(AuthMechanism::Plain)),
                ("LOGIN", password().mechanism(AuthMechanism::Login)),
                ("CRAM-MD5", password().mechanism(AuthMechanism::CramMd5)),
                ("SCRAM-SHA-1", password().mechanism(AuthMechanism::ScramSha1)),
                ("SCRAM-SHA-256", password().mechanism(AuthMechanism::ScramSha256)),
                ("SCRAM-SHA-256", password().allow_cram_md5()),
                ("XOAUTH2", token().mechanism(AuthMechanism::XOAuth2)),
                ("OAUTHBEARER", token().mechanism(AuthMechanism::OAuthBearer)),
                ("OAUTHBEARER", token()),
            ];
            for (name, credentials) in ways {
                let begin = expected.len() as u64;
                let host = host(port, security, trusting(&authority)).credentials(credentials);
                let told = send(host, begin..begin + 6);
                assert_eq!(told.count(EventKind::AuthPass), 3, "once in each session: {told:?}");
                expected.extend([(name, user); 6]);
            }
        }
    }
    check_letters(&server, 0..expected.len() as u64);
    let senders = server.wait_for_senders(expected.len());
    for (id, (mechanism, user)) in expected.into_iter().enumerate() {
        assert_eq!(senders[&format!("<{id}@example.org>")], (mechanism.to_owned(), user.to_owned()), "{id}");
    }
}

#[test]
fn a_refused_password_is_sent_once_and_nothing_after_it() {
    let authority = Authority::new();
    let Some(server) = postfix(&authority, &USERS) else { return };
    let wrong = Credentials::password("ann", "of green gables");
    let expired = Credentials::oauth("ann", server.expired_token("ann"));
    for (refusals, credentials) in (1..).zip([
        wrong.clone().mechanism(AuthMechanism::Plain),
        wrong,
        expired.clone().mechanism(AuthMechanism::XOAuth2),
        expired,
    ]) {
        let host = host(server.starttls, Security::StartTls, trusting(&authority)).credentials(credentials);
        let (sent, told) = try_to_send(host, 0..10);
        let error = sent.err().unwrap();
        assert!(
            matches!(&error, Error::AllRetired { last: Some(last), .. } if last.contains("535")),
            "{error}"
        );
        assert_eq!((told.count(EventKind::AuthFail), told.count(EventKind::AuthPass)), (1, 0), "{told:?}");
        assert_eq!(told.failures(), []);
        assert_eq!(server.wait_for_auths(), (0, refusals), "one for all sessions");
    }
    assert_eq!(server.mails(), [[0_u8; 0]; 0]);
}

#[test]
fn a_token_that_has_expired_is_replaced_by_the_next() {
    let authority = Authority::new();
    let Some(server) = postfix(&authority, &USERS) else { return };
    for (begin, mechanism) in [(0, AuthMechanism::OAuthBearer), (9, AuthMechanism::XOAuth2)] {
        let asked = Arc::new(AtomicU32::new(0));
        let (times, expired, good) = (Arc::clone(&asked), server.expired_token("ann"), server.token("ann"));
        let credentials = Credentials::oauth_from("ann", move || {
            let first = times.fetch_add(1, Ordering::SeqCst) == 0;
            Ok(if first { expired.as_str() } else { &good }.into())
        });
        let credentials = credentials.mechanism(mechanism);
        let host = host(server.implicit, Security::Implicit, trusting(&authority)).credentials(credentials);
        let told = send(host, begin..begin + 9);
        assert_eq!((told.count(EventKind::AuthFail), told.count(EventKind::AuthPass)), (0, 3), "{told:?}");
        assert_eq!(asked.load(Ordering::SeqCst), 2, "for all three sessions");
    }
    check_letters(&server, 0..18);
    assert_eq!(server.wait_for_auths(), (6, 2), "the first session alone tried what had expired");
}

/// What SASLprep (RFC 4013) changes: a ligature, a letter that is a sign, and a no-break space.
/// Dovecot compares octets, whichever the mechanism: what counts is how they were stored.
#[test]
fn dovecot_wants_names_and_passwords_as_they_were_stored() {
    let (typed, prepared) = ("ﬁn №5\u{a0}ª", "fin No5 a");
    let users = [("stored as typed", typed), ("stored prepared", prepared), ("ﬁona", "p"), ("finn", "p")];
    let authority = Authority::new();
    let Some(server) = postfix(&authority, &users) else { return };
    let (mut id, mut refused) = (0, 0);
    for mechanism in [AuthMechanism::Plain, AuthMechanism::ScramSha256] {
        for (user, password, prepared_is_good, raw_is_good) in [
            ("stored as typed", typed, false, true),
            ("stored prepared", typed, true, false),
            ("stored prepared", prepared, true, true),
            ("ﬁona", "p", false, true),
            ("ﬁnn", "p", true, false),
        ] {
            let credentials = Credentials::password(user, password).mechanism(mechanism);
            for (credentials, is_good) in
                [(credentials.clone(), prepared_is_good), (credentials.raw(), raw_is_good)]
            {
                let host = host(server.implicit, Security::Implicit, trusting(&authority));
                let (sent, told) = try_to_send(host.threads(1).credentials(credentials), id..id + 1);
                let case = format!("{mechanism} {user:?} {password:?}: {told:?}");
                assert_eq!(sent.is_ok(), is_good, "{case}");
                assert_eq!(told.count(EventKind::AuthFail), usize::from(!is_good), "{case}");
                id += u64::from(is_good);
                refused += usize::from(!is_good);
            }
        }
    }
    check_letters(&server, 0..id);
    assert_eq!(refused, 8);
}

#[test]
fn a_client_certificate_stands_in_for_credentials() {
    let authority = Authority::new();
    let Some(server) = postfix(&authority, &USERS) else { return };
    let showing =
        |own: &Issued| trusting(&authority).client_certificate(own.pem.as_str(), own.key_pem.as_str());
    let own = authority.for_client("a client");
    let told = send(host(server.client_cert, Security::Implicit, showing(&own)), 0..10);
    assert_eq!((told.count(EventKind::ConnectPass), told.count(EventKind::AuthPass)), (3, 0));

    // With TLS 1.3 the client's handshake is done before the server has seen a certificate.
    let strange = Authority::new().for_client("a client");
    for (tls, text) in [
        (trusting(&authority), "421 4.7.1 mx.example Error: No client certificate presented"),
        (showing(&strange), "421 4.7.1 mx.example Error: Client certificate not trusted"),
    ] {
        let (sent, told) = try_to_send(host(server.client_cert, Security::Implicit, tls), 10..20);
        assert!(matches!(sent, Err(Error::AllRetired { .. })));
        let failures = told.failures();
        assert_eq!((failures.len(), told.count(EventKind::ConnectPass)), (6, 0), "each session tried twice");
        for failure in failures {
            assert!(matches!(failure, Failure::Refused(_)), "{failure}");
            assert!(failure.to_string().contains(text), "{failure}");
        }
    }
    check_letters(&server, 0..10);
}

#[test]
fn nothing_secret_and_no_mail_goes_over_a_port_without_tls() {
    let authority = Authority::new();
    let Some(server) = postfix(&authority, &USERS) else { return };
    let plain = || Host::new("127.0.0.1").port(server.plain);
    let credentials = Credentials::password(USERS[0].0, USERS[0].1);
    let (sent, told) = try_to_send(plain().credentials(credentials.clone()), 0..1);
    assert!(matches!(sent, Err(Error::Host { ref problem, .. }) if problem.contains("without TLS")));
    assert_eq!(told.count(EventKind::ConnectPass), 0);
    let (sent, told) = try_to_send(
        host(server.plain, Security::StartTls, trusting(&authority)).credentials(credentials.clone()),
        0..1,
    );
    assert!(matches!(sent, Err(Error::AllRetired { .. })));
    assert_eq!(told.failures(), vec![Failure::TlsNotOffered; 6], "each session tried twice");

    // Who has not said who he is may not relay.
    let (sent, _) = try_to_send(plain(), 0..5);
    let log = sent.unwrap();
    log.reports(|reports| {
        assert_eq!(reports.len(), 5);
        for ended in reports {
            assert!(ended.outcome == "refused" && ended.line.contains("554"), "{ended:?}");
        }
    });
    assert!(
        log.of_kind(EventKind::Fail).iter().all(|seen| seen.line.contains("RCPT")),
        "{:?}",
        log.trouble()
    );
    assert!(server.mails().is_empty());

    send(plain().credentials(credentials.allow_without_tls()), 0..5);
    check_letters(&server, 0..5);
    assert_eq!(server.wait_for_senders(5)["<0@example.org>"].0, "SCRAM-SHA-256");
}

#[test]
fn a_certificate_that_does_not_hold_ends_it_before_anything_is_said() {
    let authority = Authority::new();
    let Some(server) = postfix(&authority, &USERS) else { return };
    let credentials = || Credentials::password(USERS[0].0, USERS[0].1);
    for (port, security) in [(server.starttls, Security::StartTls), (server.implicit, Security::Implicit)] {
        for (tls, problem) in [
            (trusting(&Authority::new()), TlsProblem::UnknownIssuer),
            (Tls::new(), TlsProblem::UnknownIssuer),
            (trusting(&authority).server_name("mx.example.org"), TlsProblem::WrongName),
            (trusting(&authority).pin("00".repeat(32)), TlsProblem::Pin),
        ] {
            let (sent, told) = try_to_send(host(port, security, tls).credentials(credentials()), 0..10);
            assert!(matches!(sent, Err(Error::AllRetired { .. })));
            assert_eq!(told.count(EventKind::ConnectPass), 0, "{told:?}");
            let failures = told.failures();
            assert_eq!(failures.len(), 6, "each session tried twice");
            for failure in failures {
                assert!(matches!(&failure, Failure::Tls(fault) if fault.problem == problem), "{failure}");
            }
        }
        let named = trusting(&authority).server_name(certs::NAME);
        send(host(port, security, named).credentials(credentials()), 0..0);
    }
    assert_eq!(server.wait_for_auths(), (6, 0), "of those that trusted it, and of no others");
    assert!(server.mails().is_empty());
}

#[test]
fn a_thousand_mails_over_twenty_sessions_come_once_each() {
    let authority = Authority::new();
    let Some(server) = postfix(&authority, &USERS) else { return };
    let credentials = Credentials::password(USERS[1].0, USERS[1].1).mechanism(AuthMechanism::ScramSha256);
    let host = host(server.starttls, Security::StartTls, trusting(&authority)).credentials(credentials);
    let told = send(host.threads(20), 0..1000);
    assert_eq!((told.count(EventKind::ConnectPass), told.count(EventKind::AuthPass)), (20, 20));
    check_letters(&server, 0..1000);
    assert_eq!(server.wait_for_auths(), (20, 0));
    let senders = server.wait_for_senders(1000);
    assert!(senders.values().all(|sender| *sender == ("SCRAM-SHA-256".to_owned(), USERS[1].0.to_owned())));
    assert_eq!(senders.len(), 1000);
}
