//! What a record says happened, how it ended, and who was spoken to.

use serde::{Serialize, Serializer};

/// What happened (`event.action`).
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[allow(missing_docs)] // Each says by its own wire name what it is.
pub enum Action {
    #[serde(rename = "license.activation.request")]
    ActivationRequest,
    #[serde(rename = "license.activation.response")]
    ActivationResponse,
    #[serde(rename = "license.entitlement")]
    Entitlement,
    #[serde(rename = "license.sync.request")]
    SyncRequest,
    #[serde(rename = "license.sync.response")]
    SyncResponse,
    #[serde(rename = "license.assignment.add")]
    AssignmentAdd,
    #[serde(rename = "license.assignment.delete")]
    AssignmentDelete,
    #[serde(rename = "license.assignment.unknown")]
    AssignmentUnknown,
    #[serde(rename = "license.consumption.report")]
    ConsumptionReport,
    #[serde(rename = "license.consumption.response")]
    ConsumptionResponse,
    #[serde(rename = "license.unrecognised.request")]
    UnrecognisedRequest,
    #[serde(rename = "license.unrecognised.response")]
    UnrecognisedResponse,
    #[serde(rename = "license.unrecognised.lasting")]
    UnrecognisedLasting,
    #[serde(rename = "license.tunnel.open")]
    TunnelOpen,
    #[serde(rename = "license.tunnel.close")]
    TunnelClose,
    #[serde(rename = "access.denied")]
    AccessDenied,
    #[serde(rename = "access.limited")]
    AccessLimited,
    #[serde(rename = "access.invalid")]
    AccessInvalid,
    /// The connectivity test that people use (`GET /`), passed on.
    #[serde(rename = "access.test")]
    AccessTest,
    #[serde(rename = "upstream.error")]
    UpstreamError,
    #[serde(rename = "relay.start")]
    RelayStart,
    #[serde(rename = "relay.stop")]
    RelayStop,
    #[serde(rename = "relay.heartbeat")]
    RelayHeartbeat,
    #[serde(rename = "relay.config")]
    RelayConfig,
    #[serde(rename = "relay.clock_step")]
    RelayClockStep,
    #[serde(rename = "audit.sealed")]
    AuditSealed,
    #[serde(rename = "audit.fork")]
    AuditFork,
    #[serde(rename = "audit.alias")]
    AuditAlias,
    #[serde(rename = "audit.key")]
    AuditKey,
    #[serde(rename = "audit.recovered")]
    AuditRecovered,
    #[serde(rename = "audit.gap")]
    AuditGap,
    #[serde(rename = "audit.pruned")]
    AuditPruned,
}

impl Action {
    /// `event.category` and `event.type`: the two that ECS wants beside an action.
    pub(super) fn class(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Self::AssignmentAdd => (&["iam"], &["user", "change"]),
            Self::AssignmentDelete => (&["iam"], &["user", "deletion"]),
            Self::AssignmentUnknown | Self::AuditAlias => (&["iam"], &["user", "info"]),
            Self::AccessDenied | Self::AccessLimited | Self::AccessInvalid => (&["network"], &["denied"]),
            Self::UpstreamError => (&["network"], &["error"]),
            Self::RelayStart => (&["process"], &["start"]),
            Self::RelayStop => (&["process"], &["end"]),
            Self::RelayHeartbeat
            | Self::RelayConfig
            | Self::RelayClockStep
            | Self::AuditKey
            | Self::AuditRecovered
            | Self::AuditGap
            | Self::AuditSealed
            | Self::AuditFork
            | Self::AuditPruned => (&["process"], &["info"]),
            _ => (&["api"], &["info"]),
        }
    }
}

/// How it ended (`event.outcome`), as ECS spells it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Done.
    Success,
    /// Refused, rejected or failed.
    Failure,
    /// Not known yet, or never.
    #[default]
    Unknown,
}

/// What let a request in (`qlik.identified_by`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IdentifiedBy {
    /// The source id in the message.
    Source,
    /// The license that it is about.
    License,
    /// The Basic user.
    User,
    /// The client's address.
    Network,
    /// It is the connectivity test, which everybody may send.
    Test,
    /// Nothing: the site lets in strangers.
    Nothing,
}

impl IdentifiedBy {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::License => "license",
            Self::User => "user",
            Self::Network => "network",
            Self::Test => "test",
            Self::Nothing => "none",
        }
    }
}

impl Serialize for IdentifiedBy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Whose wish or word a record is (`qlik.direction`).
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Asked by this deployment.
    Out,
    /// Told by the back end.
    In,
}
