//! Explanations and maps for people: at most 100 columns.

use super::map::{MapView, MemoryView};
use super::paging::{Step, Translation};
use super::trace::History;
use super::{RegionView, View};
use crate::words::{grouped, short_bytes, shorten};

/// Columns of a line.
const COLUMNS: usize = 100;
/// Events of a page that are shown.
const EVENTS: usize = 12;

fn line(out: &mut String, text: &str) {
    *out += &shorten(text.trim_end(), COLUMNS);
    out.push('\n');
}

/// An address and where it leads.
pub(super) fn address(view: &View) -> String {
    let mut out = String::new();
    let ram = short_bytes(view.ram_bytes);
    line(&mut out, &format!("{} on {} with {ram} of RAM", view.address, view.machine));
    line(&mut out, &format!("  {:<10} {}", "kind", view.kind));
    if let Some(region) = &view.region {
        line(&mut out, &format!("  {:<10} {}", "area", extent(region)));
    }
    for says in &view.says {
        line(&mut out, &format!("  {:<10} {says}", ""));
    }
    if let Some(physical) = &view.physical {
        line(&mut out, &format!("  {:<10} {physical}", "physical"));
    }
    line(&mut out, &format!("  {:<10} {}", "rule", view.rule));
    segmentation(&mut out, view);
    if view.segmentation.exception.is_none() {
        paging(&mut out, &view.translation);
    }
    if let Some(history) = &view.history {
        trace(&mut out, history);
    }
    out
}

fn extent(region: &RegionView) -> String {
    format!("{} to {}, {}", region.first, region.last, short_bytes(region.bytes))
}

fn segmentation(out: &mut String, view: &View) {
    let way = &view.segmentation;
    line(out, "segmentation");
    line(
        out,
        &format!(
            "  {:<10} {}: index {}, TI {} ({}), RPL {} = {}",
            "selector", way.selector, way.index, way.ti, way.table, way.rpl, way.name
        ),
    );
    line(
        out,
        &format!(
            "  {:<10} {} at {} + {:#x}: {} segment, base {:#x}, limit {:#x}, DPL {}",
            "descriptor",
            way.descriptor,
            way.table,
            way.table_offset,
            way.kind,
            way.base,
            way.limit,
            way.dpl
        ),
    );
    line(out, &format!("  {:<10} {}", "", way.bits.join(", ")));
    line(out, &format!("  {:<10} {}", "linear", way.linear));
    line(out, &format!("  {:<10} {}", "rule", way.rule));
}

fn paging(out: &mut String, translation: &Translation) {
    line(out, "paging");
    if !translation.steps.is_empty() {
        let head = ["BITS", "INDEX", "ENTRY AT", "ENTRY"];
        let [bits, index, at, entry] = head;
        line(out, &format!("  LEVEL  {bits:>7} {index:>6} {at:>10} {entry:>18}  FLAGS"));
    }
    for step in &translation.steps {
        line(out, &row(step));
    }
    let indexes = translation.indexes.iter();
    let indexes: Vec<String> =
        indexes.map(|each| format!("{} {}", each.name, each.index)).collect();
    if translation.page_bytes.is_none() && !indexes.is_empty() {
        line(out, &format!("  {:<10} {}", "indexes", indexes.join(", ")));
    }
    if let (Some(bytes), Some(offset)) = (translation.page_bytes, &translation.page_offset) {
        line(out, &format!("  {:<10} {offset} in a page of {}", "offset", short_bytes(bytes)));
    }
    line(out, &format!("  {:<10} {}", "end", translation.end));
    line(out, &format!("  {:<10} {}", "user mode", translation.user_access));
    for place in &translation.tlb {
        let size = short_bytes(place.page_bytes);
        line(
            out,
            &format!(
                "  {:<10} {}: set {} of {}, any of its {} ways, as a page of {size}",
                "TLB", place.level, place.set, place.sets, place.ways
            ),
        );
    }
    line(out, &format!("  {:<10} Intel SDM 3A, 4.3 to 4.6 (walk, U/S, R/W, NX)", "rule"));
}

fn row(step: &Step) -> String {
    let bits = format!("{}-{}", step.bits[0], step.bits[1]);
    let frame = step.frame.as_ref().map_or_else(String::new, |frame| format!(" -> frame {frame}"));
    let flags = match step.flags.is_empty() {
        true => "(not present)".to_owned(),
        false => step.flags.join(" "),
    };
    let Step { name, index, at, entry, .. } = step;
    format!("  {name:<6} {bits:>7} {index:>6} {at:>10} {entry:>18}  {flags}{frame}")
}

fn trace(out: &mut String, history: &History) {
    let History { pid, mm, faults, .. } = history;
    line(out, &format!("process {pid}, address space {mm}, in the trace"));
    match &history.range {
        Some(range) => line(
            out,
            &format!("  {:<10} {} to {} {}", "mapped", range.first, range.last, range.rights),
        ),
        None => line(out, &format!("  {:<10} not mapped at the end", "mapped")),
    }
    line(out, &format!("  {:<10} {} at this page", "faults", grouped(*faults)));
    for event in history.events.iter().take(EVENTS) {
        line(out, &format!("  {event}"));
    }
    let left = history.events_left_out + history.events.len().saturating_sub(EVENTS) as u64;
    if left > 0 {
        line(out, &format!("  ... {} more events; --json has more of them", grouped(left)));
    }
}

/// The whole map, from the highest address down.
pub(super) fn map(view: &MapView) -> String {
    let mut out = String::new();
    let MapView { machine, kernel, cpus, page_offset, .. } = view;
    let ram = short_bytes(view.ram_bytes);
    line(
        &mut out,
        &format!(
            "{machine} with {ram} of RAM, Linux {kernel} for up to {cpus} CPUs, \
             PAGE_OFFSET {page_offset}"
        ),
    );
    for region in view.regions.iter().rev() {
        let size = short_bytes(region.bytes);
        line(
            &mut out,
            &format!("  {:>18} - {:>18} {size:>10}  {}", region.first, region.last, region.kind),
        );
    }
    line(&mut out, "");
    let memory = &view.memory;
    let limit = memory.lowmem_limit_bytes;
    line(&mut out, &format!("lowmem limit {limit:#x} ({})", short_bytes(limit)));
    line(
        &mut out,
        &format!(
            "kmap slots {}, kmap_local slots {}",
            grouped(memory.pkmap_slots),
            grouped(memory.kmap_local_slots)
        ),
    );
    line(&mut out, "");
    line(&mut out, "       RAM     lowmem    highmem     unused    vmalloc   (MiB)");
    for each in &view.by_ram {
        line(&mut out, &amounts(each));
    }
    if memory.pkmap_slots > 0 {
        line(
            &mut out,
            "more RAM takes kernel virtual space from vmalloc, until its reserve is left",
        );
    }
    out
}

fn amounts(each: &MemoryView) -> String {
    let mib = |bytes: u64| grouped(bytes >> 20);
    format!(
        "{:>10} {:>10} {:>10} {:>10} {:>10}",
        mib(each.ram_bytes),
        mib(each.lowmem_bytes),
        mib(each.highmem_bytes),
        mib(each.unused_bytes),
        mib(each.vmalloc_bytes)
    )
}
