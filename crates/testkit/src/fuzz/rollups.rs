//! Two rollups with every protocol between them, and a third with none.

use std::{collections::BTreeMap, sync::LazyLock};

use alloy_primitives::{Address, B256, Log};
use lockstep_messaging::{
    AggLayer, BridgeDeployment, CctpV1Deployment, CctpV2Deployment, Deployments, Destination, Emitted, InteropDeployment,
    LogPlace, MailboxDeployment, OpInterop, Protocols, RollupDeployments, SlotLogs,
};
use lockstep_primitives::{ChainId, TxId};

use crate::attesters;

/// Sends.
pub(super) const ORIGIN: ChainId = 10;
/// Receives.
pub(super) const DESTINATION: ChainId = 20;
/// Has no protocol.
pub(super) const NOWHERE: ChainId = 30;

pub(super) const TRANSMITTER_V1: Address = Address::repeat_byte(0xa1);
pub(super) const TRANSMITTER_V2: Address = Address::repeat_byte(0xa2);
pub(super) const HOOK_WRAPPER: Address = Address::repeat_byte(0xa3);
pub(super) const BRIDGE: Address = Address::repeat_byte(0xa4);
pub(super) const EXIT_ROOT_MANAGER: Address = Address::repeat_byte(0xa5);
pub(super) const MAILBOX: Address = Address::repeat_byte(0xa6);
pub(super) const BUILDER: Address = Address::repeat_byte(0xbb);

/// How many attesters have to sign.
pub(super) const THRESHOLD: usize = 2;
/// When interop became active, in seconds.
pub(super) const ACTIVATED: u64 = 1_700_000_000;
/// For how long its messages can be executed, in seconds: short, so that one byte reaches both ends.
pub(super) const WINDOW: u64 = 100;
/// Timestamp of the open blocks, in seconds.
pub(super) const NOW: u64 = ACTIVATED + 50;
/// Where what the origin sends is.
pub(super) const PLACE: LogPlace = LogPlace { block: 7, timestamp: NOW, index: 3 };

static DEPLOYMENTS: LazyLock<Deployments> =
    LazyLock::new(|| Deployments([ORIGIN, DESTINATION].into_iter().map(|chain| (chain, deployment(chain))).collect()));
static PROTOCOLS: LazyLock<Protocols> = LazyLock::new(|| DEPLOYMENTS.protocols());

/// Every protocol.
pub(super) fn protocols() -> &'static Protocols {
    &PROTOCOLS
}

/// OP interop alone.
pub(super) fn interop() -> OpInterop {
    OpInterop::new([ORIGIN, DESTINATION].into_iter().map(|chain| (chain, interop_deployment())).collect())
}

/// AggLayer alone.
pub(super) fn bridges() -> AggLayer {
    AggLayer::new([ORIGIN, DESTINATION].into_iter().map(|chain| (chain, bridge_deployment(chain))).collect())
}

/// What CCTP calls a domain and AggLayer a network.
pub(super) const fn number(chain: ChainId) -> u32 {
    match chain {
        ORIGIN => 1,
        DESTINATION => 2,
        _ => 3,
    }
}

pub(super) fn attester_addresses() -> Vec<Address> {
    attesters().iter().map(|key| key.address()).collect()
}

fn deployment(chain: ChainId) -> RollupDeployments {
    let cctp_v1 = CctpV1Deployment {
        domain: number(chain),
        message_transmitter: TRANSMITTER_V1,
        attesters: attester_addresses(),
        threshold: THRESHOLD,
    };
    let cctp_v2 = CctpV2Deployment {
        domain: number(chain),
        message_transmitter: TRANSMITTER_V2,
        attesters: attester_addresses(),
        threshold: THRESHOLD,
        hook_wrapper: Some(HOOK_WRAPPER),
        fast_fee_bps: 1,
        expires_after: 100,
    };
    RollupDeployments {
        cctp_v1: Some(cctp_v1),
        cctp_v2: Some(cctp_v2),
        interop: Some(interop_deployment()),
        agglayer: Some(bridge_deployment(chain)),
        mailbox: Some(MailboxDeployment { mailbox: MAILBOX }),
    }
}

fn interop_deployment() -> InteropDeployment {
    InteropDeployment { depends_on: [ORIGIN, DESTINATION].into(), activated_at: ACTIVATED, expires_after: WINDOW }
}

const fn bridge_deployment(chain: ChainId) -> BridgeDeployment {
    BridgeDeployment { network: number(chain), bridge: BRIDGE, exit_root_manager: EXIT_ROOT_MANAGER, updater: Some(BUILDER) }
}

/// The open block of a rollup.
pub(super) const fn open_block(chain: ChainId) -> Destination {
    Destination { chain, number: 9, timestamp: NOW, beneficiary: Address::repeat_byte(0xfe), builder: BUILDER }
}

/// A log of one transaction.
pub(super) const fn emitted(log: &Log, place: LogPlace) -> Emitted<'_> {
    Emitted { log, place, tx: TxId::Deposit(B256::repeat_byte(0x77)), in_tx: 0 }
}

/// The logs of the slot's blocks.
#[derive(Debug, Default)]
pub(super) struct Logs(BTreeMap<ChainId, Vec<(LogPlace, Log)>>);

impl Logs {
    /// One log of the origin, and none of the destination.
    pub(super) fn of_origin(place: LogPlace, log: &Log) -> Self {
        Self([(ORIGIN, vec![(place, log.clone())]), (DESTINATION, Vec::new())].into())
    }
}

impl SlotLogs for Logs {
    fn logs(&self, chain: ChainId) -> Option<Vec<Emitted<'_>>> {
        Some(self.0.get(&chain)?.iter().map(|(place, log)| emitted(log, *place)).collect())
    }

    fn chains(&self) -> Vec<ChainId> {
        self.0.keys().copied().collect()
    }
}
