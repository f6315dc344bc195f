//! Model-specific registers: what firmware would have set, and saving and restoring all of them.

use kvm_bindings::{KVM_MAX_MSR_ENTRIES, Msrs, kvm_msr_entry};
use kvm_ioctls::VcpuFd;

use crate::{Error, Result};

const TSC: u32 = 0x10;
const MISC_ENABLE: u32 = 0x1a0;
const MTRR_DEFAULT_TYPE: u32 = 0x2ff;

/// Fast string instructions (Intel SDM 4, table 2-2).
const FAST_STRINGS: u64 = 1;
/// MTRRs on, all memory write-back (Intel SDM 3, 12.11.2.1).
const WRITE_BACK: u64 = 1 << 11 | 6;

/// Sets what firmware sets before it starts a kernel.
pub(super) fn set_as_firmware_does(fd: &VcpuFd) -> Result<()> {
    let misc = read(fd, &[MISC_ENABLE])?.first().map_or(0, |entry| entry.data);
    write(fd, &[entry(MISC_ENABLE, misc | FAST_STRINGS), entry(MTRR_DEFAULT_TYPE, WRITE_BACK)])
}

fn entry(index: u32, data: u64) -> kvm_msr_entry {
    kvm_msr_entry { index, data, ..Default::default() }
}

/// Reads registers, leaving out those the vCPU does not have.
pub(super) fn read(fd: &VcpuFd, indices: &[u32]) -> Result<Vec<kvm_msr_entry>> {
    let mut values = Vec::with_capacity(indices.len());
    each_run(indices.len(), |from| {
        let rest = indices.iter().skip(from).map(|&index| entry(index, 0)).collect::<Vec<_>>();
        let mut msrs = table(&rest)?;
        let count = fd.get_msrs(&mut msrs).map_err(Error::kvm("reading a vCPU's MSRs"))?;
        values.extend(msrs.as_slice().iter().take(count));
        Ok(count)
    })?;
    Ok(values)
}

/// Writes registers, leaving out those the vCPU does not take.
pub(super) fn write(fd: &VcpuFd, entries: &[kvm_msr_entry]) -> Result<()> {
    each_run(entries.len(), |from| {
        let msrs = table(entries.get(from..).unwrap_or_default())?;
        fd.set_msrs(&msrs).map_err(Error::kvm("setting a vCPU's MSRs"))
    })
}

/// Whether a register goes back to its value at power-on when the guest is reset. Time goes on.
pub(super) fn is_reset(index: u32) -> bool {
    index != TSC
}

/// KVM takes a limited number of registers at once, and stops at the first it refuses; that one is
/// skipped, and the rest is tried again. At most as many attempts as there are registers.
fn each_run(len: usize, mut attempt: impl FnMut(usize) -> Result<usize>) -> Result<()> {
    let mut from = 0;
    while from < len {
        let asked = (len - from).min(KVM_MAX_MSR_ENTRIES);
        let count = attempt(from)?;
        from += if count < asked { count + 1 } else { asked };
    }
    Ok(())
}

fn table(entries: &[kvm_msr_entry]) -> Result<Msrs> {
    let max = entries.len().min(KVM_MAX_MSR_ENTRIES);
    let too_many = |_| Error::Kvm {
        action: "naming a vCPU's MSRs",
        source: std::io::ErrorKind::InvalidInput.into(),
    };
    Msrs::from_entries(entries.get(..max).unwrap_or_default()).map_err(too_many)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_register_is_skipped() {
        let refused = [2, 3, 7];
        let mut tried = Vec::new();
        each_run(9, |from| {
            let count = (from..9).take_while(|at| !refused.contains(at)).count();
            tried.extend(from..from + count);
            Ok(count)
        })
        .unwrap();
        assert_eq!(tried, [0, 1, 4, 5, 6, 8]);
    }

    #[test]
    fn no_register_is_lost_between_two_tables() {
        let len = 2 * KVM_MAX_MSR_ENTRIES + 1;
        let mut tried = Vec::new();
        each_run(len, |from| {
            let count = (len - from).min(KVM_MAX_MSR_ENTRIES);
            tried.extend(from..from + count);
            Ok(count)
        })
        .unwrap();
        assert_eq!(tried, (0..len).collect::<Vec<_>>());
    }

    #[test]
    fn the_time_stamp_counter_goes_on() {
        assert!(!is_reset(TSC) && is_reset(MISC_ENABLE));
    }
}
