//! From a message to a [`Request`].

use std::os::fd::OwnedFd;

use virtio_spec::vhost_user::{
    ConfigHeader, FrontendRequest as Code, Log, MemoryRegion, MemoryTableHeader,
    SingleMemoryRegion, TransferDeviceState, TransferDirection, VringAddr, VringFd, VringState,
};

use super::{Request, name};
use crate::body::Body;
use crate::payload::MAX_REGIONS;
use crate::{Frame, Result};

pub(super) fn request(frame: Frame) -> Result<Request> {
    let Ok(code) = Code::try_from(frame.code) else {
        return Ok(Request::Unknown { code: frame.code });
    };
    let body = Body::new(frame, name);
    match code {
        Code::GetFeatures => body.nothing().map(|()| Request::GetFeatures),
        Code::SetFeatures => number(&body).map(Request::SetFeatures),
        Code::SetOwner => body.nothing().map(|()| Request::SetOwner),
        Code::ResetOwner => body.nothing().map(|()| Request::ResetOwner),
        Code::GetProtocolFeatures => body.nothing().map(|()| Request::GetProtocolFeatures),
        Code::SetProtocolFeatures => number(&body).map(Request::SetProtocolFeatures),
        Code::GetQueueNum => body.nothing().map(|()| Request::GetQueueNum),
        Code::ResetDevice => body.nothing().map(|()| Request::ResetDevice),
        Code::SetStatus => status(&body),
        Code::GetStatus => body.nothing().map(|()| Request::GetStatus),
        Code::SetBackendReqFd => body.fd().map(Request::SetBackendReqFd),
        _ => memory_request(code, body),
    }
}

fn memory_request(code: Code, body: Body) -> Result<Request> {
    match code {
        Code::SetMemTable => memory_table(body),
        Code::GetMaxMemSlots => body.nothing().map(|()| Request::GetMaxMemSlots),
        Code::AddMemReg => {
            let region = single_region(&body)?;
            Ok(Request::AddMemReg(region, body.fd()?))
        }
        // Older front-ends send a descriptor with it, which is closed here.
        Code::RemMemReg => single_region(&body).map(Request::RemMemReg),
        Code::SetLogBase => log_base(body),
        Code::SetLogFd => body.fd().map(Request::SetLogFd),
        Code::GetInflightFd => body.inflight().map(Request::GetInflightFd),
        Code::SetInflightFd => {
            let inflight = body.inflight()?;
            Ok(Request::SetInflightFd(inflight, body.fd()?))
        }
        _ => ring_request(code, body),
    }
}

fn ring_request(code: Code, body: Body) -> Result<Request> {
    match code {
        Code::SetVringNum => state(&body).map(Request::SetVringNum),
        Code::SetVringBase => state(&body).map(Request::SetVringBase),
        Code::GetVringBase => {
            state(&body).map(|state| Request::GetVringBase { index: state.index })
        }
        Code::SetVringAddr => body.value::<VringAddr>().map(Request::SetVringAddr),
        Code::SetVringEnable => enable(&body),
        Code::VringKick => state(&body).map(|state| Request::VringKick { index: state.index }),
        Code::SetVringKick => {
            let (index, fd) = ring_fd(body)?;
            Ok(Request::SetVringKick { index, fd })
        }
        Code::SetVringCall => {
            let (index, fd) = ring_fd(body)?;
            Ok(Request::SetVringCall { index, fd })
        }
        Code::SetVringErr => {
            let (index, fd) = ring_fd(body)?;
            Ok(Request::SetVringErr { index, fd })
        }
        _ => device_request(code, body),
    }
}

fn device_request(code: Code, body: Body) -> Result<Request> {
    match code {
        Code::GetConfig => get_config(&body),
        Code::SetConfig => set_config(&body),
        Code::SendRarp => {
            let [a, b, c, d, e, f, _, _] = number(&body)?.to_le_bytes();
            Ok(Request::SendRarp([a, b, c, d, e, f]))
        }
        Code::NetSetMtu => number(&body).map(Request::NetSetMtu),
        Code::SetDeviceStateFd => device_state(body),
        Code::CheckDeviceState => body.nothing().map(|()| Request::CheckDeviceState),
        _ => Ok(Request::Unknown { code: code.number() }),
    }
}

