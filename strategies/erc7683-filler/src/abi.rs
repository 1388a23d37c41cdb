//! ERC-7683 as settlers were deployed with (2024 to January 2025), and the orders of these settlers.

use alloy_sol_types::sol;

sol! {
    /// An order that its user signs and somebody else opens.
    #[derive(Debug, PartialEq, Eq)]
    struct GaslessCrossChainOrder {
        address originSettler;
        address user;
        uint256 nonce;
        uint256 originChainId;
        uint32 openDeadline;
        uint32 fillDeadline;
        bytes32 orderDataType;
        bytes orderData;
    }

    /// Some of one token here for some of another there: `orderData` is its `abi.encode`.
    #[derive(Debug, PartialEq, Eq)]
    struct TokenOrder {
        address inputToken;
        uint256 inputAmount;
        bytes32 outputToken;
        uint256 outputAmount;
        uint256 destinationChainId;
        bytes32 recipient;
        bytes32 destinationSettler;
    }

    /// What the destination is told of an order: `originData` is its `abi.encode`.
    #[derive(Debug, PartialEq, Eq)]
    struct OrderOrigin {
        uint256 originChainId;
        address originSettler;
        address user;
        uint256 nonce;
        bytes32 orderDataType;
        uint32 fillDeadline;
        bytes orderData;
    }

    /// Opens an order for its user.
    function openFor(GaslessCrossChainOrder order, bytes signature, bytes originFillerData) external;
    /// Whether an order's nonce is used.
    function nonceUsed(address user, uint256 nonce) external view returns (bool);
    /// Gives what an order promises.
    function fill(bytes32 orderId, bytes originData, bytes fillerData) external;
    /// Whether an order is filled.
    function filled(bytes32 orderId) external view returns (bool);
    /// What an account has of a token.
    function balanceOf(address account) external view returns (uint256);
    /// What a spender may take of it.
    function allowance(address owner, address spender) external view returns (uint256);
    /// Lets a spender take some of it.
    function approve(address spender, uint256 amount) external returns (bool);
}
