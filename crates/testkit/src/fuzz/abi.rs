//! What the contracts emit and take, written down apart from the production code.

use alloy_sol_types::sol;

sol! {
    event MessageSent(bytes message);
    function receiveMessage(bytes message, bytes attestation) external returns (bool);
    function relay(bytes message, bytes attestation) external;

    struct Identifier {
        address origin;
        uint256 blockNumber;
        uint256 logIndex;
        uint256 timestamp;
        uint256 chainId;
    }
    event SentMessage(
        uint256 indexed destination,
        address indexed target,
        uint256 indexed messageNonce,
        address sender,
        bytes message
    );
    event RelayedMessage(
        uint256 indexed source,
        uint256 indexed messageNonce,
        bytes32 indexed messageHash,
        bytes32 returnDataHash
    );
    event ExecutingMessage(bytes32 indexed msgHash, Identifier id);
    function relayMessage(Identifier id, bytes sentMessage) external payable returns (bytes);

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
        bytes32[32] localProof,
        bytes32[32] rollupProof,
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
    function claimMessage(
        bytes32[32] localProof,
        bytes32[32] rollupProof,
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
    function insertGlobalExitRoot(bytes32 newRoot) external;

    event MailboxWritten(
        bytes32 indexed key,
        uint256 indexed destinationChain,
        address indexed sender,
        address receiver,
        uint256 session,
        bytes label,
        bytes data
    );
    event MailboxDelivered(bytes32 indexed key, uint256 indexed sourceChain, address indexed receiver, bytes data);
    function putInbox(
        uint256 sourceChain,
        address sender,
        address receiver,
        uint256 session,
        bytes label,
        bytes data
    ) external returns (bytes32 key);
}

/// Both versions of CCTP have an event of this name.
pub(super) mod cctp_v1 {
    use alloy_sol_types::sol;

    sol! {
        event MessageReceived(
            address indexed caller,
            uint32 sourceDomain,
            uint64 indexed nonce,
            bytes32 sender,
            bytes messageBody
        );
    }
}

/// See [`cctp_v1`].
pub(super) mod cctp_v2 {
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
    }
}
