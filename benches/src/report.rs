//! What a scenario found, as a table and as JSON.

use std::fmt;

use serde::Serialize;

use crate::{
    Options,
    machine::{Machine, Versions},
    measure::{Paired, Samples},
};

/// What a scenario found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Its name.
    pub scenario: String,
    /// What the workload was drawn from.
    pub seed: u64,
    /// What it ran on.
    pub machine: Machine,
    /// What ran.
    pub versions: Versions,
    /// The figures, in the order in which they are to be read.
    pub rows: Vec<Row>,
    /// What has to be known to read them; shown with the table only.
    #[serde(skip)]
    pub notes: Vec<String>,
}

/// What is demanded of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Requirement {
    /// At least that much.
    AtLeast(f64),
    /// At most that much.
    AtMost(f64),
}

/// One figure.
///
/// `ratio` is `value` by `floor`, or, where both were measured in pairs, the median of the pairs' own ratios, which need not
/// be the ratio of the two medians. What is required is required of the ratio where there is one and of the value where there
/// is none; in which direction is said at the end of the name: `[ratio >= required]`, `[value <= required]`.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// What `value`, `spread` and `floor` are counted in.
    pub unit: String,
    /// The figure: a median, where it was measured more than once.
    pub value: f64,
    /// The least and the greatest that were measured.
    pub spread: [f64; 2],
    /// What it is compared with, measured in the same run.
    pub floor: Option<f64>,
    /// Of value and floor, see above.
    pub ratio: Option<f64>,
    /// What is required of the ratio, or of the value where there is none.
    pub required: Option<f64>,
    /// Whether that holds.
    pub holds: Option<bool>,
}

impl Row {
    /// A figure that stands for itself.
    pub fn value(name: impl Into<String>, unit: impl Into<String>, value: f64) -> Self {
        Self {
            name: name.into(),
            unit: unit.into(),
            value,
            spread: [value, value],
            floor: None,
            ratio: None,
            required: None,
            holds: None,
        }
    }

    /// The median of samples.
    pub fn samples(name: impl Into<String>, unit: impl Into<String>, samples: &Samples) -> Self {
        Self { spread: samples.spread(), ..Self::value(name, unit, samples.median()) }
    }

    /// How many of something were done a second, by us and by the floor: `count` in every run. The ratio is that of the
    /// speeds, paired: above 1 we are faster.
    pub fn speed(name: impl Into<String>, unit: impl Into<String>, count: usize, paired: &Paired) -> Self {
        let rate = |seconds: &Samples| seconds.map(|seconds| count as f64 / seconds);
        let floor = Some(rate(&paired.floor).median());
        Self { floor, ratio: Some(paired.speed_ratio()), ..Self::samples(name, unit, &rate(&paired.ours)) }
    }

    /// How many milliseconds we and the floor took. The ratio is that of the times, paired: below 1 we are faster.
    pub fn time_ms(name: impl Into<String>, paired: &Paired) -> Self {
        let ms = |seconds: &Samples| seconds.map(|seconds| seconds * 1e3);
        let floor = Some(ms(&paired.floor).median());
        Self { floor, ratio: Some(paired.time_ratio()), ..Self::samples(name, "ms", &ms(&paired.ours)) }
    }

    /// The median of samples beside that of others, which were measured in pairs: the ratio is the median of the pairs' own.
    pub fn paired(name: impl Into<String>, unit: impl Into<String>, ours: &Samples, floor: &Samples) -> Self {
        let ratio = Some(ours.by(floor).median());
        Self { floor: Some(floor.median()), ratio, ..Self::samples(name, unit, ours) }
    }

    /// The same figure beside another: the ratio is value by floor.
    pub fn beside(self, floor: f64) -> Self {
        let ratio = Some(self.value / floor);
        Self { floor: Some(floor), ratio, ..self }
    }

    /// The same figure, of which something is required. What is not a number holds for nothing.
    pub fn require(self, requirement: Requirement) -> Self {
        let (what, compared) = self.ratio.map_or(("value", self.value), |ratio| ("ratio", ratio));
        let (sign, required, holds) = match requirement {
            Requirement::AtLeast(least) => (">=", least, compared >= least),
            Requirement::AtMost(most) => ("<=", most, compared <= most),
        };
        let name = format!("{} [{what} {sign} required]", self.name);
        Self { name, required: Some(required), holds: Some(holds), ..self }
    }

    /// As [`Row::require`], unless the options ask for fewer pairs than a requirement rests on.
    pub fn require_if(self, options: &Options, requirement: Requirement) -> Self {
        if options.requires() { self.require(requirement) } else { self }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.name, figure(self.value), self.unit)?;
        if let Some(ratio) = self.ratio {
            write!(f, ", ratio {}", figure(ratio))?;
        }
        self.required.map_or(Ok(()), |required| write!(f, ", required {}", figure(required)))
    }
}

