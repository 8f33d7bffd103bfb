//! A content of a merge: the pieces that all mails of a template share, and the
//! values of one mail between them. What is shared was mended and stuffed once;
//! only its first octet, which may stand behind anything, is looked at again.

use std::ops::Range;
use std::sync::Arc;

use crate::stuffing::{Framing, Measure, Stuffer};

/// A template's texts and the slots between them, in the order of the mail.
pub(super) struct Layout {
    pieces: Vec<Piece>,
    dotted: Arc<Layer>,
    chunked: Arc<Layer>,
    raw: Arc<Layer>,
    raw_len: u64,
    is_ascii: bool,
}

#[derive(Clone, Copy)]
enum Piece {
    Text(Text),
    Slot(usize),
}

/// A text that is not empty.
#[derive(Clone, Copy)]
struct Text {
    /// Its place in each layer.
    number: usize,
    /// Its first octet: what becomes of it depends on what stands before.
    head: u8,
    last: u8,
}

/// The texts without their first octets, in one framing.
#[derive(Default, PartialEq)]
struct Layer {
    octets: Vec<u8>,
    ends: Vec<usize>,
    /// What a [`Measure`] counts for each.
    measured: Vec<u64>,
}

impl Layer {
    fn of(framing: Framing, texts: &[&[u8]]) -> Layer {
        let mut layer = Layer::default();
        layer.octets.reserve_exact(texts.iter().map(|text| text.len()).sum());
        for (&head, rest) in texts.iter().filter_map(|text| text.split_first()) {
            let mut measure = Measure::behind(framing, head);
            measure.add(rest);
            layer.measured.push(measure.octets());
            // A CR at the end is left to the state that the next piece meets.
            Stuffer::behind(framing, head).copy(rest, &mut layer.octets, usize::MAX);
            layer.ends.push(layer.octets.len());
        }
        layer
    }

    fn rest(&self, number: usize) -> &[u8] {
        let range = between(&self.ends, number);
        self.octets.get(range).unwrap_or_default()
    }
}

/// The range that ends at `ends[number]`.
fn between(ends: &[usize], number: usize) -> Range<usize> {
    let start = number.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(0);
    start..ends.get(number).copied().unwrap_or(start)
}

/// Gathers texts and slots in their order.
#[derive(Default)]
pub(super) struct LayoutBuilder<'a> {
    texts: Vec<&'a [u8]>,
    pieces: Vec<Piece>,
}

impl<'a> LayoutBuilder<'a> {
    pub(super) fn text(&mut self, text: &'a [u8]) {
        let (Some(&head), Some(&last)) = (text.first(), text.last()) else { return };
        self.pieces.push(Piece::Text(Text { number: self.texts.len(), head, last }));
        self.texts.push(text);
    }

    pub(super) fn slot(&mut self, slot: usize) {
        self.pieces.push(Piece::Slot(slot));
    }

    /// Mends and stuffs the texts. Where that changes nothing, the framings
    /// share what they have.
    pub(super) fn finish(self) -> Layout {
        let raw = Arc::new(Layer::of(Framing::Raw, &self.texts));
        let chunked = shared(Layer::of(Framing::Chunked, &self.texts), &raw);
        let dotted = shared(Layer::of(Framing::Dotted, &self.texts), &chunked);
        Layout {
            pieces: self.pieces,
            dotted,
            chunked,
            raw,
            raw_len: self.texts.iter().map(|text| text.len() as u64).sum(),
            is_ascii: self.texts.iter().all(|text| text.is_ascii()),
        }
    }
}

fn shared(layer: Layer, like: &Arc<Layer>) -> Arc<Layer> {
    if layer == **like { Arc::clone(like) } else { Arc::new(layer) }
}

impl Layout {
    fn layer(&self, framing: Framing) -> &Layer {
        match framing {
            Framing::Dotted => &self.dotted,
            Framing::Chunked => &self.chunked,
            Framing::Raw => &self.raw,
        }
    }
}

