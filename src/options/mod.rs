//! The command line and the configuration file, validated before the server starts.

mod addresses;
mod admin;
mod checks;
mod command_line;
mod environment;
mod place;
mod policies;
mod safety;
mod settings;
mod suboptions;
mod tls;
mod values;

pub use self::addresses::Listening;
pub use self::admin::AdminOptions;
pub use self::command_line::{Options, RefusedReply, read_users};
pub use self::environment::{parse, unknown_variables};
pub use self::policies::{ImplicitLeases, PolicyOptions, read_events};
pub use self::safety::SafetyOptions;
pub(crate) use self::settings::settings;
pub use self::suboptions::Suboption;
pub use self::tls::{Security, TlsOption, TlsSettings, Verify};
