//! `lockstep bundle`: a client of a running builder.

use std::{io::Read, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Subcommand};
use lockstep_provider::http_client;
use lockstep_rpc::{SIGNATURE_HEADER, sign_body};
use serde_json::{Value, json};

use super::line;
use crate::keys::Key;

/// How long the builder has to take a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The arguments of `lockstep bundle`.
#[derive(Debug, Args)]
pub(super) struct BundleArgs {
    /// The builder's JSON-RPC.
    #[arg(long, env = "LOCKSTEP_URL", default_value = "http://127.0.0.1:8545")]
    url: String,
    /// File with the private key that requests are signed with. Replacing, cancelling and reading signed bundles need it.
    #[arg(long, env = "LOCKSTEP_KEY_FILE")]
    key_file: Option<PathBuf>,
    #[command(subcommand)]
    command: BundleCommand,
}

#[derive(Debug, Subcommand)]
enum BundleCommand {
    /// Send a bundle; answers once it is admitted and durable.
    Send {
        /// File with the bundle as JSON; - for standard input.
        file: PathBuf,
    },
    /// Run a bundle on the pending state without sending it.
    Simulate {
        /// File with the bundle as JSON; - for standard input.
        file: PathBuf,
    },
    /// Where a bundle stands.
    Status {
        /// The Lockstep hash.
        hash: String,
    },
    /// How a bundle ended, signed by the builder.
    Receipt {
        /// The Lockstep hash.
        hash: String,
    },
    /// Why a bundle is where it is, in words.
    Explain {
        /// The Lockstep hash.
        hash: String,
    },
    /// Take a bundle back.
    Cancel {
        /// The Lockstep hash.
        hash: String,
    },
}

impl BundleArgs {
    pub(super) async fn run(self) -> Result<ExitCode, String> {
        let (method, param) = match &self.command {
            BundleCommand::Send { file } => ("lockstep_sendBundle", read_json(file)?),
            BundleCommand::Simulate { file } => ("lockstep_simulateBundle", read_json(file)?),
            BundleCommand::Status { hash } => ("lockstep_getBundle", json!(hash)),
            BundleCommand::Receipt { hash } => ("lockstep_getReceipt", json!(hash)),
            BundleCommand::Explain { hash } => ("lockstep_explainBundle", json!(hash)),
            BundleCommand::Cancel { hash } => ("lockstep_cancelBundle", json!({ "bundleHash": hash })),
        };
        let answer = self.request(method, param).await?;
        let (value, code) = match (answer.get("result"), answer.get("error")) {
            (_, Some(error)) => (error, ExitCode::FAILURE),
            (Some(result), None) => (result, ExitCode::SUCCESS),
            (None, None) => (&answer, ExitCode::FAILURE),
        };
        line(&serde_json::to_string_pretty(value).map_err(|error| error.to_string())?)?;
        Ok(code)
    }

    async fn request(&self, method: &str, param: Value) -> Result<Value, String> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": [param] }).to_string();
        let mut request = http_client(&self.url, CONNECT_TIMEOUT)?.post(&self.url).header("content-type", "application/json");
        if let Some(file) = &self.key_file {
            let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
            let key = Key::parse(&text).map_err(|error| format!("{}: {error}", file.display()))?;
            request = request.header(SIGNATURE_HEADER, sign_body(key.address(), body.as_bytes(), |digest| key.sign(digest)));
        }
        let answer = request.body(body).send().await.map_err(|error| error.to_string())?;
        let bytes = answer.bytes().await.map_err(|error| error.to_string())?;
        serde_json::from_slice(&bytes).map_err(|error| format!("the answer is not JSON: {error}"))
    }
}

fn read_json(file: &PathBuf) -> Result<Value, String> {
    let mut text = String::new();
    if file.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text).map_err(|error| format!("standard input: {error}"))?;
    } else {
        text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_builder_that_is_not_there_is_an_error_in_words() {
        for url in ["http://127.0.0.1:1", "https://127.0.0.1:1"] {
            let args =
                BundleArgs { url: url.to_owned(), key_file: None, command: BundleCommand::Status { hash: "0x00".to_owned() } };
            assert!(args.run().await.is_err(), "{url}");
        }
        let args =
            BundleArgs { url: "nowhere".to_owned(), key_file: None, command: BundleCommand::Status { hash: "0x00".to_owned() } };
        assert!(args.run().await.unwrap_err().contains("nowhere"));
    }
}
