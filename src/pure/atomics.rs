//! Numbers that several processes read and write, in two kinds. Which memory ordering holds is decided here, by what a field
//! is for, and not where it is used.
//!
//! - `Handshake…`: one side stores its own and then loads the other's, and so does the other: at least one of the two must
//!   see what the other has stored, or a wake-up is lost. That takes sequential consistency. The generation of an entry
//!   against who picks there, an idle bit against what is woken, how long the launcher sleeps against what comes due: all of
//!   shared memory that decides whether somebody looks is of this kind.
//! - `Gauge…`: nothing is concluded from it about anything else: counters, texts to be shown, what a lock protects anyway.
//!   Each is a number of its own, read and written whole, in no order with others.

use crate::pure::ids::Id;
use crate::pure::time::{At, Span};
use std::marker::PhantomData;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU8, AtomicU32, AtomicU64};

/// What can be made as new: all zero.
pub trait Reset {
    fn reset(&self);
}
impl<T: Reset, const N: usize> Reset for [T; N] {
    fn reset(&self) {
        self.iter().for_each(T::reset);
    }
}

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident: $atomic:ident of $number:ty, $ordering:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Default)]
        #[repr(transparent)]
        pub struct $name($atomic);

        #[allow(dead_code, reason = "each kind has what a number can do, whether somebody needs it just now or not")]
        impl $name {
            pub const fn new(value: $number) -> Self {
                Self($atomic::new(value))
            }
            pub fn load(&self) -> $number {
                self.0.load($ordering)
            }
            pub fn store(&self, value: $number) {
                self.0.store(value, $ordering)
            }
            /// Returns what it was, as all that follow.
            pub fn swap(&self, value: $number) -> $number {
                self.0.swap(value, $ordering)
            }
            pub fn fetch_add(&self, by: $number) -> $number {
                self.0.fetch_add(by, $ordering)
            }
            pub fn fetch_sub(&self, by: $number) -> $number {
                self.0.fetch_sub(by, $ordering)
            }
            pub fn fetch_and(&self, with: $number) -> $number {
                self.0.fetch_and(with, $ordering)
            }
            pub fn fetch_or(&self, with: $number) -> $number {
                self.0.fetch_or(with, $ordering)
            }
            pub fn fetch_min(&self, with: $number) -> $number {
                self.0.fetch_min(with, $ordering)
            }
            pub fn fetch_max(&self, with: $number) -> $number {
                self.0.fetch_max(with, $ordering)
            }
            /// Ok: it was `from`, and is `to`. Err: what it is instead.
            pub fn compare_exchange(&self, from: $number, to: $number) -> Result<$number, $number> {
                self.0.compare_exchange(from, to, $ordering, $ordering)
            }
            pub fn fetch_update(&self, to: impl FnMut($number) -> Option<$number>) -> Result<$number, $number> {
                self.0.fetch_update($ordering, $ordering, to)
            }
        }
        impl Reset for $name {
            fn reset(&self) {
                self.store(0);
            }
        }
    )*};
}

numbers! {
    HandshakeU32: AtomicU32 of u32, SeqCst;
    HandshakeI64: AtomicI64 of i64, SeqCst;
    HandshakeU64: AtomicU64 of u64, SeqCst;
    GaugeU8: AtomicU8 of u8, Relaxed;
    GaugeI32: AtomicI32 of i32, Relaxed;
    GaugeU32: AtomicU32 of u32, Relaxed;
    GaugeI64: AtomicI64 of i64, Relaxed;
    GaugeU64: AtomicU64 of u64, Relaxed;
}

macro_rules! instants {
    ($($name:ident: $number:ident of $type:ident;)*) => {$(
        #[derive(Debug, Default)]
        #[repr(transparent)]
        pub struct $name($number);

        #[allow(dead_code, reason = "each kind has what a number can do, whether somebody needs it just now or not")]
        impl $name {
            pub const fn new(value: $type) -> Self {
                Self($number::new(value.micros()))
            }
            pub fn load(&self) -> $type {
                $type::of_micros(self.0.load())
            }
            pub fn store(&self, value: $type) {
                self.0.store(value.micros())
            }
            /// Returns what it was, as all that follow.
            pub fn swap(&self, value: $type) -> $type {
                $type::of_micros(self.0.swap(value.micros()))
            }
            pub fn fetch_min(&self, with: $type) -> $type {
                $type::of_micros(self.0.fetch_min(with.micros()))
            }
            pub fn fetch_max(&self, with: $type) -> $type {
                $type::of_micros(self.0.fetch_max(with.micros()))
            }
            /// Ok: it was `from`, and is `to`. Err: what it is instead.
            pub fn compare_exchange(&self, from: $type, to: $type) -> Result<$type, $type> {
                self.0.compare_exchange(from.micros(), to.micros()).map($type::of_micros).map_err($type::of_micros)
            }
            pub fn fetch_update(&self, mut to: impl FnMut($type) -> Option<$type>) -> Result<$type, $type> {
                let updated = self.0.fetch_update(|was| to($type::of_micros(was)).map($type::micros));
                updated.map($type::of_micros).map_err($type::of_micros)
            }
        }
        impl Reset for $name {
            fn reset(&self) {
                self.0.reset();
            }
        }
    )*};
}

// Instants and lengths of time. What stands in new memory is At::UNSET and Span::ZERO.
instants! {
    HandshakeAt: HandshakeI64 of At;
    GaugeAt: GaugeI64 of At;
    GaugeSpan: GaugeI64 of Span;
}

macro_rules! ids {
    ($($name:ident: $number:ident;)*) => {$(
        /// Two words: who stores another id while somebody loads shows him half of each. Where that matters a word that is
        /// stored afterwards says that it is there, or a lock keeps them apart.
        #[derive(Debug, Default)]
        #[repr(C)]
        pub struct $name {
            high: $number,
            low: $number,
        }

        impl $name {
            pub fn load(&self) -> Id {
                Id::of_words(self.high.load(), self.low.load())
            }
            pub fn store(&self, id: Id) {
                self.high.store(id.high());
                self.low.store(id.low());
            }
        }
        impl Reset for $name {
            fn reset(&self) {
                self.store(Id::NIL);
            }
        }
    )*};
}

ids! {
    HandshakeId: HandshakeU64;
    GaugeId: GaugeU64;
}

/// A closed choice that fits into one word.
pub trait Choice: Copy + PartialEq + std::fmt::Debug + 'static {
    fn pack(self) -> u32;
    /// The one that 0 stands for is what new memory says.
    fn unpack(word: u32) -> Self;
}

/// One of a closed choice, shared: a handshake.
#[derive(Debug)]
#[repr(transparent)]
pub struct One<T: Choice>(HandshakeU32, PhantomData<fn() -> T>);

impl<T: Choice> One<T> {
    pub fn load(&self) -> T {
        T::unpack(self.0.load())
    }
    pub fn store(&self, value: T) {
        self.0.store(value.pack());
    }
    /// Returns what it was.
    pub fn swap(&self, value: T) -> T {
        T::unpack(self.0.swap(value.pack()))
    }
    /// Whether it was `from`, and so is `to` now.
    pub fn change(&self, from: T, to: T) -> bool {
        self.0.compare_exchange(from.pack(), to.pack()).is_ok()
    }
}

impl<T: Choice> Reset for One<T> {
    fn reset(&self) {
        self.0.store(0);
    }
}
