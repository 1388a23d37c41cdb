//! The fixture contracts: where they are and how they are called.

use alloy_primitives::{Address, Bytes, ChainId, TxKind, U256};
use alloy_sol_types::{SolCall, SolValue, sol};

use crate::keys::Key;

sol! {
    function approve(address spender, uint256 amount) external returns (bool);
    function transfer(address to, uint256 amount) external returns (bool);
    function mint(address to, uint256 amount) external returns (bool);
    function configureMinter(address minter, uint256 allowance) external returns (bool);
    function enableAttester(address attester) external;
    function setSignatureThreshold(uint256 threshold) external;
    function addLocalMinter(address minter) external;
    function addLocalTokenMessenger(address messenger) external;
    function addRemoteTokenMessenger(uint32 domain, bytes32 messenger) external;
    function linkTokenPair(address localToken, uint32 remoteDomain, bytes32 remoteToken) external;
    function setMaxBurnAmountPerMessage(address token, uint256 limit) external;
    function depositForBurn(uint256 amount, uint32 destinationDomain, bytes32 mintRecipient, address burnToken) external returns (uint64);
    function buy(uint256 tokenId) external;
    function deposit() external payable;
    function createPair(address a, address b) external returns (address);
    function addLiquidity(address tokenA, address tokenB, uint256 amountA, uint256 amountB, uint256 minA, uint256 minB, address to, uint256 deadline) external;
    function swapExactTokensForTokens(uint256 amountIn, uint256 amountOutMin, address[] path, address to, uint256 deadline) external returns (uint256[]);
    function getAmountsOut(uint256 amountIn, address[] path) external view returns (uint256[]);
    function increment(uint256 key) external;
}

/// The CCTP domain of the first rollup of `dev`, in both versions; the others follow. None of Circle's.
pub const DOMAIN_BASE: u32 = 9_000;
/// What an NFT costs, in the token's smallest unit: 100 USDC.
pub(crate) const NFT_PRICE: u64 = 100_000_000;
/// The longest body of a CCTP message, in bytes.
const MAX_BODY: u64 = 8_192;

/// A fixture contract's artifact, as text.
macro_rules! artifact {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/contracts/artifacts/", $name, ".json"))
    };
}

mod agglayer;
mod cctp_v2;
mod interop;
mod mailbox;
mod settlers;

pub use self::{
    agglayer::{AggLayerContracts, NETWORK_BASE},
    cctp_v2::{BurnTerms, CctpV2Contracts},
    interop::InteropContracts,
    mailbox::MailboxContracts,
    settlers::SettlerContracts,
};
pub(crate) use interop::predeploys;

/// A rollup of `dev`, as contracts name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Site {
    pub(crate) chain: ChainId,
    /// Of CCTP.
    pub(crate) domain: u32,
    /// Of AggLayer.
    pub(crate) network: u32,
}

impl Site {
    /// The rollup at an index.
    pub(crate) const fn of(index: usize) -> Self {
        Self {
            chain: super::FIRST_CHAIN + index as u64,
            domain: DOMAIN_BASE + index as u32,
            network: NETWORK_BASE + index as u32,
        }
    }
}

/// Addresses of the fixture contracts: the same on every rollup, because one account deploys them in one order.
#[derive(Clone, Copy, Debug)]
pub struct Contracts {
    /// The USDC-like token.
    pub usdc: Address,
    /// CCTP v1 `MessageTransmitter`.
    pub message_transmitter: Address,
    /// CCTP v1 `TokenMessenger`.
    pub token_messenger: Address,
    /// CCTP v1 `TokenMinter`.
    pub token_minter: Address,
    /// Sells NFTs for USDC.
    pub nft_shop: Address,
    /// Wrapped native asset.
    pub weth: Address,
    /// Uniswap-v2-compatible factory.
    pub factory: Address,
    /// Uniswap-v2-compatible router.
    pub router: Address,
    /// Small effects on demand.
    pub probe: Address,
    /// CCTP v2, for the same token.
    pub cctp_v2: CctpV2Contracts,
    /// OP interop.
    pub interop: InteropContracts,
    /// A mailbox.
    pub mailbox: MailboxContracts,
    /// AggLayer's bridge.
    pub agglayer: AggLayerContracts,
    /// Settlers of orders (ERC-7683).
    pub settlers: SettlerContracts,
}

