//! Line charts as SVG: panels above one another that share the axis of time.

use std::fmt::Write as _;
use std::ops::Range;

/// Width of the whole picture.
pub(super) const WIDTH: f64 = 760.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 44.0;
const HEIGHT: f64 = 130.0;
const TITLE: f64 = 34.0;
const BOTTOM: f64 = 34.0;

/// A picture: what all panels share, and the panels.
#[derive(Debug)]
pub(super) struct Chart {
    /// Length of the axis of time.
    pub(super) seconds: usize,
    /// Stretches of time, with their names.
    pub(super) parts: Vec<(&'static str, Range<usize>)>,
    /// The names of the lines, each with its class in the style.
    pub(super) legend: Vec<(String, &'static str)>,
    pub(super) panels: Vec<Panel>,
}

/// One set of axes.
#[derive(Debug)]
pub(super) struct Panel {
    pub(super) title: &'static str,
    pub(super) scale: Scale,
    /// Values to be marked on the axis, with their labels.
    pub(super) marks: Vec<(f64, String)>,
    /// A class of the style, and a value for each second.
    pub(super) lines: Vec<(&'static str, Vec<Option<f64>>)>,
}

/// From values to heights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scale {
    /// From zero to this.
    Linear(f64),
    /// From the first, which is above zero, to the second.
    Logarithmic(f64, f64),
}

impl Scale {
    /// Where a value lies between the bottom, 0, and the top, 1.
    fn place(self, value: f64) -> f64 {
        let place = match self {
            Self::Linear(top) => value / top,
            Self::Logarithmic(low, high) => (value / low).ln() / (high / low).ln(),
        };
        if place.is_finite() {
            place.clamp(0.0, 1.0)
        } else {
            0.0
        }
    }
}

impl Chart {
    /// The picture as a document of its own, which can also stand within a page.
    pub(super) fn svg(&self) -> String {
        let height = TOP + (HEIGHT + TITLE) * self.panels.len() as f64 + BOTTOM;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
             aria-label=\"Logins and log requests, second by second\">\n<style>{STYLE}</style>\n\
             <rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\"/>\n"
        );
        self.legend(&mut svg);
        for (index, panel) in self.panels.iter().enumerate() {
            let top = TOP + TITLE + (HEIGHT + TITLE) * index as f64;
            self.panel(&mut svg, panel, top, index == 0);
        }
        self.time(&mut svg, height - BOTTOM);
        svg.push_str("</svg>\n");
        svg
    }

    // Writing to a string cannot fail, here and below.
    fn legend(&self, svg: &mut String) {
        let mut x = LEFT;
        for (name, class) in &self.legend {
            _ = writeln!(
                svg,
                "<line class=\"line {class}\" x1=\"{x:.0}\" x2=\"{:.0}\" y1=\"20\" y2=\"20\"/>\
                 <text x=\"{:.0}\" y=\"24\">{name}</text>",
                x + 24.0,
                x + 30.0
            );
            // Wide enough for the longest name.
            x += 150.0;
        }
    }

    fn panel(&self, svg: &mut String, panel: &Panel, top: f64, names: bool) {
        for (index, (name, seconds)) in self.parts.iter().enumerate() {
            let (from, to) = (self.x(seconds.start as f64), self.x(seconds.end as f64));
            _ = writeln!(
                svg,
                "<rect class=\"part{index}\" x=\"{from:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{HEIGHT}\"/>",
                to - from
            );
            if names {
                _ = writeln!(
                    svg,
                    "<text class=\"small\" x=\"{:.1}\" y=\"{:.1}\">{name}</text>",
                    from + 4.0,
                    top + 13.0
                );
            }
        }
        _ = writeln!(
            svg,
            "<text class=\"title\" x=\"{LEFT}\" y=\"{:.1}\">{}</text>",
            top - 8.0,
            panel.title
        );
        for (value, label) in &panel.marks {
            let y = top + HEIGHT * (1.0 - panel.scale.place(*value));
            _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"small end\" x=\"{:.1}\" y=\"{:.1}\">{label}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0
            );
        }
        for (class, values) in &panel.lines {
            let path = self.path(values, panel.scale, top);
            _ = writeln!(svg, "<path class=\"line {class}\" d=\"{path}\"/>");
        }
    }

