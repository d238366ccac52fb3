//! Cost of a flood of logins to the service, and to everybody else.
//!
//! `cargo bench -p auth-service --bench login_flood` measures how many passwords the machine can
//! verify, sends ten times as many logins for a minute in all, and exits with 1 when a bound is
//! missed. All of them have the right password: each that is accepted costs a hash, a session on the
//! disk and a token, and each that is refused was refused for want of a free thread.
//! `LOGIN_FLOOD_SECS=5` makes it a quick try.
//!
//! Then it measures logins beside 2,000 refresh tokens a second that nobody has, and how long clean-up
//! keeps the one writer of SQLite.

use std::{
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;

mod bare;
mod cleanup;
mod disk;
mod flood;
mod garbage;
mod http;
mod probe;
mod service;

use bare::BareLoop;
use flood::{Flood, Flooded};
use probe::{Probe, Probed};
use service::Service;

/// Factor by which more logins come than passwords can be verified.
const FLOOD_FACTOR: f64 = 10.0;

/// Accepted logins per CPU-second of the service, as a share of the bare loop's hashes per
/// CPU-second: what is not hashing must not cost more than the rest.
const LEAST_SHARE: f64 = 0.90;

/// The memory of the service at its peak.
const MOST_MEMORY_MIB: f64 = 150.0;

/// The 99th percentile of what needs no password.
const MOST_LATENCY: Duration = Duration::from_millis(50);

/// The 99th percentile of logins beside garbage refreshes, as a multiple of that without them.
const MOST_SLOWDOWN: f64 = 1.5;

/// The longest time that clean-up keeps SQLite's writer.
const MOST_CLEANUP: Duration = Duration::from_millis(50);

/// Time of the flood in one part. Between two such parts, and before the first, it is measured
/// what the machine can do: another minute it may be twice as fast, or half.
const PART: Duration = Duration::from_secs(5);

/// Time of that measurement; the flood's connections are kept open for longer.
const BARE_PART: Duration = Duration::from_millis(1_500);

fn main() -> anyhow::Result<ExitCode> {
    let secs: f64 = match std::env::var("LOGIN_FLOOD_SECS") {
        Ok(text) => text.parse().context("LOGIN_FLOOD_SECS is no number")?,
        Err(_) => 60.0,
    };
    let parts = (secs / PART.as_secs_f64()).ceil().max(1.0) as u32;
    println!("logins for {parts} times {PART:?}, {FLOOD_FACTOR} times as many as can be verified");
    let service = Service::start()?;
    let mut bare = BareLoop::run(BARE_PART)?;
    let mut rate = bare.per_second() * FLOOD_FACTOR;
    let mut flood = Flood::open(service.address)?;
    let mut probe = Probe::sign_in(service.address)?;
    let mut total = Total::default();
    for _ in 0..parts {
        total.add_part(&service, &mut flood, &mut probe, rate)?;
        let after = BareLoop::run(BARE_PART)?;
        rate = after.per_second() * FLOOD_FACTOR;
        bare = bare.and(after);
    }

    let mut report = Report::default();
    report.flood(&total);
    report.cost(&total, &bare, service.peak_memory_mib()?);
    report.latencies(&total);
    report.garbage(&garbage::measure(service.address)?);
    report.cleanup(&cleanup::measure()?);
    println!("{} of {} bounds were kept", report.kept, report.bounds);
    Ok(ExitCode::from(u8::from(report.kept < report.bounds)))
}

/// Result of the flood, and its cost.
#[derive(Default)]
struct Total {
    flooded: Flooded,
    probed: Probed,
    /// Times that the disk took to sync a block.
    syncs: Vec<Duration>,
    /// Number of logins that were due.
    due: f64,
    wall: Duration,
    service: Duration,
    /// The part of it that verified passwords.
    passwords: Duration,
    own: Duration,
}

impl Total {
    /// Sends `rate` logins a second for a while, and watches.
    fn add_part(
        &mut self,
        service: &Service,
        flood: &mut Flood,
        probe: &mut Probe,
        rate: f64,
    ) -> anyhow::Result<()> {
        let before = (service.cpu()?, service.password_cpu()?, service::own_cpu()?);
        let start = Instant::now();
        let until = start + PART;
        let (probed, syncs) = (&mut self.probed, &mut self.syncs);
        let flooded = thread::scope(|scope| {
            let probing = scope.spawn(|| probe.run(probed, until));
            let syncing = scope.spawn(|| disk::sync_until(service.directory(), until, syncs));
            let flooded = flood.run(rate, until)?;
            probing.join().ok().context("the probe panicked")??;
            syncing.join().ok().context("the disk's probe panicked")??;
            anyhow::Ok(flooded)
        })?;
        self.flooded.add(flooded);
        self.due += rate * PART.as_secs_f64();
        self.wall += start.elapsed();
        self.service += service.cpu()?.saturating_sub(before.0);
        self.passwords += service.password_cpu()?.saturating_sub(before.1);
        self.own += service::own_cpu()?.saturating_sub(before.2);
        Ok(())
    }
}

/// Prints what was measured, and counts the bounds that were kept.
#[derive(Default)]
struct Report {
    bounds: u32,
    kept: u32,
}

impl Report {
    fn bound(&mut self, is_kept: bool, text: &str) {
        self.bounds += 1;
        self.kept += u32::from(is_kept);
        println!("{} {text}", if is_kept { "  ok  " } else { "MISSED" });
    }

    fn flood(&mut self, Total { flooded, due, .. }: &Total) {
        let count = flooded.answers();
        self.bound(
            count as f64 >= 0.95 * due,
            &format!("{count} logins of {due:.0} that were due were sent: 95 % or more"),
        );
        let refused = flooded.refused;
        self.bound(
            flooded.without_retry_after == 0,
            &format!(
                "{refused} refused, {} of them without Retry-After: none is",
                flooded.without_retry_after
            ),
        );
        self.bound(
            flooded.unexpected == 0,
            &format!(
                "{} neither accepted nor refused with 429 or 503: none is",
                flooded.unexpected
            ),
        );
    }

    fn cost(&mut self, total: &Total, bare: &BareLoop, peak_mib: f64) {
        let accepted = total.flooded.accepted.len() as f64;
        let per_cpu_second = accepted / total.service.as_secs_f64();
        let share = per_cpu_second / bare.per_cpu_second();
        self.bound(
            share >= LEAST_SHARE,
            &format!(
                "{accepted} accepted, {per_cpu_second:.1} per CPU-second of the service, \
                 {share:.3} of the bare loop's {:.1}: {LEAST_SHARE} or more",
                bare.per_cpu_second()
            ),
        );
        self.bound(
            peak_mib < MOST_MEMORY_MIB,
            &format!("{peak_mib:.1} MiB at the peak: below {MOST_MEMORY_MIB}"),
        );
        let cores = |cpu: Duration| cpu.as_secs_f64() / total.wall.as_secs_f64();
        println!(
            "       the service used {:.2} cores, {:.2} of them for passwords, \
             the load and the probes {:.2}",
            cores(total.service),
            cores(total.passwords),
            cores(total.own)
        );
    }

    fn latencies(
        &mut self,
        Total {
            flooded,
            probed,
            syncs,
            ..
        }: &Total,
    ) {
        println!(
            "       accepted logins: {}",
            Percentiles::of(&flooded.accepted)
        );
        println!(
            "       the disk alone, which each commit waits for: {}",
            Percentiles::of(syncs)
        );
        for (name, latencies) in [
            ("/token/refresh", &probed.refreshes),
            ("/.well-known/jwks.json", &probed.key_sets),
        ] {
            let percentiles = Percentiles::of(latencies);
            self.bound(
                percentiles.p99 <= MOST_LATENCY,
                &format!("{name}: {percentiles}: p99 at most {MOST_LATENCY:?}"),
            );
        }
    }
}

impl Report {
    fn garbage(&mut self, measured: &garbage::Measured) {
        let alone = Percentiles::of(&measured.alone);
        let beside = Percentiles::of(&measured.beside);
        println!("       logins without garbage: {alone}");
        let (garbage, due) = (measured.garbage, measured.due);
        self.bound(
            garbage as f64 >= 0.95 * due as f64,
            &format!("{garbage} garbage refreshes of {due} that were due: 95 % or more"),
        );
        self.bound(
            beside.p99.as_secs_f64() <= MOST_SLOWDOWN * alone.p99.as_secs_f64(),
            &format!("logins beside garbage: {beside}: p99 at most {MOST_SLOWDOWN} times as long"),
        );
    }

    fn cleanup(&mut self, latencies: &[Duration]) {
        let percentiles = Percentiles::of(latencies);
        self.bound(
            percentiles.most <= MOST_CLEANUP,
            &format!("clean-up transactions: {percentiles}: at most {MOST_CLEANUP:?}"),
        );
    }
}

/// Times of answers.
struct Percentiles {
    count: usize,
    p50: Duration,
    p99: Duration,
    most: Duration,
}

impl Percentiles {
    /// Of no answer at all, they are as bad as can be.
    fn of(latencies: &[Duration]) -> Self {
        let mut sorted = latencies.to_vec();
        sorted.sort_unstable();
        let at = |share: f64| {
            let place = (sorted.len() as f64 * share) as usize;
            sorted.get(place).copied().unwrap_or(Duration::MAX)
        };
        Self {
            count: sorted.len(),
            p50: at(0.50),
            p99: at(0.99),
            most: sorted.last().copied().unwrap_or(Duration::MAX),
        }
    }
}

impl std::fmt::Display for Percentiles {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        write!(
            formatter,
            "{} answers, p50 {:.1} ms, p99 {:.1} ms, the slowest {:.1} ms",
            self.count,
            ms(self.p50),
            ms(self.p99),
            ms(self.most)
        )
    }
}
