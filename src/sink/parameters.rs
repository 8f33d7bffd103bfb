//! The parameters of `MAIL` and `RCPT`: which there are, and what their values look like.
//!
//! Everything here borrows from the line and never allocates. What a parameter asks for is not done
//! here, and mostly nowhere: the server keeps its text, for a test to look at.

use super::extension::{Extension, LONGEST_HOLD};

/// The longest ENVID (RFC 3461 §4.4) and ORCPT (§4.2), in characters.
const MAX_ENVID: usize = 100;
const MAX_ORCPT: usize = 500;

/// What is wrong with parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ParameterError {
    /// Not announced.
    Unknown,
    /// Not what its RFC says, given twice, or beside one that excludes it.
    Syntax,
}

/// What the server has to know of the parameters of `MAIL`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MailParameters {
    /// The size that the client has declared.
    pub(super) size: Option<u64>,
    /// `BODY=BINARYMIME`: there is no `DATA` for this mail.
    pub(super) binary: bool,
    /// `SMTPUTF8`: its addresses may be beyond ASCII.
    pub(super) utf8: bool,
}

/// The parameters, in the order of their bits in [`Once`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parameter {
    Size,
    Body,
    SmtpUtf8,
    Ret,
    Envid,
    By,
    MtPriority,
    RequireTls,
    HoldFor,
    HoldUntil,
    Auth,
    Notify,
    Orcpt,
}

/// The parameters that a command has had so far.
#[derive(Default)]
struct Once(u16);

impl Once {
    fn note(&mut self, parameter: Parameter) -> Result<(), ParameterError> {
        // Of these two a mail may have one (RFC 4865 §5).
        let excluded = match parameter {
            Parameter::HoldFor => 1 << Parameter::HoldUntil as u16,
            Parameter::HoldUntil => 1 << Parameter::HoldFor as u16,
            _ => 0,
        };
        let bit = 1 << parameter as u16;
        if self.0 & (bit | excluded) != 0 {
            return Err(ParameterError::Syntax);
        }
        self.0 |= bit;
        Ok(())
    }
}

/// Reads the parameters of `MAIL`; `auth` says whether AUTH is announced, `announces` the same of
/// the extensions.
pub(super) fn mail(
    text: &str,
    auth: bool,
    announces: impl Fn(Extension) -> bool,
) -> Result<MailParameters, ParameterError> {
    const TABLE: [(&str, Parameter, Option<Extension>); 10] = [
        ("SIZE", Parameter::Size, Some(Extension::Size)),
        ("SMTPUTF8", Parameter::SmtpUtf8, Some(Extension::SmtpUtf8)),
        ("RET", Parameter::Ret, Some(Extension::Dsn)),
        ("ENVID", Parameter::Envid, Some(Extension::Dsn)),
        ("BY", Parameter::By, Some(Extension::DeliverBy)),
        ("MT-PRIORITY", Parameter::MtPriority, Some(Extension::MtPriority)),
        ("REQUIRETLS", Parameter::RequireTls, Some(Extension::RequireTls)),
        ("HOLDFOR", Parameter::HoldFor, Some(Extension::FutureRelease)),
        ("HOLDUNTIL", Parameter::HoldUntil, Some(Extension::FutureRelease)),
        ("AUTH", Parameter::Auth, None),
    ];
    let (mut found, mut once) = (MailParameters::default(), Once::default());
    if text.is_empty() {
        return Ok(found);
    }
    for (key, value) in text.split(' ').map(split) {
        if key.eq_ignore_ascii_case("BODY") {
            once.note(Parameter::Body)?;
            found.binary = is_binary(value, &announces)?;
            continue;
        }
        let known = TABLE.iter().find(|(name, ..)| name.eq_ignore_ascii_case(key));
        let &(_, parameter, extension) = known.ok_or(ParameterError::Unknown)?;
        if !extension.map_or(auth, &announces) {
            return Err(ParameterError::Unknown);
        }
        once.note(parameter)?;
        match (parameter, value) {
            (Parameter::Size, Some(value)) => {
                // 20 digits at most (RFC 1870 §3).
                found.size = Some(digits(value, 20).ok_or(ParameterError::Syntax)?);
            }
            (Parameter::SmtpUtf8, None) => found.utf8 = true,
            (Parameter::RequireTls, None) => {}
            (_, Some(value)) if is_mail_value(parameter, value) => {}
            // Without its value it is another parameter.
            (Parameter::Auth, _) => return Err(ParameterError::Unknown),
            _ => return Err(ParameterError::Syntax),
        }
    }
    Ok(found)
}

