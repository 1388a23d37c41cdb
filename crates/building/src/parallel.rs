//! Work on many items by as many threads as there are, each with its own copy of what it works on.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

/// How many items a thread takes at a time.
const TAKEN: usize = 4;

/// Does `work` for every item, in parallel, and yields the results in their order, as [`for_each_index`] does.
pub(crate) fn for_each<S, I, T>(items: Vec<I>, state: &S, work: impl Fn(&mut S, I) -> T + Sync) -> Vec<T>
where
    S: Clone + Send + Sync,
    I: Send,
    T: Send,
{
    let items: Vec<Mutex<Option<I>>> = items.into_iter().map(|item| Mutex::new(Some(item))).collect();
    let taken = for_each_index(items.len(), state, |state, index| {
        let item = items[index].lock().unwrap_or_else(PoisonError::into_inner).take();
        item.map(|item| work(state, item))
    });
    taken.into_iter().flatten().collect()
}

/// Does `work` for every index below `count`, in parallel, and yields the results in the order of the indices. Every thread
/// works on a copy of `state`; whoever is done takes what is left of the others' work.
pub(crate) fn for_each_index<S, T>(count: usize, state: &S, work: impl Fn(&mut S, usize) -> T + Sync) -> Vec<T>
where
    S: Clone + Send + Sync,
    T: Send,
{
    let threads = rayon::current_num_threads().min(count.div_ceil(TAKEN));
    if threads <= 1 {
        let mut state = state.clone();
        return (0..count).map(|index| work(&mut state, index)).collect();
    }
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, T)>> = Mutex::new(Vec::with_capacity(count));
    rayon::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|_| {
                let mut state = state.clone();
                let mut own = Vec::new();
                loop {
                    let first = next.fetch_add(TAKEN, Ordering::Relaxed);
                    if first >= count {
                        break;
                    }
                    own.extend((first..count.min(first + TAKEN)).map(|index| (index, work(&mut state, index))));
                }
                done.lock().unwrap_or_else(PoisonError::into_inner).append(&mut own);
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}
