//! What those are told of the steps who only look, over real sockets: who was late, and nobody else.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use smtp_bulk::sink::{Fault, Misdeed, Step as At};
use smtp_bulk::{Pace, Step, Timeouts};

use crate::support::{Log, PATIENCE, builder, host, mail, run, sink};

const THREADS: u32 = 8;

/// Wherever the late one stands in the order of those that are read.
#[test]
fn a_reply_is_read_when_it_comes_and_not_when_its_lanes_turn_does() {
    const LATE: Duration = Duration::from_secs(1);
    let quorum = Pace::Quorum { share: 0.9, grace: Duration::ZERO };
    for (late, pace) in [(0, Pace::Lockstep), (3, quorum), (6, Pace::Lockstep), (7, Pace::Free)] {
        let prefix = mail(late).envelope().recipients()[0].to_string();
        let sink = sink(|sink| sink.fault(Fault::new(At::Rcpt, Misdeed::Delay(LATE)).address_prefix(prefix)));
        let told = Arc::new(Mutex::new(Vec::new()));
        let noting = Arc::clone(&told);
        let builder = builder(&Log::default())
            .host(host(&sink).threads(THREADS))
            .pace(pace)
            .timeouts(Timeouts::uniform(PATIENCE))
            .on_step(move |taken| noting.lock().unwrap().push((taken.lane.thread, taken.step, taken.took())));
        let summary = run(async {
            let mut mailer = builder.connect().await?;
            mailer.send_all((0..u64::from(THREADS)).map(mail)).await?;
            mailer.quit().await
        });
        assert_eq!(summary.unwrap().mails.delivered, u64::from(THREADS));
        let told = told.lock().unwrap();
        let took = |step: Step| told.iter().filter(move |told| told.1 == step);
        assert_eq!(took(Step::Connect).count(), THREADS as usize);
        for (thread, _, took) in took(Step::Rcpt) {
            let is_late = u64::from(*thread) == late;
            assert_eq!(*took >= LATE, is_late, "{pace:?}: {thread} took {took:?}");
            assert!(is_late || *took < LATE / 2, "{pace:?}: {thread} took {took:?}");
        }
    }
}
