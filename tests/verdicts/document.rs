//! The tables of `docs/VERDICTS.md`, made of what was seen.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use smtp_bulk::MessageVerdict;

use crate::rows::{Fate, Row, Way};
use crate::rules::{Seen, SessionFate};
use crate::{CODES, Section, VERDICTS, played};

pub fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/VERDICTS.md")
}

/// The document with each section's tables as they should be.
pub fn with_tables(mut document: String, sections: &[Section]) -> String {
    for section in sections {
        let Section { mark, rows, .. } = section;
        let rows: Vec<&Row> = rows.iter().copied().flatten().collect();
        document = with_table(&document, &format!("sessions{mark}"), &session_table(&rows));
        document = with_table(&document, &format!("messages{mark}"), &message_table(&rows));
    }
    document
}

/// The document with `table` between the marks of this name.
fn with_table(document: &str, name: &str, table: &str) -> String {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("\n<!-- end of {name} -->"));
    let (head, rest) = document.split_once(&begin).unwrap_or_else(|| panic!("no begin of {name}"));
    let (_, tail) = rest.split_once(&end).unwrap_or_else(|| panic!("no end of {name}"));
    format!("{head}{begin}\n{table}\n{end}{tail}")
}

fn line(cells: &[String]) -> String {
    format!("| {} |", cells.join(" | "))
}

fn rule(columns: usize) -> String {
    line(&vec!["---".to_owned(); columns])
}

// ---- sessions ---------------------------------------------------------------------

fn session_table(rows: &[&Row]) -> String {
    // A mail is in hand in a batch alone.
    let names_place = rows.iter().any(|row| !row.has_mail());
    let mut head = vec!["event".to_owned()];
    head.extend(names_place.then(|| "where".to_owned()));
    head.extend(CODES.map(|code| code.to_string()));
    let mut lines = vec![line(&head), rule(head.len())];
    for row in rows {
        let places: &[bool] = if row.has_mail() { &[true] } else { &[true, false] };
        for in_batch in places {
            let mut cells = vec![row.label()];
            let place = if *in_batch { "in a batch" } else { "outside" };
            cells.extend(names_place.then(|| place.to_owned()));
            let cell = |code| played(row, code, MessageVerdict::Default, *in_batch).session.cell();
            cells.extend(CODES.map(|code| cell(code).to_owned()));
            lines.push(line(&cells));
        }
    }
    lines.join("\n")
}

// ---- messages ---------------------------------------------------------------------

/// Whose fate a column tells.
type Whose = fn(&Seen) -> Fate;

/// What was seen of one row: for each message verdict what each code came to.
struct Plays(Vec<(MessageVerdict, Vec<(u16, Seen)>)>);

impl Plays {
    fn of(row: &Row) -> Plays {
        let each = |message| CODES.map(|code| (code, played(row, code, message, true))).to_vec();
        Plays(VERDICTS.iter().map(|message| (*message, each(*message))).collect())
    }

    /// For code 1, any other code, requeue and drop.
    fn four(&self, whose: Whose) -> Vec<String> {
        let mut cells = Vec::new();
        for (message, plays) in &self.0 {
            let plays: Vec<_> = plays.iter().map(|(code, seen)| (*code, whose(seen))).collect();
            if *message == MessageVerdict::Default {
                let (one, others) = plays.split_at(1);
                cells.extend([summed_up(one), summed_up(others)]);
            } else {
                cells.push(summed_up(&plays));
            }
        }
        cells
    }

    /// The same in one cell.
    fn one(&self, whose: Whose) -> String {
        let all: Vec<&Seen> = self.0.iter().flat_map(|(_, plays)| plays).map(|(_, seen)| seen).collect();
        let goes_with_lane = |seen: &&&Seen| match whose(seen) {
            Fate::GoesOn => seen.session == SessionFate::Stays,
            fate => fate == Fate::Free && seen.session != SessionFate::Stays,
        };
        let goes_on = all.iter().any(|seen| whose(seen) == Fate::GoesOn);
        let four = self.four(whose);
        if four.iter().all(|cell| *cell == four[0]) {
            four[0].clone()
        } else if four == self.four(|seen| seen.it) {
            "the same".to_owned()
        } else if goes_on && all.iter().all(|seen| goes_with_lane(&seen)) {
            "with the lane".to_owned()
        } else {
            four.join(" / ")
        }
    }
}

/// One word where all codes come to the same, and the exceptions behind it.
fn summed_up(cells: &[(u16, Fate)]) -> String {
    let most = |cell: Fate| cells.iter().filter(|(_, other)| *other == cell).count();
    let (_, usual) = cells.iter().max_by_key(|(_, cell)| most(*cell)).expect("no cells");
    let mut text = usual.cell().to_owned();
    for (code, cell) in cells.iter().filter(|(_, cell)| cell != usual) {
        write!(text, "; {code}: {}", cell.cell()).unwrap();
    }
    text
}

fn message_table(rows: &[&Row]) -> String {
    let rows: Vec<&Row> = rows.iter().copied().filter(|row| row.has_mail()).collect();
    let (before, behind) = match rows.first() {
        Some(row) if row.way == Way::Lmtp => ("the recipient before", "the recipient behind"),
        Some(row) if row.way == Way::Whole => ("mails before", "mails behind"),
        _ => ("the mail before", "the mail behind"),
    };
    let columns: [(&str, Whose); 3] = [
        ("its other recipients", |seen| seen.others),
        (before, |seen| seen.before),
        (behind, |seen| seen.behind),
    ];
    let plays: Vec<Plays> = rows.iter().map(|row| Plays::of(row)).collect();
    let is_told = |whose: Whose| plays.iter().any(|plays| !plays.one(whose).is_empty());
    let columns: Vec<_> = columns.into_iter().filter(|(_, whose)| is_told(*whose)).collect();
    let mut head: Vec<String> =
        ["event", "1", "any other code", "requeue", "drop"].map(str::to_owned).to_vec();
    head.extend(columns.iter().map(|(name, _)| (*name).to_owned()));
    let mut lines = vec![line(&head), rule(head.len())];
    for (row, plays) in rows.iter().zip(&plays) {
        let mut cells = vec![row.label()];
        cells.extend(plays.four(|seen| seen.it));
        cells.extend(columns.iter().map(|(_, whose)| plays.one(*whose)));
        lines.push(line(&cells));
    }
    lines.join("\n")
}
