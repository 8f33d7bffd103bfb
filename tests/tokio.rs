//! The mailer on another executor: tokio polls it, moves it between threads and times it out.

mod support;

use std::time::Duration;

use smtp_bulk::sink::{Fault, Misdeed, Step as At};

use support::{Log, PATIENCE, builder, check_accounts, host, mail, sink};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spawned_task_sends_and_quits() {
    let sink = sink(|sink| sink.fault(Fault::new(At::Data, Misdeed::Close).times(3)));
    let log = Log::default();
    let builder = builder(&log).host(host(&sink)).threads(5);
    // `spawn` takes what is `Send` alone: the builder, the mailer, and every future of its calls.
    let sending = tokio::spawn(async move {
        let mut mailer = builder.connect().await.unwrap();
        mailer.send_all((0..50).map(mail)).await.unwrap();
        for id in 50..100 {
            mailer.send(mail(id)).await.unwrap();
            tokio::task::yield_now().await;
        }
        // It may be moved from one task to another.
        tokio::spawn(async move {
            mailer.send_stream(smol::stream::iter((100..133).map(mail))).await.unwrap();
            mailer.flush().await.unwrap();
            mailer.quit().await.unwrap()
        })
        .await
        .unwrap()
    });
    let summary = tokio::time::timeout(PATIENCE, sending).await.expect("it ends").unwrap();
    check_accounts(&summary, &log, &[&sink]);
    assert_eq!((summary.mails.delivered, sink.counts().mails), (133, 133));
}

#[tokio::test]
async fn a_timeout_of_tokio_loses_nothing() {
    let sink = sink(|sink| sink.fault(Fault::new(At::Dot, Misdeed::Delay(Duration::from_millis(3)))));
    let log = Log::default();
    let mut mailer = builder(&log).host(host(&sink)).threads(3).connect().await.unwrap();
    for id in 0..60 {
        while mailer.summary().taken == id {
            let _ = mailer.try_send(mail(id));
            let _ = tokio::time::timeout(Duration::from_millis(1), mailer.ready()).await;
        }
    }
    let summary = tokio::time::timeout(PATIENCE, mailer.quit()).await.expect("it ends").unwrap();
    check_accounts(&summary, &log, &[&sink]);
    assert_eq!((summary.mails.delivered, sink.counts().mails), (60, 60));
}

#[tokio::test]
async fn mailers_of_one_thread_run_beside_each_other() {
    let sink = sink(|sink| sink);
    let log = Log::default();
    let send = |first: u64| {
        let builder = builder(&log).host(host(&sink)).threads(2);
        async move {
            let mut mailer = builder.connect().await.unwrap();
            mailer.send_all((first..first + 40).map(mail)).await.unwrap();
            mailer.quit().await.unwrap().mails.delivered
        }
    };
    let all = async { tokio::join!(send(0), send(100), send(200)) };
    let delivered = tokio::time::timeout(PATIENCE, all).await.expect("they end");
    assert_eq!(delivered, (40, 40, 40));
}
