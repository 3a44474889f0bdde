//! The memory calls among the commands.

use machine::{VirtAddr, VirtRange};
use mm::ops::{
    Advice, LockMode, MapFlags, MapRequest, MapSource, Ownership, ProtectFlags, RemapFlags, brk,
    madvise, map_stack, mincore, mlock, mmap, mprotect, mremap, munlock, munmap,
};
use mm::{Rights, Sharing};

use super::{Answer, World, answer, text};
use crate::names::bytes;

/// Advice by the names that scenarios and the texts of events use.
pub(super) const ADVICE: [(&str, Advice); 11] = [
    ("normal", Advice::Normal),
    ("random", Advice::Random),
    ("sequential", Advice::Sequential),
    ("dontneed", Advice::DontNeed),
    ("free", Advice::Free),
    ("remove", Advice::Remove),
    ("dontfork", Advice::DontFork),
    ("wipeonfork", Advice::WipeOnFork),
    ("populate_read", Advice::PopulateRead),
    ("populate_write", Advice::PopulateWrite),
    ("dontneed_locked", Advice::DontNeedLocked),
];

impl World {
    /// `CALL ADDR 4p ...`.
    pub(super) fn call_on_range(&mut self, words: &[&str]) -> Answer {
        let [call, addr, length, rest @ ..] = words else { return Err("what?".to_owned()) };
        let (addr, bytes) = (self.names.addr(addr)?, bytes(length)?);
        let mm = &mut self.spaces[self.current];
        let (memory, hw) = (&mut self.memory, &mut self.hw);
        match (*call, rest) {
            ("munmap", []) => answer(munmap(mm, memory, hw, addr, bytes)),
            ("mprotect", [wanted]) => {
                let how = (rights(wanted)?, ProtectFlags::empty());
                answer(mprotect(mm, memory, hw, addr, bytes, how))
            }
            ("madvise", [advice]) => {
                let known = ADVICE.iter().find(|(name, _)| name == advice);
                let (_, advice) = known.ok_or_else(|| format!("no advice {advice:?}"))?;
                answer(madvise(mm, memory, hw, (addr, bytes), *advice))
            }
            ("mlock", []) => answer(mlock(mm, memory, hw, (addr, bytes), LockMode::Now)),
            ("mlock", ["onfault"]) => {
                answer(mlock(mm, memory, hw, (addr, bytes), LockMode::OnFault))
            }
            ("munlock", []) => answer(munlock(mm, memory, hw, addr, bytes)),
            _ => Err("no such command".to_owned()),
        }
    }

    pub(super) fn mmap(
        &mut self,
        name: &str,
        bytes_wanted: u64,
        (rights_wanted, sharing, source): (&str, &str, &str),
        flags: &[&str],
    ) -> Answer {
        let file = source.strip_prefix("file:");
        let source = match file {
            Some(file) => MapSource::File { file: self.file(file)?.mapped, offset: 0 },
            None if source == "anon" => MapSource::Anonymous,
            None => return Err(format!("no source {source:?}")),
        };
        let sharing = match sharing {
            "private" => Sharing::Private,
            "shared" => Sharing::Shared,
            _ => return Err(format!("no sharing {sharing:?}")),
        };
        let mut request = MapRequest {
            addr: 0,
            bytes: bytes_wanted,
            rights: rights(rights_wanted)?,
            sharing,
            flags: MapFlags::empty(),
            source,
        };
        self.map_flags(&mut request, flags)?;
        let mm = &mut self.spaces[self.current];
        match mmap(mm, &mut self.memory, &mut self.hw, request) {
            Ok(addr) => {
                self.names.set(name, range(addr, bytes_wanted)?);
                Ok(None)
            }
            Err(error) => Ok(Some(text::mm_error(error))),
        }
    }

