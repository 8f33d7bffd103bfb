//! Mails that a server puts off, and what flush and quit make of them.

use std::time::Duration;

use smtp_bulk::sink::{Fault, Misdeed, Step as At};
use smtp_bulk::{Error, Quit};

use crate::support::{Log, PATIENCE, SHORT, builder, check_accounts, host, mail, mail_to, run, sink};

const GREYLISTED: &str = "4.7.1 come back later";

#[test]
fn flush_says_how_many_wait_and_quit_gives_them_up_with_their_last_reply() {
    let late = Misdeed::refuse(451, GREYLISTED);
    let sink = sink(|sink| sink.fault(Fault::new(At::Rcpt, late).address_prefix("late")));
    let log = Log::default();
    let builder = builder(&log).host(host(&sink)).threads(3).retry_delay(PATIENCE);
    let summary = run(async {
        let mut mailer = builder.connect().await?;
        for id in 0..12 {
            let message = if id < 2 { mail_to(id, &["late@example.net"]) } else { mail(id) };
            mailer.send(message).await?;
        }
        assert_eq!(mailer.flush().await?, 2);
        assert_eq!(mailer.summary().mails.delivered, 10);
        assert_eq!(mailer.flush().await?, 2, "they wait on");
        mailer.quit().await
    })
    .unwrap();
    check_accounts(&summary, &log, &[&sink]);
    assert_eq!((summary.mails.delivered, summary.mails.abandoned), (10, 2));
    let told = log.reports(|all| all.iter().map(|one| one.line.clone()).collect::<Vec<_>>());
    let given_up = told.iter().filter(|text| **text == format!("abandoned: 451 {GREYLISTED}"));
    assert_eq!(given_up.count(), 2, "{told:?}");
}

#[test]
fn quit_with_patience_sends_what_was_put_off() {
    let late = Misdeed::refuse(451, GREYLISTED);
    let sink = sink(|sink| sink.fault(Fault::new(At::Rcpt, late).address_prefix("late").times(2)));
    let log = Log::default();
    let builder = builder(&log).host(host(&sink)).threads(3).retry_delay(SHORT);
    let summary = run(async {
        let mut mailer = builder.connect().await?;
        mailer.send_all((0..2).map(|id| mail_to(id, &["late@example.net"]))).await?;
        mailer.quit_with(Quit::default().wait_for_delayed(PATIENCE)).await
    })
    .unwrap();
    check_accounts(&summary, &log, &[&sink]);
    assert_eq!((summary.mails.delivered, summary.requeued), (2, 2));
    assert!(summary.elapsed >= SHORT, "they have waited");
}

#[test]
fn patience_that_ends_first_gives_them_up() {
    let late = Misdeed::refuse(451, GREYLISTED);
    let sink = sink(|sink| sink.fault(Fault::new(At::Rcpt, late)));
    let log = Log::default();
    let builder = builder(&log).host(host(&sink)).threads(1).retry_delay(Duration::from_secs(3600));
    let summary = run(async {
        let mut mailer = builder.connect().await?;
        mailer.send(mail(1)).await?;
        mailer.quit_with(Quit::default().wait_for_delayed(SHORT)).await
    })
    .unwrap();
    assert_eq!(summary.mails.abandoned, 1);
    check_accounts(&summary, &log, &[&sink]);
}

#[test]
fn what_is_put_off_is_tried_again_while_the_mailer_is_idle() {
    let late = Misdeed::refuse(451, GREYLISTED);
    let sink = sink(|sink| sink.fault(Fault::new(At::Rcpt, late).times(1)));
    let log = Log::default();
    let builder = builder(&log).host(host(&sink)).threads(1).retry_delay(SHORT);
    run(async {
        let mut mailer = builder.connect().await?;
        mailer.send(mail(1)).await?;
        assert_eq!(mailer.flush().await?, 1);
        let delivered = async {
            while log.reports(<[_]>::is_empty) {
                smol::Timer::after(SHORT / 20).await;
            }
            Ok::<_, Error>(())
        };
        let idle = async { mailer.idle().await.map(|never| match never {}) };
        smol::future::or(idle, delivered).await?;
        assert_eq!(mailer.flush().await?, 0);
        Ok::<_, Error>(())
    })
    .unwrap();
    assert_eq!(log.outcomes().into_iter().collect::<Vec<_>>(), [(1, "delivered")]);
}

#[test]
fn a_quit_that_was_dropped_leaves_no_time_in_the_past() {
    let late = Misdeed::refuse(451, GREYLISTED);
    let sink = sink(|sink| sink.fault(Fault::new(At::Rcpt, late)));
    let log = Log::default();
    let builder = builder(&log).host(host(&sink)).threads(1).retry_delay(PATIENCE);
    run(async {
        let mut mailer = builder.connect().await?;
        mailer.send(mail(1)).await?;
        {
            let quit = mailer.quit_with(Quit::default().wait_for_delayed(SHORT / 2));
            let soon = async {
                smol::Timer::after(SHORT / 5).await;
                Ok(None)
            };
            assert!(smol::future::or(async { quit.await.map(Some) }, soon).await?.is_none());
        }
        smol::Timer::after(SHORT).await;
        let mut polls = 0;
        let mut idling = std::pin::pin!(mailer.idle());
        let idle = std::future::poll_fn(|cx| {
            polls += 1;
            std::future::Future::poll(idling.as_mut(), cx).map(|ended| ended.map(|never| match never {}))
        });
        let enough = async {
            smol::Timer::after(SHORT).await;
            Ok::<(), Error>(())
        };
        smol::future::or(idle, enough).await?;
        assert!(polls < 50, "polled {polls} times");
        Ok::<_, Error>(())
    })
    .unwrap();
}
