//! The control socket (`--control-path`): one JSON object a line, each answered by one line.
//!
//! ```text
//! {"cmd":"stats"}
//! {"ok":true,"queues":[{"kicks":12,"calls":9}]}
//! {"cmd":"resise"}
//! {"ok":false,"error":"there is no command \"resise\": known are metrics, resize, stats"}
//! ```
//!
//! [`server`] moves lines, [`lines`] cuts them, [`protocol`] reads and writes them, [`prometheus`] renders
//! the answer to `metrics`. What the commands do is up to the owner of the server.

pub mod lines;
pub mod prometheus;
pub mod protocol;
pub mod server;
