//! The picture of who held up whom: an HTML page that needs nothing but itself, with one row for
//! each lane in an SVG. It never names anything on a network, and its size has a bound.

use crate::spans::{Kind, Row, Span, human, merged, note, spans};
use crate::trace::{End, Taken};
use smtp_bulk::LaneId;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Rows that are drawn.
pub const MOST_ROWS: usize = 400;

/// Rectangles that are drawn: some megabytes, which browsers still scroll through.
const MOST_RECTS: usize = 60_000;

/// The width of the picture in its own units; the finest zoom shows each as a pixel or so.
const WIDTH: u64 = 4_800;

/// Lanes in the table of those who were waited for.
const MOST_NAMED: usize = 5;

const STYLE: &str = "\
body{font:14px/1.4 system-ui,sans-serif;margin:1.5em;color:#222;background:#fff}
h1{font-size:1.3em;margin:0 0 .4em}
p{margin:.3em 0}
table{border-collapse:collapse;margin:.6em 0}
td,th{padding:.1em .8em .1em 0;text-align:left;font-weight:normal}
th{color:#666}
.legend span{display:inline-block;margin-right:1.1em;white-space:nowrap}
.legend svg{width:1.1em;height:.8em;margin-right:.35em}
.zoom{margin:.6em 0}
.chart{display:flex;border:1px solid #ccc}
.names{flex:none;max-width:16em;overflow:hidden;border-right:1px solid #ccc;padding-top:22px}
.names div{padding:0 .6em;white-space:nowrap;overflow:hidden;text-overflow:ellipsis}
.plot{flex:1;min-width:0;overflow-x:auto}
.wide{position:relative;overflow:hidden;padding-top:22px;width:100%}
.wide svg{display:block;width:100%}
.wide span{position:absolute;top:2px;padding-left:3px;border-left:1px solid #bbb;font-size:11px;color:#555;white-space:nowrap}
.tick{stroke:#ddd;vector-effect:non-scaling-stroke}
.fine{display:none}
#z16:checked~.chart .fine{display:inline}
#z4:checked~.chart .wide{width:400%}
#z16:checked~.chart .wide{width:1600%}
.o{fill:#7fb3d5}.l{fill:#2c7fb8}.e{fill:#c51b8a}.b{fill:#f6c1dd}
.m{fill:#a1d99b}.r{fill:#57b267}.d{fill:#1f8a5b}.c{fill:#00594c}.f{fill:#3f9b46}.x{fill:#9a8fc2}
.w{fill:#e4e4e4}.n{fill:#fd9a1f}.h{fill:#d7191c}.g{fill:#8c6d46}
";

/// What is to be drawn.
#[derive(Debug)]
pub struct Shown<'a> {
    /// The steps in the order in which they were judged.
    pub steps: &'a [Taken],
    /// The hosts' names by their positions.
    pub hosts: &'a BTreeMap<u32, String>,
    /// How many steps before them were forgotten.
    pub dropped: u64,
}

/// How long others waited for a lane when all but it were ready, and how often.
type HeldUp = BTreeMap<LaneId, (u64, u64)>;

/// The whole page.
pub fn draw(shown: &Shown<'_>) -> String {
    let (rows, held_up) = rows(shown.steps);
    let chosen = chosen(&rows, &held_up);
    let (from, to) = window(shown);
    let mut page = String::from("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n");
    page.push_str("<title>bulk_send: sessions over time</title>\n");
    let _ = write!(page, "<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>Sessions over time</h1>\n");
    about(&mut page, shown, rows.len(), chosen.len(), (from, to));
    if !chosen.is_empty() {
        who_held_up(&mut page, shown, &held_up);
        legend(&mut page);
        let chosen: Vec<(LaneId, &Row<'_>)> =
            rows.iter().filter(|(lane, _)| chosen.contains(lane)).map(|(lane, row)| (*lane, row)).collect();
        chart(&mut page, shown, &chosen, (from, to));
    }
    page.push_str("</body>\n</html>\n");
    page
}

// ---- what there is ------------------------------------------------------------------------------

/// The steps of each lane, each with the lane that was waited for last when it was.
fn rows(steps: &[Taken]) -> (BTreeMap<LaneId, Row<'_>>, HeldUp) {
    let mut rows: BTreeMap<LaneId, Row<'_>> = BTreeMap::new();
    let mut held_up = HeldUp::new();
    // What was judged together was waited for together.
    for group in steps.chunk_by(|one, other| one.judged == other.judged) {
        let mut batch: Vec<&Taken> = group.iter().filter(|taken| taken.is_in_batch).collect();
        batch.sort_by_key(|taken| taken.over);
        let last = batch.last().copied().filter(|_| batch.len() > 1);
        if let Some((last, before)) = last.zip(batch.iter().rev().nth(1)) {
            let entry = held_up.entry(last.lane).or_default();
            let alone = last.over.saturating_sub(before.over);
            *entry = (entry.0.saturating_add(alone), entry.1.saturating_add(1));
        }
        for taken in group {
            // In a quorum those who are late have not been judged: nobody here is to blame.
            let most = taken.judged.saturating_sub(taken.over) / 2;
            let is_last =
                |last: &&Taken| last.lane != taken.lane && last.judged - last.over.min(last.judged) <= most;
            let culprit = last.filter(|_| taken.is_in_batch).filter(is_last);
            rows.entry(taken.lane).or_default().push((taken, culprit));
        }
    }
    (rows, held_up)
}

/// The lanes that are drawn: all, or those that held up others for longest, or had most trouble.
fn chosen(rows: &BTreeMap<LaneId, Row<'_>>, held_up: &HeldUp) -> BTreeSet<LaneId> {
    let trouble = |row: &Row<'_>| row.iter().filter(|(taken, _)| matches!(taken.end, End::Failed(_))).count();
    let mut lanes: Vec<(u64, usize, LaneId)> = rows
        .iter()
        .map(|(lane, row)| (held_up.get(lane).map_or(0, |held| held.0), trouble(row), *lane))
        .collect();
    // The first of those that are alike.
    lanes.sort_by(|one, other| (other.0, other.1, one.2).cmp(&(one.0, one.1, other.2)));
    lanes.into_iter().take(MOST_ROWS).map(|(.., lane)| lane).collect()
}

/// The time that is shown. Where the beginning was forgotten it begins with the first step that is
/// left, however long ago a straggler began its own.
fn window(shown: &Shown<'_>) -> (u64, u64) {
    let first = shown.steps.first();
    let group =
        shown.steps.iter().take_while(|taken| first.is_some_and(|first| first.judged == taken.judged));
    let from = match shown.dropped {
        0 => shown.steps.iter().map(|taken| taken.began).min(),
        _ => group.filter(|taken| taken.is_in_batch).map(|taken| taken.began).min(),
    };
    let from = from.or(first.map(|first| first.began)).unwrap_or_default();
    let to = shown.steps.iter().map(|taken| taken.judged).max().unwrap_or_default();
    (from, to.max(from.saturating_add(1_000)))
}

/// Host and thread; the host's place, too, where it has the name of another.
fn name(hosts: &BTreeMap<u32, String>, lane: LaneId) -> String {
    let host = hosts.get(&lane.host).map_or("", String::as_str);
    match hosts.values().filter(|other| *other == host).count() {
        0 | 1 => format!("{host}:{}", lane.thread),
        _ => format!("{host}#{}:{}", lane.host.saturating_add(1), lane.thread),
    }
}

// ---- what is said -------------------------------------------------------------------------------

fn about(page: &mut String, shown: &Shown<'_>, lanes: usize, drawn: usize, (from, to): (u64, u64)) {
    let (Some(first), Some(last)) = (shown.steps.first(), shown.steps.last()) else {
        page.push_str("<p>No session took a step.</p>\n");
        return;
    };
    let steps = shown.steps.len();
    let _ = write!(
        page,
        "<p>{steps} steps of {lanes} sessions in {}, from {} after the start; batches {} to {}.",
        human(to.saturating_sub(from)),
        human(from),
        first.batch,
        last.batch
    );
    if shown.dropped > 0 {
        let _ = write!(page, " {} steps before them are not shown.", shown.dropped);
    }
    if drawn < lanes {
        let left = lanes.saturating_sub(drawn);
        let _ = write!(page, " {left} sessions that held up nobody for as long are not drawn.");
    }
    page.push_str(
        "</p>\n<p>A row is a session. Grey is time spent on waiting: whoever has a colour above \
                   or below it then was waited for. White is time with nothing to do.</p>\n",
    );
}

fn who_held_up(page: &mut String, shown: &Shown<'_>, held_up: &HeldUp) {
    let mut worst: Vec<_> = held_up.iter().filter(|(_, held)| held.0 > 0).collect();
    worst.sort_by_key(|(_, held)| std::cmp::Reverse(held.0));
    if worst.is_empty() {
        return;
    }
    page.push_str("<table>\n<tr><th>waited for last</th><th>alone for</th><th>in steps</th></tr>\n");
    for (lane, (time, steps)) in worst.into_iter().take(MOST_NAMED) {
        let lane = escaped(&name(shown.hosts, *lane));
        let _ = writeln!(page, "<tr><td>{lane}</td><td>{}</td><td>{steps}</td></tr>", human(*time));
    }
    page.push_str("</table>\n");
}

fn legend(page: &mut String) {
    page.push_str("<p class=\"legend\">");
    for (_, class, what) in Kind::ALL {
        let _ = write!(
            page,
            "<span><svg><rect class=\"{class}\" width=\"99\" height=\"99\"/></svg>{what}</span>"
        );
    }
    page.push_str("</p>\n");
}

// ---- what is drawn ------------------------------------------------------------------------------

fn chart(page: &mut String, shown: &Shown<'_>, rows: &[(LaneId, &Row<'_>)], (from, to): (u64, u64)) {
    let height: u64 = match rows.len() {
        0..=40 => 20,
        41..=150 => 13,
        _ => 9,
    };
    for (id, zoom, checked) in [("z1", "1", " checked=\"\""), ("z4", "4", ""), ("z16", "16", "")] {
        let radio = format!("<input type=\"radio\" name=\"zoom\" id=\"{id}\"{checked}/>");
        let _ = writeln!(page, "{radio}<label for=\"{id}\">×{zoom}</label>");
    }
    page.push_str("<div class=\"chart\">\n<div class=\"names\">\n");
    let small = height.saturating_sub(2).min(13);
    for (lane, _) in rows {
        let lane = escaped(&name(shown.hosts, *lane));
        let style = format!("height:{height}px;font-size:{small}px;line-height:{height}px");
        let _ = writeln!(page, "<div style=\"{style}\" title=\"{lane}\">{lane}</div>");
    }
    page.push_str("</div>\n<div class=\"plot\"><div class=\"wide\">\n");
    let scale = Scale { from, length: to.saturating_sub(from).max(1) };
    let (coarse, fine) = (ticks(from, to, 10), ticks(from, to, 100));
    for (ticks, class) in [(&coarse, ""), (&fine, " class=\"fine\"")] {
        for at in ticks {
            let left = scale.part(*at) * 100.0;
            let _ = writeln!(page, "<span{class} style=\"left:{left:.3}%\">{}</span>", human(*at));
        }
    }
    let all = height.saturating_mul(rows.len() as u64);
    let _ = writeln!(
        page,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {all}\" style=\"height:{all}px\" \
         preserveAspectRatio=\"none\">"
    );
    for at in &coarse {
        let x = scale.x(*at);
        let _ = writeln!(page, "<path class=\"tick\" d=\"M{x:.1} 0V{all}\"/>");
    }
    for ((lane, _), (place, spans)) in rows.iter().zip((0..).zip(fitting(rows, (from, to)))) {
        row(page, shown, *lane, &spans, &scale, (place * height, height));
    }
    page.push_str("</svg>\n</div></div>\n</div>\n");
}

/// The spans of all rows, merged until there are no more than may be drawn.
fn fitting<'a>(rows: &[(LaneId, &Row<'a>)], (from, to): (u64, u64)) -> Vec<Vec<Span<'a>>> {
    let all: Vec<Vec<Span<'a>>> = rows.iter().map(|(_, row)| spans(row, from, to)).collect();
    let mut shortest = (to.saturating_sub(from) / WIDTH).max(1);
    loop {
        let few: Vec<Vec<Span<'a>>> = all.iter().map(|spans| merged(spans, shortest)).collect();
        if few.iter().map(Vec::len).sum::<usize>() <= MOST_RECTS {
            return few;
        }
        shortest = shortest.saturating_mul(2);
    }
}

fn row(
    page: &mut String,
    shown: &Shown<'_>,
    lane: LaneId,
    spans: &[Span<'_>],
    scale: &Scale,
    (top, height): (u64, u64),
) {
    let own = escaped(&name(shown.hosts, lane));
    let other = |taken: &Taken| name(shown.hosts, taken.lane);
    let _ = writeln!(page, "<g transform=\"translate(0 {top})\">");
    for span in spans {
        let (x, end) = (scale.x(span.from), scale.x(span.to));
        let (class, said) = (span.kind.class(), escaped(&note(span, &other)));
        // What is waiting is thinner, so that who is waited for stands out.
        let inset = if matches!(span.kind, Kind::Wait | Kind::Down) { height / 4 } else { 1 };
        let tall = height.saturating_sub(2 * inset);
        let _ = writeln!(
            page,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{inset}\" width=\"{:.1}\" height=\"{tall}\">\
             <title>{own} {said}</title></rect>",
            (end - x).max(0.5),
        );
    }
    page.push_str("</g>\n");
}

struct Scale {
    from: u64,
    length: u64,
}

impl Scale {
    /// Which part of the whole lies before this.
    fn part(&self, at: u64) -> f64 {
        at.saturating_sub(self.from) as f64 / self.length as f64
    }

    fn x(&self, at: u64) -> f64 {
        self.part(at) * WIDTH as f64
    }
}

/// Round times within the window: as many as these parts of it, or a few more.
fn ticks(from: u64, to: u64, parts: u64) -> Vec<u64> {
    let rough = (to.saturating_sub(from) / parts.max(1)).max(1);
    let power = 10_u64.saturating_pow(rough.ilog10());
    let every = [5, 2, 1].map(|times| power.saturating_mul(times));
    let every = every.into_iter().find(|every| *every <= rough).unwrap_or(power);
    let first = from.div_ceil(every).saturating_mul(every);
    let times = (0..parts.saturating_mul(3)).map(|number| first.saturating_add(every.saturating_mul(number)));
    times.take_while(|at| *at < to).collect()
}

/// The text as it may stand in an element or an attribute.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            control if control.is_control() => out.push(' '),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spans::tests::step;
    use smtp_bulk::Step;

    fn page(steps: &[Taken], hosts: &[&str], dropped: u64) -> String {
        let hosts = (0..).zip(hosts.iter().map(|&host| host.to_owned())).collect();
        let page = draw(&Shown { steps, hosts: &hosts, dropped });
        check(&page);
        page
    }

    /// That every element is closed in its turn, and no text or value has what has to be escaped.
    fn check(page: &str) {
        let body = page.strip_prefix("<!DOCTYPE html>\n").expect("a page");
        let mut open: Vec<&str> = Vec::new();
        let mut pieces = body.split('<');
        assert_eq!(pieces.next(), Some(""));
        for piece in pieces {
            let (tag, text) = piece.split_once('>').unwrap_or_else(|| panic!("<{piece}"));
            assert!(!text.contains('>'), "{piece}");
            let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or_default();
            assert!(name.bytes().all(|b| b.is_ascii_alphanumeric()) && !name.is_empty(), "<{piece}");
            assert_eq!(tag.matches('"').count() % 2, 0, "<{piece}");
            for entity in text.split('&').skip(1).chain(tag.split('&').skip(1)) {
                let known = ["amp;", "lt;", "gt;", "quot;", "#39;"];
                assert!(known.iter().any(|known| entity.starts_with(known)), "&{entity}");
            }
            match (tag.starts_with('/'), tag.ends_with('/')) {
                (true, _) => assert_eq!(open.pop(), Some(name), "{piece}"),
                (false, true) => {}
                (false, false) => open.push(name),
            }
        }
        assert!(open.is_empty(), "{open:?}");
        // What a browser would load or run.
        for word in ["<script", "src=", "href=", "url(", "@import", "onload"] {
            assert!(!page.contains(word), "{word}");
        }
    }

    /// How many lines have this in them.
    fn count(page: &str, what: &str) -> usize {
        page.lines().filter(|line| line.contains(what)).count()
    }

    /// Three lanes of which the second one is slow.
    fn held_up() -> Vec<Taken> {
        vec![
            step(0, Step::Mail, 0, 10, 100),
            step(1, Step::Mail, 0, 100, 100),
            step(2, Step::Mail, 0, 20, 100),
        ]
    }

    #[test]
    fn there_is_a_row_for_each_lane_and_grey_where_it_waited() {
        let page = page(&held_up(), &["mx.example"], 0);
        assert_eq!(count(&page, "<g transform="), 3);
        for lane in ["mx.example:0", "mx.example:1", "mx.example:2"] {
            assert_eq!(count(&page, &format!("\">{lane}</div>")), 1, "{lane}");
        }
        assert_eq!(count(&page, "<title>mx.example:1 MAIL, batch 0, 100 ms, passed</title>"), 1);
        assert_eq!(count(&page, "<title>mx.example:0 90 ms waiting for mx.example:1</title>"), 1);
        assert_eq!(count(&page, "<rect class=\"w\" x="), 2, "nobody waited on the lane that was slow");
        // The slow one is as wide as all.
        assert_eq!(count(&page, "<rect class=\"m\" x=\"0.0\" y=\"1\" width=\"4800.0\""), 1);
        assert_eq!(count(&page, "<rect class=\"m\" x=\"0.0\" y=\"1\" width=\"480.0\""), 1);
    }

    #[test]
    fn the_table_names_who_was_waited_for_and_for_how_long_alone() {
        let page = page(&held_up(), &["mx.example"], 0);
        assert!(page.contains("<tr><td>mx.example:1</td><td>80 ms</td><td>1</td></tr>"), "{page}");
        assert_eq!(count(&page, "<tr><td>"), 1);
    }

    #[test]
    fn nobody_is_blamed_for_a_straggler_that_is_not_there() {
        let mut steps = held_up();
        steps[1].over = 30_000_000;
        let page = page(&steps, &["mx.example"], 0);
        assert_eq!(count(&page, "waiting for mx.example"), 0, "{page}");
        assert_eq!(count(&page, "waiting for others behind MAIL"), 3);
    }

    #[test]
    fn names_and_reasons_are_escaped() {
        let mut steps = held_up();
        steps[1].end = End::Failed("<b>&\"'\u{1b}".into());
        let page = page(&steps, &["<script>&\"'"], 0);
        assert!(page.contains("&lt;script&gt;&amp;&quot;&#39;:1"), "{page}");
        assert!(page.contains("failed: &lt;b&gt;&amp;&quot;&#39; </title>"), "{page}");
    }

    #[test]
    fn hosts_of_one_name_are_told_apart() {
        let mut steps = held_up();
        steps[1].lane.host = 1;
        let page = page(&steps, &["127.0.0.1", "127.0.0.1"], 0);
        assert!(page.contains(">127.0.0.1#1:0</div>") && page.contains(">127.0.0.1#2:1</div>"), "{page}");
    }

    #[test]
    fn every_colour_is_in_the_legend_and_in_the_style_sheet() {
        let page = page(&held_up(), &["mx"], 0);
        for (kind, class, name) in Kind::ALL {
            assert_eq!(kind.class(), class);
            assert!(page.contains(&format!(".{class}{{fill:#")), "{name}");
            assert!(page.contains(&format!("</svg>{name}</span>")), "{name}");
        }
    }

    #[test]
    fn a_run_without_a_step_is_a_page_too() {
        assert!(page(&[], &[], 0).contains("No session took a step."));
    }

    #[test]
    fn many_lanes_and_steps_have_a_bound_and_the_lane_that_matters_is_drawn() {
        let slow = 700;
        let mut steps: Vec<Taken> = Vec::new();
        for batch in 0..100_u64 {
            let at = batch * 100;
            for thread in 0..1000 {
                let over = if thread == slow { at + 100 } else { at + 10 };
                steps.push(Taken { batch, ..step(thread, Step::Mail, at, over, at + 100) });
            }
        }
        let page = page(&steps, &["mx.example"], 5);
        assert_eq!(count(&page, "<g transform="), MOST_ROWS);
        let rects = count(&page, "<rect class=") - count(&page, "<p class=\"legend\">");
        assert!((MOST_RECTS / 4..=MOST_RECTS).contains(&rects), "{rects}");
        assert!(page.len() < 10_000_000, "{}", page.len());
        assert!(page.contains(">mx.example:700</div>") && page.contains("600 sessions that"), "chosen first");
        assert!(page.contains(" 5 steps before them are not shown."));
    }

    #[test]
    fn a_straggler_that_began_long_ago_does_not_squeeze_the_rest() {
        let mut steps = held_up();
        for taken in &mut steps {
            for at in [&mut taken.began, &mut taken.over, &mut taken.judged] {
                *at += 1_000_000_000_000;
            }
        }
        let straggler = Taken { is_in_batch: false, ..step(3, Step::Mail, 0, 1_000_050, 1_000_100) };
        steps.push(straggler);
        let shown = page(&steps, &["mx"], 1);
        assert!(shown.contains("4 steps of 4 sessions in 100 ms, from 1000 s after the start"), "{shown}");
        assert_eq!(count(&shown, "<title>mx:3 MAIL, batch 0, 1000 s, passed</title>"), 1);
        assert!(page(&steps, &["mx"], 0).contains("in 1000 s, from 0 µs"), "unless that was all there was");
    }

    #[test]
    fn ticks_are_round_times_within_the_window() {
        for (from, to) in [(0, 1_000), (3_141_592, 27_182_818), (999_999_999_999, 1_000_000_000_999), (5, 6)]
        {
            let ticks = ticks(from, to, 10);
            assert!((1..=30).contains(&ticks.len()), "{from} {to}: {ticks:?}");
            assert!(ticks.iter().all(|at| (from..to).contains(at)), "{ticks:?}");
        }
        assert_eq!(ticks(120, 1_100, 10)[..3], [150, 200, 250]);
    }
}
