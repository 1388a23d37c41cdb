//! The contracts of the newer message protocols: CCTP v2, OP interop, AggLayer's bridge and a mailbox, on every rollup of a
//! world, and what users do with them.

use std::sync::LazyLock;

use alloy::{
    eips::eip2930::{AccessList, AccessListItem},
    signers::local::PrivateKeySigner,
};
use alloy_primitives::{Address, B256, Bytes, U256, address};
use alloy_sol_types::{SolCall, SolValue, sol};
use lockstep_messaging::{
    BridgeDeployment, CctpV2Deployment, ExitFacts, InteropDeployment, MailboxDeployment, RollupDeployments,
    agglayer::ExitTree,
    op_interop::{INBOX, Identifier, MESSENGER, access_list},
};
use lockstep_primitives::ChainId;
use lockstep_simulation::MemoryState;

use crate::{
    accounts::{Call, attesters, builder, deployer, ether, key},
    contracts::{Artifact, Contracts, calls},
    setup::Deployer,
    world::{GENESIS_TIME, USD, World},
};

sol! {
    function depositForBurn(uint256 amount, uint32 domain, bytes32 recipient, address token, bytes32 caller, uint256 maxFee, uint32 finality) external;
    function depositForBurnWithHook(uint256 amount, uint32 domain, bytes32 recipient, address token, bytes32 caller, uint256 maxFee, uint32 finality, bytes hook) external;
    function sendMessage(uint256 destination, address target, bytes message) external returns (bytes32);
    function sendERC20(address token, address to, uint256 amount, uint256 chainId) external returns (bytes32);
    function bridgeAsset(uint32 network, address to, uint256 amount, address token, bool force, bytes permit) external payable;
    function bridgeMessage(uint32 network, address to, bool force, bytes metadata) external payable;
    function getTokenWrappedAddress(uint32 network, address token) external view returns (address);
    function send(uint256 chain, address token, address receiver, uint256 amount, uint256 session) external;
    function receiveTokens(uint256 chain, address sender, address token, address receiver, uint256 amount, uint256 session) external;
    function setPeer(uint256 chain, address peer) external;

    struct InboxIdentifier {
        address origin;
        uint256 blockNumber;
        uint256 logIndex;
        uint256 timestamp;
        uint256 chainId;
    }

    function validateMessage(InboxIdentifier id, bytes32 payloadHash) external;
}

macro_rules! artifact {
    ($name:literal) => {
        Artifact(include_str!(concat!("../../../fixtures/contracts/artifacts/", $name, ".json")))
    };
}

const TRANSMITTER: Artifact = artifact!("MessageTransmitterV2");
const TOKEN_MESSENGER: Artifact = artifact!("TokenMessengerV2");
const TOKEN_MINTER: Artifact = artifact!("TokenMinterV2");
const HOOK_WRAPPER: Artifact = artifact!("CctpHookWrapper");
const BRIDGE: Artifact = artifact!("BridgeL2SovereignChain");
const EXIT_ROOTS: Artifact = artifact!("GlobalExitRootManagerL2");
const MESSAGE_RECEIVER: Artifact = artifact!("BridgeMessageReceiver");
const MAILBOX: Artifact = artifact!("Mailbox");
const MAILBOX_BRIDGE: Artifact = artifact!("MailboxTokenBridge");
const TOKEN: Artifact = artifact!("SuperchainErc20");
const INBOX_CODE: Artifact = artifact!("CrossL2Inbox");
const MESSENGER_CODE: Artifact = artifact!("L2ToL2CrossDomainMessenger");
const TOKEN_BRIDGE_CODE: Artifact = artifact!("SuperchainTokenBridge");

/// `SuperchainTokenBridge`, a predeploy.
pub const TOKEN_BRIDGE: Address = address!("4200000000000000000000000000000000000028");
/// What own attesters take of a fast burn, in basis points.
pub const FAST_FEE_BPS: u64 = 10;
/// For how many blocks of its destination a fast burn can be minted.
pub const FAST_BLOCKS: u64 = 100;
/// For how many seconds a message of OP interop can be executed.
pub const INTEROP_WINDOW: u64 = 604_800;
/// What every user has of each token that bridges mint, on every rollup.
pub const BRIDGED: u64 = 1_000 * USD;

/// How final a fast burn has to be, and any other.
const CONFIRMED: u32 = 1_000;
const FINALIZED: u32 = 2_000;
/// Enough for any call here but a claim.
const CALL_GAS: u64 = 500_000;

/// Deploys the tokens that have one address on every rollup.
static TOKENS: LazyLock<PrivateKeySigner> = LazyLock::new(|| key("tokens"));

