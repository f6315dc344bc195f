//! What a guest is to do, in order.

use crate::stream::Stream;

/// The step that measures a stream.
const STREAM: &str = "stream";

/// A job for `guest/init.sh`: each step calls a function of `guest/block.sh` or `guest/vmm.sh`.
#[derive(Debug, Clone, Default)]
pub struct Job {
    shell: String,
}

impl Job {
    /// A guest that boots and powers off.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says what the driver found: features, capacity, queues, serial, cache mode.
    #[must_use]
    pub fn describe(self, disk: &str) -> Self {
        self.step(&format!("describe {disk}"))
    }

    /// Discards the whole disk, if discards are offered.
    #[must_use]
    pub fn discard(self, disk: &str) -> Self {
        self.step(&format!("discard {disk}"))
    }

    /// Makes a file system, writes files of `mebibytes` in all with an fsync each, checks the file
    /// system, and compares the files' SHA-256 after mounting it again.
    #[must_use]
    pub fn filesystem(self, disk: &str, mebibytes: u32) -> Self {
        self.step(&format!("filesystem {disk} {mebibytes}"))
    }

    /// Random direct I/O from some threads, each byte of it checked (`guest/io.rs`). Destroys a
    /// file system.
    #[must_use]
    pub fn stamped(self, disk: &str, seconds: u32, threads: u32) -> Self {
        self.step(&format!("stamped {disk} {seconds} {threads}"))
    }

    /// Says `waiting=resize`, and waits for another capacity.
    #[must_use]
    pub fn await_resize(self, disk: &str) -> Self {
        self.step(&format!("await_resize {disk}"))
    }

    /// Writes the last block and reads it back.
    #[must_use]
    pub fn end_of_disk(self, disk: &str) -> Self {
        self.step(&format!("end_of_disk {disk}"))
    }

    /// Checks that the disk says it is read-only, and refuses a write.
    #[must_use]
    pub fn read_only(self, disk: &str) -> Self {
        self.step(&format!("read_only {disk}"))
    }

    /// Verified I/O from some threads and `mebibytes` of watched memory, until the host writes a line
    /// to the console (`guest/migration.sh`).
    #[must_use]
    pub fn busy(self, disk: &str, threads: u32, mebibytes: u32) -> Self {
        self.step(&format!("busy {disk} {threads} {mebibytes}"))
    }

    /// Fills a file of `mebibytes` in memory, says `filled=ok`, waits a moment, and removes it.
    #[must_use]
    pub fn fill_and_free(self, mebibytes: u32) -> Self {
        self.step(&format!("fill_and_free {mebibytes}"))
    }

    /// Has `mebibytes` of memory written and checked all the while.
    #[must_use]
    pub fn watched_memory(self, mebibytes: u32) -> Self {
        self.step(&format!("watched_memory {mebibytes}"))
    }

    /// Needs `mebibytes` at once, and says `hogged=ok` when it has had them.
    #[must_use]
    pub fn hog(self, mebibytes: u32) -> Self {
        self.step(&format!("hog {mebibytes}"))
    }

    /// Says what the kernel has counted of swapping, faults and killing, several times a second.
    #[must_use]
    pub fn report_events(self) -> Self {
        self.step("report_events")
    }

    /// Random I/O from some threads, each byte of it checked, until the machine is ended.
    #[must_use]
    pub fn verified_io(self, disk: &str, threads: u32) -> Self {
        self.step(&format!("verified_io {disk} {threads}"))
    }

    /// Says what memory there is, several times a second, until the machine is ended.
    #[must_use]
    pub fn report_memory(self) -> Self {
        self.step("report_memory")
    }

    /// The same, while it goes on.
    #[must_use]
    pub fn report_memory_meanwhile(self) -> Self {
        self.step("report_memory &")
    }

    /// Waits until there are `mebibytes` available, and needs half of that at once.
    #[must_use]
    pub fn takes_memory(self, mebibytes: u32) -> Self {
        self.step(&format!("takes_memory {mebibytes}"))
    }

    /// Gives the network card its addresses, and says what the driver found.
    #[must_use]
    pub fn network(self) -> Self {
        self.step("network")
    }

    /// Pings the host with small, odd, large and fragmented packets, over IPv4 and IPv6.
    #[must_use]
    pub fn pings(self) -> Self {
        self.step("pings")
    }

    /// Sends `mebibytes` to the host over TCP and fetches as many; says their sums and the rates.
    #[must_use]
    pub fn transfers(self, mebibytes: u32) -> Self {
        self.step(&format!("transfers {mebibytes}"))
    }

    /// Pings for some seconds, and says the longest time without an answer (`silence_cs`).
    #[must_use]
    pub fn outlives_silence(self) -> Self {
        self.step("outlives_silence")
    }

