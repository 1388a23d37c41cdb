//! The pool of pending bundles: what may come in, what replaces what, what has expired. Bounded in every direction.
//!
//! [`check`] looks at a bundle alone, [`check_accounts`] at its transactions against the rollups' newest state and what is
//! pending. [`Pool`] holds what passed.

mod accounts;
mod admission;
mod limits;
mod pool;

pub use accounts::{AccountView, TxAccount, accounts_of, check_accounts};
pub use admission::{Head, Heads, check};
pub use limits::Limits;
pub use pool::{Entry, Inserted, Kind, Pool};
