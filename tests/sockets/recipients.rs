//! Mails to several recipients, what a server may make of them, and mails that come too late.

use std::time::{Duration, Instant};

use smtp_bulk::sink::{Fault, Misdeed, Step as At};
use smtp_bulk::{EventKind, Message};

use crate::support::{Log, builder, check_accounts, host, mail, mail_to, send_and_quit, sink};

const MIXED: [&str; 4] = ["a@x.example", "reject1@x.example", "b@x.example", "reject2@x.example"];

#[test]
fn a_mail_goes_to_those_who_were_accepted() {
    let sink = sink(|sink| sink.refuse_recipients("reject", 550));
    let log = Log::default();
    let summary = send_and_quit(builder(&log).host(host(&sink)), [mail_to(0, &MIXED), mail(1)]);
    check_accounts(&summary, &log, &[&sink]);
    assert_eq!((summary.mails.partial, summary.mails.delivered), (1, 1));
    assert_eq!((summary.recipients.delivered, summary.recipients.refused), (3, 2));
    log.reports(|all| {
        let names: Vec<_> = all[0].recipients.iter().map(|(_, outcome)| *outcome).collect();
        assert_eq!(names, ["delivered", "refused", "delivered", "refused"]);
        assert_eq!((all[0].attempts, all[0].line.as_str()), (1, "partial"));
    });
    let fails: Vec<_> = log.of_kind(EventKind::Fail).into_iter().map(|seen| seen.recipient).collect();
    assert_eq!(fails, [Some(MIXED[1].to_owned()), Some(MIXED[3].to_owned())]);
    assert_eq!(sink.counts().resets, 0, "the transaction went through");
}

#[test]
fn all_or_nothing_sends_to_nobody_when_one_is_refused() {
    let sink = sink(|sink| sink.refuse_recipients("reject", 550));
    let log = Log::default();
    let mails = [mail_to(0, &MIXED).all_or_nothing(), mail(1)];
    let summary = send_and_quit(builder(&log).host(host(&sink)), mails);
    check_accounts(&summary, &log, &[&sink]);
    assert_eq!(log.outcomes(), [(0, "refused"), (1, "delivered")].into());
    assert_eq!((sink.counts().mails, sink.counts().resets), (1, 1));
    assert_eq!(log.of_kind(EventKind::Fail).len(), 1, "the others were not asked for");
    assert_eq!(sink.counts().connections, 1);
}

#[test]
fn a_mail_with_no_accepted_recipient_is_refused_without_data() {
    let sink = sink(|sink| sink.refuse_recipients("reject", 553));
    let log = Log::default();
    let mails = [mail_to(0, &["reject1@x.example", "reject2@x.example"]), mail(1)];
    let summary = send_and_quit(builder(&log).host(host(&sink)), mails);
    check_accounts(&summary, &log, &[&sink]);
    assert_eq!(log.outcomes(), [(0, "refused"), (1, "delivered")].into());
    log.reports(|all| assert_eq!(all[0].line, "refused: 553 5.1.1 Recipient refused"));
    assert_eq!((summary.recipients.refused, sink.counts().resets), (2, 1));
}

#[test]
fn deferred_recipients_are_tried_again_alone() {
    let later = Fault::new(At::Rcpt, Misdeed::refuse(450, "4.2.1 busy")).address_prefix("busy").times(2);
    let sink = sink(|sink| sink.fault(later));
    let log = Log::default();
    let to = ["a@x.example", "busy@x.example", "b@x.example"];
    let summary = send_and_quit(builder(&log).host(host(&sink)), [mail_to(0, &to)]);
    check_accounts(&summary, &log, &[&sink]);
    assert_eq!((summary.mails.delivered, summary.requeued), (1, 2));
    let stored: Vec<_> = sink.mails().iter().map(|mail| mail.forward_paths.clone()).collect();
    assert_eq!(stored, [vec![to[0].to_owned(), to[2].to_owned()], vec![to[1].to_owned()]]);
}

