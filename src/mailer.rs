//! The mailer: the coordinator, the connections and the caller's handler in
//! one, driven by whichever call is being polled. Nothing runs behind the
//! caller's back, and no state lives in a future.

mod asking;
mod builder;
mod control;
mod quit;
mod watch;

use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_lite::future;
use futures_lite::stream::{Stream, StreamExt};

pub use builder::MailerBuilder;
pub use control::Control;
use control::is_flushed;
pub use quit::Quit;
use watch::Watch;

use crate::auth::Credentials;
use crate::coordinator::{Coordinator, HostStatus, LaneStatus, Progress};
use crate::error::{Error, Full};
use crate::host::LaneId;
use crate::message::Message;
use crate::summary::Summary;
use crate::sweep::Sweep;
use crate::timeouts::after;

/// Sweeps in a row that never had to wait, after which others get a turn.
const SWEEPS_PER_TURN: u32 = 32;

/// Sends many mails over many sessions in lockstep.
///
/// Every message that is taken ends in exactly one report, or is given back by
/// an error or by [`Mailer::abort`]. All state lives here: when the future of
/// a call is dropped, progress stops, deadlines run on, and the next call goes
/// on from there. Any executor will do.
///
/// ```no_run
/// use smtp_bulk::{Error, Host, Mailer, Message, Summary};
///
/// async fn send(mails: Vec<Message>) -> Result<Summary, Error> {
///     let host = Host::new("mx.example.org").threads(50).hello("client.example");
///     let mut mailer = Mailer::builder().host(host).connect().await?;
///     mailer.send_all(mails).await?;
///     mailer.quit().await
/// }
/// ```
///
/// A mailer that is dropped while it holds mail closes its connections and
/// reports every message (unsent, or in doubt); while unwinding from a panic
/// it only logs how many there were.
///
/// A callback that panics loses no mail: the panic comes out of the call that
/// was being polled, the event counts as answered with [`Verdict::DEFAULT`](crate::Verdict::DEFAULT),
/// and the mailer can be used further. A report that panics has been given its
/// message, which is gone with it.
pub struct Mailer {
    coordinator: Coordinator,
    sweep: Sweep,
    watch: Watch,
    progress: Progress,
    control: Control,
    is_closed: bool,
    /// When a call wants to look again, whatever else is due.
    look_at: Option<Instant>,
}

impl Mailer {
    /// Begins with the settings.
    pub fn builder() -> MailerBuilder {
        MailerBuilder::default()
    }

    // ---- mails ------------------------------------------------------------

    /// Takes a message. When every lane in use has as many as it is dealt at a
    /// time ([`Host::depth`](crate::Host::depth), by default one), the batch runs
    /// before this returns; while as many are held as all lanes may hold, this
    /// waits. No server is left waiting for a content, but see
    /// [`Pace::Free`](crate::Pace::Free).
    ///
    /// When the future is dropped before it is done, a message that had not
    /// been taken is dropped with it: [`Mailer::ready`] and
    /// [`Mailer::try_send`] never lose one.
    ///
    /// # Errors
    /// When every lane is retired or the mailer is closed; the error gives
    /// back `message` and all others that had no final outcome. When it is
    /// [drained](Control::drain); the error gives back `message`.
    pub async fn send(&mut self, message: Message) -> Result<(), Error> {
        self.take_when_ready(message).await?;
        self.run_due().await
    }

    /// Takes a message if there is room. No batch runs before the next call
    /// that waits, such as [`Mailer::ready`].
    ///
    /// # Errors
    /// Gives the message back when as many are held as all lanes may hold, or as many
    /// wait for the one host that it [may go to](Message::host) as that host's lanes may
    /// hold, or the mailer is closed or drained; [`Mailer::ready`] tells which.
    pub fn try_send(&mut self, message: Message) -> Result<(), Full> {
        self.obey();
        if self.is_closed || !self.coordinator.has_room_for(&message) {
            return Err(Full(message));
        }
        self.coordinator.take(message, Instant::now()).map_err(Full)
    }

