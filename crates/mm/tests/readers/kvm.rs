//! Our page tables translated by KVM, where the host has it: the same answer, address by address.
//!
//! KVM gets our RAM as the memory of its machine, our root as CR3, and is asked with
//! `KVM_TRANSLATE`, which walks as the supervisor reads.

use std::io::Write;

use kvm_bindings::{CpuId, kvm_sregs, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use machine::{
    Access, Frame, Geometry, PageSize, PhysAddr, Privilege, Pte, Ram, VirtAddr, WalkControls, walk,
};

use crate::world::{RAM_BYTES, TASK_END, World};

/// Random tables, each with its own root.
const TABLES: u64 = 100_000;
/// Bytes of RAM for random tables: the least there is, so that entries often name tables.
const SMALL_BYTES: u64 = 1 << 20;
/// Addresses asked for in each.
const ADDRESSES: usize = 4;

const CR0: u64 = 1 << 31 | 1 << 16 | 1 << 5 | 1 << 4 | 1;
const CR4_PSE: u64 = 1 << 4;
const CR4_PAE: u64 = 1 << 5;
const CR4_LA57: u64 = 1 << 12;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
const EFER_NXE: u64 = 1 << 11;

/// `GenuineIntel`, as CPUID has it in EBX, EDX, ECX.
const INTEL: (u32, u32, u32) = (0x756e_6547, 0x4965_6e69, 0x6c65_746e);

/// A CPU of KVM that walks tables in a RAM of ours.
struct Translator {
    vcpu: VcpuFd,
    sregs: kvm_sregs,
    geometry: Geometry,
    _vm: VmFd,
    /// Whether the CPU keeps the bits that it is given.
    is_proven: bool,
    /// Whether its CPU has pages of 1 GiB.
    has_1g: bool,
}

/// Says why a test has not asked KVM, also where output is captured.
fn skip(reason: impl std::fmt::Display) {
    let line = format!("skipped: our tables were not translated by KVM: {reason}\n");
    // Nobody may read it.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// The CPU that KVM can give, with our width of physical addresses.
fn cpuid(kvm: &Kvm, geometry: Geometry) -> Result<CpuId, String> {
    let mut cpuid = kvm.get_supported_cpuid(256).map_err(|error| format!("CPUID: {error}"))?;
    for leaf in cpuid.as_mut_slice() {
        match leaf.function {
            // AMD reserves bit 8 of two levels, which Intel ignores, and so do we.
            0 => (leaf.ebx, leaf.edx, leaf.ecx) = INTEL,
            // Without PSE-36, as our format.
            1 => leaf.edx &= !(1 << 17),
            7 if leaf.index == 0 && geometry == Geometry::La57 && leaf.ecx >> 16 & 1 == 0 => {
                return Err("its CPU has no five levels".to_owned());
            }
            0x8000_0008 => leaf.eax = leaf.eax & !0xff | geometry.physical_bits(),
            _ => {}
        }
    }
    Ok(cpuid)
}

impl Translator {
    /// A CPU for tables of `geometry` in `ram`, which must outlive it.
    fn new(geometry: Geometry, ram: &Ram) -> Result<Self, String> {
        let kvm = Kvm::new().map_err(|error| format!("/dev/kvm: {error}"))?;
        let vm = kvm.create_vm().map_err(|error| format!("a machine: {error}"))?;
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: ram.bytes(),
            userspace_addr: ram.host_base(),
        };
        // SAFETY:
        // 1. The region is the mapping of `ram`, which stays until after the last translation.
        // 2. The CPU never runs: KVM reads entries and sets their accessed bits, while no
        //    reference to these bytes is held.
        #[expect(unsafe_code, reason = "KVM is told an address of ours")]
        let told = unsafe { vm.set_user_memory_region(region) };
        told.map_err(|error| format!("its memory: {error}"))?;
        let vcpu = vm.create_vcpu(0).map_err(|error| format!("a CPU: {error}"))?;
        let cpuid = cpuid(&kvm, geometry)?;
        let has_1g = cpuid
            .as_slice()
            .iter()
            .any(|leaf| leaf.function == 0x8000_0001 && leaf.edx >> 26 & 1 == 1);
        vcpu.set_cpuid2(&cpuid).map_err(|error| format!("set CPUID: {error}"))?;
        let sregs = vcpu.get_sregs().map_err(|error| format!("registers: {error}"))?;
        Ok(Self { vcpu, sregs, geometry, _vm: vm, is_proven: false, has_1g })
    }

    /// Loads CR3, and with it the bits that say what the tables are.
    fn activate(&mut self, root: PhysAddr) -> Result<(), String> {
        let long = EFER_LME | EFER_LMA;
        let (cr4, efer) = match self.geometry {
            Geometry::I386 => (CR4_PSE, 0),
            Geometry::Pae => (CR4_PAE, EFER_NXE),
            Geometry::X86_64 => (CR4_PAE, EFER_NXE | long),
            Geometry::La57 => (CR4_PAE | CR4_LA57, EFER_NXE | long),
        };
        (self.sregs.cr0, self.sregs.cr4, self.sregs.efer) = (CR0, cr4, efer);
        self.sregs.cr3 = root.as_u64();
        self.sregs.cs.l = u8::from(efer & long != 0);
        self.sregs.cs.db = u8::from(efer & long == 0);
        self.vcpu.set_sregs(&self.sregs).map_err(|error| format!("control registers: {error}"))?;
        if !std::mem::replace(&mut self.is_proven, true) {
            let now = self.vcpu.get_sregs().map_err(|error| format!("registers: {error}"))?;
            if (now.cr0, now.cr4, now.efer) != (CR0, cr4, efer) {
                return Err("its CPU does not page so".to_owned());
            }
        }
        Ok(())
    }

    /// What KVM finds at `addr`.
    fn translate(&self, addr: u64) -> Option<PhysAddr> {
        let found = self.vcpu.translate_gva(addr).expect("the CPU is there");
        (found.valid != 0).then(|| PhysAddr::new(found.physical_address))
    }
}

/// xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn one_of(&mut self, count: u64) -> bool {
        self.next(count) == 0
    }

    /// An address that the format has.
    fn addr(&mut self, geometry: Geometry) -> u64 {
        let addr = self.next(u64::MAX);
        let unused = 64 - geometry.address_bits();
        match geometry {
            Geometry::I386 | Geometry::Pae => addr >> unused,
            Geometry::X86_64 | Geometry::La57 => {
                ((addr << unused).cast_signed() >> unused).cast_unsigned()
            }
        }
    }

    /// An entry: mostly one that a kernel could write, sometimes any bits.
    fn entry(&mut self, geometry: Geometry, level: u32) -> u64 {
        let is_narrow = geometry.entry_bytes() == 4;
        let any = if is_narrow { self.next(1 << 32) } else { self.next(u64::MAX) };
        if self.one_of(16) {
            return any;
        }
        let span = geometry.span_bytes(level);
        let is_leaf = level == 1 || geometry.leaf_size(level).is_some() && self.one_of(6);
        let reserved = geometry.reserved_bits(level, is_leaf);
        let frame = match is_leaf {
            true => any & !(span - 1) & ((1 << geometry.physical_bits()) - 1),
            false => self.next(SMALL_BYTES >> 12) << 12,
        };
        let bits = any & 0xf7e & !(u64::from(!is_leaf) << 7) | u64::from(is_leaf && level > 1) << 7;
        let nx = if geometry.has_nx() && level < 3 { any & 1 << 63 } else { 0 };
        let mut entry = frame | bits | nx | u64::from(!self.one_of(24));
        entry &= !reserved;
        if self.one_of(24) && reserved != 0 {
            let bit = self.next(u64::from(reserved.count_ones()));
            let set = (0..64).filter(|at| reserved >> at & 1 == 1).nth(bit as usize);
            entry |= 1 << set.unwrap_or(0);
        }
        entry
    }
}