/// Who deploys the fixture contracts and owns them.
pub(crate) fn deployer() -> Key {
    Key::of_name("deployer")
}

/// Where the deployer's contract of a nonce is.
fn at(nonce: u64) -> Address {
    deployer().address().create(nonce)
}

impl Contracts {
    /// The addresses.
    pub fn new() -> Self {
        Self {
            usdc: at(0),
            message_transmitter: at(1),
            token_messenger: at(2),
            token_minter: at(3),
            nft_shop: at(4),
            weth: at(5),
            factory: at(6),
            router: at(7),
            probe: at(8),
            cctp_v2: CctpV2Contracts::from_nonce(9),
            interop: InteropContracts::from_nonce(13),
            mailbox: MailboxContracts::from_nonce(14),
            agglayer: AggLayerContracts::from_nonce(17),
            settlers: SettlerContracts::from_nonce(19),
        }
    }

    /// The creation transactions, in the order of the deployer's nonces.
    pub(crate) fn creations(&self, here: &Site, attester: Address) -> Vec<Bytes> {
        let deployer = deployer().address();
        let mut codes = vec![
            init_code(artifact!("Usdc"), &deployer.abi_encode()),
            init_code(artifact!("MessageTransmitter"), &(here.domain, attester, U256::from(MAX_BODY), 0_u32).abi_encode()),
            init_code(artifact!("TokenMessenger"), &(self.message_transmitter, 0_u32).abi_encode()),
            init_code(artifact!("TokenMinter"), &deployer.abi_encode()),
            init_code(artifact!("NftShop"), &(self.usdc, U256::from(NFT_PRICE)).abi_encode()),
            init_code(artifact!("WrappedEther"), &[]),
            init_code(artifact!("PairFactory"), &deployer.abi_encode()),
            init_code(artifact!("Router"), &(self.factory, self.weth).abi_encode()),
            init_code(artifact!("Probe"), &[]),
        ];
        codes.extend(self.cctp_v2.creations(here.domain, attester));
        codes.extend(self.interop.creations());
        codes.extend(self.mailbox.creations());
        codes.extend(self.agglayer.creations(here.network));
        codes.extend(self.settlers.creations(&self.interop));
        codes
    }

    /// The calls that wire everything to the other rollups, by the deployer.
    pub(crate) fn wiring(&self, others: &[Site], attesters: &[Address]) -> Vec<(Address, Bytes)> {
        let v1 = Cctp { transmitter: self.message_transmitter, messenger: self.token_messenger, minter: self.token_minter };
        let v2 = self.cctp_v2;
        let v2 = Cctp { transmitter: v2.message_transmitter, messenger: v2.token_messenger, minter: v2.token_minter };
        let mut calls = v1.wiring(self.usdc, others, attesters);
        calls.extend(v2.wiring(self.usdc, others, attesters));
        for minter in [self.token_minter, self.cctp_v2.token_minter, deployer().address()] {
            calls.push((self.usdc, encode(&configureMinterCall { minter, allowance: usdc(1_000_000_000) })));
        }
        calls.extend(self.settlers.wiring(others));
        calls
    }

    /// The call of the CCTP v1 `TokenMessenger` that burns USDC for a recipient on another rollup.
    pub fn burn(&self, amount: U256, domain: u32, recipient: Address) -> Bytes {
        encode(&depositForBurnCall {
            amount,
            destinationDomain: domain,
            mintRecipient: recipient.into_word(),
            burnToken: self.usdc,
        })
    }
}

impl Default for Contracts {
    fn default() -> Self {
        Self::new()
    }
}

