//! The command line as typed: names and texts, checked for form only.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Run a Linux program on a virtual memory system of its own and report what it did to memory.
#[derive(Debug, Parser)]
#[command(name = "faultline", version, about, after_help = MAIN_EXAMPLES)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

const MAIN_EXAMPLES: &str = "\
Examples:
  faultline run -- /usr/bin/python3 -c 'print(1)'    run it, then the memory report on stderr
  faultline elf /bin/ls                              its segments, VMAs, symbols, relocations
  faultline explain 0xc0000001 --machine i386        what an address is and where it leads
  faultline machine list                             the machines and TLBs to choose from";

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a program, then print the memory report on stderr
    Run(Box<Run>),
    /// What an ELF file becomes in memory: VMAs, PLT and GOT, relocations, libraries
    Elf(Elf),
    /// What an address is and where it leads; with --map, the whole address space
    Explain(Explain),
    /// The machines and TLBs to choose from
    #[command(subcommand)]
    Machine(Machine),
    /// The replacement policies to choose from
    #[command(subcommand)]
    Policy(Policy),
}

const RUN_EXAMPLES: &str = "\
Examples:
  faultline run ls -la /usr/bin
  faultline run --json report.json --report none -- python3 script.py
  faultline run --ram 64M --tlb off -- sort big.txt
  faultline run --ram 32M --swap 1G --swap-device ssd -- sort big.txt
  faultline run --ram 32M --swap 1G --swap-file /var/tmp/swap -- sort big.txt
  faultline run --bind /data:/data:rw --cwd /data -- ./tool --its-own-option
  faultline run --trace events.txt -- /bin/true
  faultline run --machine i386 --page-offset 0x80000000 -- ./a.out     2 GiB for programs
  faultline run --max-procs 100 --timeout 60 -- sh build.sh

The program keeps its standard streams and its exit code; a fatal signal is raised again.
127: no such program; 126: it cannot be executed; 125: a wrong option or a failure of ours;
124: the time of --timeout was over. The machine's time passes with what the program does, so that
the same run ends at the same instruction everywhere; all waits for the host's terminal or pipes
together, in the host's time, count too.
It sees the variables PATH, HOME, TERM, LANG, LC_* and TZ, and what --env adds; the host's files
read-only, with its own changes in memory until it ends; and an address space that is not random.";

