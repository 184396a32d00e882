//! Edits of the mapping: only documents that become others are sent, and what an edit leaves out is judged.

use std::time::Duration;

use fides_core::{FaultKind, Held, Mark, Origin, Version};
use fides_engine::import::{Mode, import};
use fides_engine::inspect::{Plan, plan};
use fides_engine::{Progress, establish, publish};
use fides_testkit::fake::{Act, FakeHost, FakeMapper, Gate};

use crate::stand::{Process, Stand, upsert, within};

pub const ROWS: i64 = 40;
/// Rows whose value is `RARE`; the first is on the first page.
pub const RARE_ROWS: [i64; 3] = [0, 20, 39];
pub const RARE: i64 = 5;

/// A host with three rare rows, copied by that mapping.
pub async fn copied(mapper: &FakeMapper) -> Stand {
    let stand = Stand::new(ROWS);
    stand.host.commit(&RARE_ROWS.map(|id| (id, Some(RARE))));
    process(&stand, "first", mapper).await.copy().await;
    stand
}

pub async fn process(stand: &Stand, name: &str, mapper: &FakeMapper) -> Process {
    stand.process_of(name, mapper.clone()).await
}

/// An edit that makes other documents of the rare rows, and leaves all others as they are.
fn lifting(mapper: &FakeMapper, revision: u64) -> FakeMapper {
    mapper.edited(revision, |edited| edited.lifts = vec![RARE])
}

pub fn excluding(mapper: &FakeMapper, revision: u64, value: i64) -> FakeMapper {
    mapper.edited(revision, |edited| edited.excludes = vec![value])
}

pub async fn planned(process: &Process) -> Plan {
    plan(&process.pipeline, 2, &Progress::default()).await.unwrap()
}

/// Imports until all is written; what was sent, and what only got another mark.
pub async fn imported(process: &Process) -> (u64, u64) {
    let _consumers = process.consume();
    let report = process.import(Mode::Delta).await;
    process.settle().await;
    assert_eq!(report.sweep.refused, None);
    (report.counts.published, report.counts.relabelled)
}

async fn broken_off(process: &Process) {
    let _consumers = process.consume();
    process.faults.script("host.scan", [Act::Pass, Act::Pass, Act::Reject(FaultKind::Transient)]);
    within(import(&process.pipeline, Mode::Delta, &process.worker)).await.unwrap_err();
    process.settle().await;
}

async fn mark_of(process: &Process, id: i64) -> Mark {
    let (hashes, pipeline) = (&process.pipeline.backplane.hashes, &process.pipeline.id);
    hashes.get(pipeline, &[FakeHost::key(id)]).await.unwrap()[0].expect("it is marked")
}

#[tokio::test(start_paused = true)]
async fn an_edit_sends_only_the_documents_that_it_changes() {
    let before = FakeMapper::new(1);
    let stand = copied(&before).await;
    let edited = lifting(&before, 2);
    let process = process(&stand, "edited", &edited).await;

    let plan = planned(&process).await;
    assert_eq!((plan.change, plan.create, plan.delete, plan.unchanged), (3, 0, 0, 37));
    let told = plan.edit.expect("it is said that the mapping was edited");
    assert_eq!((told.relabel, told.exclude, told.unknown), (37, 0, None));
    let sample = &plan.samples[0];
    assert!(sample.before.as_ref().is_some_and(|before| before.contains("\"value\":6")), "{sample:?}");
    assert!(sample.after.as_ref().is_some_and(|after| after.contains("\"value\":1006")), "{sample:?}");

    assert_eq!(imported(&process).await, (3, 37));
    assert_eq!(stand.differing_from(&edited), [0; 0]);
    // The edit is through: nothing is evaluated twice any more, and summaries are stored again.
    assert_eq!(planned(&process).await.edit, None);
    assert_eq!(imported(&process).await, (0, 0));
    assert_eq!(imported(&process).await, (0, 0));
    assert!(Progress::get(&process.worker.progress.summarised) > 0);
}

#[tokio::test(start_paused = true)]
async fn an_edit_that_reads_other_columns_sends_only_the_documents_that_it_changes() {
    for (columns, other) in [(3, 2), (2, 3)] {
        let before = FakeMapper::new(1).edited(1, |before| before.columns = columns);
        let stand = copied(&before).await;
        let edited = lifting(&before, 2).edited(2, |edited| edited.columns = other);
        let process = process(&stand, "edited", &edited).await;
        assert_eq!(planned(&process).await.change, 3);
        assert_eq!(imported(&process).await, (3, 37), "{columns} columns, then {other}");
        assert_eq!(stand.differing_from(&edited), [0; 0]);
        assert_eq!(imported(&process).await, (0, 0));
    }
}

