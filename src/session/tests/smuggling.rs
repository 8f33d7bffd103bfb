//! What was published as a way to smuggle an end of data past a mending client
//! stands across every boundary that a content is cut at: what leaves is the
//! same as of a content in one piece.

use super::*;
use crate::content::Framing;

const SMUGGLED: [&[u8]; 13] = [
    b"\n.\n",
    b"\n.\r\n",
    b"\n.\r",
    b"\r.\r",
    b"\r.\n",
    b"\r.\r\n",
    b"\r\n.\n",
    b"\r\n.\r",
    b"\r\n.\r\n",
    b"\r\n.\r\r\n",
    b"\r\n\n.\n\r\n",
    b"\r\n\0.\r\n",
    b"\r\n..\r\n",
];

/// What becomes of a content, said once more in the plainest way: its lines, each
/// ended by CRLF, and behind DATA a dot more before each leading one, and a last
/// one that is alone.
fn model(raw: &[u8], by: Framing) -> Vec<u8> {
    let text = raw.iter().map(|octet| char::from(*octet)).collect::<String>();
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let dot = if by == Framing::Dotted { "." } else { "" };
    let mut all = String::new();
    for line in text.split_terminator('\n') {
        all += if line.starts_with('.') { dot } else { "" };
        all += line;
        all += "\r\n";
    }
    if by == Framing::Dotted {
        all += ".\r\n";
    }
    all.chars().map(|octet| u8::try_from(octet).unwrap()).collect()
}

/// A way to have a content in memory, read here, or read elsewhere.
type Source = fn(Vec<u8>) -> Content;

const SOURCES: [Source; 3] = [
    |raw| Content::from(raw),
    |raw| Content::reader(move || Ok(Box::new(io::Cursor::new(raw.clone())))),
    |raw| Content::blocking(move || Ok(Box::new(io::Cursor::new(raw.clone())))),
];

/// All that a session has to say, in the pieces in which it was given.
fn pieces(talk: &mut Talk) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    let mut outgoing = Outgoing::new();
    while talk.session.wants_write() {
        outgoing.clear();
        talk.session.fill_outgoing(&mut outgoing);
        talk.session.wrote(outgoing.len(), talk.now);
        if let Some(job) = talk.session.take_job() {
            talk.session.return_job(job.run(), talk.now);
        } else {
            assert!(!outgoing.is_empty(), "a session that says nothing and waits for nothing");
        }
        if !outgoing.is_empty() {
            pieces.push(outgoing.rest(0));
        }
    }
    pieces
}

/// What leaves of a content, in the pieces that it is cut into, without what is
/// said of them.
fn leaves(content: &Content, by: Framing) -> Vec<Vec<u8>> {
    if by == Framing::Dotted {
        let mut talk = Talk::before_content(content.clone());
        talk.session.content(talk.now);
        return pieces(&mut talk);
    }
    let mut talk = Talk::able();
    talk.session.flight(talk.now).bdat(content).unwrap();
    let mut cut = Vec::new();
    let (mut left, mut is_last) = (0, false);
    for mut piece in pieces(&mut talk) {
        // A piece is begun by a command, or goes on with the chunk before it.
        if left == 0 {
            assert!(!is_last, "something behind the last chunk");
            let end = piece.windows(2).position(|octets| octets == b"\r\n").unwrap();
            let octets = piece.split_off(end + 2);
            let line = String::from_utf8(piece).unwrap();
            let mut words = line.split_whitespace();
            assert_eq!(words.next(), Some("BDAT"));
            left = words.next().unwrap().parse().unwrap();
            is_last = words.next() == Some("LAST");
            piece = octets;
        }
        assert!(piece.len() <= left, "more than was said");
        left -= piece.len();
        cut.push(piece);
    }
    assert!(is_last && left == 0, "a content without its end");
    cut
}

/// Where the pieces end.
fn cuts(pieces: &[Vec<u8>]) -> Vec<usize> {
    let end = |end: &mut usize, piece: &Vec<u8>| {
        *end += piece.len();
        Some(*end)
    };
    pieces.iter().scan(0, end).collect()
}

/// Of these octets behind so many others, what leaves is what the model says; and
/// whether they were cut.
fn is_cut(source: Source, by: Framing, place: usize, smuggled: &[u8]) -> bool {
    let raw = [vec![b'x'; place], smuggled.to_vec(), b"MAIL FROM:<evil@example.org>\r\n".to_vec()].concat();
    let pieces = leaves(&source(raw.clone()), by);
    let same = pieces.concat() == model(&raw, by);
    assert!(same, "{:?} behind {place}, {by:?}", String::from_utf8_lossy(smuggled));
    let end = place + model(&[b"x", smuggled].concat(), by).len() - 1;
    cuts(&pieces).iter().any(|cut| (place + 1..end).contains(cut))
}

#[test]
fn no_cut_makes_an_end_of_data_of_what_is_none() {
    for source in SOURCES {
        for by in [Framing::Dotted, Framing::Chunked] {
            let plain = leaves(&source([vec![b'x'; 100_000], b"\r\n".to_vec()].concat()), by);
            // What is read at a time, what has a slice of its own, what is read ahead, and
            // what is given at a time.
            for boundary in [8 * 1024, 16 * 1024, 64 * 1024, plain[0].len()] {
                for smuggled in SMUGGLED {
                    let places = boundary - smuggled.len() - 1..=boundary + 1;
                    let cut = places.filter(|place| is_cut(source, by, *place, smuggled)).count();
                    let is_first_cut = boundary == plain[0].len();
                    assert!(cut >= 2 || !is_first_cut, "{cut} of {smuggled:?} were cut, {by:?}");
                }
            }
        }
    }
}

#[test]
fn an_end_that_is_smuggled_is_none_where_the_content_becomes_worth_a_slice() {
    for by in [Framing::Dotted, Framing::Chunked] {
        for smuggled in SMUGGLED {
            for place in 16 * 1024 - 2 * smuggled.len()..=16 * 1024 {
                let raw = [vec![b'x'; place], smuggled.to_vec()].concat();
                let sent = leaves(&Content::from(raw.clone()), by).concat();
                assert!(sent == model(&raw, by), "{smuggled:?} behind {place}, {by:?}");
            }
        }
    }
}
