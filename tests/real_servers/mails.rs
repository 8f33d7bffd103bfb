//! Mails in which everything has to arrive as it was, and what a server should have stored of them.

use std::collections::BTreeMap;
use std::io::Cursor;

use smtp_bulk::{Content, Envelope, Message};

use crate::mended::mended;
use crate::stored::Stored;

/// Larger than any server of these tests takes.
pub const TOO_LARGE: usize = 300_000;

/// A mail of a test.
#[derive(Clone, Debug)]
pub struct Letter {
    pub id: u64,
    pub to: Vec<String>,
    pub content: Vec<u8>,
    /// Its length cannot be known before it is read.
    pub is_of_unknown_length: bool,
}

/// Every server finds its own fields in there, and adds none.
fn header(id: u64) -> String {
    format!(
        "X-Number: {id}\r\nSubject: letter {id}\r\nFrom: <sender@example.org>\r\n\
         To: undisclosed-recipients:;\r\nDate: Mon, 5 Jan 2026 10:00:00 +0000\r\n\
         Message-Id: <{id}@example.org>\r\n\r\n"
    )
}

impl Letter {
    /// A mail to one recipient with a body of a few lines.
    pub fn plain(id: u64) -> Letter {
        Letter::with(id, format!("This is letter {id}.\r\n.\r\nThe end.\r\n"))
    }

    fn with(id: u64, body: impl AsRef<[u8]>) -> Letter {
        let mut content = header(id).into_bytes();
        content.extend_from_slice(body.as_ref());
        Letter { id, to: vec![recipient("r", id)], content, is_of_unknown_length: id % 5 == 4 }
    }

    /// One of all kinds, by its number.
    pub fn varied(id: u64) -> Letter {
        let line = "What a line is made of, 0123456789.";
        match id % 16 {
            0 => Letter { content: Vec::new(), ..Letter::with(id, "") },
            1 => Letter::with(id, ""),
            2 => Letter::with(id, "no line end"),
            3 => Letter::with(id, ".\r\n..\r\n...\r\n. \r\n.x\r\n\r\n.\r\n\r\n."),
            4 => Letter::with(id, "a\rb\nc\r\r\nd\n\r\n\r\r\n\ne\n\n\rf\r"),
            5 => Letter::with(
                id,
                "\n.\n\n.\r\n\r.\r\r\n.\n\r\n.\r\r.\nMAIL FROM:<no@example.org>\r\nRSET\r\n.\r\nQUIT\r\n",
            ),
            6 => {
                Letter::with(id, (0x80..=0xff).chain(*b"\r\nGr\xc3\xbc\xc3\x9fe\t \r\n").collect::<Vec<u8>>())
            }
            7 => Letter::with(id, format!("{0}\r\n.{0}\r\n", "0123456789".repeat(99))),
            8 => Letter::with(id, format!("{line}\r\n").repeat(2700)),
            9 => Letter::with(id, ".\r\n".repeat(10_000)),
            10 => Letter { to: ["r", "x", "y"].map(|name| recipient(name, id)).into(), ..Letter::plain(id) },
            11 => Letter::with(id, "\n".repeat(5000)),
            // A CR that is the last of what is read at a time, or nearly so.
            12 => {
                let room = 8 * 1024 - header(id).len() - usize::try_from(id / 16 % 4).unwrap();
                Letter::with(id, format!("{}\r\n.\r\nbehind it", "x".repeat(900) + "\r\n").repeat(9))
                    .cut(room)
            }
            13 => Letter::with(id, format!("{line}\n").repeat(113)),
            14 => {
                let to = ["r", "t", "u", "v", "w", "x", "y", "z"].map(|name| recipient(name, id));
                Letter { to: to.into(), ..Letter::with(id, format!("{line}\r\n").repeat(30)) }
            }
            _ => Letter::plain(id),
        }
    }

    /// Has a CR at this place in the body.
    fn cut(mut self, at: usize) -> Letter {
        let begin = header(self.id).len();
        if let Some(octet) = self.content.get_mut(begin + at) {
            *octet = b'\r';
        }
        self
    }

    /// As large as no server takes it.
    pub fn too_large(id: u64) -> Letter {
        let line = "0123456789".repeat(9);
        Letter::with(id, format!("{line}\r\n").repeat(TOO_LARGE / line.len()))
    }

    pub fn to(mut self, names: &[&str]) -> Letter {
        self.to = names.iter().map(|name| recipient(name, self.id)).collect();
        self
    }

    /// As it is handed to the mailer.
    pub fn message(&self) -> Message {
        let envelope = Envelope::parse(&self.sender(), &self.to).unwrap();
        let content = self.content.clone();
        let content: Content = match self.is_of_unknown_length {
            true => Content::reader(move || Ok(Box::new(Cursor::new(content.clone())))),
            false => content.into(),
        };
        Message::new(envelope, content).id(self.id)
    }

    /// A reverse-path that no other mail has.
    pub fn sender(&self) -> String {
        format!("s{}@example.org", self.id)
    }

    /// What is to be stored for one of its recipients: every line end mended and the last line
    /// ended, and with LF for CRLF.
    fn stored(&self, recipient: &str) -> Stored {
        // No CR is left but those before an LF.
        let content = mended(&self.content).into_iter().filter(|octet| *octet != b'\r').collect();
        Stored { recipient: recipient.to_owned(), sender: self.sender(), content }
    }
}

/// A recipient of the mail with this number; the name is what comes before it.
pub fn recipient(name: &str, id: u64) -> String {
    format!("{name}{id}@example.net")
}

/// Exactly this was stored and nothing else: each of these mails once for each of its recipients that
/// passes `is_taken`.
pub fn check_stored(letters: &[Letter], is_taken: impl Fn(&str) -> bool, mut stored: Vec<Stored>) {
    // An empty content is stored as the header without fields that it then has, or as nothing.
    for mail in &mut stored {
        if mail.content == b"\n" {
            mail.content.clear();
        }
    }
    let mut expected: BTreeMap<String, Stored> = BTreeMap::new();
    for letter in letters {
        for to in letter.to.iter().filter(|to| is_taken(to)) {
            let before = expected.insert(to.clone(), letter.stored(to));
            assert!(before.is_none(), "a test in which {to} has two mails");
        }
    }
    for mail in stored {
        let (recipient, sender) = (&mail.recipient, &mail.sender);
        let Some(whole) = expected.remove(recipient) else {
            let text = String::from_utf8_lossy(&mail.content);
            panic!("{recipient} has this from {sender} once too often:\n{text}");
        };
        assert_eq!(*sender, whole.sender, "the return path of what {recipient} has");
        if mail.content != whole.content {
            let same =
                mail.content.iter().zip(&whole.content).take_while(|(one, other)| one == other).count();
            let part = |text: &[u8]| {
                text[same.saturating_sub(40)..(same + 40).min(text.len())].escape_ascii().to_string()
            };
            panic!(
                "{recipient} has {} octets of {}, that differ at {same}: {} and not {}",
                mail.content.len(),
                whole.content.len(),
                part(&mail.content),
                part(&whole.content)
            );
        }
    }
    let missing: Vec<&String> = expected.keys().collect();
    assert!(missing.is_empty(), "{} never got their mail: {missing:?}", missing.len());
}
