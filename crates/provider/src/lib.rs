//! Where Lockstep meets chains: heads and state, evidence, submission, and the embedded rollup behind the same traits.
//!
//! [`RollupNode`] is one rollup's node. [`EmbeddedRollup`] runs in this process and needs nothing else; [`RemoteNode`] speaks
//! JSON-RPC to one or several nodes elsewhere, executes and checks every new block, and keeps the state that it read moving on
//! with them. State that is not here yet is [`StateError::Missing`](lockstep_simulation::StateError): whoever ran into it calls
//! [`RollupNode::fetch_missing`] and runs again, so that no worker thread waits for a socket.
//!
//! How a list gets onto a chain is a [`DeliveryAdapter`], chosen by [`DeliverySettings`]; [`EngineProxy`] is the other end of one
//! of them. [`RecordedBlock`] and [`Prestate`] are blocks and states as files. [`EvidenceSource`] gives signatures that a message
//! was sent: by keys of this process ([`LocalAttester`]), or from Circle's attestation service ([`IrisSource`]).

mod adapter;
mod beacon;
mod embedded;
mod engine;
mod evidence;
mod node;
mod recorded;
mod remote;

pub use adapter::DeliveryAdapter;
pub use beacon::{BeaconClient, ProposerDuty, ValidatorKey};
pub use embedded::{EmbeddedBlock, EmbeddedGenesis, EmbeddedRollup, EmbeddedTx, HISTORY_BLOCKS, MAX_BLOCKS};
pub use engine::{
    CommitList, ControlError, EngineConfig, EngineControl, EngineError, EngineProxy, EngineTimeouts, JwtSecret, LastAttributes,
    MAX_ANSWER_BYTES, MAX_BODY_BYTES, MAX_CONNECTIONS, MAX_CONTROL_BODY_BYTES, MAX_JOBS, MAX_LISTS, Outcome, OutcomeState,
    PlannedAttributes, Refusal,
};
pub use evidence::{
    CctpVersion, Clock, EvidenceError, EvidenceRoutes, EvidenceSource, IrisClient, IrisLimits, IrisSource, LandedTx,
    LocalAttester,
};
pub use node::{BlockLog, DroppedBlock, Landed, NodeError, NodeHealth, PublishedBlock, Reorg, RollupNode};
pub use recorded::{BLOCK_FILE, MAX_GATHER_ROUNDS, Prestate, RecordedBlock, RecordedError, gather, short, write_folder};
pub use remote::{
    CacheStats, DeliverySettings, EndpointStatus, FollowStats, RemoteLimits, RemoteNode, RemoteSettings, RpcFailure, http_client,
};
