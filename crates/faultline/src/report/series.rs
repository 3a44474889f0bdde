//! Memory over time: columns of samples, and a line of blocks for people.

use kernel::series::{Sample, Series};
use machine::PAGE_BYTES;
use serde::Serialize;

use super::Report;

/// Cells of a line of blocks.
const CELLS: usize = 64;
/// Blocks from empty to full.
const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// One value for each sample; each list is as long as the others.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub(crate) struct SeriesFigures {
    /// From one sample to the next; more where the program slept.
    pub(crate) interval_ns: u64,
    /// Virtual time at the end of each interval.
    pub(crate) until_ns: Vec<u64>,
    /// In RAM then, of the whole machine.
    pub(crate) anon_bytes: Vec<u64>,
    pub(crate) file_bytes: Vec<u64>,
    pub(crate) shmem_bytes: Vec<u64>,
    pub(crate) swap_bytes: Vec<u64>,
    /// In the interval.
    pub(crate) swapped_in_pages: Vec<u64>,
    pub(crate) swapped_out_pages: Vec<u64>,
    pub(crate) faults: Vec<u64>,
    pub(crate) major_faults: Vec<u64>,
    /// Pages that programs used in the interval; only with `--working-set`.
    pub(crate) used_pages: Option<Vec<u64>>,
}

impl SeriesFigures {
    pub(super) fn new(series: &Series) -> Self {
        let column = |value: fn(&Sample) -> u64| series.samples.iter().map(value).collect();
        Self {
            interval_ns: series.interval_ns,
            until_ns: column(|sample| sample.until_ns),
            anon_bytes: column(|sample| sample.anon * PAGE_BYTES),
            file_bytes: column(|sample| sample.file * PAGE_BYTES),
            shmem_bytes: column(|sample| sample.shmem * PAGE_BYTES),
            swap_bytes: column(|sample| sample.swap * PAGE_BYTES),
            swapped_in_pages: column(|sample| sample.swapped_in),
            swapped_out_pages: column(|sample| sample.swapped_out),
            faults: column(|sample| sample.faults),
            major_faults: column(|sample| sample.major_faults),
            used_pages: series.is_fixed.then(|| column(|sample| sample.used.unwrap_or(0))),
        }
    }
}

/// The lines of the text: RAM, and swapping and used pages where there are any.
pub(super) fn lines(report: &Report) -> Vec<String> {
    let series = &report.series;
    let ram = series.anon_bytes.iter().zip(&series.file_bytes).zip(&series.shmem_bytes);
    let ram: Vec<u64> = ram.map(|((anon, file), shmem)| anon + file + shmem).collect();
    let empty = Vec::new();
    let rows = [
        ("  in RAM over time", &ram),
        ("  swapped in over time", &series.swapped_in_pages),
        ("  used over time", series.used_pages.as_ref().unwrap_or(&empty)),
    ];
    let is_told = |values: &Vec<u64>| values.len() > 1 && values.iter().any(|value| *value > 0);
    let told = rows.iter().filter(|(_, values)| is_told(values));
    told.map(|(name, values)| format!("{name:<24}{}", blocks(values)).trim_end().to_owned())
        .collect()
}

/// A block for each value, the highest full; of many values the highest of each few.
fn blocks(values: &[u64]) -> String {
    let most = values.iter().copied().max().unwrap_or(0).max(1);
    let chunk = values.len().div_ceil(CELLS).max(1);
    let highest = values.chunks(chunk).map(|few| few.iter().copied().max().unwrap_or(0));
    highest
        .map(|value| {
            // Only nothing is empty.
            let eighths = (u128::from(value) * 8).div_ceil(u128::from(most));
            BLOCKS[usize::try_from(eighths).map_or(8, |eighths| eighths.min(8))]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{CELLS, blocks};

    #[test]
    fn the_highest_value_is_a_full_block_and_nothing_an_empty_one() {
        assert_eq!(blocks(&[0, 1, 4, 8]), " ▁▄█");
        assert_eq!(blocks(&[0, 0]), "  ");
        assert_eq!(blocks(&[u64::MAX, 1]), "█▁");
        let many: Vec<u64> = (0..1000).collect();
        assert!(blocks(&many).chars().count() <= CELLS);
        assert!(blocks(&many).ends_with('█'));
    }
}
