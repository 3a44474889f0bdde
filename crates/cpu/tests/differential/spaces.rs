//! Several address spaces on one engine: some code at the same addresses in all of them, some code
//! in frames that all share, and switches between them all the time.

use crate::guest::Build;
use cpu::x86::Translator;
use cpu::{Engine, Exit, Registers};
use machine::{
    Counters, FastPath, Frame, Geometry, Keep, Machine, MachineConfig, PAGE_BYTES, PhysAddr, Pte,
    TlbMode, VirtAddr,
};

/// How many address spaces there are.
pub const SPACES: u64 = 3;
/// The page that all spaces share, and the two behind it that each has for itself.
const SHARED: u64 = 0x40_1000;
const OWN: u64 = SHARED + 0x1000;
/// A page of data of each space; its end is the stack.
const DATA: u64 = 0x60_0000;
/// Times around the loop of the program.
const ROUNDS: u64 = 20;

/// Where the program starts: in its own page, or at an instruction of the shared page that reaches
/// into its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    Own,
    Straddling,
}

/// An engine on a machine with some address spaces.
pub struct World {
    hw: Machine,
    pub engine: Translator,
    next_frame: u64,
    roots: Vec<Frame>,
    /// Of which space the second page is that each space has.
    seconds: Vec<u64>,
}

impl World {
    pub fn new(reference: FastPath) -> Self {
        let hw = Machine::new(MachineConfig {
            ram_bytes: 4 << 20,
            geometry: Geometry::X86_64,
            tlb: TlbMode::Model(Build::Tight.tlb()),
            reference,
            keep: Keep::HashOnly,
            boot_seconds: 0,
        })
        .expect("4 MiB of RAM");
        let engine = Translator::new(Build::Usual.engine()).expect("the host runs the engine");
        let mut world = Self { hw, engine, next_frame: 16, roots: Vec::new(), seconds: Vec::new() };
        let shared = world.frame_with(&shared_page());
        for space in 0..SPACES {
            let root = world.frame_with(&[]);
            let (first, second) = own_pages(space);
            let pages = [
                (SHARED, shared),
                (OWN, world.frame_with(&first)),
                (OWN + 0x1000, world.frame_with(&second)),
                (DATA, world.frame_with(&[])),
            ];
            for (page, frame) in pages {
                world.map(root, page, frame);
            }
            world.roots.push(root);
            world.seconds.push(space);
        }
        world
    }

    fn frame_with(&mut self, bytes: &[u8]) -> Frame {
        let frame = Frame::new(self.next_frame);
        self.next_frame += 1;
        self.hw.store(frame.start(), bytes);
        frame
    }

    /// Maps `page` with all rights.
    fn map(&mut self, root: Frame, page: u64, frame: Frame) {
        let geometry = Geometry::X86_64;
        let rights = Pte::PRESENT.with(Pte::USER).with(Pte::WRITE);
        let mut table = root;
        for level in (1..=geometry.levels()).rev() {
            let slot = geometry.slot(table, geometry.index(level, VirtAddr::new(page)));
            let mut entry = geometry.load(&self.hw.ram, slot);
            if level == 1 {
                entry = Pte::new(frame, rights);
            } else if !entry.is_present() {
                entry = Pte::new(self.frame_with(&[]), rights);
            }
            geometry.store(&mut self.hw.ram, slot, entry);
            table = entry.frame();
        }
    }

