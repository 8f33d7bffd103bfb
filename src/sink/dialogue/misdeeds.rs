//! The part of the dialogue in which faults have their way.
//!
//! What a fault does not say must never change here: the command behaves, and its reply is then
//! disfigured.

use std::mem;

use super::{Dialogue, Next, Phase};
use crate::sink::draft::{Draft, Spoilt};
use crate::sink::fault::{Misdeed, Occasion, Step};
use crate::sink::reply;

impl Dialogue {
    /// Does `behave`, unless a fault of this step fires, which then has its way.
    pub(super) fn act(
        &mut self,
        step: Step,
        address: Option<&str>,
        out: &mut Vec<u8>,
        behave: impl FnOnce(&mut Self, &mut Vec<u8>) -> Option<Next>,
    ) -> Option<Next> {
        let from = mem::take(&mut self.faults_from);
        let Some((index, misdeed)) = self.roll(step, address, from) else {
            return behave(self, out);
        };
        self.seen.faults += 1;
        match misdeed {
            Misdeed::Delay(time) => {
                self.faults_from = index.saturating_add(1);
                Some(Next::Pause(time))
            }
            Misdeed::RefuseUnread(code, text) if step == Step::Bdat => {
                self.seen.refused += u64::from(code >= 400);
                reply::push(out, code, &text);
                None
            }
            Misdeed::Refuse(code, text) | Misdeed::RefuseUnread(code, text) => {
                self.refuse_as_told(step, code, &text, out);
                None
            }
            Misdeed::RefuseClose(code, text) => {
                self.refuse_as_told(step, code, &text, out);
                Some(Next::Close)
            }
            Misdeed::Close421 => {
                out.extend_from_slice(reply::CLOSING);
                self.undo(step, 421);
                Some(Next::Close)
            }
            Misdeed::Garbage(_) | Misdeed::LongReply(_) if step == Step::Tls => {
                let mark = out.len();
                reply::disfigure(out, mark, &misdeed);
                Some(Next::Hang)
            }
            misdeed => {
                let mark = out.len();
                let next = behave(self, out);
                self.loses_input = misdeed == Misdeed::LoseInput;
                reply::disfigure(out, mark, &misdeed).or(next)
            }
        }
    }

    /// The fault that fires now, if any waits at this step.
    fn roll(&self, step: Step, address: Option<&str>, from: usize) -> Option<(usize, Misdeed)> {
        if !self.shared.faults.borrow().waits_at(step) {
            return None;
        }
        let draft = self.draft.as_ref();
        let occasion = Occasion {
            step,
            address,
            followed: self.followed,
            behind_content: self.behind_content,
            addressed: draft.is_some_and(|draft| draft.addressed),
            recipients: draft.map_or(0, Draft::recipients),
        };
        self.shared.faults.borrow_mut().roll(&occasion, from)
    }

    fn refuse_as_told(&mut self, step: Step, code: u16, text: &str, out: &mut Vec<u8>) {
        for _ in 0..self.replies_due(step) {
            reply::push(out, code, text);
        }
        self.undo(step, code);
    }

    /// How many replies the client awaits. In LMTP, one that comes early stands for the final ones
    /// of all recipients, or a client would wait for the others in vain.
    fn replies_due(&self, step: Step) -> usize {
        let ends = match step {
            Step::Content => self.phase == Phase::Content || self.chunk.last,
            Step::Bdat => self.chunk.last,
            _ => false,
        };
        if ends { self.final_replies() } else { 1 }
    }

    /// Sees to it that a refused step has no effect.
    fn undo(&mut self, step: Step, code: u16) {
        self.seen.refused += u64::from(code >= 400);
        match (step, &mut self.draft) {
            (Step::Greeting, _) => {
                self.turned_away = true;
                self.phase = Phase::Command;
            }
            (Step::Dot, Some(draft)) if self.shared.settings.lmtp => draft.answer(false),
            (Step::Dot, _) => self.end_transaction(),
            (Step::Challenge, _) => self.end_exchange(),
            (Step::Content, Some(draft)) => draft.spoil(Spoilt::Answered),
            (Step::Bdat, _) => self.drop_chunk(),
            (Step::Chunk, draft) => {
                draft.iter_mut().for_each(|draft| draft.spoil(Spoilt::Answered));
                self.end_chunk();
            }
            _ => {}
        }
    }
}
