#![allow(clippy::unwrap_used)]
use super::*;

/// `make simulate` plays many more.
#[test]
fn two_thousand_seeds_pass() {
    let failure = run_seeds(0..2000).failure;
    assert!(
        failure.is_none(),
        "{failure:?}: `simulate --seed N` shows the smallest scenario that fails alike"
    );
}

#[test]
fn a_seed_tells_the_same_story_every_time() {
    for seed in [3, 33, 333] {
        let scenario = Scenario::random(seed);
        let story = run(&scenario, Story::told()).story;
        assert!(!story.is_empty());
        assert_eq!(run(&scenario, Story::told()).story, story);
    }
}

/// Router 1 follows intervals of up to 100 ms, so that router 2 falls silent for it again and again.
const TOO_FAR_APART: &str = "
    seed 1
    lan ipv4 multicast plain
    weather loss 0 duplicates 0 delay 0.0001s 0.0002s
    lateness 0.0001s
    router 1 priority 100 interval 0.01s version 3 preempts after 0s
    router 2 priority 200 interval 1s version 3 preempts after 0s
    router 3 priority 50 interval 1s version 3 preempts after 0s
    at 0s router 1 start
    at 0s router 2 start
    at 0s router 2 ready
    at 0.05s router 3 start
    at 1s router 3 priority 40
    at 2s weather loss 100 duplicates 0 delay 0.0001s 0.01s
    at 3s weather loss 0 duplicates 0 delay 0.0001s 0.0002s
    at 4s router 3 stop
    until 100s";

#[test]
fn a_violation_is_found_made_small_and_replayed() {
    let scenario: Scenario = TOO_FAR_APART.parse().unwrap();
    let (small, violation) = shrink(&scenario).unwrap();
    assert_eq!(violation.invariant, Invariant::NotTooEarly);
    assert_eq!(small.routers.len(), 2);
    assert!(small.steps.len() <= 3, "{small}");
    let again: Scenario = small.to_string().parse().unwrap();
    assert_eq!(run(&again, Story::default()).violation, Some(violation));
}

/// `simulate --check-table` compares all rows.
#[test]
fn the_documentation_has_the_table_as_it_is() {
    let documentation = include_str!("../../../docs/simulation.md");
    for row in Table::sample().rows() {
        assert!(documentation.lines().any(|line| line == row), "{row}");
    }
}
