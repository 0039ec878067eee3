//! `[tls]`: whether HTTP is wrapped in TLS, and with which certificate. Reads no file.

use std::path::PathBuf;

use super::section::Section;

/// Where the certificate comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// Plain HTTP: only on addresses of the tailnet, which WireGuard encrypts, and on loopback.
    #[default]
    Off,
    /// The node's own certificate for its MagicDNS name.
    Node,
    /// Files in PEM form. Absolute paths.
    Files {
        /// The chain, the leaf first.
        certificate: PathBuf,
        /// The private key.
        key: PathBuf,
    },
}

/// The section.
pub(super) fn tls(_root: &mut Section<'_>) -> Tls {
    Tls::Off
}
