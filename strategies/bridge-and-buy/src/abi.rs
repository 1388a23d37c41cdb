//! The calls that a plan is made of.

use alloy_sol_types::sol;

sol! {
    function balanceOf(address account) external view returns (uint256);
    function allowance(address owner, address spender) external view returns (uint256);
    function approve(address spender, uint256 amount) external returns (bool);

    function price() external view returns (uint256);
    function paymentToken() external view returns (address);
    function ownerOf(uint256 tokenId) external view returns (address);
    function buy(uint256 tokenId) external;

    function getAmountsIn(uint256 amountOut, address[] path) external view returns (uint256[] amounts);
    function swapTokensForExactTokens(uint256 amountOut, uint256 amountInMax, address[] path, address to, uint256 deadline)
        external returns (uint256[] amounts);

    /// CCTP v1.
    function depositForBurn(uint256 amount, uint32 domain, bytes32 recipient, address token) external returns (uint64);
}

/// CCTP v2, whose function has the same name.
pub(crate) mod v2 {
    alloy_sol_types::sol! {
        function depositForBurn(
            uint256 amount,
            uint32 domain,
            bytes32 recipient,
            address token,
            bytes32 caller,
            uint256 maxFee,
            uint32 finality
        ) external;
    }
}
