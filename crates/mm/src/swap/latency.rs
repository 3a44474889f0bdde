//! What swapping costs in virtual time: one model for each kind of device.
//!
//! A request costs its latency once and the transfer of each page. There is no queue: a request
//! starts when the one before has ended.

/// A device as far as time goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Latency {
    /// The name for `--swap-device`.
    pub name: &'static str,
    /// Nanoseconds until the first byte of a read.
    pub read_ns: u64,
    /// Nanoseconds until a write is accepted.
    pub write_ns: u64,
    /// Nanoseconds for each page of 4 KiB.
    pub page_ns: u64,
    /// Whether neighbours on the device, not in the address space, are read ahead.
    pub is_rotating: bool,
    /// Where the figures come from.
    pub source: &'static str,
}

impl Latency {
    /// Nanoseconds of reading `pages` neighbouring slots in one request.
    pub const fn read_time_ns(&self, pages: u64) -> u64 {
        self.read_ns.saturating_add(self.page_ns.saturating_mul(pages))
    }

    /// Whether a request is work of the processor, which nobody can wait for: such a page comes
    /// back alone, without neighbours (SWAP-5).
    pub const fn is_work(&self) -> bool {
        self.read_ns == 0 && self.write_ns == 0
    }

    /// Nanoseconds of writing `pages` neighbouring slots in one request.
    pub const fn write_time_ns(&self, pages: u64) -> u64 {
        self.write_ns.saturating_add(self.page_ns.saturating_mul(pages))
    }
}

/// What compressing a page costs, and bringing it back.
pub(super) const PACKING: Latency = Latency {
    name: "zram",
    read_ns: 0,
    write_ns: 0,
    page_ns: 2_500,
    is_rotating: false,
    source: "LZ4 of a 4 KiB page: about 1.5 us to pack and 1 us to unpack, with the block layer",
};

/// Every model; the first is the default.
pub const LATENCIES: [Latency; 5] = [
    Latency {
        name: "nvme",
        read_ns: 80_000,
        write_ns: 20_000,
        page_ns: 1_300,
        is_rotating: false,
        source: "4 KiB random read about 80 us and write 20 us at queue depth 1, 3 GB/s: data \
                 sheets of TLC NVMe drives (PCIe 3.0 x4)",
    },
    Latency {
        name: "ssd",
        read_ns: 120_000,
        write_ns: 60_000,
        page_ns: 7_500,
        is_rotating: false,
        source: "SATA 6 Gbit/s: 550 MB/s and about 8,000 IOPS at queue depth 1",
    },
    Latency {
        name: "hdd",
        read_ns: 12_700_000,
        write_ns: 12_700_000,
        page_ns: 22_000,
        is_rotating: true,
        source: "7,200 rpm: 8.5 ms average seek and 4.2 ms half a turn, 180 MB/s",
    },
    PACKING,
    Latency {
        name: "remote",
        read_ns: 15_000,
        write_ns: 15_000,
        page_ns: 330,
        is_rotating: false,
        source: "one round trip over 100 Gbit/s RDMA with the software around it",
    },
];

/// The model of this name.
pub fn latency(name: &str) -> Option<&'static Latency> {
    LATENCIES.iter().find(|latency| latency.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_costs_one_latency() {
        let hdd = latency("hdd").expect("it is in the list");
        assert_eq!(hdd.read_time_ns(8) - hdd.read_time_ns(1), 7 * hdd.page_ns);
        assert!(latency("floppy").is_none());
        assert_eq!(LATENCIES[0].name, "nvme");
    }
}
