//! SCRAM: the examples of its specifications, and the ways in which a server
//! can be none.

use super::*;
use sasl::client::MechanismError;
use sasl::common::scram::ScramProvider;

const NONCE: &str = "fyko+d2lbbFgONRv9qkxdawL";
const FIRST: &str = "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096";
const SIGNED: &[u8] = b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=";

/// An exchange with this nonce.
fn with_nonce<P: ScramProvider + 'static>(nonce: &str) -> Exchange {
    let password = SecretString::from("pencil");
    let account = Arc::new(Account::new("user", &password, false).unwrap());
    let scram = Scram::<P>::with_nonce(Arc::clone(&account), None, DEFAULT_MAX_ITERATIONS, nonce.to_owned());
    let engine = super::Given::new("user".into(), password).scram(scram, &account);
    Exchange::new(Choice::Ours(AuthMechanism::ScramSha1), "SCRAM", engine).with_secret("pencil")
}

/// One that said its first message.
fn started() -> Exchange {
    let mut exchange = with_nonce::<Sha1>(NONCE);
    start(&mut exchange).unwrap();
    exchange
}

#[test]
fn sha_1_is_as_in_its_specification() {
    // RFC 5802 §5.
    let mut exchange = with_nonce::<Sha1>(NONCE);
    assert_eq!(start(&mut exchange).unwrap().unwrap(), b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL");
    let proof = "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=";
    assert_eq!(text(answer(&mut exchange, FIRST.as_bytes()).unwrap()), proof);
    assert_eq!(answer(&mut exchange, SIGNED).unwrap(), b"");
    assert_eq!(exchange.success(), Ok(()));
}

#[test]
fn sha_256_is_as_in_its_specification() {
    // RFC 7677 §3.
    let mut exchange = with_nonce::<Sha256>("rOprNGfwEbeRWgbNEkqO");
    assert_eq!(start(&mut exchange).unwrap().unwrap(), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
    let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    let first = format!("r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
    let proof = format!("c=biws,r={nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
    assert_eq!(text(answer(&mut exchange, first.as_bytes()).unwrap()), proof);
    let signed = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
    assert_eq!(answer(&mut exchange, signed).unwrap(), b"");
    assert_eq!(exchange.success(), Ok(()));
}

#[test]
fn the_trait_alone_goes_the_whole_way() {
    let account = Arc::new(Account::new("user", &"pencil".into(), false).unwrap());
    let mut scram = Scram::<Sha1>::with_nonce(account, None, DEFAULT_MAX_ITERATIONS, NONCE.to_owned());
    assert_eq!(scram.name(), "SCRAM-SHA-1");
    assert_eq!(scram.initial(), b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL");
    assert!(scram.response(FIRST.as_bytes()).unwrap().ends_with(b"p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="));
    assert_eq!(scram.success(b""), Err(MechanismError::NoSignatureInSuccessResponse));
    assert_eq!(scram.success(SIGNED), Ok(()), "elsewhere it comes with the success");
    assert_eq!(scram.success(b""), Ok(()));
    assert_eq!(scram.response(b"v="), Err(MechanismError::CannotDecodeChallenge));
}

/// The other side, built on the same primitives, for random nonces.
fn signed_by_server<P: ScramProvider>(password: &str, first: &str, challenge: &str, last: &str) -> Vec<u8> {
    let (salt, count) = challenge.split_once(",s=").unwrap().1.split_once(",i=").unwrap();
    let salt = BASE64.decode(salt).unwrap();
    let key = P::derive(&password.into(), &salt, count.parse().unwrap()).unwrap();
    let bare = &first[first.find("n=").unwrap()..];
    let (without_proof, proof) = last.split_once(",p=").unwrap();
    let message = format!("{bare},{challenge},{without_proof}");
    let stored = P::hash(&P::hmac(b"Client Key", &key).unwrap());
    let signature = P::hmac(message.as_bytes(), &stored).unwrap();
    let proved: Vec<u8> =
        BASE64.decode(proof).unwrap().iter().zip(signature).map(|(left, right)| left ^ right).collect();
    assert_eq!(P::hash(&proved), stored, "the proof is right");
    let server_key = P::hmac(b"Server Key", &key).unwrap();
    format!("v={}", BASE64.encode(P::hmac(message.as_bytes(), &server_key).unwrap())).into_bytes()
}

#[test]
fn names_are_escaped_and_the_header_is_bound() {
    let credentials = Credentials::password("a,b=c=,", PASSWORD).authorize_as("d=,e");
    let mut exchange = begun(&credentials, ALL_OFFERED).unwrap();
    assert_eq!(exchange.name(), "SCRAM-SHA-256");
    let first = text(start(&mut exchange).unwrap().unwrap());
    let bare = first.strip_prefix("n,a=d=3D=2Ce,").unwrap();
    let nonce = bare.strip_prefix("n=a=2Cb=3Dc=3D=2C,r=").unwrap();
    assert!(nonce.len() >= 24 && !nonce.contains(','));
    let challenge = format!("r={nonce}more,s=c2FsdA==,i=4096");
    let last = text(answer(&mut exchange, challenge.as_bytes()).unwrap());
    let bound = BASE64.encode("n,a=d=3D=2Ce,");
    assert!(last.starts_with(&format!("c={bound},r={nonce}more,p=")));
    let signed = signed_by_server::<Sha256>(PASSWORD, bare, &challenge, &last);
    assert_eq!(answer(&mut exchange, &signed).unwrap(), b"");
    assert_eq!(exchange.success(), Ok(()));
}

#[test]
fn nonces_differ() {
    let first = |_| text(start(&mut forced(user(), AuthMechanism::ScramSha1)).unwrap().unwrap());
    let firsts: std::collections::HashSet<String> = (0..50).map(first).collect();
    assert_eq!(firsts.len(), 50);
}

#[test]
fn a_nonce_that_does_not_continue_ours_is_not_answered() {
    let long = format!("{NONCE}{}", "x".repeat(2000));
    let middle = format!("x{NONCE}x");
    let spaced = format!("{NONCE} x");
    for nonce in ["", "other", NONCE, &NONCE[1..], &NONCE[..23], &middle, &long, &spaced] {
        let challenge = format!("r={nonce},s=QSXCR+Q6sek8bf92,i=4096");
        let mut exchange = started();
        assert_eq!(answer(&mut exchange, challenge.as_bytes()), Err(AuthFault::ServerNonce), "{nonce}");
        assert_eq!(answer(&mut exchange, FIRST.as_bytes()), Err(AuthFault::Challenge), "it is over");
    }
}

#[test]
fn few_and_too_many_iterations_are_not_answered() {
    let counted = |count: &str, credentials: Credentials| {
        let mut exchange = forced(credentials, AuthMechanism::ScramSha1);
        let first = text(start(&mut exchange).unwrap().unwrap());
        let nonce = first.rsplit_once("r=").unwrap().1;
        let next = exchange.challenge(format!("r={nonce}x,s=c2FsdA==,i={count}").as_bytes());
        next.map(|next| matches!(next, Move::Work(_)))
    };
    for count in [1, 4095, 1_000_001, u32::MAX] {
        assert_eq!(counted(&count.to_string(), user()), Err(AuthFault::Iterations(count)));
    }
    assert_eq!(counted("99999999999999999999", user()), Err(AuthFault::Iterations(u32::MAX)));
    assert_eq!(counted("1000000", user()), Ok(true));
    assert_eq!(counted("4295", user()), Ok(true));
    assert_eq!(counted("4295", user().max_iterations(4294)), Err(AuthFault::Iterations(4295)));
    assert_eq!(
        counted("4096", user().max_iterations(1)),
        Ok(true),
        "the cap is never below what is asked of servers"
    );
    assert_eq!(counted("4294967295", user().max_iterations(u32::MAX)), Ok(true));
    for count in ["", "0", "-1", "+5000", "05000", "4096.0", "4096 ", "x", "0x2000"] {
        assert_eq!(counted(count, user()), Err(AuthFault::Challenge), "{count:?}");
    }
}

#[test]
fn a_first_message_out_of_form_is_not_answered() {
    let whole = "fyko+d2lbbFgONRv9qkxdawL3rfc";
    let salt = "QSXCR+Q6sek8bf92";
    let long = BASE64.encode(vec![1; 1025]);
    let cases = [
        String::new(),
        "r".to_owned(),
        format!("m=x,r={whole},s={salt},i=4096"),
        format!("r={whole},s={salt},i=4096,m=x"),
        format!("r={whole},m=x,s={salt},i=4096"),
        format!("r={whole},i=4096,s={salt}"),
        format!("s={salt},r={whole},i=4096"),
        format!("r={whole},s={salt}"),
        format!("r={whole},s=,i=4096"),
        format!("r={whole},s=***,i=4096"),
        format!("r={whole},s={long},i=4096"),
    ];
    for case in cases {
        assert_eq!(answer(&mut started(), case.as_bytes()), Err(AuthFault::Challenge), "{case}");
    }
    for (said, name) in [("e=no-resources", "no-resources"), ("e=what,r=x", "other-error")] {
        assert_eq!(answer(&mut started(), said.as_bytes()), Err(AuthFault::ServerError(name)));
    }
    assert_eq!(answer(&mut started(), b"r=\xff,s=AA==,i=4096"), Err(AuthFault::Challenge));
    let extended = format!("{FIRST},x=unknown,y=");
    assert!(answer(&mut started(), extended.as_bytes()).is_ok(), "others may be ignored");
}

#[test]
fn a_server_that_did_not_sign_is_not_believed() {
    let mut exchange = with_nonce::<Sha1>(NONCE);
    assert_eq!(exchange.success(), Err(AuthFault::ServerSignature), "before it began");
    start(&mut exchange).unwrap();
    assert_eq!(exchange.success(), Err(AuthFault::ServerSignature), "before it was challenged");
    answer(&mut exchange, FIRST.as_bytes()).unwrap();
    assert_eq!(exchange.success(), Err(AuthFault::ServerSignature), "without a signature");
    let wrong: &[&[u8]] = &[
        b"",
        b"v=",
        b"v=rmF9pqV8S7suAoZWja4dJRkFsKU=",
        b"v=rmF9",
        b"v=***",
        b"x=1,v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
    ];
    for signature in wrong {
        let mut exchange = started();
        answer(&mut exchange, FIRST.as_bytes()).unwrap();
        assert_eq!(answer(&mut exchange, signature), Err(AuthFault::ServerSignature));
        assert_eq!(exchange.success(), Err(AuthFault::ServerSignature));
        assert_eq!(answer(&mut exchange, SIGNED), Err(AuthFault::Challenge), "there is no second try");
        assert_eq!(exchange.success(), Err(AuthFault::ServerSignature));
    }
    let mut exchange = started();
    answer(&mut exchange, FIRST.as_bytes()).unwrap();
    let extended = [SIGNED, b",x=y"].concat();
    assert_eq!(answer(&mut exchange, &extended).unwrap(), b"");
    assert_eq!(answer(&mut exchange, SIGNED), Err(AuthFault::Challenge), "nothing comes behind it");
    assert_eq!(exchange.success(), Err(AuthFault::ServerSignature));
}

#[test]
fn an_error_of_the_servers_has_a_known_name() {
    for (said, name) in
        [("invalid-proof", "invalid-proof"), ("other-error", "other-error"), ("your password", "other-error")]
    {
        let mut exchange = started();
        answer(&mut exchange, FIRST.as_bytes()).unwrap();
        let fault = answer(&mut exchange, format!("e={said}").as_bytes());
        assert_eq!(fault, Err(AuthFault::ServerError(name)));
        assert_eq!(exchange.success(), Err(AuthFault::ServerSignature));
    }
}

#[test]
fn no_challenge_comes_before_the_start_and_none_while_a_key_is_derived() {
    let mut exchange = with_nonce::<Sha1>(NONCE);
    assert_eq!(answer(&mut exchange, FIRST.as_bytes()), Err(AuthFault::Challenge));
    let mut exchange = started();
    let Ok(Move::Work(job)) = exchange.challenge(FIRST.as_bytes()) else { panic!("a key is needed") };
    assert_eq!(answer(&mut exchange, FIRST.as_bytes()), Err(AuthFault::Challenge));
    assert_eq!(exchange.resume(job.run()).map(drop), Err(AuthFault::Challenge));
}

#[test]
fn a_job_that_was_not_run_is_asked_for_again_and_a_strange_one_refused() {
    let (mut exchange, mut other) = (started(), started());
    let Ok(Move::Work(job)) = exchange.challenge(FIRST.as_bytes()) else { panic!("a key is needed") };
    let Ok(Move::Work(strange)) = other.challenge(FIRST.as_bytes()) else { panic!("a key is needed") };
    assert_eq!(exchange.resume(strange.run()).map(drop), Err(AuthFault::Challenge));
    let Ok(Move::Work(job)) = exchange.resume(job) else { panic!("it was not run") };
    let next = exchange.resume(job.run());
    assert!(said(&mut exchange, next).unwrap().unwrap().ends_with(b"p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="));
}
