//! Hosts that are given less, hosts that rest, and mails that wait for one host alone.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use smtp_bulk::sink::{Fault, Misdeed, Step as At};
use smtp_bulk::{Backoff, HostNews, MailerBuilder, Pace, Rate};

use crate::support::{ClosedPort, Log, builder, check_accounts, host, mail, run, send_and_quit, sink};

const PACES: [Pace; 3] =
    [Pace::Lockstep, Pace::Quorum { share: 0.75, grace: Duration::from_millis(1) }, Pace::Free];

const BRIEF: Backoff = Backoff { base: Duration::from_millis(5), max: Duration::from_millis(20) };

type News = Arc<Mutex<Vec<(u32, HostNews)>>>;

/// The builder with what it is told about hosts.
fn told(builder: MailerBuilder) -> (MailerBuilder, News) {
    let news = News::default();
    let heard = Arc::clone(&news);
    let told = move |change: &smtp_bulk::HostChange<'_>| {
        heard.lock().unwrap().push((change.host, change.news));
    };
    (builder.backoff(BRIEF).on_host_change(told), news)
}

#[test]
fn a_server_that_wants_less_is_given_less_and_recovers_and_no_mail_is_lost() {
    for pace in PACES {
        let refusal = Misdeed::Refuse(451, "4.7.1 not so fast".into());
        let slow = sink(|sink| sink.fault(Fault::new(At::Mail, refusal).times(60)));
        let log = Log::default();
        let (builder, news) = told(builder(&log).host(host(&slow).threads(20)).pace(pace).max_attempts(100));
        let summary = send_and_quit(builder, (0..2_000).map(mail));
        check_accounts(&summary, &log, &[&slow]);
        assert_eq!(summary.mails.delivered, 2_000, "{pace:?}");
        let news = news.lock().unwrap();
        assert!(matches!(news[0], (0, HostNews::Slowed { mails: 10, .. })), "{pace:?}: {news:?}");
        assert_eq!(news.last(), Some(&(0, HostNews::Recovered)), "{pace:?}");
    }
}

#[test]
fn a_host_that_is_down_rests_and_those_that_are_bound_to_it_hold_up_nobody() {
    for pace in PACES {
        let good = sink(|sink| sink);
        let dead = ClosedPort::on(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2))).unwrap();
        let log = Log::default();
        let dead = dead.host().threads(3).circuit_breaker(3).max_connect_failures(50);
        let (builder, news) = told(builder(&log).host(host(&good).threads(3)).host(dead).pace(pace));
        let mut mailer = run(builder.max_delayed(5).connect()).unwrap();
        // Every tenth for the host that is down: five wait for it, and more do not.
        let mails = (0..100).map(|id| if id % 10 == 0 { mail(id).host(1) } else { mail(id) });
        run(mailer.send_all(mails)).unwrap();
        assert_eq!(run(mailer.flush()).unwrap(), 5, "{pace:?}");
        let down = mailer.hosts().nth(1).unwrap();
        assert!(down.is_failing && down.active == 0, "{pace:?}: {down}");
        let summary = run(mailer.quit()).unwrap();
        check_accounts(&summary, &log, &[&good]);
        assert_eq!((summary.mails.delivered, summary.mails.abandoned), (90, 10), "{pace:?}");
        assert!(
            news.lock()
                .unwrap()
                .iter()
                .all(|(host, news)| *host == 1 && matches!(news, HostNews::Rests { .. }))
        );
    }
}

#[test]
fn hosts_get_their_shares_by_weight_over_sockets() {
    let (large, small) = (sink(|sink| sink), sink(|sink| sink));
    let log = Log::default();
    let hosts = builder(&log).host(host(&large).threads(2).weight(3)).host(host(&small).threads(2).weight(1));
    let summary = send_and_quit(hosts, (0..400).map(mail));
    check_accounts(&summary, &log, &[&large, &small]);
    let shares = (large.counts().mails, small.counts().mails);
    assert!(shares.0.abs_diff(300) <= 4 && shares.0 + shares.1 == 400, "{shares:?}");
}

#[test]
fn no_more_octets_are_sent_than_may_be() {
    let sink = sink(|sink| sink);
    let log = Log::default();
    // The content, and what is said around it.
    let rate = Rate::per_second(20_000.0).burst(4_000);
    let builder = builder(&log).host(host(&sink).threads(4)).byte_rate(rate);
    let begun = Instant::now();
    let summary = send_and_quit(builder, (0..50).map(mail));
    check_accounts(&summary, &log, &[&sink]);
    let most = 4_000.0 + 20_000.0 * begun.elapsed().as_secs_f64();
    let one = summary.bytes as f64 / 50.0;
    assert!(summary.bytes as f64 - one <= most, "{} of {most}", summary.bytes);
}

#[test]
fn no_more_sessions_stand_than_may() {
    for pace in PACES {
        let (one, two) = (sink(|sink| sink), sink(|sink| sink));
        let log = Log::default();
        let hosts = builder(&log).host(host(&one).threads(5)).host(host(&two).threads(5)).total_sessions(4);
        let summary = send_and_quit(hosts.pace(pace), (0..200).map(mail));
        check_accounts(&summary, &log, &[&one, &two]);
        assert_eq!(summary.mails.delivered, 200);
        assert_eq!(one.counts().peak_open + two.counts().peak_open, 4, "{pace:?}");
    }
}
