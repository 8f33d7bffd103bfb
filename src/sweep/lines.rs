//! The lines that servers say, for a caller who wants to hear each of them as it
//! is read. Nobody is asked here: what was read in one pass is told behind it.

use crate::host::LaneId;

/// Octets of a line that are kept at the most: as many as a reply may have in one.
const MOST: usize = crate::reply::MAX_REPLY_LINE;

/// What was read and not told yet.
#[derive(Default)]
pub(super) struct Lines {
    text: Vec<u8>,
    /// Whose each line is, and where it ends in the text.
    ends: Vec<(LaneId, usize)>,
}

impl Lines {
    /// Octets have come on a lane; `unfinished` is what it had of a line before.
    pub(super) fn add(&mut self, lane: LaneId, unfinished: &mut Vec<u8>, bytes: &[u8]) {
        let mut pieces = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(piece) = pieces.next() {
            let room = MOST.saturating_sub(unfinished.len());
            unfinished.extend_from_slice(piece.get(..room).unwrap_or(piece));
            if pieces.peek().is_some() {
                let line = unfinished.strip_suffix(b"\r").unwrap_or(unfinished);
                self.text.extend_from_slice(line);
                self.ends.push((lane, self.text.len()));
                unfinished.clear();
            }
        }
        if unfinished.is_empty() {
            // A lane that rests owns nothing.
            *unfinished = Vec::new();
        }
    }

    /// Something was read that nobody is shown.
    pub(super) fn withhold(&mut self, lane: LaneId, octets: usize) {
        self.text.extend_from_slice(format!("({octets} octets withheld: AUTH)").as_bytes());
        self.ends.push((lane, self.text.len()));
    }

    /// Tells all lines in the order in which they were read, and forgets them.
    pub(super) fn tell(&mut self, mut told: impl FnMut(LaneId, &[u8])) {
        let mut from = 0;
        let text = std::mem::take(&mut self.text);
        for (lane, end) in self.ends.drain(..) {
            told(lane, text.get(from..end).unwrap_or_default());
            from = end;
        }
        self.text = text;
        self.text.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: LaneId = LaneId { host: 0, thread: 1 };
    const BOB: LaneId = LaneId { host: 1, thread: 0 };

    fn told(lines: &mut Lines) -> Vec<(LaneId, String)> {
        let mut all = Vec::new();
        lines.tell(|lane, line| all.push((lane, String::from_utf8_lossy(line).into_owned())));
        all
    }

    #[test]
    fn lines_are_told_whole_however_they_come() {
        let mut lines = Lines::default();
        let (mut ann, mut bob) = (Vec::new(), Vec::new());
        lines.add(ANN, &mut ann, b"250-mx\r\n250 SI");
        lines.add(BOB, &mut bob, b"354 go on\r");
        assert_eq!(told(&mut lines), [(ANN, "250-mx".to_owned())]);
        lines.add(BOB, &mut bob, b"\n");
        lines.add(ANN, &mut ann, b"ZE\r\n\n");
        let expected = [(BOB, "354 go on".to_owned()), (ANN, "250 SIZE".to_owned()), (ANN, String::new())];
        assert_eq!(told(&mut lines), expected);
        assert!(told(&mut lines).is_empty() && ann.capacity() == 0);
    }

    #[test]
    fn a_line_without_an_end_is_bounded() {
        let mut lines = Lines::default();
        let mut unfinished = Vec::new();
        for _ in 0..100 {
            lines.add(ANN, &mut unfinished, &[b'x'; 1_000]);
        }
        assert_eq!(unfinished.len(), MOST);
        lines.add(ANN, &mut unfinished, b"\n");
        assert_eq!(told(&mut lines)[0].1.len(), MOST);
    }
}
