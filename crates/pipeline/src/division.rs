//! The partitions of a window, as one sink divides it, by number.

use std::collections::HashMap;
use std::sync::Arc;

/// The number of what belongs to no partition: its sink does not divide windows.
const UNDIVIDED: u32 = u32::MAX;

/// Memory of a name beside its letters: twice in a table that is up to half empty, and its counters.
const NAME_BYTES: usize = 2 * (size_of::<Arc<str>>() + size_of::<(Arc<str>, u32)>()) + 2 * size_of::<usize>();

/// The names of partitions, each once.
#[derive(Debug, Default)]
pub(crate) struct Division {
    names: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u32>,
    bytes: usize,
}

impl Division {
    /// The number of the partition that an item's sink names, if it does.
    pub(crate) fn number(&mut self, name: Option<String>) -> u32 {
        let Some(name) = name else { return UNDIVIDED };
        if let Some(number) = self.numbers.get(&*name) {
            return *number;
        }
        let (name, number) = (Arc::<str>::from(name), u32::try_from(self.names.len()).unwrap_or(UNDIVIDED));
        self.bytes += NAME_BYTES + name.len();
        self.names.push(Arc::clone(&name));
        self.numbers.insert(name, number);
        number
    }

    /// Memory that the names take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn name(&self, number: u32) -> Option<&str> {
        self.names.get(number as usize).map(|name| &**name)
    }
}
