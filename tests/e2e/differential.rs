//! The answers of the engine beside those of socketioxide: each packet in each state of a
//! session, over each transport, and packets in random order. Every difference is listed with its reason.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use harness::{Opening, Options, Polling, Stack, WebSocket};
use serde_json::{Value, json};

/// Time without a packet after which a case is over.
const SILENCE: Duration = Duration::from_secs(3);

/// Number of cases that are tried at a time.
const CASES_AT_ONCE: usize = 64;

/// Time that a client that has left waits before it goes on.
const PAUSE: Duration = Duration::from_millis(500);

/// Steps of a client before it sends the packets of a case.
const STATES: [&str; 3] = ["outside", "joined", "left"];

const TRANSPORTS: [&str; 2] = ["websocket", "polling"];

/// The packets of the cases; `TOKEN` stands for a token, and `<` before a text for bytes.
const PACKETS: &[&[&str]] = &[
    &["40"],
    &["40{\"token\":\"TOKEN\"}"],
    &["40{\"token\":\"x\"}"],
    &["40{"],
    &["40[]"],
    &["40/other,"],
    &["41"],
    &["41/other,"],
    &["42[\"rt:nothing\",{}]"],
    &["421[\"rt:nothing\",{}]"],
    &["421[\"rt:subscribe\",{\"room\":\"lobby\"}]"],
    &["421[\"rt:publish\",{\"room\":\"secret\",\"event\":\"a\",\"data\":1}]"],
    &["42/other,1[\"a\"]"],
    &["42"],
    &["42{}"],
    &["42[]"],
    &["42[1]"],
    &["42[\"a\""],
    &["421[\"a\"]x"],
    &["43"],
    &["431[]"],
    &["439007199254740993[]"],
    &["44{}"],
    &["45"],
    &[
        "451-[\"rt:publish\",{\"room\":\"secret\",\"event\":\"a\",\"data\":{\"_placeholder\":true,\"num\":0}}]",
        "<ab",
    ],
    &[
        "451-1[\"rt:nothing\",{\"_placeholder\":true,\"num\":0}]",
        "<ab",
    ],
    &[
        "451-1[\"rt:nothing\",{\"_placeholder\":true,\"num\":0}]",
        "421[\"rt:nothing\"]",
    ],
    &["450-1[\"rt:nothing\"]"],
    &["459-1[\"rt:nothing\"]", "<ab"],
    &["<ab"],
    &["461-[]", "<ab"],
    &["47"],
    &["4"],
    &["2"],
    &["2probe"],
    &["3"],
    &["3probe"],
    &["5"],
    &["6"],
    &["1"],
    &["7"],
    &["x"],
];

/// A stack whose clients are carried by `carrier`, and which is slow to close by itself.
async fn stack(carrier: &str) -> Stack {
    let options = Options::default()
        .gateway("carrier", carrier)
        .gateway("limits.unauthenticated_secs", 60)
        .gateway("limits.refusal_linger_ms", 60_000);
    Stack::start_with(options).await
}

/// A packet of a client that the two answer in different ways, and why.
struct Difference {
    reason: &'static str,
    applies: fn(&Case, &str) -> bool,
    /// Whether the engine closes the session, and socketioxide does not; or the other way around.
    closes: bool,
}

const DIFFERENCES: &[Difference] = &[
    Difference {
        reason: "Only clients of Engine.IO 3 ping. Node closes too.",
        applies: |_, packet| packet == "2",
        closes: true,
    },
    Difference {
        reason: "The packets of an upgrade have no place in a poll.",
        applies: |case, packet| {
            case.transport == "polling" && ["2probe", "3probe", "5"].contains(&packet)
        },
        closes: true,
    },
    Difference {
        reason: "A second CONNECT closes the transport, as in Node.",
        applies: |case, packet| case.state == "joined" && is_connect(packet),
        closes: true,
    },
    Difference {
        reason: "An event for a namespace that its client is not in closes the transport, as in Node.",
        applies: |case, packet| {
            packet.starts_with("42/other")
                || case.transport == "websocket" && case.state == "left" && is_event(packet)
        },
        closes: true,
    },
    Difference {
        reason: "Text behind the arguments of an event is refused.",
        applies: |case, packet| case.state == "joined" && packet.ends_with("]x"),
        closes: true,
    },
    Difference {
        reason: "An acknowledgement or a DISCONNECT of a client that is in no namespace changes nothing: it \
                 may have been on its way when the client left.",
        applies: |case, packet| {
            let is_answer = packet.starts_with("43") && packet.ends_with("[]");
            case.state != "joined" && (is_answer || packet == "41")
        },
        closes: false,
    },
    Difference {
        reason: "A noop is passed over, as in Node. By polling, socketioxide passes over what is behind it.",
        applies: |_, packet| packet == "6",
        closes: false,
    },
];

