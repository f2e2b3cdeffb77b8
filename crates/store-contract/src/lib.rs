//! One suite for every store: a named test per promise, no exceptions for any of them.
//!
//! Decides: what a [`Store`] must do, by example. A store brings a [`Harness`] and calls [`contract!`] in its own test
//! binary; that expands to one test per promise, so that a store that breaks one says which. Names that begin with an
//! invariant's id (`s1_` ... `s8_`) prove it.
//!
//! Never decides: how a store does it. The suite drives every store through its public verbs only, and expects of them
//! what the pure guards in [`soloist::store::guard`] say.

#![forbid(unsafe_code)]

pub mod append;
pub mod boot;
pub mod broken;
pub mod bury;
pub mod cancel;
pub mod claim;
pub mod claim_queued;
pub mod claim_table;
pub mod create;
pub mod create_claimed;
pub mod delete;
pub mod due;
pub mod events;
pub mod finish;
pub mod lease;
pub mod line;
pub mod list;
pub mod look;
pub mod next_run;
pub mod node_table;
pub mod nodes;
pub mod orphans;
pub mod plain;
pub mod prune;
pub mod queue;
pub mod repeated_create;
pub mod repeated_start;
pub mod requeue;
pub mod signal;
pub mod stage;
pub mod table;
pub mod tidy;
pub mod tombstone;
pub mod total;
pub mod trace;

use std::{future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use soloist::Store;

pub use boot::ManualBootClock;

/// How the suite gets at a storage. A process is a handle: it dies where its handle and its heartbeats are dropped.
#[async_trait]
pub trait Harness: Send + Sync + Sized + 'static {
    /// An empty storage.
    async fn fresh() -> Self;

    /// The handle of a process that starts now, beside any others; it judges leases by this clock.
    async fn open(&self, clock: ManualBootClock) -> Arc<dyn Store>;
}

/// Runs one promise, and fails it where it hangs.
///
/// # Panics
/// After five minutes.
pub async fn within_deadline(promise: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(300), promise).await.expect("the store hangs");
}

