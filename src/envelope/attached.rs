//! The parameters of an envelope: one pointer while there are none.

use super::{Envelope, ForwardPath};
use crate::extensions::{Extension, ExtensionSet, Extensions};
use crate::parameters::{MailParameters, ParameterError, RecipientParameters, Unfit};

/// Parameters, of which some ask for something.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Attached {
    mail: MailParameters,
    /// For every recipient that has none of its own.
    all: RecipientParameters,
    /// By the place of the recipient, in order, each place once.
    own: Vec<(u32, RecipientParameters)>,
}

impl Attached {
    fn of(&self, place: usize) -> &RecipientParameters {
        let found = u32::try_from(place).ok().and_then(|place| self.find(place).ok());
        found.and_then(|index| self.own.get(index)).map_or(&self.all, |(_, own)| own)
    }

    fn find(&self, place: u32) -> Result<usize, usize> {
        self.own.binary_search_by_key(&place, |(place, _)| *place)
    }

    fn is_empty(&self) -> bool {
        self.mail.is_empty() && self.all.is_empty() && self.own.is_empty()
    }

    /// The same where the recipients are those alone that `keep` is true for.
    fn subset(mut self, keep: &[bool]) -> Attached {
        let mut own = std::mem::take(&mut self.own).into_iter().peekable();
        let kept = (0..).zip(keep).filter(|(_, keep)| **keep);
        for (new_place, (place, _)) in (0..).zip(kept) {
            while own.next_if(|(before, _)| *before < place).is_some() {}
            if let Some((_, parameters)) = own.next_if(|(at, _)| *at == place) {
                self.own.push((new_place, parameters));
            }
        }
        self
    }
}

impl Envelope {
    /// The same with these parameters of MAIL instead of any that it had.
    #[must_use]
    pub fn with_mail_parameters(mut self, parameters: MailParameters) -> Envelope {
        self.attached.get_or_insert_default().mail = parameters;
        self.tidied()
    }

    /// The same with these parameters of RCPT for all recipients; those of a single recipient stay.
    #[must_use]
    pub fn with_recipient_parameters(mut self, parameters: RecipientParameters) -> Envelope {
        self.attached.get_or_insert_default().all = parameters;
        self.tidied()
    }

    /// The same with these parameters of RCPT for the recipient at this place, the first being 0,
    /// instead of those for all: nothing is taken over from them.
    ///
    /// # Errors
    /// When there is no such recipient.
    pub fn with_parameters_for(
        mut self,
        place: usize,
        parameters: RecipientParameters,
    ) -> Result<Envelope, ParameterError> {
        let number = u32::try_from(place).ok().filter(|_| place < self.to.len());
        let number = number.ok_or(ParameterError::NoSuchRecipient)?;
        let attached = self.attached.get_or_insert_default();
        let found = attached.find(number);
        match found.map(|index| attached.own.get_mut(index)) {
            Ok(Some((_, own))) => *own = parameters,
            Ok(None) => {}
            Err(index) => attached.own.insert(index, (number, parameters)),
        }
        Ok(self)
    }

    /// The parameters of MAIL, if there are any.
    #[must_use]
    pub fn mail_parameters(&self) -> Option<&MailParameters> {
        self.attached.as_deref().map(|attached| &attached.mail).filter(|parameters| !parameters.is_empty())
    }

    /// The parameters of RCPT for the recipient at this place, the first being 0, if there are any.
    #[must_use]
    pub fn recipient_parameters(&self, place: usize) -> Option<&RecipientParameters> {
        self.attached
            .as_deref()
            .map(|attached| attached.of(place))
            .filter(|parameters| !parameters.is_empty())
    }

    /// The extensions without which the mail must not be sent: SMTPUTF8 for an address that needs
    /// it, and those of [`MailParameters::needs`].
    #[must_use]
    pub fn needs(&self) -> ExtensionSet {
        let asked = self.mail_parameters().map_or(ExtensionSet::EMPTY, MailParameters::needs);
        if self.is_ascii() { asked } else { asked.with(Extension::SmtpUtf8) }
    }

    /// The extensions without which some of the parameters are left out.
    #[must_use]
    pub fn wishes(&self) -> ExtensionSet {
        let Some(attached) = &self.attached else { return ExtensionSet::EMPTY };
        let own = attached.own.iter().map(|(_, parameters)| parameters.wishes());
        own.fold(attached.mail.wishes().union(attached.all.wishes()), ExtensionSet::union)
    }

    /// What lies outside the bounds that the server states, if anything does.
    #[must_use]
    pub fn unfit(&self, extensions: &Extensions) -> Option<Unfit> {
        self.mail_parameters()?.unfit(extensions)
    }

    /// The envelope for those recipients alone whose place, the first being 0, `keep` is true for,
    /// with their parameters; `None` when there is no such recipient.
    ///
    /// ```
    /// use smtp_bulk::envelope::Envelope;
    ///
    /// let envelope = Envelope::parse("news@example.com", ["ann@example.net", "bob@example.net"])?;
    /// let rest = envelope.subset(|place| place == 1).expect("bob");
    /// assert_eq!(rest.recipients()[0].as_str(), "bob@example.net");
    /// # Ok::<(), smtp_bulk::envelope::EnvelopeError>(())
    /// ```
    #[must_use]
    pub fn subset(self, keep: impl FnMut(usize) -> bool) -> Option<Envelope> {
        let kept: Vec<bool> = (0..self.to.len()).map(keep).collect();
        let (from, to) = (self.from, self.to);
        let to = to.into_vec().into_iter().zip(&kept).filter(|(_, keep)| **keep).map(|(path, _)| path);
        let to: Vec<ForwardPath> = to.collect();
        let attached = self.attached.map(|attached| Box::new(attached.subset(&kept)));
        (!to.is_empty()).then(|| Envelope { from, to: to.into(), attached }.tidied())
    }

