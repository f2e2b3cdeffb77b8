//! Https: by a certificate that the model trusts, for the host that it calls.

use std::{path::Path, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use soloist::Status;
use soloist_runners::http::{HttpOptions, HttpRunner};
use tokio_rustls::TlsAcceptor;

use super::{SSE, call, events, failure, upstream::Upstream, whole};

/// Writes `ca.crt`, and hands out an acceptor with a certificate of that authority for these names.
fn acceptor(dir: &Path, names: &[&str]) -> TlsAcceptor {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(dir.join("ca.crt"), authority.self_signed(&authority_key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let server = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![server.der().clone()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn upstream(acceptor: TlsAcceptor) -> Upstream {
    Upstream::with(Some(acceptor), |mut call| async move { call.send(whole(SSE, "data: 1\n\n")).await }).await
}

fn https(upstream: &Upstream, host: &str, ca_file: Option<&Path>) -> HttpOptions {
    HttpOptions {
        url: format!("https://{host}:{}/generate?secret", upstream.port),
        ca_file: ca_file.map(Path::to_owned),
        ..HttpOptions::default()
    }
}

#[tokio::test]
async fn a_certificate_of_the_named_authority_is_trusted_and_of_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = upstream(acceptor(dir.path(), &["localhost", "127.0.0.1"])).await;
    let ca_file = dir.path().join("ca.crt");
    for host in ["localhost", "127.0.0.1"] {
        let ran = call(https(&upstream, host, Some(&ca_file))).await;
        assert_eq!((ran.task.status, events(&ran)), (Status::Completed, vec!["message json 1".to_owned()]));
    }
    let other = tempfile::tempdir().unwrap();
    drop(acceptor(other.path(), &["localhost"]));
    for ca_file in [None, Some(other.path().join("ca.crt"))] {
        let ran = call(https(&upstream, "localhost", ca_file.as_deref())).await;
        let (error_type, message) = failure(&ran);
        assert_eq!((error_type, upstream.requests().len()), ("HttpConnect", 2));
        assert!(message.contains("certificate"), "{message}");
    }
}

#[tokio::test]
async fn a_certificate_for_another_host_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = upstream(acceptor(dir.path(), &["elsewhere.example"])).await;
    let ran = call(https(&upstream, "localhost", Some(&dir.path().join("ca.crt")))).await;
    let (error_type, message) = failure(&ran);
    assert_eq!((error_type, upstream.requests().len()), ("HttpConnect", 0));
    assert!(message.ends_with("its certificate is for another name"), "{message}");
}

#[tokio::test]
async fn an_endpoint_that_speaks_no_tls_is_a_failure_that_says_so() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let plain = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        socket.writable().await.unwrap();
        socket.try_write(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        socket
    });
    let url = format!("https://localhost:{port}/generate");
    let ran = call(HttpOptions { url, ..HttpOptions::default() }).await;
    assert_eq!(failure(&ran).0, "HttpConnect");
    drop(plain.await.unwrap());
}

#[tokio::test]
async fn a_file_without_a_certificate_is_an_error_of_the_options() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.crt");
    let of = || {
        HttpRunner::new(HttpOptions {
            url: "https://h/".into(),
            ca_file: Some(path.clone()),
            ..HttpOptions::default()
        })
    };
    assert_eq!(of().unwrap_err().key, "ca_file");
    for text in ["", "text", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        std::fs::write(&path, text).unwrap();
        let error = of().unwrap_err();
        assert_eq!(error.key, "ca_file");
    }
}
