//! `lockstep committee` and `lockstep encrypt`.

use std::{fs::OpenOptions, io::Write, os::unix::fs::OpenOptionsExt, path::PathBuf, process::ExitCode};

use alloy_primitives::{B256, Bytes, hex};
use clap::{Args, Subcommand};
use lockstep_delivery::{deal, encrypt};

use super::{line, role, roles};
use crate::config::Roles;

/// `lockstep committee`.
#[derive(Debug, Subcommand)]
pub(super) enum CommitteeCommand {
    /// Make a committee's key, and a file for each member with its share. Whoever runs this has seen the whole key.
    Deal(DealArgs),
    /// Play a member.
    Run(roles::RoleArgs),
}

/// The arguments of `lockstep committee deal`.
#[derive(Debug, Args)]
pub(super) struct DealArgs {
    /// How many members there are.
    #[arg(long)]
    members: usize,
    /// How many of them open a ciphertext together.
    #[arg(long)]
    needed: usize,
    /// Folder for the members' files, which are written nowhere else.
    #[arg(long)]
    out: PathBuf,
}

/// The arguments of `lockstep encrypt`.
#[derive(Debug, Args)]
pub(super) struct EncryptArgs {
    /// The key to encrypt for: `publicKey` of `sequencer_getEncryption`.
    #[arg(long)]
    key: Bytes,
    /// The signed transaction: EIP-2718 bytes in hex.
    transaction: Bytes,
}

impl CommitteeCommand {
    pub(super) fn run(self) -> Result<ExitCode, String> {
        match self {
            Self::Deal(args) => args.run(),
            Self::Run(args) => role(args, Roles { committee: true, ..Roles::default() }),
        }
    }
}

impl DealArgs {
    fn run(self) -> Result<ExitCode, String> {
        let (committee, members) = deal(self.members, self.needed, random()?).map_err(|error| error.to_string())?;
        std::fs::create_dir_all(&self.out).map_err(|error| format!("{}: {error}", self.out.display()))?;
        for (index, member) in members.iter().enumerate() {
            let path = self.out.join(format!("member-{index}.key"));
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            let written = file.and_then(|mut file| writeln!(file, "{}", hex::encode_prefixed(member.reveal())));
            written.map_err(|error| format!("{}: {error}", path.display()))?;
        }
        line(&format!("{}", committee.to_bytes()))?;
        Ok(ExitCode::SUCCESS)
    }
}

impl EncryptArgs {
    pub(super) fn run(&self) -> Result<ExitCode, String> {
        let ciphertext = encrypt(&self.key, &self.transaction, random()?).map_err(|error| error.to_string())?;
        line(&format!("{ciphertext}"))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// What nobody can guess.
fn random() -> Result<B256, String> {
    let mut seed = B256::ZERO;
    getrandom::fill(seed.as_mut_slice()).map_err(|error| format!("no randomness: {error}"))?;
    Ok(seed)
}
