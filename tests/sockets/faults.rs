//! Each misdeed of the server at each step: what is seen, what is reported, and what was stored.

use std::time::Duration;

use smtp_bulk::sink::{Fault, Misdeed, Step as At};
use smtp_bulk::{Content, EventKind, Step, Timeouts};

use crate::scripted::Scripted;
use crate::support::{Log, PATIENCE, SHORT, builder, check_accounts, host, mail, send_and_quit, sink, text};

const CLOSED: &str = ": closed by the server";
const GARBAGE: &str = ": the server sent what is no reply";
const TIMED_OUT: &str = ": no reply within 500ms";
const TOO_LONG: &str = ": the server's reply is too long";
const UNASKED: &str = ": the server spoke unasked: 250 2.0.0 and another";

/// What one misdeed leads to, for the first of three mails on one lane.
struct Case {
    misdeed: Misdeed,
    outcome: &'static str,
    /// Attempts counted against the mail; 0 where that depends on who is quicker.
    attempts: u32,
    /// The beginning of the one troublesome event, behind host and thread.
    event: &'static str,
    /// Its end: the reply or the failure.
    says: &'static str,
}

fn case(
    misdeed: Misdeed,
    outcome: &'static str,
    attempts: u32,
    event: &'static str,
    says: &'static str,
) -> Case {
    Case { misdeed, outcome, attempts, event, says }
}

fn later() -> Misdeed {
    Misdeed::refuse(451, "4.3.0 not\nnow")
}

fn never() -> Misdeed {
    Misdeed::refuse(554, "5.3.0 never")
}

fn surplus() -> Misdeed {
    Misdeed::surplus(250, "2.0.0 and another")
}

/// Only what is awaited at the step has a short timeout.
fn timeouts(at: At) -> Timeouts {
    let mut timeouts = Timeouts::uniform(PATIENCE);
    let short = match at {
        At::Greeting => &mut timeouts.greeting,
        At::Ehlo | At::Helo => &mut timeouts.ehlo,
        At::Mail => &mut timeouts.mail,
        At::Rcpt => &mut timeouts.rcpt,
        At::Data => &mut timeouts.data,
        At::Rset => &mut timeouts.rset,
        At::Quit => &mut timeouts.quit,
        _ => &mut timeouts.final_reply,
    };
    *short = SHORT;
    timeouts
}

fn check(at: At, case: &Case, others: &[Fault]) {
    let what = format!("{:?} at {at:?}", case.misdeed);
    let sink = sink(|sink| {
        let fault = Fault::new(at, case.misdeed.clone()).times(1);
        others.iter().cloned().fold(sink.fault(fault), smtp_bulk::sink::Builder::fault)
    });
    let log = Log::default();
    let mailer = builder(&log).host(host(&sink)).timeouts(timeouts(at));
    let summary = send_and_quit(mailer, (0..3).map(mail));

    check_accounts(&summary, &log, &[&sink]);
    assert_eq!(sink.counts().faults, 1 + others.len() as u64, "{what}");
    let outcomes: Vec<_> = log.outcomes().into_values().collect();
    assert_eq!(outcomes, [case.outcome, "delivered", "delivered"], "{what}");
    if case.attempts > 0 {
        log.reports(|all| {
            let ended = all.iter().find(|ended| ended.id == 0).unwrap();
            assert_eq!(ended.attempts, case.attempts, "{what}");
        });
    }
    let [trouble] = &log.trouble()[..] else { panic!("{what}: one event, not {:#?}", log.trouble()) };
    let line = &trouble.line;
    assert!(line.starts_with(&format!("127.0.0.1:0 {}", case.event)), "{what}: {line}");
    assert!(line.ends_with(case.says), "{what}: {line}");
    if case.says == TIMED_OUT {
        assert!(trouble.elapsed >= SHORT && trouble.elapsed < PATIENCE, "{what}: {line}");
    }
}

