use std::cell::RefCell;

use super::*;

/// What the next call of a [`Faulty`] device does instead of its work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// It fails.
    Error(ErrorKind),
    /// It does so many bytes and no more.
    Short(usize),
    /// It writes so many bytes and says that all are written.
    Torn(usize),
    /// It writes nothing and says that all is written.
    Lost,
    /// It writes to another place.
    Astray(u64),
    /// It reads a byte that is not there.
    Flip(usize),
}

/// A device of bytes in memory.
#[derive(Default)]
struct Faulty {
    bytes: RefCell<Vec<u8>>,
    faults: RefCell<Vec<Fault>>,
}

impl Faulty {
    fn put(&self, bytes: &[u8], offset: u64) {
        let start = usize::try_from(offset).expect("it is small");
        let mut all = self.bytes.borrow_mut();
        let end = start + bytes.len();
        if all.len() < end {
            all.resize(end, 0);
        }
        all[start..end].copy_from_slice(bytes);
    }
}

impl Device for Faulty {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let start = usize::try_from(offset).expect("it is small");
        let all = self.bytes.borrow();
        let rest = all.get(start..).unwrap_or(&[]);
        let mut count = rest.len().min(bytes.len());
        let fault = self.faults.borrow_mut().pop();
        match fault {
            Some(Fault::Error(kind)) => return Err(kind.into()),
            Some(Fault::Short(most)) => count = count.min(most),
            _ => {}
        }
        bytes[..count].copy_from_slice(&rest[..count]);
        if let Some(Fault::Flip(at)) = fault {
            bytes[at] ^= 1;
        }
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut count = bytes.len();
        let mut to = offset;
        match self.faults.borrow_mut().pop() {
            Some(Fault::Error(kind)) => return Err(kind.into()),
            Some(Fault::Short(most)) => {
                self.put(&bytes[..most], offset);
                return Ok(most);
            }
            Some(Fault::Torn(kept)) => count = kept,
            Some(Fault::Lost) => return Ok(bytes.len()),
            Some(Fault::Astray(place)) => to = place,
            Some(Fault::Flip(_)) | None => {}
        }
        self.put(&bytes[..count], to);
        Ok(bytes.len())
    }
}

fn records() -> Records<Faulty> {
    let records = Records::new(Faulty::default(), Header { slots: 8, generation: 3 });
    let length = usize::try_from(records.header.file_bytes()).expect("it is small");
    records.device.bytes.borrow_mut().resize(length, 0);
    records
}

fn page(seed: u8) -> [u8; PAGE] {
    std::array::from_fn(|at| (at as u8).wrapping_mul(31).wrapping_add(seed))
}

fn read(records: &mut Records<Faulty>, slot: u32) -> Result<[u8; PAGE], SwapError> {
    let mut back = [0; PAGE];
    records.read(SwapSlot(slot), &mut back).map(|()| back)
}

#[test]
fn pages_come_back_as_they_were_written_last() {
    let mut records = records();
    for slot in 1..=8 {
        records.write(SwapSlot(slot), &page(slot as u8)).expect("it works");
    }
    records.write(SwapSlot(5), &page(99)).expect("it works");
    for slot in 1..=8 {
        let expected = if slot == 5 { 99 } else { slot as u8 };
        assert_eq!(read(&mut records, slot), Ok(page(expected)));
    }
    let outside = [0, 9, u32::MAX].map(SwapSlot);
    for slot in outside {
        assert_eq!(records.write(slot, &page(0)), Err(SwapError::Io { slot }));
        assert_eq!(records.read(slot, &mut [0; PAGE]), Err(SwapError::Io { slot }));
    }
}

