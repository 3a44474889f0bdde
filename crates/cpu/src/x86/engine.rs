//! The translator's state, and how a guest address becomes a host address to enter.
//!
//! Invariants
//! 1. While a block runs, the word FETCH_PAGE holds the slot of the page that it is in.
//! 2. A living block stands for the present bytes of its frame(s), or its death is queued in the
//!    machine and happens before the next entry.
//! 3. At least [`RESERVE`] bytes of the cache are free whenever emitted code runs, unless single
//!    blocks have used them up; then the slow path asks for a flush.

use super::ask::Ask;
use super::assignment::Assignment;
use super::block::{BLOCK_INSTRUCTIONS, Extent, Scan};
use super::cache::Cache;
use super::classify::Classifier;
use super::compat::Flavor;
use super::counting::Counting;
use super::pages::{CodePages, PageId, slot};
use super::plain::is_plain_function;
use super::profile::Profile;
use super::records::{Block, Link, Offset, few, many, offset};
use super::signals::Registration;
use super::stubs::{Quick, Stubs};
use super::translate::{BlockId, Emitter, SecondPage, Start, Ways};
use super::{EngineError, InMemory, InstructionCount, TranslatorConfig, host, joint, slow, words};
use crate::{EngineStatistics, Exception, Exit};
use machine::{Access, CLOCK_DRAIN_BIT, Frame, Geometry, Machine, PAGE_BYTES, Privilege};
use machine::{VirtAddr, layout};

/// Bytes of the cache that are kept for single blocks and entries.
pub(super) const RESERVE: usize = 256 << 10;
/// Most bytes that one block can take.
pub(super) const BLOCK_BYTES_MAX: usize = 64 << 10;
/// Back edges without an access between two looks at the clock.
pub(super) const SPIN_EDGES: u64 = 1 << 16;

/// All state of the translator.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) config: TranslatorConfig,
    pub(super) cache: Cache,
    _registration: Registration,
    pub(super) stub_bytes: usize,
    pub(super) emitter: Emitter,
    pub(super) classifier: Classifier,
    pub(super) scan: Scan,
    pub(super) assignment: Assignment,
    pub(super) profile: Profile,
    pub(super) pages: CodePages,
    pub(super) counting: Option<Counting>,
    pub(super) statistics: EngineStatistics,
    /// The words that were prepared last.
    fast_address: u64,
    has_fsgsbase: bool,
    /// Bits of a canonical address.
    pub(super) canonical_bits: u32,
    /// Whether some block may read or change the state of the x87.
    pub(super) uses_x87: bool,
    pub(super) trap: super::access::Trap,
    pub(super) virtual_state: super::run::VirtualState,
    code: Vec<u8>,
    /// Instructions that had been translated when the cache was emptied last.
    pub(super) translated_before: u64,
}

/// Why a block cannot be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    /// The guest has to know.
    Exit(Exit),
    /// The cache must be emptied first, which cannot be done now.
    NoRoom,
}

impl Core {
    pub(super) fn new(config: TranslatorConfig) -> Result<Self, EngineError> {
        host::check_features()?;
        let bytes = config.code_bytes.clamp(2 << 20, Ask::CACHE_BYTES_MAX) as usize;
        let mut cache = Cache::new(bytes & !0xfff)?;
        let mut emitter = Emitter::new(cache.range().0, bytes);
        emitter.asm.restart(cache.next());
        let quick = Quick {
            is_access: is_plain_function(slow::quick_access_address()),
            is_target: is_plain_function(slow::quick_target_address()),
        };
        emitter.stubs = Stubs::emit(&mut emitter.asm, quick);
        cache.append(emitter.asm.parts());
        let registration = Registration::new(cache.range(), emitter.stubs.signal)?;
        let counting = match config.instructions {
            InstructionCount::Off => None,
            InstructionCount::On => Some(Counting::new()),
        };
        Ok(Self {
            config,
            stub_bytes: cache.hot_bytes(),
            cache,
            _registration: registration,
            emitter,
            classifier: Classifier::new(),
            scan: Scan::default(),
            assignment: match config.in_memory {
                InMemory::Profiled => Assignment::default(),
                InMemory::Fixed(stolen) => Assignment::with_stolen(stolen),
            },
            profile: Profile::default(),
            pages: CodePages::new(bytes / 512, Flavor::default()),
            counting,
            statistics: EngineStatistics::default(),
            fast_address: 0,
            has_fsgsbase: host::has_fsgsbase(),
            canonical_bits: 48,
            uses_x87: false,
            trap: super::access::Trap::default(),
            virtual_state: super::run::VirtualState::default(),
            code: Vec::new(),
            translated_before: 0,
        })
    }

