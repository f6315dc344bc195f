//! How a request is cut into descriptors. A device must not care (virtio 1.4, 2.7.4.2).

use virtio_spec::block::RequestHeader;

use crate::Placement;

/// How a request is cut into descriptors and where those stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// Where the descriptors stand.
    pub placement: Placement,
    /// How it is cut.
    pub cut: Cut,
}

/// How a request is cut. Each piece is a buffer of its own somewhere in guest memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Cut {
    /// Header, data, status: as most drivers do.
    #[default]
    Usual,
    /// As few as can be: one piece that the device reads, one that it writes.
    Whole,
    /// Pieces of at most so many bytes each, across all boundaries.
    Every(usize),
    /// Pieces of these sizes, and one for what is left.
    At {
        /// Of what the device reads: header and data.
        readable: Vec<usize>,
        /// Of what the device writes: data and status.
        writable: Vec<usize>,
    },
}

impl Layout {
    /// Cut as usual, with this placement.
    #[must_use]
    pub fn placed(placement: Placement) -> Self {
        Self { placement, cut: Cut::Usual }
    }

    /// Cut like this, in the ring.
    #[must_use]
    pub fn cut(cut: Cut) -> Self {
        Self { placement: Placement::Direct, cut }
    }

    /// Sizes of the pieces of `len` readable bytes.
    pub(super) fn cut_readable(&self, len: usize) -> Vec<usize> {
        match &self.cut {
            Cut::Usual => pieces(len, &[RequestHeader::SIZE]),
            Cut::Whole => pieces(len, &[]),
            Cut::Every(size) => vec_of(len, *size),
            Cut::At { readable, .. } => pieces(len, readable),
        }
    }

    /// Sizes of the pieces of `len` writable bytes, the last of which is the status.
    pub(super) fn cut_writable(&self, len: usize) -> Vec<usize> {
        match &self.cut {
            Cut::Usual => pieces(len, &[len.saturating_sub(1)]),
            Cut::Whole => pieces(len, &[]),
            Cut::Every(size) => vec_of(len, *size),
            Cut::At { writable, .. } => pieces(len, writable),
        }
    }
}

/// Pieces of these sizes as far as `len` goes, then one for what is left.
fn pieces(len: usize, sizes: &[usize]) -> Vec<usize> {
    let mut left = len;
    let mut pieces = Vec::new();
    for &size in sizes {
        let size = size.min(left);
        left -= size;
        pieces.push(size);
    }
    pieces.push(left);
    pieces.retain(|&size| size > 0);
    pieces
}

/// Pieces of `size` bytes, the last one of what is left.
fn vec_of(len: usize, size: usize) -> Vec<usize> {
    let size = size.max(1);
    pieces(len, &vec![size; len / size])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_requests_have_header_data_and_status() {
        let layout = Layout::default();
        assert_eq!(layout.cut_readable(16 + 512), [16, 512]);
        assert_eq!(layout.cut_writable(513), [512, 1]);
        assert_eq!((layout.cut_readable(16), layout.cut_writable(1)), (vec![16], vec![1]));
    }

    #[test]
    fn cuts_go_across_boundaries() {
        assert_eq!(Layout::cut(Cut::Every(10)).cut_readable(32), [10, 10, 10, 2]);
        let at = Cut::At { readable: vec![3, 100], writable: vec![1] };
        assert_eq!(Layout::cut(at.clone()).cut_readable(40), [3, 37]);
        assert_eq!(Layout::cut(at).cut_writable(2), [1, 1]);
    }
}
