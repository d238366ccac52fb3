//! Whether the time that a refused login takes, or anything else that one sees of it, tells why it
//! was refused.

use std::{
    collections::HashSet,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use crate::fixture::{PASSWORD, Service};

/// The samples of each reason in one measurement.
pub(crate) const SAMPLES: usize = 500;

/// Number of measurements before a difference is believed. Of two times that are alike, chance
/// alone makes one measurement in a hundred say that they differ, and there are six pairs: one
/// measurement in twenty would be a false alarm. Three in a row are one in some thousands, while a
/// reason that does take another time does so in all three.
pub(crate) const MEASUREMENTS: usize = 3;

/// The score of Mann and Whitney that chance exceeds, to either side, once in a hundred times.
pub(crate) const CRITICAL_SCORE: f64 = 2.576;

/// Of every so many rounds, one has a login that is accepted: the test has to see that difference.
const ROUNDS_PER_CONTROL: usize = 5;

/// Names that are shut for strangers while it is measured.
const SHUT_NAMES: usize = 20;

/// The first of the numbers in names: all of them have as many digits.
const FIRST_NUMBER: usize = 1000;

/// Outcome of a login. Accounts that are disabled or shut are tried with the right password,
/// which must not show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Unknown,
    Wrong,
    Disabled,
    Locked,
    Accepted,
}

const REFUSED: [Outcome; 4] = [
    Outcome::Unknown,
    Outcome::Wrong,
    Outcome::Disabled,
    Outcome::Locked,
];

impl Outcome {
    /// The login for the sample with this number, over all measurements.
    fn request(self, number: usize) -> Vec<u8> {
        let (name, number, password) = match self {
            Self::Unknown => ("unknown", number, PASSWORD),
            Self::Wrong => ("present", number, "open barley"),
            Self::Disabled => ("stopped", number, PASSWORD),
            Self::Locked => ("guarded", number % SHUT_NAMES, PASSWORD),
            Self::Accepted => ("welcome", number, PASSWORD),
        };
        login(&format!("{name}-{}", FIRST_NUMBER + number), password)
    }
}

fn login(username: &str, password: &str) -> Vec<u8> {
    let body = format!(
        "username={username}&password={}",
        password.replace(' ', "+")
    );
    format!(
        "POST /login HTTP/1.1\r\nhost: a\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A service with all the accounts, and one failed login for each name that is to be shut.
async fn service() -> Service {
    let service = Service::start_with(|settings| {
        settings.limits.logins_per_name = 1;
        settings.limits.logins_per_address = 1_000_000;
        // The less a hash takes, the more shows of what else is done.
        settings.password.memory_kib = 8 * 1024;
        settings.password.passes = 1;
    })
    .await;
    service.add_user("a-model").await;
    for (name, disabled_at) in [
        ("present", "null"),
        ("stopped", "created_at"),
        ("guarded", "null"),
        ("welcome", "null"),
    ] {
        let statement = format!(
            "insert into users (id, username, skeleton, password_hash, name, email, created_at, \
                                disabled_at) \
             with recursive numbers (number) as \
                 (select {FIRST_NUMBER} union all \
                  select number + 1 from numbers where number < {}) \
             select '{name}-' || number, '{name}-' || number, '{name}-' || number, \
                    password_hash, name, email, created_at, {disabled_at} \
             from users, numbers where username = 'a-model'",
            FIRST_NUMBER + SAMPLES * MEASUREMENTS
        );
        service.execute(&statement).await;
    }
    for number in 0..SHUT_NAMES {
        let name = format!("guarded-{}", FIRST_NUMBER + number);
        service.post_login(&name, "open barley").await;
    }
    service
}

/// Sends a login, and returns how long the answer took, and all of it but the date.
fn ask(stream: &mut TcpStream, request: &[u8]) -> (Duration, String) {
    let start = Instant::now();
    stream.write_all(request).expect("sent");
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut buffer).expect("an answer");
        assert!(read > 0, "the connection was closed");
        bytes.extend_from_slice(&buffer[..read]);
        // Every answer to a login is one JSON object.
        if bytes.ends_with(b"}") {
            break;
        }
    }
    let took = start.elapsed();
    let answer = String::from_utf8(bytes).expect("text");
    let lines = answer.lines().filter(|line| !line.starts_with("date: "));
    (took, lines.collect::<Vec<_>>().join("\n"))
}

/// The times of one measurement.
#[derive(Default)]
struct Times {
    refused: [Vec<Duration>; REFUSED.len()],
    accepted: Vec<Duration>,
}

