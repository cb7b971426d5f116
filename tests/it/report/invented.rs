//! An invented year of one company: enough of everything that the page can show, and names that try to break it.

use jiff::civil::{Date, date};
use jiff::{SignedDuration, Timestamp, ToSpan};
use relay_log::console::period::Period;
use relay_log::ledger::log::Predecessor;
use relay_log::verify::log::{Covered, Verified};
use relay_report::ask::evidence::Made;
use relay_report::fold::account::Day;
use relay_report::fold::assignments::{Assignment, Change, Counts, Status};
use relay_report::fold::clock_skew::Difference;
use relay_report::fold::consumption::AllSources;
use relay_report::fold::coverage::{Hole, LicenseCoverage};
use relay_report::fold::daily_peak::Used;
use relay_report::fold::deployments::Deployment;
use relay_report::fold::entitlements::{Allowed, Overage};
use relay_report::fold::gaps::gap::{Gap, GapCause, Parts, Unwritten};
use relay_report::fold::not_understood::{Unread, Who};
use relay_report::fold::refusals::Denied;
use relay_report::page::*;

/// Text that a page must show and must not obey.
pub(crate) const MARKUP: &str = "<script>alert(1)</script>";
/// A name with a character that turns text around.
pub(crate) const TURNED: &str = "acme\\bob\u{202e}nimda";

fn at(day: Date, hour: i64, minute: i64) -> Timestamp {
    let midnight: Timestamp = format!("{day}T00:00:00Z").parse().unwrap();
    midnight + SignedDuration::from_mins(hour * 60 + minute)
}

/// The same numbers every time.
struct Dice(u64);

impl Dice {
    fn up_to(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most.max(1)
    }

    fn hex(&mut self, digits: usize) -> String {
        (0..digits).map(|_| char::from_digit(self.up_to(16) as u32, 16).unwrap()).collect()
    }

    fn id(&mut self) -> String {
        [8, 4, 4, 4, 12].map(|digits| self.hex(digits)).join("-")
    }

    fn person(&mut self, name: Option<String>) -> Person {
        Person { subject: format!("hmac-sha256:k2026:{}", self.hex(64)), name }
    }
}

fn allotment(
    dice: &mut Dice,
    name: &str,
    start: u64,
    end: u64,
    units: Option<i64>,
    overage: Overage,
) -> Allotment {
    let first = date(2025, 12, 1);
    let access_type = if name == "professional" { "Professional" } else { "Analyzer" };
    let mut held = start;
    let days: Vec<Day> = (0..365)
        .map(|n| {
            let day = first + n.days();
            let aim = start as f64 + (end as f64 - start as f64) * f64::from(n) / 364.0;
            held = (held as f64 + (aim - held as f64) * 0.2) as u64 + dice.up_to(4);
            let peak = held + dice.up_to(5) + if name == "professional" && n % 97 > 93 { 18 } else { 0 };
            let allowed = Allowed {
                units: units.map(|units| if n < 180 { units } else { units + units / 4 }).filter(|_| n >= 4),
                overage,
                seen: Some(at(day, 3, 0)),
                class: Some("assigned".into()),
                access_type: Some(access_type.into()),
            };
            Day { used: Used { day, at_end: held, peak }, allowed }
        })
        .collect();
    let holders: Vec<Holder> = (0..held.min(HOLDERS as u64))
        .map(|n| {
            let person = match n {
                0 => Some(MARKUP.to_owned()),
                1 => Some(TURNED.to_owned()),
                2 => Some("acme\\\"quoted\" & 'co'".to_owned()),
                3 => Some("acme\\שלום עולם".to_owned()),
                n if n % 9 == 8 => None,
                n => Some(format!("acme\\person{:03}", n * 7 % 900)),
            };
            let assignment = Assignment {
                license: String::new(),
                allotment: name.into(),
                subject: dice.person(None).subject,
                status: match n % 40 {
                    37 => Status::PendingAdd,
                    38 => Status::UnknownDelete,
                    39 => Status::Opening,
                    _ => Status::Holds,
                },
                since: Some(at(first + (dice.up_to(360) as i64).days(), 8, dice.up_to(600) as i64)),
                version: 120 + dice.up_to(900),
                instance: None,
                source: None,
            };
            Holder { assignment, name: person }
        })
        .collect();
    Allotment {
        allotment: name.into(),
        // One of which the outcome is not known stands for all that are.
        counts: Counts { by_status: [held - 4, 2, 1, 0, 1, 0, 0] },
        allowed: days[364].allowed.clone(),
        holders: Truncated { rows: holders, total: held },
        days,
    }
}

