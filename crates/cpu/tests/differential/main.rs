//! The translator against the CPU it runs on: the same instructions from the same state, natively
//! in another process and in the engine, compared to the last bit.
//!
//! `FAULTLINE_CASES` sets how many random cases the long tests run, `FAULTLINE_SEED` from where.
#![expect(unreachable_pub, reason = "one binary: all its modules are its own")]
#![expect(clippy::cast_possible_truncation, reason = "tests cut random numbers to size")]

mod builder;
mod case;
mod catalog;
mod compare;
mod exceptions;
mod garbage;
mod generate;
mod guest;
mod hidden;
mod layout;
mod loops;
mod makers;
mod misses;
mod operands;
mod oracle;
mod place;
mod prepare;
mod random;
mod run;
mod smc;
mod spaces;
mod splits;
mod states;
mod strings;
mod sweeps;
mod top;
mod verify;

use guest::Build;
use run::{Bench, case_count, seed};

/// Cases that are generated, run natively and compared at a time.
const BATCH: u64 = 500;

#[test]
fn every_instruction_does_what_the_host_does() {
    let codes = catalog::comparable();
    let (seed, count) = (seed(), case_count(100_000));
    let mut bench = Bench::new(seed, Build::Usual);
    for first in (0..count).step_by(BATCH as usize) {
        let indexes = first..(first + BATCH).min(count);
        let code = |index: u64| codes[index as usize % codes.len()];
        let cases: Vec<_> = indexes.filter_map(|i| generate::single(seed, i, code(i))).collect();
        bench.run(&cases);
    }
    bench.finish();
}

fn compare_sequences(build: Build, count: u64) {
    let codes = makers::agreed(catalog::comparable());
    let seed = seed();
    let mut bench = Bench::new(seed, build);
    for first in (0..count).step_by(BATCH as usize) {
        let indexes = first..(first + BATCH).min(count);
        let cases: Vec<_> = indexes.map(|i| generate::sequence(seed, i, &codes)).collect();
        bench.run(&cases);
    }
    bench.finish();
}

#[test]
fn sequences_do_what_the_host_does() {
    compare_sequences(Build::Usual, case_count(80_000));
}

#[test]
fn sequences_do_what_the_host_does_on_a_tight_machine() {
    compare_sequences(Build::Tight, case_count(40_000));
}

#[test]
fn loops_do_what_the_host_does() {
    let (seed, count) = (seed(), case_count(20_000));
    for build in [Build::Usual, Build::SmallTlb] {
        let mut bench = Bench::new(seed, build);
        for first in (0..count / 2).step_by(BATCH as usize) {
            let cases: Vec<_> = (first..first + BATCH).map(|i| loops::case(seed, i)).collect();
            bench.run(&cases);
        }
        bench.run(&loops::wrapping());
        bench.finish();
    }
}

#[test]
fn loops_of_32_bit_code_do_what_the_host_does() {
    let (seed, count) = (seed(), case_count(20_000));
    for build in [Build::Usual, Build::SmallTlb] {
        let mut bench = Bench::new(seed, build);
        for first in (0..count / 2).step_by(BATCH as usize) {
            let indexes = first..first + BATCH;
            let cases: Vec<_> = indexes.map(|index| loops::case_compat(seed, index)).collect();
            bench.run(&cases);
        }
        bench.run(&loops::wrapping_compat());
        bench.finish();
    }
}

#[test]
fn slices_of_loops_end_at_the_same_access_with_and_without_the_fast_path() {
    const SLICES: usize = 12;
    let base = layout::base_content(&mut random::Random::new(seed()));
    for count in [3, 100, 511] {
        let case = loops::endless(count);
        let ends = [machine::FastPath::Filled, machine::FastPath::Empty].map(|fast_path| {
            guest::Guest::new(&base, Build::Usual, fast_path).run_slices(&case, SLICES)
        });
        assert_eq!(ends[0], ends[1], "loops of {count}");
    }
}

#[test]
fn every_instruction_of_32_bit_code_does_what_the_host_does() {
    let codes = catalog::comparable_compat();
    assert!(codes.len() > 900, "only {} instructions are compared", codes.len());
    let (seed, count) = (seed(), case_count(60_000));
    let mut bench = Bench::new(seed, Build::Usual);
    for first in (0..count).step_by(BATCH as usize) {
        let indexes = first..(first + BATCH).min(count);
        let code = |index: u64| codes[index as usize % codes.len()];
        let cases = indexes.filter_map(|i| generate::single_compat(seed, i, code(i)));
        bench.run(&cases.collect::<Vec<_>>());
    }
    bench.finish();
}

