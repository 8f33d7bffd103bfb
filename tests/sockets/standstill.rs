//! The global timeout over real sockets: what has come counts, whenever it is read.

use smtp_bulk::sink::{Fault, Misdeed, Step as At};
use smtp_bulk::{EventKind, Pace};

use crate::support::{Log, SHORT, builder, check_accounts, host, mail, run, sink};

#[test]
fn a_caller_who_does_other_things_for_long_loses_nothing_to_it() {
    let sink = sink(|sink| sink);
    let log = Log::default();
    let builder = builder(&log).host(host(&sink)).threads(3).pace(Pace::Free).global_timeout(SHORT / 5);
    let summary = run(async {
        let mut mailer = builder.connect().await?;
        for id in 0..6 {
            mailer.send(mail(id)).await?;
            // Nobody polls the mailer meanwhile, and the servers have answered long ago.
            std::thread::sleep(SHORT / 3);
        }
        mailer.quit().await
    })
    .unwrap();
    check_accounts(&summary, &log, &[&sink]);
    assert_eq!((summary.mails.delivered, summary.requeued), (6, 0));
    assert!(log.of_kind(EventKind::GlobalHang).is_empty(), "{:?}", log.trouble());
}

#[test]
fn when_no_server_answers_all_are_connected_to_anew() {
    let sink = sink(|sink| sink.fault(Fault::new(At::Mail, Misdeed::Hang).times(3)));
    let log = Log::default();
    let builder = builder(&log).host(host(&sink)).threads(3).global_timeout(SHORT);
    let summary = run(async {
        let mut mailer = builder.connect().await?;
        mailer.send_all((0..6).map(mail)).await?;
        mailer.quit().await
    })
    .unwrap();
    check_accounts(&summary, &log, &[&sink]);
    assert_eq!((summary.mails.delivered, log.of_kind(EventKind::GlobalHang).len()), (6, 1));
    assert!(log.of_kind(EventKind::Hang).is_empty());
}
