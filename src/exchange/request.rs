//! One request, read whole.

use bytes::Bytes;
use http::{Extensions, HeaderMap, Method, Uri};
use uuid::Uuid;

use crate::config::model::Destination;
use crate::policy::identity::ClientIdentity;

/// One request, read whole, with what is known about who sent it.
#[derive(Debug)]
pub struct ReadRequest {
    /// Its id, in the log and in every refusal.
    pub id: Uuid,
    /// Who the client is, as far as it has proved it.
    pub identity: ClientIdentity,
    /// Where it goes.
    pub to: Destination,
    /// Its method.
    pub method: Method,
    /// Its target in origin form.
    pub target: Uri,
    /// Its end-to-end headers.
    pub headers: HeaderMap,
    /// The case of its header names.
    pub extensions: Extensions,
    /// Its body.
    pub body: Bytes,
}
