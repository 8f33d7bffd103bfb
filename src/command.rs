//! Commands of a client, and the one encoder that writes them. Arguments are
//! checked types, so that no command can carry a line end of its own.

use std::fmt;

use crate::envelope::{Domain, ForwardPath, ReversePath};

/// Longest command line in octets, line end included (RFC 5321 §4.5.3.1.4).
/// Only what answers a challenge of AUTH may be longer.
pub const MAX_COMMAND: usize = 512;

/// A line of an authentication, which shows nothing of itself (RFC 4954 §4).
#[derive(Clone, Copy)]
pub struct AuthLine<'a> {
    mechanism: Option<&'a str>,
    base64: Option<&'a str>,
}

impl<'a> AuthLine<'a> {
    /// AUTH with the name of a mechanism, and perhaps its initial response in
    /// base64.
    pub(crate) fn begin(mechanism: &'a str, initial: Option<&'a str>) -> AuthLine<'a> {
        AuthLine { mechanism: Some(mechanism), base64: initial }
    }

    /// The answer to a challenge in base64, or `*`.
    pub(crate) fn answer(base64: &'a str) -> AuthLine<'a> {
        AuthLine { mechanism: None, base64: Some(base64) }
    }

    fn parts(self) -> [&'a str; 5] {
        let verb = if self.mechanism.is_some() { "AUTH " } else { "" };
        let space = if self.mechanism.and(self.base64).is_some() { " " } else { "" };
        [verb, self.mechanism.unwrap_or_default(), space, self.base64.unwrap_or_default(), "\r\n"]
    }

    /// Octets, line end included.
    pub(crate) fn length(self) -> usize {
        self.parts().iter().map(|part| part.len()).sum()
    }
}

impl fmt::Debug for AuthLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthLine").field("mechanism", &self.mechanism).finish_non_exhaustive()
    }
}

/// A command and its arguments (RFC 5321 §4.1.1).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Command<'a> {
    /// Names the client and asks for the extensions (§4.1.1.1).
    Ehlo(&'a Domain),
    /// Names the client to a server that refuses EHLO (§4.1.1.1).
    Helo(&'a Domain),
    /// Asks for TLS (RFC 3207 §4).
    StartTls,
    /// Begins an authentication, answers a challenge, or gives up.
    Auth(AuthLine<'a>),
    /// Begins a mail transaction (§4.1.1.2).
    Mail(&'a ReversePath),
    /// Names one recipient (§4.1.1.3).
    Rcpt(&'a ForwardPath),
    /// Asks to send the content (§4.1.1.4).
    Data,
    /// Gives up the mail transaction (§4.1.1.5).
    Rset,
    /// Ends the session (§4.1.1.10).
    Quit,
}

impl Command<'_> {
    /// Appends the command line to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Command::Ehlo(name) => line(out, "EHLO ", name.as_str(), ""),
            Command::Helo(name) => line(out, "HELO ", name.as_str(), ""),
            Command::StartTls => line(out, "STARTTLS", "", ""),
            Command::Auth(auth) => {
                // One allocation: none that is left behind holds a secret.
                out.reserve(auth.length());
                auth.parts().iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
            }
            Command::Mail(path) => line(out, "MAIL FROM:<", path.as_str(), ">"),
            Command::Rcpt(path) => line(out, "RCPT TO:<", path.as_str(), ">"),
            Command::Data => line(out, "DATA", "", ""),
            Command::Rset => line(out, "RSET", "", ""),
            Command::Quit => line(out, "QUIT", "", ""),
        }
    }
}

fn line(out: &mut Vec<u8>, verb: &str, argument: &str, end: &str) {
    for part in [verb, argument, end, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(command: Command<'_>) -> String {
        let mut out = Vec::new();
        command.encode(&mut out);
        assert!(out.len() <= MAX_COMMAND);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn commands_have_no_space_after_the_colon() {
        let from: ReversePath = "ann@example.org".parse().unwrap();
        let to: ForwardPath = "\"a b\"@[127.0.0.1]".parse().unwrap();
        assert_eq!(encoded(Command::Mail(&from)), "MAIL FROM:<ann@example.org>\r\n");
        assert_eq!(encoded(Command::Mail(&ReversePath::null())), "MAIL FROM:<>\r\n");
        assert_eq!(encoded(Command::Rcpt(&to)), "RCPT TO:<\"a b\"@[127.0.0.1]>\r\n");
        assert_eq!(encoded(Command::Data), "DATA\r\n");
    }

    #[test]
    fn an_initial_response_stands_behind_its_mechanism() {
        assert_eq!(encoded(Command::Auth(AuthLine::begin("LOGIN", None))), "AUTH LOGIN\r\n");
        assert_eq!(encoded(Command::Auth(AuthLine::begin("EXTERNAL", Some("=")))), "AUTH EXTERNAL =\r\n");
        let answer = Command::Auth(AuthLine::answer("c2VjcmV0"));
        assert_eq!(encoded(answer), "c2VjcmV0\r\n");
        assert_eq!(encoded(Command::Auth(AuthLine::answer(""))), "\r\n");
        assert!(!format!("{answer:?}").contains("c2Vj"));
        assert_eq!(encoded(Command::StartTls), "STARTTLS\r\n");
    }
}