/// Checks all cases at once, so that their timeouts pass together.
fn check_all(at: At, cases: &[Case], others: &[Fault]) {
    std::thread::scope(|scope| {
        let checks: Vec<_> = cases.iter().map(|case| scope.spawn(move || check(at, case, others))).collect();
        checks.into_iter().for_each(|check| check.join().expect("the case holds"));
    });
}

#[test]
fn a_misdeed_at_the_greeting_costs_an_opening_and_no_mail() {
    let event = "connect_fail greeting attempt 1 after ";
    check_all(
        At::Greeting,
        &[
            case(later(), "delivered", 1, event, ": refused: 451 4.3.0 not / now"),
            case(never(), "delivered", 1, event, ": refused: 554 5.3.0 never"),
            case(Misdeed::Close421, "delivered", 1, event, "421 4.3.2 Service not available, closing"),
            case(Misdeed::Delay(PATIENCE), "delivered", 1, event, TIMED_OUT),
            case(Misdeed::Hang, "delivered", 1, event, TIMED_OUT),
            case(Misdeed::HalfReply, "delivered", 1, event, TIMED_OUT),
            case(Misdeed::Close, "delivered", 1, event, CLOSED),
            case(Misdeed::HalfReplyClose, "delivered", 1, event, CLOSED),
            case(Misdeed::CloseAfter, "delivered", 1, "connect_fail EHLO attempt 1 after ", CLOSED),
            case(Misdeed::garbage(), "delivered", 1, event, GARBAGE),
            case(Misdeed::LongReply(100_000), "delivered", 1, event, TOO_LONG),
            case(surplus(), "delivered", 1, "connect_fail EHLO attempt 1 after ", UNASKED),
        ],
        &[],
    );
}

#[test]
fn a_misdeed_at_ehlo_costs_an_opening_and_no_mail() {
    let event = "connect_fail EHLO attempt 1 after ";
    check_all(
        At::Ehlo,
        &[
            case(later(), "delivered", 1, event, ": refused: 451 4.3.0 not / now"),
            case(Misdeed::Close421, "delivered", 1, event, "421 4.3.2 Service not available, closing"),
            case(Misdeed::Delay(PATIENCE), "delivered", 1, event, TIMED_OUT),
            case(Misdeed::Hang, "delivered", 1, event, TIMED_OUT),
            case(Misdeed::HalfReply, "delivered", 1, event, TIMED_OUT),
            case(Misdeed::Close, "delivered", 1, event, CLOSED),
            case(Misdeed::HalfReplyClose, "delivered", 1, event, CLOSED),
            case(Misdeed::CloseAfter, "delivered", 0, "hang MAIL 0 attempt 1 after ", CLOSED),
            case(Misdeed::garbage(), "delivered", 1, event, GARBAGE),
            case(Misdeed::LongReply(100_000), "delivered", 1, event, TOO_LONG),
            case(surplus(), "delivered", 1, "connect_fail ", UNASKED),
        ],
        &[],
    );
}

#[test]
fn a_misdeed_at_helo_costs_an_opening_and_no_mail() {
    let event = "connect_fail HELO attempt 1 after ";
    let no_ehlo = Fault::new(At::Ehlo, Misdeed::refuse(502, "5.5.1 what?")).times(1);
    check_all(
        At::Helo,
        &[
            case(never(), "delivered", 1, event, ": refused: 554 5.3.0 never"),
            case(Misdeed::Hang, "delivered", 1, event, TIMED_OUT),
            case(Misdeed::Close, "delivered", 1, event, CLOSED),
            case(Misdeed::garbage(), "delivered", 1, event, GARBAGE),
        ],
        &[no_ehlo],
    );
}

