//! Waiting for a condition, never for a time.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};

/// How long a condition may take: far above what it takes, so that only what never comes fails.
const BOUND: Duration = Duration::from_secs(60);
/// How often it is looked at.
const PERIOD: Duration = Duration::from_millis(25);

/// Looks until there is something to see; `None` when nothing came within the bound.
pub(crate) async fn seen<T>(mut look: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let found = async {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    };
    timeout(BOUND, found).await.ok()
}

/// Looks until there is something to see.
///
/// # Panics
/// When nothing came within the bound.
pub(crate) async fn until<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    let Some(found) = seen(look).await else { panic!("waited {} s in vain: {what}", BOUND.as_secs()) };
    found
}
