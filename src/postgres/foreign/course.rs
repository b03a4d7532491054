//! How an execution goes through the rows: chosen when the query is planned, carried in the plan as numbers.

use pgrx::pg_sys;

#[derive(Clone, Default)]
pub struct Course {
    /// Which of the table's orders; None = as the rows lie.
    pub order: Option<usize>,
    pub backward: bool,
    /// The plan relies on the order.
    pub ordered: bool,
    /// What is compared with, an expression each, is kept beside.
    pub keys: Vec<SearchKey>,
}

/// `column <operator> expression`.
#[derive(Clone, Copy)]
pub struct SearchKey {
    /// Of the foreign table, from 0.
    pub place: usize,
    /// btree's number of the operator.
    pub strategy: i32,
    /// Type of the expression.
    pub of_type: pg_sys::Oid,
    /// The operator's function.
    pub function: pg_sys::Oid,
    /// The expression is an array, and one of it is meant.
    pub any: bool,
}

/// btree's `=`.
pub(super) const EQUAL: i32 = 3;

impl Course {
    /// # Safety
    /// palloc is at hand.
    pub unsafe fn numbers(&self, wanted: u32) -> *mut pg_sys::List {
        let mut numbers = vec![wanted as i32, self.order.map_or(-1, |n| n as i32), self.backward.into(), self.ordered.into()];
        for key in &self.keys {
            let (of_type, function) = (key.of_type.to_u32() as i32, key.function.to_u32() as i32);
            numbers.extend([key.place as i32, key.strategy, of_type, function, key.any.into()]);
        }
        // SAFETY: appends to a list of integers.
        unsafe { numbers.into_iter().fold(std::ptr::null_mut(), |list, n| pg_sys::lappend_int(list, n)) }
    }

    /// # Safety
    /// A list that `numbers` made.
    pub unsafe fn of(list: *mut pg_sys::List) -> (Course, u32) {
        // SAFETY: a list of integers.
        let n: Vec<i32> = unsafe { (0..(*list).length as usize).map(|n| (*(*list).elements.add(n)).int_value).collect() };
        let oid = |n: i32| pg_sys::Oid::from(n as u32);
        let keys = n[4..]
            .chunks_exact(5)
            .map(|k| SearchKey { place: k[0] as usize, strategy: k[1], of_type: oid(k[2]), function: oid(k[3]), any: k[4] != 0 })
            .collect();
        (Course { order: usize::try_from(n[1]).ok(), backward: n[2] != 0, ordered: n[3] != 0, keys }, n[0] as u32)
    }
}
