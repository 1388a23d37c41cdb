//! Work on many items by as many threads as there are, each with its own copy of what it works on.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

/// How many of many small items a thread takes at a time.
const TAKEN: usize = 4;

/// Does `work` for every item, in parallel, and yields the results in their order, as [`for_each_index`] does.
pub(crate) fn for_each<S, I, T>(items: Vec<I>, state: &S, work: impl Fn(&mut S, I) -> T + Sync) -> Vec<T>
where
    S: Clone + Send + Sync,
    I: Send,
    T: Send,
{
    let items: Vec<Mutex<Option<I>>> = items.into_iter().map(|item| Mutex::new(Some(item))).collect();
    // An item may be much work: whoever takes one takes no other with it.
    let taken = spread(items.len(), 1, state, |state, index| {
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
    spread(count, TAKEN, state, work)
}

fn spread<S, T>(count: usize, at_a_time: usize, state: &S, work: impl Fn(&mut S, usize) -> T + Sync) -> Vec<T>
where
    S: Clone + Send + Sync,
    T: Send,
{
    let threads = rayon::current_num_threads().min(count.div_ceil(at_a_time));
    if threads <= 1 {
        let mut state = state.clone();
        return (0..count).map(|index| work(&mut state, index)).collect();
    }
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<std::vec::IntoIter<(usize, T)>>> = Mutex::new(Vec::with_capacity(threads));
    rayon::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|_| {
                let mut state = state.clone();
                let mut own = Vec::with_capacity(count.div_ceil(threads));
                loop {
                    let first = next.fetch_add(at_a_time, Ordering::Relaxed);
                    if first >= count {
                        break;
                    }
                    own.extend((first..count.min(first + at_a_time)).map(|index| (index, work(&mut state, index))));
                }
                done.lock().unwrap_or_else(PoisonError::into_inner).push(own.into_iter());
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    // What a thread did is in the order of the indices, so the threads' results need only be merged.
    let mut merged = Vec::with_capacity(count);
    let is_next = |own: &std::vec::IntoIter<(usize, T)>, merged: &Vec<T>| {
        own.as_slice().first().is_some_and(|(index, _)| *index == merged.len())
    };
    while let Some(own) = done.iter_mut().find(|own| is_next(own, &merged)) {
        while is_next(own, &merged) {
            merged.extend(own.next().map(|(_, result)| result));
        }
    }
    merged
}