    /// Runs batches that are due and waits until there is room for a message.
    ///
    /// # Errors
    /// When every lane is retired, or the mailer is closed or drained.
    pub async fn ready(&mut self) -> Result<(), Error> {
        loop {
            self.run_due().await?;
            self.check_open()?;
            if self.has_room() {
                return Ok(());
            }
            self.make_room(None).await?;
        }
    }

    /// Takes all messages of an iterator, with back-pressure: the next one is
    /// asked for when there is room for it. One for a [host](Message::host) of its own
    /// that has no room is taken as well, and the next one is asked for when it has. At level 2 without CHUNKING
    /// ([`Pipeline::Full`](crate::Pipeline::Full)) that is faster than
    /// [`Mailer::send`] in a loop, as the next message is at hand when a lane can
    /// send its envelope.
    ///
    /// # Errors
    /// As [`Mailer::send`]; what the iterator has not given yet is still there
    /// when it was passed by `&mut`.
    pub async fn send_all<I>(&mut self, messages: I) -> Result<(), Error>
    where
        I: IntoIterator<Item = Message>,
    {
        let mut messages = messages.into_iter();
        loop {
            self.until_taking().await?;
            // One look at the clock, when the first has come, for all that are at hand.
            let mut begun = None;
            while self.has_room() {
                match messages.next() {
                    Some(message) => self.take(message, *begun.get_or_insert_with(Instant::now))?,
                    None => {
                        self.run_due().await?;
                        self.write_begun().await;
                        return Ok(());
                    }
                }
            }
            self.run_while_fed().await?;
        }
    }

    /// Takes all messages of a stream, with back-pressure. While the stream
    /// has none, what is under way goes on, and with
    /// [`MailerBuilder::linger`] short batches run.
    ///
    /// # Errors
    /// As [`Mailer::send`].
    pub async fn send_stream<S>(&mut self, mut messages: S) -> Result<(), Error>
    where
        S: Stream<Item = Message> + Unpin,
    {
        let control = self.control();
        loop {
            self.until_taking().await?;
            while self.has_room() {
                match future::poll_once(messages.next()).await {
                    Some(Some(message)) => self.take(message, Instant::now())?,
                    Some(None) => return self.run_due().await,
                    None => {
                        self.run_due().await?;
                        let next = poll_fn(|cx| match control.is_draining() {
                            true => Poll::Pending,
                            false => messages.poll_next(cx).map(Ok),
                        });
                        let idle = async { self.idle().await.map(|never| match never {}) };
                        // It is the mailer that hears of an order, and so it comes first.
                        match future::or(idle, next).await? {
                            Some(message) => self.take_when_ready(message).await?,
                            None => return self.run_due().await,
                        }
                    }
                }
            }
            self.run_while_fed().await?;
        }
    }

    /// Runs batches, short ones too, until no message is held but those that wait for
    /// their [retry delay](MailerBuilder::retry_delay), or for a [host](Message::host) that
    /// rests while another one is at work, and says how many do. In a
    /// [pause](Control::pause) what is held waits for its end, and so does this.
    ///
    /// # Errors
    /// When every lane is retired: gives back what could not be sent.
    pub async fn flush(&mut self) -> Result<usize, Error> {
        self.check_open()?;
        self.expect_mails(true, false);
        let flushed = self.drive(is_flushed).await;
        self.coordinator.set_flushing(false);
        flushed.map(|()| self.coordinator.delayed())
    }

    /// Drives what is under way, short batches after
    /// [`MailerBuilder::linger`] and due reconnects included, and never ends
    /// by itself: wait for it together with whatever brings the next message.
    ///
    /// # Errors
    /// When every lane is retired, the mailer is closed, or it is
    /// [drained](Control::drain) and all that was held is sent.
    pub async fn idle(&mut self) -> Result<Infallible, Error> {
        loop {
            self.until_taking().await?;
            self.expect_mails(false, false);
            self.drive(|coordinator, _| coordinator.is_draining()).await?;
        }
    }

    // ---- connections ------------------------------------------------------

