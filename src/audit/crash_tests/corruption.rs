//! Every cut and every flipped bit of a small log.

use super::length::by_length;
use super::*;
use crate::audit::recover::OpenError;
use relay_log::ledger::glance::sequence_of;
use relay_log::ledger::note::{CHECKPOINT, KEPT};
use relay_log::verify::log::Verdict;

const SEGMENT: &str = "segments/00000000000000000000.jsonl";

/// A log of 12 records: 8 are signed, 4 came after that, as a crash would leave it.
fn small() -> (Site, FileTree, usize) {
    let site = Site::new();
    let running = site.open();
    running.commit(0..8);
    running.close();
    let signed = fs::read(site.log().join(CHECKPOINT)).unwrap();
    let kept = tree(&site.log().join(KEPT));
    let length = fs::metadata(site.active()).unwrap().len() as usize;
    let running = site.open();
    running.commit(8..12);
    running.close();
    let mut log = site.tree();
    log.insert(CHECKPOINT.into(), signed);
    log.retain(|path, _| !path.starts_with(KEPT));
    log.extend(kept.into_iter().map(|(path, bytes)| (Path::new(KEPT).join(path), bytes)));
    (site, log, length)
}

fn ends(log: &[u8]) -> Vec<usize> {
    log.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1).collect()
}

#[test]
fn at_every_byte_a_cut_with_any_tail_loses_no_whole_record_and_lets_nothing_else_in() {
    let (site, log, signed) = small();
    let whole = &log[Path::new(SEGMENT)];
    let ends = ends(whole);
    assert_eq!(ends.len(), 12);
    let old = &whole[..ends[0]];
    let tails: [&[u8]; 5] = [b"", &[0; 700], &[0xff; 700], b"{\"event\":{\"sequence\":9}}\n", old];
    // One folder for all of them: a cut is a file and a note.
    let place = site.with_log(&log);
    let mut refused = 0;
    for cut in 0..=whole.len() {
        let keeps = ends.iter().filter(|end| **end <= cut).count();
        for (n, tail) in tails.iter().enumerate() {
            let bytes = [&whole[..cut], tail].concat();
            fs::write(place.log().join(SEGMENT), &bytes).unwrap();
            let before = if cut % 97 == 0 { Some(place.tree()) } else { None };
            match place.recover() {
                Ok(opened) => {
                    assert!(cut >= signed, "cut at {cut}, tail {n}: signed records are missing");
                    assert_eq!(opened.tree.size(), keeps as u64, "cut at {cut}, tail {n}");
                    assert_eq!(opened.length, ends[keeps - 1] as u64);
                    let left = fs::read(place.log().join(SEGMENT)).unwrap();
                    assert_eq!(left, whole[..ends[keeps - 1]], "cut at {cut}, tail {n}");
                    let torn = bytes.len() - ends[keeps - 1];
                    match opened.found.torn {
                        Some((length, kept)) => {
                            assert_eq!(length as usize, torn);
                            assert_eq!(fs::read(kept).unwrap(), bytes[ends[keeps - 1]..]);
                        }
                        None => assert_eq!(torn, 0),
                    }
                    drop(opened.lock);
                    if n == 1 && cut % 97 == 0 {
                        let before = place.tree();
                        let again = place.recover().unwrap();
                        assert!(again.found.torn.is_none());
                        assert_eq!(place.tree(), before, "cut at {cut}: the second recovery is a no-op");
                    }
                }
                Err(OpenError::WentBack { what, .. }) => {
                    refused += 1;
                    assert!(cut < signed, "cut at {cut}, tail {n}: {what}");
                    if let Some(before) = before {
                        assert_eq!(place.tree(), before, "cut at {cut}, tail {n}: something was changed");
                    }
                }
                Err(e) => panic!("cut at {cut}, tail {n}: {e}"),
            }
        }
    }
    assert_eq!(refused, signed * tails.len());
}

