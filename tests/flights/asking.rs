//! Questions of a caller to a server, beside its mail.

use smtp_bulk::command::Argument;
use smtp_bulk::sink::{Extension, Fault, Misdeed, Step as At};
use smtp_bulk::{Error, Inquiry, LaneId, NoReply, Step};

use crate::support::{Log, builder, check_accounts, host, mail, run, sink};

const FIRST: LaneId = LaneId { host: 0, thread: 0 };

fn argument(text: &str) -> Argument {
    Argument::new(text).unwrap()
}

#[test]
fn every_question_has_its_reply() {
    let sink = sink(|sink| sink.announce(Extension::Etrn).announce(Extension::Expn));
    let log = Log::default();
    run(async {
        let mut mailer = builder(&log).host(host(&sink)).threads(2).connect().await.unwrap();
        let offers = mailer.offers(FIRST).unwrap();
        assert!(offers.contains(smtp_bulk::Extension::Etrn) && !offers.contains(smtp_bulk::Extension::Size));
        for (inquiry, code) in [
            (Inquiry::Noop, 250),
            (Inquiry::Rset, 250),
            (Inquiry::Help(None), 214),
            (Inquiry::Help(Some(argument("MAIL"))), 214),
            (Inquiry::Vrfy(argument("smith")), 252),
            (Inquiry::Expn(argument("staff")), 252),
            (Inquiry::Etrn(argument("client.example")), 250),
        ] {
            let reply = mailer.ask(FIRST, inquiry.clone()).await.unwrap();
            assert_eq!(reply.code().as_u16(), code, "{inquiry:?}");
            mailer.send(mail(u64::from(code))).await.unwrap();
        }
        let summary = mailer.quit().await.unwrap();
        assert_eq!(summary.hosts[0].connections, 2, "the sessions went on");
        assert_eq!(summary.mails.delivered, 7);
    });
}

#[test]
fn a_refusal_is_a_reply_like_any_other() {
    let sink = sink(|sink| sink.fault(Fault::new(At::Vrfy, Misdeed::refuse(502, "5.5.1 not here"))));
    let log = Log::default();
    run(async {
        let mut mailer = builder(&log).host(host(&sink)).connect().await.unwrap();
        let reply = mailer.ask(FIRST, Inquiry::Vrfy(argument("smith"))).await.unwrap();
        assert_eq!(reply.code().as_u16(), 502);
        mailer.send(mail(1)).await.unwrap();
        check_accounts(&mailer.quit().await.unwrap(), &log, &[&sink]);
    });
}

#[test]
fn a_question_without_a_reply_names_host_and_step_and_the_lane_goes_on() {
    let sink = sink(|sink| sink.fault(Fault::new(At::Noop, Misdeed::Close).times(1)));
    let log = Log::default();
    run(async {
        let mut mailer = builder(&log).host(host(&sink)).connect().await.unwrap();
        let error = mailer.ask(FIRST, Inquiry::Noop).await.unwrap_err();
        assert!(
            matches!(error, Error::Unanswered { step: Step::Noop, why: NoReply::Failed(_), .. }),
            "{error}"
        );
        assert_eq!(error.to_string(), "127.0.0.1:0 NOOP has no reply: closed by the server");
        let reply = mailer.ask(FIRST, Inquiry::Noop).await.unwrap();
        assert_eq!(reply.code().as_u16(), 250, "by a new connection");
        let nobody = LaneId { host: 7, thread: 0 };
        assert!(matches!(mailer.ask(nobody, Inquiry::Noop).await, Err(Error::NoSuchLane(_))));
        mailer.quit().await.unwrap();
        assert!(matches!(mailer.ask(FIRST, Inquiry::Noop).await, Err(Error::Closed(_))));
    });
}

#[test]
fn nothing_is_asked_in_the_middle_of_a_transaction() {
    let sink = sink(|sink| sink.refuse_recipients("r1", 550));
    let log = Log::default();
    run(async {
        let mut mailer = builder(&log).host(host(&sink)).threads(2).connect().await.unwrap();
        for id in 0..4 {
            mailer.send(mail(id)).await.unwrap();
            let reply = mailer.ask(FIRST, Inquiry::Noop).await.unwrap();
            assert_eq!(reply.code().as_u16(), 250);
        }
        check_accounts(&mailer.quit().await.unwrap(), &log, &[&sink]);
    });
}
