//! The mailer's handle for others: what they order is kept as data, wakes the task that
//! polls a call, and is carried out at the next settle. Nothing here waits, and nothing
//! touches the mailer.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Instant;

use super::Mailer;
use crate::coordinator::{Coordinator, Limited, Progress};
use crate::error::Error;
use crate::host::{LaneId, MAX_THREADS};
use crate::limits::Rate;
use crate::sweep::Sweep;

/// Controls a [`Mailer`] while its calls run: from another thread or task, or from a
/// callback. It is made by [`Mailer::control`], and clones control the same mailer.
///
/// An order takes effect at once where a call of the mailer is being polled, which it
/// wakes, and else with the next call: nothing runs behind the caller's back. What is
/// dealt at the very moment is finished as if it had been dealt before. None of these
/// calls waits for the mailer, and where that is gone they have no effect. They are not
/// meant for a signal's handler itself: crates such as `async-signal` bring signals to
/// where they can be called.
///
/// ```
/// # #[cfg(feature = "sink")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use smtp_bulk::{Envelope, Error, Host, Mailer, Message};
///
/// # let sink = smtp_bulk::sink::Sink::start()?;
/// # let address = sink.address().to_string();
/// # smol::block_on(async {
/// let mut mailer = Mailer::builder().host(Host::new(address).hello("client.example")).connect().await?;
/// let control = mailer.control();
/// let stopper = std::thread::spawn(move || control.drain());
///
/// let envelope = Envelope::parse("news@example.org", ["ann@example.net"])?;
/// let mail = Message::new(envelope, "Subject: hello\r\n\r\nHello.\r\n");
/// let mut mails = std::iter::repeat(mail).take(1_000);
/// match mailer.send_all(&mut mails).await {
///     Err(Error::Draining(_)) => println!("{} were not asked for", mails.len()),
///     others => others?,
/// }
/// let summary = mailer.quit().await?;
/// assert_eq!(summary.mails.delivered + mails.len() as u64, 1_000);
/// # stopper.join().unwrap();
/// # Ok(())
/// # })
/// # }
/// # #[cfg(not(feature = "sink"))]
/// # fn main() {}
/// ```
#[derive(Clone)]
pub struct Control {
    shared: Arc<Shared>,
}

struct Shared {
    wishes: Mutex<Wishes>,
    /// Something was ordered since the mailer looked last.
    has_news: AtomicBool,
    /// Wakes the task that polls a call of the mailer.
    waker: Waker,
    hosts: u32,
}

/// How the mailer is to be.
#[derive(Default)]
struct Wishes {
    is_paused: bool,
    is_draining: bool,
    /// What is to be changed once: of two about the same thing the later one, so that
    /// there are never many.
    orders: Vec<Order>,
}

/// A change that is made once.
#[derive(Clone, Copy, Debug)]
enum Order {
    Rate(Limited, Option<Rate>),
    Threads(u32, u32),
}

impl Order {
    fn is_about_the_same(&self, other: &Order) -> bool {
        match (self, other) {
            (Order::Rate(one, _), Order::Rate(other, _)) => one == other,
            (Order::Threads(one, _), Order::Threads(other, _)) => one == other,
            (Order::Rate(..) | Order::Threads(..), _) => false,
        }
    }
}

impl Control {
    /// Of the mailer that has this.
    pub(super) fn new(sweep: &Sweep) -> Control {
        Control::of(sweep.hosts(), sweep.caller())
    }

    fn of(hosts: usize, waker: Waker) -> Control {
        let hosts = u32::try_from(hosts).unwrap_or(u32::MAX);
        let (wishes, has_news) = (Mutex::default(), AtomicBool::new(false));
        Control { shared: Arc::new(Shared { wishes, has_news, waker, hosts }) }
    }

    // ---- pause and drain --------------------------------------------------

    /// Has no mail dealt any more. What was dealt is finished, lost connections are
    /// opened again, and those at rest are kept as ever
    /// ([`Host::keep_alive`](crate::Host::keep_alive),
    /// [`Host::noop_after`](crate::Host::noop_after)). [`Mailer::send`] waits once as
    /// many messages are held as there is room for, and [`Mailer::flush`] and
    /// [`Mailer::quit`] wait while any is. Messages whose
    /// [retry delay](crate::MailerBuilder::retry_delay) is over wait, too.
    pub fn pause(&self) {
        self.wish(|wishes| wishes.is_paused = true);
    }

    /// Ends a pause, and has messages taken again after [`Control::drain`].
    pub fn resume(&self) {
        self.wish(|wishes| (wishes.is_paused, wishes.is_draining) = (false, false));
    }

