//! The two mechanisms that carry a bearer token, taken apart.
//!
//! Whether the token is a good one is not decided here.

use std::borrow::Cow;

use super::scram;

/// A user and a token, and how the mechanism fails.
pub(super) struct Ticket<'a> {
    /// OAUTHBEARER may leave it out.
    pub(super) user: Option<Cow<'a, str>>,
    pub(super) token: &'a str,
    /// What the client is told when the token is none.
    pub(super) complaint: &'static str,
    /// What it answers to that.
    pub(super) last_words: &'static [u8],
}

/// `user=name^Aauth=Bearer token^A^A`, as Google and Microsoft describe it.
pub(super) fn xoauth2(text: &str) -> Option<Ticket<'_>> {
    let (user, rest) = text.strip_prefix("user=")?.split_once('\x01')?;
    let token = credentials(rest.strip_suffix("\x01\x01")?.strip_prefix("auth=")?)?;
    Some(Ticket {
        user: Some(Cow::Borrowed(user)),
        token,
        complaint: r#"{"status":"401","schemes":"bearer","scope":"https://mail.example/"}"#,
        last_words: b"",
    })
}

/// `n,a=name,^Ahost=name^Aport=number^Aauth=Bearer token^A^A` (RFC 7628 §3.1).
pub(super) fn oauth_bearer(text: &str) -> Option<Ticket<'_>> {
    let (header, rest) = text.split_once('\x01')?;
    let (name, behind) = scram::after_binding_flag(header)?;
    if !behind.is_empty() {
        return None;
    }
    let pairs = rest.strip_suffix("\x01\x01")?.split('\x01').map(|pair| pair.split_once('='));
    let pairs: Vec<(&str, &str)> = pairs.collect::<Option<_>>()?;
    let &(_, value) = pairs.iter().find(|(key, _)| *key == "auth")?;
    Some(Ticket {
        user: (!name.is_empty()).then_some(name),
        token: credentials(value)?,
        complaint: r#"{"status":"invalid_token","scope":"mail"}"#,
        last_words: b"\x01",
    })
}

/// What stands behind `Bearer` (RFC 6750 §2.1; the scheme in any case).
fn credentials(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("Bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_are_taken_apart() {
        let ticket = xoauth2("user=a,b=c@d\x01auth=bearer t0k=\x01\x01").unwrap();
        assert_eq!((ticket.user.as_deref(), ticket.token), (Some("a,b=c@d"), "t0k="));
        let text = "n,a=a=2Cb=3Dc@d,\x01host=h\x01port=25\x01auth=Bearer t0k=\x01\x01";
        let ticket = oauth_bearer(text).unwrap();
        assert_eq!((ticket.user.as_deref(), ticket.token), (Some("a,b=c@d"), "t0k="));
        assert!(oauth_bearer("n,,\x01auth=Bearer t\x01\x01").unwrap().user.is_none());
    }

    #[test]
    fn other_text_is_no_ticket() {
        for bad in ["", "user=a\x01auth=Bearer t\x01", "user=a\x01auth=Basic t\x01\x01", "user=a"] {
            assert!(xoauth2(bad).is_none(), "{bad:?}");
        }
        for bad in [
            "",
            "n,a=a,auth=Bearer t\x01\x01",
            "n,a=a,\x01auth=Bearer t\x01",
            "n,a=a=b,\x01auth=Bearer t\x01\x01",
            "n,a=a,\x01host\x01auth=Bearer t\x01\x01",
            "n,a=a,\x01host=h\x01\x01",
            "p=x,a=a,\x01auth=Bearer t\x01\x01",
        ] {
            assert!(oauth_bearer(bad).is_none(), "{bad:?}");
        }
    }
}
