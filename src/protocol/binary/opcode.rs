//! The commands: their numbers, and the layout of their packets.

/// A command, and whether it is the quiet form.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Opcode {
    pub(super) verb: Verb,
    /// Whether the expected outcome has no reply: a miss of a read, or the success of any other command.
    pub(super) is_quiet: bool,
}

/// A command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verb {
    Add,
    Append,
    Decrement,
    Delete,
    Flush,
    Get,
    GetAndTouch,
    /// Like [`Verb::GetAndTouch`], with the key in the reply.
    GetAndTouchKey,
    /// Like [`Verb::Get`], with the key in the reply.
    GetKey,
    Increment,
    Noop,
    Prepend,
    Quit,
    Replace,
    SaslAuth,
    SaslMechanisms,
    SaslStep,
    Set,
    Stat,
    Touch,
    Verbosity,
    Version,
}

/// The parts of a packet after its header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Layout {
    /// The legal lengths of the extras.
    pub(super) extras: &'static [u8],
    pub(super) key: Part,
    pub(super) value: Part,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Part {
    Absent,
    Optional,
    Required,
}

impl Opcode {
    /// The command with this number.
    pub(super) fn of(number: u8) -> Option<Opcode> {
        let (verb, is_quiet) = match number {
            0x00 => (Verb::Get, false),
            0x01 => (Verb::Set, false),
            0x02 => (Verb::Add, false),
            0x03 => (Verb::Replace, false),
            0x04 => (Verb::Delete, false),
            0x05 => (Verb::Increment, false),
            0x06 => (Verb::Decrement, false),
            0x07 => (Verb::Quit, false),
            0x08 => (Verb::Flush, false),
            0x09 => (Verb::Get, true),
            0x0a => (Verb::Noop, false),
            0x0b => (Verb::Version, false),
            0x0c => (Verb::GetKey, false),
            0x0d => (Verb::GetKey, true),
            0x0e => (Verb::Append, false),
            0x0f => (Verb::Prepend, false),
            0x10 => (Verb::Stat, false),
            0x11 => (Verb::Set, true),
            0x12 => (Verb::Add, true),
            0x13 => (Verb::Replace, true),
            0x14 => (Verb::Delete, true),
            0x15 => (Verb::Increment, true),
            0x16 => (Verb::Decrement, true),
            0x17 => (Verb::Quit, true),
            0x18 => (Verb::Flush, true),
            0x19 => (Verb::Append, true),
            0x1a => (Verb::Prepend, true),
            0x1b => (Verb::Verbosity, false),
            0x1c => (Verb::Touch, false),
            0x1d => (Verb::GetAndTouch, false),
            0x1e => (Verb::GetAndTouch, true),
            0x20 => (Verb::SaslMechanisms, false),
            0x21 => (Verb::SaslAuth, false),
            0x22 => (Verb::SaslStep, false),
            0x23 => (Verb::GetAndTouchKey, false),
            0x24 => (Verb::GetAndTouchKey, true),
            _ => return None,
        };
        Some(Opcode { verb, is_quiet })
    }
}

impl Verb {
    /// The parts of its packets.
    pub(super) fn layout(self) -> Layout {
        let (extras, key, value): (&[u8], _, _) = match self {
            Verb::Add | Verb::Replace | Verb::Set => (&[8], Part::Required, Part::Optional),
            Verb::Append | Verb::Prepend | Verb::SaslAuth | Verb::SaslStep => {
                (&[0], Part::Required, Part::Optional)
            }
            Verb::Decrement | Verb::Increment => (&[20], Part::Required, Part::Absent),
            Verb::Delete | Verb::Get | Verb::GetKey => (&[0], Part::Required, Part::Absent),
            Verb::Flush => (&[0, 4], Part::Absent, Part::Absent),
            Verb::GetAndTouch | Verb::GetAndTouchKey | Verb::Touch => (&[4], Part::Required, Part::Absent),
            Verb::Noop | Verb::Quit | Verb::SaslMechanisms | Verb::Version => {
                (&[0], Part::Absent, Part::Absent)
            }
            Verb::Stat => (&[0], Part::Optional, Part::Absent),
            Verb::Verbosity => (&[4], Part::Absent, Part::Absent),
        };
        Layout { extras, key, value }
    }

    /// Whether it belongs to the login.
    pub(super) fn is_sasl(self) -> bool {
        matches!(self, Verb::SaslAuth | Verb::SaslMechanisms | Verb::SaslStep)
    }

    /// Whether the reply to a read repeats the key.
    pub(super) fn shows_key(self) -> bool {
        matches!(self, Verb::GetAndTouchKey | Verb::GetKey)
    }
}

impl Part {
    /// Whether a part may have this length.
    pub(super) fn allows(self, bytes: usize) -> bool {
        match self {
            Part::Absent => bytes == 0,
            Part::Optional => true,
            Part::Required => bytes > 0,
        }
    }
}
