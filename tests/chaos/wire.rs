//! As much of PostgreSQL's protocol as it takes to see that a server has committed, before its client can.
//!
//! Read from the server's side: `COMMIT` on its way says only that a commit was asked for, the command's completion that it
//! is durable. Whether the client begins a transaction or sends single statements, simple or prepared, then makes no
//! difference.

/// Bytes of a message that are looked at; a command's tag is shorter.
const LOOKED_AT: usize = 32;

/// Type and length.
const HEAD: usize = 5;

/// Finds commits in what a server sends on one connection.
#[derive(Default)]
pub(crate) struct Commits {
    /// The beginning of the message that is under way.
    message: Vec<u8>,
    /// How many bytes of it are still to come; meaningless until its head is there.
    rest: usize,
    /// Whether anything was read yet.
    begun: bool,
    /// Whether something was written since the server last waited for a command, in a transaction or not.
    wrote: bool,
}

impl Commits {
    /// How many commits end in these bytes.
    pub(crate) fn count(&mut self, mut bytes: &[u8]) -> usize {
        // The answer to a request for TLS is one bare byte, before everything else.
        if !self.begun && bytes == b"N" {
            return 0;
        }
        self.begun |= !bytes.is_empty();
        let mut commits = 0;
        while !bytes.is_empty() {
            if self.message.len() < HEAD {
                let (head, others) = bytes.split_at(bytes.len().min(HEAD - self.message.len()));
                self.message.extend(head);
                bytes = others;
                if let [_, a, b, c, d] = self.message[..] {
                    self.rest = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or_default().saturating_sub(4);
                }
            }
            if self.message.len() < HEAD {
                break;
            }
            let (more, others) = bytes.split_at(bytes.len().min(self.rest));
            let room = (HEAD + LOOKED_AT).saturating_sub(self.message.len());
            self.message.extend(&more[..more.len().min(room)]);
            self.rest -= more.len();
            bytes = others;
            if self.rest == 0 {
                commits += usize::from(self.ended());
                self.message.clear();
            }
        }
        commits
    }

    /// Whether the message that is now complete tells of a commit.
    fn ended(&mut self) -> bool {
        let (kind, text) = (self.message[0], &self.message[HEAD..]);
        match kind {
            // CommandComplete. A transaction's writes are committed by its end, not by themselves.
            b'C' if text == b"COMMIT\0" => {
                self.wrote = false;
                true
            }
            b'C' if text == b"ROLLBACK\0" => {
                self.wrote = false;
                false
            }
            b'C' => {
                self.wrote |= [&b"INSERT"[..], b"UPDATE", b"DELETE"].iter().any(|verb| text.starts_with(verb));
                false
            }
            // ReadyForQuery: idle, so what a single statement wrote is committed.
            b'Z' if text == b"I" => std::mem::take(&mut self.wrote),
            // ErrorResponse: whatever was written is undone.
            b'E' => {
                self.wrote = false;
                false
            }
            _ => false,
        }
    }
}
