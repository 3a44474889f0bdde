//! The pages that the kernel maps into every program: `[vvar]`, `[vvar_vclock]`, `[vdso]`.

use std::sync::Arc;

use machine::PAGE_BYTES;
use mm::{FileKind, MappedFile, Memory, Pager, PagerError, Rights};

use crate::vdso;

/// The pages that the kernel maps into every program.
pub(crate) struct SpecialPages {
    pub(super) vvar: Arc<MappedFile>,
    pub(super) vclock: Arc<MappedFile>,
    pub(super) vdso: Arc<MappedFile>,
    pub(super) vdso_i386: Arc<MappedFile>,
}

/// Bytes of `[vvar]` and `[vvar_vclock]`, which are empty: our vDSO reads none of them.
pub(super) const VVAR_BYTES: u64 = 4 * PAGE_BYTES;
pub(super) const VCLOCK_BYTES: u64 = 2 * PAGE_BYTES;

/// Content that is there from the start and never changes.
pub(crate) struct FixedPager {
    bytes: Vec<u8>,
}

impl FixedPager {
    /// No content.
    pub(crate) const fn empty() -> Self {
        Self { bytes: Vec::new() }
    }
}

impl Pager for FixedPager {
    fn fill(&mut self, index: u64, page: &mut [u8]) -> Result<(), PagerError> {
        let start = usize::try_from(index).unwrap_or(usize::MAX).saturating_mul(page.len());
        let rest = self.bytes.get(start..).ok_or(PagerError::NoPage { index })?;
        let count = rest.len().min(page.len());
        page[..count].copy_from_slice(&rest[..count]);
        Ok(())
    }

    fn store(&mut self, index: u64, _page: &[u8]) -> Result<(), PagerError> {
        Err(PagerError::Io { index })
    }

    fn size_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }
}

impl SpecialPages {
    pub(super) fn new(memory: &mut Memory) -> Self {
        let mut add = |path: &str, bytes: Vec<u8>| {
            let object = memory.add_object(Box::new(FixedPager { bytes }), FileKind::Special);
            Arc::new(MappedFile {
                object,
                path: path.as_bytes().into(),
                device: (0, 0),
                inode: 0,
                kind: FileKind::Special,
                may: Rights::all(),
            })
        };
        Self {
            vvar: add("[vvar]", vec![0; VVAR_BYTES as usize]),
            vclock: add("[vvar_vclock]", vec![0; VCLOCK_BYTES as usize]),
            vdso: add("[vdso]", vdso::image()),
            vdso_i386: add("[vdso]", vdso::i386::image()),
        }
    }
}
