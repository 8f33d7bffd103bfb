//! From the steps of one lane to what its row in the picture consists of: spans of time with a
//! colour and a note, no more of them than can be told apart. It knows nothing of how they are drawn.

use crate::trace::{End, Taken};
use smtp_bulk::Step;

/// What a span of time went into, and so its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Waiting for others of the batch.
    Wait,
    /// No connection: waiting to be opened again.
    Down,
    /// The lane's first opening.
    Opening,
    /// A later one.
    Reopening,
    /// AUTH.
    Login,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA.
    Data,
    /// Content.
    Content,
    /// Several of these at once.
    Flight,
    /// RSET, QUIT and what else there is.
    Other,
    /// Given up before it had ended.
    GivenUp,
    /// A refusal was among the replies.
    Refused,
    /// The connection failed, or the time was over.
    Hang,
}

impl Kind {
    /// All, in the order of the legend, each with its class in the style sheet and its name.
    pub const ALL: [(Kind, &'static str, &'static str); 14] = [
        (Kind::Opening, "o", "opening"),
        (Kind::Login, "l", "AUTH"),
        (Kind::Mail, "m", "MAIL"),
        (Kind::Rcpt, "r", "RCPT"),
        (Kind::Data, "d", "DATA"),
        (Kind::Content, "c", "content"),
        (Kind::Flight, "f", "several at once"),
        (Kind::Other, "x", "RSET, QUIT, other"),
        (Kind::Wait, "w", "waiting for others"),
        (Kind::Refused, "n", "refused"),
        (Kind::Hang, "h", "hang, failure"),
        (Kind::Reopening, "e", "reconnecting"),
        (Kind::Down, "b", "no connection, back-off"),
        (Kind::GivenUp, "g", "given up"),
    ];

    /// Its class in the style sheet.
    pub fn class(self) -> &'static str {
        Kind::ALL.iter().find(|(kind, ..)| *kind == self).map_or("x", |(_, class, _)| class)
    }

    fn name(self) -> &'static str {
        Kind::ALL.iter().find(|(kind, ..)| *kind == self).map_or("", |(.., name)| name)
    }

    fn of(taken: &Taken) -> Kind {
        match (&taken.end, taken.step) {
            (End::Failed(_), _) => Kind::Hang,
            (End::Refused(_), _) => Kind::Refused,
            (End::GivenUp, _) => Kind::GivenUp,
            (End::Passed, Step::Connect) if taken.is_reopening => Kind::Reopening,
            (End::Passed, Step::Connect) => Kind::Opening,
            (End::Passed, Step::Auth) => Kind::Login,
            (End::Passed, _) if taken.step != taken.last_step => Kind::Flight,
            (End::Passed, Step::Mail) => Kind::Mail,
            (End::Passed, Step::Rcpt) => Kind::Rcpt,
            (End::Passed, Step::Data) => Kind::Data,
            (End::Passed, Step::Content) => Kind::Content,
            (End::Passed, _) => Kind::Other,
        }
    }
}

/// What a span's tooltip says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Note<'a> {
    /// The step that it is.
    Step(&'a Taken),
    /// The step behind which its lane waits, and for whom, as far as that is known.
    WaitFor(&'a Taken, Option<&'a Taken>),
    /// Without a connection.
    Down,
    /// So many short spans.
    Many(u32),
}

/// A stretch of a row, in nanoseconds since the run began.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span<'a> {
    /// Where it begins.
    pub from: u64,
    /// Where it ends.
    pub to: u64,
    /// What the time went into.
    pub kind: Kind,
    /// What is said about it.
    pub note: Note<'a>,
}

impl Span<'_> {
    fn length(&self) -> u64 {
        self.to.saturating_sub(self.from)
    }
}

/// A step and who was waited for behind it.
pub type Row<'a> = Vec<(&'a Taken, Option<&'a Taken>)>;

/// The spans of a lane's steps, in order, within this stretch of time.
pub fn spans<'a>(row: &Row<'a>, from: u64, to: u64) -> Vec<Span<'a>> {
    let mut spans = Vec::with_capacity(row.len().saturating_mul(2));
    let mut before: Option<(&Taken, Option<&'a Taken>)> = None;
    for &(taken, culprit) in row {
        if let Some((last, for_whom)) = before {
            let gap = Span { from: last.judged, to: taken.began, kind: Kind::Wait, note: Note::Down };
            match gap_before(taken, last) {
                Some(Kind::Down) => spans.push(Span { kind: Kind::Down, ..gap }),
                Some(kind) => spans.push(Span { kind, note: Note::WaitFor(last, for_whom), ..gap }),
                None => {}
            }
        }
        let (kind, note) = (Kind::of(taken), Note::Step(taken));
        spans.push(Span { from: taken.began, to: taken.over, kind, note });
        let (kind, note) = (Kind::Wait, Note::WaitFor(taken, culprit));
        spans.push(Span { from: taken.over, to: taken.judged, kind, note });
        before = Some((taken, None));
    }
    if let Some((last, _)) = before.filter(|(last, _)| matches!(last.end, End::Failed(_))) {
        spans.push(Span { from: last.judged, to, kind: Kind::Down, note: Note::Down });
    }
    let cut = |span: Span<'a>| Span { from: span.from.max(from), to: span.to.min(to), ..span };
    spans.into_iter().map(cut).filter(|span| span.to > span.from).collect()
}

