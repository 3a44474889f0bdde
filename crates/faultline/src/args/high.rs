//! What the command line means: typed values, defaults filled in, files read.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use cpu::x86::InstructionCount;
use kernel::fs::{Bind, BindAccess};
use kernel::{ContextSwitch, PageCacheConfig, TaskLimits};
use machine::{FastPath, Geometry, Keep, MachineConfig, PAGE_BYTES, TlbMode};
use mm::Warmth;

use super::low;
use crate::failure::Failure;
use crate::machine::{MachineFile, RAM_DEFAULT, check_page_offset, find_geometry, find_tlb};

/// Memory that the test device may have: an i386 kernel has vmalloc space for it.
const DEVICE_BYTES_MAX: u64 = 64 << 20;
/// Variables of the host that the program gets, besides `LC_*`.
const PASSED_VARIABLES: [&str; 5] = ["PATH", "HOME", "TERM", "LANG", "TZ"];
/// `vm.overcommit_ratio` until the program sets it.
const RATIO_PERCENT: u64 = 50;
/// Seconds of a day.
const DAY_SECONDS: u64 = 86_400;

/// A run, fully described.
#[derive(Debug)]
pub(crate) struct RunPlan {
    pub(crate) machine: MachineConfig,
    /// Where the addresses of programs end, if it was asked for.
    pub(crate) page_offset: Option<u64>,
    /// Memory of the test device; 0 for no device.
    pub(crate) device_bytes: u64,
    pub(crate) instructions: InstructionCount,
    pub(crate) seed: u64,
    /// The boot time, if it was asked for.
    pub(crate) boot_seconds_asked: Option<u64>,
    pub(crate) root: PathBuf,
    pub(crate) binds: Vec<Bind>,
    pub(crate) env: Vec<Vec<u8>>,
    pub(crate) cwd: Vec<u8>,
    /// The program and its arguments, as typed.
    pub(crate) args: Vec<Vec<u8>>,
    pub(crate) text: Option<TextTarget>,
    pub(crate) json: Option<JsonTarget>,
    pub(crate) trace: Option<PathBuf>,
    pub(crate) task_limits: TaskLimits,
    pub(crate) context_switch: ContextSwitch,
    pub(crate) swap: Option<SwapPlan>,
    pub(crate) policy: &'static mm::Policy,
    pub(crate) limits: mm::GroupLimits,
    pub(crate) overcommit: mm::Overcommit,
    /// Virtual nanoseconds between two counts of the pages in use.
    pub(crate) working_set_ns: Option<u64>,
    pub(crate) page_cache: PageCacheConfig,
}

/// Where private pages go when RAM is short.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SwapPlan {
    /// Bytes of pages; `None` for what the file holds.
    pub(crate) bytes: Option<u64>,
    /// What it costs in virtual time.
    pub(crate) latency: mm::Latency,
    /// A file of the host instead of its memory.
    pub(crate) file: Option<PathBuf>,
    /// How much of RAM, in percent, holds compressed pages before that.
    pub(crate) zswap_percent: u64,
}

impl SwapPlan {
    /// Whether the pages lie compressed in the machine's own RAM.
    pub(crate) fn is_zram(&self) -> bool {
        self.latency.name == "zram"
    }
}

/// Where the report for people goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum TextTarget {
    Stderr,
    File(PathBuf),
}

/// Where the report for machines goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum JsonTarget {
    Stdout,
    File(PathBuf),
}

/// What the plan takes from the host.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    /// All variables.
    pub(crate) variables: BTreeMap<OsString, OsString>,
    /// The current directory.
    pub(crate) directory: Option<PathBuf>,
    /// Seconds since 1970.
    pub(crate) now_seconds: u64,
}

