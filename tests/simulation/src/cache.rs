//! The disk's cache mode, as far as the driver can know it.

/// What the driver knows of the disk's cache.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CacheMode {
    /// `writeback` of the configuration; None: the specification leaves it open.
    pub(crate) writeback: Option<bool>,
    /// The last driver could see the mode and not flush.
    mode_only: bool,
    /// The driver has negotiated anew since.
    begun: bool,
}

impl CacheMode {
    pub(crate) fn new(writeback: bool) -> Self {
        CacheMode { writeback: Some(writeback), mode_only: false, begun: false }
    }

    /// The device was reset by RESET_DEVICE.
    pub(crate) fn reset(&mut self, writeback: bool) {
        *self = CacheMode::new(writeback);
    }

    /// A new process serves the device. It has what the driver has set from its predecessor; but a
    /// driver that cannot flush may be a new one, and the cautious process starts with 0.
    pub(crate) fn new_process(&mut self) {
        if std::mem::take(&mut self.mode_only) {
            self.writeback = self.writeback.filter(|writeback| !writeback);
        }
    }

    /// A new driver begins, perhaps without the back-end knowing that it is one: then what the former
    /// one has set may stay, or not.
    pub(crate) fn new_driver(&mut self, initially: bool) {
        self.begun = false;
        self.writeback = self.writeback.filter(|writeback| *writeback == initially);
    }

    pub(crate) fn negotiated(&mut self, mode_only: bool) {
        if self.begun {
            return;
        }
        // virtio 1.4, 5.2.5.2. A back-end that is not told of a reset sees the same features again.
        if mode_only {
            self.writeback = if self.mode_only { None } else { Some(false) };
        }
        (self.begun, self.mode_only) = (true, mode_only);
    }
}
