//! What a block is short of, and how much of it is taken.

use lockstep_primitives::Reason;

use crate::{BlockContext, BlockTx, evm::Terms, stack::MILLIONTHS};

/// What an encoded block has beside its transactions: the header (some 700 bytes), up to 16 withdrawals (49 bytes each) and the
/// prefixes of its lists.
const BLOCK_OVERHEAD_BYTES: u64 = 2_048;
/// By how much a signature's two numbers can be longer than those that stand in for them.
const SIGNATURE_BYTES: u64 = 64;
/// The most that a byte can cost more than a zero byte under the calldata floor (EIP-7623: 40 gas against 10).
const FLOOR_DIFFERENCE: u64 = 30;

/// An amount of everything that a block has a limit of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Room {
    /// Gas.
    pub(crate) gas: u64,
    /// Blob gas.
    pub(crate) blob_gas: u64,
    /// DA footprint.
    pub(crate) footprint: u64,
    /// Estimated compressed bytes of data.
    pub(crate) data: u64,
    /// Bytes of the encoded block.
    pub(crate) bytes: u64,
}

impl Room {
    /// What an empty block takes.
    pub(crate) fn of_empty_block() -> Self {
        Self { bytes: BLOCK_OVERHEAD_BYTES, ..Self::default() }
    }

    /// What a transaction may take: its gas limit, and its data as `millionths` weighs it.
    pub(crate) fn of_tx(tx: &BlockTx, terms: &Terms, millionths: u64) -> Self {
        let data = millionths / MILLIONTHS;
        Self {
            gas: tx.gas_limit(),
            blob_gas: tx.blob_gas(),
            footprint: terms.footprint_scalar.map_or(0, |scalar| data.saturating_mul(scalar)),
            data,
            bytes: tx.encoded_length(),
        }
    }

    /// The most that a transaction can weigh more once evidence and signature are in the place of their stand-ins: every byte
    /// could turn from a zero into another one, and compress by a quarter less.
    pub(crate) fn of_evidence(self, tx: &BlockTx) -> Self {
        let bytes = u64::try_from(tx.raw().len()).unwrap_or(u64::MAX);
        Self {
            gas: bytes.saturating_mul(FLOOR_DIFFERENCE),
            blob_gas: 0,
            footprint: self.footprint / 4,
            data: self.data / 4,
            bytes: SIGNATURE_BYTES,
        }
    }

    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            gas: self.gas.saturating_add(other.gas),
            blob_gas: self.blob_gas.saturating_add(other.blob_gas),
            footprint: self.footprint.saturating_add(other.footprint),
            data: self.data.saturating_add(other.data),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    /// Whether a block where this much is taken has room for a listed transaction of `weight`, which may come to weigh `reserve`
    /// more.
    ///
    /// # Errors
    /// With what there is no room for.
    pub(crate) fn check(self, context: &BlockContext, weight: Self, reserve: Self) -> Result<(), Reason> {
        self.check_within(context, context.listed_gas(), weight.and(reserve), weight)
    }

    /// Whether a block where this much is taken has room for a forced transaction: all of the block is there for those.
    ///
    /// # Errors
    /// As [`Room::check`].
    pub(crate) fn check_forced(self, context: &BlockContext, weight: Self) -> Result<(), Reason> {
        self.check_within(context, context.gas_limit, weight, weight)
    }

    fn check_within(self, context: &BlockContext, gas_limit: u64, most: Self, weight: Self) -> Result<(), Reason> {
        let left = gas_limit.saturating_sub(self.gas);
        if most.gas > left {
            return Err(Reason::NoRoom { gas: weight.gas, left });
        }
        let left = gas_limit.saturating_sub(self.footprint);
        if most.footprint > left {
            return Err(Reason::NoDataRoom { footprint: weight.footprint, left });
        }
        if let Some(limit) = context.data.tx.filter(|limit| most.data > *limit) {
            return Err(Reason::TxDataTooLarge { bytes: most.data, limit });
        }
        if let Some(limit) = context.data.block {
            let left = limit.saturating_sub(self.data);
            if most.data > left {
                return Err(Reason::NoDataRoom { footprint: weight.data, left });
            }
        }
        if let Some(limit) = context.rules.max_block_bytes() {
            let left = limit.saturating_sub(self.bytes);
            if most.bytes > left {
                return Err(Reason::NoByteRoom { bytes: weight.bytes, left });
            }
        }
        if weight.blob_gas > 0 {
            let limit = context.rules.blobs().map_or(0, |blobs| blobs.max_blob_gas_per_block());
            let left = limit.saturating_sub(self.blob_gas);
            if weight.blob_gas > left {
                return Err(Reason::NoRoom { gas: weight.blob_gas, left });
            }
        }
        Ok(())
    }
}
