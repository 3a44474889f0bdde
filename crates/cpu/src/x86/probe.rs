//! The inline probe in front of every memory operand, and what happens where it fails.
//!
//! The address in r14 becomes the offset in the page and r13 the host address of the frame. One
//! compare decides the tag and whether the operand leaves the page. Where the guest's flags are
//! alive, the probe computes with `lea` and `pext` and decides with `jrcxz`.
//!
//! Neither form touches memory at an address of the guest's choice before it has decided.

use super::block::{PARKED, Scan};
use super::condition::{ABOVE, EQUAL};
use super::emit::{CLK, Mem, Patch, Place, RAX, RCX, Reg, S0, S1};
use super::group::Group;
use super::records::offset;
use super::site::{Site, SiteKind};
use super::translate::{Cold, Emitter, IsSecond};
use super::words;
use machine::{Access, CLOCK_READ, CLOCK_WRITE, PAGE_BYTES, layout};

/// What a probe asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Want {
    pub access: Access,
    pub bytes: u16,
    /// Whether a non-canonical address is #SS and not #GP.
    pub is_stack: bool,
    /// The register that the address is mostly made of, if that may matter.
    pub base: Option<Reg>,
}

impl Want {
    /// An access that the stack has nothing to do with.
    pub(super) const fn elsewhere(access: Access, bytes: u16) -> Self {
        Self { access, bytes, is_stack: false, base: None }
    }
}

pub(super) const fn tag(access: Access) -> usize {
    match access {
        Access::Write => layout::WRITE_TAG,
        Access::Read | Access::Fetch => layout::READ_TAG,
    }
}

/// What the clock advances by.
pub(super) const fn ticks(reads: u64, writes: u64) -> i32 {
    (reads * CLOCK_READ + writes * CLOCK_WRITE) as i32
}

impl Emitter {
    /// Probes for one access at the address in r14. Afterwards the operand is at `[r14+r13]`.
    pub(super) fn probe(&mut self, want: Want) {
        let is_write = want.access == Access::Write;
        let clock = if is_write { ticks(0, 1) } else { ticks(1, 0) };
        self.probe_span(want, clock);
    }

    /// Probes for `want.bytes` bytes, and advances the clock by `clock`.
    pub(super) fn probe_span(&mut self, want: Want, clock: i32) {
        let is_flags_live = self.is_live();
        let site = self.access_site(want);
        if self.has_window(want) {
            self.probe_window(want, clock, site);
            let resume = offset(self.asm.here(), self.cache_start);
            self.sites[site as usize].set_resume(resume);
            return;
        }
        let branch = if is_flags_live { self.probe_live(want) } else { self.probe_dead(want) };
        self.asm.store(Mem::table(layout::STAMP, S1), CLK);
        self.asm.lea(CLK, Mem::at(CLK, clock));
        self.asm.load(S1, Mem::table(layout::HOST, S1));
        let resume = offset(self.asm.here(), self.cache_start);
        self.sites[site as usize].set_resume(resume);
        self.cold.push(Cold::Probe { branch, site, access: want.access, is_flags_live });
        self.now.has_access = true;
    }

    /// Whether the flags in the register are still needed.
    pub(super) fn is_live(&self) -> bool {
        self.now.live != 0 && self.now.live != PARKED
    }

    /// Adds a site of the present instruction behind which emitted code goes on here.
    pub(super) fn site(&mut self, kind: SiteKind) -> u32 {
        let number = self.sites.len() as u32;
        let resume = offset(self.asm.here(), self.cache_start);
        let guest = self.now.rip.wrapping_sub(self.now.first) as u16;
        self.sites.push(Site::new(resume, self.now.block, guest, kind));
        number
    }

    pub(super) fn access_site(&mut self, want: Want) -> u32 {
        let site = self.site(SiteKind::Access {
            access: want.access,
            bytes: want.bytes,
            ordinal: self.now.ordinal,
            is_stack: want.is_stack,
            live: self.now.live,
        });
        self.now.ordinal += 1;
        site
    }

    /// Probes for a group whose address is in r14; its operands are then at `[r14 + r13 + offset]`.
    /// Returns its site, and the branch that is taken if the probe fails.
    pub(super) fn probe_group(&mut self, group: &Group) -> (u32, Patch) {
        let is_flags_live = self.is_live();
        let access = if group.writes > 0 { Access::Write } else { Access::Read };
        let base = group.anchor.base;
        let want = Want { access, bytes: group.bytes, is_stack: false, base };
        let clock = ticks(group.reads.into(), group.writes.into());
        if self.has_window(want) {
            let site = self.site(SiteKind::Group { field: 0, live: self.now.live });
            return (site, self.probe_window(want, clock, site));
        }
        let branch = if is_flags_live { self.probe_live(want) } else { self.probe_dead(want) };
        self.asm.store(Mem::table(layout::STAMP, S1), CLK);
        self.asm.lea(CLK, Mem::at(CLK, clock));
        self.asm.load(S1, Mem::table(layout::HOST, S1));
        let site = self.site(SiteKind::Group { field: 0, live: self.now.live });
        self.cold.push(Cold::Group { branch, site, is_flags_live });
        self.now.has_access = true;
        (site, branch)
    }

