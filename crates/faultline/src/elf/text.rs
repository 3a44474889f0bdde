//! The view of an ELF file for people: tables of at most 100 columns.

use std::fmt::Write;

use super::linkage::When;
use super::memory::Area;
use super::needed::Needed;
use super::{SymbolView, View, found};
use crate::words::{grouped, shorten};

/// Lines of a long list, unless all are wanted.
const LINES: usize = 12;
/// Columns of a line.
const COLUMNS: usize = 100;

/// The text; with `is_all` no list is cut short. Contains no character that commands a terminal.
pub(super) fn render(view: &View, is_all: bool) -> String {
    let lines = if is_all { usize::MAX } else { LINES };
    let mut out = String::new();
    head(&mut out, view);
    segments(&mut out, view);
    vmas(&mut out, view);
    sections(&mut out, view);
    symbols(&mut out, ("Symbols", &view.symbols), lines);
    symbols(&mut out, ("Dynamic symbols", &view.dynamic_symbols), lines);
    slots(&mut out, view, lines);
    relocations(&mut out, view, is_all);
    pages(&mut out, view, lines);
    libraries(&mut out, view);
    for note in &view.notes {
        line(&mut out, &format!("not readable: {note}"));
    }
    out
}

/// Appends a line, cut to the columns and without control characters.
fn line(out: &mut String, text: &str) {
    *out += &shorten(text.trim_end(), COLUMNS);
    out.push('\n');
}

/// Appends a title, with an empty line before it.
fn title(out: &mut String, text: &str) {
    out.push('\n');
    line(out, text);
}

/// Says what is left out.
fn rest(out: &mut String, total: usize, shown: usize) {
    if total > shown {
        let count = grouped((total - shown) as u64);
        line(out, &format!("  ... {count} more; --all shows them"));
    }
}

fn head(out: &mut String, view: &View) {
    line(out, &view.file);
    let View { class_bits, byte_order, machine, kind, .. } = view;
    line(out, &format!("  {kind}; {machine}, {class_bits} bits, {byte_order} endian"));
    let at_run_time = view.entry.wrapping_add(view.bias);
    if view.kind != "object file" {
        let bias = match view.bias {
            0 => String::new(),
            bias => format!(" + bias {bias:#x} = {at_run_time:#x}"),
        };
        line(out, &format!("  entry {:#x}{bias}; stack {}", view.entry, view.stack));
    }
    if let Some(interpreter) = &view.interpreter {
        let binding = if view.binds_now { "at start-up" } else { "at the first call" };
        line(out, &format!("  interpreter {interpreter}; calls are bound {binding}"));
    }
}

fn segments(out: &mut String, view: &View) {
    if view.segments.is_empty() {
        return;
    }
    title(out, "Segments");
    let head = ["OFFSET", "ADDRESS", "IN FILE", "IN MEMORY", "ALIGN"];
    let [offset, addr, file, memory, align] = head;
    line(
        out,
        &format!(
            "  #  {:<12} {offset:>10} {addr:>12} {file:>10} {memory:>10} {align:>8}  RIGHTS",
            "KIND"
        ),
    );
    for (index, each) in view.segments.iter().enumerate() {
        let [offset, addr] = [each.offset, each.addr].map(|number| format!("{number:#x}"));
        let [file, memory, align] =
            [each.file_bytes, each.memory_bytes, each.align].map(|number| format!("{number:#x}"));
        let kind = &each.kind;
        line(
            out,
            &format!(
                "  {index:<2} {kind:<12} {offset:>10} {addr:>12} {file:>10} {memory:>10} \
                 {align:>8}  {}",
                each.rights
            ),
        );
        wrapped(out, &each.sections);
    }
}

/// Names on lines of their own.
fn wrapped(out: &mut String, names: &[String]) {
    let mut text = String::from("    ");
    for name in names {
        if text.len() + name.len() >= COLUMNS {
            line(out, &text);
            text = String::from("    ");
        }
        write!(text, " {name}").expect("a string takes every write");
    }
    if !text.trim().is_empty() {
        line(out, &text);
    }
}

fn vmas(out: &mut String, view: &View) {
    if view.vmas_at_exec.is_empty() {
        return;
    }
    title(out, "VMAs, as exec maps the segments");
    for area in &view.vmas_at_exec {
        vma(out, view, area);
    }
    if view.vmas_at_entry != view.vmas_at_exec {
        title(out, "VMAs when the program starts, after relocation (RELRO is read-only)");
        for area in &view.vmas_at_entry {
            vma(out, view, area);
        }
    }
}

fn vma(out: &mut String, view: &View, area: &Area) {
    let from = match area.file_offset {
        Some(offset) => format!("{offset:08x} of the file"),
        None => "zeros (.bss)".to_owned(),
    };
    let relro = if area.is_relro { ", RELRO" } else { "" };
    let pages = (area.end - area.start) / machine::PAGE_BYTES;
    let unit = if pages == 1 { "page " } else { "pages" };
    let digits = if view.class_bits == 64 { 12 } else { 8 };
    line(
        out,
        &format!(
            "  {:0digits$x}-{:0digits$x} {} {pages:>6} {unit}  {from}, segment {}{relro}",
            area.start, area.end, area.perms, area.segment
        ),
    );
}

