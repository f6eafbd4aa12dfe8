//! The heap of a process that ends within milliseconds: blocks are cut off the front of a chunk, freed blocks are used
//! again for the same size, and nothing is given back to the kernel.
//!
//! The engine has a heap of its own, which only its thread uses. Everything else (`std` and `rquickjs`) shares the global
//! one behind a lock, because `spawn` feeds its child from a second thread.
//!
//! The file is long because half of it are the tests, which need its private parts.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicBool, Ordering};

use rquickjs::allocator::Allocator;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

/// Sizes and addresses of blocks are multiples of this. It is also the size of what stands before an engine's block.
const STEP: usize = 8;

/// Up to here each multiple of `STEP` is a size of its own; above, there are four sizes for each doubling.
const FINE_BYTES: usize = 1024;
const FINE_CLASSES: usize = FINE_BYTES / STEP;
const CLASSES: usize = FINE_CLASSES + 1 + 4 * (MOST_BYTES.ilog2() - FINE_BYTES.ilog2()) as usize;

/// Far more than any limit of memory allows.
const MOST_BYTES: usize = 1 << 40;

/// How much the kernel is asked for at a time. It fills the pages in at once, which costs a fraction of a fault for each.
const CHUNK_BYTES: usize = 128 * 1024;

/// A larger block has a mapping of its own, so that little of a chunk is left over.
const SHARED_BYTES: usize = CHUNK_BYTES / 4;

/// The number and the bytes of the smallest size that holds `bytes`.
#[inline]
fn size_class(bytes: usize) -> Option<(usize, usize)> {
    if bytes <= FINE_BYTES {
        let steps = bytes.div_ceil(STEP).max(1);
        return Some((steps, steps * STEP));
    }
    if bytes > MOST_BYTES {
        return None;
    }
    let quarter = 1 << ((bytes - 1).ilog2() - 2);
    let rounded = bytes.next_multiple_of(quarter);
    // `rounded` is between 5 and 8 quarters: the last of these is the next doubling.
    let doubling = (quarter.ilog2() + 2 - FINE_BYTES.ilog2()) as usize;
    Some((FINE_CLASSES + doubling * 4 + rounded / quarter - 4, rounded))
}

/// The first word of a block.
#[allow(clippy::cast_ptr_alignment)] // all blocks are aligned to a word
const fn word(block: *mut u8) -> *mut *mut u8 {
    block.cast()
}

/// A heap for one user at a time.
pub struct Heap {
    /// What is left of the chunk: [next, end).
    next: *mut u8,
    end: *mut u8,
    /// Freed blocks of each size; the first word of each points to the next.
    free: [*mut u8; CLASSES],
}

// SAFETY: its blocks belong to nobody else, whichever thread the heap is on.
unsafe impl Send for Heap {}

impl Default for Heap {
    fn default() -> Self {
        Self::new()
    }
}

impl Heap {
    /// An empty heap.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            next: null_mut(),
            end: null_mut(),
            free: [null_mut(); CLASSES],
        }
    }

    /// A block of this size (of `size_class`), and whether it is new and so all zero. Null if there is no memory.
    #[inline]
    fn take(&mut self, class: usize, bytes: usize) -> (*mut u8, bool) {
        let first = self.free[class];
        if first.is_null() {
            return (self.cut(bytes), true);
        }
        // SAFETY: a freed block is at least one word, aligned, and nobody else's; `give` wrote the word.
        self.free[class] = unsafe { word(first).read() };
        (first, false)
    }

    /// New bytes: a multiple of `STEP`.
    #[inline]
    fn cut(&mut self, bytes: usize) -> *mut u8 {
        if self.end as usize - (self.next as usize) < bytes {
            if bytes > SHARED_BYTES {
                return map(bytes, MapFlags::empty());
            }
            let chunk = map(CHUNK_BYTES, MapFlags::POPULATE);
            if chunk.is_null() {
                return chunk;
            }
            self.next = chunk;
            // SAFETY: the end of the mapping.
            self.end = unsafe { chunk.add(CHUNK_BYTES) };
        }
        let block = self.next;
        // SAFETY: so much is left.
        self.next = unsafe { block.add(bytes) };
        block
    }

    /// Takes a block back.
    ///
    /// # Safety
    /// `take` of this heap gave the block, with this class, and nobody uses it any more.
    #[inline]
    unsafe fn give(&mut self, block: *mut u8, class: usize) {
        // SAFETY: the block is at least one word, and aligned.
        unsafe { word(block).write(self.free[class]) };
        self.free[class] = block;
    }

    /// Makes the last block of the chunk longer, in place.
    fn grow_last(&mut self, block: *mut u8, bytes: usize, wanted: usize) -> bool {
        let more = wanted - bytes;
        let is_last = block as usize + bytes == self.next as usize;
        if !is_last || self.end as usize - (self.next as usize) < more {
            return false;
        }
        // SAFETY: so much is left.
        self.next = unsafe { self.next.add(more) };
        true
    }
}

