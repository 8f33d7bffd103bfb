//! Where connections go, where they come from, and what becomes of the mail when hosts fail.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::mpsc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use smol::io::{AsyncRead, AsyncWrite};
use smtp_bulk::sink::{Fault, Keep, Misdeed, Sink, Step as At};
use smtp_bulk::{Error, EventKind, Host, LaneId, Standing, Step, Timeouts};

use crate::scripted::Scripted;
use crate::support::{
    ClosedPort, Log, builder, check_accounts, host, mail, numbers, run, send_and_quit, sink, skipped,
};

const SECOND_LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

#[test]
fn mail_is_spread_over_all_hosts() {
    let (one, two) = (sink(|sink| sink), sink(|sink| sink));
    let log = Log::default();
    let mailer = builder(&log).host(host(&one).threads(3)).host(host(&two).threads(3));
    let summary = send_and_quit(mailer, (0..24).map(mail));
    check_accounts(&summary, &log, &[&one, &two]);
    assert_eq!((one.counts().mails, two.counts().mails), (12, 12));
    assert_eq!((one.counts().connections, two.counts().connections), (3, 3));
    for host in &summary.hosts {
        assert_eq!((host.mails.delivered, host.recipients.delivered, host.connections), (12, 12, 3));
        assert!(host.bytes > 12 * 60, "{host:?}");
    }
}

#[test]
fn a_host_that_refuses_connections_leaves_its_mail_to_the_others() {
    let good = sink(|sink| sink);
    let dead = ClosedPort::on(SECOND_LOOPBACK).unwrap();
    let log = Log::default();
    let mailer = builder(&log).threads(2).max_connect_failures(3).host(dead.host()).host(host(&good));
    let summary = send_and_quit(mailer, (0..10).map(mail));
    check_accounts(&summary, &log, &[&good]);
    assert_eq!((summary.mails.delivered, good.counts().mails), (10, 10));
    let fails = log.of_kind(EventKind::ConnectFail);
    // Whether the mail is out before its two lanes retire depends on who is quicker.
    assert!((2..=6).contains(&fails.len()), "two lanes, three times each at most: {fails:#?}");
    for fail in fails {
        assert_eq!((fail.step, fail.lane.host), (Step::Connect, 0));
        assert!(fail.line.starts_with(&format!("127.0.0.2:{} connect_fail connect", fail.lane.thread)));
        assert!(
            fail.line.contains(": not connected: 127.0.0.2:") && fail.line.contains("Connection refused"),
            "{}",
            fail.line
        );
    }
}

#[test]
fn when_all_hosts_are_dead_connect_says_which_and_why() {
    let dead = ClosedPort::on(SECOND_LOOPBACK).unwrap();
    let log = Log::default();
    let builder = builder(&log).host(dead.host().threads(3)).max_connect_failures(2);
    let error = run(builder.connect()).expect_err("there is no server");
    let line = error.to_string();
    assert!(
        line.starts_with("every lane is retired, and 0 messages are given back; last: 127.0.0.2:"),
        "{line}"
    );
    assert!(line.contains("Connection refused") && !line.contains('\n'), "{line}");
    assert!(error.into_unsent().is_empty());
    assert_eq!(log.of_kind(EventKind::ConnectFail).len(), 6);
}

#[test]
fn when_every_lane_retires_midway_send_gives_everything_back() {
    let sink = sink(|sink| sink.fault(Fault::new(At::Mail, Misdeed::Close).skip(2)));
    let log = Log::default();
    run(async {
        let builder = builder(&log).host(host(&sink)).threads(2).max_attempts(100);
        let mut mailer = builder.max_connect_failures(1).connect().await.unwrap();
        let mut taken = 0;
        let error = loop {
            match mailer.send(mail(taken)).await {
                Ok(()) => taken += 1,
                Err(error) => break error,
            }
            assert!(taken < 10, "the lanes are gone");
        };
        assert!(matches!(error, Error::AllRetired { last: Some(_), .. }), "{error}");
        assert!(error.to_string().contains("; last: 127.0.0.1:"), "{error}");
        let mut unsent = numbers(&error.into_unsent());
        unsent.sort_unstable();
        assert_eq!((unsent, taken), (vec![2, 3], 3), "the message of this call is among them");
        assert!(mailer.lanes().all(|lane| lane.standing == Standing::Retired));
        check_accounts(&mailer.summary(), &log, &[&sink]);

        // Nothing can be sent any more, and every call says so at once.
        assert_eq!(numbers(&mailer.send(mail(90)).await.unwrap_err().into_unsent()), [90]);
        assert!(matches!(mailer.ready().await, Err(Error::AllRetired { .. })));
        assert!(matches!(mailer.idle().await, Err(Error::AllRetired { .. })));
        assert!(matches!(mailer.send_all([mail(91)]).await, Err(Error::AllRetired { .. })));
    });
}

