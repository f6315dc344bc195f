//! probe
use e2e::*;
#[test]
fn probe() {
    let place = Place::of_workspace().unwrap();
    let kit = Kit::cached(&place, Kind::Uml).unwrap();
    let mut scene = BalloonScene::new("uml-probe", &kit);
    scene.arguments = vec!["--log=debug".into()];
    let job = Job::of_shell("dmesg | tail -30; for d in /sys/bus/virtio/devices/*; do echo $d; cat $d/device $d/status $d/features; ls $d; done; lsmod; sleep 3; ls /sys/bus/virtio/drivers/*; dmesg|tail -5; say memory=1; sleep 1");
    let mut stage = scene.start(&place, job).unwrap();
    let _ = stage.guest.wait_for("done");
    println!("{:?}", stage.says("guest"));
}
