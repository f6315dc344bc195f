//! Getting what guests need onto the machine.

use anyhow::{Result, bail};
use e2e::{Kind, Kit, PackageSet, Place};

/// Fetches all that these kinds of guest need and is not in the cache, having said what.
///
/// With `refuse`, nothing is fetched, and what is missing is an error that lists it.
pub(crate) fn provide(place: &Place, kinds: &[Kind], refuse: bool) -> Result<Vec<Kit>> {
    let missing = missing(place, kinds);
    if !missing.is_empty() {
        let list: String = missing.iter().map(|set| described(set)).collect();
        if refuse {
            bail!(
                "these Debian packages are not in {} yet, and --no-install was given:\n{list}\
                 Run the same command without --no-install to have them fetched. They are \
                 unpacked there; the system itself stays as it is.",
                place.join("").display()
            );
        }
        println!(
            "These Debian packages and what they depend on are now fetched and unpacked into\n{} \
             (the system itself stays as it is):\n{list}",
            place.join("").display()
        );
    }
    kinds.iter().map(|kind| Ok(Kit::fetch(place, *kind)?)).collect()
}

fn missing(place: &Place, kinds: &[Kind]) -> Vec<&'static PackageSet> {
    let mut missing: Vec<&PackageSet> = Vec::new();
    for set in kinds.iter().flat_map(|kind| kind.missing(place)) {
        if !missing.iter().any(|known| known.name == set.name) {
            missing.push(set);
        }
    }
    missing
}

fn described(set: &PackageSet) -> String {
    let suites: Vec<&str> = set.suites.iter().map(|suite| suite.name()).collect();
    format!(
        "  {} ({}; from {})\n",
        set.packages.join(" "),
        set.purpose,
        suites.join(", else ").replace("own", "this machine's own release")
    )
}
