//! What a back-end asks of its front-end, over the channel that SET_BACKEND_REQ_FD gave it.

use virtio_spec::vhost_user::{BackendRequest as Code, VringState};

use crate::body::Body;
use crate::{Frame, Result};

/// A back-end's request (vhost-user, "Back-end message types").
///
/// The front-end answers, if asked to by the need_reply flag, with [`Reply::Ack`](crate::Reply).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendRequest {
    /// The configuration space changed. (CONFIG)
    ConfigChange,
    /// Buffers of a ring were used. (INBAND_NOTIFICATIONS)
    VringCall {
        /// The ring.
        index: u32,
    },
    /// A ring failed. (INBAND_NOTIFICATIONS)
    VringErr {
        /// The ring.
        index: u32,
    },
    /// A request that this crate does not know or no front-end here supports.
    Unknown {
        /// Its code.
        code: u32,
    },
}

impl BackendRequest {
    /// Reads a request. Descriptors are closed: none of the known requests carries any.
    ///
    /// # Errors
    /// A wrong size.
    pub fn decode(frame: Frame) -> Result<Self> {
        let code = frame.code;
        let body = Body::new(frame, name);
        match Code::try_from(code) {
            Ok(Code::ConfigChangeMsg) => body.nothing().map(|()| Self::ConfigChange),
            Ok(Code::VringCall) => Ok(Self::VringCall { index: ring(&body)? }),
            Ok(Code::VringErr) => Ok(Self::VringErr { index: ring(&body)? }),
            _ => Ok(Self::Unknown { code }),
        }
    }

    /// The request as a message.
    #[must_use]
    pub fn encode(self) -> Frame {
        let payload = match self {
            Self::VringCall { index } | Self::VringErr { index } => {
                VringState { index, num: 0 }.to_bytes().to_vec()
            }
            Self::ConfigChange | Self::Unknown { .. } => Vec::new(),
        };
        Frame::request(self.code(), payload)
    }

    /// The request's code.
    #[must_use]
    pub fn code(&self) -> u32 {
        match self {
            Self::ConfigChange => Code::ConfigChangeMsg.number(),
            Self::VringCall { .. } => Code::VringCall.number(),
            Self::VringErr { .. } => Code::VringErr.number(),
            Self::Unknown { code } => *code,
        }
    }
}

fn ring(body: &Body) -> Result<u32> {
    body.value::<VringState>().map(|state| state.index)
}

fn name(code: u32) -> String {
    Code::try_from(code)
        .map_or_else(|_| format!("request {code} of the back-end"), |known| known.name().to_owned())
}
