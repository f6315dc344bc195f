//! One guest of Outrigger's with all its devices, in the demo.

use anyhow::{Result, ensure};
use e2e::{Site, Whole};
use virtio_spec::DeviceType;

use super::net::{STREAMS, stream_figures, streams_done};

/// Boots it at a site, and gives a row of the table for each device but the disk, which has rows
/// already.
pub(super) fn rows(site: &Site, guest: &str) -> Result<Vec<Vec<String>>> {
    let whole = site.play_whole("whole", &STREAMS)?;
    ensure!(whole.was_heard(), "the console's daemon wrote down {:?}", whole.heard);
    let row = |name: &str, daemon: &str, device, done: String, figures: String| {
        vec![
            name.to_owned(),
            daemon.to_owned(),
            guest.to_owned(),
            features(&whole, device),
            done,
            figures,
        ]
    };
    let available = whole.results.get("available_mib").map_or("?", String::as_str);
    Ok(vec![
        row(
            "network",
            "outrigger-net",
            DeviceType::NET,
            format!("pings of 1 to 65000 bytes over a tap, IPv4 and IPv6\n{}", streams_done()),
            format!("all came back whole\n{}", stream_figures(&whole.results)?),
        ),
        row(
            "console",
            "outrigger-console",
            DeviceType::CONSOLE,
            "a line written to hvc0".into(),
            "found in the daemon's file".into(),
        ),
        row(
            "balloon",
            "outrigger-balloon",
            DeviceType::BALLOON,
            format!("{} MiB taken from 256", whole.taken()),
            format!("{available} MiB were left available"),
        ),
    ])
}

fn features(whole: &Whole, device: DeviceType) -> String {
    whole.features(device).join(" ")
}
