//! The mailer against a real Postfix, with Dovecot for its AUTH.
//!
//! Where these are missing, the tests say so on standard error and pass; with
//! `SMTP_BULK_REQUIRE_SERVERS=1` in the environment they fail.

#![cfg(unix)]

#[path = "support/postfix.rs"]
mod postfix;
mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use native_tls::{Identity, TlsConnector, TlsStream};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use postfix::{Certificates, Postfix};
use support::PATIENCE;

/// Names that need care in one mechanism or another.
const USERS: [(&str, &str); 3] =
    [("ann", "of Green Gables"), ("bob,b=2", "B0b=with,comma%and:\\ space"), ("renée x", "pässwörd-№5")];

/// An authority, and what it signed for 127.0.0.1.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    chain: String,
    key: String,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Authority of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let chain = params.signed_by(&key, &issuer).unwrap().pem();
        Authority { issuer, chain, key: key.serialize_pem() }
    }

    fn postfix(&self) -> Option<Postfix> {
        let authority = &self.issuer.pem();
        Postfix::start(&USERS, Certificates { chain: &self.chain, key: &self.key, authority })
    }

    /// TLS to this port, with the certificate that is good for a client as well, or without.
    fn tls(&self, port: u16, with_certificate: bool) -> TlsStream<TcpStream> {
        let mut connector = TlsConnector::builder();
        connector.disable_built_in_roots(true);
        connector
            .add_root_certificate(native_tls::Certificate::from_pem(self.issuer.pem().as_bytes()).unwrap());
        if with_certificate {
            connector.identity(Identity::from_pkcs8(self.chain.as_bytes(), self.key.as_bytes()).unwrap());
        }
        connector.build().unwrap().connect("127.0.0.1", tcp(port)).unwrap()
    }
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
    let Some(server) = authority.postfix() else { return };
    let ehlo = ["EHLO client.example"];
    let offer = "PLAIN LOGIN CRAM-MD5 SCRAM-SHA-1 SCRAM-SHA-256 OAUTHBEARER XOAUTH2\r\n";

    let mut replies = talk(tcp(server.starttls), &["EHLO client.example", "MAIL FROM:<a@example.org>"]);
    assert!(replies[1].contains("250-STARTTLS\r\n") && !replies[1].contains("AUTH"), "{}", replies[1]);
    assert!(replies[2].starts_with("530 "), "{}", replies[2]);

    replies.extend(talk(tcp(server.plain), &ehlo));
    assert!(replies[4].contains(offer) && !replies[4].contains("STARTTLS"), "{}", replies[4]);

    replies.extend(talk(authority.tls(server.implicit, false), &ehlo));
    assert!(replies[6].contains(offer), "{}", replies[6]);

    replies.extend(talk(authority.tls(server.client_cert, true), &ehlo));
    assert!(replies[8].contains(offer), "{}", replies[8]);
    for greeting in [0, 3, 5, 7] {
        assert!(replies[greeting].starts_with("220 mx.example "), "{}", replies[greeting]);
    }
    let refused = talk(authority.tls(server.client_cert, false), &[]);
    assert!(refused[0].starts_with("421 "), "{}", refused[0]);

    let ports = [server.starttls, server.implicit, server.client_cert, server.plain];
    drop(server);
    for port in ports {
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err(), "{port} still listens");
    }
}

#[test]
fn users_are_known_and_their_mail_arrives() {
    let authority = Authority::new();
    let Some(server) = authority.postfix() else { return };
    let mail =
        ["MAIL FROM:<a@example.org>", "RCPT TO:<b@example.net>", "DATA", "Subject: one\r\n\r\ntext\r\n."];
    for (name, password) in USERS {
        let plain = format!("AUTH PLAIN {}", STANDARD.encode(format!("\0{name}\0{password}")));
        let bearer = STANDARD.encode(format!("user={name}\x01auth=Bearer {}\x01\x01", server.token(name)));
        for auth in [plain, format!("AUTH XOAUTH2 {bearer}")] {
            let lines = [&["EHLO client.example", &auth], &mail[..]].concat();
            let replies = talk(authority.tls(server.implicit, false), &lines);
            let codes: Vec<&str> = replies.iter().map(|reply| &reply[..3]).collect();
            assert_eq!(codes, ["220", "250", "235", "250", "250", "354", "250"], "{name}: {replies:?}");
        }
        let token = server.expired_token(name);
        let expired = STANDARD.encode(format!("user={name}\x01auth=Bearer {token}\x01\x01"));
        let wrong = STANDARD.encode(format!("\0{name}\0{password} "));
        let lines =
            ["EHLO client.example", &format!("AUTH PLAIN {wrong}"), &format!("AUTH XOAUTH2 {expired}"), ""];
        let replies = talk(authority.tls(server.implicit, false), &lines);
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
