//! Parts that several tasks share: address spaces, tables of open files, places in the tree.
//!
//! The parts of the running task are fields of [`crate::Kernel`], where every system call works on
//! them; those of all others lie here. A part has a key and a number of users.
//!
//! Invariants
//! 1. A part is absent from its place exactly while the running task has it.
//! 2. A part with no users is gone.

use std::collections::BTreeMap;

/// The name of a part on its shelf.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PartKey(u32);

#[derive(Debug)]
struct Place<T> {
    part: Option<T>,
    user_count: u32,
}

/// All parts of one kind.
#[derive(Debug)]
pub(crate) struct Shelf<T> {
    places: BTreeMap<PartKey, Place<T>>,
    next: u32,
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self { places: BTreeMap::new(), next: 0 }
    }
}

impl<T> Shelf<T> {
    /// A key for a part that the running task has already; it is its one user.
    pub(crate) fn reserve(&mut self) -> PartKey {
        let key = PartKey(self.next);
        self.next = self.next.wrapping_add(1);
        self.places.insert(key, Place { part: None, user_count: 1 });
        key
    }

    /// Lays a new part with one user on the shelf.
    pub(crate) fn add(&mut self, part: T) -> PartKey {
        let key = self.reserve();
        self.put(key, part);
        key
    }

    /// One more user.
    pub(crate) fn retain(&mut self, key: PartKey) {
        if let Some(place) = self.places.get_mut(&key) {
            place.user_count += 1;
        }
    }

    /// How many parts there are, that of the running task included.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// How many tasks use the part.
    pub(crate) fn user_count(&self, key: PartKey) -> u32 {
        self.places.get(&key).map_or(0, |place| place.user_count)
    }

    /// One user less. Returns true if there is none left: then the key is gone, and the caller ends
    /// the part, which the running task has.
    pub(crate) fn release(&mut self, key: PartKey) -> bool {
        let Some(place) = self.places.get_mut(&key) else { return false };
        place.user_count = place.user_count.saturating_sub(1);
        let is_last = place.user_count == 0;
        if is_last {
            self.places.remove(&key);
        }
        is_last
    }

    /// Takes the part for the running task; `None` if the running task has it.
    pub(crate) fn take(&mut self, key: PartKey) -> Option<T> {
        self.places.get_mut(&key)?.part.take()
    }

    /// Puts the part of a task that no longer runs back; a part whose key is gone is dropped.
    pub(crate) fn put(&mut self, key: PartKey, part: T) {
        if let Some(place) = self.places.get_mut(&key) {
            place.part = Some(part);
        }
    }

    /// The part, unless the running task has it.
    pub(crate) fn get(&self, key: PartKey) -> Option<&T> {
        self.places.get(&key)?.part.as_ref()
    }

    /// The part, to change it, unless the running task has it.
    pub(crate) fn get_mut(&mut self, key: PartKey) -> Option<&mut T> {
        self.places.get_mut(&key)?.part.as_mut()
    }

    /// All parts but the one that the running task has.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &T> {
        self.places.values().filter_map(|place| place.part.as_ref())
    }

    /// The same, to change them.
    pub(crate) fn parts_mut(&mut self) -> Vec<&mut T> {
        self.places.values_mut().filter_map(|place| place.part.as_mut()).collect()
    }

    /// Takes all parts off the shelf, lowest key first.
    pub(crate) fn drain(&mut self) -> Vec<T> {
        std::mem::take(&mut self.places).into_values().filter_map(|place| place.part).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Shelf;

    #[test]
    fn a_part_is_with_its_user_or_on_the_shelf_until_the_last_user_goes() {
        let mut shelf = Shelf::default();
        let key = shelf.reserve();
        assert_eq!(shelf.take(key), None::<&str>);
        shelf.retain(key);
        shelf.put(key, "part");
        assert_eq!(shelf.get(key), Some(&"part"));
        assert!(!shelf.release(key));
        assert_eq!(shelf.take(key), Some("part"));
        assert!(shelf.release(key));
        shelf.put(key, "part");
        assert_eq!(shelf.get(key), None);
        assert_eq!(shelf.user_count(key), 0);
        let other = shelf.add("other");
        assert_ne!(key, other);
        assert_eq!(shelf.drain(), ["other"]);
    }
}
