//! Medians and their spread.

use serde::Serialize;

/// The median of some figures, the smallest and the largest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// `None` of nothing.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            1 => sorted[middle],
            _ => f64::midpoint(*sorted.get(middle.checked_sub(1)?)?, sorted[middle]),
        };
        Some(Self { median, min: *sorted.first()?, max: *sorted.last()? })
    }

    /// A falling `figure` swaps the ends.
    pub(crate) fn map(self, figure: impl Fn(f64) -> f64) -> Self {
        let (a, b) = (figure(self.min), figure(self.max));
        Self { median: figure(self.median), min: a.min(b), max: a.max(b) }
    }

    pub(crate) fn show(&self, digits: usize) -> String {
        let Self { median, min, max } = self;
        if min == max {
            return format!("{median:.digits$}");
        }
        format!("{median:.digits$} ({min:.digits$}–{max:.digits$})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_numbers() {
        let spread = Spread::of([3.0, 1.0, 2.0]).expect("not empty");
        assert_eq!(spread, Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).expect("not empty").median, 2.5);
        assert_eq!(spread.map(|figure| 6.0 / figure), Spread { median: 3.0, min: 2.0, max: 6.0 });
        assert_eq!(spread.show(1), "2.0 (1.0–3.0)");
        assert_eq!(Spread::of([2.0]).expect("not empty").show(1), "2.0");
        assert_eq!(Spread::of([]), None);
    }
}
