//! AggLayer's bridge: where it is, and how assets and messages are sent.

use alloy_primitives::{Address, Bytes, U256};
use alloy_sol_types::{SolValue, sol};

use super::{at, encode, init_code};

sol! {
    function bridgeAsset(uint32 destinationNetwork, address destinationAddress, uint256 amount, address token, bool forceUpdateGlobalExitRoot, bytes permitData) external payable;
    function bridgeMessage(uint32 destinationNetwork, address destinationAddress, bool forceUpdateGlobalExitRoot, bytes metadata) external payable;
    function getTokenWrappedAddress(uint32 originNetwork, address originTokenAddress) external view returns (address);
}

/// The AggLayer network of the first rollup of `dev`; the others follow. 0 is Ethereum, which `dev` has none of.
pub const NETWORK_BASE: u32 = 1;

/// AggLayer's contracts.
#[derive(Clone, Copy, Debug)]
pub struct AggLayerContracts {
    /// `BridgeL2SovereignChain`. Tokens of the rollup leave freely; ether and tokens of other networks as far as they came in.
    pub bridge: Address,
    /// `GlobalExitRootManagerL2`, into which the builder inserts exit roots.
    pub exit_root_manager: Address,
}

impl AggLayerContracts {
    pub(super) fn from_nonce(nonce: u64) -> Self {
        Self { bridge: at(nonce), exit_root_manager: at(nonce + 1) }
    }

    /// With ether as gas token.
    pub(super) fn creations(&self, network: u32) -> Vec<Bytes> {
        let bridge = (network, self.exit_root_manager, Address::ZERO, 0_u32, Bytes::new()).abi_encode_params();
        vec![
            init_code(artifact!("BridgeL2SovereignChain"), &bridge),
            init_code(artifact!("GlobalExitRootManagerL2"), &(self.bridge, crate::dev::builder().address()).abi_encode()),
        ]
    }

    /// The call of `bridge` that sends a token to another network. The bridge has to be approved, but for what it wrapped itself.
    pub fn send_asset(&self, network: u32, to: Address, token: Address, amount: U256) -> Bytes {
        encode(&bridgeAssetCall {
            destinationNetwork: network,
            destinationAddress: to,
            amount,
            token,
            forceUpdateGlobalExitRoot: false,
            permitData: Bytes::new(),
        })
    }

    /// The call of `bridge` that sends a message to a contract of another network.
    pub fn send_message(&self, network: u32, to: Address, message: Bytes) -> Bytes {
        encode(&bridgeMessageCall {
            destinationNetwork: network,
            destinationAddress: to,
            forceUpdateGlobalExitRoot: false,
            metadata: message,
        })
    }

    /// The call of `bridge` that reads where a token of another network is: zero before its first claim.
    pub fn wrapped(&self, network: u32, token: Address) -> Bytes {
        encode(&getTokenWrappedAddressCall { originNetwork: network, originTokenAddress: token })
    }
}
