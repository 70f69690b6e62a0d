//! Packets of memcached's binary protocol: requests to be built, and replies to be read.

/// A request. All of it that is not named is empty or 0.
#[derive(Clone, Debug, Default)]
pub struct Packet {
    pub opcode: u8,
    pub opaque: u32,
    pub cas: u64,
    pub extras: Vec<u8>,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

/// A reply.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Answer {
    pub opcode: u8,
    pub status: u16,
    pub opaque: u32,
    pub cas: u64,
    pub extras: Vec<u8>,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

impl Packet {
    pub fn new(opcode: u8, key: &str) -> Packet {
        Packet { opcode, key: key.into(), ..Packet::default() }
    }

    /// `set` and its relatives.
    pub fn store(opcode: u8, key: &str, flags: u32, exptime: u32, value: &[u8]) -> Packet {
        let extras = [flags.to_be_bytes(), exptime.to_be_bytes()].concat();
        Packet { extras, value: value.into(), ..Packet::new(opcode, key) }
    }

    /// `incr` and `decr`.
    pub fn count(opcode: u8, key: &str, delta: u64, initial: u64, exptime: u32) -> Packet {
        let extras = [&delta.to_be_bytes()[..], &initial.to_be_bytes(), &exptime.to_be_bytes()].concat();
        Packet { extras, ..Packet::new(opcode, key) }
    }

    /// A command whose extras are one number.
    pub fn with_number(opcode: u8, key: &str, number: u32) -> Packet {
        Packet { extras: number.to_be_bytes().into(), ..Packet::new(opcode, key) }
    }

    pub fn with_value(self, value: &[u8]) -> Packet {
        Packet { value: value.into(), ..self }
    }

    pub fn with_cas(self, cas: u64) -> Packet {
        Packet { cas, ..self }
    }

    pub fn with_opaque(self, opaque: u32) -> Packet {
        Packet { opaque, ..self }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let body_bytes = self.extras.len() + self.key.len() + self.value.len();
        let lengths = (self.key.len() as u16, self.extras.len() as u8, body_bytes as u32);
        [self.header(lengths), self.extras.clone(), self.key.clone(), self.value.clone()].concat()
    }

    /// Its header with these lengths of the key, the extras and the body.
    pub fn header(&self, (key, extras, body): (u16, u8, u32)) -> Vec<u8> {
        let mut bytes = vec![0x80, self.opcode];
        bytes.extend(key.to_be_bytes());
        bytes.extend([extras, 0, 0, 0]);
        bytes.extend(body.to_be_bytes());
        bytes.extend(self.opaque.to_be_bytes());
        bytes.extend(self.cas.to_be_bytes());
        bytes
    }
}

impl Answer {
    /// The first reply, with the bytes after it; `None` if it is incomplete.
    pub fn first(bytes: &[u8]) -> Option<(Answer, &[u8])> {
        let (header, rest) = bytes.split_at_checked(24)?;
        assert_eq!((header[0], header[5]), (0x81, 0), "{header:?}");
        let number = |at: usize, len: usize| {
            header[at..at + len].iter().fold(0, |number, byte| (number << 8) | u64::from(*byte))
        };
        let (body, rest) = rest.split_at_checked(number(8, 4) as usize)?;
        let (extras, body) = body.split_at(header[4].into());
        let (key, value) = body.split_at(number(2, 2) as usize);
        let answer = Answer {
            opcode: header[1],
            status: number(6, 2) as u16,
            opaque: number(12, 4) as u32,
            cas: number(16, 8),
            extras: extras.into(),
            key: key.into(),
            value: value.into(),
        };
        Some((answer, rest))
    }

    /// All replies in these bytes, of which none may be incomplete.
    #[track_caller]
    pub fn all(mut bytes: &[u8]) -> Vec<Answer> {
        let mut answers = Vec::new();
        while !bytes.is_empty() {
            let (answer, rest) = Answer::first(bytes).expect("the last reply is whole");
            answers.push(answer);
            bytes = rest;
        }
        answers
    }

    /// A line for comparison: opcode, status, opaque, whether there is a CAS unique, and the body.
    pub fn line(&self) -> String {
        let has_cas = if self.cas == 0 { "-" } else { "cas" };
        let parts = [&self.extras, &self.key, &self.value].map(|part| part.escape_ascii().to_string());
        let body = parts.join("|");
        format!("{:02x} {:02x} {} {has_cas} {body}", self.opcode, self.status, self.opaque)
    }
}
