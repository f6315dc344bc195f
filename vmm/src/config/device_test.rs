use super::super::daemon::{BALLOON, CONSOLE, DISK, NET};
use super::*;

fn served(kind: &'static Kind, text: &str) -> Result<Device, String> {
    Device::served(kind, 0, text.parse().unwrap_or_default())
}

/// The command line of the daemon.
fn command(kind: &'static Kind, text: &str) -> Vec<String> {
    let Backend::Daemon(daemon) = served(kind, text).unwrap().backend else { unreachable!() };
    daemon.arguments()
}

#[test]
fn a_disk_becomes_a_command_line() {
    assert_eq!(
        command(
            &DISK,
            "path=/a,,b.img,readonly=on,cache=none,queue-size=256,packed=on,discard=off"
        ),
        [
            "--blk-file=/a,b.img",
            "--read-only",
            "--cache=none",
            "--discard=off",
            "--packed",
            "--queue-size=256",
        ]
    );
    assert_eq!(command(&DISK, "null=1G,readonly=off"), ["--null=1073741824"]);
}

#[test]
fn the_other_daemons_have_their_words() {
    assert_eq!(command(&NET, "tap=tap0,mtu=9000"), ["--tap=tap0", "--mtu=9000", "--ctrl-vq"]);
    assert_eq!(command(&NET, "null=on,ctrl-vq=off"), ["--null"]);
    assert_eq!(
        command(&NET, "echo=on,ctrl-vq=on,rx-packets-per-second=9,tx-bytes-per-second=2M"),
        ["--echo", "--ctrl-vq", "--rx-packets-per-second=9", "--tx-bytes-per-second=2097152"]
    );
    assert_eq!(
        command(&CONSOLE, "backend=unix:/run/a,,b,name=agent"),
        ["--port=backend=unix:/run/a,,b,name=agent"]
    );
    assert_eq!(
        command(
            &CONSOLE,
            "backend=file:/a,history=64,rotate=1M,overflow=block,resize-order=rows-first,max-ports=4"
        ),
        [
            "--max-ports=4",
            "--resize-order=rows-first",
            "--port=backend=file:/a,history=64,rotate=1M,overflow=block",
        ]
    );
    assert_eq!(command(&BALLOON, "target=64M"), ["--target=67108864"]);
    assert_eq!(command(&BALLOON, "auto=on"), ["--auto"]);
}

#[test]
fn a_daemon_may_be_given_descriptors_and_the_terminal() {
    let Backend::Daemon(net) = served(&NET, "tap-fd=5:6").unwrap().backend else { unreachable!() };
    assert_eq!(net.inherited_fds(), [5, 6]);
    assert_eq!(net.arguments(), ["--tap-fd=5,6", "--ctrl-vq"]);
    assert!(served(&CONSOLE, "backend=stdio").unwrap().uses_stdio());
    assert!(!served(&CONSOLE, "backend=pty").unwrap().uses_stdio());
}

#[test]
fn what_stands_before_the_daemon_is_ours() {
    let disk = served(&DISK, "path=x,id=root,on-loss=stop,timeout=2,nice=5,program=/p").unwrap();
    assert_eq!((disk.name.as_str(), disk.on_loss), ("root", OnLoss::Stop));
    assert_eq!(disk.timeout, Duration::from_secs(2));
    let Backend::Daemon(daemon) = disk.backend else { unreachable!() };
    assert_eq!((daemon.program(), daemon.nice), ("/p", Some(5)));
    assert_eq!(daemon.arguments(), ["--blk-file=x"]);
}

#[test]
fn a_socket_is_attached() {
    let text = "type=vsock,socket=/run/v.sock,server=on,queues=3,config-size=8";
    let device = Device::attached(1, text.parse().unwrap()).unwrap();
    assert_eq!((device.virtio_type, device.name.as_str()), (19, "vhost-user1"));
    assert_eq!(
        device.backend,
        Backend::Socket { path: "/run/v.sock".into(), server: true, pins: false }
    );
    assert_eq!((device.queues, device.config_size), (Some(3), Some(8)));
    let by_number = Device::attached(0, "type=40,socket=s".parse().unwrap()).unwrap();
    assert_eq!(by_number.virtio_type, 40);
}

#[test]
fn mistakes_say_what_to_do() {
    for (kind, text, complaint) in [
        (&DISK, "readonly=on", "path= or null= is missing"),
        (&DISK, "path=x,read-only=on", "there is no key \"read-only\": known are cache"),
        (&DISK, "path=x,readonly=yes", "say on or off"),
        (&DISK, "path=x,num-queues=0", "not a number from 1 to 1024"),
        (&DISK, "path=x,queue-size=100", "power of two"),
        (&DISK, "path=", "path= is empty"),
        (&DISK, "path=x,on-loss=panic", "say stall or fail or stop"),
        (&DISK, "path=x,id=a b", "letters"),
        (&NET, "tap-fd=1", "not a number from 3"),
        (&NET, "null=off", "is missing"),
        (&NET, "null=on,tx-packets-per-second=0", "not a number from 1"),
        (&BALLOON, "target=much", "not a size"),
    ] {
        let error = served(kind, text).unwrap_err();
        assert!(error.contains(complaint), "{text}: {error}");
    }
    for (text, complaint) in [
        ("socket=s", "type= is missing"),
        ("type=blk", "socket=PATH is missing"),
        ("type=disk,socket=s", "say a number from 1 to 63, or net, blk"),
        ("type=64,socket=s", "from 1 to 63"),
        ("type=blk,socket=s,readonly=on", "there is no key \"readonly\""),
    ] {
        let error = Device::attached(0, text.parse().unwrap()).unwrap_err();
        assert!(error.contains(complaint), "{text}: {error}");
    }
}
