//! The fixture contracts: where they are and how they are called.

use alloy_primitives::{Address, Bytes, TxKind, U256};
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

/// The CCTP domain of the first rollup of `dev`; the others follow. None of Circle's.
pub const DOMAIN_BASE: u32 = 9_000;
/// What an NFT costs, in the token's smallest unit: 100 USDC.
pub(crate) const NFT_PRICE: u64 = 100_000_000;

macro_rules! artifact {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/contracts/artifacts/", $name, ".json"))
    };
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
}

/// Who deploys the fixture contracts and owns them.
pub(crate) fn deployer() -> Key {
    Key::of_name("deployer")
}

impl Contracts {
    /// The addresses.
    pub fn new() -> Self {
        let at = |nonce| deployer().address().create(nonce);
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
        }
    }

    /// The creation transactions, in the order of the deployer's nonces.
    pub(crate) fn creations(&self, domain: u32, attester: Address) -> Vec<Bytes> {
        let deployer = deployer().address();
        let max_body = U256::from(8_192);
        vec![
            init_code(artifact!("Usdc"), &deployer.abi_encode()),
            init_code(artifact!("MessageTransmitter"), &(domain, attester, max_body, 0_u32).abi_encode()),
            init_code(artifact!("TokenMessenger"), &(self.message_transmitter, 0_u32).abi_encode()),
            init_code(artifact!("TokenMinter"), &deployer.abi_encode()),
            init_code(artifact!("NftShop"), &(self.usdc, U256::from(NFT_PRICE)).abi_encode()),
            init_code(artifact!("WrappedEther"), &[]),
            init_code(artifact!("PairFactory"), &deployer.abi_encode()),
            init_code(artifact!("Router"), &(self.factory, self.weth).abi_encode()),
            init_code(artifact!("Probe"), &[]),
        ]
    }

    /// The calls that wire CCTP to the other rollups, by the deployer.
    pub(crate) fn wiring(&self, remotes: &[u32], attesters: &[Address]) -> Vec<(Address, Bytes)> {
        let mut calls = Vec::new();
        for attester in attesters.iter().skip(1) {
            calls.push((self.message_transmitter, encode(&enableAttesterCall { attester: *attester })));
        }
        let threshold = U256::from(attesters.len());
        calls.push((self.message_transmitter, encode(&setSignatureThresholdCall { threshold })));
        calls.push((self.token_messenger, encode(&addLocalMinterCall { minter: self.token_minter })));
        calls.push((self.token_minter, encode(&addLocalTokenMessengerCall { messenger: self.token_messenger })));
        for domain in remotes {
            let messenger = self.token_messenger.into_word();
            calls.push((self.token_messenger, encode(&addRemoteTokenMessengerCall { domain: *domain, messenger })));
            let link = linkTokenPairCall { localToken: self.usdc, remoteDomain: *domain, remoteToken: self.usdc.into_word() };
            calls.push((self.token_minter, encode(&link)));
        }
        let limit = setMaxBurnAmountPerMessageCall { token: self.usdc, limit: usdc(10_000_000) };
        calls.push((self.token_minter, encode(&limit)));
        for minter in [self.token_minter, deployer().address()] {
            calls.push((self.usdc, encode(&configureMinterCall { minter, allowance: usdc(1_000_000_000) })));
        }
        calls
    }

    /// The call that burns USDC for a recipient on another rollup.
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

/// The runtime code of the L1Block predeploy.
pub(crate) fn l1_block_code() -> Bytes {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Artifact {
        deployed_bytecode: Bytes,
    }
    #[expect(clippy::expect_used, reason = "the artifacts are compiled in and tested")]
    let artifact: Artifact = serde_json::from_str(artifact!("L1Block")).expect("the artifact is JSON with bytecode");
    artifact.deployed_bytecode
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