impl RunPlan {
    /// The meaning of what was typed.
    ///
    /// # Errors
    /// Exit code 125, with a line that says what is accepted.
    pub(crate) fn new(typed: low::Run, host: &Host) -> Result<Self, Failure> {
        // The end of the host's day: the same all day long, and no file is younger.
        let day_end = (host.now_seconds / DAY_SECONDS + 1) * DAY_SECONDS;
        let boot_seconds = typed.boot_time.unwrap_or(day_end);
        let count_instructions = typed.count == Some(low::Count::Instructions);
        let swap = swap_plan(&typed)?;
        let working_set_ns = typed.working_set.as_deref().map(parse_time).transpose()?;
        let page_cache = page_cache_config(&typed)?;
        let (machine, page_offset) = machine_config(&typed, boot_seconds)?;
        Ok(Self {
            swap,
            page_cache,
            working_set_ns,
            policy: find_policy(&typed.policy)?,
            limits: limits(&typed)?,
            overcommit: match typed.overcommit {
                low::Overcommit::Heuristic => mm::Overcommit::Heuristic,
                low::Overcommit::Always => mm::Overcommit::Always,
                low::Overcommit::Never => mm::Overcommit::Never { ratio_percent: RATIO_PERCENT },
            },
            device_bytes: device_bytes(&typed, &machine)?,
            machine,
            page_offset,
            instructions: match count_instructions {
                true => InstructionCount::On,
                false => InstructionCount::Off,
            },
            seed: typed.seed,
            boot_seconds_asked: typed.boot_time,
            binds: typed.bind.iter().map(|bind| parse_bind(bind)).collect::<Result<_, _>>()?,
            env: environment(&typed.env, host)?,
            cwd: working_directory(&typed, host)?,
            args: typed.command.into_iter().map(OsString::into_vec).collect(),
            root: typed.root,
            text: match (typed.report, typed.output) {
                (low::ReportKind::None, _) => None,
                (low::ReportKind::Text, None) => Some(TextTarget::Stderr),
                (low::ReportKind::Text, Some(file)) => Some(TextTarget::File(file)),
            },
            json: typed.json.map(|file| match file.as_os_str() == "-" {
                true => JsonTarget::Stdout,
                false => JsonTarget::File(file),
            }),
            trace: typed.trace,
            context_switch: match typed.pcid {
                low::Pcid::On => ContextSwitch::Tagged,
                low::Pcid::Off => ContextSwitch::Flushed,
            },
            task_limits: TaskLimits {
                processes_max: typed.max_procs,
                threads_max: typed.max_threads,
                run_ns_max: typed.timeout.map(|seconds| seconds.saturating_mul(1_000_000_000)),
            },
        })
    }
}

/// The machine, and where its kernel begins.
fn machine_config(
    typed: &low::Run,
    boot_seconds: u64,
) -> Result<(MachineConfig, Option<u64>), Failure> {
    let file = match &typed.machine {
        Some(name) if name.ends_with(".toml") => MachineFile::read(name)?,
        Some(name) => MachineFile { geometry: Some(name.clone()), ..MachineFile::default() },
        None => MachineFile::default(),
    };
    let ram_bytes = match &typed.ram {
        Some(text) => parse_ram(text)?,
        None => file.ram_bytes.unwrap_or(RAM_DEFAULT),
    };
    let geometry = match &file.geometry {
        Some(name) => find_geometry(name)?.1,
        None => Geometry::X86_64,
    };
    let tlb = match &typed.tlb {
        Some(name) => find_tlb(name)?,
        None => file.tlb.unwrap_or(TlbMode::Model(*machine::tlb_default())),
    };
    if geometry == Geometry::I386 && ram_bytes > 1 << geometry.physical_bits() {
        let why = "entries of i386 name 4 GiB of RAM at most; give i386-pae or less RAM";
        return Err(Failure::own(format!("--machine i386: {why}")));
    }
    let page_offset = match &typed.page_offset {
        Some(text) => Some(parse_page_offset(geometry, text)?),
        None => file.page_offset,
    };
    let machine = MachineConfig {
        ram_bytes,
        geometry,
        tlb,
        reference: if typed.reference { FastPath::Empty } else { FastPath::Filled },
        keep: if typed.trace.is_some() { Keep::Events } else { Keep::HashOnly },
        boot_seconds,
    };
    Ok((machine, page_offset))
}

