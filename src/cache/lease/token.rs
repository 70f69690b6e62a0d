//! Tokens: leases that certify themselves.
//!
//! Bit 62 is set, 48 bits hold the sequence number of the grant, 14 bits certify it for one key and one
//! process. So no record is needed to accept one, and a CAS unique (below 2^48) can never pass for a token,
//! nor the other way round.

use std::fmt;
use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::limits::{TOKEN_BIT, TOKENS};
use crate::store::item::seq::{SEQ_BITS, Seq};

/// The proof of a lease, given back with the value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Token(u64);

/// The boot secret that tokens are certified with.
pub(crate) struct Mint {
    secret: [u8; 16],
}

impl Token {
    /// The number that stands for it on the wire: at least 2^62, below 2^63.
    pub fn number(self) -> u64 {
        self.0
    }

    /// Whether this can be the number of a token. All other uniques are below or above.
    pub fn is_like(number: u64) -> bool {
        TOKENS.contains(&number)
    }

    /// The sequence number of its grant, which proves nothing, and is the CAS unique of a value that is
    /// stored with it.
    pub fn seq(self) -> Seq {
        Seq::new(self.0 & ((1 << SEQ_BITS) - 1)).expect("so many bits are a point")
    }
}

impl From<u64> for Token {
    /// Whatever a client sends; whether it is genuine shows when it is used.
    fn from(number: u64) -> Self {
        Token(number)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Mint {
    pub(crate) fn new(secret: [u8; 16]) -> Self {
        Mint { secret }
    }

    pub(crate) fn token(&self, key: &[u8], seq: Seq) -> Token {
        Token(TOKEN_BIT | self.certificate(key, seq) << SEQ_BITS | seq.number())
    }

    /// The sequence number of the grant, if this mint made the token for this key.
    pub(crate) fn open(&self, key: &[u8], token: Token) -> Option<Seq> {
        let seq = token.seq();
        (self.token(key, seq) == token).then_some(seq)
    }

    fn certificate(&self, key: &[u8], seq: Seq) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.secret);
        hasher.write_u64(seq.number());
        hasher.write(key);
        match hasher.finish() >> (64 - CERTIFICATE_BITS) {
            // mcrouter takes a token whose high word is 0x7aceb00c for one of its own making.
            MCROUTER_CERTIFICATE => MCROUTER_CERTIFICATE + 1,
            other => other,
        }
    }
}

const CERTIFICATE_BITS: u32 = TOKEN_BIT.trailing_zeros() - SEQ_BITS;
const MCROUTER_CERTIFICATE: u64 = 0x7ace & ((1 << CERTIFICATE_BITS) - 1);

#[cfg(test)]
mod tests {
    use super::*;

    const SEQ: u64 = 123_456_789;

    fn seq(number: u64) -> Seq {
        Seq::new(number).unwrap()
    }

    #[test]
    fn a_token_opens_for_its_own_key_and_boot_only() {
        let (mint, reboot) = (Mint::new([1; 16]), Mint::new([2; 16]));
        let token = mint.token(b"user:7", seq(SEQ));
        assert_eq!(mint.open(b"user:7", token), Some(seq(SEQ)));
        assert_eq!(mint.open(b"user:8", token), None);
        assert_eq!(reboot.open(b"user:7", token), None);
        assert_eq!(mint.open(b"user:7", Token(token.0 + 1)), None);
        for number in [0, 1, 2, SEQ, u64::MAX, 1 << 62] {
            assert_eq!(mint.open(b"user:7", Token(number)), None);
        }
    }

    #[test]
    fn tokens_are_in_their_range_and_never_mcrouters() {
        let mint = Mint::new([3; 16]);
        for number in (0xb00c << 32)..(0xb00c << 32) + 200_000 {
            let token = mint.token(b"k", seq(number)).number();
            assert!(token >> 62 == 1 && token >> 32 != 0x7ace_b00c);
        }
    }
}
