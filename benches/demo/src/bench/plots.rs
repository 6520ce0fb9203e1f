//! The results as pictures: bars of each section, and curves over rows.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::bench::curve;
use crate::bench::results::Measurement;
use crate::bench::tables::GROUPS;
use crate::chart::{Bar, write_bars};
use crate::workloads::as_f64;

const WIDTH: u32 = 900;
const HEIGHT: u32 = 460;
const COLOURS: [RGBColor; 4] = [
    RGBColor(196, 78, 62),
    RGBColor(38, 132, 90),
    RGBColor(226, 158, 60),
    RGBColor(58, 110, 180),
];

/// A picture's file name and what it shows.
pub type Picture = (String, &'static str);

/// Writes all pictures for which there are results into `out`.
pub fn write(
    results: &[Measurement],
    candidate: &str,
    server_version: &str,
    out: &Path,
) -> Result<Vec<Picture>> {
    let mut written = Vec::new();
    for (group, title) in GROUPS.iter().filter(|(group, _)| *group != curve::GROUP) {
        let bars: Vec<Bar<'_>> = results
            .iter()
            .filter(|result| result.group == *group && result.method == candidate)
            .filter_map(|result| {
                Some(Bar {
                    group: &result.data_set,
                    label: &result.workload,
                    ratio: result.ratio_to_btree?,
                })
            })
            .collect();
        if bars.is_empty() {
            continue;
        }
        let name = format!("{group}.svg");
        write_bars(&bars, candidate, server_version, &out.join(&name))?;
        written.push((name, *title));
    }
    for (workload, name, title, unit) in [
        (
            curve::PROBE,
            "lookups.svg",
            "Cost of a random index-only lookup",
            "\u{b5}s",
        ),
        (
            curve::SIZE,
            "sizes.svg",
            "Size of the index",
            "bytes per row",
        ),
    ] {
        let lines = lines(results, workload);
        if lines.iter().any(|line| line.points.len() > 1) {
            let path = out.join(name);
            draw(&lines, title, unit, &path)
                .map_err(|error| anyhow!("cannot draw {}: {error}", path.display()))?;
            written.push((name.to_owned(), title));
        }
    }
    Ok(written)
}

/// Values over rows.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// A line for each data set and method of `workload`.
fn lines(results: &[Measurement], workload: &str) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for result in results.iter().filter(|result| result.workload == workload) {
        let name = format!("{}, {}", result.method, result.data_set);
        let point = (as_f64(result.rows), result.value);
        match lines.iter_mut().find(|line| line.name == name) {
            Some(line) => line.points.push(point),
            None => lines.push(Line {
                name,
                points: vec![point],
            }),
        }
    }
    lines
}

fn draw(
    lines: &[Line],
    title: &str,
    unit: &str,
    path: &Path,
) -> Result<(), Box<dyn std::error::Error>> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let least = points().map(|point| point.0).fold(f64::MAX, f64::min);
    let most = points().map(|point| point.0).fold(0.0, f64::max);
    let highest = points().map(|point| point.1).fold(0.0, f64::max);

    let area = SVGBackend::new(path, (WIDTH, HEIGHT)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .margin_right(40)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d((least..most).log_scale(), 0.0..highest * 1.1)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc("rows, logarithmic")
        .y_desc(unit)
        .x_label_formatter(&|rows| format!("{rows:.0}"))
        .draw()?;
    for (line, colour) in lines.iter().zip(COLOURS.into_iter().cycle()) {
        let path = PathElement::new(line.points.clone(), colour.stroke_width(2));
        chart
            .draw_series(std::iter::once(path))?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2)));
        chart.draw_series(
            line.points
                .iter()
                .map(|point| Circle::new(*point, 3, colour.filled())),
        )?;
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .position(SeriesLabelPosition::UpperLeft)
        .draw()?;
    area.present()?;
    Ok(())
}
