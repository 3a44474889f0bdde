//! Instructions that the host may have and the virtual CPU has not: they are #UD, whatever the host
//! does.

use crate::builder::{Builder, Mood};
use crate::case::{Case, End, Outcome};
use crate::catalog;
use crate::random::Random;
use iced_x86::{Code, CpuidFeature, EncodingKind, Mnemonic};

/// Every instruction of an extension that the virtual CPU has not.
pub fn codes() -> Vec<Code> {
    let codes = Code::values().filter(|code| {
        let op_code = code.op_code();
        op_code.is_instruction()
            && op_code.mode64()
            && !catalog::is_exposed(*code)
            && !op_code.is_privileged()
            && !is_older_than_its_name(*code)
    });
    codes.collect()
}

/// Whether CPUs without the extension do something else than #UD: a hint is a nop for them, and
/// some prefixes did nothing once.
fn is_older_than_its_name(code: Code) -> bool {
    use Mnemonic as M;
    let is_hint = matches!(
        code.mnemonic(),
        M::Endbr32
            | M::Endbr64
            | M::Rdsspd
            | M::Rdsspq
            | M::Cldemote
            | M::Prefetchwt1
            | M::Prefetchw
            | M::Prefetch
            | M::Prefetchit0
            | M::Prefetchit1
            | M::Bndmov
            | M::Bndcl
            | M::Bndcu
            | M::Bndcn
            | M::Bndmk
            | M::Bndldx
            | M::Bndstx
            | M::Wbnoinvd
            | M::Reservednop
            | M::Rdpmc
            | M::Sysenter
    );
    is_hint
        || matches!(code.encoding(), EncodingKind::MVEX | EncodingKind::XOP | EncodingKind::D3NOW)
        || code.cpuid_features().iter().any(|feature| {
            use CpuidFeature as F;
            matches!(feature, F::MPX | F::CYRIX_FPU | F::CYRIX_EMMI | F::PADLOCK_ACE)
        })
}

/// A case of `code`, if the generator can make one.
pub fn case(random: &mut Random, code: Code) -> Option<Case> {
    let mut builder = Builder::new(random, Mood::Calm);
    builder.start = crate::layout::CODE + builder.random.below(0x1f00);
    builder.draft.state.rip = builder.start;
    builder.add(code)?;
    Some(builder.finish(format!("hidden {code:?}")))
}

/// Whether the engine refused the instruction without doing anything of it.
pub fn is_refused(case: &Case, outcome: &Outcome) -> bool {
    outcome.end == End::Exception(6)
        && outcome.state.rip == case.state.rip
        && outcome.state.gpr == case.state.gpr
        && outcome.changes.is_empty()
}