#[test]
fn flush_and_quit_give_the_backlog_back_when_every_lane_retires() {
    for quits in [false, true] {
        let sink = sink(|sink| sink.fault(Fault::new(At::Mail, Misdeed::Close)));
        let log = Log::default();
        run(async {
            let builder = builder(&log).host(host(&sink)).threads(4).max_attempts(100);
            let mut mailer = builder.max_connect_failures(2).connect().await.unwrap();
            for id in 0..3 {
                mailer.send(mail(id)).await.unwrap();
            }
            let error =
                if quits { mailer.quit().await.unwrap_err() } else { mailer.flush().await.unwrap_err() };
            let mut unsent = numbers(&error.into_unsent());
            unsent.sort_unstable();
            assert_eq!(unsent, [0, 1, 2]);
            let summary = mailer.summary();
            assert_eq!((summary.taken, summary.mails.unsent), (3, 3));
        });
    }
}

#[test]
fn reconnect_and_restart_revive_retired_lanes() {
    for restarts in [false, true] {
        let sink = sink(|sink| sink.fault(Fault::new(At::Mail, Misdeed::Close).times(1)));
        let log = Log::default();
        run(async {
            let builder = builder(&log).host(host(&sink)).max_attempts(100).max_connect_failures(1);
            let mut mailer = builder.connect().await.unwrap();
            mailer.send(mail(0)).await.expect_err("the only lane retires");
            if restarts {
                mailer.restart().await.unwrap();
            } else {
                mailer.reconnect(LaneId { host: 0, thread: 0 }).await.unwrap();
            }
            assert!(mailer.lanes().all(|lane| lane.standing == Standing::Active));
            mailer.send(mail(1)).await.unwrap();
            let summary = mailer.quit().await.unwrap();
            check_accounts(&summary, &log, &[&sink]);
            assert_eq!((summary.mails.delivered, summary.mails.unsent), (1, 1));
        });
    }
}

#[test]
fn a_mailer_that_was_quit_can_be_restarted() {
    let sink = sink(|sink| sink);
    let log = Log::default();
    run(async {
        let mut mailer = builder(&log).host(host(&sink)).threads(2).connect().await.unwrap();
        for round in 0..3 {
            mailer.send_all((0..3).map(|id| mail(round * 3 + id))).await.unwrap();
            let summary = mailer.quit().await.unwrap();
            assert_eq!(summary.mails.delivered, 3 * (round + 1));
            assert_eq!(sink.counts().connections, 2 * (round + 1));
            let again = mailer.quit().await.expect("quitting twice is no mistake");
            assert_eq!(again.mails, summary.mails);
            let error = mailer.send(mail(99)).await.expect_err("it is closed");
            assert!(matches!(error, Error::Closed(_)));
            assert_eq!(numbers(&error.into_unsent()), [99]);
            mailer.restart().await.unwrap();
        }
        check_accounts(&mailer.quit().await.unwrap(), &log, &[&sink]);
        assert_eq!(sink.counts().lost, 0, "every session ended with QUIT");
    });
}

