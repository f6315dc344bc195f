//! Features, status, reset, configuration.

use super::breaches;
use super::scene::Scene;
use crate::DeviceType;
use crate::block;
use crate::features::{Offered, VERSION_1, mask};
use crate::net;
use crate::observer::clause::lifecycle::*;
use crate::observer::{DeviceStep, RingStep, Step};
use crate::split::UsedElem;
use crate::status::Status;

const SET_UP: Status = Status::ACKNOWLEDGE.union(Status::DRIVER);

breaches! {
    a_legacy_offer breaks OFFER_VERSION_1: {
        let mut scene = Scene::new();
        scene.step(DeviceStep::FeaturesOffered(Offered::new(0)))
    }

    an_offer_with_a_gap breaks OFFER_WHOLE: {
        let mut scene = Scene::of(DeviceType::BLOCK);
        let offered = Offered::of(&[VERSION_1, block::CONFIG_WCE]);
        scene.step(DeviceStep::FeaturesOffered(offered))
    }

    accepting_what_was_not_offered breaks ACCEPT_OFFERED: {
        let mut scene = Scene::new();
        scene.fine(DeviceStep::FeaturesOffered(Offered::of(&[VERSION_1])));
        scene.step(DeviceStep::FeaturesAcked(mask(VERSION_1) | 1))
    }

    accepting_with_a_gap breaks ACCEPT_WHOLE: {
        let mut scene = Scene::of(DeviceType::NET);
        let offered = Offered::of(&[VERSION_1, net::MQ, net::CTRL_VQ]);
        scene.fine(DeviceStep::FeaturesOffered(offered));
        scene.step(DeviceStep::FeaturesAcked(offered.without(net::CTRL_VQ).bits()))
    }

    leaving_version_1_out breaks ACCEPT_VERSION_1: {
        let mut scene = Scene::new();
        scene.fine(DeviceStep::FeaturesOffered(Offered::of(&[VERSION_1])));
        scene.step(DeviceStep::FeaturesAcked(0))
    }

    accepting_late breaks ACCEPT_BEFORE_FEATURES_OK: {
        let mut scene = Scene::new();
        scene.fine(DeviceStep::FeaturesOffered(Offered::of(&[VERSION_1, 1])));
        scene.fine(DeviceStep::FeaturesAcked(mask(VERSION_1)));
        scene.status(SET_UP | Status::FEATURES_OK);
        scene.step(DeviceStep::FeaturesAcked(mask(VERSION_1) | 2))
    }

    clearing_a_bit breaks STATUS_NOT_CLEARED: {
        let mut scene = Scene::new();
        scene.status(SET_UP);
        scene.step(DeviceStep::StatusWritten(Status::ACKNOWLEDGE))
    }

    a_driver_in_haste breaks STATUS_IN_ORDER: {
        let mut scene = Scene::new();
        scene.step(DeviceStep::StatusWritten(Status::DRIVER))
    }

    not_reading_features_ok_back breaks FEATURES_OK_CHECKED: {
        let mut scene = Scene::new();
        scene.status(SET_UP);
        scene.fine(DeviceStep::StatusWritten(SET_UP | Status::FEATURES_OK));
        scene.step(DeviceStep::StatusWritten(SET_UP | Status::FEATURES_OK | Status::DRIVER_OK))
    }

    going_on_after_failed breaks RESET_AFTER_FAILED: {
        let mut scene = Scene::new();
        scene.status(SET_UP | Status::FAILED);
        scene.step(DeviceStep::StatusWritten(SET_UP | Status::FAILED | Status::FEATURES_OK))
    }

    a_lost_bit breaks STATUS_READS_BACK: {
        let mut scene = Scene::new();
        scene.status(Status::ACKNOWLEDGE);
        scene.fine(DeviceStep::StatusWritten(SET_UP));
        scene.step(DeviceStep::StatusRead(Status::ACKNOWLEDGE))
    }

    a_bit_of_the_device_s_own breaks STATUS_NO_OWN_BITS: {
        let mut scene = Scene::new();
        scene.status(SET_UP);
        scene.step(DeviceStep::StatusRead(SET_UP | Status::DRIVER_OK))
    }

    features_ok_despite_unoffered_bits breaks NO_FALSE_FEATURES_OK: {
        let mut scene = Scene::new();
        scene.fine(DeviceStep::FeaturesOffered(Offered::of(&[VERSION_1])));
        scene.step(DeviceStep::FeaturesAcked(mask(VERSION_1) | 1)).unwrap_err();
        scene.status(SET_UP);
        scene.fine(DeviceStep::StatusWritten(SET_UP | Status::FEATURES_OK));
        scene.step(DeviceStep::StatusRead(SET_UP | Status::FEATURES_OK))
    }

    a_status_that_survives_reset breaks RESET_CLEARS_STATUS: {
        let mut scene = Scene::new();
        scene.status(SET_UP);
        scene.reset();
        scene.step(DeviceStep::StatusRead(SET_UP))
    }

    needs_reset_without_notification breaks NEEDS_RESET_NOTIFIED: {
        let mut scene = Scene::new();
        scene.driver_ok();
        let running = SET_UP | Status::FEATURES_OK | Status::DRIVER_OK;
        scene.fine(DeviceStep::StatusRead(running | Status::DEVICE_NEEDS_RESET));
        scene.step(Step::Quiesce)
    }

    a_call_after_reset breaks IDLE_AFTER_RESET: {
        let mut scene = Scene::new();
        scene.split(4, &[]);
        scene.driver_ok();
        scene.reset();
        scene.ring(RingStep::Called)
    }

    a_notification_after_reset breaks CONFIG_CHANGE_BEFORE_RUN: {
        let mut scene = Scene::new();
        scene.driver_ok();
        scene.reset();
        scene.step(DeviceStep::ConfigChanged)
    }

    a_buffer_used_early breaks IDLE_BEFORE_DRIVER_OK: {
        let mut scene = Scene::new();
        scene.split(4, &[]);
        scene.status(SET_UP);
        scene.give(0, 0);
        scene.ring(RingStep::UsedIdx(1))
    }

    a_configuration_written_early breaks CONFIG_NOT_WRITTEN_EARLY: {
        let mut scene = Scene::new();
        scene.status(SET_UP);
        scene.step(DeviceStep::ConfigWritten { offset: 0, data: &[1] })
    }

    a_kick_before_driver_ok breaks KICK_AFTER_DRIVER_OK: {
        let mut scene = Scene::new();
        scene.split(4, &[]);
        scene.status(SET_UP);
        scene.give(0, 0);
        scene.ring(RingStep::Kicked)
    }
}

