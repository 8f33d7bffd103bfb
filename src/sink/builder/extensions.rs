//! The settings of extensions, of LMTP and of Unix sockets.

#[cfg(unix)]
use std::path::PathBuf;

use super::Builder;
use crate::sink::extension::Extension;

impl Builder {
    /// Offers this extension: it is announced, and its commands and parameters are obeyed. Those of
    /// extensions that are not announced are answered 502 and 555. By default
    /// [`Extension::EnhancedStatusCodes`] and [`Extension::Help`] are offered.
    pub fn announce(mut self, extension: Extension) -> Self {
        self.offered.set(extension, true);
        self
    }

    /// Does not offer this extension.
    pub fn conceal(mut self, extension: Extension) -> Self {
        self.offered.set(extension, false);
        self
    }

    /// Adds a line to the reply to `EHLO`, whatever it says: a server may announce here what it then
    /// answers 502 or 555. A line must have no line end in it.
    pub fn ehlo_line(mut self, line: impl Into<String>) -> Self {
        self.ehlo_lines.push(line.into());
        self
    }

    /// Answers `500 Pipelining not supported` and closes when more than one command comes in one
    /// read, unless [`Extension::Pipelining`] is announced. The octets of a `BDAT` may come together
    /// with it.
    pub fn strict_pipelining(mut self) -> Self {
        self.strict_pipelining = true;
        self
    }

    /// The most mails that may be begun over one connection (default: any number); `MAIL` beyond it
    /// is answered 421, and the connection closed.
    pub fn max_mails(mut self, count: usize) -> Self {
        self.max_mails = Some(count);
        self
    }

    /// The most domains that the recipients of one mail may be in (default: any number); recipients
    /// in others are answered 452 4.5.3.
    pub fn max_recipient_domains(mut self, count: usize) -> Self {
        self.max_recipient_domains = Some(count);
        self
    }

    /// Speaks LMTP (RFC 2033): `LHLO` in the place of `EHLO` and `HELO`, which are answered 500, a
    /// final reply for each accepted recipient, and 503 to `DATA` without one. The extensions that
    /// the RFC demands are not announced by that.
    pub fn lmtp(mut self) -> Self {
        self.lmtp = true;
        self
    }

    /// Listens on a Unix socket of this path too; nothing may be there yet, and it is removed when
    /// the server is stopped.
    #[cfg(unix)]
    pub fn unix_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.unix_path = Some(path.into());
        self
    }
}