/// Where the contracts are on one rollup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtocolContracts {
    /// The domain of CCTP v2: that of v1.
    pub domain: u32,
    /// The network of AggLayer: none of them is Ethereum's 0.
    pub network: u32,
    /// CCTP v2: sends and receives messages.
    pub v2_transmitter: Address,
    /// CCTP v2: users burn here.
    pub v2_messenger: Address,
    /// CCTP v2: mints and burns.
    pub v2_minter: Address,
    /// CCTP v2: receives messages for anyone and runs their hooks.
    pub v2_wrapper: Address,
    /// AggLayer: the bridge.
    pub bridge: Address,
    /// AggLayer: knows exit roots; the builder inserts them.
    pub exit_roots: Address,
    /// AggLayer: takes bridged messages.
    pub message_receiver: Address,
    /// The mailbox, whose coordinator is the builder.
    pub mailbox: Address,
    /// Sends tokens by the mailbox.
    pub mailbox_bridge: Address,
    /// The ERC-7802 token of OP interop: at one address on all rollups.
    pub interop_token: Address,
    /// The ERC-7802 token of the mailbox: at one address on all rollups.
    pub mailbox_token: Address,
}

impl ProtocolContracts {
    /// Where they will be, when the deployer creates them from this nonce on.
    pub(crate) fn planned(first_nonce: u64, domain: u32) -> Self {
        let at = |offset| deployer().address().create(first_nonce + offset);
        Self {
            domain,
            network: domain + 1,
            v2_transmitter: at(0),
            v2_messenger: at(1),
            v2_minter: at(2),
            v2_wrapper: at(3),
            bridge: at(4),
            exit_roots: at(5),
            message_receiver: at(6),
            mailbox: at(7),
            mailbox_bridge: at(8),
            interop_token: TOKENS.address().create(0),
            mailbox_token: TOKENS.address().create(1),
        }
    }

    /// Where the protocols are, for the engine. Messages of `others` are executed.
    pub(crate) fn deployments(&self, others: impl IntoIterator<Item = ChainId>) -> RollupDeployments {
        RollupDeployments {
            cctp_v1: None,
            cctp_v2: Some(CctpV2Deployment {
                domain: self.domain,
                message_transmitter: self.v2_transmitter,
                attesters: attesters().iter().map(PrivateKeySigner::address).collect(),
                threshold: 2,
                hook_wrapper: Some(self.v2_wrapper),
                fast_fee_bps: FAST_FEE_BPS,
                expires_after: FAST_BLOCKS,
            }),
            interop: Some(InteropDeployment {
                depends_on: others.into_iter().collect(),
                activated_at: GENESIS_TIME - 1_000_000,
                expires_after: INTEROP_WINDOW,
            }),
            agglayer: Some(BridgeDeployment {
                network: self.network,
                bridge: self.bridge,
                exit_root_manager: self.exit_roots,
                updater: Some(builder().address()),
            }),
            mailbox: Some(MailboxDeployment { mailbox: self.mailbox }),
        }
    }

    /// What is there without a deployment: predeploys, and funds.
    pub(crate) fn put(&self, state: &mut MemoryState) {
        for (at, artifact) in [(INBOX, INBOX_CODE), (MESSENGER, MESSENGER_CODE), (TOKEN_BRIDGE, TOKEN_BRIDGE_CODE)] {
            state.set_account(at, U256::ZERO, 1, artifact.field("deployedBytecode"));
        }
        state.set_account(self.bridge, ether(1_000), 0, Bytes::new());
        state.set_account(TOKENS.address(), ether(1), 0, Bytes::new());
    }

