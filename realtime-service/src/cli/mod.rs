//! The commands that answer a question: yes, no, or why it cannot be asked.

mod check_online;
mod explain;
mod policy_test;
mod token_file;
mod webhooks;

pub use self::webhooks::{WebhookCommand, webhooks};
pub use self::{
    check_online::{CheckArguments, check_online},
    explain::{ExplainArguments, explain},
    policy_test::test_policy,
};