fn compare_sequences_of_32_bit_code(build: Build, count: u64) {
    let codes = makers::agreed(catalog::comparable_compat());
    let common = catalog::common_compat();
    let seed = seed();
    let mut bench = Bench::new(seed, build);
    for first in (0..count).step_by(BATCH as usize) {
        let indexes = first..(first + BATCH).min(count);
        let cases = indexes.map(|i| generate::sequence_compat(seed, i, &common, &codes));
        bench.run(&cases.collect::<Vec<_>>());
    }
    bench.finish();
}

#[test]
fn sequences_of_32_bit_code_do_what_the_host_does() {
    compare_sequences_of_32_bit_code(Build::Usual, case_count(50_000));
}

#[test]
fn sequences_of_32_bit_code_do_what_the_host_does_on_a_tight_machine() {
    compare_sequences_of_32_bit_code(Build::Tight, case_count(30_000));
}

#[test]
fn strings_do_what_the_host_does() {
    compare_strings(&strings::cases(seed(), case_count(24_000) / 12_000));
}

#[test]
fn strings_of_32_bit_code_do_what_the_host_does() {
    compare_strings(&strings::cases_compat(seed(), case_count(24_000) / 12_000));
}

fn compare_strings(cases: &[case::Case]) {
    for build in [Build::Usual, Build::SmallTlb] {
        let mut bench = Bench::new(seed(), build);
        for batch in cases.chunks(BATCH as usize) {
            bench.run(batch);
        }
        bench.finish();
    }
}

#[test]
fn every_access_can_fault_precisely() {
    let mut bench = Bench::new(seed(), Build::Tight);
    for index in 0..case_count(20_000) / 84 {
        bench.run(&sweeps::sweep(seed(), index));
    }
    bench.finish();
}

#[test]
fn programs_may_write_to_their_own_code() {
    let mut bench = Bench::new(seed(), Build::Tight);
    for index in 0..case_count(20_000) / 40 {
        bench.run(&smc::sweep(seed(), index));
    }
    bench.finish();
}

#[test]
fn code_of_32_bits_on_the_stack_may_be_changed_through_esp() {
    let mut bench = Bench::new(seed(), Build::Usual);
    bench.run(&smc::on_the_stack());
    bench.finish();
}

#[test]
fn exceptions_are_those_of_the_host() {
    let mut bench = Bench::new(seed(), Build::Usual);
    for batch in exceptions::cases(seed(), case_count(900) / 90).chunks(BATCH as usize) {
        bench.run(batch);
    }
    bench.finish();
}

#[test]
fn mutated_instructions_do_what_the_host_does() {
    let codes = catalog::comparable();
    let (seed, count) = (seed(), case_count(20_000));
    let mut bench = Bench::new(seed, Build::Usual);
    for first in (0..count).step_by(BATCH as usize) {
        let indexes = first..(first + BATCH).min(count);
        let code = |index: u64| codes[index as usize % codes.len()];
        let cases: Vec<_> = indexes.filter_map(|i| garbage::mutation(seed, i, code(i))).collect();
        bench.run(&cases);
    }
    bench.finish();
}

#[test]
fn single_steps_are_those_of_the_host() {
    const TRAP: u64 = 0x100;
    let codes = makers::agreed(catalog::comparable());
    let (seed, count) = (seed(), case_count(10_000));
    let mut bench = Bench::new(seed, Build::Usual);
    for first in (0..count).step_by(BATCH as usize) {
        let indexes = first..(first + BATCH).min(count);
        let mut cases: Vec<_> = indexes.map(|i| generate::sequence(seed, i, &codes)).collect();
        for case in &mut cases {
            case.state.rflags |= TRAP;
        }
        bench.run(&cases);
    }
    bench.finish();
}

#[test]
fn repeated_strings_are_stepped_element_by_element() {
    const TRAP: u64 = 0x100;
    let mut bench = Bench::new(seed(), Build::Usual);
    for variant in 0..case_count(4) {
        let mut cases = strings::cases(seed().wrapping_add(variant), 1);
        for case in &mut cases {
            case.state.rflags |= TRAP;
        }
        bench.run(&cases);
    }
    bench.finish();
}