impl Times {
    /// Tries all reasons in turn, each round in another order, so that neither what the machine does
    /// meanwhile nor the login before tells on one of them alone.
    fn measure(address: SocketAddr, measurement: usize) -> Self {
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.set_nodelay(true).expect("an option");
        let mut times = Self::default();
        let mut answers = HashSet::new();
        for sample in 0..SAMPLES {
            let number = measurement * SAMPLES + sample;
            for outcome in in_random_order(REFUSED) {
                let (took, answer) = ask(&mut stream, &outcome.request(number));
                times.refused[outcome as usize].push(took);
                answers.insert(answer);
            }
            if sample % ROUNDS_PER_CONTROL == 0 {
                let (took, answer) = ask(&mut stream, &Outcome::Accepted.request(number));
                assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
                times.accepted.push(took);
            }
        }
        assert_eq!(answers.len(), 1, "{answers:?}");
        let refusal = answers.iter().next().expect("an answer");
        assert!(refusal.starts_with("HTTP/1.1 401 "), "{refusal}");
        times
    }

    /// The pairs of reasons that can be told apart, with their scores.
    fn differences(&self) -> Vec<(Outcome, Outcome, f64)> {
        let pairs = REFUSED
            .iter()
            .flat_map(|one| REFUSED.iter().map(move |other| (*one, *other)));
        pairs
            .filter(|(one, other)| (*one as usize) < *other as usize)
            .map(|(one, other)| {
                let (first, second) = (one as usize, other as usize);
                let score = mann_whitney(&self.refused[first], &self.refused[second]);
                (one, other, score)
            })
            .filter(|(_, _, score)| score.abs() > CRITICAL_SCORE)
            .collect()
    }
}

pub(crate) fn in_random_order<T, const N: usize>(mut outcomes: [T; N]) -> [T; N] {
    outcomes.sort_by_cached_key(|_| {
        let mut key = [0; 8];
        getrandom::fill(&mut key).expect("randomness");
        key
    });
    outcomes
}

/// Distance of the times of one sample below those of another, in standard deviations of what chance
/// does: the U test of Mann and Whitney in its normal approximation, with the correction for ties.
pub(crate) fn mann_whitney(first: &[Duration], second: &[Duration]) -> f64 {
    let mut all: Vec<(Duration, bool)> = first.iter().map(|time| (*time, true)).collect();
    all.extend(second.iter().map(|time| (*time, false)));
    all.sort_unstable();
    let (mut rank_sum, mut ties, mut below) = (0.0, 0.0, 0.0);
    for equal in all.chunk_by(|one, other| one.0 == other.0) {
        let count = equal.len() as f64;
        let of_first = equal.iter().filter(|(_, is_first)| *is_first).count();
        // Equal times share the mean of their ranks, which count from one.
        rank_sum += of_first as f64 * (below + (count + 1.0) / 2.0);
        ties += count.powi(3) - count;
        below += count;
    }
    let (n, m) = (first.len() as f64, second.len() as f64);
    let total = n + m;
    let u = rank_sum - n * (n + 1.0) / 2.0;
    let variance = n * m / 12.0 * ((total + 1.0) - ties / (total * (total - 1.0)));
    (u - n * m / 2.0) / variance.sqrt()
}

#[tokio::test]
async fn unknown_wrong_disabled_and_locked_take_the_same_time_and_look_the_same() {
    let service = service().await;
    let address = service.address;
    let mut found = Vec::new();
    for measurement in 0..MEASUREMENTS {
        let measuring = move || Times::measure(address, measurement);
        let times = tokio::task::spawn_blocking(measuring).await;
        let times = times.expect("no panic");
        let control = mann_whitney(&times.refused[Outcome::Wrong as usize], &times.accepted);
        assert!(control < -CRITICAL_SCORE, "nothing is measured: {control}");
        let differences = times.differences();
        if differences.is_empty() {
            return;
        }
        found.push(differences);
    }
    panic!("the time tells why a login is refused: {found:?}");
}

#[test]
fn the_score_is_that_of_the_books() {
    let ms = |times: &[u64]| -> Vec<Duration> {
        times.iter().copied().map(Duration::from_millis).collect()
    };
    let score = |first: &[u64], second: &[u64]| {
        let score = mann_whitney(&ms(first), &ms(second));
        (score * 1000.0).round() / 1000.0
    };
    assert_eq!(score(&[1, 2, 3, 4, 5], &[1, 2, 3, 4, 5]), 0.0);
    assert_eq!(score(&[1, 2, 3, 4, 5], &[6, 7, 8, 9, 10]), -2.611);
    assert_eq!(score(&[6, 7, 8, 9, 10], &[1, 2, 3, 4, 5]), 2.611);
    // With ties: U is 6.5, and its mean 15.
    assert_eq!(score(&[1, 2, 2, 3, 5], &[2, 3, 4, 5, 5, 6]), -1.585);
}
