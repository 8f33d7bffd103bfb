//! What is said for each mechanism, to the octet, and what is not said to
//! servers that don't deserve it.

mod choosing;
mod mechanisms;
mod preparing;
mod scram;
mod secrets;
mod sharing;

use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use secrecy::ExposeSecret;

const ALL_OFFERED: &[&str] = &[
    "ANONYMOUS",
    "LOGIN",
    "PLAIN",
    "XOAUTH2",
    "CRAM-MD5",
    "OAUTHBEARER",
    "SCRAM-SHA-1",
    "EXTERNAL",
    "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-256",
];

const PASSWORD: &str = "tanstaaf-tanstaaf";

fn user() -> Credentials {
    Credentials::password("tim", PASSWORD)
}

/// An exchange over TLS in which nothing was tried before.
fn begun(credentials: &Credentials, offered: &[&str]) -> Result<Exchange, AuthFault> {
    begun_as(credentials, offered, true, Tried::default(), false)
}

fn begun_as(
    credentials: &Credentials,
    offered: &[&str],
    has_tls: bool,
    tried: Tried,
    renew: bool,
) -> Result<Exchange, AuthFault> {
    credentials.begin(&mut offered.iter().copied(), has_tls, tried, renew)
}

/// The exchange of one mechanism, everything allowed.
fn forced(credentials: Credentials, mechanism: AuthMechanism) -> Exchange {
    begun(&credentials.mechanism(mechanism), ALL_OFFERED).unwrap()
}

/// What is said next, work done.
fn said(exchange: &mut Exchange, next: Result<Move, AuthFault>) -> Result<Option<Vec<u8>>, AuthFault> {
    match next? {
        Move::Say(answer) => Ok(answer.map(|answer| answer.to_vec())),
        Move::Work(job) => {
            let next = exchange.resume(job.run());
            said(exchange, next)
        }
    }
}

fn start(exchange: &mut Exchange) -> Result<Option<Vec<u8>>, AuthFault> {
    let next = exchange.start();
    said(exchange, next)
}

fn answer(exchange: &mut Exchange, challenge: &[u8]) -> Result<Vec<u8>, AuthFault> {
    let next = exchange.challenge(challenge);
    said(exchange, next).map(|answer| answer.expect("a challenge is answered"))
}

fn text(octets: Vec<u8>) -> String {
    String::from_utf8(octets).unwrap()
}

#[test]
fn what_is_shared_may_cross_threads() {
    fn moves<T: Send + 'static>() {}
    fn is_shared<T: Send + Sync + Clone + 'static>() {}
    moves::<Exchange>();
    moves::<Move>();
    moves::<AuthJob>();
    is_shared::<Credentials>();
    is_shared::<AuthFault>();
}
