//! The dialogue of AUTH.

use super::*;
use crate::auth::{AuthFault, AuthMechanism, Credentials};

const PASSWORD: &str = "tanstaaftanstaaf";

/// "\0tim\0tanstaaftanstaaf" (RFC 4616 §4).
const PLAIN: &str = "AHRpbQB0YW5zdGFhZnRhbnN0YWFm";

fn credentials() -> Credentials {
    Credentials::password("tim", PASSWORD).allow_without_tls()
}

/// A session to which these mechanisms are offered.
fn offered(mechanisms: &str) -> Talk {
    let mut talk = Talk::opened();
    talk.hear("220 mx\r\n");
    talk.say("EHLO client.example\r\n");
    talk.hear(&format!("250-mx\r\n250 AUTH {mechanisms}\r\n"));
    talk
}

/// AUTH PLAIN is out.
fn asked() -> Talk {
    let mut talk = offered("PLAIN LOGIN");
    talk.session.authenticate(&credentials(), false, talk.now);
    talk.say(&format!("AUTH PLAIN {PLAIN}\r\n"));
    talk
}

#[test]
fn an_accepted_password_makes_the_session_ready() {
    let mut talk = asked();
    assert!(talk.session.is_authenticating() && !talk.session.is_authenticated());
    talk.answered("235 2.7.0 welcome\r\n", 235);
    assert!(talk.session.is_authenticated() && !talk.session.is_authenticating());
    assert!(talk.session.is_usable());
    assert_eq!(talk.session.extensions().auth_mechanisms().count(), 0);
    talk.mail();
    talk.say("MAIL FROM:<ann@example.org>\r\n");
}

#[test]
fn a_refused_password_is_an_answer_and_not_a_failure() {
    let mut talk = asked();
    talk.answered("535 5.7.8 no\r\n", 535);
    assert!(!talk.session.is_authenticated() && talk.session.is_ready());
}

#[test]
fn a_new_connection_is_not_authenticated() {
    let mut talk = asked();
    talk.answered("235 welcome\r\n", 235);
    talk.session.open("client.example".parse().unwrap(), talk.now);
    assert!(!talk.session.is_authenticated());
}

#[test]
fn login_asks_for_user_and_password_one_by_one() {
    let mut talk = offered("LOGIN");
    talk.session.authenticate(&credentials(), false, talk.now);
    talk.say("AUTH LOGIN\r\n");
    talk.hear("334 VXNlcm5hbWU6\r\n");
    talk.say("dGlt\r\n");
    talk.hear("334 UGFzc3dvcmQ6\r\n");
    talk.say("dGFuc3RhYWZ0YW5zdGFhZg==\r\n");
    talk.answered("235 welcome\r\n", 235);
}

#[test]
fn an_empty_initial_response_is_an_equals_sign() {
    let mut talk = offered("EXTERNAL");
    talk.session.authenticate(&Credentials::external(), false, talk.now);
    talk.say("AUTH EXTERNAL =\r\n");
}

#[test]
fn an_initial_response_that_fits_into_no_line_waits_for_a_challenge() {
    let token = "t".repeat(600);
    let mut talk = offered("XOAUTH2");
    let credentials = Credentials::oauth("tim", token.as_str()).allow_without_tls();
    talk.session.authenticate(&credentials, false, talk.now);
    talk.say("AUTH XOAUTH2\r\n");
    talk.hear("334 \r\n");
    let line = talk.filled();
    assert!(line.len() > 800 && line.ends_with(b"\r\n"));
    talk.session.wrote(line.len(), talk.now);
    talk.answered("235 welcome\r\n", 235);
}

#[test]
fn the_longest_line_of_the_command_is_512_octets() {
    let lengths = (300..420).map(|length| {
        let mut talk = offered("OAUTHBEARER");
        let credentials = Credentials::oauth("tim", "t".repeat(length)).allow_without_tls();
        talk.session.authenticate(&credentials, false, talk.now);
        talk.filled().len()
    });
    let lengths: Vec<usize> = lengths.collect();
    assert!(lengths.iter().all(|length| *length <= 512), "{lengths:?}");
    let longest = lengths.iter().max().unwrap();
    assert!(*longest > 504, "{longest}: base64 goes by steps of four");
    assert!(lengths.contains(&"AUTH OAUTHBEARER\r\n".len()));
}

