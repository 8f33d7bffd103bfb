//! The total matrix of `docs/VERDICTS.md`: every event with every code and
//! every message verdict, inside a batch and outside, one command at a time and in
//! flights, played against scripted servers. What is seen is compared with the rules,
//! and the tables in the document with what was seen, so that none can change without
//! the others: `VERDICTS=write cargo test --test verdicts` writes them anew.

extern crate smtp_bulk;

#[path = "../../src/coordinator/tests/script.rs"]
mod script;

mod document;
mod flights;
mod lockstep;
mod peers;
mod play;
mod rows;
mod rules;
mod server;

use std::time::Duration;

use smtp_bulk::{EventKind, LaneId, MessageVerdict, Pace, Verdict};

use EventKind as K;

use play::{Cast, HERE, Play, THERE};
use rows::{Fate, Peer, Row, Way};
use rules::{Seen, expected, gravest};
use script::{Script, lane};

const CODES: [u16; 7] = [1, 101, 102, 103, 104, 202, 203];

const VERDICTS: [MessageVerdict; 3] =
    [MessageVerdict::Default, MessageVerdict::Requeue, MessageVerdict::Drop];

/// Two tables of the document: what becomes of the session, and what of messages.
struct Section {
    /// Stands in the tables' names.
    mark: &'static str,
    way: Way,
    rows: &'static [&'static [Row]],
}

const SECTIONS: &[Section] = &[
    Section { mark: "", way: Way::Single, rows: &[lockstep::ROWS] },
    Section { mark: " at level 1", way: Way::Envelope, rows: flights::LEVEL_1 },
    Section { mark: " at level 2 without CHUNKING", way: Way::Overlap, rows: flights::OVERLAP },
    Section { mark: " at level 2 with CHUNKING", way: Way::Whole, rows: flights::WHOLE },
    Section { mark: " in LMTP", way: Way::Lmtp, rows: flights::LMTP },
];

fn all_rows() -> impl Iterator<Item = &'static Row> {
    SECTIONS.iter().flat_map(|section| section.rows.iter().copied().flatten())
}

fn verdict(code: u16, message: MessageVerdict) -> Verdict {
    let verdict = Verdict::from_code(code).unwrap();
    match message {
        MessageVerdict::Requeue => verdict.requeue(),
        MessageVerdict::Drop => verdict.drop_message(),
        _ => verdict,
    }
}

/// All that brings the row's event about.
fn casts(row: &Row, verdict: Verdict, in_batch: bool, pace: Pace) -> Vec<Cast> {
    let mut casts = Vec::new();
    for setting in row.settings() {
        for peer in row.peers {
            let cast =
                |guard| Cast { peer: *peer, guard, setting, verdict, next: Verdict::DEFAULT, in_batch, pace };
            casts.extend(row.guards.iter().map(|guard| cast(*guard)));
        }
    }
    casts
}

/// Plays a row with every one of its servers, which must all come to what the rules
/// say.
fn played(row: &Row, code: u16, message: MessageVerdict, in_batch: bool) -> Seen {
    let right = expected(row, code, message, in_batch, Pace::Lockstep);
    let casts = casts(row, verdict(code, message), in_batch, Pace::Lockstep);
    assert!(!casts.is_empty(), "{} has no server", row.label());
    for cast in casts {
        let seen = Play::new(row, cast).seen();
        let what = format!("{:?} {} {code} {message:?} {cast:?}", row.way, row.label());
        assert_eq!(seen, right, "{what}");
    }
    right
}

#[test]
fn every_verdict_has_exactly_its_effect_from_every_callback() {
    for row in all_rows() {
        for code in CODES {
            for message in VERDICTS {
                played(row, code, message, true);
                if !row.has_mail() {
                    played(row, code, message, false);
                }
            }
        }
    }
}

