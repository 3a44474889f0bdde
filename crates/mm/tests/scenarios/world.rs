//! A small machine that understands the commands of scenarios.
//!
//! | command | means |
//! |---|---|
//! | `mmap NAME 4p rw private anon [FLAGS]` | also `shared`; `file:FILE`, `file:20000` |
//! | `munmap ADDR 4p`, `mprotect ADDR 4p r`, `madvise ADDR 4p dontneed` | as man 2 |
//! | `mlock ADDR 4p [onfault]`, `munlock ADDR 4p` | as man 2 |
//! | `mremap ADDR 4p 8p [maymove] [dontunmap] [to ADDR] [as NAME]` | the old place is `NAME.was` |
//! | `brk +4p`, `brk -1p` | moves the break; `heap` is where it started |
//! | `stack 33p` | maps the stack, named `stack` |
//! | `read ADDR [4p]`, `write ADDR [4p] [= 7]`, `exec ADDR` | one access to each page |
//! | `fault write ADDR absent` | a fault that another was faster to resolve; or `present` |
//! | `file FILE 20000 [shmem]`, `open FILE FILE` | a file; another open file of the same |
//! | `truncate FILE 5000`, `writeback FILE` | page `i` of a new file is full of bytes `i + 1` |
//! | `fork`, `in parent`, `in child`, `exit` | `exit` ends the child |
//! | `limit stack 64p` | or `locked`, `data`, `as`; `limit maps 12` |
//! | `expect rss 3` | or another count, see [`World::count`] |
//! | `expect byte ADDR 7`, `expect same ADDR ADDR`, `expect apart ADDR ADDR` | bytes and frames |
//! | `expect at ADDR ADDR`, `expect aligned ADDR 512p`, `expect incore ADDR 1101` | |
//!
//! Flags of `mmap`: `at ADDR`, `hint ADDR`, `offset 2p`, `noreplace`, `populate`, `locked`,
//! `noreserve`, `growsdown`.

use std::collections::BTreeMap;
use std::sync::Arc;

use machine::{
    Access, FastPath, Keep, Machine, MachineConfig, PAGE_BYTES, PageFault, Privilege, Refusal,
    VirtAddr, VirtRange,
};
use mm::check::check;
use mm::{
    FaultError, FileKind, Layout, Limits, MappedFile, Memory, Mm, MmError, MmId, handle_fault,
};

use crate::bytes::Bytes;
use crate::names::{Names, bytes, number};

mod calls;
mod text;

const PAGE: usize = PAGE_BYTES as usize;
const FRAMES: u64 = 4096;

/// What a command said beyond its events: why it was refused.
type Answer = Result<Option<String>, String>;

/// An open file.
#[derive(Clone)]
struct File {
    bytes: Bytes,
    mapped: Arc<MappedFile>,
}

/// A machine, the address spaces of a program and perhaps of its child, and their files.
pub(crate) struct World {
    hw: Machine,
    memory: Memory,
    spaces: Vec<Mm>,
    /// The space that commands are about.
    current: usize,
    names: Names,
    files: BTreeMap<String, File>,
}

impl World {
    /// A machine with one empty address space, laid out as on Linux without randomisation (AS-2,
    /// AS-10).
    pub(crate) fn new() -> Self {
        let mut hw = Machine::new(MachineConfig {
            ram_bytes: FRAMES * PAGE_BYTES,
            reference: FastPath::Filled,
            keep: Keep::Events,
            ..MachineConfig::default()
        })
        .expect("the machine is small");
        let mut memory = Memory::new(&mut hw).expect("there are frames");
        let heap = VirtAddr::new(0x5555_5555_9000);
        let layout = Layout {
            mmap_base: VirtAddr::new(0x7fff_f7ff_f000),
            mmap_legacy_base: VirtAddr::new(0x2aaa_aaaa_b000),
            task_end: VirtAddr::new(0x7fff_ffff_f000),
            stack_top: VirtAddr::new(0x7fff_ffff_f000),
            min_address: VirtAddr::new(0x1_0000),
            start_brk: heap,
            brk: heap,
            ..Layout::default()
        };
        let mm = Mm::new(MmId(1), layout, Limits::default(), &mut memory, &mut hw);
        let spaces = vec![mm.expect("there are frames")];
        let mut names = Names::default();
        names.set("heap", VirtRange::new(heap, heap));
        let mut world = Self { hw, memory, spaces, current: 0, names, files: BTreeMap::new() };
        world.activate(0).expect("there is a space");
        world
    }

