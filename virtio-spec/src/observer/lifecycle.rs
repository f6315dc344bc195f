//! Features, device status, reset and configuration changes (virtio 1.4, 2.1 to 2.5 and 3.1).
//!
//! States: *fresh* → the driver sets status bits → *running* at DRIVER_OK → *resetting* when the
//! driver writes 0 → *fresh* when it reads 0. While resetting, what the device had under way may
//! still show; once fresh, nothing may.

use super::clause::lifecycle::*;
use super::feature_rules;
use super::step::DeviceStep;
use super::violation::Findings;
use crate::DeviceType;
use crate::features::{Negotiated, Offered};
use crate::status::Status;

/// What the driver did to the device, and what the device showed.
#[derive(Debug)]
pub(super) struct Lifecycle {
    device: DeviceType,
    offered: Option<Offered>,
    acked: Option<u64>,
    /// What the driver wrote since the last reset; `None` if no status was ever written.
    written: Option<Status>,
    /// The status that was read last.
    read: Status,
    resetting: bool,
    /// DEVICE_NEEDS_RESET was seen after DRIVER_OK, and no notification of it.
    notification_owed: bool,
    notified: bool,
}

/// What a step means for the rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing.
    None,
    /// The device has been reset: its rings are gone.
    Reset,
}

impl Lifecycle {
    pub(super) fn new(device: DeviceType) -> Self {
        Self {
            device,
            offered: None,
            acked: None,
            written: None,
            read: Status::RESET,
            resetting: false,
            notification_owed: false,
            notified: false,
        }
    }

    /// The features in force.
    pub(super) fn negotiated(&self) -> Negotiated {
        Negotiated::assume(self.acked.unwrap_or_default())
    }

    /// The device type that this device was said to be.
    pub(super) fn device(&self) -> DeviceType {
        self.device
    }

    /// Whether the device offered this feature.
    pub(super) fn offered(&self, bit: u32) -> bool {
        self.offered.is_some_and(|offered| offered.has(bit))
    }

    /// Takes features from SET_FEATURES, if the driver showed none.
    pub(super) fn front_end_acked(&mut self, bits: u64) {
        self.acked.get_or_insert(bits);
    }

    /// Whether rings may be in use: before DRIVER_OK and after a reset they may not. Without any
    /// status step nothing is known, and all is allowed.
    pub(super) fn is_running(&self) -> bool {
        self.written.is_none_or(|status| status.contains(Status::DRIVER_OK)) || self.resetting
    }

    /// Whether FEATURES_OK was set.
    pub(super) fn features_ok(&self) -> bool {
        self.written.is_none_or(|status| status.contains(Status::FEATURES_OK))
    }

    pub(super) fn observe(&mut self, step: DeviceStep<'_>, findings: &mut Findings) -> Effect {
        match step {
            DeviceStep::FeaturesOffered(offered) => self.offer(offered, findings),
            DeviceStep::FeaturesAcked(bits) => self.accept(bits, findings),
            DeviceStep::StatusWritten(status) => self.write_status(status, findings),
            DeviceStep::StatusRead(status) => return self.read_status(status, findings),
            DeviceStep::ConfigChanged => self.config_changed(findings),
            DeviceStep::ConfigWritten { offset, .. } => {
                findings.check(self.features_ok(), &CONFIG_NOT_WRITTEN_EARLY, || {
                    format!("configuration byte {offset} was written")
                });
            }
            DeviceStep::ConfigRead { .. } => {}
        }
        Effect::None
    }

    /// What the device still owes when nothing moves.
    pub(super) fn quiesce(&mut self, findings: &mut Findings) {
        if std::mem::take(&mut self.notification_owed) {
            findings.breach(&NEEDS_RESET_NOTIFIED, "DEVICE_NEEDS_RESET was read, nothing was sent");
        }
    }

    fn offer(&mut self, offered: Offered, findings: &mut Findings) {
        self.offered = Some(offered);
        let bits = offered.bits();
        findings.check(feature_rules::is_modern(bits), &OFFER_VERSION_1, || {
            format!("{bits:#x} was offered")
        });
        if let Some(what) = feature_rules::missing_in_offer(self.device, bits) {
            findings.breach(&OFFER_WHOLE, what);
        }
    }

