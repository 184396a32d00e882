//! The seeded convergence simulation, and the bugs that it must find. A failure prints its seed; run one seed again with
//! `FIDES_SEED=n cargo test -p fides-tests --test convergence`.

use std::sync::atomic::{AtomicU64, Ordering};

use fides_core::SPANS;
use fides_testkit::fake::Order;
use fides_testkit::simulation::{Plan, Planted, Report, simulate};
use tracing_subscriber::EnvFilter;

/// Seeds of each run where nothing was lost, of both orders of versions; and with `FIDES_TEST_LONG`.
const SEEDS: [u64; 2] = [100, 2_500];
/// Seeds of each run that loses something.
const SEEDS_OF_LOSS: [u64; 2] = [40, 500];
/// A planted bug must be found within so many seeds.
const SEEDS_TO_FIND: u64 = 2_500;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// The seed that is being looked at: what the engine says is shown, as `RUST_LOG` wants it.
fn one_seed() -> Option<std::ops::Range<u64>> {
    let seed = number("FIDES_SEED")?;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // A trace that is looked at draws its identity: with it the seed would be another story.
    let filter = filter.add_directive(format!("{SPANS}=off").parse().expect("a target and a level"));
    let _already = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
    Some(seed..seed + 1)
}

fn seeds(planted: Option<Planted>) -> std::ops::Range<u64> {
    if let Some(seed) = one_seed() {
        return seed;
    }
    let [short, long] = if planted.is_none() { SEEDS } else { SEEDS_OF_LOSS };
    let seeds = if std::env::var_os("FIDES_TEST_LONG").is_some() { long } else { short };
    0..number("FIDES_SEEDS").unwrap_or(seeds)
}

/// Runs seeds on two threads until one fails; that seed and its report.
fn first_failure(
    seeds: std::ops::Range<u64>,
    order: Order,
    planted: Option<Planted>,
) -> (Vec<Report>, Option<(u64, Report)>) {
    let next = AtomicU64::new(seeds.start);
    let failed = AtomicU64::new(u64::MAX);
    let reports = std::thread::scope(|scope| {
        let worker = || {
            let mut reports = Vec::new();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds.end || failed.load(Ordering::Relaxed) < seed {
                    return reports;
                }
                let report = simulate(Plan {
                    seed,
                    order,
                    // A log does not tell of an edit.
                    last_import: order == Order::Fides
                        || seed.is_multiple_of(2)
                        || matches!(planted, Some(Planted::MappingEdited | Planted::ValuesChangeHands)),
                    planted,
                });
                if report.failure.is_some() {
                    failed.fetch_min(seed, Ordering::Relaxed);
                }
                reports.push((seed, report));
            }
        };
        let threads = [scope.spawn(worker), scope.spawn(worker)];
        threads.into_iter().flat_map(|thread| thread.join().expect("a simulation panicked")).collect::<Vec<_>>()
    });
    let failure = reports.iter().filter(|(_, report)| report.failure.is_some()).min_by_key(|(seed, _)| *seed).cloned();
    (reports.into_iter().map(|(_, report)| report).collect(), failure)
}

fn converges(order: Order, planted: Option<Planted>) -> Vec<Report> {
    let mut seeds = seeds(planted);
    if matches!(planted, Some(Planted::MappingEdited | Planted::ValuesChangeHands)) {
        // Each of these is as long as several others: an edit waits for an import that ends, a value for its record.
        seeds.end = seeds.start + (seeds.end - seeds.start).div_ceil(4);
    }
    let (reports, failure) = first_failure(seeds.clone(), order, planted);
    if let Some((seed, report)) = failure {
        panic!("seed {seed} ({order:?}, {planted:?}): {}", report.failure.unwrap_or_default());
    }
    // The weather really struck, and the short cuts were really taken.
    let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
    let (crashes, unchanged, summarised) =
        (sum(|report| report.crashes), sum(|report| report.unchanged), sum(|report| report.summarised));
    let [writes, meanwhile] = [|report: &Report| report.writes, |report: &Report| report.writes_meanwhile]
        .map(|of| reports.iter().map(of).sum::<usize>());
    println!(
        "{order:?} {planted:?}: {} seeds, {crashes} crashes, {writes} writes, {meanwhile} of them before the last change, \
         {unchanged} unchanged, {summarised} by summary",
        reports.len()
    );
    if seeds.count() > 1 {
        assert!(crashes > reports.len() as u64 / 2, "only {crashes} crashes in {} runs", reports.len());
        // What all travels once, after the last change, meets nothing.
        assert!(meanwhile > reports.len(), "only {meanwhile} writes before the last change in {} runs", reports.len());
        // A loss voids summaries: how many were used again by its end is chance.
        assert!(
            unchanged > 0 && (planted.is_some() || summarised > 0),
            "{unchanged} unchanged, {summarised} by summary"
        );
    }
    reports
}

