//! The slow path: accesses that the inline probe does not decide.
//!
//! The machine's model makes the access. Operands that cross a page make two. If the two frames do
//! not lie next to each other, reads get a copy; writes go on in a block of this one instruction,
//! on a copy that is written back when the block is done. Writes to bytes that blocks depend on go
//! on in such a block, too, because what follows in the present block may no longer be true.

use super::ask::Ask;
use super::block::{ALL_LIVE, Extent, PARKED};
use super::checks::{is_accessible, name_of};
use super::emit::{RAX, RCX, RDI, RSI};
use super::emulate::bus::Bus;
use super::emulate::strings::{Job, Kind, Pace, StringRegisters};
use super::engine::{Core, Refused};
use super::operand::segment_of;
use super::pages::PageId;
use super::run::{direction, parked, unparked};
use super::site::{Site, SiteKind};
use super::stubs::Reason;
use super::translate::{BlockId, Ways};
use super::words;
use crate::{Exception, Exit, SegmentName};
use iced_x86::Register;
use machine::{Access, Frame, Machine, PAGE_BYTES, PhysAddr, VirtAddr, layout};

/// Most bytes of an operand that can cross a page.
const OPERAND_BYTES_MAX: usize = 64;
const _: () = assert!(words::BOUNCE + 8 + 2 * OPERAND_BYTES_MAX / 8 <= words::WHOLE);

/// An operand that is a copy: where its two parts belong.
#[derive(Clone, Copy, Debug)]
pub(super) struct CopyBack {
    /// Offset of the copy in the aligned bounce area.
    offset: usize,
    low: PhysAddr,
    low_bytes: usize,
    high: PhysAddr,
    high_bytes: usize,
}

/// What the slow path leaves for the run loop.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Trap {
    /// The operand that the slow path looked at last, and how many bytes it has.
    pub address: u64,
    pub bytes: u64,
    /// Why it stopped the instruction.
    pub stop: Option<Stop>,
    /// Which flags are those of the guest at the present site: a mask as in a step.
    pub live: u16,
    /// Whether the site is that of an entry into a block, which has not begun.
    pub is_entry: bool,
    /// Whether the single block was entered with parked flags.
    pub is_parked: bool,
    /// To be done when the single block is done.
    pub copy_back: Option<CopyBack>,
    /// Likewise: a frame whose code is no longer true.
    pub stale: Option<Frame>,
}

/// Why the slow path stopped an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stop {
    /// The guest has to know.
    Exit(Exit),
    /// The page at the address lies in another frame than the code page with this number.
    Moved { address: u64, slot: u32, frame: Frame, is_second: bool },
    /// The cache is full.
    NoRoom,
    /// The instruction is done, and blocks have to die before the next one, at this address. What
    /// stands at its own may be something else by now.
    Stale { next_rip: u64 },
    /// One element of a repeated instruction is done, and the trap flag is set.
    Element,
}

/// One access of an instruction.
#[derive(Clone, Copy)]
struct Wanted {
    address: u64,
    access: Access,
    bytes: u64,
    ordinal: u8,
    is_stack: bool,
}

impl Core {
    /// Decides one usual access: returns where the operand is in host memory, or 0 if there is more
    /// to it. Called by emitted code while the guest's vector registers are in place.
    #[inline(always)]
    pub(super) fn quick_access(
        &mut self,
        hw: &mut Machine,
        address: u64,
        ask: u64,
        slot: usize,
    ) -> u64 {
        let (resume, access, bytes) = match Ask::decode(ask as u32) {
            Ask::Access { resume, access, bytes } => (resume, access, bytes),
            Ask::Site(_) => {
                let fetched = Ask::fetch_resume(ask).and_then(|at| self.quick_fetch(hw, at));
                return fetched.map_or(0, |()| 1);
            }
        };
        let address = VirtAddr::new(address);
        let host = if address.page_offset() + bytes > PAGE_BYTES {
            if self.pages.flavor.is_in_last_page(address.as_u64()) {
                return 0;
            }
            quick_crossing(hw, address, access)
        } else {
            hw.access_quickly(address, access, slot)
        };
        let Some(host) = host else { return 0 };
        if let Some(word) = hw.fast().get_mut(words::RESUME) {
            *word = self.emitter.cache_start + u64::from(resume);
        }
        host
    }

