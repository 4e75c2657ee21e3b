//! One table of the main figures, for the page of the documentation.

use crate::{
    compare::{Compared, Row},
    memory::Memory,
    spread::Spread,
    table::Table,
    work::{Shape, Work},
};

const COLUMNS: [&str; 7] = [
    "medians, texts of 32 B",
    "ping-pong: CPU µs",
    "ping-pong: p50 µs",
    "receive: CPU ns",
    "send: CPU ns",
    "echo of 256: M messages/s",
    "bytes a used session",
];

/// The main figures of everything whose memory was measured.
pub(crate) fn table(compared: &Compared, memory: &Memory) -> Table {
    let mut table = Table::new(COLUMNS);
    for row in &memory.rows {
        let of = |work: Work| compared.row(work, &row.who.subject);
        let cpu = |row: Option<&Row>| row?.spread(|sample| sample.cpu);
        let ping_pong = of(Work::PING_PONG);
        let echo = of(Work::new(Shape::EchoSend(256), 32)).and_then(|row| row.spread(|it| it.wall));
        table.row([
            row.who.label(),
            median(cpu(ping_pong), 1e-3, 2),
            median(ping_pong.and_then(|row| row.latency(|latency| latency.p50)), 1e-3, 1),
            median(cpu(of(Work::new(Shape::Receive, 32))), 1.0, 0),
            median(cpu(of(Work::new(Shape::Send, 32))), 1.0, 0),
            median(echo.map(|wall| wall.map(|ns| 1e3 / ns)), 1.0, 2),
            row.after_a_message.to_string(),
        ]);
    }
    table
}

/// Empty if it was not measured.
fn median(spread: Option<Spread>, factor: f64, digits: usize) -> String {
    spread.map_or_else(String::new, |spread| format!("{:.digits$}", spread.median * factor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{compare::Who, memory, sample::Sample};

    #[test]
    fn a_row_has_the_medians_and_gaps_for_what_was_not_measured() {
        let who = Who { subject: "native".into(), engine: "native", is_ours: true };
        let sample = |cpu| Sample { cpu, wall: 250.0, latency: None, server_busy: 0.5 };
        let row = |work, cpus: [f64; 3]| Row::new(work, who.clone(), cpus.map(sample).to_vec());
        let rows = vec![
            row(Work::PING_PONG, [9e3, 1e4, 5e4]),
            row(Work::new(Shape::EchoSend(256), 32), [1.0, 2.0, 3.0]),
        ];
        let used = memory::Row { who, open: 1, after_a_message: 7561, without_session: None };
        let memory = Memory::new(1, vec![used]);
        let table = table(&Compared { rounds: 3, rows }, &memory);
        let expected = ["drivetrain native", "10.00", "", "", "", "4.00", "7561"];
        assert_eq!(table.rows, [expected.map(str::to_owned).to_vec()]);
    }
}