fn sections(out: &mut String, view: &View) {
    if view.sections.is_empty() {
        return;
    }
    title(out, "Sections");
    line(
        out,
        &format!(
            "  {:<24} {:<14} {:>12} {:>10} {:>10} {:>6}  FLAGS",
            "NAME", "KIND", "ADDRESS", "OFFSET", "BYTES", "ALIGN"
        ),
    );
    for each in &view.sections {
        let [addr, offset, bytes] =
            [each.addr, each.offset, each.bytes].map(|number| format!("{number:#x}"));
        line(
            out,
            &format!(
                "  {:<24} {:<14} {addr:>12} {offset:>10} {bytes:>10} {:>6}  {}",
                shorten(&each.name, 24),
                shorten(&each.kind, 14),
                each.align,
                each.flags
            ),
        );
    }
}

fn symbols(out: &mut String, (name, list): (&str, &[SymbolView]), lines: usize) {
    if list.is_empty() {
        return;
    }
    title(out, &format!("{name}: {}", grouped(list.len() as u64)));
    let head = ["VALUE", "BYTES", "KIND", "BIND", "SECTION"];
    let [value, bytes, kind, bind, section] = head;
    line(out, &format!("  {value:>12} {bytes:>8} {kind:<8} {bind:<7} {section:<16} NAME"));
    for each in list.iter().take(lines) {
        let value = format!("{:#x}", each.value);
        line(
            out,
            &format!(
                "  {value:>12} {:>8} {:<8} {:<7} {:<16} {}",
                each.bytes,
                each.kind,
                each.bind,
                shorten(&each.section, 16),
                each.name
            ),
        );
    }
    rest(out, list.len(), lines);
}

fn slots(out: &mut String, view: &View, lines: usize) {
    if view.slots.is_empty() {
        return;
    }
    title(out, &format!("Slots of GOT and PLT: {}", grouped(view.slots.len() as u64)));
    line(
        out,
        &format!("  {:<14} {:<10} {:<14} {:<14} SYMBOL", "SLOT", "KIND", "STUB IN PLT", "FILLED"),
    );
    for each in view.slots.iter().take(lines) {
        let slot = format!("{:#x}", each.addr);
        let stub = each.stub.as_deref().unwrap_or("-");
        let when = words(each.when);
        line(out, &format!("  {slot:<14} {:<10} {stub:<14} {when:<14} {}", each.kind, each.symbol));
    }
    rest(out, view.slots.len(), lines);
}

const fn words(when: When) -> &'static str {
    match when {
        When::StartUp => "at start-up",
        When::FirstCall => "at first call",
        When::Linking => "at linking",
    }
}

fn relocations(out: &mut String, view: &View, is_all: bool) {
    if view.relocations.is_empty() {
        return;
    }
    let kinds = view.relocations_by_kind.iter();
    let kinds: Vec<String> =
        kinds.map(|(kind, count)| format!("{kind} {}", grouped(*count))).collect();
    let count = grouped(view.relocations.len() as u64);
    title(out, &format!("Relocations: {count} ({})", kinds.join(", ")));
    if !is_all {
        line(out, "  --all shows each and the page that it dirties");
        return;
    }
    line(
        out,
        &format!(
            "  {:<14} {:<14} {:<12} {:<13} {:>10}  SYMBOL",
            "ADDRESS", "PAGE", "KIND", "DONE", "ADDEND"
        ),
    );
    for each in &view.relocations {
        let [addr, page] = [each.addr, each.page].map(|number| format!("{number:#x}"));
        let symbol = each.symbol.as_deref().unwrap_or("-");
        let (when, kind) = (words(each.when), shorten(&each.kind, 12));
        let sign = if each.addend < 0 { "-" } else { "" };
        let addend = format!("{sign}{:#x}", each.addend.unsigned_abs());
        line(out, &format!("  {addr:<14} {page:<14} {kind:<12} {when:<13} {addend:>10}  {symbol}"));
    }
}

fn pages(out: &mut String, view: &View, lines: usize) {
    if view.dirty_pages.is_empty() {
        return;
    }
    let count = view.dirty_pages.len();
    title(
        out,
        &format!("Pages that start-up dirties (copies of its own): {}", grouped(count as u64)),
    );
    line(out, &format!("  {:<14} {:>11}  WRITTEN IN", "PAGE", "RELOCATIONS"));
    for each in view.dirty_pages.iter().take(lines) {
        let sections: Vec<&str> = each.sections.iter().map(String::as_str).collect();
        let page = format!("{:#x}", each.page);
        line(out, &format!("  {page:<14} {:>11}  {}", each.relocations, sections.join(" ")));
        if !each.others.is_empty() {
            line(out, &format!("  {:<27} and {}", "", each.others.join(", ")));
        }
    }
    rest(out, count, lines);
}

fn libraries(out: &mut String, view: &View) {
    if view.needed.is_empty() {
        return;
    }
    title(out, "Libraries needed");
    for each in &view.needed {
        library(out, each, 1);
    }
}

fn library(out: &mut String, needed: &Needed, depth: usize) {
    let name = &needed.name;
    let indent = "  ".repeat(depth);
    let known = if needed.is_known { "  (named above)" } else { "" };
    line(out, &format!("{indent}{name} => {}{known}", found(needed.path.as_ref())));
    for each in &needed.needs {
        library(out, each, depth + 1);
    }
}
