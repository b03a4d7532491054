//! What a process remembers of tenants, and when it forgets.
//!
//! Invalidations come at any time, also while the memory is in use, so they only leave a mark; the next look-up forgets.
//! A change of the registry or of a catalog forgets everything and begins another epoch; a change of a tenant's table
//! forgets that tenant; a change of any other table costs nothing.

use super::{Functions, Registry, Tenant};
use crate::postgres::invalidation;
use crate::pure::cache::Bounded;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

/// The epoch of all that is cached, and how often the tenant's tables had been changed in it.
pub(super) type ShapeEpoch = (u64, u64);

pub(super) struct Cache {
    pub(super) registry: Option<Registry>,
    pub(super) secret: Option<[u8; 16]>,
    pub(super) functions: Option<Functions>,
    pub(super) tenants: Bounded<u32, Rc<Tenant>>,
    pub(super) current: Bounded<(String, u32), u32>,
}

impl Default for Cache {
    fn default() -> Self {
        Cache {
            registry: None,
            secret: None,
            functions: None,
            tenants: Bounded::new(KEPT, KEPT_BYTES),
            current: Bounded::new(PATHS_KEPT, PATHS_BYTES),
        }
    }
}

/// Tenants that a process remembers, and the bytes that they may take.
const KEPT: usize = 16_384;
const KEPT_BYTES: usize = 16 << 20;
/// Values of search_path whose first schema a process remembers.
const PATHS_KEPT: usize = 1000;
const PATHS_BYTES: usize = 1 << 20;
/// Relations whose tenants are known: those of all tenants in the cache and in use, and more. Beyond, all is forgotten.
const RELATIONS: usize = 8 * KEPT;

thread_local! {
    pub(super) static CACHE: RefCell<Cache> = RefCell::default();
    /// A change was announced: forget everything at the next look-up. A flag, because the callback
    /// may come while the cache is in use.
    static STALE: Cell<bool> = const { Cell::new(false) };
    static REGISTRY_RELATIONS: Cell<[u32; 5]> = const { Cell::new([0; 5]) };
    static WATCHING: Cell<bool> = const { Cell::new(false) };
    /// Relations of tenants in the cache, so that changes of anything else cost nothing.
    static OURS: RefCell<HashMap<u32, u32>> = RefCell::default();
    /// How often a table of this tenant has been changed in this epoch, and whether the next look-up is to forget the
    /// tenant for it. Counts that only grow: whoever holds on to a tenant, for as long as a task takes, sees a change
    /// that others have taken note of meanwhile.
    static RESHAPED: RefCell<HashMap<u32, (u64, bool)>> = RefCell::default();
    static RESHAPED_ANEW: Cell<bool> = const { Cell::new(false) };
    static EPOCH: Cell<u64> = const { Cell::new(0) };
}

/// Has PostgreSQL tell of changes.
fn watch() {
    if WATCHING.replace(true) {
        return;
    }
    invalidation::on_relation_change(|relation| {
        crate::postgres::index::forget(relation);
        let registry = REGISTRY_RELATIONS.get();
        // A process that is just finding out which they are has its snapshot already: this may be one of them.
        if relation == 0 || registry[0] == 0 || registry.contains(&relation) {
            STALE.set(true);
        } else if let Some(tenant) = OURS.with(|o| o.try_borrow().map_or(Some(0), |o| o.get(&relation).copied())) {
            // In use just now: better too much than too little.
            let noted = RESHAPED.with(|r| {
                r.try_borrow_mut().is_ok_and(|mut r| {
                    let (count, anew) = r.entry(tenant).or_default();
                    (*count, *anew) = (*count + 1, true);
                    true
                })
            });
            RESHAPED_ANEW.set(true);
            if tenant == 0 || !noted {
                STALE.set(true);
            }
        }
    });
    invalidation::on_catalog_change(|| STALE.set(true));
}

/// Forgets what has changed since the last look-up.
pub(super) fn refresh() {
    watch();
    if STALE.replace(false) {
        CACHE.with_borrow_mut(|c| *c = Cache::default());
        OURS.with_borrow_mut(|o| o.clear());
        // What was counted in the epoch before means nothing in this one.
        RESHAPED.with_borrow_mut(|r| r.clear());
        RESHAPED_ANEW.set(false);
        EPOCH.set(EPOCH.get() + 1);
    } else if RESHAPED_ANEW.replace(false) {
        let reshaped: Vec<u32> = RESHAPED.with_borrow_mut(|r| {
            let anew = r.iter_mut().filter_map(|(tenant, (_, anew))| std::mem::take(anew).then_some(*tenant));
            anew.collect()
        });
        CACHE.with_borrow_mut(|c| {
            for tenant in reshaped {
                c.tenants.remove(&tenant);
            }
        });
    }
}

/// Changes with the tables of this tenant.
pub(super) fn shape_epoch(tenant: u32) -> ShapeEpoch {
    (EPOCH.get(), RESHAPED.with_borrow(|r| r.get(&tenant).map_or(0, |(count, _)| *count)))
}

/// Changes whenever anything that is cached may have changed.
pub fn epoch() -> u64 {
    refresh();
    EPOCH.get()
}

/// Whether something has changed that the next look-up will forget everything for.
pub(super) fn is_stale() -> bool {
    STALE.get()
}

/// From here on a change of one of the extension's own tables is heard of as such.
pub(super) fn know_registry(registry: Registry) {
    let r = registry;
    REGISTRY_RELATIONS.set([r.tenant.oid(), r.handler.oid(), r.pause.oid(), r.queue.oid(), r.limit_key.oid()]);
    CACHE.with_borrow_mut(|c| c.registry = Some(r));
}

/// From here on a change of these tables is heard of as one of the tenant's.
pub(super) fn know_tables(tenant: u32, tables: [u32; 3]) {
    OURS.with_borrow_mut(|o| o.extend(tables.map(|relation| (relation, tenant))));
}

/// Remembers a tenant, unless something has changed since it began to be read: another epoch may have begun on the way, and
/// what was read before is not of it.
pub(super) fn remember(tenant: &Rc<Tenant>) {
    if tenant.epoch != EPOCH.get() {
        return;
    }
    if OURS.with_borrow(|o| o.len()) > RELATIONS {
        STALE.set(true);
    }
    CACHE.with_borrow_mut(|c| c.tenants.insert(tenant.oid, tenant.clone(), tenant.bytes()));
}

/// The same for the schema of the extension's functions, read since `epoch`.
pub(super) fn remember_functions(epoch: u64, found: &Option<Functions>) {
    if epoch == EPOCH.get() {
        CACHE.with_borrow_mut(|c| c.functions = found.clone());
    }
}
