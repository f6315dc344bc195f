//! Commands and answers.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::rc::{Rc, Weak};

use serde_json::{Map, Value};

/// What a client asks for.
#[derive(Debug)]
pub enum Request {
    /// Something of the machine itself.
    Machine(Command),
    /// Something of one device's daemon.
    Device(DeviceRequest),
}

/// A command for the daemon of one device: `{"cmd":"device","device":"balloon0","ask":{"cmd":"stats"}}`.
#[derive(Debug)]
pub struct DeviceRequest {
    /// The name of a device, or a kind of device of which there is only one.
    pub device: String,
    /// What the daemon is told: an object that names a command.
    pub ask: Value,
    /// What came with the line (`SCM_RIGHTS`), for the daemon.
    pub fds: Vec<OwnedFd>,
    /// Its answer, once it was passed on.
    pub pending: Option<Pending>,
}

/// An answer that comes later.
#[derive(Debug, Default)]
pub struct Pending(Rc<RefCell<Option<Answer>>>);

/// Where a later answer goes; nowhere, if nobody waits for it any more.
#[derive(Debug)]
pub struct Promise(Weak<RefCell<Option<Answer>>>);

impl Pending {
    /// What keeps this waiting.
    #[must_use]
    pub fn promise(&self) -> Promise {
        Promise(Rc::downgrade(&self.0))
    }

    /// The answer, once it is there.
    #[must_use]
    pub fn take(&self) -> Option<Answer> {
        self.0.borrow_mut().take()
    }
}

impl Promise {
    /// Gives the answer; one that was given before stays.
    pub fn keep(&self, answer: Answer) {
        if let Some(place) = self.0.upgrade() {
            place.borrow_mut().get_or_insert(answer);
        }
    }
}

/// What can be asked of a machine itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
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

/// The name of a command for a device's daemon.
const DEVICE: &str = "device";
const SHAPE: &str = r#"send one JSON object a line, such as {"cmd":"status"}"#;
const DEVICE_SHAPE: &str =
    r#"such a request is like {"cmd":"device","device":"balloon0","ask":{"cmd":"stats"}}"#;

impl Command {
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
}

impl Request {
    /// Reads a line, with which these descriptors came.
    ///
    /// # Errors
    /// The text of the answer, if it is no request.
    pub fn parse(line: &[u8], fds: Vec<OwnedFd>) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(line)
            .map_err(|error| format!("this is not JSON ({error}): {SHAPE}"))?;
        let Value::Object(mut members) = value else {
            return Err(format!("this is not an object: {SHAPE}"));
        };
        let Some(Value::String(name)) = members.remove("cmd") else {
            return Err(format!("\"cmd\" is missing or no text: {SHAPE}"));
        };
        let request = if name == DEVICE {
            Self::Device(DeviceRequest::read(&mut members, fds)?)
        } else {
            Self::Machine(command(&name)?)
        };
        match members.keys().next() {
            None => Ok(request),
            Some(key) => Err(format!("{name:?} takes no {key:?}: leave it out")),
        }
    }
}

fn command(name: &str) -> Result<Command, String> {
    let found = Command::ALL.iter().find(|(known, _)| *known == name);
    found.map(|(_, command)| *command).ok_or_else(|| {
        let known = Command::ALL.iter().map(|(known, _)| *known).chain([DEVICE]);
        let known: Vec<_> = known.collect();
        format!("there is no command {name:?}: known are {}", known.join(", "))
    })
}

impl DeviceRequest {
    fn read(members: &mut Map<String, Value>, fds: Vec<OwnedFd>) -> Result<Self, String> {
        let Some(Value::String(device)) = members.remove("device") else {
            return Err(format!("\"device\" is missing or no text: {DEVICE_SHAPE}"));
        };
        let ask = members.remove("ask").filter(|ask| ask.get("cmd").is_some_and(Value::is_string));
        let ask = ask.ok_or_else(|| format!("\"ask\" names no command: {DEVICE_SHAPE}"))?;
        Ok(Self { device, ask, fds, pending: None })
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

    fn parse(line: &str) -> Result<Request, String> {
        Request::parse(line.as_bytes(), Vec::new())
    }

    #[test]
    fn every_command_has_a_name() {
        for (name, command) in Command::ALL {
            let line = json!({ "cmd": name }).to_string();
            let read = parse(&line).unwrap();
            assert!(matches!(read, Request::Machine(found) if found == command));
            assert_eq!(command.name(), name);
        }
    }

    #[test]
    fn a_request_for_a_daemon_is_passed_on_whole() {
        let line = r#"{"cmd":"device","device":"balloon","ask":{"cmd":"target","bytes":7}}"#;
        let Ok(Request::Device(request)) = parse(line) else { panic!("{line}") };
        assert_eq!(request.device, "balloon");
        assert_eq!(request.ask, json!({ "cmd": "target", "bytes": 7 }));
    }

    #[test]
    fn a_promise_is_kept_once_and_for_who_waits() {
        let pending = Pending::default();
        let promise = pending.promise();
        assert!(pending.take().is_none());
        promise.keep(Err("first".into()));
        promise.keep(Err("second".into()));
        assert_eq!(pending.take(), Some(Err("first".into())));
        drop(pending);
        promise.keep(Ok(Map::new()));
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
            (r#"{"cmd":"device","ask":{"cmd":"stats"}}"#, "\"device\" is missing"),
            (r#"{"cmd":"device","device":"disk","ask":{}}"#, "\"ask\" names no command"),
            (r#"{"cmd":"device","device":"disk","ask":{"cmd":"x"},"y":1}"#, "takes no \"y\""),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(complaint), "{line}: {error}");
        }
        let deep = "[".repeat(10_000);
        assert!(parse(&deep).unwrap_err().contains("recursion limit"));
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
            let _ = Request::parse(&line, Vec::new());
        }
    }
}
