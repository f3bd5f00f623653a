//! Faults that are planted to see that the simulation finds them. Without the feature `planted-faults` nobody can, and
//! the compiler leaves them out.

/// Something that is done wrong on purpose, where its name is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "planted-faults"), expect(unreachable_pub, reason = "named outside where it can be planted"))]
pub enum Fault {
    /// A failed condition is believed: the write is not looked for in the row.
    NoReadBack,
    /// A row is taken for our write without its token.
    ReadBackWithoutToken,
    /// What an earlier write of ours, unanswered, has left is taken for somebody else's.
    ForgetsUnanswered,
    /// A counter write has no condition.
    Unconditional,
    /// A counter write leaves the counter as it is.
    CounterStands,
    /// A lease is held for a renewal longer than others let it live.
    ExpiresLate,
    /// A lease is held from the answer to its renewal on, not from the request.
    HeldSinceAnswer,
    /// An expired lease is written all the same.
    WritesExpired,
    /// The handler runs on when the lease is lost.
    RunsOnWithoutLease,
    /// Others' leases count as expired after half the time.
    TakesEarly,
    /// A lease seen for the first time counts as expired.
    TakesAtFirstSight,
    /// A prepared checkpoint is moved to.
    PrepareMovesCheckpoint,
    /// A checkpoint removes attributes that are not its own.
    DropsHashRange,
    /// A shard does not wait for its parents.
    ChildTooEarly,
    /// A merged shard waits for one of its parents.
    WaitsForOneParent,
    /// A shard ends before its children have leases.
    EndsWithoutChildren,
    /// The leases of children begin at the newest record.
    ChildrenAtLatest,
    /// A merged shard gets its lease while the other parent has none.
    MergedTooEarly,
    /// Shard sync makes leases of what a lease above leads to.
    SyncsCovered,
    /// The next owner of a lease that began at LATEST does not know when.
    ForgetsStart,
    /// LATEST is asked for again.
    LatestTwice,
    /// AT_TIMESTAMP is read as LATEST.
    TimestampIsLatest,
    /// What a reply held that was too large to keep is not read again.
    SkipsUnpaid,
    /// Records are given without the memory that they need.
    Unpaid,
    /// A new iterator starts where the reader started.
    ForgetsPosition,
    /// Only the first page of the table is read.
    ScansOnePage,
    /// A drained shard's handler is not waited for.
    DrainsAtOnce,
    /// A drained worker keeps its leases.
    KeepsLeases,
    /// The lease of a finished shard is deleted whatever still needs it.
    DeletesEarly,
}

#[cfg(feature = "planted-faults")]
impl Fault {
    /// Every fault.
    pub const ALL: [Self; 29] = [
        Self::NoReadBack,
        Self::ReadBackWithoutToken,
        Self::ForgetsUnanswered,
        Self::Unconditional,
        Self::CounterStands,
        Self::ExpiresLate,
        Self::HeldSinceAnswer,
        Self::WritesExpired,
        Self::RunsOnWithoutLease,
        Self::TakesEarly,
        Self::TakesAtFirstSight,
        Self::PrepareMovesCheckpoint,
        Self::DropsHashRange,
        Self::ChildTooEarly,
        Self::WaitsForOneParent,
        Self::EndsWithoutChildren,
        Self::ChildrenAtLatest,
        Self::MergedTooEarly,
        Self::SyncsCovered,
        Self::ForgetsStart,
        Self::LatestTwice,
        Self::TimestampIsLatest,
        Self::SkipsUnpaid,
        Self::Unpaid,
        Self::ForgetsPosition,
        Self::ScansOnePage,
        Self::DrainsAtOnce,
        Self::KeepsLeases,
        Self::DeletesEarly,
    ];
}

#[cfg(feature = "planted-faults")]
thread_local! {
    /// A simulated run, whole, is on one thread.
    static PLANTED: std::cell::Cell<Option<Fault>> = const { std::cell::Cell::new(None) };
}

/// Plants a fault, or none, in whatever this thread runs from now on.
#[cfg(feature = "planted-faults")]
pub fn plant(fault: Option<Fault>) {
    PLANTED.set(fault);
}

#[cfg(feature = "planted-faults")]
pub(crate) fn planted(fault: Fault) -> bool {
    PLANTED.get() == Some(fault)
}

#[cfg(not(feature = "planted-faults"))]
pub(crate) const fn planted(_fault: Fault) -> bool {
    false
}