/// Zeroed memory of the kernel; null if it gives none.
fn map(bytes: usize, flags: MapFlags) -> *mut u8 {
    // SAFETY: a new mapping at an address that the kernel chooses touches nothing that is in use.
    let mapped = unsafe {
        mmap_anonymous(
            null_mut(),
            bytes,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE | flags,
        )
    };
    mapped.map_or(null_mut(), <*mut _>::cast)
}

/// The engine's memory. The word before each block says how many bytes it has, this word included.
#[derive(Default)]
pub struct EngineHeap(Heap);

impl EngineHeap {
    #[inline]
    fn new_block(&mut self, bytes: usize) -> Option<(NonNull<u8>, usize, bool)> {
        let (class, rounded) = size_class(bytes.checked_add(STEP)?)?;
        let (start, is_new) = self.0.take(class, rounded);
        let start = NonNull::new(start)?;
        // SAFETY: the block has more than a word.
        unsafe {
            start.cast::<usize>().write(rounded);
            Some((start.add(STEP), rounded - STEP, is_new))
        }
    }
}

/// SAFETY (of reading it): `block` is one of `EngineHeap`'s.
#[inline]
unsafe fn header_of(block: *mut u8) -> (*mut u8, usize) {
    // SAFETY: the word stands before each block.
    unsafe {
        let start = block.sub(STEP);
        (start, word(start).cast::<usize>().read())
    }
}

// SAFETY: blocks are aligned to a word, as long as was asked for or longer, and belong to one user.
unsafe impl Allocator for EngineHeap {
    fn alloc(&mut self, size: usize) -> *mut u8 {
        self.new_block(size).map_or(null_mut(), |(block, ..)| block.as_ptr())
    }

    fn calloc(&mut self, count: usize, size: usize) -> *mut u8 {
        let Some((block, bytes, is_new)) = count.checked_mul(size).and_then(|bytes| self.new_block(bytes)) else {
            return null_mut();
        };
        if !is_new {
            // SAFETY: the block has so many bytes.
            unsafe { block.write_bytes(0, bytes) };
        }
        block.as_ptr()
    }

    unsafe fn dealloc(&mut self, block: *mut u8) {
        // SAFETY: the caller gives a block of this heap back.
        unsafe {
            let (start, bytes) = header_of(block);
            if let Some((class, _)) = size_class(bytes) {
                self.0.give(start, class);
            }
        }
    }

    unsafe fn realloc(&mut self, block: *mut u8, new_size: usize) -> *mut u8 {
        if block.is_null() {
            return self.alloc(new_size);
        }
        // SAFETY: the caller's block is one of this heap; the new one is longer than what is copied.
        unsafe {
            let (start, bytes) = header_of(block);
            let Some((_, wanted)) = new_size.checked_add(STEP).and_then(size_class) else {
                return null_mut();
            };
            if wanted <= bytes {
                return block;
            }
            if self.0.grow_last(start, bytes, wanted) {
                word(start).cast::<usize>().write(wanted);
                return block;
            }
            let longer = self.alloc(new_size);
            if !longer.is_null() {
                longer.copy_from_nonoverlapping(block, bytes - STEP);
                self.dealloc(block);
            }
            longer
        }
    }