    /// Has no message taken any more, and sends those that are held, in short batches,
    /// too. It ends a pause. The calls that take messages, or come to do so, send what
    /// is held and then return [`Error::Draining`], as does [`Mailer::idle`]; only
    /// [`Mailer::try_send`] gives its message back at once. [`Mailer::send_all`] and
    /// [`Mailer::send_stream`] do not ask for further ones meanwhile. Messages that
    /// wait for their [retry delay](crate::MailerBuilder::retry_delay) are not waited
    /// for. [`Mailer::quit`] comes next, or [`Control::resume`].
    pub fn drain(&self) {
        self.wish(|wishes| (wishes.is_paused, wishes.is_draining) = (false, true));
    }

    /// Whether a pause was ordered and not ended.
    pub fn is_paused(&self) -> bool {
        self.wishes().is_paused
    }

    /// Whether [`Control::drain`] was ordered and not undone.
    pub fn is_draining(&self) -> bool {
        self.wishes().is_draining
    }

    // ---- rates ------------------------------------------------------------

    /// Changes the rate of a host, by its position among those that the builder was
    /// given ([`LaneId::host`]); `None` is no limit. What was saved up is cut to the new
    /// burst, and what is missing to the next mail stays so: in any time *t* no more
    /// mails are begun than the burst at its begin and what the rates give in it. A
    /// [warm-up](Rate::warm_up) begins anew.
    ///
    /// # Errors
    /// When there is no such host, or this can be no rate.
    pub fn set_rate(&self, host: u32, rate: Option<Rate>) -> Result<(), Error> {
        self.check_host(host)?;
        self.set(Limited::Mails(Some(host)), rate, "set_rate")
    }

    /// Changes the rate over all hosts in the same way.
    ///
    /// # Errors
    /// When this can be no rate.
    pub fn set_total_rate(&self, rate: Option<Rate>) -> Result<(), Error> {
        self.set(Limited::Mails(None), rate, "set_total_rate")
    }

    /// Changes how many octets are sent to a host in a time: see
    /// [`Host::byte_rate`](crate::Host::byte_rate), and [`Control::set_rate`].
    ///
    /// # Errors
    /// When there is no such host, or this can be no rate.
    pub fn set_byte_rate(&self, host: u32, rate: Option<Rate>) -> Result<(), Error> {
        self.check_host(host)?;
        self.set(Limited::Octets(Some(host)), rate, "set_byte_rate")
    }

    /// Changes how many octets are sent to all hosts in a time in the same way.
    ///
    /// # Errors
    /// When this can be no rate.
    pub fn set_total_byte_rate(&self, rate: Option<Rate>) -> Result<(), Error> {
        self.set(Limited::Octets(None), rate, "set_total_byte_rate")
    }

    // ---- threads ----------------------------------------------------------

    /// Changes the number of [threads](crate::Host::threads) of a host, by its position.
    /// Lanes that are to go finish what they hold, and say QUIT; those that come are
    /// opened at once. A lane that is not wanted any more is
    /// [`Standing::Benched`](crate::Standing::Benched), keeps its memory, and comes back
    /// when there are to be more again, or when another one of its host is retired. How
    /// many messages are held follows. Descriptors are not checked: where they run out,
    /// openings wait.
    ///
    /// # Errors
    /// When there is no such host, or there are none or more than [`MAX_THREADS`].
    pub fn set_threads(&self, host: u32, threads: u32) -> Result<(), Error> {
        self.check_host(host)?;
        if threads == 0 || threads > MAX_THREADS {
            let problem = "there must be 1 to 100000 threads";
            return Err(Error::Setting { name: "set_threads", problem });
        }
        self.order(Order::Threads(host, threads));
        Ok(())
    }

    // ---- inside -----------------------------------------------------------

    fn check_host(&self, host: u32) -> Result<(), Error> {
        let is_known = host < self.shared.hosts;
        if is_known { Ok(()) } else { Err(Error::NoSuchLane(LaneId { host, thread: 0 })) }
    }

    fn set(&self, of: Limited, rate: Option<Rate>, name: &'static str) -> Result<(), Error> {
        if let Some(problem) = rate.and_then(Rate::problem) {
            return Err(Error::Setting { name, problem });
        }
        self.order(Order::Rate(of, rate));
        Ok(())
    }

    fn order(&self, order: Order) {
        self.wish(|wishes| {
            wishes.orders.retain(|old| !old.is_about_the_same(&order));
            wishes.orders.push(order);
        });
    }

    fn wish(&self, change: impl FnOnce(&mut Wishes)) {
        change(&mut self.wishes());
        self.shared.has_news.store(true, Ordering::Release);
        // Nothing is locked any more: to wake may be to poll.
        self.shared.waker.wake_by_ref();
    }

    fn wishes(&self) -> MutexGuard<'_, Wishes> {
        self.shared.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is wished, and what is to be changed once, if anything is new.
    fn news(&self) -> Option<Wishes> {
        if !self.shared.has_news.load(Ordering::Acquire) {
            return None;
        }
        // First, so that what is ordered from now on is news again.
        self.shared.has_news.store(false, Ordering::Release);
        let mut wishes = self.wishes();
        let orders = std::mem::take(&mut wishes.orders);
        Some(Wishes { orders, ..*wishes })
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Wishes { is_paused, is_draining, .. } = *self.wishes();
        let mut shown = f.debug_struct("Control");
        shown.field("is_paused", &is_paused).field("is_draining", &is_draining).finish_non_exhaustive()
    }
}