/// Checks the parameters of `RCPT`; `utf8` says whether the mail is one of SMTPUTF8.
pub(super) fn rcpt(
    text: &str,
    utf8: bool,
    announces: impl Fn(Extension) -> bool,
) -> Result<(), ParameterError> {
    let mut once = Once::default();
    if text.is_empty() {
        return Ok(());
    }
    for (key, value) in text.split(' ').map(split) {
        let notify = key.eq_ignore_ascii_case("NOTIFY");
        if !notify && !key.eq_ignore_ascii_case("ORCPT") || !announces(Extension::Dsn) {
            return Err(ParameterError::Unknown);
        }
        once.note(if notify { Parameter::Notify } else { Parameter::Orcpt })?;
        let value = value.ok_or(ParameterError::Syntax)?;
        if !(if notify { is_notify(value) } else { is_orcpt(value, utf8) }) {
            return Err(ParameterError::Syntax);
        }
    }
    Ok(())
}

fn split(text: &str) -> (&str, Option<&str>) {
    text.split_once('=').map_or((text, None), |(key, value)| (key, Some(value)))
}

/// Whether a `BODY` is the binary one. Each of its values has an extension of its own.
fn is_binary(value: Option<&str>, announces: impl Fn(Extension) -> bool) -> Result<bool, ParameterError> {
    let is = |name: &str| value.is_some_and(|value| value.eq_ignore_ascii_case(name));
    let (binary, eight_bit) = (announces(Extension::BinaryMime), announces(Extension::EightBitMime));
    match is("BINARYMIME") {
        true if binary => Ok(true),
        true => Err(ParameterError::Unknown),
        false if !binary && !eight_bit => Err(ParameterError::Unknown),
        false if is("7BIT") || is("8BITMIME") => Ok(false),
        false => Err(ParameterError::Syntax),
    }
}

fn is_mail_value(parameter: Parameter, value: &str) -> bool {
    match parameter {
        Parameter::Ret => ["FULL", "HDRS"].iter().any(|known| value.eq_ignore_ascii_case(known)),
        Parameter::Envid => value.len() <= MAX_ENVID && is_xtext(value, false),
        Parameter::By => is_by(value),
        Parameter::MtPriority => {
            // From -9 to 9 (RFC 6710 §4).
            matches!(value.strip_prefix('-').unwrap_or(value).as_bytes(), [b'1'..=b'9']) || value == "0"
        }
        // 9 digits at most (RFC 4865 §4).
        Parameter::HoldFor => digits(value, 9).is_some_and(|time| (1..=LONGEST_HOLD).contains(&time)),
        Parameter::HoldUntil => is_date_time(value),
        Parameter::Auth => is_xtext(value, false),
        _ => false,
    }
}