    /// Likewise for a site that enters a code page: emitted code goes on in it. Looks at nothing
    /// that there is one of for each site or block: such things are seldom in a cache.
    #[inline(always)]
    fn quick_fetch(&mut self, hw: &mut Machine, resume: u64) -> Option<()> {
        let slot = hw.fast().get(words::FETCH_SLOT).map_or(0, |slot| *slot as u32);
        let (start, known) = self.pages.only_place(slot.checked_sub(1)?)?;
        hw.fetch_quickly(VirtAddr::new(start), slot, |frame| frame == known)?;
        if let Some(word) = hw.fast().get_mut(words::RESUME) {
            *word = self.emitter.cache_start + resume;
        }
        Some(())
    }

    /// Decides one access: returns where the operand is in host memory, or 0 to leave. Called by
    /// emitted code.
    pub(super) fn slow_access(&mut self, hw: &mut Machine, address: u64, ask: u32) -> u64 {
        let site = self.asking(ask);
        self.trap.is_entry = false;
        let result = match site.kind() {
            SiteKind::Access { access, bytes, ordinal, is_stack, live } => {
                let bytes = bytes.into();
                (self.trap.address, self.trap.bytes) = (address, bytes);
                let wanted = Wanted { address, access, bytes, ordinal, is_stack };
                self.trap.live = live;
                self.data(hw, site, wanted)
            }
            SiteKind::Fetch { slot, is_second } => {
                self.trap.live = if is_second { ALL_LIVE } else { PARKED };
                self.trap.is_entry = !is_second;
                self.fetch(hw, site, slot.into(), is_second)
            }
            SiteKind::String { job, live, length } => {
                self.trap.live = live;
                let next_rip = self.site_rip(&site).wrapping_add(u64::from(length))
                    & self.pages.flavor.linear_mask();
                self.string(hw, site, job, next_rip)
            }
            SiteKind::Branch | SiteKind::Group { .. } => Err(Stop::NoRoom),
        };
        match result {
            Ok((host, resume)) => {
                hw.fast()[words::RESUME] = resume;
                hw.allow_misses();
                host
            }
            Err(stop) => {
                let rip = self.site_rip(&site);
                let fast = hw.fast();
                fast[words::RIP] = rip;
                fast[words::REASON] = Reason::Stopped as u64;
                fast[words::ARGUMENT] = u64::from(site.block());
                self.trap.stop = Some(stop);
                0
            }
        }
    }

    /// The site of a word that emitted code hands over.
    fn asking(&mut self, ask: u32) -> Site {
        let resume = match Ask::decode(ask) {
            Ask::Site(number) => return self.emitter.sites[number as usize],
            Ask::Access { resume, .. } => resume,
        };
        if let Some(known) = self.emitter.asked.find(resume) {
            return self.emitter.sites[known as usize];
        }
        let is_cold = self.host(resume) >= self.cache.cold_start();
        let (piece, _) =
            self.pages.piece_at_host(resume, is_cold).expect("a site is in the code of a block");
        let first = piece.sites.start;
        let mut sites = self.emitter.sites[piece.sites].iter();
        let at = sites.position(|site| site.resume() == resume);
        let number = first + at.expect("each resumption has a site");
        self.emitter.asked.note(resume, number as u32);
        self.emitter.sites[number]
    }

    /// The guest instruction that a site stands for.
    pub(super) fn site_rip(&self, site: &Site) -> u64 {
        let block = &self.pages.blocks[site.block() as usize];
        self.pages.rip(block).wrapping_add(site.guest())
    }

