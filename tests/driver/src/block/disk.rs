//! A block device as its user has it: requests that wait until they are done.

use std::time::Duration;

use virtio_spec::block::{ID_LEN, SECTOR_SIZE};

use super::{BlockQueue, Done, Layout, Operation};
use crate::{Deadline, Error, Notifier, Result, Token};

/// A block device behind a queue and a [`Notifier`].
#[derive(Debug)]
pub struct Disk<N> {
    block: BlockQueue,
    notifier: N,
    layout: Layout,
    limit: Duration,
    /// Requests that are done and that nobody has asked for yet.
    done: Vec<Done>,
}

impl<N: Notifier> Disk<N> {
    /// A disk whose device is reached through `notifier`.
    #[must_use]
    pub fn new(block: BlockQueue, notifier: N) -> Self {
        let (layout, limit) = (Layout::default(), Deadline::DEFAULT);
        Self { block, notifier, layout, limit, done: Vec::new() }
    }

    /// The same disk with requests laid out like this.
    #[must_use]
    pub fn with_layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// The same disk with another time limit for each wait.
    #[must_use]
    pub fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Reads `len` bytes.
    ///
    /// # Errors
    /// [`Error::Status`], [`Error::Timeout`].
    pub fn read(&mut self, sector: u64, len: usize) -> Result<Vec<u8>> {
        self.run(Operation::Read { sector, len })?.into_data()
    }

    /// Writes.
    ///
    /// # Errors
    /// [`Error::Status`], [`Error::Timeout`].
    pub fn write(&mut self, sector: u64, data: &[u8]) -> Result<()> {
        self.run(Operation::Write { sector, data: data.to_vec() })?.into_data().map(drop)
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// [`Error::Status`], [`Error::Timeout`].
    pub fn flush(&mut self) -> Result<()> {
        self.run(Operation::Flush)?.into_data().map(drop)
    }

    /// Gives up the contents of so many sectors.
    ///
    /// # Errors
    /// [`Error::Status`], [`Error::Timeout`].
    pub fn discard(&mut self, sector: u64, num_sectors: u32) -> Result<()> {
        self.run(Operation::discard(sector, num_sectors))?.into_data().map(drop)
    }

    /// Fills so many sectors with zeroes.
    ///
    /// # Errors
    /// [`Error::Status`], [`Error::Timeout`].
    pub fn write_zeroes(&mut self, sector: u64, num_sectors: u32, unmap: bool) -> Result<()> {
        self.run(Operation::write_zeroes(sector, num_sectors, unmap))?.into_data().map(drop)
    }

    /// The disk's serial, without the zeroes behind it.
    ///
    /// # Errors
    /// [`Error::Status`], [`Error::Timeout`].
    pub fn get_id(&mut self) -> Result<String> {
        let id = self.run(Operation::GetId)?.into_data()?;
        let end = id.iter().position(|&byte| byte == 0).unwrap_or(ID_LEN);
        Ok(String::from_utf8_lossy(id.get(..end).unwrap_or_default()).into_owned())
    }

    /// Submits one request and waits for it, whatever its status.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Device`].
    pub fn run(&mut self, operation: Operation) -> Result<Done> {
        let token = self.submit(operation)?;
        self.wait_for(token)
    }

    /// Submits a request and kicks the device if it wants that.
    ///
    /// # Errors
    /// [`Error::QueueFull`], [`Error::NoRoom`].
    pub fn submit(&mut self, operation: Operation) -> Result<Token> {
        let token = self.block.submit(operation, &self.layout)?;
        self.publish()?;
        Ok(token)
    }

    /// Submits all of these with one kick at most.
    ///
    /// # Errors
    /// [`Error::QueueFull`], [`Error::NoRoom`].
    pub fn submit_all(
        &mut self,
        operations: impl IntoIterator<Item = Operation>,
    ) -> Result<Vec<Token>> {
        let tokens: Result<Vec<Token>> = operations
            .into_iter()
            .map(|operation| self.block.submit(operation, &self.layout))
            .collect();
        self.publish()?;
        tokens
    }

    fn publish(&mut self) -> Result<()> {
        if self.block.publish() { self.notifier.kick() } else { Ok(()) }
    }

    /// Waits for this request.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Device`].
    pub fn wait_for(&mut self, token: Token) -> Result<Done> {
        let deadline = Deadline::after(self.limit);
        loop {
            if let Some(index) = self.done.iter().position(|done| done.token == token) {
                return Ok(self.done.remove(index));
            }
            let done = self.next_used(deadline)?;
            self.done.push(done);
        }
    }

    /// Waits for any request.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Device`].
    pub fn wait_for_any(&mut self) -> Result<Done> {
        if !self.done.is_empty() {
            return Ok(self.done.remove(0));
        }
        self.next_used(Deadline::after(self.limit))
    }

    /// Waits for all requests and returns them in the order in which they were done.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Device`].
    pub fn wait_for_all(&mut self) -> Result<Vec<Done>> {
        let mut all = std::mem::take(&mut self.done);
        while self.block.in_flight() > 0 {
            all.push(self.next_used(Deadline::after(self.limit))?);
        }
        Ok(all)
    }

    fn next_used(&mut self, deadline: Deadline) -> Result<Done> {
        loop {
            if let Some(done) = self.block.reap()? {
                return Ok(done);
            }
            // Asking for calls and looking again closes the gap in which one would be missed.
            if self.block.queue().enable_calls() {
                continue;
            }
            if !self.notifier.wait(deadline)? && !self.block.queue().has_used() {
                let count = self.block.in_flight();
                return Err(Error::Timeout(format!("one of {count} block requests to be used")));
            }
        }
    }

    /// Bytes in so many sectors.
    #[must_use]
    pub fn bytes(sectors: u32) -> usize {
        usize::try_from(u64::from(sectors) * SECTOR_SIZE).unwrap_or(usize::MAX)
    }

    /// The queue of requests.
    #[must_use]
    pub fn block(&mut self) -> &mut BlockQueue {
        &mut self.block
    }

    /// The way to the device.
    #[must_use]
    pub fn notifier(&mut self) -> &mut N {
        &mut self.notifier
    }

    /// The queue of requests with what is in flight, to be started with another back-end, and the
    /// way to the old one.
    #[must_use]
    pub fn into_parts(self) -> (BlockQueue, N) {
        (self.block, self.notifier)
    }
}
