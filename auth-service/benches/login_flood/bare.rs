//! The yardstick: Argon2 and nothing else, with the parameters, the threads and the reused memory of
//! the service, but the system's allocator, as any program has it.

use std::{
    thread::{self, available_parallelism},
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use argon2::{Algorithm, Argon2, Block, Params, Version};

use crate::service::own_cpu;

/// Result of the loop.
pub(crate) struct BareLoop {
    hashes: u64,
    cpu: Duration,
    wall: Duration,
}

impl BareLoop {
    /// Hashes on one thread per core until `time` has passed.
    pub(crate) fn run(time: Duration) -> anyhow::Result<Self> {
        let (start, cpu_before) = (Instant::now(), own_cpu()?);
        let threads: Vec<_> = (0..available_parallelism()?.get())
            .map(|_| thread::spawn(move || hash_until(start + time)))
            .collect();
        let mut hashes = 0;
        for thread in threads {
            hashes += thread.join().ok().context("a loop panicked")??;
        }
        Ok(Self {
            hashes,
            cpu: own_cpu()?.saturating_sub(cpu_before),
            wall: start.elapsed(),
        })
    }

    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            hashes: self.hashes + other.hashes,
            cpu: self.cpu + other.cpu,
            wall: self.wall + other.wall,
        }
    }

    /// Rate of the machine.
    pub(crate) fn per_second(&self) -> f64 {
        self.hashes as f64 / self.wall.as_secs_f64()
    }

    /// Rate of one core.
    pub(crate) fn per_cpu_second(&self) -> f64 {
        self.hashes as f64 / self.cpu.as_secs_f64()
    }
}

fn hash_until(end: Instant) -> anyhow::Result<u64> {
    let cost = Params::default();
    let mut memory = vec![Block::new(); cost.block_count()];
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, cost);
    let (mut hashes, mut output) = (0, [0; 32]);
    while Instant::now() < end {
        argon2
            .hash_password_into_with_memory(b"password", &[7; 16], &mut output, &mut memory)
            .map_err(|error| anyhow!("{error}"))?;
        std::hint::black_box(&output);
        hashes += 1;
    }
    Ok(hashes)
}
