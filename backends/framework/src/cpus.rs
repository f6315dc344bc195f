//! CPU lists such as `0,2-3`, and pinning threads to them.

use std::{fmt, io, str::FromStr};

use rustix::thread::{CpuSet, sched_setaffinity};

use crate::error::{Error, Result};

/// The CPUs that threads may be pinned to, in the order given: the first worker gets the first.
///
/// Never empty; each CPU is named once and is below [`CpuSet::MAX_CPU`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuList(Vec<usize>);

impl CpuList {
    /// The CPU of worker `index`; workers beyond the list start over at its beginning.
    #[must_use]
    pub fn for_worker(&self, index: usize) -> usize {
        // Never empty, so the remainder is defined and the element there.
        index.checked_rem(self.0.len()).and_then(|at| self.0.get(at)).copied().unwrap_or(0)
    }

    /// The CPUs in the order given.
    #[must_use]
    pub fn as_slice(&self) -> &[usize] {
        &self.0
    }
}

impl FromStr for CpuList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (parse_cpu(first)?, parse_cpu(last)?);
            if first > last {
                return Err(format!("the range {part} goes backwards: write {last}-{first}"));
            }
            for cpu in first..=last {
                if cpus.contains(&cpu) {
                    return Err(format!("CPU {cpu} is named twice"));
                }
                cpus.push(cpu);
            }
        }
        Ok(Self(cpus))
    }
}

fn parse_cpu(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(cpu) if cpu < CpuSet::MAX_CPU => Ok(cpu),
        Ok(cpu) => Err(format!("CPU {cpu} is more than {}", CpuSet::MAX_CPU - 1)),
        Err(_) => Err(format!("{text:?} is not a CPU number: write a list such as 0,2-3")),
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, cpu) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str(",")?;
            }
            write!(f, "{cpu}")?;
        }
        Ok(())
    }
}

/// Pins the calling thread to one CPU.
///
/// # Errors
/// [`Error::Pin`] if the CPU does not exist or the process may not run on it.
pub fn pin_current_thread(cpu: usize) -> Result<()> {
    let failed = |source: io::Error| Error::Pin { cpus: cpu.to_string(), source };
    if cpu >= CpuSet::MAX_CPU {
        return Err(failed(io::ErrorKind::InvalidInput.into()));
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).map_err(|errno| failed(errno.into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustix::thread::{sched_getaffinity, sched_getcpu};

    use super::*;

    #[test]
    fn lists_and_ranges_keep_their_order() {
        let list: CpuList = "3,0-1".parse().unwrap();
        assert_eq!(list.as_slice(), [3, 0, 1]);
        assert_eq!(list.to_string(), "3,0,1");
        assert_eq!([0, 1, 2, 3].map(|worker| list.for_worker(worker)), [3, 0, 1, 3]);
    }

    #[test]
    fn bad_lists_are_explained() {
        for (text, complaint) in [
            ("", "not a CPU number"),
            ("0,", "not a CPU number"),
            ("-1", "not a CPU number"),
            ("3-1", "goes backwards"),
            ("1,0-2", "named twice"),
            ("99999999", "more than"),
            ("0-99999999999999999999", "not a CPU number"),
        ] {
            let error = text.parse::<CpuList>().unwrap_err();
            assert!(error.contains(complaint), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_thread_runs_where_it_was_pinned() {
        let allowed = sched_getaffinity(None).unwrap();
        let cpu = (0..CpuSet::MAX_CPU).rfind(|&cpu| allowed.is_set(cpu)).unwrap();
        std::thread::spawn(move || {
            pin_current_thread(cpu).unwrap();
            assert_eq!(sched_getcpu(), cpu);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_cpu_that_is_not_there_is_an_error() {
        let error = pin_current_thread(CpuSet::MAX_CPU - 1).unwrap_err();
        assert!(error.to_string().contains("cannot run on CPU 1023"), "{error}");
        assert!(pin_current_thread(CpuSet::MAX_CPU).is_err());
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same(text in "[0-9,-]{0,12}") {
            if let Ok(list) = text.parse::<CpuList>() {
                prop_assert_eq!(list.to_string().parse::<CpuList>().unwrap(), list);
            }
        }
    }
}
