//! An image that is described instead of opened: for simulations, whose engine brings its own disk.

use super::{Abilities, Alignment, BlockSizes, Image, Medium};

/// What an image is like that nobody opens.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// What it claims to be.
    pub medium: Medium,
    /// Its size, bytes.
    pub bytes: u64,
    /// Whether it may not be written.
    pub read_only: bool,
    /// Sizes of its blocks.
    pub sizes: BlockSizes,
    /// What direct I/O demands; None where I/O goes through the page cache.
    pub direct: Option<Alignment>,
    /// What it can do besides reading and writing.
    pub abilities: Abilities,
}

impl Image {
    /// An image with this description and no file: its lock is always to be had, and its size
    /// cannot be read again.
    pub fn described(description: Description) -> Self {
        let Description { medium, bytes, read_only, sizes, direct, abilities } = description;
        Image {
            path: "described".into(),
            medium,
            files: Vec::new(),
            bytes,
            read_only,
            sizes,
            direct,
            abilities,
        }
    }
}
