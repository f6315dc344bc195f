//! Clauses about features, device status, reset and configuration space.

use super::clauses;

clauses! { "virtio-1.4",
    OFFER_VERSION_1: Device, "6.2", "offer-version-1",
        "A device offers VERSION_1.";
    OFFER_WHOLE: Device, "2.2.2", "offer-whole",
        "A device that offers a feature offers those that it needs.";
    NO_FALSE_FEATURES_OK: Device, "2.2.2", "no-false-features-ok",
        "A device does not let FEATURES_OK stand when the driver accepted what was not offered.";
    STATUS_READS_BACK: Device, "2.1", "status-reads-back",
        "The device status shows the bits that the driver set, FEATURES_OK aside.";
    STATUS_NO_OWN_BITS: Device, "2.1", "status-no-own-bits",
        "A device sets no status bit by itself but DEVICE_NEEDS_RESET.";
    RESET_CLEARS_STATUS: Device, "2.4.1", "reset-clears-status",
        "After a reset the device status is 0 until the driver writes it.";
    NEEDS_RESET_NOTIFIED: Device, "2.1.2", "needs-reset-notified",
        "A device that asks for a reset after DRIVER_OK sends a configuration change notification.";
    IDLE_AFTER_RESET: Device, "2.4.1", "idle-after-reset",
        "A device that was reset leaves rings alone and sends no notifications.";
    IDLE_BEFORE_DRIVER_OK: Device, "2.1.2", "idle-before-driver-ok",
        "A device uses no buffers and calls for none before DRIVER_OK.";
    CONFIG_CHANGE_BEFORE_RUN: Device, "2.4.1", "no-config-notification-after-reset",
        "A device that was reset sends no configuration change notification.";
    ACCEPT_OFFERED: Driver, "2.2.1", "accept-offered",
        "A driver accepts only features that were offered.";
    ACCEPT_WHOLE: Driver, "2.2.1", "accept-whole",
        "A driver that accepts a feature accepts those that it needs.";
    ACCEPT_VERSION_1: Driver, "6.1", "accept-version-1",
        "A driver accepts VERSION_1 if it is offered.";
    ACCEPT_BEFORE_FEATURES_OK: Driver, "3.1.1", "accept-before-features-ok",
        "A driver accepts no more features once it has set FEATURES_OK.";
    STATUS_NOT_CLEARED: Driver, "2.1.1", "status-not-cleared",
        "A driver clears no status bit, other than by a reset.";
    STATUS_IN_ORDER: Driver, "3.1.1", "status-in-order",
        "A driver sets ACKNOWLEDGE, DRIVER, FEATURES_OK and DRIVER_OK in this order.";
    FEATURES_OK_CHECKED: Driver, "3.1.1", "features-ok-checked",
        "A driver sets DRIVER_OK only after it has read FEATURES_OK back.";
    RESET_AFTER_FAILED: Driver, "2.1.1", "reset-after-failed",
        "A driver that set FAILED resets the device before it goes on.";
    CONFIG_NOT_WRITTEN_EARLY: Driver, "3.1.1", "config-not-written-early",
        "A driver writes no configuration field before FEATURES_OK.";
    KICK_AFTER_DRIVER_OK: Driver, "3.1.1", "kick-after-driver-ok",
        "A driver kicks only after DRIVER_OK.";
}
