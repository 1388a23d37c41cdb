//! The fixture contracts: their code, their addresses in a world and their calldata.

use alloy_primitives::{Address, Bytes};
use alloy_sol_types::SolValue;

use crate::{accounts::deployer, protocols::ProtocolContracts};

/// The contracts of one rollup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contracts {
    /// Its CCTP domain, which is not its chain id.
    pub domain: u32,
    /// The dollar token.
    pub usdc: Address,
    /// CCTP: sends and receives messages.
    pub transmitter: Address,
    /// CCTP: users burn here.
    pub messenger: Address,
    /// CCTP: mints and burns.
    pub minter: Address,
    /// Sells numbered tokens for dollars.
    pub shop: Address,
    /// CCTP v2, OP interop, AggLayer and the mailbox.
    pub protocols: ProtocolContracts,
}

impl Contracts {
    /// Where the contracts of a rollup will be, when they are created in the order of the fields from this nonce on.
    pub(crate) fn planned(domain: u32, first_nonce: u64) -> Self {
        let at = |offset| deployer().address().create(first_nonce + offset);
        let protocols = ProtocolContracts::planned(first_nonce + 5, domain);
        Self { domain, usdc: at(0), transmitter: at(1), messenger: at(2), minter: at(3), shop: at(4), protocols }
    }
}

