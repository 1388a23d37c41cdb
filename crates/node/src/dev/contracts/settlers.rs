//! Settlers of cross-rollup orders (ERC-7683): where they are.

use alloy_primitives::{Address, Bytes, U256};
use alloy_sol_types::{SolValue, sol};

use super::{InteropContracts, Site, at, encode, init_code};

sol! {
    function setDestinationSettler(uint256 chainId, bytes32 settler) external;
}

/// How long after its fill deadline an order is kept for its filler, in seconds: no message takes longer.
const REFUND_DELAY_S: u64 = 604_800;

/// The settlers of ERC-7683. Fills are reported by the messenger of OP interop.
#[derive(Clone, Copy, Debug)]
pub struct SettlerContracts {
    /// `OriginSettler`: where orders are opened.
    pub origin: Address,
    /// `DestinationSettler`: where they are filled.
    pub destination: Address,
}

impl SettlerContracts {
    pub(super) fn from_nonce(nonce: u64) -> Self {
        Self { origin: at(nonce), destination: at(nonce + 1) }
    }

    pub(super) fn creations(&self, interop: &InteropContracts) -> Vec<Bytes> {
        vec![
            init_code(artifact!("OriginSettler"), &(interop.messenger, U256::from(REFUND_DELAY_S)).abi_encode()),
            init_code(artifact!("DestinationSettler"), &interop.messenger.abi_encode()),
        ]
    }

    pub(super) fn wiring(&self, others: &[Site]) -> Vec<(Address, Bytes)> {
        let settler = self.destination.into_word();
        let call = |site: &Site| encode(&setDestinationSettlerCall { chainId: U256::from(site.chain), settler });
        others.iter().map(|site| (self.origin, call(site))).collect()
    }
}
