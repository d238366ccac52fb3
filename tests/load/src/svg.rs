//! Bar charts as SVG.

use std::fmt::Write as _;

use crate::measurement::number;

/// One bar of a chart.
pub(crate) struct Bar {
    /// Text to the left of the bar.
    pub(crate) label: String,
    /// Length of the bar; negative values have none.
    pub(crate) value: f64,
    /// Value that a mark shows, such as the bound that the bar is judged by.
    pub(crate) bound: Option<f64>,
}

const WIDTH: f64 = 760.0;
const LABEL_WIDTH: f64 = 300.0;
const BAR_WIDTH: f64 = 360.0;
const ROW_HEIGHT: f64 = 26.0;
const TOP: f64 = 44.0;

/// Draws a horizontal bar for each value; the largest value or bound takes the whole width.
pub(crate) fn bar_chart(title: &str, bars: &[Bar]) -> String {
    let height = TOP + ROW_HEIGHT * bars.len() as f64 + 12.0;
    let largest = bars
        .iter()
        .flat_map(|bar| [bar.value, bar.bound.unwrap_or(0.0)])
        .filter(|value| value.is_finite())
        .fold(f64::MIN_POSITIVE, f64::max);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"12\" y=\"26\" font-size=\"16\">{}</text>\n",
        escape(title)
    );
    for (row, bar) in bars.iter().enumerate() {
        let y = TOP + ROW_HEIGHT * row as f64;
        let scale = |value: f64| BAR_WIDTH * value.clamp(0.0, largest) / largest;
        let (length, text_y) = (scale(bar.value), y + 14.0);
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{text_y}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LABEL_WIDTH}\" y=\"{y}\" width=\"{length:.1}\" height=\"18\" fill=\"#2b6cb0\"/>\
             <text x=\"{:.1}\" y=\"{text_y}\">{}</text>",
            LABEL_WIDTH - 8.0,
            escape(&bar.label),
            LABEL_WIDTH + scale(bar.value.max(bar.bound.unwrap_or(0.0))) + 8.0,
            number(bar.value),
        );
        if let Some(bound) = bar.bound {
            let x = LABEL_WIDTH + scale(bound);
            let _ = writeln!(
                svg,
                "<rect x=\"{x:.1}\" y=\"{}\" width=\"2\" height=\"24\" fill=\"#c53030\"/>",
                y - 3.0
            );
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(label: &str, value: f64, bound: Option<f64>) -> Bar {
        Bar {
            label: label.to_owned(),
            value,
            bound,
        }
    }

    #[test]
    fn the_largest_value_takes_the_whole_width() {
        let svg = bar_chart("rates", &[bar("a", 50.0, None), bar("b", 100.0, None)]);
        assert!(svg.contains("width=\"180.0\""), "{svg}");
        assert!(svg.contains("width=\"360.0\""), "{svg}");
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn text_is_escaped_and_bounds_are_marked() {
        let svg = bar_chart("a < b & c", &[bar("x > y", 1.0, Some(2.0))]);
        assert!(
            svg.contains("a &lt; b &amp; c") && svg.contains("x &gt; y"),
            "{svg}"
        );
        assert!(svg.contains("<rect x=\"660.0\""), "{svg}");
    }

    #[test]
    fn a_chart_without_values_is_valid() {
        assert!(bar_chart("none", &[]).ends_with("</svg>\n"));
        assert!(!bar_chart("zero", &[bar("a", -1.0, None)]).contains("NaN"));
    }
}
