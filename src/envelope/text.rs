//! An address as it was given and as it goes onto the wire, in one allocation.
//!
//! The two differ only where an international domain was put into its `xn--` form, so that no server
//! needs SMTPUTF8 for it. Such an address keeps both; any other is no larger than its text.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};

use super::grammar::{AddressError, AddressErrorKind, BRACKETS, check_domain, fail, scan_local_part};
use super::{MAX_DOMAIN, MAX_PATH};

/// Before the first of two forms, and between them. No address holds it: the grammar takes no control
/// character.
const BETWEEN: char = '\0';

/// How a text is kept: by its owner alone, or shared by all who have a copy.
pub(super) trait Kept: Deref<Target = str> + for<'a> From<&'a str> + From<String> {}

impl<S: Deref<Target = str> + for<'a> From<&'a str> + From<String>> Kept for S {}

/// A checked address: the text as given; or where it differs, [`BETWEEN`], that text, [`BETWEEN`] and
/// the text as sent.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Text<S>(S);

impl<S: Kept> Text<S> {
    /// Nothing, in both forms.
    pub(super) fn empty() -> Text<S> {
        Text("".into())
    }

    /// A text that has passed the grammar. A local part within ASCII makes the domain go out in its
    /// `xn--` form; with any other the address needs SMTPUTF8 anyway, and is sent as it was given
    /// (RFC 6531 §3.2).
    pub(super) fn new(given: &str) -> Result<Text<S>, AddressError> {
        Ok(Text(match converted(given)? {
            Some(wire) => format!("{BETWEEN}{given}{BETWEEN}{wire}").into(),
            None => given.into(),
        }))
    }

    /// The same, without another allocation where the text may be kept as it is.
    pub(super) fn owned(given: String) -> Result<Text<S>, AddressError> {
        if given.is_ascii() { Ok(Text(given.into())) } else { Text::new(&given) }
    }

    pub(super) fn given(&self) -> &str {
        self.forms().map_or(&self.0, |(given, _)| given)
    }

    pub(super) fn wire(&self) -> &str {
        self.forms().map_or(&self.0, |(_, wire)| wire)
    }

    /// Both forms, where there are two; each mail asks a dozen times.
    fn forms(&self) -> Option<(&str, &str)> {
        self.0.strip_prefix(BETWEEN)?.split_once(BETWEEN)
    }
}

impl<S: Kept> fmt::Debug for Text<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.given(), f)
    }
}

/// The form for the wire, where it is another one.
fn converted(given: &str) -> Result<Option<String>, AddressError> {
    if given.is_ascii() {
        return Ok(None);
    }
    // A bare `Postmaster` is ASCII, so whatever comes here has an `@`.
    let Some((local_part, domain)) = given.split_at_checked(scan_local_part(given)?) else { return Ok(None) };
    let Some(domain) = domain.strip_prefix('@').filter(|_| local_part.is_ascii()) else { return Ok(None) };
    let begin = local_part.len().saturating_add(1);
    let domain = a_labels(domain).map_err(|error| error.moved(begin))?;
    let wire = format!("{local_part}@{domain}");
    if wire.len() > MAX_PATH - BRACKETS {
        return fail(AddressErrorKind::PathTooLong, begin);
    }
    Ok(Some(wire))
}

