//! Lanes that only owe a reply, and are read in an order: which of them is waited
//! for. A wait costs half a dozen system calls, so there is one for as many replies
//! as may be.

use std::time::{Duration, Instant};

use super::Sweep;
use super::wire::Wire;
use crate::coordinator::{Coordinator, Link};
use crate::pace::Pace;

/// Replies that take about as long to read as a wait takes: that was measured.
const FEW: usize = 8;

/// Where nobody waits for anybody, that many lanes in a row of which nothing has come
/// end the reading: those behind them were asked later.
const MISSES: usize = 4;

/// Lanes that are listened to anew before each wait, where the first one may hang.
const SENTINELS: usize = 2;

/// How often all lanes are looked at, where those that are listened to may be late.
const LOOK_EVERY: Duration = Duration::from_millis(5);

impl Sweep {
    /// Reads what has come on lanes that only owe a reply, and sees to it that the task
    /// is woken when there is more.
    pub(super) fn read_in_order(&mut self, coordinator: &mut Coordinator, now: Instant) {
        if self.pace.is_free() {
            self.read_queue(coordinator, now);
        } else {
            self.read_step(coordinator, now);
        }
        self.look_again(coordinator, now);
    }

    /// Waits for the lane half-way down the order, then reads what has come
    /// meanwhile and waits for the one half-way down the rest: most of those
    /// before it will have come by then. So a step waits a few times, however
    /// many lanes it has, and the first replies are read while the server is
    /// at the last. Of a few lanes it is the one three quarters down: there is less
    /// to read meanwhile than a wait costs. One that is late and not awaited is passed
    /// over, and waited for at last.
    fn read_step(&mut self, coordinator: &mut Coordinator, now: Instant) {
        let mut rest = self.cursor;
        if let Some(place) = self.awaited {
            if self.read_place(place, true, coordinator, now) == Some(false) {
                return;
            }
            self.awaited = None;
            while self.read_place(self.cursor, false, coordinator, now) == Some(true) {
                self.cursor += 1;
            }
            rest = self.cursor.max(place + 1);
        }
        let left = self.order.len().saturating_sub(rest);
        let far_down = rest + (left / 2).max((3 * left / 4).min(FEW));
        for place in (far_down..self.order.len()).chain(self.cursor..far_down) {
            if self.read_place(place, true, coordinator, now) == Some(false) {
                self.awaited = Some(place);
                return;
            }
        }
    }

    /// Reads what is there on the lane at this place of the order, and says
    /// whether its step is over; `None` behind the last place. A lane that is
    /// awaited raises its flag when there is more.
    fn read_place(
        &mut self,
        place: usize,
        is_awaited: bool,
        coordinator: &mut Coordinator,
        now: Instant,
    ) -> Option<bool> {
        let index = *self.order.get(place)?;
        self.read_lane(index, is_awaited, coordinator, now)
    }

    /// Reads what is there on one lane, and says whether its step is over.
    fn read_lane(
        &mut self,
        index: usize,
        is_awaited: bool,
        coordinator: &mut Coordinator,
        now: Instant,
    ) -> Option<bool> {
        let (lane, slot) = (coordinator.lane_mut(index)?, self.slots.get_mut(index)?);
        let mut wire = Wire { lane, slot, buffers: &mut self.buffers, journal: &self.journal, now };
        let mut has_heard = false;
        while !wire.lane.session().is_over() {
            let has_read = if is_awaited { wire.read() } else { wire.read_what_is_there() };
            if !has_read {
                // The next reply of its flight may have less time than this one had.
                let deadline = wire.lane.session().deadline().filter(|_| has_heard);
                self.earliest = [self.earliest, deadline].into_iter().flatten().min();
                return Some(false);
            }
            has_heard = true;
        }
        coordinator.moved(index);
        Some(true)
    }

    /// Where nobody waits for anybody: reads from the lane on that was asked first. When
    /// nothing has come at all the first ones are listened to, and leave the queue.
    fn read_queue(&mut self, coordinator: &mut Coordinator, now: Instant) {
        let (mut place, mut has_read) = (0, false);
        while place < MISSES && place < self.queue.len() {
            match self.read_queued(place, false, coordinator, now) {
                Some(false) => place += 1,
                over => {
                    has_read |= over.is_some();
                    self.unqueue(place);
                }
            }
        }
        if has_read {
            return;
        }
        for _ in 0..SENTINELS.min(self.queue.len()) {
            self.read_queued(0, true, coordinator, now);
            self.unqueue(0);
        }
    }

    /// Whether the lane at this place of the queue has all that it is owed; `None` when
    /// there is nothing to be read on it.
    fn read_queued(
        &mut self,
        place: usize,
        is_awaited: bool,
        coordinator: &mut Coordinator,
        now: Instant,
    ) -> Option<bool> {
        let index = *self.queue.get(place)?;
        let lane = coordinator.lanes().get(index)?;
        let is_owed = lane.link() == Link::Up && !lane.session().is_over();
        if is_owed { self.read_lane(index, is_awaited, coordinator, now) } else { None }
    }

    pub(super) fn enqueue(&mut self, index: usize) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        if !std::mem::replace(&mut slot.is_queued, true) {
            self.queue.push_back(index);
        }
    }

    fn unqueue(&mut self, place: usize) {
        let slot = self.queue.remove(place).and_then(|index| self.slots.get_mut(index));
        if let Some(slot) = slot {
            (slot.is_queued, slot.is_late) = (false, false);
        }
    }

    /// Reads what is there on all lanes.
    pub(super) fn read_all(&mut self, coordinator: &mut Coordinator, now: Instant) {
        for index in 0..coordinator.lanes().len() {
            self.read_lane(index, false, coordinator, now);
        }
    }

    /// Looks at all that are not listened to, where the step does not wait for every one
    /// of them: who is listened to may be late.
    fn look_again(&mut self, coordinator: &mut Coordinator, now: Instant) {
        if self.next_look.is_none_or(|at| at > now) {
            return;
        }
        for place in self.cursor..self.order.len() {
            self.read_place(place, false, coordinator, now);
        }
        for place in (0..self.queue.len()).rev() {
            // One that has been looked at in vain takes its time: it is listened to.
            let is_late = self.queue.get(place).and_then(|index| self.slots.get_mut(*index));
            let is_late = is_late.is_some_and(|slot| std::mem::replace(&mut slot.is_late, true));
            if self.read_queued(place, is_late, coordinator, now) != Some(false) || is_late {
                self.unqueue(place);
            }
        }
        self.next_look = self.look_every().map(|every| now + every);
    }

    /// How often that is. Of a quorum it is a quarter of the grace, within bounds.
    pub(super) fn look_every(&self) -> Option<Duration> {
        match self.pace {
            Pace::Quorum { grace, .. } if !self.order.is_empty() => {
                Some((grace / 4).clamp(LOOK_EVERY, 20 * LOOK_EVERY))
            }
            Pace::Free if !self.queue.is_empty() => Some(LOOK_EVERY),
            _ => None,
        }
    }
}
