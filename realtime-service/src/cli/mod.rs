//! The commands that answer a question: yes, no, or why it cannot be asked.

mod explain;
mod policy_test;

pub use self::{
    explain::{ExplainArguments, explain},
    policy_test::test_policy,
};
