//! Why the index or the sources cannot be read.

use std::io;
use std::path::PathBuf;

/// Why the index or the sources cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is missing or not readable.
    #[error("cannot read {path}: is this the workspace's top folder?")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of clauses, or a manifest, is not what it should be.
    #[error("{path} is not as it should be; compare it with its neighbours")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
}
