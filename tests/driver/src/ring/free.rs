//! Which descriptors of a split ring's table are free.

use crate::{Error, Result};

/// Free descriptors of the table.
#[derive(Debug)]
pub(super) enum Free {
    /// Any of these; the last one freed is the first used again, so that chains get scattered.
    Scattered(Vec<u16>),
    /// `count` ones from `next` on (2.7.9: in order of the table, wrapping at its end).
    Ascending { next: u16, count: u16 },
}

impl Free {
    pub(super) fn new(size: u16, in_order: bool) -> Self {
        if in_order {
            Self::Ascending { next: 0, count: size }
        } else {
            Self::Scattered((0..size).rev().collect())
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Scattered(indices) => indices.len(),
            Self::Ascending { count, .. } => usize::from(*count),
        }
    }

    pub(super) fn take(&mut self, needed: usize, size: u16) -> Result<Vec<u16>> {
        let free = self.len();
        if needed > free {
            return Err(Error::QueueFull { needed, free });
        }
        Ok(match self {
            Self::Scattered(indices) => {
                let mut taken = indices.split_off(free - needed);
                taken.reverse();
                taken
            }
            Self::Ascending { next, count } => (0..needed)
                .map(|_| {
                    let index = *next;
                    *next = (index + 1) % size;
                    *count -= 1;
                    index
                })
                .collect(),
        })
    }

    pub(super) fn give_back(&mut self, freed: Vec<u16>) {
        match self {
            Self::Scattered(indices) => indices.extend(freed),
            Self::Ascending { count, .. } => {
                *count += u16::try_from(freed.len()).unwrap_or_default();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_ascend_and_wrap_in_order() {
        let mut free = Free::new(4, true);
        assert_eq!(free.take(3, 4).unwrap(), [0, 1, 2]);
        free.give_back(vec![0, 1, 2]);
        assert_eq!(free.take(3, 4).unwrap(), [3, 0, 1]);
        assert!(matches!(free.take(2, 4), Err(Error::QueueFull { needed: 2, free: 1 })));
    }

    #[test]
    fn out_of_order_the_last_freed_is_the_first_taken() {
        let mut free = Free::new(4, false);
        assert_eq!(free.take(3, 4).unwrap(), [0, 1, 2]);
        free.give_back(vec![1]);
        assert_eq!(free.take(2, 4).unwrap(), [1, 3]);
        assert_eq!(free.len(), 0);
    }
}
