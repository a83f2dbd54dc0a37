//! What every store must do, whichever engine it is: one list of cases, run on each.
//!
//! A case is an ordinary function of an engine; the macro only makes it a test. A new engine is an implementation of
//! [`Engine`] and one line at the end of this file.

pub(crate) mod changes;
pub(crate) mod engines;
pub(crate) mod handing;
mod inbound;
mod lanes;
pub(crate) mod notices;
mod opening;
mod property;
pub(crate) mod remapping;
mod replays;
pub(crate) mod servers;
mod settling;
pub(crate) mod statuses;
mod upkeep;
pub(crate) mod world;

use engines::Sqlite;
use servers::Postgres;
use std::any::Any;

/// An engine under test.
pub(crate) trait Engine: Sync {
    /// An empty place where one store can be made.
    fn place(&self) -> Place;

    /// Makes every message with this text one that cannot be written, through a connection of the test's own.
    fn forbid(&self, place: &Place, text: &str);

    /// Whether several processes may serve one store. Otherwise whoever opens it knows that no lease holds any more.
    fn is_shared(&self) -> bool;

    /// Makes the store in `place` look as if a later version of this program had changed its schema.
    fn age(&self, place: &Place);
}

/// Where one store is. Dropping it removes the store.
pub(crate) struct Place {
    /// Its URL, as configured.
    pub(crate) url: String,
    /// What must live as long as the place does.
    pub(crate) _hold: Box<dyn Any + Send + Sync>,
}

macro_rules! cases {
    ($engine:ident, $($group:ident: [$($case:ident),+ $(,)?];)+) => {
        $(mod $group {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                crate::conformance::$group::$case(&crate::conformance::$engine).await;
            })+
        })+
    };
}

macro_rules! conformance {
    ($name:ident, $engine:ident) => {
        mod $name {
            cases! { $engine,
                inbound: [
                    a_conversation_is_created_once,
                    a_repeat_is_stored_once,
                    a_hundred_repeats_at_once_are_stored_once,
                    a_repeat_within_one_webhook_is_stored_once,
                    a_repeat_is_recognised_after_a_restart,
                    a_repeat_with_another_time_is_a_conflict,
                    accounts_do_not_take_each_other_for_repeats,
                    what_cannot_be_understood_is_kept,
                    a_webhook_without_events_is_accounted_for,
                    a_name_changes_only_to_a_newer_one,
                    what_cannot_be_written_spoils_nothing_else,
                    every_subscriber_is_owed_what_it_wants,
                    nobody_is_owed_anything_without_subscribers,
                    events_are_listed_by_state_account_and_page,
                ];
                changes: [
                    an_edit_changes_the_text_once,
                    an_edit_before_its_message_stands,
                    the_newest_of_several_edits_stands,
                    an_unsend_leaves_nothing,
                    what_is_erased_is_not_replayed,
                    an_unsend_cancels_a_failing_head,
                    a_head_may_be_cancelled_while_it_is_attempted,
                    an_unsend_before_its_message_stands,
                    an_unsend_reaches_repeats,
                    an_unsend_reaches_quarantine,
                    accounts_do_not_change_each_other_s_messages,
                    cancelled_deliveries_are_removed_with_time,
                    only_what_was_said_is_erased,
                ];
                statuses: [
                    a_status_creates_and_then_only_advances,
                    any_order_of_statuses_ends_the_same,
                    an_sms_is_told_before_its_conversation_message,
                ];
                notices: [
                    only_who_asks_is_told_of_channel_events,
                    a_notice_without_a_conversation_has_a_lane_of_its_own,
                    a_notice_may_name_somebody_anew,
                ];
                remapping: [
                    what_can_be_understood_now_leaves_quarantine,
                    what_nobody_understands_stays,
                    a_webhook_may_be_understood_in_part,
                    another_record_is_repaired_once,
                    a_repair_does_not_move_a_message,
                    what_was_taken_back_or_is_nobody_s_is_skipped,
                ];
                lanes: [
                    sequences_have_no_gaps,
                    only_the_head_is_claimed,
                    a_leased_lane_is_not_claimed_again,
                    an_expired_lease_can_be_claimed_and_its_result_is_dropped,
                    a_released_lane_is_due_at_once,
                    a_retry_waits_for_its_time,
                    a_dead_letter_lets_the_lane_go_on,
                    an_extended_lease_goes_on_with_the_next,
                    without_order_everything_is_due_at_once,
                    one_conversation_does_not_hold_up_another,
                    as_many_lanes_as_wanted_and_no_more,
                    a_disabled_subscriber_gets_nothing_and_keeps_what_it_is_owed,
                    who_is_enabled_again_has_all_its_time,
                    a_removed_subscriber_keeps_what_it_is_owed,
                    order_may_change_between_two_starts,
                    work_is_hinted_at,
                ];
                handing: [
                    an_idle_lane_is_handed_over_and_no_other,
                    without_a_place_it_is_due_as_ever,
                    nobody_is_called_to_a_lane_at_work,
                    what_fails_takes_no_place,
                    what_is_taken_back_at_once_is_not_handed_over,
                    who_is_disabled_is_handed_nothing,
                ];
                replays: [
                    a_dead_letter_is_owed_again,
                    a_delivered_one_is_owed_again,
                    a_replay_does_not_hold_up_its_lane,
                    what_is_still_owed_or_unknown_is_said,
                    dead_letters_are_replayed_by_their_time,
                    a_replay_begins_a_new_round_of_attempts,
                ];
                upkeep: [
                    old_webhooks_and_finished_deliveries_are_removed,
                    dead_letters_do_not_keep_others_from_being_removed,
                    what_is_owed_does_not_keep_others_from_being_removed,
                    a_probe_commits,
                    deliveries_are_listed_by_state_subscriber_and_page,
                ];
                opening: [
                    nothing_is_read_where_nothing_is,
                    a_newer_schema_is_refused,
                    others_read_and_write_beside_the_one_that_serves,
                    others_keep_webhooks_beside_the_one_that_serves,
                    a_closed_store_says_so,
                    closing_waits_for_nobody,
                ];
                property: [any_order_of_events_delivers_each_once_and_in_order];
            }
        }
    };
}

conformance!(sqlite, Sqlite);
conformance!(postgres, Postgres);
