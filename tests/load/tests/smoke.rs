//! Small loads against bare socketioxide in this process.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;

use serde_json::Value;
use tempfile::TempDir;

/// Starts bare socketioxide on a thread of its own, which ends with this process.
fn start_server() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime
            .expect("a runtime")
            .block_on(load::bare::serve(listener))
    });
    address
}

/// Runs one mode with options, and returns its result.
fn measure(mode: &str, address: SocketAddr, options: &[&str]) -> Value {
    let folder = TempDir::new().expect("a temporary folder");
    let output = folder.path().join("result.json");
    let (address, pid) = (address.to_string(), std::process::id().to_string());
    let mut arguments = vec!["load", mode, "--address", &address, "--credential", "none"];
    arguments.extend(["--pid", &pid, "--format", "json", "--output"]);
    arguments.push(output.to_str().expect("a path that is text"));
    arguments.extend(options);
    let is_success = load::command::run(arguments.iter().map(Into::into)).expect("a measurement");
    let text = fs::read_to_string(&output).expect("the result");
    assert!(is_success, "{text}");
    serde_json::from_str(&text).expect("a result that is JSON")
}

#[test]
fn messages_are_published_and_counted() {
    let options = [
        "--connections",
        "8",
        "--duration-ms",
        "300",
        "--warm-up-ms",
        "50",
    ];
    let result = measure("publish", start_server(), &options);
    assert!(
        result["operations"]
            .as_f64()
            .is_some_and(|count| count >= 8.0),
        "{result}"
    );
    assert!(
        result["server_cpu_us_per_operation"]
            .as_f64()
            .is_some_and(|cpu| cpu > 0.0),
        "{result}"
    );
    assert!(
        result["p50_ms"]
            .as_f64()
            .is_some_and(|latency| latency > 0.0),
        "{result}"
    );
}

#[test]
fn a_room_receives_by_every_transport() {
    let address = start_server();
    for transport in ["websocket", "upgrade", "polling"] {
        let options = [
            "--connections",
            "10",
            "--window",
            "2",
            "--transport",
            transport,
        ];
        let times = ["--duration-ms", "200", "--warm-up-ms", "50"];
        let result = measure("fan-out", address, &[&options[..], &times].concat());
        let count = result["operations"].as_f64();
        assert!(
            count.is_some_and(|count| count >= 10.0),
            "{transport}: {result}"
        );
    }
}

#[test]
fn all_clients_come_back_after_a_cut() {
    let result = measure("reconnect", start_server(), &["--connections", "20"]);
    assert_eq!(
        (&result["back"], &result["refused"]),
        (&20.0.into(), &0.0.into()),
        "{result}"
    );
}

#[test]
fn a_burst_is_delivered_whole() {
    let options = [
        "--connections",
        "5",
        "--bytes",
        "200000",
        "--settle-secs",
        "1",
    ];
    let result = measure("burst", start_server(), &options);
    assert_eq!(result["deliveries"], 5.0, "{result}");
}