/// `faultline run`.
#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub(crate) struct Run {
    /// The page-table format: a name of `machine list`, or a file
    #[arg(long, value_name = "NAME|FILE.toml", help_heading = "Machine")]
    pub(crate) machine: Option<String>,

    /// RAM of the machine, with suffix K, M, G or T [default: 4G]
    #[arg(long, value_name = "SIZE", help_heading = "Machine")]
    pub(crate) ram: Option<String>,

    /// CONFIG_PAGE_OFFSET of an i386 kernel: where the addresses of programs end
    /// [default: 0xc0000000]
    #[arg(long, value_name = "ADDRESS", help_heading = "Machine")]
    pub(crate) page_offset: Option<String>,

    /// A test device with memory of its own above RAM: /dev/testmem [default: none]
    #[arg(long, value_name = "SIZE", help_heading = "Machine")]
    pub(crate) device_memory: Option<String>,

    /// Swap: how much can leave RAM when it is short [default: none]
    #[arg(long, value_name = "SIZE", help_heading = "Machine")]
    pub(crate) swap: Option<String>,

    /// Swap in a file of the host, made for --swap SIZE if it is not there
    #[arg(long, value_name = "PATH", help_heading = "Machine")]
    pub(crate) swap_file: Option<PathBuf>,

    /// What swapping costs in the machine's time: nvme, ssd, hdd, zram or remote
    #[arg(long, value_name = "NAME", default_value = "nvme", help_heading = "Machine")]
    pub(crate) swap_device: String,

    /// Keep pages compressed in RAM, up to this share of it, before they go to swap (Linux: 20)
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u64).range(1..=100),
          help_heading = "Machine")]
    pub(crate) zswap: Option<u64>,

    /// Whether the files are in RAM when the machine starts (cold: the first use of a page waits)
    #[arg(long, value_name = "warm|cold", value_enum, default_value_t = PageCache::Warm,
          help_heading = "Machine")]
    pub(crate) page_cache: PageCache,

    /// What reading and storing files costs in the machine's time, where a device has to
    #[arg(long, value_name = "NAME", default_value = "nvme", help_heading = "Machine")]
    pub(crate) file_device: String,

    /// The modelled TLBs: a name of `machine list`, a file, or off
    #[arg(long, value_name = "NAME|FILE.toml|off", help_heading = "Machine")]
    pub(crate) tlb: Option<String>,

    /// Send every access through the model (slow; gives the same counts)
    #[arg(long, help_heading = "Machine")]
    pub(crate) reference: bool,

    /// Whether TLB entries are tagged with their address space and outlive context switches
    #[arg(long, value_name = "on|off", value_enum, default_value_t = Pcid::On,
          help_heading = "Machine")]
    pub(crate) pcid: Pcid,

    /// Count what is not counted otherwise (costs time)
    #[arg(long, value_name = "WHAT", value_enum, help_heading = "Machine")]
    pub(crate) count: Option<Count>,

    /// Seed of all randomness that the program sees
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        allow_negative_numbers = true,
        help_heading = "Machine"
    )]
    pub(crate) seed: u64,

    /// Time of day at the start, seconds since 1970 [default: the end of today, UTC]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, help_heading = "Machine")]
    pub(crate) boot_time: Option<u64>,

    /// The directory that the program sees as /
    #[arg(long, value_name = "DIR", default_value = "/", help_heading = "World")]
    pub(crate) root: PathBuf,

    /// Show a file or directory of the host at a place of its own [default: ro]
    #[arg(long, value_name = "HOST:GUEST[:ro|rw]", help_heading = "World")]
    pub(crate) bind: Vec<OsString>,

    /// Set a variable of the program; without a value, pass it on
    #[arg(long, value_name = "NAME[=VALUE]", help_heading = "World")]
    pub(crate) env: Vec<OsString>,

    /// Working directory inside [default: the current one; / with --root]
    #[arg(long, value_name = "DIR", help_heading = "World")]
    pub(crate) cwd: Option<OsString>,

    /// The report for people
    #[arg(long, value_name = "KIND", value_enum, default_value_t = ReportKind::Text,
          help_heading = "Report")]
    pub(crate) report: ReportKind,

    /// Write the report for people to a file instead of stderr
    #[arg(short, long, value_name = "FILE", help_heading = "Report")]
    pub(crate) output: Option<PathBuf>,

    /// Write the same report for machines to a file, or - for stdout
    #[arg(long, value_name = "FILE|-", help_heading = "Report")]
    pub(crate) json: Option<PathBuf>,

    /// Whom to evict when RAM is short: a name of `policy list`
    #[arg(long, value_name = "NAME", default_value = "two-list", help_heading = "Machine")]
    pub(crate) policy: String,

    /// The most memory of all programs together: beyond, pages leave, then a program is killed
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    pub(crate) limit: Option<String>,

    /// Memory above which programs are slowed down in the machine's time
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    pub(crate) limit_high: Option<String>,

    /// How much memory is promised to programs: what looks possible, anything, or never more than
    /// half of RAM and all of swap
    #[arg(long, value_name = "MODE", value_enum, default_value_t = Overcommit::Heuristic,
          help_heading = "Machine")]
    pub(crate) overcommit: Overcommit,

    /// Count the pages that programs use in each interval, as 10ms (drops the TLBs each time)
    #[arg(long, value_name = "TIME", help_heading = "Report")]
    pub(crate) working_set: Option<String>,

    /// Write every event to a file, one line each
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    pub(crate) trace: Option<PathBuf>,

    /// Most processes at one time; fork returns EAGAIN beyond
    #[arg(long, value_name = "N", default_value_t = 4096, help_heading = "Limits")]
    pub(crate) max_procs: u64,

    /// Most threads of all processes at one time
    #[arg(long, value_name = "N", default_value_t = 16384, help_heading = "Limits")]
    pub(crate) max_threads: u64,

    /// End the run after so many seconds of the machine's own time, with exit code 124
    #[arg(long, value_name = "SECONDS", help_heading = "Limits")]
    pub(crate) timeout: Option<u64>,

    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_names = ["PROGRAM", "ARG"])]
    pub(crate) command: Vec<OsString>,
}

/// What `--count` takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Count {
    /// Instructions executed
    Instructions,
}

/// `--page-cache`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum PageCache {
    Warm,
    Cold,
}

/// What `--pcid` takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Pcid {
    /// They are tagged and stay
    On,
    /// Each switch to another address space drops them
    Off,
}

/// What `--overcommit` takes: the modes 0, 1 and 2 of `vm.overcommit_memory`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Overcommit {
    /// Refuse only a request larger than RAM and swap
    Heuristic,
    /// Refuse nothing
    Always,
    /// Refuse beyond the commit limit
    Never,
}

/// What `--report` takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum ReportKind {
    /// At most 40 lines of text
    Text,
    /// Nothing
    None,
}

const ELF_EXAMPLES: &str = "\
Examples:
  faultline elf /bin/ls                 segments, VMAs, sections, PLT/GOT, pages of start-up
  faultline elf --all ./a.out           every symbol, slot and relocation too
  faultline elf --json a.o              the same for machines, always complete

Addresses at run time are those of a run without randomness, as `faultline run` has them.
127: no such file; 126: no ELF file, or its headers cannot be read.";

/// `faultline elf`.
#[derive(Debug, Args)]
#[command(after_help = ELF_EXAMPLES)]
pub(crate) struct Elf {
    /// Show long lists to their end
    #[arg(long)]
    pub(crate) all: bool,

    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,

