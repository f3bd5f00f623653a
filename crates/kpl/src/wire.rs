//! The protobuf wire format, as far as an aggregate needs it. By hand, because data must stay slices of the input,
//! required fields must be present, and nothing may be allocated for what the input merely claims.

/// Field numbers of `AggregatedRecord`.
pub(crate) const PARTITION_KEY_TABLE: u32 = 1;
pub(crate) const EXPLICIT_HASH_KEY_TABLE: u32 = 2;
pub(crate) const RECORDS: u32 = 3;
/// Field numbers of `Record`.
pub(crate) const PARTITION_KEY_INDEX: u32 = 1;
pub(crate) const EXPLICIT_HASH_KEY_INDEX: u32 = 2;
pub(crate) const DATA: u32 = 3;

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH_DELIMITED: u32 = 2;
const FIXED32: u32 = 5;

/// Why bytes are no message.
pub(crate) type Reason = &'static str;

/// A field's value, borrowed from the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// A fixed-width number: no field that we know has one.
    Fixed,
}

/// The fields of a message, in the order they were written. Ends after the first error.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn field(&mut self) -> Result<(u32, Value<'a>), Reason> {
        let tag = u32::try_from(self.varint()?).map_err(|_| "a field number is too large")?;
        let (number, wire_type) = (tag >> 3, tag & 7);
        if number == 0 {
            return Err("a field has number 0");
        }
        let value = match wire_type {
            VARINT => Value::Varint(self.varint()?),
            LENGTH_DELIMITED => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            FIXED64 => self.take(8).map(|_| Value::Fixed)?,
            FIXED32 => self.take(4).map(|_| Value::Fixed)?,
            _ => return Err("a field is a group or has an unknown wire type"),
        };
        Ok((number, value))
    }

    fn varint(&mut self) -> Result<u64, Reason> {
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let (&byte, rest) = self.rest.split_first().ok_or("it ends inside a number")?;
            self.rest = rest;
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a number is longer than 10 bytes")
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Reason> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let (taken, rest) = self.rest.split_at_checked(length).ok_or("it ends inside a field")?;
        self.rest = rest;
        Ok(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Reason>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// Appends a numeric field.
pub(crate) fn put_varint_field(out: &mut Vec<u8>, number: u32, value: u64) {
    put_varint(out, u64::from(number << 3 | VARINT));
    put_varint(out, value);
}

/// Appends the head of a field of bytes, a string or a message, whose `length` bytes the caller appends.
pub(crate) fn put_length_head(out: &mut Vec<u8>, number: u32, length: usize) {
    put_varint(out, u64::from(number << 3 | LENGTH_DELIMITED));
    put_varint(out, length as u64);
}

/// Bytes of a numeric field whose number is below 16.
pub(crate) fn varint_field_bytes(value: u64) -> usize {
    1 + varint_bytes(value)
}

/// Bytes of a field that holds `length` bytes and whose number is below 16.
pub(crate) fn length_field_bytes(length: usize) -> usize {
    1 + varint_bytes(length as u64) + length
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7F) as u8);
}

fn varint_bytes(value: u64) -> usize {
    let bits = u64::BITS - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}
