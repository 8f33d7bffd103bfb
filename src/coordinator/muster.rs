//! What all lanes add up to, kept up to date from those that changed: with a
//! thousand lanes and one reply, nobody looks at a thousand lanes.

use std::time::Instant;

use super::gate::Gate;
use super::lane::{Lane, Link, Part, Standing};
use super::{Coordinator, earliest};

/// Places of lanes, each of them once.
#[derive(Debug)]
pub(super) struct Marks {
    list: Vec<usize>,
    is_marked: Vec<bool>,
}

impl Marks {
    /// All of so many.
    fn all(count: usize) -> Marks {
        Marks { list: (0..count).collect(), is_marked: vec![true; count] }
    }

    pub(super) fn mark(&mut self, place: usize) {
        if let Some(is_marked) = self.is_marked.get_mut(place).filter(|is_marked| !**is_marked) {
            *is_marked = true;
            self.list.push(place);
        }
    }

    pub(super) fn mark_all(&mut self) {
        (0..self.is_marked.len()).for_each(|place| self.mark(place));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.list.iter().copied()
    }

    /// Puts all that are marked into `list`, which is emptied before, and marks none.
    pub(super) fn take(&mut self, list: &mut Vec<usize>) {
        list.clear();
        std::mem::swap(&mut self.list, list);
        for place in list.iter() {
            if let Some(is_marked) = self.is_marked.get_mut(*place) {
                *is_marked = false;
            }
        }
    }
}

/// What a lane may be, as far as others have to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Is {
    Active,
    Retired,
    /// Its first opening has not ended.
    Untried,
    /// It has a connection, or is making one.
    Connected,
    InBatch,
    /// Going on with its mails by itself.
    Alone,
    /// In the batch, and not at a 354.
    Busy,
    /// At a 354: the content is not sent yet.
    Poised,
    Asking,
    AtGate,
    Renewable,
    /// At rest, and to say NOOP now and then.
    Quiet,
    /// Without a mail, on a connection that is not kept.
    Idle,
    /// Without a connection until there is a mail for it.
    AtRest,
    /// The same, and it has a question to put.
    Called,
    /// Being opened since there are mails for it.
    Waking,
    ToBeOpened,
    Leaving,
}

impl Is {
    const COUNT: usize = Is::Leaving as usize + 1;
}

/// What one lane adds to the [`Survey`].
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Share {
    held: u32,
    room: u32,
    waking: u32,
    asleep: u32,
    is: [bool; Is::COUNT],
}

impl Share {
    fn of(lane: &Lane) -> Share {
        let is_at_rest = lane.standing == Standing::Resting;
        let depth_if = |is_so| if is_so { lane.depth() } else { 0 };
        let mut share = Share {
            held: u32::try_from(lane.held()).unwrap_or(u32::MAX),
            room: depth_if(lane.is_free()),
            waking: depth_if(lane.is_waking()),
            asleep: depth_if(is_at_rest),
            ..Share::default()
        };
        let (is_down, is_in_batch) = (lane.link == Link::Down, lane.part == Part::Batch);
        for (what, is_so) in [
            (Is::Active, lane.standing == Standing::Active),
            (Is::Retired, lane.standing == Standing::Retired),
            (Is::Untried, !lane.was_tried || lane.renew),
            (Is::Connected, !is_down),
            (Is::InBatch, is_in_batch),
            (Is::Alone, lane.part == Part::Alone),
            (Is::Busy, is_in_batch && !lane.is_poised),
            (Is::Poised, lane.is_poised),
            (Is::Asking, lane.wants_to_ask()),
            (Is::AtGate, lane.waits_at_gate),
            (Is::Renewable, lane.is_renewable()),
            (Is::Quiet, lane.is_quiet()),
            (Is::Idle, lane.is_idle()),
            (Is::AtRest, is_at_rest),
            (Is::Called, lane.is_called()),
            (Is::Waking, lane.is_waking()),
            (Is::ToBeOpened, is_down && lane.reopen_at.is_some()),
            (Is::Leaving, lane.is_leaving()),
        ] {
            if let Some(place) = share.is.get_mut(what as usize) {
                *place = is_so;
            }
        }
        share
    }

    fn is(&self, what: Is) -> bool {
        self.is.get(what as usize) == Some(&true)
    }
}

/// What the lanes of one host add up to.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct HostSum {
    /// Mails that its free lanes could be dealt.
    pub(super) room: usize,
    /// The same of those that are opened for mails.
    pub(super) waking: usize,
    /// The same of those that would be.
    pub(super) asleep: usize,
    /// Mails that its lanes hold.
    pub(super) held: usize,
    pub(super) lanes: usize,
    pub(super) active: usize,
    pub(super) retired: usize,
    pub(super) connected: usize,
    /// Lanes that wait for the reply to QUIT, or need none any more.
    pub(super) leaving: usize,
}

