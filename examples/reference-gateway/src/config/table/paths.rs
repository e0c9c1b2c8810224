//! Files and folders that the configuration names are relative to its own folder.

use std::path::{Path, PathBuf};

use super::{Config, KeySource, LogQueue, LogSink};

impl Config {
    /// Joins every path with the folder. All of them are listed here: a new one must be added.
    pub(super) fn anchor(&mut self, base: &Path) {
        let join = |path: &mut PathBuf| *path = base.join(&path);

        if let Some(tls) = &mut self.server.tls {
            [&mut tls.certificate, &mut tls.key]
                .into_iter()
                .chain(&mut tls.client_ca)
                .for_each(join);
        }
        self.admin.token_file.iter_mut().for_each(join);
        self.observe.access_log.path.anchor(base);
        for jwt in self.auth.jwt.values_mut() {
            match &mut jwt.keys {
                KeySource::PublicKey(file) | KeySource::Secret(file) => join(file),
                KeySource::Jwks(_) => {}
            }
        }
        self.auth
            .api_keys
            .values_mut()
            .for_each(|keys| join(&mut keys.file));
        for tls in self
            .upstreams
            .values_mut()
            .filter_map(|upstream| upstream.tls.as_mut())
        {
            tls.ca
                .iter_mut()
                .chain(&mut tls.certificate)
                .chain(&mut tls.key)
                .for_each(join);
        }
        self.routes
            .iter_mut()
            .filter_map(|route| route.schema.as_mut())
            .for_each(join);
        if let LogQueue::Disk(queue) = &mut self.log_ingest.queue {
            join(&mut queue.dir);
        }
        match &mut self.log_ingest.sink {
            LogSink::Embedded(sink) => join(&mut sink.dir),
            LogSink::File(sink) => join(&mut sink.path),
            LogSink::Elasticsearch(_) => {}
        }
    }
}
