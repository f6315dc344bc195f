//! Somebody at a terminal with `outrigger console`, as tmux has it: types, makes the window larger, leaves,
//! and comes back. The guest is User Mode Linux.
#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect fails")]

use std::time::Duration;

use e2e::{ConsoleScene, Desk, Kind, Kit, Place, Screen, TERMINAL, packages, require};

#[test]
fn a_user_types_resizes_leaves_and_comes_back() {
    let place = Place::of_workspace().unwrap();
    let needed =
        Kit::cached(&place, Kind::Uml).and_then(|kit| Ok((kit, packages(&place, &TERMINAL)?)));
    let Some((kit, tmux)) = require("console-terminal", needed) else { return };
    let mut desk = ConsoleScene::new("console-terminal", &kit).start(&place).unwrap();
    desk.await_user("first").unwrap();

    let screen = Screen::open((&tmux, &kit), (80, 24), "exec sh").unwrap();
    attach(&screen, &desk, "");
    log_in(&screen);
    screen.ask("stty size", "24 80").unwrap();
    // Control keys are the guest's: this ends a program there, and not the one here.
    screen.write("sleep 1000").unwrap();
    screen.press(&["Enter"]).unwrap();
    // Until it runs.
    std::thread::sleep(Duration::from_millis(800));
    screen.press(&["C-c"]).unwrap();
    screen.ask("echo $((6 * 7))", "\n42").unwrap();
    screen.resize(100, 30).unwrap();
    screen.ask("sleep 0.5; stty size", "30 100").unwrap();
    screen.ask("export KEPT=yes", "# ").unwrap();

    // Who looks on sees what is typed, and types nothing.
    let onlooker = Screen::open((&tmux, &kit), (80, 24), "exec sh").unwrap();
    attach(&onlooker, &desk, "--read-only");
    screen.ask("echo seen-by-$((1 + 1))", "seen-by-2").unwrap();
    onlooker.wait_for("seen-by-2").unwrap();
    onlooker.ask("echo typed-$((1 + 1))", "").unwrap();
    leave(&onlooker);

    leave(&screen);
    // This terminal is as it was before: it shows what is typed, and ends programs.
    screen.ask("stty -a | grep -c ' echo '", "\n1").unwrap();
    attach(&screen, &desk, "");
    screen.ask("echo kept=$KEPT", "kept=yes").unwrap();
    let contents = screen.contents().unwrap();
    assert!(!contents.contains("typed-2"), "{contents}");
    screen.ask("exit", "login:").unwrap();
}

fn attach(screen: &Screen, desk: &Desk, how: &str) {
    let program = desk.outrigger().unwrap();
    let control = desk.control();
    let line =
        format!("clear; {} console --control {} {how} con", program.display(), control.display());
    screen.ask(&line, "q leaves").unwrap();
}

fn log_in(screen: &Screen) {
    // What is typed before the guest asks is lost.
    for _ in 0..10 {
        screen.write("root").unwrap();
        screen.press(&["Enter"]).unwrap();
        std::thread::sleep(Duration::from_millis(500));
        if screen.contents().unwrap().contains("Password:") {
            break;
        }
    }
    screen.ask("secret", "# ").unwrap();
}

/// The escape key.
fn leave(screen: &Screen) {
    screen.press(&["C-]", "q"]).unwrap();
    // What is typed behind that is nobody's.
    std::thread::sleep(Duration::from_millis(800));
    screen.ask("echo back-$((1 + 1))", "back-2").unwrap();
}