#[test]
fn a_misdeed_at_mail_is_made_good_by_another_attempt() {
    let (fail, hang) = ("fail MAIL 0 attempt 1 after ", "hang MAIL 0 attempt 1 after ");
    check_all(
        At::Mail,
        &[
            case(later(), "delivered", 2, fail, ": 451 4.3.0 not / now"),
            case(never(), "refused", 1, fail, ": 554 5.3.0 never"),
            case(Misdeed::Close421, "delivered", 1, fail, "421 4.3.2 Service not available, closing"),
            case(Misdeed::refuse(503, "5.5.1 no"), "delivered", 1, fail, ": 503 5.5.1 no"),
            case(Misdeed::Delay(PATIENCE), "delivered", 2, hang, TIMED_OUT),
            case(Misdeed::Hang, "delivered", 2, hang, TIMED_OUT),
            case(Misdeed::HalfReply, "delivered", 2, hang, TIMED_OUT),
            case(Misdeed::Close, "delivered", 2, hang, CLOSED),
            case(Misdeed::HalfReplyClose, "delivered", 2, hang, CLOSED),
            case(
                Misdeed::CloseAfter,
                "delivered",
                2,
                "hang RCPT 0 <r0@example.net> attempt 1 after ",
                CLOSED,
            ),
            case(Misdeed::garbage(), "delivered", 2, hang, GARBAGE),
            case(Misdeed::LongReply(100_000), "delivered", 2, hang, TOO_LONG),
            case(surplus(), "delivered", 2, "hang MAIL 0 attempt 1 after ", UNASKED),
        ],
        &[],
    );
}

#[test]
fn a_misdeed_at_rcpt_is_made_good_by_another_attempt() {
    let (fail, hang) =
        ("fail RCPT 0 <r0@example.net> attempt 1 after ", "hang RCPT 0 <r0@example.net> attempt 1 after ");
    check_all(
        At::Rcpt,
        &[
            case(later(), "delivered", 2, fail, ": 451 4.3.0 not / now"),
            case(never(), "refused", 1, fail, ": 554 5.3.0 never"),
            case(Misdeed::Close421, "delivered", 1, fail, "421 4.3.2 Service not available, closing"),
            case(Misdeed::refuse(530, "5.7.0 no"), "delivered", 1, fail, ": 530 5.7.0 no"),
            case(Misdeed::Delay(PATIENCE), "delivered", 2, hang, TIMED_OUT),
            case(Misdeed::Hang, "delivered", 2, hang, TIMED_OUT),
            case(Misdeed::HalfReply, "delivered", 2, hang, TIMED_OUT),
            case(Misdeed::Close, "delivered", 2, hang, CLOSED),
            case(Misdeed::HalfReplyClose, "delivered", 2, hang, CLOSED),
            case(Misdeed::CloseAfter, "delivered", 2, "hang DATA 0 attempt 1 after ", CLOSED),
            case(Misdeed::garbage(), "delivered", 2, hang, GARBAGE),
            case(Misdeed::LongReply(100_000), "delivered", 2, hang, TOO_LONG),
            case(surplus(), "delivered", 2, "hang RCPT 0 attempt 1 after ", UNASKED),
        ],
        &[],
    );
}

#[test]
fn a_misdeed_at_data_is_made_good_by_another_attempt() {
    let (fail, hang) = ("fail DATA 0 attempt 1 after ", "hang DATA 0 attempt 1 after ");
    check_all(
        At::Data,
        &[
            case(later(), "delivered", 2, fail, ": 451 4.3.0 not / now"),
            case(never(), "refused", 1, fail, ": 554 5.3.0 never"),
            case(Misdeed::Close421, "delivered", 1, fail, "421 4.3.2 Service not available, closing"),
            case(
                Misdeed::refuse(250, "2.0.0 sure"),
                "delivered",
                2,
                hang,
                ": the server answered out of turn: 250",
            ),
            case(Misdeed::Delay(PATIENCE), "delivered", 2, hang, TIMED_OUT),
            case(Misdeed::Hang, "delivered", 2, hang, TIMED_OUT),
            case(Misdeed::HalfReply, "delivered", 2, hang, TIMED_OUT),
            case(Misdeed::Close, "delivered", 2, hang, CLOSED),
            case(Misdeed::HalfReplyClose, "delivered", 2, hang, CLOSED),
            case(Misdeed::garbage(), "delivered", 2, hang, GARBAGE),
            case(Misdeed::LongReply(100_000), "delivered", 2, hang, TOO_LONG),
            case(surplus(), "delivered", 2, "hang DATA 0 attempt 1 after ", UNASKED),
        ],
        &[],
    );
}

