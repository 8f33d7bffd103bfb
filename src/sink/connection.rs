//! Moves the bytes of one connection between its [`Stream`] and its [`Dialogue`].
//!
//! A connection that waits owns no input buffer: all connections run on one thread and read into
//! the same one, and only an unfinished line is carried over. It must never wait while that buffer
//! is borrowed.

use std::cell::RefCell;
use std::io;
use std::mem;
use std::net::TcpStream;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use smol::future::{self, FutureExt, poll_fn};
use smol::io::AsyncRead;
use smol::{Async, Timer};

use super::dialogue::{Dialogue, Next};
use super::idle::Pulse;
use super::reply;
use super::stream::Stream;

/// The bytes taken in by one read at most.
pub(super) const SCRATCH_SIZE: usize = 64 * 1024;

/// Buffers of a connection that have grown beyond this are given back when they are empty.
const BUFFER_KEPT: usize = 1024;

/// Reads in a row that a connection may do while others wait.
const BURST: u32 = 16;

/// How long a connection that the server has closed is read on, so that what the client still
/// sends does not become a reset that destroys the last reply.
const LINGER: Duration = Duration::from_secs(1);

/// What is read on meanwhile at most.
const LINGER_READS: usize = 64;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// After `QUIT`, or because a fault said so.
    Meant,
    /// By the peer, an error or the idle timeout.
    Lost,
}

/// One accepted connection.
pub(super) struct Connection {
    stream: Stream,
    scratch: Rc<RefCell<Vec<u8>>>,
    dialogue: Dialogue,
    pulse: Rc<Pulse>,
    /// Input that was read but not used yet.
    carry: Vec<u8>,
    out: Vec<u8>,
    reads_in_a_row: u32,
}

impl Connection {
    pub(super) fn new(
        socket: Async<TcpStream>,
        scratch: Rc<RefCell<Vec<u8>>>,
        dialogue: Dialogue,
        pulse: Rc<Pulse>,
    ) -> Self {
        Self {
            stream: Stream::new(socket),
            scratch,
            dialogue,
            pulse,
            carry: Vec::new(),
            out: Vec::new(),
            reads_in_a_row: 0,
        }
    }

    /// Serves the client to the end.
    pub(super) async fn serve(mut self) -> Ending {
        self.converse().await.unwrap_or(Ending::Lost)
    }

