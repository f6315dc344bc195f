//! `outrigger-net`: a virtio network card as a vhost-user back-end.

use std::process::ExitCode;

use framework::program::{self, logging, options};
use framework::sandbox::Sandbox;
use framework::server::{self, Daemon};
use outrigger_net::device::NetDevice;
use outrigger_net::options::{CAPABILITIES, Options};
use outrigger_net::uplink::switch::trunk::{Outside, Trunk};
use outrigger_net::uplink::{Uplink, tap};
use serde_json::json;

const NAME: &str = "outrigger-net";

fn main() -> ExitCode {
    match options::parse::<Options>(&CAPABILITIES) {
        Ok(options) => program::exit_code(NAME, &serve(&options)),
        Err(status) => status,
    }
}

fn serve(options: &Options) -> anyhow::Result<()> {
    logging::start(options.common.log.as_deref())?;
    let (uplinks, mut trunk) = options.open()?;
    let capture = options.open_capture()?;
    let sandbox = Sandbox::new(options.common.sandbox);
    let sandbox = uplinks.iter().fold(sandbox, |sandbox, uplink| match uplink {
        Uplink::Tap(_) => sandbox.ioctls(&tap::IOCTLS),
        Uplink::Stream(stream) => stream.keep(sandbox),
        Uplink::Switch(_) | Uplink::Null { .. } | Uplink::Echo => sandbox,
    });
    let sandbox = match trunk.as_ref().map(Trunk::outside) {
        Some(Outside::Tap(_)) => sandbox.ioctls(&tap::IOCTLS),
        Some(Outside::Stream(stream)) => stream.keep(sandbox),
        None => sandbox,
    };
    let outside = trunk.iter().map(|trunk| format!("leading to {}", trunk.outside().describe()));
    let names: Vec<String> = uplinks.iter().map(Uplink::describe).chain(outside).collect();
    tracing::info!(uplink = names.join("; "), "serving");
    let config = json!({
        "uplink": names.join("; "),
        "mac": options.mac,
        "mtu": options.mtu,
        "queue_pairs": options.queue_pairs,
        "queue_size": options.queue_size,
        "ctrl_vq": options.ctrl_vq,
    });
    let devices = uplinks.into_iter().enumerate().map(|(number, uplink)| {
        let device = NetDevice::new(uplink, options.settings(number))
            .limited(options.rates.receive(), options.rates.transmit())
            .captured(capture.clone());
        // The first card starts what serves all of them.
        device.leading_outside(trunk.take())
    });
    let devices = devices.collect();
    let daemon = Daemon { name: "net", options: &options.common, sandbox, config };
    Ok(server::run_all(devices, daemon)?)
}
