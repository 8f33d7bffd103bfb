//! The embedded server's AUTH, driven by a client that computes every answer by itself.

#[path = "support/certs.rs"]
mod certs;
#[path = "support/raw.rs"]
mod raw;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use certs::Authority;
use hmac::{Hmac, Mac};
use raw::{Client, trusting, wait};
use sasl::common::Password;
use sasl::common::scram::{ScramProvider, Sha1, Sha256};
use smtp_bulk::sink::{AuthQuirk, Builder, Fault, Keep, Misdeed, Sink, Step};

const USER: &str = "a,b=c ü@d.example";
const PASSWORD: &str = "p,w= é";
const TOKEN: &str = "t0k.en=";

const ALL: [&str; 9] = [
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

fn start(set: impl FnOnce(Builder) -> Builder) -> Sink {
    let builder = Sink::builder().keep(Keep::All).scram_iterations(64);
    let builder = builder.user(USER, PASSWORD).user("other", "else").token(USER, TOKEN).mechanisms(ALL);
    set(builder).start().unwrap()
}

fn client(set: impl FnOnce(Builder) -> Builder) -> (Sink, Client<TcpStream>) {
    let sink = start(set);
    let client = Client::ready(&sink);
    (sink, client)
}

fn encoded(text: impl AsRef<[u8]>) -> String {
    STANDARD.encode(text)
}

/// What a 334 says.
fn decoded(reply: &str) -> String {
    let text = reply.strip_prefix("334 ").unwrap_or_else(|| panic!("{reply}")).trim_end();
    String::from_utf8(STANDARD.decode(text).unwrap()).unwrap()
}

fn plain(acting_as: &str, user: &str, password: &str) -> String {
    format!("AUTH PLAIN {}", encoded(format!("{acting_as}\0{user}\0{password}")))
}

// ---- SCRAM, the client's side -----------------------------------------------------------

fn saslname(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

struct Scram {
    header: String,
    first: String,
    nonce: String,
    server_nonce: String,
    server_first: String,
    expected: String,
}

const NONCE: &str = "client+nonce";

impl Scram {
    /// Sends the first message and reads the server's.
    fn begin<S: Read + Write, P: ScramProvider>(client: &mut Client<S>, acting_as: &str, user: &str) -> Self {
        let header = match acting_as {
            "" => "n,,".to_owned(),
            name => format!("n,a={},", saslname(name)),
        };
        let first = format!("n={},r={NONCE}", saslname(user));
        let command = format!("AUTH SCRAM-{} {}", P::name(), encoded(format!("{header}{first}")));
        let server_first = decoded(&client.ask(&command));
        let server_nonce = attribute(&server_first, "r=").to_owned();
        Self { header, first, nonce: NONCE.to_owned(), server_nonce, server_first, expected: String::new() }
    }

    /// The line of the final message.
    fn finish<P: ScramProvider>(&mut self, password: &str) -> String {
        let salt = STANDARD.decode(attribute(&self.server_first, "s=")).unwrap();
        let count = attribute(&self.server_first, "i=").parse().unwrap();
        let salted = P::derive(&Password::Plain(password.to_owned()), &salt, count).unwrap();
        let without_proof = format!("c={},r={}", encoded(&self.header), self.server_nonce);
        let signed = format!("{},{},{without_proof}", self.first, self.server_first);
        let client_key = P::hmac(b"Client Key", &salted).unwrap();
        let mask = P::hmac(signed.as_bytes(), &P::hash(&client_key)).unwrap();
        let proof: Vec<u8> = client_key.iter().zip(mask).map(|(key, mask)| key ^ mask).collect();
        let server_key = P::hmac(b"Server Key", &salted).unwrap();
        self.expected = format!("v={}", encoded(P::hmac(signed.as_bytes(), &server_key).unwrap()));
        encoded(format!("{without_proof},p={}", encoded(proof)))
    }
}

fn attribute<'a>(text: &'a str, key: &str) -> &'a str {
    text.split(',').find_map(|part| part.strip_prefix(key)).unwrap_or_else(|| panic!("{text}"))
}

