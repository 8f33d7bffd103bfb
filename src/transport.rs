//! Connections: how they are made, and how bytes go through them without
//! ever blocking. It knows nothing of SMTP.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_io::Async;
use futures_lite::{AsyncRead, AsyncWrite};
use socket2::{Domain, Protocol, Socket, Type};

use crate::host::Host;
use crate::host::LaneId;
use crate::outgoing::Outgoing;
use crate::tls::{Shaking, TlsStream};

/// A stream that a connector of the user's makes.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// One connection.
pub(crate) enum Transport {
    Plain(Plain),
    /// TLS is being agreed on: nothing else can be read or written.
    Shaking(Box<Shaking>),
    Tls(Box<TlsStream>),
}

/// A connection without TLS.
pub(crate) enum Plain {
    Tcp(Polled<TcpStream>),
    #[cfg(unix)]
    Unix(Polled<UnixStream>),
    Custom(Box<dyn CustomStream>),
}

/// What the system knows a socket by.
#[cfg(unix)]
pub(crate) trait AsSocket: std::os::fd::AsFd {}
#[cfg(unix)]
impl<S: std::os::fd::AsFd> AsSocket for S {}
#[cfg(not(unix))]
pub(crate) trait AsSocket {}
#[cfg(not(unix))]
impl<S> AsSocket for S {}

/// A socket, and whether it is known to be empty.
pub(crate) struct Polled<S> {
    socket: Async<S>,
    /// A read would have blocked and no readiness was seen since: asking the
    /// reactor first spares an empty read, and takes the event that it holds.
    awaits_input: bool,
}

impl<S: AsSocket> Polled<S>
where
    for<'a> &'a S: Read + Write,
{
    fn new(socket: Async<S>) -> Polled<S> {
        Polled { socket, awaits_input: false }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            if self.awaits_input {
                ready!(self.socket.poll_readable(cx))?;
                self.awaits_input = false;
            }
            match unblocked(|| self.socket.get_ref().read(buffer)) {
                Some(read) => return Poll::Ready(read),
                None => self.awaits_input = true,
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match unblocked(|| self.socket.get_ref().write(bytes)) {
                Some(written) => return Poll::Ready(written),
                None => ready!(self.socket.poll_writable(cx))?,
            }
        }
    }

    fn poll_write_slices(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            match unblocked(|| write_slices(self.socket.get_ref(), slices)) {
                Some(written) => return Poll::Ready(written),
                None => ready!(self.socket.poll_writable(cx))?,
            }
        }
    }

    fn try_read(&self, buffer: &mut [u8]) -> Option<io::Result<usize>> {
        unblocked(|| self.socket.get_ref().read(buffer))
    }
}

/// Writes several slices in one call. `write_vectored` would raise SIGPIPE on a
/// connection that is closed, as `write` does not: whoever has not switched that
/// off, as a Rust program does by itself, would be killed by a server.
#[cfg(all(unix, not(target_vendor = "apple")))]
fn write_slices<S: AsSocket>(socket: &S, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
    Ok(sendmsg(socket, slices, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)?)
}

/// The same where sockets raise no signal: on Apple's systems the standard library
/// has switched it off for each (SO_NOSIGPIPE), and others have none.
#[cfg(not(all(unix, not(target_vendor = "apple"))))]
fn write_slices<S>(mut socket: &S, slices: &[IoSlice<'_>]) -> io::Result<usize>
where
    for<'a> &'a S: Write,
{
    socket.write_vectored(slices)
}

/// A user's stream, behind a name that the rest of the crate can use.
pub(crate) trait CustomStream: Send {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;
}

impl<S: Stream> CustomStream for S {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(self).poll_read(cx, buffer)
    }

    /// Written bytes are flushed: a tunnel that buffers would wait for more.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Pin::new(self).poll_flush(cx).map_ok(|()| 0);
        }
        Pin::new(self).poll_write(cx, bytes)
    }
}

