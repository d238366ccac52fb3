//! The names under which metrics are shown.

use std::time::Duration;

use super::*;
use crate::config::Limits;

#[test]
fn what_is_counted_is_shown_under_its_name() {
    let (metrics, quotas) = (Metrics::new(), Quotas::new(&Limits::default()));
    let _permit = quotas.connections.acquire(None).expect("a place");
    metrics.connection_accepted();
    metrics.origin_refused();
    metrics.session_opened();
    metrics.session_closed(Cause::Expired);
    metrics.socket_admitted();
    metrics.token_renewed();
    metrics.refusal(Rejection::TokenExpired);
    metrics.limited(Limit::EventsPerSec);
    metrics.event("rt:publish", "ok");
    metrics.message_published();
    metrics.message_delivered(3);
    metrics.key_fetch(FetchOutcome::Failed);
    let shop = metrics.back_end("shop");
    shop.called("backend_timeout", Duration::from_millis(20));
    shop.decided("allowed", false);
    shop.set_open(true);
    shop.set_queue(3, 2, 1);
    let _request = shop.begin();
    metrics.cluster_connected(true);
    metrics.cluster_connection();
    metrics.cluster_request(ClusterOutcome::Refused);
    metrics.cluster_epoch();
    let text = metrics.render(&quotas).expect("text");
    for line in [
        "latchkey_realtime_connections 1",
        "latchkey_realtime_connections_accepted_total 1",
        "latchkey_realtime_origins_refused_total 1",
        "latchkey_realtime_sessions 0",
        "latchkey_realtime_sessions_opened_total 1",
        r#"latchkey_realtime_sessions_closed_total{cause="expired"} 1"#,
        "latchkey_realtime_sockets 0",
        "latchkey_realtime_sockets_admitted_total 1",
        "latchkey_realtime_tokens_renewed_total 1",
        r#"latchkey_realtime_refusals_total{reason="token_expired"} 1"#,
        r#"latchkey_realtime_limited_total{limit="events_per_sec"} 1"#,
        r#"latchkey_realtime_events_total{event="rt:publish",outcome="ok"} 1"#,
        "latchkey_realtime_messages_published_total 1",
        "latchkey_realtime_messages_delivered_total 3",
        r#"latchkey_realtime_key_fetches_total{outcome="failed"} 1"#,
        r#"latchkey_realtime_backend_calls_total{backend="shop",outcome="backend_timeout"} 1"#,
        r#"latchkey_realtime_backend_call_seconds_bucket{le="0.025",backend="shop"} 1"#,
        r#"latchkey_realtime_backend_decisions_total{backend="shop",outcome="allowed",source="kept"} 1"#,
        r#"latchkey_realtime_backend_calls_under_way{backend="shop"} 1"#,
        r#"latchkey_realtime_backend_circuit_open{backend="shop"} 1"#,
        r#"latchkey_realtime_webhooks_queued{backend="shop"} 3"#,
        r#"latchkey_realtime_webhooks_dead{backend="shop"} 2"#,
        r#"latchkey_realtime_webhooks_oldest_seconds{backend="shop"} 1"#,
        "latchkey_realtime_cluster_connected 1",
        "latchkey_realtime_cluster_connections_total 1",
        r#"latchkey_realtime_cluster_requests_total{outcome="refused"} 1"#,
        "latchkey_realtime_cluster_epochs_total 1",
        "# EOF",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
    }
}