#[test]
fn a_quorum_differs_for_stragglers_alone_and_a_free_pace_in_what_ends_a_batch() {
    let quorum = Pace::Quorum { share: 1.0, grace: Duration::ZERO };
    for pace in [quorum, Pace::Free] {
        for row in all_rows() {
            for code in CODES {
                for others in [true, row.has_mail()] {
                    let right = expected(row, code, MessageVerdict::Default, others, pace).session;
                    // The other lane's mail is through before a silence is over.
                    let is_lone = |cast: &Cast| pace == Pace::Free && matches!(cast.peer, Peer::Silence);
                    let casts = casts(row, verdict(code, MessageVerdict::Default), others, pace);
                    for cast in casts.into_iter().filter(|cast| !is_lone(cast)) {
                        let seen = Play::new(row, cast).session();
                        assert_eq!(seen, right, "{:?} {} {code} {cast:?}", row.way, row.label());
                    }
                }
            }
        }
    }
}

#[test]
fn message_verdicts_yield_to_delivery_and_doubt_alone() {
    for row in all_rows().filter(|row| row.has_mail()) {
        for code in CODES {
            let by_default = played(row, code, MessageVerdict::Default, true).it;
            let requeued = played(row, code, MessageVerdict::Requeue, true).it;
            let dropped = played(row, code, MessageVerdict::Drop, true).it;
            if matches!(by_default, Fate::Delivered | Fate::InDoubt) {
                assert_eq!((requeued, dropped), (by_default, by_default), "{}", row.label());
                continue;
            }
            assert_eq!(dropped, Fate::Dropped, "{}", row.label());
            assert!(matches!(requeued, Fate::Again | Fate::Free), "{}: {requeued:?}", row.label());
            if code == 104 {
                assert_eq!(requeued, Fate::Again, "{}: nothing else would bound it", row.label());
            }
        }
    }
}

#[test]
fn of_two_codes_in_one_flight_the_gravest_counts() {
    let is_passed = |row: &&Row| row.way == Way::Whole && row.kind == K::Pass && row.it == Fate::Delivered;
    for row in all_rows().filter(is_passed) {
        for one in CODES {
            for other in CODES {
                let right = expected(row, gravest(one, other), MessageVerdict::Default, true, Pace::Lockstep);
                for cast in casts(row, verdict(one, MessageVerdict::Default), true, Pace::Lockstep) {
                    let next = verdict(other, MessageVerdict::Default);
                    let seen = Play::new(row, Cast { next, ..cast }).seen();
                    assert_eq!(seen, right, "{} {one}, {other} {:?}", row.label(), cast.setting);
                }
            }
        }
    }
}

#[test]
fn the_tables_in_the_document_are_what_happens() {
    let written = std::fs::read_to_string(document::path()).unwrap();
    let right = document::with_tables(written.clone(), SECTIONS);
    if std::env::var_os("VERDICTS").is_some_and(|value| value == "write") {
        return std::fs::write(document::path(), &right).unwrap();
    }
    for (line, (written, right)) in written.lines().zip(right.lines()).enumerate() {
        assert_eq!(written, right, "line {} of docs/VERDICTS.md", line + 1);
    }
    assert_eq!(written, right);
}

#[test]
fn the_document_names_every_event_and_code() {
    let document = std::fs::read_to_string(document::path()).unwrap();
    let kinds = [
        K::ConnectPass,
        K::ConnectFail,
        K::AuthPass,
        K::AuthFail,
        K::ReconnectPass,
        K::ReconnectFail,
        K::Pass,
        K::Fail,
        K::Hang,
        K::GlobalHang,
    ];
    for kind in kinds {
        assert!(document.contains(&format!("| `{kind}` |")), "{kind}");
    }
    for code in CODES {
        assert!(document.contains(&format!("| {code} |")), "{code}");
    }
}

#[test]
fn each_table_tells_of_its_own_way_and_of_no_event_twice() {
    for section in SECTIONS {
        let mut labels: Vec<String> = Vec::new();
        for row in section.rows.iter().copied().flatten() {
            assert_eq!(row.way, section.way, "{}", row.label());
            labels.push(row.label());
        }
        labels.sort_unstable();
        let all = labels.len();
        labels.dedup();
        assert_eq!(labels.len(), all, "{:?}", section.way);
    }
}

#[test]
fn the_lanes_of_the_scene_are_as_assumed() {
    let script = Script::new(&[1, 1]);
    let ids: Vec<LaneId> = script.lanes().map(|lane| lane.id()).collect();
    assert_eq!(ids, [THERE, HERE]);
    assert_eq!(lane(1, 0), HERE);
}
