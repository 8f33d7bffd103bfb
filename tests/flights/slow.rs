//! A server that works off one command at a time, says much, and reads on only when what it has said is
//! gone, over a connection with small buffers: where neither side reads while it writes, both stand
//! still.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use smol::Async;
use smtp_bulk::{Content, Envelope, EventKind, Host, Message, Pipeline, Step};
use socket2::{Domain, SockRef, Socket, Type};

use crate::support::{Log, builder, send_and_quit};

const RECIPIENTS: usize = 10_000;

/// Octets of each of the four buffers of a connection. What the system makes of it must be far less
/// than a flight of recipients and their replies, or nobody would ever have to wait.
const BUFFER: usize = 2_048;

/// How the two speak to each other.
#[derive(Clone, Copy, Debug)]
struct Way {
    level: Pipeline,
    depth: u32,
    chunking: bool,
    lmtp: bool,
}

const fn way(level: Pipeline, depth: u32, chunking: bool, lmtp: bool) -> Way {
    Way { level, depth, chunking, lmtp }
}

/// Every tenth recipient is refused: by SMTP at RCPT, by LMTP when the content is there.
fn is_refused(recipient: &str) -> bool {
    recipient.split('@').next().is_some_and(|local_part| local_part.ends_with('3'))
}

fn addresses() -> Vec<String> {
    let domain = "subscribers-of-the-weekly-letter.example.net";
    (0..RECIPIENTS).map(|number| format!("{number}@{domain}")).collect()
}

/// Several chunks' worth, and a dot at the beginning of each line.
fn content(id: u64) -> Vec<u8> {
    let line = format!(".mail {id}, one line of many that fill the buffers on the way\r\n");
    line.repeat(4_000).into_bytes()
}

// ---- the server -----------------------------------------------------------------------------------

/// What it was told: each RCPT, and each content with the number of its chunks.
#[derive(Default)]
struct Told {
    recipients: Vec<String>,
    contents: Vec<(Vec<u8>, usize)>,
}

struct Slow {
    way: Way,
    reader: BufReader<TcpStream>,
    stream: TcpStream,
    /// Those of this transaction.
    accepted: Vec<String>,
    content: Vec<u8>,
    chunks: usize,
    told: Told,
}

impl Slow {
    /// Serves one connection.
    fn start(way: Way) -> (SocketAddr, JoinHandle<Told>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // What is accepted has the buffers of the listener from its first octet.
        narrow(&SockRef::from(&listener));
        let address = listener.local_addr().unwrap();
        let thread = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            let reader = BufReader::with_capacity(64, stream.try_clone().unwrap());
            let (accepted, content, told) = Default::default();
            let mut slow = Slow { way, reader, stream, accepted, content, chunks: 0, told };
            slow.say("220 mx.example\r\n");
            while slow.obey() {}
            slow.told
        });
        (address, thread)
    }

    fn say(&mut self, reply: &str) {
        self.stream.write_all(reply.as_bytes()).unwrap();
    }

    /// Nearly as long as a reply line may be (RFC 5321 §4.5.3.1.5).
    fn say_much(&mut self, code: u16) {
        self.say(&format!("{code} {}\r\n", "x".repeat(480)));
    }

    /// Obeys one command; false behind the last.
    fn obey(&mut self) -> bool {
        let mut line = String::new();
        if self.reader.read_line(&mut line).unwrap() == 0 {
            return false;
        }
        let line = line.trim_end();
        match line.split(' ').next().unwrap() {
            "EHLO" | "LHLO" => {
                let chunking = if self.way.chunking { "250-CHUNKING\r\n" } else { "" };
                self.say(&format!(
                    "250-mx.example\r\n250-LIMITS RCPTMAX={RECIPIENTS}\r\n{chunking}250 PIPELINING\r\n"
                ));
            }
            "RCPT" => self.take_recipient(line),
            "DATA" => {
                self.say("354 go on\r\n");
                self.read_to_the_dot();
                self.end_content();
            }
            "BDAT" => self.take_chunk(line),
            "QUIT" => self.say("221 bye\r\n"),
            "MAIL" | "RSET" => self.say_much(250),
            _ => panic!("what is {line}?"),
        }
        true
    }

    fn take_recipient(&mut self, line: &str) {
        let (_, recipient) = line.strip_suffix('>').unwrap().split_once('<').unwrap();
        self.told.recipients.push(recipient.to_owned());
        if !self.way.lmtp && is_refused(recipient) {
            self.say_much(550);
        } else {
            self.accepted.push(recipient.to_owned());
            self.say_much(250);
        }
    }

    fn read_to_the_dot(&mut self) {
        loop {
            let start = self.content.len();
            self.reader.read_until(b'\n', &mut self.content).unwrap();
            if self.content[start] == b'.' {
                self.content.remove(start);
                if &self.content[start..] == b"\r\n" {
                    return self.content.truncate(start);
                }
            }
        }
    }

    fn take_chunk(&mut self, line: &str) {
        let mut words = line.split(' ').skip(1);
        let octets: u64 = words.next().unwrap().parse().unwrap();
        self.reader.by_ref().take(octets).read_to_end(&mut self.content).unwrap();
        self.chunks += 1;
        if words.next() == Some("LAST") { self.end_content() } else { self.say_much(250) }
    }

    /// One reply to the content, or by LMTP one for each recipient.
    fn end_content(&mut self) {
        let accepted = std::mem::take(&mut self.accepted);
        let content = (std::mem::take(&mut self.content), std::mem::take(&mut self.chunks));
        self.told.contents.push(content);
        if self.way.lmtp {
            accepted.iter().for_each(|to| self.say_much(if is_refused(to) { 550 } else { 250 }));
        } else {
            self.say_much(250);
        }
    }
}

