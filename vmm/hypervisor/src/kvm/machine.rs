//! One virtual machine of KVM's.
#![expect(unsafe_code, reason = "KVM is told addresses of guest memory")]

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use kvm_bindings::{
    KVM_CAP_SPLIT_IRQCHIP, KVM_CAP_X2APIC_API, KVM_MAX_IRQ_ROUTES, KVM_MEM_LOG_DIRTY_PAGES,
    KVM_MEM_READONLY, KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK, KVM_X2APIC_API_USE_32BIT_IDS,
    KvmIrqRouting, kvm_cpuid_entry2, kvm_enable_cap, kvm_userspace_memory_region,
};
use kvm_ioctls::{Cap, IoEventAddress, NoDatamatch, VmFd};

use super::routes::{self, Routes};
use super::{Kvm, Vcpu, eventfd, interrupt};
use crate::memory::Region;
use crate::{Error, Gsi, GuestAddress, Msi, Result, Slot, SlotOptions, Topology, layout};

/// What a machine is to be.
#[derive(Clone, Debug)]
pub struct Config {
    /// How the vCPUs are arranged, and so how many there are.
    pub topology: Topology,
    /// Each vCPU has a host CPU to itself: the guest may spin where it would otherwise yield.
    pub dedicated: bool,
}

/// One virtual machine. Its interrupt controllers are split: local APICs in KVM, the IOAPIC
/// wherever the VMM has it.
#[derive(Debug)]
pub struct Machine {
    vm: Arc<Vm>,
    made: Mutex<BTreeSet<u32>>,
}

/// What a machine shares with its vCPUs.
#[derive(Debug)]
pub(super) struct Vm {
    pub(super) fd: VmFd,
    pub(super) config: Config,
    pub(super) supported: Vec<kvm_cpuid_entry2>,
    /// The registers (MSRs) that KVM knows.
    pub(super) all_msrs: Vec<u32>,
    /// Those of them that the vCPUs of this machine have; found by the first.
    pub(super) msrs: OnceLock<Vec<u32>>,
    pub(super) has_tsc_deadline: bool,
    /// KVM can tell, and be told, whether a guest runs a guest of its own.
    pub(super) has_nested: bool,
    routes: Mutex<Routes>,
    slots: Mutex<BTreeMap<Slot, (Region, SlotOptions)>>,
}

impl Machine {
    /// An empty machine.
    ///
    /// # Errors
    /// When KVM cannot have that many vCPUs, or refuses.
    pub fn new(kvm: &Kvm, config: &Config) -> Result<Self> {
        check_vcpus(kvm, &config.topology)?;
        interrupt::install_handler()?;
        let fd = kvm.system.create_vm().map_err(Error::kvm("creating a VM"))?;
        place_private_pages(&fd)?;
        let pins = layout::IOAPIC_PINS.into();
        enable(&fd, KVM_CAP_SPLIT_IRQCHIP, pins, "splitting the irqchip")?;
        let wide_ids = KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK;
        enable(&fd, KVM_CAP_X2APIC_API, wide_ids.into(), "switching x2APIC ids on")?;
        let msr_list =
            kvm.system.get_msr_index_list().map_err(Error::kvm("asking for its MSRs"))?;
        let capacity = usize::try_from(fd.check_extension_int(Cap::IrqRouting)).unwrap_or(0);
        let vm = Vm {
            config: config.clone(),
            supported: kvm.supported.clone(),
            all_msrs: msr_list.as_slice().to_vec(),
            msrs: OnceLock::new(),
            has_nested: fd.check_extension(Cap::NestedState),
            has_tsc_deadline: fd.check_extension(Cap::TscDeadlineTimer),
            routes: Mutex::new(Routes::new(capacity.min(KVM_MAX_IRQ_ROUTES))),
            slots: Mutex::default(),
            fd,
        };
        Ok(Machine { vm: Arc::new(vm), made: Mutex::default() })
    }
}

