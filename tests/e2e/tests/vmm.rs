//! `outrigger` with stock kernels as its guests: under this machine's KVM where that runs kernels, else
//! nested in QEMU.
//!
//! A site takes seconds to boot, so each test does several things in the one it has.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use e2e::{
    Contents, Error, FIRST, Job, Kind, Kit, PEERS, Place, Programs, REQUIRE, Root, Site, Vm,
    VmSetup, require,
};
use virtio_spec::DeviceType;

/// Bytes of a disk.
const DISK: &str = "128M";

/// The second disk, as the driver calls it.
const SECOND: &str = "vdb";

/// What a guest writes to its console.
const LINE: &str = "still here";
/// MiB that a balloon takes of a guest's 256, and what is then available at most.
const TAKEN: u32 = 100;
const LEFT: u32 = 150;

/// All there are.
const DAEMONS: [&str; 4] =
    ["outrigger-blk", "outrigger-net", "outrigger-console", "outrigger-balloon"];
/// How often each daemon is killed.
const KILLS: u32 = 3;
/// How long the next ones then have.
const BETWEEN: Duration = Duration::from_millis(500);

/// A site for a test, if it is to be had.
fn site(name: &str) -> Option<Site> {
    let place = Place::of_workspace().unwrap();
    let kit = require(name, Kit::cached(&place, Kind::Qemu))?;
    let (programs, contents) = (Programs::on_demand(), Contents::new());
    let site = Site::best(&place, name, &kit, (&programs, &contents)).unwrap();
    eprintln!("{name}: {:?}, after {:.1?}", site.ground(), site.took());
    Some(site)
}

/// The daemon that serves this image.
fn daemon_of(site: &Site, image: &str) -> u32 {
    daemon(site, "outrigger-blk", image, None)
}

