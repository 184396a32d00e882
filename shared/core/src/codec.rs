use crate::Fault;

/// Appends `value` in LEB128, one to ten bytes.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends the length of `bytes` and then `bytes`.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads what [`put_varint`] and [`put_bytes`] wrote; never panics on foreign bytes.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// Reads `bytes`; `what` names them in faults ("bucket", "message").
    pub fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    /// Whether everything was read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The fault of bytes that do not make sense.
    pub fn corrupt(&self) -> Fault {
        Fault::permanent(format!("{} is damaged: {} bytes from its end make no sense", self.what, self.rest.len()))
    }

    /// The next byte.
    pub fn u8(&mut self) -> Result<u8, Fault> {
        Ok(self.take(1)?[0])
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let slice = self.take(N)?;
        slice.try_into().map_err(|_| self.corrupt())
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Fault> {
        if len > self.rest.len() {
            return Err(self.corrupt());
        }
        let (head, tail) = self.rest.split_at(len);
        self.rest = tail;
        Ok(head)
    }

    /// The next number written by [`put_varint`].
    pub fn varint(&mut self) -> Result<u64, Fault> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let low = u64::from(byte & 0x7f);
            if shift == 63 && low > 1 {
                return Err(self.corrupt());
            }
            value |= low << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.corrupt())
    }

    /// The next count; refused when it exceeds the bytes that are left, so that it can size an allocation.
    pub fn count(&mut self) -> Result<usize, Fault> {
        let count = self.varint()?;
        usize::try_from(count).ok().filter(|&count| count <= self.rest.len()).ok_or_else(|| self.corrupt())
    }

    /// The next bytes written by [`put_bytes`].
    pub fn bytes(&mut self) -> Result<&'a [u8], Fault> {
        let len = self.count()?;
        self.take(len)
    }

    /// The next text written by [`put_bytes`].
    pub fn str(&mut self) -> Result<&'a str, Fault> {
        std::str::from_utf8(self.bytes()?).map_err(|_| self.corrupt())
    }
}
