//! One Debian suite, with lists and configuration of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{PackageSet, Root, mirror};
use crate::error::{Error, Result, output_of};
use crate::place::Place;

/// How often a fetch is tried before the next suite is.
const TRIES: u32 = 3;
/// Between two tries; a mirror that is being updated needs a moment.
const PAUSE: Duration = Duration::from_secs(3);
/// Where Debian keeps the keys that its archives are signed with.
const KEYRINGS: &str = "usr/share/keyrings";

/// Where packages come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// What the machine itself is installed from, security updates included.
    Own,
    /// A suite by its name, from the machine's own mirror.
    Named(&'static str),
}

impl Suite {
    /// The name for people and folders.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Named(name) => name,
        }
    }
}

/// A package and the version a suite has of it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Available {
    pub(super) name: String,
    pub(super) version: String,
    /// Bytes to fetch.
    pub(super) size: u64,
}

/// A suite whose lists have been fetched.
#[derive(Debug)]
pub(super) struct Apt {
    config: PathBuf,
}

impl Apt {
    /// Writes the private configuration and fetches the suite's lists.
    pub(super) fn open(place: &Place, suite: Suite) -> Result<Self> {
        let dir = place.join("apt").join(suite.name());
        for part in ["lists/partial", "archives/partial", "sources", "preferences"] {
            let path = dir.join(part);
            fs::create_dir_all(&path).map_err(Error::file("make", &path))?;
        }
        let apt = Self { config: dir.join("apt.conf") };
        write(&dir.join("status"), "")?;
        if let Suite::Named(name) = suite {
            write(&dir.join("sources/suite.sources"), &sources(place, name)?)?;
        }
        write(&apt.config, &configuration(&dir, suite))?;
        apt.update()?;
        Ok(apt)
    }

    /// Fetches the lists (again).
    pub(super) fn update(&self) -> Result<()> {
        retried(|| output_of(self.command("apt-get").args(["update", "-qq"])))?;
        Ok(())
    }

    /// The packages with everything they depend on, down to the C library.
    pub(super) fn closure(&self, packages: &[&str]) -> Result<Vec<Available>> {
        let mut command = self.command("apt-get");
        command.args(["install", "--print-uris", "-qq", "-y", "--no-install-recommends"]);
        output_of(command.args(packages))?.lines().map(available).collect()
    }

    /// Fetches archives into a folder; apt checks them against the signed lists.
    pub(super) fn download(&self, packages: &[Available], into: &Path) -> Result<()> {
        let versions = packages.iter().map(|one| format!("{}={}", one.name, one.version));
        let mut command = self.command("apt-get");
        command.args(["download", "-qq"]).args(versions).current_dir(into);
        output_of(&mut command).map(drop)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", &self.config).env("LC_ALL", "C");
        command
    }
}

/// Runs a step that needs the network, again after a pause when it fails.
pub(super) fn retried<T>(mut step: impl FnMut() -> Result<T>) -> Result<T> {
    let mut tries = 1;
    loop {
        match step() {
            Err(Error::Start { program, source }) => {
                return Err(Error::Missing {
                    what: format!("{program} ({source})"),
                    how: "guests are made from Debian packages, so this needs a Debian-like \
                          machine"
                        .into(),
                });
            }
            Err(_) if tries < TRIES => {
                tries += 1;
                std::thread::sleep(PAUSE);
            }
            done => return done,
        }
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(Error::file("write", path))
}

/// apt.conf(5): every folder that would be written to is private; proxies and the like still come
/// from the machine's own settings, which apt reads first.
fn configuration(dir: &Path, suite: Suite) -> String {
    let dir = dir.display();
    let mut text = format!(
        "Dir::State::Lists \"{dir}/lists\";\n\
         Dir::State::status \"{dir}/status\";\n\
         Dir::Cache \"{dir}\";\n\
         Dir::Cache::archives \"{dir}/archives\";\n\
         Dir::Etc::preferences \"/dev/null\";\n\
         Dir::Etc::preferencesparts \"{dir}/preferences\";\n\
         Debug::NoLocking \"true\";\n\
         APT::Sandbox::User \"\";\n\
         APT::Get::List-Cleanup \"false\";\n\
         Acquire::Retries \"3\";\n\
         Acquire::Languages \"none\";\n"
    );
    if suite != Suite::Own {
        text += &format!(
            "Dir::Etc::sourcelist \"/dev/null\";\nDir::Etc::sourceparts \"{dir}/sources\";\n"
        );
    }
    text
}

/// A deb822 source for a suite, from the machine's mirror.
fn sources(place: &Place, suite: &str) -> Result<String> {
    Ok(format!(
        "Types: deb\nURIs: {}\nSuites: {suite}\nComponents: main\nTargets: Packages\nSigned-By: {}\n",
        mirror::uri()?,
        keyring(place)?.display(),
    ))
}

/// The newest keys that the machine's own, trusted suite has: an installed keyring may be older
/// than the keys that a newer suite is signed with.
fn keyring(place: &Place) -> Result<PathBuf> {
    let set = PackageSet {
        name: "keyring",
        purpose: "keys of newer Debian suites",
        suites: &[Suite::Own],
        packages: &["debian-archive-keyring"],
        keep: &["debian-archive-keyring"],
    };
    let fetched = Root::fetch(place, &set).map(|root| root.path(KEYRINGS)).ok();
    let installed = Path::new("/").join(KEYRINGS);
    let names = ["debian-archive-keyring.gpg", "debian-archive-keyring.pgp"];
    let mut candidates =
        fetched.iter().chain([&installed]).flat_map(|dir| names.map(|name| dir.join(name)));
    candidates.find(|path| path.exists()).ok_or_else(|| Error::Missing {
        what: "Debian's archive keyring".into(),
        how: "install it with `apt-get install debian-archive-keyring`".into(),
    })
}

/// A line of `--print-uris`: `'URI' NAME_VERSION_ARCH.deb SIZE HASH`.
fn available(line: &str) -> Result<Available> {
    let mut words = line.split_whitespace().skip(1);
    let parsed = (|| {
        let mut file = words.next()?.split('_');
        let name = file.next()?.to_owned();
        // A colon (of an epoch) may not stand in the file's name.
        let version = file.next()?.replace("%3a", ":");
        Some(Available { name, version, size: words.next()?.parse().ok()? })
    })();
    parsed.ok_or_else(|| Error::Packages {
        context: "reading what apt-get would fetch".into(),
        detail: format!("this line is not understood: {line}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_parsed() {
        let line = "'http://mirror.example/q_7.2%2bdfsg-7_amd64.deb' q_1%3a7.2+dfsg-7_amd64.deb 42 \
                    SHA256:00";
        let expected = Available { name: "q".into(), version: "1:7.2+dfsg-7".into(), size: 42 };
        assert_eq!(available(line).unwrap(), expected);
        assert!(available("E: nothing").is_err());
    }
}
