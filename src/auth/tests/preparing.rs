//! Names and passwords as they are sent, and which are not.

use super::*;

fn plain(credentials: Credentials) -> String {
    text(start(&mut forced(credentials, AuthMechanism::Plain)).unwrap().unwrap())
}

#[test]
fn saslprep_is_as_in_its_examples() {
    // RFC 4013 §3.
    let prepared = |name: &str| prepared_user(name, false);
    assert_eq!(&*prepared("I\u{ad}X").unwrap(), "IX");
    assert_eq!(&*prepared("user").unwrap(), "user");
    assert_eq!(&*prepared("USER").unwrap(), "USER");
    assert_eq!(&*prepared("\u{aa}").unwrap(), "a");
    assert_eq!(&*prepared("\u{2168}").unwrap(), "IX");
    assert!(matches!(prepared("\u{7}"), Err(AuthFault::Prohibited(_))));
    assert!(matches!(prepared("\u{627}1"), Err(AuthFault::Prohibited(_))));
}

#[test]
fn user_password_and_identity_are_prepared_unless_raw() {
    let credentials = Credentials::password("\u{aa}nn", "p\u{a0}\u{2168}é").authorize_as("b\u{ad}ob");
    assert_eq!(plain(credentials.clone()), "bob\0ann\0p IXé");
    assert_eq!(plain(credentials.clone().raw()), "b\u{ad}ob\0\u{aa}nn\0p\u{a0}\u{2168}é");
    let first = text(start(&mut forced(credentials.clone(), AuthMechanism::ScramSha256)).unwrap().unwrap());
    assert!(first.starts_with("n,a=bob,n=ann,r="));
    let first = text(start(&mut forced(credentials.raw(), AuthMechanism::ScramSha256)).unwrap().unwrap());
    assert!(first.starts_with("n,a=b\u{ad}ob,n=\u{aa}nn,r="));
}

#[test]
fn raw_forgets_what_was_prepared_before() {
    let credentials = Credentials::password("\u{aa}", "\u{2168}");
    assert_eq!(plain(credentials.clone()), "\0a\0IX");
    assert_eq!(plain(credentials.clone().raw()), "\0\u{aa}\0\u{2168}");
    assert_eq!(plain(credentials), "\0a\0IX", "and the other clone stays as it was");
}

#[test]
fn what_cannot_be_sent_is_told_before_anything_is() {
    let password = |user: &str, password: &str| Credentials::password(user, password);
    let long = "x".repeat(1025);
    let cases = [
        password("", "x"),
        password("tim", ""),
        password("", "x").raw(),
        password("tim", "").raw(),
        password("\u{ad}", "x"),
        password("tim", "\u{ad}"),
        password("tim", "bell\u{7}"),
        password("t\rm", "x"),
        password("tim", "\u{e000}"),
        password("t\0m", "x"),
        password("t\0m", "x").raw(),
        password("tim", "x\0").raw(),
        password(&long, "x").raw(),
        password("tim", &long),
        // It grows from 3 octets to 33 where it is prepared.
        password(&"\u{fdfa}".repeat(80), "x"),
        password("tim", "x").authorize_as(""),
        password("tim", "x").authorize_as("a\0b").raw(),
        Credentials::external().authorize_as("a\nb"),
        Credentials::oauth("", "token"),
        Credentials::oauth("a\u{1}b", "token").raw(),
        Credentials::oauth("tim", ""),
        Credentials::oauth("tim", "to ken"),
        Credentials::oauth("tim", "token\r\n"),
        Credentials::oauth("tim", "token\u{1}auth=x"),
        Credentials::oauth("tim", "tökén"),
        Credentials::oauth("tim", "t".repeat(8193)),
    ];
    for (at, credentials) in cases.iter().enumerate() {
        let fault = credentials.check().expect_err(&at.to_string());
        assert!(matches!(fault, AuthFault::Prohibited(_)), "{at}: {fault}");
        assert_eq!(begun(credentials, ALL_OFFERED).unwrap_err(), fault, "{at}");
    }
}

#[test]
fn what_can_be_sent_is_found_good() {
    for credentials in [
        user(),
        user().raw(),
        Credentials::password("tim", "bell\u{7}\r\n").raw(),
        Credentials::password("tim", "x".repeat(1024)),
        Credentials::password("é".repeat(127), "пароль"),
        Credentials::oauth("tim", "t".repeat(8192)),
        Credentials::oauth_from("tim", || Err("not asked yet".into())),
        Credentials::external(),
        Credentials::custom(|| panic!("not made yet")),
    ] {
        assert_eq!(credentials.check(), Ok(()), "{credentials:?}");
    }
}

#[test]
fn the_longest_answers_fit_into_a_line() {
    let longest = Credentials::oauth("=".repeat(255), "t".repeat(8192));
    for mechanism in [AuthMechanism::XOAuth2, AuthMechanism::OAuthBearer] {
        assert!(start(&mut forced(longest.clone(), mechanism)).is_ok());
    }
    let longest = Credentials::password("=".repeat(255), "p".repeat(1024)).authorize_as("=".repeat(255));
    assert!(start(&mut forced(longest.clone(), AuthMechanism::Plain)).is_ok());
    assert!(start(&mut forced(longest, AuthMechanism::ScramSha1)).is_ok());
}