    /// Runs the program once in `space` under the identifier `asid`, and checks what it computed.
    pub fn run(&mut self, space: u64, asid: u16, start: Start) {
        self.hw.activate(self.roots[space as usize], asid);
        let mut registers = Registers::new();
        registers.rip = match start {
            Start::Own => OWN + 0x10,
            Start::Straddling => SHARED + 0xffc,
        };
        registers.gpr[3] = ROUNDS;
        registers.gpr[4] = DATA + PAGE_BYTES;
        registers.gpr[7] = DATA;
        let before = self.word(space, 0);
        let mut exit = Exit::Budget;
        while exit == Exit::Budget {
            exit = self.engine.run(&mut registers, &mut self.hw);
        }
        assert_eq!(exit, Exit::Syscall, "space {space}, rip {:#x}", registers.rip);
        let sum = self.word(space, 0).wrapping_sub(before);
        assert_eq!(sum, 2 * ROUNDS * (1000 * space + 1), "space {space}");
        let low = number(space) & 0xff_ffff;
        let high = number(self.seconds[space as usize]) & !0xff_ffff;
        assert_eq!(registers.gpr[8], high | low, "space {space}");
        let expected = if start == Start::Own { 0 } else { number(space) << 16 | 0x4242 };
        assert_eq!(registers.gpr[2], expected, "space {space}");
    }

    /// A word of the data page of `space`.
    fn word(&self, space: u64, offset: u64) -> u64 {
        let place = self.hw.peek(self.roots[space as usize], VirtAddr::new(DATA));
        let (place, _): (PhysAddr, Pte) = place.expect("the data page is mapped");
        self.hw.ram.read_u64(place.wrapping_add(offset))
    }

    /// Exchanges the second own pages of two spaces.
    pub fn exchange_code(&mut self, one: u64, other: u64) {
        self.seconds.swap(one as usize, other as usize);
        let page = VirtAddr::new(OWN + 0x1000);
        let frames = [one, other].map(|space| {
            let place = self.hw.peek(self.roots[space as usize], page).expect("it is mapped");
            place.0.frame()
        });
        self.map(self.roots[one as usize], page.as_u64(), frames[1]);
        self.map(self.roots[other as usize], page.as_u64(), frames[0]);
        for asid in 1..=SPACES as u16 {
            self.hw.flush_asid(asid);
        }
    }

    pub fn counters(&mut self) -> Counters {
        self.hw.drain_clock();
        self.hw.counters()
    }
}

/// A number of 48 bits that each space has in its code.
fn number(space: u64) -> u64 {
    0x1234_5678_9a00 + space + (space << 40)
}

/// `add [rdi], rax; ret`, and at the end `mov rdx, imm64`, whose last six bytes are elsewhere.
fn shared_page() -> Vec<u8> {
    let mut page = vec![0xcc; 0x1000];
    page[..4].copy_from_slice(&[0x48, 0x01, 0x07, 0xc3]);
    page[0xffc..].copy_from_slice(&[0x48, 0xba, 0x42, 0x42]);
    page
}

/// The loop in the first page, and what comes behind it in the second.
fn own_pages(space: u64) -> (Vec<u8>, Vec<u8>) {
    let mut pages = vec![0xcc; 0x2000];
    pages[..6].copy_from_slice(&number(space).to_le_bytes()[..6]);
    let mut code = vec![0xeb, 8]; // jmp to the loop
    code.resize(0x10 - 6, 0x90);
    code.extend([0xb8]); // mov eax, imm32
    code.extend((1000 * space as u32 + 1).to_le_bytes());
    code.extend([0xe8]); // call shared
    code.extend((SHARED as i32 - (OWN as i32 + 0x1a)).to_le_bytes());
    code.extend([0xbe]); // mov esi, shared
    code.extend((SHARED as u32).to_le_bytes());
    code.extend([0xff, 0xd6]); // call rsi
    code.extend([0x48, 0xff, 0xcb]); // dec rbx
    code.extend([0x75, (-0x16_i8).cast_unsigned()]); // jnz to the loop
    code.extend([0xe9]); // jmp to the end of the page
    code.extend((0xffb - 0x2b_i32).to_le_bytes());
    pages[6..6 + code.len()].copy_from_slice(&code);
    // mov r8, imm64; syscall
    pages[0xffb..0xffd].copy_from_slice(&[0x49, 0xb8]);
    pages[0xffd..0x1005].copy_from_slice(&number(space).to_le_bytes());
    // The number of the space lies in the first page with three bytes, in the second with the rest.
    pages[0x1005..0x1007].copy_from_slice(&[0x0f, 0x05]);
    let second = pages.split_off(0x1000);
    (pages, second)
}