#[test]
fn a_challenge_that_is_none_is_answered_by_a_star() {
    let mut talk = offered("LOGIN");
    talk.session.authenticate(&credentials(), false, talk.now);
    talk.say("AUTH LOGIN\r\n");
    talk.hear("334 !!!\r\n");
    talk.say("*\r\n");
    talk.hear("501 cancelled\r\n");
    talk.failed(&Failure::Auth(AuthFault::Challenge), Step::Auth);
}

#[test]
fn whatever_follows_a_star_the_reason_stays() {
    for then in ["235 welcome\r\n", "334 \r\n", "535 no\r\n"] {
        let mut talk = offered("LOGIN");
        talk.session.authenticate(&credentials(), false, talk.now);
        talk.say("AUTH LOGIN\r\n");
        talk.hear("334 !!!\r\n");
        talk.say("*\r\n");
        talk.hear(then);
        assert!(!talk.session.is_authenticated());
        talk.failed(&Failure::Auth(AuthFault::Challenge), Step::Auth);
    }
    let mut talk = offered("LOGIN");
    talk.session.authenticate(&credentials(), false, talk.now);
    talk.say("AUTH LOGIN\r\n");
    talk.hear("334 !!!\r\n");
    talk.session.lost(Failure::Closed);
    talk.failed(&Failure::Auth(AuthFault::Challenge), Step::Auth);
}

#[test]
fn endless_challenges_are_cut_off() {
    let mut talk = offered("LOGIN");
    talk.session.authenticate(&credentials(), false, talk.now);
    talk.say("AUTH LOGIN\r\n");
    for _ in 0..20 {
        talk.hear("334 \r\n");
        let line = talk.filled();
        talk.session.wrote(line.len(), talk.now);
        if line == b"*\r\n" {
            talk.hear("501 cancelled\r\n");
            return assert!(matches!(talk.session.failure(), Some(Failure::Auth(_))));
        }
    }
    panic!("it goes on for ever");
}

#[test]
fn nothing_in_common_ends_it_without_a_word() {
    let mut talk = offered("GSSAPI NTLM");
    let before = talk.session.bytes_written();
    talk.session.authenticate(&credentials(), false, talk.now);
    let fault = AuthFault::NoMechanism { offered: "GSSAPI NTLM".into() };
    talk.failed(&Failure::Auth(fault), Step::Auth);
    assert_eq!(talk.session.bytes_written(), before);
}

#[test]
fn a_mechanism_that_is_not_known_is_followed_by_another_and_none_comes_twice() {
    let mut talk = asked();
    talk.hear("504 5.5.4 what?\r\n");
    assert!(talk.session.try_another_mechanism(&credentials(), talk.now));
    talk.say("AUTH LOGIN\r\n");
    talk.hear("504 5.5.4 what?\r\n");
    assert!(!talk.session.try_another_mechanism(&credentials(), talk.now));
    talk.judged(504);
}

#[test]
fn a_key_is_made_before_the_answer_and_outside() {
    let mut talk = offered("SCRAM-SHA-1");
    talk.session.authenticate(&credentials(), false, talk.now);
    let asked = String::from_utf8(talk.filled()).unwrap();
    talk.session.wrote(asked.len(), talk.now);
    use base64::Engine;
    let base64 = base64::engine::general_purpose::STANDARD;
    let first = base64.decode(asked.trim_end().rsplit(' ').next().unwrap()).unwrap();
    let nonce = String::from_utf8(first).unwrap().rsplit("r=").next().unwrap().to_owned();
    let challenge = base64.encode(format!("r={nonce}xyz,s=QSXCR+Q6sek8bf92,i=4096"));
    talk.hear(&format!("334 {challenge}\r\n"));
    assert_eq!(String::from_utf8_lossy(&talk.filled()), "");
    assert!(talk.session.wants_write());
    assert_eq!(talk.deadline_in(), timeouts().auth);
    let job = talk.session.take_job().expect("a key is wanted");
    assert!(talk.session.take_job().is_none() && talk.session.wants_write());
    talk.session.return_job(job.run(), talk.now);
    let line = talk.filled();
    assert!(line.len() > 80, "the client's proof");
    talk.session.wrote(line.len(), talk.now);
    talk.hear("235 welcome\r\n");
    talk.failed(&Failure::Auth(AuthFault::ServerSignature), Step::Auth);
    assert!(!talk.session.is_authenticated());
}

