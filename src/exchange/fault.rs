//! Why a request gets no reply of the back end.

use crate::audit::journal::CommitError;
use crate::policy::denial::Denial;
use crate::policy::pending::Code;
use crate::upstream::error::UpstreamError;

/// Why a request gets no reply of the back end.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Policy refuses it.
    #[error("{denial}")]
    Denied {
        /// Why.
        denial: Denial,
        /// Its number in `sources pending`.
        pending: Option<Code>,
    },
    /// There is no memory to read it in.
    #[error("there is no memory to read the request in")]
    NoMemory,
    /// The log can't be written.
    #[error("{0}")]
    Log(#[from] CommitError),
    /// The back end gave no reply.
    #[error("{0}")]
    Upstream(#[from] UpstreamError),
}