/// What the time between two steps of a lane went into; `None` when it had nothing to do.
fn gap_before(taken: &Taken, last: &Taken) -> Option<Kind> {
    let is_at_354 = last.last_step == Step::Data && last.end == End::Passed;
    match taken.step {
        Step::Connect => Some(Kind::Down),
        // Its turn to log in came when another had, and the content went with the next batch.
        Step::Auth => Some(Kind::Wait),
        Step::Content if is_at_354 => Some(Kind::Wait),
        _ => None,
    }
}

/// Makes one span of those that are shorter than this and next to each other, in the colour of what
/// is worst among them, or else took most of the time.
pub fn merged<'a>(spans: &[Span<'a>], shortest: u64) -> Vec<Span<'a>> {
    let mut merged = Vec::new();
    let mut short: Vec<Span<'a>> = Vec::new();
    for span in spans {
        let begun = short.first().map(|first| first.from);
        let is_apart = short.last().is_some_and(|last| span.from.saturating_sub(last.to) >= shortest);
        let is_full = begun.is_some_and(|begun| span.from.saturating_sub(begun) >= shortest);
        let is_long = span.length() >= shortest;
        if is_apart || is_full || is_long {
            merged.extend(one_of(&short));
            short.clear();
        }
        if is_long {
            merged.push(*span);
        } else {
            short.push(*span);
        }
    }
    merged.extend(one_of(&short));
    merged
}

fn one_of<'a>(short: &[Span<'a>]) -> Option<Span<'a>> {
    let (first, last) = (short.first()?, short.last()?);
    if short.len() == 1 {
        return Some(*first);
    }
    let worst = short.iter().map(|span| span.kind).max().filter(|kind| *kind >= Kind::Refused);
    let time = |kind: Kind| short.iter().filter(|span| span.kind == kind).map(Span::length).sum::<u64>();
    let longest = short.iter().map(|span| span.kind).max_by_key(|kind| time(*kind));
    let steps = short.iter().filter(|span| matches!(span.note, Note::Step(_))).count();
    Some(Span {
        from: first.from,
        to: last.to,
        kind: worst.or(longest)?,
        note: Note::Many(u32::try_from(steps).unwrap_or(u32::MAX)),
    })
}

/// What the tooltip of a span says, without its lane; `name` is that of another lane.
pub fn note(span: &Span<'_>, name: &dyn Fn(&Taken) -> String) -> String {
    let took = human(span.length());
    match span.note {
        Note::Step(taken) => {
            let what = match taken.step == taken.last_step {
                true => taken.step.to_string(),
                false => format!("{} to {}", taken.step, taken.last_step),
            };
            let how = match &taken.end {
                End::Passed => "passed".to_owned(),
                End::Refused(code) => format!("refused {code}"),
                End::Failed(reason) => format!("failed: {reason}"),
                End::GivenUp => "given up".to_owned(),
            };
            let took = human(taken.over.saturating_sub(taken.began));
            let mails = if taken.mails > 1 { format!("{} mails, ", taken.mails) } else { String::new() };
            format!("{what}, batch {}, {mails}{took}, {how}", taken.batch)
        }
        Note::WaitFor(_, Some(culprit)) => format!("{took} waiting for {}", name(culprit)),
        Note::WaitFor(taken, None) => format!("{took} waiting for others behind {}", taken.last_step),
        Note::Down => format!("{took} without a connection"),
        Note::Many(steps) => format!("{steps} steps in {took}, mostly or worst: {}", span.kind.name()),
    }
}

