//! What the tests of Lockstep share. Production code must never know it.
//!
//! A [`World`] is a handful of rollups of different kinds with funded accounts, the fixture contracts and CCTP v1 between
//! all of them, ready to build a slot on. [`Wallet`]s sign what [`Call`]s say, [`bundle`](bundle()) puts it together.
//! [`naive`](naive()) builds the same slot by brute force: short, slow and obviously right. [`cases`] draws random bundle
//! sets.
//!
//! Everything is deterministic: keys are hashes of names, and random choices come from proptest's seed.

mod accounts;
mod bundles;
mod contracts;
pub mod fuzz;
mod generate;
mod naive;
mod protocols;
mod proxy;
mod setup;
mod world;

pub use accounts::{
    Call, FEE_CAP, GWEI, USERS, Wallet, attest, attesters, builder, call, deployer, ether, evidence, gwei, key, sign,
    sign_digest, transfer, user,
};
pub use bundles::{Recipe, bundle, candidates};
pub use contracts::{Contracts, calls, init_code};
pub use generate::{
    Action, Bounds, Bridge, BundlePlan, Case, DestinationCaller, LegPlan, NoncePlan, Payee, RequirePlan, Setting, Shape, TxPlan,
    Use, cases, cases_without_relays,
};
pub use naive::{NaiveDraft, Relays, naive};
pub use protocols::{BRIDGED, BurnTerms, FAST_BLOCKS, FAST_FEE_BPS, INTEROP_WINDOW, ProtocolContracts, TOKEN_BRIDGE};
pub use proxy::{Fault, NodeProxy};
pub use setup::Deployer;
pub use world::{
    BLOCK_TIME, CANCUN, GENESIS_TIME, ISTHMUS, JOVIAN, NFT_PRICE, OSAKA, PRAGUE, PROBE, SHANGHAI, TRAVELLER_USDC, USD, World,
};