#[test]
fn swap_6_errors_of_the_device_are_told_and_short_calls_go_on() {
    let mut records = records();
    let slot = SwapSlot(2);
    let failed = Err(SwapError::Io { slot });
    for kind in [ErrorKind::Other, ErrorKind::StorageFull, ErrorKind::WriteZero] {
        records.write(slot, &page(1)).expect("it works");
        records.device.faults.borrow_mut().push(Fault::Error(kind));
        assert_eq!(records.write(slot, &page(2)), failed, "{kind}");
        assert_eq!(read(&mut records, 2), failed.map(|()| page(0)), "its bytes are unknown");
    }
    // The last pushed comes first: 100 bytes, then an error.
    *records.device.faults.borrow_mut() = vec![Fault::Error(ErrorKind::Other), Fault::Short(100)];
    assert_eq!(records.write(slot, &page(2)), failed);
    *records.device.faults.borrow_mut() = vec![Fault::Short(1), Fault::Short(4000)];
    assert_eq!(records.write(slot, &page(3)), Ok(()));
    *records.device.faults.borrow_mut() =
        vec![Fault::Short(17), Fault::Error(ErrorKind::Interrupted), Fault::Short(1)];
    assert_eq!(read(&mut records, 2), Ok(page(3)));
    records.device.faults.borrow_mut().push(Fault::Error(ErrorKind::Other));
    assert_eq!(read(&mut records, 2), failed.map(|()| page(0)));
    assert_eq!(read(&mut records, 2), Ok(page(3)), "a read that failed may be tried again");
}

#[test]
fn what_the_device_lost_or_tore_never_comes_back_as_data() {
    let place = |records: &Records<Faulty>, slot| records.place(SwapSlot(slot)).expect("inside");
    for kept in [0, 1, 512, 4095, 4096, 4100, RECORD_BYTES - 1 - 8] {
        let mut records = records();
        records.write(SwapSlot(1), &page(1)).expect("it works");
        records.device.faults.borrow_mut().push(Fault::Torn(kept));
        records.write(SwapSlot(1), &page(2)).expect("it says so");
        let corrupt = Err(SwapError::Corrupt { slot: SwapSlot(1) });
        assert_eq!(read(&mut records, 1), corrupt, "torn after {kept}");
    }
    let mut records = records();
    for slot in [1, 2] {
        records.write(SwapSlot(slot), &page(slot as u8)).expect("it works");
    }
    records.device.faults.borrow_mut().push(Fault::Lost);
    records.write(SwapSlot(1), &page(7)).expect("it says so");
    assert!(matches!(read(&mut records, 1), Err(SwapError::Corrupt { .. })), "lost");
    let astray = Fault::Astray(place(&records, 2));
    records.device.faults.borrow_mut().push(astray);
    records.write(SwapSlot(1), &page(8)).expect("it says so");
    for slot in [1, 2] {
        assert!(matches!(read(&mut records, slot), Err(SwapError::Corrupt { .. })), "astray");
    }
    records.write(SwapSlot(3), &page(3)).expect("it works");
    for at in [0, 4095, PAGE, PAGE + 8, PAGE + 16] {
        records.device.faults.borrow_mut().push(Fault::Flip(at));
        assert!(matches!(read(&mut records, 3), Err(SwapError::Corrupt { .. })), "bit of {at}");
    }
    assert_eq!(read(&mut records, 3), Ok(page(3)));
}

#[test]
fn the_valid_header_with_the_higher_generation_counts() {
    let device = Faulty::default();
    let told = |device: &Faulty| headers(device).map(|(header, place)| (header.generation, place));
    assert!(told(&device).expect_err("empty").contains("not a swap file"));
    device.put(&Header { slots: 8, generation: 0 }.to_bytes(), 0);
    assert_eq!(told(&device), Ok((0, 4096)));
    device.put(&[0; HEADER_BYTES], 4096);
    assert_eq!(told(&device), Ok((0, 4096)));
    device.put(&Header { slots: 8, generation: 1 }.to_bytes(), 4096);
    assert_eq!(told(&device), Ok((1, 0)));
    // Killed while header A was written: B still counts.
    device.put(&Header { slots: 8, generation: 2 }.to_bytes()[..2000], 0);
    device.put(&[0xff], 3000);
    assert_eq!(told(&device), Ok((1, 0)));
    device.put(&[0xff], 4096 + 17);
    assert!(told(&device).expect_err("both are damaged").contains("no header is valid"));
    device.faults.borrow_mut().push(Fault::Error(ErrorKind::Other));
    assert!(told(&device).expect_err("it fails").contains("cannot be read"));
}
