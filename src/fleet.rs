//! The fleet: which targets there are, what is known of them and how that changed, and the jobs on them; and how old the secrets are
//! that the gateway operates it with. Hands a target
//! out only to its own engagement; an id of another engagement looks exactly like one that does not exist.

mod credentials;
mod diff;
mod facts;
mod health;
mod jobs;
mod known;
mod registry;
mod rotation;
mod snapshots;
mod stored;
mod summary;

pub use credentials::{Credential, CredentialKind, CredentialState, KnownBy, Secrets};
pub use diff::{SectionChanges, differences};
pub use facts::{Digest, Facts, Kept, Unreadable, facts_script, inventories, inventory_script};
pub use health::{Finding, Problem};
pub use jobs::{FindTarget, JobFault, Jobs, LogLine, Opened};
pub use known::{Attempt, Condition, Failed, Known, known_of, known_target};
pub use registry::Registry;
pub use rotation::{KeyRotation, Reached, RotatedTarget, RotationFault, RotationProblem, RotationStage, Rotations};
pub use snapshots::{Differences, MOST_SNAPSHOTS, Reading, compare};
pub use stored::{read_rows, stored_targets};
pub use summary::summary;
