//! Messages that are on their chains: what was sent and not delivered, what it takes to deliver it, and what slots may count on.
//!
//! `keeper` reads every block of every rollup once and writes down what it finds in `book`, which lies in the store, so that a
//! restart forgets nothing. It asks attesters for the evidence of what was not delivered, and bridges for what no log tells
//! (`bridge`). `facts` is what a slot is told: what bundles relay, what nobody delivers (orphans), the logs that transactions
//! refer to (`known`), AggLayer's trees (`exits`). Everything in it is as of the blocks that the slot builds on, and what is not
//! read up to them is left out. `list` is what users are told.

mod book;
mod bridge;
mod exits;
mod facts;
#[cfg(test)]
mod fixture;
mod keeper;
mod known;
mod list;
mod record;
mod settings;
#[cfg(test)]
mod tests;

pub(crate) use keeper::{Bridging, Messages};
pub use settings::{MessagesLimits, MessagesSettings};
