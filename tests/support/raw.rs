//! A client of the sink that says exactly what a test tells it to, in the clear or under TLS.

#![allow(dead_code, reason = "each test program uses its own part of this")]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use native_tls::{Certificate, TlsConnector, TlsConnectorBuilder, TlsStream};
use smtp_bulk::sink::{Counts, Sink};

/// Longer than anything here takes; a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Client<S> {
    stream: BufReader<S>,
}

impl Client<TcpStream> {
    /// Connects without reading the greeting.
    pub fn connect(sink: &Sink) -> Self {
        let stream = TcpStream::connect(sink.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// Connects and says EHLO.
    pub fn ready(sink: &Sink) -> Self {
        let mut client = Self::connect(sink);
        client.hello();
        client
    }

    /// Shakes hands; nothing may have come that was not read.
    pub fn secure(self, connector: &TlsConnector) -> Result<Client<TlsStream<TcpStream>>, native_tls::Error> {
        assert_eq!(self.stream.buffer(), b"", "sent in the clear before the handshake");
        match connector.connect("localhost", self.stream.into_inner()) {
            Ok(stream) => Ok(Client { stream: BufReader::new(stream) }),
            Err(native_tls::HandshakeError::Failure(error)) => Err(error),
            Err(native_tls::HandshakeError::WouldBlock(_)) => panic!("no handshake within {PATIENCE:?}"),
        }
    }

    pub fn tcp(&self) -> &TcpStream {
        self.stream.get_ref()
    }
}

impl Client<TlsStream<TcpStream>> {
    /// Goes over to TLS by STARTTLS, and says EHLO again.
    pub fn starttls(sink: &Sink, connector: &TlsConnector) -> Self {
        let mut client = Client::ready(sink);
        client.expect("STARTTLS", "220");
        let mut client = client.secure(connector).unwrap();
        client.expect("EHLO client.example", "250");
        client
    }
}

impl<S: Read + Write> Client<S> {
    /// Speaks over this.
    pub fn over(stream: S) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    /// Reads the greeting and says EHLO; returns what is announced.
    pub fn hello(&mut self) -> String {
        assert!(self.reply().starts_with("220 "));
        let reply = self.ask("EHLO client.example");
        assert!(reply.starts_with("250"), "{reply}");
        reply
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    /// One reply, of however many lines.
    pub fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let start = reply.len();
            let count = self.stream.read_line(&mut reply).unwrap();
            assert!(count > 0, "closed behind {reply:?}");
            assert!(reply.ends_with("\r\n"), "a line ends in CRLF alone: {reply:?}");
            if reply.as_bytes().get(start + 3) == Some(&b' ') {
                return reply;
            }
        }
    }

    pub fn ask(&mut self, command: &str) -> String {
        self.send(format!("{command}\r\n"));
        self.reply()
    }

    pub fn expect(&mut self, command: &str, code: &str) {
        let reply = self.ask(command);
        assert!(reply.starts_with(code), "{command}: {reply}");
    }

    /// Sends one small mail.
    pub fn mail(&mut self) {
        self.expect("MAIL FROM:<a@client.example>", "250");
        self.expect("RCPT TO:<b@sink.example>", "250");
        self.expect("DATA", "354");
        self.expect("content\r\n.", "250");
    }

    /// What one read brings.
    pub fn piece(&mut self) -> String {
        let piece = self.stream.fill_buf().unwrap().to_vec();
        self.stream.consume(piece.len());
        String::from_utf8(piece).unwrap()
    }

    /// Everything until the server closes.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => panic!("{error}"),
            _ => rest,
        }
    }
}

/// A connector that trusts this authority and nobody else.
pub fn trusting(authority_pem: &str) -> TlsConnectorBuilder {
    let mut builder = TlsConnector::builder();
    builder.add_root_certificate(Certificate::from_pem(authority_pem.as_bytes()).unwrap());
    builder.disable_built_in_roots(true);
    builder
}

pub fn wait(sink: &Sink, condition: impl FnMut(&Counts) -> bool) -> Counts {
    sink.wait_for(condition, PATIENCE).expect("the counts never came")
}
