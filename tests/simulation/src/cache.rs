//! The disk's cache mode, as far as the driver can know it.

/// What the driver knows of the disk's cache.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CacheMode {
    /// What the device starts with.
    initially: bool,
    /// `writeback` of the configuration; None: it may be either.
    pub(crate) writeback: Option<bool>,
    /// Some driver has set it since the device was last reset for good.
    touched: bool,
    /// The driver has negotiated its features.
    begun: bool,
    /// The back-end's process has seen a driver that sees the mode and cannot flush, and no other
    /// since.
    mode_only: bool,
}

impl CacheMode {
    /// A device that was just switched on, or reset by RESET_DEVICE.
    pub(crate) fn new(writeback: bool) -> Self {
        CacheMode {
            initially: writeback,
            writeback: Some(writeback),
            touched: false,
            begun: false,
            mode_only: false,
        }
    }

    /// A new process serves the device; it has what drivers have set.
    pub(crate) fn new_process(&mut self) {
        self.mode_only = false;
    }

    /// A new driver begins, perhaps without the back-end knowing that it is one: then what the former
    /// ones have set may stay, or not.
    pub(crate) fn new_driver(&mut self) {
        self.begun = false;
        self.writeback = self.writeback.filter(|now| *now == self.initially && !self.touched);
    }

    /// The driver sets the mode.
    pub(crate) fn set(&mut self, writeback: bool) {
        (self.writeback, self.touched) = (Some(writeback), true);
    }

    /// The back-end is told what was negotiated. `mode_only`: the driver sees the mode and cannot
    /// flush, so that it must begin with 0 (virtio 1.4, 5.2.5.2). A process that has not seen the
    /// driver before takes it for a new one, and one that has, for the same.
    pub(crate) fn negotiated(&mut self, mode_only: bool) {
        if mode_only && !self.mode_only {
            self.writeback = Some(false);
        } else if mode_only && !self.begun {
            self.writeback = self.writeback.filter(|now| !now);
        }
        (self.begun, self.mode_only) = (true, mode_only);
    }
}