    unsafe fn usable_size(block: *mut u8) -> usize {
        // SAFETY: as `dealloc`.
        unsafe { header_of(block).1 - STEP }
    }
}

/// The memory of everything but the engine.
pub struct GlobalHeap {
    heap: UnsafeCell<Heap>,
    locked: AtomicBool,
}

// SAFETY: the heap is used only with the lock held.
unsafe impl Sync for GlobalHeap {}

impl Default for GlobalHeap {
    fn default() -> Self {
        Self::new()
    }
}

impl GlobalHeap {
    /// An empty heap.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            heap: UnsafeCell::new(Heap::new()),
            locked: AtomicBool::new(false),
        }
    }

    /// Waits for a few instructions of the other thread, unless the kernel has stopped that in between.
    fn locked<T>(&self, work: impl FnOnce(&mut Heap) -> T) -> T {
        while self
            .locked
            .compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            rustix::thread::sched_yield();
        }
        // SAFETY: the lock is held, and `work` does not come back here: a heap calls nothing that allocates.
        let result = work(unsafe { &mut *self.heap.get() });
        self.locked.store(false, Ordering::Release);
        result
    }

    fn take(&self, layout: Layout) -> (*mut u8, bool) {
        if layout.align() > STEP {
            // Rare: new bytes that are never used again.
            let Some(bytes) = layout.size().checked_add(layout.align()) else {
                return (null_mut(), false);
            };
            let start = self.locked(|heap| heap.cut(bytes.next_multiple_of(STEP)));
            let skip = start.align_offset(layout.align());
            return (
                if start.is_null() {
                    start
                } else {
                    start.wrapping_add(skip)
                },
                true,
            );
        }
        match size_class(layout.size()) {
            Some((class, bytes)) => self.locked(|heap| heap.take(class, bytes)),
            None => (null_mut(), false),
        }
    }
}