    /// Carries one command out and tells what it caused.
    pub(crate) fn play(&mut self, command: &str) -> Result<Vec<String>, String> {
        let words: Vec<&str> = command.split_whitespace().collect();
        let answer = self.command(&words)?;
        self.check()?;
        let events: Vec<_> = self.hw.log.drain().map(|stamped| stamped.event).collect();
        let texts = events.iter().map(|event| text::event(*event, &self.names));
        Ok(texts.chain(answer).collect())
    }

    /// Refuses one allocation, after `count` more.
    pub(crate) fn refuse_allocation(&mut self, count: u64) {
        self.memory.refuse_allocation(count);
    }

    /// Whether that has happened.
    pub(crate) fn has_refused(&self) -> bool {
        !self.memory.will_refuse()
    }

    /// Carries one command out, whatever comes of it, and returns its answer, which is no error of
    /// ours. An error is a violated invariant.
    pub(crate) fn play_on(&mut self, command: &str) -> Result<Option<String>, String> {
        let words: Vec<&str> = command.split_whitespace().collect();
        let answer = self.command(&words);
        self.hw.log.drain();
        self.check()?;
        Ok(answer.ok().flatten())
    }

    fn command(&mut self, words: &[&str]) -> Answer {
        match *words {
            ["mmap", name, length, rights, sharing, source, ref flags @ ..] => {
                self.mmap(name, bytes(length)?, (rights, sharing, source), flags)
            }
            ["mremap", addr, old, new, ref flags @ ..] => {
                self.mremap(addr, (bytes(old)?, bytes(new)?), flags)
            }
            ["brk", change] => self.brk(change),
            ["stack", length] => self.stack(bytes(length)?),
            ["read", ref to @ ..] => self.touch_all(Access::Read, to),
            ["write", ref to @ ..] => self.touch_all(Access::Write, to),
            ["exec", ref to @ ..] => self.touch_all(Access::Fetch, to),
            ["fault", access, addr, state] => self.fault_again(access, addr, state),
            ["file", name, size] => self.add_file(name, size, FileKind::Regular),
            ["file", name, size, "shmem"] => self.add_file(name, size, FileKind::Shmem),
            ["open", name, of] => self.open(name, of),
            ["truncate", name, size] => self.truncate(name, number(size)?),
            ["writeback", name] => self.write_back(name),
            ["fork"] => self.fork(),
            ["in", "parent"] => self.activate(0),
            ["in", "child"] => self.activate(1),
            ["exit"] => self.exit(),
            ["limit", what, value] => self.limit(what, value),
            ["expect", ref what @ ..] => self.expect(what),
            _ => self.call_on_range(words),
        }
    }

    fn mm(&mut self) -> &mut Mm {
        &mut self.spaces[self.current]
    }

    fn activate(&mut self, space: usize) -> Answer {
        let mm = self.spaces.get(space).ok_or("there is no child")?;
        self.hw.activate(mm.root(), space as u16);
        self.current = space;
        Ok(None)
    }

    fn check(&self) -> Result<(), String> {
        let spaces: Vec<&Mm> = self.spaces.iter().collect();
        check(&spaces, &self.memory, &self.hw).map_err(|violation| violation.to_string())
    }

    /// `ADDR`, `ADDR 4p`, `ADDR = 7`, `ADDR 4p = 7`: accesses the first byte of each page, or the
    /// byte at `ADDR`.
    fn touch_all(&mut self, access: Access, to: &[&str]) -> Answer {
        let (place, byte) = match *to {
            [ref place @ .., "=", byte] => (place, Some(number(byte)? as u8)),
            _ => (to, None),
        };
        let (addr, length) = match *place {
            [addr] => (addr, 1),
            [addr, length] => (addr, bytes(length)?),
            _ => return Err("read, write, exec: ADDR [4p] [= 7]".to_owned()),
        };
        let addr = self.names.addr(addr)?;
        for distance in (0..length).step_by(PAGE) {
            if let Err(error) = self.touch(addr.wrapping_add(distance), access, byte) {
                return Ok(Some(text::fault_error(error, &self.names)));
            }
        }
        Ok(None)
    }

