//! A mailer in a process that a broken pipe ends, as one is that is not begun by Rust: a peer that
//! closes in mid-content costs its mails an attempt, and never ends the process.
//!
//! Each test runs itself again in a process of its own, as what happens to a signal is for a whole
//! process.

#![cfg(unix)]

#[path = "support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use smtp_bulk::{Envelope, Host, Message, Pipeline};

use support::{Log, builder, run};

/// Set for a process that is to do what its test is about.
const CHILD: &str = "SMTP_BULK_SIGPIPE_CHILD";

/// Less than any content here, and more than what stands before it.
const IN_MID_CONTENT: u64 = 8 * 1024;

const MAILS: u64 = 3;

/// Runs this in a process of its own that broken pipes end, and says how it ended.
///
/// `name` is the calling test's. In that process this never comes back.
fn in_a_process_of_its_own(name: &str, act: impl FnOnce()) -> ExitStatus {
    if std::env::var_os(CHILD).is_some_and(|test| test == name) {
        sigpipe::reset();
        act();
        std::process::exit(0);
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", name, "--nocapture"]).env(CHILD, name);
    let output = child.output().unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    println!("{}", String::from_utf8_lossy(&output.stderr));
    output.status
}

/// Serves one connection up to the middle of its first content, and says whether it came so far.
fn serve(stream: impl Read + Write) -> bool {
    let mut stream = BufReader::new(stream);
    let mut say = "220 mx.example\r\n";
    loop {
        if stream.get_mut().write_all(say.as_bytes()).is_err() {
            return false;
        }
        let mut line = String::new();
        if stream.read_line(&mut line).unwrap_or(0) == 0 {
            return false;
        }
        say = match line.split_whitespace().next() {
            Some("EHLO") => "250-mx.example\r\n250-PIPELINING\r\n250 CHUNKING\r\n",
            Some("DATA") => "354 go ahead\r\n",
            _ => "250 ok\r\n",
        };
        if line.starts_with("BDAT") || line.starts_with("DATA") {
            let told = line.starts_with("BDAT") || stream.get_mut().write_all(say.as_bytes()).is_ok();
            let read = std::io::copy(&mut stream.take(IN_MID_CONTENT), &mut std::io::sink());
            return told && read.is_ok_and(|octets| octets == IN_MID_CONTENT);
        }
    }
}

/// Sends large contents by DATA and by BDAT to this host, which takes none of them whole: with line
/// ends to be mended and without.
fn sent_in_vain(host: impl Fn() -> Host) {
    for level in [Pipeline::Single, Pipeline::Full] {
        for line in ["a line of text\r\n", "a line of text\n"] {
            let log = Log::default();
            let host = host().threads(1).pipeline(level).max_connect_failures(1_000);
            let settings = builder(&log).host(host).max_attempts(4);
            let text = line.repeat(4 * 1024 * 1024 / line.len());
            let summary = run(async {
                let mut mailer = settings.connect().await.unwrap();
                for id in 0..MAILS {
                    let envelope = Envelope::parse("a@example.org", ["b@example.net"]).unwrap();
                    mailer.send(Message::new(envelope, text.clone()).id(id)).await.unwrap();
                }
                mailer.quit().await.unwrap()
            });
            let lost = summary.mails.abandoned + summary.mails.in_doubt;
            assert_eq!((summary.taken, lost), (MAILS, MAILS), "{level:?}: {summary}");
            assert_eq!(log.outcomes().len() as u64, MAILS, "each has its report");
        }
    }
}

/// Serves one connection after the other, and gives those that came to the middle of a content, which
/// it counts, to `close`.
fn serve_all<S: Read + Write + Send + 'static>(
    accept: impl Fn() -> S + Send + 'static,
    close: impl Fn(S) + Send + 'static,
) -> Arc<AtomicU32>
where
    for<'a> &'a S: Read + Write,
{
    let closed = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&closed);
    thread::spawn(move || {
        loop {
            let stream = accept();
            if serve(&stream) {
                close(stream);
                counted.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    closed
}

#[test]
fn a_broken_pipe_ends_a_process_of_these_tests() {
    let status = in_a_process_of_its_own("a_broken_pipe_ends_a_process_of_these_tests", || {
        let (reader, mut writer) = std::io::pipe().unwrap();
        drop(reader);
        let _ = writer.write(b"nobody reads it");
    });
    assert!(status.signal().is_some(), "{status}");
}

#[test]
fn a_server_that_resets_in_mid_content_ends_no_process() {
    let status = in_a_process_of_its_own("a_server_that_resets_in_mid_content_ends_no_process", || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let accept = move || listener.accept().unwrap().0;
        let closed = serve_all(accept, |stream: TcpStream| {
            // An end and behind it a reset, as input is left unread: a write that a reset alone meets
            // finds no broken pipe.
            stream.shutdown(Shutdown::Write).unwrap();
        });
        sent_in_vain(|| Host::new("127.0.0.1").port(port));
        assert!(closed.load(Ordering::Relaxed) >= MAILS as u32);
    });
    assert!(status.success(), "{status}");
}

#[test]
fn a_unix_socket_closed_in_mid_content_ends_no_process() {
    let status = in_a_process_of_its_own("a_unix_socket_closed_in_mid_content_ends_no_process", || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let accept = move || listener.accept().unwrap().0;
        let closed = serve_all(accept, |stream: UnixStream| drop(stream));
        sent_in_vain(|| Host::unix(&path));
        assert!(closed.load(Ordering::Relaxed) >= MAILS as u32);
    });
    assert!(status.success(), "{status}");
}
