//! What an OP-stack rollup's batcher calls on its sequencer: `miner_setMaxDASize`.

use std::sync::Arc;

use alloy_primitives::U64;
use jsonrpsee::{
    RpcModule,
    core::RegisterMethodError,
    types::{ErrorObjectOwned, Params},
};
use lockstep_rpc::{invalid_params, unauthorized};
use lockstep_simulation::DataLimits;

use crate::roles::sequencer::SequencerRole;

/// The batcher's methods of one rollup. A batcher signs no requests, so they are refused unless the configuration opens them.
///
/// # Errors
/// When a name is registered twice, which is a fault of ours.
pub(crate) fn batcher_methods(sequencer: Arc<SequencerRole>) -> Result<RpcModule<()>, RegisterMethodError> {
    let mut module = RpcModule::new(sequencer);
    module.register_method("miner_setMaxDASize", |params, sequencer, _| {
        if !sequencer.takes_data_limits() {
            let hint = "set batcher_api = true in the rollup's [rollup.sequencer], and listen on a private address";
            return Err(unauthorized("batcher_api_off", "this sequencer takes no limits from a batcher", hint));
        }
        sequencer.set_data_limits(limits(&params)?);
        Ok::<bool, ErrorObjectOwned>(true)
    })?;
    Ok(module.remove_context())
}

/// `(maxTxSize, maxBlockSize)` in estimated compressed bytes, zero for no limit, as op-geth and op-reth take them.
fn limits(params: &Params<'_>) -> Result<DataLimits, ErrorObjectOwned> {
    let (tx, block): (U64, U64) = params.parse().map_err(|error| {
        let hint = "give maxTxSize and maxBlockSize as 0x-prefixed hex, 0x0 for no limit";
        invalid_params("invalid_params", error.message(), hint)
    })?;
    Ok(DataLimits::from_wire(tx.to(), block.to()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sizes_are_quantities_and_zero_is_no_limit() {
        let parse = |text: &str| limits(&Params::new(Some(text)));
        assert_eq!(parse(r#"["0x12c","0x5208"]"#).unwrap(), DataLimits { tx: Some(300), block: Some(21_000) });
        assert_eq!(parse(r#"["0x0","0x0"]"#).unwrap(), DataLimits::default());
        for wrong in [r#"["0x1"]"#, r#"["0x1","0x2","0x3"]"#, r#"["one","0x1"]"#, r#"["-1","0x1"]"#] {
            assert_eq!(parse(wrong).unwrap_err().code(), lockstep_rpc::codes::INVALID_PARAMS, "{wrong}");
        }
    }
}
