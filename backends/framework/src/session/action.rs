//! What follows for the connection from an event.

use wire::Reply;

/// What follows for the connection.
#[derive(Debug)]
#[must_use = "a reply that is not sent leaves the front-end waiting"]
pub enum Action {
    /// Send this, the reply to the request with this code.
    Reply {
        /// The request's code.
        code: u32,
        /// Its reply.
        reply: Reply,
    },
    /// Nothing is to be sent.
    NoReply,
    /// Read nothing further: what comes next is known when a worker has answered.
    Wait,
}