    /// Creates the contracts and links them with those of the other rollups.
    pub(crate) fn deploy(&self, setup: &mut Deployer, here: &Contracts, others: &[&Contracts]) {
        let owner = deployer();
        let first_attester = attesters()[0].address();
        let coordinator = builder().address();
        let bridge = (self.network, self.exit_roots, Address::ZERO, 0_u32, Bytes::new()).abi_encode_params();
        let created = [
            (self.v2_transmitter, TRANSMITTER.with_args((self.domain, first_attester, 8_192_u32, 1_u32).abi_encode_params())),
            (self.v2_messenger, TOKEN_MESSENGER.with_args((self.v2_transmitter, 1_u32).abi_encode_params())),
            (self.v2_minter, TOKEN_MINTER.with_args((owner.address(),).abi_encode_params())),
            (self.v2_wrapper, HOOK_WRAPPER.with_args((self.v2_transmitter, Address::ZERO).abi_encode_params())),
            (self.bridge, BRIDGE.with_args(bridge)),
            (self.exit_roots, EXIT_ROOTS.with_args((self.bridge, coordinator).abi_encode_params())),
            (self.message_receiver, MESSAGE_RECEIVER.with_args((self.bridge,).abi_encode_params())),
            (self.mailbox, MAILBOX.with_args((coordinator,).abi_encode_params())),
            (self.mailbox_bridge, MAILBOX_BRIDGE.with_args((self.mailbox,).abi_encode_params())),
        ];
        for (planned, code) in created {
            assert_eq!(setup.create(owner, code), planned, "contracts are created in the order of their planned addresses");
        }
        let token = |name: &str, bridge: Address| {
            TOKEN.with_args((name.to_owned(), name.to_owned(), bridge, owner.address()).abi_encode_params())
        };
        for (planned, code) in
            [(self.interop_token, token("IUSD", TOKEN_BRIDGE)), (self.mailbox_token, token("MUSD", self.mailbox_bridge))]
        {
            assert_eq!(setup.create(&TOKENS, code), planned, "tokens are created in the order of their planned addresses");
        }
        for attester in &attesters()[1..] {
            setup.call(owner, self.v2_transmitter, calls::enable_attester(attester.address()));
        }
        setup.call(owner, self.v2_transmitter, calls::set_signature_threshold(2));
        setup.call(owner, self.v2_messenger, calls::add_local_minter(self.v2_minter));
        setup.call(owner, self.v2_minter, calls::add_local_token_messenger(self.v2_messenger));
        setup.call(owner, self.v2_minter, calls::set_max_burn_amount(here.usdc, 1_000_000 * USD));
        setup.call(owner, here.usdc, calls::configure_minter(self.v2_minter, 1_000_000 * USD));
        for there in others {
            let far = &there.protocols;
            setup.call(owner, self.v2_messenger, calls::add_remote_token_messenger(far.domain, far.v2_messenger));
            setup.call(owner, self.v2_minter, calls::link_token_pair(here.usdc, far.domain, there.usdc));
        }
    }

    /// Knows the mailbox bridges of the other rollups.
    pub(crate) fn peer(&self, setup: &mut Deployer, chain: ChainId, far: &Self) {
        let data = setPeerCall { chain: U256::from(chain), peer: far.mailbox_bridge }.abi_encode();
        setup.call(deployer(), self.mailbox_bridge, data.into());
    }

    /// Gives a user the tokens that bridges mint.
    pub(crate) fn fund(&self, setup: &mut Deployer, user: &PrivateKeySigner) {
        for token in [self.interop_token, self.mailbox_token] {
            setup.call(deployer(), token, calls::mint(user.address(), BRIDGED));
        }
    }
}

/// AggLayer before the first exit, every rollup of which takes claims of the same slot.
pub(crate) fn exits(chains: impl Iterator<Item = ChainId> + Clone) -> ExitFacts {
    ExitFacts {
        trees: chains.clone().map(|chain| (chain, ExitTree::default())).collect(),
        same_slot_claims: chains.collect(),
        ..ExitFacts::default()
    }
}

/// What a burn by CCTP v2 asks for beside amount and recipient.
#[derive(Clone, Debug, Default)]
pub struct BurnTerms {
    /// Attested before it is final, for a fee.
    pub fast: bool,
    /// The largest fee, in the smallest unit of USDC.
    pub max_fee: u64,
    /// Who alone may deliver it.
    pub caller: Option<Address>,
    /// What is called once it is delivered by the wrapper: target and calldata.
    pub hook: Option<(Address, Bytes)>,
}

/// What users do with the protocols. As the other calls of a world, these panic where the world has no such rollup.
impl World {
    /// Burns USDC on `from` by CCTP v2, to be minted for `recipient` on `to`.
    pub fn burn_v2(&self, from: ChainId, amount: u64, to: ChainId, recipient: Address, terms: &BurnTerms) -> Call {
        let (here, there) = (&self.contracts[&from], &self.contracts[&to].protocols);
        let caller = match &terms.hook {
            Some(_) => there.v2_wrapper,
            None => terms.caller.unwrap_or_default(),
        };
        let (amount, recipient, caller) = (U256::from(amount), recipient.into_word(), caller.into_word());
        let finality = if terms.fast { CONFIRMED } else { FINALIZED };
        let (token, domain, fee) = (here.usdc, there.domain, U256::from(terms.max_fee));
        let data = match &terms.hook {
            None => depositForBurnCall { amount, domain, recipient, token, caller, maxFee: fee, finality }.abi_encode(),
            Some((target, call)) => {
                let hook = [target.as_slice(), call].concat().into();
                depositForBurnWithHookCall { amount, domain, recipient, token, caller, maxFee: fee, finality, hook }.abi_encode()
            }
        };
        Call::contract(here.protocols.v2_messenger, data.into(), CALL_GAS)
    }

