//! A chart of metrics, as SVG: lines in percent over time. It has numbers only, no text of a device.

use fleeti_core::wire::history::Metrics;
use std::fmt::Write;

/// Width and height in units of the drawing.
const WIDTH: u64 = 600;
const HEIGHT: u64 = 100;

/// A moment, with a value in percent.
type Point = (u64, u64);

/// The lines of a chart: memory and data partition.
pub struct Chart {
    pub memory: String,
    pub data: String,
}

impl Chart {
    /// The chart of these metrics; `None` for fewer than two moments.
    pub fn of(metrics: &[Metrics]) -> Option<Self> {
        let mut memory = moments(metrics, |of| of.memory_percent, |point| point.memory_percent);
        let mut data = moments(metrics, |of| of.data_percent, |point| point.data_percent);
        memory.sort_unstable();
        data.sort_unstable();
        let (first, last) = (memory.first()?.0, memory.last()?.0);
        let span = last.checked_sub(first).filter(|span| *span > 0)?;
        let line = |points: &[Point]| {
            let mut text = String::new();
            for (at, percent) in points {
                let (x, y) = ((at - first) * WIDTH / span, HEIGHT - percent.min(&HEIGHT));
                write!(text, "{x},{y} ").ok();
            }
            text.trim_end().to_owned()
        };
        Some(Self { memory: line(&memory), data: line(&data) })
    }
}

/// The samples of each span, or its mean where there are none.
fn moments(
    metrics: &[Metrics],
    mean: impl Fn(&Metrics) -> u64,
    sample: impl Fn(&fleeti_core::wire::history::Sample) -> u64,
) -> Vec<Point> {
    let mut all = Vec::new();
    for of in metrics {
        if of.points.is_empty() {
            all.push((of.at_s + of.span_s / 2, mean(of)));
        } else {
            all.extend(of.points.iter().map(|point| (point.at_s, sample(point))));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleeti_core::wire::history::{HOUR_S, Sample};

    fn hour(at_s: u64, memory: u64, points: Vec<Sample>) -> Metrics {
        Metrics {
            at_s,
            span_s: HOUR_S,
            samples: 1,
            load_milli: 0,
            load_milli_max: 0,
            memory_percent: memory,
            memory_percent_max: memory,
            data_percent: 0,
            data_percent_max: 0,
            points,
        }
    }

    #[test]
    fn a_chart_has_the_samples_and_the_means_of_hours_without_samples() {
        assert!(Chart::of(&[]).is_none());
        assert!(Chart::of(&[hour(0, 50, vec![])]).is_none(), "one moment is no line");
        let point =
            |at_s, memory_percent| Sample { at_s, load_milli: 0, memory_percent, data_percent: 7 };
        let newer = hour(HOUR_S, 0, vec![point(3600, 20), point(5400, 400)]);
        let chart = Chart::of(&[hour(0, 50, vec![]), newer]).unwrap();
        assert_eq!(chart.memory, "0,50 300,80 600,0");
        assert_eq!(chart.data, "0,100 300,93 600,93");
    }
}
