//! What building promises: the invariants of the design as properties of random bundle sets, each compared with a builder
//! that is too simple to be wrong, and the same promises told as stories.

mod bridging;
mod bundles;
mod conservation;
mod engine;
mod invariants;
mod messages;
mod ordering;
mod slots;
mod support;
mod verification;
mod warmth;
