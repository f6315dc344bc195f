use clap::{Args, Command, FromArgMatches};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::cli::Run;
use super::*;

fn run(words: &[&str]) -> Run {
    let command = Run::augment_args(Command::new("run").no_binary_name(true));
    Run::from_arg_matches(&command.try_get_matches_from(words).unwrap()).unwrap()
}

fn config(words: &[&str]) -> Result<Config, String> {
    run(words).resolve().map_err(|error| error.to_string())
}

fn from_toml(text: &str) -> Result<Config, String> {
    let settings = toml::from_str(text).map_err(|error| error.to_string())?;
    Config::new(settings).map_err(|error| error.to_string())
}

#[test]
fn the_definition_is_consistent() {
    Run::augment_args(Command::new("run")).debug_assert();
}

/// What cannot be read about cannot be used.
#[test]
fn the_help_names_every_key() {
    let mut command = Run::augment_args(Command::new("run"));
    let help = command.render_long_help().to_string();
    for (kind, keys) in [&DISK, &NET, &CONSOLE, &BALLOON].map(|kind| (kind, kind.key_names())) {
        for key in keys {
            let named = help.split(|c: char| !(c.is_alphanumeric() || c == '-'));
            assert!(named.into_iter().any(|word| word == key), "--{}: {key}", kind.name);
        }
    }
}

#[test]
fn defaults_are_few() {
    let found = config(&["--kernel=k"]).unwrap();
    assert_eq!((found.cpus.count, found.memory.size), (1, 1 << 30));
    assert_eq!((found.cmdline.as_str(), found.serial), ("console=ttyS0", SerialPort::Stdio));
    assert_eq!((found.devices.len(), found.grace.as_secs()), (0, 30));
    assert!(found.sandbox.is_on());
}

#[test]
fn a_file_and_flags_make_one_machine() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vm.toml");
    let file = r#"
        kernel = "vmlinuz"
        cpus = 4
        cpu-affinity = ["0-3:4-7"]
        memory = "2G"
        sandbox = false
        [[disk]]
        path = "root.img"
        readonly = true
        [[vhost-user]]
        type = "vsock"
        socket = "/run/vsock"
    "#;
    std::fs::write(&path, file).unwrap();
    let flag = format!("--config={}", path.display());
    let found = config(&[&flag, "--cpus=5", "--disk=path=data.img", "--memory=4G"]).unwrap();
    assert_eq!((found.cpus.count, found.memory.size), (5, 4 << 30));
    assert_eq!(found.cpus.affinity.len(), 4);
    let names: Vec<_> = found.devices.iter().map(|device| device.name.as_str()).collect();
    assert_eq!(names, ["disk0", "disk1", "vhost-user0"]);
    assert!(!found.sandbox.is_on());
}

#[test]
fn mistakes_say_where_and_what_to_do() {
    for (words, complaint) in [
        (&[][..], "--kernel PATH: say which"),
        (&["--kernel=k", "--cpus=0"], "--cpus: 0 is not a number from 1"),
        (&["--kernel=k", "--cpu-affinity=1-2:3"], "--cpu-affinity: there is no vCPU 1"),
        (&["--kernel=k", "--memory=1"], "--memory: 1 is not a multiple"),
        (&["--kernel=k", "--numa=cpus=1,memory=1G"], "--numa: there is no vCPU 1"),
        (&["--kernel=k", "--disk=file=x"], "--disk file=x: path= or null= is missing"),
        (&["--kernel=k", "--disk=path=x,id=a", "--net=tap=t,id=a"], "--net: two devices are"),
        (&["--kernel=k", "--console=backend=stdio"], "--console (id=console0): standard input"),
        (&["--kernel=k", "--memory=1G,lock=on", "--balloon=auto=on"], "--memory: lock=on keeps"),
        (
            &["--kernel=k", "--balloon=auto=on", "--vhost-user=type=blk,socket=/s,pins-memory=on"],
            "--vhost-user: pins-memory=on of vhost-user0 keeps what balloon0",
        ),
        (&["--config=/no/such"], "--config /no/such: No such file"),
    ] {
        let error = config(words).unwrap_err();
        assert!(error.contains(complaint), "{words:?}: {error}");
    }
    assert!(config(&["--kernel=k", "--console=backend=stdio", "--serial=null"]).is_ok());
    let pinned = "--vhost-user=type=blk,socket=/s,pins-memory=on";
    assert!(config(&["--kernel=k", pinned]).is_ok());
    assert!(config(&["--kernel=k", "--balloon=auto=on", &pinned.replace("=on", "=off")]).is_ok());
    for (text, complaint) in [
        ("kernel = 'k'\nram = '1G'", "unknown field `ram`"),
        ("kernel = 'k'\nserial = 'tty'", "say stdio, pty"),
        ("kernel = 'k'\ncpus = 'many'", "invalid type"),
        ("kernel = ", "line 1"),
    ] {
        let error = from_toml(text).unwrap_err();
        assert!(error.contains(complaint), "{text}: {error}");
    }
}

