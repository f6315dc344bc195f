//! What a driver may put into a chain, for both kinds of rings (virtio 1.4, 2.7.4, 2.7.5, 2.8.5 to
//! 2.8.7), and what the observer remembers of it.

use super::clause::ring::*;
use super::violation::Findings;
use crate::features::{INDIRECT_DESC, Negotiated};
use crate::split::{DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_WRITE, DESC_SIZE};
use crate::{packed, split};

/// What counts of a descriptor, whichever ring it is in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element {
    pub(super) len: u32,
    pub(super) flags: u16,
}

impl Element {
    fn is(self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

impl From<&split::Descriptor> for Element {
    fn from(descriptor: &split::Descriptor) -> Self {
        Self { len: descriptor.len, flags: descriptor.flags }
    }
}

impl From<&packed::Descriptor> for Element {
    fn from(descriptor: &packed::Descriptor) -> Self {
        Self { len: descriptor.len, flags: descriptor.flags }
    }
}

/// A buffer that the device has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outstanding {
    /// Head (split) or buffer id (packed).
    pub(super) id: u16,
    /// Descriptors that it takes in the ring.
    pub(super) descriptors: u16,
    /// Bytes that the device may write.
    pub(super) writable: u64,
    /// The ring was certainly disabled when the driver made it available.
    pub(super) while_disabled: bool,
}

/// Judges a chain's elements and those of its table; returns the bytes that the device may write.
pub(super) fn judge(
    elements: &[Element],
    table: &[Element],
    size: u16,
    negotiated: Negotiated,
    findings: &mut Findings,
) -> u64 {
    judge_indirection(elements, table, negotiated, findings);
    let buffers = elements.iter().filter(|e| !e.is(DESC_F_INDIRECT)).chain(table);
    let (mut bytes, mut writable, mut count, mut misplaced) = (0_u64, 0_u64, 0_usize, false);
    for element in buffers {
        count += 1;
        bytes += u64::from(element.len);
        if element.is(DESC_F_WRITE) {
            writable += u64::from(element.len);
        } else {
            misplaced |= writable > 0;
        }
    }
    findings.check(!misplaced, &WRITABLE_LAST, || {
        "a buffer to read comes after one to write".to_owned()
    });
    findings.check(bytes <= 1 << 32, &CHAIN_BYTES, || format!("{bytes} bytes"));
    findings.check(count <= usize::from(size), &CHAIN_LENGTH, || {
        format!("{count} descriptors in a queue of {size}")
    });
    writable
}

fn judge_indirection(
    elements: &[Element],
    table: &[Element],
    negotiated: Negotiated,
    findings: &mut Findings,
) {
    let Some(indirect) = elements.iter().find(|e| e.is(DESC_F_INDIRECT)) else { return };
    findings.check(negotiated.has(INDIRECT_DESC), &INDIRECT_NEGOTIATED, || {
        "a descriptor refers to a table".to_owned()
    });
    findings.check(!indirect.is(DESC_F_NEXT), &INDIRECT_ENDS_CHAIN, || {
        "a descriptor has both INDIRECT and NEXT".to_owned()
    });
    findings.check(!table.iter().any(|e| e.is(DESC_F_INDIRECT)), &INDIRECT_NOT_NESTED, || {
        "a table's descriptor refers to a table".to_owned()
    });
    let bytes = indirect.len as usize;
    let whole = bytes > 0 && bytes.is_multiple_of(DESC_SIZE);
    findings.check(whole, &INDIRECT_WHOLE, || format!("a table has {} bytes", indirect.len));
}

/// Judges a used length against the buffer's room.
pub(super) fn judge_used_len(buffer: &Outstanding, len: u32, findings: &mut Findings) {
    findings.check(u64::from(len) <= buffer.writable, &USED_LEN, || {
        format!(
            "buffer {} was used with {len} bytes where {} can be written",
            buffer.id, buffer.writable
        )
    });
}
