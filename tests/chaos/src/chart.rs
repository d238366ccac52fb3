//! The picture of a run as SVG: deliveries of each second, faults as marks, and the losses that were told.

use std::fmt::Write as _;

use crate::{ledger::Second, plan::Event};

const WIDTH: f64 = 1200.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
/// Top and height of the curve of deliveries.
const CURVE: (f64, f64) = (190.0, 260.0);
/// Top and height of the bars of told losses.
const BARS: (f64, f64) = (480.0, 80.0);
const HEIGHT: f64 = 600.0;

/// Draws a run of at least a second.
pub(crate) fn draw(title: &str, seconds: &[Second], events: &[Event]) -> String {
    let length = seconds.len().max(1) as f64;
    let x = |second: f64| LEFT + (WIDTH - LEFT - RIGHT) * second / length;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"16\">{title}</text>\n"
    );
    draw_faults(&mut svg, events, x);
    let deliveries: Vec<f64> = seconds.iter().map(|it| it.deliveries as f64).collect();
    let told: Vec<f64> = seconds.iter().map(|it| it.told as f64).collect();
    let (most, most_told) = (largest(&deliveries), largest(&told));
    let points = deliveries.iter().enumerate().map(|(second, value)| {
        let y = CURVE.0 + CURVE.1 * (1.0 - value / most);
        format!("{:.1},{y:.1}", x(second as f64 + 0.5))
    });
    let points = points.collect::<Vec<_>>().join(" ");
    let _ = writeln!(
        svg,
        "<polyline points=\"{points}\" fill=\"none\" stroke=\"#2b6cb0\" stroke-width=\"1.5\"/>"
    );
    for (second, value) in told.iter().enumerate().filter(|(_, value)| **value > 0.0) {
        let height = BARS.1 * value / most_told;
        let _ = writeln!(
            svg,
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\" fill=\"#b7791f\"/>",
            x(second as f64),
            BARS.0 + BARS.1 - height,
            (x(1.0) - x(0.0)).max(1.0),
        );
    }
    for ((top, height), most, label) in [
        (CURVE, most, "deliveries/s"),
        (BARS, most_told, "told losses/s"),
    ] {
        let _ = writeln!(
            svg,
            "<text x=\"{x}\" y=\"{}\" text-anchor=\"end\">{most}</text><text x=\"{LEFT}\" y=\"{}\">{label}</text>\
             <line x1=\"{LEFT}\" y1=\"{bottom}\" x2=\"{}\" y2=\"{bottom}\" stroke=\"#000\"/>",
            top + 10.0,
            top + height + 14.0,
            WIDTH - RIGHT,
            x = LEFT - 6.0,
            bottom = top + height,
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// Draws each fault as a band from its beginning to its end; `x` is the place of a second.
fn draw_faults(svg: &mut String, events: &[Event], x: impl Fn(f64) -> f64) {
    for event in events {
        let (start, end) = (
            event.at.as_secs_f64(),
            (event.at + event.length).as_secs_f64(),
        );
        let (left, width) = (x(start), (x(end) - x(start)).max(1.0));
        let (top, bottom) = (CURVE.0, BARS.0 + BARS.1);
        let _ = writeln!(
            svg,
            "<rect x=\"{left:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{}\" fill=\"#c53030\" opacity=\"0.15\"/>\
             <text transform=\"translate({:.1} {}) rotate(-60)\" font-size=\"9\">{}</text>",
            bottom - top,
            left + 3.0,
            top - 4.0,
            event.fault,
        );
    }
}

/// The largest value, and 1 at least.
fn largest(values: &[f64]) -> f64 {
    values.iter().copied().fold(1.0, f64::max)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::plan::{Fault, RedisFault};

    #[test]
    fn each_fault_has_a_mark_and_each_told_loss_a_bar() {
        let second = |deliveries, told| Second {
            deliveries,
            told,
            admitted: 0,
        };
        let events = [Event {
            at: Duration::from_secs(1),
            length: Duration::from_secs(1),
            fault: Fault::Redis(0, RedisFault::Kill),
        }];
        let svg = draw("run", &[second(10, 0), second(5, 4), second(0, 2)], &events);
        assert_eq!(svg.matches("#b7791f").count(), 2, "{svg}");
        assert!(
            svg.contains("Redis 0 killed") && svg.contains("<polyline"),
            "{svg}"
        );
        // The largest value is at the top, and none at the bottom.
        assert!(svg.contains(",190.0 ") && svg.contains(",450.0\""), "{svg}");
        assert!(!draw("empty", &[], &[]).contains("NaN"));
    }
}
