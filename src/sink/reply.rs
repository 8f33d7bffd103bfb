//! The replies that the server sends, and what faults make of them.
//!
//! Every reply to a command other than the greetings carries an enhanced status code, because the
//! server announces them (RFC 2034) unless it is told not to. Nothing here decides which reply is sent.

use super::dialogue::Next;
use super::draft::Spoilt;
use super::fault::Misdeed;

pub(super) const READY_FOR_TLS: &[u8] = b"220 2.0.0 Ready to start TLS\r\n";
pub(super) const AUTHENTICATED: &[u8] = b"235 2.7.0 Authenticated\r\n";
pub(super) const OK: &[u8] = b"250 2.0.0 OK\r\n";
pub(super) const SENDER_OK: &[u8] = b"250 2.1.0 Sender OK\r\n";
pub(super) const RECIPIENT_OK: &[u8] = b"250 2.1.5 Recipient OK\r\n";
pub(super) const GO_AHEAD: &[u8] = b"354 End with a dot on a line of its own\r\n";
pub(super) const CHUNK_OK: &[u8] = b"250 2.0.0 Chunk accepted\r\n";
pub(super) const NOTHING_QUEUED: &[u8] = b"250 2.0.0 OK, nothing is queued\r\n";
pub(super) const STORED: &[u8] = b"250 2.6.0 Mail accepted\r\n";
pub(super) const CANNOT_VERIFY: &[u8] = b"252 2.1.5 Not verified, but mail is accepted\r\n";
pub(super) const HELP: &[u8] = b"214 2.0.0 Commands: EHLO HELO MAIL RCPT DATA RSET NOOP VRFY HELP QUIT\r\n";
pub(super) const BYE: &[u8] = b"221 2.0.0 Closing\r\n";

pub(super) const CLOSING: &[u8] = b"421 4.3.2 Service not available, closing\r\n";
pub(super) const IDLE: &[u8] = b"421 4.4.2 Idle for too long, closing\r\n";
pub(super) const TOO_MANY_CONNECTIONS: &[u8] = b"421 4.7.0 Too many connections, closing\r\n";
pub(super) const TOO_MANY_MAILS: &[u8] = b"421 4.7.0 Too many mails, closing\r\n";
pub(super) const TOO_MANY_RECIPIENTS: &[u8] = b"452 4.5.3 Too many recipients\r\n";
pub(super) const TOO_MANY_DOMAINS: &[u8] = b"452 4.5.3 Too many domains of recipients\r\n";
pub(super) const TOO_LARGE: &[u8] = b"552 5.3.4 Mail is larger than the limit\r\n";
pub(super) const NO_RECIPIENTS_OF_LMTP: &[u8] = b"503 5.5.1 No recipient was accepted\r\n";
pub(super) const NO_RECIPIENTS: &[u8] = b"554 5.5.1 No recipient was accepted\r\n";