    /// Does a string instruction on the homes of its registers.
    fn string(
        &mut self,
        hw: &mut Machine,
        site: Site,
        job: Job,
        next_rip: u64,
    ) -> Result<(u64, u64), Stop> {
        let flavor = self.pages.flavor;
        let is_limited = flavor.limits_strings(job.segment);
        let is_stepped = self.is_stepping();
        let pace = if is_stepped || is_limited { Pace::Element } else { Pace::Whole };
        let fast = hw.fast();
        let flags = unparked(fast[words::FLAGS_SAVE]) | direction(fast);
        let rcx = fast[words::home(RCX)];
        let mut on = StringRegisters {
            rax: fast[words::home(RAX)],
            rcx,
            rsi: fast[words::home(RSI)],
            rdi: fast[words::home(RDI)],
            rflags: flags,
            source_base: base_of(fast, job.segment),
            target_base: if flavor.is_compat() { fast[words::ES_BASE] } else { 0 },
            linear_mask: flavor.linear_mask(),
        };
        let mut bus = Bus {
            hw,
            canonical_bits: self.canonical_bits,
            is_stack: false,
            linear_mask: flavor.linear_mask(),
            may_wrap: is_limited,
        };
        let mut result = job.run(&mut bus, &mut on, pace);
        while is_limited && !is_stepped && matches!(result, Ok(false)) {
            if let Some(exception) = self.refused_element(bus.hw, job, &on) {
                result = Err(Exit::Exception(exception));
                break;
            }
            result = job.run(&mut bus, &mut on, pace);
        }
        let fast = hw.fast();
        fast[words::home(RAX)] = on.rax;
        fast[words::home(RCX)] = on.rcx;
        fast[words::home(RSI)] = on.rsi;
        fast[words::home(RDI)] = on.rdi;
        if job.writes_flags() {
            fast[words::FLAGS_SAVE] = parked(on.rflags);
            if on.rcx != rcx {
                // Some elements were done: all flags are theirs.
                self.trap.live = u16::MAX;
            }
        }
        let is_over = result.map_err(Stop::Exit)?;
        if !is_over {
            return Err(Stop::Element);
        }
        if hw.has_stale_code() {
            return Err(Stop::Stale { next_rip });
        }
        Ok((1, self.host(site.resume())))
    }

    /// What the segments raise at the next element of a string, if no page fault comes before.
    fn refused_element(
        &self,
        hw: &mut Machine,
        job: Job,
        on: &StringRegisters,
    ) -> Option<Exception> {
        let holds = |name: SegmentName, offset: u64| {
            self.virtual_state.segments[name as usize]
                .holds((offset & job.mask()) as u32, job.bytes.into())
        };
        let source = name_of(job.segment);
        let reads_source = !matches!(job.kind, Kind::Fill | Kind::Scan);
        if reads_source && !holds(source, on.rsi) {
            return Some(match source {
                SegmentName::Ss => Exception::StackFault,
                _ => Exception::GeneralProtection,
            });
        }
        if job.kind == Kind::Load || holds(SegmentName::Es, on.rdi) {
            return None;
        }
        let first = (on.rsi & job.mask()).wrapping_add(on.source_base) & on.linear_mask;
        let last = first.wrapping_add(u64::from(job.bytes) - 1) & on.linear_mask;
        let is_read = !reads_source || is_accessible(hw, first, last, Access::Read);
        is_read.then_some(Exception::GeneralProtection)
    }

    /// The host address of a byte of RAM.
    fn host_of(hw: &Machine, place: PhysAddr) -> u64 {
        hw.ram.host_base().wrapping_add(place.as_u64())
    }

    fn data(&mut self, hw: &mut Machine, site: Site, want: Wanted) -> Result<(u64, u64), Stop> {
        let offset = want.address % PAGE_BYTES;
        if offset + want.bytes > PAGE_BYTES {
            return self.crossing(hw, site, want);
        }
        let is_write = want.access == Access::Write;
        if is_write && self.is_short_of_room() {
            return Err(Stop::NoRoom);
        }
        let place = match hw.access(VirtAddr::new(want.address), want.access) {
            Ok(place) => place,
            Err(fault) => return Err(self.refused(want, want.address, Exit::Fault(fault))),
        };
        let host = Self::host_of(hw, place);
        if is_write && hw.is_code(place.frame()) {
            let frame = place.frame();
            if self.pages.is_covered(frame, offset, want.bytes) {
                let resume = self.isolate(hw, site, want.ordinal)?;
                self.trap.stale = Some(frame);
                return Ok((host, resume));
            }
        }
        Ok((host, self.host(site.resume())))
    }

    /// The stop for a refused access: a non-canonical address is not a page fault.
    fn refused(&self, want: Wanted, address: u64, exit: Exit) -> Stop {
        let is_within = address & !self.pages.flavor.linear_mask() == 0;
        if is_within && VirtAddr::new(address).is_canonical(self.canonical_bits) {
            return Stop::Exit(exit);
        }
        let exception =
            if want.is_stack { Exception::StackFault } else { Exception::GeneralProtection };
        Stop::Exit(Exit::Exception(exception))
    }