/// Whether KVM can have these vCPUs.
fn check_vcpus(kvm: &Kvm, topology: &Topology) -> Result<()> {
    let most = u32::try_from(kvm.system.get_max_vcpus()).unwrap_or(u32::MAX);
    let asked = topology.vcpus();
    if asked > most {
        return Err(Error::TooManyVcpus { asked, most });
    }
    let limit = u32::try_from(kvm.system.get_max_vcpu_id()).unwrap_or(u32::MAX);
    match topology.apic_ids().last() {
        Some(id) if id >= limit => Err(Error::ApicId { id, limit }),
        _ => Ok(()),
    }
}

/// KVM needs some pages of guest addresses for itself on some Intel CPUs.
fn place_private_pages(fd: &VmFd) -> Result<()> {
    let identity = layout::KVM_PRIVATE.start;
    let task_state = usize::try_from(identity + 0x1000).unwrap_or(usize::MAX);
    fd.set_identity_map_address(identity).map_err(Error::kvm("placing its page table"))?;
    fd.set_tss_address(task_state).map_err(Error::kvm("placing its task state"))
}

fn enable(fd: &VmFd, cap: u32, argument: u64, action: &'static str) -> Result<()> {
    let mut request = kvm_enable_cap { cap, ..Default::default() };
    request.args[0] = argument;
    fd.enable_cap(&request).map_err(Error::kvm(action))
}

impl Vm {
    fn slots(&self) -> MutexGuard<'_, BTreeMap<Slot, (Region, SlotOptions)>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn routes(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The region that has an address.
    pub(super) fn region_at(&self, at: GuestAddress) -> Option<Region> {
        let holds = |region: &&Region| {
            at.0.checked_sub(region.start().0).is_some_and(|offset| offset < region.size())
        };
        self.slots().values().map(|(region, _)| region).find(holds).cloned()
    }

    /// Tells KVM about a slot. A `size` of 0 removes it.
    fn set_slot(&self, slot: Slot, region: &Region, size: u64, options: SlotOptions) -> Result<()> {
        let flag = |on: bool, flag: u32| if on { flag } else { 0 };
        let slot = kvm_userspace_memory_region {
            slot: slot.0,
            flags: flag(options.read_only, KVM_MEM_READONLY)
                | flag(options.log_dirty, KVM_MEM_LOG_DIRTY_PAGES),
            guest_phys_addr: region.start().0,
            memory_size: size,
            userspace_addr: region.host_address(),
        };
        // SAFETY: the range is the region's own mapping (or nothing). `slots` keeps the region, and
        // so the mapping, until KVM has confirmed that the slot is gone; each vCPU keeps the `Vm`.
        unsafe { self.fd.set_user_memory_region(slot) }.map_err(Error::kvm("mapping guest memory"))
    }

    /// Makes a change to the table and tells KVM. If KVM refuses, the change is undone.
    fn change_routes<T>(&self, change: impl FnOnce(&mut Routes) -> Result<(T, bool)>) -> Result<T> {
        let mut routes = self.routes();
        let before = routes.clone();
        let (result, changed) = change(&mut routes)?;
        if changed && let Err(error) = self.set_routes(&routes) {
            *routes = before;
            return Err(error);
        }
        Ok(result)
    }

    fn set_routes(&self, routes: &Routes) -> Result<()> {
        let too_many = |_| Error::Vectors { asked: 0, capacity: KVM_MAX_IRQ_ROUTES };
        let table = KvmIrqRouting::from_entries(&routes.entries()).map_err(too_many)?;
        self.fd.set_gsi_routing(&table).map_err(Error::kvm("setting interrupt routes"))
    }
}

impl crate::Machine for Machine {
    fn map(&self, slot: Slot, region: &Region, options: SlotOptions) -> Result<()> {
        let mut slots = self.vm.slots();
        if slots.contains_key(&slot) {
            return Err(Error::SlotTaken(slot.0));
        }
        self.vm.set_slot(slot, region, region.size(), options)?;
        slots.insert(slot, (region.clone(), options));
        Ok(())
    }

