//! Levels and depth side by side: how many round trips a mail takes, and what
//! becomes of a level that a server does not stand.
//!
//! ```text
//! cargo run --example pipelining
//! ```
//!
//! Over a link of 40 ms each round trip is 40 ms in which a session waits.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use smol::io::{AsyncRead, AsyncWrite};
use smol::net::TcpStream;
use smtp_bulk::sink::{Builder, Circumstance, Extension, Fault, Misdeed, Sink, Step};
use smtp_bulk::{Envelope, Host, Mailer, Message, Pipeline, Route, Summary};

const MAILS: u64 = 400;
const THREADS: u32 = 4;

fn main() -> Result<(), Box<dyn Error>> {
    log::set_logger(&Warnings)?;
    log::set_max_level(log::LevelFilter::Warn);

    println!("level depth extensions            batches  round trips for a mail");
    let pipelining = || Sink::builder().announce(Extension::Pipelining);
    let chunking = || pipelining().announce(Extension::Chunking);
    compare("none", Sink::builder, Pipeline::Full, 1)?;
    for (level, depth) in
        [(Pipeline::Single, 1), (Pipeline::Envelope, 1), (Pipeline::Full, 1), (Pipeline::Envelope, 8)]
    {
        compare("PIPELINING", pipelining, level, depth)?;
    }
    for depth in [1, 8] {
        compare("PIPELINING CHUNKING", chunking, Pipeline::Full, depth)?;
    }

    // Some servers break on a MAIL behind the end of a content. The first time that
    // is seen ends level 2 for that host; nothing is lost by it.
    println!("\na server that does not stand level 2:");
    let refusal = Misdeed::refuse(503, "5.5.1 out of sequence");
    let moody =
        || pipelining().fault(Fault::new(Step::Mail, refusal.clone()).when(Circumstance::BehindContent));
    compare("PIPELINING", moody, Pipeline::Full, 1)
}

/// Sends all mails to such a server, and says how that went.
fn compare(
    offered: &str,
    server: impl Fn() -> Builder,
    level: Pipeline,
    depth: u32,
) -> Result<(), Box<dyn Error>> {
    let sink = server().start()?;
    let trips = Arc::new(AtomicU64::new(0));
    let host = Host::new("server.example").threads(THREADS).hello("client.example");
    let summary = send(counted(host.pipeline(level).depth(depth), sink.address(), &trips))?;
    assert_eq!((summary.mails.delivered, sink.counts().mails), (MAILS, MAILS));
    // EHLO and QUIT are no mail's.
    let connections = summary.hosts.iter().map(|host| host.connections).sum::<u64>();
    let of_mails = trips.load(Ordering::Relaxed).saturating_sub(2 * connections);
    println!(
        "{:>5} {depth:>5} {offered:<20} {:>9} {:>9.2}",
        level.level(),
        summary.batches,
        of_mails as f64 / MAILS as f64
    );
    Ok(())
}

fn send(host: Route) -> Result<Summary, Box<dyn Error>> {
    smol::block_on(async {
        let mut mailer = Mailer::builder().host(host).connect().await?;
        // By `send_all` the mailer knows that there is a next mail, whose envelope can
        // go with a content.
        mailer.send_all((1..=MAILS).map(mail)).await?;
        Ok(mailer.quit().await?)
    })
}

fn mail(number: u64) -> Message {
    let to = format!("user{number}@example.net").parse().expect("an address");
    let from = "news@example.org".parse().expect("an address");
    let envelope = Envelope::new(from, vec![to]).expect("one recipient");
    Message::new(envelope, "Subject: Hello\r\n\r\nHello.\r\n").id(number)
}

/// The host, over connections that count their round trips.
fn counted(host: Host, address: SocketAddr, trips: &Arc<AtomicU64>) -> Route {
    let trips = Arc::clone(trips);
    host.connector(move |_| {
        let trips = Arc::clone(&trips);
        async move {
            let stream = TcpStream::connect(address).await?;
            Ok(Counted { stream, trips, has_read: true })
        }
    })
}

/// Counts how often something is said after something was heard.
struct Counted {
    stream: TcpStream,
    trips: Arc<AtomicU64>,
    has_read: bool,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if let Poll::Ready(Ok(_)) = read {
            self.has_read = true;
        }
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if std::mem::take(&mut self.has_read) {
            self.trips.fetch_add(1, Ordering::Relaxed);
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

/// Shows what the library warns of.
struct Warnings;

impl log::Log for Warnings {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target().starts_with("smtp_bulk")
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            println!("  log: {}", record.args());
        }
    }

    fn flush(&self) {}
}