    /// Whether a single block could not be translated.
    fn is_short_of_room(&self) -> bool {
        self.cache.free() < 128 << 10
    }

    fn crossing(&mut self, hw: &mut Machine, site: Site, want: Wanted) -> Result<(u64, u64), Stop> {
        if self.is_short_of_room() {
            return Err(Stop::NoRoom);
        }
        let low_bytes = PAGE_BYTES - want.address % PAGE_BYTES;
        let mut next = want.address.wrapping_add(low_bytes);
        if self.may_wrap(hw, site, want) {
            next &= self.pages.flavor.linear_mask();
        }
        for address in [want.address, next] {
            // What reaches over the end of 32-bit addresses is beyond the limit of its segment.
            let is_within = address & !self.pages.flavor.linear_mask() == 0;
            if !is_within || !VirtAddr::new(address).is_canonical(self.canonical_bits) {
                let exit = Exit::Exception(Exception::GeneralProtection);
                return Err(self.refused(want, address, exit));
            }
        }
        let mut place = [PhysAddr::new(0); 2];
        for (address, place) in [want.address, next].into_iter().zip(&mut place) {
            *place = hw
                .access(VirtAddr::new(address), want.access)
                .map_err(|fault| Stop::Exit(Exit::Fault(fault)))?;
        }
        let [low, high] = place;
        let is_write = want.access == Access::Write;
        let is_adjacent = high.as_u64() == low.as_u64() + low_bytes;
        let touches_code = is_write && (hw.is_code(low.frame()) || hw.is_code(high.frame()));
        if is_adjacent && !touches_code {
            return Ok((Self::host_of(hw, low), self.host(site.resume())));
        }
        let copy = CopyBack {
            offset: (want.address % 64) as usize,
            low,
            low_bytes: low_bytes as usize,
            high,
            high_bytes: (want.bytes - low_bytes) as usize,
        };
        let host = self.fill_bounce(hw, copy);
        if !is_write {
            return Ok((host, self.host(site.resume())));
        }
        let resume = self.isolate(hw, site, want.ordinal)?;
        self.trap.copy_back = Some(copy);
        Ok((host, resume))
    }

    /// Whether an operand of 32-bit code that reaches over the end of linear addresses lies within
    /// its segment all the same: then it goes on at 0.
    fn may_wrap(&self, hw: &mut Machine, site: Site, want: Wanted) -> bool {
        let flavor = self.pages.flavor;
        if !flavor.is_compat() || !flavor.is_in_last_page(want.address) {
            return false;
        }
        let Ok(instruction) = self.decode_at(self.site_rip(&site), hw) else { return false };
        let segment = match segment_of(&instruction) {
            _ if want.is_stack => Register::SS,
            segment => segment,
        };
        let offset = want.address.wrapping_sub(base_of(hw.fast(), segment)) as u32;
        offset.checked_add(want.bytes as u32 - 1).is_some()
    }

