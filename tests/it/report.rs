//! The report page: every value of others is text on it, nothing on it is unbounded, and in a real browser it has
//! charts, no error, text that can be selected, and pages on paper. Screenshots and the PDF stay in `target/report`.

mod invented;

use std::fs;
use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use jiff::civil::date;
use relay_log::console::period::Period;
use relay_log::verify::log::Verdict;
use relay_report::fold::account::Day;
use relay_report::fold::consumption::AllSources;
use relay_report::fold::daily_peak::Used;
use relay_report::fold::entitlements::Allowed;
use relay_report::page::*;
use serde_json::Value;

use crate::common::scenes::{Deployment, Unit};
use crate::common::story::{Story, add, audit, units};
use crate::common::*;

/// What a reader at a screen finds on this page, at each of two widths and in grey; see `tests/clients/browse.py`.
fn opened(page: &Path, folder: &Path) -> Value {
    let browser = tool("chromium-headless-shell", "chromium-headless-shell");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/browse.py");
    let output = tool("python3", "python3")
        .arg(script)
        .arg(browser.get_program())
        .args([page, folder])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What must be so of any report: no error, nothing loaded, nothing that sticks out, and charts that can be read.
fn holds_up(found: &Value) {
    for (look, found) in found.as_object().unwrap() {
        assert_eq!(found["console"], Value::Array(vec![]), "{look}: the console");
        assert_eq!(found["loads"], Value::Array(vec![]), "{look}: loaded from elsewhere");
        assert_eq!(found["scripts"], 0, "{look}: scripts");
        assert_eq!(found["overflow"], 0, "{look}: wider than the screen");
        for chart in found["charts"].as_array().unwrap() {
            let id = format!("{look}: {}", chart["id"]);
            assert_eq!(chart["role"], "img", "{id}");
            for words in ["title", "description"] {
                assert!(chart[words].as_str().is_some_and(|words| words.len() > 5), "{id}: {words}");
            }
            if chart["shown"] == false {
                continue;
            }
            let [width, height] = [0, 1].map(|n| chart["box"][n].as_f64().unwrap());
            // A strip of two sources is no higher.
            assert!(width > 300.0 && height > 50.0, "{id}: {width} by {height}");
            assert!(chart["shapes"].as_u64().unwrap() >= 4, "{id}: {} shapes", chart["shapes"]);
            assert!(chart["texts"].as_array().unwrap().len() >= 4, "{id}: {}", chart["texts"]);
            assert_eq!(chart["outside"], Value::Array(vec![]), "{id}: cut off");
            let smallest =
                chart["letters"].as_array().unwrap().iter().filter_map(Value::as_f64).fold(99.0, f64::min);
            assert!(smallest > 9.0, "{id}: letters of {smallest} pixels");
        }
    }
}

/// The charts that are to be seen at a width.
fn shown(found: &Value) -> Vec<&str> {
    let charts = found["charts"].as_array().unwrap().iter();
    charts.filter(|chart| chart["shown"] == true).map(|chart| chart["id"].as_str().unwrap()).collect()
}

/// The text of a PDF, page by page.
fn paper(pdf: &str) -> Vec<String> {
    assert!(fs::read(pdf).unwrap().starts_with(b"%PDF-"));
    let output = tool("pdftotext", "poppler-utils").args(["-layout", pdf, "-"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.trim_end_matches('\u{c}').split('\u{c}').map(str::to_owned).collect()
}

fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/report");
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn a_browser_shows_selects_and_prints_a_year() {
    let page = folder().join("invented.html");
    fs::write(&page, render(&invented::year())).unwrap();
    let found = opened(&page, &folder());
    holds_up(&found);
    let wide = shown(&found["wide"]);
    for chart in ["assignments0-wide", "use0-half", "use3-half", "syncs-wide", "consumption0-half"] {
        assert!(wide.contains(&chart), "{chart} of {wide:?}");
    }
    let narrow = shown(&found["narrow"]);
    for chart in ["assignments0-narrow", "use0-half", "syncs-narrow", "consumption0-half"] {
        assert!(narrow.contains(&chart), "{chart} of {narrow:?}");
    }
    // Selected: a label of a chart, holders, and what must not have been obeyed.
    let selected = found["wide"]["selected"].as_str().unwrap();
    for text in
        ["cap 1,250", "qlik-01.plant1.example", "acme\\person028", invented::MARKUP, "acme\\bob⟨U+202E⟩nimda"]
    {
        assert!(selected.contains(text), "{text} can't be selected");
    }
    let pages = paper(found["wide"]["pdf"].as_str().unwrap());
    assert!((5..60).contains(&pages.len()), "{} pages", pages.len());
    assert!(pages[0].contains("UTC") && pages[0].contains("What this log can't claim"), "{}", pages[0]);
    // The script is for a screen.
    assert!(pages.iter().all(|page| !page.contains("import hashlib")));
    // Rows go on over several pages, and the names of columns with them.
    let listing = pages.iter().filter(|page| page.contains("acme\\person")).collect::<Vec<_>>();
    assert!(listing.len() > 2 && listing.iter().all(|page| page.contains("Pseudonym")));
}

/// The sign of an answer in short (`yes`, `no`, `open`), and its words as HTML.
fn answer<'h>(html: &'h str, question: &str) -> (&'h str, &'h str) {
    let (before, after) = html.split_once(&format!("<dt>{question}</dt><dd>")).unwrap();
    let sign = before.rsplit_once("class=\"sign ").unwrap().1;
    (sign.split_once('"').unwrap().0, after.split_once("</dd>").unwrap().0)
}

const WHOLE: &str = "Is the log whole?";
/// The questions whose answers are of the period, and rest on what can be read.
const OF_THE_PERIOD: [&str; 4] =
    ["Is anything missing?", "Is the list of holders complete?", "Was anything over-allocated?", CONSUMED];
const CONSUMED: &str = "Was more consumed than the quota?";

/// A year in which all is well: each answer about it is a plain yes.
fn calm() -> Page {
    let mut page = invented::year();
    page.not_understood = Truncated::default();
    page.gaps = Truncated::default();
    page.gap_sums.clear();
    page.licenses = page.licenses.rows.split_off(1).into();
    page.consumption.truncate(1);
    page.consumption[0].months.iter_mut().for_each(|month| month.sums.quota = Some(20_000));
    let log = &mut page.evidence[0].verified;
    (log.gaps, log.unsigned) = (0, 0);
    assert_eq!(page.verdict(), Verdict::Fine);
    page
}

#[test]
fn where_all_is_well_the_page_says_so() {
    let html = render(&calm());
    for question in OF_THE_PERIOD.into_iter().chain([WHOLE]) {
        let (sign, words) = answer(&html, question);
        assert_eq!(sign, "yes", "{question} {words}");
    }
}

#[test]
fn records_that_nobody_signed_leave_it_open_whether_the_log_is_whole() {
    let mut page = calm();
    let log = &mut page.evidence[0].verified;
    (log.records, log.unsigned) = (32, 31);
    let html = render(&page);
    let (sign, words) = answer(&html, WHOLE);
    assert_eq!(sign, "open");
    assert!(words.starts_with("1 of 32 records are as signed; 31 are not signed (yet)"), "{words}");
    assert!(html.contains("whole; as it was signed up to its newest checkpoint"));
    page.evidence[0].verified.unsigned = 0;
    page.evidence[0].verified.records = 1;
    assert_eq!(answer(&render(&page), WHOLE), ("yes", "Yes: 1 record is as it was signed."));
}

#[test]
fn of_a_time_before_or_after_the_log_nothing_is_known_and_nothing_is_well() {
    let at = |text: &str| Some(text.parse().unwrap());
    let mut page = calm();
    let known = page.period.known;
    for (from, to, why) in [
        (at("2025-06-01T00:00:00Z"), at("2025-06-30T23:59:59Z"), "the log begins <time"),
        (at("2026-12-03T00:00:00Z"), None, "the log ends <time"),
    ] {
        page.period = KnownPeriod::of(Period { from, to }, known, page.made.at);
        page.deployments = Truncated::default();
        page.denied = Truncated::default();
        page.clock = None;
        let html = render(&page);
        for question in OF_THE_PERIOD {
            let (sign, words) = answer(&html, question);
            assert!(sign == "open" && words.starts_with("Nothing is known: "), "{question} {words}");
            assert!(words.contains(why), "{question} {words}");
        }
        let asked = from.unwrap().strftime("%Y-%m-%d 00:00").to_string();
        let header = html.split_once("Asked for: from ").unwrap().1.split_once("</p>").unwrap().0;
        assert!(header.contains(&asked) && header.contains("Nothing is known"), "{header}");
        for claim in ["No deployment was seen", "Nothing was refused", "No reply", "There is no gap"] {
            assert!(!html.contains(claim), "{claim}");
        }
    }
    page.period = KnownPeriod::of(Period::default(), None, page.made.at);
    assert_eq!(answer(&render(&page), OF_THE_PERIOD[0]).0, "open");
}

#[test]
fn a_period_of_which_the_log_knows_a_part_is_told_with_that_part() {
    let mut page = calm();
    let asked = Period {
        from: Some("2025-06-01T00:00:00Z".parse().unwrap()),
        to: Some("2026-12-01T09:00:00Z".parse().unwrap()),
    };
    page.period = KnownPeriod::of(asked, page.period.known, page.made.at);
    let html = render(&page);
    for part in ["Asked for: from", ">2025-06-01 00:00<", "Known: from", ">2025-12-01 00:00<"] {
        assert!(html.contains(part), "{part}");
    }
    for question in OF_THE_PERIOD {
        let (sign, words) = answer(&html, question);
        assert!(
            sign == "open" && words.contains("nothing is known of the time before"),
            "{question} {words}"
        );
    }
    // Less than the time in which a relay writes something in any case, before the end that was asked for.
    let asked = Period { from: None, to: Some(page.period.to + SignedDuration::from_mins(30)) };
    page.period = KnownPeriod::of(asked, page.period.known, page.made.at);
    assert_eq!(answer(&render(&page), OF_THE_PERIOD[0]).0, "yes");
}

#[test]
fn a_period_of_less_than_an_hour_is_told_to_the_second() {
    let mut page = calm();
    let from = page.period.from;
    page.period =
        KnownPeriod::of(Period::default(), Some((from, from + SignedDuration::from_secs(95))), page.made.at);
    assert!(render(&page).contains(">2025-12-01 00:00:00</time> to "));
    assert!(render(&page).contains(">2025-12-01 00:01:35</time>"));
}

#[test]
fn damage_leaves_no_answer_a_plain_yes() {
    for verdict in [Verdict::Damaged, Verdict::RolledBack, Verdict::StaleTail] {
        let mut page = calm();
        let log = &mut page.evidence[0].verified;
        log.damage = vec!["segments/0.jsonl: line 7 was changed".to_owned()];
        match verdict {
            Verdict::Damaged => log.damages = 1,
            Verdict::RolledBack => log.rolled_back = vec!["the anchor covers more".to_owned()],
            _ => log.stale_tail = true,
        }
        assert_eq!(page.verdict(), verdict);
        let html = render(&page);
        assert_eq!(answer(&html, WHOLE).0, "no", "{verdict:?}");
        for question in OF_THE_PERIOD {
            let (sign, words) = answer(&html, question);
            assert!(sign == "open" && words.contains("can't be told"), "{verdict:?} {question} {words}");
        }
    }
    let mut page = invented::year();
    page.evidence[0].verified.damages = 1;
    let html = render(&page);
    let (sign, words) = answer(&html, "Was anything over-allocated?");
    assert!(sign == "no" && words.contains("what was changed or is missing is not counted"), "{words}");
}

#[test]
fn more_consumption_than_the_quota_is_told_in_short_and_beside_the_chart() {
    let month = |delta_low, delta_high, total, quota| {
        let sums = AllSources { delta_low, delta_high, total, quota, ..AllSources::default() };
        Month { month: date(2026, 11, 1), sums }
    };
    let with = |mut newest: Month, days_left, ended| {
        let mut page = calm();
        newest.sums.days_left = days_left;
        let one = &mut page.consumption[0];
        one.ended = ended;
        *one.months.last_mut().unwrap() = newest;
        render(&page)
    };
    let html = with(month(242, 242, Some(484), Some(0)), Some(0.0), Some((200, date(2018, 12, 31))));
    let (sign, words) = answer(&html, CONSUMED);
    assert!(sign == "no" && words.starts_with("<b>Yes</b>: <bdi>analyzer_time</bdi> of "), "{words}");
    let why =
        "2026-11, 484 of 0. 200 units are no longer valid, the last of them since the end of 2018-12-31.";
    assert!(words.contains(why), "{words}");
    assert!(html.contains("; the quota is used up. 200 units are") && !html.contains("quota lasts"));

    let html = with(month(90, 110, None, Some(100)), Some(0.4), None);
    let (sign, words) = answer(&html, CONSUMED);
    assert!(sign == "open" && words.contains("between 90 and 110 of 100"), "{words}");
    assert!(html.contains("the quota lasts less than a day."));
    let html = with(month(90, 90, None, Some(100)), Some(1.3), None);
    assert_eq!(answer(&html, CONSUMED).0, "yes");
    assert!(html.contains("the quota lasts 1 more day."));
    let html = with(month(90, 90, None, None), None, None);
    assert!(answer(&html, CONSUMED).0 == "open" && answer(&html, CONSUMED).1.contains("Of 1 allotment,"));

    let mut page = calm();
    page.consumption.clear();
    let html = render(&page);
    let (sign, words) = answer(&html, CONSUMED);
    assert!(sign == "open" && words.starts_with("No consumption was reported"), "{words}");
}

#[test]
fn a_report_over_a_log_says_what_was_asked_what_is_known_and_why_a_quota_is_nothing() {
    let (_folder, mut story) = Story::alone("2026-05-11T00:00:00Z");
    let by = Deployment::new(1, LICENSE);
    story.defined(0, &by, &[units("analyzer_time", 200, "", "2018-12-31", None)]);
    story.idle(1..=9, &by, 0);
    story.used(10, &by, "2026-05", 242, Some(242));
    story.used(20, &by, "2026-05", 242, Some(484));
    story.sign();
    let report = |more: &[&str]| {
        let output = audit(&[&story.log], &[&["report"], more].concat());
        String::from_utf8(output.stdout).unwrap()
    };
    let html = report(&[]);
    assert_eq!(answer(&html, WHOLE).0, "yes");
    assert!(html.contains(">2026-05-11 00:00:00</time> to <time") && !html.contains("Asked for"));
    let (sign, words) = answer(&html, CONSUMED);
    assert!(sign == "no" && words.contains("2026-05, 484 of 0. 200 units are no longer valid"), "{words}");
    for (period, why) in [
        (["2026-04-01", "2026-04-30"], "the log begins <time"),
        (["2026-06-01", "2026-06-30"], "the log ends <time"),
    ] {
        let html = report(&["--from", period[0], "--to", period[1]]);
        for question in OF_THE_PERIOD {
            let (sign, words) = answer(&html, question);
            assert!(sign == "open" && words.contains(why), "{question} {words}");
        }
        assert!(html.contains(&format!("Asked for: from <time datetime=\"{}T00:00:00Z\">", period[0])));
        assert!(!html.contains("No reply") && !html.contains("Peak "));
    }
}

#[test]
fn the_report_that_the_program_makes_holds_up_in_a_browser() {
    let (folder_of_log, mut story) = Story::alone("2026-05-30T00:00:00Z");
    let (one, two) = (Deployment::new(1, LICENSE), Deployment::new(2, LICENSE));
    story.started(0, None);
    story.defined(0, &one, &[units("professional", 2, "", "2026-06-01", None), analyzer_time(500)]);
    story.sync(
        1,
        &one,
        0,
        &[],
        2,
        &[add("professional", "ACME\\bob").told(1), add("professional", "ACME\\carol").told(2)],
    );
    story.idle(10..=600, &one, 2);
    story.stopped(605);
    story.started(705, Some("clean"));
    story.idle(710..=1430, &one, 2);
    story.sync(1440, &two, 2, &[], 3, &[add("professional", "ACME\\dave").told(3)]);
    story.used(1450, &one, "2026-05", 300, Some(340));
    story.used(1460, &two, "2026-06", 60, None);
    story.refused(1470, &two);
    story.idle(1480..=2880, &two, 3);
    story.sign();
    let names = folder_of_log.path().join("names.csv");
    fs::write(&names, "ACME\\bob\n").unwrap();
    let page = folder().join("report.html");
    let log = story.log.to_str().unwrap();
    let key = folder_of_log.path().join("subject.key");
    let [names, key, to] = [&names, &key, &page].map(|path| path.to_str().unwrap());
    let asked = [
        "audit",
        "report",
        "--log",
        log,
        "--names",
        names,
        "--subject-key",
        key,
        "--churn",
        "7d",
        "--out",
        to,
    ];
    let made = run(program().args(asked));
    assert_eq!(made.status.code(), Some(0), "{}", String::from_utf8_lossy(&made.stderr));

    let folder = folder().join("made");
    fs::create_dir_all(&folder).unwrap();
    let found = opened(&page, &folder);
    holds_up(&found);
    let wide = shown(&found["wide"]);
    for chart in ["assignments0-wide", "use0-half", "syncs-wide", "consumption0-half"] {
        assert!(wide.contains(&chart), "{chart} of {wide:?}");
    }
    let selected = found["wide"]["selected"].as_str().unwrap();
    for text in ["ACME\\bob", "relay down", "over-allocated", LICENSE] {
        assert!(selected.contains(text), "{text} can't be selected: {selected}");
    }
    assert!(!paper(found["wide"]["pdf"].as_str().unwrap()).is_empty());
}

/// Minutes of analyzer time, for ever.
fn analyzer_time(count: i64) -> Unit {
    let mut unit = units("analyzer_time", count, "", "", None);
    unit.class = "time".into();
    unit
}

#[test]
fn what_the_page_tells_to_check_runs_as_it_stands_there() {
    let (folder, mut story) = Story::alone("2026-05-11T00:00:00Z");
    story.idle(1..=9, &Deployment::new(1, LICENSE), 0);
    story.sign();
    let report = audit(&[&story.log], &["report"]);
    let html = String::from_utf8(report.stdout).unwrap();
    let blocks: Vec<String> = html
        .split("<pre")
        .skip(1)
        .map(|block| block.split_once('>').unwrap().1.split_once("</pre>").unwrap().0)
        .map(|text| {
            [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")]
                .iter()
                .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
        })
        .collect();
    let [signature, records, script] = &blocks[..] else { panic!("{} blocks", blocks.len()) };
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    fs::write(empty.join("recompute.py"), script).unwrap();
    let output = tool("sh", "dash")
        .args(["-euc", &format!("{signature}\n{records}")])
        .current_dir(&empty)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert!(said.contains("Signature Verified Successfully"), "{said}");
    assert!(html.contains("<code>Signature Verified Successfully</code>"));
}

#[test]
fn where_no_license_was_spoken_of_no_answer_about_licenses_is_a_yes() {
    let mut page = calm();
    page.licenses = Truncated::default();
    page.consumption.clear();
    page.syncs = None;
    for question in OF_THE_PERIOD {
        let html = render(&page);
        let (sign, words) = answer(&html, question);
        assert_eq!(sign, "open", "{question} {words}");
    }
}

#[test]
fn nothing_that_others_say_becomes_markup() {
    let (plain, spoilt) = (
        render(&invented::filled("plain")),
        render(&invented::filled("<img src=x'\" onerror=alert(1)>\u{202e}\u{7}&")),
    );
    assert!(spoilt.matches("&lt;img src=x").count() > 500);
    // What is said changes no element and no attribute.
    for structure in ['<', '>', '"', '\''] {
        assert_eq!(plain.matches(structure).count(), spoilt.matches(structure).count(), "{structure}");
    }
    assert!(!spoilt.contains('\u{202e}') && !spoilt.contains('\u{7}'));
}

#[test]
fn a_command_to_copy_is_one_command_whatever_a_license_is_called() {
    let mut page = invented::year();
    page.licenses.rows[0].coverage.license = "1'; rm -rf ~; '".into();
    page.licenses.rows[0].allotments.rows[0].holders.total = 5_000;
    let html = render(&page);
    assert!(html.contains("--license &#39;1&#39;\\&#39;&#39;; rm -rf ~; &#39;\\&#39;&#39;&#39;</code>"));
}

#[test]
fn a_list_of_any_length_ends_and_says_how_many_more_there_are() {
    let mut page = invented::year();
    let many = 20_000;
    fn grow<T: Clone>(listed: &mut Truncated<T>, many: usize) {
        let one = listed.rows[0].clone();
        listed.rows.resize(many, one);
        listed.total = many as u64;
    }
    grow(&mut page.changes, many);
    grow(&mut page.deployments, many);
    grow(&mut page.denied, many);
    grow(&mut page.gaps, many);
    grow(&mut page.not_understood, many);
    let holes = &mut page.licenses.rows[0].coverage.holes;
    holes.resize(many, holes[0].clone());
    grow(&mut page.licenses.rows[0].allotments.rows[0].holders, many);
    page.denied.total = 51;
    grow(&mut page.syncs.as_mut().unwrap().sources, 500);
    let html = render(&page);
    assert!(html.len() < 2_000_000, "{} bytes", html.len());
    for more in ["19,800 more changes", "19,000 more holders", "1 more kind of refusal;", "19,900 more gaps"]
    {
        assert!(html.contains(more), "{more}");
    }
}

#[test]
fn ten_years_are_thinned_and_keep_their_highest_day() {
    let mut page = invented::year();
    let license = &mut page.licenses.rows[0];
    let allotment = &mut license.allotments.rows[0];
    let first = allotment.days[0].clone();
    allotment.days = (0..3650)
        .map(|n| {
            let day = first.used.day.saturating_add(jiff::Span::new().days(n));
            let peak = if n == 1777 { 7777 } else { 110 };
            Day { used: Used { day, at_end: 100 + n as u64 % 7, peak }, allowed: first.allowed.clone() }
        })
        .collect();
    let html = render(&page);
    assert!(html.len() < 1_000_000, "{} bytes", html.len());
    assert!(html.contains("Peak 7,777 on 2030-10-13"));
    // The chart's highest value stands under the next round number, and its line reaches nearly there.
    assert!(html.contains(">8,000</text>"));
}

#[test]
fn a_log_of_one_day_is_shown_by_the_hour() {
    let mut page = invented::year();
    let from = page.period.from;
    page.period.to = from + SignedDuration::from_hours(30);
    let syncs = page.syncs.as_mut().unwrap();
    syncs.hours = 1;
    for strip in &mut syncs.sources.rows {
        strip.cells = (0..30).map(|n| StripCell { syncs: 6 - n % 3, ..StripCell::default() }).collect();
    }
    for license in &mut page.licenses.rows {
        license.allotments.rows.iter_mut().for_each(|allotment| allotment.days.truncate(2));
    }
    page.consumption.iter_mut().for_each(|one| one.months.truncate(1));
    let path = folder().join("day.html");
    fs::write(&path, render(&page)).unwrap();
    let found = opened(&path, &folder().join("day"));
    holds_up(&found);
    let charts = found["wide"]["charts"].as_array().unwrap();
    let texts = |id: &str| charts.iter().find(|chart| chart["id"] == id).unwrap()["texts"].to_string();
    assert!(texts("syncs-wide").contains("06:00"), "{}", texts("syncs-wide"));
    assert!(texts("use0-half").contains("2 Dec"), "{}", texts("use0-half"));
    assert!(texts("consumption0-half").contains("Dec 2025"), "{}", texts("consumption0-half"));
}

#[test]
fn numbers_without_sense_are_shown_and_break_nothing() {
    let mut page = invented::year();
    page.licenses.rows[0].coverage.holes[0] = invented::hole(0, u64::MAX, page.period.from);
    let allotment = &mut page.licenses.rows[0].allotments.rows[0];
    for (n, day) in allotment.days.iter_mut().enumerate() {
        day.used.peak = [u64::MAX, 0, 1][n % 3];
        day.allowed = Allowed { units: [Some(i64::MAX), None, Some(i64::MIN)][n % 3], ..Allowed::default() };
    }
    allotment.days[7].used.day = date(-9999, 1, 1);
    allotment.days[8].used.day = date(9999, 12, 31);
    let sums = AllSources {
        delta_low: i64::MIN,
        delta_high: i64::MAX,
        total: Some(-5),
        quota: Some(0),
        days_left: Some(-1e308),
        ..AllSources::default()
    };
    page.consumption[0].months[3] = Month { month: date(-9999, 1, 1), sums };
    page.consumption[1].months[11].month = date(9999, 12, 1);
    let html = render(&page);
    assert!(html.contains("18,446,744,073,709,551,615") && html.len() < 1_000_000, "{} bytes", html.len());
    assert!(!html.contains("NaN") && !html.contains("inf,"));
}

#[test]
fn a_log_with_nothing_in_it_makes_a_page_that_says_so() {
    let mut page = invented::year();
    page.licenses = Truncated::default();
    page.syncs = None;
    page.gaps = Truncated::default();
    page.gap_sums.clear();
    page.consumption.clear();
    page.deployments = Truncated::default();
    page.changes = Truncated::default();
    page.denied = Truncated::default();
    page.not_understood = Truncated::default();
    page.clock = None;
    let html = render(&page);
    for sentence in [
        "No assignment is known",
        "There is no gap in this period",
        "No consumption was reported",
        "Nothing was refused",
        "the relay's alone",
    ] {
        assert!(html.contains(sentence), "{sentence}");
    }
    assert!(!html.contains("What this log can't claim"));
}