fn number(body: &Body) -> Result<u64> {
    body.value()
}

fn state(body: &Body) -> Result<VringState> {
    body.value()
}

fn status(body: &Body) -> Result<Request> {
    let value = number(body)?;
    u8::try_from(value)
        .map(Request::SetStatus)
        .map_err(|_| body.value_error("the status", value, "it has 8 bits"))
}

fn enable(body: &Body) -> Result<Request> {
    let VringState { index, num } = state(body)?;
    match num {
        0 | 1 => Ok(Request::SetVringEnable { index, enable: num == 1 }),
        _ => Err(body.value_error("num", num, "0 disables, 1 enables")),
    }
}

fn ring_fd(mut body: Body) -> Result<(u8, Option<OwnedFd>)> {
    let value = VringFd::from_bits_retain(number(&body)?);
    if !(VringFd::INDEX_MASK | VringFd::NO_FD).contains(value) {
        let expected = "only bits 0 to 8 have a meaning";
        return Err(body.value_error("the payload", value.bits(), expected));
    }
    if value.contains(VringFd::NO_FD) {
        return Ok((value.index(), None));
    }
    match body.optional_fd() {
        Some(fd) => Ok((value.index(), Some(fd))),
        None => Err(body.value_error("bit 8 of the payload", 0_u64, "1 when no descriptor comes")),
    }
}

fn single_region(body: &Body) -> Result<MemoryRegion> {
    body.value::<SingleMemoryRegion>().map(|single| single.region)
}

fn memory_table(body: Body) -> Result<Request> {
    let (header, entries) = body.value_and_rest::<MemoryTableHeader>()?;
    let count = match usize::try_from(header.num_regions) {
        Ok(count) if count <= MAX_REGIONS => count,
        _ => {
            let found = header.num_regions;
            return Err(body.value_error("the number of regions", found, "32 are the most"));
        }
    };
    // Front-ends may send the whole table even if only its first entries are in use.
    let regions: Vec<_> = entries
        .chunks_exact(MemoryRegion::SIZE)
        .take(count)
        .filter_map(MemoryRegion::from_prefix)
        .collect();
    if regions.len() < count {
        return Err(body.size_error(MemoryTableHeader::SIZE + count * MemoryRegion::SIZE));
    }
    let fds = body.fds(count)?;
    Ok(Request::SetMemTable(regions.into_iter().zip(fds).collect()))
}

fn log_base(mut body: Body) -> Result<Request> {
    let log = body.value::<Log>()?;
    Ok(Request::SetLogBase(log, body.optional_fd()))
}

fn get_config(body: &Body) -> Result<Request> {
    let (access, room) = body.value_and_rest::<ConfigHeader>()?;
    // Some front-ends leave out the room for the data.
    if room.is_empty() || room.len() == access.size as usize {
        return Ok(Request::GetConfig(access));
    }
    Err(body.size_error(ConfigHeader::SIZE.saturating_add(access.size as usize)))
}

fn set_config(body: &Body) -> Result<Request> {
    let (access, data) = body.value_and_rest::<ConfigHeader>()?;
    if data.len() != access.size as usize {
        return Err(body.size_error(ConfigHeader::SIZE.saturating_add(access.size as usize)));
    }
    Ok(Request::SetConfig { access, data: data.to_vec() })
}

fn device_state(body: Body) -> Result<Request> {
    let TransferDeviceState { direction, phase } = body.value()?;
    let direction = TransferDirection::from_u32(direction)
        .ok_or_else(|| body.value_error("the direction", direction, "0 saves, 1 loads"))?;
    Ok(Request::SetDeviceStateFd { direction, phase, fd: body.fd()? })
}
