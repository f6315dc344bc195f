//! The report on balloons.

use super::cell::{Cell, Front, Pages, Sample, What, Who};
use crate::report::{self, Page, Report, Verdict, Wanted};

/// A report on so much memory at a time.
pub(super) fn begin(mebibytes: u64) -> Report<Cell, Sample> {
    let mut report = Report::begin("balloon");
    report.fact("on the rings", format!("{mebibytes} MiB at a time"));
    report
}

/// The page for people.
pub(super) fn page(report: &Report<Cell, Sample>) -> Page {
    let mut page = report.page("Balloon benchmark");
    page.paragraph(
        "On the rings a fake driver gives lists of 256 pages and reports of 32 ranges, one at a time, as \
         Linux's does; the daemon has a CPU of its own. 4 KiB are pages without neighbours (every other \
         page), 2 MiB whole ranges; lists name pages of 4 KiB in either case. The limit is a loop in one \
         thread on the daemon's CPU that punches the same ranges into a file of the same kind, which is \
         mapped twice, as guest memory is by a VMM and a daemon, and was written by another CPU: pages \
         that are still in the caches of the one that gives them back would flatter the limit. CPU for \
         each GiB compares what giving back costs; GiB/s has the driver's sleep and wake after each \
         report in it too. In the guest it is the kernel that chooses the pages: 300 MiB of 512 were \
         written, freed, and then asked for, or reported by themselves. CPU is that of the process that \
         gives memory back: all of the daemon's, and QEMU's without the threads that are the guest's CPUs. \
         All memory was written before. \
         The guest's kernel waits two seconds before it reports, whoever listens.",
    );
    page.targets(targets(report).into_iter().flatten());
    page.heading("Figures");
    page.table(
        &["front", "what", "pages", "who", "GiB/s", "CPU s/GiB", "free to back, s"],
        report.places().into_iter().map(|cell| {
            vec![
                cell.front.to_string(),
                cell.what.to_string(),
                cell.pages.to_string(),
                cell.who.to_string(),
                report::spread(report.spread(cell, |sample| sample.gib_s), 2),
                report::spread(report.spread(cell, |sample| sample.cpu_s_per_gib), 4),
                report::spread(report.spread(cell, |sample| sample.back_s), 2),
            ]
        }),
    );
    page
}

fn targets(report: &Report<Cell, Sample>) -> [Option<Verdict>; 6] {
    let cell = |front, who, what, pages| Cell { front, who, what, pages };
    let guest = |who, what| cell(Front::Guest, who, what, Pages::Guests);
    let rings = |who, pages| cell(Front::Rings, who, What::Report, pages);
    let cpu = |what| {
        let (ours, theirs) = (guest(Who::Outrigger, what), guest(Who::Qemu, what));
        report.ratio(theirs, ours, |sample| sample.cpu_s_per_gib)
    };
    let both = |pages| (rings(Who::Outrigger, pages), rings(Who::Fallocate, pages));
    let limit = |pages| {
        let (ours, limit) = both(pages);
        report.ratio(ours, limit, |sample| sample.gib_s)
    };
    let of_limit = |what, pages| {
        let (ours, limit) = both(pages);
        let ratio = report.ratio(limit, ours, |sample| sample.cpu_s_per_gib);
        Verdict::on(what, Wanted::AtLeast(0.9), "×", ratio)
    };
    [
        Verdict::on(
            "CPU for each GiB inflated, QEMU's own balloon's over the daemon's",
            Wanted::AtLeast(3.0),
            "×",
            cpu(What::Inflate),
        ),
        of_limit(
            "CPU for each GiB of reports of 2 MiB, the limit's over the daemon's",
            Pages::Large,
        ),
        of_limit(
            "CPU for each GiB of reports of 4 KiB, the limit's over the daemon's",
            Pages::Small,
        ),
        Verdict::on("reports of 2 MiB", Wanted::AtLeast(0.9), "× the limit", limit(Pages::Large)),
        Verdict::on("reports of 4 KiB", Wanted::AtLeast(0.9), "× the limit", limit(Pages::Small)),
        Verdict::on(
            "CPU for each GiB reported, QEMU's own balloon's over the daemon's",
            Wanted::AtLeast(1.0),
            "×",
            cpu(What::Report),
        ),
    ]
}