#[test]
fn misaligned_accesses_are_those_of_the_host() {
    const ALIGNMENT: u64 = 0x4_0000;
    let codes = catalog::comparable();
    let (seed, count) = (seed(), case_count(20_000));
    let mut bench = Bench::new(seed, Build::Usual);
    for first in (0..count).step_by(BATCH as usize) {
        let indexes = first..(first + BATCH).min(count);
        let mut cases: Vec<_> = indexes
            .filter_map(|index| match index % 8 {
                0 => Some(generate::sequence(seed, index, &codes)),
                _ => generate::single(seed, index, codes[index as usize % codes.len()]),
            })
            .collect();
        cases.retain(makers::is_alignment_agreed);
        for case in &mut cases {
            case.state.rflags |= ALIGNMENT;
        }
        bench.run(&cases);
    }
    bench.finish();
}

#[test]
fn a_string_instruction_that_overwrites_itself_ends_behind_itself() {
    if !makers::is_host_ours() {
        eprintln!("skipped: CPUs of the host's maker may fetch it anew between two elements");
        return;
    }
    let mut bench = Bench::new(seed(), Build::Usual);
    bench.run(&strings::over_themselves(seed()));
    bench.finish();
}

/// An engine that has never seen the x87 leaves its state where it is: who works on it is noticed.
#[test]
fn each_instruction_finds_the_state_that_it_works_on() {
    let base = layout::base_content(&mut random::Random::new(seed()));
    let codes = catalog::comparable();
    let cases: Vec<_> = codes
        .iter()
        .filter_map(|code| (0..40).find_map(|index| generate::single(seed(), index, *code)))
        .collect();
    let natives = oracle::Oracle::new(&base).run(&cases);
    for (case, native) in cases.iter().zip(&natives) {
        let _running = run::Running(case);
        let mut guest = guest::Guest::new(&base, Build::Tight, machine::FastPath::Filled);
        let Some(outcome) = makers::settle(case, native, &guest.run(case)) else { continue };
        let text = compare::differences(case, native, &outcome);
        assert!(text.is_empty(), "{case}{text}");
    }
}

#[test]
fn hidden_instructions_are_undefined() {
    let mut random = random::Random::new(seed());
    let base = layout::base_content(&mut random);
    let mut guest = guest::Guest::new(&base, guest::Build::Usual, machine::FastPath::Filled);
    let cases: Vec<_> =
        hidden::codes().into_iter().filter_map(|code| hidden::case(&mut random, code)).collect();
    assert!(cases.len() > 500, "only {} hidden instructions", cases.len());
    let mut executed = Vec::new();
    for case in cases {
        let outcome = guest.run(&case);
        if !hidden::is_refused(&case, &outcome) {
            executed.push((case.name, outcome.end));
        }
    }
    assert!(executed.is_empty(), "not refused: {executed:x?}");
}

#[test]
fn loops_that_are_done_one_at_a_time_can_be_stopped() {
    const ALIGNMENT: u64 = 0x4_0000;
    let mut random = random::Random::new(seed());
    let base = layout::base_content(&mut random);
    let mut guest = guest::Guest::new(&base, guest::Build::Usual, machine::FastPath::Filled);
    let programs: [(&[u8], bool); 4] = [
        (&[0xeb, 0xfe], false),                     // jmp to itself
        (&[0x67, 0xe3, 0xfd], true),                // jcxz to itself
        (&[0x2e, 0x38, 0x00, 0xeb, 0xfb], true),    // cmp cs:[eax], al; jmp
        (&[0xea, 0, 0x10, 0, 0x50, 0x23, 0], true), // far jmp to itself
    ];
    for (code, is_compat) in programs {
        let mut case = exceptions::case(&mut random, String::from("loop"), code);
        case.state.is_compat = is_compat;
        case.state.gpr[1] = 0;
        case.state.rflags |= if is_compat { 0 } else { ALIGNMENT };
        case.state.rip = layout::CODE;
        case.patches = vec![(0, code.to_vec())];
        assert_eq!(guest.run(&case).end, case::End::Endless, "{code:x?}");
    }
}