fn scram<P: ScramProvider>(acting_as: &str, user: &str, password: &str) -> (Sink, String) {
    let (sink, mut client) = client(|builder| builder);
    let mut scram = Scram::begin::<_, P>(&mut client, acting_as, user);
    assert!(scram.server_nonce.starts_with(&scram.nonce) && scram.server_nonce != scram.nonce);
    assert!(scram.server_first.ends_with(",i=64"));
    let reply = client.ask(&scram.finish::<P>(password));
    if reply.starts_with("535") {
        return (sink, reply);
    }
    assert_eq!(decoded(&reply), scram.expected, "the server proves itself");
    let reply = client.ask("");
    client.mail();
    (sink, reply)
}

#[test]
fn scram_is_mutual() {
    for (acting_as, name) in [("", None), ("other", Some("other")), (USER, Some(USER))] {
        let (sink, reply) = scram::<Sha256>(acting_as, USER, PASSWORD);
        assert_eq!(reply, "235 2.7.0 Authenticated\r\n");
        assert_eq!(sink.mails()[0].user.as_deref(), Some(USER));
        assert_eq!(sink.mails()[0].acting_as.as_deref(), name);
        let counts = sink.counts();
        assert_eq!((counts.auth_attempts, counts.auth_successes, counts.auth_failures), (1, 1, 0));
    }
    assert_eq!(scram::<Sha1>("", USER, PASSWORD).1, "235 2.7.0 Authenticated\r\n");
}

#[test]
fn scram_refuses_what_is_wrong() {
    for (acting_as, user, password) in
        [("", USER, "wrong"), ("", "nobody", PASSWORD), ("nobody", USER, PASSWORD), ("", "other", PASSWORD)]
    {
        for (sink, reply) in
            [scram::<Sha256>(acting_as, user, password), scram::<Sha1>(acting_as, user, password)]
        {
            assert!(reply.starts_with("535 5.7.8 "), "{user}: {reply}");
            let counts = sink.counts();
            assert_eq!((counts.auth_attempts, counts.auth_successes, counts.auth_failures), (1, 0, 1));
            assert_eq!((counts.protocol_errors, counts.refused), (0, 0));
        }
    }
}

#[test]
fn scram_keeps_to_its_form() {
    let (sink, mut client) = client(|builder| builder);
    client.expect(&format!("AUTH SCRAM-SHA-256 {}", encoded("p=tls-unique,,n=a,r=b")), "501");
    client.expect(&format!("AUTH SCRAM-SHA-256 {}", encoded("n,,n=a")), "501");
    let first = encoded("n,,n=other,r=abc");
    client.expect("AUTH SCRAM-SHA-256", "334 \r\n");
    client.expect(&first, "334 ");
    client.expect(&encoded("c=biws,r=abc"), "501");
    client.expect(&format!("AUTH SCRAM-SHA-256 {first}"), "334 ");
    // Another nonce than the server's.
    client.expect(&encoded("c=biws,r=abc,p=AAAA"), "535");
    // An answer where none is due.
    let mut scram = Scram::begin::<_, Sha256>(&mut client, "", USER);
    client.expect(&scram.finish::<Sha256>(PASSWORD), "334 ");
    client.expect(&encoded("thanks"), "501");
    assert_eq!(sink.counts().auth_successes, 0);
    client.expect("MAIL FROM:<a@b.example>", "250");
}

#[test]
fn salts_stay_and_nonces_do_not() {
    let sink = start(|builder| builder.scram_iterations(u32::MAX));
    let firsts: Vec<String> = (0..2)
        .map(|_| {
            let mut client = Client::ready(&sink);
            let scram = Scram::begin::<_, Sha256>(&mut client, "", USER);
            assert!(scram.server_first.ends_with(&format!(",i={}", u32::MAX)));
            // Nobody computes that.
            client.expect(&encoded(format!("c=biws,r={},p=AAAA", scram.server_nonce)), "535");
            scram.server_first
        })
        .collect();
    assert_eq!(attribute(&firsts[0], "s="), attribute(&firsts[1], "s="));
    assert_ne!(attribute(&firsts[0], "r="), attribute(&firsts[1], "r="));
}

