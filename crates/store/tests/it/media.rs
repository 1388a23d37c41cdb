//! Storage that waits or fails on purpose, over bytes that outlive the store.

use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use redb::StorageBackend;
use redb::backends::InMemoryBackend;

/// Storage in memory whose clones share the bytes: opening a clone later is opening the same disk again.
#[derive(Clone, Debug, Default)]
pub(crate) struct TestMedium {
    bytes: Arc<InMemoryBackend>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) faults: Arc<Faults>,
}

impl StorageBackend for TestMedium {
    fn len(&self) -> io::Result<u64> {
        StorageBackend::len(&*self.bytes)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        StorageBackend::read(&*self.bytes, offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.faults.spend()?;
        StorageBackend::set_len(&*self.bytes, len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.gate.pass();
        self.faults.spend()?;
        StorageBackend::sync_data(&*self.bytes)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.faults.spend()?;
        StorageBackend::write(&*self.bytes, offset, data)
    }
}

/// No test depends on it: it turns a test that failed before it opened the gate into a failure instead of a hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// Holds the writer thread at its next sync while closed.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    closed: bool,
    waiting: bool,
}

impl Gate {
    pub(crate) fn close(&self) {
        self.state.lock().expect("the gate's lock").closed = true;
    }

    pub(crate) fn open(&self) {
        self.state.lock().expect("the gate's lock").closed = false;
        self.changed.notify_all();
    }

    /// Returns when the writer thread stands before the closed gate.
    pub(crate) fn wait_for_writer(&self) {
        let state = self.state.lock().expect("the gate's lock");
        let (state, _) = self.changed.wait_timeout_while(state, PATIENCE, |state| !state.waiting).expect("the gate's lock");
        assert!(state.waiting, "the writer thread never came to the gate");
    }

    fn pass(&self) {
        let mut state = self.state.lock().expect("the gate's lock");
        if !state.closed {
            return;
        }
        state.waiting = true;
        self.changed.notify_all();
        let (mut state, _) = self.changed.wait_timeout_while(state, PATIENCE, |state| state.closed).expect("the gate's lock");
        state.waiting = false;
    }
}

/// How many writes, syncs and changes of length go well before all later ones fail.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<Option<u32>>);

impl Faults {
    pub(crate) fn fail_after(&self, calls: u32) {
        *self.0.lock().expect("the faults' lock") = Some(calls);
    }

    pub(crate) fn heal(&self) {
        *self.0.lock().expect("the faults' lock") = None;
    }

    fn spend(&self) -> io::Result<()> {
        match &mut *self.0.lock().expect("the faults' lock") {
            None => Ok(()),
            Some(0) => Err(io::Error::other("the disk is broken on purpose")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }
}
