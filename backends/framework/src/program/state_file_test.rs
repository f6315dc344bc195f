use std::{
    os::{
        fd::{IntoRawFd, OwnedFd},
        unix::net::UnixDatagram,
    },
    path::PathBuf,
};

use clap::Parser;
use proptest::{collection::vec, prelude::*};
use rustix::io::{FdFlags, fcntl_setfd};

use super::*;

const NET: u32 = 1;

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    common: CommonOptions,
}

fn open(argument: &str) -> Result<Option<StateFile>> {
    let options = Options::try_parse_from(["test", argument]).unwrap();
    StateFile::open(&options.common, &mut ListenFds::default(), &Notifier::default(), NET)
}

fn at(path: &Path) -> Result<StateFile> {
    StateFile::at_path(path, NET)
}

fn fresh() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    (folder, path)
}

#[test]
fn the_last_saved_state_is_found_again() {
    let (_folder, path) = fresh();
    let argument = format!("--state-path={}", path.display());
    assert_eq!(open(&argument).unwrap().unwrap().saved(), None);
    for round in 0..5_u16 {
        let mut state = open(&argument).unwrap().unwrap();
        state.save(round, &round.to_le_bytes()).unwrap();
        assert_eq!(state.saved(), Some((round, &round.to_le_bytes()[..])));
        drop(state);
        let state = open(&argument).unwrap().unwrap();
        assert_eq!(state.saved(), Some((round, &round.to_le_bytes()[..])));
    }
}

#[test]
fn without_a_place_nothing_is_kept() {
    assert!(open("--packed").unwrap().is_none());
}

#[test]
fn the_longest_state_fits() {
    let (_folder, path) = fresh();
    let long = vec![0xA5; PAYLOAD_MAX];
    at(&path).unwrap().save(1, &long).unwrap();
    assert_eq!(at(&path).unwrap().saved(), Some((1, &long[..])));
    let too_long = vec![0xA5; PAYLOAD_MAX + 1];
    assert!(at(&path).unwrap().save(1, &too_long).is_err());
    assert_eq!(at(&path).unwrap().saved(), Some((1, &long[..])));
}

#[test]
fn another_daemons_file_is_refused() {
    let (_folder, path) = fresh();
    let _state = at(&path).unwrap();
    let error = at(&path).unwrap_err();
    assert!(error.to_string().contains("another back-end uses it"), "{error}");
}

