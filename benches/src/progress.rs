//! A progress bar, where somebody looks at it.

use indicatif::{ProgressBar, ProgressStyle};

/// How far a scenario is. On a terminal it is a bar on standard error; elsewhere it is nothing at all. It draws when it is
/// told something and never by a thread of its own, which would take time from what is measured.
#[derive(Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// Of a piece of work with that many steps.
    pub fn new(what: &str, steps: usize) -> Self {
        let bar = ProgressBar::new(steps as u64);
        if let Ok(style) = ProgressStyle::with_template("{msg:32} {bar:32} {pos}/{len} {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        Self(bar)
    }

    /// One step further.
    pub fn step(&self) {
        self.0.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
