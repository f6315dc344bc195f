//! What KVM on this machine is worth, found by running a guest, not by looking for a file.

use std::fmt;
use std::time::Duration;

use hypervisor::Error;
use hypervisor::kvm::Kvm;

use crate::probe::{self, ProbeError};

/// Above this, an instruction of the probe was not executed by the CPU. A native loop takes about a
/// nanosecond an iteration; an emulated one hundreds.
const NATIVE_AT_MOST: Duration = Duration::from_nanos(30);

/// What was found.
#[derive(Debug)]
pub enum Finding {
    /// Kernels run at the CPU's speed.
    Native {
        /// How long an iteration of an empty loop takes.
        iteration: Duration,
    },
    /// Kernels run, instruction by instruction, in software.
    Emulated {
        /// How long an iteration of an empty loop takes.
        iteration: Duration,
    },
    /// There is no KVM.
    Missing,
    /// There is one, but not for us.
    Forbidden,
    /// It is there and does not work.
    Broken(ProbeError),
}

impl Finding {
    /// Whether virtual machines are worth starting.
    pub fn is_native(&self) -> bool {
        matches!(self, Finding::Native { .. })
    }
}

/// Runs the experiment; it takes some milliseconds.
pub fn run() -> Finding {
    let kvm = match Kvm::open() {
        Ok(kvm) => kvm,
        Err(Error::Missing) => return Finding::Missing,
        Err(Error::Forbidden) => return Finding::Forbidden,
        Err(error) => return Finding::Broken(error.into()),
    };
    match probe::time_an_iteration(&kvm) {
        Ok(iteration) if iteration <= NATIVE_AT_MOST => Finding::Native { iteration },
        Ok(iteration) => Finding::Emulated { iteration },
        Err(error) => Finding::Broken(error),
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Native { iteration } => write!(
                f,
                "KVM runs kernels natively here ({:.1} ns for an iteration of an empty loop).",
                iteration.as_secs_f64() * 1e9
            ),
            Finding::Emulated { iteration } => write!(
                f,
                "KVM is here, but it emulates kernels ({:.0} ns for an iteration of an empty loop, \
                 where a CPU takes about one).\nStock kernels are very slow under it, and most \
                 fail. Use a machine whose CPU virtualizes, or one with nested virtualization \
                 switched on.",
                iteration.as_secs_f64() * 1e9
            ),
            Finding::Missing => write!(
                f,
                "There is no /dev/kvm here.\nOn a machine of your own, switch virtualization on in \
                 the firmware and load kvm_intel or kvm_amd; in a virtual machine, ask for nested \
                 virtualization; in a container, pass --device=/dev/kvm."
            ),
            Finding::Forbidden => write!(
                f,
                "/dev/kvm is not open to this user.\nJoin its group (usually `sudo adduser $USER \
                 kvm`) and log in again."
            ),
            Finding::Broken(error) => {
                write!(f, "KVM is here, but the probe guest did not run: {error}.")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finding_says_what_to_do_next() {
        let slow = Finding::Emulated { iteration: Duration::from_nanos(500) };
        assert!(slow.to_string().contains("500 ns") && slow.to_string().contains("nested"));
        assert!(Finding::Missing.to_string().contains("kvm_intel"));
        assert!(Finding::Forbidden.to_string().contains("adduser"));
    }

    #[test]
    fn only_native_kvm_is_good_enough() {
        assert!(Finding::Native { iteration: Duration::from_nanos(1) }.is_native());
        assert!(!Finding::Emulated { iteration: Duration::from_nanos(500) }.is_native());
        assert!(!Finding::Missing.is_native());
    }

    /// Whatever this machine has: the experiment comes to an end and to a finding.
    #[test]
    fn the_experiment_ends() {
        let finding = run();
        assert_eq!(matches!(finding, Finding::Missing), !std::path::Path::new("/dev/kvm").exists());
    }
}
