//! Accesses to the configuration space of the block device, through a session.

use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use framework::device::Device;
use framework::session::{Action, RingOffer, Session};
use rustix::event::{EventfdFlags, eventfd};
use virtio_spec::block::WRITEBACK_OFFSET;
use virtio_spec::vhost_user::{ConfigFlags, ConfigHeader, ProtocolFeatures};
use wire::{Reply, Request};

use crate::messages::{Local, null_device};

/// An access.
#[derive(Arbitrary, Debug)]
enum Access {
    Read {
        offset: Number,
        size: Number,
    },
    Write {
        offset: Number,
        data: Vec<u8>,
        flags: Flags,
    },
    WriteBack(u8),
    /// The driver's features, of which some decide what may be written.
    Features(u64),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Number {
    Small(u8),
    Any(u32),
}

impl Number {
    fn value(self) -> u32 {
        match self {
            Number::Small(n) => u32::from(n % 80),
            Number::Any(n) => n,
        }
    }
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Flags {
    Driver,
    Migration,
    Any(u32),
}

/// One input.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let mut device = null_device();
    let waker = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).unwrap());
    let mut session = Session::new(&device, RingOffer::default(), &waker);
    let mut workers = Local::new(0);
    let protocol = ProtocolFeatures::CONFIG | ProtocolFeatures::REPLY_ACK;
    let agree = Request::SetProtocolFeatures(protocol.bits());
    assert!(session.handle(&mut device, agree, false, &mut workers).is_ok());
    let length = device.config().len();
    while let Ok(access) = Access::arbitrary(&mut input) {
        let before = device.config();
        let request = access.request();
        let shown = format!("{request:?}");
        let outcome = session.handle(&mut device, request, true, &mut workers);
        let after = device.config();
        assert_eq!(after.len(), length);
        match access {
            Access::Read { offset, size } => {
                assert_eq!(before, after);
                check_read(&after, offset.value(), size.value(), &outcome.unwrap());
            }
            Access::Write { .. } | Access::WriteBack(_) => {
                assert!(
                    matches!(outcome, Ok(Action::Reply { reply: Reply::Ack(_), .. })),
                    "{shown}"
                );
                for (at, (old, new)) in before.iter().zip(&after).enumerate() {
                    assert!(old == new || at == WRITEBACK_OFFSET, "{shown} changed byte {at}");
                }
            }
            // Bits that are not offered end the connection.
            Access::Features(_) if outcome.is_err() => break,
            Access::Features(_) => {}
        }
        if input.is_empty() {
            break;
        }
    }
}

/// What a read must answer: exactly the part that was asked for, or that there is no such part.
fn check_read(config: &[u8], offset: u32, size: u32, action: &Action) {
    let start = offset as usize;
    let right = config.get(start..start.saturating_add(size as usize)).filter(|_| size > 0);
    match (action, right) {
        (Action::Reply { reply: Reply::Config(found), .. }, Some(right)) => {
            assert_eq!((found.offset, found.data.as_slice()), (offset, right));
        }
        (Action::Reply { reply: Reply::ConfigRefused, .. }, None) => {}
        (action, _) => panic!("{size} bytes at {offset} are answered with {action:?}"),
    }
}

impl Access {
    fn request(&self) -> Request {
        match self {
            Access::Read { offset, size } => Request::GetConfig(ConfigHeader {
                offset: offset.value(),
                size: size.value(),
                flags: 0,
            }),
            Access::Write { offset, data, flags } => {
                let flags = match flags {
                    Flags::Driver => 0,
                    Flags::Migration => ConfigFlags::MIGRATION.bits(),
                    Flags::Any(flags) => *flags,
                };
                let data = data.clone();
                let access =
                    ConfigHeader { offset: offset.value(), size: data.len() as u32, flags };
                Request::SetConfig { access, data }
            }
            Access::WriteBack(value) => {
                let access = ConfigHeader { offset: WRITEBACK_OFFSET as u32, size: 1, flags: 0 };
                Request::SetConfig { access, data: vec![*value] }
            }
            Access::Features(bits) => Request::SetFeatures(*bits),
        }
    }
}