/// A content that fits into one write is out before the server says or does anything: without an
/// answer it is in doubt, and with one that comes early the answer counts.
#[test]
fn a_misdeed_in_the_middle_of_a_small_content_refuses_it_or_leaves_it_in_doubt() {
    let (fail, hang) = ("fail content 0 attempt 1 after ", "hang content 0 attempt 1 after ");
    check_all(
        At::Content,
        &[
            case(later(), "delivered", 2, fail, ": 451 4.3.0 not / now"),
            case(never(), "refused", 1, fail, ": 554 5.3.0 never"),
            case(Misdeed::Close421, "delivered", 1, fail, "421 4.3.2 Service not available, closing"),
            case(Misdeed::Hang, "in_doubt", 1, hang, TIMED_OUT),
            case(Misdeed::Close, "in_doubt", 1, hang, ""),
            case(Misdeed::CloseAfter, "in_doubt", 1, hang, CLOSED),
            case(Misdeed::garbage(), "in_doubt", 1, hang, GARBAGE),
        ],
        &[],
    );
}

#[test]
fn a_misdeed_at_the_final_dot_never_sends_a_mail_twice() {
    let (fail, hang) = ("fail content 0 attempt 1 after ", "hang content 0 attempt 1 after ");
    check_all(
        At::Dot,
        &[
            case(later(), "delivered", 2, fail, ": 451 4.3.0 not / now"),
            case(never(), "refused", 1, fail, ": 554 5.3.0 never"),
            case(Misdeed::Close421, "delivered", 1, fail, "421 4.3.2 Service not available, closing"),
            case(Misdeed::Delay(PATIENCE), "in_doubt", 1, hang, TIMED_OUT),
            case(Misdeed::Hang, "in_doubt", 1, hang, TIMED_OUT),
            case(Misdeed::HalfReply, "in_doubt", 1, hang, TIMED_OUT),
            case(Misdeed::Close, "in_doubt", 1, hang, CLOSED),
            case(Misdeed::HalfReplyClose, "in_doubt", 1, hang, CLOSED),
            case(Misdeed::CloseAfter, "delivered", 1, "hang MAIL 1 attempt 1 after ", CLOSED),
            case(Misdeed::garbage(), "in_doubt", 1, hang, GARBAGE),
            case(Misdeed::LongReply(100_000), "in_doubt", 1, hang, TOO_LONG),
            case(surplus(), "delivered", 1, "hang content attempt 1 after ", UNASKED),
        ],
        &[],
    );
}

