//! Crates whose types are exchanged between others: two versions of them do not fit together.

use anyhow::{Context, Result, ensure};
use e2e::workspace_dir;

/// They come in one version each.
const SINGLE: [&str; 4] = ["kvm-bindings", "vhost", "vm-memory", "vmm-sys-util"];

/// Checks the lock file.
pub(crate) fn check() -> Result<()> {
    let path = workspace_dir().join("Cargo.lock");
    let lock = std::fs::read_to_string(&path).with_context(|| format!("reading {path:?}"))?;
    for name in SINGLE {
        let versions = versions(&lock, name);
        ensure!(
            versions.len() < 2,
            "Cargo.lock has {name} in {} versions ({}); `cargo tree --invert {name}` shows who \
             wants which",
            versions.len(),
            versions.join(", ")
        );
    }
    Ok(())
}

fn versions<'lock>(lock: &'lock str, name: &str) -> Vec<&'lock str> {
    let packages = lock.split("[[package]]").skip(1);
    let field = |package: &'lock str, key: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(key));
        line.map(|value| value.trim_matches('"'))
    };
    packages
        .filter(|package| field(package, "name = ") == Some(name))
        .filter_map(|package| field(package, "version = "))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_in_a_lock_file() {
        let lock = "version = 4\n\n[[package]]\nname = \"vhost\"\nversion = \"0.1.0\"\n\n\
                    [[package]]\nname = \"vhost-user\"\nversion = \"3.0.0\"\n\n\
                    [[package]]\nname = \"vhost\"\nversion = \"0.2.0\"\n";
        assert_eq!(versions(lock, "vhost"), ["0.1.0", "0.2.0"]);
        assert_eq!(versions(lock, "vm-memory"), [""; 0]);
    }
}
