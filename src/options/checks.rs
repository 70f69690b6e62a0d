//! The checks of flags against each other, after each was parsed.

use super::command_line::Options;
use super::values::MEGABYTE;

impl Options {
    /// Checks flags against each other, and reads the configuration file.
    ///
    /// # Errors
    /// A message for the user.
    pub fn checked(mut self) -> Result<Options, String> {
        self.policies.read()?;
        let half = self.memory as usize * MEGABYTE / 2;
        let rules = [
            (
                (-1..=65535).contains(&self.tcp_port()),
                format!("invalid port {} (-p): expected -1 to 65535", self.tcp_port()),
            ),
            (
                self.item_size >= ITEM_SIZE_MIN,
                format!("-I {} is too small: expected at least {ITEM_SIZE_MIN}", self.item_size),
            ),
            (
                self.item_size <= ITEM_SIZE_MAX,
                format!("-I {} is too large: expected at most 1024m", self.item_size),
            ),
            (
                self.item_size <= half,
                format!("-I {} is too large: expected at most half of -m {}", self.item_size, self.memory),
            ),
            (
                self.receive_bytes() >= self.item_size,
                "--receive-limit is too small: expected at least the longest value (-I)".to_owned(),
            ),
            (
                !self.enable_sasl || self.auth_file.is_some(),
                "-S needs the users: list them in a file, and name it with -Y".to_owned(),
            ),
            (
                !self.enable_sasl || self.protocol != "ascii",
                "-S conflicts with -B ascii: SASL belongs to the binary protocol".to_owned(),
            ),
            (
                self.protocol != "binary" || self.auth_file.is_none() || self.enable_sasl,
                "-B binary with -Y needs -S: clients of the binary protocol log in by SASL".to_owned(),
            ),
            (
                ["ascii", "auto", "binary"].contains(&&*self.protocol),
                format!("unknown protocol {} (-B): expected ascii, binary or auto", self.protocol),
            ),
        ];
        let unknown =
            |name: &&String| !self.policies.events().sources.iter().any(|source| source.name == **name);
        if let Some(name) = self.admin.ready_needs.iter().find(unknown) {
            return Err(format!(
                "--ready-needs names the source {name:?}: the configuration needs [source.{name}]"
            ));
        }
        match rules.into_iter().find(|(is_kept, _)| !is_kept) {
            Some((_, broken)) => Err(broken),
            None => {
                let conflict = self.protocol_conflict().or_else(|| self.tls_conflict());
                conflict.or_else(|| self.admin.conflict()).map_or(Ok(self), Err)
            }
        }
    }
}

const ITEM_SIZE_MIN: usize = 1 << 10;
const ITEM_SIZE_MAX: usize = 1 << 30;