    /// Sends a call to a contract on `to` by OP interop.
    pub fn send_interop(&self, to: ChainId, target: Address, message: Bytes) -> Call {
        let data = sendMessageCall { destination: U256::from(to), target, message }.abi_encode();
        Call::contract(MESSENGER, data.into(), CALL_GAS)
    }

    /// Makes the inbox execute a message: what users sign themselves instead of asking for a relay.
    pub fn execute_message(&self, id: &Identifier, payload_hash: B256) -> Call {
        let data = validateMessageCall {
            id: InboxIdentifier {
                origin: id.origin,
                blockNumber: U256::from(id.block_number),
                logIndex: U256::from(id.log_index),
                timestamp: U256::from(id.timestamp),
                chainId: id.chain_id,
            },
            payloadHash: payload_hash,
        };
        Call::contract(INBOX, data.abi_encode().into(), CALL_GAS)
    }

    /// What a transaction declares that executes a message.
    pub fn declare_message(&self, id: &Identifier, payload_hash: B256) -> AccessList {
        let storage_keys = access_list::encode(id, payload_hash);
        AccessList(vec![AccessListItem { address: INBOX, storage_keys }])
    }

    /// Burns the interop token, to be minted for `recipient` on `to`.
    pub fn send_token(&self, from: ChainId, amount: u64, to: ChainId, recipient: Address) -> Call {
        let token = self.contracts[&from].protocols.interop_token;
        let data = sendERC20Call { token, to: recipient, amount: U256::from(amount), chainId: U256::from(to) }.abi_encode();
        Call::contract(TOKEN_BRIDGE, data.into(), CALL_GAS)
    }

    /// Sends USDC of `from` through AggLayer's bridge; on `to` it is a wrapped token.
    pub fn bridge_usdc(&self, from: ChainId, amount: u64, to: ChainId, recipient: Address) -> Call {
        self.bridge_token(from, self.contracts[&from].usdc, amount, to, recipient)
    }

    /// Sends a token through AggLayer's bridge.
    pub fn bridge_token(&self, from: ChainId, token: Address, amount: u64, to: ChainId, recipient: Address) -> Call {
        let network = self.contracts[&to].protocols.network;
        let data =
            bridgeAssetCall { network, to: recipient, amount: U256::from(amount), token, force: false, permit: Bytes::new() };
        Call::contract(self.contracts[&from].protocols.bridge, data.abi_encode().into(), CALL_GAS)
    }

    /// Sends a message through AggLayer's bridge to the receiver on `to`.
    pub fn bridge_message(&self, from: ChainId, to: ChainId, metadata: Bytes) -> Call {
        let there = &self.contracts[&to].protocols;
        let data = bridgeMessageCall { network: there.network, to: there.message_receiver, force: false, metadata };
        Call::contract(self.contracts[&from].protocols.bridge, data.abi_encode().into(), CALL_GAS)
    }

    /// Reads where USDC of `from` is on `on`: zero before the first claim.
    pub fn wrapped_usdc(&self, on: ChainId, from: ChainId) -> Call {
        let origin = &self.contracts[&from];
        let data = getTokenWrappedAddressCall { network: origin.protocols.network, token: origin.usdc };
        Call::contract(self.contracts[&on].protocols.bridge, data.abi_encode().into(), CALL_GAS)
    }

    /// Burns the mailbox's token, to be minted for `recipient` on `to`.
    pub fn mail_token(&self, from: ChainId, amount: u64, to: ChainId, recipient: Address, session: u64) -> Call {
        let here = &self.contracts[&from].protocols;
        let (token, amount, session) = (here.mailbox_token, U256::from(amount), U256::from(session));
        let data = sendCall { chain: U256::from(to), token, receiver: recipient, amount, session };
        Call::contract(here.mailbox_bridge, data.abi_encode().into(), CALL_GAS)
    }

    /// Mints what was burned by [`World::mail_token`], once it is in the mailbox.
    pub fn receive_mail(
        &self,
        on: ChainId,
        from: ChainId,
        sender: Address,
        amount: u64,
        recipient: Address,
        session: u64,
    ) -> Call {
        let here = &self.contracts[&on].protocols;
        let (amount, session) = (U256::from(amount), U256::from(session));
        let data = receiveTokensCall {
            chain: U256::from(from),
            sender,
            token: here.mailbox_token,
            receiver: recipient,
            amount,
            session,
        };
        Call::contract(here.mailbox_bridge, data.abi_encode().into(), CALL_GAS)
    }

    /// The same world where `chain` sells no claims against exits of the same slot.
    #[must_use]
    pub fn without_same_slot_claims(mut self, chain: ChainId) -> Self {
        std::sync::Arc::make_mut(&mut self.view.facts).exits.same_slot_claims.remove(&chain);
        self
    }
}
