//! TLS by rustls, as libpq understands `sslmode`.
//!
//! Decides: what of a server's certificate is checked. `prefer` and `require` check nothing (they keep out listeners, not
//! impostors), unless an `sslrootcert` is named, which makes `require` a `verify-ca`, as it does for libpq; `verify-ca`
//! checks that one of these authorities has signed it; `verify-full` also that it is of the host that was asked for.

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

/// What is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    Nothing,
    Authority,
    AuthorityAndHost,
}

/// The configuration for one way to check. An error says what to do, in the words of a log.
pub(crate) fn config(check: Check, roots: Option<&str>) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("no version of TLS can be used: {error}"))?;
    if check == Check::Nothing {
        let verifier = Arc::new(Lenient { provider, authority: None });
        return Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth());
    }
    let Some(path) = roots else {
        return Err(
            "name the certificates of the authorities that are trusted as sslrootcert=FILE".to_owned()
        );
    };
    let roots = Arc::new(read(path)?);
    if check == Check::AuthorityAndHost {
        return Ok(builder.with_root_certificates(roots).with_no_client_auth());
    }
    let authority = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
        .build()
        .map_err(|error| format!("the certificates in sslrootcert cannot be used: {error}"))?;
    let verifier = Arc::new(Lenient { provider, authority: Some(authority) });
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

fn read(path: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path)
        .map_err(|error| format!("cannot read the certificates in {path}: {error}"))?;
    for certificate in certificates {
        let certificate =
            certificate.map_err(|error| format!("cannot read the certificates in {path}: {error}"))?;
        roots.add(certificate).map_err(|error| format!("a certificate in {path} cannot be used: {error}"))?;
    }
    if roots.is_empty() {
        return Err(format!("there is no certificate in {path}"));
    }
    Ok(roots)
}

/// Checks less than TLS usually does: no host, and no authority either where there is none. That the server holds the key
/// of the certificate that it shows is always checked.
#[derive(Debug)]
struct Lenient {
    provider: Arc<CryptoProvider>,
    authority: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authority) = &self.authority else { return Ok(ServerCertVerified::assertion()) };
        match authority.verify_server_cert(certificate, others, host, ocsp, now) {
            // Looked at last: all else is in order.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
