//! Threads of Rust's library: scoped threads, channels, locks, a barrier, a panic, parking.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex, OnceLock, RwLock, mpsc};
use std::thread;
use std::time::Duration;

thread_local!(static OWN: std::cell::Cell<u64> = const { std::cell::Cell::new(0) });

fn main() {
    let (sender, receiver) = mpsc::sync_channel(4);
    let producers: Vec<_> = (0..8_u64)
        .map(|i| {
            let sender = sender.clone();
            thread::spawn(move || (0..500).for_each(|j| sender.send(i * 1000 + j).unwrap()))
        })
        .collect();
    drop(sender);
    let sum: u64 = receiver.iter().sum();
    producers.into_iter().for_each(|thread| thread.join().unwrap());
    println!("sum {sum}");

    let total = AtomicU64::new(0);
    let words = RwLock::new(BTreeMap::new());
    let barrier = Barrier::new(8);
    static ONCE: OnceLock<u64> = OnceLock::new();
    thread::scope(|scope| {
        for i in 0..8_u64 {
            let (total, words, barrier) = (&total, &words, &barrier);
            scope.spawn(move || {
                ONCE.get_or_init(|| 7);
                OWN.with(|own| own.set(own.get() + i));
                words.write().unwrap().insert(i, i * i);
                barrier.wait();
                assert_eq!(words.read().unwrap().len(), 8);
                total.fetch_add(OWN.with(|own| own.get()), Ordering::Relaxed);
            });
        }
    });
    println!("total {} once {:?} words {:?}", total.load(Ordering::Relaxed), ONCE.get(), words);

    let pair = Arc::new((Mutex::new(0), Condvar::new()));
    let other = Arc::clone(&pair);
    let waiter = thread::spawn(move || {
        let (lock, changed) = &*other;
        let mut value = lock.lock().unwrap();
        while *value < 3 {
            value = changed.wait(value).unwrap();
        }
        *value
    });
    for _ in 0..3 {
        *pair.0.lock().unwrap() += 1;
        pair.1.notify_one();
        thread::sleep(Duration::from_millis(1));
    }
    println!("waited for {}", waiter.join().unwrap());

    std::panic::set_hook(Box::new(|_| ()));
    let failed = thread::spawn(|| panic!("as wanted")).join();
    println!("a panic stays in its thread: {}", failed.is_err());
    let parked = thread::Builder::new().name("parked".into()).spawn(|| {
        thread::park();
        thread::current().name().map(str::to_owned)
    });
    let parked = parked.unwrap();
    parked.thread().unpark();
    println!("{:?}", parked.join().unwrap());
}
