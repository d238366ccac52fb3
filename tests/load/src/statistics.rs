//! Percentiles of latencies, and medians of rounds.

/// Sub-buckets of each power of two: a value is exact to 1 in 64.
const SUB_BUCKETS: u64 = 64;
/// Buckets for values up to 2^40, more than a week in microseconds.
const BUCKETS: usize = 36 * SUB_BUCKETS as usize;

/// Counts of latencies in microseconds, exact to 1.6 %.
pub(crate) struct Histogram {
    counts: Vec<u64>,
    count: u64,
    maximum: u64,
}

impl Histogram {
    /// Creates an empty histogram.
    pub(crate) fn new() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            count: 0,
            maximum: 0,
        }
    }

    /// Counts one value.
    pub(crate) fn record(&mut self, value: u64) {
        let index = bucket(value).min(BUCKETS - 1);
        self.counts[index] += 1;
        self.count += 1;
        self.maximum = self.maximum.max(value);
    }

    /// Returns how many values were counted.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Returns the largest value.
    pub(crate) fn maximum(&self) -> u64 {
        self.maximum
    }

    /// Returns the smallest value that is not exceeded by the share `quantile` of all values.
    pub(crate) fn quantile(&self, quantile: f64) -> u64 {
        let rank = (quantile * self.count as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper_bound(index).min(self.maximum);
            }
        }
        self.maximum
    }
}

fn bucket(value: u64) -> usize {
    if value < SUB_BUCKETS {
        return value as usize;
    }
    let shift = value.ilog2() - SUB_BUCKETS.ilog2();
    (u64::from(shift) * SUB_BUCKETS + (value >> shift)) as usize
}

fn upper_bound(index: usize) -> u64 {
    let index = index as u64;
    if index < 2 * SUB_BUCKETS {
        return index;
    }
    let shift = index / SUB_BUCKETS - 1;
    let mantissa = index - shift * SUB_BUCKETS;
    ((mantissa + 1) << shift) - 1
}

/// Returns the median, the mean of the middle two for an even number of values, or `None` for none.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        count if count % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_and_their_bounds_agree() {
        for value in (0..5000).chain([65_535, 65_536, 1_000_000, u64::from(u32::MAX)]) {
            let bound = upper_bound(bucket(value));
            assert!(bound >= value, "{value} is above {bound}");
            assert!(bound - value <= value / 64, "{value} is far below {bound}");
        }
        assert_eq!(bucket(upper_bound(1000)), 1000);
        assert_eq!(bucket(upper_bound(1000) + 1), 1001);
    }

    #[test]
    fn percentiles_are_ranks() {
        let mut histogram = Histogram::new();
        (1..=1000).for_each(|value| histogram.record(value));
        let near = |quantile: f64, expected: u64| {
            let value = histogram.quantile(quantile);
            assert!(
                value.abs_diff(expected) <= expected / 60,
                "{quantile}: {value}"
            );
        };
        near(0.5, 500);
        near(0.99, 990);
        near(0.999, 999);
        assert_eq!(histogram.quantile(1.0), 1000);
        assert_eq!((histogram.count(), histogram.maximum()), (1000, 1000));
        assert_eq!(Histogram::new().quantile(0.5), 0);
    }

    #[test]
    fn a_median_is_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
