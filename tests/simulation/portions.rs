//! What hosts are given: how much of it is drawn for a run, and whether the
//! coordinator keeps to it.

use std::time::{Duration, Instant};

use fastrand::Rng;
use smtp_bulk::coordinator::{BatchSettings, Lane, Link, Standing};
use smtp_bulk::host::HostSettings;
use smtp_bulk::{HostChange, HostNews, Rate, Step};

use super::plan::{FEW, MailPlan, Plan, mail};

/// Of so many runs some have nothing of all this, some one thing, and the others several.
const KINDS: u8 = 16;

impl Plan {
    /// Says what hosts are given, each thing alone in some of the runs, and several
    /// together in others.
    pub fn portion(&mut self, random: &mut Rng, epoch: Instant) {
        let kind = random.u8(0..KINDS);
        let mut has = |own: u8| kind == own || kind > 9 && random.bool();
        let (octets, octets_of_all, weights, throttle) = (has(0), has(1), has(2), has(3));
        let (breaker, sessions, bound) = (has(4), has(5), has(6));
        if octets {
            for host in &mut self.hosts {
                host.byte_rate = random.bool().then(|| octet_rate(random));
            }
        }
        self.settings.total_byte_rate = octets_of_all.then(|| octet_rate(random));
        if weights {
            for host in &mut self.hosts {
                host.weight = (random.u8(0..4) > 0).then(|| random.u32(1..6));
            }
        }
        if throttle {
            self.throttle(random, epoch);
        }
        if breaker {
            for host in &mut self.hosts {
                host.circuit_breaker = (random.u8(0..4) > 0).then(|| random.u32(1..7));
            }
            if !self.faultless && random.bool() {
                self.odds.dial = self.odds.dial.max(0.3 * random.f64());
                self.odds.close = self.odds.close.max(0.2 * random.f64());
            }
        }
        let lanes: u32 = self.hosts.iter().map(|host| host.threads).sum();
        self.settings.total_sessions = sessions.then(|| random.usize(1..=lanes as usize));
        if bound {
            self.bind(random);
        }
    }

    /// A round is of twenty mails: there are more of them, and more are put off.
    fn throttle(&mut self, random: &mut Rng, epoch: Instant) {
        for host in &mut self.hosts {
            host.auto_throttle = random.u8(0..4) > 0;
        }
        if random.u8(0..3) == 0 {
            return;
        }
        let (faultless, flies) = (self.faultless, self.flies);
        for number in self.mails.len()..self.mails.len() + random.usize(1..100) {
            self.mails.push(mail(random, number, FEW, faultless, flies, epoch));
        }
        if faultless {
            return;
        }
        match random.u8(0..4) {
            0 => self.always = Some((Step::Mail, [450, 451, 421][random.usize(0..3)])),
            1..=2 => self.odds.refuse = 0.2 + 0.5 * random.f64(),
            _ => {}
        }
    }

    /// Has mails that may go to one host alone, a few of them to one that there is not.
    fn bind(&mut self, random: &mut Rng) {
        let hosts = self.hosts.len() as u32;
        let beyond = u32::from(!self.faultless && random.u8(0..3) == 0);
        let often = [0.1, 0.5, 1.0][random.usize(0..3)];
        let mails = std::mem::take(&mut self.mails).into_iter().map(|mail| {
            if random.f64() >= often {
                return mail;
            }
            MailPlan { message: mail.message.host(random.u32(0..hosts + beyond)), ..mail }
        });
        self.mails = mails.collect();
    }
}

fn octet_rate(random: &mut Rng) -> Rate {
    let burst = if random.bool() { random.u32(1..200) } else { random.u32(200..20_000) };
    let rate = Rate::per_second(200.0 + 5_000.0 * random.f64()).burst(burst);
    if random.u8(0..4) > 0 { rate } else { rate.warm_up(Duration::from_millis(random.u64(1..20_000))) }
}

/// What is known of one host.
#[derive(Clone, Debug, Default)]
struct Portion {
    depth: u32,
    /// So many mails at a time, or a few more by now, as it was told.
    slowed: Option<u32>,
    /// When one lane may try, where the host rests, or did and no mail was finished since.
    rests_until: Option<Duration>,
    /// None is given before this, unless one was not put off.
    paused_until: Duration,
    /// Mails that have left its lanes since it was slowed.
    parted: u32,
    /// It was in the settle that is made.
    is_news: bool,
}

/// What hosts may be given, as the caller was told.
#[derive(Debug)]
pub struct Portions {
    hosts: Vec<Portion>,
    sessions: Option<usize>,
}

/// Whether the lane waits for the time or the place to be opened.
pub fn is_waiting(lane: &Lane) -> bool {
    lane.standing() == Standing::Benched && lane.link() == Link::Down
}