    /// A line through the middle of each second; where there is no value there is a gap.
    fn path(&self, values: &[Option<f64>], scale: Scale, top: f64) -> String {
        let mut path = String::new();
        let mut pen_down = false;
        for (second, value) in values.iter().enumerate() {
            let Some(value) = value else {
                pen_down = false;
                continue;
            };
            let command = if pen_down { 'L' } else { 'M' };
            let x = self.x(second as f64 + 0.5);
            let y = top + HEIGHT * (1.0 - scale.place(*value));
            _ = write!(path, "{command}{x:.1} {y:.1}");
            pen_down = true;
        }
        path
    }

    fn time(&self, svg: &mut String, top: f64) {
        let step = if self.seconds > 30 { 10 } else { 2 };
        for second in (0..=self.seconds).step_by(step) {
            _ = writeln!(
                svg,
                "<text class=\"small middle\" x=\"{:.1}\" y=\"{:.1}\">{second} s</text>",
                self.x(second as f64),
                top + 16.0
            );
        }
    }

    fn x(&self, second: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * second / self.seconds as f64
    }
}

/// For light and dark surroundings. Lines differ in dash as well as in colour.
const STYLE: &str = "\
text{font:13px system-ui,sans-serif;fill:#222}.small{font-size:11px;fill:#555}.title{font-weight:600}\
.end{text-anchor:end}.middle{text-anchor:middle}.paper{fill:#fff}.grid{stroke:#ccc;stroke-width:.5}\
.line{fill:none;stroke-width:2.2;stroke-linejoin:round}.unprotected{stroke:#c8322b}.protected{stroke:#1668b0}\
.healthy{stroke:#777;stroke-dasharray:2 4}.reduced{stroke:#a06a00;stroke-dasharray:7 4}\
.part0{fill:#f4f6f8}.part1{fill:#e9eef2}.part2{fill:#fbe9e2}\
@media(prefers-color-scheme:dark){text{fill:#eee}.small{fill:#aaa}.paper{fill:#16191d}.grid{stroke:#444}\
.unprotected{stroke:#ff7a6e}.protected{stroke:#63b3ff}.healthy{stroke:#aaa}.reduced{stroke:#e0a83c}\
.part0{fill:#1c2126}.part1{fill:#232a31}.part2{fill:#33241f}}";

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(values: Vec<Option<f64>>) -> Chart {
        Chart {
            seconds: values.len(),
            parts: vec![("idle", 0..1)],
            legend: vec![("protected".to_owned(), "protected")],
            panels: vec![Panel {
                title: "title",
                scale: Scale::Linear(10.0),
                marks: vec![(5.0, "five".to_owned())],
                lines: vec![("protected", values)],
            }],
        }
    }

    #[test]
    fn places_are_between_bottom_and_top() {
        let linear = Scale::Linear(10.0);
        assert_eq!([0.0, 5.0, 20.0].map(|v| linear.place(v)), [0.0, 0.5, 1.0]);
        let log = Scale::Logarithmic(1.0, 100.0);
        assert_eq!(
            [0.0, 1.0, 10.0, 100.0].map(|v| log.place(v)),
            [0.0, 0.0, 0.5, 1.0]
        );
        assert_eq!(Scale::Linear(0.0).place(0.0), 0.0);
    }

    #[test]
    fn a_gap_lifts_the_pen() {
        let values = vec![Some(1.0), Some(2.0), None, Some(3.0)];
        let chart = chart(values.clone());
        let path = chart.path(&values, Scale::Linear(10.0), 0.0);
        assert_eq!(path.matches('M').count(), 2);
        assert_eq!(path.matches('L').count(), 1);
    }

    #[test]
    fn the_picture_needs_nothing_from_elsewhere() {
        let svg = chart(vec![Some(1.0)]).svg();
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
        // The only address is the name of the namespace.
        assert_eq!(svg.matches("http").count(), 1);
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }
}
