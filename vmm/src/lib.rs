//! `outrigger`, the VMM: CPUs, memory and interrupt controllers; every virtio device is a process of its
//! own, spoken to over vhost-user.
//!
//! | module | what it is |
//! |---|---|
//! | [`run`] | from a command line to a running machine, and to its exit status |
//! | [`machine`] | the machine: what it is made of, its life, its main loop |
//! | [`vcpu`] | threads that run the guest |
//! | [`config`] | flags and files, as checked data |
//! | [`bus`], [`devices`] | registers that the VMM emulates itself, and who answers where |
//! | [`control`], [`ctl`] | the control socket, and its client |
//! | [`attach`] | a terminal at a port of a machine's console |
//! | [`sandbox`] | what the threads are confined to |
//! | [`logging`] | the log |
//! | [`check`], [`probe`] | what KVM on this machine is worth |

pub mod attach;
pub mod bus;
pub mod check;
pub mod config;
pub mod control;
pub mod ctl;
pub mod devices;
pub mod logging;
pub mod machine;
pub mod probe;
pub mod run;
pub mod sandbox;
pub mod vcpu;