fn cpus() -> impl Strategy<Value = Vec<String>> {
    prop_oneof![
        Just(vec![]),
        (1_u32..=4).prop_map(|last| vec![format!("--cpu-affinity=0-{}", last - 1)]),
        (0_u32..100).prop_map(|cpu| vec![format!("--cpu-affinity=1,3:{cpu},200-210")]),
        (1_u8..=99).prop_map(|priority| vec![format!("--cpu-sched=rr:{priority}")]),
    ]
}

fn memory() -> impl Strategy<Value = Vec<String>> {
    let pages = prop::sample::select(vec!["4k", "thp", "hugetlb=2M", "hugetlb=1G"]);
    prop_oneof![
        (1_u32..64, pages)
            .prop_map(|(size, pages)| vec![format!("--memory={size}G,pages={pages},lock=on")]),
        (8_u32..64, option::of(0..4)).prop_map(|(size, host)| {
            let host = host.map_or(String::new(), |host| format!(",host={host}"));
            vec![
                format!("--numa=cpus=0,,2-3,memory={size}M,distances=10:21{host}"),
                format!("--numa=cpus=1,memory={size}G,distances=31:10"),
            ]
        }),
    ]
}

fn device() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z/,= .\"\\\\é]{1,8}".prop_map(|path| {
            format!("--disk=path={},cache=none,on-loss=fail", path.replace(',', ",,"))
        }),
        (0_u64..1 << 40, any::<bool>()).prop_map(|(size, packed)| {
            let packed = if packed { "on" } else { "off" };
            format!("--disk=null={size},queue-size=64,packed={packed},nice=-3,program=/b/x")
        }),
        (68_u16..).prop_map(|mtu| format!("--net=tap=tap0,mtu={mtu},timeout=9")),
        "[a-z:,,]{1,8}".prop_map(|backend| {
            format!("--console=name=x,backend={}", backend.replace(',', ",,"))
        }),
        Just("--balloon=auto=on".to_owned()),
        (1_u32..64, any::<bool>()).prop_map(|(kind, server)| {
            let server = if server { "on" } else { "off" };
            format!("--vhost-user=type={kind},socket=/run/s,server={server},queues=2")
        }),
    ]
}

fn anything() -> impl Strategy<Value = Vec<String>> {
    let life = prop::sample::subsequence(
        vec![
            "--initrd=initrd.img",
            "--cmdline=console=hvc0 \"quoted\" \\ 'x'",
            "--serial=pty:/tmp/tty",
            "--control=/run/vm.sock",
            "--grace=7",
            "--on-panic=stop",
            "--on-triple-fault=reset",
            "--sandbox=off",
            "--log=debug",
        ],
        0..=9,
    );
    (cpus(), memory(), vec(device(), 0..6), life).prop_map(|(cpus, memory, devices, life)| {
        let mut words = vec!["--kernel=vmlinuz".to_owned(), "--cpus=4".to_owned()];
        words.extend(cpus);
        words.extend(memory);
        // Locked memory and a balloon are refused together.
        let locked = words.iter().any(|word| word.contains("lock=on"));
        let balloons = ["--balloon", "--vhost-user=type=5,"];
        let fits = |word: &String| !locked || !balloons.iter().any(|flag| word.starts_with(flag));
        words.extend(devices.into_iter().filter(fits));
        words.extend(life.into_iter().map(str::to_owned));
        words
    })
}

proptest! {
    #[test]
    fn a_dry_run_can_be_fed_back(words in anything()) {
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let machine = config(&words).unwrap();
        let printed = machine.to_toml().unwrap();
        prop_assert_eq!(&from_toml(&printed).map_err(TestCaseError::fail)?, &machine, "{}", printed);
    }

    #[test]
    fn any_list_is_judged_without_a_panic(text in "\\PC*", kind in 0_usize..6) {
        let flag = ["disk", "net", "console", "balloon", "vhost-user", "memory"][kind];
        let settings = format!("kernel = 'k'\n{flag} = {:?}", [&text]);
        let _ = from_toml(&settings);
        if let Ok(fields) = text.parse::<Fields>() {
            let _ = Memory::resolve(fields.clone(), vec![]);
            let _ = Node::read(fields.clone());
            let _ = Device::attached(0, fields);
        }
    }
}
