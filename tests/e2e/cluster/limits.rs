//! The limit of a subject's sockets is that of all gateways.

use harness::{Opening, Redis, eventually};
use serde_json::json;

use super::{options, pair};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs redis-server"]
async fn the_sockets_of_a_subject_count_on_whichever_gateway() {
    let redis = Redis::start().await;
    let options = options(&redis).gateway("limits.sockets_per_subject", 2);
    let (stack, other) = pair(options).await;
    let alice = stack.forge().claim("sub", "alice").token();
    let bob = stack.forge().claim("sub", "bob").token();
    let (here, there) = (Opening::of(&stack), Opening::of(&stack).at(other.address));
    let one = there.admitted(&alice).await;
    let two = there.admitted(&alice).await;
    // The other gateway tells of them within a second.
    eventually("a refusal", async || {
        let mut socket = here.session().await;
        let answer = socket.connect(&json!({ "token": alice })).await;
        answer.is_err_and(|error| error.0["data"]["reason"] == "too_many_sockets")
    })
    .await;
    let _bob = here.admitted(&bob).await;
    drop((one, two));
    eventually("a place again", async || {
        let mut socket = here.session().await;
        socket.connect(&json!({ "token": alice })).await.is_ok()
    })
    .await;
}
