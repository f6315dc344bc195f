//! All vCPUs of a machine, as the main thread commands them.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hypervisor::{BootState, Machine, Vcpu, VcpuHandle};

use super::orders::{Order, Orders};
use super::scheduling::{Placement, SchedulingError};
use super::tally::{Counts, Tally};
use super::thread::{Exits, Member};
use crate::machine::mailbox::Mailbox;
use crate::sandbox::{Sandbox, ThreadKind};

/// A vCPU that takes longer than this to carry out an order hangs in the kernel. Waiting for a page of guest
/// memory from a slow swap device is no hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why there are no vCPUs, or why they do not obey.
#[derive(Debug, thiserror::Error)]
pub enum CrewError {
    /// The hypervisor does not make them.
    #[error(transparent)]
    Hypervisor(#[from] hypervisor::Error),
    /// Their threads cannot be confined.
    #[error(transparent)]
    Sandbox(#[from] crate::sandbox::Error),
    /// The host does not schedule them as asked.
    #[error(transparent)]
    Scheduling(#[from] SchedulingError),
    /// No thread for a vCPU.
    #[error("no thread for vcpu{index}: {source}; raise `ulimit -u`, or ask for fewer vCPUs")]
    Thread {
        /// The vCPU's index.
        index: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// A vCPU's thread ended before its vCPU was there.
    #[error("the thread of a vCPU has ended unexpectedly")]
    Gone,
    /// A vCPU does not come out of the guest.
    #[error("a vCPU hangs in KVM: it did not {0:?} within {PATIENCE:?}")]
    Stuck(Order),
}

/// The vCPUs' threads.
pub struct Crew {
    orders: Arc<Orders>,
    handles: Vec<Arc<dyn VcpuHandle>>,
    threads: Vec<JoinHandle<()>>,
    tallies: Vec<Arc<Tally>>,
}

type Made = Result<Arc<dyn VcpuHandle>, CrewError>;

/// What each thread starts with.
struct Recruit {
    machine: Arc<dyn Machine>,
    placement: Placement,
    sandbox: Arc<Sandbox>,
    orders: Arc<Orders>,
    mailbox: Mailbox,
    tally: Arc<Tally>,
    made: Sender<Made>,
    posting: Receiver<Arc<dyn Exits>>,
}

impl Crew {
    /// Starts a thread for each placement; each makes its vCPU while the caller prepares the rest
    /// of the machine.
    ///
    /// # Errors
    /// When there are not enough threads.
    pub fn recruit(
        machine: &Arc<dyn Machine>,
        placements: &[Placement],
        mailbox: &Mailbox,
        sandbox: &Arc<Sandbox>,
    ) -> Result<Forming, CrewError> {
        let orders = Arc::new(Orders::new(placements.len()));
        let (made, coming) = mpsc::channel();
        let (mut threads, mut posts, mut tallies) = (Vec::new(), Vec::new(), Vec::new());
        for (index, placement) in placements.iter().enumerate() {
            let (post, posting) = mpsc::channel();
            let tally = Arc::<Tally>::default();
            let recruit = Recruit {
                machine: machine.clone(),
                placement: placement.clone(),
                sandbox: sandbox.clone(),
                orders: orders.clone(),
                mailbox: mailbox.clone(),
                tally: tally.clone(),
                made: made.clone(),
                posting,
            };
            let thread = thread::Builder::new()
                .name(format!("vcpu{index}"))
                .spawn(move || recruit.work(index))
                .map_err(|source| CrewError::Thread { index, source })?;
            threads.push(thread);
            posts.push(post);
            tallies.push(tally);
        }
        Ok(Forming { crew: Crew { orders, handles: Vec::new(), threads, tallies }, coming, posts })
    }

    /// Lets the vCPUs run.
    pub fn run(&self) {
        self.orders.give(Order::Run);
    }

    /// Gets all vCPUs out of the guest. When it returns none is in it.
    ///
    /// # Errors
    /// When one hangs.
    pub fn park(&self) -> Result<(), CrewError> {
        self.order(Order::Park)
    }

    /// Puts all vCPUs into their state after power-on; the first will start at `start`.
    ///
    /// # Errors
    /// When one hangs.
    pub fn reset(&self, start: BootState) -> Result<(), CrewError> {
        self.order(Order::Reset(start))
    }

    /// How often each vCPU has left the guest, and why.
    pub fn tallies(&self) -> impl Iterator<Item = Counts> {
        self.tallies.iter().map(|tally| tally.counts())
    }

    /// Ends all threads.
    ///
    /// # Errors
    /// When one hangs; it is left to the end of the process.
    pub fn quit(self) -> Result<(), CrewError> {
        self.order(Order::Quit)?;
        for thread in self.threads {
            thread.join().map_err(|_| CrewError::Gone)?;
        }
        Ok(())
    }

    fn order(&self, order: Order) -> Result<(), CrewError> {
        self.orders.give(order);
        self.handles.iter().for_each(|handle| handle.interrupt());
        if self.orders.wait_until_done(PATIENCE) { Ok(()) } else { Err(CrewError::Stuck(order)) }
    }
}

/// A crew whose vCPUs are being made. Dropping it lets them go.
pub struct Forming {
    crew: Crew,
    coming: Receiver<Made>,
    posts: Vec<Sender<Arc<dyn Exits>>>,
}

impl Forming {
    /// Waits for the vCPUs, which `exits` is going to serve. They are parked.
    ///
    /// # Errors
    /// When one could not be made.
    pub fn complete(self, exits: &Arc<dyn Exits>) -> Result<Crew, CrewError> {
        let Forming { mut crew, coming, posts } = self;
        for _ in &crew.threads {
            crew.handles.push(coming.recv().map_err(|_| CrewError::Gone)??);
        }
        for post in posts {
            post.send(exits.clone()).map_err(|_| CrewError::Gone)?;
        }
        Ok(crew)
    }
}

impl Recruit {
    /// Makes the vCPU, after which the thread gives up the right to make anything.
    fn make(&self, index: usize) -> Result<Box<dyn Vcpu>, CrewError> {
        self.placement.apply()?;
        let number = u32::try_from(index).map_err(|_| CrewError::Gone)?;
        let vcpu = self.machine.create_vcpu(number)?;
        self.sandbox.enter(ThreadKind::Vcpu)?;
        Ok(vcpu)
    }

    fn work(self, index: usize) {
        let (vcpu, answer) = match self.make(index) {
            Ok(vcpu) => {
                let handle = vcpu.handle();
                (Some(vcpu), Ok(handle))
            }
            Err(error) => (None, Err(error)),
        };
        // Nobody listens, or sends, if the crew was let go.
        let listened = self.made.send(answer).is_ok();
        let (Some(vcpu), true, Ok(exits)) = (vcpu, listened, self.posting.recv()) else { return };
        let Recruit { orders, mailbox, tally, .. } = self;
        Member { vcpu, index, orders, exits, mailbox, tally }.serve();
    }
}

#[cfg(test)]
#[path = "crew_test.rs"]
mod tests;