/// A domain beyond ASCII in its `xn--` form (RFC 5891, by the mapping of UTS 46). What comes out is
/// judged by our own grammar once more: the mapping makes dots, and could make anything of ASCII.
pub(super) fn a_labels(domain: &str) -> Result<Cow<'_, str>, AddressError> {
    if domain.is_ascii() {
        return Ok(Cow::Borrowed(domain));
    }
    if domain.len() > MAX_DOMAIN {
        return fail(AddressErrorKind::DomainTooLong, MAX_DOMAIN);
    }
    let mapped = Uts46::new().to_ascii(
        domain.as_bytes(),
        AsciiDenyList::EMPTY,
        Hyphens::CheckFirstLast,
        DnsLength::Ignore,
    );
    let Ok(mapped) = mapped else { return fail(AddressErrorKind::BadInternationalDomain, 0) };
    match check_domain(&mapped) {
        Ok(()) => Ok(mapped),
        // Its place in a text that the caller never saw would tell nothing.
        Err(error) => fail(error.kind(), 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Domain, Envelope, ForwardPath, ReversePath};

    fn wire(address: &str) -> String {
        let path: ForwardPath = address.parse().expect(address);
        assert_eq!(path.as_str(), address);
        assert_eq!(address.parse::<ReversePath>().unwrap().wire(), path.wire());
        assert_eq!(ForwardPath::try_from(address.to_owned()).as_ref(), Ok(&path));
        assert_eq!(ReversePath::try_from(format!("<{address}>")).unwrap().wire(), path.wire());
        assert_eq!(path.wire().is_ascii(), path.is_ascii());
        path.wire().to_owned()
    }

    /// One label is (B) of RFC 3492 §7.1, and some domains are IANA's for tests in other scripts.
    #[test]
    fn an_international_domain_behind_an_ascii_local_part_is_sent_in_its_ascii_form() {
        for (given, sent) in [
            ("ann@bücher.example", "ann@xn--bcher-kva.example"),
            ("ann@BÜCHER.Example", "ann@xn--bcher-kva.example"),
            ("ann@straße.example", "ann@xn--strae-oqa.example"),
            ("ann@例え.テスト", "ann@xn--r8jz45g.xn--zckzah"),
            ("ann@παράδειγμα.δοκιμή", "ann@xn--hxajbheg2az3al.xn--jxalpdlp"),
            ("ann@他们为什么不说中文", "ann@xn--ihqwcrb4cv8a8dqg056pqjye"),
            ("ann@例え。テスト", "ann@xn--r8jz45g.xn--zckzah"),
            ("\"a b\"@my_host.bücher.example", "\"a b\"@my_host.xn--bcher-kva.example"),
        ] {
            assert_eq!(wire(given), sent);
            assert_eq!(wire(sent), sent);
        }
    }

    #[test]
    fn an_international_local_part_keeps_the_domain_as_it_was_given() {
        for given in ["grå@bücher.example", "\"grå\"@例え.テスト", "grå@example.org", "grå@[127.0.0.1]"]
        {
            assert_eq!(wire(given), given);
        }
    }

    #[test]
    fn an_ascii_address_is_never_changed() {
        for given in ["ANN@Example.ORG", "ann@xn--nonsense-.example.org", "ann@[IPv6:::1]", "\"\"@b"] {
            if let Ok(path) = given.parse::<ForwardPath>() {
                assert_eq!((path.as_str(), path.wire()), (given, given));
                assert_eq!(path.0.0.len(), given.len());
            }
        }
        assert_eq!(size_of::<ForwardPath>(), size_of::<Box<str>>());
    }

    #[test]
    fn a_domain_without_an_ascii_form_is_refused_with_its_place() {
        use AddressErrorKind::*;
        for (given, kind) in [
            ("ann@bü\u{ad}\u{200e}cher.example", BadInternationalDomain),
            ("ann@a\u{fffd}.example", BadInternationalDomain),
            ("ann@\u{301}x.example", BadInternationalDomain),
            ("ann@a\u{ff20}b.example", UnexpectedCharacter('@')),
            ("ann@a\u{ff1e}b.example", UnexpectedCharacter('>')),
            ("ann@a。。b.example", MisplacedDot),
            ("ann@\u{ad}.example", MisplacedDot),
        ] {
            let error = given.parse::<ForwardPath>().expect_err(given);
            assert_eq!((error.kind(), error.position()), (kind, 5), "{given}");
            let error = format!("<{given}>").parse::<ReversePath>().expect_err(given);
            assert_eq!((error.kind(), error.position()), (kind, 6), "{given}");
        }
        let long = format!("ann@{}.example", "ü".repeat(60));
        assert_eq!(long.parse::<ForwardPath>().unwrap_err().kind(), LabelTooLong);
        // Each label grows when it is encoded, and the whole beyond what a path may have.
        let long = format!("ann@{}example", "例え.".repeat(30));
        assert_eq!(long.parse::<ForwardPath>().unwrap_err().kind(), DomainTooLong);
        let domain = |labels: usize| format!("ann@{}", vec!["例え"; labels].join("."));
        assert_eq!(domain(21).parse::<ForwardPath>().unwrap_err().kind(), PathTooLong);
        assert_eq!(domain(20).parse::<ForwardPath>().unwrap().wire().len(), 4 + 20 * 12 - 1);
    }

    #[test]
    fn a_greeting_name_is_in_its_ascii_form() {
        let name: Domain = "blåbær.example".parse().unwrap();
        assert_eq!(name.as_str(), "xn--blbr-roah.example");
        assert_eq!(Domain::try_from("blåbær.example".to_owned()), Ok(name));
    }

    #[test]
    fn an_envelope_needs_no_smtputf8_for_a_domain_alone() {
        assert!(Envelope::parse("news@bücher.example", ["ann@例え.テスト"]).unwrap().is_ascii());
        assert!(!Envelope::parse("news@bücher.example", ["grå@example.net"]).unwrap().is_ascii());
    }

    #[test]
    fn what_is_shown_is_what_was_given() {
        let path: ForwardPath = "ann@bücher.example".parse().unwrap();
        assert_eq!(path.to_string(), "ann@bücher.example");
        assert_eq!(path.domain(), Some("bücher.example"));
        assert_eq!(format!("{path:?}"), "ForwardPath(\"ann@bücher.example\")");
        assert_ne!(path, "ann@xn--bcher-kva.example".parse().unwrap());
    }
}