    /// A program, a library or an object file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  faultline explain 0xc0000001 --machine i386       kernel logical: physical 0x1
  faultline explain 0x7b:0x08048000 --machine i386-pae --ram 16G
  faultline explain 0xffff888000001000
  faultline explain --map --machine i386 --ram 1G   lowmem, highmem, vmalloc, pkmap, fixmap
  faultline explain --map --machine i386 --page-offset 0x80000000 --vmalloc 256M
  faultline explain 0x7:0x10 --machine i386 --descriptor 0x0040f30012340fff   an LDT entry
  faultline explain 0x00112345 --machine arm        pairs of tables, two sets of entries
  faultline explain 0x555555556000 --trace events.txt --pid 1000

Addresses without a selector use Linux's flat data segment. The map is that of a kernel without
KASLR; the tables that are walked are those of the direct map, empty of processes. --trace reads
what `faultline run --trace FILE` wrote: which range holds the page, and what happened to it.";

/// `faultline explain`.
#[derive(Debug, Args)]
#[command(after_help = EXPLAIN_EXAMPLES)]
pub(crate) struct Explain {
    /// The page-table format: i386, i386-pae, x86-64 or x86-64-la57, or a file; also arm (ARMv7)
    #[arg(long, value_name = "NAME|FILE.toml", default_value = "x86-64", help_heading = "Machine")]
    pub(crate) machine: String,

    /// RAM of the machine, with suffix K, M, G or T [default: 4G]
    #[arg(long, value_name = "SIZE", help_heading = "Machine")]
    pub(crate) ram: Option<String>,

    /// The modelled TLBs: a name of `machine list` or a file
    #[arg(long, value_name = "NAME|FILE.toml", help_heading = "Machine")]
    pub(crate) tlb: Option<String>,

    /// Which kernel's map: 4.4 has the older places [default: 6.12]
    #[arg(long, value_name = "4.4|6.12", value_enum, help_heading = "Kernel")]
    pub(crate) kernel: Option<KernelRelease>,

    /// CONFIG_PAGE_OFFSET of a kernel of 32 bits: where the addresses of programs end
    /// [default: 0xc0000000]
    #[arg(long, value_name = "ADDRESS", help_heading = "Kernel")]
    pub(crate) page_offset: Option<String>,

    /// vmalloc= of an i386 kernel: how much address space is kept for it [default: 120M]
    #[arg(long, value_name = "SIZE", help_heading = "Kernel")]
    pub(crate) vmalloc: Option<String>,

    /// CONFIG_NR_CPUS: each CPU has places of its own in an i386 kernel's map [default: 8]
    #[arg(long, value_name = "N", help_heading = "Kernel")]
    pub(crate) cpus: Option<u64>,

    /// The 8 bytes of the TLS or LDT entry that the selector names
    #[arg(long, value_name = "0x...")]
    pub(crate) descriptor: Option<String>,

    /// Draw the whole address space instead
    #[arg(long)]
    pub(crate) map: bool,

    /// What happened to the page in this trace of a run
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,

    /// Which process of the trace [default: the first one]
    #[arg(long, value_name = "N")]
    pub(crate) pid: Option<u64>,

    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,

    /// The address, or SELECTOR:OFFSET
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: Option<String>,
}

/// What `--kernel` takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum KernelRelease {
    /// Linux 4.4
    #[value(name = "4.4")]
    V4_4,
    /// Linux 6.12
    #[value(name = "6.12")]
    V6_12,
}

const MACHINE_EXAMPLES: &str = "\
Examples:
  faultline machine list
  faultline machine show x86-64
  faultline machine show classic > my-core.toml    a file for --tlb, to be changed";

/// `faultline policy`.
#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// List them, the default first
    List {
        /// Only the names, one a line
        #[arg(long)]
        names: bool,
    },
}

/// `faultline machine`.
#[derive(Debug, Subcommand)]
#[command(after_help = MACHINE_EXAMPLES)]
pub(crate) enum Machine {
    /// List the page-table formats and the TLBs
    #[command(after_help = MACHINE_EXAMPLES)]
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one of them; a TLB comes in the form that --tlb FILE.toml reads
    #[command(after_help = MACHINE_EXAMPLES)]
    Show {
        /// A name of the list
        name: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_description_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_after_the_program_are_the_programs() {
        let cli = Cli::try_parse_from(["faultline", "run", "--seed", "3", "ls", "--json", "-o"]);
        let Ok(Cli { command: Command::Run(run) }) = cli else { panic!("it is a run: {cli:?}") };
        assert_eq!(run.command, ["ls", "--json", "-o"]);
        assert_eq!((run.seed, run.json, run.output), (3, None, None));
    }

    #[test]
    fn an_unknown_option_is_no_program() {
        assert!(Cli::try_parse_from(["faultline", "run", "--nonsense", "ls"]).is_err());
        assert!(Cli::try_parse_from(["faultline", "run", "-z", "ls"]).is_err());
    }

    #[test]
    fn the_dashes_are_optional_and_end_our_options() {
        let cli = Cli::try_parse_from(["faultline", "run", "--", "--odd-name", "--", "x"]);
        let Ok(Cli { command: Command::Run(run) }) = cli else { panic!("it is a run: {cli:?}") };
        assert_eq!(run.command, ["--odd-name", "--", "x"]);
    }
}