    async fn converse(&mut self) -> io::Result<Ending> {
        // Without it a reply in two writes would wait for the peer's delayed acknowledgement. A Unix
        // socket has no such thing, and one that is broken will say so when it is used.
        let _ = self.stream.socket().map(|socket| socket.get_ref().set_nodelay(true));
        let mut next = self.feed_carry();
        loop {
            self.write().await?;
            next = match next {
                Next::Read => match self.read().await {
                    Ok(Some(next)) => next,
                    Ok(None) => return Ok(Ending::Lost),
                    Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                        return self.say_idle().await;
                    }
                    Err(error) => return Err(error),
                },
                Next::Write => self.feed_carry(),
                Next::Pause(time) => {
                    Timer::after(time).await;
                    self.pulse.beat();
                    self.feed_carry()
                }
                // In a box, so that connections in the clear need no room for it.
                Next::Handshake => {
                    if !Box::pin(self.shake_hands()).await {
                        return Ok(Ending::Lost);
                    }
                    self.feed_carry()
                }
                Next::Hang => {
                    self.discard(usize::MAX).await;
                    return Ok(Ending::Lost);
                }
                Next::Close => {
                    self.linger().await;
                    return Ok(Ending::Meant);
                }
                Next::Abort => return Ok(Ending::Meant),
            };
        }
    }

    /// Goes over to TLS within the idle timeout, and says whether that worked.
    async fn shake_hands(&mut self) -> bool {
        // What came in the clear is never obeyed under TLS (RFC 3207 §4.2).
        self.carry = Vec::new();
        self.pulse.beat();
        let Some(acceptor) = self.dialogue.acceptor().cloned() else { return false };
        let pulse = Rc::clone(&self.pulse);
        let handshake = async { self.stream.secure(&acceptor).await.is_ok() };
        let too_late = async {
            poll_fn(|cx| pulse.poll_expired(cx)).await;
            false
        };
        let done = handshake.or(too_late).await;
        self.pulse.beat();
        self.dialogue.note_handshake(done);
        done
    }

    /// Lets the dialogue go on with input that was read before.
    fn feed_carry(&mut self) -> Next {
        let mut carry = mem::take(&mut self.carry);
        let (used, next) = self.dialogue.feed(&carry, &mut self.out);
        if used < carry.len() {
            carry.drain(..used);
            self.carry = carry;
        }
        next
    }

    /// Reads once and lets the dialogue go on; `None` at the end of the stream. Tries the socket
    /// before waiting for it.
    async fn read(&mut self) -> io::Result<Option<Next>> {
        if self.reads_in_a_row >= BURST {
            self.reads_in_a_row = 0;
            future::yield_now().await;
        }
        poll_fn(|cx| {
            let scratch = Rc::clone(&self.scratch);
            let mut scratch = scratch.borrow_mut();
            let held = self.carry.len();
            let Some((head, room)) = scratch.split_at_mut_checked(held) else {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            };
            match self.stream.poll_receive(cx, room) {
                Poll::Ready(Ok(0)) => Poll::Ready(Ok(None)),
                Poll::Ready(Ok(count)) => {
                    self.pulse.beat();
                    self.reads_in_a_row += 1;
                    head.copy_from_slice(&self.carry);
                    let input = scratch.get(..held.saturating_add(count));
                    let input = input.unwrap_or_default();
                    let (used, next) = self.dialogue.feed(input, &mut self.out);
                    refill(&mut self.carry, input.get(used..).unwrap_or_default());
                    Poll::Ready(Ok(Some(next)))
                }
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.reads_in_a_row = 0;
                    self.pulse.poll_expired(cx).map(|()| Err(timed_out()))
                }
            }
        })
        .await
    }

    /// Writes all replies out.
    async fn write(&mut self) -> io::Result<()> {
        let mut written = 0;
        while let Some(rest) = self.out.get(written..).filter(|rest| !rest.is_empty()) {
            let count = poll_fn(|cx| match self.stream.poll_send(cx, rest) {
                Poll::Pending => self.pulse.poll_expired(cx).map(|()| Err(timed_out())),
                done => done,
            })
            .await?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.pulse.beat();
            written = written.saturating_add(count);
        }
        refill(&mut self.out, &[]);
        Ok(())
    }

    /// Tells an idle client so, unless it is in the middle of content, and closes.
    async fn say_idle(&mut self) -> io::Result<Ending> {
        if self.dialogue.is_between_commands() {
            self.out.extend_from_slice(reply::IDLE);
            self.pulse.beat();
            self.write().await?;
            self.linger().await;
        }
        Ok(Ending::Lost)
    }

    /// Says that nothing more will come, and waits a little for the peer to say the same.
    async fn linger(&mut self) {
        if self.stream.finish().await {
            let patience = async {
                Timer::after(LINGER).await;
            };
            self.discard(LINGER_READS).or(patience).await;
        }
    }

    /// Reads so many times at most, until the peer goes, and drops what comes, unciphered or not.
    async fn discard(&self, reads: usize) {
        let Some(socket) = self.stream.socket() else { return };
        for _ in 0..reads {
            let read = poll_fn(|cx| {
                let mut scratch = self.scratch.borrow_mut();
                Pin::new(&mut &*socket).poll_read(cx, &mut scratch)
            });
            if !matches!(read.await, Ok(1..)) {
                return;
            }
            future::yield_now().await;
        }
    }
}

/// Puts `content` in the place of what is in there, and gives memory back.
fn refill(buffer: &mut Vec<u8>, content: &[u8]) {
    buffer.clear();
    if content.is_empty() && buffer.capacity() > BUFFER_KEPT {
        *buffer = Vec::new();
    }
    buffer.extend_from_slice(content);
}

fn timed_out() -> io::Error {
    io::ErrorKind::TimedOut.into()
}