    /// Makes this thread and the machine's words ready for emitted code.
    pub(super) fn attach(&mut self, hw: &mut Machine) {
        super::signals::prepare_thread();
        let address = hw.fast_address();
        host::set_gs_base(address, self.has_fsgsbase);
        if address != self.fast_address {
            self.fast_address = address;
            self.forget_pages(hw);
            self.prepare_words(hw);
        }
        self.canonical_bits = if hw.geometry() == Geometry::La57 { 57 } else { 48 };
    }

    fn prepare_words(&mut self, hw: &mut Machine) {
        let fast = hw.fast();
        fast[words::DRAIN_MASK] = CLOCK_DRAIN_BIT;
        fast[words::PAGE_MASK] = !(PAGE_BYTES - 1);
        fast[words::SPIN] = SPIN_EDGES;
        fast[words::SLOW_ACCESS] = slow::slow_access_address();
        fast[words::QUICK_ACCESS] = slow::quick_access_address();
        fast[words::QUICK_TARGET] = slow::quick_target_address();
    }

    /// Turns to code of another flavor: no jump finds a block of the former one.
    pub(super) fn set_flavor(&mut self, hw: &mut Machine, flavor: Flavor) {
        if flavor != self.pages.flavor {
            self.pages.flavor = flavor;
            clear_jump_cache(hw.fast());
        }
    }

    /// What has to be done right before emitted code is entered; returns the `enter` stub.
    pub(super) fn prepare_entry(&mut self) -> u64 {
        if self.cache.take_dirty() {
            super::enter::serialize();
        }
        self.statistics.entry_count += 1;
        self.emitter.stubs.enter
    }

    /// Where to enter emitted code to go on at `rip`, which wraps at 32 bits in 32-bit code. Makes
    /// the fetch access if `rip` is on another page than the one that was executed last.
    pub(super) fn locate(
        &mut self,
        hw: &mut Machine,
        rip: u64,
        extent: Extent,
        ways: Ways,
    ) -> Result<BlockId, Exit> {
        let rip = rip & self.pages.flavor.linear_mask();
        if !VirtAddr::new(rip).is_canonical(self.canonical_bits) {
            return Err(Exit::Exception(Exception::GeneralProtection));
        }
        let page = self.enter_page(hw, rip)?;
        if let Some(block) = self.pages.find(page, rip, extent) {
            return Ok(block);
        }
        if self.cache.free() < RESERVE + BLOCK_BYTES_MAX {
            self.flush_generation(hw);
        }
        match self.translate(hw, page, rip, extent, ways) {
            Ok(block) => Ok(block),
            Err(Refused::Exit(exit)) => Err(exit),
            Err(Refused::NoRoom) => {
                if self.pages.is_full() {
                    self.forget_pages(hw);
                } else {
                    self.flush_generation(hw);
                }
                Err(Exit::Budget)
            }
        }
    }

    /// The code page of `rip`; makes its fetch access unless it is being executed.
    pub(super) fn enter_page(&mut self, hw: &mut Machine, rip: u64) -> Result<PageId, Exit> {
        let known = self.pages.present(rip);
        if let Some(page) = known
            && hw.fast()[layout::FETCH_PAGE] == u64::from(slot(page))
        {
            return Ok(page);
        }
        let place = hw.fetch(VirtAddr::new(rip), known.map_or(0, slot)).map_err(Exit::Fault)?;
        Ok(self.turn_to(hw, rip, known, place.frame()))
    }

    /// The code page of `rip`, for which a fetch access under the number of `known` found `frame`;
    /// it is the one being executed from here on.
    pub(super) fn turn_to(
        &mut self,
        hw: &mut Machine,
        rip: u64,
        known: Option<PageId>,
        frame: Frame,
    ) -> PageId {
        let page = match known {
            Some(page) if self.pages.page(page).frame == frame => page,
            _ => {
                if let Some(other) = known {
                    hw.release_fetch_slot(slot(other));
                }
                self.page_for(hw, rip, frame)
            }
        };
        self.pages.set_present(rip, page);
        hw.fast()[layout::FETCH_PAGE] = u64::from(slot(page));
        page
    }

    fn page_for(&mut self, hw: &mut Machine, rip: u64, frame: Frame) -> PageId {
        if let Some(page) = self.pages.page_for(rip, frame) {
            return page;
        }
        self.forget_pages(hw);
        self.pages.page_for(rip, frame).expect("an empty table has free slots")
    }

