//! The client's side of SMTP's grammar, as far as a server that stores and forwards nothing needs it.
//!
//! Strict where leniency would hide a client's mistake (spaces beside the colon, a path without
//! brackets); everything here borrows from the line and never allocates.

/// The commands that the server knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Ehlo,
    Helo,
    Mail,
    Rcpt,
    Data,
    Rset,
    Noop,
    Vrfy,
    Help,
    Quit,
    StartTls,
    Auth,
    Bdat,
    /// `EHLO` of LMTP (RFC 2033).
    Lhlo,
    Etrn,
    Expn,
}

/// What is wrong with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathError {
    /// Not `KEYWORD:<path>`, or no mailbox in it.
    Syntax,
    /// Beyond ASCII, which takes SMTPUTF8 (RFC 6531), or not even UTF-8.
    NotAscii,
}

impl Verb {
    /// Splits a line without its CRLF into the command and its arguments.
    pub(super) fn parse(line: &[u8]) -> (Option<Self>, &[u8]) {
        const TABLE: [(&[u8], Verb); 16] = [
            (b"RCPT", Verb::Rcpt),
            (b"MAIL", Verb::Mail),
            (b"DATA", Verb::Data),
            (b"BDAT", Verb::Bdat),
            (b"RSET", Verb::Rset),
            (b"NOOP", Verb::Noop),
            (b"EHLO", Verb::Ehlo),
            (b"HELO", Verb::Helo),
            (b"QUIT", Verb::Quit),
            (b"VRFY", Verb::Vrfy),
            (b"HELP", Verb::Help),
            (b"EXPN", Verb::Expn),
            (b"AUTH", Verb::Auth),
            (b"ETRN", Verb::Etrn),
            (b"LHLO", Verb::Lhlo),
            (b"STARTTLS", Verb::StartTls),
        ];
        let mut parts = line.splitn(2, |&byte| byte == b' ');
        let word = parts.next().unwrap_or_default();
        let arguments = parts.next().unwrap_or_default().trim_ascii_end();
        let verb = TABLE.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|&(_, verb)| verb);
        (verb, arguments)
    }
}

/// Takes `FROM:<path> parameters` or `TO:<path> parameters` apart; `utf8` says whether there may be
/// more than ASCII in it.
pub(super) fn path<'a>(
    arguments: &'a [u8],
    keyword: &str,
    utf8: bool,
) -> Result<(&'a str, &'a str), PathError> {
    let text = std::str::from_utf8(arguments).map_err(|_| PathError::NotAscii)?;
    if !utf8 && !text.is_ascii() {
        return Err(PathError::NotAscii);
    }
    let (name, rest) = text.split_at_checked(keyword.len()).ok_or(PathError::Syntax)?;
    let inside = rest.strip_prefix('<').ok_or(PathError::Syntax)?;
    if !name.eq_ignore_ascii_case(keyword) {
        return Err(PathError::Syntax);
    }
    let end = closing_bracket(inside).ok_or(PathError::Syntax)?;
    let (path, behind) = inside.split_at_checked(end).ok_or(PathError::Syntax)?;
    match behind.strip_prefix('>').ok_or(PathError::Syntax)? {
        "" => Ok((path, "")),
        behind => Ok((path, behind.strip_prefix(' ').ok_or(PathError::Syntax)?)),
    }
}

/// Where the `>` is that ends a path; one inside a quoted local part does not count.
fn closing_bracket(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    text.bytes().position(|byte| {
        let found = byte == b'>' && !quoted;
        if !escaped && byte == b'"' {
            quoted = !quoted;
        }
        escaped = quoted && !escaped && byte == b'\\';
        found
    })
}

/// The size of `BDAT size [LAST]`, and whether it is the last one (RFC 3030 §2).
pub(super) fn chunk(arguments: &[u8]) -> Option<(u64, bool)> {
    let text = std::str::from_utf8(arguments).ok()?;
    let (size, last) = match text.split_once(' ') {
        None => (text, false),
        Some((size, word)) if word.eq_ignore_ascii_case("LAST") => (size, true),
        Some(_) => return None,
    };
    // A plus sign would pass `parse`.
    let size = size.bytes().all(|byte| byte.is_ascii_digit()).then(|| size.parse().ok())??;
    Some((size, last))
}