#[test]
fn one_lane_can_be_opened_anew() {
    let sink = sink(|sink| sink);
    let log = Log::default();
    run(async {
        let mut mailer = builder(&log).host(host(&sink)).threads(3).connect().await.unwrap();
        let lane = LaneId { host: 0, thread: 1 };
        mailer.reconnect(lane).await.unwrap();
        assert_eq!(sink.counts().connections, 4);
        let passes = log.of_kind(EventKind::ReconnectPass);
        assert_eq!(passes.iter().map(|seen| seen.lane).collect::<Vec<_>>(), [lane]);
        for wrong in [LaneId { host: 0, thread: 3 }, LaneId { host: 1, thread: 0 }] {
            let error = mailer.reconnect(wrong).await.expect_err("there is no such lane");
            assert!(matches!(error, Error::NoSuchLane(lane) if lane == wrong), "{error}");
        }
        mailer.send_all((0..9).map(mail)).await.unwrap();
        check_accounts(&mailer.quit().await.unwrap(), &log, &[&sink]);
        assert_eq!(sink.counts().mails, 9);
    });
}

// ---- addresses ----------------------------------------------------------------------------------

/// The names that clients have said in EHLO.
fn hellos(sink: &Sink) -> BTreeSet<String> {
    sink.mails().iter().map(|mail| mail.helo.clone()).collect()
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

#[test]
fn a_client_says_its_own_address_unless_told_another_name() {
    let log = Log::default();
    for (told, hello) in [
        (Host::new("127.0.0.1"), "[127.0.0.1]"),
        (Host::new("127.0.0.1").hello("client.example"), "client.example"),
        (Host::new("127.0.0.1").hello("[192.0.2.1]"), "[192.0.2.1]"),
        (Host::new("127.0.0.1").hello_server_name(), "[127.0.0.1]"),
        (Host::new("localhost").hello_server_name(), "localhost"),
    ] {
        let sink = sink(|sink| sink);
        send_and_quit(builder(&log).host(told.port(sink.port())), [mail(0)]);
        assert_eq!(hellos(&sink), set([hello]));
    }
    let wrong = builder(&log).host(Host::new("127.0.0.1").hello("no domain"));
    let error = run(wrong.connect()).expect_err("that is no name");
    assert!(error.to_string().starts_with("host \"127.0.0.1\": "), "{error}");
}

#[test]
fn connections_come_from_the_local_address_that_was_set() {
    let (tell, told) = mpsc::channel();
    let peer = Scripted::start(move |peer| tell.send(peer.address().ip()).unwrap());
    let log = Log::default();
    let builder = builder(&log).host(peer.host().local_address(SECOND_LOOPBACK)).max_connect_failures(1);
    run(builder.connect()).expect_err("the peer only looks who comes");
    assert_eq!(told.recv().unwrap(), SECOND_LOOPBACK);
}

#[test]
fn several_local_addresses_are_spread_over_the_lanes() {
    let sink = sink(|sink| sink);
    let log = Log::default();
    let third = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));
    let host = host(&sink).threads(4).local_address(SECOND_LOOPBACK).local_address(third);
    // One of another family is no source for this target.
    let host = host.local_address(IpAddr::V6(Ipv6Addr::LOCALHOST));
    let summary = send_and_quit(builder(&log).host(host), (0..8).map(mail));
    check_accounts(&summary, &log, &[&sink]);
    assert_eq!(hellos(&sink), set(["[127.0.0.2]", "[127.0.0.3]"]));
}