/// An artifact of `fixtures/contracts`.
#[derive(Clone, Copy)]
pub(crate) struct Artifact(pub(crate) &'static str);

const USDC: Artifact = Artifact(include_str!("../../../fixtures/contracts/artifacts/Usdc.json"));
const TRANSMITTER: Artifact = Artifact(include_str!("../../../fixtures/contracts/artifacts/MessageTransmitter.json"));
const MESSENGER: Artifact = Artifact(include_str!("../../../fixtures/contracts/artifacts/TokenMessenger.json"));
const MINTER: Artifact = Artifact(include_str!("../../../fixtures/contracts/artifacts/TokenMinter.json"));
const SHOP: Artifact = Artifact(include_str!("../../../fixtures/contracts/artifacts/NftShop.json"));
const PROBE: Artifact = Artifact(include_str!("../../../fixtures/contracts/artifacts/Probe.json"));

impl Artifact {
    pub(crate) fn field(self, name: &str) -> Bytes {
        let artifact: serde_json::Value = serde_json::from_str(self.0).expect("an artifact is JSON");
        let text = artifact.get(name).and_then(serde_json::Value::as_str).expect("an artifact has bytecode");
        text.parse().expect("bytecode is hexadecimal")
    }

    /// Creation code with its constructor's arguments.
    pub(crate) fn with_args(self, args: Vec<u8>) -> Bytes {
        let mut code = self.field("bytecode").to_vec();
        code.extend(args);
        code.into()
    }
}

/// The runtime code of the probe, which has no constructor.
pub(crate) fn probe_code() -> Bytes {
    PROBE.field("deployedBytecode")
}

/// Creation code of the fixture contracts.
pub mod init_code {
    use alloy_primitives::U256;

    use super::{Address, Bytes, MESSENGER, MINTER, SHOP, SolValue, TRANSMITTER, USDC};

    /// `Usdc(address masterMinter)`.
    pub fn usdc(master_minter: Address) -> Bytes {
        USDC.with_args((master_minter,).abi_encode_params())
    }

    /// `MessageTransmitter(uint32 domain, address attester, uint32 maxBodySize, uint32 version)`, for CCTP v1.
    pub fn transmitter(domain: u32, attester: Address) -> Bytes {
        TRANSMITTER.with_args((domain, attester, 8_192_u32, 0_u32).abi_encode_params())
    }

    /// `TokenMessenger(address messageTransmitter, uint32 bodyVersion)`, for CCTP v1.
    pub fn messenger(transmitter: Address) -> Bytes {
        MESSENGER.with_args((transmitter, 0_u32).abi_encode_params())
    }

    /// `TokenMinter(address controller)`.
    pub fn minter(controller: Address) -> Bytes {
        MINTER.with_args((controller,).abi_encode_params())
    }

    /// `NftShop(address payment, uint256 tokenPrice)`.
    pub fn shop(payment: Address, price: u64) -> Bytes {
        SHOP.with_args((payment, U256::from(price)).abi_encode_params())
    }
}

mod abi {
    use alloy_sol_types::sol;

    sol! {
        function store(uint256 key, uint256 value) external;
        function increment(uint256 key) external;
        function fail(string reason) external;
        function failIfZero(uint256 key) external;
        function expect(uint256 key, uint256 value) external;
        function burnGas(uint256 iterations) external;
        function payCoinbase() external payable;

        function transfer(address to, uint256 value) external returns (bool);
        function approve(address spender, uint256 value) external returns (bool);
        function mint(address to, uint256 amount) external returns (bool);
        function configureMinter(address minter, uint256 allowed) external returns (bool);
        function balanceOf(address account) external view returns (uint256);

        function enableAttester(address attester) external;
        function setSignatureThreshold(uint256 threshold) external;
        function addLocalMinter(address minter) external;
        function addRemoteTokenMessenger(uint32 domain, bytes32 messenger) external;
        function addLocalTokenMessenger(address messenger) external;
        function linkTokenPair(address localToken, uint32 remoteDomain, bytes32 remoteToken) external;
        function setMaxBurnAmountPerMessage(address token, uint256 limit) external;
        function depositForBurn(uint256 amount, uint32 domain, bytes32 recipient, address token) external returns (uint64);
        function depositForBurnWithCaller(uint256 amount, uint32 domain, bytes32 recipient, address token, bytes32 caller)
            external returns (uint64);

        function buy(uint256 tokenId) external;
        function ownerOf(uint256 tokenId) external view returns (address);
    }
}

/// Calldata of the fixture contracts.
pub mod calls {
    use alloy_primitives::U256;
    use alloy_sol_types::SolCall;

    use super::{Address, Bytes, abi};

    /// Probe: writes a value.
    pub fn store(key: u64, value: u64) -> Bytes {
        abi::storeCall { key: U256::from(key), value: U256::from(value) }.abi_encode().into()
    }

    /// Probe: adds one to a value.
    pub fn increment(key: u64) -> Bytes {
        abi::incrementCall { key: U256::from(key) }.abi_encode().into()
    }

    /// Probe: reverts with a reason.
    pub fn fail(reason: &str) -> Bytes {
        abi::failCall { reason: reason.to_owned() }.abi_encode().into()
    }

    /// Probe: reverts while nothing is stored.
    pub fn fail_if_zero(key: u64) -> Bytes {
        abi::failIfZeroCall { key: U256::from(key) }.abi_encode().into()
    }

    /// Probe: reverts unless exactly this is stored.
    pub fn expect(key: u64, value: u64) -> Bytes {
        abi::expectCall { key: U256::from(key), value: U256::from(value) }.abi_encode().into()
    }

    /// Probe: hashes over and over.
    pub fn burn_gas(iterations: u64) -> Bytes {
        abi::burnGasCall { iterations: U256::from(iterations) }.abi_encode().into()
    }

    /// Probe: passes the value of the call on to the block's fee recipient.
    pub fn pay_coinbase() -> Bytes {
        abi::payCoinbaseCall {}.abi_encode().into()
    }

    /// ERC-20: moves the caller's tokens.
    pub fn token_transfer(to: Address, value: u64) -> Bytes {
        abi::transferCall { to, value: U256::from(value) }.abi_encode().into()
    }

    /// ERC-20: lets somebody take any amount of the caller's tokens.
    pub fn approve_all(spender: Address) -> Bytes {
        abi::approveCall { spender, value: U256::MAX }.abi_encode().into()
    }

    /// ERC-20: reads a balance.
    pub fn balance_of(account: Address) -> Bytes {
        abi::balanceOfCall { account }.abi_encode().into()
    }

    /// USDC: creates tokens out of the caller's minter allowance.
    pub fn mint(to: Address, amount: u64) -> Bytes {
        abi::mintCall { to, amount: U256::from(amount) }.abi_encode().into()
    }

    /// USDC: makes a minter.
    pub fn configure_minter(minter: Address, allowed: u64) -> Bytes {
        abi::configureMinterCall { minter, allowed: U256::from(allowed) }.abi_encode().into()
    }

    /// MessageTransmitter: enables an attester.
    pub fn enable_attester(attester: Address) -> Bytes {
        abi::enableAttesterCall { attester }.abi_encode().into()
    }

    /// MessageTransmitter: how many attesters have to sign.
    pub fn set_signature_threshold(threshold: u64) -> Bytes {
        abi::setSignatureThresholdCall { threshold: U256::from(threshold) }.abi_encode().into()
    }

    /// TokenMessenger: sets the minter.
    pub fn add_local_minter(minter: Address) -> Bytes {
        abi::addLocalMinterCall { minter }.abi_encode().into()
    }

    /// TokenMessenger: trusts the messenger of another domain.
    pub fn add_remote_token_messenger(domain: u32, messenger: Address) -> Bytes {
        abi::addRemoteTokenMessengerCall { domain, messenger: messenger.into_word() }.abi_encode().into()
    }

    /// TokenMinter: sets the messenger.
    pub fn add_local_token_messenger(messenger: Address) -> Bytes {
        abi::addLocalTokenMessengerCall { messenger }.abi_encode().into()
    }

    /// TokenMinter: says which token of another domain is which token here.
    pub fn link_token_pair(local: Address, domain: u32, remote: Address) -> Bytes {
        abi::linkTokenPairCall { localToken: local, remoteDomain: domain, remoteToken: remote.into_word() }.abi_encode().into()
    }

    /// TokenMinter: limits burns.
    pub fn set_max_burn_amount(token: Address, limit: u64) -> Bytes {
        abi::setMaxBurnAmountPerMessageCall { token, limit: U256::from(limit) }.abi_encode().into()
    }

    /// TokenMessenger: burns a token, to be minted for `recipient` on another domain by anyone who delivers the message.
    pub fn deposit_for_burn(amount: u64, domain: u32, recipient: Address, token: Address) -> Bytes {
        abi::depositForBurnCall { amount: U256::from(amount), domain, recipient: recipient.into_word(), token }
            .abi_encode()
            .into()
    }

    /// TokenMessenger: the same, but only `caller` may deliver the message.
    pub fn deposit_for_burn_with_caller(amount: u64, domain: u32, recipient: Address, token: Address, caller: Address) -> Bytes {
        abi::depositForBurnWithCallerCall {
            amount: U256::from(amount),
            domain,
            recipient: recipient.into_word(),
            token,
            caller: caller.into_word(),
        }
        .abi_encode()
        .into()
    }

    /// NftShop: buys a token.
    pub fn buy(token_id: u64) -> Bytes {
        abi::buyCall { tokenId: U256::from(token_id) }.abi_encode().into()
    }

    /// NftShop: whose token it is; reverts while it is unsold.
    pub fn owner_of(token_id: u64) -> Bytes {
        abi::ownerOfCall { tokenId: U256::from(token_id) }.abi_encode().into()
    }
}