impl Plain {
    /// Reads what is there; otherwise `cx` is woken when there may be more.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Plain::Tcp(socket) => socket.poll_read(cx, buffer),
            #[cfg(unix)]
            Plain::Unix(socket) => socket.poll_read(cx, buffer),
            Plain::Custom(stream) => stream.poll_read(cx, buffer),
        }
    }

    /// Reads what is there without waking anybody later; `None` when nothing
    /// is. A user's stream may wake `cx` all the same.
    pub(crate) fn try_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Option<io::Result<usize>> {
        match self {
            Plain::Tcp(socket) => socket.try_read(buffer),
            #[cfg(unix)]
            Plain::Unix(socket) => socket.try_read(buffer),
            Plain::Custom(stream) => match stream.poll_read(cx, buffer) {
                Poll::Ready(read) => Some(read),
                Poll::Pending => None,
            },
        }
    }

    /// Writes what fits; otherwise `cx` is woken when more may fit.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Plain::Tcp(socket) => socket.poll_write(cx, bytes),
            #[cfg(unix)]
            Plain::Unix(socket) => socket.poll_write(cx, bytes),
            Plain::Custom(stream) => stream.poll_write(cx, bytes),
        }
    }

    /// The same with octets that stand in several places: in one call, but of a
    /// user's stream, which is given the first of them.
    fn poll_write_slices(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            Plain::Tcp(socket) => socket.poll_write_slices(cx, slices),
            #[cfg(unix)]
            Plain::Unix(socket) => socket.poll_write_slices(cx, slices),
            Plain::Custom(stream) => stream.poll_write(cx, slices.first().map_or(&[], |first| first)),
        }
    }

    /// Hands what was written on, where the stream keeps a buffer of its own.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Plain::Tcp(_) => Poll::Ready(Ok(())),
            #[cfg(unix)]
            Plain::Unix(_) => Poll::Ready(Ok(())),
            Plain::Custom(stream) => stream.poll_write(cx, &[]).map_ok(|_| ()),
        }
    }

    fn local_address(&self) -> Option<IpAddr> {
        match self {
            Plain::Tcp(tcp) => tcp.socket.get_ref().local_addr().ok().map(|address| address.ip()),
            #[cfg(unix)]
            Plain::Unix(_) => None,
            Plain::Custom(_) => None,
        }
    }
}

/// A connection is read and written with one waker only: under TLS the one
/// that the handshake began with is kept, and `cx` is not looked at.
impl Transport {
    /// Reads what is there; otherwise `cx` is woken when there may be more.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Transport::Plain(plain) => plain.poll_read(cx, buffer),
            Transport::Shaking(_) => Poll::Pending,
            Transport::Tls(stream) => stream.poll_read(buffer),
        }
    }

    /// Reads what is there without waking anybody later; `None` when nothing
    /// is. A user's stream may wake `cx` all the same.
    pub(crate) fn try_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Option<io::Result<usize>> {
        match self {
            Transport::Plain(plain) => plain.try_read(cx, buffer),
            Transport::Shaking(_) => None,
            Transport::Tls(stream) => stream.try_read(buffer),
        }
    }

    /// Writes what fits; otherwise `cx` is woken when more may fit.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Transport::Plain(plain) => plain.poll_write(cx, bytes),
            Transport::Shaking(_) => Poll::Pending,
            Transport::Tls(stream) => stream.poll_write(bytes),
        }
    }

    /// Whether it writes octets that stand in several places by one call.
    pub(crate) fn takes_slices(&self) -> bool {
        matches!(self, Transport::Plain(plain) if !matches!(plain, Plain::Custom(_)))
    }

    /// Writes what fits of what is to go out; otherwise `cx` is woken when more may
    /// fit.
    pub(crate) fn poll_write_outgoing(
        &mut self,
        cx: &mut Context<'_>,
        outgoing: &Outgoing,
    ) -> Poll<io::Result<usize>> {
        match (self, outgoing.as_slice()) {
            (transport, Some(octets)) => transport.poll_write(cx, octets),
            (Transport::Plain(plain), None) => plain.poll_write_slices(cx, &outgoing.slices()),
            (transport, None) => {
                transport.poll_write(cx, outgoing.slices().first().map_or(&[], |first| first))
            }
        }
    }

    /// Hands what was written on, where the stream keeps a buffer of its own.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Transport::Plain(plain) => plain.poll_flush(cx),
            Transport::Shaking(_) => Poll::Pending,
            Transport::Tls(stream) => stream.poll_flush(),
        }
    }

    /// Tells the peer that no more will come, where TLS has a word for it. For
    /// a connection of which nothing is unsent.
    pub(crate) fn say_end(&mut self) {
        if let Transport::Tls(stream) = self {
            stream.say_end();
        }
    }

    /// This end's address.
    pub(crate) fn local_address(&self) -> Option<IpAddr> {
        match self {
            Transport::Plain(plain) => plain.local_address(),
            Transport::Shaking(_) => None,
            Transport::Tls(stream) => stream.plain().local_address(),
        }
    }
}

