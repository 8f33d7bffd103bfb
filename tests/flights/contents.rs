//! Contents that are meant to be taken for something else: one mail arrives, byte for byte as the
//! guide has it, by DATA and by BDAT, whatever the pieces.

use std::io::{self, Read};

use smtp_bulk::sink::{Extension, Sink};
use smtp_bulk::{Content, Envelope, Message, Pipeline};

use crate::mended::mended;
use crate::support::{Log, builder, host, send_and_quit, sink};

/// What ends a content for one server and not for another, and other oddities.
const ODD: [&[u8]; 24] = [
    b"",
    b"x",
    b".",
    b"..",
    b"\n",
    b"\r",
    b"\r\n",
    b"\r\n\r\n\n\n\r\r",
    b"a\n.\nb",
    b"a\n.\r\nb",
    b"a\r\n.\nb",
    b"a\r.\rb",
    b"a\r\n.\rb",
    b"a\r.\r\nb",
    b"a\n.\rb",
    b"a\r.\nb",
    b"a\r\n.\r\nb",
    b"a\r\n\0.\r\nb",
    b"a\n.\r\nMAIL FROM:<evil@example.org>\r\nRCPT TO:<evil@example.net>\r\nDATA\r\nSubject: evil\r\n\r\n",
    b"a\r\n.\r\nQUIT\r\n",
    b"BDAT 1000000 LAST\r\n",
    b".\r\n.\r\n.",
    b"nul \0 and \xff\xfe\r\n",
    b"no end",
];

/// Gives so many octets at a time.
struct Pieces(&'static [u8], usize);

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.1.min(self.0.len()).min(buffer.len());
        let (piece, rest) = self.0.split_at(count);
        buffer[..count].copy_from_slice(piece);
        self.0 = rest;
        Ok(count)
    }
}

/// The odd contents whole, and cut at every octet, by readers of both kinds.
fn contents() -> Vec<(Content, Vec<u8>)> {
    let mut contents = Vec::new();
    for raw in ODD {
        contents.push((Content::from(raw), mended(raw)));
        for size in 1..raw.len().clamp(2, 9) {
            let reader = move || Ok(Box::new(Pieces(raw, size)) as Box<dyn Read + Send>);
            contents.push((Content::reader(reader), mended(raw)));
            contents.push((Content::blocking(reader), mended(raw)));
        }
    }
    contents
}

fn check(sink: &Sink, level: Pipeline, depth: u32) {
    let contents = contents();
    let message = |(id, content): (u64, Content)| {
        Message::new(Envelope::parse("s@example.org", [format!("r{id}@example.net")]).unwrap(), content)
            .id(id)
    };
    let mails = (0..).zip(contents.iter().map(|(content, _)| content.clone())).map(message);
    let host = host(sink).pipeline(level).depth(depth).threads(3);
    let summary = send_and_quit(builder(&Log::default()).host(host), mails);
    assert_eq!(summary.mails.delivered, contents.len() as u64, "{level:?} {depth}: {summary}");
    let stored = sink.take_mails();
    assert_eq!(stored.len(), contents.len(), "one mail each");
    for mail in stored {
        let id: usize = mail.forward_paths[0][1..].split('@').next().unwrap().parse().unwrap();
        let (content, expected) = &contents[id];
        assert_eq!(
            String::from_utf8_lossy(&mail.content),
            String::from_utf8_lossy(expected),
            "{content:?} at {level:?} {depth}"
        );
    }
    assert_eq!(sink.counts().protocol_errors, 0);
}

#[test]
fn no_content_is_taken_for_anything_else() {
    for (level, depth, chunking) in [
        (Pipeline::Single, 1, false),
        (Pipeline::Envelope, 1, false),
        (Pipeline::Full, 1, false),
        (Pipeline::Full, 1, true),
        (Pipeline::Full, 8, true),
    ] {
        let sink = sink(|sink| {
            let sink = sink.announce(Extension::Pipelining).announce(Extension::EightBitMime);
            if chunking { sink.announce(Extension::Chunking) } else { sink }
        });
        check(&sink, level, depth);
    }
}

#[test]
fn a_large_content_arrives_byte_for_byte() {
    const SIZE: u64 = 64 * 1024 * 1024;
    let line = b"0123456789abcdefghijklmnopqrstuvwxyz.....\r\n";
    for chunking in [false, true] {
        let sink = smtp_bulk::sink::Sink::builder().keep(smtp_bulk::sink::Keep::All);
        let sink = sink.announce(Extension::Pipelining).max_message_size(2 * SIZE);
        let sink = if chunking { sink.announce(Extension::Chunking) } else { sink };
        let sink = sink.start().unwrap();
        let lines = SIZE / line.len() as u64;
        let reader = move || {
            let all = (0..lines).map(move |_| line);
            Ok(Box::new(Lines(Box::new(all), &[])) as Box<dyn Read + Send>)
        };
        let envelope = Envelope::parse("s@example.org", ["r@example.net"]).unwrap();
        let kinds = [Content::reader(reader), Content::blocking(reader).promise(lines * line.len() as u64)];
        let mails = (1..).zip(kinds).map(|(id, content)| Message::new(envelope.clone(), content).id(id));
        let host = host(&sink).pipeline(Pipeline::Full);
        let summary = send_and_quit(builder(&Log::default()).host(host), mails);
        assert_eq!(summary.mails.delivered, 2, "{chunking}: {summary}");
        for mail in sink.take_mails() {
            assert!(mail.content.chunks(line.len()).all(|got| got == line), "byte for byte");
            assert_eq!(mail.content.len() as u64, lines * line.len() as u64);
        }
    }
}

/// Lines one after the other.
struct Lines(Box<dyn Iterator<Item = &'static [u8; 43]> + Send>, &'static [u8]);

impl Read for Lines {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.1.is_empty() {
            self.1 = self.0.next().map_or(&[], |line| line.as_slice());
        }
        let count = self.1.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.1[..count]);
        self.1 = &self.1[count..];
        Ok(count)
    }
}