/// Cells of a day each, as a year has them.
fn syncs(dice: &mut Dice, from: Timestamp, to: Timestamp) -> Syncs {
    let hours = 24;
    let cells = (to.duration_since(from).as_hours() as usize).div_ceil(hours as usize);
    let kinds = [GapKind::RelayDown, GapKind::Refused, GapKind::Failing, GapKind::Silent, GapKind::Around];
    let rows = (0..STRIP_SOURCES)
        .map(|source| {
            let born = if source % 7 == 3 { 90 } else { 0 };
            let mut strip: Vec<StripCell> = (0..cells)
                .map(|n| {
                    let syncs = if n < born { 0 } else { hours * 6 - dice.up_to(3) as u32 };
                    StripCell { syncs, gap: None, gap_minutes: 0 }
                })
                .collect();
            for cell in &mut strip[200..202] {
                *cell = StripCell { syncs: hours, gap: Some(GapKind::RelayDown), gap_minutes: hours * 50 };
            }
            for gap in 0..(40 - source) / 4 {
                let start = born + dice.up_to((cells - born - 12) as u64) as usize;
                let length = 1 + dice.up_to(9) as usize;
                let kind = kinds[(source + gap) % kinds.len()];
                for cell in &mut strip[start..start + length] {
                    let share = 1 + dice.up_to(3) as u32;
                    *cell = StripCell {
                        syncs: hours * 6 * (3 - share) / 3,
                        gap: Some(kind),
                        gap_minutes: hours * 20 * share,
                    };
                }
            }
            let name = if source % 3 == 0 {
                String::new()
            } else {
                format!("qlik-{:02}.plant{}.example", source, source % 5)
            };
            Strip { source: dice.id(), name, cells: strip }
        })
        .collect();
    Syncs { from, hours, sources: Truncated { rows, total: 212 }, with_gaps: 44 }
}

