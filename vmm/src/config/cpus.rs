//! The guest's CPUs, and where and how the host runs them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use hypervisor::Topology;

use super::text::written_as_text;

/// CPU numbers are below this.
const NUMBERS: u32 = 8192;

/// The guest's CPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cpus {
    /// How many there are.
    pub count: u16,
    /// How they are arranged.
    pub topology: Topology,
    /// The host CPUs on which the thread of a vCPU may run; a vCPU that is missing may run on all.
    pub affinity: BTreeMap<u32, CpuList>,
    /// How the host schedules the threads of vCPUs.
    pub scheduling: Scheduling,
}

/// CPUs by number, each once, in the order given; written like `0,2-3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuList(Vec<u32>);

impl CpuList {
    /// A list of one.
    pub(super) fn single(number: u32) -> Self {
        Self(vec![number])
    }

    /// The numbers.
    #[must_use]
    pub fn as_slice(&self) -> &[u32] {
        &self.0
    }
}

impl FromStr for CpuList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut numbers = Vec::new();
        for piece in text.split(',') {
            let (first, last) = piece.split_once('-').unwrap_or((piece, piece));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(format!("{piece:?} goes backwards: write the smaller number first"));
            }
            numbers.extend(first..=last);
            if numbers.len() > NUMBERS as usize {
                return Err(format!("{text:?} has more than {NUMBERS} numbers"));
            }
        }
        let different: BTreeSet<_> = numbers.iter().collect();
        if different.len() < numbers.len() {
            return Err(format!("{text:?} has a number twice"));
        }
        Ok(Self(numbers))
    }
}

fn number(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| *number < NUMBERS);
    number.ok_or_else(|| format!("{text:?} is not a CPU: write a list such as 0,2-3"))
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.0.chunk_by(|one, next| one + 1 == *next);
        for (position, run) in runs.enumerate() {
            let comma = if position == 0 { "" } else { "," };
            match run {
                [first, .., last] => write!(f, "{comma}{first}-{last}")?,
                [only] => write!(f, "{comma}{only}")?,
                [] => {}
            }
        }
        Ok(())
    }
}

/// One `--cpu-affinity`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Affinity {
    /// `CPUS`: the first vCPU on the first of them, and so on.
    OneEach(CpuList),
    /// `VCPUS:CPUS`: each of these vCPUs on any of these CPUs.
    Each {
        /// The vCPUs.
        vcpus: CpuList,
        /// Where they may run.
        cpus: CpuList,
    },
}

impl Affinity {
    /// Puts them together for `count` vCPUs.
    pub(super) fn resolve(given: &[Self], count: u16) -> Result<BTreeMap<u32, CpuList>, String> {
        let mut affinity = BTreeMap::new();
        for (vcpu, cpus) in given.iter().flat_map(Self::pairs) {
            if vcpu >= u32::from(count) {
                return Err(format!("there is no vCPU {vcpu}: the guest has {count} (--cpus)"));
            }
            if affinity.insert(vcpu, cpus).is_some() {
                return Err(format!("vCPU {vcpu} is placed twice: say it once"));
            }
        }
        Ok(affinity)
    }

    fn pairs(&self) -> Vec<(u32, CpuList)> {
        match self {
            Self::OneEach(cpus) => {
                (0..).zip(cpus.0.iter().map(|cpu| CpuList::single(*cpu))).collect()
            }
            Self::Each { vcpus, cpus } => {
                vcpus.0.iter().map(|vcpu| (*vcpu, cpus.clone())).collect()
            }
        }
    }
}

impl FromStr for Affinity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text.split_once(':') {
            Some((vcpus, cpus)) => Self::Each { vcpus: vcpus.parse()?, cpus: cpus.parse()? },
            None => Self::OneEach(text.parse()?),
        })
    }
}

impl fmt::Display for Affinity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OneEach(cpus) => write!(f, "{cpus}"),
            Self::Each { vcpus, cpus } => write!(f, "{vcpus}:{cpus}"),
        }
    }
}

/// How the host schedules the threads of vCPUs (sched(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scheduling {
    /// Like any other process.
    #[default]
    Other,
    /// Like a process that is never interactive.
    Batch,
    /// In real time, first in first out, with this priority from 1 to 99.
    Fifo(u8),
    /// In real time, taking turns, with this priority from 1 to 99.
    RoundRobin(u8),
}

impl FromStr for Scheduling {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let priority =
            |text: &str| text.parse().ok().filter(|priority| (1..=99).contains(priority));
        let scheduling = match text.split_once(':') {
            None if text == "other" => Some(Self::Other),
            None if text == "batch" => Some(Self::Batch),
            Some(("fifo", text)) => priority(text).map(Self::Fifo),
            Some(("rr", text)) => priority(text).map(Self::RoundRobin),
            _ => None,
        };
        scheduling.ok_or_else(|| {
            format!(
                "{text:?} is not known: say other, batch, fifo:PRIORITY or rr:PRIORITY (1 to 99)"
            )
        })
    }
}

impl fmt::Display for Scheduling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other => f.write_str("other"),
            Self::Batch => f.write_str("batch"),
            Self::Fifo(priority) => write!(f, "fifo:{priority}"),
            Self::RoundRobin(priority) => write!(f, "rr:{priority}"),
        }
    }
}

written_as_text!(CpuList, Affinity, Scheduling);

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(given: &[&str], count: u16) -> Result<Vec<(u32, String)>, String> {
        let given: Vec<Affinity> = given.iter().map(|text| text.parse().unwrap()).collect();
        let affinity = Affinity::resolve(&given, count)?;
        Ok(affinity.into_iter().map(|(vcpu, cpus)| (vcpu, cpus.to_string())).collect())
    }

    #[test]
    fn lists_are_read_and_written() {
        for text in ["0", "0,2-3", "3,1", "7-9,0-1"] {
            assert_eq!(text.parse::<CpuList>().unwrap().to_string(), text);
        }
        for (text, complaint) in [
            ("", "not a CPU"),
            ("3-1", "backwards"),
            ("1,1", "twice"),
            ("0-99999999999", "not a CPU"),
        ] {
            assert!(text.parse::<CpuList>().unwrap_err().contains(complaint), "{text}");
        }
    }

    #[test]
    fn vcpus_are_placed_one_each_or_in_groups() {
        let one_each = resolved(&["4,6"], 2).unwrap();
        assert_eq!(one_each, [(0, "4".into()), (1, "6".into())]);
        let groups = resolved(&["0:1", "1-2:4-7"], 3).unwrap();
        assert_eq!(groups, [(0, "1".into()), (1, "4-7".into()), (2, "4-7".into())]);
        assert!(resolved(&["4,6,8"], 2).unwrap_err().contains("no vCPU 2"));
        assert!(resolved(&["0:1", "0:2"], 2).unwrap_err().contains("twice"));
    }

    #[test]
    fn scheduling_has_a_priority_only_in_real_time() {
        for text in ["other", "batch", "fifo:10", "rr:99"] {
            assert_eq!(text.parse::<Scheduling>().unwrap().to_string(), text);
        }
        for text in ["fifo", "fifo:0", "rr:100", "other:1", "deadline"] {
            assert!(text.parse::<Scheduling>().unwrap_err().contains("fifo:PRIORITY"), "{text}");
        }
    }
}