    /// One access with its faults, as the CPU makes it.
    fn touch(
        &mut self,
        addr: VirtAddr,
        access: Access,
        byte: Option<u8>,
    ) -> Result<(), FaultError> {
        for _ in 0..3 {
            let tried = match access {
                Access::Fetch => self.hw.fetch(addr, 0),
                _ => self.hw.access(addr, access),
            };
            let fault = match tried {
                Ok(at) => {
                    byte.iter().for_each(|byte| self.hw.store(at, &[*byte]));
                    return Ok(());
                }
                Err(fault) => fault,
            };
            handle_fault(&mut self.spaces[self.current], &mut self.memory, &mut self.hw, fault)?;
        }
        panic!("{addr}: {access:?} faults again and again");
    }

    fn fault_again(&mut self, access: &str, addr: &str, state: &str) -> Answer {
        let access = match access {
            "read" => Access::Read,
            "write" => Access::Write,
            _ => Access::Fetch,
        };
        let refusal = if state == "absent" { Refusal::NotPresent } else { Refusal::Protection };
        let privilege = Privilege::User;
        let fault = PageFault { addr: self.names.addr(addr)?, access, privilege, refusal };
        let mm = &mut self.spaces[self.current];
        let handled = handle_fault(mm, &mut self.memory, &mut self.hw, fault);
        Ok(handled.err().map(|error| text::fault_error(error, &self.names)))
    }

    fn add_file(&mut self, name: &str, size: &str, kind: FileKind) -> Answer {
        let size = number(size)? as usize;
        let bytes: Vec<u8> = (0..size).map(|offset| (offset / PAGE + 1) as u8).collect();
        let bytes = Bytes::new(bytes);
        let object = self.memory.add_object(Box::new(bytes.clone()), kind);
        let mapped = MappedFile {
            object,
            path: name.as_bytes().into(),
            device: (0, 1),
            inode: u64::from(object.0) + 1,
            kind,
            may: mm::Rights::all(),
        };
        self.files.insert(name.to_owned(), File { bytes, mapped: Arc::new(mapped) });
        Ok(None)
    }

    fn open(&mut self, name: &str, of: &str) -> Answer {
        let mut file = self.file(of)?;
        file.mapped = Arc::new(MappedFile::clone(&file.mapped));
        self.files.insert(name.to_owned(), file);
        Ok(None)
    }

    /// The file of a name, or a new one of that many bytes.
    fn file(&mut self, name: &str) -> Result<File, String> {
        if !self.files.contains_key(name) && number(name).is_ok() {
            self.add_file(name, name, FileKind::Regular)?;
        }
        self.files.get(name).cloned().ok_or_else(|| format!("no file {name:?}"))
    }

    fn truncate(&mut self, name: &str, size: u64) -> Answer {
        let file = self.file(name)?;
        file.bytes.0.borrow_mut().resize(size as usize, 0);
        let spaces = &mut self.spaces.iter_mut().collect::<Vec<_>>();
        self.memory.truncate_object(spaces, &mut self.hw, file.mapped.object, size);
        Ok(None)
    }

    fn write_back(&mut self, name: &str) -> Answer {
        let object = self.file(name)?.mapped.object;
        let done = self.memory.write_back(&mut self.hw, object, mm::ALL_PAGES);
        done.map(|_| None).map_err(|error| format!("{error:?}"))
    }

    fn fork(&mut self) -> Answer {
        assert_eq!(self.spaces.len(), 1, "one child is enough");
        let child = mm::ops::fork(&mut self.spaces[0], MmId(2), &mut self.memory, &mut self.hw);
        Ok(child.map(|child| self.spaces.push(child)).err().map(text::mm_error))
    }

    fn exit(&mut self) -> Answer {
        self.activate(0)?;
        if self.spaces.len() == 1 {
            return Err("no child".to_owned());
        }
        let mut child = self.spaces.pop().ok_or("no child")?;
        child.exit(&mut self.memory, &mut self.hw);
        self.hw.flush_asid(1);
        Ok(None)
    }