#[test]
fn registers_change_places_under_a_loop_that_goes_on_as_before() {
    let mut random = random::Random::new(seed());
    let base = layout::base_content(&mut random);
    // mov r13, [rdi]; add r9, r13; add r10, r9; xor r11, r10; add r12, r11; rol r11, 7
    // sub [rdi], r9; jmp
    let code = [
        0x4c, 0x8b, 0x2f, 0x4d, 0x01, 0xe9, 0x4d, 0x01, 0xca, 0x4d, 0x31, 0xd3, 0x4d, 0x01, 0xdc,
        0x49, 0xc1, 0xc3, 0x07, 0x4c, 0x29, 0x0f, 0xeb, 0xe8,
    ];
    let mut case = exceptions::case(&mut random, String::from("loop"), &code);
    case.state.gpr[7] = layout::DATA + 0x1000;
    case.state.rip = layout::CODE;
    case.patches = vec![(0, code.to_vec())];
    // A slice ends where the code is looked at, which takes some looks to change anything.
    const SLICES: usize = 60;
    let run = |build| {
        let mut guest = guest::Guest::new(&base, build, machine::FastPath::Filled);
        let ends = guest.run_slices(&case, SLICES);
        (ends, cpu::Engine::statistics(&guest.engine).generation_count)
    };
    let (profiled, generations) = run(Build::Usual);
    let (fixed, generations_fixed) = run(Build::SmallTlb);
    assert_eq!(generations, generations_fixed + 1, "they change places once");
    assert!(profiled == fixed, "results depend on which registers live in memory");
}

#[test]
fn code_of_32_bits_runs_on_from_the_last_byte_to_the_first() {
    let base = layout::base_content(&mut random::Random::new(seed()));
    for (build, fast_path) in [
        (Build::Usual, machine::FastPath::Filled),
        (Build::Tight, machine::FastPath::Filled),
        (Build::Usual, machine::FastPath::Empty),
    ] {
        let mut guest = guest::Guest::new(&base, build, fast_path);
        top::map(&mut guest.hw);
        for program in top::PROGRAMS.iter().cycle().take(3 * top::PROGRAMS.len()) {
            let outcome = guest.run(&program.case());
            assert_eq!(program.end(&outcome), program.expected, "{}", program.name);
        }
        top::unmap_bottom(&mut guest.hw);
        let outcome = guest.run(&top::PROGRAMS[top::IN_RUST].case());
        let fault = case::End::Page { address: 0, error: 0x14 };
        assert_eq!((outcome.end, outcome.state.rip), (fault, 0));
    }
}

/// Runs the row of groups at `address`; returns how many of them were split.
fn split_groups(fast_path: machine::FastPath, address: u64) -> u64 {
    let base = layout::base_content(&mut random::Random::new(1));
    let mut guest = guest::Guest::new(&base, Build::Usual, fast_path);
    let case = splits::case(address);
    let native = oracle::Oracle::new(&base).run(std::slice::from_ref(&case));
    let outcome = guest.run(&case);
    let differences = compare::differences(&case, &native[0], &outcome);
    assert!(differences.is_empty(), "{fast_path:?} {address:#x}: {differences}");
    cpu::Engine::statistics(&guest.engine).split_count
}

#[test]
fn only_groups_whose_probe_fails_are_split() {
    use machine::FastPath::{Empty, Filled};
    let page = layout::DATA + 0x1000;
    // The page is not in the shadow at first.
    assert_eq!(split_groups(Filled, page), 1);
    // The last reaches into the next page.
    let at_end = page + machine::PAGE_BYTES - (splits::GROUPS - 1) * 16 - 4;
    assert_eq!(split_groups(Filled, at_end), 2);
    assert_eq!(split_groups(Empty, page), splits::GROUPS);
}

#[test]
fn noise_ends_somehow() {
    let codes = catalog::comparable();
    let mut random = random::Random::new(seed());
    let base = layout::base_content(&mut random);
    let mut filled = guest::Guest::new(&base, guest::Build::Usual, machine::FastPath::Filled);
    let mut empty = guest::Guest::new(&base, guest::Build::Usual, machine::FastPath::Empty);
    for _ in 0..case_count(20_000) {
        let case = garbage::noise(&mut random, &codes);
        let _running = run::Running(&case);
        // Undefined flags may lead the two to different ends.
        let _ = (filled.run(&case), empty.run(&case));
    }
}

