use std::{
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        net::UnixStream,
    },
    sync::{Arc, Barrier},
};

use super::*;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// A socket file whose process was killed.
fn leftover(path: &Path) {
    drop(UnixListener::bind(path).unwrap());
    assert!(path.exists());
}

/// Device and inode.
fn identity(path: &Path) -> (u64, u64) {
    let found = path.symlink_metadata().unwrap();
    (found.dev(), found.ino())
}

fn listen(path: &Path) -> Result<(UnixListener, SocketFile)> {
    SocketFile::listen(path, SocketAccess::default())
}

#[test]
fn a_client_connects_and_the_files_go_at_the_end() {
    let folder = folder();
    let path = folder.path().join("a.sock");
    let (listener, file) = listen(&path).unwrap();
    let _client = UnixStream::connect(&path).unwrap();
    listener.accept().unwrap();
    assert_eq!(file.directory(), folder.path());
    drop(file);
    assert_eq!(folder.path().read_dir().unwrap().count(), 0, "socket or lock file left");
}

#[test]
fn a_path_too_long_is_explained() {
    let path = PathBuf::from("/tmp").join("x".repeat(103));
    assert_eq!(path.as_os_str().len(), PATH_MAX + 1);
    let error = listen(&path).unwrap_err();
    assert!(error.to_string().contains("has 108 bytes"), "{error}");
    assert!(error.is_usage());
    assert!(address(Path::new(&"x".repeat(PATH_MAX))).is_ok());
    assert!(address(Path::new("")).is_err());
}

#[test]
fn a_leftover_is_replaced() {
    let folder = folder();
    let path = folder.path().join("a.sock");
    leftover(&path);
    let (_listener, _file) = listen(&path).unwrap();
    UnixStream::connect(&path).unwrap();
}

#[test]
fn a_socket_in_use_is_left_alone() {
    let folder = folder();
    let path = folder.path().join("a.sock");
    let (_listener, _file) = listen(&path).unwrap();
    let before = identity(&path);
    let error = listen(&path).unwrap_err();
    assert!(matches!(error, Error::SocketInUse { .. }), "{error}");
    assert_eq!(identity(&path), before);
}

#[test]
fn a_socket_whose_queue_is_full_is_in_use() {
    let folder = folder();
    let path = folder.path().join("a.sock");
    let socket = new_socket().unwrap();
    net::bind(&socket, &address(&path).unwrap()).unwrap();
    net::listen(&socket, 0).unwrap();
    let clients: Vec<_> = (0..2).map(|_| new_socket().unwrap()).collect();
    let connects: Vec<_> =
        clients.iter().map(|client| net::connect(client, &address(&path).unwrap())).collect();
    assert_eq!(connects, [Ok(()), Err(Errno::AGAIN)]);
    assert!(matches!(listen(&path).unwrap_err(), Error::SocketInUse { .. }));
}

#[test]
fn another_kind_of_file_is_left_alone() {
    let folder = folder();
    let path = folder.path().join("disk.img");
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(listen(&path).unwrap_err(), Error::NotASocket { .. }));
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");

    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(matches!(listen(&link).unwrap_err(), Error::NotASocket { .. }));
}

#[test]
fn a_missing_directory_is_named() {
    let folder = folder();
    let path = folder.path().join("none/a.sock");
    let error = listen(&path).unwrap_err();
    assert!(
        matches!(&error, Error::NoSocketFolder { folder } if folder.ends_with("none")),
        "{error}"
    );
}

#[test]
fn mode_and_group_are_set() {
    let folder = folder();
    let path = folder.path().join("a.sock");
    let own = folder.path().metadata().unwrap().gid();
    let access = SocketAccess { mode: Some(0o620), group: Some(own) };
    let (_listener, _file) = SocketFile::listen(&path, access).unwrap();
    let found = path.metadata().unwrap();
    assert_eq!(found.permissions().mode() & 0o777, 0o620);
    assert_eq!(found.gid(), own);
}

#[test]
fn a_successors_file_is_not_removed() {
    let folder = folder();
    let path = folder.path().join("a.sock");
    let (listener, old) = listen(&path).unwrap();
    // The inode stays in use, as that of a daemon that still runs.
    std::fs::rename(&path, folder.path().join("moved")).unwrap();
    let (_listener, _new) = listen(&path).unwrap();
    drop(old);
    drop(listener);
    UnixStream::connect(&path).unwrap();
}

#[test]
fn of_many_daemons_that_start_at_once_one_listens() {
    let folder = folder();
    for round in 0..20 {
        let path = folder.path().join(format!("{round}.sock"));
        leftover(&path);
        let start = Arc::new(Barrier::new(8));
        let daemons: Vec<_> = (0..8)
            .map(|_| {
                let (path, start) = (path.clone(), Arc::clone(&start));
                thread::spawn(move || {
                    start.wait();
                    listen(&path)
                })
            })
            .collect();
        let outcomes: Vec<_> = daemons.into_iter().map(|d| d.join().unwrap()).collect();
        let listening = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!(listening, 1, "{outcomes:?}");
        for error in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
            assert!(matches!(error, Error::SocketInUse { .. }), "{error}");
        }
    }
}

#[test]
fn groups_are_found_by_name_or_number() {
    let known = b"root:x:0:\nkvm:x:105:alice,bob\nbroken\nnumber:x:abc:\n\xff\xff:x:1:\n";
    assert_eq!(find_group(known, "kvm"), Some(105));
    assert_eq!(find_group(known, "root"), Some(0));
    for unknown in ["alice", "broken", "number", "", "kv"] {
        assert_eq!(find_group(known, unknown), None, "{unknown}");
    }
    assert_eq!(group_number("1234").unwrap(), 1234);
    assert!(group_number("no-such-group").unwrap_err().is_usage());
}
