//! Threads that recover signatures, so that those of the server stay free to take requests and to answer them.
//!
//! Nearly all of what it costs to take a bundle in is recovering its signers. A thread takes its share of all that waits, works
//! it off and tells the answers together: under load whoever waits is woken once for several answers, and without load every
//! request is a share by itself.

use std::{
    collections::VecDeque,
    fmt,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use jsonrpsee::types::ErrorObjectOwned;
use tokio::sync::oneshot;

use crate::{codes, error::plain, unavailable};

/// The bounds of a [`Recovery`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveryLimits {
    /// Threads; started when they are first needed. At least 1.
    pub threads: usize,
    /// Requests that may wait for a thread. One more is refused at once: `overloaded`. At least 1.
    pub queue: usize,
    /// Requests that a thread takes at once at the most. At least 1.
    pub batch: usize,
}

impl Default for RecoveryLimits {
    /// A thread for every processor.
    fn default() -> Self {
        let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self { threads, queue: 4_096, batch: 8 }
    }
}

impl RecoveryLimits {
    /// Limits that something can be done with.
    fn usable(self) -> Self {
        Self { threads: self.threads.max(1), queue: self.queue.max(1), batch: self.batch.max(1) }
    }
}

/// Why signatures were not recovered. Nothing came of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryError {
    /// Too much waits already.
    #[error("{waiting} requests already wait for their signatures to be recovered")]
    Overloaded {
        /// Requests that wait.
        waiting: usize,
    },
    /// There is no thread, or it met a fault of ours.
    #[error("the signatures could not be recovered")]
    Failed,
}

impl From<RecoveryError> for ErrorObjectOwned {
    fn from(error: RecoveryError) -> Self {
        match error {
            RecoveryError::Overloaded { .. } => {
                plain(codes::LIMIT, "overloaded", error.to_string(), "nothing was taken: send it again in a moment")
            }
            RecoveryError::Failed => unavailable("recovery_failed", error.to_string()),
        }
    }
}

/// A handle to the threads. Clones share them; when the last one is gone they end.
#[derive(Clone)]
pub struct Recovery {
    handle: Arc<Handle>,
}

impl Default for Recovery {
    fn default() -> Self {
        Self::new(RecoveryLimits::default())
    }
}

impl fmt::Debug for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recovery").field("limits", &self.handle.0.limits).finish_non_exhaustive()
    }
}

impl Recovery {
    /// Threads within these bounds; none of them runs yet.
    pub fn new(limits: RecoveryLimits) -> Self {
        let shared = Shared { limits: limits.usable(), state: Mutex::default(), work: Condvar::new() };
        Self { handle: Arc::new(Handle(Arc::new(shared))) }
    }

    /// Has a thread do this work, and waits for what comes of it. When the caller stops waiting before a thread has begun, the
    /// work is left out.
    ///
    /// # Errors
    /// When too much waits already, or the work met a fault of ours.
    pub async fn run<T, F>(&self, work: F) -> Result<T, RecoveryError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let (answer, receiver) = oneshot::channel();
        self.handle.0.take_in(Box::new(Asked { work: Some(work), done: None, answer }))?;
        receiver.await.map_err(|_| RecoveryError::Failed)
    }
}

/// What ends the threads when it is dropped.
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.state().closed = true;
        self.0.work.notify_all();
    }
}

struct Shared {
    limits: RecoveryLimits,
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Box<dyn Job>>,
    /// Threads that run, and those of them that wait for work.
    threads: usize,
    idle: usize,
    closed: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_in(self: &Arc<Self>, job: Box<dyn Job>) -> Result<(), RecoveryError> {
        let mut state = self.state();
        let waiting = state.queue.len();
        if waiting >= self.limits.queue {
            drop(state);
            metrics::counter!("lockstep_recovery_refused_total").increment(1);
            return Err(RecoveryError::Overloaded { waiting });
        }
        if state.idle == 0 && state.threads < self.limits.threads {
            let shared = Arc::clone(self);
            let started = thread::Builder::new().name("lockstep-recovery".to_owned()).spawn(move || shared.serve());
            match started {
                Ok(_) => state.threads += 1,
                Err(error) => {
                    tracing::error!(%error, "a thread that recovers signatures cannot be started");
                    if state.threads == 0 {
                        return Err(RecoveryError::Failed);
                    }
                }
            }
        }
        state.queue.push_back(job);
        let idle = state.idle > 0;
        drop(state);
        // Whoever is at work looks for more by itself.
        if idle {
            self.work.notify_one();
        }
        Ok(())
    }

    fn serve(&self) {
        let mut share = Vec::with_capacity(self.limits.batch);
        while self.take_out(&mut share) {
            share.iter_mut().for_each(|job| job.work());
            share.drain(..).for_each(|job| job.tell());
        }
    }

    /// Waits for work. False when there will be none any more.
    fn take_out(&self, share: &mut Vec<Box<dyn Job>>) -> bool {
        let mut state = self.state();
        loop {
            let waiting = state.queue.len();
            if waiting > 0 {
                // No more than an equal part, so that no thread has nothing to do while another has a pile.
                let part = waiting.div_ceil(self.limits.threads).min(self.limits.batch);
                share.extend(state.queue.drain(..part));
                return true;
            }
            if state.closed {
                return false;
            }
            state.idle += 1;
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }
}

/// A piece of work with somebody who waits for what comes of it.
trait Job: Send {
    fn work(&mut self);
    fn tell(self: Box<Self>);
}

struct Asked<F, T> {
    work: Option<F>,
    done: Option<T>,
    answer: oneshot::Sender<T>,
}

impl<F, T> Job for Asked<F, T>
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    fn work(&mut self) {
        // A client that went away has no use for it.
        let Some(work) = self.work.take().filter(|_| !self.answer.is_closed()) else { return };
        // A fault of ours in one request must not take the thread from all others. Whoever asked learns of it: no answer comes.
        self.done = catch_unwind(AssertUnwindSafe(work)).ok();
    }

