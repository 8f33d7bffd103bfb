//! Which mechanism is chosen.

use super::*;
use AuthMechanism::*;

fn chosen(credentials: &Credentials, offered: &[&str]) -> Option<String> {
    begun(credentials, offered).ok().map(|exchange| exchange.name().to_owned())
}

#[test]
fn the_strongest_offered_is_chosen() {
    let weaker = ["SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "PLAIN", "LOGIN"];
    for at in 0..weaker.len() {
        let mut offered = weaker[at..].to_vec();
        offered.reverse();
        assert_eq!(chosen(&user().allow_cram_md5(), &offered).as_deref(), Some(weaker[at]));
    }
    assert_eq!(chosen(&user(), &["login", "plain"]).as_deref(), Some("PLAIN"), "in any case");
    assert_eq!(chosen(&user(), &["CRAM-MD5", "LOGIN"]).as_deref(), Some("LOGIN"), "it was not allowed");
    let token = Credentials::oauth("tim", "token");
    assert_eq!(chosen(&token, ALL_OFFERED).as_deref(), Some("OAUTHBEARER"));
    assert_eq!(chosen(&token, &["PLAIN", "XOAUTH2"]).as_deref(), Some("XOAUTH2"));
}

#[test]
fn channel_binding_is_never_chosen() {
    assert!(chosen(&user(), &["SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS"]).is_none());
}

#[test]
fn what_is_forced_is_used_or_nothing() {
    for mechanism in [ScramSha256, ScramSha1, CramMd5, Plain, Login] {
        let credentials = user().mechanism(mechanism);
        assert_eq!(chosen(&credentials, ALL_OFFERED).as_deref(), Some(mechanism.name()));
        assert!(chosen(&credentials, &["XOAUTH2", "EXTERNAL"]).is_none());
    }
    for (credentials, mechanism) in [
        (user(), XOAuth2),
        (user(), External),
        (Credentials::oauth("tim", "token"), Plain),
        (Credentials::external(), Anonymous),
        (Credentials::anonymous("tim"), External),
        (Credentials::custom(|| Box::new(simple::External::new(None))), External),
    ] {
        let credentials = credentials.mechanism(mechanism);
        assert!(matches!(credentials.check(), Err(AuthFault::Prohibited(_))), "{credentials:?}");
        assert!(matches!(begun(&credentials, ALL_OFFERED), Err(AuthFault::Prohibited(_))));
    }
}

#[test]
fn acting_as_another_leaves_out_who_cannot_say_so() {
    let other = user().allow_cram_md5().authorize_as("ann");
    assert_eq!(chosen(&other, &["CRAM-MD5", "LOGIN", "PLAIN"]).as_deref(), Some("PLAIN"));
    let fault = begun(&other, &["CRAM-MD5", "LOGIN"]).unwrap_err();
    assert_eq!(fault, AuthFault::NoMechanism { offered: "CRAM-MD5 LOGIN".into() });
    let token = Credentials::oauth("tim", "token").authorize_as("ann");
    assert!(begun(&token, &["XOAUTH2"]).is_err());
    for credentials in [
        user().authorize_as("ann").mechanism(Login),
        user().authorize_as("ann").mechanism(CramMd5),
        token.mechanism(XOAuth2),
        Credentials::anonymous("tim").authorize_as("ann"),
        Credentials::custom(|| Box::new(simple::External::new(None))).authorize_as("ann"),
    ] {
        assert!(matches!(credentials.check(), Err(AuthFault::Prohibited(_))), "{credentials:?}");
    }
}

#[test]
fn without_tls_no_secret_is_shown() {
    let without = |credentials: &Credentials, offered: &[&str]| {
        begun_as(credentials, offered, false, Tried::default(), false)
            .map(|exchange| exchange.name().to_owned())
    };
    assert_eq!(without(&user(), &["PLAIN", "LOGIN"]), Err(AuthFault::NeedsTls));
    assert_eq!(without(&Credentials::oauth("tim", "token"), ALL_OFFERED), Err(AuthFault::NeedsTls));
    assert_eq!(without(&user(), ALL_OFFERED).unwrap(), "SCRAM-SHA-256");
    assert_eq!(without(&user().allow_cram_md5(), &["CRAM-MD5", "PLAIN"]).unwrap(), "CRAM-MD5");
    assert_eq!(without(&Credentials::external(), ALL_OFFERED).unwrap(), "EXTERNAL");
    assert_eq!(without(&Credentials::anonymous(""), ALL_OFFERED).unwrap(), "ANONYMOUS");
    assert!(!user().is_allowed_without_tls());
    let allowed = user().allow_without_tls();
    assert!(allowed.is_allowed_without_tls());
    assert_eq!(without(&allowed, &["PLAIN", "LOGIN"]).unwrap(), "PLAIN");
    assert_eq!(without(&user().mechanism(Login), ALL_OFFERED), Err(AuthFault::NeedsTls));
}

#[test]
fn what_was_tried_is_not_tried_again() {
    let credentials = user().allow_cram_md5();
    let (mut tried, mut names) = (Tried::default(), Vec::new());
    loop {
        match begun_as(&credentials, ALL_OFFERED, true, tried, false) {
            Ok(exchange) => {
                names.push(exchange.name().to_owned());
                tried.add(&exchange);
            }
            Err(fault) => {
                assert!(matches!(fault, AuthFault::NoMechanism { .. }));
                break;
            }
        }
    }
    assert_eq!(names, ["SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "PLAIN", "LOGIN"]);
    assert_eq!(format!("{tried:?}"), "{ScramSha256, ScramSha1, CramMd5, Plain, Login}");
}

#[test]
fn what_was_offered_is_told_within_bounds() {
    let fault = begun(&user(), &[]).unwrap_err();
    assert_eq!(fault.to_string(), "the server offers no mechanism");
    let fault = begun(&user(), &["GSSAPI", "bad name", "\u{1b}[31m", "NTLM"]).unwrap_err();
    assert_eq!(fault.to_string(), "the server offers no usable mechanism, only GSSAPI NTLM");
    let many = vec!["X-NINETEEN-OCTETS-9"; 10_000];
    let AuthFault::NoMechanism { offered } = begun(&user(), &many).unwrap_err() else { panic!("not ours") };
    assert!(offered.len() <= 200);
}

#[test]
fn names_are_read_in_any_case_and_written_as_registered() {
    for mechanism in mechanism::ALL {
        assert_eq!(mechanism.to_string().to_lowercase().parse(), Ok(mechanism));
    }
    for name in ["", "AUTO", "SCRAM-SHA-256-PLUS", "PLAIN "] {
        assert_eq!(name.parse::<AuthMechanism>(), Err(UnknownMechanism));
    }
}

#[test]
fn the_arguments_of_net_smtp_bulk_are_understood() {
    let seed = |mechanism, offered| {
        let credentials = Credentials::from_net_smtp_bulk(mechanism, "tim", "pass").unwrap();
        let mut exchange = begun(&credentials, offered).unwrap();
        (exchange.name().to_owned(), start(&mut exchange).unwrap().map(text).unwrap_or_default())
    };
    assert_eq!(seed("AUTO", ALL_OFFERED).0, "SCRAM-SHA-256");
    assert_eq!(seed("auto", &["PLAIN", "LOGIN"]).0, "PLAIN");
    assert_eq!(seed("Login", ALL_OFFERED).0, "LOGIN");
    assert_eq!(seed("CRAM-MD5", ALL_OFFERED).0, "CRAM-MD5", "who names it wants it");
    assert_eq!(seed("XOAUTH2", ALL_OFFERED).1, "user=tim\u{1}auth=Bearer pass\u{1}\u{1}");
    assert_eq!(seed("OAUTHBEARER", ALL_OFFERED).0, "OAUTHBEARER");
    assert_eq!(seed("EXTERNAL", ALL_OFFERED), ("EXTERNAL".to_owned(), "tim".to_owned()));
    assert_eq!(seed("ANONYMOUS", ALL_OFFERED).1, "tim");
    assert!(Credentials::from_net_smtp_bulk("EXTERNAL", "", "").unwrap().check().is_ok());
    assert_eq!(Credentials::from_net_smtp_bulk("NTLM", "tim", "pass").unwrap_err(), UnknownMechanism);
}
