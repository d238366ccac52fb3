//! What a flood of logins costs the service, and what everybody else notices of it.
//!
//! `cargo bench -p auth-service --bench login_flood` measures how many passwords the machine can
//! verify, sends ten times as many logins for a minute, and exits with 1 when a bound is missed. All
//! of them have the right password: each that is accepted costs a hash, a session on the disk and a
//! token, and each that is refused was refused for want of a free thread. `LOGIN_FLOOD_SECS=5` makes
//! it a quick try.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context as _;

mod bare;
mod flood;
mod http;
mod probe;
mod service;

use bare::BareLoop;
use flood::Flooded;
use probe::Probed;
use service::Service;

/// How many times more logins come than passwords can be verified.
const FLOOD_FACTOR: f64 = 10.0;

/// Accepted logins per CPU-second of the service, as a share of the bare loop's hashes per
/// CPU-second: what is not hashing must not cost more than the rest.
const LEAST_SHARE: f64 = 0.90;

/// The memory of the service at its peak.
const MOST_MEMORY_MIB: f64 = 150.0;

/// The 99th percentile of what needs no password.
const MOST_LATENCY: Duration = Duration::from_millis(50);

fn main() -> anyhow::Result<ExitCode> {
    let secs = match std::env::var("LOGIN_FLOOD_SECS") {
        Ok(text) => text.parse().context("LOGIN_FLOOD_SECS is no number")?,
        Err(_) => 60,
    };
    let duration = Duration::from_secs(secs);
    let service = Service::start()?;
    // Half before and half after, so that what else the machine does tells on both sides.
    let before = BareLoop::run(duration / 6)?;
    let rate = before.per_second() * FLOOD_FACTOR;
    println!(
        "bare Argon2 loop: {:.0} hashes/s; sending {rate:.0} logins/s for {secs} s",
        before.per_second()
    );

    let token = probe::sign_in(service.address)?;
    let (service_before, own_before) = (service.cpu()?, service::own_cpu()?);
    let passwords_before = service.password_cpu()?;
    let start = Instant::now();
    let probing = {
        let (address, until) = (service.address, start + duration);
        std::thread::spawn(move || probe::run(address, token, until))
    };
    let flooded = flood::run(service.address, rate, start + duration)?;
    let probed = probing.join().ok().context("the probe panicked")??;
    let cost = Cost {
        wall: start.elapsed(),
        service: service.cpu()?.saturating_sub(service_before),
        passwords: service.password_cpu()?.saturating_sub(passwords_before),
        own: service::own_cpu()?.saturating_sub(own_before),
        peak_mib: service.peak_memory_mib()?,
    };
    let bare = before.and(BareLoop::run(duration / 6)?);

    let mut report = Report::default();
    report.flood(&flooded, rate, cost.wall);
    report.cost(&flooded, &cost, &bare);
    report.latencies(&flooded, &probed);
    println!("{} of {} bounds were kept", report.kept, report.bounds);
    Ok(ExitCode::from(u8::from(report.kept < report.bounds)))
}

/// What the flood took.
struct Cost {
    wall: Duration,
    service: Duration,
    /// The part of it that verified passwords.
    passwords: Duration,
    own: Duration,
    peak_mib: f64,
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

    fn flood(&mut self, flooded: &Flooded, rate: f64, wall: Duration) {
        let count = flooded.answers();
        let sent = count as f64 / wall.as_secs_f64();
        self.bound(
            sent >= 0.95 * rate,
            &format!("{count} logins, {sent:.0}/s: 95 % of the flood was sent, or more"),
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

    fn cost(&mut self, flooded: &Flooded, cost: &Cost, bare: &BareLoop) {
        let accepted = flooded.accepted.len() as f64;
        let per_cpu_second = accepted / cost.service.as_secs_f64();
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
            cost.peak_mib < MOST_MEMORY_MIB,
            &format!(
                "{:.1} MiB at the peak: below {MOST_MEMORY_MIB}",
                cost.peak_mib
            ),
        );
        let cores = |cpu: Duration| cpu.as_secs_f64() / cost.wall.as_secs_f64();
        println!(
            "       the service used {:.2} cores, {:.2} of them for passwords, \
             the load and the probes {:.2}",
            cores(cost.service),
            cores(cost.passwords),
            cores(cost.own)
        );
    }

    fn latencies(&mut self, flooded: &Flooded, probed: &Probed) {
        println!(
            "       accepted logins: {}",
            Percentiles::of(&flooded.accepted)
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

/// How long answers took.
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
