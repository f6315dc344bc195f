//! The life of a machine on this machine's own KVM, with guests of a few instructions: how it ends, and how
//! that is told. Emulating KVMs run these guests, too.

use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::program::Program;
use crate::vm::Vm;

fn hello() -> Program {
    Program::default().say("hello\n")
}

/// Runs a guest to its end.
macro_rules! run {
    ($program:expr $(, $argument:expr)*) => {
        match Vm::start(&$program, &[$($argument),*]) {
            Some(vm) => vm.end(),
            None => return,
        }
    };
}

/// Starts a guest and waits until it said hello.
macro_rules! start {
    ($program:expr $(, $argument:expr)*) => {
        match Vm::start(&$program, &[$($argument),*]) {
            Some(mut vm) => {
                vm.await_serial("hello");
                vm
            }
            None => return,
        }
    };
}

#[test]
fn a_guest_that_switches_itself_off_ends_with_success_and_without_a_word() {
    let end = run!(hello().power_off(), "--log=warn");
    assert_eq!((end.status, end.serial.as_str(), end.words.as_str()), (Some(0), "hello\n", ""));
}

#[test]
fn a_triple_fault_has_a_status_of_its_own_and_shows_registers() {
    let end = run!(Program::default().fault());
    assert_eq!(end.status, Some(3), "{end:?}");
    assert!(end.words.contains("triple fault on vcpu0") && end.words.contains("rip"), "{end:?}");
}

#[test]
fn what_kvm_cannot_do_has_a_status_of_its_own_and_shows_registers() {
    // There is nothing to execute where there is no memory.
    let end = run!(Program::default().jump(0xd000_0000));
    assert_eq!(end.status, Some(4), "{end:?}");
    assert!(end.words.contains("vcpu0") && end.words.contains("d0000000"), "{end:?}");
}

#[test]
fn a_triple_fault_can_reset_instead() {
    let program = hello().unless_in_life(3, &Program::default().fault()).power_off();
    let end = run!(program, "--on-triple-fault=reset");
    assert_eq!((end.status, end.serial.as_str()), (Some(0), "hello\nhello\nhello\n"), "{end:?}");
}

#[test]
fn resets_start_the_guest_again() {
    for (port, value) in [(0xcf9, 0x06), (0x64, 0xfe)] {
        let again = Program::default().out(port, value).stop();
        let end = run!(hello().unless_in_life(3, &again).power_off(), "--cpus=2");
        assert_eq!((end.status, end.serial.matches("hello").count()), (Some(0), 3), "{end:?}");
    }
}

#[test]
fn a_panic_is_told_apart_if_it_is_to_stop_the_machine() {
    let panicking = Program::default().out(0x505, 1);
    assert_eq!(run!(panicking.clone().stop(), "--on-panic=stop").status, Some(5));
    assert_eq!(run!(panicking.power_off(), "--on-panic=ignore").status, Some(0));
}

#[test]
fn a_signal_presses_the_power_button() {
    for signal in [Signal::TERM, Signal::INT] {
        let vm = start!(hello().await_power_button().power_off());
        vm.signal(signal);
        assert_eq!(vm.end().status, Some(0));
    }
}

#[test]
fn a_guest_that_does_not_obey_is_stopped_after_the_grace_time() {
    let vm = start!(hello().stop(), "--grace=1");
    vm.signal(Signal::TERM);
    let end = vm.end();
    assert_eq!(end.status, Some(7));
    assert!(end.words.contains("grace time"), "{end:?}");
}

#[test]
fn a_second_signal_stops_at_once() {
    let vm = start!(hello().stop(), "--grace=600");
    vm.signal(Signal::TERM);
    thread::sleep(Duration::from_millis(50));
    vm.signal(Signal::INT);
    let end = vm.end();
    assert_eq!(end.status, Some(7));
    assert!(end.words.contains("second signal"), "{end:?}");
}

#[test]
fn the_control_socket_commands_it() {
    let vm = start!(hello().await_power_button().power_off(), "--cpus=2");
    assert_eq!(vm.threads(), ["outrigger", "vcpu0", "vcpu1"]);
    assert!(vm.ctl("status").unwrap().contains("running"));
    assert!(vm.ctl("resume").unwrap_err().contains("not paused"));
    assert_eq!(vm.ctl("pause").unwrap(), "quiesced  yes\n");
    let status = vm.ctl("status").unwrap();
    assert!(status.contains("paused") && status.contains("quiesced"), "{status}");
    vm.ctl("resume").unwrap();
    vm.ctl("power-button").unwrap();
    assert_eq!(vm.end().status, Some(0));
}

#[test]
fn a_paused_machine_uses_no_cpu_time() {
    let vm = start!(hello().stop());
    vm.ctl("pause").unwrap();
    let before = vm.ticks();
    thread::sleep(Duration::from_millis(300));
    assert_eq!(vm.ticks(), before);
    vm.ctl("stop").unwrap();
    assert_eq!(vm.end().status, Some(7));
}

#[test]
fn nothing_wakes_while_the_guest_sleeps() {
    let vm = start!(hello().halt(), "--cpus=2");
    // KVM synchronizes the clocks of new vCPUs after a tenth of a second.
    thread::sleep(Duration::from_millis(400));
    let before = vm.switches();
    thread::sleep(Duration::from_millis(500));
    assert_eq!(vm.switches(), before);
    vm.ctl("stop").unwrap();
    assert_eq!(vm.end().status, Some(7));
}

#[test]
fn a_reset_from_outside_starts_the_guest_again() {
    let mut vm = start!(hello().stop());
    vm.ctl("reset").unwrap();
    vm.await_serial("hello\nhello");
    vm.ctl("stop").unwrap();
    assert_eq!(vm.end().status, Some(7));
}

#[test]
fn many_vcpus_are_made_and_ended() {
    let vm = start!(hello().await_power_button().power_off(), "--cpus=64");
    assert_eq!(vm.threads().len(), 65);
    vm.signal(Signal::TERM);
    assert_eq!(vm.end().status, Some(0));
}

#[test]
fn what_is_missing_is_said() {
    let end = run!(hello(), "--vhost-user=type=blk,socket=/no/such/socket,timeout=1");
    assert_eq!(end.status, Some(1));
    assert!(end.words.contains("/no/such/socket"), "{end:?}");
}

#[test]
fn a_back_end_that_comes_to_us_is_waited_for_until_a_signal() {
    let back_end = "--vhost-user=type=blk,socket=back-end,server=on,timeout=1";
    let Some(mut vm) = Vm::start(&hello(), &[back_end]) else { return };
    vm.await_file("back-end");
    thread::sleep(Duration::from_millis(20));
    assert_eq!(vm.mode("back-end"), 0o600, "nobody else may connect");
    vm.signal(Signal::TERM);
    let end = vm.end();
    assert_eq!(end.status, Some(7));
    assert!(end.words.contains("before the guest was started"), "{end:?}");
}
