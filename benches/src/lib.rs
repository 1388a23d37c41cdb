//! The harness `lockstep-bench`: what Lockstep costs and earns, measured beside what it is compared with in the same run.
//!
//! A scenario answers one question with the rows of a [`Report`]. It drives the production path, never a copy of it; what is
//! a copy or a re-implementation is only ever the other side of a comparison, and is named so. Workloads are drawn from a
//! seed ([`workload`]) on rollups that are made for them ([`World`]).
//!
//! [`scenario::SCENARIOS`] lists the scenarios; `docs/performance.md` says what they showed.

pub mod bare;
pub mod baseline;
pub mod machine;
pub mod measure;
mod options;
pub mod output;
mod progress;
mod report;
pub mod rng;
pub mod scenario;
pub mod workload;
pub mod world;

pub use options::{Flag, Options};
pub use progress::Progress;
pub use report::{Report, Requirement, Row};
pub use world::{World, WorldSpec};

/// Why a scenario gave no report. Text for whoever ran it.
pub type Failed = Box<dyn std::error::Error + Send + Sync>;
