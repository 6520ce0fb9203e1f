//! The ratios as a bar chart in SVG.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::report::{Report, ratio};

/// One bar under the heading of its group.
pub struct Bar<'a> {
    pub group: &'a str,
    pub label: &'a str,
    /// How many times better than btree.
    pub ratio: f64,
}

const WIDTH: i32 = 960;
const BAR: i32 = 20;
const HEADING: i32 = 34;
const TOP: i32 = 60;
const LABELS: i32 = 360;
const RIGHT: i32 = 80;
/// Bars end here, at either side of 1; their numbers go on.
const CAP: f64 = 100.0;

const BETTER: RGBColor = RGBColor(38, 132, 90);
const WORSE: RGBColor = RGBColor(196, 78, 62);
const GRID: RGBColor = RGBColor(220, 220, 220);
const TEXT: RGBColor = RGBColor(40, 40, 40);

/// Writes the chart of all workloads of the demo that have a ratio.
pub fn write(report: &Report, path: &Path) -> Result<()> {
    let bars: Vec<Bar<'_>> = report
        .results
        .iter()
        .filter_map(|row| {
            Some(Bar {
                group: &row.data_set,
                label: &row.workload,
                ratio: row.ratio?,
            })
        })
        .collect();
    write_bars(&bars, &report.candidate, &report.server_version, path)
}

/// Writes bars on a logarithmic scale.
pub fn write_bars(
    bars: &[Bar<'_>],
    candidate: &str,
    server_version: &str,
    path: &Path,
) -> Result<()> {
    let version = server_version.split(' ').next().unwrap_or_default();
    let title = format!(
        "{candidate} compared with btree (PostgreSQL {version}): times better, logarithmic"
    );
    draw(bars, &title, path).map_err(|error| anyhow!("cannot draw {}: {error}", path.display()))
}

type Drawn = Result<(), Box<dyn std::error::Error>>;

fn draw(bars: &[Bar<'_>], title: &str, path: &Path) -> Drawn {
    let mut groups: Vec<&str> = bars.iter().map(|bar| bar.group).collect();
    groups.dedup();
    let lines = i32::try_from(bars.len())?;
    let height = TOP + HEADING * i32::try_from(groups.len())? + BAR * lines + 20;

    let size = (u32::try_from(WIDTH)?, u32::try_from(height)?);
    let area = SVGBackend::new(path, size).into_drawing_area();
    area.fill(&WHITE)?;
    let anchored = |size: i32, color: RGBColor, side| {
        ("sans-serif", size)
            .into_font()
            .color(&color)
            .pos(Pos::new(side, VPos::Center))
    };
    area.draw_text(title, &anchored(20, TEXT, HPos::Left), (12, 22))?;

    let scale = Scale::over(bars.iter().map(|bar| bar.ratio));
    for tick in scale.ticks() {
        let x = scale.x(tick);
        area.draw(&PathElement::new([(x, TOP), (x, height - 16)], GRID))?;
        let label = format!("{tick}x");
        area.draw_text(&label, &anchored(16, TEXT, HPos::Center), (x, TOP - 10))?;
    }

    let mut y = TOP;
    let mut group = "";
    for bar in bars {
        let value = bar.ratio;
        if bar.group != group {
            group = bar.group;
            area.draw_text(
                group,
                &anchored(19, BLACK, HPos::Left),
                (12, y + HEADING - 14),
            )?;
            y += HEADING;
        }
        let (one, end) = (scale.x(1.0), scale.x(value));
        let middle = y + BAR / 2;
        let color = if value >= 1.0 { BETTER } else { WORSE };
        let corners = [(one.min(end), y + 3), (one.max(end), y + BAR - 3)];
        area.draw(&Rectangle::new(corners, color.filled()))?;
        let label = anchored(16, TEXT, HPos::Right);
        area.draw_text(bar.label, &label, (LABELS - 10, middle))?;
        let number = anchored(16, color, HPos::Left);
        area.draw_text(&ratio(Some(value)), &number, (one.max(end) + 5, middle))?;
        y += BAR;
    }
    let one = scale.x(1.0);
    area.draw(&PathElement::new([(one, TOP), (one, height - 16)], TEXT))?;
    area.present()?;
    Ok(())
}

/// From a ratio to a horizontal position, logarithmic, with 1 always in view.
struct Scale {
    least: f64,
    most: f64,
}

impl Scale {
    /// Decades that hold all `ratios`, or what the cap leaves of them.
    fn over(ratios: impl Iterator<Item = f64>) -> Self {
        let (mut least, mut most) = (0.5_f64, 2.0_f64);
        for ratio in ratios {
            least = least.min(ratio * 0.9).max(1.0 / CAP);
            most = most.max(ratio * 1.1).min(CAP);
        }
        Self { least, most }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "a position inside the picture"
    )]
    fn x(&self, ratio: f64) -> i32 {
        let ratio = ratio.clamp(self.least, self.most);
        let share = (ratio / self.least).ln() / (self.most / self.least).ln();
        LABELS + (f64::from(WIDTH - LABELS - RIGHT) * share) as i32
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        [
            0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0,
        ]
        .into_iter()
        .filter(|tick| (self.least..=self.most).contains(tick))
    }
}