    fn map_flags(&self, request: &mut MapRequest, flags: &[&str]) -> Result<(), String> {
        let mut words = flags.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} what?"));
            request.flags |= match *word {
                "at" => {
                    request.addr = self.names.addr(value()?)?.as_u64();
                    MapFlags::FIXED
                }
                "hint" => {
                    request.addr = self.names.addr(value()?)?.as_u64();
                    MapFlags::empty()
                }
                "offset" => {
                    let from = bytes(value()?)?;
                    if let MapSource::File { offset, .. } = &mut request.source {
                        *offset = from;
                    }
                    MapFlags::empty()
                }
                "noreplace" => MapFlags::FIXED_NO_REPLACE,
                "populate" => MapFlags::POPULATE,
                "locked" => MapFlags::LOCKED,
                "noreserve" => MapFlags::NO_RESERVE,
                "growsdown" => MapFlags::GROWS_DOWN,
                _ => return Err(format!("no flag {word:?}")),
            };
        }
        Ok(())
    }

    pub(super) fn mremap(&mut self, at: &str, lengths: (u64, u64), flags: &[&str]) -> Answer {
        let old = self.names.addr(at)?;
        let (mut target, mut name) = (VirtAddr::new(0), at);
        let mut remap = RemapFlags::empty();
        let mut words = flags.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} what?"));
            match *word {
                "maymove" => remap |= RemapFlags::MAY_MOVE,
                "dontunmap" => remap |= RemapFlags::DONT_UNMAP,
                "to" => {
                    target = self.names.addr(value()?)?;
                    remap |= RemapFlags::FIXED;
                }
                "as" => name = value()?,
                _ => return Err(format!("no flag {word:?}")),
            }
        }
        let mm = &mut self.spaces[self.current];
        let how = (old, lengths.0, lengths.1);
        match mremap(mm, &mut self.memory, &mut self.hw, how, remap, target) {
            Ok(new) => {
                if new != old && name == at {
                    self.names.set(&format!("{name}.was"), range(old, lengths.0)?);
                }
                self.names.set(name, range(new, lengths.1)?);
                Ok(None)
            }
            Err(error) => Ok(Some(text::mm_error(error))),
        }
    }

    pub(super) fn brk(&mut self, change: &str) -> Answer {
        let old = self.mm().layout.brk;
        let wanted = match (change.strip_prefix('+'), change.strip_prefix('-')) {
            (Some(up), _) => old.wrapping_add(bytes(up)?),
            (_, Some(down)) => old.wrapping_add(bytes(down)?.wrapping_neg()),
            _ => return Err("brk +4p or brk -4p".to_owned()),
        };
        let mm = &mut self.spaces[self.current];
        let reached = brk(mm, &mut self.memory, &mut self.hw, wanted);
        let start = mm.layout.start_brk;
        self.names.set("heap", VirtRange::new(start, reached.max(old)));
        Ok((reached != wanted).then(|| "= the old break".to_owned()))
    }

    pub(super) fn stack(&mut self, length: u64) -> Answer {
        let mm = &mut self.spaces[self.current];
        let stack_rights = Rights::READ | Rights::WRITE;
        match map_stack(mm, &mut self.memory, &mut self.hw, length, stack_rights) {
            Ok(range) => {
                self.names.set("stack", range);
                Ok(None)
            }
            Err(error) => Ok(Some(text::mm_error(error))),
        }
    }

    /// `bits` has a digit for each page, as the vector of `mincore`.
    pub(super) fn expect_in_core(&self, addr: &str, bits: &str) -> Answer {
        let range = (self.names.addr(addr)?, bytes(&format!("{}p", bits.len()))?);
        let mm = &self.spaces[self.current];
        let found = mincore(mm, &self.memory, &self.hw, range, Ownership::Owner);
        let found: String = found
            .map_err(text::mm_error)?
            .iter()
            .map(|page| if *page == 0 { '0' } else { '1' })
            .collect();
        if found == bits { Ok(None) } else { Err(format!("found {found}")) }
    }
}

/// `rwx` with any letter left out; `none` for no right.
fn rights(text: &str) -> Result<Rights, String> {
    if text == "none" {
        return Ok(Rights::empty());
    }
    let right = |letter| match letter {
        'r' => Ok(Rights::READ),
        'w' => Ok(Rights::WRITE),
        'x' => Ok(Rights::EXECUTE),
        _ => Err(format!("no rights {text:?}")),
    };
    text.chars().map(right).collect()
}

fn range(start: VirtAddr, bytes: u64) -> Result<VirtRange, String> {
    VirtRange::with_length(start, bytes).ok_or_else(|| "the range wraps".to_owned())
}