/// The daemon of this program with this among its arguments; another one than `before`.
fn daemon(site: &Site, program: &str, argument: &str, before: Option<u32>) -> u32 {
    for _ in 0..100 {
        match site.processes(program, argument).unwrap()[..] {
            [daemon] if Some(daemon) != before => return daemon,
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    }
    panic!("there is not one {program} with {argument}");
}

fn make_disk(site: &Site, image: &str) {
    site.run(&format!("truncate -s {DISK} {image}")).unwrap();
}

#[test]
fn a_stock_kernel_works_on_its_disk() {
    let Some(site) = site("vmm-disk") else { return };
    let found = site.run("outrigger check").unwrap();
    assert!(found.contains("natively"), "{found}");

    make_disk(&site, "a.img");
    let job = Job::new()
        .machine()
        .describe(FIRST)
        .discard(FIRST)
        .filesystem(FIRST, 8)
        .rebind(FIRST)
        .stamped(FIRST, 1, 4)
        .end_of_disk(FIRST);
    let vm = site.boot(&VmSetup::new("disk", job).with_disk("a.img,serial=nested")).unwrap();
    let results = vm.finish().unwrap();

    let get = |key: &str| results.get(key).map_or("", String::as_str);
    assert_eq!(get("cpus"), "2");
    // The host bridge and the disk.
    assert_eq!(get("functions"), "2");
    assert_eq!(get("complaints"), "0");
    assert_eq!(get("serial"), "nested");
    assert_eq!(get("filesystem"), "ext4");
    assert_eq!(get("rebound"), "ok");
    assert_eq!(get("end"), "ok");
    assert!(get("checked_blocks").parse::<u64>().unwrap() > 0);
    site.await_none("outrigger-blk", "a.img").unwrap();
}

#[test]
fn a_machine_is_controlled() {
    let Some(site) = site("vmm-control") else { return };

    make_disk(&site, "b.img");
    let job = Job::new().reboot_once(FIRST).hear().await_power_button();
    let mut vm = site.boot(&VmSetup::new("control", job).with_disk("b.img")).unwrap();
    vm.guest.wait_for("rebooting").unwrap();
    let before = daemon_of(&site, "b.img");
    vm.guest.wait_for("rebooted").unwrap();
    // A restart of the guest is none of the daemon's.
    assert_eq!(daemon_of(&site, "b.img"), before);
    vm.guest.wait_for("waiting").unwrap();
    vm.guest.say("hello from outside").unwrap();
    assert_eq!(vm.guest.wait_for("heard").unwrap(), "hello from outside");
    assert_eq!(vm.guest.wait_for("waiting").unwrap(), "power-button");
    vm.ctl("pause").unwrap();
    assert!(vm.ctl("status").unwrap().to_string().contains("paused"));
    vm.ctl("resume").unwrap();
    vm.ctl("power-button").unwrap();
    vm.guest.wait_for("pressed").unwrap();
    vm.finish().unwrap();

    // A signal presses the button too.
    let job = Job::new().await_power_button();
    let mut vm = site.boot(&VmSetup::new("signal", job)).unwrap();
    vm.guest.wait_for("waiting").unwrap();
    vm.signal("TERM").unwrap();
    vm.guest.wait_for("pressed").unwrap();
    vm.finish().unwrap();
}

/// Class: a reset of another kind each: nothing is shut down before a kernel starts another; a driver
/// lets its device go and takes it again. The back-end's connection stays.
#[test]
fn a_kernel_starts_another_and_drivers_come_and_go() {
    let Some(site) = site("vmm-kexec") else { return };

    let size = site.run(&format!("wc -c < {}", site.kernel())).unwrap();
    let job = Job::new()
        .kexec_once(FIRST, size.trim().parse().unwrap())
        .rebind(FIRST)
        .stamped(SECOND, 1, 4)
        .rebind(SECOND)
        .stamped(SECOND, 1, 4)
        .hear();
    let initrd = site.initrd("kexec", &job).unwrap();
    site.run(&format!("dd if={} of=k.img bs=1M", site.kernel())).unwrap();
    site.run(&format!("dd if={initrd} of=k.img bs=1M seek=32; truncate -s 48M k.img")).unwrap();
    make_disk(&site, "l.img");
    let setup = VmSetup::new("kexec", job).with_disk("k.img").with_disk("l.img");
    let mut vm = site.boot(&setup).unwrap();
    vm.guest.wait_for("kexecing").unwrap();
    let daemons = ["k.img", "l.img"].map(|image| daemon_of(&site, image));
    vm.guest.wait_for("kexeced").unwrap();
    vm.guest.wait_for("waiting").unwrap();
    assert_eq!(["k.img", "l.img"].map(|image| daemon_of(&site, image)), daemons);
    let stats = vm.ctl("stats").unwrap();
    for disk in ["disk0", "disk1"] {
        assert_eq!(stats["devices"][disk]["losses"], 0, "{stats}");
    }
    vm.guest.say("enough").unwrap();
    let results = vm.finish().unwrap();
    assert_eq!(results.get("rebound").unwrap(), "ok");
    assert_ne!(results.get("checked_blocks").unwrap(), "0");
}

/// A guest that does not go on: what can still be seen of why.
fn stuck(vm: &Vm<'_>, error: &Error) -> ! {
    panic!("{error}\n{}", vm.state_of_affairs())
}

#[test]
fn deaths_are_survived_by_those_who_should() {
    let Some(site) = site("vmm-deaths") else { return };

    make_disk(&site, "c.img");
    let job = Job::new()
        .network()
        .stamped(FIRST, 12, 8)
        .pings()
        .console_line(LINE)
        .gives_memory(LEFT)
        .for_ever();
    let setup = VmSetup::new("deaths", job)
        .with_disk("c.img")
        .with("--net tap=tap0")
        .with("--console backend=file:c.console")
        .with(&format!("--balloon target={TAKEN}M"));
    let mut vm = site.boot(&setup).unwrap();
    vm.guest.wait_for("progress").unwrap();
    // While the disk works, every daemon dies, one after the other, again and again.
    for _ in 0..KILLS {
        for program in DAEMONS {
            let old = daemon(&site, program, "--fd", None);
            site.signal(old, "KILL").unwrap();
            daemon(&site, program, "--fd", Some(old));
        }
        std::thread::sleep(BETWEEN);
    }
    // The interface went with the daemon that had made it.
    site.network_with("tap0").unwrap();
    // Every byte that was written is compared in the end.
    let checked = vm.guest.wait_for("checked_blocks");
    assert_ne!(checked.unwrap_or_else(|error| stuck(&vm, &error)), "0");
    let written: u64 = vm.guest.results().get("writes").unwrap().parse().unwrap();
    assert!(written > 0);
    // And each of the others does what it is for.
    for done in ["pings", "console_line", "gave_memory"] {
        let said = vm.guest.wait_for(done);
        assert_eq!(said.unwrap_or_else(|error| stuck(&vm, &error)), "ok");
    }
    assert!(site.run("cat c.console").unwrap().contains(LINE));

    vm.guest.wait_for("waiting").unwrap();
    vm.signal("KILL").unwrap();
    assert_eq!(vm.guest.status().unwrap(), -9);
    for program in DAEMONS {
        site.await_none(program, "--fd").unwrap();
    }
    site.await_none("outrigger", "c.img").unwrap();
    // The kernel takes a moment to let go of what a killed process's io_uring held.
    let gone =
        "for _ in $(seq 50); do ip link show tap0 > /dev/null 2>&1 || exit 0; usleep 100000; done";
    site.run(&format!("{gone}; exit 1")).unwrap();
}

#[test]
fn a_guest_has_a_device_of_every_daemon() {
    let Some(site) = site("vmm-all") else { return };

    let whole = site.play_whole("all", &[]).unwrap();
    assert_eq!(whole.results.get("complaints").unwrap(), "0");
    for done in ["pings", "vlan", "console_line", "gave_memory"] {
        assert_eq!(whole.results.get(done).unwrap(), "ok", "{done}");
    }
    assert!(whole.was_heard(), "{:?}", whole.heard);
    // The VLAN was heard because the driver's command came through: others are filtered.
    let card = whole.features(DeviceType::NET);
    for wanted in ["CTRL_VQ", "CTRL_RX", "CTRL_VLAN"] {
        assert!(card.iter().any(|name| name == wanted), "{wanted} is not among {card:?}");
    }
}

#[test]
fn there_may_be_254_cpus() {
    let Some(site) = site("vmm-cpus") else { return };
    // On emulated CPUs, to bring up all of them would take minutes; the tables name all.
    let mut setup = VmSetup::new("cpus", Job::new().machine());
    (setup.cpus, setup.memory, setup.cmdline) = (254, 512, "maxcpus=2".into());
    let results = site.boot(&setup).unwrap().finish().unwrap();
    assert_eq!(results.get("cpus").unwrap(), "2");
    assert_eq!(results.get("present").unwrap(), "0-253");
}

#[test]
fn a_foreign_back_end_serves_the_disk() {
    let place = Place::of_workspace().unwrap();
    let Some(kit) = require("vmm-foreign", Kit::cached(&place, Kind::Qemu)) else { return };
    let contents = Contents::new().with_peers(kit.root(), &["usr/bin/qemu-storage-daemon"]);
    let programs = Programs::on_demand();
    let site = Site::best(&place, "vmm-foreign", &kit, (&programs, &contents)).unwrap();

    make_disk(&site, "d.img");
    let limit = Duration::from_secs(120);
    let peer = "exec qemu-storage-daemon --blockdev driver=file,node-name=f,filename=d.img \
                --export type=vhost-user-blk,id=e,node-name=f,addr.type=unix,addr.path=d.sock,\
                writable=on,num-queues=2";
    let _peer = site.start("peer", peer, limit).unwrap();
    let job = Job::new().describe(FIRST).filesystem(FIRST, 8).stamped(FIRST, 1, 4);
    let setup = VmSetup::new("foreign", job).with("--vhost-user type=blk,socket=d.sock");
    let results = site.boot(&setup).unwrap().finish().unwrap();
    assert_eq!(results.get("filesystem").unwrap(), "ext4");
    assert_ne!(results.get("checked_blocks").unwrap(), "0");
}

/// Device types that this project has no back-end for, or another one.
#[test]
fn foreign_back_ends_serve_other_types() {
    let place = Place::of_workspace().unwrap();
    let needed = Kit::cached(&place, Kind::Qemu).and_then(|kit| Ok((kit, peers(&place)?)));
    let Some((kit, peers)) = require("vmm-types", needed) else { return };
    let programs = ["usr/libexec/virtiofsd", "usr/bin/passt", "usr/bin/vhost-device-vsock"];
    let contents = Contents::new().with_peers(&peers, &programs);
    let site = Site::best(&place, "vmm-types", &kit, (&Programs::on_demand(), &contents)).unwrap();

    let limit = Duration::from_secs(120);
    // Some give up their rights before they make their sockets.
    site.run("chmod 777 . && mkdir folder pages; printf 'from outside' > folder/to-guest").unwrap();
    site.run("cp folder/to-guest pages/page").unwrap();
    let fs = "exec virtiofsd --socket-path=fs.sock --tag=share --sandbox=none --shared-dir=folder";
    let _fs = site.start("virtiofsd", fs, limit).unwrap();
    let net = "exec passt --vhost-user --foreground --socket net.sock --address 10.0.2.15 \
               --netmask 24 --gateway 10.0.2.2 --map-host-loopback 10.0.2.2";
    let _net = site.start("passt", net, limit).unwrap();
    let vsock = "exec vhost-device-vsock --vm guest-cid=3,uds-path=vm.vsock,socket=vsock.sock";
    let _vsock = site.start("vsock", vsock, limit).unwrap();
    let _ear = site.start("ear", "exec guest-vsock serve vm.vsock_1234", limit).unwrap();
    let _pages = site.start("pages", "exec busybox httpd -f -p 8080 -h pages", limit).unwrap();

    let job = Job::new()
        .machine()
        .shared_folder("share")
        .fetch("http://10.0.2.2:8080/page")
        .network_address()
        .vsock_line(1234, "hello from inside");
    let setup = VmSetup::new("types", job)
        .with("--vhost-user type=fs,socket=fs.sock")
        .with("--vhost-user type=net,socket=net.sock,mac=02:00:00:00:00:07,mtu=1400")
        .with("--vhost-user type=vsock,socket=vsock.sock");
    let results = site.boot(&setup).unwrap().finish().unwrap();
    assert_eq!(results.get("functions").unwrap(), "4");
    assert_eq!(results.get("folder").unwrap(), "ok");
    assert_eq!(results.get("page").unwrap(), "ok");
    assert_eq!(results.get("vsock").unwrap(), "ok");
    // This one has no configuration space, so that the VMM's user says what is in it.
    assert_eq!(results.get("mac").unwrap(), "02:00:00:00:00:07");
    assert_eq!(results.get("mtu").unwrap(), "1400");
    assert_eq!(site.run("cat folder/to-host").unwrap().trim(), "from inside");
}

/// The packages, fetched if everything is required.
fn peers(place: &Place) -> Result<Root, Error> {
    if std::env::var_os(REQUIRE).is_some() {
        let _lock = place.lock()?;
        return Root::fetch(place, &PEERS);
    }
    Root::cached(place, &PEERS).ok_or_else(|| Error::Missing {
        what: format!("{} ({})", PEERS.packages.join(", "), PEERS.purpose),
        how: "`cargo xtask test` fetches them into target/guests".into(),
    })
}
