//! Landlock: no path leads anywhere any more, except into directories that were named.

use std::path::Path;

use ::landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, Scope,
};

use super::Error;

/// The newest version of the interface that is asked for; older kernels do what they can.
const NEWEST: ABI = ABI::V10;

/// What may be done in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Right {
    /// Remove files, as that of a socket at the end.
    Remove,
    /// Connect to sockets.
    Connect,
}

impl Right {
    fn access(self) -> BitFlags<AccessFs> {
        match self {
            Self::Remove => AccessFs::RemoveFile.into(),
            Self::Connect => AccessFs::ResolveUnix.into(),
        }
    }
}

/// Takes all rights to files, ports and abstract sockets from the calling thread, as far as the kernel
/// can, but these. What is open stays usable. Returns the version of the interface; 0 if there is none.
///
/// Signals stay as they are: older kernels would take those from one thread to another for forbidden, and
/// that is how vCPUs are interrupted.
pub(super) fn restrict(rights: &[(&Path, Right)]) -> Result<i32, Error> {
    let failed = |source| Error::new("restrict access to files (Landlock)", source);
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(NEWEST)))
        .and_then(|rules| rules.scope(Scope::AbstractUnixSocket))
        .and_then(Ruleset::create)
        .map_err(failed)?;
    for (path, right) in rights {
        let directory = PathFd::new(path)
            .map_err(|source| Error::new("reach the directory of a socket (Landlock)", source))?;
        rules = rules.add_rule(PathBeneath::new(directory, right.access())).map_err(failed)?;
    }
    let status = rules.restrict_self().map_err(failed)?;
    Ok(match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => effective_abi as i32,
        _ => 0,
    })
}