#[test]
fn an_address_that_this_machine_does_not_have_is_a_failure_to_connect() {
    let sink = sink(|sink| sink);
    let log = Log::default();
    // TEST-NET-1 (RFC 5737) is nobody's.
    let host = host(&sink).local_address(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
    let error = run(builder(&log).host(host).max_connect_failures(2).connect()).expect_err("not ours");
    assert!(matches!(error, Error::AllRetired { .. }), "{error}");
    assert_eq!(log.of_kind(EventKind::ConnectFail).len(), 2);
    assert_eq!(sink.counts().connections, 0);
}

#[test]
fn ipv6_hosts_are_reached_in_every_notation() {
    let Ok(sink) = Sink::builder().address(Ipv6Addr::LOCALHOST).keep(Keep::All).start() else {
        skipped("this machine has no IPv6 loopback");
        return;
    };
    let log = Log::default();
    let port = sink.port();
    for (id, host) in
        [Host::new("::1").port(port), Host::new("[::1]").port(port), Host::new(format!("[::1]:{port}"))]
            .into_iter()
            .enumerate()
    {
        let summary = send_and_quit(builder(&log).host(host), [mail(id as u64)]);
        assert_eq!((summary.mails.delivered, summary.hosts[0].name.as_str()), (1, "::1"));
    }
    assert_eq!(hellos(&sink), set(["[IPv6:::1]"]));
    assert_eq!(sink.counts().mails, 3);
}

#[test]
fn a_name_is_resolved_and_its_dead_addresses_passed_over() {
    let sink = sink(|sink| sink);
    let log = Log::default();
    let host = Host::new("localhost").port(sink.port()).threads(4);
    let summary = send_and_quit(builder(&log).host(host), (0..8).map(mail));
    check_accounts(&summary, &log, &[&sink]);
    // Where the name has an IPv6 address, too, nobody listens there.
    assert_eq!((summary.mails.delivered, log.trouble().len()), (8, 0));
}

#[test]
fn the_addresses_of_a_name_are_spread_over_the_lanes() {
    let four = sink(|sink| sink);
    let addresses: BTreeSet<_> =
        ("localhost", four.port()).to_socket_addrs().unwrap().map(|address| address.ip()).collect();
    let six = Sink::builder().address(Ipv6Addr::LOCALHOST).port(four.port()).keep(Keep::All).start();
    let (2.., Ok(six)) = (addresses.len(), six) else {
        skipped("localhost is not both 127.0.0.1 and ::1 here");
        return;
    };
    let log = Log::default();
    let host = Host::new("localhost").port(four.port()).threads(4);
    let summary = send_and_quit(builder(&log).host(host), (0..8).map(mail));
    check_accounts(&summary, &log, &[&four, &six]);
    assert_eq!((four.counts().connections, six.counts().connections), (2, 2));
}

#[test]
fn a_name_that_cannot_be_resolved_is_a_failure_to_connect() {
    // A label of more than 63 octets is refused before any server is asked (RFC 1035 §2.3.4).
    let name = "x".repeat(64);
    let log = Log::default();
    let error = run(builder(&log).host(Host::new(&name)).threads(2).max_connect_failures(2).connect());
    let line = error.expect_err("there is no such name").to_string();
    assert!(line.contains(&name) && line.contains("name not resolved: "), "{line}");
    assert_eq!(log.of_kind(EventKind::ConnectFail).len(), 4);
}

#[test]
fn settings_that_cannot_work_are_errors_before_anything_is_connected() {
    let log = Log::default();
    for (host, problem) in [
        (Host::new(""), "no name"),
        (Host::new("127.0.0.1").port(0), "port 0"),
        (Host::new("127.0.0.1").threads(0), "0 threads"),
        (Host::new("127.0.0.1").threads(100_001), "100001 threads"),
        (Host::new("a b"), "no name"),
    ] {
        let error = run(builder(&log).host(host).connect()).expect_err(problem);
        assert!(matches!(&error, Error::Host { .. }) && error.to_string().contains(problem), "{error}");
    }
    assert!(matches!(run(builder(&log).connect()), Err(Error::Host { .. })), "no host at all");
    assert!(log.events().is_empty());
}

// ---- connectors ---------------------------------------------------------------------------------

#[test]
fn a_connector_makes_the_connections() {
    let sink = sink(|sink| sink);
    let (address, log) = (sink.address(), Log::default());
    let (tell, told) = mpsc::channel();
    let route = Host::new("mx.example").port(2525).threads(2).connector(move |target| {
        tell.send((target.host, target.port, target.lane.thread)).unwrap();
        smol::net::TcpStream::connect(address)
    });
    let summary = send_and_quit(builder(&log).host(route), (0..6).map(mail));
    check_accounts(&summary, &log, &[&sink]);
    assert_eq!(sink.counts().mails, 6);
    let told: BTreeSet<_> = told.iter().collect();
    assert_eq!(told, [0, 1].map(|thread| ("mx.example".to_owned(), 2525, thread)).into());
}

#[cfg(unix)]
#[test]
fn a_connector_can_go_through_a_tunnel() {
    use std::os::unix::net::UnixStream;

    use smol::Async;

    let sink = sink(|sink| sink);
    let (address, log) = (sink.address(), Log::default());
    let route = Host::new("tunnel").hello("client.example").threads(3).connector(move |_| async move {
        let (near, far) = UnixStream::pair()?;
        let (far, server) = (Async::new(far)?, smol::net::TcpStream::connect(address).await?);
        smol::spawn(async move {
            let up = smol::io::copy(&far, server.clone());
            let down = smol::io::copy(server.clone(), &far);
            let _ = smol::future::or(up, down).await;
        })
        .detach();
        Async::new(near)
    });
    let summary = send_and_quit(builder(&log).host(route), (0..20).map(mail));
    check_accounts(&summary, &log, &[&sink]);
    assert_eq!((sink.counts().mails, hellos(&sink)), (20, set(["client.example"])));
}

/// A tunnel that sends nothing before it is flushed.
struct Buffering {
    inner: smol::net::TcpStream,
    held: Vec<u8>,
}

impl AsyncRead for Buffering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Buffering {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // A few at a time, so that a flight takes many writes.
        let taken = &bytes[..bytes.len().min(7)];
        self.held.extend_from_slice(taken);
        Poll::Ready(Ok(taken.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let Buffering { inner, held } = &mut *self;
            let count = ready!(Pin::new(inner).poll_write(cx, held))?;
            held.drain(..count);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

#[test]
fn a_stream_that_buffers_is_flushed() {
    let sink = sink(|sink| sink);
    let (address, log) = (sink.address(), Log::default());
    let route = Host::new("tunnel").threads(2).connector(move |_| async move {
        let inner = smol::net::TcpStream::connect(address).await?;
        Ok(Buffering { inner, held: Vec::new() })
    });
    let summary = send_and_quit(builder(&log).host(route), (0..6).map(mail));
    check_accounts(&summary, &log, &[&sink]);
    assert_eq!(sink.counts().mails, 6);
}

/// Has always something more to do, and never anything to give.
struct Restless;

impl AsyncRead for Restless {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl AsyncWrite for Restless {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(octets.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn a_stream_that_never_rests_leaves_the_executor_to_others() {
    let log = Log::default();
    let timeouts = Timeouts { greeting: Duration::from_secs(1), ..Timeouts::default() };
    let route = Host::new("tunnel").hello("client.example").threads(1).connector(|_| async { Ok(Restless) });
    let builder = builder(&log).host(route).timeouts(timeouts).max_connect_failures(1);
    let mut connecting = Box::pin(builder.connect());
    let mut polls = 0;
    let connected = run(std::future::poll_fn(|cx| {
        polls += 1;
        connecting.as_mut().poll(cx)
    }));
    connected.expect_err("nobody greets");
    assert!(polls > 100, "a second in {polls} polls");
}

#[test]
fn a_connector_that_fails_or_never_ends_is_a_failure_to_connect() {
    let log = Log::default();
    let broken = Host::new("broken.example")
        .connector(|_| async { Err::<smol::net::TcpStream, _>(io::Error::other("no tunnel today")) });
    let endless = Host::new("endless.example")
        .connector(|_| smol::future::pending::<io::Result<smol::net::TcpStream>>());
    let timeouts = Timeouts { connect: Duration::from_millis(50), ..Timeouts::default() };
    let builder = builder(&log).host(broken).host(endless).timeouts(timeouts).max_connect_failures(2);
    run(builder.connect()).expect_err("neither connects");
    let lines: Vec<String> = log.trouble().into_iter().map(|seen| seen.line).collect();
    let ends = |what: &str| lines.iter().filter(|line| line.ends_with(what)).count();
    assert_eq!(ends(": not connected: no tunnel today"), 2, "{lines:?}");
    assert_eq!(ends(": no reply within 50ms"), 2, "{lines:?}");
}
