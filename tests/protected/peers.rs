//! A server that does exactly what a test says, in the clear and under TLS, and writes down all that
//! it was told. What it heard is asked for when every connection is over.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use openssl::pkey::PKey;
use openssl::ssl::{
    HandshakeError, SslAcceptor, SslAcceptorBuilder, SslMethod, SslStream, SslVerifyMode, SslVersion,
};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;
use smtp_bulk::Host;

use crate::certs::{Authority, Issued};
use crate::support::PATIENCE;

/// What was told to the server, line by line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Heard {
    Clear(String),
    Secret(String),
}

type Record = Arc<Mutex<Vec<Heard>>>;

/// One connection, from the server's side.
pub struct Peer<S: Read> {
    stream: BufReader<S>,
    record: Record,
}

impl<S: Read + Write> Peer<S> {
    pub fn say(&mut self, reply: &str) {
        // A client that is gone is what some tests are about.
        let _ =
            self.stream.get_mut().write_all(reply.as_bytes()).and_then(|()| self.stream.get_mut().flush());
    }

    fn any_line(&mut self, heard: fn(String) -> Heard) -> Option<String> {
        let mut line = Vec::new();
        match self.stream.read_until(b'\n', &mut line) {
            Ok(1..) => {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                self.record.lock().unwrap().push(heard(line.clone()));
                Some(line)
            }
            _ => None,
        }
    }

    /// What is read from here on is not written down.
    pub fn into_stream(self) -> BufReader<S> {
        self.stream
    }
}

impl Peer<TcpStream> {
    /// The client's next line without its end; `None` when it is gone.
    pub fn line(&mut self) -> Option<String> {
        self.any_line(Heard::Clear)
    }

    /// Greets, and answers until STARTTLS is asked for, with these lines to EHLO.
    pub fn until_starttls(&mut self, ehlo: &str) -> bool {
        self.say("220 peer.example\r\n");
        while let Some(line) = self.line() {
            match line.split(' ').next() {
                Some("STARTTLS") => return true,
                Some("EHLO") => self.say(ehlo),
                Some("QUIT") => self.say("221 bye\r\n"),
                _ => self.say("250 fine\r\n"),
            }
        }
        false
    }

    /// Writes down whatever still comes, until the client goes.
    pub fn hear_the_rest(&mut self) {
        while self.line().is_some() {}
    }

    /// Writes down what one read brings.
    pub fn hear_some(&mut self) {
        let some = self.stream.fill_buf().map(<[u8]>::to_vec).unwrap_or_default();
        self.stream.consume(some.len());
        self.record.lock().unwrap().push(Heard::Clear(String::from_utf8_lossy(&some).into_owned()));
    }

    /// Shakes hands.
    pub fn secure(self, acceptor: &SslAcceptor) -> Result<Peer<SslStream<TcpStream>>, String> {
        assert_eq!(self.stream.buffer(), b"", "sent in the clear before the handshake");
        match acceptor.accept(self.stream.into_inner()) {
            Ok(stream) => Ok(Peer { stream: BufReader::new(stream), record: self.record }),
            Err(HandshakeError::Failure(failed)) => Err(failed.error().to_string()),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Peer<SslStream<TcpStream>> {
    /// The client's next line without its end; `None` when it is gone.
    pub fn line(&mut self) -> Option<String> {
        self.any_line(Heard::Secret)
    }

    /// Answers as it should be until QUIT was answered or the client is gone.
    pub fn behave(&mut self) {
        while let Some(line) = self.line() {
            match line.split(' ').next() {
                Some("DATA") => {
                    self.say("354 go on\r\n");
                    while self.line().is_some_and(|line| line != ".") {}
                    self.say("250 stored\r\n");
                }
                Some("QUIT") => return self.say("221 bye\r\n"),
                Some("AUTH") => self.say("235 welcome\r\n"),
                _ => self.say("250 fine\r\n"),
            }
        }
    }

    /// How the client ended: nothing for a close_notify.
    pub fn end(&mut self) -> io::Result<usize> {
        let mut octets = Vec::new();
        self.stream.read_to_end(&mut octets)
    }

    pub fn ssl(&self) -> &openssl::ssl::SslRef {
        self.stream.get_ref().ssl()
    }
}

/// A listening server; each connection has a thread of its own.
pub struct Server {
    pub address: SocketAddr,
    record: Record,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub fn start(script: impl Fn(Peer<TcpStream>) + Send + Sync + 'static) -> Server {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        // A small window: what is not read is soon noticed by the client.
        socket.set_recv_buffer_size(64 * 1024).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(128).unwrap();
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().unwrap();
        let (stopping, record) = (Arc::new(AtomicBool::new(false)), Record::default());
        let (script, stop, heard) = (Arc::new(script), Arc::clone(&stopping), Arc::clone(&record));
        let thread = thread::spawn(move || {
            let mut peers = Vec::new();
            for stream in listener.incoming().map(Result::unwrap) {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.set_nodelay(true).unwrap();
                let (script, record) = (Arc::clone(&script), Arc::clone(&heard));
                peers.push(thread::spawn(move || script(Peer { stream: BufReader::new(stream), record })));
            }
            peers.into_iter().for_each(|peer| peer.join().unwrap());
        });
        Server { address, record, stopping, thread: Some(thread) }
    }

    /// A server that speaks TLS from the first octet, greets, and behaves.
    pub fn implicit(acceptor: SslAcceptor) -> Server {
        Server::start(move |peer| {
            if let Ok(mut peer) = peer.secure(&acceptor) {
                peer.say("220 peer.example\r\n");
                peer.behave();
            }
        })
    }

    pub fn host(&self) -> Host {
        Host::new(self.address.ip().to_string()).port(self.address.port())
    }

    fn stop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        let woken = TcpStream::connect(self.address);
        if let (Ok(_), Some(thread)) = (woken, self.thread.take()) {
            thread.join().unwrap();
        }
    }

    /// All that was told to it, when every connection is over: the mailer has to be gone.
    pub fn heard(mut self) -> Vec<Heard> {
        self.stop();
        self.record.lock().unwrap().clone()
    }

    /// What was told in the clear.
    pub fn heard_in_the_clear(self) -> Vec<String> {
        let heard = self.heard().into_iter();
        heard.filter_map(|heard| if let Heard::Clear(line) = heard { Some(line) } else { None }).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.stop();
        }
    }
}

/// TLS 1.2 and 1.3 with this certificate, for more to be set.
pub fn acceptor(issued: &Issued) -> SslAcceptorBuilder {
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
    builder.set_certificate(&X509::from_der(&issued.der).unwrap()).unwrap();
    builder.set_private_key(&PKey::private_key_from_der(&issued.key_der).unwrap()).unwrap();
    builder
}

/// Asks for a certificate of this authority, and speaks to nobody without one.
pub fn demanding(authority: &Authority, version: SslVersion) -> SslAcceptor {
    let mut builder = acceptor(&authority.good());
    let mut store = X509StoreBuilder::new().unwrap();
    store.add_cert(X509::from_der(&authority.der()).unwrap()).unwrap();
    builder.set_verify_cert_store(store.build()).unwrap();
    builder.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    builder.set_max_proto_version(Some(version)).unwrap();
    builder.build()
}