    /// Forgets all pages with their numbers.
    fn forget_pages(&mut self, hw: &mut Machine) {
        self.flush_generation(hw);
        self.pages = CodePages::new(self.pages.blocks.capacity(), self.pages.flavor);
        forget_fetch_slots(hw.fast());
    }

    /// Translates the block at `rip` of `page`, whose frame is known.
    pub(super) fn translate(
        &mut self,
        hw: &mut Machine,
        page: PageId,
        rip: u64,
        extent: Extent,
        ways: Ways,
    ) -> Result<BlockId, Refused> {
        if self.cache.free() < BLOCK_BYTES_MAX {
            return Err(Refused::NoRoom);
        }
        let second = self.read_block(hw, page, rip, extent)?;
        hw.mark_code(self.pages.page(page).frame);
        if let Some(second) = second {
            hw.mark_code(self.pages.page(second).frame);
        }
        let id = self.pages.blocks.len() as BlockId;
        let first_point = self.emitter.points.len() as u32;
        let first_site = self.emitter.sites.len() as u32;
        let counter = self.counting.as_mut().map(|counting| counting.add(id));
        let place = self.place_for(ways);
        let second_page = second.map(|page| SecondPage { slot: slot(page) });
        let slot = (ways == Ways::All).then(|| slot(page));
        let has_frame = super::window::has_frame(hw.fast());
        let start =
            Start { place, block: id, extent, second: second_page, counter, slot, has_frame };
        let emitted = self.emitter.block(&self.scan, start);
        self.cache.append(self.emitter.asm.parts());
        let end = self.cache.next();
        self.note_statistics();
        let mut block = Block {
            page: page as u16,
            start: (rip % PAGE_BYTES) as u16,
            second: second.map_or(0, self::slot) as u16,
            base: self.offset(place.hot),
            bytes: many(end.hot - place.hot),
            body: few((emitted.body - place.hot) as Offset),
            cold: self.offset(place.cold),
            cold_bytes: many(end.cold - place.cold),
            entry: 0,
            page_entry: 0,
            first_point,
            first_site,
            point_count: (self.emitter.points.len() as u32 - first_point) as u16,
            site_count: (self.emitter.sites.len() as u32 - first_site) as u16,
            next: 0,
            incoming: 0,
            instruction_count: self.scan.steps.len() as u8,
            extent,
            is_alive: true,
            is_flags_live: self.scan.is_flags_live_before,
        };
        if let Some(ways) = emitted.entry {
            block.set_entry(ways.map(|way| self.offset(way)));
        }
        Ok(self.pages.add(block, &self.scan.seen))
    }

    /// Where `host` is in the cache.
    pub(super) fn offset(&self, host: u64) -> Offset {
        offset(host, self.emitter.cache_start)
    }

    /// The host address of a place in the cache.
    pub(super) fn host(&self, offset: Offset) -> u64 {
        self.emitter.cache_start + u64::from(offset)
    }

    fn note_statistics(&mut self) {
        let statistics = &mut self.statistics;
        statistics.block_count += 1;
        statistics.translated_instruction_count += self.scan.steps.len() as u64;
        let first = self.scan.steps[0].instruction.ip();
        let bytes = self.scan.next_rip.wrapping_sub(first) & self.pages.flavor.linear_mask();
        statistics.translated_bytes += bytes;
        statistics.emitted_bytes += self.emitter.asm.len() as u64;
    }

    /// The page behind that of `rip`.
    pub(super) fn next_page(&self, rip: u64) -> u64 {
        (rip | (PAGE_BYTES - 1)).wrapping_add(1) & self.pages.flavor.linear_mask()
    }

    /// Fills `scan`; returns the second page if the instruction reaches into it.
    pub(super) fn read_block(
        &mut self,
        hw: &mut Machine,
        page: PageId,
        rip: u64,
        extent: Extent,
    ) -> Result<Option<PageId>, Refused> {
        let frame = self.pages.page(page).frame;
        let code = hw.ram.slice(frame.start(), PAGE_BYTES);
        self.scan.extent = extent;
        self.scan.flavor = self.pages.flavor;
        self.scan.assignment = self.assignment;
        let limit = if extent == Extent::Single { 1 } else { BLOCK_INSTRUCTIONS };
        if self.scan.read(&mut self.classifier, code, rip, limit).is_ok() {
            self.uses_x87 |= self.scan.has_x87;
            return Ok(None);
        }
        self.code.clear();
        self.code.extend_from_slice(code);
        let flavor = self.pages.flavor;
        if flavor.is_in_last_page(rip) && !flavor.is_odd() {
            // Linear addresses are offsets: the instruction reaches over the limit of its segment.
            return Err(Refused::Exit(Exit::Exception(Exception::GeneralProtection)));
        }
        let next = self.next_page(rip);
        let place = hw
            .probe(VirtAddr::new(next), Access::Fetch, Privilege::User)
            .map_err(|fault| Refused::Exit(Exit::Fault(fault)))?;
        let Some(second) = self.pages.page_for(next, place.frame()) else {
            return Err(Refused::NoRoom);
        };
        self.code.extend_from_slice(hw.ram.slice(place.frame().start(), 16));
        match self.scan.read(&mut self.classifier, &self.code, rip, 1) {
            Ok(()) => {
                self.uses_x87 |= self.scan.has_x87;
                Ok(Some(second))
            }
            Err(_) => Err(Refused::Exit(Exit::Exception(Exception::InvalidOpcode))),
        }
    }

