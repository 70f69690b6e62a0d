//! The messages of pgoutput, PostgreSQL's plug-in for logical decoding: bytes to values, and nothing else.
//!
//! Every length is checked against the bytes that are there, so no bytes can make it panic or reserve memory
//! that they do not fill.

use std::fmt;

/// One message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Message<'a> {
    /// A transaction begins.
    Begin {
        /// Microseconds since 2000.
        at: i64,
        /// The beginning of its commit record.
        commit: u64,
        /// Its number.
        xid: u32,
    },
    /// The transaction is complete.
    Commit {
        /// Directly after its commit record.
        end: u64,
    },
    /// A row was deleted.
    Delete {
        /// The row, or its identity.
        old: Tuple<'a>,
        /// Its table.
        relation: u32,
    },
    /// A row was inserted.
    Insert {
        /// The row.
        new: Tuple<'a>,
        /// Its table.
        relation: u32,
    },
    /// An application sent something by `pg_logical_emit_message`.
    Logical {
        /// The content.
        content: &'a [u8],
        /// Whether it belongs to a transaction.
        is_transactional: bool,
        /// Where it is in the log.
        lsn: u64,
        /// The prefix, which says what it is for.
        prefix: String,
    },
    /// The transaction was replicated from elsewhere.
    Origin,
    /// A table as it is from now on.
    Relation(Relation),
    /// All rows of these tables were deleted.
    Truncate(Vec<u32>),
    /// A data type.
    Type,
    /// A row was changed.
    Update {
        /// The row after the change.
        new: Tuple<'a>,
        /// The row before the change, or its former identity.
        old: Option<Tuple<'a>>,
        /// Its table.
        relation: u32,
    },
}

/// A table and its columns.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Relation {
    /// In the order of the tuples.
    pub columns: Vec<Column>,
    /// Its number in the messages that follow.
    pub id: u32,
    /// Its name, without the schema.
    pub name: String,
    /// Its schema.
    pub schema: String,
}

/// A column of a table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Column {
    /// Whether it is a part of the row's identity.
    pub is_key: bool,
    /// Its name.
    pub name: String,
    /// The object identifier of its type.
    pub oid: u32,
}

/// A row, or the columns of its identity.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tuple<'a> {
    /// In the order of the table.
    pub cells: Vec<Cell<'a>>,
    /// Whether only the columns of the identity are given, and all others are null.
    pub is_identity: bool,
}

/// The value of a column.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cell<'a> {
    /// In the binary form of its type.
    Binary(&'a [u8]),
    /// SQL's null.
    Null,
    /// As PostgreSQL prints it.
    Text(&'a [u8]),
    /// A large value that did not change, and is not sent.
    Unchanged,
}

/// A message that is not as the documentation of the protocol describes it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Malformed {
    /// It continues after its last field.
    TooLong,
    /// It ends in the middle of a field.
    TooShort,
    /// A byte that chooses a form chooses none.
    Unknown(u8),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Malformed::TooLong => f.write_str("the message of pgoutput continues after its last field"),
            Malformed::TooShort => f.write_str("the message of pgoutput ends in the middle of a field"),
            Malformed::Unknown(byte) => write!(f, "unknown byte {byte:#04x} in a message of pgoutput"),
        }
    }
}

/// Decodes a message of protocol version 1.
///
/// # Errors
/// [`Malformed`], if it is not one.
pub fn decode(bytes: &[u8]) -> Result<Message<'_>, Malformed> {
    let mut rest = Rest(bytes);
    let message = match rest.byte()? {
        b'B' => Message::Begin { commit: rest.u64()?, at: rest.u64()?.cast_signed(), xid: rest.u32()? },
        b'C' => {
            let (_flags, _commit, end, _at) = (rest.byte()?, rest.u64()?, rest.u64()?, rest.u64()?);
            Message::Commit { end }
        }
        b'D' => Message::Delete { relation: rest.u32()?, old: rest.old_tuple()? },
        b'I' => {
            let (relation, kind) = (rest.u32()?, rest.byte()?);
            let new = if kind == b'N' { rest.tuple(false)? } else { return Err(Malformed::Unknown(kind)) };
            Message::Insert { relation, new }
        }
        b'M' => rest.logical()?,
        b'O' => {
            let (_commit, _name) = (rest.u64()?, rest.text()?);
            Message::Origin
        }
        b'R' => Message::Relation(rest.relation()?),
        b'T' => {
            let (count, _options) = (rest.u32()?, rest.byte()?);
            Message::Truncate((0..count).map(|_| rest.u32()).collect::<Result<_, _>>()?)
        }
        b'U' => rest.update()?,
        b'Y' => {
            let (_oid, _schema, _name) = (rest.u32()?, rest.text()?, rest.text()?);
            Message::Type
        }
        other => return Err(Malformed::Unknown(other)),
    };
    if rest.0.is_empty() { Ok(message) } else { Err(Malformed::TooLong) }
}

