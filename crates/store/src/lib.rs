//! Durable tables of bytes. What the bytes mean is not known here.
//!
//! - **On disk before it is answered.** [`Store::put`] and its siblings return when the record has been synced.
//! - **Group commit.** One writer thread drains everything that waits in a bounded queue into one redb transaction, syncs
//!   once and answers every waiter: the price of an fsync is shared by all who wait for it. While many write, the thread waits
//!   a moment for more before it begins ([`Limits::linger`]); who writes alone never waits for others.
//! - **Compare-and-set.** [`Store::put_if_absent`] checks and writes inside the writer's transaction, so of any number of
//!   racing callers exactly one writes.
//! - **Bounded.** A full queue answers [`StoreError::Busy`] at once. Every bound is a field of [`Limits`].
//! - **Honest about damage.** Every record carries a version and a checksum; one that does not match is an error that
//!   names its table and key, never a record that is quietly missing.
//! - **Fails closed.** After a failed commit the store refuses writes and goes on answering reads.
//!
//! Invariant: one process holds a store at a time; redb's lock on the file sees to it.
//!
//! Invariant: the writer thread is the only one that opens write transactions. Nothing outside it can make a commit wait.
//!
//! ```no_run
//! # async fn example() -> Result<(), lockstep_store::StoreError> {
//! use lockstep_store::{PutOutcome, Store, Table};
//!
//! let store = Store::open("data/lockstep.redb".as_ref())?;
//! store.put(Table::Bundles, b"key".to_vec(), b"value".to_vec()).await?;
//! let decided = store.put_if_absent(Table::Decisions, b"slot 7".to_vec(), b"commit".to_vec()).await?;
//! assert_eq!(decided, PutOutcome::Written);
//! assert_eq!(store.get(Table::Bundles, b"key")?, Some(b"value".to_vec()));
//! # Ok(())
//! # }
//! ```

mod error;
mod limits;
mod medium;
mod op;
mod pace;
mod record;
mod shared;
mod store;
mod table;
mod writer;

pub use error::{Damage, StoreError};
pub use limits::Limits;
pub use op::{Op, PutOutcome};
pub use store::{KeyValue, Queued, Store, StoreStatus};
pub use table::Table;
