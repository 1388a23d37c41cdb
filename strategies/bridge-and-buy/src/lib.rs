//! From an outcome to a bundle.
//!
//! Somebody holds dollars on one rollup and wants something that is sold on another: this token of a collection, or at least so
//! much of a token. [`plan`] finds out what it costs there now, burns exactly that here, has the dollars minted there and buys;
//! the bundle's conditions say that the outcome is met or nothing happens. What the builder needs for delivering the message is
//! found out by simulation, and paid to it.

mod abi;
mod draft;
mod intent;
mod plan;

use lockstep_building::{BuildError, Strategy, StrategyView};
use lockstep_primitives::Bundle;

pub use intent::{Crossing, Intent, PlanError, Want};
pub use plan::{Plan, plan};

use plan::met;

/// Makes a bundle of every intent of the account that it signs for, once the outcome can be had and as long as it is not there.
///
/// It remembers nothing: a token's outcome is there when the account has at least what is wanted, wherever that came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BridgeAndBuy {
    /// What is wanted, in the order in which it is tried.
    pub intents: Vec<Intent>,
}

impl Strategy for BridgeAndBuy {
    fn name(&self) -> &'static str {
        "bridge-and-buy"
    }

    fn bundles(&self, view: &StrategyView<'_>) -> Result<Vec<Bundle>, BuildError> {
        let buyer = view.signer.address();
        for intent in self.intents.iter().filter(|intent| intent.buyer == buyer) {
            // Or it would be bought again in every slot.
            if met(view.slot, intent)? {
                continue;
            }
            // Bundles of one account share its nonces: one at a time.
            if let Ok(plan) = plan(view.slot, intent)? {
                return Ok(plan.sign(view.signer).into_iter().collect());
            }
        }
        Ok(Vec::new())
    }
}
