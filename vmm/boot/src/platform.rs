//! What the machine is made of, as far as tables describe it and [`hypervisor::layout`] does not
//! fix it.

use std::ops::Range;

/// The machine that the guest's tables describe.
#[derive(Clone, Debug)]
pub struct Platform {
    /// CPUs in the order of their index.
    pub processors: Vec<Processor>,
    /// NUMA nodes; empty if the machine is not to look like several.
    pub nodes: Vec<Node>,
    /// Guest addresses for 64-bit BARs, above RAM; may be empty.
    pub high_window: Range<u64>,
}

/// A CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processor {
    /// Its x2APIC id; ids from 255 on need an x2APIC.
    pub apic_id: u32,
    /// Index of its NUMA node; 0 where there are none.
    pub node: u32,
}

/// A NUMA node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its RAM, as guest addresses.
    pub ram: Vec<Range<u64>>,
    /// Its distance to each node (SLIT): 10 to itself, more to others, 255 if there is no way.
    /// Empty: 20 to each other node.
    pub distances: Vec<u8>,
}
