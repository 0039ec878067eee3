//! Processors, memory, load and pressure, read from what the kernel prints in `/proc`. Never makes up a number that the
//! kernel did not give.

use schemars::JsonSchema;
use serde::Serialize;

use crate::tools::procfs::{Parts, capped, pairs, tenth};

/// `part` of `whole` in percent, at most 100; none of nothing.
pub(super) fn percent(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| tenth(100.0 * part.min(whole) as f64 / whole as f64))
}

/// Over a quarter of a second, in percent of all processors together.
#[derive(Serialize, JsonSchema)]
pub(super) struct Cpu {
    /// Processors online.
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(flatten)]
    shares: Option<Shares>,
}

#[derive(Serialize, JsonSchema)]
struct Shares {
    /// All but idle and iowait; steal counts.
    used_pct: f64,
    user_pct: f64,
    system_pct: f64,
    /// Idle with I/O outstanding.
    iowait_pct: f64,
    /// Taken by the hypervisor for others.
    steal_pct: f64,
}

impl Cpu {
    /// From lines `n`, `model`, `first` and `second`; the last two are the `cpu` line of `/proc/stat`, see proc(5).
    pub(super) fn read(text: &str) -> Option<Self> {
        let words = pairs(text);
        let n = words.get("n").and_then(|n| n.parse().ok()).filter(|n| *n > 0);
        let model = words.get("model").map(|model| capped(model, 256));
        let shares =
            words.get("first").zip(words.get("second")).and_then(|(first, second)| Shares::between(first, second));
        let cpu = Self { n, model, shares };
        (cpu.n.is_some() || cpu.model.is_some() || cpu.shares.is_some()).then_some(cpu)
    }
}

impl Shares {
    fn between(first: &str, second: &str) -> Option<Self> {
        let (first, second) = (ticks(first)?, ticks(second)?);
        // iowait may run backwards; what ran backwards has not grown.
        let mut grown = [0_u64; 8];
        for (grown, (first, second)) in grown.iter_mut().zip(first.into_iter().zip(second)) {
            *grown = second.saturating_sub(first);
        }
        let [user, nice, system, idle, iowait, irq, softirq, steal] = grown;
        let all = grown.iter().fold(0_u64, |all, ticks| all.saturating_add(*ticks));
        Some(Self {
            used_pct: percent(all.saturating_sub(idle).saturating_sub(iowait), all)?,
            user_pct: percent(user.saturating_add(nice), all)?,
            system_pct: percent(system.saturating_add(irq).saturating_add(softirq), all)?,
            iowait_pct: percent(iowait, all)?,
            steal_pct: percent(steal, all)?,
        })
    }
}

/// user, nice, system, idle, iowait, irq, softirq, steal. The guests' time behind them is in user and nice already.
fn ticks(line: &str) -> Option<[u64; 8]> {
    let mut words = line.split_ascii_whitespace();
    let mut ticks = [0; 8];
    for slot in &mut ticks {
        *slot = words.next()?.parse().ok()?;
    }
    Some(ticks)
}

/// A line of `/proc/meminfo`, in bytes.
fn bytes(text: &str, key: &str) -> Option<u64> {
    let value = pairs(text).get(key)?.strip_suffix(" kB")?.parse::<u64>().ok()?;
    value.checked_mul(1024)
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Mem {
    total: u64,
    /// What could be used without swapping.
    #[serde(skip_serializing_if = "Option::is_none")]
    available: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    free: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    buffers: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cached: Option<u64>,
    /// tmpfs and shared memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    shared: Option<u64>,
    /// What is not available.
    #[serde(skip_serializing_if = "Option::is_none")]
    used_pct: Option<f64>,
}

impl Mem {
    /// From `/proc/meminfo`.
    pub(super) fn read(text: &str) -> Option<Self> {
        let total = bytes(text, "MemTotal:").filter(|total| *total > 0)?;
        let available = bytes(text, "MemAvailable:");
        Some(Self {
            total,
            available,
            free: bytes(text, "MemFree:"),
            buffers: bytes(text, "Buffers:"),
            cached: bytes(text, "Cached:"),
            shared: bytes(text, "Shmem:"),
            used_pct: available.and_then(|available| percent(total.saturating_sub(available), total)),
        })
    }
}

/// A total of 0: the host has no swap.
#[derive(Serialize, JsonSchema)]
pub(super) struct Swap {
    total: u64,
    free: u64,
    /// Absent where there is no swap.
    #[serde(skip_serializing_if = "Option::is_none")]
    used_pct: Option<f64>,
}

impl Swap {
    /// From `/proc/meminfo`.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (total, free) = (bytes(text, "SwapTotal:")?, bytes(text, "SwapFree:")?);
        Some(Self { total, free, used_pct: percent(total.saturating_sub(free), total) })
    }
}

/// The three averages of `/proc/loadavg`.
pub(super) fn averages(text: &str) -> Option<[f64; 3]> {
    let mut words = text.split_ascii_whitespace();
    let mut averages = [0.0; 3];
    for slot in &mut averages {
        *slot = words.next().and_then(number)?;
    }
    Some(averages)
}

/// A number that JSON can hold and that is not below zero.
fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0)
}

/// Pressure: for how much of the time tasks had to wait.
#[derive(Serialize, JsonSchema)]
pub(super) struct Psi {
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<Pressure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Pressure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    io: Option<Pressure>,
}

#[derive(Serialize, JsonSchema)]
struct Pressure {
    /// Some task waited.
    some: Waits,
    /// All tasks waited; older kernels do not tell it of the processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    full: Option<Waits>,
}

/// Percent of the last 10, 60 and 300 seconds.
#[derive(Serialize, JsonSchema)]
struct Waits {
    avg10: f64,
    avg60: f64,
    avg300: f64,
}

impl Psi {
    /// From sections named after the files in `/proc/pressure`.
    pub(super) fn read(parts: &Parts) -> Option<Self> {
        let of = |name: &str| parts.text(&format!("psi.{name}")).and_then(|text| Pressure::read(&text));
        let psi = Self { cpu: of("cpu"), memory: of("memory"), io: of("io") };
        (psi.cpu.is_some() || psi.memory.is_some() || psi.io.is_some()).then_some(psi)
    }
}

impl Pressure {
    fn read(text: &str) -> Option<Self> {
        let lines = pairs(text);
        let waits = |key: &str| lines.get(key).copied().and_then(Waits::read);
        Some(Self { some: waits("some")?, full: waits("full") })
    }
}

impl Waits {
    fn read(line: &str) -> Option<Self> {
        let average = |key: &str| {
            let mut words = line.split_ascii_whitespace().filter_map(|word| word.split_once('='));
            words.find(|(name, _)| *name == key).and_then(|(_, value)| number(value)).map(tenth)
        };
        Some(Self { avg10: average("avg10")?, avg60: average("avg60")?, avg300: average("avg300")? })
    }
}