fn finds(order: Order, planted: Planted) {
    let seeds = one_seed().unwrap_or(0..SEEDS_TO_FIND);
    let (reports, failure) = first_failure(seeds, order, Some(planted));
    let Some((seed, report)) = failure else { panic!("{planted:?} was not found in {} seeds", reports.len()) };
    let failure = report.failure.unwrap_or_default();
    assert!(failure.contains("the target differs from the host"), "seed {seed} failed in another way: {failure}");
    println!("{planted:?}: found with seed {seed}: {failure}");
}

#[test]
fn converges_with_drawn_versions() {
    converges(Order::Fides, None);
}

#[test]
fn converges_with_the_versions_of_a_log() {
    converges(Order::Host, None);
}

/// What is fetched is ordered by an upper bound of its state, and lacks what is in the log and not visible yet.
#[test]
fn converges_with_the_versions_of_what_was_fetched() {
    converges(Order::Fetched, None);
}

#[test]
fn converges_after_everything_was_lost_beside_fetched_changes() {
    converges(Order::Fetched, Some(Planted::LostEverything));
}

#[test]
fn converges_after_a_failover_beside_fetched_changes() {
    converges(Order::Fetched, Some(Planted::Failover));
}

#[test]
fn converges_after_a_loss_that_was_noticed() {
    converges(Order::Fides, Some(Planted::LostLastNoticed));
}

#[test]
fn converges_after_everything_was_lost() {
    converges(Order::Fides, Some(Planted::LostEverything));
}

/// Marks are rebuilt while the log tells of changes.
#[test]
fn converges_after_everything_was_lost_beside_a_log() {
    converges(Order::Host, Some(Planted::LostEverything));
}

#[test]
fn converges_after_the_target_was_restored() {
    converges(Order::Fides, Some(Planted::TargetRestored));
}

#[test]
fn converges_after_the_log_forgot_its_readers() {
    converges(Order::Host, Some(Planted::LogForgotten));
}

#[test]
fn converges_after_a_failover_that_lost_transactions() {
    converges(Order::Host, Some(Planted::Failover));
}

#[test]
fn converges_after_edits_of_the_mapping() {
    let reports = converges(Order::Fides, Some(Planted::MappingEdited));
    let relabelled: u64 = reports.iter().map(|report| report.relabelled).sum();
    println!("{relabelled} marks relabelled");
    assert!(reports.len() == 1 || relabelled > 0, "no mark was relabelled");
}

/// Records whose changes are in different lanes wait for each other's values.
#[test]
fn converges_where_unique_values_change_hands() {
    converges(Order::Host, Some(Planted::ValuesChangeHands));
}

#[test]
fn converges_where_imports_find_unique_values_changed() {
    converges(Order::Fides, Some(Planted::ValuesChangeHands));
}

#[test]
fn finds_settling_before_applying() {
    finds(Order::Fides, Planted::SettledFirst);
}

#[test]
fn finds_marks_that_go_backward() {
    finds(Order::Fides, Planted::MarksGoBackward);
}

#[test]
fn finds_skipped_equal_writes() {
    finds(Order::Host, Planted::EqualWritesSkipped);
}

#[test]
fn finds_trust_in_an_attempt_of_unknown_outcome() {
    finds(Order::Host, Planted::UnknownTrusted);
}

#[test]
fn finds_an_ignored_sequence() {
    finds(Order::Host, Planted::SequenceIgnored);
}

#[test]
fn finds_states_of_one_place_that_are_not_told_apart() {
    finds(Order::Fetched, Planted::SequenceIgnored);
}

#[test]
fn finds_an_import_before_its_fence() {
    finds(Order::Fides, Planted::FenceNotAwaited);
}

#[test]
fn finds_a_summary_that_is_stored_too_early() {
    finds(Order::Fides, Planted::SummaryStoredTooEarly);
}

#[test]
fn finds_a_late_write() {
    finds(Order::Host, Planted::LateWriteNotFenced);
}

#[test]
fn finds_rebuilt_marks_that_are_too_new() {
    finds(Order::Host, Planted::RebuiltTooNew);
}

#[test]
fn finds_an_unnoticed_loss() {
    finds(Order::Fides, Planted::LostLastUnnoticed);
}