// ---- the other mechanisms ----------------------------------------------------------------

#[test]
fn plain_takes_an_initial_response_or_an_answer() {
    let (sink, mut client) = client(|builder| builder);
    client.expect(&plain("", USER, "wrong"), "535 5.7.8");
    client.expect(&plain("", "nobody", PASSWORD), "535");
    client.expect(&plain("nobody", USER, PASSWORD), "535");
    client.expect(&format!("AUTH PLAIN {}", encoded("user\0password")), "501");
    client.expect(&format!("AUTH PLAIN {}", encoded("\0a\0b\0c")), "501");
    client.expect("AUTH PLAIN", "334 \r\n");
    client.expect(&encoded(format!("other\0{USER}\0{PASSWORD}")), "235 2.7.0");
    client.mail();
    let mails = sink.mails();
    let mail = &mails[0];
    assert_eq!((mail.user.as_deref(), mail.acting_as.as_deref()), (Some(USER), Some("other")));
    assert!(!mail.tls);
    let counts = sink.counts();
    assert_eq!((counts.auth_attempts, counts.auth_successes, counts.auth_failures), (6, 1, 3));
}

#[test]
fn login_asks_for_user_and_password() {
    let (_sink, mut client) = client(|builder| builder);
    assert_eq!(decoded(&client.ask("AUTH LOGIN")), "Username:");
    assert_eq!(decoded(&client.ask(&encoded(USER))), "Password:");
    client.expect(&encoded("wrong"), "535");
    assert_eq!(decoded(&client.ask(&format!("AUTH LOGIN {}", encoded(USER)))), "Password:");
    client.expect(&encoded(PASSWORD), "235");
}

#[test]
fn cram_md5_is_a_digest_of_the_challenge() {
    let (_sink, mut client) = client(|builder| builder.hostname("mx.example"));
    let answer = |challenge: &str, password: &str| {
        let mut mac = Hmac::<md5::Md5>::new_from_slice(password.as_bytes()).unwrap();
        mac.update(challenge.as_bytes());
        let digits: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        encoded(format!("{USER} {digits}"))
    };
    let challenge = decoded(&client.ask("AUTH CRAM-MD5"));
    assert!(challenge.starts_with('<') && challenge.ends_with("@mx.example>"), "{challenge}");
    client.expect(&answer(&challenge, "wrong"), "535");
    let again = decoded(&client.ask("AUTH CRAM-MD5"));
    assert_ne!(challenge, again);
    client.expect(&answer(&again, PASSWORD), "235");
    let (_sink, mut other) = self::client(|builder| builder);
    other.expect("AUTH CRAM-MD5 AAAA", "501");
}

#[test]
fn tokens_are_refused_with_a_reason_that_has_to_be_answered() {
    let xoauth2 = |token: &str| {
        format!("AUTH XOAUTH2 {}", encoded(format!("user={USER}\x01auth=Bearer {token}\x01\x01")))
    };
    let bearer = |token: &str| {
        let text = format!("n,a={},\x01host=h\x01port=25\x01auth=Bearer {token}\x01\x01", saslname(USER));
        format!("AUTH OAUTHBEARER {}", encoded(text))
    };
    let (sink, mut client) = client(|builder| builder);
    assert!(decoded(&client.ask(&xoauth2("wrong"))).starts_with("{\"status\":"));
    client.expect("", "535 5.7.8");
    client.expect(&xoauth2("wrong"), "334");
    client.expect("*", "501");
    client.expect(&xoauth2("wrong"), "334");
    client.expect("AQ==", "501");
    assert!(decoded(&client.ask(&bearer("wrong"))).starts_with("{\"status\":"));
    client.expect("AQ==", "535 5.7.8");
    client.expect(&bearer("wrong"), "334");
    client.expect("", "501");
    client.expect("AUTH OAUTHBEARER AAAA", "501");
    client.expect(&xoauth2(TOKEN), "235");
    Client::ready(&sink).expect(&bearer(TOKEN), "235");
    let counts = sink.counts();
    assert_eq!((counts.auth_attempts, counts.auth_successes, counts.auth_failures), (8, 2, 3));
}