#[test]
fn a_notification_pays_for_needs_reset() {
    let mut scene = Scene::new();
    scene.driver_ok();
    let running = SET_UP | Status::FEATURES_OK | Status::DRIVER_OK;
    scene.fine(DeviceStep::StatusRead(running | Status::DEVICE_NEEDS_RESET));
    scene.fine(DeviceStep::ConfigChanged);
    scene.fine(Step::Quiesce);
}

#[test]
fn what_was_under_way_may_still_show_until_the_reset_is_complete() {
    let mut scene = Scene::new();
    scene.split(4, &[]);
    scene.driver_ok();
    scene.give(0, 0);
    scene.fine_ring(RingStep::Kicked);
    scene.fine(DeviceStep::StatusWritten(Status::RESET));
    scene.fine_ring(RingStep::UsedIdx(1));
    scene.fine_ring(RingStep::Used(UsedElem { id: 0, len: 1 }));
    scene.fine_ring(RingStep::Called);
    scene.fine(DeviceStep::StatusRead(Status::RESET));
    assert!(scene.ring(RingStep::Called).is_err());
}

#[test]
fn the_observer_goes_on_after_a_violation() {
    let mut scene = Scene::new();
    scene.step(DeviceStep::FeaturesOffered(Offered::new(0))).unwrap_err();
    scene.step(DeviceStep::FeaturesAcked(1)).unwrap_err();
    assert_eq!(scene.observer.violations().len(), 2);
    assert_eq!(scene.observer.violations_of(crate::observer::Side::Driver).count(), 1);
}