/// Runs cases and looks at all emitted code now and then; returns how many strips there were, and
/// how many blocks took the place of a jump.
fn verify_emitted(
    build: Build,
    count: u64,
    case: impl Fn(&mut random::Random, u64) -> case::Case,
) -> (usize, u64) {
    const CASES_BETWEEN: u64 = 500;
    let mut random = random::Random::new(seed());
    let base = layout::base_content(&mut random);
    let mut guest = guest::Guest::new(&base, build, machine::FastPath::Filled);
    for index in 0..count {
        let case = case(&mut random, index);
        let _ = guest.run(&case);
        if index % CASES_BETWEEN == 0 {
            let (parts, strips) = (guest.engine.emitted(), guest.engine.strips());
            let violation = verify::find_violation(&parts, strips);
            assert!(violation.is_none(), "{}", violation.unwrap_or_default());
        }
    }
    (guest.engine.strips().len(), cpu::Engine::statistics(&guest.engine).joint_count)
}

#[test]
fn emitted_code_keeps_to_its_words_and_probes() {
    let codes = catalog::comparable();
    let (codes_compat, common) = (catalog::comparable_compat(), catalog::common_compat());
    verify_emitted(Build::Tight, case_count(10_000), |random, index| match index % 4 {
        0 => garbage::noise(random, &codes),
        1 => generate::sequence_compat(seed(), index, &common, &codes_compat),
        _ => generate::sequence(seed(), index, &codes),
    });
}

#[test]
fn emitted_loops_keep_to_their_words_probes_and_strips() {
    let count = case_count(3000);
    let (strips, joints) =
        verify_emitted(Build::SmallTlb, count, |_, index| loops::case(seed(), index));
    assert!(strips as u64 > count / 4, "only {strips} strips");
    assert!(joints > count / 20, "only {joints} joints");
    let (strips, _) =
        verify_emitted(Build::SmallTlb, count, |_, index| loops::case_compat(seed(), index));
    assert!(strips as u64 > count / 4, "only {strips} strips of 32-bit code");
}

/// Runs the same switches with and without the fast path; returns the former.
fn switch_often(start: spaces::Start, asid: impl Fn(u64, u64) -> u16) -> spaces::World {
    let mut filled = spaces::World::new(machine::FastPath::Filled);
    let mut empty = spaces::World::new(machine::FastPath::Empty);
    let mut random = random::Random::new(seed());
    for turn in 0..case_count(3000) {
        let space = random.below(spaces::SPACES);
        filled.run(space, asid(turn, space), start);
        empty.run(space, asid(turn, space), start);
    }
    assert_eq!(filled.counters(), empty.counters());
    filled
}

#[test]
fn a_switch_of_address_spaces_translates_nothing_anew() {
    let own_identifiers = switch_often(spaces::Start::Own, |_, space| space as u16 + 1);
    let one_identifier = switch_often(spaces::Start::Own, |_, _| 1);
    for world in [own_identifiers, one_identifier] {
        let statistics = cpu::Engine::statistics(&world.engine);
        // Six blocks in the pages of each space, and the shared one.
        assert_eq!(statistics.block_count, 6 * spaces::SPACES + 1);
        assert_eq!(statistics.stale_block_count, 0);
    }
}

#[test]
fn instructions_that_reach_into_a_page_of_another_space_are_its_own() {
    switch_often(spaces::Start::Straddling, |_, space| space as u16 + 1);
    switch_often(spaces::Start::Straddling, |turn, _| turn as u16 % 4);
}

#[test]
fn code_that_moves_while_its_space_rests_is_noticed() {
    let mut world = spaces::World::new(machine::FastPath::Filled);
    for turn in 0..20 {
        for space in 0..spaces::SPACES {
            world.run(space, space as u16 + 1, spaces::Start::Own);
        }
        world.exchange_code(turn % 3, (turn / 3 + 1) % 3);
    }
}