    /// Has this interface for its network card; `eth0` if nothing else is said.
    #[must_use]
    pub fn card(self, name: &str) -> Self {
        self.step(&format!("CARD={name}"))
    }

    /// Lets frames of the network card carry so many bytes, and pings with frames that are full.
    #[must_use]
    pub fn mtu(self, bytes: u32) -> Self {
        self.step(&format!("mtu {bytes}"))
    }

    /// Is 198.51.100.2 on a VLAN of the network card, and pings 198.51.100.1 there.
    #[must_use]
    pub fn vlan(self, id: u16) -> Self {
        self.step(&format!("vlan {id}"))
    }

    /// Sends `mebibytes` by TCP to a port of a host behind the host.
    #[must_use]
    pub fn sends_far(self, host: &str, port: u16, mebibytes: u32) -> Self {
        self.step(&format!("sends_far {host} {port} {mebibytes}"))
    }

    /// Measures a stream of some seconds with iperf3, and says what its receiver got, in bits a second
    /// (`stream_KEY`).
    #[must_use]
    pub fn stream(self, stream: Stream, seconds: u32) -> Self {
        self.step(&format!("{STREAM} {} {seconds} {}", stream.key(), stream.arguments()))
    }

    /// Whether it needs what measures a network.
    pub(crate) fn measures_network(&self) -> bool {
        self.shell.lines().any(|line| line.starts_with(STREAM))
    }

    /// Waits until the card has no link, and then until it has one again; says so.
    #[must_use]
    pub fn watches_link(self) -> Self {
        self.step("watches_link")
    }

    /// Says what the kernel found: CPUs, memory, clock, PCI functions, complaints about firmware.
    #[must_use]
    pub fn machine(self) -> Self {
        self.step("machine")
    }

    /// Says what was negotiated with each virtio device.
    #[must_use]
    pub fn devices(self) -> Self {
        self.step("devices")
    }

    /// Writes a line to the first virtio console.
    #[must_use]
    pub fn console_line(self, text: &str) -> Self {
        self.step(&format!("console_line {text}"))
    }

    /// Waits until a balloon has left at most `mebibytes` available.
    #[must_use]
    pub fn gives_memory(self, mebibytes: u32) -> Self {
        self.step(&format!("gives_memory {mebibytes}"))
    }

    /// Says `waiting=line`, waits for one on the console, and says what it heard.
    #[must_use]
    pub fn hear(self) -> Self {
        self.step("hear")
    }

    /// Restarts the machine the first time that it sees this disk.
    #[must_use]
    pub fn reboot_once(self, disk: &str) -> Self {
        self.step(&format!("reboot_once {disk}"))
    }

    /// The first time, starts the kernel that is in the first so many bytes of the disk, with the initrd
    /// 32 MiB after its beginning; this same one, so that the job begins again.
    #[must_use]
    pub fn kexec_once(self, disk: &str, kernel: u64) -> Self {
        self.step(&format!("kexec_once {disk} {kernel}"))
    }

    /// Says the first network card's MAC address and MTU.
    #[must_use]
    pub fn network_address(self) -> Self {
        self.step("network_address")
    }

    /// Says a line to the host's vsock port, which has to answer `heard` and the line.
    #[must_use]
    pub fn vsock_line(self, port: u32, text: &str) -> Self {
        self.step(&format!("vsock_line {port} {text}"))
    }

    /// Takes the disk away from its driver and gives it back.
    #[must_use]
    pub fn rebind(self, disk: &str) -> Self {
        self.step(&format!("rebind {disk}"))
    }

    /// Says `waiting=power-button`, and waits for it.
    #[must_use]
    pub fn await_power_button(self) -> Self {
        self.step("await_power_button")
    }

    /// Mounts a shared folder by its tag, reads the file `to-guest` and writes `to-host`.
    #[must_use]
    pub fn shared_folder(self, tag: &str) -> Self {
        self.step(&format!("shared_folder {tag}"))
    }

    /// Asks for an address on the first network card, and fetches a page.
    #[must_use]
    pub fn fetch(self, url: &str) -> Self {
        self.step(&format!("fetch {url}"))
    }

    /// Waits until the machine is ended.
    #[must_use]
    pub fn for_ever(self) -> Self {
        self.step("for_ever")
    }

    /// A job in the shell's own words.
    #[must_use]
    pub fn of_shell(shell: &str) -> Self {
        Self { shell: format!("{shell}\n") }
    }

    pub(crate) fn shell(&self) -> &str {
        &self.shell
    }

    fn step(mut self, line: &str) -> Self {
        self.shell.push_str(line);
        self.shell.push('\n');
        self
    }
}
