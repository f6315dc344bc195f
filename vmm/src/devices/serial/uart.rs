//! The 16550 that the guest sees.
//!
//! A driver that looks for the device, or sets it up, reads the data register to empty it, and what
//! somebody typed ahead would be lost. So input is visible only to a driver that listens: one that
//! has enabled the interrupt for received data, or that polls the line status.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vm_superio::Trigger;
use vm_superio::serial::{Serial as Uart16550, SerialEvents};

use super::output::{Output, Transmitter};
use crate::bus::Device;
use crate::devices::Line;

/// Receive and transmit buffer.
const DATA: u8 = 0;
/// Interrupt enable register.
const INTERRUPT_ENABLE: u8 = 1;
/// Line control register.
const LINE_CONTROL: u8 = 3;
/// Modem control register.
const MODEM_CONTROL: u8 = 4;
/// Line status register.
const LINE_STATUS: u8 = 5;
/// In the interrupt enable register: received data.
const RECEIVED_DATA: u8 = 1;
/// In the line control register: the first two registers are the divisor.
const DIVISOR_LATCH: u8 = 1 << 7;
/// In the modem control register: what is sent is received.
const LOOP: u8 = 1 << 4;
/// In the line status register: there is input.
const DATA_READY: u8 = 1;
/// A driver that reads the line status this often, and nothing else, polls for input. One that
/// sends reads it once for each byte.
const POLLS: u32 = 8;

/// COM1 as vCPUs access it.
pub struct Serial {
    state: Mutex<State>,
    line: Arc<dyn Line>,
    output: Arc<Output>,
    events: Arc<Events>,
}

type Uart = Uart16550<Interrupt, Arc<Events>, Transmitter>;

struct State {
    uart: Uart,
    /// The driver wants an interrupt for received data.
    receives: bool,
    /// It talks to itself.
    loops: bool,
    /// It addresses the divisor, not data and interrupt enable.
    divides: bool,
    /// How often in a row it read the line status.
    polls: u32,
}

impl State {
    fn new(uart: Uart) -> Self {
        Self { uart, receives: false, loops: false, divides: false, polls: 0 }
    }

    /// Whether the driver waits for input.
    fn listens(&self) -> bool {
        self.receives || self.polls >= POLLS
    }

    /// Whether input may come now.
    fn takes_input(&self) -> bool {
        self.listens() && !self.loops
    }

    /// What the guest reads.
    fn read(&mut self, register: u8) -> u8 {
        let is_hidden = !self.listens() && !self.loops;
        match register {
            DATA if is_hidden && !self.divides => 0,
            LINE_STATUS if is_hidden => self.uart.read(register) & !DATA_READY,
            _ => self.uart.read(register),
        }
    }

    /// What the guest writes.
    fn write(&mut self, register: u8, value: u8) {
        // Neither the interrupt nor the transmitter can fail.
        let _ = self.uart.write(register, value);
        match register {
            INTERRUPT_ENABLE if !self.divides => self.receives = value & RECEIVED_DATA != 0,
            LINE_CONTROL => self.divides = value & DIVISOR_LATCH != 0,
            MODEM_CONTROL => self.loops = value & LOOP != 0,
            _ => {}
        }
    }
}

impl Serial {
    pub(super) fn new(line: Arc<dyn Line>, output: Arc<Output>) -> Self {
        let events =
            Arc::new(Events { output: Arc::clone(&output), starved: AtomicBool::new(false) });
        let state = State::new(uart(&line, &events));
        Self { state: Mutex::new(state), line, output, events }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much input the guest takes now. If that is none, the port is woken when it takes more.
    pub(super) fn room(&self) -> usize {
        let state = self.lock();
        let room = if state.takes_input() { state.uart.fifo_capacity() } else { 0 };
        self.events.starved.store(room == 0, Ordering::Relaxed);
        room
    }

    /// Hands input to the guest, and says how much of it was taken.
    pub(super) fn receive(&self, input: &[u8]) -> usize {
        let mut state = self.lock();
        // Full, or the guest has begun to talk to itself: the port keeps the rest.
        let taken = state.uart.enqueue_raw_bytes(input).unwrap_or(0);
        self.events.starved.store(taken < input.len(), Ordering::Relaxed);
        taken
    }

    fn read_register(&self, register: u8) -> u8 {
        let mut state = self.lock();
        match register {
            LINE_STATUS => state.polls = state.polls.saturating_add(1),
            DATA => {}
            _ => state.polls = 0,
        }
        if state.polls == POLLS {
            self.events.fed();
        }
        state.read(register)
    }

    fn write_register(&self, register: u8, value: u8) {
        if register == DATA {
            self.output.wait_for_room();
        }
        let mut state = self.lock();
        let took_input = state.takes_input();
        state.polls = 0;
        state.write(register, value);
        if state.takes_input() && !took_input {
            self.events.fed();
        }
    }
}

impl Device for Serial {
    /// Registers have 8 bits; a wider access is one to each of several.
    fn read(&self, offset: u64, data: &mut [u8]) {
        for (register, byte) in (offset..).zip(data) {
            *byte = u8::try_from(register).map_or(0, |register| self.read_register(register));
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        for (register, &byte) in (offset..).zip(data) {
            if let Ok(register) = u8::try_from(register) {
                self.write_register(register, byte);
            }
        }
    }

    /// Output that is on its way is still delivered.
    fn reset(&self) {
        let uart = uart(&self.line, &self.events);
        *self.lock() = State::new(uart);
    }
}

fn uart(line: &Arc<dyn Line>, events: &Arc<Events>) -> Uart {
    let transmitter = Transmitter(Arc::clone(&events.output));
    Uart16550::with_events(Interrupt(Arc::clone(line)), Arc::clone(events), transmitter)
}

/// The 16550's interrupt.
struct Interrupt(Arc<dyn Line>);

impl Trigger for Interrupt {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        self.0.pulse();
        Ok(())
    }
}

/// What the port wants to know.
struct Events {
    output: Arc<Output>,
    /// The port has input, or had none, when there was no room for it.
    starved: AtomicBool,
}

impl Events {
    /// There is room for input.
    fn fed(&self) {
        if self.starved.swap(false, Ordering::Relaxed) {
            self.output.wake();
        }
    }
}

impl SerialEvents for Events {
    fn buffer_read(&self) {}

    fn out_byte(&self) {}

    fn tx_lost_byte(&self) {}

    fn in_buffer_empty(&self) {
        self.fed();
    }
}
