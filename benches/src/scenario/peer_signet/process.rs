//! The peer as a process: built by cargo, asked line by line.

use std::{
    env,
    ffi::OsString,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use crate::{Failed, measure::Samples};

use super::wire::{Answer, Question};

/// Which library recovers the peer's signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Library {
    /// The one that signet-sim brings, in Rust.
    Stock,
    /// The one that Lockstep uses, in C.
    C,
}

/// Builds the peer and answers where its binary is. Cargo does nothing where that is done already, and says on standard error
/// what it does otherwise.
///
/// What is built goes into the folder `peer-signet` of `CARGO_TARGET_DIR`, or of Lockstep's own `target` where that is not set.
///
/// # Errors
/// When cargo cannot be run, or cannot build it.
pub(super) fn build() -> Result<PathBuf, Failed> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| package.join("../target"), PathBuf::from).join("peer-signet");
    let manifest = package.join("peer-signet/Cargo.toml");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let status = Command::new(cargo)
        .args(["build", "--release", "--locked", "--manifest-path"])
        .arg(&manifest)
        .arg("--target-dir")
        .arg(&target)
        // Or the binary would be in a folder of the platform's name.
        .env_remove("CARGO_BUILD_TARGET")
        .stdout(Stdio::null())
        .status()
        .map_err(|error| format!("cargo cannot be run to build {}: {error}", manifest.display()))?;
    if !status.success() {
        return Err(format!("{} cannot be built: cargo ended with {status}", manifest.display()).into());
    }
    Ok(target.join("release").join(format!("peer-signet{}", env::consts::EXE_SUFFIX)))
}

/// How the peer is run on a workload.
pub(super) fn command(binary: &Path, workload: &Path, library: Library) -> Command {
    let mut command = Command::new(binary);
    command.arg(workload);
    if library == Library::C {
        command.arg("--c-library");
    }
    command
}

/// A peer that waits for questions. It ends with this value.
#[derive(Debug)]
pub(super) struct Peer {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts it.
    ///
    /// # Errors
    /// When the command cannot be run.
    pub(super) fn start(command: &mut Command) -> Result<Self, Failed> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("the peer {} cannot be run: {error}", command.get_program().display()))?;
        let (Some(questions), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("the peer has no input or no output".into());
        };
        Ok(Self { child, questions, answers: BufReader::new(answers) })
    }

    /// Lets it build that often.
    ///
    /// # Errors
    /// When it ends instead of answering, or answers something else.
    pub(super) fn ask(&mut self, runs: u32) -> Result<Answer, Failed> {
        let mut question = serde_json::to_vec(&Question { runs })?;
        question.push(b'\n');
        // It may have ended, which the missing answer shows with its status.
        let asked = self.questions.write_all(&question).and_then(|()| self.questions.flush());
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err(format!("the peer ended without an answer: {}", self.child.wait()?).into());
        }
        asked?;
        let answer: Answer = serde_json::from_str(&line).map_err(|error| format!("the peer's answer is malformed: {error}"))?;
        if answer.times_ns.len() != runs as usize {
            return Err(format!("the peer was to build {runs} times and did {} times", answer.times_ns.len()).into());
        }
        Ok(answer)
    }

    /// Seconds of one of that many runs, by the peer's own clock.
    ///
    /// # Errors
    /// As [`Peer::ask`].
    pub(super) fn seconds(&mut self, runs: u32) -> Result<f64, Failed> {
        let times = Samples(self.ask(runs)?.times_ns.into_iter().map(|time| time as f64 / 1e9).collect());
        Ok(times.0.iter().sum::<f64>() / f64::from(runs))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody to tell here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str) -> Peer {
        Peer::start(Command::new("sh").args(["-c", script])).expect("the shell starts")
    }

    #[test]
    fn a_peer_that_ends_is_told_of_with_its_status() {
        let error = shell("read -r question; exit 3").ask(1).unwrap_err().to_string();
        assert!(error.contains("without an answer") && error.contains('3'), "{error}");
    }

    #[test]
    fn a_peer_that_talks_of_something_else_is_not_believed() {
        let error = shell("read -r question; echo hello").ask(1).unwrap_err().to_string();
        assert!(error.contains("malformed"), "{error}");
    }

    #[test]
    fn a_peer_that_runs_less_often_than_it_was_asked_to_is_not_believed() {
        let answer = r#"{"times_ns":[5],"value":"0x1","host_value":"0x0","included":[],"host_included":[]}"#;
        let script = format!("while read -r question; do echo '{answer}'; done");
        let mut peer = shell(&script);
        assert_eq!(peer.seconds(1).unwrap(), 5e-9);
        let error = peer.ask(2).unwrap_err().to_string();
        assert!(error.contains("2 times") && error.contains("1 times"), "{error}");
    }

    #[test]
    fn a_peer_that_is_not_there_is_named() {
        let error = Peer::start(&mut Command::new("no-such-peer")).unwrap_err().to_string();
        assert!(error.contains("no-such-peer"), "{error}");
    }
}
