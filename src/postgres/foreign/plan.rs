//! What the planner is told: the courses that an execution could take, what each costs, and in which order it has the rows.
//!
//! Nothing of a tenant is known here, and nothing asked: the same plan serves whichever tenant is current when it is
//! executed. A condition helps a course only if it says the same to the index as to the executor: an operator of
//! pg_catalog's on the column alone, in the column's own collation, compared with something that does not depend on the row.

use super::course::{Course, EQUAL, SearchKey};
use super::{Holding, OrderShape, Searched, Served, run, served};
use crate::postgres::call;
use crate::postgres::error::{Error, Result};
use crate::postgres::sqlstate::SqlState;
use pgrx::pg_sys::{self, NodeTag};
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

/// Rows that a table is taken to have: nobody looks, and more than few is what matters.
const ROWS: f64 = 100_000.0;
/// What a row costs that is met on the way, and one that an index leads to; in the planner's units.
const PASSING: f64 = 0.02;
const FOUND: f64 = 0.05;
const START: f64 = 1.0;

/// What CREATE FOREIGN DATA WRAPPER's handler returns.
#[derive(Clone, Copy)]
pub struct Routine(pub(in crate::postgres) pg_sys::Datum);

pub fn routine() -> Routine {
    // SAFETY: zeroed memory of that size is a routine without any function; PostgreSQL keeps it.
    unsafe {
        let routine = pg_sys::palloc0(size_of::<pg_sys::FdwRoutine>()).cast::<pg_sys::FdwRoutine>();
        (*routine).type_ = NodeTag::T_FdwRoutine;
        (*routine).GetForeignRelSize = Some(size);
        (*routine).GetForeignPaths = Some(paths);
        (*routine).GetForeignPlan = Some(plan);
        (*routine).GetForeignRowMarkType = Some(row_mark);
        (*routine).BeginForeignScan = Some(run::begin);
        (*routine).IterateForeignScan = Some(run::iterate);
        (*routine).ReScanForeignScan = Some(run::rescan);
        (*routine).EndForeignScan = Some(run::end);
        (*routine).ExplainForeignScan = Some(run::explain);
        Routine(pg_sys::Datum::from(routine))
    }
}

fn ours(relation: pg_sys::Oid) -> Result<&'static dyn Served> {
    // SAFETY: a query is being planned, which is in a transaction.
    unsafe { served(relation) }
        .ok_or_else(|| Error::new(SqlState::FEATURE_NOT_SUPPORTED, "foreign data wrapper tenant_q serves the tables of its extension only"))
}

/// Their elements, as what they are.
unsafe fn elements<T>(list: *mut pg_sys::List) -> impl Iterator<Item = *mut T> {
    // SAFETY: NULL, or a list of pointers to T.
    let count = if list.is_null() { 0 } else { unsafe { (*list).length as usize } };
    (0..count).map(move |n| {
        // SAFETY: below its length.
        unsafe { (*(*list).elements.add(n)).ptr_value.cast::<T>() }
    })
}

/// Appends pointers.
unsafe fn list<T>(of: impl IntoIterator<Item = *mut T>) -> *mut pg_sys::List {
    // SAFETY: appends to a list of pointers.
    unsafe { of.into_iter().fold(null_mut(), |list, item| pg_sys::lappend(list, item.cast())) }
}

/// The family of operators by which btrees order a type; fixed in pg_opfamily.dat. None: no index of ours is over it.
fn family(of: pg_sys::Oid) -> Option<pg_sys::Oid> {
    let family: u32 = match of {
        pg_sys::UUIDOID => 2968,
        pg_sys::TEXTOID => 1994,
        pg_sys::TIMESTAMPTZOID => 434,
        _ => return None,
    };
    Some(pg_sys::Oid::from(family))
}

/// A condition that an index can be asked.
struct Condition {
    key: SearchKey,
    /// What the column is compared with.
    with: *mut pg_sys::Node,
    /// What it came from.
    source: *mut pg_sys::RestrictInfo,
}

/// A relation that is being planned for.
struct Planned {
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    types: Vec<pg_sys::Oid>,
    orders: Vec<OrderShape>,
}

impl Planned {
    unsafe fn new(root: *mut pg_sys::PlannerInfo, rel: *mut pg_sys::RelOptInfo, relation: pg_sys::Oid) -> Result<Planned> {
        let table = ours(relation)?;
        Ok(Planned { root, rel, types: table.types(), orders: table.orders() })
    }

