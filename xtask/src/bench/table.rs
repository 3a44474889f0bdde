//! The table of the bench: one line for each guest, one mean for each group.

use super::guests::{Group, Guest};
use super::measure::Usage;

/// Ratios of one group, to be averaged: exact, off, qemu, cachegrind.
#[derive(Default)]
pub(crate) struct Table {
    ratios: [Vec<f64>; 4],
    /// Qemu over exact, where both ran.
    lead: Vec<f64>,
}

impl Table {
    pub(super) fn start(&mut self, group: Group) {
        println!(
            "\n{:<14}{:>12}{:>10}{:>10}{:>10}{:>12}{:>14}{:>12}",
            group.name(),
            "native ms",
            "exact x",
            "off x",
            "qemu x",
            "cachegr. x",
            "ours ms",
            "peak MiB"
        );
    }

    /// Adds the line of a guest; uses come in the order of `Way::ALL`.
    pub(super) fn add(&mut self, guest: &Guest, uses: &[Option<Usage>; 5]) {
        let [native, exact, off, qemu, cachegrind] = *uses;
        let ratio =
            |way: Option<Usage>| Some(milliseconds(way?) / milliseconds(native?).max(0.001));
        let ratios = [ratio(exact), ratio(off), ratio(qemu), ratio(cachegrind)];
        for (all, one) in self.ratios.iter_mut().zip(ratios) {
            all.extend(one);
        }
        if let (Some(qemu), Some(exact)) = (qemu, exact) {
            self.lead.push(milliseconds(qemu) / milliseconds(exact).max(0.001));
        }
        let [exact_x, off_x, qemu_x, cachegrind_x] = ratios.map(show);
        println!(
            "{:<14}{:>12}{exact_x:>10}{off_x:>10}{qemu_x:>10}{cachegrind_x:>12}{:>14}{:>12}",
            guest.name,
            show(native.map(milliseconds)),
            show(exact.map(milliseconds)),
            show(exact.map(|usage| count(usage.peak_kib) / 1024.0)),
        );
    }

    /// Prints the geometric means and forgets the group.
    pub(super) fn finish_group(&mut self) {
        let means = std::mem::take(&mut self.ratios).map(|all| mean(&all));
        let lead = mean(&std::mem::take(&mut self.lead));
        if means[0].is_some() {
            let [exact, off, qemu, cachegrind] = means.map(show);
            print!("{:<26}{exact:>10}{off:>10}{qemu:>10}{cachegrind:>12}", "geometric mean");
            println!("   qemu / exact {}", show(lead));
        }
    }
}

fn milliseconds(usage: Usage) -> f64 {
    count(usage.cpu_us) / 1000.0
}

/// A count as a real number; counts here are far below 2^53.
fn count(number: i64) -> f64 {
    number as f64
}

fn mean(values: &[f64]) -> Option<f64> {
    let total: f64 = values.iter().map(|value| value.ln()).sum();
    let number = f64::from(u32::try_from(values.len()).ok()?);
    (!values.is_empty()).then(|| (total / number).exp())
}

fn show(value: Option<f64>) -> String {
    value.map_or("-".into(), |value| format!("{value:.2}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_geometric() {
        assert_eq!(mean(&[]), None);
        let value = mean(&[1.0, 4.0]).expect("there are values");
        assert!((value - 2.0).abs() < 1e-9, "{value}");
    }
}