    fn accept(&mut self, bits: u64, findings: &mut Findings) {
        let before = self.acked.replace(bits).unwrap_or_default();
        if let Some(unoffered) = self.offered.and_then(|offered| offered.accept(bits).err()) {
            findings.breach(&ACCEPT_OFFERED, unoffered.to_string());
        }
        if let Some(what) = feature_rules::missing_in_acceptance(self.device, bits) {
            findings.breach(&ACCEPT_WHOLE, what);
        }
        let offered = self.offered.is_some_and(|o| feature_rules::is_modern(o.bits()));
        findings.check(!offered || feature_rules::is_modern(bits), &ACCEPT_VERSION_1, || {
            format!("{bits:#x} was accepted")
        });
        let late = self.written.is_some_and(|status| status.contains(Status::FEATURES_OK));
        findings.check(!late || bits & !before == 0, &ACCEPT_BEFORE_FEATURES_OK, || {
            format!("{:#x} was accepted late", bits & !before)
        });
    }

    fn write_status(&mut self, status: Status, findings: &mut Findings) {
        if status == Status::RESET {
            self.resetting = self.written.is_some_and(|before| before != Status::RESET);
            self.written = Some(Status::RESET);
            self.notification_owed = false;
            self.acked = None;
            return;
        }
        let before = self.written.replace(status).unwrap_or_default();
        findings.check(status.contains(before), &STATUS_NOT_CLEARED, || {
            format!("{before:?} was followed by {status:?}")
        });
        let fresh = status.difference(before | Status::FAILED);
        findings.check(
            !before.contains(Status::FAILED) || fresh.is_empty(),
            &RESET_AFTER_FAILED,
            || format!("{fresh:?} was set after FAILED"),
        );
        let order = [Status::ACKNOWLEDGE, Status::DRIVER, Status::FEATURES_OK, Status::DRIVER_OK];
        let gap = order.windows(2).any(|pair| match pair {
            [first, second] => status.contains(*second) && !status.contains(*first),
            _ => false,
        });
        findings.check(!gap, &STATUS_IN_ORDER, || format!("{status:?} was written"));
        let running = fresh.contains(Status::DRIVER_OK);
        let checked = self.read.contains(Status::FEATURES_OK);
        findings.check(!running || checked, &FEATURES_OK_CHECKED, || {
            format!("DRIVER_OK was set when the last status read was {:?}", self.read)
        });
    }

    fn read_status(&mut self, status: Status, findings: &mut Findings) -> Effect {
        let before = std::mem::replace(&mut self.read, status);
        let written = self.written.unwrap_or_default();
        if self.resetting {
            self.resetting = status != Status::RESET;
            self.notified = false;
            if !self.resetting {
                return Effect::Reset;
            }
            findings.check(status == before, &RESET_CLEARS_STATUS, || {
                format!("{status:?} was read during a reset, {before:?} before it")
            });
            return Effect::None;
        }
        if self.written == Some(Status::RESET) {
            findings.check(status == Status::RESET, &RESET_CLEARS_STATUS, || {
                format!("{status:?} was read after a reset")
            });
            return Effect::None;
        }
        self.judge_read_back(status, written, findings);
        let needs_reset = status.contains(Status::DEVICE_NEEDS_RESET);
        if needs_reset && written.contains(Status::DRIVER_OK) && !self.notified {
            self.notification_owed = true;
        }
        Effect::None
    }

    fn judge_read_back(&self, status: Status, written: Status, findings: &mut Findings) {
        let lost = written.difference(status | Status::FEATURES_OK);
        findings.check(lost.is_empty(), &STATUS_READS_BACK, || {
            format!("{written:?} was written and {status:?} read")
        });
        let own = status.difference(written | Status::DEVICE_NEEDS_RESET);
        findings.check(own.is_empty(), &STATUS_NO_OWN_BITS, || {
            format!("{written:?} was written and {status:?} read")
        });
        let refused = self.offered.zip(self.acked).is_some_and(|(o, bits)| o.accept(bits).is_err());
        let stands = status.contains(Status::FEATURES_OK);
        findings
            .check(!(refused && stands), &NO_FALSE_FEATURES_OK, || format!("{status:?} was read"));
    }

    fn config_changed(&mut self, findings: &mut Findings) {
        self.notified = true;
        self.notification_owed = false;
        let fresh = self.written == Some(Status::RESET) && !self.resetting;
        findings.check(!fresh, &CONFIG_CHANGE_BEFORE_RUN, || "a notification came".to_owned());
    }
}
