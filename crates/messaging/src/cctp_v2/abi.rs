//! What `MessageTransmitterV2` tells of deliveries, and how a contract that runs hooks is called (evm-cctp-contracts,
//! `src/v2/MessageTransmitterV2.sol`, `src/examples/CCTPHookWrapper.sol`).

use alloy_sol_types::sol;

sol! {
    event MessageReceived(
        address indexed caller,
        uint32 sourceDomain,
        bytes32 indexed nonce,
        bytes32 sender,
        uint32 indexed finalityThresholdExecuted,
        bytes messageBody
    );

    function relay(bytes message, bytes attestation) external;
}
