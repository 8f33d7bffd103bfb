//! MAIL and RCPT with their parameters, as they are put together before they are encoded.
//!
//! Whoever builds a line says what the server offers; a parameter of anything else is never
//! written.

use std::fmt::Display;
use std::io::Write;

use super::append;
use crate::envelope::{ForwardPath, ReversePath};
use crate::extensions::{Extension, ExtensionSet};
use crate::parameters::{Body, MailParameters, RecipientParameters};

/// MAIL: the sender, and the parameters that the server knows.
///
/// ```
/// use smtp_bulk::command::{Command, MailLine};
/// use smtp_bulk::{Extension, ReversePath};
///
/// let from: ReversePath = "news@example.org".parse()?;
/// let line = MailLine::new(&from).size(Some(1000)).offered(Extension::Size.into());
/// let mut out = Vec::new();
/// Command::Mail(line).encode(&mut out);
/// assert_eq!(out, b"MAIL FROM:<news@example.org> SIZE=1000\r\n");
/// # Ok::<(), smtp_bulk::envelope::AddressError>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct MailLine<'a> {
    from: &'a ReversePath,
    size: Option<u64>,
    body: Option<Body>,
    utf8: bool,
    parameters: Option<&'a MailParameters>,
    offered: ExtensionSet,
}

impl<'a> MailLine<'a> {
    /// MAIL without parameters, and so far without extensions.
    pub fn new(from: &'a ReversePath) -> MailLine<'a> {
        let offered = ExtensionSet::EMPTY;
        MailLine { from, size: None, body: None, utf8: false, parameters: None, offered }
    }

    /// How many octets the content has, where that is known (SIZE, RFC 1870).
    pub fn size(mut self, octets: Option<u64>) -> MailLine<'a> {
        self.size = octets;
        self
    }

    /// What octets the content is made of, where that is to be said (BODY, RFC 6152, RFC 3030).
    pub fn body(mut self, body: Option<Body>) -> MailLine<'a> {
        self.body = body;
        self
    }

    /// Whether addresses or header fields are beyond ASCII (SMTPUTF8, RFC 6531 §3.4).
    pub fn utf8(mut self, utf8: bool) -> MailLine<'a> {
        self.utf8 = utf8;
        self
    }

    /// What the caller asks for.
    pub fn parameters(mut self, parameters: Option<&'a MailParameters>) -> MailLine<'a> {
        self.parameters = parameters;
        self
    }

    /// What the server offers and nobody has switched off; raw parameters alone are written without.
    pub fn offered(mut self, offered: ExtensionSet) -> MailLine<'a> {
        self.offered = offered;
        self
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        append(out, ["MAIL FROM:<", self.from.wire(), ">"]);
        if let Some(octets) = self.size.filter(|_| self.offers(Extension::Size)) {
            append(out, [" SIZE=", itoa::Buffer::new().format(octets)]);
        }
        if let Some(body) = self.body.filter(|body| self.offers(body.extension())) {
            append(out, [" BODY=", body.as_str()]);
        }
        if self.utf8 && self.offers(Extension::SmtpUtf8) {
            append(out, [" SMTPUTF8"]);
        }
        if let Some(parameters) = self.parameters {
            self.encode_parameters(parameters, out);
        }
        append(out, ["\r\n"]);
    }

    fn encode_parameters(&self, parameters: &MailParameters, out: &mut Vec<u8>) {
        if self.offers(Extension::Dsn) {
            optional(out, "RET=", parameters.ret());
            optional(out, "ENVID=", parameters.envelope_id());
        }
        if self.offers(Extension::DeliverBy) {
            optional(out, "BY=", parameters.deliver_by());
        }
        if self.offers(Extension::MtPriority) {
            optional(out, "MT-PRIORITY=", parameters.priority());
        }
        if self.offers(Extension::RequireTls) && parameters.requires_tls() {
            append(out, [" REQUIRETLS"]);
        }
        if self.offers(Extension::FutureRelease) {
            optional(out, "", parameters.hold());
        }
        raw(out, parameters.raw());
    }

    fn offers(&self, extension: Extension) -> bool {
        self.offered.contains(extension)
    }
}

/// RCPT: one recipient, and the parameters that the server knows.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct RcptLine<'a> {
    to: &'a ForwardPath,
    parameters: Option<&'a RecipientParameters>,
    offered: ExtensionSet,
}

impl<'a> RcptLine<'a> {
    /// RCPT without parameters, and so far without extensions.
    pub fn new(to: &'a ForwardPath) -> RcptLine<'a> {
        RcptLine { to, parameters: None, offered: ExtensionSet::EMPTY }
    }

    /// What the caller asks for.
    pub fn parameters(mut self, parameters: Option<&'a RecipientParameters>) -> RcptLine<'a> {
        self.parameters = parameters;
        self
    }

    /// What the server offers and nobody has switched off; raw parameters alone are written without.
    pub fn offered(mut self, offered: ExtensionSet) -> RcptLine<'a> {
        self.offered = offered;
        self
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        append(out, ["RCPT TO:<", self.to.wire(), ">"]);
        if let Some(parameters) = self.parameters {
            if self.offered.contains(Extension::Dsn) {
                optional(out, "NOTIFY=", parameters.notify());
                optional(out, "ORCPT=", parameters.original_recipient());
            }
            raw(out, parameters.raw());
        }
        append(out, ["\r\n"]);
    }
}

fn optional(out: &mut Vec<u8>, keyword: &str, value: Option<impl Display>) {
    if let Some(value) = value {
        parameter(out, keyword, value);
    }
}

fn raw<'a>(out: &mut Vec<u8>, parameters: impl Iterator<Item = (&'a str, Option<&'a str>)>) {
    for (keyword, value) in parameters {
        append(out, [" ", keyword]);
        if let Some(value) = value {
            append(out, ["=", value]);
        }
    }
}

fn parameter(out: &mut Vec<u8>, keyword: &str, value: impl Display) {
    // A vector takes whatever is written to it.
    let _ = write!(out, " {keyword}{value}");
}
