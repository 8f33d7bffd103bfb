//! One mail on its way in, from `MAIL` to the reply to its final dot or its last chunk.
//!
//! It holds no more than what is kept afterwards: nothing of the addresses and the content when
//! nothing is kept, and nothing any more once it is known that the mail cannot be stored.

use std::io;

use super::auth::Login;
use super::ledger::Mail;
use super::maildir::{Delivery, Maildir};

/// Why the mail will not be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoilt {
    /// Larger than the limit.
    TooLarge,
    /// The disk is full.
    DiskFull,
    /// The Maildir could not be written for another reason.
    Unwritable,
    /// A fault has answered before the end of the content or of its chunk, and no other reply is due.
    Answered,
}

/// Where a mail came from.
#[derive(Debug)]
pub(super) struct Origin<'a> {
    pub(super) connection: u64,
    pub(super) tls: bool,
    pub(super) login: Option<&'a Login>,
    pub(super) helo: &'a str,
}

/// What of a mail is held in memory.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Held {
    /// Addresses and parameters.
    pub(super) envelope: bool,
    pub(super) content: bool,
}

/// What there is of a mail so far.
#[derive(Debug, Default)]
pub(super) struct Draft {
    reverse_path: String,
    parameters: String,
    forward_paths: Vec<String>,
    recipient_parameters: Vec<String>,
    content: Vec<u8>,
    held: Held,
    recipients: usize,
    /// The domains of the recipients, when their number is limited.
    domains: Vec<String>,
    /// Whether any recipient was named, accepted or not.
    pub(super) addressed: bool,
    /// The mail is one of SMTPUTF8.
    pub(super) utf8: bool,
    /// There is no `DATA` for this mail.
    pub(super) binary: bool,
    /// The `BDAT` chunks that were begun.
    pub(super) chunks: usize,
    size: u64,
    delivery: Option<Delivery>,
    spoilt: Option<Spoilt>,
    /// The recipients who had a final reply, of LMTP, and those of them for whom it was a good one.
    answered: usize,
    delivered: usize,
}

impl Draft {
    pub(super) fn new(reverse_path: &str, parameters: &str, held: Held) -> Self {
        let text = |text: &str| if held.envelope { text.to_owned() } else { String::new() };
        Self { reverse_path: text(reverse_path), parameters: text(parameters), held, ..Self::default() }
    }

    pub(super) fn recipients(&self) -> usize {
        self.recipients
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn spoilt(&self) -> Option<Spoilt> {
        self.spoilt
    }

    /// Whether the content has begun to come by `BDAT`, or would have if that had not been refused.
    pub(super) fn has_chunks(&self) -> bool {
        self.chunks > 0 || self.spoilt.is_some()
    }

    /// Adds a recipient; `domains_count` says whether the number of domains is limited.
    pub(super) fn add_recipient(&mut self, path: &str, parameters: &str, domains_count: bool) {
        if domains_count && !self.has_domain(path) {
            self.domains.push(domain(path).to_owned());
        }
        self.recipients = self.recipients.saturating_add(1);
        if self.held.envelope {
            self.forward_paths.push(path.to_owned());
            self.recipient_parameters.push(parameters.to_owned());
        }
    }

    /// Whether this recipient would bring more domains than `most`.
    pub(super) fn exceeds_domains(&self, path: &str, most: usize) -> bool {
        self.domains.len() >= most && !self.has_domain(path)
    }

    fn has_domain(&self, path: &str) -> bool {
        self.domains.iter().any(|known| known.eq_ignore_ascii_case(domain(path)))
    }

    /// The recipient, of LMTP, whose final reply comes next, if there is one and it is held.
    pub(super) fn next_answered(&self) -> Option<&str> {
        // Those who were refused stand there no more.
        self.forward_paths.get(self.delivered).map(String::as_str)
    }

    /// Notes the final reply for one recipient, of LMTP. One who was refused is no recipient.
    pub(super) fn answer(&mut self, good: bool) {
        self.answered = self.answered.saturating_add(1);
        if good {
            self.delivered = self.delivered.saturating_add(1);
        } else if self.delivered < self.forward_paths.len() {
            self.forward_paths.remove(self.delivered);
            self.recipient_parameters.remove(self.delivered);
        }
    }

    /// Whether every recipient had a final reply.
    pub(super) fn is_answered(&self) -> bool {
        self.answered >= self.recipients
    }

    /// Leaves those recipients only for whom the final reply was a good one, and says whether there
    /// are any.
    pub(super) fn narrow(&mut self) -> bool {
        self.recipients = self.delivered;
        self.forward_paths.truncate(self.delivered);
        self.recipient_parameters.truncate(self.delivered);
        self.recipients > 0
    }

    /// Opens the file that the content goes into, if there is to be one.
    pub(super) fn begin(&mut self, maildir: Option<&Maildir>) -> Result<(), Spoilt> {
        self.delivery = maildir.map(Maildir::begin).transpose().map_err(|error| storage(&error))?;
        Ok(())
    }

    /// Takes a piece of content.
    pub(super) fn take(&mut self, piece: &[u8], max_size: Option<u64>) {
        self.size = self.size.saturating_add(piece.len() as u64);
        if self.spoilt.is_some() {
            return;
        }
        if max_size.is_some_and(|max| self.size > max) {
            return self.spoil(Spoilt::TooLarge);
        }
        if self.held.content {
            self.content.extend_from_slice(piece);
        }
        let written = self.delivery.as_mut().map_or(Ok(()), |delivery| delivery.write(piece));
        if let Err(error) = written {
            self.spoil(storage(&error));
        }
    }

    /// Gives up what there is; the rest of the content will only be counted.
    pub(super) fn spoil(&mut self, reason: Spoilt) {
        self.spoilt = Some(reason);
        self.content = Vec::new();
        self.delivery = None;
    }

    /// Finishes the file, if it is not finished, unless the mail is spoilt.
    pub(super) fn deliver(&mut self) -> Result<(), Spoilt> {
        let delivered = self.delivery.take().map_or(Ok(()), Delivery::finish);
        if let Err(error) = delivered {
            self.spoil(storage(&error));
        }
        self.spoilt.map_or(Ok(()), Err)
    }

    /// The mail itself, when it was held.
    pub(super) fn into_mail(mut self, origin: &Origin<'_>) -> Option<Mail> {
        if !self.held.content {
            return None;
        }
        self.content.shrink_to_fit();
        Some(Mail {
            connection: origin.connection,
            tls: origin.tls,
            user: origin.login.map(|login| login.user.clone()),
            acting_as: origin.login.and_then(|login| login.acting_as.clone()),
            helo: origin.helo.to_owned(),
            reverse_path: self.reverse_path,
            parameters: self.parameters,
            forward_paths: self.forward_paths,
            recipient_parameters: self.recipient_parameters,
            chunks: self.chunks,
            content: self.content,
        })
    }
}

fn domain(path: &str) -> &str {
    path.rsplit_once('@').map_or("", |(_, domain)| domain)
}

fn storage(error: &io::Error) -> Spoilt {
    if error.kind() == io::ErrorKind::StorageFull { Spoilt::DiskFull } else { Spoilt::Unwritable }
}
