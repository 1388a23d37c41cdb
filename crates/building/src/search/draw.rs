//! Numbers that depend on nothing but what they are drawn for.

/// Numbers for one step of one round: SplitMix64 (Steele, Lea and Flood, 2014), started from a mix of all three.
#[derive(Clone, Debug)]
pub(super) struct Draw {
    state: u64,
}

impl Draw {
    pub(super) const fn new(seed: u64, round: u32, step: u64) -> Self {
        Self { state: mixed(mixed(mixed(seed) ^ round as u64) ^ step) }
    }

    const fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.state)
    }

    /// A number below `end`, which is not zero. Its slight preference for small numbers does not matter here.
    pub(super) const fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// One of several, `None` if there are none.
    pub(super) fn one_of(&mut self, several: &[usize]) -> Option<usize> {
        if several.is_empty() { None } else { several.get(self.below(several.len())).copied() }
    }
}

const fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