/// The split of a kernel for these page tables.
///
/// # Errors
/// Exit code 125: not a number, or no such kernel has this split.
pub(crate) fn parse_page_offset(geometry: Geometry, text: &str) -> Result<u64, Failure> {
    let page_offset = parse_number("--page-offset", text)?;
    check_page_offset(geometry, page_offset)
        .map_err(|error| Failure::own(format!("--page-offset {text}: {error}")))?;
    Ok(page_offset)
}

/// A number of 64 bits, hexadecimal with `0x`.
///
/// # Errors
/// Exit code 125: it is none.
pub(crate) fn parse_number(what: &str, text: &str) -> Result<u64, Failure> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let number = match digits {
        Some(digits) => u64::from_str_radix(&digits.replace('_', ""), 16).ok(),
        None => text.parse().ok(),
    };
    number.ok_or_else(|| {
        Failure::own(format!("{what} {text}: not a number of 64 bits; give one like 0xc0000000"))
    })
}

/// Bytes of the test device, for which the machine must have physical addresses left.
///
/// # Errors
/// Exit code 125: not a size, too much or too little, or no room above RAM.
fn device_bytes(typed: &low::Run, machine: &MachineConfig) -> Result<u64, Failure> {
    let Some(text) = &typed.device_memory else { return Ok(0) };
    let wrong = |why: &str| Failure::own(format!("--device-memory {text}: {why}"));
    let accepted = "give a multiple of 4K up to 64M";
    let bytes = parse_size(text).ok_or_else(|| wrong(accepted))?;
    if !bytes.is_multiple_of(PAGE_BYTES) || !(PAGE_BYTES..=DEVICE_BYTES_MAX).contains(&bytes) {
        return Err(wrong(accepted));
    }
    if machine.ram_bytes + bytes > 1 << machine.geometry.physical_bits().min(46) {
        return Err(wrong("no physical addresses are left above RAM; give less --ram"));
    }
    Ok(bytes)
}

/// Bytes of a size with an optional suffix.
///
/// # Errors
/// Exit code 125: not a number, an unknown suffix, or 2^64 and more.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, suffix) = text.split_at(split);
    let shift = match suffix {
        "" => 0,
        "K" | "k" => 10,
        "M" | "m" => 20,
        "G" | "g" => 30,
        "T" | "t" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// A device by its name.
///
/// # Errors
/// Exit code 125: there is no such device.
fn find_device(option: &str, name: &str) -> Result<mm::Latency, Failure> {
    mm::latency(name).copied().ok_or_else(|| {
        let names = mm::LATENCIES.map(|latency| latency.name).join(", ");
        Failure::own(format!("--{option} {name}: no such device; there are {names}"))
    })
}

fn page_cache_config(typed: &low::Run) -> Result<PageCacheConfig, Failure> {
    let warmth = match typed.page_cache {
        low::PageCache::Warm => Warmth::Warm,
        low::PageCache::Cold => Warmth::Cold,
    };
    Ok(PageCacheConfig { warmth, device: find_device("file-device", &typed.file_device)? })
}

fn swap_plan(typed: &low::Run) -> Result<Option<SwapPlan>, Failure> {
    let latency = find_device("swap-device", &typed.swap_device)?;
    let file = typed.swap_file.clone();
    let zswap_percent = typed.zswap.unwrap_or(0);
    if file.is_some() && latency.name == "zram" {
        let why = "--swap-device zram: it has no file; leave --swap-file out";
        return Err(Failure::own(why.to_owned()));
    }
    let Some(text) = &typed.swap else {
        if file.is_none() && zswap_percent > 0 {
            return Err(Failure::own("--zswap: give --swap or --swap-file too".to_owned()));
        }
        let plan = |file| SwapPlan { bytes: None, latency, file: Some(file), zswap_percent };
        return Ok(file.map(plan));
    };
    let wrong = |why: &str| Failure::own(format!("--swap {text}: {why}"));
    let bytes = parse_size(text)
        .ok_or_else(|| wrong("not a size; give a number with an optional suffix K, M, G or T"))?;
    if !bytes.is_multiple_of(PAGE_BYTES) || !(PAGE_BYTES..=1 << 40).contains(&bytes) {
        return Err(wrong("no such swap; give a multiple of 4K from 4K to 1T"));
    }
    Ok(Some(SwapPlan { bytes: Some(bytes), latency, file, zswap_percent }))
}

fn find_policy(name: &str) -> Result<&'static mm::Policy, Failure> {
    mm::policy(name).ok_or_else(|| {
        let names = mm::POLICIES.map(|policy| policy.name).join(", ");
        Failure::own(format!("--policy {name}: no such policy; there are {names}"))
    })
}