#[test]
fn a_token_that_does_not_come_is_the_clients_fault() {
    let mut talk = offered("XOAUTH2");
    let credentials = Credentials::oauth_from("tim", || Ok("token".into())).allow_without_tls();
    talk.session.authenticate(&credentials, false, talk.now);
    assert!(talk.filled().is_empty() && talk.session.wants_write());
    let job = talk.session.take_job().expect("a token is wanted");
    talk.later(timeouts().auth);
    talk.failed(&Failure::Auth(AuthFault::Stalled), Step::Auth);
    talk.session.return_job(job.run(), talk.now);
    assert!(talk.filled().is_empty(), "too late");
}

#[test]
fn a_reply_while_the_client_works_is_out_of_turn() {
    let mut talk = offered("XOAUTH2");
    let credentials = Credentials::oauth_from("tim", || Ok("token".into())).allow_without_tls();
    talk.session.authenticate(&credentials, false, talk.now);
    let _job = talk.session.take_job();
    talk.hear("235 welcome\r\n");
    assert!(!talk.session.is_authenticated());
    talk.unsolicited(Step::Auth);
}

#[test]
fn a_second_reply_before_the_answer_is_out_of_turn() {
    let mut talk = offered("LOGIN");
    talk.session.authenticate(&credentials(), false, talk.now);
    talk.say("AUTH LOGIN\r\n");
    talk.hear("334 VXNlcm5hbWU6\r\n235 welcome\r\n");
    assert!(!talk.session.is_authenticated());
    talk.unsolicited(Step::Auth);
}

#[test]
fn each_line_has_the_time_of_auth() {
    let mut talk = offered("LOGIN");
    talk.session.authenticate(&credentials(), false, talk.now);
    talk.say("AUTH LOGIN\r\n");
    assert_eq!(talk.deadline_in(), timeouts().auth);
    talk.later(SECOND);
    talk.hear("334 VXNlcm5hbWU6\r\n");
    talk.say("dGlt\r\n");
    assert_eq!(talk.deadline_in(), timeouts().auth);
    talk.later(timeouts().auth);
    talk.failed(&Failure::TimedOut { after: timeouts().auth }, Step::Auth);
}

#[test]
fn a_reply_that_repeats_a_secret_is_withheld() {
    let echoes = [
        format!("535-5.7.8 bad password {PASSWORD}\r\n535 5.7.8 no\r\n"),
        format!("500 5.5.2 unknown command: AUTH PLAIN {PLAIN}\r\n"),
        "535 dGFuc3RhYWZ0YW5zdGFhZg== is wrong\r\n".to_owned(),
    ];
    for echo in echoes {
        let mut talk = asked();
        for piece in echo.as_bytes().chunks(7) {
            talk.session.receive(piece, talk.now);
        }
        let text = talk.session.answer().unwrap().reply.to_string();
        assert!(text.starts_with(&echo[..3]) && text.contains("withheld"), "{text}");
        assert!(!text.contains(PASSWORD) && !text.contains("dGFuc3"), "{text}");
        assert!(!echo.contains(" 5.") || text.contains(" 5."), "the status code stays: {text}");
    }
}