/// Whether this is a mailbox in the sense of RFC 5321 §4.1.2, source route included, or of RFC 6531
/// §3.3 when it is not ASCII. The lengths of its parts are not checked: the RFC's are what a server
/// must take at least.
pub(super) fn is_mailbox(path: &str) -> bool {
    let address = match path.strip_prefix('@').map(|route| route.split_once(':')) {
        None => path,
        Some(Some((_, address))) => address,
        Some(None) => return false,
    };
    match local_part_end(address).and_then(|end| address.split_at_checked(end)) {
        Some((local, rest)) if !local.is_empty() => rest.strip_prefix('@').is_some_and(is_domain),
        _ => false,
    }
}

/// Where the local part ends, quoted or not.
fn local_part_end(address: &str) -> Option<usize> {
    let Some(quoted) = address.strip_prefix('"') else {
        let end = address.find('@')?;
        let local = address.get(..end)?;
        return local.bytes().all(is_atom_or_dot).then_some(end);
    };
    let mut escaped = false;
    let end = quoted.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })?;
    let clean = quoted.get(..end)?.bytes().all(|byte| (b' '..0x7f).contains(&byte) || !byte.is_ascii());
    clean.then_some(end.saturating_add(2))
}

/// The bytes of an unquoted local part (RFC 5321 `atext`, and the dot; RFC 6531 adds UTF-8).
fn is_atom_or_dot(byte: u8) -> bool {
    byte.is_ascii_graphic() && !br#"<>()[]\,;:@""#.contains(&byte) || !byte.is_ascii()
}

/// A domain name, which may be in UTF-8, or an address literal; underscores pass, as they do in most
/// servers.
pub(super) fn is_domain(domain: &str) -> bool {
    match domain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(literal) => {
            !literal.is_empty()
                && literal.bytes().all(|byte| byte.is_ascii_graphic() && !b"[]\\".contains(&byte))
        }
        None => {
            let label = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte) || !byte.is_ascii();
            domain.split('.').all(|part| !part.is_empty() && part.bytes().all(label))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_known_in_any_case() {
        assert_eq!(Verb::parse(b"mAiL FROM:<>"), (Some(Verb::Mail), &b"FROM:<>"[..]));
        assert_eq!(Verb::parse(b"QUIT"), (Some(Verb::Quit), &b""[..]));
        assert_eq!(Verb::parse(b"QUITE"), (None, &b""[..]));
        assert_eq!(Verb::parse(b""), (None, &b""[..]));
    }

    #[test]
    fn a_path_stands_in_brackets_right_behind_the_colon() {
        assert_eq!(path(b"FROM:<>", "FROM:", false), Ok(("", "")));
        assert_eq!(path(b"from:<a@b.example> SIZE=1 X", "FROM:", false), Ok(("a@b.example", "SIZE=1 X")));
        assert_eq!(path(br#"TO:<"a>\"b"@c.example>"#, "TO:", false), Ok((r#""a>\"b"@c.example"#, "")));
        for bad in ["TO: <a@b>", "TO:a@b", "TO:<a@b", "FROM:<a@b>", "TO:<a@b>x", "TO", ""] {
            assert_eq!(path(bad.as_bytes(), "TO:", false), Err(PathError::Syntax), "{bad}");
        }
        assert_eq!(path("TO:<ä@b.example>".as_bytes(), "TO:", false), Err(PathError::NotAscii));
        assert_eq!(path("TO:<ä@b.example>".as_bytes(), "TO:", true), Ok(("ä@b.example", "")));
        assert_eq!(path(b"TO:<\xff@b>", "TO:", true), Err(PathError::NotAscii));
    }

    #[test]
    fn mailboxes_are_told_from_other_text() {
        for good in [
            "a@b",
            "a.b+c@d.example",
            r#""a b"@c.example"#,
            r#""a\"@b"@c"#,
            "a@[127.0.0.1]",
            "a@[IPv6:::1]",
            "@relay.example,@b.example:a@c.example",
            "ä@ö.example",
        ] {
            assert!(is_mailbox(good), "{good}");
        }
        for bad in ["", "a", "@", "a@", "@b", "a b@c", "a@b c", "a@b..c", "a@[]", "a@b@c", "a\r@b", r#""a@b"#]
        {
            assert!(!is_mailbox(bad), "{bad}");
        }
    }

    #[test]
    fn a_chunk_has_a_size_and_may_be_the_last() {
        assert_eq!(chunk(b"0"), Some((0, false)));
        assert_eq!(chunk(b"86 last"), Some((86, true)));
        assert_eq!(chunk(b"18446744073709551615 LAST"), Some((u64::MAX, true)));
        for bad in ["", "LAST", "-1", "+1", "1 2", "1 LAST LAST", "18446744073709551616", "1  LAST"] {
            assert_eq!(chunk(bad.as_bytes()), None, "{bad}");
        }
    }
}
