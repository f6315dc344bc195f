//! Commands and answers.

use serde_json::{Map, Value};

/// What can be asked of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// What state it is in.
    Status,
    /// Stop its CPUs and its rings.
    Pause,
    /// Let them go on.
    Resume,
    /// Press the power button: the guest is asked to shut down.
    PowerButton,
    /// Start the guest anew, without asking it.
    Reset,
    /// End it, without asking the guest.
    Stop,
    /// What it has counted.
    Stats,
    /// The state of each device.
    Devices,
}

impl Request {
    /// All of them, by name.
    pub const ALL: [(&'static str, Self); 8] = [
        ("status", Self::Status),
        ("pause", Self::Pause),
        ("resume", Self::Resume),
        ("power-button", Self::PowerButton),
        ("reset", Self::Reset),
        ("stop", Self::Stop),
        ("stats", Self::Stats),
        ("devices", Self::Devices),
    ];

    /// Its name on the socket.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, request)| *request == self).map_or("", |(name, _)| name)
    }

    /// Reads a line.
    ///
    /// # Errors
    /// The text of the answer, if it is no request.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        const SHAPE: &str = r#"send one JSON object a line, such as {"cmd":"status"}"#;
        let value: Value = serde_json::from_slice(line)
            .map_err(|error| format!("this is not JSON ({error}): {SHAPE}"))?;
        let Value::Object(mut members) = value else {
            return Err(format!("this is not an object: {SHAPE}"));
        };
        let Some(Value::String(name)) = members.remove("cmd") else {
            return Err(format!("\"cmd\" is missing or no text: {SHAPE}"));
        };
        let found = Self::ALL.iter().find(|(known, _)| *known == name);
        let (_, request) = found.ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|(known, _)| *known).collect();
            format!("there is no command {name:?}: known are {}", known.join(", "))
        })?;
        match members.keys().next() {
            None => Ok(*request),
            Some(key) => Err(format!("{name:?} takes no {key:?}: leave it out")),
        }
    }
}

/// What came of a request: members of the answer beside `"ok":true`, or what went wrong and what to do.
pub type Answer = Result<Map<String, Value>, String>;

/// The line that answers a request; `ok` comes first.
#[must_use]
pub fn encode(answer: Answer) -> Vec<u8> {
    let (ok, mut members) = match answer {
        Ok(members) => (true, members),
        Err(error) => (false, Map::from_iter([("error".to_owned(), Value::String(error))])),
    };
    members.remove("ok");
    let mut line = format!("{{\"ok\":{ok}").into_bytes();
    // The object without its first brace; newlines in texts are escaped, so this is one line.
    let rest = Value::Object(members).to_string();
    let rest = rest.strip_prefix('{').unwrap_or("}");
    line.extend_from_slice(if rest == "}" { b"" } else { b"," });
    line.extend_from_slice(rest.as_bytes());
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn every_request_has_a_name() {
        for (name, request) in Request::ALL {
            let line = json!({ "cmd": name }).to_string();
            assert_eq!(Request::parse(line.as_bytes()), Ok(request));
            assert_eq!(request.name(), name);
        }
    }

    #[test]
    fn mistakes_say_what_to_do() {
        for (line, complaint) in [
            ("status", "not JSON"),
            ("7", "not an object"),
            ("{}", "\"cmd\" is missing"),
            (r#"{"cmd":1}"#, "\"cmd\" is missing"),
            (r#"{"cmd":"x"}"#, "known are status, pause"),
            (r#"{"cmd":"stop","now":1}"#, "takes no \"now\""),
        ] {
            let error = Request::parse(line.as_bytes()).unwrap_err();
            assert!(error.contains(complaint), "{line}: {error}");
        }
        let deep = "[".repeat(10_000);
        assert!(Request::parse(deep.as_bytes()).unwrap_err().contains("recursion limit"));
    }

    #[test]
    fn an_answer_is_one_line_that_begins_with_ok() {
        let text = |answer| String::from_utf8(encode(answer)).unwrap();
        assert_eq!(text(Ok(Map::new())), "{\"ok\":true}\n");
        let members = Map::from_iter([("a".to_owned(), json!(1)), ("ok".to_owned(), json!(7))]);
        assert_eq!(text(Ok(members)), "{\"ok\":true,\"a\":1}\n");
        assert_eq!(text(Err("a\nb".into())), "{\"ok\":false,\"error\":\"a\\nb\"}\n");
    }

    proptest! {
        #[test]
        fn any_line_is_judged_without_a_panic(line: Vec<u8>) {
            let _ = Request::parse(&line);
        }
    }
}
