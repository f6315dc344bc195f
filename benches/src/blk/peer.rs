//! The back-ends that are compared: where each program is and how it is told to serve a medium.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::medium::Prepared;
use super::plan::{BackEnd, Medium};
use crate::machine;

/// The programs of a run.
pub(crate) struct Programs {
    outrigger: PathBuf,
    qemu: PathBuf,
    reference: PathBuf,
}

impl Programs {
    /// Our own programs are in `directory`; qemu-storage-daemon is looked for in PATH.
    pub(crate) fn find(directory: &Path) -> Self {
        Self {
            outrigger: directory.join("outrigger-blk"),
            qemu: in_path("qemu-storage-daemon"),
            reference: directory.join("reference-blk"),
        }
    }

    /// The program that a back-end is; none for `BackEnd::None`.
    fn of(&self, back_end: BackEnd) -> Option<&Path> {
        match back_end {
            BackEnd::Outrigger | BackEnd::OutriggerNoPoll => Some(&self.outrigger),
            BackEnd::Qemu => Some(&self.qemu),
            BackEnd::Reference => Some(&self.reference),
            BackEnd::None => None,
        }
    }

    /// Why a back-end cannot be measured, and what to do about it.
    pub(crate) fn missing(&self, back_end: BackEnd) -> Option<String> {
        let program = self.of(back_end).filter(|program| !program.is_file())?;
        let name = program.file_name().unwrap_or_default().display();
        Some(match back_end {
            BackEnd::Qemu => format!("{name} is not installed; do: apt-get install qemu-utils"),
            _ => format!("{name} is not built; do: cargo build --release --package {name}"),
        })
    }

    /// What a back-end says of its version, and of the libraries that make the difference.
    pub(crate) fn version(&self, back_end: BackEnd) -> String {
        let blkio = machine::locked_version("blkio");
        match back_end {
            BackEnd::None => format!("libblkio's io_uring driver (crate blkio {blkio})"),
            BackEnd::Reference => format!(
                "vhost-user-backend {}, virtio-queue {}",
                machine::locked_version("vhost-user-backend"),
                machine::locked_version("virtio-queue"),
            ),
            _ => self.of(back_end).map(machine::program_version).unwrap_or_default(),
        }
    }

    /// The command that serves `medium` at `socket` from `cpu`; none for `BackEnd::None`.
    /// Back-ends that poll of their own accord do so unless `may_poll` is false.
    pub(crate) fn command(
        &self,
        back_end: BackEnd,
        medium: &Prepared,
        socket: &Path,
        cpu: usize,
        may_poll: bool,
    ) -> Option<Command> {
        let mut command = Command::new(self.of(back_end)?);
        match back_end {
            BackEnd::Outrigger => outrigger(&mut command, medium, socket, cpu, "auto"),
            BackEnd::OutriggerNoPoll => {
                outrigger(&mut command, medium, socket, cpu, "0");
                if !may_poll {
                    // Under valgrind, a thread that waits in io_uring_enter holds up all others.
                    command.args(["--engine", "threads"]);
                }
            }
            BackEnd::Qemu => qemu(&mut command, medium, socket, may_poll),
            BackEnd::Reference => reference(&mut command, medium, socket),
            BackEnd::None => {}
        }
        Some(command)
    }
}

fn outrigger(command: &mut Command, medium: &Prepared, socket: &Path, cpu: usize, poll: &str) {
    command.arg("--socket-path").arg(socket);
    match &medium.path {
        Some(path) => {
            let cache = if medium.medium == Medium::Direct { "none" } else { "writeback" };
            command.arg("--blk-file").arg(path).args(["--cache", cache]);
        }
        None => {
            command.arg("--null").arg(medium.size.to_string());
        }
    }
    command.args(["--num-queues", "1", "--poll-us", poll, "--cpus", &cpu.to_string()]);
}

fn qemu(command: &mut Command, medium: &Prepared, socket: &Path, may_poll: bool) {
    let thread = if may_poll { "iothread,id=thread0" } else { "iothread,id=thread0,poll-max-ns=0" };
    let node = match &medium.path {
        Some(path) => {
            let direct = if medium.medium == Medium::Direct { "on" } else { "off" };
            format!("driver=file,filename={},aio=io_uring,cache.direct={direct}", option(path))
        }
        // Off is the faster setting: on would fill each buffer with zeroes, which no other
        // back-end on null does.
        None => format!("driver=null-co,size={},read-zeroes=off", medium.size),
    };
    command
        .args(["--object", thread])
        .args(["--blockdev", &format!("{node},node-name=medium")])
        .arg("--export")
        .arg(format!(
            "type=vhost-user-blk,id=export,node-name=medium,addr.type=unix,addr.path={},\
             writable=on,num-queues=1,iothread=thread0",
            option(socket)
        ));
}

fn reference(command: &mut Command, medium: &Prepared, socket: &Path) {
    command.arg("--socket-path").arg(socket);
    match &medium.path {
        Some(path) => command.arg("--blk-file").arg(path),
        None => command.arg("--null").arg(medium.size.to_string()),
    };
    if medium.medium == Medium::Direct {
        command.arg("--direct");
    }
}

/// A path as a value in QEMU's option lists, in which a comma is doubled.
fn option(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// The first program of that name in PATH, or the bare name if there is none.
fn in_path(name: &str) -> PathBuf {
    std::env::var_os("PATH")
        .and_then(|path| {
            std::env::split_paths(&path).map(|directory| directory.join(name)).find(|p| p.is_file())
        })
        .unwrap_or_else(|| name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(back_end: BackEnd, medium: Medium, path: Option<&str>) -> Option<String> {
        let programs = Programs::find(Path::new("/bin"));
        let prepared = Prepared { medium, path: path.map(PathBuf::from), size: 1 << 20 };
        let command = programs.command(back_end, &prepared, Path::new("/run/s"), 1, true)?;
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        Some(words.join(" "))
    }

    #[test]
    fn direct_means_cache_none() {
        let line = line(BackEnd::Outrigger, Medium::Direct, Some("/no/file")).unwrap();
        assert!(line.contains("--blk-file /no/file --cache none"), "{line}");
        assert!(line.contains("--poll-us auto --cpus 1"), "{line}");
    }

    #[test]
    fn commas_in_paths_are_doubled_for_qemu() {
        let line = line(BackEnd::Qemu, Medium::Cached, Some("/no/a,b")).unwrap();
        assert!(line.contains("filename=/no/a,,b,aio=io_uring,cache.direct=off"), "{line}");
    }

    #[test]
    fn null_has_no_file_and_nobody_no_command() {
        let null = line(BackEnd::Reference, Medium::Null, None).unwrap();
        assert_eq!(null, "--socket-path /run/s --null 1048576");
        assert_eq!(line(BackEnd::None, Medium::Null, None), None);
    }
}
