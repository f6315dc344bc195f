//! Lists such as `path=disk.img,readonly=on`, in a file also written as tables.

use std::fmt::{self, Display};
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::text::Text;

/// Keys with their values, in the order in which they were given.
///
/// On a command line a comma separates them, and two commas stand for one within a value. The first
/// value may stand without its key, where there is one that everybody means (`--memory 2G`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fields(Vec<(String, String)>);

/// The key of a first value that stands alone.
const BARE: &str = "";

impl Fields {
    /// Adds a value.
    pub fn put(&mut self, key: &str, value: impl Display) {
        self.0.push((key.to_owned(), value.to_string()));
    }

    /// Adds a value if there is one.
    pub fn put_some(&mut self, key: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.put(key, value);
        }
    }

    /// Reads them.
    pub(super) fn reader(self) -> Reader {
        Reader { left: self.0, known: Vec::new() }
    }
}

/// Takes values out of [`Fields`], and learns by that which keys are known.
pub(super) struct Reader {
    left: Vec<(String, String)>,
    known: Vec<&'static str>,
}

impl Reader {
    /// The value of a key, as it stands there.
    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        self.known.push(key);
        let position = self.left.iter().position(|(found, _)| found == key)?;
        Some(self.left.remove(position).1)
    }

    /// The value of a key, also if it comes first and without the key.
    pub(super) fn main_text(&mut self, key: &'static str) -> Option<String> {
        let bare = self.left.first().is_some_and(|(found, _)| found == BARE);
        self.text(key).or_else(|| bare.then(|| self.left.remove(0).1))
    }

    /// The value of a key, read as a `T`.
    pub(super) fn take<T: FromStr<Err: Display>>(
        &mut self,
        key: &'static str,
    ) -> Result<Option<T>, String> {
        self.text(key).map(|text| read(key, &text)).transpose()
    }

    /// Like [`Self::take`], for a number in a range.
    pub(super) fn number(
        &mut self,
        key: &'static str,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<Option<u64>, String> {
        self.text(key).map(|text| number(key, &text, &range)).transpose()
    }

    /// Says which key is unknown, if one is left over.
    pub(super) fn finish(mut self) -> Result<(), String> {
        let Some((key, value)) = self.left.first() else { return Ok(()) };
        self.known.sort_unstable();
        let known = self.known.join(", ");
        Err(if key == BARE {
            format!("{value:?} is no key=value: known keys are {known}")
        } else if self.known.contains(&key.as_str()) {
            format!("{key} is given twice: say it once")
        } else {
            format!("there is no key {key:?}: known are {known}")
        })
    }
}

/// Reads the value of a key.
pub(super) fn read<T: FromStr<Err: Display>>(key: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|error| format!("{key}: {error}"))
}

/// Reads a number in a range.
pub(super) fn number(
    key: &str,
    text: &str,
    range: &std::ops::RangeInclusive<u64>,
) -> Result<u64, String> {
    text.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| {
        format!("{key}: {text:?} is not a number from {} to {}", range.start(), range.end())
    })
}

impl FromStr for Fields {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut fields = Vec::new();
        for piece in split(text) {
            match piece.split_once('=') {
                Some((key, value)) if !key.is_empty() => {
                    fields.push((key.to_owned(), value.to_owned()));
                }
                None if fields.is_empty() && !piece.is_empty() => {
                    fields.push((BARE.to_owned(), piece));
                }
                _ => {
                    return Err(format!(
                        "{piece:?} is no key=value (a comma in a value is written twice)"
                    ));
                }
            }
        }
        Ok(Self(fields))
    }
}

/// At single commas; of two, one stays.
fn split(text: &str) -> Vec<String> {
    let mut pieces = vec![String::new()];
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if character == ',' && characters.next_if_eq(&',').is_none() {
            pieces.push(String::new());
        } else if let Some(last) = pieces.last_mut() {
            last.push(character);
        }
    }
    pieces
}

impl Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (key, value)) in self.0.iter().enumerate() {
            let comma = if position == 0 { "" } else { "," };
            let equals = if key == BARE { "" } else { "=" };
            write!(f, "{comma}{key}{equals}{}", value.replace(',', ",,"))?;
        }
        Ok(())
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table, or a text such as \"key=value,key=value\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Fields, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Vec::new();
        while let Some((key, Text(value))) = map.next_entry::<String, Text>()? {
            fields.push((key, value));
        }
        Ok(Fields(fields))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn fields(text: &str) -> Fields {
        text.parse().unwrap()
    }

    #[test]
    fn keys_are_taken_and_the_rest_is_refused() {
        let mut reader = fields("path=/a=b,,c,readonly=on,x=1").reader();
        assert_eq!(reader.text("path").unwrap(), "/a=b,c");
        assert_eq!(reader.text("readonly").unwrap(), "on");
        assert_eq!(reader.text("cache"), None);
        let error = reader.finish().unwrap_err();
        assert_eq!(error, "there is no key \"x\": known are cache, path, readonly");
    }

    #[test]
    fn the_first_value_may_stand_alone() {
        let mut reader = fields("2G,pages=thp").reader();
        assert_eq!(reader.main_text("size").unwrap(), "2G");
        assert_eq!(reader.text("pages").unwrap(), "thp");
        reader.finish().unwrap();
        assert!(fields("2G").reader().finish().unwrap_err().contains("no key=value"));
    }

    #[test]
    fn mistakes_say_what_to_do() {
        for text in ["", "=x", "a=1,", "a=1,b"] {
            assert!(text.parse::<Fields>().unwrap_err().contains("written twice"), "{text}");
        }
        let mut twice = fields("a=1,a=2").reader();
        twice.text("a");
        assert!(twice.finish().unwrap_err().contains("given twice"));
    }

    #[test]
    fn numbers_know_their_range() {
        let mut reader = fields("a=0,b=5,c=x").reader();
        assert!(reader.number("a", 1..=9).unwrap_err().contains("a: \"0\" is not a number from 1"));
        assert_eq!(reader.number("b", 1..=9), Ok(Some(5)));
        assert!(reader.number("c", 1..=9).is_err());
    }

    #[test]
    fn a_table_may_hold_numbers_and_booleans() {
        #[derive(serde::Deserialize)]
        struct File {
            disk: Vec<Fields>,
        }
        let file: File =
            toml::from_str("disk = [{path = \"a,b\", readonly = true, n = 4}, 'path=c']").unwrap();
        assert_eq!(file.disk[0].to_string(), "n=4,path=a,,b,readonly=on");
        assert_eq!(file.disk[1].to_string(), "path=c");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(given in vec(("[a-z]{1,3}", "[a-z,=]{0,5}"), 1..5)) {
            let given = Fields(given);
            prop_assert_eq!(given.to_string().parse::<Fields>(), Ok(given));
        }
    }
}
