//! How a machine's life ended: its last words, and the exit status that tells one end from another.

use std::fmt;
use std::process::ExitCode;

/// Why the machine is no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The guest switched itself off (ACPI S5), of its own accord or because its power button was pressed.
    PoweredOff,
    /// A vCPU met a fault while delivering a double fault: there was no handler left to run.
    TripleFault {
        /// The vCPU's index.
        vcpu: usize,
        /// Registers and instruction bytes, several lines.
        state: String,
    },
    /// KVM could not go on running the guest.
    Kvm {
        /// The vCPU's index.
        vcpu: usize,
        /// What KVM said, registers and instruction bytes, several lines.
        report: String,
    },
    /// The guest's kernel told pvpanic that it panicked.
    Panicked,
    /// A back-end is gone whose policy is to take the machine with it.
    DeviceLost {
        /// The device's name.
        device: String,
        /// What happened to it.
        reason: String,
    },
    /// Somebody had the machine stopped without the guest's help.
    Forced(Force),
    /// The VMM itself could not go on.
    Failed(String),
}

/// Who stopped a machine by force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    /// The guest did not switch itself off within the grace time after its power button was pressed.
    GraceOver,
    /// A signal came before the guest was started.
    NotStarted,
    /// A second signal came while the guest, or the machine with it, was shutting down.
    SecondSignal,
    /// `stop` on the control socket.
    Control,
    /// The escape sequence on the serial port's terminal.
    Terminal,
}

impl Outcome {
    /// The status the process exits with. 2 is a usage error, which is no outcome of a machine.
    #[must_use]
    pub fn status(&self) -> u8 {
        match self {
            Outcome::PoweredOff => 0,
            Outcome::Failed(_) => 1,
            Outcome::TripleFault { .. } => 3,
            Outcome::Kvm { .. } => 4,
            Outcome::Panicked => 5,
            Outcome::DeviceLost { .. } => 6,
            Outcome::Forced(_) => 7,
        }
    }

    /// [`status`](Self::status) as `main` returns it.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.status())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::PoweredOff => write!(f, "the guest switched itself off"),
            Outcome::TripleFault { vcpu, state } => write!(
                f,
                "triple fault on vcpu{vcpu}: the guest faulted and had no handler left; with \
                 --on-triple-fault reset it would be restarted\n{state}"
            ),
            Outcome::Kvm { vcpu, report } => write!(
                f,
                "KVM cannot go on with vcpu{vcpu}; `outrigger check` tells what KVM here is worth\n\
                 {report}"
            ),
            Outcome::Panicked => {
                write!(f, "the guest's kernel panicked; its last messages are on its console")
            }
            Outcome::DeviceLost { device, reason } => {
                write!(f, "{device} is lost, and its policy is to stop the machine: {reason}")
            }
            Outcome::Forced(force) => write!(f, "stopped by force: {force}"),
            Outcome::Failed(what) => write!(f, "{what}"),
        }
    }
}

impl fmt::Display for Force {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Force::GraceOver => {
                "the guest did not switch itself off within the grace time after its power button \
                 was pressed"
            }
            Force::NotStarted => "a signal came before the guest was started",
            Force::SecondSignal => "a second signal came while the machine was shutting down",
            Force::Control => "asked for on the control socket",
            Force::Terminal => "asked for at the terminal",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_end_has_a_status_of_its_own() {
        let mut statuses = vec![
            Outcome::PoweredOff.status(),
            Outcome::Failed(String::new()).status(),
            Outcome::TripleFault { vcpu: 0, state: String::new() }.status(),
            Outcome::Kvm { vcpu: 0, report: String::new() }.status(),
            Outcome::Panicked.status(),
            Outcome::DeviceLost { device: String::new(), reason: String::new() }.status(),
            Outcome::Forced(Force::Control).status(),
        ];
        statuses.push(2);
        statuses.sort_unstable();
        statuses.dedup();
        assert_eq!(statuses, [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn last_words_name_the_device_and_the_vcpu() {
        let lost = Outcome::DeviceLost { device: "disk0".into(), reason: "it died".into() };
        assert!(lost.to_string().contains("disk0") && lost.to_string().contains("it died"));
        let fault = Outcome::TripleFault { vcpu: 3, state: "rip 0x10".into() };
        assert!(fault.to_string().contains("vcpu3") && fault.to_string().contains("rip 0x10"));
    }
}
