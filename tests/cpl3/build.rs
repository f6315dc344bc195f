//! Compiles the guest: a program without a C library or a standard library, for this machine's own
//! target, so that no further toolchain is needed.
#![expect(clippy::expect_used, reason = "a build that cannot go on stops")]

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=guest");
    let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    let rustc = env::var_os("RUSTC").expect("cargo sets RUSTC");
    let program = Path::new(&out).join("guest");
    let mut command = Command::new(rustc);
    command
        .args(["--edition", "2024", "--crate-name", "cpl3_guest", "--crate-type", "bin"])
        .args(["-C", "opt-level=2", "-C", "panic=abort", "-C", "relocation-model=static"])
        .args(["-C", "target-feature=+crt-static", "-C", "strip=symbols"]);
    for argument in ["-nostartfiles", "-nostdlib", "-static", "-no-pie"] {
        command.arg("-C").arg(format!("link-arg={argument}"));
    }
    command.arg("-o").arg(&program).arg("guest/main.rs");
    let status = command.status().expect("rustc can be started");
    assert!(status.success(), "the guest does not compile");
    println!("cargo:rustc-env=CPL3_GUEST={}", program.display());
}
