//! What a back-end tells management software: the output of `--print-capabilities` and the
//! descriptor file in `/usr/share/qemu/vhost-user` (vhost-user, "Back-end program conventions").

use serde::Serialize;

/// What a back-end program can do, as `--print-capabilities` prints it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    /// The device type in the words of the conventions: `block`, `net`, `console`, `balloon`.
    #[serde(rename = "type")]
    pub device: &'static str,
    /// The optional command-line options of that type which this program has, without dashes.
    pub features: &'static [&'static str],
}

impl Capabilities {
    /// The JSON object that `--print-capabilities` prints, with a newline at its end.
    #[must_use]
    pub fn to_json(&self) -> String {
        pretty(self)
    }
}

/// A descriptor file, by which management software finds back-end programs.
///
/// It goes to `/usr/share/qemu/vhost-user/50-outrigger-blk.json` and the like; the number orders
/// several programs of one type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Descriptor {
    /// What the program is, for people.
    pub description: String,
    /// The device type, as in [`Capabilities::device`].
    #[serde(rename = "type")]
    pub device: &'static str,
    /// The absolute path of the program.
    pub binary: String,
}

impl Descriptor {
    /// The content of the file, with a newline at its end.
    #[must_use]
    pub fn to_json(&self) -> String {
        pretty(self)
    }
}

fn pretty(value: &impl Serialize) -> String {
    // Structs of strings always serialise.
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const BLOCK: Capabilities =
        Capabilities { device: "block", features: &["read-only", "blk-file"] };

    #[test]
    fn capabilities_have_the_shape_of_the_conventions() {
        let value: Value = serde_json::from_str(&BLOCK.to_json()).unwrap();
        assert_eq!(value, json!({"type": "block", "features": ["read-only", "blk-file"]}));
        assert!(BLOCK.to_json().ends_with("}\n"));
    }

    #[test]
    fn the_descriptor_names_type_and_program() {
        let descriptor = Descriptor {
            description: "Outrigger vhost-user-blk".into(),
            device: BLOCK.device,
            binary: "/usr/libexec/outrigger-blk".into(),
        };
        let value: Value = serde_json::from_str(&descriptor.to_json()).unwrap();
        assert_eq!(
            value,
            json!({
                "description": "Outrigger vhost-user-blk",
                "type": "block",
                "binary": "/usr/libexec/outrigger-blk",
            })
        );
    }
}