    /// Makes the ways into a block that go through the fetch model, if it has none and there is
    /// room for them.
    fn make_entry(&mut self, id: BlockId) {
        let block = &self.pages.blocks[id as usize];
        if block.entry != 0 || self.cache.free() < BLOCK_BYTES_MAX {
            return;
        }
        let place = self.cache.next();
        let (body, is_live) = (self.host(block.body()), block.is_flags_live);
        let (rip, slot) = (self.pages.rip(block), slot(block.page()));
        let entry = self.emitter.entry(place, id, rip, slot, body, is_live);
        self.cache.append(self.emitter.asm.parts());
        let entry = entry.map(|way| self.offset(way));
        self.pages.blocks[id as usize].set_entry(entry);
    }

    /// Lets the link jump to `target`.
    pub(super) fn connect(&mut self, link: u32, target: BlockId) {
        let record = self.emitter.links[link as usize];
        if !self.pages.blocks[record.source as usize].is_alive {
            return;
        }
        let is_crossing = self.is_crossing(&record);
        if is_crossing {
            self.make_entry(target);
        }
        let block = &self.pages.blocks[target as usize];
        let way = if is_crossing { block.page_entry() } else { block.body() };
        if way == 0 {
            return;
        }
        if !joint::is_joined(&record, block) {
            self.patch(record.field(), way);
        }
        let first = &mut self.pages.blocks[target as usize].incoming;
        self.emitter.links[link as usize].patched(core::mem::replace(first, link + 1));
    }

    /// Where a link goes that is not patched.
    pub(super) fn link_target(&self, link: &Link) -> u64 {
        link.target(self.pages.rip(&self.pages.blocks[link.source as usize]))
    }

    /// Whether the link goes to another page than the one that its block ends in.
    pub(super) fn is_crossing(&self, link: &Link) -> bool {
        let source = &self.pages.blocks[link.source as usize];
        self.link_target(link) & !(PAGE_BYTES - 1) != self.pages.exit_page(source)
    }

    /// Lets the branch whose displacement is at `field` go to `target`.
    pub(super) fn patch(&mut self, field: Offset, target: Offset) {
        let field = self.host(field);
        self.cache.patch(field, self.host(target));
    }

    /// Lets indirect jumps find the block.
    pub(super) fn remember(&mut self, hw: &mut Machine, id: BlockId) {
        self.make_entry(id);
        let block = &self.pages.blocks[id as usize];
        let (rip, entry) = (self.pages.rip(block), block.entry);
        if entry == 0 {
            return;
        }
        let index = jump_slot(rip);
        let fast = hw.fast();
        fast[index] = rip.wrapping_neg();
        fast[index + words::JUMP_DISTANCE] = self.host(entry);
    }

    /// The way into a known block at `rip` for an indirect jump that the jump cache does not know,
    /// which knows it from now on; 0 if there is no such block, or if the clock is to be drained.
    #[inline(always)]
    pub(super) fn quick_target(&mut self, hw: &mut Machine, rip: u64) -> u64 {
        let has_stale = hw.has_stale_code();
        let fast = hw.fast();
        let word = |index: usize| fast.get(index).map_or(0, |word| *word);
        let is_resident = |slot: u32| word(layout::FETCH_RESIDENT + slot as usize) != 0;
        let entry = self.pages.entry_at(rip, is_resident);
        if entry == 0 || has_stale || word(layout::CLOCK) & CLOCK_DRAIN_BIT != 0 {
            return 0;
        }
        let entry = self.host(entry);
        let index = jump_slot(rip);
        let former = word(index);
        if jump_slot(former.wrapping_neg()) == index {
            let other = other_jump_slot(former.wrapping_neg());
            let host = word(index + words::JUMP_DISTANCE);
            set_word(fast, other, former);
            set_word(fast, other + words::JUMP_DISTANCE, host);
        }
        set_word(fast, index, rip.wrapping_neg());
        set_word(fast, index + words::JUMP_DISTANCE, entry);
        entry
    }