impl HostSum {
    /// Whether a lane of it is in use, with a connection or at rest.
    pub(super) fn is_in_use(&self) -> bool {
        self.active > 0 || self.waking + self.asleep > 0
    }

    fn add(&mut self, share: &Share) {
        self.each(share, |sum, more| *sum += more);
    }

    fn subtract(&mut self, share: &Share) {
        self.each(share, |sum, less| *sum -= less);
    }

    fn each(&mut self, share: &Share, mut change: impl FnMut(&mut usize, usize)) {
        change(&mut self.room, share.room as usize);
        change(&mut self.waking, share.waking as usize);
        change(&mut self.asleep, share.asleep as usize);
        change(&mut self.held, share.held as usize);
        change(&mut self.active, usize::from(share.is(Is::Active)));
        change(&mut self.retired, usize::from(share.is(Is::Retired)));
        change(&mut self.connected, usize::from(share.is(Is::Connected)));
        change(&mut self.leaving, usize::from(share.is(Is::Leaving)));
    }
}

/// What the lanes add up to.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Survey {
    /// Mails that lanes hold.
    pub(super) held: usize,
    /// Mails that free lanes could be dealt.
    pub(super) room: usize,
    /// The same of those that are opened for mails, or would be.
    closed: usize,
    lanes: [usize; Is::COUNT],
    pub(super) gate_opens_at: Option<Instant>,
    pub(super) reopen_at: Option<Instant>,
}

impl Survey {
    /// How many lanes are so.
    pub(super) fn lanes(&self, what: Is) -> usize {
        self.lanes.get(what as usize).copied().unwrap_or_default()
    }

    pub(super) fn has(&self, what: Is) -> bool {
        self.lanes(what) > 0
    }

    pub(super) fn must_open(&self, now: Instant) -> bool {
        self.reopen_at.is_some_and(|at| at <= now)
    }

    /// Mails that could be dealt if all were open.
    pub(super) fn all_room(&self) -> usize {
        self.room + self.closed
    }

    fn add(&mut self, share: &Share) {
        self.held += share.held as usize;
        self.room += share.room as usize;
        self.closed += (share.waking + share.asleep) as usize;
        self.lanes.iter_mut().zip(share.is).for_each(|(sum, is_so)| *sum += usize::from(is_so));
    }

