//! One source of evidence made of one a protocol.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use lockstep_messaging::{Evidence, EvidenceRequest};
use lockstep_primitives::RollupSet;

use super::{EvidenceError, EvidenceSource, LandedTx};

/// Sources of evidence by protocol.
#[derive(Debug)]
pub struct EvidenceRoutes {
    sources: BTreeMap<&'static str, Arc<dyn EvidenceSource>>,
    trusted: RollupSet,
}

impl EvidenceRoutes {
    /// Asks the source of a message's protocol, by the protocol's name (`cctp-v2`, for example). `trusted` is whom the sources
    /// that attest in open slots trust before they vote; each of them checks that by itself, too.
    pub const fn new(sources: BTreeMap<&'static str, Arc<dyn EvidenceSource>>, trusted: RollupSet) -> Self {
        Self { sources, trusted }
    }

    fn source(&self, request: &EvidenceRequest) -> Result<&Arc<dyn EvidenceSource>, EvidenceError> {
        let protocol = request.message.protocol;
        self.sources
            .get(protocol)
            .ok_or_else(|| EvidenceError::Refused(format!("no source of evidence is configured for messages of {protocol}")))
    }
}

#[async_trait]
impl EvidenceSource for EvidenceRoutes {
    async fn evidence(&self, request: &EvidenceRequest, released: &RollupSet) -> Result<Evidence, EvidenceError> {
        self.source(request)?.evidence(request, released).await
    }

    async fn landed(&self, request: &EvidenceRequest, sent: &LandedTx) -> Result<Evidence, EvidenceError> {
        self.source(request)?.landed(request, sent).await
    }

    async fn renew(&self, request: &EvidenceRequest, expired: &Evidence) -> Result<(), EvidenceError> {
        self.source(request)?.renew(request, expired).await
    }

    fn trusted(&self) -> &RollupSet {
        &self.trusted
    }
}
