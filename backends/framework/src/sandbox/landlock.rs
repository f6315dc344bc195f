//! Landlock: after the set-up no path leads anywhere, except into directories that were named.

use std::path::PathBuf;

use ::landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, PathFd,
    RestrictSelfAttr, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, Scope, make_bitflags,
};

use super::LandlockState;
use crate::error::{Error, Result};

/// The newest version of the interface that is asked for; older kernels do what they can.
const NEWEST: ABI = ABI::V10;

/// What may be done with the files in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileAccess {
    /// Open them for reading.
    Read,
    /// Create them, open them for reading and writing.
    Write,
    /// Remove them, as a socket file at the end.
    Remove,
    /// Connect to sockets.
    Connect,
}

impl FileAccess {
    fn rights(self) -> BitFlags<AccessFs> {
        match self {
            Self::Read => make_bitflags!(AccessFs::{ReadFile | ReadDir}),
            Self::Write => {
                make_bitflags!(AccessFs::{ReadFile | ReadDir | WriteFile | MakeReg | Truncate})
            }
            Self::Remove => AccessFs::RemoveFile.into(),
            Self::Connect => AccessFs::ResolveUnix.into(),
        }
    }
}

/// Takes all rights to files, TCP and UDP ports, other processes and abstract sockets from this process,
/// as far as the kernel can, but those to `paths`. What is open stays usable.
pub(super) fn restrict(paths: &[(PathBuf, FileAccess)]) -> Result<LandlockState> {
    let failed = |error: RulesetError| Error::Confine {
        action: "restrict file access (Landlock)",
        source: Box::new(error),
    };
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(NEWEST)))
        .and_then(|rules| rules.scope(Scope::from_all(NEWEST)))
        .and_then(Ruleset::create)
        .and_then(|rules| rules.all_threads(true))
        .map_err(failed)?;
    for (path, access) in paths {
        let directory = PathFd::new(path)
            .map_err(|error| Error::ConfinedPath { path: path.clone(), source: Box::new(error) })?;
        let rule = PathBeneath::new(directory, access.rights());
        rules = rules.add_rule(rule).map_err(failed)?;
    }
    let status = rules.restrict_self().map_err(failed)?;
    Ok(match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => LandlockState::Abi(effective_abi as i32),
        _ => LandlockState::Unavailable,
    })
}
