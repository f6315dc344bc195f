//! Where the serial port leads.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::text::written_as_text;

/// Where the serial port (COM1) leads.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SerialPort {
    /// Our standard input and output.
    #[default]
    Stdio,
    /// A new pseudoterminal; with a link to it at this path.
    Pty(Option<PathBuf>),
    /// What the guest writes is appended to this file.
    File(PathBuf),
    /// A Unix socket to listen on at this path.
    Socket(PathBuf),
    /// Nowhere.
    Null,
}

impl FromStr for SerialPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, path) = match text.split_once(':') {
            Some((kind, path)) if !path.is_empty() => (kind, Some(PathBuf::from(path))),
            Some(_) => return Err(format!("{text:?} ends where a path should be")),
            None => (text, None),
        };
        match (kind, path) {
            ("stdio", None) => Ok(Self::Stdio),
            ("null", None) => Ok(Self::Null),
            ("pty", link) => Ok(Self::Pty(link)),
            ("file", Some(path)) => Ok(Self::File(path)),
            ("socket", Some(path)) => Ok(Self::Socket(path)),
            _ => Err(format!(
                "{text:?} is not known: say stdio, pty, pty:LINK, file:PATH, socket:PATH or null"
            )),
        }
    }
}

impl fmt::Display for SerialPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdio => f.write_str("stdio"),
            Self::Pty(None) => f.write_str("pty"),
            Self::Pty(Some(link)) => write!(f, "pty:{}", link.display()),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Socket(path) => write!(f, "socket:{}", path.display()),
            Self::Null => f.write_str("null"),
        }
    }
}

written_as_text!(SerialPort);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for text in ["stdio", "pty", "pty:/tmp/tty", "file:a:b", "socket:/run/s", "null"] {
            assert_eq!(text.parse::<SerialPort>().unwrap().to_string(), text);
        }
        for text in ["", "tty", "file", "file:", "null:x", "stdio:x"] {
            assert!(text.parse::<SerialPort>().is_err(), "{text}");
        }
    }
}
