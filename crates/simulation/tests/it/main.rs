//! What simulation promises: a block is the sum of the transactions that stayed in it, a list does what the block it was made
//! of did, a value that is not there is named, a stand-in speaks for one signature only, and no wei comes from nowhere.

mod fees;
mod forks;
mod lists;
mod missing;
mod plans;
mod rollback;
mod room;
mod stand_ins;
mod support;
mod system_calls;
mod tail;
mod transfers;
