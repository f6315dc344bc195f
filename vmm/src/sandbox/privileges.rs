//! Giving up capabilities, and the ways to get new ones.

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

use super::Error;

/// Capability numbers are below this; the kernel says which of them it has.
const CAPABILITY_NUMBERS: u32 = 64;

/// Takes all capabilities from the calling thread. What was opened with their help stays usable.
pub(super) fn drop_all() -> Result<(), Error> {
    set_no_new_privs(true).map_err(|errno| Error::new("set no_new_privs", errno))?;
    shrink_bounding_set()
        .map_err(|errno| Error::new("shrink the set of possible capabilities", errno))?;
    clear_ambient_capability_set()
        .map_err(|errno| Error::new("clear the ambient capabilities", errno))?;
    let none = CapabilitySet::empty();
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    set_capabilities(None, none).map_err(|errno| Error::new("drop capabilities", errno))
}

/// Only a thread with `CAP_SETPCAP` can do this; for others there is nothing to gain by `execve` either.
fn shrink_bounding_set() -> rustix::io::Result<()> {
    for number in 0..CAPABILITY_NUMBERS {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            Ok(()) => {}
            // Not permitted, or beyond the kernel's last capability.
            Err(Errno::PERM | Errno::INVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
