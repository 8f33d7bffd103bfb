//! Connections that are given up: to be replaced, by a restart or one by one, or for
//! good, when the caller has had enough.

use std::time::Instant;

use super::Coordinator;
use super::lane::{Lane, Standing};
use crate::event::{Handler, SessionVerdict};
use crate::reopening::Setback;
use crate::timeouts::after;

impl Coordinator {
    /// A callback's restart: every lane is opened anew. Those that are being
    /// opened are left to it, and so are those that rest; nothing is counted against
    /// them, nor a second time against those that wait to be opened.
    pub(super) fn restart_all<H: Handler + ?Sized>(&mut self, now: Instant, handler: &mut H) {
        self.desk.count_restart();
        let has_none = |lane: &Lane| lane.is_being_opened() || lane.standing == Standing::Resting;
        for lane in self.lanes.iter_mut().filter(|lane| !has_none(lane)) {
            lane.renew = true;
            if !lane.is_to_be_opened() {
                lane.setbacks.note(Setback::Other, now);
            }
        }
        self.muster.changed.mark_all();
        self.renew_lanes(now, handler);
        // Whoever asked for one meanwhile, or for the end of the batch, has had it.
        self.desk.restart_now = false;
        self.desk.restart_at_batch_end = false;
    }

    /// Opens anew the lanes for which that was decided. Their answers are
    /// judged first, whether or not the others have theirs; a content that is
    /// out keeps its connection until it is answered.
    pub(super) fn renew_lanes<H: Handler + ?Sized>(&mut self, now: Instant, handler: &mut H) {
        for place in 0..self.lanes.len() {
            if !self.lanes.get(place).is_some_and(Lane::is_renewable) {
                continue;
            }
            let Some(mut judge) = self.judge(place, now, handler) else { continue };
            let is_mid_flight = !judge.lane.session.is_over();
            let mut said = SessionVerdict::Default;
            if judge.lane.is_judgeable() {
                judge.judge();
            } else if is_mid_flight {
                said = judge.judge_answers();
            }
            let is_in_doubt = judge.lane.session.has_doubt();
            if !is_in_doubt {
                judge.release(false);
            }
            // Behind the reports, as always: a mail that is finished allows restarts anew.
            judge.act_on_others(said);
            if is_in_doubt {
                continue;
            }
            if !judge.lane.is_being_opened() {
                judge.tell_given_up();
            }
            let lane = judge.lane;
            lane.renew = false;
            let wait = std::mem::take(&mut lane.renew_wait);
            if !lane.is_being_opened() {
                lane.reopen(after(now, wait), now);
                lane.was_tried = false;
            }
        }
    }

    /// Closes everything; what is in doubt is reported, the rest put back.
    pub(super) fn cut_off<H: Handler + ?Sized>(&mut self, now: Instant, handler: &mut H) {
        self.desk.now = now;
        self.closing = true;
        for place in 0..self.lanes.len() {
            if let Some(mut judge) = self.judge(place, now, handler) {
                judge.cut_off();
                judge.lane.renew = false;
            }
        }
        self.desk.batch_running = false;
        self.desk.restart_now = false;
        self.desk.restart_at_batch_end = false;
    }
}