    /// Copies both parts to the bounce area; returns the host address of the copy.
    fn fill_bounce(&mut self, hw: &mut Machine, copy: CopyBack) -> u64 {
        let mut bytes = [0u8; 2 * OPERAND_BYTES_MAX];
        let middle = copy.offset + copy.low_bytes;
        hw.load(copy.low, &mut bytes[copy.offset..middle]);
        hw.load(copy.high, &mut bytes[middle..middle + copy.high_bytes]);
        let (first, host) = bounce(hw);
        let fast = hw.fast();
        for (word, chunk) in fast[first..].iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(chunk.try_into().expect("chunks are 8 bytes"));
        }
        host + copy.offset as u64
    }

    /// Writes a copy back to where it belongs.
    pub(super) fn write_back(&mut self, hw: &mut Machine, copy: CopyBack) {
        let mut bytes = [0u8; 2 * OPERAND_BYTES_MAX];
        let (first, _) = bounce(hw);
        for (word, chunk) in hw.fast()[first..].iter().zip(bytes.chunks_exact_mut(8)) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        let middle = copy.offset + copy.low_bytes;
        hw.store(copy.low, &bytes[copy.offset..middle]);
        hw.store(copy.high, &bytes[middle..middle + copy.high_bytes]);
    }

    /// Where to go on behind the probe number `ordinal` in a block of only this instruction.
    fn isolate(&mut self, hw: &mut Machine, site: Site, ordinal: u8) -> Result<u64, Stop> {
        let block = &self.pages.blocks[site.block() as usize];
        if block.extent == Extent::Single {
            return Ok(self.host(site.resume()));
        }
        let page = block.page();
        let rip = self.site_rip(&site);
        let single = match self.pages.find(page, rip, Extent::Single) {
            Some(single) => single,
            None => self.translate_single(hw, page, rip)?,
        };
        self.uncount_rest(site.block(), rip, 1);
        self.trap.is_parked = self.trap.live == PARKED;
        Ok(self.resume_in(single, ordinal).unwrap_or_else(|| self.host(site.resume())))
    }

    fn translate_single(
        &mut self,
        hw: &mut Machine,
        page: PageId,
        rip: u64,
    ) -> Result<BlockId, Stop> {
        self.translate(hw, page, rip, Extent::Single, Ways::Links).map_err(
            |refused| match refused {
                Refused::Exit(exit) => Stop::Exit(exit),
                Refused::NoRoom => Stop::NoRoom,
            },
        )
    }

    /// Host address behind probe `ordinal` of a single block.
    fn resume_in(&self, single: BlockId, ordinal: u8) -> Option<u64> {
        let block = &self.pages.blocks[single as usize];
        let first = block.first_site as usize;
        self.emitter.sites[first..first + usize::from(block.site_count)]
            .iter()
            .find(|site| {
                matches!(site.kind(), SiteKind::Access { ordinal: other, .. } if other == ordinal)
            })
            .map(|site| self.host(site.resume()))
    }

    fn fetch(
        &mut self,
        hw: &mut Machine,
        site: Site,
        number: u32,
        is_second: bool,
    ) -> Result<(u64, u64), Stop> {
        let rip = self.site_rip(&site);
        let address = if is_second { self.next_page(rip) } else { rip };
        let place = hw
            .fetch(VirtAddr::new(address), number)
            .map_err(|fault| Stop::Exit(Exit::Fault(fault)))?;
        let page = number - 1;
        let frame = place.frame();
        if self.pages.page(page).frame != frame {
            return Err(Stop::Moved { address, slot: number, frame, is_second });
        }
        hw.fast()[layout::FETCH_PAGE] = u64::from(number);
        self.pages.confirm_present(address, page);
        Ok((1, self.host(site.resume())))
    }

    /// Takes back the count of the instructions of `block` that are not executed: those from `rip`
    /// on but for the first `done`.
    pub(super) fn uncount_rest(&mut self, block: BlockId, rip: u64, done: u64) {
        let Some(counting) = self.counting.as_mut() else { return };
        let block = &self.pages.blocks[block as usize];
        let first = block.first_point as usize;
        let points = &self.emitter.points[first..first + usize::from(block.instruction_count)];
        let guest = rip.wrapping_sub(self.pages.rip(block));
        let before = points.iter().filter(|point| u64::from(point.guest) < guest).count() as u64;
        counting.take_back((u64::from(block.instruction_count) - before).saturating_sub(done));
    }
}

/// Base of the segment that a register holds; none is DS of 64-bit code.
fn base_of(fast: &[u64], segment: Register) -> u64 {
    match segment {
        Register::FS => fast[words::FS_BASE],
        Register::GS => fast[words::GS_BASE],
        Register::ES => fast[words::ES_BASE],
        Register::SS => fast[words::SS_BASE],
        Register::DS => fast[words::DS_BASE],
        Register::CS => fast[words::CS_BASE],
        _ => 0,
    }
}

/// First word of the bounce area that is 64-byte aligned in host memory, and its host address.
fn bounce(hw: &Machine) -> (usize, u64) {
    let start = hw.fast_address() + words::gs(words::BOUNCE) as u64;
    let aligned = (start + 63) & !63;
    (words::BOUNCE + ((aligned - start) / 8) as usize, aligned)
}

/// Apart from the rest, which should stay short.
#[inline(never)]
fn quick_crossing(hw: &mut Machine, address: VirtAddr, access: Access) -> Option<u64> {
    hw.access_crossing_quickly(address, access)
}
