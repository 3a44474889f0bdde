//! Splitting a group: its steps with probes of their own, emitted when its probe has failed.
//!
//! Of the groups that a program brings, one in eight ever fails, so the steps are emitted a second
//! time only then. The failed probe leaves emitted code as if nothing of the group had been done,
//! which is so. The block is read again, the steps are emitted behind the cold code so far, and the
//! branch of the probe goes there from then on.
//!
//! Invariants
//! 1. The bytes of a living block give the same steps and groups each time that they are read.
//! 2. What is emitted here belongs to the block: no way leads to it but from the block.

use super::block::Step;
use super::block::{Extent, PARKED, Scan};
use super::emit::{Mem, RCX, S1};
use super::engine::{BLOCK_BYTES_MAX, Core, RESERVE};
use super::group::Group;
use super::records::Split;
use super::run::{Next, keep_live};
use super::site::{Site, SiteKind};
use super::stubs::Reason;
use super::translate::{Cold, Emitter, Start};
use super::window::has_frame;
use super::words;
use crate::Registers;
use machine::Machine;

impl Emitter {
    /// Leaves to have the group of a site split.
    pub(super) fn cold_group(&mut self, site: u32, is_flags_live: bool) {
        if is_flags_live {
            self.asm.load(RCX, Mem::word(words::RCX_SAVE));
        }
        self.asm.constant(S1, u64::from(Reason::Split.with(site)));
        self.asm.jump_to(self.stubs.leave);
    }

    /// Emits the steps of a group with probes of their own, and goes back. Where flags are alive,
    /// the word RCX_SAVE holds the guest's rcx, as the probe of the group leaves it.
    pub(super) fn members(&mut self, steps: &[Step], resume: u64) {
        let is_flags_live = steps.first().is_some_and(|step| !matches!(step.live, 0 | PARKED));
        if is_flags_live {
            self.asm.load(RCX, Mem::word(words::RCX_SAVE));
        }
        for step in steps {
            self.step(step);
        }
        self.asm.settle_all();
        if steps.last().is_some_and(|step| !step.class.ends_block()) {
            self.asm.jump_to(resume);
        }
    }

    /// Emits a split group of the block of `scan`, behind which code goes on at `resume`.
    fn split(&mut self, scan: &Scan, group: &Group, start: Start, resume: u64) {
        self.turn_to(scan, start);
        self.now.has_access = true;
        let first_point = self.points.len();
        self.cold.push(Cold::Split { first: group.first, last: group.last, resume });
        self.finish(scan);
        self.drop_points(first_point);
    }
}

impl Core {
    /// Splits the group of a site, whose probe has failed.
    pub(super) fn split(&mut self, regs: &mut Registers, hw: &mut Machine, site: u32) -> Next {
        let site = self.emitter.sites[site as usize];
        let SiteKind::Group { field, live } = site.kind() else {
            unreachable!("only groups are split")
        };
        keep_live(hw.fast(), live);
        let rip = self.site_rip(&site);
        let has_room = self.cache.free() >= RESERVE + BLOCK_BYTES_MAX;
        let is_true = self.pages.blocks[site.block() as usize].is_alive && !hw.has_stale_code();
        if is_true
            && has_room
            && let Some(host) = self.emit_split(hw, &site, field)
        {
            return Next::Host(host);
        }
        self.uncount_rest(site.block(), rip, 0);
        match (is_true, has_room) {
            (true, true) => self.go_one(regs, hw, rip),
            (true, false) => {
                self.flush_generation(hw);
                Next::At(rip)
            }
            (false, _) => Next::At(rip),
        }
    }

    /// Emits the group of a site split; returns where it begins. `None` if the block has no such
    /// group.
    fn emit_split(&mut self, hw: &mut Machine, site: &Site, field: u16) -> Option<u64> {
        let block = &self.pages.blocks[site.block() as usize];
        let (page, rip) = (block.page(), self.pages.rip(block));
        self.read_block(hw, page, rip, Extent::Block).ok()?;
        let first = rip.wrapping_add(site.guest());
        let steps = &self.scan.steps;
        let group = self.scan.groups.iter().find(|it| steps[it.first].instruction.ip() == first);
        let group = *group?;
        let place = self.cache.next();
        let (first_point, first_site) = (self.emitter.points.len(), self.emitter.sites.len());
        let start = Start {
            place,
            block: site.block(),
            extent: Extent::Block,
            second: None,
            counter: None,
            slot: None,
            has_frame: has_frame(hw.fast()),
        };
        self.emitter.split(&self.scan, &group, start, self.host(site.resume()));
        self.cache.append(self.emitter.asm.parts());
        self.statistics.split_count += 1;
        self.statistics.emitted_bytes += self.emitter.asm.len() as u64;
        let cold = self.offset(place.cold);
        self.patch(site.resume() - u32::from(field), cold);
        self.pages.splits.push(Split {
            block: site.block(),
            cold,
            cold_end: self.offset(self.cache.next().cold),
            first_point: first_point as u32,
            first_site: first_site as u32,
            point_count: (self.emitter.points.len() - first_point) as u16,
            site_count: (self.emitter.sites.len() - first_site) as u16,
        });
        Some(place.cold)
    }
}