pub(super) const NO_PIPELINING: &[u8] = b"500 5.5.1 Pipelining not supported, closing\r\n";
pub(super) const UNKNOWN_COMMAND: &[u8] = b"500 5.5.1 Unknown command\r\n";
pub(super) const LINE_TOO_LONG: &[u8] = b"500 5.5.2 Line too long\r\n";
pub(super) const BAD_LINE_END: &[u8] = b"500 5.5.2 A line ends in CRLF and has no CR or NUL\r\n";
pub(super) const NO_ARGUMENTS: &[u8] = b"501 5.5.4 No arguments allowed\r\n";
pub(super) const ARGUMENT_MISSING: &[u8] = b"501 5.5.4 Argument missing\r\n";
pub(super) const BAD_NAME: &[u8] = b"501 5.5.4 Needs a domain or an address literal\r\n";
pub(super) const BAD_SENDER: &[u8] = b"501 5.1.7 Needs FROM:<address>\r\n";
pub(super) const BAD_RECIPIENT: &[u8] = b"501 5.1.3 Needs TO:<address>\r\n";
pub(super) const BAD_PARAMETER: &[u8] = b"501 5.5.4 Bad parameter\r\n";
pub(super) const BAD_CHUNK: &[u8] = b"501 5.5.4 Needs a size, and LAST or nothing\r\n";
pub(super) const BAD_QUEUE: &[u8] = b"501 5.5.4 Needs a domain\r\n";
pub(super) const BAD_AUTH: &[u8] = b"501 5.5.4 Needs a mechanism, and at most an initial response\r\n";
pub(super) const BAD_BASE64: &[u8] = b"501 5.5.2 Not base64\r\n";
pub(super) const BAD_ANSWER: &[u8] = b"501 5.5.2 Not what the mechanism says\r\n";
pub(super) const AUTH_CANCELLED: &[u8] = b"501 5.7.0 Cancelled\r\n";
pub(super) const NOT_IMPLEMENTED: &[u8] = b"502 5.5.1 Not implemented\r\n";
pub(super) const TURNED_AWAY: &[u8] = b"503 5.5.1 Only QUIT is left\r\n";
pub(super) const HELLO_FIRST: &[u8] = b"503 5.5.1 EHLO or HELO first\r\n";
pub(super) const EHLO_FIRST: &[u8] = b"503 5.5.1 EHLO first\r\n";
pub(super) const TLS_ALREADY: &[u8] = b"503 5.5.1 This is TLS already\r\n";
pub(super) const AUTHENTICATED_ALREADY: &[u8] = b"503 5.5.1 Authenticated already\r\n";
pub(super) const NESTED_MAIL: &[u8] = b"503 5.5.1 A mail is under way\r\n";
pub(super) const MAIL_FIRST: &[u8] = b"503 5.5.1 MAIL first\r\n";
pub(super) const RCPT_FIRST: &[u8] = b"503 5.5.1 RCPT first\r\n";
pub(super) const CHUNKS_BEGUN: &[u8] = b"503 5.5.1 BDAT has begun\r\n";
pub(super) const CHUNK_BEFORE_REFUSED: &[u8] = b"503 5.5.1 A chunk was refused, RSET first\r\n";
pub(super) const BDAT_ONLY: &[u8] = b"503 5.5.1 BINARYMIME comes by BDAT\r\n";
pub(super) const UNKNOWN_MECHANISM: &[u8] = b"504 5.5.4 Unknown mechanism\r\n";
pub(super) const AUTH_REQUIRED: &[u8] = b"530 5.7.0 Authentication required\r\n";
pub(super) const BAD_CREDENTIALS: &[u8] = b"535 5.7.8 Wrong user, password or token\r\n";
pub(super) const ENCRYPTION_REQUIRED: &[u8] = b"538 5.7.11 Encryption required for this mechanism\r\n";
pub(super) const TLS_REQUIRED: &[u8] = b"530 5.7.0 Must issue a STARTTLS command first\r\n";
pub(super) const NOT_ASCII: &[u8] = b"553 5.6.7 Addresses are ASCII here\r\n";
pub(super) const BEHIND_STARTTLS: &[u8] = b"554 5.5.1 Nothing may follow STARTTLS, closing\r\n";
pub(super) const UNKNOWN_PARAMETER: &[u8] = b"555 5.5.4 Unknown parameter\r\n";

/// What of a reply goes out before it breaks off, when there is no reply to break.
const HALF_OF_NONE: &[u8] = b"451 4.3";

/// The answer to a mail that could not be stored.
pub(super) fn not_stored(spoilt: Spoilt) -> &'static [u8] {
    match spoilt {
        Spoilt::TooLarge => TOO_LARGE,
        Spoilt::DiskFull => b"452 4.3.1 Disk full\r\n",
        Spoilt::Unwritable | Spoilt::Answered => b"451 4.3.0 Mail could not be written\r\n",
    }
}

/// Adds a reply; line feeds in `text` make it a multi-line one.
pub(super) fn push(out: &mut Vec<u8>, code: u16, text: &str) {
    let mut lines = text.split('\n').map(|line| line.trim_end_matches('\r'));
    let mut line = lines.next().unwrap_or_default();
    for following in lines {
        push_line(out, code, b'-', line);
        line = following;
    }
    push_line(out, code, b' ', line);
}

