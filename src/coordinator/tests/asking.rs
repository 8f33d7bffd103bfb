//! Questions of the caller's, on a lane that rests.

use super::*;

#[test]
fn a_lane_whose_last_mail_was_refused_can_be_asked() {
    use crate::command::Argument;
    use crate::inquiry::Inquiry;
    let etrn = Inquiry::Etrn(Argument::new("client.example").unwrap());
    for (inquiry, said) in [(Inquiry::Noop, "NOOP"), (Inquiry::Rset, "RSET"), (etrn, "RSET ETRN")] {
        let mut script = one();
        script.serve(when("RCPT", "550 no\r\n"));
        script.take(mail(1));
        script.finish();
        script.serve(when("ETRN", "250 fine\r\n"));
        script.wire.clear();
        assert!(script.coordinator.ask(lane(0, 0), inquiry));
        script.run();
        assert_eq!(script.said(lane(0, 0)).join(" "), said);
        assert!(matches!(script.coordinator.take_answer(lane(0, 0)), Some(Ok(_))));
    }
}

#[test]
fn a_question_beyond_ascii_is_put_only_where_it_has_a_form_and_the_server_takes_it() {
    use crate::command::Argument;
    use crate::coordinator::NoReply;
    use crate::extensions::Extension;
    use crate::inquiry::Inquiry;
    const UTF8: &str = "250-mx.example\r\n250 SMTPUTF8\r\n";
    let beyond = || Argument::utf8("grå").unwrap();
    let not_offered = Some(Err(NoReply::NotOffered(Extension::SmtpUtf8)));
    for (offers, inquiry, said) in [
        (DOTS, Inquiry::Vrfy(beyond()), ""),
        (DOTS, Inquiry::Expn(beyond()), ""),
        (DOTS, Inquiry::Help(Some(beyond())), ""),
        (DOTS, Inquiry::Etrn(beyond()), ""),
        (UTF8, Inquiry::Help(Some(beyond())), ""),
        (UTF8, Inquiry::Etrn(beyond()), ""),
        (UTF8, Inquiry::Vrfy(beyond()), "VRFY"),
        (UTF8, Inquiry::Expn(beyond()), "EXPN"),
    ] {
        let mut script = flights(1, offers, Pipeline::Single, 1);
        assert!(script.coordinator.ask(lane(0, 0), inquiry.clone()));
        script.run();
        assert_eq!(script.said(lane(0, 0)).join(" "), said, "{inquiry:?}");
        let answer = script.coordinator.take_answer(lane(0, 0));
        assert!(if said.is_empty() { answer == not_offered } else { matches!(answer, Some(Ok(_))) });
    }
}
