//! What lies under redb, and how reads go on after a failed commit.
//!
//! After an I/O error redb refuses everything that is not in its cache until the database is closed and opened again, and
//! opening repairs, which writes. So that reads need not stop, the failed medium is frozen and opened a second time under
//! an [`Overlay`] that keeps the repair's writes in memory. The file stays as the failure left it, still locked, for the
//! next start to repair.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::io;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use redb::{BackendError, StorageBackend};

/// The storage of one store, shared by the database that writes it and the overlay that may follow.
#[derive(Debug)]
pub(crate) struct Medium {
    backend: Box<dyn StorageBackend>,
    frozen: AtomicBool,
}

impl Medium {
    pub(crate) fn new(backend: Box<dyn StorageBackend>) -> Self {
        Self { backend, frozen: AtomicBool::new(false) }
    }

    /// From here on nothing is written. The database that failed would otherwise write when it is dropped, under the
    /// feet of the overlay.
    pub(crate) fn freeze(&self) {
        self.frozen.store(true, Ordering::Release);
    }

    fn writable(&self) -> io::Result<&dyn StorageBackend> {
        if self.frozen.load(Ordering::Acquire) {
            return Err(io::Error::other("the store is read-only after a failed commit"));
        }
        Ok(&*self.backend)
    }
}

impl Drop for Medium {
    fn drop(&mut self) {
        if let Err(error) = self.backend.close() {
            tracing::warn!(%error, "the store's file did not close cleanly");
        }
    }
}

/// The medium as the writing database sees it.
#[derive(Debug)]
pub(crate) struct Live(pub(crate) Arc<Medium>);

impl StorageBackend for Live {
    fn len(&self) -> io::Result<u64> {
        self.0.backend.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.backend.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.writable()?.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.writable()?.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.writable()?.write(offset, data)
    }

    /// The overlay may still need the medium, which closes itself when the last user is gone.
    fn close(&self) -> io::Result<()> {
        Ok(())
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.backend.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.backend.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.backend.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.backend.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.backend.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.backend.query_lock_range(start, end)
    }
}

const PAGE_BYTES: u64 = 4096;

/// A frozen medium with writes on top that never reach it. It grows by what one repair writes (the allocator's state and
/// the header), not by records: the store refuses those. It takes no lock, since the medium under it still holds one.
pub(crate) struct Overlay {
    medium: Arc<Medium>,
    pages: RwLock<Pages>,
}

struct Pages {
    len: u64,
    /// How many bytes of the medium show through. It only shrinks: what was cut off must read as zero if it grows back.
    visible: u64,
    written: BTreeMap<u64, Vec<u8>>,
}

impl Overlay {
    pub(crate) fn new(medium: Arc<Medium>) -> io::Result<Self> {
        let len = medium.backend.len()?;
        Ok(Self { medium, pages: RwLock::new(Pages { len, visible: len, written: BTreeMap::new() }) })
    }

    /// Reads what shows through of the medium, and zeros beyond.
    fn read_through(&self, visible: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let shown = visible.saturating_sub(offset).min(out.len() as u64) as usize;
        let (below, beyond) = out.split_at_mut(shown);
        beyond.fill(0);
        if below.is_empty() { Ok(()) } else { self.medium.backend.read(offset, below) }
    }
}

impl Pages {
    fn end(&self, offset: u64, bytes: usize) -> io::Result<u64> {
        offset
            .checked_add(bytes as u64)
            .filter(|end| *end <= self.len)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "out of the storage's range"))
    }
}

/// The bytes that a page and the range from `offset` to `end` share: where in the page, and where in the range.
fn overlap(page: u64, offset: u64, end: u64) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
    let start = page * PAGE_BYTES;
    let from = start.max(offset);
    let to = (start + PAGE_BYTES).min(end);
    ((from - start) as usize..(to - start) as usize, (from - offset) as usize..(to - offset) as usize)
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.pages.read().unwrap_or_else(PoisonError::into_inner).len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let pages = self.pages.read().unwrap_or_else(PoisonError::into_inner);
        let end = pages.end(offset, out.len())?;
        self.read_through(pages.visible, offset, out)?;
        for (page, bytes) in pages.written.range(offset / PAGE_BYTES..end.div_ceil(PAGE_BYTES)) {
            let (in_page, in_range) = overlap(*page, offset, end);
            out[in_range].copy_from_slice(&bytes[in_page]);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut pages = self.pages.write().unwrap_or_else(PoisonError::into_inner);
        if len < pages.len {
            pages.visible = pages.visible.min(len);
            pages.written.retain(|page, _| *page * PAGE_BYTES < len);
            if let Some(bytes) = pages.written.get_mut(&(len / PAGE_BYTES)) {
                bytes[(len % PAGE_BYTES) as usize..].fill(0);
            }
        }
        pages.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut pages = self.pages.write().unwrap_or_else(PoisonError::into_inner);
        let end = pages.end(offset, data.len())?;
        let visible = pages.visible;
        for page in offset / PAGE_BYTES..end.div_ceil(PAGE_BYTES) {
            let bytes = match pages.written.entry(page) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    let mut bytes = vec![0; PAGE_BYTES as usize];
                    self.read_through(visible, page * PAGE_BYTES, &mut bytes)?;
                    entry.insert(bytes)
                }
            };
            let (in_page, in_range) = overlap(page, offset, end);
            bytes[in_page].copy_from_slice(&data[in_range]);
        }
        Ok(())
    }
}

/// Sizes only: redb asks for `Debug`, and the pages hold order flow.
impl fmt::Debug for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pages = self.pages.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("Overlay").field("len", &pages.len).field("written_pages", &pages.written.len()).finish_non_exhaustive()
    }
}
