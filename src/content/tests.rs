//! What leaves of a content, whatever its source and framing.

mod merge;

use super::*;
use crate::outgoing::Outgoing;

/// Fills buffers of `limit` until the end, running read jobs in between.
fn sent(content: &Content, limit: usize) -> Result<Vec<u8>, ContentError> {
    let mut stream = content.open(Framing::Dotted)?;
    let mut sent = Vec::new();
    loop {
        let mut out = Outgoing::new();
        let filled = stream.fill(&mut out, limit)?;
        assert!(out.len() <= limit + 8);
        sent.extend_from_slice(&out.rest(0));
        match filled {
            Filled::ToEnd => return Ok(sent),
            Filled::ToLimit => assert!(!out.is_empty()),
            Filled::NotYet => {
                let job = stream.take_read_job().unwrap();
                assert!(stream.take_read_job().is_none());
                stream.return_read_job(job.run());
            }
        }
    }
}

fn all_kinds(raw: &'static [u8]) -> [Content; 5] {
    [
        Content::from(raw),
        Content::from(raw.to_vec()),
        Content::from(Arc::<[u8]>::from(raw)),
        Content::reader(move || Ok(Box::new(raw))),
        Content::blocking(move || Ok(Box::new(raw))),
    ]
}

#[test]
fn every_kind_of_source_sends_the_same() {
    for limit in [1, 2, 5, 64, 100_000] {
        for content in all_kinds(b"a\n.b\r.\r\nc") {
            assert_eq!(sent(&content, limit).unwrap(), b"a\r\n..b\r\n..\r\nc\r\n.\r\n", "{content:?}");
            assert_eq!(sent(&content, limit).unwrap().len(), 18, "a second attempt starts anew");
        }
    }
}

#[test]
fn a_broken_promise_is_an_error() {
    for limit in [1, 4, 100] {
        for content in all_kinds(b"12345") {
            assert!(sent(&content.clone().promise(5), limit).is_ok());
            let short = sent(&content.clone().promise(6), limit);
            assert_eq!(short, Err(ContentError::TooShort { promised: 6, given: 5 }), "{content:?}");
            let long = sent(&content.promise(4), limit);
            assert_eq!(long, Err(ContentError::TooLong { promised: 4 }));
        }
    }
}

#[test]
fn a_failing_reader_is_an_error_and_no_end() {
    struct Failing(bool);
    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if std::mem::replace(&mut self.0, true) {
                return Err(io::Error::other("disk on fire"));
            }
            buffer[0] = b'x';
            Ok(1)
        }
    }
    for content in [
        Content::reader(|| Ok(Box::new(Failing(false)))),
        Content::blocking(|| Ok(Box::new(Failing(false)))),
        Content::reader(|| Err(io::Error::other("disk on fire"))),
    ] {
        let error = sent(&content, 1000).unwrap_err();
        assert!(error.to_string().contains("disk on fire"), "{error}");
    }
    assert!(matches!(
        sent(&Content::file("/nonexistent/mail.eml"), 10),
        Err(ContentError::Io { kind: io::ErrorKind::NotFound, .. })
    ));
}

#[test]
fn a_panicking_source_is_a_failing_one() {
    struct Panicking;
    impl Read for Panicking {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            panic!("planted");
        }
    }
    for content in [
        Content::reader(|| panic!("planted")),
        Content::reader(|| Ok(Box::new(Panicking))),
        Content::blocking(|| panic!("planted")),
        Content::blocking(|| Ok(Box::new(Panicking))),
    ] {
        let error = sent(&content, 10).unwrap_err();
        assert_eq!(error.to_string(), "the content's source failed: it panicked");
    }
}

#[test]
fn debug_shows_no_content() {
    assert!(!format!("{:?}", Content::from("secret")).contains("secret"));
}

const FRAMINGS: [Framing; 3] = [Framing::Dotted, Framing::Chunked, Framing::Raw];

const LIMITS: [usize; 6] = [1, 2, 3, 5, 64, 100_000];