fn narrow(socket: &Socket) {
    socket.set_recv_buffer_size(BUFFER).unwrap();
    socket.set_send_buffer_size(BUFFER).unwrap();
}

/// A connection that holds little on this side as well.
fn connect(address: SocketAddr) -> std::io::Result<smol::net::TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    narrow(&socket);
    socket.connect(&address.into())?;
    socket.set_tcp_nodelay(true)?;
    Ok(Async::new(TcpStream::from(socket))?.into())
}

// ---- the tests ------------------------------------------------------------------------------------

/// Sends two mails to so many recipients that no buffer holds the commands or the replies.
fn check(way: Way) {
    let (address, server) = Slow::start(way);
    let host = Host::new("127.0.0.1").hello("client.example").pipeline(way.level).depth(way.depth);
    let host = if way.lmtp { host.lmtp() } else { host };
    let route = host.connector(move |_| async move { connect(address) });
    let envelope = Envelope::parse("sender@example.org", addresses()).unwrap();
    let message = |id: u64| {
        let reader = move || Ok(Box::new(std::io::Cursor::new(content(id))) as Box<dyn Read + Send>);
        Message::new(envelope.clone(), Content::reader(reader)).id(id)
    };
    let log = Log::default();
    let summary = send_and_quit(builder(&log).host(route), (0..2).map(message));
    let told = server.join().unwrap();
    assert_eq!(summary.hosts[0].connections, 1, "{way:?}: {summary}");
    assert_eq!((summary.mails.partial, summary.mails.total()), (2, 2), "{way:?}: {summary}");
    let refused = (RECIPIENTS / 10) as u64;
    let all = 2 * RECIPIENTS as u64;
    let recipients = &summary.recipients;
    assert_eq!((recipients.delivered, recipients.refused), (all - 2 * refused, 2 * refused), "{way:?}");

    let twice: Vec<String> = [addresses(), addresses()].concat();
    assert!(told.recipients == twice, "{way:?}: each was asked for once, in its place");
    let contents: Vec<_> = told.contents.iter().map(|(content, _)| content.as_slice()).collect();
    assert!(contents == [content(0), content(1)], "{way:?}: byte for byte");
    let chunks = told.contents.iter().map(|(_, chunks)| *chunks);
    assert!(chunks.into_iter().all(|chunks| (chunks > 1) == way.chunking), "{way:?}");

    log.reports(|reports| {
        assert_eq!(reports.len(), 2, "{way:?}: one report for each mail");
        for (recipient, outcome) in reports.iter().flat_map(|ended| &ended.recipients) {
            assert_eq!(*outcome, if is_refused(recipient) { "refused" } else { "delivered" }, "{recipient}");
        }
    });
    check_events(way, &log);
}

/// Each recipient has one event for RCPT, and by LMTP one for the content.
fn check_events(way: Way, log: &Log) {
    let mut counts: HashMap<(u64, String, Step, bool), u32> = HashMap::new();
    for seen in log.events() {
        if let (Some(id), Some(recipient)) = (seen.id, seen.recipient) {
            *counts.entry((id, recipient, seen.step, seen.kind == EventKind::Pass)).or_default() += 1;
        }
    }
    let mut expected = HashMap::new();
    for (id, recipient) in (0..2).flat_map(|id| addresses().into_iter().map(move |to| (id, to))) {
        let is_passed = !is_refused(&recipient);
        if way.lmtp {
            expected.insert((id, recipient.clone(), Step::Content, is_passed), 1);
        }
        expected.insert((id, recipient, Step::Rcpt, way.lmtp || is_passed), 1);
    }
    assert!(counts == expected, "{way:?}: {} events about {} recipients", counts.len(), expected.len());
}

#[test]
fn ten_thousand_recipients_get_past_it_by_data() {
    check(way(Pipeline::Envelope, 1, false, false));
    check(way(Pipeline::Full, 1, false, false));
}

#[test]
fn ten_thousand_recipients_get_past_it_by_bdat() {
    check(way(Pipeline::Full, 1, true, false));
    check(way(Pipeline::Full, 4, true, false));
}

#[test]
fn ten_thousand_recipients_get_past_it_by_lmtp() {
    check(way(Pipeline::Envelope, 1, false, true));
    check(way(Pipeline::Full, 1, true, true));
    check(way(Pipeline::Full, 4, true, true));
}
