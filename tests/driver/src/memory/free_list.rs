//! Which parts of a region are free: first fit, neighbours merged.

use std::collections::BTreeMap;

/// Free ranges by their first address, never touching each other.
#[derive(Debug)]
pub(super) struct FreeList(BTreeMap<u64, u64>);

impl FreeList {
    /// All of a range is free.
    pub(super) fn new(addr: u64, len: u64) -> Self {
        Self(BTreeMap::from([(addr, len)]))
    }

    /// Takes `len` bytes at a multiple of `align`.
    pub(super) fn take(&mut self, len: u64, align: u64) -> Option<u64> {
        let (start, size, addr) = self.0.iter().find_map(|(&start, &size)| {
            let addr = start.checked_next_multiple_of(align.max(1))?;
            let end = addr.checked_add(len)?;
            (end <= start + size).then_some((start, size, addr))
        })?;
        self.0.remove(&start);
        self.keep(start, addr - start);
        self.keep(addr + len, start + size - (addr + len));
        Some(addr)
    }

    /// Gives back what was taken.
    pub(super) fn give_back(&mut self, addr: u64, len: u64) {
        let (mut start, mut size) = (addr, len);
        if let Some((&before, &len)) = self.0.range(..addr).next_back()
            && before + len == addr
        {
            self.0.remove(&before);
            start = before;
            size += len;
        }
        if let Some(after) = self.0.remove(&(addr + len)) {
            size += after;
        }
        self.keep(start, size);
    }

    fn keep(&mut self, addr: u64, len: u64) {
        if len > 0 {
            self.0.insert(addr, len);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_in_any_order_becomes_one_range_again() {
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
            let mut free = FreeList::new(0x1000, 0x1000);
            let taken: Vec<_> = (0..3).map(|_| free.take(100, 16).unwrap()).collect();
            for index in order {
                free.give_back(taken[index], 100);
            }
            assert_eq!(free.0, BTreeMap::from([(0x1000, 0x1000)]), "{order:?}");
        }
    }

    #[test]
    fn alignment_is_kept_and_exhaustion_noticed() {
        let mut free = FreeList::new(0x10, 0x1000);
        assert_eq!(free.take(1, 1), Some(0x10));
        assert_eq!(free.take(0x800, 0x800), Some(0x800));
        assert_eq!(free.take(0x800, 1), None);
    }
}
