//! Cells of the Markdown tables of `docs/PERFORMANCE.md`.

pub const NOT_MEASURED: &str = "–";

/// A number, if there is one.
pub fn cell(value: Option<f64>, decimals: usize) -> String {
    match value {
        Some(value) if value.is_finite() => format!("{value:.decimals$}"),
        _ => NOT_MEASURED.to_owned(),
    }
}

/// The median, and behind it the least and the most: see [`spread`](super::figures::spread).
pub fn spread_cell(spread: Option<[f64; 3]>, decimals: usize) -> String {
    match spread {
        Some([least, median, most]) if median.is_finite() => {
            format!("{median:.decimals$} ({least:.decimals$}–{most:.decimals$})")
        }
        _ => NOT_MEASURED.to_owned(),
    }
}
