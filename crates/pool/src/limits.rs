//! Every bound of the pool, by name.

/// The pool's bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bundles in the pool.
    pub bundles: usize,
    /// Bundles of one sender: whoever signed the first transaction.
    pub bundles_per_sender: usize,
    /// Gas that a bundle's transactions may ask for together. What is simulated costs nobody anything but us, so what a bundle
    /// can make us execute is bounded by what it asks for; time would be another thing on every machine.
    pub gas: u64,
    /// Gas that the pending bundles of one sender may ask for together.
    pub gas_per_sender: u64,
    /// Legs of a bundle.
    pub legs: usize,
    /// Transactions of a bundle (as the Flashbots relay).
    pub transactions: usize,
    /// Entries of the authorization lists (EIP-7702) of a bundle's transactions. Each is a signature to recover.
    pub authorizations: usize,
    /// Bytes of a bundle's transactions (as the Flashbots relay).
    pub bytes: usize,
    /// Balance conditions of a bundle.
    pub requirements: usize,
    /// How many blocks ahead of its rollup's head a bundle's first block may lie.
    pub blocks_ahead: u64,
    /// How long a bundle waits before it expires, in seconds, when its own bounds do not end it earlier.
    pub lifetime_s: u64,
    /// By how many percent both fees have to rise for a plain transaction to replace another with the same nonce.
    pub fee_bump_percent: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bundles: 20_000,
            bundles_per_sender: 1_000,
            gas: 200_000_000,
            gas_per_sender: 1_000_000_000,
            legs: 16,
            transactions: 100,
            authorizations: 64,
            bytes: 300_000,
            requirements: 16,
            blocks_ahead: 7_200,
            lifetime_s: 3_600,
            fee_bump_percent: 10,
        }
    }
}