/// One version of CCTP: both are wired by the same calls.
struct Cctp {
    transmitter: Address,
    messenger: Address,
    minter: Address,
}

impl Cctp {
    fn wiring(&self, token: Address, others: &[Site], attesters: &[Address]) -> Vec<(Address, Bytes)> {
        let mut calls = Vec::new();
        for attester in attesters.iter().skip(1) {
            calls.push((self.transmitter, encode(&enableAttesterCall { attester: *attester })));
        }
        let threshold = U256::from(attesters.len());
        calls.push((self.transmitter, encode(&setSignatureThresholdCall { threshold })));
        calls.push((self.messenger, encode(&addLocalMinterCall { minter: self.minter })));
        calls.push((self.minter, encode(&addLocalTokenMessengerCall { messenger: self.messenger })));
        for Site { domain, .. } in others {
            let messenger = self.messenger.into_word();
            calls.push((self.messenger, encode(&addRemoteTokenMessengerCall { domain: *domain, messenger })));
            let link = linkTokenPairCall { localToken: token, remoteDomain: *domain, remoteToken: token.into_word() };
            calls.push((self.minter, encode(&link)));
        }
        let limit = setMaxBurnAmountPerMessageCall { token, limit: usdc(10_000_000) };
        calls.push((self.minter, encode(&limit)));
        calls
    }
}

/// Whole USDC in the smallest unit.
pub(crate) fn usdc(whole: u64) -> U256 {
    U256::from(whole) * U256::from(1_000_000)
}

pub(crate) fn encode<C: SolCall>(call: &C) -> Bytes {
    call.abi_encode().into()
}

/// A contract's creation code with its constructor's arguments.
///
/// # Panics
/// When a checked-in artifact is malformed, which a test would have seen.
fn init_code(artifact: &str, arguments: &[u8]) -> Bytes {
    #[derive(serde::Deserialize)]
    struct Artifact {
        bytecode: Bytes,
    }
    #[expect(clippy::expect_used, reason = "the artifacts are compiled in and tested")]
    let artifact: Artifact = serde_json::from_str(artifact).expect("the artifact is JSON with bytecode");
    [artifact.bytecode.as_ref(), arguments].concat().into()
}

/// A contract's code as it stands in a state, for contracts without constructor.
///
/// # Panics
/// When a checked-in artifact is malformed, which a test would have seen.
fn runtime_code(artifact: &str) -> Bytes {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Artifact {
        deployed_bytecode: Bytes,
    }
    #[expect(clippy::expect_used, reason = "the artifacts are compiled in and tested")]
    let artifact: Artifact = serde_json::from_str(artifact).expect("the artifact is JSON with bytecode");
    artifact.deployed_bytecode
}

/// The runtime code of the L1Block predeploy.
pub(crate) fn l1_block_code() -> Bytes {
    runtime_code(artifact!("L1Block"))
}

/// An EIP-1559 transaction of a key.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) chain: u64,
    pub(crate) nonce: u64,
    pub(crate) to: Option<Address>,
    pub(crate) value: U256,
    pub(crate) data: Bytes,
    pub(crate) gas: u64,
    /// In wei.
    pub(crate) tip: u128,
}

/// The fee cap of transactions made here, in wei: far above any base fee that `dev` will see.
const FEE_CAP: u128 = 100_000_000_000;

impl Draft {
    /// Signs it.
    pub(crate) fn sign(&self, key: &Key) -> lockstep_primitives::SignedTx {
        use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
        let tx = TxEip1559 {
            chain_id: self.chain,
            nonce: self.nonce,
            gas_limit: self.gas,
            max_fee_per_gas: FEE_CAP,
            max_priority_fee_per_gas: self.tip,
            to: self.to.map_or(TxKind::Create, TxKind::Call),
            value: self.value,
            access_list: Default::default(),
            input: self.data.clone(),
        };
        let signature = key.sign(tx.signature_hash());
        lockstep_primitives::SignedTx::from_parts(TxEnvelope::from(tx.into_signed(signature)), key.address())
    }
}
