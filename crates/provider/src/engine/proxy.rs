//! The running proxy.

use std::{net::SocketAddr, sync::Arc};

use tokio::task::AbortHandle;

use super::{
    EngineError, Refusal,
    config::{EngineConfig, MAX_BODY_BYTES, MAX_CONTROL_BODY_BYTES},
    control::Control,
    http::{Answers, Port, bind},
    relay::Relay,
};

/// A running engine proxy. Stops when it is dropped.
#[derive(Debug)]
pub struct EngineProxy {
    driver: SocketAddr,
    control: SocketAddr,
    ports: [AbortHandle; 2],
}

impl EngineProxy {
    /// Starts it. To be called inside a tokio runtime. An execution client that cannot be reached yet is no error: the driver
    /// learns of it call by call, and lists are refused until the client was looked at.
    ///
    /// # Errors
    /// When a port cannot be listened on, the address is refused, the execution client refuses the token, or the rollup is on
    /// flashblocks: as configured, or as its client names itself.
    pub async fn serve(config: EngineConfig) -> Result<Self, EngineError> {
        let EngineConfig { listen, control, engine, driver_jwt, engine_jwt, control_jwt, flashblocks, timeouts } = config;
        if flashblocks {
            return Err(EngineError::Flashblocks("as configured".to_owned()));
        }
        let relay = Arc::new(Relay::new(&engine, engine_jwt, timeouts)?);
        match relay.look().await {
            Ok(()) => {}
            Err(Refusal::Flashblocks(mark)) => return Err(EngineError::Flashblocks(format!("its client says {mark}"))),
            Err(Refusal::Unauthorized(status)) => return Err(EngineError::EngineJwt(status)),
            Err(refusal) => tracing::warn!(%refusal, "the execution client does not answer yet: lists are refused until it does"),
        }
        let (driver_listener, driver) = bind(listen).await?;
        let (control_listener, control) = bind(control).await?;
        let driver_port = Port {
            name: "driver",
            secret: driver_jwt,
            max_body_bytes: MAX_BODY_BYTES,
            answers: Arc::clone(&relay) as Arc<dyn Answers>,
        };
        let control_port = Port {
            name: "control",
            secret: control_jwt,
            max_body_bytes: MAX_CONTROL_BODY_BYTES,
            answers: Arc::new(Control(relay)),
        };
        let ports = [
            tokio::spawn(driver_port.serve(driver_listener)).abort_handle(),
            tokio::spawn(control_port.serve(control_listener)).abort_handle(),
        ];
        tracing::info!(%driver, %control, "the engine proxy serves");
        Ok(Self { driver, control, ports })
    }

    /// Where it listens for the consensus driver.
    pub const fn address(&self) -> SocketAddr {
        self.driver
    }

    /// Where it listens for lists.
    pub const fn control_address(&self) -> SocketAddr {
        self.control
    }

    /// Ends the control port and goes on with the other one.
    pub fn close_control(&self) {
        let [_, control] = &self.ports;
        control.abort();
    }
}

impl Drop for EngineProxy {
    fn drop(&mut self) {
        for port in &self.ports {
            port.abort();
        }
    }
}