#[test]
fn external_and_anonymous_ask_for_no_secret() {
    let (sink, mut first) = client(|builder| builder);
    first.expect(&format!("AUTH EXTERNAL {}", encoded("nobody")), "535");
    first.expect("AUTH EXTERNAL =", "235");
    first.mail();
    let mut client = Client::ready(&sink);
    client.expect(&format!("AUTH EXTERNAL {}", encoded(USER)), "235");
    client.mail();
    let mut client = Client::ready(&sink);
    client.expect(&format!("AUTH ANONYMOUS {}", encoded("x".repeat(256))), "501");
    client.expect(&format!("AUTH ANONYMOUS {}", encoded("trace")), "235");
    client.mail();
    let mails = sink.mails();
    let users: Vec<_> = mails.iter().map(|mail| mail.user.as_deref().unwrap()).collect();
    assert_eq!(users, ["", USER, "anonymous"]);
}

// ---- the command ---------------------------------------------------------------------------

#[test]
fn the_default_mechanisms_follow_from_who_there_is() {
    let announced = |builder: Builder| Client::connect(&builder.start().unwrap()).hello();
    assert!(!announced(Sink::builder()).contains("AUTH"));
    assert!(!announced(Sink::builder().user("u", "p").mechanisms([""; 0])).contains("AUTH"));
    let passwords = announced(Sink::builder().user("u", "p"));
    assert!(passwords.ends_with("250 AUTH SCRAM-SHA-256 SCRAM-SHA-1 PLAIN LOGIN\r\n"), "{passwords}");
    let tokens = announced(Sink::builder().token("u", "t"));
    assert!(tokens.ends_with("250 AUTH OAUTHBEARER XOAUTH2\r\n"), "{tokens}");
    let old = announced(Sink::builder().mechanisms(["PLAIN", "LOGIN"]).old_auth_spelling());
    assert!(old.ends_with("250 AUTH=PLAIN LOGIN\r\n"), "{old}");
    assert!(Sink::builder().mechanisms(["NO SUCH"]).start().is_err());
    assert!(Sink::builder().user("", "p").start().is_err());
}

#[test]
fn auth_has_its_time_and_its_form() {
    let (sink, mut client) = client(|builder| builder.mechanisms(["PLAIN", "LOGIN", "GSSAPI"]));
    let right = plain("", USER, PASSWORD);
    for (command, code) in [
        ("AUTH", "501"),
        ("AUTH PLAIN AAAA AAAA", "501"),
        ("AUTH PLAIN not!base64", "501"),
        ("AUTH PLAIN AAA", "501"),
        ("AUTH PLAIN =", "501"),
        ("AUTH SCRAM-SHA-256 AAAA", "504 5.5.4"),
        ("AUTH GSSAPI", "504 5.5.4"),
        ("MAIL FROM:<a@b.example>", "250"),
        (right.as_str(), "503"),
        ("RSET", "250"),
        (right.as_str(), "235"),
        (right.as_str(), "503"),
    ] {
        client.expect(command, code);
    }
    assert_eq!(sink.counts().protocol_errors, 9);
    let mut early = Client::connect(&sink);
    early.reply();
    early.expect("HELO client.example", "250");
    early.expect(&right, "503");
    Client::ready(&Sink::start().unwrap()).expect(&right, "502");
}

#[test]
fn an_answer_may_cancel_and_must_be_base64() {
    let (sink, mut client) = client(|builder| builder);
    client.expect("AUTH LOGIN", "334");
    client.expect("*", "501 5.7.0");
    client.expect("AUTH LOGIN", "334");
    client.expect("NOOP!", "501 5.5.2");
    client.expect("AUTH LOGIN", "334");
    client.expect("=", "501 5.5.2");
    client.expect("AUTH LOGIN", "334");
    client.send("AAAA\n");
    assert!(client.reply().starts_with("500"));
    client.mail();
    let counts = sink.counts();
    assert_eq!((counts.auth_attempts, counts.auth_failures, counts.protocol_errors), (4, 1, 3));
}