    /// The place of a column of this relation.
    unsafe fn column(&self, node: *mut pg_sys::Node) -> Option<usize> {
        // SAFETY: a node of an expression; its tag says what it is.
        unsafe {
            if (*node).type_ != NodeTag::T_Var {
                return None;
            }
            let var = &*node.cast::<pg_sys::Var>();
            let mine = var.varno as u32 == (*self.rel).relid && var.varlevelsup == 0 && var.varattno > 0;
            mine.then(|| var.varattno as usize - 1).filter(|place| *place < self.types.len())
        }
    }

    /// Whether the expression is the same whatever row it is asked about.
    unsafe fn is_fixed(&self, node: *mut pg_sys::Node) -> bool {
        // SAFETY: walks an expression.
        unsafe {
            !pg_sys::bms_is_member((*self.rel).relid as c_int, pg_sys::pull_varnos(self.root, node))
                && !pg_sys::contain_volatile_functions(node)
                && !pg_sys::contain_subplans(node)
        }
    }

    /// `column <operator> …`, if it is one that an index knows. `at_best`: the strategy that is looked for in place of the
    /// operator's own.
    unsafe fn key(
        &self,
        place: usize,
        operator: pg_sys::Oid,
        collation: pg_sys::Oid,
        any: bool,
        at_best: fn(i32) -> i32,
    ) -> Option<SearchKey> {
        let column = self.types[place];
        let family = family(column)?;
        // SAFETY: look-ups by OID.
        unsafe {
            if operator.to_u32() >= pg_sys::FirstNormalObjectId {
                return None;
            }
            let (mut left, mut of_type) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
            let strategy = at_best(pg_sys::get_op_opfamily_strategy(operator, family));
            if strategy == 0 {
                return None;
            }
            pg_sys::op_input_types(operator, &mut left, &mut of_type);
            // Of texts only equality, which is the same in all collations but those that say otherwise.
            let same_text = strategy == EQUAL && collation == pg_sys::DEFAULT_COLLATION_OID;
            if left != column || column == pg_sys::TEXTOID && !same_text || any && (strategy != EQUAL || of_type != column) {
                return None;
            }
            let function = pg_sys::get_opcode(pg_sys::get_opfamily_member(family, left, of_type, strategy as i16));
            (function != pg_sys::InvalidOid).then_some(SearchKey { place, strategy, of_type, function, any })
        }
    }

    /// What a condition says to an index, if it does.
    unsafe fn condition(&self, source: *mut pg_sys::RestrictInfo) -> Option<Condition> {
        let itself = |strategy| strategy;
        // SAFETY: expressions of the planner's, their tags say what they are.
        unsafe {
            if (*source).pseudoconstant {
                return None;
            }
            let clause = (*source).clause.cast::<pg_sys::Node>();
            let (key, with) = match (*clause).type_ {
                NodeTag::T_OpExpr => {
                    let operation = &*clause.cast::<pg_sys::OpExpr>();
                    let mut sides = elements::<pg_sys::Node>(operation.args);
                    let (left, right) = (sides.next()?, sides.next()?);
                    let (place, operator, with) = match (self.column(left), self.column(right)) {
                        (Some(place), _) if self.is_fixed(right) => (place, operation.opno, right),
                        (_, Some(place)) if self.is_fixed(left) => (place, pg_sys::get_commutator(operation.opno), left),
                        _ => return None,
                    };
                    if operator == pg_sys::InvalidOid {
                        return None;
                    }
                    (self.key(place, operator, operation.inputcollid, false, itself)?, with)
                }
                NodeTag::T_ScalarArrayOpExpr => {
                    let operation = &*clause.cast::<pg_sys::ScalarArrayOpExpr>();
                    let mut sides = elements::<pg_sys::Node>(operation.args);
                    let (left, right) = (sides.next()?, sides.next()?);
                    let place = self.column(left).filter(|_| operation.useOr && self.is_fixed(right))?;
                    (self.key(place, operation.opno, operation.inputcollid, true, itself)?, right)
                }
                // (a, b) < (x, y) can hold only where a <= x.
                NodeTag::T_RowCompareExpr => {
                    let comparison = &*clause.cast::<pg_sys::RowCompareExpr>();
                    let (left, right) =
                        (elements::<pg_sys::Node>(comparison.largs).next()?, elements::<pg_sys::Node>(comparison.rargs).next()?);
                    let place = self.column(left).filter(|_| self.is_fixed(right))?;
                    let operator = (*(*comparison.opnos).elements).oid_value;
                    let collation = (*(*comparison.inputcollids).elements).oid_value;
                    let or_equal = |strategy| match strategy {
                        1 | 2 => 2,
                        4 | 5 => 4,
                        _ => 0,
                    };
                    (self.key(place, operator, collation, false, or_equal)?, right)
                }
                _ => return None,
            };
            Some(Condition { key, with, source })
        }
    }

