//! Commands of a client, and the one encoder that writes them. Arguments are
//! checked types, so that no command can carry a line end of its own.

use crate::envelope::{Domain, ForwardPath, ReversePath};

/// Longest command line in octets, line end included, that the encoder can
/// write: verb, keyword and a path of RFC 5321 §4.5.3.1.3.
pub const MAX_COMMAND: usize = 512;

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
    /// Begins an authentication by this mechanism, with this initial response
    /// in base64 (RFC 4954 §4).
    Auth(&'a str, Option<&'a str>),
    /// Answers a challenge, in base64, or gives up by `*` (RFC 4954 §4).
    AuthResponse(&'a str),
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
            Command::Auth(mechanism, None) => line(out, "AUTH ", mechanism, ""),
            Command::Auth(mechanism, Some(initial)) => {
                // One allocation: none that is left behind holds a secret.
                out.reserve(mechanism.len() + initial.len() + "AUTH  \r\n".len());
                out.extend_from_slice(b"AUTH ");
                line(out, mechanism, " ", initial);
            }
            Command::AuthResponse(response) => {
                out.reserve(response.len() + "\r\n".len());
                line(out, "", response, "");
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
        assert_eq!(encoded(Command::Auth("LOGIN", None)), "AUTH LOGIN\r\n");
        assert_eq!(encoded(Command::Auth("EXTERNAL", Some("="))), "AUTH EXTERNAL =\r\n");
        assert_eq!(encoded(Command::AuthResponse("")), "\r\n");
        assert_eq!(encoded(Command::StartTls), "STARTTLS\r\n");
    }
}
