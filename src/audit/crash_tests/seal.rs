//! Segments that are complete: closed, compressed, listed, and whole again after a stop at any point of that.

use std::os::unix::fs::PermissionsExt;

use jiff::{SignedDuration, Timestamp};

use super::*;
use relay_log::ledger::note::KEPT;
use relay_log::ledger::segment::SUMS;
use relay_log::text::hex::hex;
use relay_log::verify::log::Verdict;

/// A log of several segments, closed and put away.
pub(super) fn sealed(batches: u64) -> Site {
    let site = Site::new();
    let running = Running::open(Opening { segment_bytes: 1500, ..site.opening() }).unwrap();
    for n in 0..batches {
        running.commit(n * 4..n * 4 + 4);
    }
    running.close();
    put_away(&site);
    site
}

pub(super) fn put_away(site: &Site) {
    eventually("all that is sealed is put away", || {
        let listed = segment::list(&site.log()).unwrap();
        let folder = fs::read_dir(site.log().join(segment::FOLDER)).unwrap();
        let plain =
            folder.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|e| e == "jsonl"));
        (listed.iter().rev().skip(1).all(|segment| segment.compressed) && plain.count() == 1).then_some(())
    });
}

/// Two lines for each sealed segment, each with two spaces and right, as `sha256sum` wants them. That itself is run in
/// `tests/`: a process that is started here would hold the locks of other tests for a moment.
pub(super) fn sums_are_right(site: &Site) {
    let folder = site.log().join(segment::FOLDER);
    let sums = fs::read_to_string(folder.join(SUMS)).unwrap();
    let segments = segment::list(&site.log()).unwrap();
    let mut expected = Vec::new();
    for segment in segments.iter().rev().skip(1) {
        let packed = fs::read(&segment.path).unwrap();
        for (bytes, path) in [
            (zstd::decode_all(&*packed).unwrap(), segment::path(&site.log(), segment.first)),
            (packed, segment.path.clone()),
        ] {
            let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
            let hash = hex(hash.as_ref());
            expected.push(format!("{hash}  {}", path.file_name().unwrap().to_string_lossy()));
        }
    }
    let mut lines: Vec<&str> = sums.lines().collect();
    lines.sort_unstable();
    expected.sort_unstable();
    assert_eq!(lines, expected);
}

#[test]
fn a_segment_that_is_large_enough_is_sealed_and_the_next_one_says_so_first() {
    let site = sealed(6);
    let segments = segment::list(&site.log()).unwrap();
    assert!(segments.len() > 3, "{segments:?}");
    let (newest, older) = segments.split_last().unwrap();
    assert!(!newest.compressed);
    for segment in older {
        let mode = fs::metadata(&segment.path).unwrap().permissions().mode() & 0o777;
        assert!(segment.compressed && mode == 0o400, "{segment:?} {mode:o}");
    }
    for path in site.tree().into_keys() {
        let mode = fs::metadata(site.log().join(&path)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} is not for its owner alone: {mode:o}", path.display());
    }
    for segment in &segments[1..] {
        let line = Lines::of(segment).unwrap().next_line().unwrap().to_vec();
        let line = String::from_utf8(line).unwrap();
        assert!(line.contains("\"action\":\"audit.sealed\""), "{line}");
        assert!(line.contains(&format!("the log has {} records", segment.first)), "{line}");
        assert!(site.log().join(KEPT).join(format!("{:020}.note", segment.first)).exists());
    }
    sums_are_right(&site);
    let verified = site.verify();
    assert_eq!(verified.verdict(), Verdict::Fine, "{verified:#?}");
    assert_eq!(site.numbers(), (0..24).collect::<Vec<_>>());
}

#[test]
fn a_segment_of_an_earlier_day_is_sealed() {
    let site = Site::new();
    site.open().close();
    let yesterday = Timestamp::now() - SignedDuration::from_hours(24);
    let observer = site.opening().observer;
    let lines: Vec<u8> = (0..3).flat_map(|n| record(n).line(n, yesterday, &observer).unwrap()).collect();
    fs::write(site.active(), lines).unwrap();
    let running = site.open();
    running.commit([3]);
    running.commit([4]);
    running.close();
    put_away(&site);
    let firsts: Vec<u64> = segment::list(&site.log()).unwrap().iter().map(|segment| segment.first).collect();
    assert_eq!(firsts, [0, 3]);
    assert_eq!(site.actions()[3], "audit.sealed");
    sums_are_right(&site);
    assert_eq!(site.verify().verdict(), Verdict::Fine);
}