/// The entries on the way of `addr`: new ones, down to the leaf.
fn grow(ram: &mut Ram, geometry: Geometry, root: Frame, addr: u64, random: &mut Random) {
    let mut table = root;
    for level in (1..=geometry.levels()).rev() {
        let mut raw = random.entry(geometry, level);
        if geometry == Geometry::Pae && level == 3 {
            // A wrong one is refused when CR3 is loaded, before any walk.
            raw = raw & 0xf_ffff_f000 | raw & 1;
        }
        let entry = Pte::from_raw(raw);
        let slot = geometry.slot(table, geometry.index(level, VirtAddr::new(addr)));
        geometry.store(ram, slot, entry);
        let goes_on = entry.is_present() && !entry.is_large();
        if !goes_on || entry.frame().number() >= ram.frame_count() {
            return;
        }
        table = entry.frame();
    }
}

/// 10^5 roots with entries of all kinds, each asked by several addresses. Returns how many of the
/// answers were addresses, and how many were none.
fn compare(geometry: Geometry) -> Result<[u64; 2], String> {
    let mut ram = Ram::new(SMALL_BYTES).expect("the host has a megabyte");
    let mut translator = Translator::new(geometry, &ram)?;
    let (mut random, mut answers) = (Random(0x9e37_79b9_7f4a_7c15), [0; 2]);
    for number in 0..TABLES {
        let root = Frame::new(random.next(ram.frame_count()));
        let addrs: [u64; ADDRESSES] = std::array::from_fn(|_| random.addr(geometry));
        for addr in addrs {
            grow(&mut ram, geometry, root, addr, &mut random);
        }
        translator.activate(root.start())?;
        for addr in addrs {
            let theirs = translator.translate(addr);
            let (controls, at) = (WalkControls::default(), VirtAddr::new(addr));
            let (access, privilege) = (Access::Read, Privilege::Supervisor);
            let ours = walk(geometry, controls, &mut ram, root.start(), at, access, privilege);
            // To a CPU without pages of 1 GiB their bit is a reserved one.
            let ours = ours.ok().filter(|walked| translator.has_1g || walked.size != PageSize::G1);
            let ours = ours.map(|walked| walked.physical(at));
            assert_eq!(ours, theirs, "{geometry:?}, table {number}: {addr:#x} below {root:?}");
            answers[usize::from(theirs.is_none())] += 1;
        }
    }
    Ok(answers)
}