/// Connections that the kernel is asked about in one call: so many that the
/// call costs each of them little, and so few that what it said still holds
/// when the last of them is written to.
pub(crate) const MOST_ASKED: usize = 32;

/// Says of each of these connections, in their order, whether there is
/// certainly nothing to read on it, not even its end. A stream that may hold
/// octets which its socket has given already can't be asked so, and where the
/// system can't be asked, none is silent.
#[cfg(unix)]
pub(crate) fn are_silent(asked: &[Option<&Transport>]) -> [bool; MOST_ASKED] {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use std::os::fd::AsFd;
    let socket = |place: usize| match asked.get(place).copied().flatten() {
        Some(Transport::Plain(Plain::Tcp(tcp))) => Some(tcp.socket.as_fd()),
        Some(Transport::Plain(Plain::Unix(unix))) => Some(unix.socket.as_fd()),
        // TLS may have decrypted more than it has given.
        Some(Transport::Plain(Plain::Custom(_)) | Transport::Shaking(_) | Transport::Tls(_)) | None => None,
    };
    let Some(some_socket) = (0..asked.len()).find_map(socket) else { return [false; MOST_ASKED] };
    // What can't be asked about has a stand-in, of which nothing is asked.
    let mut polled: [PollFd<'_>; MOST_ASKED] = std::array::from_fn(|place| match socket(place) {
        Some(socket) => PollFd::from_borrowed_fd(socket, PollFlags::IN),
        None => PollFd::from_borrowed_fd(some_socket, PollFlags::empty()),
    });
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let is_known = polled.get_mut(..asked.len()).is_some_and(|polled| poll(polled, Some(&at_once)).is_ok());
    std::array::from_fn(|place| {
        let has_input = polled.get(place).is_none_or(|polled| !polled.revents().is_empty());
        is_known && socket(place).is_some() && !has_input
    })
}

#[cfg(not(unix))]
pub(crate) fn are_silent(_: &[Option<&Transport>]) -> [bool; MOST_ASKED] {
    [false; MOST_ASKED]
}

/// `None` when the call would block.
fn unblocked<T>(mut call: impl FnMut() -> io::Result<T>) -> Option<io::Result<T>> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return Some(result),
        }
    }
}

/// Why there is no connection.
pub(crate) enum DialError {
    /// The other side's or the network's fault.
    Failed(io::Error),
    /// This process or machine is out of descriptors, buffers or ports.
    Shortage(io::Error),
}

impl DialError {
    /// Names the address that was tried.
    pub(crate) fn at(self, address: SocketAddr) -> DialError {
        match self {
            DialError::Failed(error) => {
                DialError::Failed(io::Error::new(error.kind(), format!("{address}: {error}")))
            }
            shortage => shortage,
        }
    }
}

impl From<io::Error> for DialError {
    fn from(error: io::Error) -> DialError {
        if crate::fault::is_shortage(&error) { DialError::Shortage(error) } else { DialError::Failed(error) }
    }
}

pub(crate) type Dialling = Pin<Box<dyn Future<Output = Result<Transport, DialError>> + Send>>;

/// Connects over TCP, from `source` if one is given, with Nagle's algorithm
/// off: every flight leaves in one write and must not wait for an ACK.
pub(crate) async fn dial_tcp(target: SocketAddr, source: Option<IpAddr>) -> Result<Transport, DialError> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into()).map_err(out_of_ports)?;
    }
    match socket.connect(&target.into()) {
        Ok(()) => {}
        Err(error) if is_in_progress(&error) => {}
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            return Err(DialError::Shortage(error));
        }
        Err(error) => return Err(error.into()),
    }
    let socket = Async::new_nonblocking(TcpStream::from(socket))?;
    socket.writable().await?;
    match socket.get_ref().take_error()? {
        Some(error) => Err(error.into()),
        None => Ok(Transport::Plain(Plain::Tcp(Polled::new(socket)))),
    }
}

/// Connects to a Unix socket.
#[cfg(unix)]
pub(crate) async fn dial_unix(path: &Path) -> Result<Transport, DialError> {
    match Async::<UnixStream>::connect(path).await {
        Ok(socket) => Ok(Transport::Plain(Plain::Unix(Polled::new(socket)))),
        Err(error) => match DialError::from(error) {
            DialError::Failed(error) => {
                let text = format!("{}: {error}", path.display());
                Err(DialError::Failed(io::Error::new(error.kind(), text)))
            }
            shortage => Err(shortage),
        },
    }
}

