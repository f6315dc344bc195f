//! Clauses of the vhost-user protocol. The section is the heading of the specification.

use super::clauses;

clauses! { "vhost-user",
    // What a back-end answers.
    REPLY_DUE: BackEnd, "Communication", "reply-due",
        "A back-end answers each request that has an answer.";
    ACK_DUE: BackEnd, "REPLY_ACK", "ack-due",
        "A back-end acknowledges a request that needs a reply.";
    REPLY_UNASKED: BackEnd, "Communication", "reply-unasked",
        "A back-end sends no answer that was not asked for.";
    REPLY_REQUEST: BackEnd, "Communication", "reply-request",
        "An answer has the number of the request that it answers, in the order of requests.";
    REPLY_FLAGS: BackEnd, "Header", "reply-flags",
        "An answer has version 1 and the reply flag.";
    REPLY_SIZE: BackEnd, "Payload", "reply-size",
        "An answer's payload has the size that its request prescribes.";
    REPLY_FDS: BackEnd, "Communication", "reply-fds",
        "An answer carries file descriptors if and only if it is to carry them.";
    CONFIG_REPLY_SIZE: BackEnd, "GET_CONFIG", "config-reply-size",
        "The answer to GET_CONFIG is as long as the request, or empty for an error.";
    CONFIG_REPLY_RANGE: BackEnd, "GET_CONFIG", "config-reply-range",
        "The answer to GET_CONFIG is for the range that was asked for.";
    DEVICE_STATE_REPLY: BackEnd, "SET_DEVICE_STATE_FD", "device-state-reply",
        "An answer to SET_DEVICE_STATE_FD does not report an error and carry a descriptor too.";
    OFFER_PROTOCOL_WHOLE: BackEnd, "Protocol features", "offer-protocol-whole",
        "A back-end that offers a protocol feature offers those that it needs.";
    FEATURES_STABLE: BackEnd, "GET_FEATURES", "features-stable",
        "A back-end offers the same features each time it is asked on one connection.";
    // What a back-end does with rings.
    STOPPED_IDLE: BackEnd, "Ring states", "stopped-idle",
        "A back-end leaves a stopped ring alone.";
    STOPPED_CALL: BackEnd, "Ring states", "stopped-call",
        "A back-end does not call for a stopped ring.";
    DISABLED_EFFECTS: BackEnd, "Ring states", "disabled-effects",
        "A back-end writes no data into buffers of a disabled ring.";
    BASE_INDEX: BackEnd, "GET_VRING_BASE", "base-index",
        "The answer to GET_VRING_BASE is for the ring that was asked for, its unused bits zero.";
    BASE_DRAINED: BackEnd, "GET_VRING_BASE", "base-drained",
        "A ring stops where everything that was taken has been used.";
    SUSPENDED_WRITE: BackEnd, "Suspended device state", "suspended-write",
        "A back-end writes no guest memory while all rings are stopped.";
    SUSPENDED_MESSAGE: BackEnd, "Suspended device state", "suspended-message",
        "A back-end sends no requests while all rings are stopped.";
    // What a back-end asks.
    BACKEND_CHANNEL: BackEnd, "Back-end communication", "backend-channel",
        "A back-end sends requests only once it was given a socket for them.";
    BACKEND_HEADER: BackEnd, "Header", "backend-header",
        "A back-end's request has version 1, no reply flag, and need-reply only with REPLY_ACK.";
    BACKEND_GATED: BackEnd, "Back-end message types", "backend-gated",
        "A back-end sends a request only with the feature that it belongs to.";
    BACKEND_PAYLOAD: BackEnd, "Back-end message types", "backend-payload",
        "A back-end's request has the payload and the descriptors that belong to it.";
    // The in-flight region.
    INFLIGHT_HEADER: BackEnd, "Inflight I/O tracking", "inflight-header",
        "A ring's part of the in-flight region has version 1, the ring's size and the used index.";
    INFLIGHT_KNOWN: BackEnd, "Inflight I/O tracking", "inflight-known",
        "The in-flight region marks only buffers that are in flight.";
    INFLIGHT_COMPLETE: BackEnd, "Inflight I/O tracking", "inflight-complete",
        "The in-flight region marks every buffer that was taken and not used.";
    INFLIGHT_ORDER: BackEnd, "Inflight I/O tracking", "inflight-order",
        "The in-flight region's counters tell in which order buffers were taken.";

    // What a front-end sends.
    REQUEST_HEADER: FrontEnd, "Header", "request-header",
        "A request has version 1, no reply flag, and need-reply only with REPLY_ACK.";
    REQUEST_PAYLOAD: FrontEnd, "Front-end message types", "request-payload",
        "A request's payload has the size that belongs to it.";
    REQUEST_FDS: FrontEnd, "Communication", "request-fds",
        "A request carries the file descriptors that belong to it.";
    REQUEST_GATED: FrontEnd, "Front-end message types", "request-gated",
        "A front-end sends a request only with the feature that it belongs to.";
    PROTOCOL_ACCEPT: FrontEnd, "Protocol features", "protocol-accept",
        "A front-end sets only protocol features that were offered, with those that they need.";
    FEATURES_ACCEPT: FrontEnd, "SET_FEATURES", "features-accept",
        "A front-end sets only features that were offered.";
    MEMORY_OVERLAP: FrontEnd, "Memory region description", "memory-overlap",
        "Regions of guest memory do not overlap.";
    MEMORY_KNOWN: FrontEnd, "REM_MEM_REG", "memory-known",
        "A front-end removes only regions that it added.";
    RING_INDEX: FrontEnd, "Multiple queue support", "ring-index",
        "A front-end names only rings that the back-end has.";
    RING_STOPPED: FrontEnd, "Ring states", "ring-stopped",
        "A front-end changes size and base of a ring only while it is stopped.";
    RESERVED_ZERO: FrontEnd, "Front-end message types", "reserved-zero",
        "Fields that are reserved in a request are zero.";
    STATE_SUSPENDED: FrontEnd, "Migrating back-end state", "state-suspended",
        "A front-end transfers the device's state only while all rings are stopped.";
    FRONTEND_REPLY: FrontEnd, "REPLY_ACK", "frontend-reply",
        "A front-end answers a back-end's request with a number if and only if a reply is needed.";
}
