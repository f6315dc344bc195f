//! How the guest's CPUs are arranged: `--topology threads=2,cores=4,packages=1`.

use hypervisor::Topology;

use super::fields::Fields;

/// More than there is of anything.
const MOST: u64 = 4096;

/// Reads it for so many vCPUs. Cores that are not said are as many as it takes.
pub(super) fn read(given: Option<Fields>, vcpus: u16) -> Result<Topology, String> {
    let Some(given) = given else { return Ok(Topology::flat(vcpus.into())) };
    let mut reader = given.reader();
    let mut number = |key| -> Result<Option<u32>, String> {
        let number = reader.number(key, 1..=MOST)?;
        Ok(number.and_then(|number| u32::try_from(number).ok()))
    };
    let (threads, packages) = (number("threads")?.unwrap_or(1), number("packages")?.unwrap_or(1));
    let cores = number("cores")?.unwrap_or_else(|| u32::from(vcpus) / (threads * packages));
    reader.finish()?;
    Topology::new(vcpus.into(), threads, cores, packages).map_err(|error| error.to_string())
}

/// As the user would say it.
pub(super) fn fields(topology: &Topology) -> Fields {
    let mut fields = Fields::default();
    fields.put("threads", topology.threads());
    fields.put("cores", topology.cores());
    fields.put("packages", topology.packages());
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str, vcpus: u16) -> Result<Topology, String> {
        read(Some(text.parse().unwrap()), vcpus)
    }

    #[test]
    fn cores_are_as_many_as_it_takes() {
        let topology = said("threads=2,packages=2", 8).unwrap();
        assert_eq!((topology.threads(), topology.cores(), topology.packages()), (2, 2, 2));
        assert_eq!(read(None, 3).unwrap(), Topology::flat(3));
    }

    #[test]
    fn what_was_read_is_written() {
        let topology = said("threads=2,cores=3", 6).unwrap();
        assert_eq!(fields(&topology).to_string(), "threads=2,cores=3,packages=1");
    }

    #[test]
    fn mistakes_say_what_to_do() {
        for (text, complaint) in [
            ("threads=2", "make the product equal to the number of vCPUs"),
            ("threads=2,cores=2,packages=2", "not 5 vCPUs"),
            ("threads=0", "from 1 to 4096"),
            ("sockets=1", "known are cores, packages, threads"),
        ] {
            let error = said(text, 5).unwrap_err();
            assert!(error.contains(complaint), "{text}: {error}");
        }
    }
}
