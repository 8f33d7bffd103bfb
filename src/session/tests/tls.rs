//! STARTTLS and TLS from the first octet, as a session sees them.

use super::*;
use crate::security::Security;

const OFFER: &str = "250-mx\r\n250-SIZE 1000\r\n250 STARTTLS\r\n";

/// A session of this security whose connection has just been made.
fn opened(security: Security) -> Talk {
    let mut talk = Talk::closed();
    talk.session = Session::new(Arc::new(timeouts())).with_security(security);
    talk.session.open("client.example".parse().unwrap(), talk.now);
    talk
}

/// The server has said this to EHLO.
fn introduced(security: Security, offer: &str) -> Talk {
    let mut talk = opened(security);
    talk.hear("220 mx\r\n");
    talk.say("EHLO client.example\r\n");
    talk.hear(offer);
    talk
}

/// STARTTLS was accepted.
fn upgrading() -> Talk {
    let mut talk = introduced(Security::StartTls, OFFER);
    talk.say("STARTTLS\r\n");
    talk.hear("220 go ahead\r\n");
    talk
}

#[test]
fn starttls_comes_before_all_else_and_ehlo_comes_again() {
    let mut talk = upgrading();
    assert!(talk.session.wants_tls() && !talk.session.is_over() && !talk.session.has_tls());
    assert!(!talk.session.wants_write());
    talk.session.secured(talk.now);
    assert!(talk.session.has_tls() && !talk.session.wants_tls());
    talk.say("EHLO client.example\r\n");
    talk.hear("250-mx\r\n250 8BITMIME\r\n");
    assert!(talk.session.is_usable());
}

#[test]
fn what_was_offered_before_tls_is_forgotten() {
    let mut talk = upgrading();
    talk.session.secured(talk.now);
    assert_eq!(talk.session.extensions(), &Extensions::default());
    talk.say("EHLO client.example\r\n");
    talk.hear("500 what?\r\n");
    talk.say("HELO client.example\r\n");
    talk.hear("250 mx\r\n");
    assert_eq!(talk.session.extensions(), &Extensions::default());
    assert!(talk.session.is_usable());
}

#[test]
fn tls_from_the_first_octet_comes_before_the_greeting() {
    let mut talk = opened(Security::Implicit);
    assert!(talk.session.wants_tls());
    assert_eq!(talk.session.step(), Step::Tls);
    talk.session.securing(talk.now);
    assert_eq!(talk.deadline_in(), timeouts().tls);
    talk.later(SECOND);
    talk.session.secured(talk.now);
    assert_eq!(talk.deadline_in(), timeouts().greeting);
    talk.hear("220 mx\r\n");
    talk.say("EHLO client.example\r\n");
    talk.hear(OFFER);
    assert!(talk.session.is_usable(), "and no STARTTLS on top");
}

#[test]
fn a_byte_behind_the_220_of_starttls_is_a_failure() {
    for behind in ["2", "250 mx\r\n", "250-mx\r\n250 AUTH PLAIN\r\n"] {
        let mut talk = introduced(Security::StartTls, OFFER);
        talk.say("STARTTLS\r\n");
        talk.hear(&format!("220 go ahead\r\n{behind}"));
        assert!(!talk.session.wants_tls());
        talk.unsolicited(Step::Tls);
    }
}

#[test]
fn a_byte_that_comes_later_but_before_the_handshake_is_a_failure() {
    let mut talk = upgrading();
    talk.hear("250 mx\r\n");
    talk.unsolicited(Step::Tls);
}

#[test]
fn without_an_offer_nothing_goes_on_where_tls_is_demanded() {
    for security in [Security::StartTls, Security::StartTlsUnverified] {
        let mut talk = introduced(security, "250-mx\r\n250 XXXXXXXX\r\n");
        talk.failed(&Failure::TlsNotOffered, Step::StartTls);
    }
}

#[test]
fn helo_offers_nothing_and_so_no_tls() {
    let mut talk = introduced(Security::StartTls, "502 what?\r\n");
    talk.say("HELO client.example\r\n");
    talk.hear("250 mx\r\n");
    talk.failed(&Failure::TlsNotOffered, Step::StartTls);
}

#[test]
fn a_refused_starttls_ends_the_opening_where_it_is_demanded() {
    for refusal in ["454 no TLS today\r\n", "502 what?\r\n", "421 closing\r\n"] {
        let mut talk = introduced(Security::StartTls, OFFER);
        talk.say("STARTTLS\r\n");
        talk.hear(refusal);
        let reply = Reply::parse(refusal.as_bytes()).unwrap().to_owned();
        talk.failed(&Failure::Refused(reply), Step::StartTls);
    }
}

#[test]
fn opportunistic_starttls_goes_on_without() {
    let talk = introduced(Security::OpportunisticStartTls, "250 mx\r\n");
    assert!(talk.session.is_usable() && !talk.session.has_tls());
    let mut talk = introduced(Security::OpportunisticStartTls, OFFER);
    talk.say("STARTTLS\r\n");
    talk.hear("454 no TLS today\r\n");
    assert!(talk.session.is_usable() && !talk.session.has_tls());
    let mut talk = introduced(Security::OpportunisticStartTls, OFFER);
    talk.say("STARTTLS\r\n");
    talk.hear("220 go ahead\r\n");
    assert!(talk.session.wants_tls(), "but not back from a handshake");
}

#[test]
fn without_security_starttls_is_never_said() {
    let talk = introduced(Security::None, OFFER);
    assert!(talk.session.is_usable() && !talk.session.wants_write());
}

#[test]
fn starttls_and_the_handshake_have_their_own_time() {
    let mut talk = introduced(Security::StartTls, OFFER);
    talk.say("STARTTLS\r\n");
    assert_eq!(talk.deadline_in(), timeouts().tls);
    talk.later(SECOND);
    talk.hear("220 go ahead\r\n");
    talk.later(10 * timeouts().tls);
    assert!(talk.session.wants_tls() && talk.session.deadline().is_none(), "the server owes nothing yet");
    talk.session.securing(talk.now);
    assert_eq!(talk.deadline_in(), timeouts().tls);
    talk.later(timeouts().tls);
    assert!(!talk.session.wants_tls());
    talk.failed(&Failure::TimedOut { after: timeouts().tls }, Step::Tls);
}

#[test]
fn a_failed_handshake_is_the_end() {
    let mut talk = upgrading();
    talk.session.lost(Failure::Closed);
    assert!(!talk.session.wants_tls());
    talk.failed(&Failure::Closed, Step::Tls);
}

#[test]
fn a_new_connection_begins_without_tls() {
    let mut talk = upgrading();
    talk.session.secured(talk.now);
    talk.session.open("client.example".parse().unwrap(), talk.now);
    assert!(!talk.session.has_tls() && !talk.session.wants_tls());
    talk.hear("220 mx\r\n");
    talk.say("EHLO client.example\r\n");
    talk.hear(OFFER);
    talk.say("STARTTLS\r\n");
}
