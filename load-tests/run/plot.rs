//! Draws the timeline as SVG: throughput, what waits, and how late each load was.

use std::fmt::Write as _;

/// A line in a chart.
pub(super) struct Series {
    pub(super) name: String,
    /// Seconds and values; values that are not above 0 are left out where the axis is logarithmic.
    pub(super) points: Vec<(f64, f64)>,
}

/// One chart.
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) unit: &'static str,
    pub(super) log: bool,
    pub(super) series: Vec<Series>,
}

/// A stretch of time with a name, shaded in every chart.
pub(super) struct Span {
    pub(super) name: String,
    pub(super) from: f64,
    pub(super) to: f64,
}

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 34.0;
/// Colours that are told apart by the colour-blind, too (Okabe and Ito).
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000"];

/// Returns the charts below one another.
pub(super) fn svg(title: &str, charts: &[Chart], spans: &[Span]) -> String {
    let height = TOP + HEIGHT * charts.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"11\"><rect width=\"100%\" height=\"100%\" fill=\"white\"/>\
         <text x=\"12\" y=\"20\" font-size=\"15\">{}</text>\n",
        escaped(title)
    );
    for (index, chart) in charts.iter().enumerate() {
        let top = TOP + HEIGHT * index as f64;
        let _infallible = writeln!(out, "<g transform=\"translate(0 {top})\">");
        chart.draw(&mut out, spans);
        out.push_str("</g>\n");
    }
    out + "</svg>\n"
}

impl Chart {
    fn draw(&self, out: &mut String, spans: &[Span]) {
        let points = || self.series.iter().flat_map(|series| &series.points).filter(|point| self.shows(point));
        let (from, to) = bounds(points().map(|point| point.0));
        let (low, high) = self.axis(bounds(points().map(|point| point.1)));
        let x = |second: f64| LEFT + (second - from) / (to - from) * (WIDTH - LEFT - RIGHT);
        let scale = |value: f64| if self.log { value.log10() } else { value };
        let y = |value: f64| {
            let part = (scale(value) - scale(low)) / (scale(high) - scale(low));
            HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)
        };
        for span in spans.iter().filter(|span| span.from < to && from < span.to) {
            let (left, right) = (x(span.from.max(from)), x(span.to.min(to)));
            let _infallible = writeln!(
                out,
                "<rect x=\"{left:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"#f0f0f0\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#777\">{}</text>",
                right - left,
                HEIGHT - TOP - BOTTOM,
                left + 4.0,
                TOP + 12.0,
                escaped(&span.name)
            );
        }
        let _infallible = writeln!(out, "<text x=\"{LEFT}\" y=\"24\" font-size=\"12\">{}</text>", escaped(&self.title));
        for value in self.ticks(low, high) {
            let (at, right) = (y(value), WIDTH - RIGHT);
            let _infallible = writeln!(
                out,
                "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#ccc\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                at + 4.0,
                short(value, self.unit)
            );
        }
        for part in 0..=6 {
            let second = from + (to - from) * f64::from(part) / 6.0;
            let at = HEIGHT - BOTTOM + 16.0;
            let _infallible =
                writeln!(out, "<text x=\"{:.1}\" y=\"{at}\" text-anchor=\"middle\">{second:.0} s</text>", x(second));
        }
        for (index, series) in self.series.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let points = series.points.iter().filter(|point| self.shows(point));
            let line: Vec<_> = points.map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1))).collect();
            let (right, at) = (WIDTH - RIGHT + 10.0, TOP + 12.0 + 15.0 * index as f64);
            let _infallible = writeln!(
                out,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\
                 <text x=\"{right}\" y=\"{at}\" fill=\"{colour}\">{}</text>",
                line.join(" "),
                escaped(&series.name)
            );
        }
    }

    fn shows(&self, point: &(f64, f64)) -> bool {
        point.1.is_finite() && (!self.log || point.1 > 0.0)
    }

    fn axis(&self, (low, high): (f64, f64)) -> (f64, f64) {
        if self.log {
            let (low, high) = (low.max(1e-3).log10().floor(), high.max(1e-3).log10().ceil());
            return (10_f64.powf(low), 10_f64.powf(high.max(low + 1.0)));
        }
        (0.0, if high > 0.0 { high * 1.05 } else { 1.0 })
    }

    fn ticks(&self, low: f64, high: f64) -> Vec<f64> {
        if self.log {
            let (low, high) = (low.log10().round() as i32, high.log10().round() as i32);
            return (low..=high).map(|power| 10_f64.powi(power)).collect();
        }
        (0..=4).map(|part| low + (high - low) * f64::from(part) / 4.0).collect()
    }
}

fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    match (low.is_finite(), low < high) {
        (false, _) => (0.0, 1.0),
        (true, false) => (low, low + 1.0),
        (true, true) => (low, high),
    }
}

fn short(value: f64, unit: &str) -> String {
    let text = match value {
        value if value >= 1e6 => format!("{:.1}M", value / 1e6),
        value if value >= 1e3 => format!("{:.0}k", value / 1e3),
        value if value >= 10.0 || value == 0.0 => format!("{value:.0}"),
        value => format!("{value:.3}").trim_end_matches('0').trim_end_matches('.').to_owned(),
    };
    format!("{text} {unit}")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_at_an_axis_are_short() {
        let told =
            [0.0, 0.001, 0.345_407_573, 1.0, 2.5, 10.0, 345.4, 21_000.0, 2_300_000.0].map(|value| short(value, ""));
        assert_eq!(told, ["0 ", "0.001 ", "0.345 ", "1 ", "2.5 ", "10 ", "345 ", "21k ", "2.3M "]);
    }

    #[test]
    fn every_line_is_drawn_within_its_chart() {
        let series = |name: &str, points: &[(f64, f64)]| Series { name: name.into(), points: points.to_vec() };
        let charts = [
            Chart {
                title: "jobs/s".into(),
                unit: "",
                log: false,
                series: vec![series("a <b>", &[(0.0, 5.0), (1.0, 25_000.0)])],
            },
            Chart { title: "late".into(), unit: "ms", log: true, series: vec![series("c", &[(0.0, 0.0), (9.0, 3.0)])] },
            Chart { title: "nothing".into(), unit: "ms", log: true, series: vec![] },
        ];
        let svg = svg("x & y", &charts, &[Span { name: "beside".into(), from: -5.0, to: 0.5 }]);
        assert!(svg.contains("x &amp; y") && svg.contains("a &lt;b&gt;") && svg.ends_with("</svg>\n"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert_eq!(svg.matches("<polyline").count(), 2);
        let numbers = svg.split("points=\"").skip(1).flat_map(|rest| rest.split('"').next().unwrap().split([',', ' ']));
        assert!(numbers.map(|number| number.parse::<f64>().unwrap()).all(|number| (0.0..=WIDTH).contains(&number)));
    }
}