fn limits(typed: &low::Run) -> Result<mm::GroupLimits, Failure> {
    let pages = |option: &str, text: Option<&String>| -> Result<u64, Failure> {
        let Some(text) = text else { return Ok(u64::MAX) };
        let bytes = parse_size(text).filter(|bytes| *bytes >= PAGE_BYTES);
        bytes.map(|bytes| bytes / PAGE_BYTES).ok_or_else(|| {
            let why = "not a size of at least 4K; give a number with a suffix K, M, G or T";
            Failure::own(format!("{option} {text}: {why}"))
        })
    };
    Ok(mm::GroupLimits {
        max_pages: pages("--limit", typed.limit.as_ref())?,
        high_pages: pages("--limit-high", typed.limit_high.as_ref())?,
    })
}

/// Nanoseconds of a time of at least a microsecond, with its unit.
fn parse_time(text: &str) -> Result<u64, Failure> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let unit_ns = match unit {
        "us" => Some(1_000),
        "ms" => Some(1_000_000),
        "s" => Some(1_000_000_000),
        _ => None,
    };
    let time = unit_ns.and_then(|unit: u64| digits.parse::<u64>().ok()?.checked_mul(unit));
    time.filter(|time| *time > 0).ok_or_else(|| {
        let why = "not a time; give a number from 1 on with us, ms or s, as 10ms";
        Failure::own(format!("--working-set {text}: {why}"))
    })
}

/// Bytes of RAM.
///
/// # Errors
/// Exit code 125: not a size, or no machine has so much.
pub(crate) fn parse_ram(text: &str) -> Result<u64, Failure> {
    let bytes = parse_size(text).ok_or_else(|| {
        Failure::own(format!(
            "--ram {text}: not a size; give a number with an optional suffix K, M, G or T"
        ))
    })?;
    if !bytes.is_multiple_of(PAGE_BYTES) || !(1 << 20..=1 << 46).contains(&bytes) {
        let range = "give a multiple of 4K from 1M to 64T";
        return Err(Failure::own(format!("--ram {text}: no machine has such RAM; {range}")));
    }
    Ok(bytes)
}

/// `HOST:GUEST[:ro|rw]`.
fn parse_bind(text: &OsStr) -> Result<Bind, Failure> {
    let wrong = |why: &str| {
        let text = text.to_string_lossy();
        Failure::own(format!("--bind {text}: {why}; give HOST:GUEST, HOST:GUEST:ro or :rw"))
    };
    let parts: Vec<&[u8]> = text.as_bytes().split(|byte| *byte == b':').collect();
    let (host, guest, access) = match parts.as_slice() {
        [host, guest] | [host, guest, b"ro"] => (host, guest, BindAccess::ReadOnly),
        [host, guest, b"rw"] => (host, guest, BindAccess::ReadWrite),
        [_, _, _] => return Err(wrong("the access is neither ro nor rw")),
        _ => return Err(wrong("not two paths")),
    };
    if host.is_empty() || !guest.starts_with(b"/") {
        return Err(wrong("the guest's path is not absolute"));
    }
    Ok(Bind { host: PathBuf::from(OsStr::from_bytes(host)), guest: guest.to_vec(), access })
}