/// A time for people.
pub fn human(nanos: u64) -> String {
    let seconds = nanos as f64 / 1e9;
    match nanos {
        0..1_000_000 => format!("{:.0} µs", seconds * 1e6),
        1_000_000..10_000_000 => format!("{:.1} ms", seconds * 1e3),
        10_000_000..1_000_000_000 => format!("{:.0} ms", seconds * 1e3),
        1_000_000_000..100_000_000_000 => format!("{seconds:.2} s"),
        _ => format!("{seconds:.0} s"),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use smtp_bulk::LaneId;

    /// A step that passed, of a lane of the first host, at these milliseconds.
    pub fn step(thread: u32, step: Step, began: u64, over: u64, judged: u64) -> Taken {
        let at = |millis: u64| millis * 1_000_000;
        Taken {
            lane: LaneId { host: 0, thread },
            batch: 0,
            step,
            last_step: step,
            mails: 1,
            began: at(began),
            over: at(over),
            judged: at(judged),
            end: End::Passed,
            is_in_batch: true,
            is_reopening: false,
        }
    }

    fn of<'a>(steps: &'a [Taken], to: u64) -> Vec<(Kind, u64, u64)> {
        let row: Row<'a> = steps.iter().map(|taken| (taken, None)).collect();
        let ms = |nanos: u64| nanos / 1_000_000;
        spans(&row, 0, to * 1_000_000).iter().map(|s| (s.kind, ms(s.from), ms(s.to))).collect()
    }

    #[test]
    fn a_row_is_steps_waits_and_the_time_without_a_connection() {
        let mut steps = vec![
            step(0, Step::Connect, 0, 5, 5),
            step(0, Step::Auth, 9, 12, 12),
            step(0, Step::Mail, 20, 30, 50),
            step(0, Step::Rcpt, 50, 70, 70),
            step(0, Step::Connect, 90, 95, 95),
        ];
        steps[3].end = End::Failed("gone".into());
        steps[4].is_reopening = true;
        assert_eq!(
            of(&steps, 100),
            [
                (Kind::Opening, 0, 5),
                (Kind::Wait, 5, 9),
                (Kind::Login, 9, 12),
                (Kind::Mail, 20, 30),
                (Kind::Wait, 30, 50),
                (Kind::Hang, 50, 70),
                (Kind::Down, 70, 90),
                (Kind::Reopening, 90, 95),
            ]
        );
        let last = &steps[..4];
        assert_eq!(of(last, 100).last(), Some(&(Kind::Down, 70, 100)), "and never comes back");
        assert_eq!(of(last, 60).last(), Some(&(Kind::Hang, 50, 60)), "what is outside is cut off");
    }

    #[test]
    fn a_content_that_waits_for_the_next_batch_waits_for_others() {
        let mut steps = vec![step(0, Step::Mail, 0, 5, 5), step(0, Step::Content, 25, 30, 30)];
        steps[0].last_step = Step::Data;
        assert_eq!(of(&steps, 30), [(Kind::Flight, 0, 5), (Kind::Wait, 5, 25), (Kind::Content, 25, 30)]);
        steps[0].end = End::Refused(554);
        assert_eq!(of(&steps, 30)[1].0, Kind::Content, "one that was refused has nothing to do");
    }

    #[test]
    fn what_is_too_short_becomes_one_and_what_went_wrong_is_not_lost() {
        let mut steps: Vec<Taken> = (0..1000).map(|at| step(0, Step::Mail, at, at + 1, at + 1)).collect();
        steps[500].end = End::Failed("gone".into());
        let row: Row<'_> = steps.iter().map(|taken| (taken, None)).collect();
        let all = spans(&row, 0, 1_000_000_000);
        let few = merged(&all, 100_000_000);
        assert_eq!(few.len(), 10);
        assert_eq!(few.iter().filter(|span| span.kind == Kind::Hang).count(), 1);
        assert_eq!(few[0].note, Note::Many(100));
        assert!(few.windows(2).all(|pair| pair[0].to == pair[1].from), "nothing is left out");
        assert_eq!(merged(&all, 1), all, "what can be told apart is");
    }

    #[test]
    fn a_long_span_is_never_merged_and_short_ones_that_are_apart_are_not_either() {
        let steps = [
            step(0, Step::Mail, 0, 1, 1),
            step(0, Step::Rcpt, 1, 90, 90),
            step(0, Step::Data, 500, 501, 501),
        ];
        let row: Row<'_> = steps.iter().map(|taken| (taken, None)).collect();
        let few = merged(&spans(&row, 0, 1_000_000_000), 50_000_000);
        let kinds: Vec<Kind> = few.iter().map(|span| span.kind).collect();
        assert_eq!(kinds, [Kind::Mail, Kind::Rcpt, Kind::Data]);
    }

    #[test]
    fn notes_say_step_duration_and_end() {
        let name = |taken: &Taken| format!("mx:{}", taken.lane.thread);
        let (mut taken, slow) = (step(0, Step::Mail, 0, 12, 40), step(7, Step::Mail, 0, 40, 40));
        taken.last_step = Step::Data;
        taken.end = End::Refused(550);
        let row: Row<'_> = vec![(&taken, Some(&slow))];
        let all = spans(&row, 0, u64::MAX);
        let said: Vec<String> = all.iter().map(|span| note(span, &name)).collect();
        assert_eq!(said, ["MAIL to DATA, batch 0, 12 ms, refused 550", "28 ms waiting for mx:7"]);
    }

    #[test]
    fn times_are_short_at_every_size() {
        for (nanos, text) in [
            (1_500, "2 µs"),
            (4_250_000, "4.2 ms"),
            (125_000_000, "125 ms"),
            (4_256_000_000, "4.26 s"),
            (300_000_000_000, "300 s"),
        ] {
            assert_eq!(human(nanos), text);
        }
    }
}
