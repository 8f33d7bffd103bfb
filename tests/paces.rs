//! What a slow lane costs the others at each pace: coordinator and sessions against servers that
//! answer after a fixed time, in virtual time. `-- --nocapture` prints the figures of the documents.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use smtp_bulk::coordinator::{BatchSettings, Coordinator, Link};
use smtp_bulk::host::HostSettings;
use smtp_bulk::{Envelope, Message, Pace};

const LANES: u32 = 100;

/// What a server takes for a reply, and what a slow one does.
const REPLY: Duration = Duration::from_millis(100);
const SLOW: Duration = Duration::from_millis(1_000);

const TIME: Duration = Duration::from_secs(120);

const PATIENT: Pace = Pace::Quorum { share: 0.9, grace: Duration::from_millis(50) };

/// A server's side of one lane.
#[derive(Default)]
struct Server {
    is_in_content: bool,
    unread: Vec<u8>,
}

impl Server {
    /// What it says to what it has been sent, if that is whole.
    fn reply(&mut self) -> Option<&'static str> {
        let text = String::from_utf8(std::mem::take(&mut self.unread)).expect("commands in ASCII");
        if self.is_in_content {
            if !text.ends_with("\r\n.\r\n") {
                self.unread = text.into_bytes();
                return None;
            }
            self.is_in_content = false;
            return Some("250 queued\r\n");
        }
        self.is_in_content = text == "DATA\r\n";
        match text.as_str() {
            "" => None,
            "DATA\r\n" => Some("354 go on\r\n"),
            _ => Some("250 fine\r\n"),
        }
    }
}

struct World {
    coordinator: Coordinator,
    servers: Vec<Server>,
    /// Replies on their way: when, and on which lane.
    due: BTreeMap<(Instant, usize), &'static str>,
    now: Instant,
    delay: fn(usize) -> Duration,
}

impl World {
    fn new(lanes: u32, pace: Pace, delay: fn(usize) -> Duration) -> World {
        let host = HostSettings { name: "mx.example".to_owned(), threads: lanes, ..HostSettings::default() };
        let now = Instant::now();
        let settings = BatchSettings { pace, ..BatchSettings::default() };
        World {
            coordinator: Coordinator::new(vec![host], settings, now),
            servers: (0..lanes).map(|_| Server::default()).collect(),
            due: BTreeMap::new(),
            now,
            delay,
        }
    }

    /// Has lanes that were settled connect, and write what they have to say.
    fn begin(&mut self) {
        let mut stirred = Vec::new();
        self.coordinator.take_stirred(&mut stirred);
        for place in stirred {
            let lane = self.coordinator.lane_mut(place).expect("a lane");
            if lane.link() == Link::Wanted {
                lane.dialling(self.now);
                lane.connected(None, self.now);
                self.servers[place] = Server::default();
                self.due.insert((self.now + (self.delay)(place), place), "220 mx\r\n");
            }
            self.write(place);
        }
    }

    fn write(&mut self, place: usize) {
        let lane = self.coordinator.lane_mut(place).expect("a lane");
        if lane.link() == Link::Up {
            let server = &mut self.servers[place];
            let before = server.unread.len();
            lane.session_mut().fill(&mut server.unread);
            let written = server.unread.len() - before;
            lane.session_mut().wrote(written, self.now);
            if let Some(reply) = server.reply() {
                self.due.insert((self.now + (self.delay)(place), place), reply);
            }
        }
        self.coordinator.moved(place);
    }

    /// Lets time pass up to what comes next, and hands over what has come.
    fn pass(&mut self) {
        let reply = self.due.keys().next().map(|(at, _)| *at);
        let next = reply.into_iter().chain(self.coordinator.step_over_at()).min();
        self.now = self.now.max(next.expect("nothing will ever happen again"));
        while let Some(entry) = self.due.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let place = entry.key().1;
            let reply = entry.remove();
            let lane = self.coordinator.lane_mut(place).expect("a lane");
            lane.session_mut().receive(reply.as_bytes(), self.now);
            self.write(place);
        }
    }

    /// How many mails are delivered in [`TIME`] by a caller who always has more.
    fn delivered(mut self) -> u64 {
        let envelope = Envelope::parse("news@example.org", ["ann@example.net"]).expect("an envelope");
        let end = self.now + TIME;
        while self.now < end {
            while self.coordinator.has_room() {
                let message = Message::new(envelope.clone(), &b"Subject: hello\r\n\r\nHello.\r\n"[..]);
                assert!(self.coordinator.take(message, self.now).is_ok());
            }
            self.coordinator.settle(self.now, &mut ());
            self.begin();
            while !self.coordinator.is_step_over(self.now) && !self.coordinator.has_room() {
                self.pass();
            }
        }
        self.coordinator.summary(self.now).mails.delivered
    }
}

fn one_slow(lane: usize) -> Duration {
    if lane == 0 { SLOW } else { REPLY }
}

/// All as quick as each other, as far as servers are.
fn all_quick(lane: usize) -> Duration {
    REPLY + Duration::from_millis(lane as u64 % 10)
}

fn one_slow_among_others(lane: usize) -> Duration {
    if lane == 0 { SLOW } else { all_quick(lane) }
}

#[test]
fn one_lane_that_is_ten_times_slower_does_not_set_the_pace_of_a_quorum() {
    for (quick, slow) in [
        ((|_| REPLY) as fn(usize) -> Duration, one_slow as fn(usize) -> Duration),
        (all_quick, one_slow_among_others),
    ] {
        for pace in [PATIENT, Pace::Free] {
            let without = World::new(LANES - 1, pace, quick).delivered();
            let with = World::new(LANES, pace, slow).delivered();
            println!("{pace:?}: {with} mails, without the slow lane {without}");
            assert!(with as f64 >= 0.95 * without as f64, "{pace:?}: {with} of {without}");
        }
    }
}

#[test]
fn in_lockstep_it_does() {
    let without = World::new(LANES - 1, Pace::Lockstep, |_| REPLY).delivered();
    let with = World::new(LANES, Pace::Lockstep, one_slow).delivered();
    println!("Lockstep: {with} mails, without the slow lane {without}");
    assert!((with as f64) < 0.15 * without as f64, "{with} of {without}");
}

#[test]
fn a_quorum_is_a_lockstep_where_all_are_as_quick() {
    let lockstep = World::new(LANES, Pace::Lockstep, |_| REPLY).delivered();
    assert_eq!(World::new(LANES, PATIENT, |_| REPLY).delivered(), lockstep);
    // Each lane by itself loses nothing either.
    assert!(World::new(LANES, Pace::Free, |_| REPLY).delivered() >= lockstep);
}
