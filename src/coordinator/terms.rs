//! What a mail asks of a server and what the server offers: whether the two fit,
//! and what MAIL and RCPT say accordingly. docs/EXTENSIONS.md has it as a table.

use super::mail::Mail;
use super::manners::Manners;
use crate::command::{MailLine, RcptLine};
use crate::content::{Content, Framing};
use crate::extensions::{Extension, ExtensionSet, Extensions};
use crate::host::HostSettings;
use crate::outcome::ClientReason;
use crate::parameters::{Body, MailParameters};
use crate::session::Session;

/// Recipients that every server has to take (RFC 5321 §4.5.3.1.8).
const USUAL_RECIPIENTS: u32 = 100;

/// What one session's server takes.
#[derive(Clone, Copy)]
pub(super) struct Terms<'a> {
    offered: &'a Extensions,
    /// What of it the client takes up.
    used: ExtensionSet,
    /// Whether it is under TLS with a server that is who it should be.
    is_verified: bool,
    host: &'a HostSettings,
}

impl<'a> Terms<'a> {
    pub(super) fn of(session: &'a Session, host: &'a HostSettings, manners: &Manners) -> Terms<'a> {
        let offered = session.extensions();
        let knows_peer = host.security.is_verified() || !host.tls.settings().pins.is_empty();
        let is_verified = session.has_tls() && knows_peer;
        Terms { offered, used: offered.set().without(manners.lacks()), is_verified, host }
    }

    /// Why the client cannot send the mail to this server.
    pub(super) fn unfit(&self, mail: &Mail) -> Option<ClientReason> {
        let message = &mail.message;
        let mut offered = self.offered.set();
        if !self.used.contains(Extension::Chunking) {
            offered = offered.without(Extension::Chunking.into());
        }
        // Said first, for without TLS no server offers it (RFC 8689 §4.2.1).
        if mail.needs.contains(Extension::RequireTls) && !self.is_verified {
            return Some(ClientReason::NoTls);
        }
        if let Some(extension) = needs(mail, self.host).without(offered).iter().next() {
            return Some(ClientReason::MissingExtension(extension));
        }
        if let Some(unfit) = message.envelope().unfit(self.offered) {
            return Some(ClientReason::Unfit(unfit));
        }
        let limit = self.offered.size_limit().filter(|_| self.used.contains(Extension::Size));
        // Of a file the system is asked.
        if let Some(limit) = limit
            && let Some(size) = size_above(limit, message.content())
        {
            return Some(ClientReason::TooLarge { size, limit });
        }
        let is_split = message.is_all_or_nothing() && !mail.fits(self.most_recipients(), self.most_domains());
        is_split.then(|| ClientReason::TooManyRecipients { limit: self.most_recipients() })
    }

    /// What the commands say accordingly.
    pub(super) fn wording(&self) -> Wording {
        Wording { used: self.used }
    }

    /// Most recipients of one transaction.
    pub(super) fn most_recipients(&self) -> u32 {
        let stated = self.offered.recipients_limit();
        let set = self.host.max_recipients;
        let least = stated.into_iter().chain(set).min();
        least.unwrap_or(USUAL_RECIPIENTS).max(1)
    }

    /// Most domains that they may be of.
    pub(super) fn most_domains(&self) -> Option<u32> {
        self.offered.recipient_domains_limit()
    }
}

/// Which parameters a MAIL has, by their extensions.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stated {
    /// Nobody asked for these; the client adds them by itself.
    pub(super) unasked: ExtensionSet,
    /// The mail cannot do without these, or its sender wants them.
    pub(super) asked: ExtensionSet,
    /// There are such as no extension is known for.
    pub(super) has_raw: bool,
}

impl Stated {
    /// Whether there are some that the mail has itself.
    pub(super) fn has_own(self) -> bool {
        self.has_raw || !self.asked.is_empty()
    }

    pub(super) fn is_empty(self) -> bool {
        self.unasked.is_empty() && !self.has_own()
    }
}

/// What MAIL and RCPT say to one session's server.
#[derive(Clone, Copy)]
pub(super) struct Wording {
    used: ExtensionSet,
}

impl Wording {
    /// MAIL for the mail, and what it says.
    pub(super) fn mail_line<'m>(&self, mail: &'m Mail) -> (MailLine<'m>, Stated) {
        let (envelope, content) = (mail.message.envelope(), mail.message.content());
        let body = match content.body_kind() {
            Some(Body::SevenBit) => None,
            kind @ Some(Body::BinaryMime) => kind,
            _ if mail.is_plain() => None,
            // What nobody has looked at may be anything.
            kind => kind.or(Some(Body::EightBitMime)),
        };
        let says_size = self.used.contains(Extension::Size) && !mail.is_plain();
        let size = if says_size { content.size_estimate() } else { None };
        let is_utf8 = mail.needs.contains(Extension::SmtpUtf8);
        let own = envelope.mail_parameters();
        let line = MailLine::new(envelope.from())
            .size(size)
            .body(body)
            .utf8(is_utf8)
            .parameters(own)
            .offered(self.used);
        let set = |them: [Option<Extension>; 2]| self.used.intersection(them.into_iter().flatten().collect());
        let (needed, added) = match body {
            Some(Body::BinaryMime) => (body, None),
            body => (None, body),
        };
        let own = own.map_or(ExtensionSet::EMPTY, |own| own.needs().union(own.wishes()));
        let stated = Stated {
            unasked: set([size.map(|_| Extension::Size), added.map(Body::extension)]),
            asked: set([needed.map(Body::extension), is_utf8.then_some(Extension::SmtpUtf8)])
                .union(self.used.intersection(own)),
            has_raw: envelope.mail_parameters().is_some_and(MailParameters::has_raw),
        };
        (line, stated)
    }

    /// RCPT for the recipient at this place.
    pub(super) fn rcpt_line<'m>(&self, mail: &'m Mail, place: u32) -> Option<RcptLine<'m>> {
        let envelope = mail.message.envelope();
        let to = envelope.recipients().get(place as usize)?;
        let parameters = envelope.recipient_parameters(place as usize);
        Some(RcptLine::new(to).parameters(parameters).offered(self.used))
    }
}

/// The size of a content above the limit. What mending adds counts, too (RFC 1870
/// §5), where it is known; it makes nothing more than twice as long.
fn size_above(limit: u64, content: &Content) -> Option<u64> {
    let estimate = content.size_estimate()?;
    if estimate > limit || estimate.saturating_mul(2) <= limit {
        return Some(estimate).filter(|size| *size > limit);
    }
    let is_binary = content.body_kind() == Some(Body::BinaryMime);
    let framing = if is_binary { Framing::Raw } else { Framing::Chunked };
    content.framed_len(framing).filter(|size| *size > limit)
}

/// The extensions without which the mail cannot be sent as it is.
fn needs(mail: &Mail, host: &HostSettings) -> ExtensionSet {
    let needs = mail.needs;
    match mail.message.content().body_kind() {
        Some(Body::BinaryMime) => needs.with(Extension::BinaryMime).with(Extension::Chunking),
        Some(Body::EightBitMime) if !host.eight_bit_anyway => needs.with(Extension::EightBitMime),
        _ => needs,
    }
}
