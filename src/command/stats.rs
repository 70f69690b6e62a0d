//! `stats`: what is told, in the order it is told.

use super::{Command, MEMCACHED_VERSION};
use crate::protocol::Reply;

impl Command<'_> {
    pub(super) fn stats(&mut self, what: &[u8]) {
        match what {
            b"" => self.general(),
            b"reset" => {
                self.session.metrics.reset();
                return self.output.reply(Reply::Reset);
            }
            b"settings" => self.settings(),
            _ => return self.output.reply(Reply::Unknown),
        }
        self.output.reply(Reply::End);
    }

    fn general(&mut self) {
        let output = &mut *self.output;
        output.stat("pid", &std::process::id().to_string());
        output.stat("uptime", &(self.now.millis / 1000).to_string());
        output.stat("time", &self.now.unix.to_string());
        output.stat("version", MEMCACHED_VERSION);
        output.stat("server", "leasehold");
        output.stat("leasehold_version", env!("CARGO_PKG_VERSION"));
        output.stat("pointer_size", &usize::BITS.to_string());
        let metrics = &self.session.metrics;
        metrics.each(self.cache.counts(), |name, value| output.stat(name, &value.to_string()));
        output.stat("limit_maxbytes", &self.cache.config().memory_bytes.to_string());
        output.stat("leases_outstanding", &self.cache.leases_outstanding(self.now).to_string());
    }

    fn settings(&mut self) {
        let config = self.cache.config();
        let policy = &config.policy;
        let output = &mut *self.output;
        output.stat("maxbytes", &config.memory_bytes.to_string());
        output.stat("maxconns", &self.session.metrics.connections_max.to_string());
        output.stat("item_size_max", &config.value_bytes_max.to_string());
        output.stat("shutdown_command", if self.session.rules.may_shut_down { "yes" } else { "no" });
        output.stat("implicit_leases", &format!("{:?}", policy.implicit).to_lowercase());
        output.stat("lease_window_ms", &policy.lease_window.as_millis().to_string());
        output.stat("lease_min_interval_ms", &policy.lease_min_interval.as_millis().to_string());
        output.stat("lease_max_age_ms", &policy.lease_max_age.as_millis().to_string());
        output.stat("stale_ms", &policy.stale.as_millis().to_string());
    }
}