/// A number of so many digits at most.
fn digits(text: &str, most: usize) -> Option<u64> {
    let clean = (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    // More than a u64 holds is more than any limit.
    clean.then(|| text.parse().unwrap_or(u64::MAX))
}

/// Text in which `+` and two digits stand for an octet (RFC 3461 §4).
fn is_xtext(text: &str, utf8: bool) -> bool {
    let mut bytes = text.bytes();
    let is_hex = |byte: Option<u8>| byte.is_some_and(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'));
    while let Some(byte) = bytes.next() {
        let good = match byte {
            b'+' => is_hex(bytes.next()) && is_hex(bytes.next()),
            b'=' => false,
            byte => byte.is_ascii_graphic() || utf8 && !byte.is_ascii(),
        };
        if !good {
            return false;
        }
    }
    !text.is_empty()
}

/// `NEVER` alone, or a list of occasions (RFC 3461 §4.1).
fn is_notify(value: &str) -> bool {
    let occasions = ["SUCCESS", "FAILURE", "DELAY"];
    let known = |part: &str| occasions.iter().any(|occasion| part.eq_ignore_ascii_case(occasion));
    value.eq_ignore_ascii_case("NEVER") || value.split(',').all(known)
}

/// A kind of address and the address (RFC 3461 §4.2); UTF-8 may be in it as it is (RFC 6533 §3).
fn is_orcpt(value: &str, utf8: bool) -> bool {
    let is_kind = |kind: &str| {
        !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let parts = value.split_once(';').filter(|_| value.chars().count() <= MAX_ORCPT);
    parts.is_some_and(|(kind, address)| is_kind(kind) && is_xtext(address, utf8))
}

/// Seconds, a semicolon, what to do when they are over, and whether to be traced (RFC 2852 §4). To
/// return a mail, there has to be time.
fn is_by(value: &str) -> bool {
    let Some((time, mode)) = value.split_once(';') else { return false };
    let late = time.starts_with('-');
    let Some(seconds) = digits(time.strip_prefix(['-', '+']).unwrap_or(time), 9) else { return false };
    let is = |known: &str| mode.eq_ignore_ascii_case(known);
    is("N") || is("NT") || (is("R") || is("RT")) && !late && seconds > 0
}

/// Whether this has the shape of a date and a time with its zone (RFC 3339 §5.6).
fn is_date_time(value: &str) -> bool {
    const SHAPE: &[u8] = b"0000-00-00T00:00:00";
    let alike = |text: &[u8], shape: &[u8]| {
        text.len() == shape.len()
            && text.iter().zip(shape).all(|(&byte, &place)| match place {
                b'0' => byte.is_ascii_digit(),
                place => byte.eq_ignore_ascii_case(&place),
            })
    };
    let Some((time, zone)) = value.as_bytes().split_at_checked(SHAPE.len()) else { return false };
    let zone = zone.strip_prefix(b".").map_or(zone, |fraction| {
        let end = fraction.iter().position(|byte| !byte.is_ascii_digit());
        fraction.get(end.unwrap_or(fraction.len())..).unwrap_or_default()
    });
    alike(time, SHAPE) && (alike(zone, b"Z") || alike(zone, b"+00:00") || alike(zone, b"-00:00"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads parameters of a server that announces everything.
    fn all(text: &str) -> Result<MailParameters, ParameterError> {
        mail(text, true, |_| true)
    }

    #[test]
    fn what_the_server_must_know_is_found() {
        assert_eq!(all(""), Ok(MailParameters::default()));
        let found = all("size=10 BODY=binarymime SMTPUTF8 RET=HDRS").unwrap();
        assert_eq!(found, MailParameters { size: Some(10), binary: true, utf8: true });
        let huge = all("SIZE=99999999999999999999").unwrap();
        assert_eq!(huge.size, Some(u64::MAX));
    }

    #[test]
    fn values_are_what_their_rfc_says() {
        for good in [
            "BODY=7BIT",
            "BODY=8bitmime",
            "RET=FULL",
            "ENVID=a+3Db",
            "BY=120;R",
            "BY=-5;NT",
            "BY=+0;n",
            "MT-PRIORITY=0",
            "MT-PRIORITY=-9",
            "HOLDFOR=2592000",
            "HOLDUNTIL=2030-01-02T03:04:05Z",
            "HOLDUNTIL=2030-01-02t03:04:05.67-08:00",
            "AUTH=<>",
            "AUTH=a+2Bb@c.example",
            "REQUIRETLS",
        ] {
            assert!(all(good).is_ok(), "{good}");
        }
        let long = format!("ENVID={}", "x".repeat(MAX_ENVID + 1));
        for bad in [
            "SIZE",
            "SIZE=",
            "SIZE=-1",
            "SIZE=+1",
            "SIZE=1 SIZE=1",
            "SIZE=100000000000000000000",
            "BODY",
            "BODY=BASE64",
            "SMTPUTF8=yes",
            "RET=ALL",
            "RET",
            "ENVID=",
            "ENVID=a=b",
            "ENVID=a+b",
            "ENVID=a+3d",
            "ENVID=a+3",
            &long,
            "BY=120",
            "BY=0;R",
            "BY=-5;R",
            "BY=1234567890;N",
            "BY=1;X",
            "BY=1;NTT",
            "MT-PRIORITY=10",
            "MT-PRIORITY=-0",
            "MT-PRIORITY=",
            "HOLDFOR=0",
            "HOLDFOR=2592001",
            "HOLDFOR=1 HOLDUNTIL=2030-01-02T03:04:05Z",
            "HOLDUNTIL=2030-01-02",
            "HOLDUNTIL=2030-01-02T03:04:05",
            "REQUIRETLS=1",
        ] {
            assert_eq!(all(bad), Err(ParameterError::Syntax), "{bad}");
        }
    }

    #[test]
    fn what_was_not_announced_is_unknown() {
        for text in ["X", "SIZE=1", "BODY=7BIT", "SMTPUTF8", "RET=FULL", "AUTH=<>", " SIZE=1", "="] {
            assert_eq!(mail(text, false, |_| false), Err(ParameterError::Unknown), "{text}");
        }
        assert_eq!(all("AUTH="), Err(ParameterError::Unknown));
        let eight_bit = |extension| extension == Extension::EightBitMime;
        assert_eq!(mail("BODY=BINARYMIME", false, eight_bit), Err(ParameterError::Unknown));
        assert_eq!(rcpt("NOTIFY=NEVER", false, |_| false), Err(ParameterError::Unknown));
        assert_eq!(rcpt("SIZE=1", false, |_| true), Err(ParameterError::Unknown));
    }

    #[test]
    fn parameters_of_a_recipient_are_checked() {
        for good in [
            "NOTIFY=NEVER",
            "NOTIFY=success,DELAY ORCPT=rfc822;a+2Bb@c.example",
            r"ORCPT=utf-8;\x{E4}@c.example",
        ] {
            assert_eq!(rcpt(good, false, |_| true), Ok(()), "{good}");
        }
        for bad in [
            "NOTIFY",
            "NOTIFY=",
            "NOTIFY=NEVER,DELAY",
            "NOTIFY=SUCCESS,",
            "NOTIFY=NEVER NOTIFY=NEVER",
            "ORCPT=a@b.example",
            "ORCPT=;a@b.example",
            "ORCPT=rfc822;",
            "ORCPT=rfc822;a+b",
            "ORCPT=utf-8;\u{E4}@b.example",
        ] {
            assert_eq!(rcpt(bad, false, |_| true), Err(ParameterError::Syntax), "{bad}");
        }
        assert_eq!(rcpt("ORCPT=utf-8;\u{E4}@b.example", true, |_| true), Ok(()));
    }
}
