//! What the caller orders at any time while all goes on: pauses, a drain, and other
//! rates; how things stand by these orders; and the rates that were in force.

use std::time::{Duration, Instant};

use fastrand::Rng;
use smtp_bulk::Rate;
use smtp_bulk::coordinator::{Coordinator, Lane, Limited, Link, Standing};

use super::plan::rate;

/// An order.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Order {
    Pause,
    /// Ends a pause, and a drain.
    Resume,
    /// Ends a pause, and has no mail taken any more.
    Drain,
    HostRate(u32, Option<Rate>),
    TotalRate(Option<Rate>),
}

/// Orders and when they come. Every pause ends.
pub fn draw(random: &mut Rng, hosts: u32) -> Vec<(Duration, Order)> {
    if random.u8(0..3) > 0 {
        return Vec::new();
    }
    let mut orders: Vec<(Duration, Order)> = (0..random.u32(1..7))
        .map(|_| {
            let reach = if random.bool() { 300 } else { 20_000 };
            let another = |random: &mut Rng| (random.u8(0..4) > 0).then(|| rate(random));
            let order = match random.u8(0..10) {
                0..=3 => Order::Pause,
                4..=5 => Order::Resume,
                6 => Order::Drain,
                7..=8 => Order::HostRate(random.u32(0..hosts), another(random)),
                _ => Order::TotalRate(another(random)),
            };
            (Duration::from_millis(random.u64(0..reach)), order)
        })
        .collect();
    orders.sort_by_key(|(at, _)| *at);
    let last = orders.last().map(|(at, _)| *at).unwrap_or_default();
    let end = if random.u8(0..4) == 0 { Order::Drain } else { Order::Resume };
    orders.push((last + Duration::from_millis(random.u64(0..20_000)), end));
    orders
}

/// How things stand.
#[derive(Debug)]
pub struct Standings {
    orders: Vec<(Duration, Order)>,
    pub is_paused: bool,
    pub is_draining: bool,
    /// The limits of each host and, last, of all: since when each is in force.
    rates: Vec<Vec<(Duration, Option<Rate>)>>,
    /// When how many mails were begun under each.
    begun: Vec<Vec<(Duration, u32)>>,
}

impl Standings {
    pub fn new(orders: Vec<(Duration, Order)>, rates: impl Iterator<Item = Option<Rate>>) -> Standings {
        let rates: Vec<_> = rates.map(|rate| vec![(Duration::ZERO, rate)]).collect();
        let begun = vec![Vec::new(); rates.len()];
        Standings { orders, is_paused: false, is_draining: false, rates, begun }
    }

    /// When the next order comes.
    pub fn next_at(&self) -> Option<Duration> {
        self.orders.first().map(|(at, _)| *at)
    }

    /// Whether no mail will be taken any more, whatever comes.
    pub fn is_drained_for_good(&self) -> bool {
        self.is_draining && !self.orders.iter().any(|(_, order)| *order == Order::Resume)
    }

    /// Gives the next order if it is due.
    pub fn obey_next(
        &mut self,
        coordinator: &mut Coordinator,
        now: Duration,
        epoch: Instant,
    ) -> Option<Order> {
        self.orders.first().filter(|(at, _)| *at <= now)?;
        let (_, order) = self.orders.remove(0);
        match order {
            Order::Pause => self.is_paused = true,
            Order::Resume => (self.is_paused, self.is_draining) = (false, false),
            Order::Drain => (self.is_paused, self.is_draining) = (false, true),
            Order::HostRate(host, rate) => {
                self.rates[host as usize].push((now, rate));
                assert!(coordinator.set_rate(Limited::Mails(Some(host)), rate, epoch + now));
            }
            Order::TotalRate(rate) => {
                self.rates.last_mut().expect("there is one").push((now, rate));
                assert!(coordinator.set_rate(Limited::Mails(None), rate, epoch + now));
            }
        }
        coordinator.set_paused(self.is_paused);
        coordinator.set_draining(self.is_draining);
        assert!(!self.is_draining || !coordinator.has_room());
        Some(order)
    }

    /// Whether any rate holds, or may have held back what is there.
    pub fn has_rates(&self) -> bool {
        self.rates.iter().flatten().any(|(_, rate)| rate.is_some())
    }

    /// So many mails were begun on a lane of the host.
    pub fn begins(&mut self, host: usize, mails: u32, now: Duration) {
        assert!(!self.is_paused, "{mails} mails are dealt in a pause");
        let all = self.begun.len() - 1;
        for place in [host, all] {
            self.begun[place].push((now, mails));
        }
    }

    /// Nothing moves: in a pause no server waits for a content either.
    pub fn check_still(&self, lanes: &[Lane]) {
        if !self.is_paused {
            return;
        }
        for lane in lanes.iter().filter(|lane| lane.held() > 0 && lane.standing() == Standing::Active) {
            let session = lane.session();
            let waits = session.is_over() && !session.has_answer() && session.failure().is_none();
            assert!(
                lane.link() != Link::Up || !waits,
                "{:?} leaves its server waiting in a pause",
                lane.id()
            );
        }
    }

    /// In no window are more mails begun than the burst at its begin, and what is gained
    /// in it.
    pub fn check_rates(&self) {
        for (begun, rates) in self.begun.iter().zip(&self.rates) {
            for (first, (from, _)) in begun.iter().enumerate() {
                let mut count = 0;
                for (to, mails) in begun.iter().skip(first) {
                    count += mails;
                    let Some(most) = most(rates, *from, *to) else { continue };
                    assert!(f64::from(count) <= most + 0.01, "{count} mails in {:?}: {rates:?}", *to - *from);
                }
            }
        }
    }
}

/// How many mails may be begun in this window, both ends included; `None` where there
/// was no limit for a part of it. A change at its very begin may have come behind a mail.
fn most(rates: &[(Duration, Option<Rate>)], from: Duration, to: Duration) -> Option<f64> {
    let (mut burst, mut gained) = (0.0_f64, 0.0);
    for (place, (since, rate)) in rates.iter().enumerate() {
        let until = rates.get(place + 1).map_or(Duration::MAX, |(until, _)| *until);
        if until < from || *since > to {
            continue;
        }
        let rate = (*rate)?;
        if *since <= from {
            burst = burst.max(f64::from(rate.most_at_once()));
        }
        let within = until.min(to).saturating_sub((*since).max(from));
        gained += rate.mails_per_second() * within.as_secs_f64();
    }
    Some(burst + gained)
}