/// Contents that were published as ways to smuggle an end of data, and others
/// at the edges.
const EDGES: [&[u8]; 41] = [
    b"",
    b"a",
    b".",
    b"..",
    b"...",
    b"\n",
    b"\r",
    b"\r\n",
    b"\n\n\n",
    b"\r\r\r",
    b"\r\n\r\n",
    b"\n\r",
    b"\r\r\n",
    b"\0",
    b"\0\r\n.\0\r\n",
    b"a\r\nb",
    b"a\nb\r",
    b".\r\n",
    b".\n.\r.",
    b"a\n.\nb",
    b"a\n.\r\nb",
    b"a\r.\rb",
    b"a\r\n.\nb",
    b"a\r\n.\rb",
    b"a\r.\r\nb",
    b"a\n.\rb",
    b"a\r.\nb",
    b"a\r\n.\r\nb",
    b"a\r\n\0.\r\nb",
    b"a\r\n.\0\r\nb",
    b"a\r\n.\r\r\nb",
    b"a\n\n..\r\n\r.\n\nMAIL FROM:<x@y>\n",
    b"\n.\n",
    b"\n.\r\n",
    b"\r.\r",
    b"\r\n.\r\n",
    b"\r\n.\n",
    b"\r\n.\r",
    b"\r.\r\n",
    b"\n.\r",
    b"\r.\n",
];

/// Gives at most so many octets at a time, and now and then is interrupted.
struct InPieces(&'static [u8], usize, bool);

impl Read for InPieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.2 = !self.2;
        if self.2 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let most = self.1.min(buffer.len());
        self.0.read(&mut buffer[..most])
    }
}

/// Like [`sent`], in a framing.
fn framed(content: &Content, framing: Framing, limit: usize) -> Result<Vec<u8>, ContentError> {
    let mut stream = content.open(framing)?;
    let mut sent = Vec::new();
    loop {
        let mut out = Outgoing::new();
        let filled = stream.fill(&mut out, limit)?;
        let over = if framing == Framing::Raw { 0 } else { 8 };
        assert!(out.len() <= limit + over, "{} octets for a limit of {limit}", out.len());
        sent.extend_from_slice(&out.rest(0));
        match filled {
            Filled::ToEnd => return Ok(sent),
            Filled::ToLimit => assert!(out.len() >= limit),
            Filled::NotYet => {
                let job = stream.take_read_job().unwrap();
                stream.return_read_job(job.run());
            }
        }
    }
}

/// What arrives, said in the plainest way: line ends mended, one at the end.
fn mended(raw: &[u8]) -> Vec<u8> {
    let mut mended = Vec::new();
    let mut rest = raw;
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        match first {
            b'\r' => rest = rest.strip_prefix(b"\n").unwrap_or(rest),
            b'\n' => {}
            _ => {
                mended.push(first);
                continue;
            }
        }
        mended.extend_from_slice(b"\r\n");
    }
    if !mended.is_empty() && !matches!(raw.last(), Some(b'\r' | b'\n')) {
        mended.extend_from_slice(b"\r\n");
    }
    mended
}

/// What a server makes of DATA, and whether the only lone dot was the last line.
fn unstuffed(sent: &[u8]) -> Vec<u8> {
    let whole = sent.strip_suffix(b".\r\n").expect("a lone dot at the end");
    let text = String::from_utf8_lossy(whole).into_owned();
    assert!(text.is_empty() || text.ends_with("\r\n"), "the dot stands alone: {text:?}");
    assert!(!text.replace("\r\n", "").contains(['\r', '\n']), "bare line ends: {text:?}");
    let mut arrived = Vec::new();
    for line in whole.split_inclusive(|octet| *octet == b'\n') {
        assert_ne!(line, b".\r\n", "an end before the end: {text:?}");
        arrived.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
    }
    arrived
}

/// The same octets from every kind of source, in pieces of every size.
fn sources(raw: &'static [u8], folder: &tempfile::TempDir) -> Vec<Content> {
    let path = folder.path().join("mail.eml");
    std::fs::write(&path, raw).unwrap();
    let mut contents = all_kinds(raw).to_vec();
    contents.push(Content::file(path));
    contents.extend([0, 1, raw.len()].map(|cut| {
        let template = Template::parse([&b"\n"[..], b"{{a}}{{b}}"].concat()).unwrap();
        let (a, b) = raw.split_at(cut.min(raw.len()));
        // Behind a line that ends the header, which is taken off again below.
        template.merge_in_order(&[a, b]).unwrap()
    }));
    for size in 1..=raw.len().min(7) {
        contents.push(Content::reader(move || Ok(Box::new(InPieces(raw, size, false)))));
        contents.push(Content::blocking(move || Ok(Box::new(InPieces(raw, size, false)))));
    }
    let promised: Vec<Content> = contents
        .iter()
        .map(|content| {
            let more = u64::from(matches!(content.source, Source::Merged(_)));
            content.clone().promise(raw.len() as u64 + more)
        })
        .collect();
    contents.into_iter().chain(promised).collect()
}

