//! Many recipients: transactions have bounds, and servers have theirs.

use smtp_bulk::sink::{Circumstance, Extension, Fault, Misdeed, Step as At};
use smtp_bulk::{ClientReason, Envelope, Message, Outcome, Pipeline, RefusedBy};

use crate::support::{Log, builder, check_accounts, host, mail_to, send_and_quit, sink, text};

const LEVELS: [Pipeline; 3] = [Pipeline::Single, Pipeline::Envelope, Pipeline::Full];

fn addresses(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("r{number}@d{}.example", number % 7)).collect()
}

fn mail_with(id: u64, to: &[String]) -> Message {
    Message::new(Envelope::parse("sender@example.org", to).unwrap(), text(id)).id(id)
}

#[test]
fn more_than_100_recipients_have_further_transactions() {
    for level in LEVELS {
        let sink = sink(|sink| sink.announce(Extension::Pipelining).announce(Extension::Chunking));
        let log = Log::default();
        let host = host(&sink).pipeline(level);
        let summary = send_and_quit(builder(&log).host(host).threads(2), [mail_with(1, &addresses(250))]);
        check_accounts(&summary, &log, &[&sink]);
        assert_eq!(summary.mails.delivered, 1, "{level:?}: {summary}");
        let mut stored: Vec<usize> = sink.mails().iter().map(|mail| mail.forward_paths.len()).collect();
        stored.sort_unstable();
        assert_eq!(stored, [50, 100, 100]);
        let attempts = log.reports(|all| all[0].attempts);
        assert_eq!(attempts, 1, "further transactions are no further attempts");
    }
}

#[test]
fn what_the_server_states_is_kept_to() {
    for (most, domains, expected) in [(Some(30), None, 4), (None, Some(3), 3), (Some(20), Some(2), 6)] {
        let sink = sink(|sink| {
            let sink = sink.announce(Extension::Limits).announce(Extension::Pipelining);
            let sink = sink.max_recipients(most.unwrap_or(1_000));
            match domains {
                Some(domains) => sink.max_recipient_domains(domains),
                None => sink,
            }
        });
        let log = Log::default();
        let host = host(&sink).pipeline(Pipeline::Envelope).max_recipients(1_000);
        let summary = send_and_quit(builder(&log).host(host), [mail_with(1, &addresses(100))]);
        check_accounts(&summary, &log, &[&sink]);
        assert_eq!(summary.mails.delivered, 1, "{summary}");
        let refused = sink.counts().refused;
        assert_eq!(refused, 0, "nobody was asked for beyond the limits");
        assert!(sink.mails().len() >= expected, "{} transactions", sink.mails().len());
    }
}

#[test]
fn too_many_recipients_are_put_off_and_not_refused() {
    for level in LEVELS {
        for code in [452, 552] {
            let sink = sink(|sink| {
                let sink = sink.announce(Extension::Pipelining).announce(Extension::Chunking);
                let enough = Fault::new(At::Rcpt, Misdeed::refuse(code, "too many recipients"));
                sink.fault(enough.when(Circumstance::Accepted(10)))
            });
            let log = Log::default();
            let host = host(&sink).pipeline(level);
            let summary = send_and_quit(builder(&log).host(host), [mail_with(1, &addresses(35))]);
            check_accounts(&summary, &log, &[&sink]);
            assert_eq!(summary.mails.delivered, 1, "{level:?} {code}: {summary}");
            let stored: Vec<usize> = sink.mails().iter().map(|mail| mail.forward_paths.len()).collect();
            assert_eq!(stored, [10, 10, 10, 5]);
            assert_eq!(log.reports(|all| all[0].attempts), 1);
        }
    }
}

#[test]
fn the_same_code_for_the_first_recipient_is_about_that_recipient() {
    let sink = sink(|sink| sink.refuse_recipients("first", 552));
    let log = Log::default();
    let to = ["first@example.net", "second@example.net"];
    let summary = send_and_quit(builder(&log).host(host(&sink)), [mail_to(1, &to)]);
    check_accounts(&summary, &log, &[&sink]);
    assert_eq!((summary.recipients.delivered, summary.recipients.refused), (1, 1));
}

#[test]
fn all_or_nothing_that_would_need_a_second_transaction_is_refused_by_the_client() {
    let sink = sink(|sink| sink);
    let log = Log::default();
    let reasons = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let told = std::sync::Arc::clone(&reasons);
    let settings = builder(&log).host(host(&sink)).on_report(move |report| {
        if let Outcome::Refused(RefusedBy::Client(reason)) = report.outcome {
            told.lock().unwrap().push(reason.clone());
        }
    });
    let mails =
        [mail_with(1, &addresses(101)).all_or_nothing(), mail_with(2, &addresses(100)).all_or_nothing()];
    let summary = send_and_quit(settings, mails);
    assert_eq!((summary.mails.delivered, summary.mails.refused), (1, 1));
    assert_eq!(*reasons.lock().unwrap(), [ClientReason::TooManyRecipients { limit: 100 }]);
}

#[test]
fn ten_thousand_recipients_fit_into_one_transaction_of_a_server_that_takes_them() {
    for level in LEVELS {
        let sink = sink(|sink| {
            let sink = sink.announce(Extension::Pipelining).announce(Extension::Chunking);
            sink.announce(Extension::Limits).max_recipients(10_000)
        });
        let log = Log::default();
        let host = host(&sink).pipeline(level);
        let summary = send_and_quit(builder(&log).host(host), [mail_with(1, &addresses(10_000))]);
        assert_eq!((summary.mails.delivered, summary.recipients.delivered), (1, 10_000), "{level:?}");
        assert_eq!(sink.mails().len(), 1);
    }
}