    fn tell(self: Box<Self>) {
        let Self { done, answer, .. } = *self;
        if let Some(done) = done {
            // The caller may have stopped waiting.
            let _ = answer.send(done);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        sync::{
            atomic::{AtomicUsize, Ordering},
            mpsc,
        },
        task::{Context, Waker},
    };

    use super::*;

    const ONE: RecoveryLimits = RecoveryLimits { threads: 1, queue: 16, batch: 4 };

    /// Asks, and goes on without the answer.
    fn start<F: Future>(asked: Pin<&mut F>) {
        assert!(asked.poll(&mut Context::from_waker(Waker::noop())).is_pending(), "the thread is held back");
    }

    /// Work that has begun when the first channel says so, and that ends when the second one does.
    fn held() -> (impl FnOnce() + Send + 'static, mpsc::Receiver<()>, mpsc::Sender<()>) {
        let (begun, has_begun) = mpsc::channel();
        let (go, wait) = mpsc::channel();
        let work = move || {
            begun.send(()).unwrap();
            wait.recv().unwrap();
        };
        (work, has_begun, go)
    }

    #[tokio::test]
    async fn the_work_is_done_on_a_thread_of_its_own_and_its_result_comes_back() {
        let recovery = Recovery::new(ONE);
        let first = recovery.run(|| thread::current().id()).await.unwrap();
        let second = recovery.run(|| thread::current().id()).await.unwrap();
        assert_ne!(first, thread::current().id());
        assert_eq!(first, second, "there is one thread");
    }

    #[tokio::test]
    async fn what_finds_the_queue_full_is_told_so_at_once_and_the_rest_is_done() {
        let recovery = Recovery::new(RecoveryLimits { queue: 2, ..ONE });
        let (work, has_begun, go) = held();
        let mut first = Box::pin(recovery.run(work));
        start(first.as_mut());
        has_begun.recv().unwrap();
        let (mut second, mut third) = (Box::pin(recovery.run(|| 2)), Box::pin(recovery.run(|| 3)));
        start(second.as_mut());
        start(third.as_mut());
        let refused = recovery.run(|| 4).await;
        assert_eq!(refused, Err(RecoveryError::Overloaded { waiting: 2 }));
        let told = ErrorObjectOwned::from(refused.unwrap_err());
        assert_eq!(told.code(), codes::LIMIT);
        assert!(told.data().unwrap().get().contains("overloaded"));
        go.send(()).unwrap();
        first.await.unwrap();
        assert_eq!((second.await, third.await), (Ok(2), Ok(3)));
        assert_eq!(recovery.run(|| 5).await, Ok(5), "there is room again");
    }

    #[tokio::test]
    async fn a_fault_in_one_request_reaches_its_sender_and_nobody_else() {
        let recovery = Recovery::new(ONE);
        let failed: Result<(), RecoveryError> = recovery.run(|| panic!("a fault on purpose")).await;
        assert_eq!(failed, Err(RecoveryError::Failed));
        assert_eq!(recovery.run(|| 1).await, Ok(1));
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_left_out() {
        let recovery = Recovery::new(ONE);
        let (work, has_begun, go) = held();
        let mut first = Box::pin(recovery.run(work));
        start(first.as_mut());
        has_begun.recv().unwrap();
        let done = Arc::new(AtomicUsize::new(0));
        let count = |by: usize| {
            let done = Arc::clone(&done);
            move || done.fetch_add(by, Ordering::SeqCst)
        };
        let mut abandoned = Box::pin(recovery.run(count(1)));
        start(abandoned.as_mut());
        drop(abandoned);
        let mut kept = Box::pin(recovery.run(count(10)));
        start(kept.as_mut());
        go.send(()).unwrap();
        first.await.unwrap();
        kept.await.unwrap();
        assert_eq!(done.load(Ordering::SeqCst), 10);
    }

    #[test]
    fn a_thread_takes_an_equal_part_of_what_waits_and_no_more_than_its_bound() {
        let shares = |threads: usize, batch: usize, waiting: usize| {
            let limits = RecoveryLimits { threads, queue: 100, batch };
            let shared = Shared { limits, state: Mutex::default(), work: Condvar::new() };
            for _ in 0..waiting {
                let (answer, _) = oneshot::channel::<()>();
                shared.state().queue.push_back(Box::new(Asked { work: Some(|| ()), done: None, answer }));
            }
            shared.state().closed = true;
            let (mut share, mut sizes) = (Vec::new(), Vec::new());
            while shared.take_out(&mut share) {
                sizes.push(share.drain(..).count());
            }
            sizes
        };
        assert_eq!(shares(2, 8, 1), [1]);
        assert_eq!(shares(2, 8, 5), [3, 1, 1]);
        assert_eq!(shares(2, 4, 20), [4, 4, 4, 4, 2, 1, 1]);
        assert_eq!(shares(1, 4, 6), [4, 2]);
        assert!(shares(3, 4, 0).is_empty());
    }
}