#[test]
fn whatever_the_source_and_framing_one_mail_leaves_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    let some = (0..60).map(|_| {
        let raw: Vec<u8> = (0..random.usize(0..30)).map(|_| *random.choice(b"\r\n.a\0").unwrap()).collect();
        &*raw.leak()
    });
    let all: Vec<&'static [u8]> = EDGES.into_iter().chain(some).collect();
    for raw in all {
        for content in sources(raw, &folder) {
            let before: &[u8] = if matches!(content.source, Source::Merged(_)) { b"\n" } else { b"" };
            let whole = [before, raw].concat();
            for framing in FRAMINGS {
                for limit in LIMITS {
                    let sent = framed(&content, framing, limit).unwrap();
                    let arrived = match framing {
                        Framing::Dotted => unstuffed(&sent),
                        _ => sent.clone(),
                    };
                    let expected = if framing == Framing::Raw { whole.clone() } else { mended(&whole) };
                    let shown = (content.clone(), framing, limit, raw.escape_ascii().to_string());
                    assert_eq!(
                        arrived.escape_ascii().to_string(),
                        expected.escape_ascii().to_string(),
                        "{shown:?}"
                    );
                    let length = content.framed_len(framing);
                    assert!(length.is_none_or(|length| length == sent.len() as u64), "{length:?} {shown:?}");
                }
            }
        }
    }
}

#[test]
fn the_length_is_known_of_what_is_in_memory_or_promised() {
    let [a, b, c, reader, _] = all_kinds(b"a\n.b");
    for content in [a, b, c] {
        assert_eq!(FRAMINGS.map(|framing| content.framed_len(framing)), [Some(11), Some(7), Some(4)]);
        assert_eq!(content.size_estimate(), Some(4));
    }
    assert_eq!(FRAMINGS.map(|framing| reader.framed_len(framing)), [None; 3]);
    assert_eq!(reader.size_estimate(), None);
    let promised = reader.promise(4);
    assert_eq!(FRAMINGS.map(|framing| promised.framed_len(framing)), [None, None, Some(4)]);
    assert_eq!(promised.size_estimate(), Some(4));
}

#[test]
fn a_file_is_estimated_by_what_the_file_system_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mail.eml");
    assert_eq!(Content::file(&path).size_estimate(), None, "there is none");
    std::fs::write(&path, "four").unwrap();
    assert_eq!(Content::file(&path).size_estimate(), Some(4));
    assert_eq!(Content::file(&path).promise(5).size_estimate(), Some(5));
    assert_eq!(Content::file(&path).framed_len(Framing::Raw), None, "it may change until it is read");
    assert_eq!(Content::file(folder.path()).size_estimate(), None, "a folder has no size");
}

#[test]
fn a_body_is_what_was_declared_or_else_found() {
    assert_eq!(Content::from("ascii\0").body_kind(), Some(Body::SevenBit));
    assert_eq!(Content::from("grüße").body_kind(), Some(Body::EightBitMime));
    assert_eq!(Content::from(b"\xff".to_vec()).body_kind(), Some(Body::EightBitMime));
    assert_eq!(Content::from("grüße").clone().body(Body::BinaryMime).body_kind(), Some(Body::BinaryMime));
    assert_eq!(Content::reader(|| Ok(Box::new(&b"a"[..]))).body_kind(), None);
    assert_eq!(Content::file("/nonexistent").body(Body::SevenBit).body_kind(), Some(Body::SevenBit));
}

#[test]
fn a_reader_that_claims_more_than_it_had_room_for_fails() {
    struct Boastful;
    impl Read for Boastful {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            Ok(buffer.len() + 1)
        }
    }
    let content = Content::reader(|| Ok(Box::new(Boastful)));
    assert!(sent(&content, 10).unwrap_err().to_string().contains("more than there was room for"));
}

#[test]
fn a_content_is_small_since_every_message_is_moved() {
    assert!(size_of::<Content>() <= 40, "{}", size_of::<Content>());
}