/// The same through the whole journal, at the ends of lines and about them.
#[test]
fn after_a_cut_the_journal_goes_on_with_the_next_number_and_the_whole_log_verifies() {
    let (site, log, signed) = small();
    let whole = &log[Path::new(SEGMENT)];
    for end in ends(whole).into_iter().filter(|end| *end >= signed) {
        for cut in [end, end + 1, end + 200].into_iter().filter(|cut| *cut <= whole.len()) {
            let mut log = log.clone();
            log.insert(SEGMENT.into(), [&whole[..cut], b"\0\0\0\n"].concat());
            let site = site.with_log(&log);
            let running = site.open();
            running.commit([50]);
            running.close();
            assert_eq!(site.verify().verdict(), Verdict::Fine, "{:#?}", site.verify());
            let numbers = site.numbers();
            let kept = ends(whole).iter().filter(|end| **end <= cut).count() as u64;
            assert_eq!(numbers, (0..kept).chain([50]).collect::<Vec<_>>());
            assert_eq!(site.actions().iter().filter(|action| *action == "audit.recovered").count(), 1);
        }
    }
}

fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes
}

/// In a short run every seventh bit is flipped, which is each of a byte in turn.
fn step() -> usize {
    by_length(7, 1, 1)
}

/// Yeti 2022: one flipped bit between the tree and the store.
#[test]
fn every_flipped_bit_of_a_segment_is_found_and_the_record_named() {
    let site = Site::new();
    let running = site.open();
    running.commit(0..12);
    running.close();
    let whole = fs::read(site.active()).unwrap();
    let ends = ends(&whole);
    for bit in (0..whole.len() * 8).step_by(step()) {
        let bent = flipped(&whole, bit);
        fs::write(site.active(), &bent).unwrap();
        let verified = site.verify();
        assert_eq!(verified.verdict(), Verdict::Damaged, "bit {bit}");
        let hit = ends.iter().filter(|end| **end <= bit / 8).count();
        let named = verified.damage.iter().any(|what| what.contains(&format!("record {hit} ")));
        // Where the last line feed is hit there is no such line any more.
        let cut = verified.damage.iter().any(|what| what.contains("1 are missing at the end"));
        assert!(named || cut && hit == 11, "bit {bit} of record {hit}: {:?}", verified.damage);
    }
    // And no start goes on from it; of some bits the whole, of most a part.
    for bit in (0..whole.len() * 8).step_by(101) {
        fs::write(site.active(), flipped(&whole, bit)).unwrap();
        let before = site.tree();
        assert!(matches!(site.recover(), Err(OpenError::WentBack { .. })), "bit {bit}");
        assert_eq!(site.tree(), before, "bit {bit}: something was changed");
    }
}

#[test]
fn every_flipped_bit_of_a_checkpoint_or_a_kept_one_is_found() {
    let site = Site::new();
    let running = site.open();
    running.commit(0..5);
    running.close();
    let log = site.tree();
    let notes = log.keys().filter(|path| *path == Path::new(CHECKPOINT) || path.starts_with(KEPT));
    for note in notes {
        for bit in (0..log[note].len() * 8).step_by(step()) {
            fs::write(site.log().join(note), flipped(&log[note], bit)).unwrap();
            let verified = site.verify();
            assert_eq!(verified.verdict(), Verdict::Damaged, "{} bit {bit}", note.display());
            assert!(verified.damage[0].contains(&*note.to_string_lossy()), "{:?}", verified.damage);
            if bit % 31 == 0 {
                assert!(
                    matches!(site.recover(), Err(OpenError::WentBack { .. })),
                    "{} bit {bit}",
                    note.display()
                );
            }
        }
        fs::write(site.log().join(note), &log[note]).unwrap();
    }
}

#[test]
fn every_flipped_bit_of_the_list_of_sums_and_of_a_compressed_segment_is_found() {
    let site = seal::sealed(4);
    let log = site.tree();
    let bent = log.keys().filter(|path| {
        path.ends_with("SHA256SUMS") || *path == Path::new("segments/00000000000000000000.jsonl.zst")
    });
    let mut all = 0;
    for path in bent {
        all += 1;
        let file = site.log().join(path);
        let _ = fs::remove_file(&file);
        for bit in (0..log[path].len() * 8).step_by(step()) {
            fs::write(&file, flipped(&log[path], bit)).unwrap();
            let verified = verify(&site.log(), &[], |_| {});
            let verdict = verified.as_ref().map(Verified::verdict);
            assert!(matches!(verdict, Ok(Verdict::Damaged)), "{} bit {bit}: {verified:?}", path.display());
        }
        fs::write(&file, &log[path]).unwrap();
    }
    assert_eq!(all, 2);
    assert_eq!(site.verify().verdict(), Verdict::Fine);
}