#[test]
fn what_is_too_many_for_one_transaction_goes_in_the_next_and_costs_no_attempt() {
    let sink = sink(|sink| sink.max_recipients(2));
    let log = Log::default();
    let to: Vec<String> = (0..7).map(|number| format!("r{number}@x.example")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let mailer = builder(&log).host(host(&sink)).max_attempts(1);
    let summary = send_and_quit(mailer, [mail_to(0, &to)]);
    check_accounts(&summary, &log, &[&sink]);
    assert_eq!((summary.mails.delivered, summary.recipients.delivered), (1, 7));
    let sizes: Vec<_> = sink.mails().iter().map(|mail| mail.forward_paths.len()).collect();
    assert_eq!(sizes, [2, 2, 2, 1]);
}

#[test]
fn a_mail_lost_in_doubt_is_in_doubt_for_those_who_were_accepted_alone() {
    let sink = sink(|sink| {
        sink.refuse_recipients("reject", 550).fault(Fault::new(At::Dot, Misdeed::Close).times(1))
    });
    let log = Log::default();
    let summary = send_and_quit(builder(&log).host(host(&sink)), [mail_to(0, &MIXED), mail(1)]);
    check_accounts(&summary, &log, &[&sink]);
    assert_eq!((summary.mails.partial, summary.mails.delivered), (1, 1));
    assert_eq!((summary.recipients.in_doubt, summary.recipients.refused), (2, 2));
}

#[test]
fn another_host_gets_what_the_first_one_deferred() {
    let busy = sink(|sink| sink.fault(Fault::new(At::Mail, Misdeed::refuse(451, "4.3.2 busy"))));
    let free = sink(|sink| sink);
    let log = Log::default();
    let mailer = builder(&log).host(host(&busy)).host(host(&free));
    let summary = send_and_quit(mailer, (0..2).map(mail));
    check_accounts(&summary, &log, &[&busy, &free]);
    assert_eq!((summary.mails.delivered, free.counts().mails), (2, 2));
    assert_eq!((summary.hosts[0].requeued, summary.hosts[1].requeued), (1, 0));
}

#[test]
fn a_mail_that_has_expired_is_not_begun() {
    let sink = sink(|sink| sink);
    let log = Log::default();
    let now = Instant::now();
    let mails = [mail(0).expires(now), mail(1), mail(2).expires(now + Duration::from_secs(3600))];
    let summary = send_and_quit(builder(&log).host(host(&sink)).threads(3), mails);
    check_accounts(&summary, &log, &[&sink]);
    assert_eq!(log.outcomes(), [(0, "abandoned"), (1, "delivered"), (2, "delivered")].into());
    log.reports(|all| {
        let late = all.iter().find(|ended| ended.id == 0).unwrap();
        assert_eq!((late.line.as_str(), late.attempts), ("abandoned: expired", 0));
    });
}

#[test]
fn envelopes_arrive_as_they_are() {
    let sink = sink(|sink| sink);
    let log = Log::default();
    for (from, to) in [
        ("", "postmaster@[127.0.0.1]"),
        ("a+b@x.example", "\"quoted local\"@x.example"),
        ("x@[IPv6:::1]", "o'brien@x.example"),
    ] {
        let envelope = smtp_bulk::Envelope::parse(from, [to]).unwrap();
        let message = Message::new(envelope, "\r\nhello\r\n").id(0);
        let summary = send_and_quit(builder(&log).host(host(&sink)), [message]);
        assert_eq!(summary.mails.delivered, 1);
        let stored = &sink.take_mails()[0];
        assert_eq!((stored.reverse_path.as_str(), stored.forward_paths[0].as_str()), (from, to));
    }
}

#[test]
fn a_server_that_knows_no_ehlo_gets_helo() {
    let sink = sink(|sink| sink.fault(Fault::new(At::Ehlo, Misdeed::refuse(500, "5.5.1 what?"))));
    let log = Log::default();
    let summary = send_and_quit(builder(&log).host(host(&sink)).threads(3), (0..5).map(mail));
    check_accounts(&summary, &log, &[&sink]);
    assert_eq!((summary.mails.delivered, sink.counts().connections), (5, 3));
    assert!(log.trouble().is_empty() && sink.mails().iter().all(|mail| mail.helo == "[127.0.0.1]"));
}

#[test]
fn a_greeting_of_many_lines_is_one_greeting() {
    let sink = sink(|sink| sink.greeting("mx.example ESMTP\nno spam\n\nthank you"));
    let log = Log::default();
    let summary = send_and_quit(builder(&log).host(host(&sink)), [mail(0)]);
    check_accounts(&summary, &log, &[&sink]);
    assert_eq!((summary.mails.delivered, log.trouble().len()), (1, 0));
}
