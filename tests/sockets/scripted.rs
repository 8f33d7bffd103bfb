//! A peer that does exactly what a test says, for what no server does.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use smtp_bulk::Host;

use crate::support::PATIENCE;

/// One connection, from the peer's side.
pub struct Peer {
    stream: BufReader<TcpStream>,
}

impl Peer {
    pub fn say(&mut self, reply: &str) {
        // A client that is gone is what some tests are about.
        let _ = self.stream.get_mut().write_all(reply.as_bytes());
    }

    /// The client's next line without its end; `None` when it is gone.
    pub fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(1..) => Some(line.trim_end().to_owned()),
            _ => None,
        }
    }

    /// Greets, and answers every command as it should be until `DATA` was answered.
    pub fn behave_until_content(&mut self) -> bool {
        self.say("220 scripted\r\n");
        while let Some(line) = self.line() {
            match line.split(' ').next() {
                Some("DATA") => {
                    self.say("354 go on\r\n");
                    return true;
                }
                Some("QUIT") => self.say("221 bye\r\n"),
                _ => self.say("250 fine\r\n"),
            }
        }
        false
    }

    /// Where the connection comes from.
    pub fn address(&self) -> SocketAddr {
        self.stream.get_ref().peer_addr().unwrap()
    }
}

/// A listening peer; each connection has a thread of its own.
pub struct Scripted {
    pub address: SocketAddr,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Scripted {
    pub fn start(script: impl Fn(Peer) + Send + Sync + 'static) -> Scripted {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        // A small window: what is not read is soon noticed by the client.
        socket.set_recv_buffer_size(64 * 1024).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(128).unwrap();
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().unwrap();
        let stopping = Arc::new(AtomicBool::new(false));
        let (script, stop) = (Arc::new(script), Arc::clone(&stopping));
        let thread = thread::spawn(move || {
            for stream in listener.incoming().map(Result::unwrap) {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let script = Arc::clone(&script);
                thread::spawn(move || script(Peer { stream: BufReader::new(stream) }));
            }
        });
        Scripted { address, stopping, thread: Some(thread) }
    }

    pub fn host(&self) -> Host {
        Host::new(self.address.ip().to_string()).port(self.address.port())
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        let woken = TcpStream::connect(self.address);
        if let (Ok(_), Some(thread)) = (woken, self.thread.take()) {
            thread.join().unwrap();
        }
    }
}