/// Hashes can be made anew, so they are worth no refusal; but as long as they are bent they are told.
#[test]
fn a_flipped_bit_of_a_hash_is_told_and_healed_at_a_start() {
    let site = Site::new();
    let opening = || Opening { segment_bytes: 90_000, ..site.opening() };
    let running = Running::open(opening()).unwrap();
    for n in 0..7 {
        running.commit(n * 100..n * 100 + 100);
    }
    running.close();
    seal::put_away(&site);
    let log = site.tree();
    let tiles: Vec<&PathBuf> = log.keys().filter(|path| path.starts_with("hashes")).collect();
    assert!(tiles.len() >= 3, "{tiles:?}");
    for tile in tiles {
        for bit in [0, 1000, log[tile].len() * 8 - 1] {
            let full = log[tile].len() == 256 * 32;
            let mut bent = log.clone();
            bent.insert(tile.clone(), flipped(&log[tile], bit));
            let site = site.with_log(&bent);
            let verified = site.verify();
            let expected = if full { Verdict::Damaged } else { Verdict::Fine };
            assert_eq!(verified.verdict(), expected, "{} bit {bit}: {verified:#?}", tile.display());
            let running = site.open();
            running.commit([9000]);
            running.close();
            let verified = site.verify();
            assert_eq!(verified.verdict(), Verdict::Fine, "{} bit {bit}: {verified:#?}", tile.display());
        }
    }
    let mut none = log;
    none.retain(|path, _| !path.starts_with("hashes"));
    let site = site.with_log(&none);
    site.open().close();
    assert_eq!(site.verify().verdict(), Verdict::Fine);
}

/// Whoever can compute a sum can write a line, so the sum alone is worth nothing; and the hashes of what was written must
/// outlive a start that is refused.
#[test]
fn an_edited_record_with_its_sum_made_anew_is_found_named_and_no_start_hides_it() {
    let site = Site::new();
    let running = site.open();
    for n in 0..3 {
        running.commit(n * 100..n * 100 + 100);
    }
    running.close();
    let lines = site.lines();
    let edited = {
        let body = lines[5].replace("a record of a test", "a record of a liar");
        let body = format!("{}}}", &body[..body.rfind(",\"sum\"").unwrap()]);
        let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body.as_bytes());
        let sum: String = sum.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{},\"sum\":\"{sum}\"}}", &body[..body.len() - 1])
    };
    assert_eq!(sequence_of(edited.as_bytes()), Some(5));
    let text: String = lines
        .iter()
        .enumerate()
        .map(|(n, line)| if n == 5 { &edited } else { line }.to_owned() + "\n")
        .collect();
    fs::write(site.active(), text).unwrap();
    let before = site.tree();
    for _ in 0..2 {
        let verified = site.verify();
        assert_eq!(verified.verdict(), Verdict::Damaged);
        assert!(verified.damage.iter().any(|what| what.contains("record 5 ")), "{verified:#?}");
        assert!(matches!(site.recover(), Err(OpenError::WentBack { .. })));
        assert_eq!(site.tree(), before, "a start that is refused changes nothing");
    }
}

/// Venafi 2017, and every hash chain that "verifies" after its newest entries are gone.
#[test]
fn a_cut_end_signed_anew_with_the_stolen_key_passes_by_itself_and_no_anchor() {
    let site = Site::new();
    let opening = || Opening { anchors: vec![site.anchor()], ..site.opening() };
    let running = Running::open(opening()).unwrap();
    running.commit(0..10);
    running.close();
    let lines = site.lines();
    let short: String = lines[..7].iter().map(|line| line.clone() + "\n").collect();
    fs::write(site.active(), short).unwrap();
    fs::remove_dir_all(site.log().join(KEPT)).unwrap();
    fs::remove_file(site.log().join(CHECKPOINT)).unwrap();
    // Whoever has the key signs what is left.
    let running = Running::open(Opening { anchors: Vec::new(), ..site.opening() }).unwrap();
    wait(running.journal.sign());
    running.close();
    assert!(site.verify().damages == 0, "by itself it is whole");
    let by_anchor = verify(&site.log(), &[site.anchor()], |_| {}).unwrap();
    assert_eq!(by_anchor.verdict(), Verdict::RolledBack, "{by_anchor:#?}");
    assert!(matches!(Running::open(opening()).map(drop), Err(OpenError::WentBack { .. })));
}