fn is_connect(packet: &str) -> bool {
    packet.starts_with("40") && !packet.starts_with("40/")
}

fn is_event(packet: &str) -> bool {
    packet.contains("[\"rt:") && !packet.starts_with("451") && !packet.starts_with("459")
}

/// The packets of a client, and the state in which it sends them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Case {
    transport: &'static str,
    state: &'static str,
    packets: Vec<&'static str>,
}

/// Each packet in each state.
fn each() -> Vec<Case> {
    let mut cases = Vec::new();
    for transport in TRANSPORTS {
        for state in STATES {
            for packets in PACKETS {
                let packets = packets.to_vec();
                cases.push(Case {
                    transport,
                    state,
                    packets,
                });
            }
        }
    }
    cases
}

/// Number of cases of packets in random order, and of the packets before the last one of each.
const RANDOM_CASES: u64 = 200;
const RANDOM_LENGTH: u64 = 4;

/// Packets in an order that `seed` determines, none of which is answered in different ways. All but the
/// last are `harmless`: socketioxide goes on for a moment after a packet that closes the session.
fn random(seed: u64, harmless: &[Case]) -> Vec<Case> {
    let case = |number: u64| {
        let pick = |place: u64, count: usize| {
            let mut hasher = DefaultHasher::new();
            (seed, number, place).hash(&mut hasher);
            (hasher.finish() % count as u64) as usize
        };
        let transport = TRANSPORTS[pick(0, TRANSPORTS.len())];
        let state = ["outside", "joined"][pick(1, 2)];
        let is_of = |case: &&Case| (case.transport, case.state) == (transport, state);
        let all: Vec<_> = each().into_iter().filter(is_alike).collect();
        let all: Vec<_> = all.iter().filter(is_of).collect();
        let harmless: Vec<_> = harmless.iter().filter(is_of).collect();
        let first = (1..=RANDOM_LENGTH).map(|place| harmless[pick(1 + place, harmless.len())]);
        let cases = first.chain([all[pick(0, all.len())]]);
        let packets = cases.flat_map(|case| case.packets.clone()).collect();
        Case {
            transport,
            state,
            packets,
        }
    };
    (0..RANDOM_CASES).map(case).collect()
}

/// Whether none of the packets is answered in different ways, alone or behind others.
fn is_alike(case: &Case) -> bool {
    let differs = |packet| DIFFERENCES.iter().any(|one| (one.applies)(case, packet));
    // Packets that wait for a client that closes its polling session still leave; socketioxide drops them.
    let is_close = case.transport == "polling" && case.packets == ["1"];
    !is_close && !case.packets.iter().any(|packet| differs(packet))
}

/// The answers of one carrier to `cases`.
async fn answers(carrier: &str, cases: &[Case]) -> BTreeMap<Case, Vec<String>> {
    let stack = stack(carrier).await;
    let answers = cases.iter().map(async |case| {
        let token = stack.forge().token();
        let packets = case.packets.iter();
        let packets: Vec<_> = packets.map(|one| one.replace("TOKEN", &token)).collect();
        let answer = match case.transport {
            "websocket" => over_websocket(&stack, &token, case.state, &packets).await,
            _ => over_polling(&stack, &token, case.state, &packets).await,
        };
        (case.clone(), answer)
    });
    // Each of them has its answers long before it gives up waiting.
    let answers = stream::iter(answers).buffer_unordered(CASES_AT_ONCE);
    answers.collect().await
}

/// The answers of the engine and of socketioxide that differ.
async fn differing(cases: &[Case]) -> Vec<(Case, [Vec<String>; 2])> {
    let (ours, mut theirs) = tokio::join!(answers("engine", cases), answers("socketioxide", cases));
    assert_eq!(ours.len(), theirs.len());
    let pairs = ours.into_iter().map(|(case, answer)| {
        let their_answer = theirs.remove(&case).expect("an answer");
        (case, [answer, their_answer])
    });
    pairs.filter(|(_, [one, other])| one != other).collect()
}

/// Whether both sessions are closed, and `theirs` lacks nothing of `ours` but some of the last answers:
/// socketioxide may close a session before it has written what waits, and the engine never does.
fn is_cut_short(theirs: &[String], ours: &[String]) -> bool {
    let before_close = |answers: &[String]| match answers {
        [before @ .., last] if last == "closed" => Some(before.to_vec()),
        _ => None,
    };
    match (before_close(theirs), before_close(ours)) {
        (Some(theirs), Some(ours)) => ours.starts_with(&theirs),
        _ => false,
    }
}

