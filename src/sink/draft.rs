//! One mail on its way in, from `MAIL` to the reply to its final dot.
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
    /// A fault has answered before the end, and no other reply is due.
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

/// What there is of a mail so far.
#[derive(Debug, Default)]
pub(super) struct Draft {
    reverse_path: String,
    forward_paths: Vec<String>,
    content: Vec<u8>,
    /// Whether paths and content are to be held in memory.
    held: bool,
    recipients: usize,
    /// Whether any recipient was named, accepted or not.
    pub(super) addressed: bool,
    size: u64,
    delivery: Option<Delivery>,
    spoilt: Option<Spoilt>,
}

impl Draft {
    pub(super) fn new(reverse_path: &str, held: bool) -> Self {
        Self {
            reverse_path: if held { reverse_path.to_owned() } else { String::new() },
            held,
            ..Self::default()
        }
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

    pub(super) fn add_recipient(&mut self, path: &str) {
        self.recipients = self.recipients.saturating_add(1);
        if self.held {
            self.forward_paths.push(path.to_owned());
        }
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
        if self.held {
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

    /// Finishes the file; the mail itself is returned when it was held.
    pub(super) fn finish(mut self, origin: &Origin<'_>) -> Result<Option<Mail>, Spoilt> {
        if let Some(spoilt) = self.spoilt {
            return Err(spoilt);
        }
        if let Some(delivery) = self.delivery.take() {
            delivery.finish().map_err(|error| storage(&error))?;
        }
        if !self.held {
            return Ok(None);
        }
        self.content.shrink_to_fit();
        Ok(Some(Mail {
            connection: origin.connection,
            tls: origin.tls,
            user: origin.login.map(|login| login.user.clone()),
            acting_as: origin.login.and_then(|login| login.acting_as.clone()),
            helo: origin.helo.to_owned(),
            reverse_path: self.reverse_path,
            forward_paths: self.forward_paths,
            content: self.content,
        }))
    }
}

fn storage(error: &io::Error) -> Spoilt {
    if error.kind() == io::ErrorKind::StorageFull { Spoilt::DiskFull } else { Spoilt::Unwritable }
}
