//! What a back-end answers.

use std::os::fd::OwnedFd;

use virtio_spec::vhost_user::{ConfigHeader, FrontendRequest as Code, Inflight, Log, VringState};

use crate::body::Body;
use crate::request::name;
use crate::{Error, Frame, Result};

/// In the reply to SET_DEVICE_STATE_FD: zero on success.
const STATE_ERROR_MASK: u64 = 0xff;
/// In the same reply: no descriptor comes with it.
const STATE_NO_FD: u64 = 1 << 8;

/// A part of the configuration space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Bytes from the space's start.
    pub offset: u32,
    /// The flags of the request.
    pub flags: u32,
    /// The bytes.
    pub data: Vec<u8>,
}

/// A back-end's answer; the request decides which variant it is.
#[derive(Debug)]
pub enum Reply {
    /// A number: features, rings, memory slots, status, or the outcome of CHECK_DEVICE_STATE.
    U64(u64),
    /// To a request without a reply of its own: zero is success.
    Ack(u64),
    /// To GET_VRING_BASE: where to go on in the ring.
    VringState(VringState),
    /// To SET_LOG_BASE: the description that the request had. What this reply carries is not
    /// specified; QEMU ignores it, and front-ends on the `vhost` crate wait for just this.
    Log(Log),
    /// To GET_CONFIG.
    Config(Config),
    /// To GET_CONFIG when it failed: a reply without payload.
    ConfigRefused,
    /// To GET_INFLIGHT_FD: the region and its file.
    Inflight(Inflight, OwnedFd),
    /// To SET_DEVICE_STATE_FD: on success, `Some` when the back-end has a better channel.
    DeviceState {
        /// Zero on success.
        error: u8,
        /// The channel to use instead of the front-end's.
        fd: Option<OwnedFd>,
    },
}

impl Reply {
    /// Success or failure of a request without a reply of its own.
    #[must_use]
    pub fn ack(success: bool) -> Self {
        Self::Ack(u64::from(!success))
    }

    /// The reply to the request with this code, as a message.
    #[must_use]
    pub fn encode(self, code: u32) -> Frame {
        let (payload, fds) = match self {
            Self::U64(value) | Self::Ack(value) => (value.to_le_bytes().to_vec(), Vec::new()),
            Self::Log(log) => (log.to_bytes().to_vec(), Vec::new()),
            Self::VringState(state) => (state.to_bytes().to_vec(), Vec::new()),
            Self::Config(config) => (config.to_bytes(), Vec::new()),
            Self::ConfigRefused => (Vec::new(), Vec::new()),
            Self::Inflight(inflight, fd) => (inflight.to_bytes().to_vec(), vec![fd]),
            Self::DeviceState { error, fd } => {
                let flag = if fd.is_none() { STATE_NO_FD } else { 0 };
                let value = u64::from(error) | flag;
                (value.to_le_bytes().to_vec(), fd.into_iter().collect())
            }
        };
        Frame::reply(code, payload).with_fds(fds)
    }

    /// Reads the reply to the request with this code.
    ///
    /// # Errors
    /// [`Error::NotTheReply`] for another message, errors as for requests otherwise.
    pub fn decode(code: u32, frame: Frame) -> Result<Self> {
        if !frame.reply || frame.code != code {
            return Err(Error::NotTheReply { expected: name(code), found: frame.code });
        }
        let body = Body::new(frame, name);
        match Code::try_from(code) {
            Ok(
                Code::GetFeatures
                | Code::GetProtocolFeatures
                | Code::GetQueueNum
                | Code::GetMaxMemSlots
                | Code::GetStatus
                | Code::CheckDeviceState,
            ) => body.value().map(Self::U64),
            Ok(Code::GetVringBase) => body.value().map(Self::VringState),
            Ok(Code::GetConfig) => config(&body),
            Ok(Code::GetInflightFd) => {
                let inflight = body.inflight()?;
                Ok(Self::Inflight(inflight, body.fd()?))
            }
            Ok(Code::SetDeviceStateFd) => device_state(body),
            Ok(Code::SetLogBase) => log_base(&body),
            _ => body.value().map(Self::Ack),
        }
    }
}

impl Config {
    fn to_bytes(&self) -> Vec<u8> {
        let size = u32::try_from(self.data.len()).unwrap_or(u32::MAX);
        let access = ConfigHeader { offset: self.offset, size, flags: self.flags };
        [&access.to_bytes()[..], &self.data].concat()
    }
}

/// Back-ends answer SET_LOG_BASE with its own payload, with a number, or with nothing at all.
fn log_base(body: &Body) -> Result<Reply> {
    if body.is_empty() {
        return Ok(Reply::Ack(0));
    }
    match body.value() {
        Ok(log) => Ok(Reply::Log(log)),
        Err(_) => body.value().map(Reply::Ack),
    }
}

fn config(body: &Body) -> Result<Reply> {
    if body.is_empty() {
        return Ok(Reply::ConfigRefused);
    }
    let (access, data) = body.value_and_rest::<ConfigHeader>()?;
    if data.len() != access.size as usize {
        return Err(body.size_error(ConfigHeader::SIZE.saturating_add(access.size as usize)));
    }
    let (offset, flags) = (access.offset, access.flags);
    Ok(Reply::Config(Config { offset, flags, data: data.to_vec() }))
}

fn device_state(mut body: Body) -> Result<Reply> {
    let value: u64 = body.value()?;
    let error = u8::try_from(value & STATE_ERROR_MASK).unwrap_or(u8::MAX);
    if error != 0 || value & STATE_NO_FD != 0 {
        return Ok(Reply::DeviceState { error, fd: None });
    }
    match body.optional_fd() {
        Some(fd) => Ok(Reply::DeviceState { error, fd: Some(fd) }),
        None => Err(body.value_error("bit 8 of the reply", 0_u64, "1 when no descriptor comes")),
    }
}