    /// Kills all blocks that depend on a page.
    fn kill_page(&mut self, hw: &mut Machine, page: PageId) {
        let killed = self.pages.take_blocks(page);
        self.statistics.stale_block_count += killed.len() as u64;
        for id in killed {
            self.forget_ways_to(hw, id);
        }
        let frame = self.pages.page(page).frame;
        if self.pages.is_frame_idle(frame) {
            hw.unmark_code(frame);
        }
    }

    /// Kills one block.
    pub(super) fn kill_block(&mut self, hw: &mut Machine, id: BlockId) {
        if self.pages.take_block(id) {
            self.statistics.stale_block_count += 1;
            self.forget_ways_to(hw, id);
        }
    }

    /// Lets no jump find a block.
    fn forget_ways_to(&mut self, hw: &mut Machine, id: BlockId) {
        let rip = self.pages.rip(&self.pages.blocks[id as usize]);
        let block = &mut self.pages.blocks[id as usize];
        let entry = block.entry;
        let mut incoming = core::mem::take(&mut block.incoming);
        while let Some(link) = incoming.checked_sub(1) {
            let record = &mut self.emitter.links[link as usize];
            let source = self.pages.rip(&self.pages.blocks[record.source as usize]);
            incoming = record.unpatched(source, rip);
            let record = *record;
            self.disconnect(&record, id);
        }
        let fast = hw.fast();
        for index in [jump_slot(rip), other_jump_slot(rip)] {
            if fast[index] == rip.wrapping_neg()
                && entry != 0
                && self.emitter.cache_start + u64::from(entry) == fast[index + words::JUMP_DISTANCE]
            {
                fast[index] = empty_tag(index);
            }
        }
    }

    /// Kills what the machine says is stale.
    pub(super) fn apply_stale(&mut self, hw: &mut Machine) {
        while let Some(frame) = hw.take_stale_code() {
            for page in self.pages.pages_of_frame(frame).to_vec() {
                self.kill_page(hw, page);
            }
        }
    }

    /// Throws all emitted code away.
    pub(super) fn flush_generation(&mut self, hw: &mut Machine) {
        self.statistics.generation_count += 1;
        self.translated_before = self.statistics.translated_instruction_count;
        if let Some(counting) = self.counting.as_mut() {
            counting.fold(&self.pages.blocks);
        }
        for frame in self.pages.clear_blocks() {
            hw.unmark_code(frame);
        }
        self.emitter.forget();
        self.cache.reset(self.stub_bytes);
        clear_jump_cache(hw.fast());
    }
}

/// Sets a word, if there is such a word.
#[inline(always)]
fn set_word(fast: &mut [u64], index: usize, value: u64) {
    if let Some(word) = fast.get_mut(index) {
        *word = value;
    }
}

/// The word of the jump cache that holds the tag of `rip`.
pub(super) const fn jump_slot(rip: u64) -> usize {
    words::JUMP_TAG + rip as usize % words::JUMP_SLOTS
}

/// The other word that may.
const fn other_jump_slot(rip: u64) -> usize {
    jump_slot(rip ^ words::JUMP_OTHER as u64)
}

/// A tag that no target matches of which this is a slot.
const fn empty_tag(index: usize) -> u64 {
    let slot = index - words::JUMP_TAG;
    if slot == 0 || slot == words::JUMP_OTHER { 0x8000 } else { 0 }
}

/// Numbers of code pages are about to be given out again. The machine notices when a number comes
/// back with another page; until then nothing is resident.
fn forget_fetch_slots(fast: &mut [u64]) {
    fast[layout::FETCH_RESIDENT..layout::FETCH_RESIDENT + layout::FETCH_SLOTS].fill(0);
    fast[layout::FETCH_PAGE] = 0;
}

fn clear_jump_cache(fast: &mut [u64]) {
    // Untouched parts stay untouched: reading them maps the host's zero page only.
    for tag in &mut fast[words::JUMP_TAG..words::JUMP_TAG + words::JUMP_SLOTS] {
        if *tag != 0 {
            *tag = 0;
        }
    }
    for index in [words::JUMP_TAG, words::JUMP_TAG + words::JUMP_OTHER] {
        fast[index] = empty_tag(index);
    }
}
