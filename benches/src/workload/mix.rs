//! What a workload is made of.

/// A kind of bundle. Unless said otherwise a bundle has a sender of its own, who tips 1 to 10 gwei for every unit of gas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A transfer of the native asset to an account of its own.
    Transfer,
    /// A transfer of the dollar token.
    Erc20,
    /// A swap on one of the few pools that many use. How much it may slip is drawn: by whoever came before, it may fail.
    HotSwap,
    /// A swap on one of the other pools, which may slip by 5 %.
    ColdSwap,
    /// A burn on one rollup and the mint on another (CCTP v1).
    Cctp,
    /// Dollars that go over four rollups in one bundle: burn, mint, burn, mint, burn, mint.
    FourRollups,
    /// A swap on a hot pool of one rollup and one on another rollup, both or neither.
    SwapPair,
    /// A transfer on one rollup and one on another, both or neither.
    TransferPair,
    /// A call that reverts.
    Spam,
    /// A few bundles of one sender, whose nonces follow each other.
    NonceChain,
    /// Versions of one bundle that replace each other.
    Replacement,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Transfer,
        Self::Erc20,
        Self::HotSwap,
        Self::ColdSwap,
        Self::Cctp,
        Self::FourRollups,
        Self::SwapPair,
        Self::TransferPair,
        Self::Spam,
        Self::NonceChain,
        Self::Replacement,
    ];

    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transfer => "transfers",
            Self::Erc20 => "ERC-20 transfers",
            Self::HotSwap => "swaps on hot pools",
            Self::ColdSwap => "swaps on cold pools",
            Self::Cctp => "CCTP pairs",
            Self::FourRollups => "four-rollup chains",
            Self::SwapPair => "cross-rollup pairs of swaps",
            Self::TransferPair => "cross-rollup pairs of transfers",
            Self::Spam => "reverting spam",
            Self::NonceChain => "nonce chains",
            Self::Replacement => "replacement storms",
        }
    }

    /// How many rollups such a bundle needs.
    pub const fn rollups(self) -> usize {
        match self {
            Self::Cctp | Self::SwapPair | Self::TransferPair => 2,
            Self::FourRollups => 4,
            Self::Transfer | Self::Erc20 | Self::HotSwap | Self::ColdSwap | Self::Spam | Self::NonceChain | Self::Replacement => {
                1
            }
        }
    }

    /// Whether such a bundle swaps.
    pub const fn swaps(self) -> bool {
        matches!(self, Self::HotSwap | Self::ColdSwap | Self::SwapPair)
    }
}

/// Kinds of bundles and how often each is drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix {
    name: String,
    /// Thousandths of the draws. A nonce chain or a replacement storm is one draw.
    pub shares: Vec<(Kind, u64)>,
    /// How many pools of each rollup are hot.
    pub hot_pools: usize,
}

impl Mix {
    /// A mix of these shares, in thousandths.
    pub fn new(name: &str, shares: &[(Kind, u64)]) -> Self {
        Self { name: name.to_owned(), shares: shares.to_vec(), hot_pools: 4 }
    }

    /// One kind only.
    pub fn only(kind: Kind) -> Self {
        Self::new(kind.name(), &[(kind, 1_000)])
    }

    /// What a busy slot looks like: a tenth over two or more rollups, three tenths on hot pools.
    pub fn busy() -> Self {
        Self::new(
            "busy slot",
            &[
                (Kind::Transfer, 200),
                (Kind::Erc20, 200),
                (Kind::HotSwap, 280),
                (Kind::ColdSwap, 200),
                (Kind::Cctp, 70),
                (Kind::FourRollups, 10),
                (Kind::SwapPair, 20),
                (Kind::Spam, 20),
            ],
        )
    }

    /// Bundles of which none changes what another is worth.
    pub fn independent() -> Self {
        Self::new("independent", &[(Kind::Transfer, 500), (Kind::Erc20, 400), (Kind::TransferPair, 100)])
    }

    /// The same with messages: every burn and mint moves counters that all of them move, so each is executed where it stands.
    pub fn crossing() -> Self {
        Self::new("crossing", &[(Kind::Transfer, 500), (Kind::Erc20, 400), (Kind::Cctp, 100)])
    }

    /// A little of everything.
    pub fn everything() -> Self {
        Self::new("everything", &Kind::ALL.map(|kind| (kind, 100)))
    }

    /// A short name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The shares in words.
    pub fn description(&self) -> String {
        let shares: Vec<String> =
            self.shares.iter().map(|(kind, share)| format!("{}.{} % {}", share / 10, share % 10, kind.name())).collect();
        format!("{}; {} hot pools a rollup", shares.join(", "), self.hot_pools)
    }
}
