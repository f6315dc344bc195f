//! Values that are one word on a command line and in a file.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// The text of a value. A file may also say `true` and `false` for `on` and `off`, and write numbers
/// without quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text(pub(super) String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct TextVisitor;

impl Visitor<'_> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number, or true or false")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
        Ok(Text(text.to_owned()))
    }

    fn visit_bool<E: Error>(self, on: bool) -> Result<Text, E> {
        Ok(Text(if on { "on" } else { "off" }.to_owned()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Text, E> {
        Ok(Text(number.to_string()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Text, E> {
        Ok(Text(number.to_string()))
    }
}

/// Makes types appear in files as their `Display` writes and their `FromStr` reads them.
macro_rules! written_as_text {
    ($($type:ty),+ $(,)?) => {$(
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Self, D::Error> {
                let text = $crate::config::text::Text::deserialize(deserializer)?;
                text.0.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}
pub(super) use written_as_text;

/// A type with a fixed set of words: `Display`, `FromStr` with the words in its error, and text in files.
macro_rules! words {
    (
        $(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)? }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub enum $name { $($(#[$doc])* $variant),+ }

        impl $name {
            /// All words.
            pub const WORDS: &[&str] = &[$($word),+];
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(Self::$variant => $word),+ })
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err($crate::config::text::not_among(text, Self::WORDS)),
                }
            }
        }

        $crate::config::text::written_as_text!($name);
    };
}
pub(super) use words;

/// What is wrong with a word that is none of `words`.
pub(super) fn not_among(text: &str, words: &[&str]) -> String {
    format!("{text:?} is not known: say {}", words.join(" or "))
}

words! {
    /// On or off.
    Switch {
        /// Do it.
        #[default]
        On = "on",
        /// Do not.
        Off = "off",
    }
}

impl Switch {
    /// Whether it is [`Switch::On`].
    #[must_use]
    pub fn is_on(self) -> bool {
        self == Self::On
    }
}

impl From<bool> for Switch {
    fn from(on: bool) -> Self {
        if on { Self::On } else { Self::Off }
    }
}
