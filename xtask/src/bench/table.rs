//! The table of the bench: one line for each guest, one mean for each group.

use super::Sampled;
use super::guests::{Group, Guest};
use super::measure::Usage;

/// Ratios of one group, to be averaged: exact, off, qemu, cachegrind.
#[derive(Default)]
pub(crate) struct Table {
    ratios: [Vec<f64>; 4],
    /// Qemu over exact, where both ran.
    lead: Vec<f64>,
    /// Whether a guest had no quiet run in some way.
    is_disturbed: bool,
}

impl Table {
    pub(super) fn start(&mut self, group: Group) {
        println!(
            "\n{:<14}{:>11}{:>9}{:>9}{:>9}{:>12}{:>11}{:>10}{:>10}",
            group.name(),
            "native ms",
            "exact x",
            "off x",
            "qemu x",
            "cachegr. x",
            "ours ms",
            "peak MiB",
            "over MiB"
        );
    }

    /// Adds the line of a guest. `peak_bytes` is the guest's own largest resident set.
    pub(super) fn add(&mut self, guest: &Guest, sampled: &Sampled, peak_bytes: Option<u64>) {
        let [native, exact, off, qemu, cachegrind] = sampled.uses;
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
        let peak = exact.map(|usage| count(usage.peak_kib) / 1024.0);
        let own = peak_bytes.and_then(|bytes| i64::try_from(bytes >> 10).ok());
        let over = peak.zip(own).map(|(peak, kib)| peak - count(kib) / 1024.0);
        let [native_ms, ours_ms] = [native, exact].map(|way| show(way.map(milliseconds)));
        let [peak, over] = [peak, over].map(show);
        let mark = if sampled.is_disturbed { "~" } else { "" };
        self.is_disturbed |= sampled.is_disturbed;
        println!(
            "{:<14}{native_ms:>11}{exact_x:>9}{off_x:>9}{qemu_x:>9}{cachegrind_x:>12}\
             {ours_ms:>11}{peak:>10}{over:>10}",
            format!("{}{mark}", guest.name),
        );
    }

    /// Prints the geometric means and forgets the group.
    pub(super) fn finish_group(&mut self, group: Group) {
        let ratios = std::mem::take(&mut self.ratios);
        let worst = ratios[0].iter().copied().reduce(f64::max);
        let means = ratios.map(|all| mean(&all));
        let lead = mean(&std::mem::take(&mut self.lead));
        if means[0].is_some() {
            let [exact, off, qemu, cachegrind] = means.map(show);
            print!("{:<25}{exact:>9}{off:>9}{qemu:>9}{cachegrind:>12}", "geometric mean");
            println!("   worst {}, qemu / exact {}", show(worst), show(lead));
            println!("goal: {}", goal(group));
            if std::mem::take(&mut self.is_disturbed) {
                println!("~ some way had no run in which a core was its own: ratios may be off");
            }
        }
    }
}

/// What the group is to reach.
const fn goal(group: Group) -> &'static str {
    match group {
        Group::Kernels => "exact 1.9 (worst 3.5), off 1.6, qemu / exact 1.6; 64 MiB over the guest",
        Group::Programs => "python 6, none slower than qemu, cachegrind / exact 4",
        Group::Memory => "pairs, protect, brk 0.6; first_touch 1.0; recycled 0.5; many_vmas 0.7",
        Group::Processes => "fork 1.0, spawn 4, ping_pong 3, make 6",
        Group::Start => "true 20 ms, python-print 250 ms",
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