/// Runs random accesses under `tlb`, under `asids` identifiers in turn, with and without the fast
/// path; returns the misses of the first level that hit the second, and how many of them emitted
/// code made.
fn miss_often(tlb: machine::TlbSpec, asids: u64) -> (u64, u64) {
    let mut filled = misses::Walker::new(tlb, machine::FastPath::Filled);
    let mut empty = misses::Walker::new(tlb, machine::FastPath::Empty);
    for turn in 0..20 {
        let asid = (turn % asids) as u16 + 1;
        assert_eq!(filled.run(turn, asid), empty.run(turn, asid), "{}", tlb.name);
        assert_eq!(filled.counters(), empty.counters(), "{} turn {turn}", tlb.name);
        filled.flush(turn);
        empty.flush(turn);
    }
    assert_eq!(empty.emitted_misses(), 0);
    (filled.counters().l2.hits, filled.emitted_misses())
}

#[test]
fn misses_that_hit_the_second_level_are_made_by_emitted_code() {
    for name in ["golden-cove", "sunny-cove", "skylake", "classic"] {
        let tlb = *machine::tlb_preset(name).expect("a preset");
        for asids in [1, 2] {
            let (hits, emitted) = miss_often(tlb, asids);
            assert!(emitted > hits / 10 * 8, "{name}: {emitted} of {hits}");
        }
    }
}

#[test]
fn misses_of_other_shapes_are_made_by_the_model() {
    // One level, first levels with more ways than are compared, few sets, walks in between.
    for name in ["p6", "zen", "nehalem", "core2"] {
        let tlb = *machine::tlb_preset(name).expect("a preset");
        let (hits, emitted) = miss_often(tlb, 2);
        assert!(emitted <= hits, "{name}: {emitted} of {hits}");
        assert!(!["p6", "zen"].contains(&name) || emitted == 0, "{name}: {emitted}");
    }
    for ways in [1, 2, 3, 5, 7, 8] {
        let usual = *machine::tlb_default();
        let k4 = machine::Array::of(16 * ways, ways);
        miss_often(machine::TlbSpec { l1d: machine::LevelSpec { k4, ..usual.l1d }, ..usual }, 1);
    }
}

/// A list whose pages lie at one distance from their frames, then at many, then at one again: each
/// load of the chain is at the place that its own page has.
#[test]
fn a_list_is_followed_wherever_its_frames_are() {
    let tlb = *machine::tlb_default();
    let mut filled = misses::Walker::new(tlb, machine::FastPath::Filled);
    let mut empty = misses::Walker::new(tlb, machine::FastPath::Empty);
    for stride in [1, 2, 1, 3] {
        filled.link(stride);
        empty.link(stride);
        for how in misses::Follow::ALL {
            for steps in [1, 2, misses::NODES, misses::NODES + 1, 5000] {
                let end = misses::Walker::node(steps % (misses::NODES * 256));
                let what = format!("stride {stride}, {steps} steps, {how:?}");
                assert_eq!(filled.follow(how, steps), end, "{what}");
                assert_eq!(empty.follow(how, steps), end, "{what}");
                assert_eq!(filled.counters(), empty.counters(), "{what}");
            }
        }
        for how in misses::Search::ALL {
            for byte in [1, 2, 7, 128, 255, 0] {
                let place = if byte == 0 { 256 } else { byte.into() };
                let what = format!("stride {stride}, byte {byte}, {how:?}");
                assert_eq!(filled.search(how, byte), misses::Walker::node(place), "{what}");
                assert_eq!(empty.search(how, byte), misses::Walker::node(place), "{what}");
                assert_eq!(filled.counters(), empty.counters(), "{what}");
            }
        }
    }
}

/// What the generator makes: run it to see which instructions it does not reach.
#[test]
fn generator_reaches_every_instruction() {
    let codes = catalog::comparable();
    let missed: Vec<_> = codes
        .iter()
        .filter(|code| (0..40).all(|index| generate::single(7, index, **code).is_none()))
        .collect();
    assert!(missed.is_empty(), "no case of {missed:?}");
    assert!(codes.len() > 1000, "only {} instructions are compared", codes.len());
}

/// The host agrees with itself: whatever differs later is the engine's.
#[test]
fn host_is_deterministic() {
    let codes = catalog::comparable();
    let base = layout::base_content(&mut random::Random::new(3));
    let mut oracle = oracle::Oracle::new(&base);
    let cases: Vec<_> = (0..4000).map(|index| generate::sequence(3, index, &codes)).collect();
    let (first, second) = (oracle.run(&cases), oracle.run(&cases));
    for ((case, first), second) in cases.iter().zip(&first).zip(&second) {
        let text = compare::differences(case, first, second);
        assert!(text.is_empty(), "{case}{text}");
    }
}