/// Expands to one test per promise for the harness of this name. The crate that calls it depends on `tokio`.
#[macro_export]
macro_rules! contract {
    ($harness:ident) => {
        $crate::contract! { @ $harness
            append {
                events_are_read_back_as_they_were_appended
                s3_a_batch_is_taken_only_right_after_the_end_of_the_log
                s3_of_many_batches_for_one_place_one_is_written
                a_batch_sent_again_is_already_there
                s6_a_node_that_does_not_hold_the_run_is_fenced
                s6_a_zombie_is_fenced_once_its_run_was_ended_for_it
                s6_an_earlier_run_of_the_same_node_is_fenced
                s6_a_write_to_a_deleted_task_is_fenced
                a_fenced_writer_does_not_fail_those_beside_it
                s3_a_batch_that_is_not_dense_is_refused_alone
                s3_the_log_goes_on_across_runs
                a_large_batch_is_taken_whole
            }
            bury {
                a_lease_that_is_over_makes_no_orphan_before_its_node_is_buried
                certain_evidence_alone_buries_nobody_by_lease
                a_node_that_joins_buries_nobody
                each_death_is_told_to_one_caller_of_many
                a_claim_and_a_burial_of_one_moment_leave_an_orphan_or_nothing
            }
            cancel {
                a_pending_task_is_cancelled_at_once
                a_running_task_is_asked_to_stop_and_its_holder_still_writes
                a_cancel_that_saw_an_old_epoch_is_fenced
                a_cancel_that_saw_another_status_is_told_that_it_moved
                s7_of_many_cancels_of_one_task_one_is_committed
                s2_s6_an_ending_by_another_raises_the_epoch_and_fences_the_holder
            }
            claim {
                s1_a_claim_has_one_winner_among_256
                s1_a_restart_has_one_winner_among_256
                s2_every_claim_raises_run_and_epoch_by_one
                a_claim_puts_the_run_on_record
                a_claim_clears_what_the_last_run_left
                a_loser_is_told_who_holds_the_task
                under_once_a_finished_task_stays_finished
                an_orphan_is_active_until_it_was_ended
                a_node_that_is_not_alive_claims_nothing
                an_unknown_task_is_missing
            }
            claim_queued {
                the_queue_says_whether_anything_waits_in_it
                s1_a_queued_run_is_claimed_once_among_64
                s1_concurrent_claims_share_no_queued_run
                runs_are_claimed_in_the_order_in_which_they_were_queued
                a_node_is_given_only_what_it_asked_for
                a_node_that_is_not_alive_is_given_nothing
                s7_a_cancel_and_a_claim_of_a_queued_run_never_both_happen
                what_a_dead_node_took_from_the_queue_is_an_orphan
            }
            claim_table {
                every_claim_with_all_that_it_may_bring_is_answered_as_the_guard_says
            }
            create {
                a_new_task_is_pending
                a_task_that_is_there_stays_as_it_was
                of_many_creates_of_one_key_one_makes_it
                assigned_ids_rise_from_1_within_a_model
                assigned_ids_skip_those_that_are_taken
                assigned_ids_differ_among_concurrent_creates
                the_input_is_kept_as_it_was_sent
            }
            create_claimed {
                it_is_what_a_create_and_a_claim_come_to
                s1_of_many_for_one_key_one_makes_it_and_one_holds_it
                a_task_that_is_there_stays_as_it_was
                an_assigned_id_comes_with_its_run
                a_run_that_waits_is_taken_from_the_queue
                a_run_that_was_begun_with_its_task_outlives_its_process
            }
            delete {
                a_deleted_task_is_gone_with_its_events_and_signals
                an_active_task_is_not_deleted
                a_delete_that_names_a_run_leaves_any_other_alone
                an_unknown_task_is_missing
                a_task_created_anew_has_nothing_of_the_deleted_one
            }
            due {
                a_task_with_a_time_is_run_when_it_has_come
                a_retry_waits_for_its_time_and_holds_up_nobody
                what_waited_for_its_time_keeps_its_place
                a_position_is_told_of_what_waits_for_a_node
                what_waits_for_its_time_is_cancelled_at_once
            }
            events {
                s8_a_page_ends_at_its_number_of_events
                s8_a_page_ends_at_its_bytes_and_holds_at_least_one_event
                a_page_ends_at_the_last_seq_asked_for
                s5_pages_read_one_after_the_other_are_the_log
                a_task_without_events_has_none
                json_and_text_come_back_byte_for_byte
                event_types_come_back_as_they_were_sent
                what_was_answered_is_there_for_every_reader_at_once
            }
            finish {
                s7_the_ending_is_one_step
                s7_each_ending_is_on_record_with_its_own_fields
                s7_of_many_endings_of_one_run_one_is_committed
                s4_nothing_is_written_after_the_end_of_a_run
                an_ending_sent_again_is_already_there
                work_that_finishes_while_it_is_cancelled_is_completed
                an_ending_that_saw_another_status_is_told_that_it_moved
            }
            lease {
                a_renewed_lease_keeps_its_node_alive
                a_lease_is_as_long_as_its_node_asked_for
                a_lease_that_is_over_is_not_renewed
                a_late_renewal_is_told_that_its_node_is_dead
                a_renewal_and_a_burial_of_one_moment_never_both_happen
                a_node_that_left_is_dead_at_once
                a_model_is_served_where_a_living_node_serves_it
            }
            list {
                tasks_are_listed_newest_first
                every_part_of_a_filter_counts
                paging_is_stable_while_tasks_are_created
                s8_a_page_is_bounded_in_tasks_and_in_bytes
            }
            look {
                what_a_node_holds_is_told_by_status
                rows_come_in_the_order_in_which_they_were_asked_for
                a_cancel_and_a_signal_reach_the_inbox_of_the_holder
                a_commit_of_anybody_is_told_to_everybody
                s5_a_reader_that_only_waits_for_changes_misses_nothing
            }
            next_run {
                of_many_who_ask_for_one_more_run_one_is_the_first
                a_claim_after_a_run_wins_only_what_is_owed_after_it
                what_nobody_serves_is_owed_when_somebody_does
                what_is_owed_is_begun_by_a_claim_that_names_the_run_before_it
                to_replace_is_to_ask_for_more_than_one_more
                one_more_run_outlives_attempts_and_goes_with_a_cancelled_task
                a_queued_run_that_is_cancelled_leaves_what_was_asked_for
                a_start_sent_again_is_told_of_the_same_next_run
                a_number_that_was_promised_and_taken_back_is_never_another_starts
                a_number_is_taken_back_with_every_kind_of_cancel_of_the_task
                a_deleted_task_keeps_what_it_had_promised_from_its_successor
            }
            node_table {
                every_heartbeat_and_every_burial_is_answered_as_the_guard_says
                every_orphan_is_one_that_the_guard_calls_so
                every_claim_from_the_queue_is_answered_as_the_guard_says
            }
            orphans {
                what_a_living_node_holds_is_no_orphan
                what_a_dead_process_held_is_an_orphan_until_it_was_ended
                all_that_was_answered_survives_the_process
                orphans_come_in_pages
            }
            prune {
                what_ended_long_ago_is_deleted_oldest_first
                what_is_in_use_is_not_pruned
            }
            queue {
                a_start_for_the_queue_waits_for_a_node
                a_start_of_a_queued_task_loses
                s1_a_start_has_one_winner_wherever_it_goes
                a_queued_run_is_cancelled_at_once
                a_queued_task_is_active
                what_waits_outlives_the_process_that_queued_it
            }
            repeated_create {
                a_create_sent_again_creates_nothing
                a_key_used_for_another_create_is_refused
                a_create_that_found_its_task_keeps_its_key
                a_create_sent_again_after_a_delete_is_told_so
                of_many_repeats_of_one_create_one_creates
            }
            repeated_start {
                a_start_sent_again_begins_no_second_run
                a_start_that_lost_has_lost_for_good
                a_key_used_for_another_start_is_refused
                nobody_meets_the_key_of_another
                a_create_and_a_start_do_not_share_keys
                s1_of_many_repeats_of_one_start_one_begins_the_run
                s1_of_many_starts_under_several_keys_one_wins
                a_start_that_was_not_decided_uses_no_key
                a_start_sent_again_after_a_delete_begins_nothing
            }
            requeue {
                s2_a_takeover_with_retries_left_queues_the_run_again
                s6_the_holder_of_a_lost_attempt_is_fenced
                s2_s3_the_next_attempt_goes_on_with_the_run
                a_new_run_has_all_its_retries_again
                a_holder_gives_its_own_run_back
                a_run_is_requeued_only_while_it_is_running
                signals_of_a_run_outlive_its_attempts
            }
            signal {
                signals_are_numbered_and_read_in_order
                signals_of_a_pending_task_are_its_next_runs
                signals_of_two_tasks_are_counted_apart
                concurrent_signals_lose_no_number
                a_finished_task_takes_no_signal
                signals_go_with_their_run
                s8_a_run_keeps_a_bounded_number_of_signals
            }
            trace {
                every_attempt_of_a_run_is_given_the_trace_of_its_start
                the_next_run_does_not_inherit_a_trace
            }
            table {
                every_claim_is_answered_as_the_guard_says
                every_transition_is_answered_as_the_guard_says
                every_transition_of_a_dead_nodes_run_is_answered_as_the_guard_says
            }
            tidy {
                nothing_that_is_in_use_is_cleared_away
                a_dead_node_is_not_forgotten_while_it_holds_a_run
                keys_are_kept_as_long_as_their_task_and_a_day
                tombstones_go_when_their_time_is_over
            }
            tombstone {
                s2_s3_a_task_created_anew_goes_on_from_the_deleted_one
                numbers_rise_over_any_number_of_deletes
                s6_the_holder_of_a_deleted_task_is_fenced_by_its_successor
                readers_never_meet_the_events_of_a_deleted_task
                a_tombstone_outlives_the_process
            }
            total {
                no_more_run_at_a_time_than_may
                a_dead_nodes_run_counts_until_it_was_taken_over
                a_full_model_holds_up_no_other
                a_start_stands_behind_those_that_wait_for_a_slot
            }
        }
    };
    (@ $harness:ident $($verb:ident { $($promise:ident)+ })+) => {
        $(mod $verb {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                $crate::within_deadline($crate::$verb::$promise::<super::$harness>()).await;
            })+
        })+
    };
}

/// The promises of a store whose nodes all share one host, beside those of [`contract!`]: they are about the clock of the
/// host's boot. Where leases are judged by the clock of a database, a node may live on over a boot of its host (another
/// process has another name and begins with nothing), and a clock that was set back makes nobody dead.
#[macro_export]
macro_rules! host_contract {
    ($harness:ident) => {
        mod host {
            mod bury {
                use super::super::$harness;
                $crate::host_contract! { @ $harness
                    a_node_of_another_boot_is_dead
                    a_lease_that_ends_impossibly_late_is_over
                }
            }
        }
    };
    (@ $harness:ident $($promise:ident)+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $promise() {
            $crate::within_deadline($crate::bury::$promise::<$harness>()).await;
        })+
    };
}
