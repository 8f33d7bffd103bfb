//! The mailer as a guest: of the executor, whose other tasks must get their turns, of the server,
//! whose connections must not be kept for nothing, and of callers who say "never".

use std::cell::Cell;
use std::io;
use std::net::TcpStream;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll};
use std::time::Duration;

use smol::Async;
use smol::future::FutureExt;
use smol::io::{AsyncRead, AsyncWrite};
use smtp_bulk::sink::{Fault, Misdeed, Step as At};
use smtp_bulk::{Backoff, Error, EventKind, Step, Timeouts, Verdict};

use crate::scripted::{Peer, Scripted};
use crate::support::{Log, builder, host, mail, run, seen_by, sink};

/// How often a task of the same executor gets a turn while a mail waits for its last reply.
fn turns_of_others(is_custom: bool) -> u32 {
    let sink = sink(|sink| sink.fault(Fault::new(At::Dot, Misdeed::Delay(Duration::from_millis(400)))));
    let address = sink.address();
    let turns = Cell::new(0);
    run(async {
        let builder = builder(&Log::default());
        let builder = if is_custom {
            let connect = move |_| async move { Async::<TcpStream>::connect(address).await };
            builder.host(host(&sink).connector(connect))
        } else {
            builder.host(host(&sink))
        };
        let mut mailer = builder.connect().await.unwrap();
        // The first call is dropped in the middle of the step, and the next one goes on with it.
        let begun = async { Some(mailer.send(mail(1)).await) };
        let dropped = begun.or(async {
            smol::Timer::after(Duration::from_millis(50)).await;
            None
        });
        assert!(dropped.await.is_none(), "the mail waits for its reply");
        let others = async {
            loop {
                smol::Timer::after(Duration::from_millis(5)).await;
                turns.set(turns.get() + 1);
            }
        };
        mailer.flush().or(others).await.unwrap();
        assert_eq!(mailer.quit().await.unwrap().mails.delivered, 1);
    });
    turns.get()
}

#[test]
fn others_get_their_turns_while_a_reply_is_late() {
    for is_custom in [false, true] {
        let turns = turns_of_others(is_custom);
        assert!(turns > 3, "{turns} turns, with a connector: {is_custom}");
    }
}

#[test]
fn no_connection_is_kept_when_the_last_lane_has_retired() {
    let sink = sink(|sink| sink.fault(Fault::new(At::Mail, Misdeed::refuse(550, "5.7.1 go away"))));
    run(async {
        let builder = builder(&Log::default()).host(host(&sink).threads(3)).on_fail(|_| Verdict::RETIRE);
        let mut mailer = builder.connect().await.unwrap();
        let sent = mailer.send_all((0..9).map(mail)).await;
        assert!(matches!(sent, Err(Error::AllRetired { .. })), "{sent:?}");
        seen_by(&sink, |counts| counts.open == 0).await;
        drop(mailer);
    });
}

#[test]
fn never_is_a_time_that_can_be_waited_for() {
    let sink = sink(|sink| sink);
    run(async {
        let forever = Duration::MAX;
        let builder = builder(&Log::default())
            .host(host(&sink))
            .timeouts(Timeouts::uniform(forever))
            .backoff(Backoff { base: forever, max: forever })
            .linger(forever);
        let mut mailer = builder.connect().await.unwrap();
        mailer.send_all((0..3).map(mail)).await.unwrap();
        assert_eq!(mailer.quit().await.unwrap().mails.delivered, 3);
    });
}

/// A tunnel that counts the writes to it, and gives a few octets at a time.
struct Counted {
    stream: Async<TcpStream>,
    writes: Arc<AtomicUsize>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let few = bytes.len().min(5);
        Pin::new(&mut self.stream).poll_read(cx, &mut bytes[..few])
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.writes.fetch_add(usize::from(written.is_ready()), Ordering::SeqCst);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

#[test]
fn what_a_step_has_to_say_leaves_in_one_write() {
    let sink = sink(|sink| sink);
    let address = sink.address();
    let writes = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&writes);
    let connect = move |_| {
        let writes = Arc::clone(&count);
        async move { Ok(Counted { stream: Async::<TcpStream>::connect(address).await?, writes }) }
    };
    run(async {
        let mut mailer =
            builder(&Log::default()).host(host(&sink).threads(1).connector(connect)).connect().await.unwrap();
        mailer.send_all((0..3).map(mail)).await.unwrap();
        assert_eq!(mailer.quit().await.unwrap().mails.delivered, 3);
    });
    // EHLO; MAIL, RCPT, DATA and the content with its final dot for each; QUIT.
    assert_eq!(writes.load(Ordering::SeqCst), 1 + 3 * 4 + 1);
}

/// Takes a mail; then, when told to, says what nobody asked for, and says so.
fn babbles(peer: &mut Peer, told: &mpsc::Receiver<()>, done: &mpsc::Sender<()>) {
    assert!(peer.behave_until_content());
    while peer.line().is_some_and(|line| line != ".") {}
    peer.say("250 2.0.0 queued\r\n");
    told.recv().unwrap();
    peer.say("250 2.0.0 and another\r\n");
    done.send(()).unwrap();
    while peer.line().is_some() {}
}

/// What comes between two mails is found before the second one's first command, and not taken for
/// the answer to it.
#[test]
fn what_was_said_between_two_mails_is_no_answer() {
    // Many connections are asked about in one call, and more in several.
    for (is_custom, others) in [(false, 1), (true, 1), (false, 40)] {
        let ((tell, told), (done, babbled)) = (mpsc::channel(), mpsc::channel());
        let first = Mutex::new(Some((told, done)));
        let peer = Scripted::start(move |mut peer| {
            let first = first.lock().unwrap().take();
            match first {
                Some((told, done)) => babbles(&mut peer, &told, &done),
                None => drop(peer),
            }
        });
        let other = sink(|sink| sink);
        let log = Log::default();
        let address = peer.address;
        let summary = run(async {
            let babbler = peer.host();
            let connect = move |_| async move { Async::<TcpStream>::connect(address).await };
            let builder = builder(&log).max_connect_failures(1);
            let builder = (0..others).fold(builder, |builder, _| builder.host(host(&other)));
            let builder = match is_custom {
                true => builder.host(babbler.connector(connect)),
                false => builder.host(babbler),
            };
            let mut mailer = builder.connect().await.unwrap();
            mailer.send_all((0..=others).map(mail)).await.unwrap();
            mailer.flush().await.unwrap();
            tell.send(()).unwrap();
            babbled.recv().unwrap();
            // On its way through the loopback.
            smol::Timer::after(Duration::from_millis(50)).await;
            mailer.send_all((0..=others).map(mail)).await.unwrap();
            mailer.quit().await.unwrap()
        });
        assert_eq!(summary.mails.delivered, 2 * (others + 1), "{summary}");
        let hang = &log.of_kind(EventKind::Hang)[0];
        assert_eq!(hang.step, Step::Mail, "{}", hang.line);
        assert!(hang.line.ends_with("spoke unasked: 250 2.0.0 and another"), "{}", hang.line);
        assert_eq!(other.counts().mails, 2 * others + 1);
    }
}