#[test]
fn a_file_of_another_kind_is_not_overwritten() {
    let (folder, path) = fresh();
    std::fs::write(&path, "precious").unwrap();
    let error = at(&path).unwrap_err();
    assert!(error.to_string().contains("not a state file"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    assert!(at(folder.path()).is_err(), "a directory");
    assert!(at(Path::new("/dev/null")).is_err(), "a device");
    let fifo = folder.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
    assert!(at(&fifo).is_err(), "a pipe, without waiting for its other end");
}

#[test]
fn another_devices_state_is_refused() {
    let (_folder, path) = fresh();
    at(&path).unwrap().save(1, b"net").unwrap();
    let error = StateFile::at_path(&path, 2).unwrap_err();
    assert!(error.to_string().contains("device type 1, and this is one of type 2"), "{error}");
}

#[test]
fn a_newer_programs_state_is_refused() {
    let (_folder, path) = fresh();
    at(&path).unwrap().save(1, b"net").unwrap();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[2], slot_offset(1) + 8).unwrap();
    let error = at(&path).unwrap_err();
    assert!(error.to_string().contains("use a newer one"), "{error}");
}

#[test]
fn an_inherited_memfd_keeps_the_state() {
    let memfd = new_memfd().unwrap();
    let second = memfd.try_clone().unwrap();
    let open_inherited = |file: File| {
        fcntl_setfd(&file, FdFlags::empty()).unwrap();
        open(&format!("--state-fd={}", file.into_raw_fd())).unwrap().unwrap()
    };
    open_inherited(memfd).save(1, b"filters").unwrap();
    assert_eq!(open_inherited(second).saved(), Some((1, &b"filters"[..])));
}

/// A torn write leaves the first bytes of the new blob in the slot, in front of what was there.
#[test]
fn a_write_torn_at_any_byte_leaves_the_old_state_or_the_new() {
    let (_folder, path) = fresh();
    let mut state = at(&path).unwrap();
    state.save(1, b"the first, with an empty slot beside it").unwrap();
    torn_at_any_byte(&mut state, b"the second");
    state.save(1, b"old").unwrap();
    torn_at_any_byte(&mut state, b"the new one");
}

fn torn_at_any_byte(state: &mut StateFile, next: &[u8]) {
    let slot = slot_offset(state.newest.as_ref().unwrap().sequence + 1);
    let old = state.saved().map(|(_, bytes)| bytes.to_vec());
    let mut before = vec![0; 256];
    state.file.read_exact_at(&mut before, slot).unwrap();
    state.save(1, next).unwrap();
    let new = state.saved().map(|(_, bytes)| bytes.to_vec());
    let mut after = vec![0; 256];
    state.file.read_exact_at(&mut after, slot).unwrap();

    for cut in 0..=HEADER_SIZE + next.len() {
        let torn = [&after[..cut], &before[cut..]].concat();
        state.file.write_all_at(&torn, slot).unwrap();
        let found = state.read_newest().unwrap().map(|blob| blob.payload);
        let whole = cut == HEADER_SIZE + next.len();
        assert_eq!(found, if whole { new.clone() } else { old.clone() }, "cut at {cut}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Pages may reach the file in any order: any mixture of old and new pieces is old or new.
    #[test]
    fn any_mixture_of_old_and_new_pieces_is_one_of_them(
        states in vec(vec(any::<u8>(), 0..9000), 2..5),
        arrived in vec(any::<bool>(), 24),
        piece in prop_oneof![Just(1_usize << 9), Just(1 << 12), 1..600_usize],
    ) {
        let mut state = StateFile::in_file(new_memfd().unwrap(), "memfd".into(), NET).unwrap();
        let (last, earlier) = states.split_last().unwrap();
        for payload in earlier {
            state.save(7, payload).unwrap();
        }
        let old = state.newest.clone();
        let slot = slot_offset(old.as_ref().map_or(0, |blob| blob.sequence) + 1);
        let mut mixed = vec![0; SLOT_SIZE];
        state.file.read_exact_at(&mut mixed, slot).unwrap();
        state.save(7, last).unwrap();
        let mut after = vec![0; SLOT_SIZE];
        state.file.read_exact_at(&mut after, slot).unwrap();
        let pieces = mixed.chunks_mut(piece).zip(after.chunks(piece));
        for ((mixed, after), arrived) in pieces.zip(arrived.iter().cycle()) {
            if *arrived {
                mixed.copy_from_slice(after);
            }
        }
        state.file.write_all_at(&mixed, slot).unwrap();
        let found = state.read_newest().unwrap();
        prop_assert!(found == old || found == state.newest);
    }
}

#[test]
fn under_a_service_manager_a_memfd_goes_to_its_store_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let manager = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    let notifier = Notifier::connected_to(folder.path().join("notify").as_os_str());
    let options = Options::try_parse_from(["test"]).unwrap().common;
    let mut state =
        StateFile::open(&options, &mut ListenFds::default(), &notifier, NET).unwrap().unwrap();
    state.save(1, b"filters").unwrap();

    let (text, stored) = receive(&manager);
    assert_eq!(text, "FDSTORE=1\nFDNAME=outrigger-state\n");
    let mut passed = ListenFds::named(STORE_NAME, stored);
    let again = StateFile::open(&options, &mut passed, &notifier, NET).unwrap().unwrap();
    assert_eq!(again.saved(), Some((1, &b"filters"[..])));
}

fn receive(manager: &UnixDatagram) -> (String, OwnedFd) {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut text = [0; 256];
    let mut data = [io::IoSliceMut::new(&mut text)];
    let received = recvmsg(manager, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let Some(RecvAncillaryMessage::ScmRights(mut fds)) = control.drain().next() else {
        panic!("a descriptor");
    };
    (String::from_utf8(text[..received.bytes].to_vec()).unwrap(), fds.next().unwrap())
}
