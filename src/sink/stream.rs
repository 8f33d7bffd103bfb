//! A connected socket, in the clear or under TLS.
//!
//! In the clear it makes the system calls of a bare socket and no other. It must never read for
//! itself: whatever was read in the clear stays with the caller, who drops it before a handshake.

use std::io::{self, Read};
use std::mem;
use std::net::{Shutdown, TcpStream};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_native_tls::{TlsAcceptor, TlsStream};
use smol::Async;
use smol::future::poll_once;
use smol::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

/// Either kind of connection.
pub(super) enum Stream {
    Plain {
        socket: Async<TcpStream>,
        /// The socket was found empty, and the reactor is to be asked before it is tried again.
        empty: bool,
    },
    Tls(TlsStream<Async<TcpStream>>),
    /// In the middle of a handshake, or behind one that failed.
    Gone,
}

impl Stream {
    pub(super) fn new(socket: Async<TcpStream>) -> Self {
        Self::Plain { socket, empty: false }
    }

    /// The socket itself, for what has nothing to do with content.
    pub(super) fn socket(&self) -> Option<&Async<TcpStream>> {
        match self {
            Self::Plain { socket, .. } => Some(socket),
            Self::Tls(stream) => Some(stream.get_ref()),
            Self::Gone => None,
        }
    }

    /// Reads when there is something. `Async::poll_read` would do, but takes the event that woke
    /// it for news once more after the read that it announced, and reads in vain once per reply.
    pub(super) fn poll_receive(&mut self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        let (socket, empty) = match self {
            Self::Plain { socket, empty } => (socket, empty),
            Self::Tls(stream) => return Pin::new(stream).poll_read(cx, room),
            Self::Gone => return Poll::Ready(Err(gone())),
        };
        loop {
            if *empty {
                ready!(socket.poll_readable(cx))?;
                *empty = false;
            }
            match socket.get_ref().read(room) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => *empty = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return Poll::Ready(done),
            }
        }
    }

    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain { socket, .. } => Pin::new(&mut &*socket).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Gone => Poll::Ready(Err(gone())),
        }
    }

    /// Goes over to TLS. A handshake that fails closes the socket.
    pub(super) async fn secure(&mut self, acceptor: &TlsAcceptor) -> Result<(), native_tls::Error> {
        if let Self::Plain { socket, .. } = mem::replace(self, Self::Gone) {
            *self = Self::Tls(acceptor.accept(socket).await?);
        }
        Ok(())
    }

    /// Says that nothing more will come; under TLS by a close_notify first, if there is room for
    /// it. Returns whether the peer can be told at all.
    pub(super) async fn finish(&mut self) -> bool {
        if let Self::Tls(stream) = self {
            // A client that has gone without a word is none of our business.
            let _ = poll_once(stream.close()).await;
        }
        self.socket().is_some_and(|socket| socket.get_ref().shutdown(Shutdown::Write).is_ok())
    }
}

fn gone() -> io::Error {
    io::ErrorKind::NotConnected.into()
}