/// One mail of a merge.
pub(super) struct Merged {
    layout: Arc<Layout>,
    /// What stands in the slots, one behind the other.
    octets: Box<[u8]>,
    ends: Box<[usize]>,
    is_ascii: bool,
    raw_len: u64,
}

impl Merged {
    pub(super) fn new(layout: Arc<Layout>, octets: Vec<u8>, ends: Vec<usize>) -> Merged {
        let is_ascii = layout.is_ascii && octets.is_ascii();
        let mut merged = Merged { layout, octets: octets.into(), ends: ends.into(), is_ascii, raw_len: 0 };
        let slots = merged.layout.pieces.iter().map(|piece| match piece {
            Piece::Text(_) => 0,
            Piece::Slot(slot) => merged.slot(*slot).len() as u64,
        });
        merged.raw_len = slots.fold(merged.layout.raw_len, u64::saturating_add);
        merged
    }

    pub(super) fn is_ascii(&self) -> bool {
        self.is_ascii
    }

    pub(super) fn raw_len(&self) -> u64 {
        self.raw_len
    }

    pub(super) fn framed_len(&self, framing: Framing) -> u64 {
        let layer = self.layout.layer(framing);
        let mut measure = Measure::new(framing);
        for piece in &self.layout.pieces {
            match piece {
                Piece::Text(text) => {
                    measure.add(&[text.head]);
                    measure.skip(layer.measured.get(text.number).copied().unwrap_or(0), text.last);
                }
                Piece::Slot(slot) => measure.add(self.slot(*slot)),
            }
        }
        measure.total()
    }

    fn slot(&self, slot: usize) -> &[u8] {
        self.octets.get(between(&self.ends, slot)).unwrap_or_default()
    }
}

/// One attempt's way through a mail of a merge.
pub(super) struct MergedStream {
    merged: Arc<Merged>,
    piece: usize,
    /// Octets used of this piece, of a text those of its layer and its head.
    used: usize,
}

impl MergedStream {
    pub(super) fn new(merged: Arc<Merged>) -> MergedStream {
        MergedStream { merged, piece: 0, used: 0 }
    }

    pub(super) fn framed_len(&self, framing: Framing) -> u64 {
        self.merged.framed_len(framing)
    }

    /// Copies until the end, or until `out` holds `limit` octets or a few more;
    /// says whether that was all.
    pub(super) fn copy(&mut self, stuffer: &mut Stuffer, out: &mut Vec<u8>, limit: usize) -> bool {
        while let Some(piece) = self.merged.layout.pieces.get(self.piece).copied() {
            if out.len() >= limit {
                return false;
            }
            let is_used_up = match piece {
                Piece::Text(text) => self.copy_text(text, stuffer, out, limit),
                Piece::Slot(slot) => {
                    let rest = self.merged.slot(slot).get(self.used..).unwrap_or_default();
                    let copied = stuffer.copy(rest, out, limit);
                    let is_used_up = copied == rest.len();
                    self.used += copied;
                    is_used_up
                }
            };
            if is_used_up {
                self.piece += 1;
                self.used = 0;
            }
        }
        true
    }

    /// Whether the text is used up; its octets are counted when it is.
    fn copy_text(&mut self, text: Text, stuffer: &mut Stuffer, out: &mut Vec<u8>, limit: usize) -> bool {
        if self.used == 0 {
            self.used = stuffer.copy(&[text.head], out, limit);
        }
        let Some(used) = self.used.checked_sub(1) else { return false };
        let layout = &self.merged.layout;
        let rest = layout.layer(stuffer.framing()).rest(text.number).get(used..).unwrap_or_default();
        let copied = rest.get(..limit.saturating_sub(out.len())).unwrap_or(rest);
        out.extend_from_slice(copied);
        self.used += copied.len();
        let is_used_up = copied.len() == rest.len();
        if is_used_up {
            stuffer.passed(text.last);
        }
        is_used_up
    }
}
