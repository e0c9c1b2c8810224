//! Curves as SVG, for the pages in `docs` that show what a simulation did. The same figure is the same text.

use std::fmt::Write as _;

/// Panels one below the other, over the same axis.
#[derive(Debug, Clone)]
pub struct Figure {
    /// What it shows, in a line.
    pub title: &'static str,
    /// The kinds of curves.
    pub legend: &'static [Kind],
    /// What is on the lower edge.
    pub axis: Axis,
    /// From top to bottom.
    pub panels: Vec<Panel>,
}

/// A kind of curve.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// By which a [`Curve`] says that it is of this kind.
    pub class: &'static str,
    /// What readers know it as.
    pub name: &'static str,
    /// How it is drawn.
    pub colour: Colour,
}

/// A colour on white paper, and one on dark.
#[derive(Debug, Clone, Copy)]
pub struct Colour(&'static str, &'static str);

impl Colour {
    /// For what is proposed.
    pub const BLUE: Self = Self("#1668b0", "#63b3ff");
    /// For what it is compared with.
    pub const RED: Self = Self("#c8322b", "#ff7a6e");
    /// For a third one.
    pub const GREEN: Self = Self("#2e8540", "#7fd48f");
}

/// What is on the lower edge.
#[derive(Debug, Clone, Copy)]
pub struct Axis {
    /// On the left.
    pub from: f64,
    /// On the right.
    pub to: f64,
    /// Behind each number.
    pub unit: &'static str,
}

impl Axis {
    /// From 0 to so many minutes.
    pub const fn minutes(to: f64) -> Self {
        Self {
            from: 0.0,
            to,
            unit: " min",
        }
    }
}

/// One diagram.
#[derive(Debug, Clone)]
pub struct Panel {
    /// What it shows.
    pub title: &'static str,
    /// In what.
    pub unit: &'static str,
    /// The value at the upper edge. What is above it is drawn there.
    pub top: f64,
    /// In the order in which they are drawn.
    pub curves: Vec<Curve>,
}

/// Values, one beside the other.
#[derive(Debug, Clone)]
pub struct Curve {
    /// Of which [`Kind`] it is.
    pub class: &'static str,
    /// Values at even distances.
    pub points: Vec<f64>,
}

const WIDTH: f64 = 760.0;
const LEFT: f64 = 64.0;
const PLOT: f64 = WIDTH - LEFT - 16.0;
const HEIGHT: f64 = 130.0;
const FIRST: f64 = 84.0;
const STEP: f64 = HEIGHT + 42.0;

const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#222}.small{font-size:11px;fill:#555}\
.title{font-weight:600}.end{text-anchor:end}.middle{text-anchor:middle}.paper{fill:#fff}\
.grid{stroke:#ccc;stroke-width:.5}.line{fill:none;stroke-width:1.6;stroke-linejoin:round}";

const DARK: &str = "text{fill:#eee}.small{fill:#aaa}.paper{fill:#16191d}.grid{stroke:#444}";

impl Figure {
    /// The figure as a document.
    pub fn to_svg(&self) -> String {
        let height = FIRST + STEP * self.panels.len() as f64;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
             aria-label=\"{title}\">\n<style>{style}</style>\n\
             <rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
             <text class=\"title\" x=\"{LEFT}\" y=\"24\">{title}</text>\n",
            title = self.title,
            style = self.style(),
        );
        // Two names may be longer than three.
        let width = if self.legend.len() > 2 { 230.0 } else { 250.0 };
        for (n, Kind { class, name, .. }) in self.legend.iter().enumerate() {
            let x = LEFT + width * n as f64;
            line(
                &mut svg,
                &format!(
                    "<line class=\"line {class}\" x1=\"{x}\" x2=\"{}\" y1=\"44\" y2=\"44\"/>\
                     <text x=\"{}\" y=\"48\">{name}</text>",
                    x + 24.0,
                    x + 30.0
                ),
            );
        }
        for (n, panel) in self.panels.iter().enumerate() {
            panel.draw(&mut svg, FIRST + STEP * n as f64, self.axis);
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn style(&self) -> String {
        let (mut light, mut dark) = (String::new(), String::new());
        for Kind { class, colour, .. } in self.legend {
            let Colour(on_white, on_dark) = colour;
            // To strings, which does not fail.
            _ = write!(light, ".{class}{{stroke:{on_white}}}");
            _ = write!(dark, ".{class}{{stroke:{on_dark}}}");
        }
        format!("{STYLE}{light}@media(prefers-color-scheme:dark){{{DARK}{dark}}}")
    }
}

impl Panel {
    fn draw(&self, svg: &mut String, y: f64, axis: Axis) {
        let bottom = y + HEIGHT;
        line(
            svg,
            &format!(
                "<text class=\"title\" x=\"{LEFT}\" y=\"{}\">{}<tspan class=\"small\" dx=\"6\">{}</tspan></text>",
                y - 8.0,
                self.title,
                self.unit
            ),
        );
        for quarter in 0..=4 {
            let share = f64::from(quarter) / 4.0;
            let (at, right) = (bottom - HEIGHT * share, LEFT + PLOT);
            line(
                svg,
                &format!(
                    "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at}\" y2=\"{at}\"/>\
                     <text class=\"small end\" x=\"{}\" y=\"{}\">{}</text>",
                    LEFT - 6.0,
                    at + 4.0,
                    self.top * share
                ),
            );
            let x = LEFT + PLOT * share;
            line(
                svg,
                &format!(
                    "<text class=\"small middle\" x=\"{x}\" y=\"{}\">{}{}</text>",
                    bottom + 14.0,
                    axis.from + (axis.to - axis.from) * share,
                    axis.unit
                ),
            );
        }
        for curve in &self.curves {
            curve.draw(svg, bottom, self.top);
        }
    }
}

impl Curve {
    fn draw(&self, svg: &mut String, bottom: f64, top: f64) {
        let step = PLOT / (self.points.len() - 1).max(1) as f64;
        let mut path = String::new();
        for (n, value) in self.points.iter().enumerate() {
            let x = LEFT + step * n as f64;
            let y = bottom - HEIGHT * (value / top).clamp(0.0, 1.0);
            let verb = if n == 0 { 'M' } else { 'L' };
            // To a string, which does not fail.
            _ = write!(path, "{verb}{x:.1} {y:.1}");
        }
        line(
            svg,
            &format!("<path class=\"line {}\" d=\"{path}\"/>", self.class),
        );
    }
}

fn line(svg: &mut String, line: &str) {
    svg.push_str(line);
    svg.push('\n');
}