#[cfg(not(unix))]
pub(crate) async fn dial_unix(_: &Path) -> Result<Transport, DialError> {
    Err(DialError::Failed(io::ErrorKind::Unsupported.into()))
}

/// No local port is left at the source address.
fn out_of_ports(error: io::Error) -> DialError {
    if error.kind() == io::ErrorKind::AddrInUse { DialError::Shortage(error) } else { error.into() }
}

#[cfg(unix)]
fn is_in_progress(error: &io::Error) -> bool {
    use rustix::io::Errno;
    error.kind() == io::ErrorKind::WouldBlock || Errno::from_io_error(error) == Some(Errno::INPROGRESS)
}

#[cfg(not(unix))]
fn is_in_progress(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// What a connector is to connect to.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Target {
    /// The host's name or address, without port.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The lane that the connection is for.
    pub lane: LaneId,
}

/// Makes connections in a way of the user's own.
#[derive(Clone)]
pub(crate) struct Connector(Arc<dyn Fn(Target) -> Dialling + Send + Sync>);

impl Connector {
    pub(crate) fn dial(&self, target: Target) -> Dialling {
        (self.0)(target)
    }
}

/// A host, and how to reach it.
#[derive(Clone)]
pub struct Route {
    pub(crate) host: Host,
    pub(crate) connector: Option<Connector>,
}

impl From<Host> for Route {
    fn from(host: Host) -> Route {
        Route { host, connector: None }
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.connector.is_some() { "connector" } else { "TCP" };
        f.debug_struct("Route").field("host", &self.host).field("by", &how).finish()
    }
}

impl Host {
    /// Connects by `connect` instead of by TCP: through a proxy or a tunnel,
    /// or to a test. It is called anew for each connection, gives a connected
    /// stream, and has the connect timeout to do so. The stream's local
    /// address is unknown, so set [`Host::hello`].
    ///
    /// ```
    /// use smtp_bulk::{Host, Mailer};
    ///
    /// let host = Host::new("mx.example.org").hello("client.example").connector(|target| async move {
    ///     smol::net::TcpStream::connect(("127.0.0.1", target.port)).await
    /// });
    /// let builder = Mailer::builder().host(host);
    /// # let _ = builder;
    /// ```
    pub fn connector<F, Fut, S>(self, connect: F) -> Route
    where
        F: Fn(Target) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let dial = move |target| -> Dialling {
            let connecting = connect(target);
            Box::pin(async move { Ok(Transport::Plain(Plain::Custom(Box::new(connecting.await?)))) })
        };
        Route { host: self, connector: Some(Connector(Arc::new(dial))) }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Both ends of a connection.
    fn pair() -> (Transport, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        let ours = async_io::block_on(dial_tcp(target, None)).unwrap_or_else(|_| panic!("not connected"));
        (ours, listener.accept().unwrap().0)
    }

    #[test]
    fn what_is_written_does_not_wait_for_an_acknowledgement() {
        let (Transport::Plain(Plain::Tcp(tcp)), _peer) = pair() else { panic!("not TCP") };
        assert!(tcp.socket.get_ref().nodelay().unwrap());
    }

    #[cfg(unix)]
    fn comes_to(expected: [bool; 3], asked: &[Option<&Transport>]) {
        let begun = std::time::Instant::now();
        while are_silent(asked).get(..3) != Some(&expected) {
            assert!(begun.elapsed().as_secs() < 30, "{:?}", are_silent(asked));
            std::thread::yield_now();
        }
    }

    #[test]
    #[cfg(unix)]
    fn one_that_has_spoken_or_gone_is_not_silent() {
        let (quiet, _quiet) = pair();
        let (speaking, mut speaker) = pair();
        let (ended, leaver) = pair();
        let asked = [Some(&quiet), Some(&speaking), Some(&ended)];
        assert_eq!(are_silent(&asked).get(..4), Some(&[true, true, true, false][..]));
        speaker.write_all(b"x").unwrap();
        comes_to([true, false, true], &asked);
        drop(leaver);
        comes_to([true, false, false], &asked);
    }

    #[test]
    fn one_that_cannot_be_asked_is_not_silent() {
        let custom = Transport::Plain(Plain::Custom(Box::new(futures_lite::io::Cursor::new(Vec::new()))));
        assert_eq!(are_silent(&[None, Some(&custom)]), [false; MOST_ASKED]);
        let (quiet, _quiet) = pair();
        let mixed = are_silent(&[None, Some(&custom), Some(&quiet)]);
        assert_eq!(mixed.get(..3), Some(&[false, false, cfg!(unix)][..]));
    }
}
