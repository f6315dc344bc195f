//! Daemons to which every lock is free, to show that a campaign misses it.
//!
//! A filter of system calls answers the request for a lock: it has succeeded, and nothing was done. So
//! it is the same program that is found out, but for the one call.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule,
};

use crate::error::{Error, Result};

/// From now on every lock on an open file is granted to the calling thread, and to what it starts.
///
/// # Errors
/// When there are no filters to be had.
pub(crate) fn every_lock_is_free() -> Result<()> {
    let failed = |error: seccompiler::Error| Error::System {
        action: "filter system calls",
        source: io::Error::other(error),
    };
    let filter = filter().map_err(|error| failed(error.into()))?;
    seccompiler::apply_filter(&filter).map_err(failed)
}

fn filter() -> std::result::Result<BpfProgram, BackendError> {
    let set_lock = u64::from(libc::F_OFD_SETLK.unsigned_abs());
    let asks = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, set_lock)?;
    let rules = BTreeMap::from([(libc::SYS_fcntl, vec![SeccompRule::new(vec![asks])?])]);
    let granted = SeccompAction::Errno(0);
    let architecture = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::Allow, granted, architecture)?.try_into()
}
