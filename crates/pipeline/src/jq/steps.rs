//! How far a program may go for one record.
//!
//! What repeats by itself takes a step each time, through the filter `step` in the definitions of `compile`. It is a number
//! and no time, so that a replay ends at the same place.

use std::cell::Cell;

use jaq_core::box_iter::box_once;
use jaq_core::data::HasLut;
use jaq_core::native::{Fun, v};
use jaq_core::{Ctx, DataT, Error, Exn, Lut, Native, Vars};
use jaq_json::Val;

/// Turns of all loops together.
pub(super) const STEPS_PER_RECORD_MAX: u32 = 1_000_000;

/// A program's data while it runs: itself, and the steps that are left.
#[derive(Debug)]
pub(super) struct Counted;

impl DataT for Counted {
    type V<'a> = Val;
    type Data<'a> = Run<'a>;
}

/// One run of a program over a record.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    lut: &'a Lut<Counted>,
    left: &'a Cell<u32>,
}

impl<'a> HasLut<'a, Counted> for Run<'a> {
    fn lut(&self) -> &'a Lut<Counted> {
        self.lut
    }
}

pub(super) fn context<'a>(lut: &'a Lut<Counted>, left: &'a Cell<u32>, variables: [Val; 6]) -> Ctx<'a, Counted> {
    Ctx::new(Run { lut, left }, Vars::new(variables))
}

/// The identity, which fails once no step is left.
pub(super) fn step() -> Fun<Counted> {
    fn take(context: &Ctx<'_, Counted>) -> Result<(), Exn<'static, Val>> {
        let left = context.data().left;
        let next = left.get().checked_sub(1).ok_or_else(|| Exn::from(Error::str("no step is left")))?;
        left.set(next);
        Ok(())
    }
    let native = Native::new(|(context, value)| box_once(take(&context).map(|()| value)));
    let native = native.with_paths(|(context, value)| box_once(take(&context).map(|()| value)));
    let native = native.with_update(|(context, value), update| match take(&context) {
        Ok(()) => update(value),
        Err(error) => box_once(Err(error)),
    });
    ("step", v(0), native)
}
