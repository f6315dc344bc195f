//! What the guest does, by number.

use crate::balloon::Balloon;
use crate::block::{Block, LENGTH};
use crate::console::Console;
use crate::net::Net;
use crate::pci::Function;
use crate::ports;
use crate::report::{measured, say};
use crate::ring::{load, page, store};
use crate::transport::Device;

/// How often each thing is done that is measured.
const TIMES: u32 = 200;
/// A port that nobody has.
const NOWHERE: u16 = 0x80;

pub fn play(scene: u64) {
    enumerate();
    match scene {
        0 => {}
        1 => net(),
        2 => block(),
        3 => console(),
        5 => balloon(),
        _ => panic!("there is no scene {scene}"),
    }
}

/// Every function of the bus, and the same through both ways in.
fn enumerate() {
    let mut functions = 0;
    for number in 0..=u8::MAX {
        let function = Function(number);
        if !function.exists() {
            continue;
        }
        functions += 1;
        let (vendor, device) = function.ids();
        say(format_args!("function_{number:02x}={vendor:04x}:{device:04x}"));
        for register in (0..256).step_by(4) {
            let (memory, port) = (function.read(register), function.read_by_port(register));
            assert!(memory == port, "{number:02x}.{register:02x} is {memory:08x} and {port:08x}");
        }
        assert!(function.read_high_by_port(0) == device, "half a word differs");
    }
    assert!(!Function(0xff).exists(), "there is a function where none is");
    say(format_args!("functions={functions}"));
}

fn first(kind: u16) -> Device {
    let mut functions = (0..=u8::MAX).map(Function).filter(|function| function.exists());
    let found = functions.find(|function| Device::kind(*function) == Some(kind));
    Device::new(found.expect("there is no such device"))
}

fn block() {
    let device = first(2);
    say(format_args!("offered={:#x}", device.features()));
    say(format_args!("queues={}", device.queues()));
    say(format_args!("vectors={}", device.msi_x.vectors));

    requests(&device);
    pending_bits(&device);
    // What was written before is there after a reset of the device.
    let mut again = Block::start(&device);
    assert!(again.holds(8, 1), "the content is gone after a reset");
    costs(&mut again);
    device.reset();
    assert!(device.status() == 0, "a reset device has a status");
    say(format_args!("done=ok"));
}

fn requests(device: &Device) {
    let mut block = Block::start(device);
    say(format_args!("capacity={}", block.capacity() * 512));
    let (id, length) = block.id();
    say(format_args!("id={}", core::str::from_utf8(&id[..length]).unwrap_or("?")));
    let last = block.capacity() - u64::from(LENGTH) / 512;
    for (seed, sector) in (1..).zip([8, 4096, last]) {
        block.write(sector, seed);
    }
    block.flush();
    for (seed, sector) in (1..).zip([8, 4096, last]) {
        assert!(block.holds(sector, seed), "what was read is not what was written");
    }
    say(format_args!("requests=ok"));
}

/// A masked vector keeps its interrupt as a pending bit, and gives it up when it is unmasked.
fn pending_bits(device: &Device) {
    device.enable_msi_x(true);
    device.set_vector(1, 0x41);
    let mut block = Block::start(device);
    assert!(!device.is_pending(1), "an interrupt is pending before there was any");
    block.flush();
    let mut looks = 0;
    while !device.is_pending(1) {
        looks += 1;
        assert!(looks < 100_000, "no interrupt is pending");
    }
    device.enable_msi_x(false);
    assert!(!device.is_pending(1), "an interrupt is pending and not masked");
    // With MSI-X, the ISR register stays as it is (virtio 1.4, 4.1.4.5).
    assert!(load::<u8>(device.isr) == 0, "the ISR register has something to say");
    say(format_args!("pending=ok"));
}

/// A card whose daemon sends everything back.
fn net() {
    let device = first(1);
    for life in 0..2 {
        let mut net = Net::start(&device);
        let [a, b, c, d, e, f] = net.mac();
        say(format_args!("mac={a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"));
        for (seed, length) in (life..).zip([60, 61, 300, 1514]) {
            assert!(net.echoes(length, seed), "a frame of {length} bytes has changed on its way");
        }
        device.reset();
    }
    say(format_args!("done=ok"));
}

/// A line out, and a line in and out again.
fn console() {
    let device = first(3);
    let mut console = Console::start(&device);
    console.write(b"from the guest\n");
    say(format_args!("returned={}", console.return_line()));
    device.reset();
    say(format_args!("done=ok"));
}

/// Pages lose their content when they are given away, and can be used again.
fn balloon() {
    const FIRST: u64 = 40;
    let device = first(5);
    let mut balloon = Balloon::start(&device);
    let wanted = balloon.wanted();
    say(format_args!("wanted={wanted}"));
    let all = || (0..u64::from(wanted)).map(|number| page(FIRST + number));
    all().for_each(|page| store(page, u64::MAX));
    balloon.give(FIRST, wanted);
    assert!(all().all(|page| load::<u64>(page) == 0), "a page that was given away has its content");
    balloon.take(FIRST, wanted);
    all().for_each(|page| store(page, page));
    assert!(all().all(|page| load::<u64>(page) == page), "a page does not keep its content");
    device.reset();
    say(format_args!("done=ok"));
}

/// What leaving the guest costs; the host's clock tells.
fn costs(block: &mut Block<'_>) {
    measured(1, || (0..TIMES).for_each(|_| block.kick()));
    let common = block.device.common;
    measured(2, || {
        for _ in 0..TIMES {
            let _: u8 = load(common + 0x15);
        }
    });
    measured(3, || (0..TIMES).for_each(|_| ports::write8(NOWHERE, 0)));
    measured(4, || (0..TIMES).for_each(|_| block.flush()));
    measured(5, || {
        for round in 0..TIMES * 5000 {
            store(crate::ring::page(30), round);
        }
    });
    say(format_args!("times={TIMES}"));
}
