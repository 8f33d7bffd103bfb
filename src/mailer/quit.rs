//! How to quit.

use std::time::Duration;

use crate::message::MessageId;

/// How a mailer quits: see [`Mailer::quit_with`](crate::Mailer::quit_with).
///
/// ```no_run
/// use smtp_bulk::{Error, Mailer, Quit};
/// use std::time::Duration;
///
/// async fn end(mut mailer: Mailer) -> Result<(), Error> {
///     let quit = Quit::default().id(17).wait_for_delayed(Duration::from_secs(600));
///     println!("{}", mailer.quit_with(quit).await?);
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "it is given to `quit_with`"]
pub struct Quit {
    pub(super) id: MessageId,
    pub(super) patience: Duration,
}

impl Quit {
    /// A name for the run, in the summary of the debug output: the `ID` of
    /// Net::SMTP::Bulk.
    pub fn id(mut self, id: impl Into<MessageId>) -> Quit {
        self.id = id.into();
        self
    }

    /// How long to wait for messages that were put off, and try them again when their
    /// [delay](crate::MailerBuilder::retry_delay) is over. What is under way then is
    /// finished, and the others are reported abandoned. Default: not at all.
    pub fn wait_for_delayed(mut self, patience: Duration) -> Quit {
        self.patience = patience;
        self
    }
}