    /// Those of `conditions` that the order's columns can be searched by, from the first one on; and behind how many of them
    /// its order counts.
    fn searched<'c>(&self, order: &OrderShape, conditions: &'c [Condition]) -> (Vec<&'c Condition>, usize) {
        let (mut found, mut fixed, mut in_order) = (Vec::new(), 0, true);
        for column in order.searched {
            let of_column = |c: &&Condition| c.key.place == column.place();
            let equal = |c: &&Condition| c.key.strategy == EQUAL;
            let here = || conditions.iter().filter(of_column);
            // One array at most: each of its elements is a search of its own.
            if let Some(one) = here().filter(equal).find(|c| !c.key.any).or_else(|| {
                let any = here().find(|c| c.key.any);
                any.filter(|_| !found.iter().any(|c: &&Condition| c.key.any))
            }) {
                found.push(one);
                in_order &= !one.key.any;
                fixed += 1;
                continue;
            }
            if matches!(column, Searched::As(_)) {
                found.extend(here().filter(|c| !c.key.any));
            }
            break;
        }
        (found, if in_order { fixed } else { order.searched.len() })
    }

    /// How much of the order that the query would like the index has, behind its first `fixed` columns, and whether read
    /// backward.
    unsafe fn pathkeys(&self, order: &OrderShape, fixed: usize) -> (*mut pg_sys::List, bool) {
        // SAFETY: the planner's own lists.
        unsafe {
            let (mut kept, mut backward) = (Vec::new(), None);
            let columns = order.searched.iter().zip(&order.descending).skip(fixed);
            for (wanted, (column, descending)) in elements::<pg_sys::PathKey>((*self.root).query_pathkeys).zip(columns) {
                let Searched::As(place) = *column else { break };
                let class = (*wanted).pk_eclass;
                let is_it =
                    |member: *mut pg_sys::EquivalenceMember| !(*member).em_is_child && self.column((*member).em_expr.cast()) == Some(place);
                let text = self.types[place] == pg_sys::TEXTOID;
                if (*class).ec_has_volatile
                    || Some((*wanted).pk_opfamily) != family(self.types[place])
                    || text && (*class).ec_collation != pg_sys::DEFAULT_COLLATION_OID
                    || !elements((*class).ec_members).any(is_it)
                {
                    break;
                }
                let reversed = is_descending(wanted) != *descending;
                if *backward.get_or_insert(reversed) != reversed {
                    break;
                }
                kept.push(wanted);
            }
            (list(kept), backward.unwrap_or(false))
        }
    }

    /// Offers a course.
    unsafe fn offer(&self, course: &Course, with: Vec<*mut pg_sys::Node>, pathkeys: *mut pg_sys::List, met: f64, outer: Outer) {
        // SAFETY: makes a path of this relation and hands it to the planner.
        unsafe {
            let each = if course.order.is_some() { FOUND } else { PASSING };
            let (rows, required) = match outer {
                Outer::None => ((*self.rel).rows, (*self.rel).lateral_relids),
                Outer::Of(parameters) => ((*parameters).ppi_rows, (*parameters).ppi_req_outer),
            };
            let private = list([course.numbers(0), list(with)]);
            let total = START + met.max(1.0) * each;
            #[cfg(any(feature = "pg15", feature = "pg16"))]
            let path = pg_sys::create_foreignscan_path(
                self.root,
                self.rel,
                null_mut(),
                rows,
                START,
                total,
                pathkeys,
                required,
                null_mut(),
                private,
            );
            #[cfg(feature = "pg17")]
            let path = pg_sys::create_foreignscan_path(
                self.root,
                self.rel,
                null_mut(),
                rows,
                START,
                total,
                pathkeys,
                required,
                null_mut(),
                null_mut(),
                private,
            );
            #[cfg(feature = "pg18")]
            let path = pg_sys::create_foreignscan_path(
                self.root,
                self.rel,
                null_mut(),
                rows,
                0,
                START,
                total,
                pathkeys,
                required,
                null_mut(),
                null_mut(),
                private,
            );
            pg_sys::add_path(self.rel, path.cast());
        }
    }

    /// Rows that an index leads to.
    unsafe fn met(&self, order: &OrderShape, by: &[&Condition]) -> f64 {
        let one = order.holds == Holding::Unique && by.iter().any(|c| c.key.strategy == EQUAL && !c.key.any);
        if one {
            return 1.0;
        }
        // SAFETY: estimates how many rows the planner's own conditions leave.
        unsafe {
            let clauses = list(by.iter().map(|c| c.source));
            ROWS * pg_sys::clauselist_selectivity(self.root, clauses, 0, pg_sys::JoinType::JOIN_INNER, null_mut())
        }
    }

    /// Courses for the conditions on this relation alone.
    unsafe fn offer_own(&self) {
        // SAFETY: the planner's own lists.
        unsafe {
            self.offer(&Course::default(), Vec::new(), null_mut(), ROWS, Outer::None);
            let conditions: Vec<Condition> = elements((*self.rel).baserestrictinfo).filter_map(|c| self.condition(c)).collect();
            for (n, order) in self.orders.iter().enumerate() {
                let (by, fixed) = self.searched(order, &conditions);
                let (pathkeys, backward) = self.pathkeys(order, fixed);
                let whole = matches!(order.holds, Holding::Unique | Holding::All);
                if by.is_empty() && (!whole || pathkeys.is_null()) {
                    continue;
                }
                let course = Course { order: Some(n), backward, ordered: !pathkeys.is_null(), keys: by.iter().map(|c| c.key).collect() };
                let with = by.iter().map(|c| c.with).collect();
                let met = if by.is_empty() { ROWS } else { self.met(order, &by) };
                self.offer(&course, with, pathkeys, met, Outer::None);
            }
        }
    }

    /// Courses for joins: one row after the other of what it is joined with says what is looked for.
    unsafe fn offer_joined(&self) {
        // SAFETY: the planner's own lists; the callback gets what is handed to it here, while it lives.
        unsafe {
            for (n, order) in self.orders.iter().enumerate() {
                let Some(Searched::As(place)) = order.searched.first().copied() else { continue };
                let mut sources: Vec<*mut pg_sys::RestrictInfo> =
                    elements((*self.rel).joininfo).filter(|source| pg_sys::join_clause_is_movable_to(*source, self.rel)).collect();
                if (*self.rel).has_eclass_joins {
                    let mut asked = (self, place);
                    let implied = pg_sys::generate_implied_equalities_for_column(
                        self.root,
                        self.rel,
                        Some(is_column),
                        (&raw mut asked).cast(),
                        (*self.rel).lateral_referencers,
                    );
                    sources.extend(elements::<pg_sys::RestrictInfo>(implied));
                }
                for source in sources {
                    let Some(condition) = self.condition(source) else { continue };
                    if condition.key.place != place || condition.key.strategy != EQUAL || condition.key.any {
                        continue;
                    }
                    let others = pg_sys::bms_union((*source).clause_relids, (*self.rel).lateral_relids);
                    let others = pg_sys::bms_del_member(others, (*self.rel).relid as c_int);
                    if others.is_null() {
                        continue;
                    }
                    let parameters = pg_sys::get_baserel_parampathinfo(self.root, self.rel, others);
                    let met = if order.holds == Holding::Unique { 1.0 } else { ROWS / 200.0 };
                    let course = Course { order: Some(n), keys: vec![condition.key], ..Course::default() };
                    self.offer(&course, vec![condition.with], null_mut(), met, Outer::Of(parameters));
                }
            }
        }
    }
}

