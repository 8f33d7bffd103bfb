//! The server's thread: accepts connections and runs all of them.
//!
//! A shortage of descriptors or memory pauses accepting until a connection ends; it must never
//! make the loop spin, and never end it.

use std::cell::RefCell;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
#[cfg(unix)]
use std::os::fd::OwnedFd;
#[cfg(unix)]
use std::os::unix::net::UnixListener;
#[cfg(unix)]
use std::path::Path;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use smol::channel::{Receiver, Sender, bounded};
use smol::future::{self, FutureExt};
use smol::{Async, LocalExecutor, Timer};
#[cfg(unix)]
use socket2::SockAddr;
use socket2::{Domain, Protocol, Socket, Type};

use super::connection::{Connection, Ending, SCRATCH_SIZE};
use super::dialogue::{Dialogue, Shared};
use super::idle::{Pulse, Watch};
use super::ledger::Ledger;
use super::reply;

/// Connections that the kernel may hold before they are accepted. Many lanes connect at once, and
/// one that finds the queue full loses a second; std's own 128 is too short for that.
const BACKLOG: i32 = 4096;

/// How long accepting pauses in a shortage when no connection ends meanwhile.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(200);

/// A socket that clients connect to.
pub(super) enum Listener {
    Tcp(Async<TcpListener>),
    #[cfg(unix)]
    Unix(Async<UnixListener>),
}

impl Listener {
    async fn accept(&self) -> io::Result<Async<TcpStream>> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| stream),
            #[cfg(unix)]
            Self::Unix(listener) => {
                let stream = listener.accept().await?.0.into_inner()?;
                // A stream is read, written and shut down in the same way whatever its family, and
                // nothing else is done with it.
                Async::new_nonblocking(TcpStream::from(OwnedFd::from(stream)))
            }
        }
    }
}

/// Opens the listening socket of TCP.
pub(super) fn listen(address: SocketAddr) -> io::Result<Async<TcpListener>> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Async::new(TcpListener::from(socket))
}

/// Opens the listening socket of a path, where nothing may be yet.
#[cfg(unix)]
pub(super) fn listen_on_path(path: &Path) -> io::Result<Async<UnixListener>> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    Async::new(UnixListener::from(OwnedFd::from(socket)))
}

/// Serves until the other end of `stop` is gone; then every connection is dropped.
pub(super) fn run(listeners: Vec<Listener>, shared: Shared, stop: &Receiver<()>) {
    let executor = Rc::new(LocalExecutor::new());
    let watch = Rc::new(Watch::default());
    if let Some(timeout) = shared.settings.idle_timeout {
        let watch = Rc::clone(&watch);
        let keeping = async move { watch.keep(timeout).await };
        executor.spawn(keeping).detach();
    }
    let (ended, connection_ended) = bounded(1);
    let server = Rc::new(Server {
        executor: Rc::downgrade(&executor),
        shared: Rc::new(shared),
        scratch: Rc::new(RefCell::new(vec![0; SCRATCH_SIZE])),
        watch,
        ended,
    });
    // Tasks, because what is given to `run` is polled whenever anything at all has happened.
    for listener in listeners {
        let (server, connection_ended) = (Rc::clone(&server), connection_ended.clone());
        executor.spawn(async move { server.accept(&listener, &connection_ended).await }).detach();
    }
    drop(server);
    // Nothing is ever sent: this ends with an error, when the sender is dropped.
    let _ = smol::block_on(executor.run(stop.recv()));
}

struct Server {
    /// Weak, because the executor owns the task that owns this.
    executor: Weak<LocalExecutor<'static>>,
    shared: Rc<Shared>,
    scratch: Rc<RefCell<Vec<u8>>>,
    watch: Rc<Watch>,
    ended: Sender<()>,
}

impl Server {
    async fn accept(&self, listener: &Listener, ended: &Receiver<()>) {
        loop {
            match listener.accept().await {
                Ok(stream) => self.admit(stream),
                Err(error) if is_about_one_connection(&error) => {}
                Err(_) => pause(ended).await,
            }
            // Those who are connected go on while others arrive.
            future::yield_now().await;
        }
    }

    fn admit(&self, stream: Async<TcpStream>) {
        let visit = Visit::begin(self);
        if self.watch.len() > self.shared.settings.max_connections {
            return turn_away(&stream, self.shared.is_tls_at_once());
        }
        let dialogue = Dialogue::new(Rc::clone(&self.shared), visit.number);
        let pulse = Rc::clone(&visit.pulse);
        let connection = Connection::new(stream, Rc::clone(&self.scratch), dialogue, pulse);
        let task = async move {
            let mut visit = visit;
            visit.lost = connection.serve().await == Ending::Lost;
        };
        if let Some(executor) = self.executor.upgrade() {
            executor.spawn(task).detach();
        }
    }
}

/// A connection's entry in the books; it is dropped behind the socket, and strikes itself out.
struct Visit {
    number: u64,
    lost: bool,
    pulse: Rc<Pulse>,
    watch: Rc<Watch>,
    ledger: Arc<Ledger>,
    ended: Sender<()>,
}

impl Visit {
    fn begin(server: &Server) -> Self {
        let ledger = Arc::clone(&server.shared.ledger);
        let number = ledger.opened();
        Self {
            number,
            lost: false,
            pulse: server.watch.begin(number),
            watch: Rc::clone(&server.watch),
            ledger,
            ended: server.ended.clone(),
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.watch.end(self.number);
        self.ledger.closed(self.lost);
        // A full channel has the same news in it already.
        let _ = self.ended.try_send(());
    }
}

/// Tells one connection too many so, unless it could not read that; the socket is new, so the reply
/// cannot block.
fn turn_away(stream: &Async<TcpStream>, tls: bool) {
    if !tls {
        let _ = io::Write::write(&mut stream.get_ref(), reply::TOO_MANY_CONNECTIONS);
    }
    let _ = stream.get_ref().shutdown(Shutdown::Write);
}

/// Whether accepting may go on at once.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// Waits until a connection has ended, or a little in case the shortage is another's doing.
async fn pause(ended: &Receiver<()>) {
    let freed = async {
        let _ = ended.recv().await;
    };
    let time = async {
        Timer::after(SHORTAGE_PAUSE).await;
    };
    freed.or(time).await;
}
