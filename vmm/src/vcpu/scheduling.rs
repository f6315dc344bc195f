//! Where and how urgently the host runs a vCPU thread.
#![expect(unsafe_code, reason = "sched_setscheduler has no safe wrapper among the dependencies")]

use std::io;

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::config::cpus::{CpuList, Cpus, Scheduling};

/// How the host is to run one vCPU's thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Host CPUs it may run on; all that the process may use if there is none.
    pub cpus: Option<CpuList>,
    /// Its policy and priority.
    pub scheduling: Scheduling,
}

/// Why a thread cannot be scheduled as asked.
#[derive(Debug, thiserror::Error)]
pub enum SchedulingError {
    /// The host has no such CPUs, or this process may not use them.
    #[error(
        "--cpu-affinity: a vCPU cannot run on host CPUs {cpus}: {source}; name some that are online \
         and in this process's cpuset"
    )]
    Affinity {
        /// The CPUs asked for.
        cpus: CpuList,
        /// What the kernel said.
        source: io::Error,
    },
    /// Not allowed.
    #[error(
        "--cpu-sched: a vCPU cannot run under {scheduling}: {source}; real time takes CAP_SYS_NICE or \
         a large enough `ulimit -r`"
    )]
    Policy {
        /// What was asked for.
        scheduling: Scheduling,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Placement {
    /// One for each vCPU.
    #[must_use]
    pub fn of(cpus: &Cpus) -> Vec<Self> {
        let place =
            |vcpu| Self { cpus: cpus.affinity.get(&vcpu).cloned(), scheduling: cpus.scheduling };
        (0..u32::from(cpus.count)).map(place).collect()
    }

    /// Applies it to the calling thread.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn apply(&self) -> Result<(), SchedulingError> {
        if let Some(cpus) = &self.cpus {
            pin(cpus.as_slice())
                .map_err(|source| SchedulingError::Affinity { cpus: cpus.clone(), source })?;
        }
        let scheduling = self.scheduling;
        let scheduled = match scheduling {
            Scheduling::Other => Ok(()),
            Scheduling::Batch => set_policy(libc::SCHED_BATCH, 0),
            Scheduling::Fifo(priority) => set_policy(libc::SCHED_FIFO, priority),
            Scheduling::RoundRobin(priority) => set_policy(libc::SCHED_RR, priority),
        };
        scheduled.map_err(|source| SchedulingError::Policy { scheduling, source })
    }
}

fn pin(cpus: &[u32]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        match usize::try_from(cpu) {
            Ok(cpu) if cpu < CpuSet::MAX_CPU => set.set(cpu),
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        }
    }
    Ok(sched_setaffinity(None, &set)?)
}

fn set_policy(policy: libc::c_int, priority: u8) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: priority.into() };
    // SAFETY: the parameters outlive the call, which only reads them; 0 is the calling thread.
    match unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use hypervisor::Topology;
    use rustix::thread::sched_getaffinity;

    use super::*;

    fn placement(cpus: &str) -> Placement {
        Placement { cpus: Some(cpus.parse().unwrap()), scheduling: Scheduling::Other }
    }

    #[test]
    fn a_pinned_thread_runs_where_it_is_told() {
        let pinned = thread::spawn(|| {
            let allowed = sched_getaffinity(None).unwrap();
            let cpu = (0..CpuSet::MAX_CPU).find(|&cpu| allowed.is_set(cpu)).unwrap();
            placement(&cpu.to_string()).apply().unwrap();
            let now = sched_getaffinity(None).unwrap();
            assert_eq!((now.count(), now.is_set(cpu)), (1, true));
        });
        pinned.join().unwrap();
    }

    #[test]
    fn cpus_that_are_not_there_are_refused_by_name() {
        let error = placement("8000").apply().unwrap_err();
        assert!(error.to_string().contains("8000"), "{error}");
    }

    #[test]
    fn each_vcpu_has_its_own_place() {
        let affinity = [(1, "3".parse().unwrap())].into_iter().collect();
        let (topology, scheduling) = (Topology::flat(2), Scheduling::Batch);
        let cpus = Cpus { count: 2, topology, affinity, scheduling };
        let [first, second] = Placement::of(&cpus).try_into().unwrap();
        assert_eq!((first.cpus, first.scheduling), (None, Scheduling::Batch));
        assert_eq!(second.cpus.unwrap().to_string(), "3");
    }
}
