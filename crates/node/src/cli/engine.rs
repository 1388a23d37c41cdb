//! `lockstep engine-proxy`.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use clap::{Args, builder::RangedU64ValueParser};
use lockstep_provider::{EngineConfig, EngineProxy, EngineTimeouts, JwtSecret};
use lockstep_rpc::{Limits, Pages, Routes, bind, serve};
use metrics_exporter_prometheus::PrometheusHandle;

use super::line;
use crate::telemetry::init_metrics;

/// The arguments of `lockstep engine-proxy`.
#[derive(Debug, Args)]
pub(super) struct EngineArgs {
    /// Where to listen for the consensus driver (op-node); port 0 takes a free one.
    #[arg(long, env = "LOCKSTEP_ENGINE_LISTEN", default_value = "127.0.0.1:8551")]
    listen: SocketAddr,
    /// The execution client's Engine API.
    #[arg(long, env = "LOCKSTEP_ENGINE", default_value = "http://127.0.0.1:8552")]
    engine: String,
    /// File with the secret of the driver's tokens: 32 bytes as hex.
    #[arg(long, env = "LOCKSTEP_DRIVER_JWT")]
    driver_jwt: PathBuf,
    /// File with the secret of the execution client. May be the same file as --driver-jwt.
    #[arg(long, env = "LOCKSTEP_ENGINE_JWT")]
    engine_jwt: PathBuf,
    /// Where to listen for lists; port 0 takes a free one.
    #[arg(long, env = "LOCKSTEP_ENGINE_CONTROL", default_value = "127.0.0.1:8553")]
    control: SocketAddr,
    /// File with the secret of the tokens on the control port. Never the driver's or the execution client's.
    #[arg(long, env = "LOCKSTEP_CONTROL_JWT")]
    control_jwt: PathBuf,
    /// The rollup is on flashblocks: the proxy refuses to start, because no list can be put into its blocks.
    #[arg(long)]
    flashblocks: bool,
    /// Milliseconds that the execution client has to begin a list's payload; then the operator's own is used.
    #[arg(long, default_value_t = EngineTimeouts::default().begin_ms, value_parser = wait_ms())]
    begin_ms: u64,
    /// Milliseconds that the execution client has to hand a list's payload over; then the operator's own is used.
    #[arg(long, default_value_t = EngineTimeouts::default().payload_ms, value_parser = wait_ms())]
    payload_ms: u64,
    /// Where to serve /metrics and /livez; nowhere without it.
    #[arg(long)]
    metrics: Option<SocketAddr>,
}

/// What is longer than a minute stops a chain.
fn wait_ms() -> RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=60_000)
}

impl EngineArgs {
    pub(super) async fn run(self) -> Result<ExitCode, String> {
        let control_jwt = secret(&self.control_jwt)?;
        let (driver_jwt, engine_jwt) = (secret(&self.driver_jwt)?, secret(&self.engine_jwt)?);
        if control_jwt == driver_jwt || control_jwt == engine_jwt {
            return Err("--control-jwt: the control port needs a secret of its own".to_owned());
        }
        let pages = match self.metrics {
            Some(address) => {
                let bound = bind(address).await.map_err(|error| error.to_string())?;
                Some(serve(bound, Routes::default(), Arc::new(EnginePages(init_metrics())), Limits::default()))
            }
            None => None,
        };
        describe();
        let config = EngineConfig {
            listen: self.listen,
            control: self.control,
            engine: self.engine,
            driver_jwt,
            engine_jwt,
            control_jwt,
            flashblocks: self.flashblocks,
            timeouts: EngineTimeouts { begin_ms: self.begin_ms, payload_ms: self.payload_ms, ..EngineTimeouts::default() },
        };
        let proxy = EngineProxy::serve(config).await.map_err(|error| format!("{error} ({})", error.code()))?;
        line(&format!("The engine proxy is running. Driver: http://{}", proxy.address()))?;
        line(&format!("Lists: http://{}", proxy.control_address()))?;
        tokio::signal::ctrl_c().await.map_err(|error| error.to_string())?;
        if let Some(pages) = pages {
            pages.stop().await;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn secret(file: &Path) -> Result<JwtSecret, String> {
    JwtSecret::from_file(file).map_err(|error| format!("{}: {error}", file.display()))
}

fn describe() {
    use metrics::describe_counter;
    describe_counter!("lockstep_engine_payloads_total", "Payloads that the driver got, by result (list, own) and reason");
    describe_counter!("lockstep_engine_lists_total", "Lists that were taken");
    describe_counter!("lockstep_engine_lists_refused_total", "Calls on the control port that were refused, by reason");
    describe_counter!("lockstep_engine_refused_total", "Calls and connections that were refused, by port and reason");
    describe_counter!("lockstep_engine_unanswered_total", "Calls that the execution client did not answer, by reason");
    describe_counter!("lockstep_engine_forgotten_total", "Payloads and ended lists that made room for newer ones");
}

/// `/metrics` and `/livez`.
#[derive(Debug)]
struct EnginePages(PrometheusHandle);

impl Pages for EnginePages {
    fn page(&self, path: &str) -> Option<(u16, &'static str, String)> {
        match path {
            "/livez" => Some((200, "text/plain", "ok\n".to_owned())),
            "/metrics" => Some((200, "text/plain; version=0.0.4", self.0.render())),
            _ => None,
        }
    }
}