/// The table that a change of a row concerns, even if only the beginning of the message is there.
pub fn relation_of(bytes: &[u8]) -> Option<u32> {
    let mut rest = Rest(bytes);
    let is_change = matches!(rest.byte().ok()?, b'D' | b'I' | b'U');
    rest.u32().ok().filter(|_| is_change)
}

/// The bytes that are not decoded yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed::TooShort)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed::TooShort)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        self.array().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// A name that ends with a zero byte.
    fn text(&mut self) -> Result<String, Malformed> {
        let length = self.0.iter().position(|byte| *byte == 0).ok_or(Malformed::TooShort)?;
        let text = self.take(length)?;
        self.byte()?;
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    /// Bytes after their length.
    fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u32()?;
        self.take(usize::try_from(length).map_err(|_| Malformed::TooShort)?)
    }

    fn logical(&mut self) -> Result<Message<'a>, Malformed> {
        let is_transactional = self.byte()? & 1 == 1;
        let (lsn, prefix) = (self.u64()?, self.text()?);
        Ok(Message::Logical { is_transactional, lsn, prefix, content: self.bytes()? })
    }

    fn relation(&mut self) -> Result<Relation, Malformed> {
        let (id, schema, name, _identity) = (self.u32()?, self.text()?, self.text()?, self.byte()?);
        let count = self.u16()?;
        let columns = (0..count).map(|_| self.column()).collect::<Result<_, _>>()?;
        // This is how PostgreSQL writes the schema that has all built-in types.
        let schema = if schema.is_empty() { "pg_catalog".to_owned() } else { schema };
        Ok(Relation { columns, id, name, schema })
    }

    fn column(&mut self) -> Result<Column, Malformed> {
        let (is_key, name, oid, _modifier) = (self.byte()? & 1 == 1, self.text()?, self.u32()?, self.u32()?);
        Ok(Column { is_key, name, oid })
    }

    fn update(&mut self) -> Result<Message<'a>, Malformed> {
        let relation = self.u32()?;
        let old = match self.0.first() {
            Some(b'K' | b'O') => Some(self.old_tuple()?),
            _ => None,
        };
        match self.byte()? {
            b'N' => Ok(Message::Update { relation, old, new: self.tuple(false)? }),
            other => Err(Malformed::Unknown(other)),
        }
    }

    /// The row before a change, or its identity.
    fn old_tuple(&mut self) -> Result<Tuple<'a>, Malformed> {
        match self.byte()? {
            kind @ (b'K' | b'O') => self.tuple(kind == b'K'),
            other => Err(Malformed::Unknown(other)),
        }
    }

    fn tuple(&mut self, is_identity: bool) -> Result<Tuple<'a>, Malformed> {
        let count = self.u16()?;
        let cells = (0..count).map(|_| self.cell()).collect::<Result<_, _>>()?;
        Ok(Tuple { cells, is_identity })
    }

    fn cell(&mut self) -> Result<Cell<'a>, Malformed> {
        match self.byte()? {
            b'b' => self.bytes().map(Cell::Binary),
            b'n' => Ok(Cell::Null),
            b't' => self.bytes().map(Cell::Text),
            b'u' => Ok(Cell::Unchanged),
            other => Err(Malformed::Unknown(other)),
        }
    }
}
