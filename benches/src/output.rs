//! The only place that writes to the terminal, beside the progress bar.

use std::io::{self, Write};

/// Writes a line to standard output.
///
/// # Errors
/// When it is closed.
pub fn line(text: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// Writes a line to standard error, so that it does not mix with what `--json` prints.
///
/// # Errors
/// When it is closed.
pub fn warn(text: &str) -> io::Result<()> {
    writeln!(io::stderr().lock(), "{text}")
}
