//! Questions to a server besides sending mail.

use super::Mailer;
use crate::coordinator::NoReply;
use crate::error::Error;
use crate::extensions::ExtensionSet;
use crate::host::LaneId;
use crate::inquiry::Inquiry;
use crate::reply::ReplyBuf;

impl Mailer {
    /// What the server of this lane offers on its present connection; `None` when
    /// there is no such lane, or it has none.
    pub fn offers(&self, lane: LaneId) -> Option<ExtensionSet> {
        let known = self.coordinator.lanes().iter().find(|known| known.id() == lane);
        known.filter(|lane| lane.session().is_ready()).map(|lane| lane.session().extensions().set())
    }

    /// Asks the server of one lane, when the lane is in no batch, and gives its
    /// reply, whatever that says. Due batches run meanwhile. What cannot be in
    /// the middle of a transaction is never asked there.
    ///
    /// ```no_run
    /// use smtp_bulk::command::Argument;
    /// use smtp_bulk::{Error, Inquiry, LaneId, Mailer};
    ///
    /// async fn knows(mailer: &mut Mailer, user: Argument) -> Result<bool, Error> {
    ///     let reply = mailer.ask(LaneId { host: 0, thread: 0 }, Inquiry::Vrfy(user)).await?;
    ///     Ok(reply.code().as_u16() == 250)
    /// }
    /// ```
    ///
    /// When the future is dropped the question may still be asked; its reply is
    /// then thrown away.
    ///
    /// # Errors
    /// When there is no such lane, it is retired, its connection fails before the
    /// reply has come, the question is beyond ASCII and the server does not offer
    /// SMTPUTF8, every lane is retired, or the mailer is closed.
    pub async fn ask(&mut self, lane: LaneId, inquiry: Inquiry) -> Result<ReplyBuf, Error> {
        self.check_open()?;
        let known = self.coordinator.lanes().iter().find(|known| known.id() == lane);
        let host = known.map(|known| known.host().name.clone()).ok_or(Error::NoSuchLane(lane))?;
        let step = inquiry.step();
        self.expect_mails(false, false);
        // One that was given up comes first.
        self.drive(|coordinator, _| !coordinator.is_asking(lane)).await?;
        self.coordinator.take_answer(lane);
        self.coordinator.ask(lane, inquiry);
        self.settle();
        self.drive(|coordinator, _| !coordinator.is_asking(lane)).await?;
        match self.coordinator.take_answer(lane) {
            Some(Ok(reply)) => Ok(reply),
            Some(Err(why)) => Err(Error::Unanswered { host, lane, step, why }),
            None => Err(Error::Unanswered { host, lane, step, why: NoReply::GivenUp }),
        }
    }
}
