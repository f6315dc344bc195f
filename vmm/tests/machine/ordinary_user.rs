//! Run by an ordinary user, who owns nothing but a way to `/dev/kvm`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use rustix::process::{Signal, getuid};

use crate::daemons::is_built;
use crate::program::Program;
use crate::vm::Vm;

/// Nobody's number.
const USER: u32 = 65_534;

/// In a view of the file system of its own: `/dev/kvm` is the user's, as it is where the user is in the group
/// kvm, and programs are found by a path that the user may walk. Then the user's program takes over.
const SCRIPT: &str = r#"
folder=$1; programs=$2; user=$3; shift 3
mount --make-rprivate /
cp -a /dev/kvm "$folder/kvm"
chown "$user" "$folder/kvm"
mount --bind "$folder/kvm" /dev/kvm
mount --bind "$programs" "$folder/programs"
exec setpriv --reuid "$user" --regid "$user" --clear-groups -- "$folder/programs/outrigger" "$@"
"#;

/// The program as that user's.
fn as_user(folder: &Path) -> Command {
    let programs = Path::new(env!("CARGO_BIN_EXE_outrigger")).parent().expect("a folder");
    fs::create_dir(folder.join("programs")).expect("a mount point");
    fs::write(folder.join("image"), vec![0; 1 << 20]).expect("a disk");
    for path in [folder, &folder.join("image"), &folder.join("kernel")] {
        chown(path, Some(USER), Some(USER)).expect("it is ours to give");
    }
    fs::set_permissions(folder, PermissionsExt::from_mode(0o700)).expect("it is ours");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", SCRIPT, "sh"]);
    command.arg(folder).arg(programs).arg(USER.to_string());
    command
}

/// Whether this test's user can become another one, with a view of its own.
fn can_become_another() -> bool {
    let can = getuid().is_root()
        && Command::new("unshare")
            .args(["--mount", "mount", "--make-rprivate", "/"])
            .output()
            .is_ok_and(|output| output.status.success());
    if !can {
        eprintln!("skipped: only root can become an ordinary user");
    }
    can
}

#[test]
fn an_ordinary_user_runs_a_machine_and_its_daemons() {
    if !can_become_another() || !is_built("outrigger-blk") {
        return;
    }
    let program = Program::default().say("hello\n").await_power_button().power_off();
    let Some(mut vm) = Vm::start_by(&program, &["--disk=path=image"], as_user) else { return };
    vm.await_serial("hello");
    let daemon = vm.process("outrigger-blk").expect("a daemon");
    for process in [vm.pid(), daemon] {
        let status = fs::read_to_string(format!("/proc/{}/status", process.as_raw_nonzero()));
        let status = status.expect("it runs");
        let users = format!("Uid:\t{USER}\t{USER}\t{USER}\t{USER}\n");
        assert!(
            status.contains(&users) && status.contains("CapEff:\t0000000000000000"),
            "{status}"
        );
    }
    assert!(vm.ctl("devices").expect("an answer").contains("disk0"));
    vm.signal(Signal::TERM);
    assert_eq!(vm.end().status, Some(0));
}