#[test]
fn lines_of_auth_may_be_long_and_others_may_not() {
    let token = "x".repeat(9_000);
    let (_sink, mut client) = client(|builder| builder.token("long", &token));
    let text = encoded(format!("user=long\x01auth=Bearer {token}\x01\x01"));
    assert!(text.len() > 12_000 && text.len() < 12_288);
    client.expect("AUTH XOAUTH2", "334");
    client.expect(&"x".repeat(13_000), "500");
    client.expect(&format!("NOOP {}", "x".repeat(3_000)), "500");
    client.expect("AUTH XOAUTH2", "334");
    client.expect(&text, "235");
    client.mail();
}

#[test]
fn auth_may_be_required() {
    let (_sink, mut client) = client(Builder::require_auth);
    client.expect("MAIL FROM:<a@b.example>", "530 5.7.0");
    client.expect(&plain("", USER, PASSWORD), "235");
    // RFC 4954 §5, where AUTH is announced.
    client.expect("MAIL FROM:<a@b.example> AUTH=<>", "250");
    client.expect("RSET", "250");
    client.expect("MAIL FROM:<a@b.example> AUTH=", "555");
    client.mail();
}

#[test]
fn auth_waits_for_tls_unless_it_is_told_otherwise() {
    let authority = Authority::new();
    let connector = trusting(&authority.pem()).build().unwrap();
    let with_tls = |builder: Builder| builder.starttls(authority.good().identity());
    let right = plain("", USER, PASSWORD);

    let (sink, mut plain_client) = client(with_tls);
    assert!(!plain_client.ask("EHLO client.example").contains("AUTH"));
    plain_client.expect(&right, "530 5.7.0");
    let mut client = Client::starttls(&sink, &connector);
    assert!(client.ask("EHLO client.example").contains("AUTH "));
    client.expect(&right, "235");
    client.mail();
    assert_eq!((sink.mails()[0].tls, sink.mails()[0].user.as_deref()), (true, Some(USER)));

    let sink = start(|builder| with_tls(builder).auth_before_tls(true));
    let mut client = Client::ready(&sink);
    client.expect(&right, "235");
    client.expect("STARTTLS", "220");
    let mut client = client.secure(&connector).unwrap();
    client.expect("EHLO client.example", "250");
    client.mail();
    assert_eq!(sink.mails()[0].user, None, "what was learnt in the clear is forgotten");

    let sink = start(|builder| with_tls(builder).auth_before_tls(true).refuse_plaintext_auth());
    let mut client = Client::ready(&sink);
    client.expect(&right, "538 5.7.11");
    client.expect("AUTH CRAM-MD5", "334");
    client.expect("*", "501");
    Client::starttls(&sink, &connector).expect(&right, "235");

    let sink = start(|builder| with_tls(builder).auth_before_tls(true).require_tls());
    Client::ready(&sink).expect(&right, "530 5.7.0");
}

// ---- what goes wrong -----------------------------------------------------------------------

#[test]
fn quirks_of_scram_do_what_they_say() {
    let run = |quirk| {
        let (sink, mut client) = client(|builder| builder.auth_quirk(quirk));
        let mut scram = Scram::begin::<_, Sha256>(&mut client, "", USER);
        let reply = client.ask(&scram.finish::<Sha256>(PASSWORD));
        (sink, client, scram, reply)
    };
    let (_sink, _, scram, _) = run(AuthQuirk::WrongNonce);
    assert!(!scram.server_nonce.starts_with(&scram.nonce));

    let (_sink, mut client, scram, reply) = run(AuthQuirk::WrongSignature);
    let signature = decoded(&reply);
    assert!(signature.starts_with("v=") && signature.len() == scram.expected.len());
    assert_ne!(signature, scram.expected);
    client.expect("", "235");

    let (_sink, _, _, reply) = run(AuthQuirk::NoSignature);
    assert!(reply.starts_with("235"));

    let (_sink, mut client) = self::client(|builder| builder.auth_quirk(AuthQuirk::EarlySuccess));
    client.expect(&format!("AUTH SCRAM-SHA-256 {}", encoded("n,,n=x,r=abc")), "235");
    client.mail();

    let (_sink, mut client, scram, reply) = run(AuthQuirk::EndlessChallenges);
    assert_eq!(decoded(&reply), scram.expected);
    for _ in 0..100 {
        client.expect("", "334 \r\n");
    }
}