/// The page of that year.
pub(crate) fn year() -> Page {
    let mut dice = Dice(6);
    let (from, to) = (at(date(2025, 12, 1), 0, 0), at(date(2026, 12, 1), 0, 0));
    let licenses = vec![
        License {
            coverage: LicenseCoverage {
                license: "9999000000001253".into(),
                first_base: Some(118),
                known_from: Some(118),
                complete_to: Some(871),
                newest: Some(1043),
                first_seen: Some(at(date(2025, 12, 1), 7, 12)),
                holes: vec![
                    hole(872, 875, at(date(2026, 9, 14), 11, 3)),
                    hole(990, 990, at(date(2026, 11, 2), 6, 41)),
                ],
                not_understood: 31,
            },
            opening: None,
            allotments: vec![
                allotment(&mut dice, "professional", 208, 262, Some(220), Overage::Units(11)),
                allotment(&mut dice, "analyzer", 640, 905, Some(1000), Overage::Units(0)),
                allotment(&mut dice, "tokens", 30, 96, None, Overage::Unknown),
            ]
            .into(),
        },
        License {
            coverage: LicenseCoverage {
                license: "9999000000007781".into(),
                known_from: Some(0),
                complete_to: Some(64),
                newest: Some(64),
                first_seen: Some(at(date(2026, 3, 3), 9, 0)),
                ..LicenseCoverage::default()
            },
            opening: None,
            allotments: vec![allotment(&mut dice, "professional", 12, 58, Some(60), Overage::Unlimited)]
                .into(),
        },
    ];
    let gap = |source: &str, day: Date, minutes: i64, kind, parts: Parts| Gap {
        source: source.into(),
        license: "9999000000001253".into(),
        from: at(day, 2, 10),
        to: at(day, 2, 10 + minutes),
        minutes,
        kind,
        parts,
        inferred: kind == GapCause::Around,
        ongoing: false,
    };
    let part = Parts::default();
    let (silent, around) = (Parts { silent: 1310, ..part }, Parts { around: 530, ..part });
    let (failing, refused) = (Parts { failing: 170, relay_down: 21, ..part }, Parts { refused: 64, ..part });
    let down = Parts { relay_down: 2870, ..part };
    let unwritten = Unwritten {
        log: 0,
        count: 3,
        records: 1,
        first: at(date(2026, 10, 9), 2, 10),
        last: at(date(2026, 10, 9), 2, 14),
    };
    let gaps = vec![
        ListedGap::Rhythm(Gap {
            ongoing: true,
            ..gap(&dice.id(), date(2026, 11, 30), 1310, GapCause::Silent, silent)
        }),
        ListedGap::NotWritten(unwritten),
        ListedGap::Rhythm(gap(&dice.id(), date(2026, 9, 14), 530, GapCause::Around, around)),
        ListedGap::Rhythm(gap(&dice.id(), date(2026, 8, 2), 191, GapCause::Failing, failing)),
        ListedGap::Rhythm(gap(&dice.id(), date(2026, 7, 1), 64, GapCause::Refused, refused)),
        ListedGap::Rhythm(gap(&dice.id(), date(2026, 6, 18), 2870, GapCause::RelayDown, down)),
    ];
    let mut months = |quota: Option<i64>| -> Vec<Month> {
        (0..12)
            .map(|n| {
                let delta_low = 4000 + 320 * n + dice.up_to(900) as i64;
                let delta_high = if n % 4 == 2 { delta_low + 700 } else { delta_low };
                let total = (n != 1).then_some(if n == 9 { delta_high + 1250 } else { delta_high });
                let days_left = quota.map(|_| 4.2);
                let sums =
                    AllSources { delta_low, delta_high, total, quota, days_left, ..Default::default() };
                Month { month: date(2025, 12, 1) + n.months(), sums }
            })
            .collect()
    };
    let consumption = [("analyzer_time", Some(8000)), ("core_time", None)]
        .map(|(name, quota)| (name, months(quota)))
        .into_iter()
        .map(|(name, months)| AllotmentConsumption {
            license: "9999000000001253".into(),
            allotment: name.into(),
            months,
            ended: None,
        })
        .collect();
    let deployments = (0..30)
        .map(|n| Deployment {
            license: "9999000000001253".into(),
            source: dice.id().into(),
            name: (n % 4 != 0).then(|| format!("qlik-{n:02}.plant{}.example", n % 5)),
            user_agent: ["Licenses/1.6.4 (windows) QSEfW", "Licenses/1.7.0 (linux) QCS", ""][n % 3].into(),
            addresses: vec![[10, 20, n as u8 % 4, 10 + n as u8].into()],
            from_elsewhere: 0,
            first_seen: at(date(2025, 12, 1), 7, n as i64),
            last_seen: at(date(2026, 11, 30), 23, 50 - n as i64),
            syncs: 51_000 - dice.up_to(4000),
            adds: dice.up_to(60),
            deletes: dice.up_to(30),
            last_consumption: (n % 3 != 2).then(|| at(date(2026, 11, 30), 22, n as i64)),
        })
        .collect();
    let changes = (0..CHANGES as i64)
        .map(|n| ListedChange {
            time: at(date(2026, 11, 30), 23, 40) - SignedDuration::from_mins(n * 437),
            license: "9999000000001253".into(),
            allotment: ["professional", "analyzer"][n as usize % 2].into(),
            change: if n % 3 == 1 { Change::Delete } else { Change::Add },
            rejection: (n % 17 == 5).then(|| "no units left".to_owned()),
            person: {
                let name = (n % 6 != 4).then(|| format!("acme\\person{:03}", n * 13 % 900));
                dice.person(name)
            },
            version: Some(1043 - n as u64),
            asked_by: (n % 5 != 2).then(|| dice.id()),
        })
        .collect();
    let denied = (0..8)
        .map(|n| Denied {
            time: at(date(2026, 2, 3), 4, 0),
            license: None,
            product: None,
            user: None,
            action: ["access.denied", "access.limited", "access.invalid"][n % 3].into(),
            source: (n % 2 == 0).then(|| dice.id()),
            address: Some([10, 99, 0, n as u8].into()),
            reason: [
                "this source is not on the list",
                "too many requests",
                "the Host header is another than the target",
            ][n % 3]
                .into(),
            count: 9000 / (n as u64 + 1).pow(2),
            first: at(date(2026, 2, 3), 4, 0),
            last: at(date(2026, 11, 20), 4, n as i64),
        })
        .collect();
    Page {
        made: Made {
            at: at(date(2026, 12, 1), 9, 30),
            command: "license-relay audit report --log /media/copy/audit --anchor /media/anchor --names people.csv --subject-key subject.key --out report.html".into(),
        },
        logs: "--log /media/copy/audit".into(),
        period: KnownPeriod::of(Period::default(), Some((from, to)), to),
        names: NameCounts { given: true, resolved: 1163, unresolved: 41 },
        notes: vec![],
        not_understood: Truncated {
            rows: vec![(
                Who::Source(dice.id()),
                Unread {
                    count: 31,
                    partly: 0,
                    first: at(date(2026, 9, 1), 8, 0),
                    last: at(date(2026, 11, 29), 17, 20),
                    shape: None,
                    lasting: false,
                    license: Some("9999000000001253".into()),
                    user_agent: Some("Licenses/2.0.0-beta (linux) QCS".into()),
                },
            )],
            total: 1,
        },
        licenses: licenses.into(),
        syncs: Some(syncs(&mut dice, from, to)),
        gaps: Truncated { rows: gaps, total: 187 },
        gap_sums: vec![
            GapSum { kind: GapKind::RelayDown, gaps: 61, minutes: 8930 },
            GapSum { kind: GapKind::Refused, gaps: 22, minutes: 1910 },
            GapSum { kind: GapKind::Failing, gaps: 35, minutes: 6120 },
            GapSum { kind: GapKind::Silent, gaps: 64, minutes: 88_400 },
            GapSum { kind: GapKind::Around, gaps: 4, minutes: 2100 },
            GapSum { kind: GapKind::NotWritten, gaps: 1, minutes: 4 },
        ],
        consumption,
        deployments: Truncated { rows: deployments, total: 212 },
        changes: Truncated { rows: changes, total: 2481 },
        denied: Truncated { rows: denied, total: 8 },
        churn: None,
        clock: Some(ClockSkew {
            largest: Difference {
                log: 0,
                sequence: 7,
                time: at(date(2026, 5, 4), 3, 20),
                by: SignedDuration::from_secs(-3),
            },
            replies: 10_611_204,
        }),
        evidence: vec![Evidence {
            verified: Verified {
                log: "/media/copy/audit".into(),
                origin: "relay-01.acme.example/licenses".into(),
                key: "relay-01.acme.example/licenses+5bd2c3f1+ATl2cGgkA0h6b2Jq7u0bJQ0m1yq6m1C0fHk0H8a3b9Zk".into(),
                predecessor: None,
                records: 21_348_117,
                pruned: 0,
                root: Some(dice.hex(64)),
                checkpoint: Some(Covered {
                    file: "/media/copy/audit/checkpoint".into(),
                    size: 21_348_102,
                    time: Some(at(date(2026, 11, 30), 23, 59)),
                }),
                checkpoints: 9127,
                unsigned: 15,
                stale_tail: false,
                anchors: vec![Covered {
                    file: "/media/anchor/relay-01.note".into(),
                    size: 21_340_000,
                    time: Some(at(date(2025, 12, 2), 8, 0)),
                }],
                rolled_back: vec![],
                foreign_anchors: vec![],
                own_anchors: vec![],
                damage: vec![],
                damages: 0,
                gaps: 3,
                half_a_line: 0,
                unreadable: 0,
            },
            span: Some((at(date(2025, 12, 1), 7, 11), at(date(2026, 11, 30), 23, 59))),
            written_by: vec!["0.1.0".into()],
        }],
    }
}

