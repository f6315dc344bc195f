//! Giving up capabilities, and the ways to get new ones.
//!
//! All of it concerns the calling thread and those that it starts, so it belongs before the first
//! worker.

use rustix::{
    io::Errno,
    thread::{
        CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
        remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
    },
};

use crate::error::{Error, Result};

/// Capability numbers are below this; the kernel says which of them it has.
const CAPABILITY_NUMBERS: u32 = 64;

/// Forbids that any program started from here gains privileges (`no_new_privs`).
///
/// # Errors
/// [`Error::Confine`], on kernels before 3.5.
pub fn forbid_new_privileges() -> Result<()> {
    set_no_new_privs(true).map_err(|errno| confine_error("set no_new_privs", errno))
}

/// Gives up all capabilities but those in `keep`, and takes them out of the bounding and ambient sets.
/// Returns what is left, which is less than `keep` if the process had less.
///
/// What was opened with a capability's help stays usable; only io_uring's registered memory counts
/// against `RLIMIT_MEMLOCK` from then on, unless `IPC_LOCK` is kept.
///
/// # Errors
/// [`Error::Confine`] with the step that failed.
pub fn drop_capabilities(keep: CapabilitySet) -> Result<CapabilitySet> {
    shrink_bounding_set(keep)
        .map_err(|errno| confine_error("shrink the set of possible capabilities", errno))?;
    match clear_ambient_capability_set() {
        // Kernels before 4.3 have no ambient set.
        Ok(()) | Err(Errno::INVAL) => {}
        Err(errno) => return Err(confine_error("clear the ambient capabilities", errno)),
    }
    let failed = |errno| confine_error("drop capabilities", errno);
    let now = capabilities(None).map_err(failed)?;
    let left = CapabilitySets {
        effective: now.effective & keep,
        permitted: now.permitted & keep,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, left).map_err(failed)?;
    Ok(left.effective)
}

/// Only a process with `CAP_SETPCAP` can do this; without it there is nothing to gain by `execve`
/// either once `no_new_privs` is set.
fn shrink_bounding_set(keep: CapabilitySet) -> rustix::io::Result<()> {
    for number in 0..CAPABILITY_NUMBERS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if keep.contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // Not permitted, or beyond the kernel's last capability.
            Err(Errno::PERM | Errno::INVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn confine_error(action: &'static str, errno: Errno) -> Error {
    Error::Confine { action, source: Box::new(errno) }
}

#[cfg(test)]
mod tests {
    use rustix::thread::no_new_privs;

    use super::*;

    /// In a thread of its own, because there is no way back.
    fn in_a_thread(test: impl FnOnce() + Send + 'static) {
        std::thread::spawn(test).join().unwrap();
    }

    #[test]
    fn nothing_is_left_unless_it_is_kept() {
        in_a_thread(|| {
            let before = capabilities(None).unwrap();
            let keep = CapabilitySet::IPC_LOCK;
            assert_eq!(drop_capabilities(keep).unwrap(), before.effective & keep);
            assert_eq!(drop_capabilities(CapabilitySet::empty()).unwrap(), CapabilitySet::empty());
            let after = capabilities(None).unwrap();
            assert!(after.permitted.is_empty() && after.inheritable.is_empty());
        });
    }

    #[test]
    fn new_privileges_are_forbidden() {
        in_a_thread(|| {
            forbid_new_privileges().unwrap();
            assert!(no_new_privs().unwrap());
        });
    }
}