#[test]
fn quirks_of_any_mechanism_do_what_they_say() {
    let (sink, mut client) = client(|builder| builder.auth_quirk(AuthQuirk::EndlessChallenges));
    client.expect(&plain("", USER, PASSWORD), "334 \r\n");
    client.expect("AAAA", "334 \r\n");
    client.expect("*", "501");
    client.mail();
    assert_eq!(sink.counts().auth_failures, 1);

    let (_sink, mut client) = self::client(|builder| builder.auth_quirk(AuthQuirk::EchoSecrets));
    let command = plain("", USER, PASSWORD);
    let reply = client.ask(&command);
    assert!(reply.starts_with("535 5.7.8 "), "{reply}");
    assert!(reply.contains(&command) && reply.contains(PASSWORD), "it repeats both");
    client.expect("AUTH LOGIN", "334");
    client.expect(&encoded(USER), "334");
    assert!(client.ask(&encoded(PASSWORD)).contains(PASSWORD));
    let mut scram = Scram::begin::<_, Sha1>(&mut client, "", USER);
    let last = scram.finish::<Sha1>(PASSWORD);
    assert!(client.ask(&last).contains(&last));
}

#[test]
fn faults_fire_at_the_steps_of_auth() {
    let faulty = |at, what| client(move |builder| builder.fault(Fault::new(at, what).times(1)));
    let right = plain("", USER, PASSWORD);
    for code in [421, 454, 504, 534, 535, 538] {
        let (sink, mut client) = faulty(Step::Auth, Misdeed::refuse(code, "5.7.0 told so"));
        client.expect(&right, &code.to_string());
        assert_eq!((sink.counts().refused, sink.counts().auth_attempts), (1, 1));
        client.expect(&right, "235");

        let (_sink, mut client) = faulty(Step::Challenge, Misdeed::refuse(code, "5.7.0 told so"));
        client.expect("AUTH LOGIN", "334");
        client.expect(&encoded(USER), &code.to_string());
        client.expect("NOOP", "250");
        client.expect(&right, "235");
    }
    for at in [Step::Auth, Step::Challenge] {
        let ask = |client: &mut Client<TcpStream>| match at {
            Step::Auth => client.send("AUTH LOGIN\r\n"),
            _ => {
                client.expect("AUTH LOGIN", "334");
                client.send(format!("{}\r\n", encoded(USER)));
            }
        };
        let (_sink, mut client) = faulty(at, Misdeed::Close);
        ask(&mut client);
        assert_eq!(client.rest(), b"");
        let (_sink, mut client) = faulty(at, Misdeed::HalfReplyClose);
        ask(&mut client);
        assert!(client.rest().starts_with(b"334 "));
        let (_sink, mut client) = faulty(at, Misdeed::surplus(235, "2.7.0 injected"));
        ask(&mut client);
        let piece = client.piece();
        assert!(piece.starts_with("334 ") && piece.ends_with("\r\n235 2.7.0 injected\r\n"), "{piece}");
        let (_sink, mut client) = faulty(at, Misdeed::LongReply(5000));
        ask(&mut client);
        assert_eq!(client.reply().len(), 5000);
        let (_sink, mut client) = faulty(at, Misdeed::garbage());
        ask(&mut client);
        assert!(client.reply().starts_with('\x16'));
        let (sink, mut client) = faulty(at, Misdeed::Delay(Duration::from_millis(20)));
        ask(&mut client);
        assert!(client.reply().starts_with("334 "));
        assert_eq!(sink.counts().auth_attempts, 1);
        let (sink, mut client) = faulty(at, Misdeed::Hang);
        ask(&mut client);
        wait(&sink, |counts| counts.faults == 1);
    }
}

#[test]
fn passwords_and_tokens_are_never_shown() {
    let builder = Sink::builder().user(USER, "pencil-7").token(USER, "token-7");
    let shown = format!("{builder:?} {:?}", builder.clone().start().unwrap());
    assert!(shown.contains("[REDACTED]") && !shown.contains("-7"));
}
