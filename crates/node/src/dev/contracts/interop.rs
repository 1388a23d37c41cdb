//! OP interop: where it is, and how tokens and messages are sent.
//!
//! The predeploys are plain EVM contracts, so the rollups under Ethereum rules have them too: what makes interop the OP stack's
//! is that its nodes check what blocks execute, and in `dev` the builder's own check stands for that on every rollup.

use alloy_primitives::{Address, Bytes, ChainId, U256, address};
use alloy_sol_types::{SolValue, sol};
use lockstep_messaging::op_interop::{INBOX, MESSENGER};

use super::{at, deployer, encode, init_code, runtime_code};

sol! {
    function sendERC20(address token, address to, uint256 amount, uint256 chainId) external returns (bytes32 messageHash);
    function sendMessage(uint256 destination, address target, bytes message) external returns (bytes32 messageHash);
}

/// `SuperchainTokenBridge`, a predeploy.
const TOKEN_BRIDGE: Address = address!("4200000000000000000000000000000000000028");

/// The contracts of OP interop.
#[derive(Clone, Copy, Debug)]
pub struct InteropContracts {
    /// `CrossL2Inbox`.
    pub inbox: Address,
    /// `L2ToL2CrossDomainMessenger`.
    pub messenger: Address,
    /// `SuperchainTokenBridge`.
    pub token_bridge: Address,
    /// A `SuperchainErc20` that this bridge moves.
    pub token: Address,
}

/// The predeploys, with their code.
pub(crate) fn predeploys() -> [(Address, Bytes); 3] {
    [
        (INBOX, runtime_code(artifact!("CrossL2Inbox"))),
        (MESSENGER, runtime_code(artifact!("L2ToL2CrossDomainMessenger"))),
        (TOKEN_BRIDGE, runtime_code(artifact!("SuperchainTokenBridge"))),
    ]
}

impl InteropContracts {
    pub(super) fn from_nonce(nonce: u64) -> Self {
        Self { inbox: INBOX, messenger: MESSENGER, token_bridge: TOKEN_BRIDGE, token: at(nonce) }
    }

    pub(super) fn creations(&self) -> Vec<Bytes> {
        vec![erc7802("Interop Dollar", "IUSD", self.token_bridge)]
    }

    /// The call of `token_bridge` that burns `token` here and has it minted on another rollup. It needs no approval.
    pub fn send(&self, to: Address, amount: U256, chain: ChainId) -> Bytes {
        encode(&sendERC20Call { token: self.token, to, amount, chainId: U256::from(chain) })
    }

    /// The call of `messenger` that sends a call to a contract on another rollup.
    pub fn send_message(&self, chain: ChainId, target: Address, call: Bytes) -> Bytes {
        encode(&sendMessageCall { destination: U256::from(chain), target, message: call })
    }
}

/// Creation of a token that one bridge mints and burns, and that the deployer mints too.
pub(super) fn erc7802(name: &str, symbol: &str, bridge: Address) -> Bytes {
    init_code(artifact!("SuperchainErc20"), &(name, symbol, bridge, deployer().address()).abi_encode_params())
}