    /// Parameters that ask for nothing are none, so that envelopes which say the same are equal.
    fn tidied(mut self) -> Envelope {
        self.attached.take_if(|attached| attached.is_empty());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::{DeliverBy, EnvelopeId, Hold, Notify, OriginalRecipient, Priority, Ret};

    fn envelope(recipients: usize) -> Envelope {
        let to = (0..recipients).map(|number| format!("r{number}@example.net"));
        Envelope::parse("news@example.org", to).unwrap()
    }

    fn only(address: &str) -> RecipientParameters {
        RecipientParameters::new().with_original_recipient(OriginalRecipient::new("rfc822", address).unwrap())
    }

    #[test]
    fn an_envelope_without_parameters_carries_one_pointer_more() {
        // The addresses, whether there is one recipient only, and the pointer.
        let addresses = size_of::<(Box<str>, Box<[ForwardPath]>)>();
        assert_eq!(size_of::<Envelope>(), addresses + 2 * size_of::<usize>());
        let plain = envelope(1);
        let asked = plain.clone().with_mail_parameters(MailParameters::new().with_require_tls());
        assert_ne!(asked, plain);
        let unasked = asked.with_mail_parameters(MailParameters::new());
        assert!(unasked.attached.is_none());
        assert_eq!(unasked.with_recipient_parameters(RecipientParameters::new()), plain);
    }

    #[test]
    fn a_recipient_has_its_own_parameters_or_those_of_all() {
        let all = RecipientParameters::new().with_notify(Notify::NEVER);
        let set = envelope(3)
            .with_parameters_for(1, only("first@example.com"))
            .and_then(|set| set.with_parameters_for(0, RecipientParameters::new()))
            .and_then(|set| set.with_parameters_for(1, only("second@example.com")))
            .unwrap()
            .with_recipient_parameters(all.clone());
        assert_eq!(set.recipient_parameters(0), None);
        assert_eq!(set.recipient_parameters(1), Some(&only("second@example.com")));
        assert_eq!(set.recipient_parameters(2), Some(&all));
        assert_eq!(set.mail_parameters(), None);
        let beyond = set.with_parameters_for(3, all);
        assert_eq!(beyond, Err(ParameterError::NoSuchRecipient));
    }

    #[test]
    fn needs_and_wishes_follow_from_what_is_asked() {
        let set = |extensions: &[Extension]| extensions.iter().copied().collect::<ExtensionSet>();
        let mail = MailParameters::new();
        for (parameters, needs, wishes) in [
            (mail.clone(), set(&[]), set(&[])),
            (mail.clone().with_ret(Ret::Full), set(&[]), set(&[Extension::Dsn])),
            (mail.clone().with_envelope_id(EnvelopeId::new("x").unwrap()), set(&[]), set(&[Extension::Dsn])),
            (mail.clone().with_priority(Priority::new(0).unwrap()), set(&[]), set(&[Extension::MtPriority])),
            (mail.clone().with_require_tls(), set(&[Extension::RequireTls]), set(&[])),
            (mail.clone().with_hold(Hold::seconds(1).unwrap()), set(&[Extension::FutureRelease]), set(&[])),
            (
                mail.clone().with_deliver_by(DeliverBy::or_return(1).unwrap()),
                set(&[Extension::DeliverBy]),
                set(&[]),
            ),
            (mail.clone().with_raw("AUTH", Some("<>")).unwrap(), set(&[]), set(&[])),
        ] {
            let envelope = envelope(1).with_mail_parameters(parameters);
            assert_eq!((envelope.needs(), envelope.wishes()), (needs, wishes), "{envelope:?}");
        }
        let foreign = Envelope::parse("grå@example.org", ["ann@example.net"]).unwrap();
        assert_eq!(foreign.needs(), set(&[Extension::SmtpUtf8]));
        let one = envelope(2).with_parameters_for(1, only("a@b")).unwrap();
        assert_eq!(one.wishes(), set(&[Extension::Dsn]));
        let all =
            envelope(2).with_recipient_parameters(RecipientParameters::new().with_notify(Notify::NEVER));
        assert_eq!(all.wishes(), set(&[Extension::Dsn]));
    }

    #[test]
    fn parameters_follow_their_recipients_into_every_subset() {
        const COUNT: usize = 7;
        let mail = MailParameters::new().with_require_tls();
        let whole = [1, 2, 5, 6].into_iter().fold(envelope(COUNT), |envelope, place| {
            envelope.with_parameters_for(place, only(&format!("o{place}@example.com"))).unwrap()
        });
        let whole = whole.with_mail_parameters(mail.clone());
        for mask in 1..1_usize << COUNT {
            let is_kept = |place: usize| mask & 1 << place != 0;
            let part = whole.clone().subset(is_kept).unwrap();
            let places: Vec<usize> = (0..COUNT).filter(|place| is_kept(*place)).collect();
            assert_eq!(part.recipients().len(), places.len());
            assert_eq!(part.mail_parameters(), Some(&mail));
            for (new, old) in places.into_iter().enumerate() {
                assert_eq!(part.recipients()[new], whole.recipients()[old]);
                assert_eq!(part.recipient_parameters(new), whole.recipient_parameters(old));
            }
        }
        assert_eq!(whole.clone().subset(|_| true).as_ref(), Some(&whole));
        assert_eq!(whole.subset(|_| false), None);
        let one = envelope(2).with_parameters_for(1, only("a@b")).unwrap();
        assert!(one.subset(|place| place == 0).unwrap().attached.is_none());
    }
}