/// Adds a reply that consists of a first line and of these.
pub(super) fn push_lines<'a>(
    out: &mut Vec<u8>,
    code: u16,
    first: &'a str,
    others: impl IntoIterator<Item = &'a str>,
) {
    let mut line = first;
    for following in others {
        push_line(out, code, b'-', line);
        line = following;
    }
    push_line(out, code, b' ', line);
}

fn push_line(out: &mut Vec<u8>, code: u16, separator: u8, text: &str) {
    out.extend_from_slice(code.to_string().as_bytes());
    out.push(separator);
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Does to the reply that begins at `mark` what the misdeed says. Behind [`Step::Content`] there is
/// no reply, and what is added stands alone.
///
/// [`Step::Content`]: super::fault::Step::Content
pub(super) fn disfigure(out: &mut Vec<u8>, mark: usize, misdeed: &Misdeed) -> Option<Next> {
    match misdeed {
        Misdeed::Hang => {
            out.truncate(mark);
            Some(Next::Hang)
        }
        Misdeed::Close => {
            out.truncate(mark);
            Some(Next::Abort)
        }
        Misdeed::CloseAfter => Some(Next::Close),
        Misdeed::HalfReply => {
            halve(out, mark);
            Some(Next::Hang)
        }
        Misdeed::HalfReplyClose => {
            halve(out, mark);
            Some(Next::Close)
        }
        Misdeed::Garbage(bytes) => {
            out.truncate(mark);
            out.extend_from_slice(bytes);
            None
        }
        Misdeed::LongReply(length) => {
            lengthen(out, mark, *length);
            None
        }
        Misdeed::Surplus(code, text) => {
            push(out, *code, text);
            None
        }
        Misdeed::Refuse(..)
        | Misdeed::RefuseUnread(..)
        | Misdeed::RefuseClose(..)
        | Misdeed::Close421
        | Misdeed::Delay(_)
        | Misdeed::LoseInput => None,
    }
}

fn halve(out: &mut Vec<u8>, mark: usize) {
    let length = out.len().saturating_sub(mark);
    if length == 0 {
        out.extend_from_slice(HALF_OF_NONE);
    } else {
        out.truncate(mark.saturating_add((length / 2).max(1)));
    }
}

/// Makes one line of `length` bytes, CRLF included, out of the reply's code.
fn lengthen(out: &mut Vec<u8>, mark: usize, length: usize) {
    let code = out.get(mark..).and_then(|reply| reply.first_chunk::<3>()).copied().unwrap_or(*b"250");
    out.truncate(mark);
    out.extend_from_slice(&code);
    out.push(b' ');
    out.resize(mark.saturating_add(length.max(6)).saturating_sub(2), b'x');
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_feeds_make_a_multi_line_reply() {
        let mut out = Vec::new();
        push(&mut out, 550, "one\r\ntwo\nthree");
        assert_eq!(out, b"550-one\r\n550-two\r\n550 three\r\n");
    }

    #[test]
    fn misdeeds_leave_earlier_replies_alone() {
        for misdeed in [
            Misdeed::Hang,
            Misdeed::Close,
            Misdeed::HalfReply,
            Misdeed::garbage(),
            Misdeed::LongReply(0),
            Misdeed::surplus(421, "late"),
        ] {
            let mut out = OK.to_vec();
            out.extend_from_slice(STORED);
            disfigure(&mut out, OK.len(), &misdeed);
            assert!(out.starts_with(OK), "{misdeed:?}");
        }
    }

    #[test]
    fn a_long_reply_is_one_line_of_that_length() {
        let mut out = GO_AHEAD.to_vec();
        disfigure(&mut out, 0, &Misdeed::LongReply(5000));
        assert_eq!(out.len(), 5000);
        assert!(out.starts_with(b"354 xxx") && out.ends_with(b"xx\r\n"));
        assert_eq!(memchr::memchr_iter(b'\n', &out).count(), 1);
    }
}
