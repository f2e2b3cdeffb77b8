//! Parts that have no way in from outside; see `parts/`.

use soloist::parts::{pipeline, window};

use crate::schedules::explore;

#[test]
fn s5_s8_a_window_that_is_written_and_trimmed_has_no_hole_for_those_who_read_it() {
    explore("window", 3_000, || window::written_and_read(6, 2));
}

#[test]
fn all_that_the_pipeline_has_accepted_is_taken_once_and_in_order() {
    explore("pipeline", 3_000, pipeline::all_is_taken);
}

#[test]
fn a_pipeline_that_ends_while_work_sends_still_hands_out_what_it_has_accepted() {
    explore("pipeline that ends", 2_000, pipeline::closed_by_the_end);
}

#[test]
fn a_pipeline_that_is_fenced_while_work_sends_lets_everybody_go() {
    explore("pipeline that is fenced", 2_000, pipeline::closed_by_a_fence);
}
