//! Orders, checked without any chain.

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_sol_types::{Eip712Domain, SolStruct, SolValue};
use lockstep_primitives::{ChainId, recover};

use crate::abi::{GaslessCrossChainOrder, OrderOrigin, TokenOrder};

/// A signed order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The order.
    pub order: GaslessCrossChainOrder,
    /// Its user's signature, `r || s || v`.
    pub signature: Bytes,
}

/// Why an order is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOrder {
    /// The type of its data is not known.
    #[error("the type of its data is not that of TokenOrder")]
    Type,
    /// Its data is no such order.
    #[error("its data is no TokenOrder")]
    Data,
    /// Its user did not sign it.
    #[error("its user did not sign it")]
    Signature,
    /// A number or an address of it is none of a rollup here.
    #[error("a chain id or an address of it does not fit")]
    Range,
}

/// An order that says what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) id: B256,
    pub(crate) origin: ChainId,
    pub(crate) destination: ChainId,
    pub(crate) input: Address,
    pub(crate) input_amount: U256,
    pub(crate) output: Address,
    pub(crate) output_amount: U256,
    pub(crate) destination_settler: Address,
    pub(crate) origin_data: Bytes,
}

impl Order {
    /// The EIP-712 digest that the user signs, in the settler's own domain.
    pub fn digest(&self) -> B256 {
        let domain = Eip712Domain::new(
            Some("OriginSettler".into()),
            Some("1".into()),
            Some(self.order.originChainId),
            Some(self.order.originSettler),
            None,
        );
        self.order.eip712_signing_hash(&domain)
    }

    /// What names the order on both rollups.
    pub fn id(&self) -> B256 {
        let order = &self.order;
        let named = (
            order.originChainId,
            order.originSettler,
            order.user,
            order.nonce,
            order.orderDataType,
            keccak256(&order.orderData),
            order.fillDeadline,
        );
        keccak256(named.abi_encode())
    }

    /// What the order gives and takes, if its user signed it.
    pub(crate) fn check(&self) -> Result<Checked, InvalidOrder> {
        let order = &self.order;
        if order.orderDataType != TokenOrder::default_type_hash() {
            return Err(InvalidOrder::Type);
        }
        let tokens = TokenOrder::abi_decode_validate(&order.orderData).map_err(|_| InvalidOrder::Data)?;
        if recover(self.digest(), &self.signature).ok() != Some(order.user) {
            return Err(InvalidOrder::Signature);
        }
        let chain = |id: U256| ChainId::try_from(id).map_err(|_| InvalidOrder::Range);
        let address = |word: B256| {
            let address = Address::from_word(word);
            if address.into_word() == word && !address.is_zero() { Ok(address) } else { Err(InvalidOrder::Range) }
        };
        // Whom it is for is the settler's to read; here it only has to be an address.
        address(tokens.recipient)?;
        let origin_data = OrderOrigin {
            originChainId: order.originChainId,
            originSettler: order.originSettler,
            user: order.user,
            nonce: order.nonce,
            orderDataType: order.orderDataType,
            fillDeadline: order.fillDeadline,
            orderData: order.orderData.clone(),
        };
        Ok(Checked {
            id: self.id(),
            origin: chain(order.originChainId)?,
            destination: chain(tokens.destinationChainId)?,
            input: tokens.inputToken,
            input_amount: tokens.inputAmount,
            output: address(tokens.outputToken)?,
            output_amount: tokens.outputAmount,
            destination_settler: address(tokens.destinationSettler)?,
            origin_data: origin_data.abi_encode().into(),
        })
    }
}

impl TokenOrder {
    /// The only type of order data: the EIP-712 hash of this struct's type.
    pub fn default_type_hash() -> B256 {
        keccak256(<Self as SolStruct>::eip712_root_type().as_bytes())
    }
}