    /// Authenticates with these credentials, which stand in for those of **every**
    /// host, its own included: [`Mailer::auth_host`] is for one. At once on each session that is not authenticated yet, and on the
    /// others when they are opened again. Returns as `connect` does: when every
    /// session was tried once and one is in use. Lanes that were retired because
    /// their credentials were refused are opened again; others that are retired
    /// stay so before [`Mailer::restart`].
    ///
    /// # Errors
    /// When the credentials are not whole, a host's sessions have no TLS and
    /// the credentials do not say that it is meant, every lane is retired, or
    /// the mailer is closed.
    pub async fn auth(&mut self, credentials: Credentials) -> Result<(), Error> {
        self.check_open()?;
        self.check_credentials(&credentials, |_| true)?;
        self.coordinator.authenticate(&credentials, Instant::now());
        self.expect_mails(false, false);
        self.settle();
        self.until_connected().await
    }

    /// The same for one host, by its position among those that the builder was
    /// given ([`LaneId::host`]): no other host is told these credentials.
    ///
    /// # Errors
    /// As [`Mailer::auth`], and when there is no such host.
    pub async fn auth_host(&mut self, host: u32, credentials: Credentials) -> Result<(), Error> {
        self.check_open()?;
        let is_meant = |lane: &LaneId| lane.host == host;
        if !self.coordinator.lanes().iter().any(|lane| is_meant(&lane.id())) {
            return Err(Error::NoSuchLane(LaneId { host, thread: 0 }));
        }
        self.check_credentials(&credentials, is_meant)?;
        self.coordinator.authenticate_host(host, &credentials, Instant::now());
        self.expect_mails(false, false);
        self.settle();
        self.until_connected().await
    }

    /// Opens one lane anew and waits until that was tried. Its mail, if it
    /// has one whose content is not out, is tried again without losing an
    /// attempt. Works for a retired lane, too.
    ///
    /// # Errors
    /// When there is no such lane, every lane is retired, or the mailer is
    /// closed.
    pub async fn reconnect(&mut self, lane: LaneId) -> Result<(), Error> {
        self.check_open()?;
        if !self.coordinator.reconnect(lane) {
            return Err(Error::NoSuchLane(lane));
        }
        self.expect_mails(false, false);
        self.settle();
        self.drive(|_, progress| progress.untried == 0).await
    }

    /// Opens every connection anew, retired lanes and a closed mailer
    /// included, and resolves names again. Returns as `connect` does: when
    /// every lane was tried once and one is in use.
    ///
    /// # Errors
    /// When every lane is retired.
    pub async fn restart(&mut self) -> Result<(), Error> {
        self.is_closed = false;
        self.sweep.forget_names();
        self.coordinator.restart();
        self.expect_mails(false, false);
        self.settle();
        self.until_connected().await
    }

    /// Sends what is held, says QUIT on every session, and closes the mailer. Messages
    /// that wait as for [`Mailer::flush`] are reported
    /// abandoned, with what their servers said last, or what is wrong with them; [`Mailer::quit_with`] can wait
    /// for them. In a [pause](Control::pause) what is held waits for its end, and so does
    /// this.
    ///
    /// # Errors
    /// When every lane is retired before all is sent: gives back the rest.
    pub async fn quit(&mut self) -> Result<Summary, Error> {
        self.quit_with(Quit::default()).await
    }

    /// The same, with a name for the debug output, or with patience for messages
    /// that wait.
    ///
    /// # Errors
    /// As [`Mailer::quit`].
    pub async fn quit_with(&mut self, quit: Quit) -> Result<Summary, Error> {
        if self.is_closed && self.progress.connected == 0 {
            return Ok(self.summary());
        }
        if !self.is_closed {
            self.wait_for_delayed(quit.patience).await?;
            self.coordinator.abandon_delayed(&mut self.watch);
            self.coordinator.say_goodbye(Instant::now());
            self.is_closed = true;
        }
        while self.progress.connected > 0 {
            self.settle();
            if self.progress.connected > 0 {
                self.sweep_once().await;
            }
        }
        self.sweep.hang_up();
        let summary = self.summary();
        self.watch.journal.summary(format_args!("quit {}: {summary}", quit.id));
        Ok(summary)
    }

