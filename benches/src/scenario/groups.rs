//! The sizes of conflict groups, for reading.

use crate::{Report, Row, measure::Samples};

/// How many groups there are, and how large they are.
pub(super) fn rows(name: &str, sizes: &[usize], report: &mut Report) {
    let largest = sizes.iter().max().copied().unwrap_or_default();
    let samples = Samples(sizes.iter().map(|size| *size as f64).collect());
    report.row(Row::value(format!("{name}: conflict groups"), "groups", sizes.len() as f64));
    report.row(Row::samples(format!("{name}: median size of a group"), "bundles", &samples));
    report.row(Row::value(format!("{name}: largest group"), "bundles", largest as f64));
}
