//! A guest's console in the demo: somebody logs in, computes, makes the terminal larger, and asks an agent.

use anyhow::{Context, Result, ensure};
use e2e::{ConsoleScene, Kit, Place, Programs, Site};

/// The size that the terminal gets.
const SIZE: (u16, u16) = (132, 43);

/// Boots a guest with a console, does all that twice, with the driver unbound and bound in between, and
/// gives a row of the table.
pub(super) fn row(place: &Place, kit: &Kit, programs: &Programs) -> Result<Vec<String>> {
    let name = format!("demo-{}-console", kit.kind().name());
    let scene = ConsoleScene { programs: programs.clone(), ..ConsoleScene::new(&name, kit) };
    let mut desk = scene.start(place)?;
    let mut version = String::new();
    for user in ["first", "second"] {
        desk.await_user(user)?;
        let mut console = desk.log_in()?;
        console.ask("echo $((6 * 7))", "\r\n42\r\n")?;
        desk.resize(SIZE.0, SIZE.1)?;
        console.ask("sleep 0.3; stty size", &format!("{} {}", SIZE.1, SIZE.0))?;
        let answer = desk.attach("agent")?.ask("kernel", "\n")?;
        version = answer.trim().strip_prefix("kernel ").context("the agent's answer")?.to_owned();
        console.ask("exit", "\r\n")?;
    }
    ensure!(version == kit.kernel_version(), "the agent says that the kernel is {version}");
    let features = desk.features()?.join(" ");
    desk.finish()?;
    let guest = format!("{}\nLinux {version}\nsplit rings", kit.kind().title());
    Ok(cells(guest, features, "a Unix socket", &version))
}

/// The same at a site, with `outrigger console`, on ports of which all but the first are added at run time.
pub(super) fn site_row(site: &Site, guest: &str) -> Result<Vec<String>> {
    let results = site.play_console("console")?;
    let answer = results.get("agent").context("the agent has not answered")?;
    let digits = results.get("features_3").map_or("", String::as_str);
    let features = e2e::feature_names(virtio_spec::DeviceType::CONSOLE, digits).join(" ");
    let version = answer.trim_start_matches("kernel ");
    Ok(cells(guest.to_owned(), features, "`outrigger console`", version))
}

fn cells(guest: String, features: String, way: &str, version: &str) -> Vec<String> {
    let (columns, rows) = SIZE;
    let done = format!(
        "login on hvc0 through {way}: echo $((6 * 7)) shows 42\nterminal made {columns} by {rows}: stty size \
         shows {rows} {columns}\nagent on the port \"agent\" asked for its kernel\nall once more when the \
         driver was unbound and bound"
    );
    let figures = format!("the agent answered: kernel {version}");
    vec!["console".into(), "outrigger-console".into(), guest, features, done, figures]
}