    /// Closes all connections at once and gives back every message that has
    /// no final outcome for any recipient; the others are reported, those
    /// whose whole content is out and unanswered as in doubt.
    pub fn abort(&mut self) -> Vec<Message> {
        self.is_closed = true;
        let returned = self.coordinator.abort(Instant::now(), &mut self.watch);
        self.settle();
        self.sweep.hang_up();
        self.watch.journal.summary(format_args!("abort: {}", self.summary()));
        returned
    }

    // ---- what is known ----------------------------------------------------

    /// The counters as they are now.
    pub fn summary(&self) -> Summary {
        self.coordinator.summary(Instant::now())
    }

    /// What each host is doing now, as far as the last call has seen.
    pub fn hosts(&self) -> impl Iterator<Item = HostStatus<'_>> {
        self.coordinator.hosts(Instant::now())
    }

    /// What each lane is doing now. Nothing moves while no call is polled: each is then
    /// where the last call, dropped or not, has left it, and its time runs on.
    pub fn lanes(&self) -> impl Iterator<Item = LaneStatus<'_>> {
        let now = Instant::now();
        self.coordinator.lanes().iter().map(move |lane| lane.status(now))
    }

    // ---- inside -----------------------------------------------------------

    fn check_open(&self) -> Result<(), Error> {
        if self.is_closed { Err(Error::Closed(Vec::new())) } else { Ok(()) }
    }

    fn check_credentials(
        &self,
        credentials: &Credentials,
        is_meant: impl Fn(&LaneId) -> bool,
    ) -> Result<(), Error> {
        for lane in self.coordinator.lanes().iter().filter(|lane| is_meant(&lane.id())) {
            let host = lane.host();
            builder::check_credentials(credentials, host.security)
                .map_err(|problem| Error::Host { name: host.name.clone(), problem })?;
        }
        Ok(())
    }

    fn has_room(&mut self) -> bool {
        self.obey();
        self.coordinator.has_room() && !self.progress.is_retired()
    }

    fn take(&mut self, message: Message, now: Instant) -> Result<(), Error> {
        self.coordinator.take(message, now).map_err(|message| Error::Closed(vec![message]))
    }

    async fn take_when_ready(&mut self, message: Message) -> Result<(), Error> {
        match self.make_room(Some(&message)).await {
            Ok(()) => self.take(message, Instant::now()),
            Err(error) => Err(error.with_unsent(message)),
        }
    }

    /// Makes room, for this message if it is known.
    async fn make_room(&mut self, message: Option<&Message>) -> Result<(), Error> {
        let has_room = |coordinator: &Coordinator, progress: &Progress| {
            let has_room = match message {
                Some(message) => coordinator.has_room_for(message),
                None => coordinator.has_room(),
            };
            has_room && !progress.is_retired()
        };
        loop {
            self.until_taking().await?;
            if has_room(&self.coordinator, &self.progress) {
                return Ok(());
            }
            self.expect_mails(false, false);
            let is_done = |coordinator: &Coordinator, progress: &Progress| {
                coordinator.is_draining() || has_room(coordinator, progress)
            };
            self.drive(is_done).await?;
        }
    }

    async fn run_due(&mut self) -> Result<(), Error> {
        let is_done = |coordinator: &Coordinator| {
            let now = Instant::now();
            !coordinator.is_batch_due(now) && !coordinator.is_rest_due(now)
        };
        self.obey();
        self.expect_mails(false, false);
        if is_done(&self.coordinator) {
            return Ok(());
        }
        self.drive(|coordinator, _| is_done(coordinator)).await
    }

    /// Runs batches until there is room, or a lane waits for a message: the caller
    /// has more at hand. Ends when none is to be taken any more, too.
    async fn run_while_fed(&mut self) -> Result<(), Error> {
        self.expect_mails(false, true);
        let is_done = |coordinator: &Coordinator, progress: &Progress| {
            let has_room = coordinator.has_room() && !progress.is_retired();
            coordinator.is_draining()
                || progress.hungry > 0
                || (has_room && !coordinator.is_batch_due(Instant::now()))
        };
        let driven = self.drive_on(is_done).await;
        self.coordinator.set_feeding(false);
        driven
    }

    /// Whether short batches are to run, and whether more messages are at hand.
    fn expect_mails(&mut self, flushing: bool, feeding: bool) {
        self.coordinator.set_flushing(flushing);
        self.coordinator.set_feeding(feeding);
    }

    /// Sends what is held, and waits up to so long for what is delayed.
    async fn wait_for_delayed(&mut self, patience: Duration) -> Result<(), Error> {
        let deadline = after(Instant::now(), patience);
        while self.flush().await? > 0 && Instant::now() < deadline {
            self.expect_mails(true, false);
            self.look_at = Some(deadline);
            // The first one that is due is to be flushed, too.
            let is_done = |coordinator: &Coordinator, _: &Progress| {
                coordinator.open_mails() > coordinator.delayed() as u64 || Instant::now() >= deadline
            };
            let waited = self.drive(is_done).await;
            self.look_at = None;
            waited?;
        }
        Ok(())
    }

    async fn until_connected(&mut self) -> Result<(), Error> {
        self.drive(|_, progress| progress.untried == 0 && progress.active > 0).await
    }

    /// Settles and sweeps in turn until `is_done`, or every lane is retired;
    /// what is held then is given back at once, and not by a later call.
    ///
    /// It does not end while a server waits for a content.
    async fn drive(&mut self, is_done: impl Fn(&Coordinator, &Progress) -> bool) -> Result<(), Error> {
        self.drive_on(|coordinator, progress| is_done(coordinator, progress) && !coordinator.is_in_content())
            .await?;
        self.write_begun().await;
        Ok(())
    }

    /// What was begun is written before the caller does other things.
    async fn write_begun(&mut self) {
        if self.coordinator.pace().is_free() || self.coordinator.is_going_to_rest() {
            future::poll_once(self.sweep_once()).await;
        }
    }

    async fn drive_on(&mut self, is_done: impl Fn(&Coordinator, &Progress) -> bool) -> Result<(), Error> {
        let mut sweeps = 0;
        loop {
            self.settle();
            let is_retired = self.progress.is_retired();
            let is_stranded = is_retired && self.coordinator.open_mails() > 0;
            if !is_stranded && is_done(&self.coordinator, &self.progress) {
                return Ok(());
            }
            if is_retired {
                return Err(self.all_retired());
            }
            sweeps = if self.sweep_once().await { 0 } else { sweeps + 1 };
            if sweeps == SWEEPS_PER_TURN {
                sweeps = 0;
                future::yield_now().await;
            }
        }
    }

    fn settle(&mut self) {
        self.obey();
        self.progress = self.coordinator.settle(Instant::now(), &mut self.watch);
        self.sweep.settled();
        while let Some((host, lesson)) = self.coordinator.take_lesson() {
            let lanes = self.coordinator.lanes();
            if let Some(lane) = lanes.iter().find(|lane| lane.id().host == host) {
                log::warn!("{}: {lesson}", lane.host().name);
            }
        }
    }

    /// Says whether it had to wait.
    async fn sweep_once(&mut self) -> bool {
        // A call that was dropped may have left one that has passed.
        let look_at = self.look_at.filter(|at| *at > Instant::now());
        let wake_at = self.progress.wake_at.into_iter().chain(look_at).min();
        let coordinator = &mut self.coordinator;
        let mut has_waited = false;
        poll_fn(|cx| {
            let swept = self.sweep.poll(cx, coordinator, wake_at);
            self.sweep.tell_lines(|line| self.watch.callbacks.read(line));
            has_waited |= swept.is_pending();
            swept
        })
        .await;
        has_waited
    }

    fn all_retired(&mut self) -> Error {
        let unsent = self.coordinator.abort(Instant::now(), &mut self.watch);
        self.settle();
        self.sweep.hang_up();
        Error::AllRetired { unsent, last: self.watch.last_trouble.clone() }
    }
}

impl fmt::Debug for Mailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailer").field("progress", &self.progress).finish_non_exhaustive()
    }
}

impl Drop for Mailer {
    fn drop(&mut self) {
        let held = self.coordinator.open_mails();
        if held == 0 {
            return;
        }
        if std::thread::panicking() {
            log::error!("a mailer was dropped in a panic, with {held} messages unreported");
            return;
        }
        self.coordinator.abandon(Instant::now(), &mut self.watch);
    }
}