/// The program's variables: the ones passed on in a fixed order, then those of `--env`.
fn environment(asked: &[OsString], host: &Host) -> Result<Vec<Vec<u8>>, Failure> {
    let locale = host.variables.keys().filter(|name| name.as_bytes().starts_with(b"LC_"));
    let passed = PASSED_VARIABLES.iter().map(OsStr::new).chain(locale.map(OsString::as_os_str));
    let mut env: Vec<(Vec<u8>, Vec<u8>)> = passed
        .filter_map(|name| Some((name, host.variables.get(name)?)))
        .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
        .collect();
    for text in asked {
        let bytes = text.as_bytes();
        let (name, value) = match bytes.iter().position(|byte| *byte == b'=') {
            Some(0) => {
                let text = text.to_string_lossy();
                return Err(Failure::own(format!("--env {text}: no name; give NAME=VALUE")));
            }
            Some(at) => (&bytes[..at], Some(bytes[at + 1..].to_vec())),
            None => (bytes, host.variables.get(text).map(|value| value.as_bytes().to_vec())),
        };
        env.retain(|(other, _)| other != name);
        env.extend(value.map(|value| (name.to_vec(), value)));
    }
    Ok(env.into_iter().map(|(name, value)| [name, b"=".to_vec(), value].concat()).collect())
}