#[test]
fn a_stop_at_any_point_of_putting_away_heals_at_the_next_start() {
    let site = Site::new();
    let running = Running::open(Opening { segment_bytes: 1500, ..site.opening() }).unwrap();
    running.commit(0..8);
    running.commit(8..9);
    running.close();
    put_away(&site);
    let done = site.tree();
    let (plain, packed, sums) = (
        PathBuf::from("segments/00000000000000000000.jsonl"),
        PathBuf::from("segments/00000000000000000000.jsonl.zst"),
        PathBuf::from("segments/SHA256SUMS"),
    );
    let text = zstd::decode_all(&*done[&packed]).unwrap();
    let started = {
        let mut tree = done.clone();
        tree.insert(plain.clone(), text);
        tree.remove(&packed);
        tree.remove(&sums);
        tree
    };
    let mut states = vec![("not begun".to_owned(), started.clone())];
    let with = |name: String, changes: &[(&PathBuf, Vec<u8>)]| {
        let mut tree = started.clone();
        tree.extend(changes.iter().map(|(path, bytes)| ((*path).clone(), bytes.clone())));
        (name, tree)
    };
    let temporary = PathBuf::from("segments/00000000000000000000.jsonl.zst.new");
    let whole = &done[&packed];
    for part in [0, 1, whole.len() / 2, whole.len()] {
        states.push(with(format!("{part} bytes compressed"), &[(&temporary, whole[..part].to_vec())]));
    }
    states.push(with("renamed".into(), &[(&packed, whole.clone())]));
    let list = &done[&sums];
    for part in (0..=list.len()).step_by(7).chain([list.len()]) {
        let listed = list[..part].to_vec();
        states.push(with(format!("{part} bytes listed"), &[(&packed, whole.clone()), (&sums, listed)]));
    }
    // Another version of zstd has compressed it, into other bytes.
    let other = zstd::encode_all(&*started[&plain], 19).unwrap();
    assert_ne!(&other, whole);
    states.push(with(
        "compressed otherwise".into(),
        &[
            (&packed, other.clone()),
            (&sums, {
                let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &other);
                let hash = hex(hash.as_ref());
                let first = String::from_utf8(list.clone()).unwrap().lines().next().unwrap().to_owned();
                format!("{first}\n{hash}  00000000000000000000.jsonl.zst\n").into_bytes()
            }),
        ],
    ));
    // What is there under the right name is something else.
    states.push(with("compressed wrongly".into(), &[(&packed, whole[..whole.len() / 2].to_vec())]));
    for (what, tree) in states {
        let site = site.with_log(&tree);
        let verified = site.verify();
        assert_eq!(verified.verdict(), Verdict::Fine, "{what}: {verified:#?}");
        let running = site.open();
        running.commit([20]);
        running.close();
        put_away(&site);
        sums_are_right(&site);
        assert_eq!(site.numbers(), (0..9).chain([20]).collect::<Vec<_>>(), "{what}");
        let verified = site.verify();
        assert_eq!(verified.verdict(), Verdict::Fine, "{what}: {verified:#?}");
    }
}

/// aws-cli#7054: two digests in a row were removed, and validation passed over the hole.
#[test]
fn kept_checkpoints_may_go_but_a_segment_that_goes_is_found_and_named() {
    let site = sealed(7);
    let log = site.tree();
    let notes: Vec<&PathBuf> = log.keys().filter(|path| path.starts_with(KEPT)).collect();
    assert!(notes.len() > 4, "{notes:?}");
    for pair in notes.windows(2) {
        let mut less = log.clone();
        pair.iter().for_each(|note| drop(less.remove(*note)));
        assert_eq!(site.with_log(&less).verify().verdict(), Verdict::Fine, "{pair:?}");
    }
    let segments = segment::list(&site.log()).unwrap();
    let name = |at: usize| segments[at].path.strip_prefix(site.log()).unwrap().to_owned();
    for gone in 1..=2 {
        for at in 0..segments.len() - gone {
            for keep_tiles in [true, false] {
                let mut less = log.clone();
                (at..at + gone).for_each(|at| drop(less.remove(&name(at))));
                if !keep_tiles {
                    less.retain(|path, _| !path.starts_with("hashes"));
                }
                let verified = site.with_log(&less).verify();
                assert_eq!(verified.verdict(), Verdict::Damaged);
                let (first, last) = (segments[at].first, segments[at + gone].first - 1);
                let named = format!("records {first} to {last} are missing");
                assert!(verified.damage.iter().any(|what| what.contains(&named)), "{named}: {verified:#?}");
            }
        }
    }
    let mut less = log.clone();
    less.remove(&name(segments.len() - 1));
    let verified = site.with_log(&less).verify();
    assert!(verified.damage.iter().any(|what| what.contains("missing at the end")), "{verified:#?}");
    // One that has records a second time.
    let mut twice = log.clone();
    twice.insert("segments/00000000000000000002.jsonl".into(), site.lines()[2].clone().into_bytes());
    let verified = site.with_log(&twice).verify();
    assert!(verified.damage.iter().any(|what| what.contains("repeats records")), "{verified:#?}");
    // Two that have changed places.
    let mut swapped = log;
    let (one, other) = (swapped[&name(1)].clone(), swapped[&name(2)].clone());
    swapped.insert(name(1), other);
    swapped.insert(name(2), one);
    assert_eq!(site.with_log(&swapped).verify().verdict(), Verdict::Damaged);
}

#[test]
fn a_log_verifies_at_any_time_while_it_is_written_sealed_and_put_away() {
    let site = Site::new();
    let running = Running::open(Opening { segment_bytes: 1500, ..site.opening() }).unwrap();
    running.commit([0]);
    // As a relay does before it serves anybody.
    wait(running.journal.sign());
    let runs = std::thread::scope(|scope| {
        let writing = scope.spawn(|| (1..400).for_each(|n| running.commit([n])));
        let mut runs = 0;
        while !writing.is_finished() {
            let verified = site.verify();
            assert_eq!(verified.verdict(), Verdict::Fine, "{verified:#?}");
            runs += 1;
        }
        runs
    });
    assert!(runs > 3, "{runs}");
    running.close();
    put_away(&site);
    sums_are_right(&site);
    assert_eq!(site.verify().verdict(), Verdict::Fine);
}
