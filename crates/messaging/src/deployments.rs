//! Where which protocol is deployed.

use std::{collections::BTreeMap, sync::Arc};

use lockstep_primitives::ChainId;

use crate::{
    AggLayer, BridgeDeployment, CctpV1, CctpV1Deployment, CctpV2, CctpV2Deployment, InteropDeployment, Mailbox,
    MailboxDeployment, OpInterop, Protocol, Protocols,
};

/// The message protocols of one rollup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RollupDeployments {
    /// CCTP v1.
    pub cctp_v1: Option<CctpV1Deployment>,
    /// CCTP v2.
    pub cctp_v2: Option<CctpV2Deployment>,
    /// OP interop.
    pub interop: Option<InteropDeployment>,
    /// AggLayer's unified bridge.
    pub agglayer: Option<BridgeDeployment>,
    /// A mailbox.
    pub mailbox: Option<MailboxDeployment>,
}

/// The message protocols by rollup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deployments(pub BTreeMap<ChainId, RollupDeployments>);

impl Deployments {
    /// The protocols over these deployments; one that is deployed nowhere is none of them.
    pub fn protocols(&self) -> Protocols {
        let mut protocols: Vec<Arc<dyn Protocol>> = Vec::new();
        let cctp_v1 = self.of(|rollup| rollup.cctp_v1.as_ref());
        if !cctp_v1.is_empty() {
            protocols.push(Arc::new(CctpV1::new(cctp_v1)));
        }
        let cctp_v2 = self.of(|rollup| rollup.cctp_v2.as_ref());
        if !cctp_v2.is_empty() {
            protocols.push(Arc::new(CctpV2::new(cctp_v2)));
        }
        // Always: where it is not deployed, a block that executes a message is refused.
        protocols.push(Arc::new(OpInterop::new(self.of(|rollup| rollup.interop.as_ref()))));
        let agglayer = self.of(|rollup| rollup.agglayer.as_ref());
        if !agglayer.is_empty() {
            protocols.push(Arc::new(AggLayer::new(agglayer)));
        }
        let mailboxes = self.of(|rollup| rollup.mailbox.as_ref());
        if !mailboxes.is_empty() {
            protocols.push(Arc::new(Mailbox::new(mailboxes)));
        }
        Protocols::new(protocols)
    }

    /// One protocol's deployments.
    fn of<T: Clone>(&self, pick: impl Fn(&RollupDeployments) -> Option<&T>) -> BTreeMap<ChainId, T> {
        self.0.iter().filter_map(|(chain, rollup)| Some((*chain, pick(rollup)?.clone()))).collect()
    }
}
