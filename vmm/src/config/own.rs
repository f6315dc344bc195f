//! What the guest is told of a device whose back-end has no configuration space.

use std::fmt;
use std::str::FromStr;

use super::fields::{Fields, Reader};

/// The device type of network cards (virtio 1.4, 5.1).
const NET: u32 = 1;
/// The longest configuration space that can be given, bytes.
const CONFIG_MAX: usize = 256;

/// What is said in the back-end's place; nothing unless told otherwise. A back-end that has a
/// configuration space of its own has the word.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Own {
    /// A network card's address.
    pub mac: Option<Mac>,
    /// The most that a network card's frames carry, bytes.
    pub mtu: Option<u16>,
    /// Another device's configuration space, such as a file system's tag.
    pub config: Option<Bytes>,
}

impl Own {
    /// Takes it out of what the user said of a device of this type.
    pub(super) fn read(virtio_type: u32, reader: &mut Reader) -> Result<Self, String> {
        let mtu = reader.number("mtu", 68..=65535)?.and_then(|mtu| u16::try_from(mtu).ok());
        let own = Self { mac: reader.take("mac")?, mtu, config: reader.take("config")? };
        let is_net = virtio_type == NET;
        if !is_net && (own.mac.is_some() || own.mtu.is_some()) {
            return Err("mac= and mtu= are for type=net: say config=HEX for other types".into());
        }
        if is_net && own.config.is_some() {
            return Err("config= is for other types: say mac= and mtu= for type=net".into());
        }
        Ok(own)
    }

    /// As the user would say it.
    pub(super) fn put_into(&self, fields: &mut Fields) {
        fields.put_some("mac", self.mac);
        fields.put_some("mtu", self.mtu);
        fields.put_some("config", self.config.as_ref());
    }
}

/// A MAC address that a card may have: not a group's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no MAC address such as 02:00:00:00:00:01");
        let bytes = text.split(':').map(|byte| {
            let is_hex = byte.len() == 2 && byte.bytes().all(|digit| digit.is_ascii_hexdigit());
            u8::from_str_radix(byte, 16).ok().filter(|_| is_hex)
        });
        let bytes: Vec<u8> = bytes.collect::<Option<_>>().ok_or_else(wrong)?;
        let mac: [u8; 6] = bytes.try_into().map_err(|_| wrong())?;
        match mac {
            [0, 0, 0, 0, 0, 0] => Err(wrong()),
            [first, ..] if first & 1 != 0 => {
                Err(format!("{text:?} is the address of a group: the first byte has to be even"))
            }
            _ => Ok(Self(mac)),
        }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: Vec<String> = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        f.write_str(&bytes.join(":"))
    }
}

/// Bytes, written in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is not 1 to {CONFIG_MAX} bytes in hexadecimal, two digits each");
        let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
        let digits = digits.ok_or_else(wrong)?;
        let (pairs, rest) = digits.as_chunks::<2>();
        if !rest.is_empty() || !(1..=CONFIG_MAX).contains(&pairs.len()) {
            return Err(wrong());
        }
        let bytes = pairs.iter().map(|[high, low]| u8::try_from(high << 4 | low));
        bytes.collect::<Result<_, _>>().map(Self).map_err(|_| wrong())
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(virtio_type: u32, text: &str) -> Result<Own, String> {
        let mut reader = text.parse::<Fields>().unwrap().reader();
        Own::read(virtio_type, &mut reader)
    }

    #[test]
    fn a_card_has_an_address_and_an_mtu() {
        let own = read(NET, "mac=02:00:00:00:00:0A,mtu=1400").unwrap();
        assert_eq!(own.mac, Some(Mac([2, 0, 0, 0, 0, 10])));
        assert_eq!(own.mtu, Some(1400));
        let mut fields = Fields::default();
        own.put_into(&mut fields);
        assert_eq!(fields.to_string(), "mac=02:00:00:00:00:0a,mtu=1400");
    }

    #[test]
    fn another_device_has_bytes() {
        let own = read(26, "config=7461670a").unwrap();
        assert_eq!(own.config, Some(Bytes(b"tag\n".to_vec())));
        let mut fields = Fields::default();
        own.put_into(&mut fields);
        assert_eq!(fields.to_string(), "config=7461670a");
    }

    #[test]
    fn mistakes_say_what_to_do() {
        for (virtio_type, text, complaint) in [
            (NET, "mac=02:00:00:00:00", "no MAC address such as"),
            (NET, "mac=02:00:00:00:00:+1", "no MAC address such as"),
            (NET, "mac=00:00:00:00:00:00", "no MAC address such as"),
            (NET, "mac=03:00:00:00:00:00", "has to be even"),
            (NET, "mtu=67", "from 68"),
            (NET, "config=00", "say mac= and mtu="),
            (26, "mac=02:00:00:00:00:01", "say config=HEX"),
            (26, "config=", "two digits each"),
            (26, "config=123", "two digits each"),
            (26, "config=xy", "two digits each"),
        ] {
            let error = read(virtio_type, text).unwrap_err();
            assert!(error.contains(complaint), "{text}: {error}");
        }
    }
}
