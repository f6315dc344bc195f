//! The commands that the README gives for a whole machine are ones that this program takes.

use std::fs;
use std::process::Command;

use tempfile::TempDir;

const README: &str = include_str!("../../../README.md");
/// How a command begins there.
const PROGRAM: &str = "target/release/outrigger ";

/// The commands that begin with these words, each in one line.
fn commands(words: &str) -> Vec<String> {
    let text = README.replace("\\\n", " ");
    let begin = format!("{PROGRAM}{words} ");
    text.lines().filter_map(|line| line.strip_prefix(&begin)).map(str::to_owned).collect()
}

#[test]
fn the_readmes_machines_are_understood() {
    let folder = TempDir::new().expect("a directory");
    for file in ["vmlinuz", "initrd.img", "debian.raw"] {
        fs::write(folder.path().join(file), [0; 4096]).expect("a file");
    }
    let commands = commands("run");
    assert!(commands.len() >= 2, "{commands:?}");
    for command in commands {
        // What has been said before is left out there.
        let command = command.replace('…', "--kernel vmlinuz");
        let program = env!("CARGO_BIN_EXE_outrigger");
        let output = Command::new("sh")
            .args(["-c", &format!("exec {program} run --dry-run {command}")])
            .current_dir(folder.path())
            .output()
            .expect("it runs");
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        let machine = String::from_utf8_lossy(&output.stdout);
        assert!(machine.contains("vmlinuz") && machine.contains("/tmp/vm.ctl"), "{machine}");
    }
}
