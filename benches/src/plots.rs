//! Plots of the results, as SVG: dark on white, readable on a page of any colour.

use std::path::Path;

use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use crate::{
    Result,
    compare::{Compared, Who},
    libraries::LIMIT,
    results::Results,
    sessions::{NUMBERS, Sessions},
    spread::Spread,
    work::{Cores, Shape, Work},
};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const WIDTH: u32 = 900;
const BAR: u32 = 17;
/// For the names.
const LEFT: i32 = 200;
const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(40, 44, 52);

/// Bars of one kind of figure.
struct Panel {
    title: String,
    digits: usize,
    bars: Vec<(Who, Spread)>,
}

/// The plots that the page of the documentation shows.
pub(crate) const IN_DOCS: [&str; 2] = ["ping-pong", "memory"];

/// Draws the measured parts.
pub(crate) fn draw(results: &Results, folder: &Path) -> Result<()> {
    let to = |name: &str| folder.join(format!("{name}.svg"));
    if let Some(compared) = &results.work {
        for (name, panels) in works(compared) {
            bars(&to(name), panels)?;
        }
    }
    if let Some(sessions) = &results.sessions {
        lines(&to("sessions"), sessions)?;
    }
    let panel = |title: &str, digits, bars| Panel { title: title.to_owned(), digits, bars };
    if let Some(memory) = &results.memory {
        let figures = memory.rows.iter().filter_map(|row| {
            Some((row.who.clone(), Spread::of([row.after_a_message as f64 / 1024.0])?))
        });
        bars(&to("memory"), vec![panel("KiB a session after use", 1, figures.collect())])?;
    }
    if let Some(fairness) = &results.fairness {
        let panels = fairness.rows.iter().fold(Vec::<Panel>::new(), |mut panels, row| {
            let title = format!("ms that another task waits: {}", row.work);
            if !panels.iter().any(|panel| panel.title == title) {
                panels.push(panel(&title, 2, Vec::new()));
            }
            let panel = panels.iter_mut().find(|panel| panel.title == title);
            if let (Some(panel), Some(worst)) = (panel, row.thread_ms) {
                panel.bars.push((row.who.clone(), worst));
            }
            panels
        });
        bars(&to("fairness"), panels)?;
    }
    Ok(())
}

/// Whether work is in a file.
type Belongs = fn(Shape) -> bool;

/// The files and their panels.
fn works(compared: &Compared) -> Vec<(&'static str, Vec<Panel>)> {
    let files: [(_, Belongs); 7] = [
        ("ping-pong", |shape| shape == Shape::PingPong),
        ("echo", |shape| {
            matches!(shape, Shape::EchoSend(_) | Shape::EchoFeed(_) | Shape::EchoSliding(_))
        }),
        ("duplex", |shape| shape == Shape::Duplex),
        ("receive", |shape| shape == Shape::Receive),
        ("send", |shape| shape == Shape::Send),
        ("feed", |shape| shape == Shape::Feed),
        ("handshake", |shape| shape == Shape::Handshake),
    ];
    let panels = |belongs: Belongs| {
        let works = Work::ALL
            .into_iter()
            .filter(move |work| belongs(work.shape) && work.cores != Cores::Two);
        works.flat_map(|work| of_work(compared, work)).filter(|panel| !panel.bars.is_empty())
    };
    let files = files.into_iter().map(|(name, belongs)| (name, panels(belongs).collect()));
    files.filter(|(_, panels): &(_, Vec<_>)| !panels.is_empty()).collect()
}

fn of_work(compared: &Compared, work: Work) -> Vec<Panel> {
    let rows = || compared.rows.iter().filter(|row| row.work == work);
    let panel = |title: String, digits, figure: &dyn Fn(&crate::compare::Row) -> Option<Spread>| {
        let bars = rows().filter_map(|row| Some((row.who.clone(), figure(row)?)));
        Panel { title, digits, bars: bars.collect() }
    };
    let micros = |spread: Option<Spread>| spread.map(|spread| spread.map(|ns| ns / 1e3));
    match work.shape {
        Shape::PingPong => vec![
            panel(format!("{work}: CPU µs"), 2, &|row| micros(row.spread(|sample| sample.cpu))),
            panel(format!("{work}: p50 µs"), 1, &|row| micros(row.latency(|of| of.p50))),
            panel(format!("{work}: p99 µs"), 1, &|row| micros(row.latency(|of| of.p99))),
            panel(format!("{work}: p99.9 µs"), 1, &|row| micros(row.latency(|of| of.p999))),
        ],
        Shape::Handshake => vec![
            panel("handshakes: thousands a second".into(), 2, &|row| {
                row.spread(|sample| 1e6 / sample.wall)
            }),
            panel("handshakes: CPU µs".into(), 1, &|row| micros(row.spread(|sample| sample.cpu))),
        ],
        _ if work.is_large() => vec![panel(format!("{work}: GB/s"), 2, &|row| {
            row.spread(|sample| work.size as f64 / sample.wall)
        })],
        _ => vec![panel(format!("{work}: million messages a second"), 2, &|row| {
            row.spread(|sample| 1e3 / sample.wall)
        })],
    }
}

fn color(who: &Who) -> RGBColor {
    match (who.is_ours, who.engine) {
        (true, _) => RGBColor(38, 110, 190),
        (false, "peers") => RGBColor(196, 154, 74),
        (false, _) if who.subject == LIMIT => RGBColor(90, 90, 90),
        (false, _) => RGBColor(150, 160, 172),
    }
}

