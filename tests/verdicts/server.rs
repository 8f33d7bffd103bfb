//! The server of the lane in question: friendly and of one mind, but for the one thing
//! that a line of the tables is about.

use crate::rows::{Peer, Row, Scene, Setting, Then};
use crate::script::{Asked, Does};

/// What it does for the line, once; and what it knows of the transaction.
pub struct Server {
    asked: &'static str,
    place: usize,
    then: Then,
    has_three: bool,
    setting: Setting,
    /// What it has yet to do.
    peer: Option<Peer>,
    mails: usize,
    recipients: usize,
    accepted: usize,
    /// It refused what the rest of the transaction stands on.
    is_spoilt: bool,
}

impl Server {
    pub fn new(row: &Row, peer: Peer, setting: Setting) -> Server {
        Server {
            asked: row.asked,
            place: row.place,
            then: row.then,
            has_three: row.scene == Scene::Three,
            setting,
            peer: Some(peer),
            mails: 0,
            recipients: 0,
            accepted: 0,
            is_spoilt: false,
        }
    }

    pub fn answer(&mut self, asked: &Asked<'_>) -> Option<Does> {
        // A chunk is a content.
        let what = if asked.what == "BDAT" { "content" } else { asked.what };
        match what {
            "connect" | "RSET" => (self.accepted, self.is_spoilt) = (0, false),
            "MAIL" => (self.mails, self.recipients, self.accepted) = (self.mails + 1, 0, 0),
            "RCPT" => self.recipients += 1,
            _ => {}
        }
        match self.peer {
            Some(peer) if self.is_due(what) => {
                self.peer = None;
                self.misbehave(what, peer)
            }
            _ => self.behave(what, asked.line),
        }
    }

    fn is_due(&self, what: &str) -> bool {
        let is_this = self.mails == self.place + 1;
        let is_before = self.mails == self.place;
        match self.asked {
            "second RCPT" => what == "RCPT" && self.recipients == 2 && is_this,
            "content before" => what == "content" && is_before,
            "between" => what == "mid-content" && is_before,
            "RSET" => what == "RSET" && is_before,
            "MAIL" | "RCPT" | "DATA" | "content" | "mid-content" => what == self.asked && is_this,
            opening => what == opening,
        }
    }

    fn misbehave(&mut self, what: &str, peer: Peer) -> Option<Does> {
        if self.has_three && what == "content" {
            return Some(among_three(peer));
        }
        self.is_spoilt = matches!(what, "MAIL" | "RSET") && self.then != Then::Takes;
        peer.does()
    }

    fn behave(&mut self, what: &str, line: &str) -> Option<Does> {
        let is_empty = self.is_spoilt || self.accepted == 0;
        let is_chunk = what == "content" && self.setting.is_chunked();
        match what {
            "EHLO" | "LHLO" => self.setting.offers.map(Does::Say),
            "MAIL" | "RCPT" if self.is_spoilt => Some(Does::Say("503 5.5.1 sequence\r\n")),
            "RCPT" => {
                self.accepted += 1;
                None
            }
            "content" if line == ".\r\n" => {
                self.is_spoilt = false;
                Some(Does::Say("554 5.5.1 for whom?\r\n"))
            }
            "DATA" if is_empty && self.then == Then::Refuses => Some(Does::Say("554 5.5.1 for whom?\r\n")),
            "content" if is_empty && is_chunk => Some(Does::Say("503 5.5.1 for whom?\r\n")),
            "content" if self.setting.is_lmtp => {
                Some(Does::Say("250 queued\r\n".repeat(self.accepted).leak()))
            }
            _ => None,
        }
    }
}

/// Three replies to a content, of which the one in the middle is not as it should be.
fn among_three(peer: Peer) -> Does {
    match peer {
        Peer::Say(text) => Does::Say(format!("250 first\r\n{text}250 last\r\n").leak()),
        Peer::Silence => Does::Say("250 first\r\n"),
        _ => Does::Last("250 first\r\n"),
    }
}
