//! `--auto` against real memory pressure: a control group that may keep less of its files in memory than it
//! reads again and again, and what the kernel says of its waiting.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use virtio_spec::balloon::StatTag;

use crate::{Driver, Place};

const MIB: u64 = 1 << 20;
/// What the group may keep, what each of its processes reads, and how many these are.
const LIMIT: u64 = 16 * MIB;
const FILE: usize = 24 << 20;
const READERS: usize = 6;
/// How long the pressure may take to show, and the daemon to follow.
const PATIENCE: Duration = Duration::from_secs(40);
/// `O_DIRECT`: the files are not to be in memory already.
const O_DIRECT: i32 = 0o40_000;

/// Control groups of the test's own: one with a limit, and one whose pressure is counted; the same one where
/// the machine has only the second version of them.
struct Group {
    limited: PathBuf,
    counted: PathBuf,
}

impl Group {
    fn new() -> Option<Self> {
        let name = format!("outrigger-balloon-{}", std::process::id());
        for (limited, counted, key) in [
            ("/sys/fs/cgroup", "/sys/fs/cgroup", "memory.max"),
            ("/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified", "memory.limit_in_bytes"),
        ] {
            let group = Group {
                limited: Path::new(limited).join(&name),
                counted: Path::new(counted).join(&name),
            };
            let made = fs::create_dir(&group.limited).is_ok()
                && (group.counted.exists() || fs::create_dir(&group.counted).is_ok());
            let limit = group.limited.join(key);
            if made && limit.exists() && fs::write(limit, LIMIT.to_string()).is_ok() {
                return group.pressure().exists().then_some(group);
            }
        }
        None
    }

    fn pressure(&self) -> PathBuf {
        self.counted.join("memory.pressure")
    }

    /// Reads files that do not fit, in the group.
    fn thrash(&self, folder: &Path) -> Readers {
        let procs = [&self.limited, &self.counted].map(|group| group.join("cgroup.procs"));
        let [limited, counted] = procs.each_ref().map(|path| path.display());
        let reader = |n| {
            let file = folder.join(format!("file{n}"));
            write_directly(&file);
            let script = format!(
                "echo $$ > {limited}; echo $$ > {counted}; while :; do cat {} > /dev/null; done",
                file.display()
            );
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", &script]).stdin(Stdio::null()).stderr(Stdio::null());
            shell.spawn().unwrap()
        };
        Readers((0..READERS).map(reader).collect())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A process that was killed may be in it for a moment.
        for _ in 0..100 {
            let gone = [&self.limited, &self.counted]
                .map(|group| fs::remove_dir(group).is_ok() || !group.exists());
            if gone == [true, true] {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A file that is on the disk, and not in memory.
fn write_directly(path: &Path) {
    let block = vec![1_u8; FILE + 4096];
    let start = block.as_ptr().align_offset(4096);
    let bytes = &block[start..start + FILE];
    let direct = OpenOptions::new().write(true).create(true).custom_flags(O_DIRECT).open(path);
    let written = direct.and_then(|mut file| file.write_all(bytes));
    // A file system without direct I/O keeps it in memory, and there is less pressure.
    if written.is_err() {
        File::create(path).and_then(|mut file| file.write_all(bytes)).unwrap();
    }
}

struct Readers(Vec<Child>);

impl Drop for Readers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The driver follows, and says of its guest what is given, until the daemon's target is as wanted.
fn follow(place: &Place, driver: &mut Driver, available: u64, wanted: impl Fn(u64) -> bool) -> u64 {
    let until = Instant::now() + PATIENCE;
    loop {
        driver.tell(&[(StatTag::TotalMemory, 1024 * MIB), (StatTag::AvailableMemory, available)]);
        let target = place.stat("target_bytes").as_u64().unwrap();
        if wanted(target) {
            return target;
        }
        let pages = u32::try_from(target / crate::PAGE).unwrap();
        driver.front_end.write_config(crate::ACTUAL, &pages.to_le_bytes()).unwrap();
        assert!(Instant::now() < until, "the target stays at {target}");
        std::thread::sleep(Duration::from_millis(250));
    }
}

#[test]
fn real_pressure_moves_the_target_and_a_guest_in_need_moves_it_back() {
    let Some(group) = Group::new() else {
        eprintln!(
            "SKIPPED real_pressure_moves_the_target_and_a_guest_in_need_moves_it_back: there is no \
             control group to be made with a limit and a memory.pressure: run it as root, with psi=1"
        );
        return;
    };
    // On a disk: in a tmpfs files are not read anew.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let place = Place(tempfile::tempdir().unwrap());
    let pressure = format!("--auto-pressure={}", group.pressure().display());
    let arguments = ["--auto", "--auto-floor=268435456", "--auto-rate=8388608", &pressure];
    let _daemon = place.start(&arguments);
    let mut driver = Driver::connect(&place);
    assert_eq!(follow(&place, &mut driver, 768 * MIB, |_| true), 0);

    let readers = group.thrash(folder.path());
    let taken = follow(&place, &mut driver, 768 * MIB, |target| target >= 8 * MIB);
    drop(readers);
    // The guest has less than its floor: what was taken goes back at once, and not at the rate.
    let left = follow(&place, &mut driver, 64 * MIB, |target| target < taken);
    assert_eq!(left, 0);
}