/// Panels of bars in two columns.
fn bars(path: &Path, panels: Vec<Panel>) -> Result<()> {
    let columns = if panels.len() > 1 { 2 } else { 1 };
    let most = panels.iter().map(|panel| panel.bars.len()).max().unwrap_or(0) as u32;
    let rows = panels.len().div_ceil(columns);
    let width = WIDTH / 2 * columns as u32 + if columns == 1 { 150 } else { 0 };
    let height = (most * BAR + 60) * rows as u32;
    let root = SVGBackend::new(path, (width, height)).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, panel) in root.split_evenly((rows, columns)).iter().zip(&panels) {
        draw_bars(&root, area, panel, most)?;
    }
    Ok(root.present()?)
}

fn draw_bars(root: &Area<'_>, area: &Area<'_>, panel: &Panel, most: u32) -> Result<()> {
    // The ends of the spread do not stretch the scale beyond twice the longest bar.
    let longest = panel.bars.iter().map(|(_, bar)| bar.median).fold(0.0, f64::max);
    let widest = panel.bars.iter().map(|(_, bar)| bar.max).fold(longest, f64::max);
    let end = widest.min(longest * 1.3) * 1.15;
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, (FONT, 14).into_font().color(&INK))
        .margin(6)
        .margin_left(LEFT)
        .x_label_area_size(24)
        .build_cartesian_2d(0.0..end, 0.0..f64::from(most))?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_labels(5)
        .light_line_style(TRANSPARENT)
        .label_style((FONT, 10).into_font().color(&INK))
        .draw()?;
    let name_style = (FONT, 11).into_font().color(&INK).pos(Pos::new(HPos::Right, VPos::Center));
    let value_style = (FONT, 10).into_font().color(&INK).pos(Pos::new(HPos::Left, VPos::Center));
    for (at, (who, bar)) in panel.bars.iter().enumerate() {
        let y = f64::from(most) - at as f64 - 0.5;
        let color = color(who);
        chart.draw_series([Rectangle::new(
            [(0.0, y - 0.38), (bar.median, y + 0.38)],
            color.filled(),
        )])?;
        let spread = [(bar.min, y), (bar.max.min(end), y)];
        chart.draw_series([PathElement::new(spread, INK.mix(0.7))])?;
        let (x, middle) = chart.backend_coord(&(0.0, y));
        root.draw(&Text::new(who.subject.clone(), (x - 5, middle), name_style.clone()))?;
        let (x, _) = chart.backend_coord(&(bar.max.max(bar.median).min(end), y));
        let value = format!("{:.*}", panel.digits, bar.median);
        root.draw(&Text::new(value, (x + 3, middle), value_style.clone()))?;
    }
    Ok(())
}

/// Cost and latency by the number of sessions.
fn lines(path: &Path, sessions: &Sessions) -> Result<()> {
    let root = SVGBackend::new(path, (WIDTH, 420)).into_drawing_area();
    root.fill(&WHITE)?;
    let (left, right) = root.split_horizontally(WIDTH / 2);
    draw_lines(&left, sessions, "CPU µs a message, by sessions", |row| {
        row.spread(|sample| sample.cpu / 1e3)
    })?;
    draw_lines(&right, sessions, "p99 µs, by sessions", |row| {
        row.latency(|latency| latency.p99 / 1e3)
    })?;
    Ok(root.present()?)
}

fn draw_lines(
    area: &Area<'_>,
    sessions: &Sessions,
    title: &str,
    figure: impl Fn(&crate::sessions::Row) -> Option<Spread>,
) -> Result<()> {
    let medians = || {
        let rows = sessions.rows.iter();
        rows.filter_map(|row| Some((&row.who, row.sessions as f64, figure(row)?.median)))
    };
    let low = medians().map(|(_, _, y)| y).fold(f64::INFINITY, f64::min) * 0.8;
    let high = medians().map(|(_, _, y)| y).fold(0.0, f64::max) * 1.25;
    let most = NUMBERS.into_iter().max().unwrap_or(1) as f64;
    let mut chart = ChartBuilder::on(area)
        .caption(title, (FONT, 14).into_font().color(&INK))
        .margin(10)
        .x_label_area_size(24)
        .y_label_area_size(46)
        .build_cartesian_2d((1.0..most).log_scale(), (low..high).log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .label_style((FONT, 10).into_font().color(&INK))
        .draw()?;
    let mut drawn: Vec<&Who> = Vec::new();
    for (who, _, _) in medians() {
        if drawn.contains(&who) {
            continue;
        }
        let color = Palette99::pick(drawn.len()).to_rgba();
        drawn.push(who);
        let width = if who.is_ours { 3 } else { 1 };
        let points = medians().filter(|(other, _, _)| *other == who).map(|(_, x, y)| (x, y));
        let series = LineSeries::new(points, color.stroke_width(width));
        let name = who.label().trim_start().to_owned();
        chart.draw_series(series)?.label(name).legend(move |(x, y)| {
            PathElement::new([(x, y), (x + 16, y)], color.stroke_width(width))
        });
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.85))
        .label_font((FONT, 10).into_font().color(&INK))
        .draw()?;
    Ok(())
}
