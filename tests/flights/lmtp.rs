//! LMTP (RFC 2033): a final reply for each recipient, over TCP and Unix sockets.

use smtp_bulk::sink::{Extension, Fault, Misdeed, Step as At};
use smtp_bulk::{EventKind, Pipeline, Step};

use crate::support::{Log, builder, check_accounts, host, mail, mail_to, send_and_quit, sink};

const THREE: [&str; 3] = ["one@example.net", "two@example.net", "three@example.net"];

/// The levels, each with and without CHUNKING.
fn ways() -> impl Iterator<Item = (Pipeline, u32, bool)> {
    let levels = [Pipeline::Single, Pipeline::Envelope, Pipeline::Full];
    levels.into_iter().flat_map(|level| [(level, 1, false), (level, 1, true), (level, 4, true)])
}

#[test]
fn each_recipient_has_its_own_outcome_at_every_level() {
    for (level, depth, chunking) in ways() {
        let sink = sink(|sink| {
            let sink = sink.lmtp().announce(Extension::Pipelining);
            let sink = if chunking { sink.announce(Extension::Chunking) } else { sink };
            let full = Fault::new(At::Dot, Misdeed::refuse(552, "5.2.2 over quota"));
            sink.fault(full.address_prefix("two")).refuse_recipients("three", 550)
        });
        let log = Log::default();
        let host = host(&sink).lmtp().pipeline(level).depth(depth);
        let summary = send_and_quit(builder(&log).host(host), (0..8).map(|id| mail_to(id, &THREE)));
        check_accounts(&summary, &log, &[&sink]);
        assert_eq!(summary.mails.partial, 8, "{level:?} {depth} {chunking}: {summary}");
        assert_eq!((summary.recipients.delivered, summary.recipients.refused), (8, 16));
        assert_eq!(summary.hosts[0].connections, 1, "a refusal needs neither RSET nor a new connection");
        let about_content = |seen: &crate::support::Seen| seen.step == Step::Content;
        let fails = log.of_kind(EventKind::Fail).into_iter().filter(about_content).count();
        let passes = log.of_kind(EventKind::Pass).into_iter().filter(about_content).count();
        assert_eq!((passes, fails), (8, 8), "an event for each recipient's reply");
    }
}

#[test]
fn recipients_put_off_are_tried_again_alone() {
    for (level, depth, chunking) in ways() {
        let sink = sink(|sink| {
            let sink = sink.lmtp().announce(Extension::Pipelining);
            let sink = if chunking { sink.announce(Extension::Chunking) } else { sink };
            let busy = Fault::new(At::Dot, Misdeed::refuse(451, "4.2.0 busy"));
            sink.fault(busy.address_prefix("two").times(1))
        });
        let log = Log::default();
        let host = host(&sink).lmtp().pipeline(level).depth(depth);
        let summary = send_and_quit(builder(&log).host(host), [mail_to(1, &THREE)]);
        check_accounts(&summary, &log, &[&sink]);
        assert_eq!(summary.mails.delivered, 1, "{level:?} {depth} {chunking}: {summary}");
        let stored: Vec<usize> = sink.mails().iter().map(|mail| mail.forward_paths.len()).collect();
        assert_eq!(stored, [2, 1], "one was tried again, and not the others");
    }
}

#[test]
fn a_connection_lost_among_the_replies_leaves_the_answered_ones_final() {
    for (level, _, chunking) in ways() {
        let sink = sink(|sink| {
            let sink = sink.lmtp().announce(Extension::Pipelining);
            let sink = if chunking { sink.announce(Extension::Chunking) } else { sink };
            sink.fault(Fault::new(At::Dot, Misdeed::Close).address_prefix("two"))
        });
        let log = Log::default();
        let host = host(&sink).lmtp().pipeline(level);
        let summary = send_and_quit(builder(&log).host(host), [mail_to(1, &THREE)]);
        check_accounts(&summary, &log, &[&sink]);
        let outcomes = log.reports(|all| all[0].recipients.clone());
        let names: Vec<&str> = outcomes.iter().map(|(_, outcome)| *outcome).collect();
        assert_eq!(names, ["delivered", "in_doubt", "in_doubt"], "{level:?} {chunking}");
    }
}

#[cfg(unix)]
#[test]
fn unix_sockets_carry_lmtp_and_smtp() {
    use smtp_bulk::Host;
    let folder = tempfile::tempdir().unwrap();
    for is_lmtp in [true, false] {
        let path = folder.path().join(format!("socket-{is_lmtp}"));
        let sink = sink(|sink| {
            let sink = sink.unix_path(&path);
            if is_lmtp { sink.lmtp() } else { sink }
        });
        let log = Log::default();
        let host = Host::unix(&path).threads(3);
        let host = if is_lmtp { host.lmtp() } else { host };
        let summary = send_and_quit(builder(&log).host(host), (0..30).map(mail));
        check_accounts(&summary, &log, &[&sink]);
        assert_eq!(summary.mails.delivered, 30);
        assert_eq!(summary.hosts[0].name, path.to_string_lossy());
    }
}

#[cfg(unix)]
#[test]
fn a_unix_socket_where_nobody_listens_is_named() {
    use smtp_bulk::{Error, Host};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nobody");
    let log = Log::default();
    let connected =
        crate::support::run(builder(&log).host(Host::unix(&path)).max_connect_failures(1).connect());
    let error = connected.unwrap_err();
    assert!(matches!(error, Error::AllRetired { .. }));
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
}

#[test]
fn a_server_that_speaks_no_lmtp_is_not_said_helo() {
    let sink = sink(|sink| sink);
    let log = Log::default();
    let host = host(&sink).lmtp().max_connect_failures(1);
    let connected = crate::support::run(builder(&log).host(host).connect());
    assert!(connected.unwrap_err().to_string().contains("EHLO"));
}
