//! A model of the protocol between rooms, the log in Redis and its channel, explored exhaustively: every
//! order of steps, with lost messages of the channel, cut connections, failovers, deleted data and crashes.
//!
//! `room.rs` has the rules of `realtime-service/src/rooms/room/`, `state.rs` everything around them, and `cluster.rs`
//! the steps and the properties.
//! Each rule whose loss would break a promise can be left out, and then the exploration has to find that.

mod cluster;
mod room;
mod state;

use stateright::{Checker as _, HasDiscoveries, Model as _};

use cluster::{Faults, Model};
use room::Rule;

/// Explores every state and checks all properties.
fn explore(name: &str, model: Model) {
    let checker = model.checker().threads(2).spawn_bfs().join();
    println!(
        "{name}: {} states, at most {} steps",
        checker.unique_state_count(),
        checker.max_depth()
    );
    checker.assert_properties();
}

/// Explores until a promise is broken, which has to happen.
fn expect_violation(model: Model) {
    let rule = model.without;
    let checker = model.checker().threads(2);
    let checker = checker
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let path = checker.discovery(cluster::NO_BROKEN_PROMISE);
    let path = path.or_else(|| checker.discovery(cluster::COMPLETE_AT_REST));
    let path = path.unwrap_or_else(|| panic!("nobody needs {rule:?}"));
    println!("without {rule:?}: {:?}", path.into_actions());
}

#[test]
fn no_gap_is_silent_when_the_channel_loses_messages_and_connections_are_cut() {
    let faults = Faults {
        losses: 1,
        cuts: 2,
        ..Faults::default()
    };
    explore("losses and cuts", Model::new([2, 1], faults));
}

#[test]
fn no_gap_is_silent_after_a_failover() {
    let faults = Faults {
        losses: 1,
        failovers: 1,
        ..Faults::default()
    };
    explore("failover", Model::new([1, 1], faults));
}

#[test]
fn no_gap_is_silent_after_two_failovers() {
    let faults = Faults {
        failovers: 2,
        ..Faults::default()
    };
    explore("two failovers", Model::new([1, 0], faults));
}

#[test]
fn no_gap_is_silent_after_data_was_deleted() {
    let faults = Faults {
        flushes: 1,
        ..Faults::default()
    };
    explore("deleted data", Model::new([1, 1], faults));
}

#[test]
fn no_gap_is_silent_after_a_crash() {
    let faults = Faults {
        losses: 1,
        crashes: 1,
        ..Faults::default()
    };
    explore("crash", Model::new([1, 1], faults));
}

#[test]
fn no_gap_is_silent_after_a_crash_and_a_failover() {
    let faults = Faults {
        crashes: 1,
        failovers: 1,
        ..Faults::default()
    };
    explore("crash and failover", Model::new([1, 0], faults));
}

#[test]
fn a_log_that_keeps_nothing_tells_of_each_loss() {
    let faults = Faults {
        losses: 1,
        cuts: 1,
        ..Faults::default()
    };
    explore("no history", Model::new([2, 1], faults).without_history());
}

#[test]
fn each_rule_is_needed() {
    let none = Faults::default();
    let (losses, cuts, failovers, crashes) = (1, 1, 1, 1);
    for (rule, faults) in [
        (Rule::HoleCheck, Faults { losses, ..none }),
        (Rule::VerifyAfterConnecting, Faults { cuts, ..none }),
        (Rule::TellOfEpochs, Faults { failovers, ..none }),
        (Rule::HoldBack, Faults { crashes, ..none }),
        (
            Rule::Generations,
            Faults {
                crashes,
                failovers,
                ..none
            },
        ),
    ] {
        expect_violation(Model::new([2, 1], faults).without(rule));
    }
}
