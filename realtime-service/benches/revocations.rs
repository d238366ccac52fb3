//! The time that a handshake takes to verify its token and to look for a revocation, with 1,000,000 of
//! them in force: while nothing else happens, and while 1,000,000 others lapse and the file is written
//! anew.
//!
//! Prints percentiles of both, and of the lookup alone. Exits with 1 when the 99th percentile of
//! verification and lookup is more than 1.2 times as long in the second case as in the first.

use std::{
    path::Path,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures_util::future::join_all;
use jsonwebtoken::{EncodingKey, Header};
use realtime_service::{auth::revocations::Revocations, config::RevocationSettings};
use serde_json::json;
use shared_claims::{
    VerifiedLogout, Verifier,
    claims::REALTIME_AUDIENCE,
    key_set::KeySet,
    secret::{SECRET_VARIABLE, Secrets},
    verify::{CLOCK_LEEWAY_SECS, LogoutScope},
};

/// As in the binary.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<mimalloc::MiMalloc> =
    zeroizing_alloc::ZeroAlloc(mimalloc::MiMalloc);

const SECRET: &str = "mZq3vX8pL1rT6wYc9sHd2kFg5jBn7uEa";
const ISSUER: &str = "http://issuer.example";

const COUNT: usize = 1_000_000;

/// How many tokens are verified, in turns; every other one is revoked.
const TOKENS: usize = 2_000;

/// The time between two handshakes.
const PAUSE: Duration = Duration::from_micros(20);

/// The time in which nothing else happens.
const QUIET: Duration = Duration::from_secs(5);

/// The time after which the revocations that lapse do so.
const LAPSE_AFTER_SECS: u64 = 30;

/// Maximum ratio of the two 99th percentiles.
const BOUND: f64 = 1.2;

fn main() -> anyhow::Result<ExitCode> {
    // An error means that a provider is there already.
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(measure())
}

async fn measure() -> anyhow::Result<ExitCode> {
    let directory = tempfile::tempdir()?;
    let settings = RevocationSettings {
        file: directory.path().join("revocations.jsonl"),
        entries: 3 * COUNT,
    };
    let revocations = Arc::new(Revocations::open(&settings)?);
    let begun = Instant::now();
    let now = SystemTime::now();
    // What is revoked again is one more line, and most of these lines are not needed once the others
    // have lapsed.
    for _ in 0..2 {
        write_all(&revocations, COUNT, now).await?;
    }
    let lapse_at = now_secs() + LAPSE_AFTER_SECS;
    let before = Duration::from_secs(lapse_at - CLOCK_LEEWAY_SECS);
    for number in 0..COUNT {
        let lapsing = logout(format!("lapsing-{number}"));
        drop(revocations.remember(&lapsing, (0, UNIX_EPOCH + before))?);
    }
    write_all(&revocations, COUNT / 10, now).await?;
    println!("prepared in {:.1?}", begun.elapsed());

    let tokens = Arc::new(tokens()?);
    let quiet = sample(&revocations, &tokens, async || {
        tokio::time::sleep(QUIET).await
    })
    .await?;
    let maintained = revocations.clone();
    let maintenance = tokio::spawn(async move { maintained.run_maintenance().await });
    let length = length_of(&settings.file)?;
    let left = lapse_at.saturating_sub(now_secs());
    tokio::time::sleep(Duration::from_secs(left)).await;
    let begun = Instant::now();
    let busy = sample(&revocations, &tokens, async || {
        while revocations.len() > COUNT || length_of(&settings.file).is_ok_and(|now| now == length)
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await?;
    println!("lapsed and written anew in {:.1?}", begun.elapsed());
    maintenance.abort();
    revocations.close().await;
    Ok(report(&quiet, &busy))
}

/// Remembers and writes `count` revocations that stay in force.
async fn write_all(revocations: &Revocations, count: usize, now: SystemTime) -> anyhow::Result<()> {
    for first in (0..count).step_by(1_000) {
        let some = (first..first + 1_000).map(async |number| {
            let lasting = logout(format!("lasting-{number}"));
            let pending = revocations.remember(&lasting, (24 * 60 * 60, now))?;
            revocations.write(pending).await
        });
        for written in join_all(some).await {
            written?;
        }
    }
    Ok(())
}

fn logout(sid: String) -> VerifiedLogout {
    VerifiedLogout {
        iss: ISSUER.to_owned(),
        iat: 0,
        scopes: vec![LogoutScope::Session(sid)],
        tokens_exp: None,
    }
}

/// The tokens of which every other one is revoked, and their verifier.
struct Tokens {
    tokens: Vec<String>,
    verifier: Verifier,
}

fn tokens() -> anyhow::Result<Tokens> {
    let secrets = Secrets::parse(SECRET_VARIABLE, SECRET, ',')?;
    let verifier = Verifier::new(ISSUER, REALTIME_AUDIENCE, KeySet::from_secrets(&secrets)?);
    let header = Header {
        typ: Some("at+jwt".to_owned()),
        kid: Some(secrets.signing().key_id()?),
        ..Header::default()
    };
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let now = now_secs();
    let tokens = (0..TOKENS).map(|number| {
        let name = ["lasting", "unknown"][number % 2];
        let claims = json!({
            "iss": ISSUER, "aud": REALTIME_AUDIENCE, "iat": now, "exp": now + 600, "jti": "bench",
            "sub": "alice", "client_id": "bench", "sid": format!("{name}-{}", number * 499),
        });
        jsonwebtoken::encode(&header, &claims, &key)
    });
    Ok(Tokens {
        tokens: tokens.collect::<Result<_, _>>()?,
        verifier,
    })
}

/// The times of one case, sorted.
#[derive(Default)]
struct Times {
    whole: Vec<Duration>,
    lookup: Vec<Duration>,
}

/// Verifies the tokens in turns, on a thread of its own, for as long as `meanwhile` takes.
async fn sample(
    revocations: &Arc<Revocations>,
    tokens: &Arc<Tokens>,
    meanwhile: impl AsyncFnOnce(),
) -> anyhow::Result<Times> {
    let is_done = Arc::new(AtomicBool::new(false));
    let (asked, tokens, stop) = (revocations.clone(), tokens.clone(), is_done.clone());
    let sampling = std::thread::spawn(move || {
        let mut times = Times::default();
        for (number, token) in tokens.tokens.iter().enumerate().cycle() {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let begun = Instant::now();
            let claims = tokens.verifier.verify(token, SystemTime::now());
            let claims = claims.expect("a good token");
            let verified = Instant::now();
            let is_revoked = asked.covers(&claims);
            times.lookup.push(verified.elapsed());
            times.whole.push(begun.elapsed());
            assert_eq!(is_revoked, number % 2 == 0);
            while begun.elapsed() < PAUSE {
                std::hint::spin_loop();
            }
        }
        times.whole.sort_unstable();
        times.lookup.sort_unstable();
        times
    });
    meanwhile().await;
    is_done.store(true, Ordering::Relaxed);
    sampling
        .join()
        .map_err(|_| anyhow::anyhow!("a token was judged wrongly"))
}

fn percentile(times: &[Duration], per_mille: usize) -> Duration {
    let index = (times.len() * per_mille / 1_000).min(times.len().saturating_sub(1));
    times.get(index).copied().unwrap_or_default()
}

fn report(quiet: &Times, busy: &Times) -> ExitCode {
    let mut ratio = 0.0;
    for (name, quiet, busy) in [
        ("lookup alone", &quiet.lookup, &busy.lookup),
        ("verification and lookup", &quiet.whole, &busy.whole),
    ] {
        println!("{name}:");
        for (name, times) in [("quiet", quiet), ("lapsing and rewriting", busy)] {
            println!(
                "  {name}: {} times, median {:.2?}, p99 {:.2?}, p99.9 {:.2?}, maximum {:.1?}",
                times.len(),
                percentile(times, 500),
                percentile(times, 990),
                percentile(times, 999),
                percentile(times, 1_000),
            );
        }
        ratio = percentile(busy, 990).as_secs_f64() / percentile(quiet, 990).as_secs_f64();
        println!("  ratio of p99: {ratio:.2}");
    }
    println!("bound on the last ratio: {BOUND}");
    match ratio <= BOUND {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn now_secs() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

fn length_of(path: &Path) -> anyhow::Result<u64> {
    Ok(std::fs::metadata(path)?.len())
}
