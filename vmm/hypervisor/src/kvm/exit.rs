//! What `struct kvm_run` says about an exit.
#![expect(
    unsafe_code,
    reason = "kvm_run is a union, and holds an offset to the data of port accesses"
)]

use kvm_bindings::{
    KVM_EXIT_FAIL_ENTRY, KVM_EXIT_HLT, KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_INTR, KVM_EXIT_IO,
    KVM_EXIT_IO_OUT, KVM_EXIT_IOAPIC_EOI, KVM_EXIT_MMIO, KVM_EXIT_SHUTDOWN, KVM_EXIT_SYSTEM_EVENT,
    KVM_INTERNAL_ERROR_EMULATION, KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES, kvm_run,
};

use crate::{Cause, Exit, GuestAddress};

/// Bytes that the data of one port access can have: KVM has a page for it.
const PORT_DATA: usize = 4096;

/// Why the guest cannot go on, if it cannot, and the bytes of the instruction, if KVM knows them.
pub(super) fn failure(run: &kvm_run) -> Option<(Cause, Vec<u8>)> {
    match run.exit_reason {
        KVM_EXIT_INTERNAL_ERROR => Some(internal_error(run)),
        KVM_EXIT_FAIL_ENTRY => {
            // SAFETY: the exit reason says that this is the union's active part.
            let entry = unsafe { run.__bindgen_anon_1.fail_entry };
            let reason = entry.hardware_entry_failure_reason;
            Some((Cause::Entry { reason, cpu: entry.cpu }, Vec::new()))
        }
        KVM_EXIT_IO
        | KVM_EXIT_MMIO
        | KVM_EXIT_HLT
        | KVM_EXIT_INTR
        | KVM_EXIT_SHUTDOWN
        | KVM_EXIT_SYSTEM_EVENT
        | KVM_EXIT_IOAPIC_EOI => None,
        reason => Some((Cause::Unexpected { reason }, Vec::new())),
    }
}

fn internal_error(run: &kvm_run) -> (Cause, Vec<u8>) {
    // SAFETY: the exit reason says that this is the union's active part.
    let internal = unsafe { run.__bindgen_anon_1.internal };
    let suberror = internal.suberror;
    let data = internal.data.iter().take(internal.ndata as usize).copied().collect();
    // Flags in the first word; then a byte that counts, and 15 bytes of instruction.
    let [flags, bytes @ ..] = &internal.data;
    let has_bytes = suberror == KVM_INTERNAL_ERROR_EMULATION
        && internal.ndata >= 3
        && flags & u64::from(KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) != 0;
    let mut instruction = Vec::new();
    if has_bytes {
        let mut bytes = bytes.iter().take(2).flat_map(|word| word.to_le_bytes());
        let count = usize::from(bytes.next().unwrap_or(0));
        instruction.extend(bytes.take(count));
    }
    (Cause::Internal { suberror, data }, instruction)
}

/// The exit, if it is one that the guest goes on after, or a triple fault.
pub(super) fn decode(run: &mut kvm_run) -> Exit<'_> {
    match run.exit_reason {
        KVM_EXIT_IO => port_access(run),
        KVM_EXIT_MMIO => {
            // SAFETY: the exit reason says that this is the union's active part.
            let mmio = unsafe { &mut run.__bindgen_anon_1.mmio };
            let at = GuestAddress(mmio.phys_addr);
            let len = (mmio.len as usize).min(mmio.data.len());
            let (data, _) = mmio.data.split_at_mut(len);
            if mmio.is_write == 0 {
                Exit::MmioRead { at, data }
            } else {
                Exit::MmioWrite { at, data }
            }
        }
        KVM_EXIT_HLT => Exit::Halt,
        KVM_EXIT_SHUTDOWN => Exit::TripleFault,
        KVM_EXIT_SYSTEM_EVENT => {
            // SAFETY: the exit reason says that this is the union's active part.
            let event = unsafe { run.__bindgen_anon_1.system_event };
            Exit::SystemEvent { kind: event.type_ }
        }
        KVM_EXIT_IOAPIC_EOI => {
            // SAFETY: the exit reason says that this is the union's active part.
            let eoi = unsafe { run.__bindgen_anon_1.eoi };
            Exit::Eoi { vector: eoi.vector }
        }
        _ => Exit::Interrupted,
    }
}

fn port_access(run: &mut kvm_run) -> Exit<'_> {
    // SAFETY: the exit reason says that this is the union's active part.
    let io = unsafe { run.__bindgen_anon_1.io };
    let (port, width) = (io.port, usize::from(io.size));
    let len = (io.count as usize).saturating_mul(width).min(PORT_DATA);
    let offset = usize::try_from(io.data_offset).unwrap_or(0);
    let at = std::ptr::from_mut(run).cast::<u8>().wrapping_add(offset);
    // SAFETY: KVM placed the data at this offset, on a page of its own after `kvm_run`, in the
    // mapping that `run` is the beginning of; it does not touch it until the next run, which needs
    // `run`'s exclusive borrow again. The length is KVM's, and no more than that page.
    let data = unsafe { std::slice::from_raw_parts_mut(at, len) };
    if u32::from(io.direction) == KVM_EXIT_IO_OUT {
        Exit::PortWrite { port, width, data }
    } else {
        Exit::PortRead { port, width, data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn internal(suberror: u32, words: &[u64]) -> kvm_run {
        let mut run = kvm_run { exit_reason: KVM_EXIT_INTERNAL_ERROR, ..Default::default() };
        // SAFETY: plain numbers, any value is valid.
        let part = unsafe { &mut run.__bindgen_anon_1.internal };
        (part.suberror, part.ndata) = (suberror, u32::try_from(words.len()).unwrap());
        part.data[..words.len()].copy_from_slice(words);
        run
    }

    #[test]
    fn an_emulation_failure_shows_the_instruction() {
        let run = internal(1, &[1, u64::from_le_bytes([3, 0x0f, 0xae, 0x2f, 9, 9, 9, 9]), 0]);
        let (cause, bytes) = failure(&run).unwrap();
        assert_eq!(bytes, [0x0f, 0xae, 0x2f]);
        assert!(matches!(cause, Cause::Internal { suberror: 1, .. }));
        let (_, without) = failure(&internal(1, &[0, 3, 0])).unwrap();
        assert!(without.is_empty());
    }

    #[test]
    fn a_count_beyond_the_instruction_is_no_panic() {
        let (_, bytes) = failure(&internal(1, &[1, 0xff, 0])).unwrap();
        assert_eq!(bytes.len(), 15);
        assert!(failure(&internal(3, &[0; 16])).is_some());
    }

    #[test]
    fn mmio_has_direction_and_length() {
        let mut run = kvm_run { exit_reason: KVM_EXIT_MMIO, ..Default::default() };
        // SAFETY: plain numbers, any value is valid.
        let mmio = unsafe { &mut run.__bindgen_anon_1.mmio };
        (mmio.phys_addr, mmio.len, mmio.is_write, mmio.data[0]) = (0x1000, 2, 1, 7);
        let Exit::MmioWrite { at: GuestAddress(0x1000), data: [7, 0] } = decode(&mut run) else {
            panic!("a write of two bytes");
        };
    }

    #[test]
    fn an_unknown_reason_is_reported() {
        let run = kvm_run { exit_reason: 999, ..Default::default() };
        assert_eq!(failure(&run).unwrap().0, Cause::Unexpected { reason: 999 });
    }
}
