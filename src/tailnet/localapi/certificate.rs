//! Asks a daemon for a certificate of its node. Keeps nothing of what it gets.

use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::time::timeout;

use super::{LocalApi, LocalApiError, shown};
use crate::tailnet::CertificatePair;

/// A certificate may have to be made first.
const CERTIFICATE_WITHIN: Duration = Duration::from_secs(60);
/// The longest chain with its key, in bytes.
const MOST_PAIR: usize = 256 << 10;

impl LocalApi {
    /// The certificate for `name`, which must be one of the node's certificate names, with its key.
    pub(in crate::tailnet) async fn certificate(&self, name: &str) -> Result<CertificatePair, LocalApiError> {
        let named = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-');
        if name.is_empty() || !name.chars().all(named) {
            return Err(LocalApiError::NotFound);
        }
        let target = format!("/localapi/v0/cert/{name}?type=pair");
        let answer = timeout(CERTIFICATE_WITHIN, self.fetch(&target, MOST_PAIR)).await;
        let pem = answer.map_err(|_| LocalApiError::TimedOut(CERTIFICATE_WITHIN))??;
        pair(&pem)
    }
}

/// The key and the chain in `pem`, which stand there in any order.
fn pair(pem: &[u8]) -> Result<CertificatePair, LocalApiError> {
    let nonsense = |error: rustls::pki_types::pem::Error| LocalApiError::Nonsense(shown(error.to_string().as_bytes()));
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(nonsense)?;
    let chain = CertificateDer::pem_slice_iter(pem).map(|certificate| certificate.map(|it| it.as_ref().to_vec()));
    let chain = chain.collect::<Result<Vec<_>, _>>().map_err(nonsense)?;
    if chain.is_empty() {
        return Err(LocalApiError::Nonsense("there is no certificate in it".to_owned()));
    }
    Ok(CertificatePair { chain, key: key.secret_der().to_vec().into() })
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn key_and_chain_are_told_apart_and_both_are_needed() {
        let made = rcgen::generate_simple_self_signed(["gateway.example.ts.net".to_owned()]).unwrap();
        let (key, certificate) = (made.signing_key.serialize_pem(), made.cert.pem());
        let both = pair(format!("{key}{certificate}{certificate}").as_bytes()).unwrap();
        assert_eq!(both.chain, [made.cert.der().to_vec(), made.cert.der().to_vec()]);
        assert_eq!(both.key.expose_secret(), made.signing_key.serialized_der());
        for bad in [key.as_str(), certificate.as_str(), "", "no PEM"] {
            let refused = pair(bad.as_bytes()).unwrap_err();
            assert!(matches!(refused, LocalApiError::Nonsense(_)), "{refused}");
        }
    }
}