    fn limit(&mut self, what: &str, value: &str) -> Answer {
        let limits = &mut self.mm().limits;
        match what {
            "stack" => limits.stack_bytes = bytes(value)?,
            "data" => limits.data_bytes = bytes(value)?,
            "as" => limits.address_space_bytes = bytes(value)?,
            "locked" => limits.locked_bytes = bytes(value)?,
            "maps" => limits.max_map_count = number(value)? as usize,
            _ => return Err(format!("no limit {what:?}")),
        }
        Ok(None)
    }

    fn expect(&mut self, what: &[&str]) -> Answer {
        let names = &self.names;
        let is_so = match *what {
            ["byte", addr, byte] => {
                let found = self.byte(names.addr(addr)?);
                let is_so = found == Some(number(byte)? as u8);
                return if is_so { Ok(None) } else { Err(format!("found {found:?}")) };
            }
            ["same", left, right] => {
                self.place_of(names.addr(left)?) == self.place_of(names.addr(right)?)
            }
            ["apart", left, right] => {
                self.place_of(names.addr(left)?) != self.place_of(names.addr(right)?)
            }
            ["at", left, right] => names.addr(left)? == names.addr(right)?,
            ["aligned", addr, to] => names.addr(addr)?.as_u64().is_multiple_of(bytes(to)?),
            ["incore", addr, bits] => return self.expect_in_core(addr, bits),
            [count, value] => {
                let found = self.count(count)?;
                let is_so = found == number(value)?;
                return if is_so { Ok(None) } else { Err(format!("found {found}")) };
            }
            _ => return Err("there is nothing like that to expect".to_owned()),
        };
        if is_so { Ok(None) } else { Err("it is not so".to_owned()) }
    }

    /// What `expect` can count: of the address space (all pages but `vmas` and faults), or frames
    /// of the whole machine.
    fn count(&self, what: &str) -> Result<u64, String> {
        let (mm, memory) = (&self.spaces[self.current], &self.memory);
        let (rss, totals, usage) = (mm.rss(memory), mm.totals(), memory.usage());
        Ok(match what {
            "rss" => rss.total_pages(),
            "anon" => rss.anon_pages,
            "file" => rss.file_pages,
            "shmem" => rss.shmem_pages,
            "vmas" => mm.vma_count() as u64,
            "page_tables" => mm.page_table_frames(memory),
            "size" => totals.total_pages,
            "data" => totals.data_pages,
            "locked" => totals.locked_pages,
            "minor" => mm.faults().minor,
            "committed" => usage.committed_pages,
            "anon_frames" => usage.anon,
            "file_frames" => usage.file,
            "shmem_frames" => usage.shmem,
            _ => return Err(format!("no count {what:?}")),
        })
    }

    fn place_of(&self, addr: VirtAddr) -> Option<u64> {
        let (at, _) = self.hw.peek(self.spaces[self.current].root(), addr)?;
        Some(at.as_u64())
    }

    /// The byte at `addr`, which must be present.
    fn byte(&self, addr: VirtAddr) -> Option<u8> {
        let (at, _) = self.hw.peek(self.spaces[self.current].root(), addr)?;
        let mut byte = [0];
        self.hw.load(at, &mut byte);
        Some(byte[0])
    }

    /// Ends all spaces, then the memory: every frame must come back.
    pub(crate) fn finish(mut self) -> Result<(), String> {
        for mut mm in self.spaces.drain(..) {
            mm.exit(&mut self.memory, &mut self.hw);
        }
        self.check()?;
        let usage = self.memory.usage();
        let kept = [usage.anon, usage.page_table, usage.committed_pages];
        let leaked_count = self.memory.shutdown(&mut self.hw);
        if kept != [0; 3] || leaked_count != 0 {
            return Err(format!("{kept:?} kept (anon, tables, committed), {leaked_count} leaked"));
        }
        Ok(())
    }
}

/// The error of a call as an answer, success as none.
fn answer<T>(done: Result<T, MmError>) -> Answer {
    Ok(done.err().map(text::mm_error))
}
