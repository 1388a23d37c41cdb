//! What is used of the contracts of the unified bridge (agglayer-contracts, `PolygonZkEVMBridgeV2.sol`,
//! `BridgeL2SovereignChain.sol`, `GlobalExitRootManagerL2SovereignChain.sol`).

use alloy_sol_types::sol;

sol! {
    event BridgeEvent(
        uint8 leafType,
        uint32 originNetwork,
        address originAddress,
        uint32 destinationNetwork,
        address destinationAddress,
        uint256 amount,
        bytes metadata,
        uint32 depositCount
    );
    event ClaimEvent(
        uint256 globalIndex,
        uint32 originNetwork,
        address originAddress,
        address destinationAddress,
        uint256 amount
    );

    function claimAsset(
        bytes32[32] smtProofLocalExitRoot,
        bytes32[32] smtProofRollupExitRoot,
        uint256 globalIndex,
        bytes32 mainnetExitRoot,
        bytes32 rollupExitRoot,
        uint32 originNetwork,
        address originTokenAddress,
        uint32 destinationNetwork,
        address destinationAddress,
        uint256 amount,
        bytes metadata
    ) external;
    function claimMessage(
        bytes32[32] smtProofLocalExitRoot,
        bytes32[32] smtProofRollupExitRoot,
        uint256 globalIndex,
        bytes32 mainnetExitRoot,
        bytes32 rollupExitRoot,
        uint32 originNetwork,
        address originAddress,
        uint32 destinationNetwork,
        address destinationAddress,
        uint256 amount,
        bytes metadata
    ) external;
    function depositCount() external view returns (uint256);
    function getRoot() external view returns (bytes32);
    function localBalanceTree(bytes32 tokenInfoHash) external view returns (uint256);

    function insertGlobalExitRoot(bytes32 newRoot) external;
    function globalExitRootMap(bytes32 globalExitRoot) external view returns (uint256);
}
