//! `peer-signet WORKLOAD [--c-library]`: signet-sim's builder on a workload that `lockstep-bench peer-signet` wrote.
//!
//! It reads a question from every line of its standard input, `{"runs":3}`, and writes the answer to it as a line on its
//! standard output. It ends with its input.

use std::{
    env,
    error::Error,
    fs,
    io::{self, BufRead, Write},
};

mod peer;
mod recovery;
mod wire;

use peer::Peer;
use wire::{Question, Workload};

/// As Lockstep has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Why it ended early. Text for whoever ran it.
type Failed = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failed> {
    let usage = "usage: peer-signet WORKLOAD [--c-library]";
    let mut arguments = env::args_os().skip(1);
    let path = arguments.next().ok_or(usage)?;
    match arguments.next() {
        None => {}
        Some(option) if option == "--c-library" => recovery::use_c_library()?,
        Some(_) => return Err(usage.into()),
    }
    if arguments.next().is_some() {
        return Err(usage.into());
    }
    let workload: Workload = serde_json::from_slice(&fs::read(path)?)?;
    let peer = Peer::new(&workload)?;
    let mut answers = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let question: Question = serde_json::from_str(&line?)?;
        let answer = peer.answer(question.runs)?;
        writeln!(answers, "{}", serde_json::to_string(&answer)?)?;
        answers.flush()?;
    }
    Ok(())
}