#[test]
fn what_is_said_unasked_is_not_shown_when_it_repeats_a_secret() {
    let mut talk = asked();
    talk.hear(&format!("235 welcome\r\n250 {PASSWORD}\r\n"));
    assert_eq!(talk.session.failure(), Some(&Failure::Unsolicited(None)));
}

#[test]
fn what_was_sent_is_wiped_from_the_session() {
    let mut talk = asked();
    talk.answered("535 no\r\n", 535);
    talk.mail();
    let (length, capacity) = (talk.session.commands.len(), talk.session.commands.capacity());
    talk.session.commands.resize(capacity, 0);
    let kept = String::from_utf8_lossy(&talk.session.commands).into_owned();
    assert!(!kept.contains("AHRp"), "{kept}");
    talk.session.commands.truncate(length);
    // What was said behind it can be read until that flight is over.
    assert!(talk.session.login.is_some());
    talk.say("MAIL FROM:<ann@example.org>\r\n");
    talk.answered("250 fine\r\n", 250);
    talk.rcpt();
    assert!(talk.session.login.is_none());
}

#[test]
fn what_comes_late_is_not_shown_when_it_repeats_a_secret() {
    // Read before the next flight is written, or taken for its answer.
    let late = format!("535 {PASSWORD}\r\n");
    let mut talk = asked();
    talk.answered("235 welcome\r\n", 235);
    assert!(talk.session.may_hear_secrets());
    talk.mail();
    assert!(talk.session.may_hear_secrets());
    talk.hear(&late);
    assert_eq!(talk.session.failure(), Some(&Failure::Unsolicited(None)));

    let mut talk = asked();
    talk.answered("235 welcome\r\n", 235);
    talk.mail();
    talk.say("MAIL FROM:<ann@example.org>\r\n");
    assert!(talk.session.may_hear_secrets());
    talk.hear(&late);
    let text = talk.session.answer().unwrap().reply.to_string();
    assert!(text.contains("withheld") && !text.contains(PASSWORD), "{text}");
}

#[test]
fn a_secret_that_is_folded_into_lines_is_not_shown_either() {
    let mut talk = asked();
    let (one, two) = PLAIN.split_at(14);
    talk.hear(&format!("535-5.7.8 {one}\r\n535 5.7.8 {two}\r\n"));
    let text = talk.session.answer().unwrap().reply.to_string();
    assert!(text.contains("withheld") && !text.contains(one) && !text.contains(two), "{text}");
}

#[test]
fn what_is_accepted_before_it_was_said_is_no_authentication() {
    let long = "p".repeat(600);
    let credentials = Credentials::password("tim", long).allow_without_tls();
    let mut talk = offered("PLAIN");
    talk.session.authenticate(&credentials, false, talk.now);
    talk.say("AUTH PLAIN\r\n");
    talk.hear("235 welcome\r\n");
    talk.failed(&Failure::Auth(AuthFault::Challenge), Step::Auth);
}

#[test]
fn only_235_accepts() {
    for code in [220, 250, 251] {
        let mut talk = asked();
        talk.hear(&format!("{code} fine\r\n"));
        assert!(matches!(talk.session.failure(), Some(Failure::Unexpected(_))), "{code}");
        assert!(!talk.session.is_authenticated());
    }
}

#[test]
fn what_an_earlier_mechanism_said_is_not_shown_either() {
    let mut talk = asked();
    talk.hear("504 5.5.4 what?\r\n");
    assert!(talk.session.try_another_mechanism(&credentials(), talk.now));
    talk.hear(&format!("535 {PLAIN}\r\n"));
    assert_eq!(talk.session.failure(), Some(&Failure::Unsolicited(None)));
}

#[test]
fn nothing_of_it_is_shown() {
    let credentials =
        Credentials::password("tim", PASSWORD).mechanism(AuthMechanism::Plain).allow_without_tls();
    let mut talk = offered("PLAIN");
    talk.session.authenticate(&credentials, false, talk.now);
    let shown = format!("{:?} {credentials:?} {:?}", talk.session, talk.session.login);
    for secret in [PASSWORD, PLAIN, "dGFuc3"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
