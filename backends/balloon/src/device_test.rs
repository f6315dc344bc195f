use serde_json::json;
use virtio_spec::balloon::{Config, MUST_TELL_HOST};
use virtio_spec::features::{Offered, mask};

use super::*;
use crate::pages::Run;

fn device() -> BalloonDevice {
    let offer = Offer { deflate_on_oom: true, reporting: true };
    BalloonDevice::new(Settings { target: 16, offer, polling: None, queue_size: 256, auto: None })
}

fn space(device: &BalloonDevice) -> Config {
    Config::from_prefix(&device.config()).unwrap()
}

fn ask(device: &mut BalloonDevice, command: &str, arguments: &Value) -> Result<Outcome, String> {
    let outcome = device.control(command, arguments, Vec::new()).unwrap();
    outcome.map_err(|error| error.to_string())
}

#[test]
fn another_target_is_told_and_kept() {
    let mut device = device();
    assert_eq!(space(&device).num_pages, 16);
    let outcome = ask(&mut device, "target", &json!({ "bytes": 64 << 20 })).unwrap();
    assert!(outcome.config_changed && outcome.state_changed);
    assert_eq!(outcome.answer["target_bytes"], 64 << 20);
    assert_eq!(space(&device).num_pages, 16384);
    let outcome = ask(&mut device, "target", &json!({ "bytes": (64 << 20) + 1 })).unwrap();
    assert!(!outcome.config_changed, "parts of pages do not count");
}

#[test]
fn commands_that_are_not_complete_say_how_they_are_said() {
    let mut device = device();
    for (command, arguments) in [
        ("target", json!({})),
        ("target", json!({ "bytes": -1 })),
        ("target", json!({ "bytes": u64::MAX })),
        ("discard", json!({ "state": "maybe" })),
        ("polling", json!({ "seconds": "often" })),
        ("refresh", json!({})),
    ] {
        assert!(ask(&mut device, command, &arguments).is_err(), "{command} {arguments}");
    }
    assert!(device.control("inflate", &json!({}), Vec::new()).is_none());
}

#[test]
fn hints_are_not_offered() {
    let offered = Offered::new(device().features());
    assert!(!offered.has(virtio_spec::balloon::FREE_PAGE_HINT) && offered.has(MUST_TELL_HOST));
}

#[test]
fn the_same_driver_goes_on_and_another_begins() {
    let mut device = device();
    let features = Negotiated::assume(mask(MUST_TELL_HOST));
    device.negotiated(features);
    device.balloon.lock().inside.insert(Run { start: 1, end: 3 });
    device.negotiated(features);
    assert_eq!(device.stats()["inside_bytes"], 8192);
    device.negotiated(Negotiated::NONE);
    assert_eq!(device.stats()["inside_bytes"], 0);
    device.balloon.lock().inside.insert(Run { start: 1, end: 3 });
    device.reset();
    assert_eq!(device.stats()["inside_bytes"], 0);
}

#[test]
fn a_state_of_something_else_is_refused() {
    let mut device = device();
    assert!(device.load(&[9, 9, 9]).is_err());
    assert!(device.load(&[]).is_ok());
    let saved = device.save();
    assert!(device.load(&saved).is_ok());
}
