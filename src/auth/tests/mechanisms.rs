//! PLAIN, LOGIN, CRAM-MD5, EXTERNAL, ANONYMOUS, the bearer mechanisms, and
//! the caller's own.

use super::*;
use sasl::client::MechanismError;
use sasl::common::Credentials as Given;

#[test]
fn plain_is_as_in_its_specification() {
    // RFC 4616 §4.
    let mut exchange = forced(Credentials::password("tim", "tanstaaftanstaaf"), AuthMechanism::Plain);
    assert_eq!(start(&mut exchange).unwrap().unwrap(), b"\0tim\0tanstaaftanstaaf");
    assert_eq!(exchange.success(), Ok(()));
    let other = Credentials::password("Kurt", "xipj3plmq").authorize_as("Ursel");
    let mut exchange = forced(other, AuthMechanism::Plain);
    assert_eq!(start(&mut exchange).unwrap().unwrap(), b"Ursel\0Kurt\0xipj3plmq");
    assert_eq!(answer(&mut exchange, b""), Err(AuthFault::Challenge), "it has said all");
}

#[test]
fn login_answers_twice_whatever_it_is_asked() {
    for (first, second) in [(&b"Username:"[..], &b"Password:"[..]), (b"User Name\0", b""), (b"", b"\xff")] {
        let mut exchange = forced(user(), AuthMechanism::Login);
        assert_eq!(start(&mut exchange), Ok(None));
        assert_eq!(exchange.success(), Err(AuthFault::Challenge), "accepted before anything was said");
        assert_eq!(answer(&mut exchange, first).unwrap(), b"tim");
        assert_eq!(exchange.success(), Err(AuthFault::Challenge), "accepted without the password");
        assert_eq!(answer(&mut exchange, second).unwrap(), PASSWORD.as_bytes());
        assert_eq!(exchange.success(), Ok(()));
        assert_eq!(answer(&mut exchange, b"Password:"), Err(AuthFault::Challenge));
    }
}

#[test]
fn cram_md5_is_as_in_its_specification() {
    // RFC 2195 §2.
    let mut exchange = forced(Credentials::password("tim", "tanstaaftanstaaf"), AuthMechanism::CramMd5);
    assert_eq!(start(&mut exchange), Ok(None));
    let said = answer(&mut exchange, b"<1896.697170952@postoffice.reston.mci.net>").unwrap();
    assert_eq!(text(said), "tim b913a602c7eda7a495b4e6e7334d3890");
    assert_eq!(exchange.success(), Ok(()));
    assert_eq!(answer(&mut exchange, b"<again>"), Err(AuthFault::Challenge));
}

#[test]
fn an_empty_challenge_gets_no_hash() {
    let mut exchange = forced(user(), AuthMechanism::CramMd5);
    assert_eq!(start(&mut exchange), Ok(None));
    assert_eq!(answer(&mut exchange, b""), Err(AuthFault::Challenge));
    assert_eq!(exchange.success(), Err(AuthFault::Challenge));
}