async fn over_websocket(
    stack: &Stack,
    token: &str,
    state: &str,
    packets: &[String],
) -> Vec<String> {
    let mut socket: WebSocket = Opening::of(stack).session().await;
    if state != "outside" {
        let admitted = socket.connect(&json!({ "token": token })).await;
        admitted.expect("a good token");
    }
    if state == "left" {
        socket.send("41").await;
        // socketioxide passes over a CONNECT that comes before it has put the socket away.
        assert_eq!(socket.next_within(PAUSE).await, None);
    }
    for packet in packets {
        match packet.strip_prefix('<') {
            Some(bytes) => socket.try_send_binary(bytes.as_bytes()).await,
            None => socket.try_send(packet.as_str()).await,
        }
    }
    let mut answers = Vec::new();
    while let Some(packet) = socket.next_within(SILENCE).await {
        let Some(packet) = packet else {
            answers.push("closed".to_owned());
            break;
        };
        answers.push(without_chance(&packet));
    }
    answers
}

async fn over_polling(stack: &Stack, token: &str, state: &str, packets: &[String]) -> Vec<String> {
    let mut session = Polling::of(stack).open().await.expect("a session");
    if state != "outside" {
        let packet = session.connect(&json!({ "token": token })).await;
        assert!(packet.starts_with("40"), "{packet}");
    }
    if state == "left" {
        session.post("41").await;
    }
    let body: Vec<_> = packets
        .iter()
        // `ab` in base64.
        .map(|packet| packet.replace("<ab", "bYWI="))
        .collect();
    // A violation is answered 400 by the engine, and 200 before it is looked at by socketioxide.
    session.post(body.join("\u{1e}")).await;
    let mut answers = Vec::new();
    while let Ok(packet) = tokio::time::timeout(SILENCE, session.packet()).await {
        let Some(packet) = packet else {
            answers.push("closed".to_owned());
            break;
        };
        answers.push(without_chance(&packet));
    }
    answers
}

/// A packet without what is different each time: numbers and long texts.
fn without_chance(packet: &str) -> String {
    let start = packet.find(['{', '[']).unwrap_or(packet.len());
    let (header, json) = packet.split_at(start);
    let Ok(mut value) = serde_json::from_str::<Value>(json) else {
        return packet.to_owned();
    };
    blank(&mut value);
    format!("{header}{value}")
}

fn blank(value: &mut Value) {
    match value {
        Value::Number(_) => *value = json!(0),
        Value::String(text) if text.len() >= 16 && !text.contains(' ') => *value = json!("…"),
        Value::Array(values) => values.iter_mut().for_each(blank),
        Value::Object(members) => members.values_mut().for_each(blank),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_answers_like_socketioxide_or_the_difference_is_listed() {
    let mut seen = vec![0; DIFFERENCES.len()];
    for (case, [ours, theirs]) in differing(&each()).await {
        let applies = |difference: &Difference| {
            (difference.applies)(&case, case.packets.last().expect("one"))
        };
        let known = DIFFERENCES.iter().position(applies);
        let known = known.unwrap_or_else(|| panic!("{case:?}: {ours:?}, they: {theirs:?}"));
        seen[known] += 1;
        let closes =
            [&ours, &theirs].map(|answers| answers.last().is_some_and(|last| last == "closed"));
        let expected = DIFFERENCES[known].closes;
        assert_eq!(
            closes,
            [expected, !expected],
            "{case:?}: {ours:?}, they: {theirs:?}"
        );
    }
    for (difference, seen) in DIFFERENCES.iter().zip(seen) {
        assert!(seen > 0, "no difference any more: {}", difference.reason);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_in_random_order_are_answered_alike() {
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).expect("randomness");
    let seed = u64::from_le_bytes(seed);
    let alone = answers("engine", &each()).await.into_iter();
    // CONNECT changes the state, and so what is alike.
    let harmless = alone.filter(|(case, answers)| {
        let stays = answers.last().is_none_or(|last| last != "closed");
        stays && is_alike(case) && !is_connect(case.packets[0]) && case.packets[0] != "41"
    });
    let harmless: Vec<_> = harmless.map(|(case, _)| case).collect();
    let mut differing = differing(&random(seed, &harmless)).await;
    let before = differing.len();
    differing.retain(|(_, [ours, theirs])| !is_cut_short(theirs, ours));
    let cut_short = before - differing.len();
    assert!(cut_short as u64 <= RANDOM_CASES / 10, "{cut_short}");
    assert!(differing.is_empty(), "seed {seed}: {differing:#?}");
}
