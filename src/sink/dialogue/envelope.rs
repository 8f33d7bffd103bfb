//! The part of the dialogue that `MAIL` and `RCPT` are (RFC 5321 §4.1.1.2 and §4.1.1.3), with the
//! parameters that extensions add.

use super::{Dialogue, Next};
use crate::sink::draft::{Draft, Held};
use crate::sink::extension::Extension;
use crate::sink::fault::Step;
use crate::sink::parameters::{self, ParameterError};
use crate::sink::reply;
use crate::sink::syntax::{PathError, is_mailbox, path};

impl Dialogue {
    pub(super) fn mail(&mut self, arguments: &[u8], out: &mut Vec<u8>) -> Option<Next> {
        let (address, text) = match path(arguments, "FROM:", self.announces(Extension::SmtpUtf8)) {
            Ok((address, _)) if !address.is_empty() && !is_mailbox(address) => {
                return self.mistake(out, reply::BAD_SENDER);
            }
            Ok(parts) => parts,
            Err(PathError::Syntax) => return self.mistake(out, reply::BAD_SENDER),
            Err(PathError::NotAscii) => return self.mistake(out, reply::NOT_ASCII),
        };
        let auth = self.auth_announced().is_some();
        let found = match parameters::mail(text, auth, |extension| self.announces(extension)) {
            Ok(found) => found,
            Err(error) => return self.mistake(out, complaint(error)),
        };
        if !found.utf8 && !address.is_ascii() {
            return self.mistake(out, reply::NOT_ASCII);
        }
        self.act(Step::Mail, Some(address), out, |this, out| {
            if let Some(refusal) = this.mail_untimely() {
                return this.mistake(out, refusal);
            }
            if this.shared.settings.max_mails.is_some_and(|most| this.mails >= most) {
                this.refuse(out, reply::TOO_MANY_MAILS);
                return Some(Next::Close);
            }
            let max_size = this.shared.settings.max_message_size;
            if found.size.zip(max_size).is_some_and(|(size, most)| size > most) {
                this.refuse(out, reply::TOO_LARGE);
                return None;
            }
            this.mails = this.mails.saturating_add(1);
            let mut draft = Draft::new(address, text, this.held());
            draft.utf8 = found.utf8;
            draft.binary = found.binary;
            this.draft = Some(draft);
            out.extend_from_slice(reply::SENDER_OK);
            None
        })
    }

    /// Why a mail must not be begun now.
    fn mail_untimely(&self) -> Option<&'static [u8]> {
        if self.helo.is_empty() {
            return Some(reply::HELLO_FIRST);
        }
        if self.lacks_tls() {
            return Some(reply::TLS_REQUIRED);
        }
        if self.lacks_login() {
            return Some(reply::AUTH_REQUIRED);
        }
        self.draft.is_some().then_some(reply::NESTED_MAIL)
    }

    /// What of a mail is to be held. Faults at the final replies of LMTP go by addresses.
    fn held(&self) -> Held {
        let content = self.shared.ledger.keeps();
        let faulty = || self.shared.settings.lmtp && self.shared.faults.borrow().waits_at(Step::Dot);
        Held { content, envelope: content || faulty() }
    }

    pub(super) fn rcpt(&mut self, arguments: &[u8], out: &mut Vec<u8>) -> Option<Next> {
        let utf8 = self.draft.as_ref().is_some_and(|draft| draft.utf8);
        let (address, text) = match path(arguments, "TO:", utf8) {
            Ok(parts) if is_mailbox(parts.0) || parts.0.eq_ignore_ascii_case("postmaster") => parts,
            Ok(_) | Err(PathError::Syntax) => return self.mistake(out, reply::BAD_RECIPIENT),
            Err(PathError::NotAscii) => return self.mistake(out, reply::NOT_ASCII),
        };
        if let Err(error) = parameters::rcpt(text, utf8, |extension| self.announces(extension)) {
            return self.mistake(out, complaint(error));
        }
        if let Some(draft) = &mut self.draft {
            draft.addressed = true;
        }
        self.act(Step::Rcpt, Some(address), out, |this, out| {
            let most = this.shared.settings.max_recipients;
            let most_domains = this.shared.settings.max_recipient_domains;
            match &mut this.draft {
                None => return this.mistake(out, reply::MAIL_FIRST),
                Some(draft) if draft.has_chunks() => return this.mistake(out, reply::CHUNKS_BEGUN),
                Some(draft) if draft.recipients() >= most => {
                    this.refuse(out, reply::TOO_MANY_RECIPIENTS);
                }
                Some(draft) if most_domains.is_some_and(|most| draft.exceeds_domains(address, most)) => {
                    this.refuse(out, reply::TOO_MANY_DOMAINS);
                }
                Some(draft) => {
                    draft.add_recipient(address, text, most_domains.is_some());
                    out.extend_from_slice(reply::RECIPIENT_OK);
                }
            }
            None
        })
    }
}

fn complaint(error: ParameterError) -> &'static [u8] {
    match error {
        ParameterError::Unknown => reply::UNKNOWN_PARAMETER,
        ParameterError::Syntax => reply::BAD_PARAMETER,
    }
}