#[test]
fn xoauth2_is_as_google_has_it() {
    let credentials =
        Credentials::oauth("someuser@example.com", "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg");
    let mut exchange = forced(credentials, AuthMechanism::XOAuth2);
    let expected = "dXNlcj1zb21ldXNlckBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciB5YTI5LnZGOWRmdDRxbVRjMk52YjNSbGNr\
                    QmhkSFJoZG1semRHRXVZMjl0Q2cBAQ==";
    assert_eq!(BASE64.encode(start(&mut exchange).unwrap().unwrap()), expected);
    assert_eq!(answer(&mut exchange, br#"{"status":"401"}"#).unwrap(), b"", "so that the server may refuse");
    assert_eq!(exchange.success(), Err(AuthFault::Challenge), "an error is no success");
    assert_eq!(answer(&mut exchange, b"{}"), Err(AuthFault::Challenge));
}

#[test]
fn oauthbearer_is_as_in_its_specification() {
    // RFC 7628 §4.1, without host and port.
    let token = "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==";
    let credentials = Credentials::oauth("user@example.com", token);
    let mut exchange = forced(credentials.clone(), AuthMechanism::OAuthBearer);
    let expected = format!("n,a=user@example.com,\u{1}auth=Bearer {token}\u{1}\u{1}");
    assert_eq!(text(start(&mut exchange).unwrap().unwrap()), expected);
    assert_eq!(answer(&mut exchange, br#"{"status":"invalid_token"}"#).unwrap(), b"\x01");
    assert_eq!(exchange.success(), Err(AuthFault::Challenge));
    assert_eq!(answer(&mut exchange, b"{}"), Err(AuthFault::Challenge));
    let mut exchange = forced(credentials.authorize_as("a=b,c"), AuthMechanism::OAuthBearer);
    assert!(text(start(&mut exchange).unwrap().unwrap()).starts_with("n,a=a=3Db=2Cc,\u{1}auth="));
    assert_eq!(exchange.success(), Ok(()));
}

#[test]
fn external_says_whom_to_act_as_or_nothing() {
    let mut exchange = begun(&Credentials::external(), &["external"]).unwrap();
    assert_eq!(start(&mut exchange), Ok(Some(Vec::new())));
    assert_eq!(exchange.success(), Ok(()));
    assert_eq!(answer(&mut exchange, b""), Err(AuthFault::Challenge));
    let mut exchange =
        begun(&Credentials::external().authorize_as("fred@example.org"), &["EXTERNAL"]).unwrap();
    assert_eq!(start(&mut exchange).unwrap().unwrap(), b"fred@example.org");
}

#[test]
fn anonymous_leaves_a_trace() {
    let mut exchange = begun(&Credentials::anonymous("sirhc"), ALL_OFFERED).unwrap();
    assert_eq!(start(&mut exchange).unwrap().unwrap(), b"sirhc");
    assert_eq!(exchange.name(), "ANONYMOUS");
    assert!(Credentials::anonymous("").check().is_ok());
    assert!(Credentials::anonymous("é".repeat(255)).check().is_ok());
    for trace in ["a".repeat(256), "a\nb".to_owned(), "\u{e000}".to_owned()] {
        assert!(matches!(Credentials::anonymous(trace).check(), Err(AuthFault::Prohibited(_))));
    }
}

#[test]
fn each_mechanism_can_be_made_by_the_trait() {
    let given = || Given::default().with_username("tim").with_password("tanstaaftanstaaf");
    let mut plain = Plain::from_credentials(given()).unwrap();
    assert_eq!(plain.initial(), b"\0tim\0tanstaaftanstaaf");
    let mut login = Login::from_credentials(given()).unwrap();
    assert_eq!(login.initial(), b"");
    assert_eq!(login.response(b"").unwrap(), b"tim");
    let mut cram = CramMd5::from_credentials(given()).unwrap();
    let said = cram.response(b"<1896.697170952@postoffice.reston.mci.net>").unwrap();
    assert_eq!(said, b"tim b913a602c7eda7a495b4e6e7334d3890");
    let mut external = External::from_credentials(Given::default().with_username("tim")).unwrap();
    assert_eq!(external.initial(), b"tim");
    let mut anonymous = Anonymous::from_credentials(Given::default()).unwrap();
    assert_eq!(anonymous.initial(), b"");
    let mut bearer = bearer::XOAuth2::from_credentials(given()).unwrap();
    assert_eq!(bearer.initial(), b"user=tim\x01auth=Bearer tanstaaftanstaaf\x01\x01");
    let mut bearer = bearer::OAuthBearer::from_credentials(given()).unwrap();
    assert_eq!(bearer.initial(), b"n,a=tim,\x01auth=Bearer tanstaaftanstaaf\x01\x01");
    let missing = Plain::from_credentials(Given::default()).err();
    assert_eq!(missing, Some(MechanismError::PlainRequiresPlaintextPassword));
    let missing = Scram::<Sha1>::from_credentials(Given::default().with_password("x")).err();
    assert_eq!(missing, Some(MechanismError::ScramRequiresUsername));
    let surplus = Anonymous::from_credentials(given()).err();
    assert_eq!(surplus, Some(MechanismError::AnonymousRequiresNoCredentials));
}

/// Says what it was made with, and panics at what it is told to.
#[derive(Clone)]
struct Odd {
    name: &'static str,
    initial: Vec<u8>,
    answer: Vec<u8>,
    panics_at: &'static str,
}

impl Odd {
    fn new(name: &'static str, initial: &[u8]) -> Odd {
        Odd { name, initial: initial.to_vec(), answer: b"answer".to_vec(), panics_at: "" }
    }

    fn credentials(self) -> Credentials {
        Credentials::custom(move || {
            assert_ne!(self.panics_at, "make");
            Box::new(self.clone())
        })
    }
}

impl Mechanism for Odd {
    fn name(&self) -> &str {
        assert_ne!(self.panics_at, "name");
        self.name
    }

    fn from_credentials(_: Given) -> Result<Odd, MechanismError> {
        Err(MechanismError::InvalidState)
    }

    fn initial(&mut self) -> Vec<u8> {
        assert_ne!(self.panics_at, "initial");
        self.initial.clone()
    }

    fn response(&mut self, challenge: &[u8]) -> Result<Vec<u8>, MechanismError> {
        assert_ne!(self.panics_at, "response");
        match challenge {
            b"fail" => Err(MechanismError::CannotDecodeChallenge),
            _ => Ok(self.answer.clone()),
        }
    }

    fn success(&mut self, _: &[u8]) -> Result<(), MechanismError> {
        assert_ne!(self.panics_at, "success");
        Ok(())
    }
}

#[test]
fn a_custom_mechanism_is_driven_by_its_trait() {
    let credentials = Odd::new("X-ODD", b"first").credentials();
    let mut exchange = begun(&credentials, &["PLAIN", "x-odd"]).unwrap();
    assert_eq!(exchange.name(), "X-ODD");
    assert_eq!(start(&mut exchange).unwrap().unwrap(), b"first");
    assert_eq!(answer(&mut exchange, b"").unwrap(), b"answer");
    let fault = answer(&mut exchange, b"fail").unwrap_err();
    assert_eq!(fault, AuthFault::Mechanism("can't decode challenge".into()));
    assert_eq!(exchange.success(), Ok(()));
}

#[test]
fn an_empty_initial_response_is_none_but_for_two() {
    let mut exchange = begun(&Odd::new("X-ODD", b"").credentials(), &["X-ODD"]).unwrap();
    assert_eq!(start(&mut exchange), Ok(None));
    assert_eq!(answer(&mut exchange, b"").unwrap(), b"", "the server asks for the initial response");
    assert_eq!(answer(&mut exchange, b"").unwrap(), b"answer");
    let mut exchange = begun(&Odd::new("X-ODD", b"").credentials(), &["X-ODD"]).unwrap();
    assert_eq!(start(&mut exchange), Ok(None));
    assert_eq!(answer(&mut exchange, b"<1>").unwrap(), b"answer", "the server speaks first");
    let mut exchange = begun(&Odd::new("EXTERNAL", b"").credentials(), &["EXTERNAL"]).unwrap();
    assert_eq!(start(&mut exchange), Ok(Some(Vec::new())));
}

#[test]
fn a_custom_mechanism_needs_an_offer_a_name_and_tls() {
    let credentials = Odd::new("X-ODD", b"").credentials();
    let fault = begun(&credentials, &["PLAIN", "LOGIN"]).unwrap_err();
    assert_eq!(fault, AuthFault::NoMechanism { offered: "PLAIN LOGIN".into() });
    let without = |credentials: &Credentials| {
        begun_as(credentials, &["X-ODD"], false, Tried::default(), false).map(drop)
    };
    assert_eq!(without(&credentials), Err(AuthFault::NeedsTls));
    assert_eq!(without(&credentials.clone().allow_without_tls()), Ok(()));
    let mut tried = Tried::default();
    tried.add(&begun(&credentials, &["X-ODD"]).unwrap());
    assert!(begun_as(&credentials, &["X-ODD"], true, tried, false).is_err());
    for name in ["", "x-odd", "A B", "A\r\nB", "X234567890123456789012", "É"] {
        let fault = begun(&Odd::new(name, b"").credentials(), &[name]).unwrap_err();
        assert!(matches!(fault, AuthFault::Mechanism(_)), "{name:?}: {fault}");
    }
    assert!(begun(&Odd::new("X2345678901234567890", b"").credentials(), &["X2345678901234567890"]).is_ok());
}

#[test]
fn a_custom_mechanism_that_panics_or_babbles_is_a_fault() {
    let panicked = AuthFault::Mechanism("it panicked".into());
    for panics_at in ["make", "name", "initial", "response", "success"] {
        let credentials = Odd { panics_at, ..Odd::new("X-ODD", b"first") }.credentials();
        let run = || -> Result<(), AuthFault> {
            let mut exchange = begun(&credentials, &["X-ODD"])?;
            start(&mut exchange)?;
            answer(&mut exchange, b"x")?;
            exchange.success()
        };
        assert_eq!(run(), Err(panicked.clone()), "{panics_at}");
    }
    let long = vec![0; exchange::MAX_ANSWER + 1];
    let mut exchange = begun(&Odd::new("X-ODD", &long).credentials(), &["X-ODD"]).unwrap();
    assert!(matches!(start(&mut exchange), Err(AuthFault::Mechanism(_))));
    let credentials = Odd { answer: long, ..Odd::new("X-ODD", b"first") }.credentials();
    let mut exchange = begun(&credentials, &["X-ODD"]).unwrap();
    start(&mut exchange).unwrap();
    assert!(matches!(answer(&mut exchange, b""), Err(AuthFault::Mechanism(_))));
}

#[test]
fn a_server_that_keeps_challenging_is_left() {
    let mut exchange = begun(&Odd::new("X-ODD", b"first").credentials(), &["X-ODD"]).unwrap();
    start(&mut exchange).unwrap();
    for _ in 0..exchange::MAX_CHALLENGES {
        assert!(answer(&mut exchange, b"more").is_ok());
    }
    for _ in 0..300 {
        assert_eq!(answer(&mut exchange, b"more"), Err(AuthFault::TooManyChallenges));
    }
}

#[test]
fn a_challenge_longer_than_a_line_is_none() {
    let mut exchange = forced(user(), AuthMechanism::Login);
    start(&mut exchange).unwrap();
    assert_eq!(answer(&mut exchange, &vec![b'a'; exchange::MAX_ANSWER + 1]), Err(AuthFault::Challenge));
}

#[test]
fn random_challenges_make_no_mechanism_panic() {
    let mut random = fastrand::Rng::with_seed(7);
    let parts: &[&[u8]] =
        &[b"r=", b"s=", b",", b"i=", b"4096", b"AAAA", b"m=", b"v=", b"e=", b"=", b"\xff", b""];
    for round in 0..4000 {
        let offered = ALL_OFFERED[round % ALL_OFFERED.len()];
        let credentials = match offered {
            "XOAUTH2" | "OAUTHBEARER" => Credentials::oauth("tim", "token"),
            "EXTERNAL" => Credentials::external(),
            "ANONYMOUS" => Credentials::anonymous("tim"),
            _ => user().allow_cram_md5(),
        };
        let Ok(mut exchange) = begun(&credentials, &[offered]) else { continue };
        let first = start(&mut exchange).unwrap().unwrap_or_default();
        let nonce = text(first).rsplit_once("r=").map(|(_, nonce)| nonce.to_owned()).unwrap_or_default();
        for _ in 0..12 {
            let mut challenge = Vec::new();
            if random.bool() {
                challenge.extend_from_slice(b"r=");
                challenge.extend_from_slice(nonce.as_bytes());
            }
            for _ in 0..random.usize(..8) {
                match random.u8(..4) {
                    0 => challenge.push(random.u8(..)),
                    _ => challenge.extend_from_slice(parts[random.usize(..parts.len())]),
                }
            }
            let _ = answer(&mut exchange, &challenge);
            let _ = exchange.conceals(&challenge);
        }
        if offered.starts_with("SCRAM") {
            assert_eq!(exchange.success(), Err(AuthFault::ServerSignature));
        }
    }
}
