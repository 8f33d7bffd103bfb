//! Parameters that this crate knows nothing of but their form: `esmtp-param` of RFC 5321 §4.1.2.

use super::ParameterError;

/// Most octets that all raw parameters of one command have together, the space before each counted.
///
/// As many as the longest of the extensions adds to MAIL (AUTH, RFC 4954 §3) or RCPT (DSN).
pub const MAX_RAW: usize = 500;

/// What this crate writes itself: twice, or against what it knows of the server, it would be wrong.
const RESERVED: [&str; 12] = [
    "SIZE",
    "BODY",
    "SMTPUTF8",
    "RET",
    "ENVID",
    "NOTIFY",
    "ORCPT",
    "BY",
    "MT-PRIORITY",
    "REQUIRETLS",
    "HOLDFOR",
    "HOLDUNTIL",
];

/// The parameters as they go onto the wire, with a space before each.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct RawParameters(Box<str>);

impl RawParameters {
    /// These and one more.
    pub(super) fn with(&self, keyword: &str, value: Option<&str>) -> Result<RawParameters, ParameterError> {
        check_keyword(keyword)?;
        value.map_or(Ok(()), check_value)?;
        let is = |known: &str| known.eq_ignore_ascii_case(keyword);
        if RESERVED.into_iter().any(is) {
            return Err(ParameterError::Reserved);
        }
        if self.iter().any(|(known, _)| is(known)) {
            return Err(ParameterError::Repeated);
        }
        let (equals, value) = value.map_or(("", ""), |value| ("=", value));
        let octets = [self.0.len(), 1, keyword.len(), equals.len(), value.len()];
        if octets.into_iter().fold(0, usize::saturating_add) > MAX_RAW {
            return Err(ParameterError::TooLong { limit: MAX_RAW });
        }
        Ok(RawParameters(format!("{} {keyword}{equals}{value}", self.0).into()))
    }

    /// Keyword and value of each; neither has a space or, by itself, `=`.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let each = self.0.split(' ').skip(1);
        each.map(|one| one.split_once('=').map_or((one, None), |(keyword, value)| (keyword, Some(value))))
    }
}

/// `esmtp-keyword`.
fn check_keyword(keyword: &str) -> Result<(), ParameterError> {
    if keyword.is_empty() {
        return Err(ParameterError::Empty);
    }
    if keyword.starts_with('-') {
        return Err(ParameterError::UnexpectedCharacter('-'));
    }
    only(keyword, |letter| letter.is_ascii_alphanumeric() || letter == '-')
}

/// `esmtp-value`.
fn check_value(value: &str) -> Result<(), ParameterError> {
    if value.is_empty() {
        return Err(ParameterError::Empty);
    }
    only(value, |letter| letter.is_ascii_graphic() && letter != '=')
}

fn only(text: &str, fits: fn(char) -> bool) -> Result<(), ParameterError> {
    let odd = text.chars().find(|letter| !fits(*letter));
    odd.map_or(Ok(()), |odd| Err(ParameterError::UnexpectedCharacter(odd)))
}
