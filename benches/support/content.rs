//! What both clients send: the same envelope and the same 4 KiB of content.

/// The envelope's addresses, without angle brackets.
pub const SENDER: &str = "sender@client.example";
pub const RECIPIENT: &str = "recipient@server.example";
/// The name given with EHLO.
pub const HELLO: &str = "client.example";
/// Octets of content, before the final dot.
pub const CONTENT_OCTETS: usize = 4096;

/// A mail of exactly [`CONTENT_OCTETS`], ending in CRLF, in which no line begins with a dot: what
/// goes over the wire is therefore the same with and without dot-stuffing.
pub fn content() -> Vec<u8> {
    const HEADER: &[u8] = b"From: <sender@client.example>\r\nTo: <recipient@server.example>\r\n\
        Subject: benchmark\r\nDate: Thu, 1 Jan 1970 00:00:00 +0000\r\nMessage-ID: <1@client.example>\r\n\r\n";
    const LINE: &[u8] = b"The quick brown fox jumps over the lazy dog. 0123456789 0123456789 01234567.\r\n";

    let mut content = HEADER.to_vec();
    while content.len() + LINE.len() < CONTENT_OCTETS {
        content.extend_from_slice(LINE);
    }
    content.resize(CONTENT_OCTETS - 2, b'x');
    content.extend_from_slice(b"\r\n");
    content
}
