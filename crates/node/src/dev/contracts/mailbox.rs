//! The mailbox: where it is, and how tokens are sent by it.

use alloy_primitives::{Address, Bytes, ChainId, U256};
use alloy_sol_types::{SolValue, sol};

use super::{at, encode, init_code, interop::erc7802};

sol! {
    function send(uint256 destinationChain, address token, address receiver, uint256 amount, uint256 session) external;
    function receiveTokens(uint256 sourceChain, address sender, address token, address receiver, uint256 amount, uint256 session) external;
}

/// The mailbox and what uses it.
#[derive(Clone, Copy, Debug)]
pub struct MailboxContracts {
    /// `Mailbox`, whose coordinator is the builder.
    pub mailbox: Address,
    /// `MailboxTokenBridge`.
    pub token_bridge: Address,
    /// An ERC-7802 token that this bridge moves.
    pub token: Address,
}

impl MailboxContracts {
    pub(super) fn from_nonce(nonce: u64) -> Self {
        Self { mailbox: at(nonce), token_bridge: at(nonce + 1), token: at(nonce + 2) }
    }

    pub(super) fn creations(&self) -> Vec<Bytes> {
        vec![
            init_code(artifact!("Mailbox"), &crate::dev::builder().address().abi_encode()),
            init_code(artifact!("MailboxTokenBridge"), &self.mailbox.abi_encode()),
            erc7802("Mailbox Dollar", "MUSD", self.token_bridge),
        ]
    }

    /// The call of `token_bridge` that burns `token` here for a receiver on another rollup. It needs no approval, and each sender
    /// makes one transfer to each rollup in a session.
    pub fn send(&self, chain: ChainId, receiver: Address, amount: U256, session: U256) -> Bytes {
        encode(&sendCall { destinationChain: U256::from(chain), token: self.token, receiver, amount, session })
    }

    /// The call of `token_bridge` that mints what [`MailboxContracts::send`] burned on another rollup, once it is in the mailbox.
    pub fn receive(&self, origin: ChainId, sender: Address, receiver: Address, amount: U256, session: U256) -> Bytes {
        encode(&receiveTokensCall { sourceChain: U256::from(origin), sender, token: self.token, receiver, amount, session })
    }
}
