//! TLS to Redis.

#[cfg(feature = "redis-tls")]
pub(super) use self::secured::{Connector, Tls};
#[cfg(not(feature = "redis-tls"))]
pub(super) use self::unsecured::{Connector, Tls};

#[cfg(feature = "redis-tls")]
mod secured {
    use std::io;
    use std::sync::Arc;

    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, RootCertStore};
    use tokio::net::TcpStream;
    use tokio_rustls::TlsConnector;
    use tokio_rustls::client::TlsStream;

    use crate::config::ConfigError;
    use crate::redis::RedisStore;

    /// What was said about certificates, as PEM.
    #[derive(Clone, Default)]
    pub(in crate::redis) struct Tls {
        roots: Option<Arc<[u8]>>,
        /// A chain and its key.
        client: Option<[Arc<[u8]>; 2]>,
    }

    /// Makes connections that are encrypted, to servers whose certificates are checked.
    #[derive(Clone)]
    pub(in crate::redis) struct Connector(TlsConnector);

    impl RedisStore {
        /// Whom to believe who the server is, for `rediss://`: certificates as PEM, in place of those that the system
        /// trusts.
        #[must_use]
        pub fn root_certificates(mut self, pem: impl AsRef<[u8]>) -> Self {
            self.tls.roots = Some(pem.as_ref().into());
            self
        }

        /// Who this instance is, for servers that ask for it (`tls-auth-clients`, which is Redis' default): the
        /// certificate, with those that lead to a root behind it, and its key, both as PEM.
        #[must_use]
        pub fn client_certificate(
            mut self,
            chain_pem: impl AsRef<[u8]>,
            key_pem: impl AsRef<[u8]>,
        ) -> Self {
            self.tls.client = Some([chain_pem.as_ref().into(), key_pem.as_ref().into()]);
            self
        }
    }

    impl Tls {
        pub(in crate::redis) const fn is_said(&self) -> bool {
            self.roots.is_some() || self.client.is_some()
        }

        /// Reads the certificates, those of the system too: some milliseconds, on this thread.
        pub(in crate::redis) fn connector(&self) -> Result<Connector, ConfigError> {
            // Not the process' default provider: that may be missing, or set by others at any time.
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .map_err(|_| ConfigError::new("url", "TLS is not possible here"))?
                .with_root_certificates(self.roots()?);
            let config = match &self.client {
                None => config.with_no_client_auth(),
                Some([chain, key]) => {
                    const RULE: &str =
                        "must be a chain and the key of its first certificate, as PEM";
                    let error = || ConfigError::new("client_certificate", RULE);
                    let chain = certificates(chain).ok_or_else(error)?;
                    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| error())?;
                    let config = config.with_client_auth_cert(chain, key);
                    config.map_err(|_| error())?
                }
            };
            Ok(Connector(TlsConnector::from(Arc::new(config))))
        }

        fn roots(&self) -> Result<RootCertStore, ConfigError> {
            let mut store = RootCertStore::empty();
            let Some(pem) = &self.roots else {
                // Some that cannot be read are no reason to do without the others.
                store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if store.is_empty() {
                    const RULE: &str = "must be given, since the system trusts none";
                    return Err(ConfigError::new("root_certificates", RULE));
                }
                return Ok(store);
            };
            let error = || ConfigError::new("root_certificates", "must be certificates, as PEM");
            for root in certificates(pem).ok_or_else(error)? {
                store.add(root).map_err(|_| error())?;
            }
            Ok(store)
        }
    }

    impl Connector {
        /// # Cancel safety
        ///
        /// The connection is closed when it is dropped.
        pub(in crate::redis) async fn connect(
            &self,
            host: &str,
            stream: TcpStream,
        ) -> io::Result<TlsStream<TcpStream>> {
            let name = ServerName::try_from(host.to_owned());
            let name = name.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
            self.0.connect(name, stream).await
        }
    }

    /// `None` if there are none, or something else.
    fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        read.ok().filter(|certificates| !certificates.is_empty())
    }
}

/// Without TLS.
#[cfg(not(feature = "redis-tls"))]
mod unsecured {
    use std::convert::Infallible;
    use std::io;

    use tokio::net::TcpStream;

    use crate::config::ConfigError;

    #[derive(Clone, Default)]
    pub(in crate::redis) struct Tls {}

    /// There is none.
    #[derive(Clone)]
    pub(in crate::redis) struct Connector(Infallible);

    impl Tls {
        #[allow(clippy::unused_self, reason = "as with the feature `redis-tls`")]
        pub(in crate::redis) const fn is_said(&self) -> bool {
            false
        }

        #[allow(clippy::unused_self, reason = "as with the feature `redis-tls`")]
        pub(in crate::redis) const fn connector(&self) -> Result<Connector, ConfigError> {
            const RULE: &str = "must not be rediss:// without the feature `redis-tls`";
            Err(ConfigError::new("url", RULE))
        }
    }

    impl Connector {
        pub(in crate::redis) async fn connect(
            &self,
            _: &str,
            _: TcpStream,
        ) -> io::Result<TcpStream> {
            match self.0 {}
        }
    }
}
