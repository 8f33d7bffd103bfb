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