// SAFETY: blocks are as long and as aligned as was asked for, and belong to one user.
unsafe impl GlobalAlloc for GlobalHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.take(layout).0
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (block, is_new) = self.take(layout);
        if !is_new && !block.is_null() {
            // SAFETY: the block has so many bytes.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if layout.align() > STEP {
            return;
        }
        if let Some((class, _)) = size_class(layout.size()) {
            // SAFETY: the caller gives a block of this heap back, of this layout.
            self.locked(|heap| unsafe { heap.give(block, class) });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::alloc::{GlobalAlloc, Layout};
    use std::collections::HashMap;
    use std::thread;

    use rquickjs::allocator::Allocator;

    use super::{CLASSES, EngineHeap, GlobalHeap, MOST_BYTES, STEP, size_class};

    #[test]
    fn a_size_holds_what_it_is_for_and_is_its_own_size() {
        let mut last = (0, 0);
        let samples = (0..20_000).chain((15..40).flat_map(|power| [(1 << power) - 1, 1 << power, (1 << power) + 1]));
        for bytes in samples.filter(|bytes| *bytes <= MOST_BYTES) {
            let (class, rounded) = size_class(bytes).expect("a class");
            assert!(rounded >= bytes && rounded % STEP == 0, "{bytes}");
            assert!(
                rounded - bytes <= STEP.max(bytes / 4),
                "{bytes} wastes {}",
                rounded - bytes
            );
            assert!(class < CLASSES, "{bytes}");
            assert_eq!(size_class(rounded), Some((class, rounded)));
            assert!((class, rounded) >= last, "{bytes}");
            assert_eq!(class == last.0, rounded == last.1, "{bytes}");
            last = (class, rounded);
        }
        assert_eq!(size_class(MOST_BYTES + 1), None);
    }

    /// Every block keeps its content, whatever is taken and given back between.
    #[test]
    fn the_engines_blocks_do_not_overlap() {
        let mut heap = EngineHeap::default();
        let mut random: u32 = 1;
        let mut next = |below: usize| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 8) as usize % below
        };
        let mut held: Vec<(*mut u8, usize, u8)> = Vec::new();
        for round in 0..4_000_u32 {
            let mark = (round % 251).to_le_bytes()[0];
            let size = match next(50) {
                0 => next(100_000),
                1..10 => next(5_000),
                _ => next(256),
            };
            let fill = |block: *mut u8, size: usize| {
                assert!(!block.is_null() && block.is_aligned_to_word());
                // SAFETY: the block is ours, and so long.
                unsafe {
                    assert!(EngineHeap::usable_size(block) >= size);
                    block.write_bytes(mark, size);
                }
            };
            if held.len() < 200 && next(3) > 0 {
                let block = if next(2) == 0 {
                    heap.alloc(size)
                } else {
                    let block = heap.calloc(1, size);
                    // SAFETY: as above.
                    assert!((0..size).all(|at| unsafe { block.add(at).read() } == 0));
                    block
                };
                fill(block, size);
                held.push((block, size, mark));
            } else if !held.is_empty() {
                let (block, old_size, old_mark) = held.swap_remove(next(held.len()));
                // SAFETY: as above.
                assert!((0..old_size).all(|at| unsafe { block.add(at).read() } == old_mark));
                if next(2) == 0 {
                    // SAFETY: ours, and not used again.
                    unsafe { heap.dealloc(block) };
                } else {
                    // SAFETY: as above.
                    let block = unsafe { heap.realloc(block, size) };
                    // SAFETY: as above.
                    assert!((0..size.min(old_size)).all(|at| unsafe { block.add(at).read() } == old_mark));
                    fill(block, size);
                    held.push((block, size, mark));
                }
            }
        }
    }

    trait Aligned {
        fn is_aligned_to_word(&self) -> bool;
    }
    impl Aligned for *mut u8 {
        fn is_aligned_to_word(&self) -> bool {
            (*self as usize).is_multiple_of(STEP)
        }
    }

    #[test]
    fn too_much_is_refused() {
        let mut heap = EngineHeap::default();
        assert!(heap.alloc(usize::MAX).is_null());
        assert!(heap.alloc(MOST_BYTES).is_null());
        assert!(heap.calloc(usize::MAX, 2).is_null());
        let block = heap.alloc(100);
        // SAFETY: the block is ours.
        unsafe {
            assert!(heap.realloc(block, usize::MAX).is_null());
            assert!(heap.realloc(std::ptr::null_mut(), 10).is_aligned());
        }
    }

    #[test]
    fn freed_blocks_are_used_again() {
        let mut heap = EngineHeap::default();
        let blocks: Vec<_> = (0..100).map(|_| heap.alloc(200)).collect();
        // SAFETY: ours, and not used again.
        blocks.iter().for_each(|block| unsafe { heap.dealloc(*block) });
        let again: Vec<_> = (0..100).map(|_| heap.alloc(200)).collect();
        assert_eq!(again, blocks.into_iter().rev().collect::<Vec<_>>());
    }

    #[test]
    fn threads_share_the_global_heap() {
        let heap = GlobalHeap::new();
        thread::scope(|scope| {
            for mark in 1..=4_u8 {
                let heap = &heap;
                scope.spawn(move || {
                    let mut held = HashMap::new();
                    for round in 0..2_000_usize {
                        let size = round % 3_000 + 1;
                        let layout = Layout::from_size_align(size, [1, 8, 16, 64][round % 4]).expect("a layout");
                        // SAFETY: the size is not 0; the block is filled and given back with its layout.
                        unsafe {
                            let block = heap.alloc_zeroed(layout);
                            assert!((block as usize).is_multiple_of(layout.align()));
                            assert!((0..size).all(|at| block.add(at).read() == 0));
                            block.write_bytes(mark, size);
                            if let Some((old, old_layout)) = held.insert(round % 50, (block, layout)) {
                                let old: *mut u8 = old;
                                let old_layout: Layout = old_layout;
                                assert!((0..old_layout.size()).all(|at| old.add(at).read() == mark));
                                heap.dealloc(old, old_layout);
                            }
                        }
                    }
                });
            }
        });
    }
}