impl Report {
    /// A report with no rows yet.
    pub fn new(options: &Options) -> Self {
        Self {
            scenario: options.scenario.clone(),
            seed: options.seed,
            machine: Machine::here(),
            versions: Versions::built_with(),
            rows: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Adds a figure.
    pub fn row(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Adds what has to be known to read the figures.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// The rows of which something is required that does not hold.
    pub fn failed(&self) -> Vec<&Row> {
        self.rows.iter().filter(|row| row.holds == Some(false)).collect()
    }

    /// One JSON object on one line.
    ///
    /// # Errors
    /// Never: everything in it can be written.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// A table to be read by people.
    pub fn table(&self) -> String {
        let heads = ["", "value", "unit", "min", "max", "floor", "ratio", "required", "holds"];
        let mut lines = vec![heads.map(str::to_owned)];
        for row in &self.rows {
            let optional = |number: Option<f64>| number.map_or_else(String::new, figure);
            let holds = row.holds.map_or("", |holds| if holds { "yes" } else { "NO" });
            lines.push([
                row.name.clone(),
                figure(row.value),
                row.unit.clone(),
                figure(row.spread[0]),
                figure(row.spread[1]),
                optional(row.floor),
                optional(row.ratio),
                optional(row.required),
                holds.to_owned(),
            ]);
        }
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
        let widths: Vec<usize> = (0..heads.len()).map(width).collect();
        let mut text = format!("{}, seed {}\n{}\n{}\n", self.scenario, self.seed, self.machine, self.versions);
        for line in &lines {
            let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
                // Words stand to the left, numbers to the right.
                0 | 2 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            let cells: Vec<String> = cells.collect();
            text.push('\n');
            text.push_str(cells.join("  ").trim_end());
        }
        for note in &self.notes {
            text.push_str("\n\n");
            text.push_str(note);
        }
        text
    }
}

/// A number in as many digits as one wants to read.
fn figure(number: f64) -> String {
    match number.abs() {
        _ if number.is_nan() => "-".to_owned(),
        size if size >= 1_000.0 || number.fract() == 0.0 => format!("{number:.0}"),
        size if size >= 10.0 => format!("{number:.2}"),
        size if size >= 0.01 => format!("{number:.4}"),
        _ => format!("{number:.3e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(rows: Vec<Row>) -> Report {
        Report { rows, ..Report::new(&Options::of("test")) }
    }

    #[test]
    fn the_json_object_has_exactly_the_fields_that_readers_expect() {
        let row = Row::value("speed", "bundles/s", 90.0).beside(100.0).require(Requirement::AtLeast(0.95));
        let mut report = report(vec![row, Row::value("alone", "ms", 1.5)]);
        report.note("for people");
        let json: serde_json::Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let mut expected = ["scenario", "seed", "machine", "versions", "rows"].map(str::to_owned).to_vec();
        expected.sort();
        let mut found = keys(&json);
        found.sort();
        assert_eq!(found, expected);
        let mut expected = ["name", "unit", "value", "spread", "floor", "ratio", "required", "holds"].map(str::to_owned).to_vec();
        expected.sort();
        let mut found = keys(&json["rows"][0]);
        found.sort();
        assert_eq!(found, expected);
        assert_eq!(json["rows"][0]["name"], "speed [ratio >= required]");
        assert_eq!(json["rows"][0]["ratio"], 0.9);
        assert_eq!(json["rows"][0]["holds"], false);
        assert_eq!(json["rows"][1]["holds"], serde_json::Value::Null);
        assert_eq!(json["rows"][1]["spread"], serde_json::json!([1.5, 1.5]));
    }

    #[test]
    fn what_is_required_is_required_of_the_ratio_or_else_of_the_value() {
        let of = |row: Row| row.holds.unwrap();
        assert!(of(Row::value("a", "ms", 5.0).beside(10.0).require(Requirement::AtMost(0.5))));
        assert!(!of(Row::value("a", "ms", 5.1).beside(10.0).require(Requirement::AtMost(0.5))));
        assert!(of(Row::value("a", "", 0.0).require(Requirement::AtMost(0.0))));
        assert!(!of(Row::value("a", "", f64::NAN).require(Requirement::AtLeast(0.0))), "nothing was measured");
        assert!(!of(Row::value("a", "", f64::NAN).require(Requirement::AtMost(0.0))), "nothing was measured");
    }

    #[test]
    fn rows_that_do_not_hold_are_told_apart_and_printed_like_the_rest() {
        let good = Row::value("good", "", 1.0).require(Requirement::AtLeast(1.0));
        let bad = Row::value("bad", "", 0.5).require(Requirement::AtLeast(1.0));
        let report = report(vec![good, bad, Row::value("free", "", 0.0)]);
        assert_eq!(report.failed().iter().map(|row| row.value).collect::<Vec<_>>(), [0.5]);
        let table = report.table();
        assert!(["good", "bad", "free", "yes", "NO"].iter().all(|word| table.contains(word)), "{table}");
    }

    #[test]
    fn with_fewer_pairs_than_a_requirement_rests_on_nothing_is_required() {
        let options = Options { pairs: 2, ..Options::of("test") };
        let row = Row::value("a", "", 0.0).require_if(&options, Requirement::AtLeast(1.0));
        assert_eq!((row.required, row.holds), (None, None));
        assert_eq!(row.name, "a");
    }

    #[test]
    fn a_speed_is_a_count_by_seconds() {
        let paired = Paired { ours: Samples(vec![0.5, 0.25]), floor: Samples(vec![1.0, 1.0]) };
        let row = Row::speed("a", "bundles/s", 100, &paired);
        assert_eq!((row.value, row.floor, row.ratio, row.spread), (300.0, Some(100.0), Some(3.0), [200.0, 400.0]));
    }
}