/// What a course gets from other relations.
enum Outer {
    None,
    Of(*mut pg_sys::ParamPathInfo),
}

unsafe fn is_descending(key: *mut pg_sys::PathKey) -> bool {
    // SAFETY: reads a number: of the operator, which later versions call the comparison's. 5 is `>` to both.
    #[cfg(not(feature = "pg18"))]
    unsafe {
        (*key).pk_strategy == 5
    }
    #[cfg(feature = "pg18")]
    unsafe {
        (*key).pk_cmptype as i32 == 5
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn is_column(
    _root: *mut pg_sys::PlannerInfo,
    _rel: *mut pg_sys::RelOptInfo,
    _class: *mut pg_sys::EquivalenceClass,
    member: *mut pg_sys::EquivalenceMember,
    asked: *mut c_void,
) -> bool {
    // SAFETY: what offer_joined handed over.
    unsafe {
        let (planned, place) = *asked.cast::<(&Planned, usize)>();
        planned.column((*member).em_expr.cast()) == Some(place)
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn size(root: *mut pg_sys::PlannerInfo, rel: *mut pg_sys::RelOptInfo, relation: pg_sys::Oid) {
    call::answer(|| {
        // SAFETY: what the planner hands over.
        unsafe {
            let planned = Planned::new(root, rel, relation)?;
            (*rel).tuples = ROWS;
            pg_sys::set_baserel_size_estimates(root, rel);
            let conditions: Vec<Condition> = elements((*rel).baserestrictinfo).filter_map(|c| planned.condition(c)).collect();
            for order in planned.orders.iter().filter(|order| order.holds == Holding::Unique) {
                let (by, _) = planned.searched(order, &conditions);
                if by.iter().any(|c| c.key.strategy == EQUAL && !c.key.any) {
                    (*rel).rows = 1.0;
                }
            }
        }
        Ok(())
    });
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn paths(root: *mut pg_sys::PlannerInfo, rel: *mut pg_sys::RelOptInfo, relation: pg_sys::Oid) {
    call::answer(|| {
        // SAFETY: what the planner hands over.
        unsafe {
            let planned = Planned::new(root, rel, relation)?;
            planned.offer_own();
            planned.offer_joined();
        }
        Ok(())
    });
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn plan(
    _root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    relation: pg_sys::Oid,
    best: *mut pg_sys::ForeignPath,
    targets: *mut pg_sys::List,
    clauses: *mut pg_sys::List,
    outer: *mut pg_sys::Plan,
) -> *mut pg_sys::ForeignScan {
    call::answer(|| {
        // SAFETY: what the planner hands over; the path's private list is of `offer`'s making.
        unsafe {
            let columns = ours(relation)?.types().len();
            // All conditions are the executor's to ask.
            let conditions = pg_sys::extract_actual_clauses(clauses, false);
            let mut attributes = null_mut();
            pg_sys::pull_varattnos((*(*rel).reltarget).exprs.cast(), (*rel).relid, &mut attributes);
            pg_sys::pull_varattnos(targets.cast(), (*rel).relid, &mut attributes);
            pg_sys::pull_varattnos(conditions.cast(), (*rel).relid, &mut attributes);
            let asked = |attribute: i32| pg_sys::bms_is_member(attribute - pg_sys::FirstLowInvalidHeapAttributeNumber, attributes);
            let whole = asked(0);
            let wanted = (0..columns).filter(|n| whole || asked(*n as i32 + 1)).fold(0u32, |bits, n| bits | 1 << n);
            let mut private = elements::<pg_sys::List>((*best).fdw_private);
            let (numbers, with) = (private.next().unwrap_or(null_mut()), private.next().unwrap_or(null_mut()));
            let (course, _) = Course::of(numbers);
            let carried = list([course.numbers(wanted)]);
            Ok(pg_sys::make_foreignscan(targets, conditions, (*rel).relid, with, carried, null_mut(), null_mut(), outer))
        }
    })
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn row_mark(
    _entry: *mut pg_sys::RangeTblEntry,
    strength: pg_sys::LockClauseStrength::Type,
) -> pg_sys::RowMarkType::Type {
    call::answer(|| {
        if strength != pg_sys::LockClauseStrength::LCS_NONE {
            return Err(Error::new(SqlState::FEATURE_NOT_SUPPORTED, "rows of tq_tasks, tq_results and tq_schedules can not be locked")
                .hint(
                    "Leave FOR UPDATE or FOR SHARE out: tq_update, tq_cancel, tq_requeue and tq_delete find the task as it is by then.",
                ));
        }
        Ok(pg_sys::RowMarkType::ROW_MARK_COPY)
    })
}