#[test]
fn a_misdeed_at_rset_costs_the_connection_and_not_the_mail_behind_it() {
    let (fail, hang) = ("fail RSET 1 attempt 1 after ", "hang RSET 1 attempt 1 after ");
    for (misdeed, attempts, event, says) in [
        (later(), 1, fail, ": 451 4.3.0 not / now"),
        (never(), 1, fail, ": 554 5.3.0 never"),
        (Misdeed::Close421, 1, fail, "421 4.3.2 Service not available, closing"),
        (Misdeed::Hang, 1, hang, TIMED_OUT),
        (Misdeed::Close, 1, hang, CLOSED),
        (Misdeed::CloseAfter, 0, "hang MAIL 1 attempt 1 after ", CLOSED),
        (Misdeed::garbage(), 1, hang, GARBAGE),
        (surplus(), 1, hang, UNASKED),
    ] {
        let sink = sink(|sink| {
            let refused = Misdeed::refuse(550, "5.1.1 nobody");
            let refused = Fault::new(At::Rcpt, refused).address_prefix("r0@");
            sink.fault(refused).fault(Fault::new(At::Rset, misdeed.clone()).times(1))
        });
        let log = Log::default();
        let mailer = builder(&log).host(host(&sink)).timeouts(timeouts(At::Rset));
        let summary = send_and_quit(mailer, (0..3).map(mail));

        check_accounts(&summary, &log, &[&sink]);
        let outcomes: Vec<_> = log.outcomes().into_values().collect();
        assert_eq!(outcomes, ["refused", "delivered", "delivered"], "{misdeed:?}");
        let counted = log.reports(|all| all.iter().find(|ended| ended.id == 1).unwrap().attempts);
        assert!(attempts == 0 || attempts == counted, "{misdeed:?}: {counted} attempts");
        let [_, trouble] = &log.trouble()[..] else { panic!("{misdeed:?}: {:#?}", log.trouble()) };
        let line = &trouble.line;
        assert!(line.starts_with(&format!("127.0.0.1:0 {event}")) && line.ends_with(says), "{line}");
    }
}

#[test]
fn a_misdeed_at_quit_changes_no_outcome_and_ends_within_its_timeout() {
    for misdeed in [
        later(),
        never(),
        Misdeed::Close421,
        Misdeed::Hang,
        Misdeed::HalfReply,
        Misdeed::Close,
        Misdeed::garbage(),
        Misdeed::LongReply(100_000),
        surplus(),
    ] {
        let sink = sink(|sink| sink.fault(Fault::new(At::Quit, misdeed)));
        let log = Log::default();
        let mailer = builder(&log).host(host(&sink)).threads(2).timeouts(timeouts(At::Quit));
        let summary = send_and_quit(mailer, (0..3).map(mail));
        check_accounts(&summary, &log, &[&sink]);
        assert_eq!((summary.mails.delivered, sink.counts().faults), (3, 2));
        assert!(log.trouble().is_empty(), "{:#?}", log.trouble());
    }
}

#[test]
fn a_long_reply_within_the_limits_is_read_whole() {
    let sink = sink(|sink| sink.fault(Fault::new(At::Dot, Misdeed::LongReply(12_000))));
    let log = Log::default();
    let summary = send_and_quit(builder(&log).host(host(&sink)), [mail(0)]);
    check_accounts(&summary, &log, &[&sink]);
    log.reports(|all| assert!(all[0].line.len() > 11_000, "{}", all[0].line));
}

#[test]
fn a_connection_cut_in_the_middle_of_a_content_is_not_in_doubt() {
    const HUGE: u64 = 64 << 20;
    for misdeed in [Misdeed::Close, Misdeed::refuse(452, "4.3.1 full"), Misdeed::refuse(552, "5.3.4 huge")] {
        let is_refusal = matches!(misdeed, Misdeed::Refuse(552, _));
        let sink = sink(|sink| {
            let sink = sink.keep(smtp_bulk::sink::Keep::Nothing).max_message_size(None);
            // The wait lets the content fill all buffers on its way, so that it can't be out already.
            let full = Fault::new(At::Content, Misdeed::Delay(SHORT)).times(1);
            sink.fault(full).fault(Fault::new(At::Content, misdeed.clone()).times(1))
        });
        let log = Log::default();
        let content = Content::reader(|| Ok(Box::new(std::io::Read::take(std::io::repeat(b'x'), HUGE))));
        let (envelope, _) = mail(0).into_parts();
        let message = smtp_bulk::Message::new(envelope, content.promise(HUGE)).id(0);
        let summary = send_and_quit(builder(&log).host(host(&sink)), [message, mail(1)]);

        let outcomes: Vec<_> = log.outcomes().into_values().collect();
        let first = if is_refusal { "refused" } else { "delivered" };
        assert_eq!(outcomes, [first, "delivered"], "{misdeed:?}: {summary}");
        assert_eq!(sink.counts().mails, 2 - u64::from(is_refusal), "{misdeed:?}");
        assert_eq!(log.trouble()[0].step, Step::Content);
    }
}