/// A record that changed is another document, whatever the edit does.
#[tokio::test(start_paused = true)]
async fn a_change_beside_an_edit_is_sent() {
    let before = FakeMapper::new(1);
    let stand = copied(&before).await;
    stand.host.commit(&[(7, Some(8)), (41, Some(1))]);
    let edited = before.edited(2, |_| ());
    let process = process(&stand, "edited", &edited).await;
    assert_eq!(imported(&process).await, (2, 39));
    assert_eq!(stand.differing_from(&edited), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn an_import_that_breaks_off_keeps_the_mapping_before() {
    let before = FakeMapper::new(1);
    let stand = copied(&before).await;
    let edited = lifting(&before, 2);
    let first = process(&stand, "edited", &edited).await;
    broken_off(&first).await;
    // The process is started again, and goes on with the run.
    let second = process(&stand, "restarted", &edited).await;
    assert_eq!(imported(&second).await, (3, 37));
    assert_eq!(stand.differing_from(&edited), [0; 0]);
}

/// Marks of two mappings, and neither is the present one's: what cannot be told is sent.
#[tokio::test(start_paused = true)]
async fn a_second_edit_before_the_first_is_through_is_right() {
    let before = FakeMapper::new(1);
    let stand = copied(&before).await;
    broken_off(&process(&stand, "edited", &lifting(&before, 2)).await).await;
    assert_eq!(stand.differing_from(&before), [0], "the first page was written by the first edit");
    let third = before.edited(3, |_| ());
    let process = process(&stand, "again", &third).await;
    // Two pages of four records are marked by the first edit.
    assert_eq!(imported(&process).await, (8, 32));
    assert_eq!(stand.differing_from(&third), [0; 0]);
    assert_eq!(imported(&process).await, (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_edit_that_is_taken_back_before_it_is_through_is_right() {
    let before = FakeMapper::new(1);
    let stand = copied(&before).await;
    broken_off(&process(&stand, "edited", &lifting(&before, 2)).await).await;
    let process = process(&stand, "back", &before).await;
    assert_eq!(imported(&process).await, (8, 0));
    assert_eq!(stand.differing_from(&before), [0; 0]);
}

/// What waits in the lanes was mapped by the mapping before.
#[tokio::test(start_paused = true)]
async fn an_edit_while_changes_are_queued_is_right() {
    let before = FakeMapper::new(1);
    let stand = copied(&before).await;
    let old = process(&stand, "old", &before).await;
    stand.host.commit(&[(7, Some(8))]);
    let version = Version { sequence: 1, ..mark_of(&old, 7).await.version };
    let change = upsert(7, version, before.document(7, 8).unwrap());
    publish(&old.pipeline, old.pipeline.shape(), Origin::Event, vec![change]).await.unwrap();

    let edited = lifting(&before, 2);
    let new = process(&stand, "new", &edited).await;
    let (published, relabelled) = imported(&new).await;
    // The queued change has no fingerprint in its mark: its record is sent.
    assert_eq!((published, relabelled), (4, 36));
    assert_eq!(stand.differing_from(&edited), [0; 0]);
}

/// A change that arrives between the comparison and the new mark is neither hidden nor followed by a stale mark (L4, L5).
#[tokio::test(start_paused = true)]
async fn a_new_mark_hides_no_change_that_is_on_its_way() {
    let before = FakeMapper::new(1);
    let stand = copied(&before).await;
    let edited = before.edited(2, |_| ());
    let (importer, other) = (process(&stand, "importer", &edited).await, process(&stand, "other", &edited).await);
    let _consumers = other.consume();
    let compared = Gate::new();
    importer.faults.script("hashes.relabel", [Act::Hold(compared.clone())]);
    let at = mark_of(&other, 1).await.version;
    let event = async |sequence: u32, value: i64| {
        let change = upsert(1, Version { sequence, ..at }, edited.document(1, value).unwrap());
        publish(&other.pipeline, other.pipeline.shape(), Origin::Event, vec![change]).await.unwrap();
        other.settle().await;
    };
    let meanwhile = async {
        while importer.faults.calls("hashes.relabel") == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Both are older than the page that is being compared, which has what they come to.
        event(1, 9).await;
        assert_eq!(stand.differing_from(&edited), [1]);
        compared.open();
    };
    let (_report, ()) = tokio::join!(importer.import(Mode::Delta), meanwhile);
    assert_eq!(mark_of(&other, 1).await.version.sequence, 1, "the mark of the change stays");
    event(2, 1).await;
    assert_eq!(stand.differing_from(&edited), [0; 0]);
}

/// An attempt of unknown outcome takes the fingerprint from a mark; no comparison that was made earlier gives one back.
#[tokio::test(start_paused = true)]
async fn a_new_mark_restores_no_trust() {
    let before = FakeMapper::new(1);
    let stand = copied(&before).await;
    let process = process(&stand, "edited", &before.edited(2, |_| ())).await;
    let _consumers = process.consume();
    let compared = Gate::new();
    process.faults.script("hashes.relabel", [Act::Hold(compared.clone())]);
    let disk = stand.disk.open();
    let meanwhile = async {
        while process.faults.calls("hashes.relabel") == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        disk.hashes.distrust(&process.pipeline.id, &[FakeHost::key(1)]).await.unwrap();
        compared.open();
    };
    tokio::join!(process.import(Mode::Delta), meanwhile);
    assert_eq!(mark_of(&process, 1).await.fingerprint, None);
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_of_the_mapping_before_is_tried_again() {
    let before = FakeMapper::new(1).edited(1, |before| before.rejects = vec![RARE]);
    let stand = copied(&before).await;
    let mended = before.edited(2, |mended| mended.rejects.clear());
    let process = process(&stand, "mended", &mended).await;
    let dead = async || process.pipeline.backplane.dead.count(&process.pipeline.id).await.unwrap();
    assert_eq!(dead().await, 3);
    assert_eq!(imported(&process).await, (3, 37));
    assert_eq!(dead().await, 0);
    assert_eq!(stand.differing_from(&mended), [0; 0]);
}

/// The same document may be taken now: the edit came with a mended target.
#[tokio::test(start_paused = true)]
async fn a_document_that_the_target_refused_is_tried_again() {
    let before = FakeMapper::new(1);
    let stand = Stand::new(ROWS);
    let first = process(&stand, "first", &before).await;
    first.faults.poison([FakeHost::key(7)]);
    first.copy().await;
    assert_eq!(mark_of(&first, 7).await.held, Held::Dead);
    let edited = before.edited(2, |_| ());
    let process = process(&stand, "edited", &edited).await;
    assert_eq!(imported(&process).await, (1, 39));
    assert_eq!(stand.differing_from(&edited), [0; 0]);
}

/// Nobody knows what the target holds of a record without a mark: nothing, where the mapping before left it out, too.
#[tokio::test(start_paused = true)]
async fn what_is_left_out_and_was_never_marked_is_judged_if_it_was_not_left_out_before() {
    for (left_out, candidates) in [(vec![RARE], 0), (vec![], 1)] {
        let before = FakeMapper::new(1).edited(1, |before| before.excludes = left_out);
        let stand = Stand::new(ROWS);
        process(&stand, "first", &before).await.copy().await;
        stand.host.commit(&[(50, Some(RARE))]);
        let process = process(&stand, "edited", &excluding(&before, 2, RARE)).await;
        let _consumers = process.consume();
        let report = process.import(Mode::Delta).await;
        process.settle().await;
        assert_eq!((report.sweep.candidates, report.counts.published), (candidates, 1));
        assert_eq!(mark_of(&process, 50).await.held, Held::Absent);
    }
}

#[tokio::test(start_paused = true)]
async fn a_mapping_that_cannot_be_made_again_sends_everything_and_says_so() {
    let before = FakeMapper::new(1).edited(1, |before| before.is_forgotten = true);
    let stand = copied(&before).await;
    let edited = before.edited(2, |edited| edited.is_forgotten = false);
    let process = process(&stand, "edited", &edited).await;
    let plan = planned(&process).await;
    assert_eq!(plan.change, ROWS as u64);
    let unknown = plan.edit.and_then(|edit| edit.unknown);
    assert!(unknown.as_ref().is_some_and(|why| why.contains("forgotten")), "{unknown:?}");
    assert_eq!(imported(&process).await, (ROWS as u64, 0));
    assert_eq!(stand.differing_from(&edited), [0; 0]);
    assert_eq!(imported(&process).await, (0, 0));
}

/// By another mapping, ranges would count as compared that were not.
#[tokio::test(start_paused = true)]
async fn a_process_of_another_mapping_does_not_assist() {
    let before = FakeMapper::new(1);
    let stand = copied(&before).await;
    let edited = lifting(&before, 2);
    let leader = process(&stand, "leader", &edited).await;
    broken_off(&leader).await;
    let helper = process(&stand, "helper", &before).await;
    within(fides_engine::import::assist(&helper.pipeline, &helper.worker)).await.unwrap();
    assert_eq!(imported(&leader).await, (3, 37));
    assert_eq!(stand.differing_from(&edited), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_both_mappings_leave_out_is_not_sent() {
    let before = excluding(&FakeMapper::new(1), 1, RARE);
    let stand = copied(&before).await;
    let process = process(&stand, "edited", &before.edited(2, |_| ())).await;
    assert_eq!(imported(&process).await, (0, ROWS as u64));
    assert_eq!(mark_of(&process, RARE_ROWS[0]).await.held, Held::Absent);
}

/// A full import trusts no mark, after an edit either.
#[tokio::test(start_paused = true)]
async fn a_full_import_after_an_edit_sends_everything() {
    let before = excluding(&FakeMapper::new(1), 1, RARE);
    let stand = copied(&before).await;
    let process = process(&stand, "edited", &before.edited(2, |_| ())).await;
    let _consumers = process.consume();
    let report = process.import(Mode::Full).await;
    process.settle().await;
    assert_eq!((report.counts.published, report.counts.relabelled), (ROWS as u64, 0));
    assert_eq!(report.sweep.candidates, 0, "the mapping before has left them out, too");
}

#[tokio::test(start_paused = true)]
async fn what_an_edit_leaves_out_is_deleted() {
    let before = FakeMapper::new(1);
    let stand = copied(&before).await;
    let edited = excluding(&before, 2, RARE);
    let process = process(&stand, "edited", &edited).await;
    let plan = planned(&process).await;
    assert_eq!((plan.delete, plan.unchanged, plan.refused), (3, 37, None));
    let _consumers = process.consume();
    let report = process.import(Mode::Delta).await;
    process.settle().await;
    assert_eq!((report.sweep.candidates, report.sweep.deleted, report.counts.deletions), (3, 3, 3));
    assert_eq!(RARE_ROWS.map(|id| stand.document(id)), [None, None, None]);
    assert_eq!(imported(&process).await, (0, 0));
}

/// A condition with a mistake must not empty the target (L8), by whatever import it comes, and however often.
#[tokio::test(start_paused = true)]
async fn an_edit_that_leaves_out_too_much_deletes_nothing() {
    for is_forgotten in [false, true] {
        let before = FakeMapper::new(1).edited(1, |before| before.is_forgotten = is_forgotten);
        let stand = copied(&before).await;
        let wrong = before.edited(2, |wrong| {
            (wrong.lifts, wrong.excludes, wrong.is_forgotten) = (vec![RARE], vec![1], false);
        });
        let mut process = process(&stand, "wrong", &wrong).await;
        process.pipeline.limits.delete_count_min = 1;
        process.pipeline.limits.delete_ratio_max = 0.12;
        let plan = planned(&process).await;
        assert_eq!((plan.delete, plan.change), (37, 3));
        assert!(plan.refused.is_some_and(|why| why.contains("delete_ratio_max")));

        let _consumers = process.consume();
        for (mode, sent) in [(Mode::Delta, 3), (Mode::Delta, 0), (Mode::Full, 3), (Mode::Delta, 0)] {
            let report = process.import(mode).await;
            process.settle().await;
            let why = report.sweep.refused.expect("it is refused every time");
            assert!(why.contains("leaves out") && why.contains("37 deletions"), "{why}");
            assert_eq!((report.counts.published, report.sweep.deleted), (sent, 0), "{mode:?}");
            assert_eq!((1..20).filter(|&id| stand.document(id).is_none()).count(), 0, "{mode:?}");
            assert_eq!(
                RARE_ROWS.map(|id| stand.document(id)),
                RARE_ROWS.map(|id| wrong.document(id, RARE).map(Into::into))
            );
        }

        // The mistake is mended: nothing was lost, and the rest goes on.
        let mended = before.edited(3, |mended| {
            (mended.excludes, mended.is_forgotten) = (vec![RARE], false);
        });
        let mut process = self::process(&stand, "mended", &mended).await;
        process.pipeline.limits.delete_count_min = 1;
        process.pipeline.limits.delete_ratio_max = 0.12;
        let report = process.import(Mode::Delta).await;
        process.settle().await;
        assert_eq!((report.sweep.deleted, report.sweep.refused), (3, None));
        assert_eq!(report.counts.relabelled, if is_forgotten { 0 } else { 37 });
        assert_eq!(RARE_ROWS.map(|id| stand.document(id)), [None, None, None]);
        assert_eq!((1..20).filter(|&id| stand.document(id).is_none()).count(), 0);
    }
}

/// Both kinds of deletions count for each other.
#[tokio::test(start_paused = true)]
async fn what_an_edit_leaves_out_counts_with_what_is_gone() {
    let before = FakeMapper::new(1);
    let stand = copied(&before).await;
    stand.host.commit(&[(1, None), (2, None)]);
    let mut process = process(&stand, "edited", &excluding(&before, 2, RARE)).await;
    process.pipeline.limits.delete_count_min = 1;
    process.pipeline.limits.delete_ratio_max = 0.12;
    let _consumers = process.consume();
    let report = process.import(Mode::Delta).await;
    process.settle().await;
    assert_eq!((report.sweep.candidates, report.sweep.deleted), (5, 2));
    assert!(report.sweep.refused.is_some_and(|why| why.contains("2 in the last 24 hours")));
    assert!(stand.document(RARE_ROWS[1]).is_some());
}

#[tokio::test(start_paused = true)]
async fn what_an_edit_has_left_out_counts_for_later_deletions() {
    let before = FakeMapper::new(1);
    let stand = copied(&before).await;
    let mut process = process(&stand, "edited", &excluding(&before, 2, RARE)).await;
    process.pipeline.limits.delete_count_min = 1;
    process.pipeline.limits.delete_ratio_max = 0.12;
    assert_eq!(imported(&process).await, (3, 37));
    stand.host.commit(&[(1, None), (2, None)]);
    let _consumers = process.consume();
    let report = process.import(Mode::Delta).await;
    assert!(report.sweep.refused.is_some_and(|why| why.contains("3 in the last 24 hours")));
}

/// A record that is fetched again and is not left out any more is the target's.
#[tokio::test(start_paused = true)]
async fn a_record_that_comes_back_before_its_deletion_is_sent() {
    let before = FakeMapper::new(1);
    let stand = copied(&before).await;
    let edited = excluding(&before, 2, RARE);
    let process = process(&stand, "edited", &edited).await;
    let _consumers = process.consume();
    let (deletes, earlier) = (Gate::new(), process.faults.calls("host.snapshot"));
    // The listing has the first snapshot.
    process.faults.script("host.snapshot", [Act::Pass, Act::Hold(deletes.clone())]);
    let back = async {
        while process.faults.calls("host.snapshot") < earlier + 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stand.host.commit(&[(RARE_ROWS[0], Some(8))]);
        deletes.open();
    };
    let (report, ()) = tokio::join!(process.import(Mode::Delta), back);
    process.settle().await;
    assert_eq!((report.sweep.candidates, report.sweep.deleted), (3, 2));
    assert_eq!(stand.differing_from(&edited), [0; 0]);
}

/// A release that kept no mapping has run before.
#[tokio::test(start_paused = true)]
async fn marks_of_an_unknown_mapping_are_judged_too() {
    let before = FakeMapper::new(1);
    let stand = copied(&before).await;
    let state = stand.disk.open().state;
    state.remove("mapping/p").await.unwrap();
    let mut wrong = process(&stand, "wrong", &excluding(&before, 2, 1)).await;
    wrong.pipeline.limits.delete_count_min = 1;
    establish(&wrong.pipeline).await.unwrap();
    let _consumers = wrong.consume();
    for _ in 0..2 {
        let report = wrong.import(Mode::Delta).await;
        wrong.settle().await;
        assert!(report.sweep.refused.is_some());
        assert!(stand.document(1).is_some());
    }
    // Where the mapping is still the same, it is kept from now on.
    let stand = copied(&before).await;
    let state = stand.disk.open().state;
    state.remove("mapping/p").await.unwrap();
    assert_eq!(imported(&process(&stand, "same", &before).await).await, (0, 0));
    assert_eq!(imported(&process(&stand, "edited", &lifting(&before, 2)).await).await, (3, 37));
}