    fn unmap(&self, slot: Slot) -> Result<()> {
        let mut slots = self.vm.slots();
        let (region, _) = slots.get(&slot).ok_or(Error::SlotEmpty(slot.0))?;
        self.vm.set_slot(slot, region, 0, SlotOptions::default())?;
        slots.remove(&slot);
        Ok(())
    }

    fn log_dirty(&self, slot: Slot, on: bool) -> Result<()> {
        let mut slots = self.vm.slots();
        let (region, options) = slots.get_mut(&slot).ok_or(Error::SlotEmpty(slot.0))?;
        let options_then = SlotOptions { log_dirty: on, ..*options };
        self.vm.set_slot(slot, region, region.size(), options_then)?;
        *options = options_then;
        Ok(())
    }

    fn take_dirty(&self, slot: Slot) -> Result<Vec<u64>> {
        let slots = self.vm.slots();
        let (region, _) = slots.get(&slot).ok_or(Error::SlotEmpty(slot.0))?;
        let size = usize::try_from(region.size()).unwrap_or(usize::MAX);
        self.vm.fd.get_dirty_log(slot.0, size).map_err(Error::kvm("reading the dirty log"))
    }

    fn connect_kick(&self, at: GuestAddress, fd: BorrowedFd<'_>) -> Result<()> {
        let address = IoEventAddress::Mmio(at.0);
        eventfd::lend(fd, |fd| self.vm.fd.register_ioevent(fd, &address, NoDatamatch)).map_err(
            |error| match error.errno() {
                libc::EEXIST => Error::DoorbellTaken(at),
                libc::ENOSPC => Error::Doorbells,
                _ => Error::kvm("connecting a doorbell")(error),
            },
        )
    }

    fn disconnect_kick(&self, at: GuestAddress, fd: BorrowedFd<'_>) -> Result<()> {
        let address = IoEventAddress::Mmio(at.0);
        eventfd::lend(fd, |fd| self.vm.fd.unregister_ioevent(fd, &address, NoDatamatch)).map_err(
            |error| match error.errno() {
                libc::ENOENT => Error::DoorbellMissing(at),
                _ => Error::kvm("disconnecting a doorbell")(error),
            },
        )
    }

    fn allocate_vectors(&self, n: usize) -> Result<Vec<Gsi>> {
        self.vm.routes().allocate(n)
    }

    fn free_vectors(&self, lines: &[Gsi]) -> Result<()> {
        self.vm.change_routes(|routes| Ok(((), routes.free(lines)?)))
    }

    fn route_all(&self, routes: &[(Gsi, Option<Msi>)]) -> Result<()> {
        self.vm.change_routes(|table| Ok(((), table.set(routes)?)))
    }

    fn connect_call(&self, line: Gsi, fd: BorrowedFd<'_>) -> Result<()> {
        self.vm.routes().check(line)?;
        eventfd::lend(fd, |fd| self.vm.fd.register_irqfd(fd, line.0))
            .map_err(Error::kvm("connecting a call"))
    }

    fn disconnect_call(&self, line: Gsi, fd: BorrowedFd<'_>) -> Result<()> {
        eventfd::lend(fd, |fd| self.vm.fd.unregister_irqfd(fd, line.0))
            .map_err(Error::kvm("disconnecting a call"))
    }

    fn signal(&self, message: Msi) -> Result<()> {
        let Some(message) = routes::encode(message) else { return Ok(()) };
        match self.vm.fd.signal_msi(message) {
            Ok(_) => Ok(()),
            // The guest addressed a CPU that does not exist.
            Err(error) if error.errno() == libc::EPERM => Ok(()),
            Err(error) => Err(Error::kvm("sending an interrupt")(error)),
        }
    }

    fn create_vcpu(&self, index: u32) -> Result<Box<dyn crate::Vcpu>> {
        let of_ours = index < self.vm.config.topology.vcpus();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if !of_ours || !made.insert(index) {
            return Err(Error::VcpuIndex(index));
        }
        drop(made);
        Ok(Box::new(Vcpu::new(&self.vm, index)?))
    }
}
