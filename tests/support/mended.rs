//! What a server has to store of a content, said once more and in the plainest way, so that tests hold
//! the crate's own mending against it.

/// As the guide promises it: each CRLF, CR or LF ends a line, and the last line is ended too.
pub fn mended(raw: &[u8]) -> Vec<u8> {
    let mut mended = Vec::new();
    let mut rest = raw.iter().copied().peekable();
    while let Some(octet) = rest.next() {
        if octet == b'\r' || octet == b'\n' {
            if octet == b'\r' {
                rest.next_if_eq(&b'\n');
            }
            mended.extend_from_slice(b"\r\n");
        } else {
            mended.push(octet);
        }
    }
    if !mended.is_empty() && !mended.ends_with(b"\r\n") {
        mended.extend_from_slice(b"\r\n");
    }
    mended
}
