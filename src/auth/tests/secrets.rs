//! No secret is printed, and none that a server repeats goes unnoticed.

use super::*;

const TOKEN: &str = "ya29.a0AfH6SMBverylongtokenthatnobodymaysee";

#[test]
fn nothing_prints_a_secret() {
    let mut printed = String::new();
    let mut note = |what: &dyn fmt::Debug| printed.push_str(&format!("{what:?}\n{what:#?}\n"));
    let secretive = Credentials::oauth_from("tim", || Ok(TOKEN.into()));
    for credentials in [user(), Credentials::oauth("tim", TOKEN), secretive, Credentials::anonymous(PASSWORD)]
    {
        note(&credentials);
        credentials.check().unwrap();
        note(&credentials);
        for offered in ALL_OFFERED {
            let Ok(mut exchange) = begun(&credentials, &[offered]) else { continue };
            note(&exchange);
            let mut next = exchange.start();
            for _ in 0..4 {
                note(&next);
                note(&exchange);
                next = match next {
                    Ok(Move::Work(job)) => {
                        let job = job.run();
                        note(&job);
                        exchange.resume(job)
                    }
                    Ok(Move::Say(said)) => {
                        let nonce =
                            said.map(|said| String::from_utf8_lossy(&said).into_owned()).unwrap_or_default();
                        let nonce =
                            nonce.rsplit_once("r=").map(|(_, nonce)| nonce.to_owned()).unwrap_or_default();
                        exchange.challenge(format!("r={nonce}x,s=c2FsdA==,i=4096").as_bytes())
                    }
                    Err(_) => break,
                };
            }
            note(&exchange);
        }
    }
    for secret in [PASSWORD, TOKEN] {
        assert!(!printed.contains(secret) && !printed.contains(&BASE64.encode(secret)));
        let octets = format!("{:?}", secret.as_bytes());
        assert!(!printed.contains(octets.trim_matches(['[', ']'])));
    }
    assert!(printed.contains("Say(..)") && printed.contains("AuthJob(\"derive a key\")"));
    assert!(printed.contains(r#"Credentials { kind: "password", mechanism: None, .. }"#));
    assert!(printed.contains(r#"Exchange("SCRAM-SHA-256")"#));
}

#[test]
fn no_fault_repeats_a_bad_secret() {
    let secret = "s3cr\u{e000}t-s3cret";
    for credentials in [
        Credentials::password("tim", secret),
        Credentials::password("tim", format!("{secret}\0")).raw(),
        Credentials::oauth("tim", secret),
        Credentials::oauth_from("tim", move || Ok(secret.into())),
    ] {
        let run = || -> Result<(), AuthFault> {
            credentials.check()?;
            start(&mut begun(&credentials, ALL_OFFERED)?).map(drop)
        };
        let fault = run().unwrap_err();
        assert!(!format!("{fault} {fault:?}").contains("s3cr"), "{fault}");
    }
    assert_eq!("s3cret".parse::<AuthMechanism>().unwrap_err().to_string().find("s3cret"), None);
}

#[test]
fn a_password_that_a_server_repeats_is_noticed() {
    let secret = BASE64.encode(PASSWORD);
    for mechanism in
        [AuthMechanism::Plain, AuthMechanism::Login, AuthMechanism::CramMd5, AuthMechanism::ScramSha1]
    {
        let mut exchange = forced(user(), mechanism);
        let mut lines: Vec<Vec<u8>> = start(&mut exchange).unwrap().into_iter().collect();
        if mechanism != AuthMechanism::Plain {
            let nonce = lines.first().map(|line| text(line.clone())).unwrap_or_default();
            let nonce = nonce.rsplit_once("r=").map(|(_, nonce)| nonce.to_owned()).unwrap_or_default();
            let challenge = format!("r={nonce}x,s=c2FsdA==,i=4096");
            lines.push(answer(&mut exchange, challenge.as_bytes()).unwrap());
        }
        for line in &lines {
            // What a name alone is called by is no secret if it is short.
            if line != b"tim" {
                let quoted = format!("535 5.7.8 bad: {}", BASE64.encode(line));
                assert!(exchange.conceals(quoted.as_bytes()), "{mechanism}: {quoted}");
            }
        }
        assert!(exchange.conceals(format!("no user tim with {PASSWORD}.").as_bytes()), "{mechanism}");
        assert!(exchange.conceals(format!("535 {secret}").as_bytes()), "{mechanism}");
        assert!(exchange.conceals(secret.trim_end_matches('=').as_bytes()), "{mechanism}");
        for harmless in
            ["", "535", "5.7.8 Authentication credentials invalid", "no user tim", "TANSTAAF-TANSTAAF"]
        {
            assert!(!exchange.conceals(harmless.as_bytes()), "{mechanism}: {harmless}");
        }
    }
}

#[test]
fn a_login_line_that_a_server_repeats_is_noticed() {
    let mut exchange = forced(user(), AuthMechanism::Login);
    start(&mut exchange).unwrap();
    assert!(!exchange.conceals(b"535 dGlt"), "not said yet");
    answer(&mut exchange, b"").unwrap();
    assert!(exchange.conceals(b"535 dGlt"));
}

#[test]
fn what_a_password_could_be_guessed_with_is_noticed() {
    let mut exchange = forced(user(), AuthMechanism::CramMd5);
    start(&mut exchange).unwrap();
    let said = text(answer(&mut exchange, b"<1@x>").unwrap());
    assert!(exchange.conceals(said.split_once(' ').unwrap().1.as_bytes()));
    let mut exchange = forced(user(), AuthMechanism::ScramSha256);
    let first = text(start(&mut exchange).unwrap().unwrap());
    let nonce = first.rsplit_once("r=").unwrap().1;
    let last = text(answer(&mut exchange, format!("r={nonce}x,s=c2FsdA==,i=4096").as_bytes()).unwrap());
    assert!(exchange.conceals(last.split_once(",p=").unwrap().1.as_bytes()));
}

#[test]
fn a_part_of_a_token_is_noticed_too() {
    let mut exchange = forced(Credentials::oauth("tim@example.org", TOKEN), AuthMechanism::XOAuth2);
    let line = BASE64.encode(start(&mut exchange).unwrap().unwrap());
    assert!(exchange.conceals(format!("535 bad token {TOKEN}").as_bytes()));
    assert!(exchange.conceals(format!("535 bad token {}", &TOKEN[..31]).as_bytes()), "cut off");
    assert!(exchange.conceals(format!("501 line too long: AUTH XOAUTH2 {}", &line[..40]).as_bytes()));
    assert!(!exchange.conceals(b"535 bad token for tim@example.org"));
}

#[test]
fn short_secrets_conceal_nothing_by_chance() {
    let mut exchange = forced(Credentials::password("tim", "5.7"), AuthMechanism::Plain);
    start(&mut exchange).unwrap();
    assert!(!exchange.conceals(b"535 5.7.8 no"));
}

#[test]
fn an_account_holds_the_password_and_shows_none() {
    let password = SecretString::from(PASSWORD);
    let account = Account::new("tim", &password, false).unwrap();
    assert_eq!(account.password(), password.expose_secret());
    assert_eq!(format!("{account:?}"), "Account");
}