impl Mailer {
    /// A handle to pause, resume and drain this mailer, and to change its rates and
    /// threads, while its calls run.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Carries out what was ordered since the last time.
    pub(super) fn obey(&mut self) {
        let Some(wishes) = self.control.news() else { return };
        self.coordinator.set_paused(wishes.is_paused);
        self.coordinator.set_draining(wishes.is_draining);
        let now = Instant::now();
        for order in wishes.orders {
            match order {
                // That there is such a host was checked.
                Order::Rate(of, rate) => drop(self.coordinator.set_rate(of, rate, now)),
                Order::Threads(host, threads) => drop(self.coordinator.set_threads(host, threads, now)),
            }
        }
    }

    /// Where no message is taken any more: sends what is held, and says so. Returns at
    /// once where messages are taken, and as soon as they are again.
    pub(super) async fn until_taking(&mut self) -> Result<(), Error> {
        self.check_open()?;
        self.obey();
        if !self.coordinator.is_draining() {
            return Ok(());
        }
        self.expect_mails(false, false);
        self.drive(|coordinator, progress| !coordinator.is_draining() || is_flushed(coordinator, progress))
            .await?;
        if self.coordinator.is_draining() { Err(Error::Draining(Vec::new())) } else { Ok(()) }
    }
}

/// Whether no message is held but those that wait for their retry delay.
pub(super) fn is_flushed(coordinator: &Coordinator, progress: &Progress) -> bool {
    coordinator.open_mails() == coordinator.delayed() as u64 && !progress.batch_running
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn of(hosts: usize) -> (Control, Arc<Counter>) {
        let counter = Arc::new(Counter::default());
        (Control::of(hosts, Waker::from(Arc::clone(&counter))), counter)
    }

    #[test]
    fn a_drain_ends_a_pause_and_a_resume_ends_both() {
        let (control, _) = of(1);
        let is = |control: &Control| (control.is_paused(), control.is_draining());
        assert_eq!(is(&control), (false, false));
        control.pause();
        assert_eq!(is(&control), (true, false));
        control.clone().drain();
        assert_eq!(is(&control), (false, true));
        control.pause();
        assert_eq!(is(&control), (true, true), "what is held waits, and no more is taken");
        assert_eq!(format!("{control:?}"), "Control { is_paused: true, is_draining: true, .. }");
        control.resume();
        assert_eq!(is(&control), (false, false));
    }

    #[test]
    fn each_order_wakes_the_task_and_is_news_once() {
        let (control, woken) = of(1);
        assert!(control.news().is_none());
        control.pause();
        control.set_rate(0, None).unwrap();
        assert_eq!(woken.0.load(Ordering::Relaxed), 2);
        let news = control.news().unwrap();
        assert_eq!((news.is_paused, news.orders.len()), (true, 1));
        assert!(control.news().is_none());
        control.resume();
        let news = control.news().unwrap();
        assert_eq!((news.is_paused, news.orders.len()), (false, 0), "a change is made once");
    }

    #[test]
    fn of_orders_that_nobody_has_looked_at_the_last_about_each_thing_is_kept() {
        let (control, _) = of(2);
        for mails in 1..1_000 {
            control.set_rate(mails % 2, Some(Rate::per_second(f64::from(mails)))).unwrap();
            control.set_total_rate((mails % 2 == 0).then(|| Rate::per_second(1.0))).unwrap();
        }
        let mut orders = control.news().unwrap().orders;
        orders.sort_by_key(|order| {
            if let Order::Rate(Limited::Mails(Some(host)), _) = order { *host } else { u32::MAX }
        });
        let rate = |mails: f64| Some(Rate::per_second(mails));
        let [Order::Rate(first, even), Order::Rate(second, odd), Order::Rate(third, None)] = orders[..]
        else {
            panic!("{orders:?}");
        };
        assert_eq!([first, second, third], [Some(0), Some(1), None].map(Limited::Mails));
        assert_eq!((even, odd), (rate(998.0), rate(999.0)));
    }

    #[test]
    fn what_can_be_no_rate_or_is_for_no_host_is_an_error_and_no_order() {
        let (control, woken) = of(2);
        let wrong = Some(Rate::per_second(0.0));
        assert_eq!(
            control.set_rate(0, wrong).unwrap_err().to_string(),
            "set_rate: a rate is above 0 mails, and not without end"
        );
        assert!(matches!(
            control.set_total_rate(wrong).unwrap_err(),
            Error::Setting { name: "set_total_rate", .. }
        ));
        let stranger = control.set_rate(2, None).unwrap_err();
        assert!(matches!(stranger, Error::NoSuchLane(LaneId { host: 2, .. })));
        assert!(control.news().is_none() && woken.0.load(Ordering::Relaxed) == 0);
    }
}