impl Portions {
    pub fn new(hosts: &[HostSettings], settings: &BatchSettings) -> Portions {
        let portion = |host: &HostSettings| Portion { depth: host.depth.max(1), ..Portion::default() };
        Portions { hosts: hosts.iter().map(portion).collect(), sessions: settings.total_sessions }
    }

    /// Whether what there is room for may be less when a lane has gone to rest, so that it
    /// may be opened again at once.
    pub fn are_places_few(&self) -> bool {
        self.sessions.is_some()
            || self.hosts.iter().any(|host| host.slowed.is_some() || host.rests_until.is_some())
    }

    /// Something was told about a host.
    pub fn see(&mut self, change: &HostChange<'_>, now: Duration) {
        let host = &mut self.hosts[change.host as usize];
        match change.news {
            HostNews::Slowed { mails, pause } => {
                (host.slowed, host.paused_until, host.parted) = (Some(mails), now + pause, 0);
                host.is_news = true;
            }
            HostNews::Recovered => host.slowed = None,
            HostNews::Rests { time, .. } => host.rests_until = Some(now + time),
            HostNews::Back => host.rests_until = None,
            other => panic!("{other:?} is not known"),
        }
    }

    /// Whether a lane of the host could be opened now.
    pub fn has_place(&self, lanes: &[Lane], host: u32, now: Duration) -> bool {
        let own = &self.hosts[host as usize];
        let is_connected = |lane: &&Lane| lane.link() != Link::Down;
        let connected = lanes.iter().filter(is_connected).count();
        let of_host = lanes.iter().filter(is_connected).filter(|lane| lane.id().host == host).count();
        let slowed = own.slowed.map(|mails| mails.div_ceil(own.depth) as usize);
        let most = slowed.into_iter().chain(own.rests_until.map(|_| 1)).min();
        let rests = own.rests_until.is_some_and(|until| now < until);
        // Places are kept for hosts that are opened for mails and have none.
        let sleeps = |host: u32| {
            let mut lanes = lanes.iter().filter(|lane| lane.id().host == host);
            lanes.clone().all(|lane| lane.link() == Link::Down)
                && lanes.any(|lane| lane.standing() == Standing::Resting)
        };
        let kept = (0..self.hosts.len() as u32).filter(|other| *other != host && sleeps(*other)).count();
        let is_full = self.sessions.is_some_and(|most| connected + kept >= most);
        !rests && !is_full && most.is_none_or(|most| of_host < most)
    }

    /// No host is given more than it may be, after a settle that was whole: of each lane,
    /// what it held, the mails that it was dealt, and whether its connection is new.
    pub fn check(&mut self, lanes: &[Lane], before: &[(usize, u32, bool)], is_whole: bool, now: Duration) {
        let connected = lanes.iter().filter(|lane| lane.link() != Link::Down).count();
        assert!(self.sessions.is_none_or(|most| connected <= most), "{connected} connections");
        for (host, own) in (0..).zip(&mut self.hosts) {
            let mine = || lanes.iter().zip(before).filter(|(lane, _)| lane.id().host == host);
            let dealt: u32 = mine().map(|(_, (_, dealt, _))| dealt).sum();
            let held: usize = mine().map(|(lane, _)| lane.held()).sum();
            let held_before: usize = mine().map(|(_, (held, ..))| held).sum();
            let is_opened = mine().any(|(_, (.., is_opened))| *is_opened);
            let of_host = mine().filter(|(lane, _)| lane.link() != Link::Down).count();
            if let Some(until) = own.rests_until.filter(|_| is_whole) {
                assert!(now >= until || (dealt == 0 && !is_opened), "host {host} rests, and is used");
                assert!(dealt == 0 || held <= 1, "host {host} is given {held} mails to try");
                assert!(!is_opened || of_host <= 1, "{of_host} lanes of host {host} try");
            }
            // What has left in the same settle has done so before that.
            if !std::mem::take(&mut own.is_news) {
                own.parted += (held_before + dealt as usize - held) as u32;
            }
            if let Some(mails) = own.slowed.filter(|_| is_whole && dealt > 0) {
                let most = (0..own.parted / 20).fold(mails, |most, _| most + (most / 4).max(1));
                assert!(held <= most as usize, "host {host} is given {held} mails, not {most}");
                let is_paused = own.parted == 0 && now < own.paused_until;
                assert!(!is_paused, "host {host} is given a mail in its pause");
            }
        }
    }

    /// Whether the lane may have given up its connection for a lane of another host, or
    /// have been called again when it rested: there was a place, or less was left of a
    /// rate when it had said QUIT.
    pub fn may_make_way(&self, lane: &Lane) -> bool {
        let is_called = lane.standing() == Standing::Opening && !lane.host().keep_alive;
        let has_made_way = self.sessions.is_some() && lane.standing() == Standing::Benched;
        (has_made_way || is_called && lane.session().is_leaving()) && lane.held() == 0
    }
}
