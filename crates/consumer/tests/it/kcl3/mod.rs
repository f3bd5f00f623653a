//! Applications of KCL 3.x, where a leader assigns the leases. Java's part is played here, by requests of its own.
//!
//! - `java`: rows and writes of a Java worker and of a Java leader
//! - `participant`: a leader assigns leases to us, and has them handed over
//! - `versions`: which algorithm holds, and where the rows are
//! - `leader`: one of us leads

mod java;
mod leader;
mod participant;
mod versions;
