//! A machine with one CPU, some memory and a bus of virtio devices: nothing else.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use hypervisor::memory::{Config, Memory};
use hypervisor::{Exit, Machine, Slot, SlotOptions, Topology, Vcpu, VcpuHandle, kvm, layout};
use virtio_pci::{Bus, Device};

use crate::error::{Error, Result};
use crate::report::Report;
use crate::{Scene, image};

/// Enough for the program, its tables, and its rings and buffers.
const MEMORY: u64 = 16 << 20;
/// Takes text, one byte each.
const DEBUG: u16 = 0xe9;
/// Takes marks.
const MARK: u16 = 0xea;
/// Takes the exit status.
const EXIT: u16 = 0xf4;

/// A machine without devices, whose memory back-ends can be told of.
pub struct Stage {
    machine: Arc<dyn Machine>,
    memory: Memory,
}

impl Stage {
    /// A machine of this host's KVM.
    ///
    /// # Errors
    /// When KVM is missing or refuses.
    pub fn new() -> Result<Self> {
        let config = kvm::Config { topology: Topology::flat(1), dedicated: false };
        let machine = kvm::Machine::new(&kvm::Kvm::open()?, &config)?;
        let memory = Memory::new(&Config::new(MEMORY))?;
        for (slot, region) in (0..).zip(memory.regions()) {
            machine.map(Slot(slot), region, SlotOptions::default())?;
        }
        Ok(Self { machine: Arc::new(machine), memory })
    }

    /// The guest's memory.
    #[must_use]
    pub const fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Lets the guest play a scene with these devices; the time limit ends it.
    ///
    /// # Errors
    /// When the guest finds something wrong, or does not come to its end.
    pub fn play(
        &self,
        scene: Scene,
        devices: Vec<Arc<dyn Device>>,
        limit: Duration,
    ) -> Result<Report> {
        let bus = Bus::new(&self.machine, devices, layout::MMIO32)?;
        let start = image::load(self.memory.guest(), scene as u64)?;
        let mut vcpu = self.machine.create_vcpu(0)?;
        vcpu.reset(Some(&start))?;
        let (done, watch) = mpsc::channel::<()>();
        let handle = vcpu.handle();
        let watchdog = std::thread::spawn(move || interrupt_after(limit, &watch, &*handle));
        let played = play(&mut *vcpu, &bus);
        drop(done);
        // It has nothing to say.
        let _ = watchdog.join();
        played
    }
}

fn interrupt_after(limit: Duration, done: &mpsc::Receiver<()>, vcpu: &dyn VcpuHandle) {
    if done.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
        vcpu.interrupt();
    }
}

fn play(vcpu: &mut dyn Vcpu, bus: &Bus) -> Result<Report> {
    let mut report = Report::default();
    let begun = Instant::now();
    loop {
        let exit = vcpu.run()?;
        report.exits += 1;
        match exit {
            Exit::PortWrite { port: DEBUG, data, .. } => report.hear(data),
            Exit::PortWrite { port: MARK, data, .. } => report.mark(word(data)),
            Exit::PortWrite { port: EXIT, data, .. } => {
                report.took = begun.elapsed();
                return match data.first() {
                    Some(0) => Ok(report),
                    status => {
                        let status = status.copied().unwrap_or_default();
                        Err(Error::Status { status, said: report.text })
                    }
                };
            }
            Exit::PortWrite { port, width, data } if layout::PCI_CONFIG.contains(&port) => {
                data.chunks_exact(width).for_each(|bytes| bus.write_port(port, bytes));
            }
            Exit::PortRead { port, width, data } if layout::PCI_CONFIG.contains(&port) => {
                data.chunks_exact_mut(width).for_each(|bytes| bus.read_port(port, bytes));
            }
            Exit::PortWrite { .. } => {}
            Exit::PortRead { data, .. } => data.fill(0xff),
            Exit::MmioRead { at, data } => match ecam(at.0) {
                Some(offset) => bus.read_ecam(offset, data),
                None if bus.read_memory(at.0, data) => {}
                None => data.fill(0xff),
            },
            Exit::MmioWrite { at, data } => match ecam(at.0) {
                Some(offset) => bus.write_ecam(offset, data),
                None => drop(bus.write_memory(at.0, data)),
            },
            Exit::Failed(failure) => return Err(Error::Failed(failure)),
            exit => return Err(Error::Stopped { exit: format!("{exit:?}"), said: report.text }),
        }
    }
}

fn ecam(at: u64) -> Option<u64> {
    layout::ECAM.contains(&at).then(|| at - layout::ECAM.start)
}

fn word(data: &[u8]) -> u32 {
    data.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte))
}
