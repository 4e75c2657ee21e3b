//! The memory through which hyper reads.

/// The first size. The head of an answer fits in most cases.
const FIRST: usize = 1 << 10;

/// hyper's first read buffer has half this size; more pays off for large bodies only.
const LARGEST: usize = 16 << 10;

/// What a full chunk grows by.
const GROWTH: usize = 4;

/// Memory for one read, which grows when a read fills it. A connection keeps it while it waits for another request.
#[derive(Debug)]
pub(crate) struct Chunk(Box<[u8]>);

impl Default for Chunk {
    fn default() -> Self {
        Self::of(FIRST)
    }
}

impl Chunk {
    fn of(length: usize) -> Self {
        Self(vec![0; length].into_boxed_slice())
    }

    /// The room for a read of at most so many bytes.
    pub(crate) fn room(&mut self, most: usize) -> &mut [u8] {
        let most = most.min(self.0.len());
        &mut self.0[..most]
    }

    /// Hands out the bytes that a read has put there.
    pub(crate) fn take(&mut self, length: usize, put: impl FnOnce(&[u8])) {
        put(&self.0[..length]);
        if length == self.0.len() && length < LARGEST {
            *self = Self::of((length * GROWTH).min(LARGEST));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_with_full_reads_alone() {
        let mut chunk = Chunk::default();
        let mut sizes = Vec::new();
        for part in [2, 1, 2, 1, 1, 1] {
            let length = chunk.room(usize::MAX).len();
            sizes.push(length);
            chunk.take(length / part, |bytes| assert_eq!(bytes.len(), length / part));
        }
        assert_eq!(sizes, [1 << 10, 1 << 10, 4 << 10, 4 << 10, 16 << 10, 16 << 10]);
        assert_eq!(chunk.room(7).len(), 7);
    }
}
