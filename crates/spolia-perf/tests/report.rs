//! The page of a long history: how large it is, and that nothing in it grows with the history.

mod sample;

use spolia_perf::report::{POINTS_MAX, TRENDS_MAX, html, markdown, svg};

#[test]
fn ten_thousand_runs_make_a_page_below_three_megabytes() {
    let report = sample::report(10_000);
    let page = html(&report);
    assert!(page.len() < 3_000_000, "{} bytes", page.len());
    assert!(page.contains("from 10000 measurements"));
    assert_eq!(report.trends.len(), 4);
    assert!(report.trends.len() <= TRENDS_MAX);
    for trend in &report.trends {
        for series in [&trend.cpu, &trend.wall] {
            assert!(series.points.len() <= POINTS_MAX, "{} points", series.points.len());
            // No measurement is lost: each is in a point.
            assert_eq!(series.points.iter().map(|point| point.count).sum::<usize>(), trend.count);
        }
    }
    // What changed is found in the long history as in a short one.
    let of = |subject: &str| report.trends.iter().find(|trend| trend.subject == subject).expect("drawn");
    assert_eq!(of("app").cpu.changes.len(), 1, "{:?}", of("app").cpu.changes);
    assert!((of("app").cpu.changes[0].after / of("app").cpu.changes[0].before - 1.2).abs() < 0.02);
    let charts = page.matches("<svg").count();
    assert!((10..40).contains(&charts), "{charts} charts");
    assert!(markdown(&report).len() < 65_536, "longer than a pull request's comment may be");
    assert!(svg(&report).is_some());
    // Ten times the runs make no larger page.
    let more = html(&sample::report(40_000));
    assert!(more.len() < page.len() * 11 / 10, "{} and {} bytes", page.len(), more.len());
}
