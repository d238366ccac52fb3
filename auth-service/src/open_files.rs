//! Limit of the files that the process may have open: each connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit to the most that the system allows the process. Logs a warning when it does not.
pub(crate) fn raise_limit() {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: before.maximum,
        ..before
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(limit = before.current, %error, "the limit of open files cannot be raised");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_the_most_that_the_system_allows() {
        let before = getrlimit(Resource::Nofile);
        // Enough for the tests that run in the same process.
        let lower = Rlimit {
            current: Some(before.maximum.map_or(1024, |most| most.min(1024))),
            ..before
        };
        setrlimit(Resource::Nofile, lower).expect("lowered");
        raise_limit();
        let after = getrlimit(Resource::Nofile);
        assert_eq!(
            (after.current, after.maximum),
            (before.maximum, before.maximum)
        );
    }
}