fn working_directory(typed: &low::Run, host: &Host) -> Result<Vec<u8>, Failure> {
    if let Some(cwd) = &typed.cwd {
        if !cwd.as_bytes().starts_with(b"/") {
            let cwd = cwd.to_string_lossy();
            return Err(Failure::own(format!("--cwd {cwd}: give an absolute path of the guest")));
        }
        return Ok(cwd.as_bytes().to_vec());
    }
    if typed.root != *"/" {
        return Ok(b"/".to_vec());
    }
    Ok(host.directory.as_ref().map_or(b"/".to_vec(), |path| path.as_os_str().as_bytes().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn plan(args: &[&str]) -> Result<RunPlan, Failure> {
        let typed = ["faultline", "run"].iter().chain(args);
        let cli = low::Cli::try_parse_from(typed).expect("the form is right");
        let low::Command::Run(run) = cli.command else { panic!("it is a run") };
        let variables = [("PATH", "/bin"), ("SECRET", "x"), ("LC_TIME", "C"), ("TZ", "UTC")];
        let host = Host {
            variables: variables.iter().map(|(name, value)| (name.into(), value.into())).collect(),
            directory: Some("/somewhere".into()),
            now_seconds: 3 * DAY_SECONDS + 17,
        };
        RunPlan::new(*run, &host)
    }

    fn env(args: &[&str]) -> Vec<String> {
        let env = plan(args).expect("the plan is right").env;
        env.into_iter().map(|each| String::from_utf8(each).expect("it is text")).collect()
    }

    #[test]
    fn sizes_take_binary_suffixes() {
        assert_eq!(parse_size("4096"), Some(4096));
        assert_eq!(parse_size("64K"), Some(65536));
        assert_eq!(parse_size("3m"), Some(3 << 20));
        assert_eq!(parse_size("2T"), Some(2 << 40));
        for wrong in ["", "K", "1.5G", "-1", "4 G", "1Q", "99999999999999999999", "99999999T"] {
            assert_eq!(parse_size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn memory_of_a_device_lies_above_ram() {
        assert_eq!(plan(&["x"]).expect("fits").device_bytes, 0);
        let options = ["--device-memory", "1M", "x"];
        assert_eq!(plan(&options).expect("fits").device_bytes, 1 << 20);
        for (options, says) in [
            (["--device-memory", "0", "x"].as_slice(), "give a multiple of 4K"),
            (&["--device-memory", "5000", "x"], "give a multiple of 4K"),
            (&["--device-memory", "65M", "x"], "give a multiple of 4K"),
            (&["--device-memory", "ten", "x"], "give a multiple of 4K"),
            (&["--device-memory", "4K", "--machine", "i386", "x"], "give less --ram"),
            (&["--device-memory", "4K", "--ram", "64T", "x"], "give less --ram"),
        ] {
            let failure = plan(options).expect_err("refused");
            assert_eq!(failure.kind.code(), 125);
            assert!(failure.message.contains(says), "{}", failure.message);
        }
        assert!(plan(&["--device-memory", "4K", "--machine", "i386", "--ram", "2G", "x"]).is_ok());
    }

    #[test]
    fn ram_must_be_whole_pages_and_possible() {
        assert_eq!(plan(&["--ram", "64M", "x"]).expect("fits").machine.ram_bytes, 64 << 20);
        for wrong in ["1", "1048577", "64K", "4095", "65T", "abc"] {
            let failure = plan(&["--ram", wrong, "x"]).expect_err(wrong);
            assert_eq!(failure.kind.code(), 125);
            assert!(failure.message.contains("give a"), "{}", failure.message);
        }
    }

    #[test]
    fn few_variables_are_passed_and_env_changes_them() {
        assert_eq!(env(&["x"]), ["PATH=/bin", "TZ=UTC", "LC_TIME=C"]);
        assert_eq!(
            env(&["--env", "TZ=X=Y", "--env", "SECRET", "--env", "NONE", "x"]),
            ["PATH=/bin", "LC_TIME=C", "TZ=X=Y", "SECRET=x"]
        );
        assert!(plan(&["--env", "=x", "x"]).is_err());
    }

    #[test]
    fn binds_have_two_paths_and_an_access() {
        let binds = plan(&["--bind", "/a:/b:rw", "--bind", "c:/d", "x"]).expect("right").binds;
        assert_eq!(binds[0].access, BindAccess::ReadWrite);
        assert_eq!(
            (binds[1].access, binds[1].guest.as_slice()),
            (BindAccess::ReadOnly, &b"/d"[..])
        );
        for wrong in ["/a", "/a:b", ":/b", "/a:/b:wr", "/a:/b:ro:x"] {
            assert!(plan(&["--bind", wrong, "x"]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_clock_starts_at_the_end_of_the_day_and_another_root_at_its_top() {
        let plain = plan(&["x"]).expect("right");
        assert_eq!(plain.machine.boot_seconds, 4 * DAY_SECONDS);
        assert_eq!((plain.boot_seconds_asked, plain.cwd), (None, b"/somewhere".to_vec()));
        let rooted = plan(&["--root", "/r", "--boot-time", "5", "x"]).expect("right");
        assert_eq!((rooted.boot_seconds_asked, rooted.cwd), (Some(5), b"/".to_vec()));
        assert!(plan(&["--cwd", "relative", "x"]).is_err());
    }

    #[test]
    fn a_split_is_one_that_a_kernel_of_the_machine_has() {
        let split = |machine: &str, text: &str| {
            plan(&["--machine", machine, "--page-offset", text, "x"]).map(|plan| plan.page_offset)
        };
        for text in ["0xc0000000", "0xb0000000", "0x8000_0000", "2013265920", "0x40000000"] {
            assert!(matches!(split("i386", text), Ok(Some(_))), "{text}");
        }
        assert_eq!(split("i386-pae", "0x80000000"), Ok(Some(0x8000_0000)));
        assert_eq!(plan(&["--machine", "i386", "x"]).map(|plan| plan.page_offset), Ok(None));
        for (machine, text, why) in [
            ("i386", "0xd0000000", "0x78000000 and 0x40000000"),
            ("i386", "2g", "not a number"),
            ("i386-pae", "0xb0000000", "with PAE multiples of 1 GiB only"),
            ("i386-pae", "0x78000000", "with PAE multiples of 1 GiB only"),
            ("x86-64", "0xc0000000", "only kernels of 32 bits have a split"),
        ] {
            let failure = split(machine, text).expect_err(text);
            assert_eq!(failure.kind.code(), 125);
            let is_said =
                failure.message.starts_with("--page-offset") && failure.message.contains(why);
            assert!(is_said, "{}", failure.message);
        }
    }

    #[test]
    fn unknown_machines_and_tlbs_say_what_there_is() {
        let failure = plan(&["--machine", "vax", "x"]).expect_err("no such machine");
        assert!(failure.message.contains("x86-64-la57"), "{}", failure.message);
        let failure = plan(&["--tlb", "huge", "x"]).expect_err("no such TLB");
        assert!(failure.message.contains("off"), "{}", failure.message);
        assert_eq!(plan(&["--tlb", "off", "x"]).expect("right").machine.tlb, TlbMode::Off);
    }
}
