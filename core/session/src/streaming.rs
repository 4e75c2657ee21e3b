//! Messages that are written and read in fragments.

mod reader;
mod writer;

pub use reader::MessageReader;
pub use writer::MessageWriter;
