//! The calls of Perl's Net::SMTP and Net::SMTP::Bulk, for those who come from
//! there. It only gathers a message; all sending is the mailer's.

use secrecy::SecretString;

use crate::auth::Credentials;
use crate::envelope::{Envelope, ForwardPath, ReversePath};
use crate::error::Error;
use crate::mailer::{Mailer, Quit};
use crate::message::{Message, MessageId};
use crate::summary::Summary;

/// What has been said of the next message.
#[derive(Debug, Default)]
enum Draft {
    #[default]
    Empty,
    Addressed {
        from: ReversePath,
        to: Vec<ForwardPath>,
    },
    Writing {
        envelope: Envelope,
        content: Vec<u8>,
    },
}

/// A borrowed view of a [`Mailer`] with the calls of Net::SMTP.
///
/// Calls come in the order `mail`, `to` (once or more), `data`, `datasend`
/// (as often as needed), `dataend`, which queues exactly one message; a call
/// out of order is an error and changes nothing. The content is gathered in
/// memory; content is bytes, so encode text yourself. A message that has not
/// come to its `dataend` is forgotten when the view is dropped.
///
/// ```no_run
/// # async fn send(mailer: &mut smtp_bulk::Mailer) -> Result<(), smtp_bulk::Error> {
/// let mut smtp = mailer.net_smtp();
/// smtp.mail("news@example.org")?;
/// smtp.to("ann@example.net")?;
/// smtp.data()?;
/// smtp.datasend("Subject: hello\n\n")?;
/// smtp.datasend("Hello.\n")?;
/// smtp.dataend().await?;
/// let summary = smtp.quit(1).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct NetSmtp<'a> {
    mailer: &'a mut Mailer,
    draft: Draft,
}

impl Mailer {
    /// The calls of Net::SMTP, for those who come from there.
    pub fn net_smtp(&mut self) -> NetSmtp<'_> {
        NetSmtp { mailer: self, draft: Draft::Empty }
    }
}

impl NetSmtp<'_> {
    /// Begins a message; `""` or `"<>"` is the null reverse-path.
    ///
    /// # Errors
    /// When the address is none, or a message with a recipient has not come to
    /// its `dataend`; [`NetSmtp::reset`] gives that up.
    pub fn mail(&mut self, address: &str) -> Result<(), Error> {
        if self.has_recipients() {
            return Err(Error::OutOfOrder { call: "mail", before: "dataend" });
        }
        let from = address.parse().map_err(Error::Address)?;
        self.draft = Draft::Addressed { from, to: Vec::new() };
        Ok(())
    }

    /// Adds a recipient.
    ///
    /// # Errors
    /// When the address is none, or `mail` was not called.
    pub fn to(&mut self, address: &str) -> Result<(), Error> {
        let Draft::Addressed { to, .. } = &mut self.draft else {
            return Err(Error::OutOfOrder { call: "to", before: "mail" });
        };
        to.push(address.parse().map_err(Error::Address)?);
        Ok(())
    }

    /// The same as [`NetSmtp::to`].
    ///
    /// # Errors
    /// As [`NetSmtp::to`].
    pub fn recipient(&mut self, address: &str) -> Result<(), Error> {
        self.to(address)
    }

    /// The same as [`NetSmtp::to`]: header fields are the content's business.
    ///
    /// # Errors
    /// As [`NetSmtp::to`].
    pub fn cc(&mut self, address: &str) -> Result<(), Error> {
        self.to(address)
    }

    /// The same as [`NetSmtp::to`]: header fields are the content's business.
    ///
    /// # Errors
    /// As [`NetSmtp::to`].
    pub fn bcc(&mut self, address: &str) -> Result<(), Error> {
        self.to(address)
    }

    /// Begins the content.
    ///
    /// # Errors
    /// When there is no recipient.
    pub fn data(&mut self) -> Result<(), Error> {
        let out_of_order = Error::OutOfOrder { call: "data", before: "mail and to" };
        match std::mem::take(&mut self.draft) {
            Draft::Addressed { from, to } if !to.is_empty() => {
                let envelope = Envelope::new(from, to).map_err(|_| out_of_order)?;
                self.draft = Draft::Writing { envelope, content: Vec::new() };
                Ok(())
            }
            draft => {
                self.draft = draft;
                Err(out_of_order)
            }
        }
    }

    /// Adds to the content.
    ///
    /// # Errors
    /// When `data` was not called.
    pub fn datasend(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), Error> {
        let Draft::Writing { content, .. } = &mut self.draft else {
            return Err(Error::OutOfOrder { call: "datasend", before: "data" });
        };
        content.extend_from_slice(bytes.as_ref());
        Ok(())
    }

    /// Ends the content and queues the message. The batch runs when every
    /// lane in use has one.
    ///
    /// # Errors
    /// When `data` was not called, and as [`Mailer::send`].
    pub async fn dataend(&mut self) -> Result<(), Error> {
        match std::mem::take(&mut self.draft) {
            Draft::Writing { envelope, content } => self.mailer.send(Message::new(envelope, content)).await,
            draft => {
                self.draft = draft;
                Err(Error::OutOfOrder { call: "dataend", before: "data" })
            }
        }
    }

    /// Authenticates every session, as Net::SMTP does: [`Mailer::auth`]. The
    /// mechanism is one by its name, or `AUTO` for the strongest that is
    /// offered.
    ///
    /// # Errors
    /// When there is no such mechanism, and as [`Mailer::auth`].
    pub async fn auth(
        &mut self,
        mechanism: &str,
        user: impl Into<String>,
        password: impl Into<SecretString>,
    ) -> Result<(), Error> {
        let credentials =
            Credentials::from_net_smtp_bulk(mechanism, user, password).map_err(Error::Mechanism)?;
        self.mailer.auth(credentials).await
    }

    /// Gives up the message that has not come to its `dataend`.
    pub fn reset(&mut self) {
        self.draft = Draft::Empty;
    }

    /// Opens every connection anew: [`Mailer::restart`].
    ///
    /// # Errors
    /// As [`Mailer::restart`].
    pub async fn reconnect(&mut self) -> Result<(), Error> {
        self.mailer.restart().await
    }

    /// Sends what is queued and ends all sessions: [`Mailer::quit`]. The id is
    /// named in the debug output.
    ///
    /// # Errors
    /// As [`Mailer::quit`], and when a message with a recipient has
    /// not come to its `dataend`.
    pub async fn quit(&mut self, id: impl Into<MessageId>) -> Result<Summary, Error> {
        if self.has_recipients() {
            return Err(Error::OutOfOrder { call: "quit", before: "dataend" });
        }
        self.mailer.quit_with(Quit::default().id(id)).await
    }

    fn has_recipients(&self) -> bool {
        match &self.draft {
            Draft::Empty => false,
            Draft::Addressed { to, .. } => !to.is_empty(),
            Draft::Writing { .. } => true,
        }
    }
}