#[test]
fn success_before_the_last_octet_of_a_content_is_no_success() {
    let peer = Scripted::start(|mut peer| {
        if peer.behave_until_content() {
            peer.say("250 2.0.0 queued already\r\n");
            // Not read on: the content can't be out.
            std::thread::park_timeout(PATIENCE);
        }
    });
    let log = Log::default();
    let content = Content::reader(|| Ok(Box::new(std::io::Read::take(std::io::repeat(b'x'), 64 << 20))));
    let (envelope, _) = mail(0).into_parts();
    let message = smtp_bulk::Message::new(envelope, content).id(0);
    let summary = send_and_quit(builder(&log).host(peer.host()).max_attempts(2), [message]);
    assert_eq!(summary.mails.abandoned, 1, "{summary}");
    let lines: Vec<String> = log.of_kind(EventKind::Hang).into_iter().map(|seen| seen.line).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines.iter().all(|line| line.ends_with("the server answered out of turn: 250")), "{lines:?}");
}

#[test]
fn a_mail_in_doubt_is_sent_again_only_when_that_was_asked_for() {
    let sink = sink(|sink| sink.fault(Fault::new(At::Dot, Misdeed::Close).times(1)));
    let log = Log::default();
    let mailer = builder(&log).host(host(&sink)).resend_in_doubt(true);
    let summary = send_and_quit(mailer, [mail(0)]);
    assert_eq!((summary.mails.delivered, summary.requeued), (1, 1));
    // Twice, as the setting's own words say.
    let stored: Vec<_> = sink.mails().iter().map(|mail| mail.content.clone()).collect();
    assert_eq!(stored, [text(0).into_bytes(), text(0).into_bytes()]);
}

#[test]
fn a_server_that_never_accepts_gets_each_mail_as_often_as_was_set() {
    let sink = sink(|sink| sink.fault(Fault::new(At::Mail, later())));
    let log = Log::default();
    let mailer = builder(&log).host(host(&sink)).threads(2).max_attempts(4);
    let summary = send_and_quit(mailer, (0..5).map(mail));
    check_accounts(&summary, &log, &[&sink]);
    assert_eq!((summary.mails.abandoned, summary.requeued), (5, 15));
    assert_eq!(log.of_kind(EventKind::Fail).len(), 20);
    log.reports(|all| {
        for ended in all {
            assert_eq!((ended.attempts, ended.line.as_str()), (4, "abandoned: 451 4.3.0 not / now"));
        }
    });
}

/// Everything at once, at random, from many seeds: the accounts agree all the same.
#[test]
fn a_storm_of_misdeeds_loses_and_doubles_no_mail() {
    for seed in 0..6 {
        let steps = [At::Greeting, At::Ehlo, At::Mail, At::Rcpt, At::Data, At::Content, At::Dot, At::Rset];
        let sink = sink(|sink| {
            steps.into_iter().fold(sink.seed(seed), |sink, at| {
                let misdeeds = [
                    later(),
                    never(),
                    Misdeed::Close421,
                    Misdeed::Close,
                    Misdeed::CloseAfter,
                    Misdeed::HalfReplyClose,
                    Misdeed::garbage(),
                    Misdeed::Delay(Duration::from_millis(1)),
                ];
                misdeeds
                    .into_iter()
                    .fold(sink, |sink, misdeed| sink.fault(Fault::new(at, misdeed).probability(0.01)))
            })
        });
        let log = Log::default();
        let mailer = builder(&log).host(host(&sink)).threads(8).max_connect_failures(50).seed(seed);
        let summary = send_and_quit(mailer, (0..300).map(mail));
        check_accounts(&summary, &log, &[&sink]);
        assert_eq!(summary.taken, 300);
        assert!(sink.counts().faults > 30 && summary.mails.delivered > 200, "{summary}");
    }
}
