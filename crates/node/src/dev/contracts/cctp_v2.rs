//! CCTP v2: where it is, and how burns are called.

use alloy_primitives::{Address, Bytes, U256};
use alloy_sol_types::{SolValue, sol};

use super::{MAX_BODY, at, deployer, encode, init_code};

sol! {
    function depositForBurn(uint256 amount, uint32 destinationDomain, bytes32 mintRecipient, address burnToken, bytes32 destinationCaller, uint256 maxFee, uint32 minFinalityThreshold) external;
    function depositForBurnWithHook(uint256 amount, uint32 destinationDomain, bytes32 mintRecipient, address burnToken, bytes32 destinationCaller, uint256 maxFee, uint32 minFinalityThreshold, bytes hookData) external;
}

/// The version of CCTP v2's messages and of their bodies.
const VERSION: u32 = 1;
/// How final a fast burn has to be, and any other (`FinalityThresholds.sol`).
const CONFIRMED: u32 = 1_000;
const FINALIZED: u32 = 2_000;

/// The contracts of CCTP v2.
#[derive(Clone, Copy, Debug)]
pub struct CctpV2Contracts {
    /// `MessageTransmitterV2`.
    pub message_transmitter: Address,
    /// `TokenMessengerV2`: what users call, and approve.
    pub token_messenger: Address,
    /// `TokenMinterV2`.
    pub token_minter: Address,
    /// `CctpHookWrapper`: delivers burns that name it as destination caller, and runs their hooks. Anyone may call it.
    pub hook_wrapper: Address,
}

/// What a burn asks for beside amount and recipient. By default it is free, final, for anyone to deliver, without a hook.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BurnTerms {
    /// Who alone may deliver it on the destination.
    pub caller: Option<Address>,
    /// The largest fee that may be taken off the amount, in the token's smallest unit; less than the amount.
    pub max_fee: U256,
    /// Whether it is attested before it is final, for a fee.
    pub fast: bool,
    /// Data for whoever delivers it; not empty.
    pub hook: Option<Bytes>,
}

impl CctpV2Contracts {
    pub(super) fn from_nonce(nonce: u64) -> Self {
        Self {
            message_transmitter: at(nonce),
            token_messenger: at(nonce + 1),
            token_minter: at(nonce + 2),
            hook_wrapper: at(nonce + 3),
        }
    }

    pub(super) fn creations(&self, domain: u32, attester: Address) -> Vec<Bytes> {
        let transmitter = (domain, attester, U256::from(MAX_BODY), VERSION).abi_encode();
        vec![
            init_code(artifact!("MessageTransmitterV2"), &transmitter),
            init_code(artifact!("TokenMessengerV2"), &(self.message_transmitter, VERSION).abi_encode()),
            init_code(artifact!("TokenMinterV2"), &deployer().address().abi_encode()),
            init_code(artifact!("CctpHookWrapper"), &(self.message_transmitter, Address::ZERO).abi_encode()),
        ]
    }

    /// The call of `token_messenger` that burns a token for a recipient on another rollup.
    pub fn burn(&self, token: Address, amount: U256, domain: u32, recipient: Address, terms: &BurnTerms) -> Bytes {
        let (recipient, caller) = (recipient.into_word(), terms.caller.unwrap_or_default().into_word());
        let finality = if terms.fast { CONFIRMED } else { FINALIZED };
        match &terms.hook {
            None => encode(&depositForBurnCall {
                amount,
                destinationDomain: domain,
                mintRecipient: recipient,
                burnToken: token,
                destinationCaller: caller,
                maxFee: terms.max_fee,
                minFinalityThreshold: finality,
            }),
            Some(hook) => encode(&depositForBurnWithHookCall {
                amount,
                destinationDomain: domain,
                mintRecipient: recipient,
                burnToken: token,
                destinationCaller: caller,
                maxFee: terms.max_fee,
                minFinalityThreshold: finality,
                hookData: hook.clone(),
            }),
        }
    }

    /// Terms under which the wrapper delivers the burn and then calls a contract of the destination.
    pub fn with_hook(&self, target: Address, call: &[u8]) -> BurnTerms {
        let hook = [target.as_slice(), call].concat();
        BurnTerms { caller: Some(self.hook_wrapper), hook: Some(hook.into()), ..BurnTerms::default() }
    }
}