/// Versions that went around the relay.
pub(crate) fn hole(from: u64, to: u64, noticed: Timestamp) -> Hole {
    Hole { from, to, noticed, source: None, inferred: true }
}

/// The same year, with this as each text that comes from a log, a file or a command line.
pub(crate) fn filled(with: &str) -> Page {
    let bad = || with.to_owned();
    let person = || Person { subject: bad(), name: Some(bad()) };
    let mut page = year();
    page.made.command = bad();
    page.logs = bad();
    page.notes = vec![bad()];
    for (who, unread) in &mut page.not_understood.rows {
        *who = Who::Source(bad());
        *unread = Unread { user_agent: Some(bad()), license: Some(bad()), ..unread.clone() };
    }
    for license in &mut page.licenses.rows {
        license.coverage.license = bad();
        license.opening = Some(Opening { file: bad(), holders: 2 });
        for allotment in &mut license.allotments.rows {
            allotment.allotment = bad();
            allotment.allowed.access_type = Some(bad().into());
            for holder in &mut allotment.holders.rows {
                (holder.assignment.subject, holder.name) = (bad(), Some(bad()));
            }
        }
    }
    for strip in &mut page.syncs.as_mut().unwrap().sources.rows {
        *strip = Strip { source: bad(), name: bad(), cells: strip.cells.clone() };
    }
    for gap in &mut page.gaps.rows {
        if let ListedGap::Rhythm(gap) = gap {
            (gap.source, gap.license) = (bad().into(), bad().into());
        }
    }
    for one in &mut page.consumption {
        (one.license, one.allotment) = (bad().into(), bad().into());
    }
    for one in &mut page.deployments.rows {
        let (license, source, name, user_agent) = (bad().into(), bad().into(), Some(bad()), bad());
        *one = Deployment { license, source, name, user_agent, ..one.clone() };
    }
    for change in &mut page.changes.rows {
        let (license, allotment, rejection, asked_by) = (bad(), bad(), Some(bad()), Some(bad()));
        *change =
            ListedChange { license, allotment, rejection, asked_by, person: person(), ..change.clone() };
    }
    for one in &mut page.denied.rows {
        *one = Denied { action: bad(), source: Some(bad()), reason: bad(), ..one.clone() };
    }
    page.churn = Some(MovedUnits {
        within: bad(),
        moves: vec![ListedMove {
            license: bad(),
            allotment: bad(),
            from: person(),
            to: person(),
            deleted: page.period.from,
            added: page.period.to,
        }]
        .into(),
    });
    for log in &mut page.evidence {
        let covered = || Covered { file: bad().into(), size: 1, time: None };
        log.written_by = vec![bad()];
        let log = &mut log.verified;
        (log.log, log.origin, log.root, log.key) = (bad().into(), bad(), Some(bad()), bad());
        (log.checkpoint, log.anchors) = (Some(covered()), vec![covered()]);
        log.damage = vec![bad()];
        log.predecessor = Some(Predecessor { origin: bad(), size: 7, root: bad() });
    }
    page
}