    fn subtract(&mut self, share: &Share) {
        self.held -= share.held as usize;
        self.room -= share.room as usize;
        self.closed -= (share.waking + share.asleep) as usize;
        self.lanes.iter_mut().zip(share.is).for_each(|(sum, is_so)| *sum -= usize::from(is_so));
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Muster {
    shares: Vec<Share>,
    sum: Survey,
    hosts: Vec<HostSum>,
    /// No lane that is quiet has to say NOOP before this.
    pub(super) noop_at: Option<Instant>,
    /// Lanes whose bytes were moved, or that can be judged as it is.
    pub(super) moved: Marks,
    /// Lanes that may be different from their shares.
    pub(super) changed: Marks,
    /// Lanes that were changed since the other side asked last.
    pub(super) stirred: Marks,
    /// Memory for a list of lanes.
    spare: Vec<usize>,
}

impl Muster {
    /// Of these lanes, each of which is of one of so many hosts.
    pub(super) fn new(lanes: &[Lane], hosts: usize) -> Muster {
        let mut sums = vec![HostSum::default(); hosts];
        for lane in lanes {
            if let Some(sum) = sums.get_mut(lane.id.host as usize) {
                sum.lanes += 1;
            }
        }
        let lanes = lanes.len();
        Muster {
            hosts: sums,
            shares: vec![Share::default(); lanes],
            sum: Survey::default(),
            noop_at: None,
            moved: Marks::all(lanes),
            changed: Marks::all(lanes),
            stirred: Marks::all(lanes),
            spare: Vec::with_capacity(lanes),
        }
    }

    /// There is one lane more, of this host.
    pub(super) fn add(&mut self, host: usize) {
        let place = self.shares.len();
        self.shares.push(Share::default());
        self.hosts.get_mut(host).into_iter().for_each(|sum| sum.lanes += 1);
        for marks in [&mut self.moved, &mut self.changed, &mut self.stirred] {
            marks.is_marked.push(false);
            marks.mark(place);
        }
    }

    /// What all add up to, as of the last survey.
    pub(super) fn sum(&self) -> &Survey {
        &self.sum
    }

    /// What the lanes of each host do.
    pub(super) fn hosts(&self) -> &[HostSum] {
        &self.hosts
    }

    /// What the lanes of this host do.
    pub(super) fn host(&self, host: usize) -> HostSum {
        self.hosts.get(host).copied().unwrap_or_default()
    }

    /// Lanes with room for mails, as of the last survey.
    pub(super) fn free(&self) -> impl Iterator<Item = usize> {
        let shares = self.shares.iter().enumerate();
        shares.filter(|(_, share)| share.room > 0).map(|(place, _)| place)
    }

    /// Lanes at a 354, as of the last survey.
    pub(super) fn poised(&self) -> impl Iterator<Item = usize> {
        let shares = self.shares.iter().enumerate();
        shares.filter(|(_, share)| share.is(Is::Poised)).map(|(place, _)| place)
    }

    /// Whether a lane that is in use is not free, as of the last survey.
    pub(super) fn has_busy(&self) -> bool {
        self.sum.lanes(Is::Active) > self.free().count()
    }

    /// Whether any lane is so, as of the last survey.
    pub(super) fn has(&self, what: Is) -> bool {
        self.sum.has(what)
    }

    /// Whether no lane is in a batch, as of the last survey.
    pub(super) fn has_no_batch(&self) -> bool {
        !self.sum.has(Is::InBatch)
    }

    fn refresh(&mut self, place: usize, lane: &Lane) {
        if lane.is_judgeable() {
            self.moved.mark(place);
        }
        self.stirred.mark(place);
        let Some(share) = self.shares.get_mut(place) else { return };
        let new = Share::of(lane);
        if new != *share {
            if new.is(Is::Quiet) && !share.is(Is::Quiet) {
                self.noop_at = earliest(self.noop_at, lane.quiet_until());
            }
            self.sum.subtract(share);
            self.sum.add(&new);
            if let Some(host) = self.hosts.get_mut(lane.id.host as usize) {
                host.subtract(share);
                host.add(&new);
            }
            *share = new;
        }
    }
}

impl Coordinator {
    /// Looks at the lanes that have changed.
    pub(super) fn survey(&mut self, now: Instant) -> Survey {
        let mut changed = std::mem::take(&mut self.muster.spare);
        self.muster.changed.take(&mut changed);
        for place in changed.iter().copied() {
            if let Some(lane) = self.lanes.get_mut(place) {
                self.allowance.charge(lane, now);
                self.muster.refresh(place, lane);
            }
        }
        self.muster.spare = changed;
        let mut survey = self.muster.sum;
        let lanes = || self.lanes.iter().zip(&self.muster.shares);
        if survey.has(Is::ToBeOpened) {
            let waiting = lanes().filter(|(_, share)| share.is(Is::ToBeOpened));
            let places = self.are_places_few().then(|| self.places(now));
            let opens_at = |lane: &Lane| match &places {
                Some(places) if lane.is_parked => places.opens_at(lane),
                _ => lane.reopen_at,
            };
            survey.reopen_at = waiting.filter_map(|(lane, _)| opens_at(lane)).min();
        }
        if survey.has(Is::AtGate) {
            let gate = |lane: &Lane| self.desk.gates.get(lane.id.host as usize).and_then(Gate::opens_at);
            let waiting = lanes().filter(|(_, share)| share.is(Is::AtGate));
            survey.gate_opens_at = waiting.filter_map(|(lane, _)| gate(lane)).min();
        }
        survey
    }

    /// Whether the sums are those of the lanes, and nobody is quiet for longer than is
    /// known. It looks at all of them.
    pub(super) fn is_mustered(&self) -> bool {
        let mut sum = Survey::default();
        self.lanes.iter().for_each(|lane| sum.add(&Share::of(lane)));
        // Without memory of its own: it is looked at where nothing is to be allocated.
        let is_sum_of = |(host, known): (u32, &HostSum)| {
            let mut sum = HostSum::default();
            for lane in self.lanes.iter().filter(|lane| lane.id.host == host) {
                sum.lanes += 1;
                sum.add(&Share::of(lane));
            }
            sum == *known
        };
        let is_known = |at: Instant| self.muster.noop_at.is_some_and(|bound| bound <= at);
        let are_counted =
            || self.muster.hosts.iter().zip(&self.desk.health).all(|(sum, health)| sum.held == health.held());
        (0..).zip(&self.muster.hosts).all(is_sum_of)
            && are_counted()
            && sum == self.muster.sum
            && self.lanes.iter().filter_map(Lane::quiet_until).all(is_known)
    }
}
