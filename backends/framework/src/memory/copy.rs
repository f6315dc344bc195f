//! Copying from one chain's memory to another's.

use super::Segment;

/// Copies all of `from` into `to`, from `offset` on; says how many bytes fitted.
pub(crate) fn copy(from: &[Segment], to: &[Segment], offset: usize) -> usize {
    let mut sources = from.iter();
    let mut source = sources.next();
    let (mut read, mut skip, mut done) = (0, offset, 0);
    for target in to {
        let mut at = skip;
        skip = skip.saturating_sub(target.len());
        while let Some(segment) = source
            && at < target.len()
        {
            let n = target.copy_from(at, segment, read);
            (at, read, done) = (at + n, read + n, done + n);
            if read >= segment.len() {
                (source, read) = (sources.next(), 0);
            }
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::memory::Mapping;

    /// Cuts a mapping into segments of these lengths.
    fn cut(mapping: &Mapping, lengths: &[usize]) -> Vec<Segment> {
        let starts = lengths.iter().scan(0, |at, len| Some(std::mem::replace(at, *at + len)));
        starts.zip(lengths).map(|(at, len)| mapping.lend(at, *len).unwrap()).collect()
    }

    proptest! {
        #[test]
        fn bytes_arrive_in_order_however_both_sides_are_cut(
            from in proptest::collection::vec(0..50_usize, 0..8),
            to in proptest::collection::vec(0..50_usize, 0..8),
            offset in 0..100_usize,
        ) {
            let (source, target) = (Mapping::owned(512).unwrap(), Mapping::owned(512).unwrap());
            let pattern: Vec<u8> = (0..=255).cycle().skip(1).take(512).collect();
            source.lend(0, 512).unwrap().write(0, &pattern);
            let n = copy(&cut(&source, &from), &cut(&target, &to), offset);
            let room = to.iter().sum::<usize>().saturating_sub(offset);
            prop_assert_eq!(n, room.min(from.iter().sum()));
            let mut found = vec![0; 512];
            target.lend(0, 512).unwrap().read(0, &mut found);
            let mut expected = vec![0; 512];
            expected[offset.min(400)..][..n].copy_from_slice(&pattern[..n]);
            prop_assert_eq!(found, expected);
        }
    }
}