#[test]
fn a_hundred_thousand_random_tables_are_translated_alike_by_kvm() {
    for geometry in Geometry::ALL {
        match compare(geometry) {
            Err(reason) => skip(format!("{geometry:?}: {reason}")),
            Ok([found, refused]) => {
                assert!(found.min(refused) > TABLES / 10, "{geometry:?}: {found}, {refused}");
            }
        }
    }
}

/// Spaces of the memory manager, and pages mapped in each.
const SPACES: u32 = 20_000;
const PAGES: usize = 5;

/// Spaces with random pages, and the kernel's areas in all of them. Returns how many pages there
/// were.
fn compare_spaces() -> Result<u64, String> {
    let mut world = World::new();
    let mut translator = Translator::new(Geometry::X86_64, &world.hw.ram)?;
    let area = world.memory.vmalloc(&mut world.hw, 4, 4096, "test").expect("there is RAM");
    let mut found = 0;
    for id in 1..=SPACES {
        let mut mm = world.space(id);
        let mut addrs: Vec<u64> = (0..PAGES).map(|_| world.map_page(&mut mm).0).collect();
        addrs.extend([0, 4096, 4 * 4096].map(|offset| area.as_u64() + offset));
        addrs.push(0xffff_8880_0000_0000 + world.next(RAM_BYTES));
        addrs.push(world.next(TASK_END));
        translator.activate(mm.root().start())?;
        for addr in addrs {
            let inside = addr | world.next(4096);
            let ours = world.hw.peek(mm.root(), VirtAddr::new(inside)).map(|found| found.0);
            assert_eq!(ours, translator.translate(inside), "space {id}, {inside:#x}");
            found += u64::from(ours.is_some());
        }
        mm.exit(&mut world.memory, &mut world.hw);
    }
    world.memory.vfree(&mut world.hw, area).expect("it is there");
    assert_eq!(world.memory.shutdown(&mut world.hw), 0);
    Ok(found)
}

#[test]
fn tables_of_the_memory_manager_are_translated_alike_by_kvm() {
    match compare_spaces() {
        Err(reason) => skip(reason),
        // Those of the process, two of the area but not its guard, and one of the direct map.
        Ok(found) => assert!(found >= u64::from(SPACES) * (PAGES as u64 + 3), "{found}"),
    }
}