    pub(super) fn probe_dead(&mut self, want: Want) -> Patch {
        self.asm.index(S1, S0);
        self.asm.add_flags(S0, Mem::table(tag(want.access), S1));
        self.asm.compare_flags(S0, PAGE_BYTES as i32 - i32::from(want.bytes));
        self.asm.branch(ABOVE)
    }

    fn probe_live(&mut self, want: Want) -> Patch {
        self.asm.store(Mem::word(words::RCX_SAVE), RCX);
        self.asm.index(S1, S0);
        self.asm.load(RCX, Mem::table(tag(want.access), S1));
        self.asm.lea(S0, Mem::sum(S0, RCX));
        self.asm.lea(RCX, Mem::at(S0, i32::from(want.bytes) - 1));
        self.asm.pext(RCX, RCX, words::PAGE_MASK);
        let hit = self.asm.short(0xe3);
        let branch = self.asm.jump();
        self.asm.land(hit);
        self.asm.load(RCX, Mem::word(words::RCX_SAVE));
        branch
    }

    /// Brings the address back to r14 and goes to the slow path.
    pub(super) fn cold_probe(&mut self, site: u32, access: Access, is_flags_live: bool) {
        let tag = Mem::table(tag(access), S1);
        if is_flags_live {
            self.asm.load(RCX, tag);
            self.asm.complement(RCX);
            self.asm.lea(S0, Mem { displacement: 1, ..Mem::sum(S0, RCX) });
            self.asm.load(RCX, Mem::word(words::RCX_SAVE));
            self.ask(site);
            self.asm.jump_to(self.stubs.slow_with_flags);
        } else {
            self.asm.sub_flags(S0, tag);
            self.ask(site);
            self.asm.jump_to(self.stubs.slow);
        }
    }

    /// The fetch access of a page that is entered. `rip` is where control goes.
    pub(super) fn page_entry(
        &mut self,
        rip: u64,
        slot: u32,
        is_flags_live: bool,
        is_second: IsSecond,
    ) {
        let resident = Mem::word(layout::FETCH_RESIDENT + slot as usize);
        let branch = if is_flags_live {
            self.asm.store(Mem::word(words::RCX_SAVE), RCX);
            self.asm.load(RCX, resident);
            let cold = self.asm.short(0xe3);
            self.asm.load(RCX, Mem::word(words::RCX_SAVE));
            let hit = self.asm.short(0xeb);
            self.asm.land(cold);
            self.asm.load(RCX, Mem::word(words::RCX_SAVE));
            let branch = self.asm.jump();
            self.asm.land(hit);
            branch
        } else {
            self.asm.compare_byte_flags(resident, 0);
            self.asm.branch(EQUAL)
        };
        self.asm.load(S1, Mem::word(layout::FETCH_CLOCK));
        self.asm.store(Mem::word(layout::FETCH_STAMP + slot as usize), S1);
        self.asm.lea(S1, Mem::at(S1, 1));
        self.asm.store(Mem::word(layout::FETCH_CLOCK), S1);
        self.asm.store_imm(Mem::word(layout::FETCH_PAGE), slot as i32);
        debug_assert_eq!(rip, self.now.first, "a page is entered at the start of a block");
        self.now.rip = rip;
        let is_second = is_second == IsSecond::Yes;
        let site = self.site(SiteKind::Fetch { slot: slot as u16, is_second });
        self.cold.push(Cold::Fetch { branch, site, is_flags_live });
    }

    /// The way into a block for indirect jumps and other pages, both with parked flags:
    /// `entry: same page? goto body; page_entry: fetch; goto body`. Returns the host addresses of
    /// both.
    pub(super) fn entry(
        &mut self,
        place: Place,
        block: super::translate::BlockId,
        rip: u64,
        slot: u32,
        body: u64,
        is_flags_live: bool,
    ) -> [u64; 2] {
        self.asm.restart(place);
        self.cold.clear();
        self.now.block = block;
        self.now.first = rip;
        self.asm.compare_word_flags(Mem::word(layout::FETCH_PAGE), slot as i32);
        let same = self.asm.branch(EQUAL);
        let page_entry = self.asm.here();
        self.page_entry(rip, slot, false, IsSecond::No);
        if is_flags_live {
            self.asm.resolve(same);
            self.unpark();
        } else {
            self.asm.resolve_to(same, body);
        }
        self.asm.jump_to(body);
        self.finish(&Scan::default());
        [place.hot, page_entry]
    }

    /// Parks the flags in memory. Changes r13; the flags may be lost afterwards.
    pub(super) fn park(&mut self) {
        self.asm.copy(S1, RAX);
        self.asm.bytes(&[0x9f, 0x0f, 0x90, 0xc0]); // lahf; seto al
        self.asm.store(Mem::word(words::FLAGS_PARKED), RAX);
        self.asm.copy(RAX, S1);
    }

    /// Brings parked flags back. Changes r13.
    pub(super) fn unpark(&mut self) {
        self.asm.copy(S1, RAX);
        self.asm.load(RAX, Mem::word(words::FLAGS_PARKED));
        self.asm.bytes(&[0x04, 0x7f, 0x9e]); // add al, 127; sahf
        self.asm.copy(RAX, S1);
    }
}
