//! Contents that are too large to be copied before they are written: they arrive byte for byte,
//! whatever stands at their ends, alone and several in one write.

use std::fs::{self, File};
use std::sync::Arc;

use allocation_counter::measure;
use smtp_bulk::sink::{Builder, Extension, Keep, Sink};
use smtp_bulk::{Content, Envelope, Host, MailerBuilder, Message, Pipeline, Security, Tls};

use crate::certs::Authority;
use crate::mended::mended;
use crate::support::{Log, builder, host, send_and_quit, sink};

/// About what is given apart from commands, what one write takes, and more than that.
const SIZES: [usize; 4] = [16 * 1024, 64 * 1024, 128 * 1024, 300 * 1024];

const HEADS: [&str; 4] = ["", ".", "\n", "\r\n"];

const TAILS: [&str; 3] = ["", "\r", "\n"];

/// So many octets, in lines that tell which content it is and where in it.
fn large(number: usize, size: usize, head: &str, tail: &str) -> Vec<u8> {
    let mut raw = head.to_owned();
    for line in 0.. {
        if raw.len() >= size {
            break;
        }
        raw += &format!("content {number} line {line}\r\n");
    }
    raw.truncate(size - tail.len());
    (raw + tail).into_bytes()
}

/// Every end of every size, those of a size one behind the other.
fn contents(sizes: &[usize]) -> Vec<Arc<[u8]>> {
    let mut contents = Vec::new();
    for size in sizes.iter().flat_map(|size| [size - 1, *size, size + 1]) {
        for head in HEADS {
            for tail in TAILS {
                contents.push(large(contents.len(), size, head, tail).into());
            }
        }
    }
    contents
}

fn server(chunking: bool, set: impl FnOnce(Builder) -> Builder) -> Arc<Sink> {
    sink(|sink| {
        let sink = set(sink.announce(Extension::Pipelining));
        if chunking { sink.announce(Extension::Chunking) } else { sink }
    })
}

/// Sends these contents, each in a mail, and holds what is stored against them.
fn check(sink: &Sink, settings: MailerBuilder, contents: &[Arc<[u8]>], what: &str) {
    let mails = contents.iter().zip(0..).map(|(raw, id)| {
        let envelope = Envelope::parse("s@example.org", [format!("r{id}@example.net")]).unwrap();
        Message::new(envelope, Arc::clone(raw)).id(id)
    });
    let summary = send_and_quit(settings, mails);
    assert_eq!(summary.mails.delivered, contents.len() as u64, "{what}: {summary}");
    assert_eq!(summary.hosts[0].connections, 1, "{what}: {summary}");
    let stored = sink.take_mails();
    assert_eq!(stored.len(), contents.len(), "{what}: one mail each");
    for (mail, raw) in stored.iter().zip(contents) {
        // Not by `assert_eq`, which would show all of it.
        let same = mail.content == mended(raw);
        assert!(same, "{what}: {:?} of {} octets", mail.forward_paths, raw.len());
    }
    assert_eq!(sink.counts().protocol_errors, 0, "{what}");
}

fn at_level(sink: &Sink, level: Pipeline, depth: u32) -> Host {
    host(sink).pipeline(level).depth(depth)
}

#[test]
fn large_contents_arrive_byte_for_byte_at_every_level_and_depth() {
    let contents = contents(&SIZES);
    for level in [Pipeline::Single, Pipeline::Envelope, Pipeline::Full] {
        for chunking in [false, true] {
            for depth in [1, 8] {
                let sink = server(chunking, |sink| sink);
                let settings = builder(&Log::default()).host(at_level(&sink, level, depth));
                let what = format!("{level:?}, depth {depth}, CHUNKING {chunking}");
                check(&sink, settings, &contents, &what);
            }
        }
    }
}

#[test]
fn large_contents_arrive_byte_for_byte_under_tls() {
    let authority = Authority::new();
    let contents = contents(&SIZES[..3]);
    for chunking in [false, true] {
        let sink = server(chunking, |sink| sink.implicit_tls(authority.good().identity()));
        let trust = Tls::new().root_certificate(authority.pem()).only_these_roots();
        let host = at_level(&sink, Pipeline::Full, 8).security(Security::Implicit).tls(trust);
        let settings = builder(&Log::default()).host(host);
        check(&sink, settings, &contents, &format!("TLS, CHUNKING {chunking}"));
    }
}

#[test]
fn large_contents_arrive_byte_for_byte_and_are_written_down_whole() {
    let contents = contents(&SIZES[..3]);
    for chunking in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("smtp.log");
        let sink = server(chunking, |sink| sink);
        let settings = builder(&Log::default()).host(at_level(&sink, Pipeline::Full, 8));
        let settings = settings.debug(10).debug_path(path.to_str().unwrap());
        check(&sink, settings, &contents, &format!("debug level 10, CHUNKING {chunking}"));
        let text = fs::read_to_string(path).unwrap();
        // Each write has lines of its own, so that one of the content may be cut anywhere.
        let written: String =
            text.lines().filter_map(|line| line.split_once(" > ")).map(|line| line.1).collect();
        let written = written.replace("\\r", "").replace("\\n", "");
        let mut rest = written.as_str();
        for (number, raw) in contents.iter().enumerate() {
            let sent = String::from_utf8(mended(raw)).unwrap().replace("\r\n", "");
            let found = rest.split_once(&sent);
            rest =
                found.unwrap_or_else(|| panic!("content {number} is not written down, or not in its turn")).1;
        }
    }
}

#[test]
fn a_file_of_64_mib_is_sent_with_less_than_one_in_memory() {
    const MIB: u64 = 1024 * 1024;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.eml");
    // A hole, which takes no room on the disk.
    File::create(&path).unwrap().set_len(64 * MIB).unwrap();
    for chunking in [false, true] {
        let sink = server(chunking, |sink| sink.keep(Keep::Nothing).max_message_size(65 * MIB));
        let settings = builder(&Log::default()).host(at_level(&sink, Pipeline::Full, 1));
        let envelope = Envelope::parse("s@example.org", ["r@example.net"]).unwrap();
        let mail = Message::new(envelope, Content::file(&path)).id(1);
        let mut delivered = 0;
        // The server has a thread of its own, which is not measured.
        let used = measure(|| delivered = send_and_quit(settings, [mail]).mails.delivered);
        let counts = sink.counts();
        // Its last line has no end, which it is given.
        assert_eq!((delivered, counts.mails, counts.bytes), (1, 1, 64 * MIB + 2), "{chunking}: {counts:?}");
        assert!(used.bytes_max < MIB, "CHUNKING {chunking}: {used:?}");
        assert!(used.bytes_max > 16 * 1024, "what is sent was read on this thread: {used:?}");
    }
}
