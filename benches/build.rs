//! Tells the harness which compiler built it.

use std::{
    env,
    error::Error,
    io::{self, Write},
    process::Command,
};

fn main() -> Result<(), Box<dyn Error>> {
    let compiler = env::var_os("RUSTC").ok_or("cargo names no compiler")?;
    let output = Command::new(compiler).arg("--version").output()?;
    let version = String::from_utf8(output.stdout)?;
    let mut cargo = io::stdout().lock();
    writeln!(cargo, "cargo::rerun-if-changed=build.rs")?;
    writeln!(cargo, "cargo::rustc-env=LOCKSTEP_RUSTC={}", version.trim())?;
    Ok(())
}
