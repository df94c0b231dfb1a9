//! Charts of numbers, as SVG that templates write. It has numbers only: texts are in the legend beside
//! it, which the templates escape.

/// Width of a chart in units of the drawing.
pub const WIDTH: u64 = 1000;
/// A part with at least one device is at least this wide, so that it can be seen.
const PART_MIN: u64 = 8;

/// A part of a chart, with its row in the legend.
pub struct Part {
    /// What is counted.
    pub text: String,
    /// How many.
    pub count: u64,
    /// Name of its colour.
    pub tone: &'static str,
    /// The list of what is counted.
    pub href: Option<String>,
    /// Where the part begins.
    pub x: u64,
    /// Its width.
    pub width: u64,
}

impl Part {
    /// A part whose place is not known yet.
    pub fn new(text: impl Into<String>, count: u64, tone: &'static str) -> Self {
        Self { text: text.into(), count, tone, href: None, x: 0, width: 0 }
    }

    /// Links to the list of what is counted.
    pub fn to(self, href: impl Into<String>) -> Self {
        Self { href: Some(href.into()), ..self }
    }
}

/// A bar with parts.
pub struct Chart {
    /// What it is about.
    pub title: &'static str,
    /// All of it in words, for those who do not see it.
    pub label: String,
    /// Its parts, from left to right.
    pub parts: Vec<Part>,
}

impl Chart {
    /// A chart of these parts. Parts without anything stay in the legend.
    pub fn of(title: &'static str, mut parts: Vec<Part>) -> Self {
        let total: u64 = parts.iter().map(|part| part.count).sum();
        let shown = parts.iter().filter(|part| part.count > 0).count() as u64;
        let free = WIDTH.saturating_sub(shown * PART_MIN);
        let mut x = 0;
        for part in parts.iter_mut().filter(|part| part.count > 0) {
            // Numbers of devices are far below the largest number.
            let width = PART_MIN + part.count.saturating_mul(free) / total.max(1);
            (part.x, part.width) = (x, width);
            x += width;
        }
        if let Some(last) = parts.iter_mut().rfind(|part| part.count > 0) {
            last.width = WIDTH - last.x;
        }
        let words: Vec<_> = parts.iter().map(|p| format!("{} {}", p.count, p.text)).collect();
        Self { title, label: format!("{title}: {}", words.join(", ")), parts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_is_as_wide_as_its_parts_and_shows_the_smallest_one() {
        let parts = [("healthy", 99_999), ("none", 0), ("failed", 1)];
        let chart = Chart::of("Health", parts.map(|(text, n)| Part::new(text, n, "")).into());
        assert_eq!(chart.label, "Health: 99999 healthy, 0 none, 1 failed");
        let places: Vec<_> = chart.parts.iter().map(|p| (p.x, p.width)).collect();
        assert_eq!(places, [(0, 991), (0, 0), (991, 9)]);
        let nothing = Chart::of("Health", vec![Part::new("healthy", 0, "")]);
        assert_eq!(nothing.parts[0].width, 0);
    }
}
